"""Pages of one file, without a server: text, tables, pictures and curves as HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np

from posestill.draw import encode_image

_TEMPLATE = Path(__file__).parent / "assets" / "page.html"
_COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#a16207", "#0e7490")


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


def curves(series: Mapping[str, Sequence[tuple[float, float]]], *, across: str, up: str) -> str:
    """Lines of (x, y) points by name, as an inline SVG; `across` and `up` name the axes."""
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return ""
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    width, height, margin = 640, 260, 44

    def place(x: float, y: float) -> str:
        across_px = margin + (width - 2 * margin) * ((x - left) / ((right - left) or 1))
        down_px = height - margin - (height - 2 * margin) * ((y - low) / ((high - low) or 1))
        return f"{across_px:.1f},{down_px:.1f}"

    lines = []
    for number, (name, points) in enumerate(drawn.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(place(x, y) for x, y in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = margin + 8 + 150 * (number % 4), 14 + 14 * (number // 4)
        lines.append(f'<text x="{x}" y="{y}" fill="{colour}">{html.escape(name)}</text>')
    axis = (
        f'<path d="M{margin},{margin - 8}V{height - margin}H{width - margin}" fill="none" stroke="#888"/>'
        f'<text x="{margin}" y="{height - margin + 16}">{left:g}</text>'
        f'<text x="{width - margin}" y="{height - margin + 16}" text-anchor="end">'
        f"{right:g} {html.escape(across)}</text>"
        f'<text x="{margin - 4}" y="{height - margin}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{margin - 4}" y="{margin}" text-anchor="end">{high:.3g}</text>'
        f'<text x="4" y="{margin - 14}">{html.escape(up)}</text>'
    )
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(up)}">{axis}{"".join(lines)}</svg>'


def _image(pixels: np.ndarray) -> str:
    data = base64.b64encode(encode_image(pixels)).decode()
    return f'<img src="data:image/jpeg;base64,{data}" width="{pixels.shape[1]}" height="{pixels.shape[0]}" alt="">'
