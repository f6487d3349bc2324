"""Each planted fault is found and the right remedy named; tests/cli/test_teacher.py has published networks."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from posestill.schema import UserError, validate
from posestill.study.teacher_check import check_teacher, variants
from posestill.teachers.file import open_layout
from posestill.teachers.layouts import LayoutConfig
from posestill.teachers.runtime import Port, RuntimeNetwork
from tests.conftest import DOTS, DotSource

SIZE = (64, 48)
COLOURS = np.array([(255, 80, 80), (80, 255, 80), (80, 80, 255), (255, 255, 80)], dtype=np.float32)
LAYOUT = {
    "order": "nhwc",
    "keypoints": list(DOTS.names),
    "output": {"kind": "numbers", "x": 0, "y": 1, "score": 2, "unit": "px"},
    "codec": "coords",
}


class FindsDots(RuntimeNetwork):
    """Each dot by its colour, in px 0..255; surest where the person fills four fifths of the crop."""

    path = Path("dots.onnx")
    inputs = (Port("x", (None, *SIZE, 3), np.dtype(np.float32)),)
    outputs = (Port("places", (None, 4, 3), np.dtype(np.float32)),)

    def __init__(self):
        self.asked = 0

    def _run(self, tensors):
        pictures = tensors["x"]
        self.asked += len(pictures)
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        near = np.exp(-((pictures[:, None] - COLOURS[None, :, None, None]) ** 2).sum(-1) / 900)  # (B, 4, H, W)
        total = near.sum((-1, -2))
        xy = np.stack([(near * each).sum((-1, -2)) / total.clip(1e-9) for each in (columns, rows)], axis=-1)
        middle = np.broadcast_to([SIZE[1] / 2, SIZE[0] / 2], xy.shape)
        xy = np.where(total[..., None] > 0.5, xy, middle)
        tall = (xy[..., 1].max(1) - xy[..., 1].min(1)) / SIZE[0]  # 0.64 in a crop of 1.25
        blur = 1 + 12 * np.abs(tall - 0.64)[:, None, None] * np.array([[[1, -1]]])
        score = np.clip(total / 20, 0, 1)[..., None]
        return {"places": np.concatenate([xy + blur - 1, score], axis=-1).astype(np.float32)}


def checked(source=None, network=None, people=24, **changes):
    network = network or FindsDots()
    layout = open_layout(network, validate(LayoutConfig, {**LAYOUT, **changes}, where="test"))
    return check_teacher(network, [layout], source or DotSource(24), people=people)


def bare(source):
    """The same persons without labels."""
    source.people = [replace(person, keypoints=None) for person in source.people]
    return source


def photographed(count=24):
    """Dots whose pictures can be asked for without the labels that draw them."""
    source = DotSource(count)
    pictures = {image_id: source.image(image_id) for image_id in source.image_ids}
    source.image = pictures.__getitem__
    return source


FAULTS = {
    "right": ({}, None),
    "bgr": ({"colours": "bgr"}, "colours the other way round"),
    "range": ({"highest": 1}, "px from 0 to 255"),
    "crop": ({"padding": 1.875}, "crops of 1.25 times the box"),
    "axes": ({"output": {**LAYOUT["output"], "x": 1, "y": 0}}, "x and y exchanged"),
    "mirrored": ({"keypoints": ["top", "right_side", "left_side", "bottom"]}, "left and right exchanged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_its_remedy_named_first(fault):
    changes, remedy = FAULTS[fault]
    found = checked(**changes)
    assert (found.remedy and found.remedy.name) == remedy
    assert found.has_labels
    assert [each.mean for each in found.others] == sorted((each.mean for each in found.others), reverse=True)
    if fault == "right":
        assert found.declared.mean > 0.9
        assert found.better == ()
        assert found.others[-1].over_declared.mean < -0.3


class SaysTheSame(FindsDots):
    """The same pose in every crop, which a network that was never trained comes close to."""

    def _run(self, tensors):
        pose = np.array([[24, 10, 0.9], [12, 32, 0.9], [36, 32, 0.9], [24, 54, 0.9]], dtype=np.float32)
        return {"places": np.repeat(pose[None], len(tensors["x"]), axis=0)}


def test_a_network_that_does_not_see_whom_it_is_asked_about_is_doubted():
    found = checked(network=SaysTheSame())
    assert not found.sees
    assert abs(found.over_anybody.mean) < 0.01
    assert checked().sees
    assert checked().over_anybody.low > 0.1


def test_without_labels_nothing_is_said_of_whether_it_sees():
    found = checked(bare(photographed()), network=SaysTheSame())
    assert found.over_anybody is None
    assert found.sees


@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"mirrored", "crop"}))
def test_without_labels_the_network_must_agree_with_itself(fault):
    changes, remedy = FAULTS[fault]
    found = checked(bare(photographed()), **changes)
    assert (found.remedy and found.remedy.name) == remedy
    assert not found.has_labels
    assert "left and right exchanged" not in {each.name for each in found.others}


def test_names_that_are_mirrored_are_not_seen_without_labels():
    found = checked(bare(photographed()), **FAULTS["mirrored"][0])
    assert found.remedy is None


def test_what_is_only_read_otherwise_shares_one_question():
    network = FindsDots()
    found = checked(network=network, people=10)
    # As declared, in BGR, three other crops, three other ranges; x and y, left and right cost nothing.
    assert len(found.others) == 9
    assert network.asked == 10 * (1 + 1 + 3 + 3)


def test_maps_on_other_grids_share_one_question_too(tmp_path):
    pytest.importorskip("onnx")
    from posestill.teachers.runtime import open_network
    from tests.teachers.networks import says

    network = open_network(says(tmp_path / "n.onnx", [1, 3, *SIZE], {"maps": np.zeros((17, 16, 12))}))
    layout = open_layout(network, "vitpose")
    declared, others, refused = variants(layout, network)
    same = [each.name for each in others if each.given == declared.given]
    assert same == ["x and y exchanged", "left and right exchanged", "maps on the grid 'stride'",
                    "maps on the grid 'cells'"]  # fmt: skip
    assert refused == ()


def test_the_bar_is_told_of_every_question_until_the_end():
    told = []

    @contextmanager
    def bar(what, total):
        class Shown:
            def advance(self, done=1):
                told.append(done)

        yield Shown()
        assert sum(told) == total

    network = FindsDots()
    layout = open_layout(network, validate(LayoutConfig, LAYOUT, where="test"))
    check_teacher(network, [layout], DotSource(20), people=18, bar=bar)
    assert sum(told) == 18 * 8


def test_where_a_file_may_have_several_layouts_the_best_is_taken():
    network = FindsDots()
    layouts = []
    for name, changes in (("one", {"colours": "bgr"}), ("two", {}), ("three", {"highest": 1})):
        layouts.append(open_layout(network, validate(LayoutConfig, {**LAYOUT, **changes}, where="test")))
        layouts[-1].name = name
    found = check_teacher(network, layouts, DotSource(12))
    assert found.layout == "two"
    assert set(found.candidates) == {"one", "two", "three"}
    assert found.candidates[0] == "two"
    assert {"one", "three"} <= {each.name for each in found.others}
    assert found.remedy is None
    with pytest.raises(UserError, match="may have the layouts one, two, three, which only labels tell"):
        check_teacher(network, layouts, bare(photographed()))


def test_a_range_that_the_file_cannot_take_is_told_once(tmp_path):
    class WholeNumbers(FindsDots):
        inputs = (Port("x", (None, *SIZE, 3), np.dtype(np.int32)),)

    found = checked(network=WholeNumbers())
    assert found.refused == (
        "px from 0 to 1, px from -1 to 1, px by ImageNet's moments: the file takes whole numbers (x (any, 64, 48, 3) "
        "int32), which are not normalised",
    )


def test_the_keypoints_that_do_not_meet_are_named():
    found = checked(keypoints=["top", "left_side", "right_side", "tail"])
    assert found.without == ("bottom",)
    with pytest.raises(UserError, match=r"none of the data's keypoints \(top, left_side, right_side"):
        checked(keypoints=["a", "b", "c", "d"])


def test_the_fastest_number_of_threads_is_told():
    class Threaded(FindsDots):
        threads = 2

        def with_threads(self, threads):
            return self

    said, network = [], Threaded()
    layout = open_layout(network, validate(LayoutConfig, LAYOUT, where="test"))
    check_teacher(network, [layout], DotSource(12), say=said.append)
    assert len(said) == 1
    assert "of 2 threads is the fastest here" in said[0]


def test_too_few_persons_are_refused():
    with pytest.raises(UserError, match="3 persons with labels are too few to tell: 5 are needed"):
        checked(DotSource(3))
