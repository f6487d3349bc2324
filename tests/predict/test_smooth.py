import numpy as np
import pytest

from posestill.predict.smooth import OneEuro, OneEuroConfig


def test_two_steps_are_those_of_the_published_equations():
    """At 10 Hz: r = 2 pi 0.1 f, and a share of r / (r + 1) of what is new is taken."""
    smooth = OneEuro(OneEuroConfig(min_cutoff=1.0, beta=2.0, derivative_cutoff=1.0))
    assert smooth(np.array([[10.0, 5.0]]), 0.0, size=50.0).tolist() == [[10.0, 5.0]]
    taken = 0.2 * np.pi / (0.2 * np.pi + 1)  # 0.3859, of the speed
    speed = taken * (15.0 - 10.0) / 0.1
    turn = 0.2 * np.pi * (1.0 + 2.0 * speed / 50.0)
    expected = 10.0 + turn / (turn + 1) * 5.0
    np.testing.assert_allclose(smooth(np.array([[15.0, 5.0]]), 0.1, size=50.0), [[expected, 5.0]])


def test_at_rest_trembling_shrinks_and_a_fast_movement_is_followed():
    rng = np.random.default_rng(0)
    trembling = 100 + rng.normal(0, 1, (300, 1, 2))
    still = OneEuro(OneEuroConfig())
    calm = np.array([still(each, index / 30, size=200.0) for index, each in enumerate(trembling)])
    assert calm[100:].std() < 0.5 * trembling[100:].std()
    moving = OneEuro(OneEuroConfig())
    path = np.linspace(0, 600, 60)[:, None, None].repeat(2, axis=2)  # 300 px a second: one and a half times its size
    lag = np.abs(path - np.array([moving(each, index / 30, size=200.0) for index, each in enumerate(path)]))
    slow = OneEuro(OneEuroConfig(beta=0))
    lag_without = np.abs(path - np.array([slow(each, index / 30, size=200.0) for index, each in enumerate(path)]))
    assert lag[-1].max() < 0.3 * lag_without[-1].max()


def test_a_place_that_is_no_number_is_left_behind_and_time_that_stands_still_begins_anew():
    smooth = OneEuro(OneEuroConfig())
    smooth(np.array([[np.nan, 1.0]]), 0.0, size=10.0)
    assert smooth(np.array([[4.0, 1.0]]), 0.1, size=10.0).tolist() == [[4.0, 1.0]]
    assert smooth(np.array([[9.0, 9.0]]), 0.1, size=10.0).tolist() == [[9.0, 9.0]]


@pytest.mark.parametrize("wrong", [{"min_cutoff": 0}, {"beta": -1}, {"derivative_cutoff": 0}, {"mincutoff": 1}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OneEuroConfig(**wrong)
