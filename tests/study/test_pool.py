from types import SimpleNamespace

from posestill.study.pool import _Clock


def test_the_time_that_is_left_is_told_by_what_the_same_arms_took():
    jobs = [SimpleNamespace(regime=regime, arm=arm) for regime in ("few", "more") for arm in ("alone", "tcd")]
    clock = _Clock(jobs, 2, [{"regime": "few", "arm": "tcd", "seconds": 30.0}])
    # left: few/tcd as before, 30; more/alone as few/alone, 10; more/tcd as few/tcd, 30; two at a time
    assert clock.finished(jobs[0], 10.0) == (30 + 10 + 30) / 2
