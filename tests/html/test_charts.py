import itertools
import math

import pytest

from posestill.html.charts import Point, bars, curves, dots, gains, scatter, spread_out
from posestill.html.ink import BAD, COLOURS, GOOD, UNKNOWN, WIDTH
from tests.html.parsed import parsed


def lines(drawn):
    """The points (x, y) of each line of a chart."""
    return [
        [tuple(map(float, point.split(","))) for point in each.attributes["points"].split()]
        for each in parsed(drawn).all("polyline")
    ]


def words(drawn):
    return [each.text for each in parsed(drawn).all("text")]


def marks(drawn):
    """(colour, what it is) of each mark of a chart, its legend's included."""
    found = parsed(drawn)
    shapes = [each for each in found.all("path") if "transform" in each.attributes]
    return [(each.attributes["stroke"], each.attributes.get("d", "circle")) for each in [*found.all("circle"), *shapes]]


def test_nothing_to_draw_draws_nothing():
    assert curves({"a": []}, across="x", up="y") == ""
    assert gains([], across="x") == ""
    assert bars({"a": {"nose": math.nan}}, across="x") == ""
    assert dots({}, across="x") == ""
    assert scatter({}, across="x", up="y") == ""


def test_curves_reach_the_ends_of_their_axes_and_name_them():
    drawn = curves({"a": [(0, 1.0), (10, 3.0)]}, across="steps", up="loss")
    (((left, low), (right, high)),) = lines(drawn)
    assert right == WIDTH - 10
    assert left < 60
    assert low - high == pytest.approx(190)
    assert {"steps", "loss"} <= set(words(drawn))
    assert len(parsed(drawn).all("circle")) == 0


def test_a_line_of_one_point_is_a_mark_and_a_single_series_needs_no_legend():
    drawn = curves({"task": [(5, 1.0)]}, across="steps", up="loss")
    assert len(parsed(drawn).all("circle")) == 1
    assert "task" not in words(drawn)
    assert "task" in words(curves({"task": [(5, 1.0)], "helper": [(5, 2.0)]}, across="steps", up="loss"))


def test_losses_of_very_different_size_go_up_by_ratios():
    drawn = curves({"task": [(1, 1000.0), (2, 100.0)], "helper": [(1, 1.0), (2, 0.1)]}, across="steps", up="loss")
    ((_, first), (_, second)), ((_, third), (_, fourth)) = lines(drawn)
    assert second - first == pytest.approx(fourth - third)  # a tenth, both times
    assert "loss (logarithmic)" in words(drawn)


def test_marks_show_intervals_ratios_and_which_points_weigh_less():
    series = {
        "one": [Point(100, 1, 0, 2), Point(400, 2, 1, 3), Point(1600, 0, -1, 1, filled=False)],
        "two": [(100, 1.0)],
    }
    drawn = curves(series, across="labels", up="gain", marks=True, ticks=[100, 400, 1600])
    assert {"100", "400", "1600"} <= set(words(drawn))
    hollow = [each for each in parsed(drawn).all("circle") if each.attributes["fill"].startswith("var(--paper")]
    assert len(hollow) == 1
    first, second = lines(drawn)
    assert first[1][0] - first[0][0] == pytest.approx(first[2][0] - first[1][0], abs=0.2)  # ratios of four, equally far
    assert second[0][0] - first[0][0] == pytest.approx(3.5, abs=0.1)  # equal figures stand side by side


def test_each_of_sixty_series_has_marks_of_its_own_and_keeps_them_in_every_chart():
    names = [f"arm {number}" for number in range(60)]
    drawn = curves({name: [(1.0, 1.0), (2.0, 2.0)] for name in names}, across="d", up="g", marks=True, among=names)
    found = parsed(drawn)
    known = [each.attributes for each in found.all("polyline")]
    assert len({(each["stroke"], each.get("stroke-dasharray", "")) for each in known}) == 60
    alone = curves({"arm 7": [(1.0, 1.0), (2.0, 2.0)]}, across="d", up="g", marks=True, among=names)
    assert parsed(alone).one("polyline").attributes["stroke"] == COLOURS[7]


