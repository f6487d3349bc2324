import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import posestill
from posestill.keypoints.metainfo import read_metainfo
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17, COCO_WHOLEBODY, Skeleton, from_category


def category(*names, **more):
    return {"id": 1, "name": "thing", "keypoints": list(names), **more}


def test_coco_17_has_the_published_spreads_and_mirror_partners():
    assert COCO_17.oks_sigmas == (
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089,
    )  # fmt: skip
    assert COCO_17.swap == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert COCO_17.lower == (11, 12, 13, 14, 15, 16)


@pytest.mark.parametrize(
    ("left", "right"),
    [("left_eye", "right_eye"), ("eyeLeft", "eyeRight"), ("L_hip", "R_hip"), ("hip.l", "hip.r"), ("knee-R", "knee-L")],
)
def test_partners_are_found_by_the_usual_ways_to_name_sides(left, right):
    assert from_category(category("tail", left, right)).swap == (0, 2, 1)


def test_a_side_without_its_partner_is_an_error_that_suggests_one():
    with pytest.raises(UserError, match="'left_eye' has no partner 'right_eye'; did you mean 'rigth_eye'"):
        from_category(category("left_eye", "rigth_eye"))


def test_a_category_skeleton_is_one_based_and_ours_is_not():
    skeleton = from_category(category("a", "b", "c", skeleton=[[1, 2], [2, 3]]))
    assert skeleton.edges == ((0, 1), (1, 2))


def test_unknown_spreads_come_from_the_same_body_part_of_coco():
    skeleton = from_category(category("left_elbow", "right_elbow", "neck", "forearm"))
    assert skeleton.oks_sigmas == (0.072, 0.072, 0.079, 0.079)  # a forearm is no ear
    assert skeleton.upper == (0, 1, 2)


def test_metainfo_completes_the_category(lsp_photos):
    content = json.loads((lsp_photos / "annotations" / "tune.json").read_text())
    skeleton = from_category(content["categories"][0], read_metainfo(lsp_photos / "metainfo.json"))
    assert len(skeleton) == 14
    assert skeleton.names[skeleton.swap[skeleton.names.index("left_hip")]] == "right_hip"
    assert skeleton.pck_pair == (skeleton.names.index("left_shoulder"), skeleton.names.index("right_hip"))


def test_a_metainfo_file_of_several_skeletons_gives_the_one_of_the_names(coco_sample):
    info = read_metainfo(coco_sample / "metainfo.json", COCO_17.names)
    assert tuple(info["sigmas"]) == COCO_17.oks_sigmas
    assert from_category(category(*COCO_17.names), info).swap == COCO_17.swap
    with pytest.raises(UserError, match="no skeleton with the dataset's 2 keypoint names"):
        read_metainfo(coco_sample / "metainfo.json", ("a", "b"))


def test_metainfo_that_contradicts_the_category_is_refused():
    with pytest.raises(UserError, match="must be the same, in the same order"):
        from_category(category("a", "b"), {"names": ["b", "a"]})


def test_missing_and_broken_metainfo_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no metainfo file .*gone\.json"):
        read_metainfo(tmp_path / "gone.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match=r"broken\.json is not valid JSON"):
        read_metainfo(tmp_path / "broken.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"swap": (0, 1)}, "swap has 2 entries for 3"),
        ({"swap": (1, 2, 0)}, "its own inverse"),
        ({"edges": ((0, 3),)}, "outside 0..2"),
        ({"names": ("a", "a", "b")}, "share a name"),
    ],
)
def test_a_skeleton_that_does_not_fit_together_is_refused(changes, message):
    given = {"names": ("a", "b", "c"), "swap": (0, 1, 2), "oks_sigmas": (0.1, 0.1, 0.1), **changes}
    with pytest.raises(ValueError, match=message):
        Skeleton(**given)


def test_a_category_without_keypoints_is_refused():
    with pytest.raises(UserError, match="lists no keypoints"):
        from_category({"id": 1, "name": "car"})


