import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posestill import geometry as g


def test_a_crop_covers_the_padded_bbox_at_the_aspect_of_the_input():
    crop = g.crop_of_bbox(np.array([10.0, 20.0, 30.0, 80.0]), (256, 192))
    assert crop.centre.tolist() == [25.0, 60.0]
    # 80 high asks for 60 wide at 3:4, which is wider than 30; both grow by 1.25
    np.testing.assert_allclose(crop.extent, [75.0, 100.0])


def test_the_bbox_centre_lands_in_the_middle_of_the_input():
    crop = g.crop_of_bbox(np.array([10.0, 20.0, 30.0, 80.0]), (256, 192))
    affine = g.affine_to_input(crop, (256, 192))
    np.testing.assert_allclose(g.transform_points(np.array([[25.0, 60.0]]), affine), [[96.0, 128.0]])
    np.testing.assert_allclose(g.transform_points(np.array([[26.0, 60.0]]), affine), [[96.0 + 192 / 75, 128.0]])


def test_a_quarter_turn_moves_right_to_up():
    crop = g.Crop(centre=np.array([50.0, 50.0]), extent=np.array([60.0, 80.0]), rotation=90.0)
    affine = g.affine_to_input(crop, (80, 60))
    np.testing.assert_allclose(g.transform_points(np.array([[60.0, 50.0]]), affine), [[30.0, 30.0]], atol=1e-9)


def test_a_mirrored_crop_is_the_crop_with_its_columns_reversed():
    image = np.random.default_rng(0).integers(0, 255, (60, 50, 3), dtype=np.uint8)
    bbox = np.array([8.0, 6.0, 30.0, 40.0])
    plain = g.crop_of_bbox(bbox, (48, 36))
    mirrored = g.Crop(plain.centre, plain.extent, 0.0, True)
    one = cv2.warpAffine(image, g.affine_to_input(plain, (48, 36)), (36, 48))
    other = cv2.warpAffine(image, g.affine_to_input(mirrored, (48, 36)), (36, 48))
    assert np.abs(one[:, ::-1].astype(int) - other.astype(int)).max() <= 8  # OpenCV rounds its fractions to 1/32 px
    assert np.linalg.det(g.affine_to_input(mirrored, (48, 36))[:, :2]) < 0


@settings(deadline=None, max_examples=50)
@given(
    st.floats(-200, 200), st.floats(-200, 200), st.floats(5, 300), st.floats(-180, 180), st.booleans(),
    st.sampled_from([(64, 48), (256, 192), (100, 100)]),
)  # fmt: skip
def test_an_affine_and_its_inverse_undo_each_other(x, y, width, rotation, mirrored, size):
    crop = g.Crop(np.array([x, y]), g.fit_aspect(np.array([width, width]), size), rotation, mirrored)
    affine = g.affine_to_input(crop, size)
    points = np.array([[0.0, 0.0], [10.0, -4.0], [300.0, 21.5]])
    back = g.transform_points(g.transform_points(points, affine), g.invert_affine(affine))
    np.testing.assert_allclose(back, points, atol=1e-7)
    batch = torch.from_numpy(affine)[None]
    torch.testing.assert_close(g.invert_batch(batch)[0], torch.from_numpy(g.invert_affine(affine)))
    moved = g.transform_batch(torch.from_numpy(points)[None], batch)[0]
    torch.testing.assert_close(moved, torch.from_numpy(g.transform_points(points, affine)))


def test_an_empty_bbox_still_gives_a_crop_that_can_be_inverted():
    affine = g.affine_to_input(g.crop_of_bbox(np.array([5.0, 5.0, 0.0, 0.0]), (64, 48)), (64, 48))
    assert np.isfinite(g.invert_affine(affine)).all()


@pytest.mark.parametrize("extent", [(10.0, 1.0), (1.0, 10.0)])
def test_fit_aspect_never_cuts(extent):
    fitted = g.fit_aspect(np.array(extent), (256, 192))
    assert (fitted >= np.array(extent)).all()
    assert fitted[0] / fitted[1] == pytest.approx(0.75)


def test_a_person_is_larger_than_its_joints_and_never_a_line():
    assert g.bbox_of_joints(np.array([[10.0, 10], [30, 110], [20, 50]])).tolist() == [5, 0, 30, 120]  # a quarter of 120
    assert g.bbox_of_joints(np.array([[10.0, 10], [60, 110]])).tolist() == [5, 0, 60, 120]
    assert g.bbox_of_joints(np.array([[10.0, 10], [10, 10]])).tolist() == pytest.approx([9.4, 9.4, 1.2, 1.2])
