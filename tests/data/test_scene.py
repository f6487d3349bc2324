import numpy as np
import pytest

from posestill.data.synthetic.figure import NUM_DRAWS, pose_people
from posestill.data.synthetic.people import PROFILES
from posestill.data.synthetic.scene import Scene, _Body, compose_scene
from posestill.skeletons import COCO_17

EASY = PROFILES["easy"]
SIZE = (240, 320)
SHOULDERS, HIPS = (
    [COCO_17.names.index(f"{side}_{name}") for side in ("left", "right")] for name in ("shoulder", "hip")
)


def compose(seed: int, people: int, **changes) -> Scene:
    return compose_scene(np.random.default_rng(seed), EASY, SIZE, people=people, **changes)


@pytest.fixture(scope="module")
def full_scenes() -> list[Scene]:
    return [compose(seed, 4) for seed in range(24)]


def test_a_scene_is_a_function_of_its_draws():
    one, again, other = compose(1, 3), compose(1, 3), compose(2, 3)
    assert one.image.shape == (240, 320, 3)
    assert one.image.dtype == np.uint8
    assert np.array_equal(one.image, again.image)
    assert [person.bbox.tolist() for person in one.people] == [person.bbox.tolist() for person in again.people]
    assert not np.array_equal(one.image, other.image)


def test_one_person_alone_is_always_shown_with_keypoints():
    for seed in range(20):
        (person,) = compose(seed, 1, image_id=7).people
        assert (person.id, person.image_id, person.crowd) == (0, 7, False)
        assert person.keypoints is not None


def test_several_stand_in_one_picture_and_some_have_no_keypoints(full_scenes):
    counts = [len(scene.people) for scene in full_scenes]
    assert max(counts) == 4
    assert np.mean(counts) > 3.3  # nobody stands where others would hide them
    people = [person for scene in full_scenes for person in scene.people]
    assert 0.05 < np.mean([person.keypoints is None for person in people]) < 0.3
    assert all([person.id for person in scene.people] == list(range(len(scene.people))) for scene in full_scenes)


def test_boxes_keypoints_and_areas_stay_inside_the_picture(full_scenes):
    for person in (each for scene in full_scenes for each in scene.people):
        x, y, width, height = person.bbox
        assert x >= 0
        assert y >= 0
        assert x + width <= 320 + 1e-9
        assert y + height <= 240 + 1e-9
        assert 0 < person.area < width * height
        if person.keypoints is not None:
            labelled = person.keypoints[person.keypoints[:, 2] > 0, :2]
            assert len(labelled) > 8
            assert (labelled >= [x - 3, y - 3]).all()
            assert (labelled <= [x + width + 3, y + height + 3]).all()


def test_the_nearer_a_person_the_larger_it_is(full_scenes):
    def torso(person):
        places = person.keypoints[:, :2]
        return np.linalg.norm(places[SHOULDERS].mean(axis=0) - places[HIPS].mean(axis=0))

    ends = [(scene.people[0], scene.people[-1]) for scene in full_scenes if len(scene.people) == 4]
    ends = [(far, near) for far, near in ends if far.keypoints is not None and near.keypoints is not None]
    assert len(ends) > 5
    assert np.mean([torso(far) < torso(near) for far, near in ends]) > 0.8
    assert np.mean([far.area < near.area for far, near in ends]) > 0.8


def test_what_stands_in_front_hides_keypoints_and_what_is_outside_has_no_label():
    figures = pose_people(np.random.default_rng(4).random((1, NUM_DRAWS)), EASY, SIZE)
    body = _Body(figures.moved(np.array([1.0]), np.array([[-140.0, 0.0]])), 0, clothes=1)
    x = body.figures.keypoints[0, :, 0]
    assert x.min() < 0 < x.max()
    front = np.zeros(SIZE, dtype=bool)
    free = body.labels(front)
    assert (free[x < 0] == 0).all()
    assert set(free[x >= 0, 2]) <= {1, 2}
    assert (free[x >= 0, :2] == body.figures.keypoints[0, x >= 0]).all()
    seen = np.flatnonzero(free[:, 2] == 2)
    covered = seen[: len(seen) // 2]
    for column, row in free[covered, :2].round().astype(int):
        front[row, column] = True
    expected = free.copy()
    expected[covered, 2] = 1
    assert np.array_equal(body.labels(front), expected)


def test_a_body_covers_what_painting_it_changes():
    figures = pose_people(np.random.default_rng(4).random((1, NUM_DRAWS)), EASY, SIZE)
    body = _Body(figures, 0, clothes=1)
    canvas = np.full((*SIZE, 3), (1, 254, 3), dtype=np.uint8)
    body.paint(canvas, 0.0)
    changed = (canvas != (1, 254, 3)).any(axis=-1)
    assert np.mean(changed != body.cover(SIZE)) < 0.001  # the faintest pixels of its outline
    x, y, width, height = body.bbox
    rows, columns = np.nonzero(body.cover(SIZE))
    assert columns.min() > x - 4
    assert columns.max() < x + width + 4
    assert rows.min() > y - 4
    assert rows.max() < y + height + 4


def test_a_crowd_is_one_region_without_keypoints_behind_all_others():
    crowded = compose(5, 3, with_crowd=True)
    crowd = crowded.people[0]
    assert crowd.crowd
    assert crowd.keypoints is None
    assert not any(person.crowd for person in crowded.people[1:])
    # seven small people side by side
    assert 90 < crowd.bbox[2] < 170
    assert 30 < crowd.bbox[3] < 75
    assert 0 < crowd.area < crowd.bbox[2] * crowd.bbox[3]
    # those in front are the same as without the crowd
    plain = compose(5, 3)
    assert [person.bbox.tolist() for person in crowded.people[1:]] == [person.bbox.tolist() for person in plain.people]


def test_moved_figures_keep_their_shape():
    figures = pose_people(np.random.default_rng(0).random((2, NUM_DRAWS)), EASY, (240, 180))
    moved = figures.moved(np.array([0.5, 2.0]), np.array([[10.0, 20.0], [-3.0, 4.0]]))
    np.testing.assert_allclose(moved.keypoints[0], 0.5 * figures.keypoints[0] + [10, 20])
    np.testing.assert_allclose(moved.ends[1], 2 * figures.ends[1] + [-3, 4])
    np.testing.assert_allclose(moved.hull[1], 2 * figures.hull[1] + [-3, 4])
    np.testing.assert_allclose(moved.radii, figures.radii * np.array([0.5, 2.0])[:, None, None])
    x, y, width, height = figures.bbox[1]
    np.testing.assert_allclose(moved.bbox[1], [2 * x - 3, 2 * y + 4, 2 * width, 2 * height])
    assert moved.depth is figures.depth
