import pytest

from posestill.keypoints.metainfo import metainfo_of
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17, from_category
from posestill.teachers.keypoint_sets import KEYPOINT_SETS, keypoint_set
from posestill.teachers.layouts import LayoutConfig


def test_each_set_has_the_number_of_keypoints_of_its_networks():
    counts = {name: len(each) for name, each in KEYPOINT_SETS.items()}
    assert counts == {"coco": 17, "halpe26": 26, "blazepose": 33, "coco-wholebody": 133, "sapiens": 308}


def test_the_hands_of_sapiens_begin_at_the_tip_of_the_thumb_and_end_at_the_wrist():
    names = KEYPOINT_SETS["sapiens"].names
    assert names[15:25] == (
        "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
        "right_thumb4", "right_thumb3", "right_thumb2", "right_thumb_third_joint",
    )  # fmt: skip
    assert (names[41], names[42], names[62]) == ("right_wrist", "left_thumb4", "left_wrist")
    assert names[63:71] == (
        "left_olecranon", "right_olecranon", "left_cubital_fossa", "right_cubital_fossa", "left_acromion",
        "right_acromion", "neck", "sapiens_face_70",
    )  # fmt: skip
    swap = KEYPOINT_SETS["sapiens"].swap
    assert (swap[21], swap[41], swap[69], swap[63]) == (42, 62, 69, 64)


def test_the_set_is_the_one_of_as_many_or_the_one_named():
    assert keypoint_set(None, count=26, where="x") is KEYPOINT_SETS["halpe26"]
    assert keypoint_set("sapiens", count=308, where="x") is KEYPOINT_SETS["sapiens"]
    with pytest.raises(UserError, match="x: the file gives 5 keypoints, and no known set has as many"):
        keypoint_set(None, count=5, where="x")
    with pytest.raises(UserError, match="x: it has 17 keypoints, and the file gives 308"):
        keypoint_set("coco", count=308, where="x")


def test_partners_and_spreads_that_a_layout_tells_are_taken():
    names = ("p", "q", "r")
    told = keypoint_set(names, count=3, where="layout", told={"flip_pairs": [[0, 2]], "sigmas": [0.1, 0.2, 0.3]})
    assert (told.swap, told.oks_sigmas, told.partners_known) == ((2, 1, 0), (0.1, 0.2, 0.3), True)
    assert not keypoint_set(names, count=3, where="layout").partners_known
    known = keypoint_set(None, count=17, where="layout", told={"sigmas": [0.1] * 17})
    assert (known.swap, known.edges, known.oks_sigmas) == (COCO_17.swap, COCO_17.edges, (0.1,) * 17)
    with pytest.raises(UserError, match="layout: sigmas has 2 numbers; 3 numbers above 0 are wanted"):
        keypoint_set(names, count=3, where="layout", told={"sigmas": [0.1, 0.2]})


def test_numbers_do_not_tell_the_partners_of_the_face_of_sapiens():
    sapiens = KEYPOINT_SETS["sapiens"]
    assert not sapiens.partners_known
    category = {"name": "person", "keypoints": list(sapiens.names), **sapiens.as_metainfo()}  # as `label` writes it
    assert not from_category(category, metainfo_of(category, None, where="a.json")).partners_known
    given = {"keypoints": sapiens.names, "output": {"kind": "maps"}, "codec": "heatmap", "partners_known": False}
    layout = validate(LayoutConfig, given, where="l")
    assert not keypoint_set(layout.keypoints, count=308, where="l", told=layout.told_of_keypoints).partners_known
    pairs = [[at, partner] for at, partner in enumerate(sapiens.swap) if at < partner]
    given = {"names": list(sapiens.names), "flip_pairs": pairs}
    assert from_category(category, metainfo_of(category, given, where="a.json")).partners_known  # who says so, knows
