import pytest

from posestill.models.convert import known_skeleton
from posestill.models.saved_keypoints import saved_skeleton, spelled_out
from posestill.schema import UserError
from posestill.skeletons import COCO_17, COCO_WHOLEBODY
from tests.conftest import DOTS

PARTS = ("Eye", "Ear", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
HUB = ["Nose", *(f"{side}_{part}" for part in PARTS for side in "LR")]
"""COCO's keypoints as the Hub's VitPoses name them"""


def labels(names):
    return {str(index): name for index, name in enumerate(names)}


def test_cocos_names_in_another_style_are_cocos_keypoints():
    assert saved_skeleton({"id2label": labels(HUB)}, 17, known_skeleton) == COCO_17


def test_in_another_order_they_are_keypoints_of_their_own_with_partners_by_name():
    skeleton = saved_skeleton({"id2label": labels(HUB[::-1])}, 17, known_skeleton)
    assert skeleton.names == tuple(HUB[::-1])
    assert skeleton.swap[:2] == (1, 0)
    assert skeleton.swap[16] == 16  # the nose
    assert skeleton.oks_sigmas[16] == 0.026


@pytest.mark.parametrize(
    "told", [{}, {"id2label": labels(f"LABEL_{index}" for index in range(133))}, {"id2label": {"0": "x"}}]
)
def test_numbered_keypoints_are_the_known_set_of_as_many(told):
    assert saved_skeleton(told, 133, known_skeleton) == COCO_WHOLEBODY


def test_partners_that_the_settings_tell_count_before_names():
    told = {"flip_pairs": [[0, 16]]}
    assert saved_skeleton(told, 17, known_skeleton).swap == (16, *range(1, 16), 0)
    named = saved_skeleton({**told, "id2label": labels(HUB[::-1])}, 17, known_skeleton)
    assert named.swap == (16, *range(1, 16), 0)


def test_a_name_whose_partner_is_missing_is_its_own():
    skeleton = saved_skeleton({"id2label": labels(["left fin", "tip"])}, 2, known_skeleton)
    assert skeleton.swap == (0, 1)


def test_what_is_spelled_out_reads_back():
    told = spelled_out(DOTS)
    read = saved_skeleton(told, 4, known_skeleton)
    assert (read.names, read.swap, read.edges) == (DOTS.names, DOTS.swap, DOTS.edges)


def test_settings_that_are_malformed_are_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"the id2label, edges or flip_pairs of the network is malformed"):
        saved_skeleton({"id2label": {"first": "nose"}}, 1, known_skeleton)
