import numpy as np

from posestill.data.images import FoundBoxes
from posestill.predict.people import Following, People, whole_frame
from posestill.predict.smooth import OneEuroConfig
from tests.conftest import DOTS


class World:
    """People at the corners of boxes; who is gone is found with no confidence, and the detector sees some of them."""

    def __init__(self, *seen):
        self.seen = [np.array(each, dtype=float) for each in seen]
        self.gone = set()
        self.found = 0

    def find(self):
        self.found += 1
        return FoundBoxes(np.array(self.seen).reshape(-1, 4), np.full(len(self.seen), 0.6))

    def ask(self, boxes):
        poses = []
        for x, y, wide, high in boxes:
            corners = np.array([[1, 1], [11, 1], [1, 11], [11, 11]]) / 12  # 1.2 times their extent is the box again
            score = 0.0 if any(abs(x - each) < 1 for each in self.gone) else 0.9
            poses.append(np.column_stack([corners * [wide, high] + [x, y], np.full(4, score)]))
        return np.array(poses).reshape(-1, 4, 3)

    def step(self, people, frame, has_detector=True):
        found, poses = people.follow(frame, ask=self.ask, find=self.find, has_detector=has_detector)
        poses, numbers = people.known_again(poses, found.boxes, frame / 10)
        return dict(zip(numbers.tolist(), found.boxes[:, 0].round(3).tolist(), strict=True))


def test_the_finder_is_asked_again_where_one_is_lost_and_the_others_stay_though_it_overlooks_them():
    world = World([0, 0, 30, 60], [100, 0, 30, 60])
    people = People(Following(track=True), DOTS, threshold=0.2)
    assert world.step(people, 0) == {1: 0, 2: 100}
    assert (world.step(people, 1), world.found) == ({1: 0, 2: 100}, 1)
    world.gone, world.seen = {100}, [np.array([200.0, 0, 30, 60])]
    assert (world.step(people, 2), world.found) == ({1: 0, 3: 200}, 2)
    assert (world.step(people, 3), world.found) == ({1: 0, 3: 200}, 2)


def test_a_detector_is_asked_now_and_then_and_the_whole_frame_only_where_nobody_is_left():
    world = World([0, 0, 30, 60])
    people = People(Following(track=True, find_every=3), DOTS, threshold=0.2)
    for frame in range(7):
        world.step(people, frame)
    assert world.found == 3  # in frames 0, 3 and 6
    people, world.found = People(Following(track=True, find_every=3), DOTS, threshold=0.2), 0
    for frame in range(7):
        world.step(people, frame, has_detector=False)
    assert world.found == 1
    world.gone = {0}
    world.step(people, 7, has_detector=False)
    assert world.found == 2


def test_nobody_is_smoothed_into_somebody_else():
    people = People(Following(smooth=OneEuroConfig(min_cutoff=0.1, beta=0)), DOTS, threshold=0.2)
    world = World()
    near, far = np.array([[0.0, 0, 30, 60]]), np.array([[300.0, 0, 30, 60]])
    people.known_again(world.ask(near), near, 0.0)
    poses, numbers = people.known_again(world.ask(far), far, 0.1)
    assert numbers.tolist() == [2]
    np.testing.assert_array_equal(poses, world.ask(far))
    moved = near + [[6, 0, 0, 0]]
    poses, numbers = people.known_again(world.ask(moved), moved, 0.2)
    assert numbers.tolist() == [1]
    assert world.ask(near)[0, 0, 0] < poses[0, 0, 0] < world.ask(moved)[0, 0, 0] - 3


def test_a_whole_frame_is_one_person():
    found = whole_frame(np.zeros((40, 30, 3), dtype=np.uint8))
    assert (found.boxes.tolist(), found.score.tolist()) == ([[0, 0, 30, 40]], [1])


def test_who_has_gone_is_not_told_of_though_the_detector_is_asked_anyway():
    world = World([0, 0, 30, 60], [100, 0, 30, 60])
    people = People(Following(track=True, find_every=3), DOTS, threshold=0.2)
    for frame in range(3):
        world.step(people, frame)
    world.gone, world.seen = {100}, [np.array([0.0, 0, 30, 60])]
    assert (world.step(people, 3), world.found) == ({1: 0}, 2)
