from posestill.evaluation import folder
from posestill.evaluation.evaluate import EvaluateConfig
from posestill.evaluation.folder import evaluate_folder
from posestill.models.threads import ThreadTrial
from tests.conftest import DotSource, small_model


def test_the_fastest_number_of_threads_is_told(tmp_path, monkeypatch):
    found, said = [], []
    monkeypatch.setattr(folder, "try_threads", lambda work: (found.append(work()), ThreadTrial({1: 0.01, 2: 0.02}))[1])
    small_model().save(tmp_path)
    evaluate_folder(tmp_path, DotSource(6), EvaluateConfig(batch_size=3), device="cpu", say=said.append)
    assert said == ["threads: 1 of 2 threads is the fastest here (1: 10 ms, 2: 20 ms)"]
    assert found[0].xy.shape == (3, 4, 2)  # the work for one batch was tried
