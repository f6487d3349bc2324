"""Pictures of figures as SVG text, without a plotting library: curves with intervals, gains, keypoints side by side."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#a16207", "#0e7490")
_WIDTH, _MARGIN = 640, 44


@dataclass(frozen=True)
class Point:
    """A figure and, where it is known, its interval."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    filled: bool = True
    """False: drawn hollow, as a figure of less weight (one seed)"""


def curves(
    series: Mapping[str, Sequence[Point | tuple[float, float]]],
    *,
    across: str,
    up: str,
    marks: bool = False,
    ticks: Sequence[float] = (),
) -> str:
    """Lines of points by name; `across` and `up` name the axes.

    `marks` draws each point with its interval, and goes across by ratios where the points do. `ticks` are labelled on
    the axis across; by default round numbers, or its ends where it goes by ratios.
    """
    drawn = {name: [_point(each) for each in points] for name, points in series.items() if points}
    if not drawn:
        return ""
    points = [point for line in drawn.values() for point in line]
    to_axis: Callable[[float], float] = math.log if marks and _by_ratio(points) else float
    left, right = (to_axis(pick(point.x for point in points)) for pick in (min, max))
    low = min(point.y if point.low is None else point.low for point in points)
    high = max(point.y if point.high is None else point.high for point in points)
    apart = 3.0 if ticks and marks else 0.0  # px between series at one x, side by side
    aside = 12.0 + apart * (len(drawn) - 1) / 2 if marks else 0.0  # px, so that no mark lies on an axis
    over = 12.0 if marks else 0.0
    legend, top = _legend(list(drawn), _MARGIN)
    top += 28
    height = top + 172 + _MARGIN

    def across_px(x: float) -> float:
        return _MARGIN + aside + (_WIDTH - 2 * _MARGIN - 2 * aside) * ((to_axis(x) - left) / ((right - left) or 1))

    def down_px(y: float) -> float:
        return height - _MARGIN - over - (172 - 2 * over) * ((y - low) / ((high - low) or 1))

    parts = [*legend]
    for value in round_numbers(low, high):
        y = down_px(value)
        parts.append(f'<path d="M{_MARGIN},{y:.1f}H{_WIDTH - _MARGIN}" stroke="#888" stroke-opacity="0.3"/>')
        parts.append(_text(_MARGIN - 4, y + 4, f"{value:.4g}", anchor="end"))
    for number, line in enumerate(drawn.values()):
        colour = COLOURS[number % len(COLOURS)]
        beside = apart * (number - (len(drawn) - 1) / 2)
        places = [(across_px(each.x) + beside, down_px(each.y)) for each in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point, (x, y) in zip(line, places, strict=True) if marks else ():
            if point.low is not None and point.high is not None:
                reach = f"M{x:.1f},{down_px(point.low):.1f}V{down_px(point.high):.1f}"
                parts.append(f'<path d="{reach}" stroke="{colour}"/>')
            parts.append(_mark(x, y, number, point.filled))
    axes = f"M{_MARGIN},{top - 8}V{height - _MARGIN}H{_WIDTH - _MARGIN}"
    parts.append(f'<path d="{axes}" fill="none" stroke="#888"/>')
    ends = min(point.x for point in points), max(point.x for point in points)
    for tick in ticks or (ends if to_axis is math.log else round_numbers(*ends)):
        parts.append(_text(across_px(tick), height - _MARGIN + 16, f"{tick:.4g}", anchor="middle"))
    parts.append(_text(_WIDTH - _MARGIN, height - _MARGIN + 32, across, anchor="end"))
    parts.append(_text(4, top - 14, up))
    return _svg(parts, height, up)


def gains(rows: Sequence[tuple[str, float, float, float]], *, across: str) -> str:
    """Differences (name, mean, low, high) under one another, with their intervals and a line at nothing."""
    if not rows:
        return ""
    low = min(0.0, *(row[2] for row in rows))
    high = max(0.0, *(row[3] for row in rows))
    names, height = 230, 22 * len(rows) + 44

    def across_px(value: float) -> float:
        return names + (_WIDTH - names - 70) * ((value - low) / ((high - low) or 1))

    parts = [f'<path d="M{across_px(0):.1f},6V{height - 34}" stroke="#888" stroke-dasharray="3 3"/>']
    for number, (name, mean, least, most) in enumerate(rows):
        y = 18 + 22 * number
        colour = COLOURS[2] if least > 0 else COLOURS[0] if most < 0 else "#777"
        parts += [
            _text(4, y + 4, name),
            f'<path d="M{across_px(least):.1f},{y}H{across_px(most):.1f}" stroke="{colour}" stroke-width="2"/>',
            _shape(across_px(mean), y, 0, colour, True),
            _text(_WIDTH - 4, y + 4, f"{mean:+.1f}", anchor="end", colour=colour),
        ]
    parts += [
        _text(across_px(0), height - 20, "0", anchor="middle"),
        _text(_WIDTH - 4, height - 4, across, anchor="end"),
    ]
    return _svg(parts, height, across)


def dots(figures: Mapping[str, Mapping[str, float]], *, across: str) -> str:
    """One row a keypoint, one dot a series: figures by series and keypoint."""
    if not figures:
        return ""
    keypoints = list(next(iter(figures.values())))
    values = [value for series in figures.values() for value in series.values() if value == value]
    if not values:
        return ""
    low, high = min(values), max(values)
    names = 130
    legend, top = _legend(list(figures), names)
    height = top + 16 * len(keypoints) + 44

    def across_px(value: float) -> float:
        return names + (_WIDTH - names - 30) * ((value - low) / ((high - low) or 1))

    parts = [*legend]
    for row, keypoint in enumerate(keypoints):
        y = top + 16 + 16 * row
        parts.append(f'<path d="M{names},{y}H{_WIDTH - 30}" stroke="#888" stroke-opacity="0.3"/>')
        parts.append(_text(4, y + 4, keypoint.replace("_", " ")))
        for number, found in enumerate(figures.values()):
            if found[keypoint] == found[keypoint]:
                parts.append(_mark(across_px(found[keypoint]), y, number, True))
    for value in round_numbers(low, high):
        x = across_px(value)
        parts.append(f'<path d="M{x:.1f},{top + 8}V{height - 32}" stroke="#888" stroke-opacity="0.3"/>')
        parts.append(_text(x, height - 20, f"{value:.4g}", anchor="middle"))
    parts.append(_text(_WIDTH - 30, height - 4, across, anchor="end"))
    return _svg(parts, height, across)


def standalone(svg: str) -> str:
    """The same picture as a file of its own, on white, as a README shows it."""
    opening, rest = svg.split(">", 1)
    style = 'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" font-size="11"'
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


def _point(given: Point | tuple[float, float]) -> Point:
    return given if isinstance(given, Point) else Point(*given)


def _by_ratio(points: Sequence[Point]) -> bool:
    xs = [point.x for point in points]
    return min(xs) > 0 and max(xs) / min(xs) >= 8


def _legend(names: Sequence[str], left: float) -> tuple[list[str], int]:
    """The names in their colours, as many a line as fit, and how far down they reach."""
    parts, x, y = [], left, 14
    for number, name in enumerate(names):
        width = 7 * len(name) + 24
        if x + width > _WIDTH and x > left:
            x, y = left, y + 16
        colour = COLOURS[number % len(COLOURS)]
        parts += [_mark(x + 4, y - 4, number, True), _text(x + 12, y, name, colour=colour)]
        x += width
    return parts, y + 4


def _mark(x: float, y: float, number: int, filled: bool) -> str:
    """The mark of a series: its colour and, once all colours are taken, another shape."""
    return _shape(x, y, number // len(COLOURS), COLOURS[number % len(COLOURS)], filled)


def _shape(x: float, y: float, shape: int, colour: str, filled: bool) -> str:
    """A circle, a square, a triangle or a diamond."""
    paint = f'fill="{colour if filled else "white"}" stroke="{colour}"'
    if shape % 4 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {paint}/>'
    outline = ("M-4,-4H4V4H-4Z", "M0,-5L5,4H-5Z", "M0,-5.5L5.5,0L0,5.5L-5.5,0Z")[shape % 4 - 1]
    return f'<path transform="translate({x:.1f},{y:.1f})" d="{outline}" {paint}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str | None = None) -> str:
    fill = "" if colour is None else f' fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}>{html.escape(text)}</text>'


def _svg(parts: Sequence[str], height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
