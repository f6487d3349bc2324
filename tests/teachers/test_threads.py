import time

import numpy as np
import pytest
import torch

from posestill.models.threads import ThreadTrial
from posestill.teachers.base import Teacher
from posestill.teachers.file import FileConfig
from posestill.teachers.runtime import RuntimeNetwork
from posestill.teachers.threads import CROPS, FEWEST_CROPS, asking, blank_batch, fastest
from tests.networks import write_teacher

CPU = torch.device("cpu")


class Quick(RuntimeNetwork):
    """A network that is quick with `best` threads, and slow with any other number."""

    def __init__(self, threads, best):
        self.threads, self.best = threads, best

    def with_threads(self, threads):
        return Quick(threads, self.best)


class OfTorch(Teacher):
    """A teacher that torch runs, quick with one thread; it counts the crops that it is asked about."""

    input_size = (8, 6)

    def __init__(self):
        self.asked = 0

    def __call__(self, batch):
        self.asked += len(batch)
        time.sleep(0.001 if torch.get_num_threads() == 1 else 0.01)


@pytest.mark.parametrize("best", [1, 4])
def test_the_network_with_the_faster_number_of_threads_is_kept(best):
    found = fastest(Quick(4, best), lambda network: time.sleep(0.001 if network.threads == best else 0.01))
    assert found.network.threads == best
    assert set(found.trial.seconds) == {1, 4}


def test_a_network_with_one_thread_is_not_tried():
    network = Quick(1, 1)
    found = fastest(network, lambda network: pytest.fail("it was tried"))
    assert found.network is network
    assert found.trial is None


def test_a_file_is_run_by_the_threads_that_were_the_fastest_and_the_log_says_so(two_threads, tmp_path, monkeypatch):
    teacher = FileConfig(path=write_teacher(tmp_path / "teacher.onnx")).build()
    monkeypatch.setattr("posestill.teachers.threads.time_threads", lambda work, most: ThreadTrial({1: 0.1, most: 0.2}))
    before, said = teacher(blank_batch(teacher)).prediction, []
    assert teacher.network.threads == 2
    with asking(teacher, FEWEST_CROPS, device=CPU, say=said.append):
        assert teacher.network.threads == 1
    assert said == ["threads of the teacher: 1 of 2 threads is the fastest here (1: 100 ms, 2: 200 ms)"]
    assert torch.equal(teacher(blank_batch(teacher)).prediction.xy, before.xy)


def test_a_file_that_is_asked_about_few_crops_keeps_its_threads_unless_they_are_fixed(two_threads, tmp_path):
    teacher = FileConfig(path=write_teacher(tmp_path / "teacher.onnx")).build()
    network, said = teacher.network, []
    with asking(teacher, FEWEST_CROPS - 1, device=CPU, say=said.append):
        assert teacher.network is network
    with asking(teacher, FEWEST_CROPS, device=CPU, say=said.append, threads=1):
        assert teacher.network.threads == 1
    assert not said


def test_a_teacher_that_torch_runs_has_the_faster_threads_while_it_is_asked(two_threads):
    teacher, said = OfTorch(), []
    with asking(teacher, FEWEST_CROPS, device=CPU, say=said.append):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    assert teacher.asked == 8 * CROPS
    assert said[0].startswith("threads of the teacher: 1 of 2 threads is the fastest here (1: ")
    with asking(teacher, 1, device=CPU, threads=1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    assert teacher.asked == 8 * CROPS


def test_blank_crops_are_black_and_of_the_teachers_size():
    batch = blank_batch(OfTorch(), 3)
    assert batch.image.shape == (3, 3, 8, 6)
    assert not batch.image.any()
    np.testing.assert_array_equal(batch.to_image[2], [[1, 0, 0], [0, 1, 0]])
