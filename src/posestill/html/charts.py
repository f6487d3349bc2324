"""Pictures of figures as SVG text, without a plotting library: curves with intervals, gains, keypoints side by side.

Every chart is as wide as a phone's page and names its axes. `among` are the names of all series of a page, so that one
of them has the same colour, shape and dashes in all of its charts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from posestill.html.ink import (
    BAD,
    CHARACTER,
    GOOD,
    UNKNOWN,
    WIDTH,
    Style,
    legend,
    line,
    lines_of,
    mark,
    paragraph_of,
    round_numbers,
    rule,
    shortened,
    style_of,
    svg,
    text,
)

_DEEP = 190
"""px between the ends of an axis up"""
_RIGHT = 10
"""px that stay free on the right"""


@dataclass(frozen=True)
class Point:
    """A figure and, where it is known, its interval."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    filled: bool = True
    """False: drawn hollow, as a figure of less weight (one seed)"""


@dataclass(frozen=True)
class _Axis:
    """A scale from figures to px."""

    low: float
    high: float
    start: float
    """px of the low end"""
    end: float
    by_ratio: bool = False
    """True: equal ratios are equally far apart"""

    def px(self, value: float) -> float:
        """Where a figure lies."""
        to: Callable[[float], float] = math.log if self.by_ratio else float
        low, high = to(self.low), to(self.high)
        return self.start + (self.end - self.start) * ((to(value) - low) / ((high - low) or 1))


def curves(
    series: Mapping[str, Sequence[Point | tuple[float, float]]],
    *,
    across: str,
    up: str,
    marks: bool = False,
    ticks: Sequence[float] = (),
    among: Sequence[str] = (),
) -> str:
    """Lines of points by name; `across` and `up` name the axes, with their units.

    `marks` draws each point with its interval, and goes across by ratios where the points do. Without marks it goes up
    by ratios where the lines lie so far apart that the lower ones would look flat. `ticks` are labelled on the axis
    across; by default round numbers, or its ends where it goes by ratios.
    """
    drawn = {name: [_point(each) for each in points] for name, points in series.items() if points}
    if not drawn:
        return ""
    styles = [_style(name, among or list(drawn)) for name in drawn]
    points = [point for each in drawn.values() for point in each]
    ups = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    log_up = not marks and min(ups) > 0 and _spread_of_levels(drawn) > 20
    wide_ticks = _ratios(min(ups), max(ups)) if log_up else round_numbers(min(ups), max(ups))
    left = 12 + CHARACTER * max(len(f"{each:.4g}") for each in wide_ticks)
    top = 20 + 15 * len(lines_of(up))
    bottom = top + _DEEP
    apart = 3.5 if marks and len(drawn) > 1 else 0.0  # px between series at one x, side by side
    aside = 8 + apart * (len(drawn) - 1) / 2 if marks else 0.0  # px, so that no mark lies on an axis
    over = 8.0 if marks else 0.0
    xs = [point.x for point in points]
    x_axis = _Axis(min(xs), max(xs), left + aside, WIDTH - _RIGHT - aside, by_ratio=marks and _by_ratio(points))
    y_axis = _Axis(min(ups), max(ups), bottom - over, top + over, by_ratio=log_up)

    parts = paragraph_of(4, 14, f"{up} (logarithmic)" if log_up else up)
    for value in wide_ticks:
        y = y_axis.px(value)
        parts += [rule(f"M{left:.1f},{y:.1f}H{WIDTH - _RIGHT}"), text(left - 5, y + 4, f"{value:.4g}", anchor="end")]
    parts.append(rule(f"M{left:.1f},{top}V{bottom}H{WIDTH - _RIGHT}", faint=False))
    for number, (style, each) in enumerate(zip(styles, drawn.values(), strict=True)):
        beside = apart * (number - (len(drawn) - 1) / 2)
        places = [(x_axis.px(point.x) + beside, y_axis.px(point.y)) for point in each]
        parts.append(line(places, style))
        for point, (x, y) in zip(each, places, strict=True) if marks or len(each) == 1 else ():
            parts += [*_interval(point, x, y_axis, style), mark(x, y, style, filled=point.filled)]
    for tick in ticks or ((x_axis.low, x_axis.high) if x_axis.by_ratio else round_numbers(min(xs), max(xs))):
        parts.append(text(min(x_axis.px(tick), WIDTH - 14), bottom + 16, f"{tick:.4g}", anchor="middle"))
    parts.append(text((left + WIDTH) / 2, bottom + 34, across, anchor="middle"))
    return _with_legend(parts, bottom + 40, f"{up}, by {across}", drawn, styles)


