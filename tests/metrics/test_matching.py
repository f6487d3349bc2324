import numpy as np

from posestill.metrics.matching import OKS_THRESHOLDS, match, precision_and_recall


def matched(similarity, predicted, person, *, rank, ignored=(False, False), crowd=(False, False)):
    given = [np.array(each) for each in (similarity, predicted, person)]
    return match(*given, rank=np.array(rank), ignored=np.array(ignored), crowd=np.array(crowd))


def test_the_better_prediction_takes_a_person_first_and_the_next_one_what_is_left():
    hit, forgiven = matched([0.97, 0.6, 0.99, 0.72], [0, 0, 1, 1], [0, 1, 0, 1], rank=[0, 1])
    assert hit[:, 0].all()
    assert hit[:, 1].tolist() == [threshold <= 0.72 for threshold in OKS_THRESHOLDS]  # person 0 is taken
    assert not forgiven.any()


def test_an_ignored_person_is_taken_only_for_want_of_another_and_a_crowd_by_many():
    hit, forgiven = matched([0.9, 0.6], [0, 0], [0, 1], rank=[0], ignored=(True, False), crowd=(True, False))
    assert hit[:9, 0].all()
    assert forgiven[:, 0].tolist() == [0.6 < threshold <= 0.9 for threshold in OKS_THRESHOLDS]
    twice, _ = matched([0.9, 0.9], [0, 1], [0, 0], rank=[0, 1], ignored=(True, False), crowd=(True, False))
    assert twice[0].tolist() == [True, True]


def test_of_equally_similar_persons_the_last_one_is_taken():
    hit, forgiven = matched([0.8, 0.8], [0, 0], [0, 1], rank=[0], ignored=(True, True))
    assert (hit[0, 0], forgiven[0, 0]) == (True, True)
    second, _ = matched([0.8, 0.8, 0.8], [0, 0, 1], [0, 1, 0], rank=[0, 1])
    assert second[0].tolist() == [True, True]  # the first took person 1, and left person 0


def test_precision_and_recall_by_hand():
    hit = np.array([[True, False, True, False]])
    precision, recall = precision_and_recall(hit, ~hit, 4)
    assert recall.tolist() == [0.5]
    np.testing.assert_allclose(precision[0, [0, 25, 26, 50, 51, 100]], [1, 1, 2 / 3, 2 / 3, 0, 0])


def test_nobody_to_find_has_neither():
    precision, recall = precision_and_recall(np.zeros((10, 2), dtype=bool), np.ones((10, 2), dtype=bool), 0)
    assert set(precision.reshape(-1)) == set(recall) == {-1.0}
