import math

import pytest

from posestill.study.t_distribution import Errors, t_quantile, t_tail


@pytest.mark.parametrize(
    ("degrees", "value"),
    [
        (1, 12.7062047364),
        (2, 4.30265272975),
        (3, 3.18244630528),
        (7, 2.36462425101),
        (30, 2.04227245630),
        (1e12, 1.959963984540),
        (math.inf, 1.959963984540),
    ],
)
def test_the_quantiles_are_the_tables(degrees, value):
    assert t_quantile(0.975, degrees) == pytest.approx(value, rel=1e-9)
    assert t_quantile(0.025, degrees) == pytest.approx(-value, rel=1e-9)


@pytest.mark.parametrize("value", [1e-9, 0.3, 1.0, 1.7, 4.0, 1e3, 1e60])
def test_one_and_two_degrees_have_the_tails_worked_by_hand(value):
    assert t_tail(value, 1) == pytest.approx(math.atan2(1, value) / math.pi, rel=1e-11)  # Cauchy
    root = math.hypot(math.sqrt(2), value)
    assert t_tail(value, 2) == pytest.approx(1 / (root * (root + value)), rel=1e-11)  # (1 - t / sqrt(2 + t^2)) / 2


@pytest.mark.parametrize("degrees", [0.7, 1, 1.37, 2.5, 30, 499.5, 1e6, 1e8])
@pytest.mark.parametrize("probability", [1e-100, 1e-9, 0.025, 0.2, 0.49999, 0.5, 0.7, 0.999])
def test_tail_and_quantile_undo_each_other(degrees, probability):
    assert t_tail(-t_quantile(probability, degrees), degrees) == pytest.approx(probability, rel=1e-8)


def test_the_tail_meets_the_normal_one_without_a_step():
    assert t_tail(1.96, 1e9) == pytest.approx(t_tail(1.96, 1.001e9), rel=2e-8)
    assert t_tail(0, 3) == 0.5
    assert t_tail(-1.2, 3.3) == pytest.approx(1 - t_tail(1.2, 3.3))


def test_impossible_arguments_are_named():
    with pytest.raises(ValueError, match="between 0 and 1 is wanted: 1"):
        t_quantile(1, 3)
    with pytest.raises(ValueError, match="above 0: 0"):
        t_tail(1.0, 0)


def test_two_errors_reach_as_far_as_their_own_quantiles_say_together():
    assert Errors(seed=3.0, person=0.0, seeds=2, persons=9).reach(0.025) == pytest.approx(3 * 12.7062047364)
    assert Errors(seed=0.0, person=2.0, seeds=1, persons=31).reach(0.025) == pytest.approx(2 * 2.04227245630)
    both = Errors(seed=3.0, person=2.0, seeds=2, persons=31)
    assert both.reach(0.025) == pytest.approx(math.hypot(3 * 12.7062047364, 2 * 2.04227245630))


@pytest.mark.parametrize("tail", [1e-40, 0.003, 0.025, 0.3])
def test_the_tail_of_a_reach_is_the_one_asked_for(tail):
    errors = Errors(seed=0.3, person=0.8, seeds=3, persons=50)
    assert errors.tail(errors.reach(tail)) == pytest.approx(tail, rel=1e-8)
    assert errors.tail(-errors.reach(tail)) == pytest.approx(1 - tail)
    assert errors.tail(0) == pytest.approx(0.5)


def test_the_degrees_of_one_t_lie_between_those_of_the_two():
    assert Errors(seed=1.0, person=0.0, seeds=3, persons=50).degrees(0.025) == 2
    assert Errors(seed=0.0, person=1.0, seeds=3, persons=50).degrees(0.025) == 49
    both = Errors(seed=1.0, person=1.0, seeds=3, persons=50)
    assert 2 < both.degrees(0.025) < 49
    assert -t_quantile(0.025, both.degrees(0.025)) * math.sqrt(2) == pytest.approx(both.reach(0.025))


def test_without_any_error_only_no_distance_is_in_doubt():
    none = Errors(seed=0.0, person=0.0, seeds=3, persons=50)
    assert [none.tail(distance) for distance in (-0.1, 0, 0.1)] == [1, 0.5, 0]
