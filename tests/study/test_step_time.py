import pytest
import torch

from posestill.engine.config import load_run
from posestill.study import step_time
from posestill.study.step_time import STEPS, alternate, measure_steps


def test_ways_take_turns_and_the_first_round_does_not_count(monkeypatch):
    now, order = [0.0], []

    def taking(name, *seconds):
        left = iter(seconds)

        def way():
            order.append(name)
            now[0] += next(left)

        return way

    monkeypatch.setattr(step_time.time, "perf_counter", lambda: now[0])
    found = alternate({"one": taking("one", 99, 4, 8), "other": taking("other", 99, 2, 2)}, rounds=2)
    assert order == ["one", "other"] * 3
    assert found == {"one": [4 / STEPS, 8 / STEPS], "other": [2 / STEPS, 2 / STEPS]}


@pytest.mark.slow
def test_a_method_with_a_teacher_asked_live_takes_longer_than_the_student_alone(tmp_path):
    few = ["data.train.people=24", "data.val.people=12", f"data.crops.folder={tmp_path}", "data.labelled=8",
           "train.batch_size=8", "data.labelled_per_batch=4", "teacher=bundled"]  # fmt: skip
    method = load_run("protocol/synthetic", [*few, "method=tcd"])
    alone = load_run("protocol/synthetic", [*few, "teacher=null", "method=supervised"])
    threads = torch.get_num_threads()
    found = measure_steps(method, alone)
    assert found["lowest"] <= found["ratio"] + 0.005 <= found["highest"] + 0.01
    assert found["ratio"] == round(found["ratio"], 2) > 1.1
    assert found["run"]["persons_per_second"] == pytest.approx(8000 / found["run"]["milliseconds"])
    assert torch.get_num_threads() == threads
