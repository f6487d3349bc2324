import numpy as np
import pytest
from PIL import Image

from posestill.data.image_files import read_header, read_image
from posestill.doctor.turned import turn_entry, turn_points, unturned_images

STORED = (60, 100)
"""(height, width) px"""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_label_stays_on_what_it_shows_when_a_photograph_is_turned(tmp_path, orientation):
    pixels = np.zeros((*STORED, 3), dtype=np.uint8)
    pixels[10:20, 70:90] = 255  # x 70 to 90, y 10 to 20
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    shown = read_image(tmp_path / "a.png")
    entry = {"bbox": [70, 10, 20, 10], "keypoints": [80, 15, 2, 0, 0, 0], "segmentation": [[70, 10, 90, 10, 90, 20]]}
    turned = turn_entry(entry, read_header(tmp_path / "a.png").orientation, STORED)
    x, y, width, height = turned["bbox"]
    assert (shown[y : y + height, x : x + width] == 255).all()
    assert width * height == 200 == (shown[..., 0] == 255).sum()
    assert shown[turned["keypoints"][1], turned["keypoints"][0], 0] == 255
    assert turned["keypoints"][3:] == [0, 0, 0]  # nobody labelled it
    outline = np.array(turned["segmentation"][0]).reshape(3, 2)
    assert (outline.min(axis=0).tolist(), outline.max(axis=0).tolist()) == ([x, y], [x + width, y + height])


def test_the_corners_of_a_picture_are_its_corners_when_it_is_turned_by_a_quarter():
    corners = np.array([[0, 0], [100, 0], [100, 60], [0, 60]], dtype=float)
    assert turn_points(corners, 6, STORED).tolist() == [[60, 0], [60, 100], [0, 100], [0, 0]]


def test_a_mask_in_run_lengths_is_left_out_and_what_is_no_box_stays():
    turned = turn_entry({"bbox": [1, None, 2, 3], "segmentation": {"counts": [1]}, "keypoints": [1, 2]}, 6, STORED)
    assert turned == {"bbox": [1, None, 2, 3], "keypoints": [1, 2]}


def image(number):
    return {"id": number, "file_name": f"{number}.jpg", "height": STORED[0], "width": STORED[1]}


def person(number, x, y):
    return {"image_id": number, "bbox": [x, y, 5, 5]}


@pytest.mark.parametrize(
    ("people", "unturned"),
    [
        ([], {1, 2}),  # width and height alone speak
        ([person(1, 90, 20)], {1, 2}),  # beyond 60 px, where the shown picture ends
        ([person(1, 20, 90)], set()),  # below 60 px, where the stored one ends: only the size is wrong
        ([person(1, 90, 20), person(2, 20, 90), person(1, 80, 3)], {1, 2}),  # one for either way: the size decides
        ([person(1, 20, 20)], {1, 2}),  # it fits both
        ([{"image_id": 1, "bbox": [10**400, 1, 1, "x"], "keypoints": [float("nan")] * 3}], {1, 2}),  # no number
    ],
)
def test_labels_tell_whether_they_were_made_on_stored_pixels(people, unturned):
    assert unturned_images([image(1), image(2), image(3)], people, {"1.jpg": 6, "2.jpg": 8, "3.jpg": 3}) == unturned


def test_every_list_of_a_whole_body_is_turned():
    entry = {
        "bbox": [70, 10, 20, 10], "keypoints": [80, 15, 2], "foot_kpts": [80, 15, 1], "lefthand_kpts": [0, 0, 0],
        "face_box": [70, 10, 20, 10], "lefthand_box": [0, 0, 0, 0], "face_valid": True,
    }  # fmt: skip
    turned = turn_entry(entry, 6, STORED)
    assert turned["foot_kpts"][:2] == turned["keypoints"][:2] != [80, 15]
    assert turned["face_box"] == turned["bbox"] != [70, 10, 20, 10]
    assert (turned["lefthand_kpts"], turned["lefthand_box"], turned["face_valid"]) == ([0, 0, 0], [0, 0, 0, 0], True)
