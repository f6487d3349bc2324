import numpy as np
import pytest
import torch

from posestill.codecs.base import MapForm
from posestill.geometry import Crop, Framing, affine_to_input, crop_of_bbox, invert_affine
from posestill.teachers.upright import UprightCrops, first_cell_of, grid_of_features, mirrored_crops
from posestill.types import PoseBatch

SIDE = 16
BOX = np.array([[40.0, 20.0, 12.8, 12.8]])
"""whose crop of 16x16 has 16 image px, one a px of the input"""


def crop_of(*, rotation=0.0, zoom=1.0, mirrored=False, size=(SIDE, SIDE)):
    """A batch of one crop of that person."""
    upright = crop_of_bbox(BOX, size)
    crop = Crop(upright.centre, upright.extent / zoom, np.array([rotation]), np.array([mirrored]))
    return PoseBatch(
        image=torch.zeros(1, 3, *size, dtype=torch.uint8), keypoints=torch.zeros(1, 4, 2), weight=torch.zeros(1, 4),
        to_image=torch.from_numpy(invert_affine(affine_to_input(crop, size)).astype(np.float32)),
        index=torch.zeros(1, dtype=torch.long),
    )  # fmt: skip


def replayed(stored, batch, *, first_cell=0.0, outside="zeros", teacher=(SIDE, SIDE), student=(SIDE, SIDE)):
    stored = torch.as_tensor(stored, dtype=torch.float32)
    form = grid_of_features(tuple(stored.shape[1:]), Framing(teacher), first_cell=first_cell)
    crops = UprightCrops(BOX, teacher=Framing(teacher), student=Framing(student))
    return crops.resampled(stored, batch, form, outside=outside)


FOUR = torch.arange(1.0, 17).view(1, 1, 4, 4)
"""cells of 4 px: at 0, 4, 8 and 12 of the input, so that its middle, 8, is the cell (2, 2), which holds 11"""


def test_the_upright_crop_itself_gets_what_was_stored():
    torch.testing.assert_close(replayed(FOUR, crop_of()), FOUR, atol=1e-4, rtol=0)


def test_a_quarter_turn_moves_cells_about_the_middle_one():
    """Turned clockwise as seen, the person's right is what the crop's bottom shows: a cell comes from beside it."""
    found = replayed(FOUR, crop_of(rotation=90.0))[0, 0]
    wanted = torch.zeros(4, 4)
    stored = FOUR[0, 0]
    for row in range(4):
        for column in range(4):
            right, down = column - 2, row - 2  # from the middle; what the crop has at its right is the image's below
            from_row, from_column = 2 + right, 2 - down
            if from_row in range(4) and from_column in range(4):
                wanted[row, column] = stored[from_row, from_column]
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
    assert found[2, 3].round() == 15  # right of the middle stands what was below it


def test_a_crop_of_half_the_extent_shows_twice_the_size():
    found = replayed(FOUR, crop_of(zoom=2.0))[0, 0]
    assert found[2, 2] == pytest.approx(11, abs=1e-3)
    assert found[2, 0] == pytest.approx(10, abs=1e-3)  # two cells from the middle, which is one there
    assert found[2, 3] == pytest.approx((11 + 12) / 2, abs=1e-3)
    assert found[1, 1] == pytest.approx((11 + 10 + 7 + 6) / 4, abs=1e-3)


def test_a_mirrored_crop_reverses_cells_that_lie_amid_their_px():
    found = replayed(FOUR, crop_of(mirrored=True), first_cell=1.5)
    torch.testing.assert_close(found, FOUR.flip(-1), atol=1e-3, rtol=0)


def test_a_mirrored_crop_reverses_cells_that_begin_at_the_first_px_and_moves_them():
    """The last px, 15, is three quarters of a cell beyond the last one, at 12: cell 1 (px 4 -> 11) is at 2.75 there."""
    found = replayed(FOUR, crop_of(mirrored=True), outside="border")[0, 0, 0]
    wanted = torch.tensor([4.0, 0.25 * 3 + 0.75 * 4, 0.25 * 2 + 0.75 * 3, 0.25 * 1 + 0.75 * 2])
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)


def test_beyond_the_upright_crop_there_is_nothing_or_its_border():
    wide = crop_of(zoom=0.5)  # shows twice as much: the crop's own first cell is four cells from the middle
    assert replayed(FOUR, wide)[0, 0, 0, 0] == 0
    assert replayed(FOUR, wide, outside="border")[0, 0, 0, 0] == 1


def test_a_square_teacher_of_a_narrow_student_is_followed_in_its_own_crop():
    """A student's crop of 32x24 px, and the teacher's of 32x32 around it: a quarter turn about the same middle."""
    stored = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    found = replayed(stored, crop_of(rotation=180.0, size=(32, 24)), teacher=(32, 32), student=(32, 24))
    # half a turn about the cell (4, 4)
    torch.testing.assert_close(found[..., 1:, 1:], stored[..., 1:, 1:].flip(-1, -2), atol=1e-3, rtol=0)


def test_half_precision_around_it_moves_nothing():
    batch = crop_of(rotation=30.0, zoom=1.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = replayed(FOUR, batch)
    assert torch.equal(half, replayed(FOUR, batch))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("first", [0.0, 1.5])
def test_a_gaussian_is_found_where_the_crop_shows_its_keypoint(mirrored, first):
    form = MapForm(input_size=(64, 64), size=(16, 16), px_per_cell=(4.0, 4.0), sigma=1.0, first_cell=first)
    place = torch.tensor([[[30.0, 37.0]]])  # px of the upright crop
    rows, columns = torch.arange(16.0)[:, None], torch.arange(16.0)
    x, y = form.to_map(place)[0, 0]
    stored = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)[None, None]
    batch = crop_of(rotation=25.0, zoom=1.3, mirrored=mirrored, size=(64, 64))
    crops = UprightCrops(BOX, teacher=Framing((64, 64)), student=Framing((64, 64)))
    found = crops.resampled(stored, batch, form, outside="zeros")[0, 0]
    mass = found / found.sum()
    seen = torch.stack([(mass * columns).sum(), (mass * rows).sum()])
    upright = torch.from_numpy(affine_to_input(crop_of_bbox(BOX, (64, 64)), (64, 64)))[0].float()
    image = torch.linalg.solve(upright[:, :2], place[0, 0] - upright[:, 2])
    linear, shift = batch.to_image[0, :, :2], batch.to_image[0, :, 2]
    wanted = form.to_map(torch.linalg.solve(linear, image - shift))
    assert (seen - wanted).norm() < 0.05


def test_where_a_networks_first_cell_lies_shows_in_mirrored_crops():
    """A strided convolution reads around each fourth px, a pooling what lies under each four."""
    crops = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    crops = torch.nn.functional.avg_pool2d(crops, 5, stride=1, padding=2)
    blur = torch.ones(3, 1, 3, 3) / 9

    def strided(image):
        return torch.nn.functional.conv2d(image, blur, stride=4, padding=1, groups=3)

    def pooled(image):
        return torch.nn.functional.avg_pool2d(image, 4)

    framing = Framing((32, 32))
    assert first_cell_of(strided(crops), strided(crops.flip(-1)), framing) == 0.0
    assert first_cell_of(pooled(crops), pooled(crops.flip(-1)), framing) == 1.5


def test_mirrored_crops_keep_everything_but_the_columns():
    batch = crop_of()
    batch.image[..., 0] = 7
    assert (mirrored_crops(batch).image[..., -1] == 7).all()
    assert mirrored_crops(batch).to_image is batch.to_image
