import numpy as np
import pytest

from posestill.draw import LEFT, MIDDLE, RIGHT, draw_poses
from posestill.skeletons import Skeleton
from tests.conftest import DOTS


def test_left_is_warm_right_is_cool_and_the_original_is_untouched():
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    pose = np.array([[50, 10, 1], [80, 50, 1], [20, 50, 1], [50, 90, 0.1]])
    drawn = draw_poses(image, pose[None], DOTS, boxes=np.array([[5, 5, 90, 90]]))
    assert image.max() == 0
    assert tuple(drawn[50, 80]) == LEFT
    assert tuple(drawn[50, 20]) == RIGHT
    assert drawn[90, 50].max() == 0  # below the threshold
    assert drawn[5, 50].min() > 100  # the box
    assert draw_poses(image, np.full((1, 4, 3), np.nan), DOTS).max() == 0


def test_sides_are_told_by_names_of_every_usual_style_and_many_keypoints_get_thin_lines():
    names = ("LWrist", "r_wrist", "nose", "rankle", "wing left tip")
    skeleton = Skeleton(names=names, swap=(1, 0, 2, 3, 4), edges=(), oks_sigmas=(0.1,) * 5)
    pose = np.array([[10, 10, 1], [190, 10, 1], [100, 100, 1], [10, 190, 1], [190, 190, 1]], dtype=float)
    drawn = draw_poses(np.zeros((200, 200, 3), dtype=np.uint8), pose[None], skeleton)
    assert [tuple(drawn[int(y), int(x)].tolist()) for x, y, _ in pose] == [LEFT, RIGHT, MIDDLE, RIGHT, LEFT]
    grid = np.stack([*np.meshgrid(np.arange(12) * 80.0 + 40, np.arange(10) * 80.0 + 40), np.ones((10, 12))], axis=-1)
    many = Skeleton(
        names=tuple(f"point {index}" for index in range(120)), swap=tuple(range(120)), edges=(), oks_sigmas=(0.1,) * 120
    )
    dense = draw_poses(np.zeros((1000, 1000, 3), dtype=np.uint8), grid.reshape(1, 120, 3), many)
    assert 0.01 < (dense.max(axis=-1) > 0).mean() < 0.1


@pytest.mark.parametrize("size", [(10, 10), (500, 400)])
def test_pictures_of_any_size_can_be_drawn_on(size):
    assert draw_poses(np.zeros((*size, 3), dtype=np.uint8), np.zeros((0, 4, 3)), DOTS).shape == (*size, 3)
