"""Pages of one file, without a server: text, tables, pictures and curves as HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np

from posestill.draw import encode_image

_TEMPLATE = Path(__file__).parents[1] / "assets" / "page.html"


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page of HTML parts."""
    template = Template(_TEMPLATE.read_text())
    return template.substitute(title=html.escape(title), body="\n".join(parts))


def heading(text: str) -> str:
    """A section's heading."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str, *, strong: bool = False) -> str:
    """A paragraph of plain text; `strong` for the sentence that people came for."""
    return f"<p{' class=strong' if strong else ''}>{html.escape(text)}</p>"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text, the others align right."""
    head = "".join(f"<th>{html.escape(each)}</th>" for each in headers)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(each)}</td>" for each in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def code(text: str) -> str:
    """Text as it stands, such as a YAML file."""
    return f"<pre>{html.escape(text)}</pre>"


def pictures(rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str]) -> str:
    """Images (H, W, 3) uint8 RGB in rows under one caption a column."""
    head = "".join(f"<th>{html.escape(each)}</th>" for each in captions)
    body = "".join("<tr>" + "".join(f"<td>{_image(each)}</td>" for each in row) + "</tr>" for row in rows)
    return f'<table class="pictures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def percent(value: float | None) -> str:
    """A figure times 100 with one decimal; a dash where there is none, -1 where AP does not exist."""
    if value is None or value != value:
        return "–"
    return "-1" if value == -1 else f"{100 * value:.1f}"


def _image(pixels: np.ndarray) -> str:
    data = base64.b64encode(encode_image(pixels)).decode()
    return f'<img src="data:image/jpeg;base64,{data}" width="{pixels.shape[1]}" height="{pixels.shape[0]}" alt="">'
