import time

import pytest
import torch

from posestill.models.threads import ThreadTrial, time_threads, try_threads


@pytest.mark.parametrize("faster", [1, 2])
def test_the_faster_number_of_threads_is_kept(two_threads, faster):
    asked = []

    def work():
        asked.append(torch.get_num_threads())
        time.sleep(0.001 if torch.get_num_threads() == faster else 0.02)

    trial = try_threads(work)
    assert trial.fastest == torch.get_num_threads() == faster
    assert asked == [1, 2] * 4  # in turn, so that a busy moment hits both
    assert str(trial).startswith(f"{faster} of 2 threads is the fastest here (1: ")


def test_with_one_thread_there_is_nothing_to_try():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    assert try_threads(lambda: pytest.fail("it was tried")) is None
    torch.set_num_threads(before)


def test_work_that_takes_its_own_threads_is_told_how_many_in_turn():
    asked = []
    trial = time_threads(lambda threads: (asked.append(threads), time.sleep(0.01 / threads)), 8)
    assert asked == [1, 8] * 4
    assert trial.fastest == 8
    assert trial.seconds[1] >= 0.01


def test_a_trial_says_what_it_took():
    assert str(ThreadTrial({1: 0.012, 4: 0.150})) == "1 of 4 threads is the fastest here (1: 12 ms, 4: 150 ms)"
