import numpy as np
import pytest

from posestill.evaluation.agreement import agreement_with, by_keypoint
from posestill.skeletons import COCO_17
from posestill.types import Person

AREA = 100.0**2


def people(count):
    return [Person(row, row, np.array([0.0, 0, 100, 100]), None, AREA) for row in range(count)]


def test_agreement_is_one_at_one_place_and_falls_with_the_distance():
    answers = np.zeros((2, 17, 3))
    answers[..., 2] = 0.9
    xy = np.zeros((2, 17, 2))
    xy[1, 0, 0] = 2 * 0.026 * 100  # the nose of the second person, two spreads away
    found = agreement_with(answers, xy, people(2), COCO_17, threshold=0.3)
    assert found.by_keypoint["nose"] == pytest.approx((1 + np.exp(-0.5)) / 2)
    assert found.by_keypoint["left_eye"] == 1
    assert [each.count for each in found.by_confidence] == [0, 0, 0, 0, 34]
    assert found.by_confidence[-1].agreement == pytest.approx((33 + np.exp(-0.5)) / 34)
    assert np.isnan(found.by_confidence[0].agreement)
    assert found.confidence["nose"] == pytest.approx(0.9)


def test_keypoints_of_which_the_teacher_is_not_sure_count_by_confidence_alone():
    answers = np.zeros((1, 17, 3))
    answers[0, :, 2] = np.where(np.arange(17) < 3, 0.5, 0.1)
    xy = np.full((1, 17, 2), 1e4)
    xy[0, :3] = 0
    found = agreement_with(answers, xy, people(1), COCO_17, threshold=0.3)
    assert np.isnan(found.by_keypoint["right_ankle"])
    assert found.by_keypoint["nose"] == 1
    assert [(each.count, each.agreement) for each in found.by_confidence if each.count] == [(14, 0), (3, 1)]


def test_persons_are_put_together_by_the_teachers_mean_confidence():
    answers = np.zeros((8, 17, 3))
    answers[..., 2] = np.array([0.8, 0.4, 0.7, 0.5, 0.6, 0.9, 0.35, 0.95])[:, None]
    xy = np.zeros((8, 17, 2))
    xy[[1, 6]] = 1e4  # the two least sure
    found = agreement_with(answers, xy, people(8), COCO_17, threshold=0.3)
    assert [(each.count, each.agreement) for each in found.by_person] == [(2, 0), (2, 1), (2, 1), (2, 1)]
    assert (found.by_person[0].low, found.by_person[0].high) == (pytest.approx(0.35), pytest.approx(0.4))
    assert found.as_json()["by_person"][0]["count"] == 2


def test_a_keypoint_is_judged_over_those_who_show_it_and_a_missed_person_counts_as_wrong():
    shown = np.full((17, 3), 2.0)
    shown[1, 2] = 0
    labelled = [Person(row, row, np.array([0.0, 0, 100, 100]), shown, AREA) for row in range(2)]
    places = np.full((2, 17, 2), 2.0)
    places[0, 0, 0] += 2 * 0.026 * 100  # the nose, two spreads away
    places[1] = np.nan
    found = by_keypoint(places, labelled, COCO_17)
    assert found["nose"] == pytest.approx(np.exp(-0.5) / 2)
    assert found["right_ankle"] == pytest.approx(0.5)
    assert np.isnan(found["left_eye"])
