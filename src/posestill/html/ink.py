"""What charts are drawn with: series told apart by colour, shape and dash, text that fits a phone, round numbers."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 400
"""px of every chart: about a phone's width, so that its text is as large there as the page's"""
CHARACTER = 7.0
"""px that a character of a chart's text takes at most, on average"""
COLOURS = (
    "#285fec", "#b84412", "#137d41", "#dc5adb", "#b38c15", "#476c90", "#fb4162", "#27a833", "#9e469d", "#659ab6",
    "#8a72f7", "#ab757e", "#6d8a60", "#d0126f", "#816512", "#844ae3", "#0584da", "#db7a58", "#b484bf", "#8673b5",
)  # fmt: skip
"""chosen far apart from one another, each with a contrast of 3 to 1 on white and on a dark page"""
DASHES = ("", "7 3", "2 2.5", "9 3 2 3")
GOOD, BAD, UNKNOWN = COLOURS[2], COLOURS[1], "#7f8790"
PAPER = "var(--paper, white)"
"""the page's background; white in a file of its own"""
_OUTLINES = ("", "M-4,-4H4V4H-4Z", "M0,-5L5,4H-5Z", "M0,-5.5L5.5,0L0,5.5L-5.5,0Z", "M-5,-4H5L0,5Z")


@dataclass(frozen=True)
class Style:
    """How a series is told from the others: its colour, the shape of its marks, the dashes of its line."""

    colour: str
    shape: int
    dash: str


def style_of(number: int) -> Style:
    """The style of a series by its number: twenty colours, and no two of eighty series look alike."""
    block = number // len(COLOURS)
    dash = DASHES[(number // 5 + block) % len(DASHES)]
    return Style(COLOURS[number % len(COLOURS)], (number + block) % len(_OUTLINES), dash)


def mark(x: float, y: float, style: Style, *, filled: bool = True) -> str:
    """A circle, a square, a diamond or a triangle about a point."""
    paint = f'fill="{style.colour if filled else PAPER}" stroke="{style.colour}" stroke-width="1.5"'
    outline = _OUTLINES[style.shape]
    if not outline:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {paint}/>'
    return f'<path transform="translate({x:.1f},{y:.1f})" d="{outline}" {paint}/>'


def line(places: Sequence[tuple[float, float]], style: Style) -> str:
    """A line through points (x, y), px."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{style.colour}" stroke-width="2"{dash}/>'


def rule(path: str, *, faint: bool = True) -> str:
    """A line of the chart's frame: of its grid (`faint`) or one of its axes."""
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity="{0.15 if faint else 0.5}"/>'


def text(x: float, y: float, content: str, *, anchor: str = "start", colour: str | None = None) -> str:
    """A line of text; without a colour it takes the page's."""
    fill = "currentColor" if colour is None else colour
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{html.escape(content)}</text>'


def paragraph_of(x: float, y: float, content: str, *, width: float = WIDTH, anchor: str = "start") -> list[str]:
    """Text in as many lines as fit a width, the first one at y; they are 15 px apart."""
    return [text(x, y + 15 * row, each, anchor=anchor) for row, each in enumerate(lines_of(content, width))]


def lines_of(content: str, width: float = WIDTH) -> list[str]:
    """Text cut into lines that fit a width, px."""
    return textwrap.wrap(content, max(8, int(width / CHARACTER))) or [""]


def shortened(content: str, width: float) -> str:
    """Text that fits a width, px: what does not is cut off, which an ellipsis shows."""
    most = max(2, int(width / CHARACTER))
    return content if len(content) <= most else f"{content[: most - 1].rstrip()}…"


def legend(names: Sequence[str], styles: Sequence[Style]) -> tuple[list[str], int]:
    """The names with their marks, as many a line as fit, and how far down they reach, px."""
    parts, x, y = [], 4.0, 14
    for name, style in zip(names, styles, strict=True):
        shown = shortened(name, WIDTH - 24)
        width = CHARACTER * len(shown) + 32
        if x + width > WIDTH + 12 and x > 4:
            x, y = 4.0, y + 18
        parts += [mark(x + 5, y - 4, style), text(x + 15, y, shown)]
        x += width
    return parts, y + 6


def svg(parts: Sequence[str], height: float, label: str) -> str:
    """A picture of a chart; `label` says to those who cannot see it what it shows."""
    opening = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{html.escape(label)}">'
    return f"{opening}{''.join(parts)}</svg>"


def standalone(drawn: str) -> str:
    """The same picture as a file of its own, on white, as a README shows it."""
    opening, rest = drawn.split(">", 1)
    height = float(opening.split('viewBox="0 0 ')[1].split('"')[0].split()[1])
    style = (
        f'xmlns="http://www.w3.org/2000/svg" width="{1.4 * WIDTH:.0f}" height="{1.4 * height:.0f}" '
        'font-family="system-ui, sans-serif" font-size="12" color="#1b2026"'
    )
    return f'{opening} {style}><rect width="100%" height="100%" fill="white"/>{rest}\n'


def round_numbers(low: float, high: float, *, most: int = 5) -> list[float]:
    """At most `most` evenly spaced round numbers in [low, high]: a step of 1, 2 or 5 times a power of ten.

    Where the two are equal, or not finite, they are not rounded.
    """
    if not low < high < math.inf:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [number * step for number in range(first, last + 1)]
    raise AssertionError("twenty times the power of ten below a fifth of a span goes into it at most thrice")
