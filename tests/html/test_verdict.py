from dataclasses import replace

import numpy as np
import pytest

from posestill.engine.beside import Beside, Cost
from posestill.engine.judged import Judged, OnLabels, Poses
from posestill.evaluation.evaluate import Evaluation
from posestill.html.verdict import described, megabytes, millions, tiles_of, verdict_of
from tests.conftest import DotSource, small_model

SMALL = Cost(size=(32, 24), milliseconds=2.0, fastest=1.9, slowest=2.5, bytes=1_000_000, parameters=250_000)
LARGE = Cost(size=(64, 48), milliseconds=15.0, fastest=14.0, slowest=19.0, bytes=12_500_000, parameters=None)
FIGURES = {"mean_oks": 0.621, "AP": 0.402}


def judged(mean_oks):
    return Judged(mean_oks=mean_oks, pck=mean_oks, by_keypoint={})


def poses():
    source = DotSource(5)
    return Poses(source, source.people, np.zeros((5, 4, 2)), np.zeros((5, 4, 2)))


def labels(student, teacher):
    return OnLabels(poses=poses(), of=5, boxes="ground truth", keypoints=("top",), student=judged(student),
                    teacher=None if teacher is None else judged(teacher))  # fmt: skip


def beside(**changes):
    alone = Beside(student=SMALL, teacher=None, threads=1, device="cpu", on_labels=labels(0.621, None), held=None)
    return replace(alone, **changes)


def evaluation(persons=1000):
    nothing = np.zeros(0)
    return Evaluation(metrics=FIGURES, per_keypoint={}, conditions={"persons": persons}, notes=[], poses=None,
                      similarity=nothing, places=nothing)  # fmt: skip


def said(found, **more):
    return verdict_of(small_model(), found, evaluation(), FIGURES, ending="It had converged.", **more)


def test_a_model_is_described_by_its_network_its_head_its_size_and_its_crops():
    text = described(small_model(), 250_000)
    assert text == "small_resnet with a deconv head, 0.25 M parameters, crops of 32x24 px"


def test_without_a_teacher_the_verdict_says_how_good_the_model_is_and_whether_it_had_converged():
    sentences = said(beside())
    assert sentences[0].startswith("The model, small_resnet")
    assert "reaches a mean OKS of 62.1 and an AP of 40.2 on 1,000 people (100 is perfect)." in sentences[0]
    assert sentences[1:] == ["It takes 2.0 ms a crop, and its file 1.0 MB.", "It had converged."]


def test_where_nobody_has_labels_it_says_that_nothing_was_judged():
    assert said(beside(on_labels=None))[0].endswith("was not judged: nobody in the validation data has labels.")


def test_with_a_teacher_and_labels_it_says_what_the_student_keeps_and_what_it_saves():
    sentences = said(beside(teacher=LARGE, on_labels=labels(0.62, 0.8)))
    assert sentences[0].startswith("The student, small_resnet")
    # 0.62 / 0.8 = 0.775
    kept = "keeps 78 % of its teacher's accuracy: a mean OKS of 62.0 beside 80.0 on 5 people."
    assert sentences[0].endswith(kept)
    assert sentences[1] == (
        "It is 7.5 times as fast as the teacher (2.0 ms a crop beside 15.0 ms), and its file is 12 times smaller "
        "(1.0 MB beside 12.5 MB)."
    )


def test_a_student_that_is_better_slower_and_larger_is_called_so():
    sentences = said(beside(student=LARGE, teacher=SMALL, on_labels=labels(0.9, 0.8)))
    assert "does better than its teacher: a mean OKS of 90.0 beside 80.0" in sentences[0]
    assert sentences[1].startswith("It takes 7.5 times as long as the teacher")
    assert "12 times larger" in sentences[1]
    same = said(beside(teacher=replace(SMALL, bytes=None), on_labels=labels(0.7, 0.8)))[1]
    assert same == "It is about as fast as the teacher (2.0 ms a crop beside 2.0 ms)."


def test_without_labels_it_speaks_of_agreement_and_of_accuracy_only_where_some_have_labels():
    alone = said(beside(teacher=LARGE, on_labels=None, held=poses()))[0]
    assert "agrees with its teacher to a mean OKS of 62.1 on 1,000 people held out (100: the same places)." in alone
    assert "accuracy" not in alone
    some = said(beside(teacher=LARGE, on_labels=labels(0.4, 0.5), held=poses()))[0]
    assert "by labels it keeps 80 % of its teacher's accuracy" in some


def test_with_controls_the_verdict_repeats_what_distillation_gave():
    assert said(beside(), gained="Distillation gave +1.")[2:] == ["Distillation gave +1.", "It had converged."]


@pytest.mark.parametrize(
    ("found", "tiles"),
    [
        (beside(), ["mean OKS 62.1 1,000 people", "AP 40.2 1,000 people", "a crop 2.0 ms", "file 1.0 MB"]),
        (
            beside(teacher=LARGE, on_labels=labels(0.4, 0.5)),
            ["mean OKS 40.0 teacher 50.0", "of its teacher 80 % on 5 people with labels", "AP 40.2 1,000 people",
             "a crop 2.0 ms teacher 15.0 ms", "file 1.0 MB teacher 12.5 MB"],
        ),
        (
            beside(teacher=LARGE, on_labels=None, held=poses()),
            ["agreement, mean OKS 62.1 1,000 people without labels", "a crop 2.0 ms teacher 15.0 ms",
             "file 1.0 MB teacher 12.5 MB"],
        ),
    ],
)  # fmt: skip
def test_the_figures_that_a_report_opens_with(found, tiles):
    shown = tiles_of(found, evaluation(), FIGURES)
    assert [f"{each.name} {each.value} {each.note}".strip() for each in shown] == tiles


def test_sizes_in_words():
    assert (millions(312_000), millions(25_600_000)) == ("0.31 M", "26 M")
    assert (megabytes(SMALL), megabytes(replace(SMALL, bytes=None))) == ("1.0 MB", "–")
