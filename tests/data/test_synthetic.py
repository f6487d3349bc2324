import numpy as np
import pytest

from posestill.data import synthetic
from posestill.data.figure import ALL_POSES
from posestill.data.synthetic import PROFILES, SyntheticConfig
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17

LEFT, RIGHT = COCO_17.names.index("left_shoulder"), COCO_17.names.index("right_shoulder")


def build(**changes):
    return SyntheticConfig(**{"people": 200, "seed": 3, **changes}).build()


def test_an_image_and_its_labels_are_a_pure_function_of_seed_and_index():
    one, other = build(), build(people=50)
    for index in (49, 0, 17):  # whatever the order, and however many people there are
        assert np.array_equal(one.image(index), other.image(index))
        assert np.array_equal(one.people[index].keypoints, other.people[index].keypoints)
    assert not np.array_equal(one.image(0), build(seed=4).image(0))


def test_cached_and_fresh_images_are_equal():
    fresh, cached = build(cached=False), build()
    assert np.array_equal(fresh.image(5), cached.image(5))
    assert cached.image(5) is cached.image(5)
    assert fresh.image(5) is not fresh.image(5)


def test_rendering_in_advance_gives_the_same_images_and_tells_its_progress():
    told = []
    one, two = build(people=300), build(people=300)
    one.render_all(progress=told.append)
    assert sum(told) == 300
    assert np.array_equal(one.image(299), two.image(299))


@pytest.mark.slow
def test_rendering_with_several_processes_gives_the_same_images():
    one, two = build(people=600), build()
    one.render_all(workers=2)
    assert np.array_equal(one.image(150), two.image(150))


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
        synthetic._draw_figure(canvas, source.figures, person.id, np.random.default_rng(0), light=0.0)
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