def gains(rows: Sequence[tuple[str, float, float, float]], *, across: str) -> str:
    """Differences (name, mean, low, high) under one another, with their intervals and a line at nothing."""
    if not rows:
        return ""
    low, high = min(0.0, *(row[2] for row in rows)), max(0.0, *(row[3] for row in rows))
    axis = _Axis(low, high, 14, WIDTH - 14)
    told = [f"{mean:+.1f} [{least:+.1f}, {most:+.1f}]" for _, mean, least, most in rows]
    names = [lines_of(name, WIDTH - 12 - CHARACTER * len(words)) for (name, *_), words in zip(rows, told, strict=True)]
    bottom = sum(23 + 15 * len(name) for name in names) + 6
    ticks = round_numbers(low, high)
    parts = [text(axis.px(value), bottom + 16, f"{value:+.4g}" if value else "0", anchor="middle") for value in ticks]
    y = 16
    for (_, mean, least, most), name, words in zip(rows, names, told, strict=True):
        colour = GOOD if least > 0 else BAD if most < 0 else UNKNOWN
        parts += [
            *(text(4, y + 15 * row, each) for row, each in enumerate(name)),
            text(WIDTH - 4, y, words, anchor="end"),
        ]
        y += 15 * len(name) - 2
        ends = f"M{axis.px(least):.1f},{y}H{axis.px(most):.1f}"
        parts += [
            *(rule(f"M{axis.px(value):.1f},{y - 8}v16", faint=value != 0) for value in ticks),
            f'<path d="{ends}" stroke="{colour}" stroke-width="4" stroke-opacity="0.5" stroke-linecap="round"/>',
            mark(axis.px(mean), y, Style(colour, 0, "")),
        ]
        y += 25
    parts += paragraph_of(WIDTH / 2, bottom + 34, across, anchor="middle")
    return svg(parts, bottom + 26 + 15 * len(lines_of(across)), across)


def bars(
    figures: Mapping[str, Mapping[str, float]], *, across: str, most: float = 100.0, among: Sequence[str] = ()
) -> str:
    """One row a keypoint with a bar a series, from 0 to `most`: figures by series and keypoint."""
    known = {name: each for name, each in figures.items() if any(value == value for value in each.values())}
    if not known:
        return ""
    rows = list(next(iter(known.values())))
    styles = [_style(name, among or list(known)) for name in known]
    names = _names_width(rows)
    axis = _Axis(0, most, names, WIDTH - 38)
    thick = 9
    tall = thick * len(known) + 9
    top, bottom = 6, 6 + tall * len(rows)
    parts = _grid(axis, round_numbers(0, most), top, bottom)
    for row, keypoint in enumerate(rows):
        y = top + tall * row + 4
        middle = y + thick * len(known) / 2
        parts.append(text(names - 6, middle + 4, shortened(keypoint.replace("_", " "), names - 8), anchor="end"))
        for number, (each, style) in enumerate(zip(known.values(), styles, strict=True)):
            value = each[keypoint]
            if value != value:
                continue
            end = axis.px(min(max(value, 0), most))
            place = f'x="{names:.1f}" y="{y + thick * number + 0.5:.1f}" height="{thick - 1}"'
            parts.append(f'<rect {place} width="{max(end - names, 1):.1f}" fill="{style.colour}"/>')
        first = next(iter(known.values()))[keypoint]
        if first == first:
            parts.append(text(WIDTH - 4, middle + 4, f"{first:.0f}", anchor="end"))
    parts.append(
        text((names + WIDTH - 38) / 2, bottom + 34, shortened(across, 2 * (WIDTH - names) / 2), anchor="middle")
    )
    return _with_legend(parts, bottom + 42, f"{across}, by keypoint", known, styles)


def dots(figures: Mapping[str, Mapping[str, float]], *, across: str, among: Sequence[str] = ()) -> str:
    """One row a keypoint with a mark a series, one below the other: figures by series and keypoint."""
    values = [value for series in figures.values() for value in series.values() if value == value]
    if not values:
        return ""
    rows = list(dict.fromkeys(keypoint for series in figures.values() for keypoint in series))
    styles = [_style(name, among or list(figures)) for name in figures]
    names = _names_width(rows)
    axis = _Axis(min(values), max(values), names + 8, WIDTH - _RIGHT - 8)
    step = max(
        4.5, min(9.0, 48 / len(figures))
    )  # px by which a series lies below the one before, so that equal figures are both seen
    tall = 14 + step * len(figures)
    bottom = 6 + tall * len(rows)
    parts = _grid(axis, round_numbers(axis.low, axis.high), 6, bottom)
    for row, keypoint in enumerate(rows):
        y = 6 + tall * row
        parts.append(rule(f"M{names},{y:.1f}H{WIDTH - _RIGHT}"))
        shown = shortened(keypoint.replace("_", " "), names - 8)
        parts.append(text(names - 6, y + tall / 2 + 4, shown, anchor="end"))
        for number, (found, style) in enumerate(zip(figures.values(), styles, strict=True)):
            value = found.get(keypoint, math.nan)
            if value == value:
                parts.append(mark(axis.px(value), y + 7 + step * (number + 0.5), style))
    parts.append(text((names + WIDTH) / 2, bottom + 34, across, anchor="middle"))
    return _with_legend(parts, bottom + 42, f"{across}, by keypoint", figures, styles)


