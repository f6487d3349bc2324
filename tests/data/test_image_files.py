import cv2
import numpy as np
import pytest

from posestill.data.image_files import image_size, is_cut_off, with_orientation
from posestill.draw import encode_image, write_image
from posestill.schema import UserError

CORNER = np.zeros((20, 40, 3), dtype=np.uint8)
CORNER[:10, :10] = 255
"""(20, 40): white at the top left"""
TOP_LEFT_BECOMES = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("top", "left"), 6: ("top", "right"), 7: ("bottom", "right"), 8: ("bottom", "left"),
}  # fmt: skip
"""EXIF orientation -> where the stored picture's top left corner is shown"""


def test_a_size_is_read_from_the_header_as_opencv_decodes(sample_folder):
    sizes = set()
    for path in (sample_folder / "train").iterdir():
        sizes.add((path.suffix, image_size(path)))
        assert image_size(path) == cv2.imread(str(path)).shape[:2]
    assert sizes == {(".jpg", (240, 320)), (".jpg", (320, 240)), (".png", (240, 320))}


def test_the_size_of_other_kinds_of_files_is_that_of_the_decoded_picture(tmp_path):
    write_image(tmp_path / "a.bmp", CORNER)
    assert image_size(tmp_path / "a.bmp") == (20, 40)


@pytest.mark.parametrize("orientation", TOP_LEFT_BECOMES)
def test_a_photograph_is_shown_as_its_exif_block_says(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_orientation(encode_image(CORNER), orientation))
    shown = cv2.imread(str(path))
    assert image_size(path) == shown.shape[:2] == ((40, 20) if orientation > 4 else (20, 40))
    row, column = np.unravel_index(cv2.blur(shown[..., 0], (7, 7)).argmax(), shown.shape[:2])
    where = ("top" if row < shown.shape[0] / 2 else "bottom", "left" if column < shown.shape[1] / 2 else "right")
    assert where == TOP_LEFT_BECOMES[orientation]


def test_a_jpeg_that_ends_within_its_picture_is_cut_off():
    whole = encode_image(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    assert not is_cut_off(whole)
    assert not is_cut_off(with_orientation(whole, 6))
    assert is_cut_off(whole[: len(whole) // 2])
    assert not is_cut_off(b"no JPEG at all")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"image .*gone\.jpg does not exist"):
        image_size(tmp_path / "gone.jpg")
