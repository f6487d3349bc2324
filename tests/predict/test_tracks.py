import numpy as np

from posestill.data.images import FoundBoxes
from posestill.predict.tracks import Tracks, joined, overlaps
from tests.conftest import DOTS


def person(x, y, side=30.0, score=0.9):
    """(4, 3) four keypoints at the corners of a square."""
    places = np.array([[x, y], [x + side, y], [x, y + side], [x + side, y + side]])
    return np.concatenate([places, np.full((4, 1), score)], axis=1)


def boxes_of(*poses):
    return np.array([[*pose[:, :2].min(axis=0), *np.ptp(pose[:, :2], axis=0)] for pose in poses])


def test_overlaps_are_intersections_over_unions():
    one, others = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 10, 10], [20, 20, 5, 5], [0, 0, 10, 5]])
    np.testing.assert_allclose(overlaps(one, others), [[50 / 150, 0, 0.5]])
    assert overlaps(np.zeros((0, 4)), others).shape == (0, 3)


def test_persons_keep_their_numbers_when_their_order_changes_and_newcomers_get_the_next_ones():
    tracks = Tracks(DOTS, threshold=0.2)
    left, right = person(0, 0), person(100, 0)
    assert tracks.update(np.stack([left, right]), boxes_of(left, right)).tolist() == [1, 2]
    left, right, new = person(4, 1), person(96, 0), person(200, 0)
    numbers = tracks.update(np.stack([right, new, left]), boxes_of(right, new, left))
    assert numbers.tolist() == [2, 3, 1]
    np.testing.assert_allclose(sorted(tracks.following().boxes[:, 0]), [1, 93, 197])  # 1.2 times the joints' extent


def test_a_person_who_comes_back_soon_is_the_same_and_later_another():
    tracks = Tracks(DOTS, threshold=0.2)
    here, none = person(0, 0), np.zeros((0, 4, 3))
    tracks.update(here[None], boxes_of(here))
    for gap, number in ((15, 1), (16, 2)):
        for _ in range(gap):
            tracks.update(none, np.zeros((0, 4)))
        assert tracks.following().boxes.shape == (0, 4)
        assert tracks.update(here[None], boxes_of(here)).tolist() == [number]
    assert tracks.numbers == {2}


def test_who_is_not_sure_is_numbered_but_not_followed():
    tracks = Tracks(DOTS, threshold=0.5)
    faint = person(0, 0, score=0.1)
    assert tracks.sure(faint[None]).tolist() == [False]
    faint[0, 2] = 0.9  # one of four is enough
    assert tracks.sure(faint[None]).tolist() == [True]
    unsure = person(0, 0, score=0.1)
    assert tracks.update(unsure[None], np.array([[3.0, 4, 5, 6]])).tolist() == [1]
    assert len(tracks.following().boxes) == 0


def test_a_pose_that_is_there_twice_counts_once():
    tracks = Tracks(DOTS, threshold=0.2)
    poses = np.stack([person(0, 0, score=0.8), person(0.5, 0), person(100, 0)])
    assert tracks.doubles(poses, boxes_of(*poses)).tolist() == [True, False, False]


def test_boxes_are_joined_where_they_do_not_overlap():
    found = FoundBoxes(np.array([[0.0, 0, 10, 10]]), np.array([0.7]))
    others = FoundBoxes(np.array([[1.0, 0, 10, 10], [50, 0, 10, 10]]), np.ones(2))
    both = joined(found, others)
    assert both.boxes.tolist() == [[0, 0, 10, 10], [50, 0, 10, 10]]
    assert both.score.tolist() == [0.7, 1]
    assert joined(FoundBoxes(np.zeros((0, 4)), np.zeros(0)), others).boxes.shape == (2, 4)
