import math

import numpy as np

from posestill.metrics.nms import oks_nms

SIGMAS = [0.1, 0.1]


def test_the_worse_of_two_alike_goes_and_the_unlike_stay():
    one = np.array([[10.0, 10.0], [20.0, 20.0]])
    poses = np.stack([one, one + 0.5, one + 60])
    kept = oks_nms(poses, np.array([0.5, 0.9, 0.1]), np.full(3, 900.0), oks_sigmas=SIGMAS)
    assert kept.tolist() == [False, True, True]


def test_the_similarity_that_decides_by_hand():
    one = np.array([[0.0, 0.0], [0.0, 0.0]])
    poses = np.stack([one, one + [3.0, 0.0]])
    similarity = math.exp(-9 / (2 * 0.2**2) / ((400 + 800) / 2))
    for threshold, both in ((similarity + 1e-6, True), (similarity - 1e-6, False)):
        kept = oks_nms(poses, np.array([2.0, 1.0]), np.array([400.0, 800.0]), oks_sigmas=SIGMAS, threshold=threshold)
        assert kept.tolist() == [True, both]


def test_nobody_is_nobody():
    assert oks_nms(np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0), oks_sigmas=SIGMAS).shape == (0,)
