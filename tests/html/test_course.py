import pytest

from posestill.html.course import course_parts, ending, figure_curve, loss_curves, read_metrics
from tests.html.parsed import parsed


def evaluations(*figures, every=100):
    return [
        {"step": every * (number + 1), "evaluation": {"mean_oks": value, "AP": value / 2, "PCK": value}}
        for number, value in enumerate(figures)
    ]


def losses(*values):
    return [{"step": 10 * (number + 1), "task": value, "learning_rate": 1.0} for number, value in enumerate(values)]


def test_losses_are_read_from_rows_with_evaluations_between():
    rows = [{"step": 1, "task": 2.0, "learning_rate": 1}, {"step": 1, "evaluation": {}}, {"step": 2, "task": 1.0}]
    assert loss_curves(rows) == {"task": [(1, 2.0), (2, 1.0)]}
    assert figure_curve([*rows, *evaluations(0.5)], "mean_oks") == [(100, 50.0)]


def test_a_run_without_rows_has_none(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((0.2, 0.5, 0.6, 0.7, 0.75, 0.8), "Training had not converged: mean OKS still rose by 10.0 points"),
        ((0.2, 0.5, 0.6, 0.795, 0.8, 0.8), "Training had converged: mean OKS changed by 0.5 points"),
        ((0.2, 0.5, 0.6, 0.8, 0.7, 0.6), "Training had passed its best: mean OKS fell by 20.0 points"),
        ((0.3, 0.5, 0.6, 0.6), "Training had converged: mean OKS changed by 0.0 points in the last 25 % of the steps"),
    ],
)
def test_the_ending_follows_the_figures_of_the_last_third(figures, said):
    rows = evaluations(*figures)
    assert ending(rows).sentence.startswith(said)
    assert ending(rows).wants_more == said.startswith("Training had not converged")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((9, 3, 2, 1.1, 1.05, 1, 1, 1, 1), "Training had converged: 1 % of all"),
        ((9, 8, 7, 6, 5, 4, 3, 2, 1), "Training had not converged: 43 % of all"),
        ((1, 1, 1, 1, 1, 1, 1, 1, 2), "Training had not begun to learn"),
        ((3, 2), "Too little was logged"),
    ],
)
def test_with_few_figures_the_ending_follows_the_losses(values, said):
    # Of 9, 8, ..., 1 the last three have a mean of 2, and the three up to two thirds of the steps (6, 5, 4) one of 5:
    # 3 of the 7 by which the loss fell from 9 came after that.
    found = ending([*losses(*values), *evaluations(0.5)])
    assert found.sentence.startswith(said)
    assert found.wants_more == said.startswith("Training had not converged")


def test_a_single_evaluation_is_explained_and_a_loss_that_is_always_nothing_left_out():
    rows = [{**row, "helper": 0.0, "head": row["task"] / 2} for row in losses(3, 2, 1)]
    found = parsed("".join(course_parts([*rows, *evaluations(0.5)], truth=None)))
    assert "evaluated once" in found.text
    assert len(found.all("svg")) == 1
    assert {"task", "head"} <= {each.text for each in found.all("text")}
    assert found.one("figcaption").text == "Losses, as they enter the sum"
    assert "helper" not in found.text


def test_losses_and_accuracy_stand_side_by_side():
    rows = [*losses(3, 2, 1), *evaluations(0.4, 0.5)]
    found = parsed("".join(course_parts(rows, truth=None)))
    assert [each.text for each in found.all("figcaption")] == [
        "The loss: task", "Accuracy on the validation people",
    ]  # fmt: skip
    assert len(found.one("div", "pair").all("svg")) == 2
    assert "evaluated once" not in found.text
    assert {"mean OKS", "AP", "PCK"} <= {each.text for each in found.all("text")}


def test_where_a_teachers_answers_stand_in_for_labels_nothing_speaks_of_accuracy():
    found = parsed("".join(course_parts(evaluations(0.4, 0.5), truth="the teacher's answers")))
    assert "Agreement with the teacher's answers" in found.text
    assert "evaluated once" not in found.text
    assert "ccuracy" not in found.text
    assert "AP" not in {each.text for each in found.all("text")}
