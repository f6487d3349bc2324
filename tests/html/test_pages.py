import re

import numpy as np
import pytest

from posestill.draw import LEFT, MIDDLE, RIGHT, draw_poses
from posestill.files import finite, write_json
from posestill.html.charts import COLOURS, Point, curves, dots, gains, round_numbers, standalone
from posestill.html.page import page, paragraph, pictures, table
from posestill.html.report import loss_curves, percent, side_by_side
from posestill.models.cost import measure
from posestill.skeletons import Skeleton
from tests.conftest import DOTS, DotSource, small_model


def test_left_is_warm_right_is_cool_and_the_original_is_untouched():
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    pose = np.array([[50, 10, 1], [80, 50, 1], [20, 50, 1], [50, 90, 0.1]])
    drawn = draw_poses(image, pose[None], DOTS, boxes=np.array([[5, 5, 90, 90]]))
    assert image.max() == 0
    assert tuple(drawn[50, 80]) == LEFT
    assert tuple(drawn[50, 20]) == RIGHT
    assert drawn[90, 50].max() == 0  # below the threshold
    assert drawn[5, 50].min() > 100  # the box
    assert draw_poses(image, np.full((1, 4, 3), np.nan), DOTS).max() == 0


def test_sides_are_told_by_names_of_every_usual_style_and_many_keypoints_get_thin_lines():
    names = ("LWrist", "r_wrist", "nose", "rankle", "wing left tip")
    skeleton = Skeleton(names=names, swap=(1, 0, 2, 3, 4), edges=(), oks_sigmas=(0.1,) * 5)
    pose = np.array([[10, 10, 1], [190, 10, 1], [100, 100, 1], [10, 190, 1], [190, 190, 1]], dtype=float)
    drawn = draw_poses(np.zeros((200, 200, 3), dtype=np.uint8), pose[None], skeleton)
    assert [tuple(drawn[int(y), int(x)].tolist()) for x, y, _ in pose] == [LEFT, RIGHT, MIDDLE, RIGHT, LEFT]
    grid = np.stack([*np.meshgrid(np.arange(12) * 80.0 + 40, np.arange(10) * 80.0 + 40), np.ones((10, 12))], axis=-1)
    many = Skeleton(
        names=tuple(f"point {index}" for index in range(120)), swap=tuple(range(120)), edges=(), oks_sigmas=(0.1,) * 120
    )
    dense = draw_poses(np.zeros((1000, 1000, 3), dtype=np.uint8), grid.reshape(1, 120, 3), many)
    assert 0.01 < (dense.max(axis=-1) > 0).mean() < 0.1


def test_pages_escape_what_they_are_given():
    text = page("a < b", [paragraph("<script>"), table(["<h>"], [["&"]])])
    assert "a &lt; b" in text
    assert "&lt;script&gt;" in text
    assert "<td>&amp;</td>" in text


def test_curves_reach_the_corners_of_their_axes_and_nothing_draws_nothing():
    assert curves({"a": []}, across="x", up="y") == ""
    drawn = curves({"a": [(0, 1.0), (10, 3.0)]}, across="steps", up="loss")
    assert 'points="44.0,218.0 596.0,46.0"' in drawn
    assert curves({"a": [(0, 1.0)]}, across="x", up="y")


def test_marks_show_intervals_ratios_and_which_points_weigh_less():
    series = {
        "one": [Point(100, 1, 0, 2), Point(400, 2, 1, 3), Point(1600, 0, -1, 1, filled=False)],
        "two": [(100, 0.0)],
    }
    drawn = curves(series, across="labels", up="gain", marks=True, ticks=[100, 400, 1600])
    assert drawn.count('fill="white"') == 1
    assert drawn.count("<circle") == 4 + 2  # and the legend's
    assert all(f">{tick}</text>" in drawn for tick in (100, 400, 1600))
    places = [float(each) for each in re.findall(r'<polyline points="([\d.]+),', drawn)]
    first = re.search(r'<polyline points="([^"]+)"', drawn)[1].split()
    xs = [float(point.split(",")[0]) for point in first]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)  # ratios of four, equally far
    assert places[1] - places[0] == pytest.approx(3.0, abs=0.1)  # side by side at one dose
    assert curves({}, across="x", up="y") == ""


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


