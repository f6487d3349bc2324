"""Pages of one file, without a server: a verdict, figures, charts, tables and pictures as HTML.

Everything that a page shows is in it, so that it can be sent on as it is. It fits a phone and a large screen, in light
and in dark, and whatever it is given is escaped.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np

from posestill.draw import encode_image

_MOST_ON_A_PHONE = 3
"""pictures beside one another, which are still large enough there"""
_TEMPLATE = Path(__file__).parents[1] / "assets" / "page.html"


@dataclass(frozen=True)
class Tile:
    """A figure that a page opens with."""

    value: str
    name: str
    note: str = ""
    """what to compare it with"""


@dataclass(frozen=True)
class Drawing:
    """A picture with what it shows."""

    pixels: np.ndarray
    """(H, W, 3) uint8 RGB"""
    caption: str


@dataclass(frozen=True)
class Strip:
    """Pictures that belong together, such as one person as several models see it."""

    title: str
    drawings: Sequence[Drawing]


def page(title: str, parts: Sequence[str], *, subtitle: str = "") -> str:
    """A whole page of HTML parts; the subtitle is plain text."""
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=html.escape(title), subtitle=html.escape(subtitle), body="\n".join(parts))


def heading(text: str) -> str:
    """A section's heading."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def verdict(sentences: Sequence[str]) -> str:
    """What a page opens with: the first sentences are what people came for, those that follow say how sure that is."""
    first, *others = sentences
    more = "".join(f"<p>{html.escape(each)}</p>" for each in others)
    return f'<section class="verdict"><p class="first">{html.escape(first)}</p>{more}</section>'


def warning(text: str) -> str:
    """A paragraph that nobody must miss."""
    return f'<p class="warning" role="note">{html.escape(text)}</p>'


def notes(sentences: Sequence[str]) -> str:
    """Sentences that one must know to read the figures before them; nothing where there are none."""
    each = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes">{each}</ul>' if each else ""


def tiles(figures: Sequence[Tile]) -> str:
    """A few figures, large, side by side."""
    each = "".join(
        f"<div><dt>{html.escape(tile.name)}</dt><dd>{html.escape(tile.value)}"
        f"{f'<small>{html.escape(tile.note)}</small>' if tile.note else ''}</dd></div>"
        for tile in figures
    )
    return f'<dl class="tiles">{each}</dl>'


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, words: int = 1) -> str:
    """A table that scrolls in itself where it is too wide; its first column stays in sight.

    The first `words` columns hold text, and what is right of them, figures, aligns right.
    """
    head = "".join(_cell(each, column < words, scope="col") for column, each in enumerate(headers))
    body = "".join(f"<tr>{_row(row, words)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}"><table>'
        f"<caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(drawn: str, caption: str) -> str:
    """A chart with its caption; nothing where there is no chart."""
    if not drawn:
        return ""
    return f'<figure class="chart"><figcaption>{html.escape(caption)}</figcaption>{drawn}</figure>'


def side_by_side(parts: Sequence[str]) -> str:
    """Parts beside one another where there is room, below one another where there is not."""
    return f'<div class="pair">{"".join(part for part in parts if part)}</div>'


def strips(shown: Sequence[Strip]) -> str:
    """Rows of pictures, each with its title; every picture says in words what is on it."""
    across = max((len(each.drawings) for each in shown), default=1)
    kind = "strips many" if across > _MOST_ON_A_PHONE else "strips"
    return f'<div class="{kind}" style="--across: {across}">{"".join(_strip(each) for each in shown)}</div>'


def picture(jpeg: bytes, *, width: int, height: int, alt: str) -> str:
    """A picture that is JPEG already, as large as the page lets it be."""
    data = base64.b64encode(jpeg).decode("ascii")
    source = f'src="data:image/jpeg;base64,{data}" width="{width}" height="{height}"'
    return f'<img {source} alt="{html.escape(alt)}" loading="lazy">'


def labelled_pictures(title: str, shown: Mapping[str, tuple[bytes, str]], *, width: int, height: int) -> str:
    """JPEG pictures of one size, each below its name, with words for those who cannot see it; by name."""
    each = "".join(
        f"<figure><figcaption>{html.escape(name)}</figcaption>"
        f"{picture(jpeg, width=width, height=height, alt=words)}</figure>"
        for name, (jpeg, words) in shown.items()
    )
    return f'<section><h3>{html.escape(title)}</h3><div class="arms">{each}</div></section>'


def commands(known: Sequence[tuple[str, str]]) -> str:
    """Commands to type, each below what it is for."""
    each = "".join(f"<dt>{html.escape(what)}</dt><dd><code>{html.escape(text)}</code></dd>" for what, text in known)
    return f'<dl class="commands">{each}</dl>'


def details(summary: str, parts: Sequence[str]) -> str:
    """Parts that are shown when somebody asks for them."""
    return f"<details><summary>{html.escape(summary)}</summary>{''.join(parts)}</details>"


def code(text: str) -> str:
    """Text as it stands, such as a YAML file."""
    return f'<pre tabindex="0">{html.escape(text)}</pre>'


def percent(value: float | None) -> str:
    """A figure times 100 with one decimal; a dash where there is none, -1 where AP does not exist."""
    if value is None or value != value:
        return "–"
    return "-1" if value == -1 else f"{100 * value:.1f}"


def _row(cells: Sequence[str], words: int) -> str:
    first, *rest = cells
    return _cell(first, True, scope="row") + "".join(_cell(each, at < words) for at, each in enumerate(rest, start=1))


def _cell(content: str, is_text: bool, *, scope: str = "") -> str:
    """A cell of a table; one with a scope is the head of its column or row."""
    kind = ' class="text"' if is_text else ""
    shown = html.escape(content)
    return f'<th scope="{scope}"{kind}>{shown}</th>' if scope else f"<td{kind}>{shown}</td>"


def _strip(shown: Strip) -> str:
    each = "".join(
        f"<figure>{_image(drawing, shown.title)}<figcaption>{html.escape(drawing.caption)}</figcaption></figure>"
        for drawing in shown.drawings
    )
    return f"<section><h3>{html.escape(shown.title)}</h3><div>{each}</div></section>"


def _image(drawing: Drawing, title: str) -> str:
    height, width = drawing.pixels.shape[:2]
    alt = f"{title}: the pose of {drawing.caption}"
    return picture(encode_image(drawing.pixels, quality=80), width=width, height=height, alt=alt)