def scatter(points: Mapping[str, Point], *, across: str, up: str, among: Sequence[str] = ()) -> str:
    """A mark a name with its interval, named on the right in the order of height, with no name on another."""
    if not points:
        return ""
    ups = [value for each in points.values() for value in (each.y, each.low, each.high) if value is not None]
    ticks = round_numbers(min(ups), max(ups))
    left = 12 + CHARACTER * max(len(f"{each:.4g}") for each in ticks)
    names = min(165.0, 14 + CHARACTER * max(map(len, points)))
    right = WIDTH - names - 26
    top = 20 + 15 * len(lines_of(up))
    bottom = top + max(_DEEP, 16 * len(points) + 10)
    xs = [each.x for each in points.values()]
    x_axis, y_axis = _Axis(min(xs), max(xs), left + 10, right - 10), _Axis(min(ups), max(ups), bottom - 8, top + 8)
    parts = [*paragraph_of(4, 14, up), rule(f"M{left:.1f},{top}V{bottom}H{right:.1f}", faint=False)]
    for value in ticks:
        y = y_axis.px(value)
        parts += [rule(f"M{left:.1f},{y:.1f}H{right:.1f}"), text(left - 5, y + 4, f"{value:.4g}", anchor="end")]
    order = sorted(points, key=lambda name: -points[name].y)
    heights = spread_out([y_axis.px(points[name].y) for name in order], 16, top + 6, bottom)
    for name, height in zip(order, heights, strict=True):
        point, style = points[name], _style(name, among or list(points))
        x, y = x_axis.px(point.x), y_axis.px(point.y)
        leader = f"M{x:.1f},{y:.1f}L{right + 6:.1f},{height:.1f}H{right + 14:.1f}"
        parts += [
            f'<path d="{leader}" fill="none" stroke="{style.colour}" stroke-opacity="0.45"/>',
            *_interval(point, x, y_axis, style),
            mark(x, y, style, filled=point.filled),
            text(right + 18, height + 4, shortened(name, names)),
        ]
    for tick in round_numbers(min(xs), max(xs), most=3):
        parts.append(text(x_axis.px(tick), bottom + 16, f"{tick:.4g}", anchor="middle"))
    parts.append(text((left + right) / 2, bottom + 34, across, anchor="middle"))
    return svg(parts, bottom + 42, f"{up}, by {across}")


def spread_out(places: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Ascending places, moved so that they lie `apart` from one another and, where they fit, in [low, high]."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, low if not moved else moved[-1] + apart))
    limit = max(high, low + apart * (len(places) - 1))
    for at in reversed(range(len(moved))):
        moved[at] = min(moved[at], limit)
        limit = moved[at] - apart
    return moved


def _style(name: str, among: Sequence[str]) -> Style:
    return style_of(list(among).index(name))


def _point(given: Point | tuple[float, float]) -> Point:
    return given if isinstance(given, Point) else Point(*given)


def _interval(point: Point, x: float, axis: _Axis, style: Style) -> list[str]:
    """A point's interval, with feet, where it has one."""
    if point.low is None or point.high is None:
        return []
    low, high = axis.px(point.low), axis.px(point.high)
    path = f"M{x:.1f},{low:.1f}V{high:.1f}M{x - 2:.1f},{low:.1f}h4M{x - 2:.1f},{high:.1f}h4"
    return [f'<path d="{path}" fill="none" stroke="{style.colour}"/>']


def _grid(axis: _Axis, ticks: Sequence[float], top: float, bottom: float) -> list[str]:
    """Lines upright at the ticks of an axis across, with their numbers below."""
    parts = []
    for value in ticks:
        x = axis.px(value)
        parts += [rule(f"M{x:.1f},{top}V{bottom:.1f}"), text(x, bottom + 16, f"{value:.4g}", anchor="middle")]
    return parts


def _names_width(rows: Sequence[str]) -> float:
    return min(130.0, 16 + CHARACTER * max(map(len, rows)))


def _with_legend(
    parts: Sequence[str], height: float, label: str, names: Mapping[str, object], styles: Sequence[Style]
) -> str:
    """A chart above its legend; a single series needs none."""
    if len(names) < 2:
        return svg(parts, height, label)
    drawn, deep = legend(list(names), styles)
    return svg([*parts, f'<g transform="translate(0,{height + 4:.0f})">{"".join(drawn)}</g>'], height + 4 + deep, label)


def _by_ratio(points: Sequence[Point]) -> bool:
    xs = [point.x for point in points]
    return min(xs) > 0 and max(xs) / min(xs) >= 8


def _spread_of_levels(drawn: Mapping[str, Sequence[Point]]) -> float:
    """How many times higher the highest line ends than the lowest."""
    ends = [abs(each[-1].y) for each in drawn.values()]
    return max(ends) / max(min(ends), 1e-12)


def _ratios(low: float, high: float) -> list[float]:
    """Powers of ten within an axis that goes by ratios; its ends where there are fewer than two."""
    powers = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return powers if len(powers) > 1 else [low, high]
