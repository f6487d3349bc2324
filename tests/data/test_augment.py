import numpy as np
import pytest

from posestill.data.augment import (
    COUNT,
    GREY,
    NO_AUGMENT,
    AugmentConfig,
    change_colour,
    draw_colours,
    draw_crops,
    truncated_normal,
    uniform_draws,
)
from posestill.geometry import Crop, crop_of_bbox
from tests.conftest import DOTS

SIZE = (64, 48)
BBOX = np.array([0.0, 0.0, 48.0, 64.0])


def crops(count: int, augment: AugmentConfig, *, skeleton=DOTS, keypoints=None, bbox=BBOX) -> Crop:
    draws = uniform_draws(0, np.zeros(count, dtype=int), np.arange(count))
    if keypoints is None:
        keypoints = np.zeros((len(skeleton), 3))
    upright = crop_of_bbox(np.broadcast_to(bbox, (count, 4)), SIZE)
    labels = np.broadcast_to(keypoints, (count, *keypoints.shape))
    return draw_crops(upright, labels, draws, size=SIZE, augment=augment, skeleton=skeleton)


def test_uniform_draws_are_uniform_and_follow_from_seed_epoch_and_index_alone():
    draws = uniform_draws(3, np.repeat(np.arange(20), 500), np.tile(np.arange(500), 20))
    assert draws.shape == (10000, COUNT)
    assert draws.min() >= 0
    assert draws.max() < 1
    shares = np.stack([np.histogram(column, bins=10, range=(0, 1))[0] for column in draws.T]) / 10000
    assert np.abs(shares - 0.1).max() < 0.015  # five standard errors
    assert np.abs(np.corrcoef(draws.T) - np.eye(COUNT)).max() < 0.05
    assert np.array_equal(uniform_draws(3, np.array([7]), np.array([12]))[0], draws[7 * 500 + 12])
    for other in ((4, 7, 12), (3, 8, 12), (3, 7, 13), (3, 12, 7)):
        assert not np.isclose(uniform_draws(other[0], np.array([other[1]]), np.array([other[2]])), draws[3512]).any()


def test_clipped_draws_end_where_the_release_of_distilpose_ends_them():
    """Scale clip(1 + 0.35 n, 0.65, 1.35), rotation clip(45 n, -90, 90) in 60 of 100, shift uniform in 30 of 100."""
    count = 20000
    draws = uniform_draws(0, np.zeros(count, dtype=int), np.arange(count))
    crop = Crop(centre=np.zeros((count, 2)), extent=np.ones((count, 2)))
    augment = AugmentConfig(draws="clipped", half_body=0, scale=0.35, rotation=45, shift=0.16)
    found = draw_crops(crop, np.zeros((count, 4, 3)), draws, size=(256, 192), augment=augment, skeleton=DOTS)
    scale = found.extent[:, 0]
    assert (scale.min(), scale.max()) == (pytest.approx(0.65), pytest.approx(1.35))
    assert np.mean(scale == scale.max()) == pytest.approx(0.1587, abs=0.01)  # the normal distribution beyond 1
    assert np.abs(found.rotation).max() == pytest.approx(90)
    assert np.mean(np.abs(found.rotation) == 90) == pytest.approx(0.6 * 0.0455, abs=0.005)  # beyond 2
    moved = found.centre[np.abs(found.centre).sum(axis=1) > 0]
    assert len(moved) / count == pytest.approx(0.3, abs=0.01)
    assert moved.std() == pytest.approx(0.16 / 3**0.5, rel=0.02)
    assert np.abs(moved).max() <= 0.16


def test_truncated_normal_draws_have_the_moments_of_a_normal_kept_to_one():
    values = truncated_normal((np.arange(100000) + 0.5) / 100000)
    assert np.abs(values).max() <= 1
    assert values.mean() == pytest.approx(0, abs=1e-6)
    assert values.std() == pytest.approx(0.5396, abs=1e-3)  # sqrt(1 - 2 phi(1) / (2 Phi(1) - 1))


