import json

import numpy as np
import pytest
from typer.testing import CliRunner

from posestill.cli.main import app
from posestill.schema import UserError
from posestill.study.control import gains_of, say_gains, train_with_controls
from tests.conftest import small_run
from tests.html.parsed import below, cells, parsed, within

TINY = [
    "--set", "data.train.people=16", "--set", "data.val.people=8", "--set", "train.steps=2", "--set", "data.labelled=8",
    "--set", "train.batch_size=8", "--set", "data.people=16", "--set", "data.labelled_per_batch=4",
]  # fmt: skip


def test_distil_with_controls_trains_them_alike_and_the_report_says_what_was_gained(tmp_path):
    asked = ["distil", "quickstart", "--control", "--seeds", "2", "--out", str(tmp_path / "run"), *TINY]
    told = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert told.exit_code == 0
    ways = {path.name for path in (tmp_path / "run" / "controls").iterdir()}
    assert ways == {"method-seed1", *(f"{way}-seed{seed}" for way in ("alone", "pseudo_label") for seed in (0, 1))}
    found = json.loads((tmp_path / "run" / "control.json").read_text())
    assert found["seeds"] == [0, 1]
    assert found["gains"]["method"]["seeds"] == 2
    shipped = json.loads((tmp_path / "run" / "eval.json").read_text())["mean_oks"]
    other = json.loads((tmp_path / "run" / "controls" / "method-seed1" / "eval.json").read_text())["mean_oks"]
    assert found["mean_oks"]["method"] == pytest.approx((shipped + other) / 2, abs=1e-6)
    gain = found["mean_oks"]["method"] - found["mean_oks"]["alone"]
    assert found["gains"]["method"]["mean"] == pytest.approx(gain, abs=1e-6)
    page = parsed((tmp_path / "run" / "report.html").read_text())
    assert found["sentence"] in page.one("section", "verdict").text
    parts = below(page, "What distillation gave")
    assert len(within(parts, "circle")) == 3  # a mark for each gain
    assert [row[0] for row in cells(within(parts, "table")[0])[1:]] == ["with the method", "alone", "on pseudo-labels"]
    # a second call says that the folder is taken; --resume finds everything finished and says the same
    again = CliRunner().invoke(app, [*asked, "--resume"], catch_exceptions=False)
    assert again.exit_code == 0
    assert json.loads((tmp_path / "run" / "control.json").read_text())["sentence"] == found["sentence"]


def test_a_run_that_is_its_own_control_is_refused(tmp_path):
    with pytest.raises(UserError, match="student alone already"):
        train_with_controls(small_run(), tmp_path / "run")


def test_without_a_teacher_the_sentence_speaks_of_the_student_alone_only():
    rng = np.random.default_rng(0)
    alone = rng.uniform(0.4, 0.6, (3, 50))
    gains = gains_of({"method": alone + 0.1 + rng.normal(0, 0.01, (3, 50)), "alone": alone})
    assert set(gains) == {"method"}
    sentence = say_gains(gains, seeds=range(4, 7))
    assert "Distillation gave +9.9" in sentence
    assert "over 3 seeds" in sentence
    assert "pseudo" not in sentence