def test_a_series_beyond_the_colours_has_another_shape():
    many = {f"arm {number}": [(1.0, number), (2.0, number)] for number in range(3 * len(COLOURS) + 1)}
    drawn = curves(many, across="dose", up="gain", marks=True, ticks=[1, 2])
    marks = re.findall(r"<(?:circle [^>]*? r=\"4\"|path transform=[^>]*? d=\"([^\"]+)\") fill=\"(#\w+)\"", drawn)
    assert len(set(marks)) == len(many)
    left = min(float(each) for each in re.findall(r'<circle cx="([\d.]+)" cy="[\d.]+" r="4"', drawn))
    assert left > 44  # right of the axis


def test_gains_are_drawn_about_nothing_and_coloured_by_what_the_interval_leaves_out():
    drawn = gains([("better", 2.0, 1.0, 3.0), ("worse", -2.0, -3.0, -1.0), ("who knows", 0.5, -1.0, 2.0)], across="OKS")
    strokes = re.findall(r'<circle [^>]* stroke="(#\w+)"', drawn)
    assert len(set(strokes)) == 3
    assert "+2.0" in drawn
    assert gains([], across="OKS") == ""


def test_dots_leave_out_what_was_not_measured_and_a_picture_stands_alone():
    found = {"alone": {"nose": 0.5, "left_eye": float("nan")}, "tcd": {"nose": 0.7, "left_eye": 0.2}}
    drawn = dots(found, across="PCK")
    assert drawn.count("<circle") == 3 + 2
    assert "left eye" in drawn
    alone = standalone(drawn)
    assert alone.startswith('<svg viewBox="0 0 640')
    assert 'xmlns="http://www.w3.org/2000/svg"' in alone
    assert dots({}, across="PCK") == ""


def test_rows_of_pictures_show_the_labels_and_each_model():
    rows, captions = side_by_side({"one": small_model(), "two": small_model("coords")}, DotSource(9), count=3)
    assert captions == ["labels", "one", "two"]
    assert [len(row) for row in rows] == [3, 3, 3]
    assert pictures(rows, captions).count("<img") == 9


def test_losses_are_read_from_rows_with_evaluations_between():
    rows = [{"step": 1, "task": 2.0, "learning_rate": 1}, {"step": 1, "evaluation": {}}, {"step": 2, "task": 1.0}]
    assert loss_curves(rows) == {"task": [(1, 2.0), (2, 1.0)]}


def test_percent_shows_what_does_not_exist_as_such():
    assert [percent(value) for value in (0.1234, -1, float("nan"), None)] == ["12.3", "-1", "–", "–"]


def test_json_files_hold_no_nan(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": float("nan"), "y": [float("inf"), 1.0]})
    assert (tmp_path / "a" / "b.json").read_text().split() == [
        "{",
        '"x":',
        "null,",
        '"y":',
        "[",
        "null,",
        "1.0",
        "]",
        "}",
    ]
    assert finite((1, {"a": float("-inf")})) == [1, {"a": None}]


def test_costs_are_counted_by_hand_on_one_layer():
    model = small_model("coords", head="gap_fc")
    cost = measure(model, repeats=3, warmup=1)
    # stem 3->8 at 16x12; block 8->8 at 16x12; block 8->16 at 8x6 with a 1x1 shortcut; 16 -> 8 numbers
    by_hand = 16 * 12 * 9 * (3 * 8 + 2 * 8 * 8) + 8 * 6 * (9 * (8 * 16 + 16 * 16) + 8 * 16) + 16 * 8
    assert cost.macs == by_hand
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert 0 < cost.fastest <= cost.milliseconds <= cost.slowest


def test_a_model_in_training_stays_in_training():
    model = small_model().train()
    measure(model, repeats=1, warmup=0)
    assert model.training


@pytest.mark.parametrize("size", [(10, 10), (500, 400)])
def test_pictures_of_any_size_can_be_drawn_on(size):
    assert draw_poses(np.zeros((*size, 3), dtype=np.uint8), np.zeros((0, 4, 3)), DOTS).shape == (*size, 3)