def test_coco_wholebody_is_the_body_the_feet_a_face_and_two_hands():
    assert len(COCO_WHOLEBODY) == len(COCO_WHOLEBODY.oks_sigmas) == 133
    stops = {part: stop for part, (_, stop) in COCO_WHOLEBODY.parts.items()}
    assert stops == {"body": 17, "foot": 23, "face": 91, "lefthand": 112, "righthand": 133}
    starts = [start for start, _ in COCO_WHOLEBODY.parts.values()]
    assert starts == [0, *list(stops.values())[:-1]]  # one after the other, without a gap
    assert COCO_WHOLEBODY.names[:17] == COCO_17.names
    assert COCO_WHOLEBODY.names[17:23] == (
        "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
    )  # fmt: skip
    assert [COCO_WHOLEBODY.names[index] for index in (23, 90, 91, 132)] == [
        "face-0", "face-67", "left_hand_0", "right_hand_20",
    ]  # fmt: skip


def test_coco_wholebody_has_the_published_spreads():
    sigmas = COCO_WHOLEBODY.oks_sigmas
    assert sigmas[:17] == COCO_17.oks_sigmas
    assert sigmas[17:23] == (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
    assert sigmas[91:112] == sigmas[112:133]
    assert (sigmas[23], sigmas[31], sigmas[23 + 47], sigmas[90]) == (0.042, 0.020, 0.034, 0.008)
    assert min(sigmas[23:91]) == 0.007
    assert round(sum(sigmas), 3) == 3.861


def test_mirror_partners_of_coco_wholebody_are_named_alike_and_pair_the_face():
    swap, names = COCO_WHOLEBODY.swap, COCO_WHOLEBODY.names
    for index, name in enumerate(names):
        assert swap[swap[index]] == index
        if not name.startswith("face"):
            expected = {"left": "right", "right": "left"}.get(name.split("_")[0])
            assert names[swap[index]] == (name if expected is None else "_".join([expected, *name.split("_")[1:]]))
    pairs = {0: 16, 7: 9, 17: 26, 21: 22, 31: 35, 32: 34, 36: 45, 39: 42, 41: 46, 48: 54, 59: 55, 60: 64, 67: 65}
    assert {one: swap[23 + one] - 23 for one in pairs} == pairs
    midline = {index for index in range(68) if swap[23 + index] == 23 + index}
    assert midline == {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}


def test_every_finger_is_a_chain_from_the_wrist():
    edges = set(COCO_WHOLEBODY.edges)
    for wrist in (91, 112):
        of_hand = {(one - wrist, other - wrist) for one, other in edges if wrist <= one < wrist + 21}
        chains = [(0, 1, 2, 3, 4), (0, 5, 6, 7, 8), (0, 9, 10, 11, 12), (0, 13, 14, 15, 16), (0, 17, 18, 19, 20)]
        assert of_hand == {pair for chain in chains for pair in pairwise(chain)}


def test_a_skeleton_saved_before_there_were_parts_still_loads():
    saved = json.loads((Path(posestill.__file__).parent / "assets" / "teacher" / "config.json").read_text())["skeleton"]
    saved.pop("parts", None)
    assert validate(Skeleton, saved, where="test") == COCO_17
    assert validate(Skeleton, COCO_WHOLEBODY.model_dump(mode="json"), where="test") == COCO_WHOLEBODY
    assert COCO_17.parts == {}


@pytest.mark.parametrize("bounds", [(0, 4), (2, 2), (-1, 1)])
def test_a_part_beyond_the_keypoints_is_refused(bounds):
    with pytest.raises(ValueError, match="part 'hand' is .* no range of 3 keypoints"):
        Skeleton(names=("a", "b", "c"), swap=(0, 1, 2), oks_sigmas=(0.1, 0.1, 0.1), parts={"hand": bounds})


DATASET_INFO = {
    "dataset_name": "three",
    "keypoint_info": {
        0: {"name": "tail", "id": 0, "color": [0, 255, 0], "type": "lower", "swap": ""},
        1: {"name": "paw_a", "id": 1, "color": [0, 255, 0], "type": "upper", "swap": "paw_b"},
        2: {"name": "paw_b", "id": 2, "color": [0, 255, 0], "type": "upper", "swap": "paw_a"},
    },
    "skeleton_info": {0: {"link": ["tail", "paw_a"], "id": 0}, 1: {"link": ["paw_a", "paw_b"], "id": 1}},
    "joint_weights": [1.0, 1.0, 1.0],
    "sigmas": [0.1, 0.05, 0.05],
}
AS_PYTHON = """
# as mmpose writes it
dataset_info = dict(
    dataset_name='three',
    keypoint_info={
        0: dict(name='tail', id=0, color=[0, 255, 0], type='lower', swap=''),
        1: dict(name='paw_a', id=1, color=list((0, 255, 0)), type='upper', swap='paw_b'),
        2: dict(name='paw_b', id=2, color=[0, 255, 0], type='upper', swap='paw_a')
    },
    skeleton_info={
        0: dict(link=('tail', 'paw_a'), id=0),
        1: dict(link=('paw_a', 'paw_b'), id=1)
    },
    joint_weights=[1., 1., 1.],
    sigmas=[0.1, 0.05, 0.05])
"""


@pytest.mark.parametrize("suffix", ["json", "yaml", "py"])
def test_mmpose_dataset_info_is_metainfo_in_three_forms(tmp_path, suffix):
    path = tmp_path / f"three.{suffix}"
    texts = {"json": json.dumps({"dataset_info": DATASET_INFO}), "yaml": yaml.safe_dump(DATASET_INFO), "py": AS_PYTHON}
    path.write_text(texts[suffix])
    skeleton = from_category(category("tail", "paw_a", "paw_b"), read_metainfo(path))
    assert skeleton == Skeleton(
        names=("tail", "paw_a", "paw_b"),
        swap=(0, 2, 1),
        edges=((0, 1), (1, 2)),
        oks_sigmas=(0.1, 0.05, 0.05),
        upper=(1, 2),
    )


@pytest.mark.parametrize(
    "value",
    [
        "dict(sigmas=open('x').read())",
        "dict(sigmas=__import__('os').listdir())",
        "dict(sigmas=[s for s in range(3)])",
        "dict(**other)",
        "{**other}",
        "dict(sigmas=[0.1] * len(other))",
        "list(range(100000000))",
        "other",
    ],
)
def test_code_in_a_dataset_info_is_refused_and_not_run(tmp_path, value):
    path = tmp_path / "code.py"
    path.write_text(f"other = dict()\ndataset_info = {value}\n")
    with pytest.raises(UserError, match=r"code\.py, line 2: .* is not a literal"):
        read_metainfo(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\n", "has no line `dataset_info"),
        ("dataset_info = (", "is not valid Python"),
        ("dataset_info = dict(keypoint_info={0: dict(name='a', swap='b')})", "'b' is missing, or names a keypoint"),
        ("dataset_info = dict(keypoint_info=[1])", "is not mmpose's form"),
        (
            "dataset_info = dict(keypoint_info={0: dict(name='a', swap='b'), 1: dict(name='b', swap='')})",
            "names another partner",
        ),
        ("dataset_info = [1]", "holds no mapping"),
    ],
)
def test_a_broken_dataset_info_is_answered_with_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "info.py"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_metainfo(path)


def test_a_side_glued_to_its_part_hides_neither_spread_nor_place():
    skeleton = from_category(category("leye", "reye", "lankle", "rankle", "lwrist", "rwrist"))
    assert skeleton.oks_sigmas == (0.025, 0.025, 0.089, 0.089, 0.062, 0.062)
    assert skeleton.upper == (0, 1, 4, 5)
