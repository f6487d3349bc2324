import numpy as np
import pytest
import yaml

from posestill.data.yolo import YoloConfig, label_path
from posestill.draw import write_image
from posestill.schema import UserError


def small(tmp_path, lines="0 0.5 0.5 0.4 0.5 0.25 0.5 2 0.75 0.5 1\n", **changes):
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    image = np.zeros((20, 40, 3), dtype=np.uint8)
    image[..., 0] = 200
    write_image(tmp_path / "images/train/a.png", image)
    (tmp_path / "labels/train/a.txt").write_text(lines)
    content = {"path": str(tmp_path), "train": "images/train", "kpt_shape": [2, 3], "flip_idx": [1, 0], **changes}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    return YoloConfig(data=tmp_path / "data.yaml")


def test_a_line_becomes_a_person_in_pixels(tmp_path):
    source = small(tmp_path).build()
    (person,) = source.people
    assert person.bbox.tolist() == [12, 5, 16, 10]
    assert person.keypoints.tolist() == [[10, 10, 2], [30, 10, 1]]
    assert person.area == pytest.approx(0.53 * 160)
    assert source.skeleton.names == ("keypoint_0", "keypoint_1")
    assert source.skeleton.swap == (1, 0)
    assert source.skeleton.oks_sigmas == (0.079, 0.079)
    assert source.image(person.image_id)[0, 0].tolist() == [200, 0, 0]


def test_two_values_a_keypoint_mean_visible_unless_both_are_zero(tmp_path):
    source = small(tmp_path, "0 0.5 0.5 0.4 0.5 0.25 0.5 0 0\n", kpt_shape=[2, 2]).build()
    assert source.people[0].keypoints.tolist() == [[10, 10, 2], [0, 0, 0]]


@pytest.mark.parametrize(
    "names", [["left_hip", "right_hip"], {0: ["left_hip", "right_hip"]}, {0: "left_hip", 1: "right_hip"}]
)
def test_names_come_in_three_forms_and_tell_partners_and_sigmas(tmp_path, names):
    skeleton = small(tmp_path, kpt_names=names, flip_idx=None).build().skeleton
    assert skeleton.names == ("left_hip", "right_hip")
    assert skeleton.swap == (1, 0)
    assert skeleton.oks_sigmas == (0.107, 0.107)
    assert small(tmp_path, kpt_oks_sigmas=[0.1, 0.2]).build().skeleton.oks_sigmas == (0.1, 0.2)


def test_images_may_be_listed_in_a_file_and_an_image_without_labels_is_background(tmp_path):
    config = small(tmp_path, train="train.txt")
    (tmp_path / "train.txt").write_text("./images/train/a.png\n./images/train/b.png\n")
    write_image(tmp_path / "images/train/b.png", np.zeros((8, 8, 3), dtype=np.uint8))
    source = config.build()
    assert len(source.paths) == 2
    assert len(source.people) == 1


def test_the_roboflow_way_to_name_folders_is_understood(tmp_path):
    for folder in ("train/images", "train/labels"):
        (tmp_path / folder).mkdir(parents=True)
    config = small(tmp_path, train="../train/images", path=None)
    (tmp_path / "images/train/a.png").rename(tmp_path / "train/images/a.png")
    (tmp_path / "labels/train/a.txt").rename(tmp_path / "train/labels/a.txt")
    assert len(config.build().people) == 1


def test_the_last_folder_called_images_becomes_labels(tmp_path):
    assert label_path(tmp_path / "images/x/images/a.jpg") == tmp_path / "images/x/labels/a.txt"
    assert label_path(tmp_path / "x/a.jpg") == tmp_path / "x/a.txt"


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        ("0 0.5 0.5 0.4\n", {}, r"a\.txt, line 1: 4 values; kpt_shape \[2, 3\] makes 11"),
        ("\n0 a 0.5 0.4 0.5 0.2 0.5 2 0.7 0.5 1\n", {}, "line 2: holds something that is no number"),
        ("0 nan 0.5 0.4 0.5 0.2 0.5 2 0.7 0.5 1\n", {}, "line 1: holds NaN"),
        ("3 0.5 0.5 0.4 0.5 0.2 0.5 2 0.7 0.5 1\n", {}, "class 3 is not among the 1 names"),
        ("0 0.5 0.5 0.4 0.5 20 0.5 2 0.7 0.5 1\n", {}, r"such as 20 lie outside 0\.\.1"),
        ("", {"flip_idx": [0]}, "flip_idx has 1 entries; kpt_shape says 2"),
        ("", {"flip_idx": [0, 7]}, r"outside 0\.\.1"),
        ("", {"flip_idx": [1, 1]}, "partners must agree"),
        ("", {"kpt_shape": None}, r"no kpt_shape \[keypoints, 2 or 3\]"),
        ("", {"kpt_shape": [2, 4]}, "is not"),
        ("", {"kpt_names": ["a"]}, "kpt_names has 1 different names"),
        ("", {"kpt_oks_sigmas": [1]}, "kpt_oks_sigmas are not 2 positive numbers"),
        ("", {"train": "nowhere"}, "nowhere does not exist"),
        ("", {"train": None, "val": "images"}, r"no split 'train' \(it has: val\)"),
    ],
)
def test_what_is_broken_is_named_with_its_file_and_line(tmp_path, lines, changes, message):
    with pytest.raises(UserError, match=message):
        small(tmp_path, lines, **changes).build()


def test_a_missing_data_yaml_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no data\.yaml .*x\.yaml"):
        YoloConfig(data=tmp_path / "x.yaml").build()
