import json

import numpy as np
import pytest

from posestill.deploy import decoder, gate
from posestill.deploy.gate import STAGES, Judged, failure, judge, table
from posestill.deploy.runtimes import TARGETS
from posestill.deploy.sidecar import read_sidecar, write_sidecar
from posestill.deploy.write import Writer
from tests.conftest import DotSource
from tests.deploy.conftest import a_model


@pytest.fixture(scope="module")
def people():
    return DotSource(20)


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(gate, "ROUNDS", 3)


def test_an_exact_file_passes_and_loses_nothing(exported, people):
    path, model = exported
    found = judge(model, [path], people, labels=False)
    (row,) = found.rows
    assert row.passes
    assert row.lost == pytest.approx(0, abs=1e-3)
    assert row.px_99 < 1e-3
    assert (found.persons, found.labels, found.ap) == (20, False, 1.0)
    assert row.size == path.stat().st_size
    assert row.milliseconds > 0


def test_the_stage_that_drifts_is_named(exported, people, monkeypatch, tmp_path):
    path, model = exported
    cut, decode = decoder.cut, decoder.decode

    def moved(picture, box, told):
        return cut(picture, [box[0] + 9, box[1], box[2], box[3]], told)[0], cut(picture, box, told)[1]

    with monkeypatch.context() as changed:
        changed.setattr(decoder, "cut", moved)
        assert judge(model, [path], people, labels=False).failed[0].drifted == "crop"
    with monkeypatch.context() as changed:
        changed.setattr(decoder, "decode", lambda *given: decode(*given) + [4, 0, 0])
        (row,) = judge(model, [path], people, labels=False).failed
        assert row.drifted == "decoding"
        assert row.stages["decoding"] == pytest.approx(4, abs=1e-3)
    other = Writer(a_model("heatmap", seed=5), tmp_path).write(TARGETS["pt2"], "fp32")
    (row,) = judge(model, [other], people, labels=False).failed
    assert row.drifted == "network"
    assert row.stages["crop"] == 0
    told = failure(row, labels=False)
    assert told.startswith(
        f"torch.export fp32 loses {row.lost:.2f} points of mean OKS with PyTorch's answers, and 0.1 may"
    )
    assert "the network drifted, which moves keypoints by" in told


def test_answers_that_are_no_numbers_count_as_far_off(exported, people, monkeypatch):
    path, model = exported
    monkeypatch.setattr(decoder, "decode", lambda outputs, told: np.full((len(outputs["maps"]), 4, 3), np.nan))
    (row,) = judge(model, [path], people, labels=False).failed
    assert row.px_median == gate.WORST
    assert row.drifted == "decoding"


def test_with_labels_ap_is_judged_and_a_larger_tolerance_lets_more_pass(exported, people, monkeypatch):
    path, model = exported
    monkeypatch.setattr(gate, "_figures", lambda *given: (0.9, 0.95) if len(asked) == 0 and not asked.append(1)
                        else (0.88, 0.94))  # fmt: skip
    asked: list[int] = []
    found = judge(model, [path], people)
    assert found.labels
    assert found.failed[0].lost == pytest.approx(2)
    asked.clear()
    assert not judge(model, [path], people, tolerance=2.5).failed


def test_labels_on_which_the_model_itself_has_no_ap_cannot_judge(exported, people):
    path, model = exported
    found = judge(model, [path], people)
    assert not found.labels
    assert found.why.startswith("the model's own AP is 0.")
    assert table(found)[-1].startswith("only agreement with PyTorch was checked: the model's own AP is 0.")


def test_each_precision_may_lose_what_it_may(exported, people, tmp_path):
    path, model = exported
    sidecar = {**read_sidecar(path), "precision": "int8"}
    copied = tmp_path / "a.pt2"
    copied.write_bytes(path.read_bytes())
    write_sidecar(copied, sidecar)
    rows = judge(model, [path, copied], people, labels=False).rows
    assert [row.tolerance for row in rows] == [0.1, 1.0]


def test_the_table_and_the_json_say_the_same(exported, people):
    path, model = exported
    found = judge(model, [path], people, labels=False)
    lines = table(found)
    assert lines[0].startswith("20 persons, PyTorch's own answers in the place of labels")
    assert lines[3].split()[:3] == ["torch.export", "fp32", "100.00"]
    content = json.loads(json.dumps(found.as_json()))
    assert content["files"][0]["passes"] is True
    assert content["judged_by"].startswith("agreement with PyTorch alone")


def test_a_stage_is_the_drifting_one_where_it_moves_most():
    row = Judged("a", "a", "fp32", 0, 0, 1, 0.1, 0, 0, dict(zip(STAGES, (0.1, 3, 2), strict=True)), 1, 1)
    assert row.drifted == "network"
    assert not row.passes