def test_gains_are_drawn_about_nothing_and_coloured_by_what_the_interval_leaves_out():
    rows = [("better", 2.0, 1.0, 3.0), ("worse", -2.0, -3.0, -1.0), ("who knows", 0.5, -1.0, 2.0)]
    drawn = gains(rows, across="OKS")
    circles = parsed(drawn).all("circle")
    assert [each.attributes["stroke"] for each in circles] == [GOOD, BAD, UNKNOWN]
    places = [float(each.attributes["cx"]) for each in circles]
    assert places[1] < places[2] < places[0]
    assert {"better", "+2.0 [+1.0, +3.0]", "-2.0 [-3.0, -1.0]", "0", "OKS"} <= set(words(drawn))


def test_long_names_of_gains_take_several_lines_beside_their_figures():
    name = "a regime of a long name: an arm of a still longer name"
    drawn = gains([(name, 2.0, 1.0, 3.0), ("short", 1.0, 0.5, 1.5)], across="OKS")
    found = parsed(drawn).all("text")
    lines_of_name = [each for each in found if each.text in name]
    assert " ".join(each.text for each in lines_of_name if len(each.text) > 3) == name
    assert all(len(each.text) + len("+2.0 [+1.0, +3.0]") <= WIDTH / 7 for each in lines_of_name)
    circles = [float(each.attributes["cy"]) for each in parsed(drawn).all("circle")]
    assert all(float(each.attributes["y"]) < circles[0] for each in lines_of_name if len(each.text) > 3)
    assert circles[0] < float(next(each for each in found if each.text == "short").attributes["y"]) < circles[1]


def test_bars_are_as_long_as_their_figures_one_below_the_other_for_each_keypoint():
    drawn = bars({"student": {"nose": 50.0, "left_wrist": math.nan}, "teacher": {"nose": 100.0, "left_wrist": 25.0}},
                 across="OKS's term x 100")  # fmt: skip
    found = parsed(drawn).all("rect")
    lengths = [float(each.attributes["width"]) for each in found]
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.01)
    assert lengths[2] == pytest.approx(lengths[1] / 4, rel=0.01)
    tops = [float(each.attributes["y"]) for each in found]
    assert tops[0] < tops[1] < tops[2]
    assert [each.attributes["fill"] for each in found] == [COLOURS[0], COLOURS[1], COLOURS[1]]
    assert {"left wrist", "student", "teacher", "OKS's term x 100"} <= set(words(drawn))


def test_equal_figures_of_two_series_do_not_hide_one_another():
    drawn = dots({"alone": {"nose": 0.5, "eye": 0.1}, "tcd": {"nose": 0.5, "eye": math.nan}}, across="PCK")
    (first, other), second = parsed(drawn).all("circle")[:2], marks(drawn)
    assert first.attributes["cx"] != other.attributes["cx"]  # the nose and the eye of the first series
    assert len(second) == 3 + 2  # and the legend's
    heights = {each.attributes["transform"].split(",")[1] for each in parsed(drawn).all("path")
               if "transform" in each.attributes}  # fmt: skip
    assert f"{float(first.attributes['cy']):.1f})" not in heights


def test_no_name_in_a_scatter_lies_on_another_though_all_figures_are_equal():
    points = {f"arm {number}": Point(10.0, 50.0) for number in range(20)}
    found = parsed(scatter(points, across="seconds", up="mean OKS")).all("text")
    heights = sorted(float(each.attributes["y"]) for each in found if each.text.startswith("arm "))
    assert len(heights) == 20
    assert min(after - before for before, after in itertools.pairwise(heights)) >= 15.9


def test_a_scatter_shows_intervals_and_names_from_the_top_down():
    drawn = scatter({"low": Point(1, 10, 5, 15), "high": Point(2, 90)}, across="seconds", up="mean OKS")
    assert [each for each in words(drawn) if each in ("low", "high")] == ["high", "low"]
    assert sum("v" not in each.attributes["d"] and "V" in each.attributes["d"] and "h4" in each.attributes["d"]
               for each in parsed(drawn).all("path")) == 1  # fmt: skip


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ([10, 50], [10, 50]),
        ([10, 12, 14], [10, 20, 30]),
        ([95, 96], [90, 100]),
        ([-5, 0], [0, 10]),
        ([1, 1, 1, 1], [0 + 1, 11, 21, 31]),
    ],
)
def test_places_are_moved_as_far_as_they_must_be(places, found):
    assert spread_out(places, 10, 0, 100) == pytest.approx(found)
