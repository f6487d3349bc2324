import numpy as np
import pytest

from posestill.data.synthetic.drawing import draw_figure
from posestill.data.synthetic.figure import ALL_POSES
from posestill.data.synthetic.people import PROFILES, SyntheticConfig, clip_bbox, label_keypoints
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17, COCO_WHOLEBODY

LEFT, RIGHT = COCO_17.names.index("left_shoulder"), COCO_17.names.index("right_shoulder")

UNCHANGED = {
    "easy": (
        [96.71, 92.09, 75.37, 181.07, 102.9, 101.73, 76.82, 157.12],
        [30.465, 39.88, 38.076, 37.964, 37.97, 42.466, 30.377, 38.438],
    ),
    "medium": (
        [87.12, 102.52, 79.7, 197.8, 100.33, 96.57, 75.24, 162.68],
        [34.106, 38.234, 36.721, 35.361, 39.672, 39.374, 32.57, 38.251],
    ),
    "hard": (
        [70.43, 103.86, 95.57, 164.82, 87.64, 122.12, 68.75, 121.61],
        [32.966, 42.201, 38.258, 37.198, 39.033, 41.057, 36.094, 40.153],
    ),
}
"""Means of the images and the labels of every fifth person; not their bytes, as sines differ between processors"""


def build(**changes):
    return SyntheticConfig(**{"people": 200, "seed": 3, **changes}).build()


def test_an_image_and_its_labels_are_a_pure_function_of_seed_and_index():
    one, other = build(), build(people=50)
    for index in (49, 0, 17):  # whatever the order, and however many people there are
        assert np.array_equal(one.image(index), other.image(index))
        assert np.array_equal(one.people[index].keypoints, other.people[index].keypoints)
    assert not np.array_equal(one.image(0), build(seed=4).image(0))


def test_a_bbox_is_clipped_at_the_images_border_by_hand():
    assert clip_bbox(np.array([-10.0, 5.0, 30.0, 20.0]), (100, 50)).tolist() == [0, 5, 20, 20]
    assert clip_bbox(np.array([40.0, 90.0, 30.0, 20.0]), (100, 50)).tolist() == [40, 90, 10, 10]


