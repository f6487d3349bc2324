import numpy as np

from posestill.draw import write_image
from posestill.models.threads import ThreadTrial
from posestill.predict import files
from posestill.predict.files import find_images, predict_files
from posestill.predict.predictor import Predictor
from tests.conftest import small_model


def test_the_fastest_number_of_threads_is_told_before_anything_is_predicted(tmp_path, monkeypatch, capsys):
    found = []
    monkeypatch.setattr(files, "try_threads", lambda work: (found.append(work()), ThreadTrial({1: 0.01, 2: 0.02}))[1])
    write_image(tmp_path / "a.png", np.full((60, 40, 3), 90, dtype=np.uint8))
    predictor = Predictor(small_model(), device="cpu")
    assert predict_files(predictor, find_images([tmp_path / "a.png"]), out=tmp_path / "out") == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "threads: 1 of 2 threads is the fastest here (1: 10 ms, 2: 20 ms)"
    assert told[1].startswith("predicting 1/1")
    assert found[0].shape == (1, 4, 3)  # the whole work for one person was tried
