import numpy as np
import pytest

from posestill.metrics.stats import paired_difference


def test_a_constant_gain_has_no_spread():
    before = np.random.default_rng(0).random(50)
    found = paired_difference(before + 0.1, before)
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_interval_agrees_with_the_normal_one_on_many_persons():
    rng = np.random.default_rng(1)
    gain = rng.normal(0.02, 0.3, size=2000)
    found = paired_difference(gain, np.zeros(2000))
    error = gain.std() / np.sqrt(2000)
    assert found.low == pytest.approx(gain.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(gain.mean() + 1.96 * error, abs=0.2 * error)


def test_under_no_effect_the_interval_misses_zero_about_one_time_in_twenty():
    rng = np.random.default_rng(2)
    misses = 0
    for trial in range(300):
        gain = rng.standard_t(4, size=80)
        found = paired_difference(gain, np.zeros(80), draws=400, seed=trial)
        misses += not found.low <= 0 <= found.high
    assert misses / 300 < 0.1


def test_persons_without_labels_are_left_out_and_unequal_counts_refused():
    assert paired_difference(np.array([1.0, np.nan, 3.0]), np.array([0.0, 0.0, 2.0])).mean == 1
    with pytest.raises(ValueError, match="the same persons"):
        paired_difference(np.zeros(3), np.zeros(4))
