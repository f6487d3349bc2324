import pytest

from posestill.deploy import bench as room
from posestill.deploy.bench import Candidate, Measured, bench
from posestill.schema import UserError
from tests.deploy.conftest import a_model


def test_throughput_is_crops_a_second_by_hand():
    told = {"runtime": "r", "threads": 1, "p95": 9, "spread": (1, 2), "calls": 3, "with_decoding": 1, "memory": None}
    found = Measured(name="a", batch=8, median=40.0, parameters=None, macs=None, size=1, **told)
    assert found.throughput == 200


def test_a_turn_has_three_calls_at_least():
    assert len(room._timed(lambda: None, 0)) == 3


@pytest.mark.slow
def test_candidates_take_turns_in_processes_of_their_own(tmp_path, exported):
    a_model("coords").save(tmp_path / "model")
    found = bench(
        [Candidate(tmp_path / "model", name="mine"), Candidate(exported[0])], batches=[1, 3], threads=[1], rounds=3
    )
    assert [(each.name, each.batch) for each in found] == [
        ("mine", 1), ("model-fp32.pt2", 1), ("mine", 3), ("model-fp32.pt2", 3),
    ]  # fmt: skip
    for each in found:
        assert 0 < each.spread[0] <= each.median <= max(each.p95, each.spread[1])
        assert each.calls >= 9
        assert each.memory is None or 0 <= each.memory < 1e9
        assert each.with_decoding > 0


@pytest.mark.slow
def test_what_one_process_cannot_run_is_said_here(tmp_path):
    (tmp_path / "a.pt2").write_text("a")
    with pytest.raises(UserError, match="has no a.pt2.json beside it"):
        bench([Candidate(tmp_path / "a.pt2")], batches=[1], threads=[1], rounds=1)
