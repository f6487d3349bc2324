import pytest

from posestill.keypoints.names import needs_partner, partner_of, read_name, same_keypoint, spelled_for_the_other_side
from posestill.skeletons import COCO_17, from_category

STYLES = ["left_ankle", "LEFT_ANKLE", "LAnkle", "lAnkle", "l_ankle", "L-ankle", "ankle.l", "ankle_left", "leftAnkle",
          "Left Ankle", "lankle"]  # fmt: skip
LSP = ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "neck", "head_top")


@pytest.mark.parametrize("name", STYLES)
def test_every_usual_style_says_the_same_part_and_side(name):
    assert (read_name(name).part, read_name(name).side) == ("ankle", "left")
    assert same_keypoint(name, COCO_17.names) == "left_ankle"


@pytest.mark.parametrize(
    ("name", "part", "side"),
    [
        ("RBigToe", "big toe", "right"),
        ("MidHip", "pelvis", ""),
        ("hip", "pelvis", ""),
        ("right_hip", "hip", "right"),
        ("upper_neck", "neck", ""),
        ("head_top", "head top", ""),
        ("left_eye_inner", "eye inner", "left"),
        ("face-3", "face 3", ""),
    ],
)
def test_parts_are_read_word_by_word(name, part, side):
    assert (read_name(name).part, read_name(name).side) == (part, side)


def test_a_word_that_only_begins_like_a_side_is_a_pair_only_where_both_are_there():
    assert partner_of("rear", ["rear", "front"]) is None
    assert not needs_partner("rear")
    assert partner_of("rear", ["rear", "lear"]) == "lear"
    skeleton = from_category({"name": "dog", "keypoints": ["nose", "rear", "l_paw", "r_paw"]})
    assert skeleton.swap == (0, 1, 3, 2)


@pytest.mark.parametrize(
    "names", [("LShoulder", "RShoulder"), ("lshoulder", "rshoulder"), ("shoulder.L", "shoulder.R")]
)
def test_mirror_partners_are_found_in_every_style(names):
    assert from_category({"name": "p", "keypoints": list(names)}).swap == (1, 0)


@pytest.mark.parametrize(("name", "other"), [("LAnkle", "RAnkle"), ("left_eye", "right_eye"), ("EYE_R", "EYE_L")])
def test_a_partner_is_spelled_in_the_same_style(name, other):
    assert spelled_for_the_other_side(name) == other


def test_a_keypoint_that_two_names_may_mean_is_left_to_the_user():
    assert same_keypoint("neck", LSP) == "neck"
    assert same_keypoint("LHip", LSP) == "left_hip"
    assert same_keypoint("nose", LSP) is None
    assert same_keypoint("ankle_l", ("left_ankle", "LAnkle")) is None
