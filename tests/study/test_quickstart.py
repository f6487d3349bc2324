import html
import json
import re

import numpy as np
import pytest

from posestill.methods.distilpose import DistilPoseConfig
from posestill.models.cost import Cost
from posestill.schema import UserError
from posestill.study.quickstart import ORDER, SHIFTS, Outcome, run_quickstart, summarise


def outcomes(**levels):
    luck = np.random.default_rng(0).normal(0, 0.01, size=200)
    parameters = {"teacher": 300_000}
    return {
        name: Outcome(name, 1, 1, {}, np.full(200, level) + luck * (number + 1),
                      cost=Cost(parameters.get(name, 100_000), 1, 1, 1.0, 1.0, 1.0))
        for number, (name, level) in enumerate(levels.items())
    }  # fmt: skip


def test_the_sentence_says_what_is_kept_and_what_distillation_gave_over_each_control():
    levels = {"teacher": 0.8, "alone": 0.5, "same_time": 0.6, "pseudo_label": 0.65, "distilled": 0.64}
    sentence = summarise(outcomes(**levels), seed=4)
    assert "3.0 times fewer parameters reaches a mean OKS of 64.1, 80 % of its teacher's 80.0. " in sentence
    gains = re.findall(r"([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]", sentence)
    assert len(gains) == 3
    for (mean, low, high), wanted in zip(gains, (14, 4, -1), strict=True):  # a loss is said as well
        assert float(low) <= float(mean) <= float(high)
        assert float(mean) == pytest.approx(wanted, abs=0.4)
    assert "seed 4 only" in sentence


def test_the_variants_share_the_student_and_the_people_and_differ_in_what_their_names_say():
    runs = {variant.name: variant.run(seed=3) for variant in ORDER}
    assert len({repr((run.model.backbone, run.model.head, run.model.size)) for run in runs.values()}) == 1
    assert {(run.seed, run.data.split_seed, repr(run.data.train), run.data.labelled) for run in runs.values()} == {
        (3, runs["alone"].data.split_seed, repr(runs["alone"].data.train), 400)
    }
    assert {name: run.train.steps for name, run in runs.items()} == {
        "alone": 1000, "same_time": 1600, "pseudo_label": 1000, "distilled": 1000
    }  # fmt: skip
    assert {name: run.data.people for name, run in runs.items()} == {
        "alone": 400, "same_time": 400, "pseudo_label": 4000, "distilled": 4000
    }  # fmt: skip
    assert runs["alone"].teacher is runs["same_time"].teacher is None
    assert isinstance(runs["distilled"].method, DistilPoseConfig)
    assert {variant for shift in SHIFTS for variant in shift} == set(ORDER)


def test_a_folder_that_no_quickstart_made_is_left_alone(tmp_path):
    (tmp_path / "distilled" / "best").mkdir(parents=True)
    with pytest.raises(UserError, match="no quickstart made it"):
        run_quickstart(tmp_path)
    assert (tmp_path / "distilled" / "best").is_dir()


@pytest.mark.slow
def test_the_quickstart_runs_twice_and_leaves_its_report(tmp_path, capsys):
    for _ in range(2):  # the second time over the first
        report = run_quickstart(tmp_path / "q", steps=20, seed=1)
    figures = json.loads((tmp_path / "q" / "quickstart.json").read_text())
    assert list(figures["rows"]) == ["teacher", "alone", "same_time", "pseudo_label", "distilled"]
    assert figures["rows"]["alone"]["labels"] == 400
    assert figures["rows"]["alone"]["unlabelled"] == 0
    assert figures["rows"]["distilled"]["unlabelled"] == 3600
    assert figures["rows"]["teacher"]["metrics"]["mean_oks"] > 0.8
    assert figures["settings"]["train"]["steps"] == 20
    text = report.read_text()
    assert html.escape(figures["sentence"]) in text
    assert text.count("<img") == 60
    assert "student distilled" in capsys.readouterr().err
