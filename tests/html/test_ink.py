import itertools

import pytest

from posestill.html.ink import (
    CHARACTER,
    COLOURS,
    WIDTH,
    legend,
    lines_of,
    round_numbers,
    shortened,
    standalone,
    style_of,
    svg,
    text,
)
from tests.html.parsed import parsed


def linear(colour):
    return [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    ]


def oklab(colour):
    """Björn Ottosson's perceptual space, in which distances look alike."""
    red, green, blue = linear(colour)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def luminance(colour):
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_twenty_colours_are_told_apart_by_eye():
    assert len(set(COLOURS)) == 20
    for one, other in itertools.combinations(COLOURS, 2):
        distance = sum((a - b) ** 2 for a, b in zip(oklab(one), oklab(other), strict=True)) ** 0.5
        assert distance > 0.08, (one, other)


@pytest.mark.parametrize("paper", ["#ffffff", "#14181d"])
def test_every_colour_is_seen_on_a_light_and_on_a_dark_page(paper):
    for colour in COLOURS:
        dark, light = sorted([luminance(colour), luminance(paper)])
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_no_two_of_eighty_series_look_alike_and_neighbours_differ_in_shape_too():
    styles = [style_of(number) for number in range(80)]
    assert len(set(styles)) == 80
    assert all(one.shape != other.shape for one, other in itertools.pairwise(styles))


def test_a_legend_breaks_its_lines_within_the_width_of_a_phone():
    names = [f"an arm of some length {number}" for number in range(6)]
    parts, deep = legend(names, [style_of(number) for number in range(6)])
    rows = parsed("".join(parts)).all("text")
    assert [each.text for each in rows] == names
    for each in rows:
        assert float(each.attributes["x"]) + CHARACTER * len(each.text) <= WIDTH + 12
    assert deep == max(float(each.attributes["y"]) for each in rows) + 6


def test_text_is_wrapped_or_shortened_to_its_width():
    assert lines_of("mean OKS over the student alone", 120) == ["mean OKS over the", "student alone"]
    assert shortened("student alone", 200) == "student alone"
    assert shortened("student alone", 70) == "student a…"


def test_text_in_a_chart_is_escaped():
    assert parsed(text(0, 0, "<b>&")).one("text").text == "<b>&"


def test_a_picture_of_its_own_has_a_size_a_paper_and_a_font():
    alone = standalone(svg([text(0, 0, "a")], 100, "words"))
    found = parsed(alone).one("svg")
    assert (found.attributes["width"], found.attributes["height"]) == ("560", "140")
    assert found.attributes["xmlns"] == "http://www.w3.org/2000/svg"
    assert found.attributes["aria-label"] == "words"
    assert found.inside[0].tag == "rect"


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (-7.93, 9.61, [-5, 0, 5]),
        (0, 10, [0, 5, 10]),
        (65.6, 74.2, [66, 68, 70, 72, 74]),
        (0.012, 0.05, [0.02, 0.03, 0.04, 0.05]),
        (3, 3, [3]),
    ],
)
def test_axes_are_labelled_with_round_numbers_inside_their_ends(low, high, found):
    assert round_numbers(low, high) == pytest.approx(found)