def test_draws_stay_within_the_published_ranges():
    plain, drawn = crop_of_bbox(BBOX, SIZE), crops(2000, AugmentConfig(half_body=0))
    scales = drawn.extent[:, 0] / plain.extent[0]
    assert 0.5 <= scales.min() < 0.55
    assert 1.45 < scales.max() <= 1.5
    assert 75 < np.abs(drawn.rotation).max() <= 80
    assert 0.36 < (drawn.rotation == 0).mean() < 0.44  # rotated with probability 0.6
    shifts = (drawn.centre - plain.centre) / plain.extent
    assert 0.14 < np.abs(shifts).max() <= 0.16
    assert 0.66 < (shifts[:, 0] == 0).mean() < 0.74
    assert 0.45 < drawn.mirrored.mean() < 0.55


def test_half_body_shows_one_half_and_needs_enough_labels():
    places = np.array([[10.0, 10, 2], [14, 12, 2], [6, 12, 2], [10, 60, 2], [12, 64, 2], [8, 66, 2]])
    skeleton = DOTS.model_copy(
        update={"names": tuple("abcdef"), "swap": (0, 2, 1, 3, 4, 5), "oks_sigmas": (0.1,) * 6, "upper": (0, 1, 2)}
    )
    bbox = np.array([0.0, 0.0, 20.0, 70.0])
    augment = NO_AUGMENT.model_copy(update={"half_body": 1.0, "half_body_above": 5})
    drawn = crops(400, augment, skeleton=skeleton, keypoints=places, bbox=bbox)
    assert set(np.round(drawn.centre[:, 1], 2)) == {round(34 / 3, 2), round(190 / 3, 2)}
    assert 0.63 < (drawn.centre[:, 1] < 30).mean() < 0.77  # the upper half with probability 0.7
    # the upper half spans 8 x 2 px: at 3:4 that asks for 8 x 10.67, times 1.5
    np.testing.assert_allclose(drawn.extent[drawn.centre[:, 1] < 30][0], [12, 16])
    few = augment.model_copy(update={"half_body_above": 6})
    upright = crop_of_bbox(bbox, SIZE)
    np.testing.assert_array_equal(
        crops(5, few, skeleton=skeleton, keypoints=places, bbox=bbox).centre, np.tile(upright.centre, (5, 1))
    )


def test_colour_changes_are_brightness_then_saturation_then_contrast_worked_by_hand():
    image = np.array([[[100, 100, 100], [40, 80, 20]]], dtype=np.uint8)
    draws = np.full((1, COUNT), 0.5)
    draws[0, -3:] = [0.75, 0.25, 1.0]  # at strength 0.4: brightness 1.2, contrast 0.8, saturation 1.4
    colours = draw_colours(draws, 0.4)
    bright = image * 1.2
    grey = bright @ GREY  # 120 and 0.299 * 48 + 0.587 * 96 + 0.114 * 24 = 73.44
    np.testing.assert_allclose(grey, [[120, 73.44]])
    vivid = grey[..., None] + 1.4 * (bright - grey[..., None])
    wanted = grey.mean() + 0.8 * (vivid - grey.mean())
    changed = change_colour(image, colours.matrix[0], colours.pull[0])
    np.testing.assert_array_equal(changed, np.clip(np.round(wanted), 0, 255))
    assert changed.dtype == np.uint8


def test_colours_do_nothing_at_zero_and_stay_in_the_range():
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    none = draw_colours(uniform_draws(1, np.array([0]), np.array([0])), 0.0)
    assert np.array_equal(change_colour(image, none.matrix[0], none.pull[0]), image)
    many = draw_colours(uniform_draws(1, np.zeros(2000, dtype=int), np.arange(2000)), 0.3)
    # on a grey image only brightness and contrast show; the matrix's rows then sum to their product
    product = many.matrix.sum(axis=2)
    assert 0.7**2 <= product.min() < 0.55
    assert 1.55 < product.max() <= 1.3**2
