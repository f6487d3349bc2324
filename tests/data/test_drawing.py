import numpy as np
import pytest

from posestill.data.synthetic.drawing import background, develop, draw_figure, obstacle
from posestill.data.synthetic.figure import NUM_DRAWS, pose_people
from posestill.data.synthetic.people import PROFILES

SIZE = (120, 160)


@pytest.fixture(scope="module")
def figures():
    """One person in the left half of an image of SIZE."""
    return pose_people(np.random.default_rng(3).random((1, NUM_DRAWS)), PROFILES["easy"], (120, 80))


def paint(figures, **settings):
    canvas = np.full((*SIZE, 3), 128, dtype=np.uint8)
    draw_figure(canvas, figures, 0, np.random.default_rng(1), **{"light": 0.0, **settings})
    return canvas


def test_a_background_has_the_asked_size_and_is_drawn_from_the_generator():
    one, again, other = (background(np.random.default_rng(seed), SIZE, 8) for seed in (0, 0, 1))
    assert one.shape == (120, 160, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_shifted_body_is_the_same_body_further_right(figures):
    plain, shifted = paint(figures), paint(figures, shift=40.0)
    assert (plain != 128).any()
    assert np.array_equal(shifted[:, 40:], plain[:, :-40])


def test_light_changes_colours_and_nothing_else(figures):
    left, right = (paint(figures, light=light) for light in (-1.0, 1.0))
    changed = (left != right).any(axis=-1)
    assert 0.02 < changed.mean() < 0.3
    body = (left != 128).any(axis=-1) & (right != 128).any(axis=-1)
    assert body[changed].mean() > 0.99


def test_an_obstacle_is_convex_and_stands_in_reach_of_its_person():
    bbox = np.array([100.0, 50.0, 40.0, 80.0])
    for seed in range(30):
        polygon = obstacle(np.random.default_rng(seed), bbox)
        # its centre lies within 5 to 95 % of the bbox, and it reaches 0.24 of the height at most: 19.2 px
        assert (polygon >= [102 - 19.3, 54 - 19.3]).all()
        assert (polygon <= [138 + 19.3, 126 + 19.3]).all()
        along = np.roll(polygon, -1, axis=0) - polygon
        turns = along[:, 0] * np.roll(along[:, 1], -1) - along[:, 1] * np.roll(along[:, 0], -1)
        assert (turns > 0).all() or (turns < 0).all()


def test_a_camera_changes_exposure_by_a_little_and_adds_the_asked_grain():
    grey = np.full((*SIZE, 3), 100, dtype=np.uint8)
    for seed in range(20):
        plain = develop(grey, np.random.default_rng(seed), 0.0)
        assert plain.min() == plain.max()
        assert 100 * 0.8 - 15 - 1 <= plain.min() <= 100 * 1.15 + 15
        grainy = develop(grey, np.random.default_rng(seed), 6.0)
        assert grainy.std() == pytest.approx(6, rel=0.05)