def test_labels_are_hidden_visible_or_outside_by_hand():
    places = np.array([[3.0, 4.0], [49.0, 99.0], [49.5, 4.0], [-0.1, 4.0], [3.0, 99.5]])
    labels = label_keypoints(places, np.array([True, False, False, False, True]), (100, 50))
    assert labels.tolist() == [[3, 4, 1], [49, 99, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_cached_and_fresh_images_are_equal():
    fresh, cached = build(cached=False), build()
    assert np.array_equal(fresh.image(5), cached.image(5))
    assert cached.image(5) is cached.image(5)
    assert fresh.image(5) is not fresh.image(5)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_labelled_keypoints_lie_inside_the_image_and_the_bbox(profile):
    for person in build(profile=profile).people:
        labelled = person.keypoints[person.keypoints[:, 2] > 0, :2]
        x, y, width, height = person.bbox
        assert x >= 0
        assert y >= 0
        assert x + width <= 96
        assert y + height <= 128
        assert (labelled >= [x - 3, y - 3]).all()
        assert (labelled <= [x + width + 3, y + height + 3]).all()
        assert 0 < person.area < width * height
        assert len(labelled) > 8


def test_harder_people_are_more_hidden_and_turn_further():
    hidden = {
        name: np.mean([person.keypoints[:, 2] == 1 for person in build(profile=name).people]) for name in PROFILES
    }
    assert 0.01 < hidden["easy"] < hidden["medium"] < hidden["hard"] < 0.5
    facing = {name: build(profile=name).figures.facing for name in PROFILES}
    assert (facing["easy"] > 0).mean() > 0.95
    assert 0.3 < (facing["hard"] > 0).mean() < 0.7


def test_the_left_of_one_who_faces_the_camera_is_at_the_images_right():
    source = build()
    shoulders = np.array([person.keypoints[LEFT, 0] - person.keypoints[RIGHT, 0] for person in source.people])
    assert (shoulders[source.figures.facing > 0.8] > 0).all()
    turned = build(profile="hard")
    away = np.array([person.keypoints[LEFT, 0] - person.keypoints[RIGHT, 0] for person in turned.people])
    assert np.mean(away[turned.figures.facing < -0.8] < 0) > 0.9


def test_visible_keypoints_are_on_the_drawn_body():
    source = build(people=60)
    differs = []
    for person in source.people:
        index = person.id
        empty = source._render(index, with_person=False).astype(int)
        change = np.abs(source._render(index).astype(int) - empty).max(axis=-1)
        for x, y, _ in person.keypoints[person.keypoints[:, 2] == 2]:
            differs.append(change[round(y), round(x)] > 6)
    assert np.mean(differs) > 0.93  # a shirt may have the wall's colour


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_area_is_about_what_is_drawn(profile):
    source = build(people=100, profile=profile)
    shares = []
    for person in source.people:
        canvas = np.zeros((*source.config.size, 3), dtype=np.uint8)
        draw_figure(canvas, source.figures, person.id, np.random.default_rng(0), light=0.0)
        shares.append(person.area / (canvas.max(axis=-1) > 0).sum())
    assert np.median(shares) == pytest.approx(1, abs=0.2)
    assert np.quantile(shares, 0.1) > 0.7


def test_label_noise_has_the_asked_spread_and_changes_no_pixel():
    clean, noisy = build(people=400), build(people=400, label_noise=0.04)
    errors = []
    for one, other in zip(clean.people, noisy.people, strict=True):
        both = (one.keypoints[:, 2] > 0) & (other.keypoints[:, 2] > 0)
        scale = np.sqrt(one.bbox[2] * one.bbox[3])
        errors.append((other.keypoints[both, :2] - one.keypoints[both, :2]) / scale)
    assert np.concatenate(errors).std() == pytest.approx(0.04, rel=0.05)
    assert np.array_equal(clean.image(7), noisy.image(7))


def test_every_pose_class_is_used_by_some_profile():
    used = {pose for profile in PROFILES.values() for pose in profile.poses}
    assert used == set(ALL_POSES)


def test_a_misspelt_profile_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="profile: .*'easy', 'medium' or 'hard'"):
        validate(SyntheticConfig, {"profile": "esay"}, where="x")


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_people_of_17_keypoints_are_those_that_the_bundled_teacher_was_trained_on(profile):
    source = build(people=40, profile=profile)
    images, labels = UNCHANGED[profile]
    assert [source.image(each).mean() for each in range(0, 40, 5)] == pytest.approx(images, abs=0.05)
    found = [np.concatenate([each.keypoints.ravel(), each.bbox]).mean() for each in source.people[::5]]
    assert found == pytest.approx(labels, abs=2e-3)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_133_keypoints_begin_with_the_same_17(profile):
    body, whole = build(profile=profile, label_noise=0.01), build(profile=profile, label_noise=0.01, keypoints=133)
    assert (body.skeleton, whole.skeleton) == (COCO_17, COCO_WHOLEBODY)
    for one, other in zip(body.people, whole.people, strict=True):
        assert other.keypoints.shape == (133, 3)
        assert np.array_equal(one.keypoints, other.keypoints[:17])
        assert (other.bbox[2:] >= one.bbox[2:]).all()  # it holds the fingers too
        assert other.area >= one.area


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_133_labelled_keypoints_lie_inside_the_image_and_the_bbox(profile):
    for person in build(profile=profile, keypoints=133).people:
        labelled = person.keypoints[person.keypoints[:, 2] > 0, :2]
        low, extent = person.bbox[:2], person.bbox[2:]
        assert (low >= 0).all()
        assert (low + extent <= [96, 128]).all()
        assert (labelled >= low - 1e-9).all()
        assert (labelled <= low + extent + 1e-9).all()
        assert len(labelled) > 80


def test_the_left_of_feet_face_and_hands_is_the_left_of_the_body():
    source = build(keypoints=133)
    facing = np.flatnonzero(source.figures.facing > 0.9)
    places, swap = source.figures.keypoints[facing], np.array(COCO_WHOLEBODY.swap)
    assert len(facing) > 30
    # across the image, from the right of a person to the left: pairs of the face that lie apart
    for right, left in ((0, 16), (4, 12), (17, 26), (36, 45), (39, 42), (31, 35), (48, 54)):
        assert swap[23 + right] == 23 + left
        assert (places[:, 23 + right, 0] < places[:, 23 + left, 0]).all()
    # a hand hangs on its own wrist, a foot on its own ankle
    distance = np.linalg.norm(places[:, [91, 112]] - places[:, [9, 10]], axis=-1)
    assert distance.max() < 1e-9
    for own, other, toes in ((15, 16, slice(17, 20)), (16, 15, slice(20, 23))):
        near = np.linalg.norm(places[:, toes] - places[:, None, own], axis=-1).mean(axis=1)
        far = np.linalg.norm(places[:, toes] - places[:, None, other], axis=-1).mean(axis=1)
        assert np.mean(near < far) > 0.9
    # the small toe is the outer one
    assert np.mean(places[:, 18, 0] > places[:, 17, 0]) > 0.9
    assert np.mean(places[:, 21, 0] < places[:, 20, 0]) > 0.9


def test_a_face_is_hidden_when_it_looks_away_and_mostly_seen_when_not():
    source = build(profile="hard", keypoints=133)
    hidden, facing = source.figures.hidden[:, 23:91], source.figures.facing
    assert hidden[facing < -0.1].all()
    assert hidden[facing > 0.9].mean() < 0.2
    # of a face in profile the far eye is hidden and the near one seen
    aside = np.abs(facing) < 0.1
    assert aside.any()
    eyes = hidden[aside].astype(float)[:, 36:48].reshape(-1, 2, 6).mean(axis=-1)  # (n, 2) share of each eye
    assert np.mean(np.abs(eyes[:, 0] - eyes[:, 1]) > 0.5) > 0.7


def test_eyes_and_nose_of_the_face_are_those_of_the_body():
    source = build(keypoints=133, size=(512, 384))
    places = source.figures.keypoints
    head = np.linalg.norm(places[:, 3] - places[:, 4], axis=-1).max()
    for body, face in ((0, [30]), (1, range(42, 48)), (2, range(36, 42))):
        middle = places[:, 23 + np.array(face)].mean(axis=1)
        assert np.linalg.norm(middle - places[:, body], axis=-1).max() < 0.05 * head


def test_visible_fingertips_and_toes_are_drawn():
    source = build(people=60, keypoints=133, size=(512, 384))
    tips = [17, 18, 19, 20, 21, 22, *(wrist + tip for wrist in (91, 112) for tip in (4, 8, 12, 16, 20))]
    differs = []
    for person in source.people:
        empty = source._render(person.id, with_person=False).astype(int)
        change = np.abs(source._render(person.id).astype(int) - empty).max(axis=-1)
        for x, y, _ in person.keypoints[tips][person.keypoints[tips, 2] == 2]:
            differs.append(change[round(y), round(x)] > 6)
    assert np.mean(differs) > 0.93


def test_133_keypoints_are_a_pure_function_of_seed_and_index():
    one, other = build(keypoints=133), build(people=50, keypoints=133)
    assert np.array_equal(one.image(17), other.image(17))
    assert np.array_equal(one.people[17].keypoints, other.people[17].keypoints)
    curls = one.people[17].keypoints[91:112, :2] - one.people[17].keypoints[91, :2]
    assert not np.array_equal(curls, one.people[18].keypoints[91:112, :2] - one.people[18].keypoints[91, :2])
