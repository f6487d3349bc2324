import html
import json
import re

import numpy as np
import pytest

from posestill.engine.config import load_run
from posestill.schema import UserError
from posestill.study.quickstart import ORDER, SHIFTS, Outcome, run_quickstart, summarise


def outcomes(**levels):
    luck = np.random.default_rng(0).normal(0, 0.01, size=200)
    return {
        name: Outcome(name, 1, 1, {}, np.full(200, level) + luck * (number + 1))
        for number, (name, level) in enumerate(levels.items())
    }


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ({"alone": 0.5, "pseudo_label": 0.6, "distilled": 0.65}, "more than plain"),
        ({"alone": 0.5, "pseudo_label": 0.65, "distilled": 0.6}, "less than plain"),
        ({"alone": 0.5, "pseudo_label": 0.6, "distilled": 0.6}, "not distinguishable from plain"),
    ],
)
def test_the_sentence_credits_the_method_only_with_what_pseudo_labels_do_not_give(levels, verdict):
    sentence = summarise(outcomes(**levels), seed=4)
    assert verdict in sentence
    gain = re.search(r"gave ([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]", sentence)
    wanted = 100 * (levels["distilled"] - levels["alone"])
    assert float(gain[2]) <= float(gain[1]) <= float(gain[3])
    assert float(gain[1]) == pytest.approx(wanted, abs=0.3)
    assert "seed 4 only" in sentence


def test_the_variants_share_the_student_the_steps_the_people_and_differ_in_what_their_names_say():
    runs = {variant.name: load_run("quickstart", variant.changes) for variant in ORDER}
    assert len({repr(run.model) for run in runs.values()}) == 1
    assert len({repr(run.train) for run in runs.values()}) == 1
    assert len({(run.seed, run.data.split_seed, repr(run.data.train)) for run in runs.values()}) == 1
    assert [runs[name].data.labelled for name in ("alone", "pseudo_label", "distilled", "all_labels")] == [200] * 3 + [
        None
    ]
    assert [runs[name].data.people for name in ("alone", "pseudo_label", "distilled", "all_labels")] == [200] + [
        4000
    ] * 3
    assert runs["alone"].teacher is None
    assert runs["pseudo_label"].teacher == runs["distilled"].teacher
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
    assert list(figures["rows"]) == ["teacher", "alone", "pseudo_label", "distilled", "all_labels"]
    assert figures["rows"]["alone"]["labels"] == 200
    assert figures["rows"]["alone"]["unlabelled"] == 0
    assert figures["rows"]["distilled"]["unlabelled"] == 3800
    assert figures["rows"]["teacher"]["metrics"]["mean_oks"] > 0.8
    assert figures["settings"]["train"]["steps"] == 20
    text = report.read_text()
    assert html.escape(figures["sentence"]) in text
    assert text.count("<img") == 60
    assert "student distilled" in capsys.readouterr().err
