"""What a run gave, in plain sentences: what the student is, how much of its teacher it keeps, at what cost."""

from __future__ import annotations

from collections.abc import Mapping

from posestill.engine.beside import Beside, Cost
from posestill.evaluation.evaluate import Evaluation
from posestill.html.page import Tile, percent
from posestill.models.pose_model import PoseModel

_ALIKE = 0.05
"""two times or sizes that differ by less count as about the same"""


def verdict_of(
    model: PoseModel,
    beside: Beside,
    evaluation: Evaluation,
    figures: Mapping[str, float],
    *,
    gained: str = "",
    ending: str,
) -> list[str]:
    """The verdict in sentences: what the student keeps of its teacher and what it costs, what was gained, how it ended.

    `figures` are those of the model that ships; `gained` is what a comparison with controls says.
    """
    who = "model" if beside.teacher is None else "student"
    good = f"The {who}, {described(model, beside.student.parameters or 0)}, {_how_good(beside, evaluation, figures)}"
    return [good, _what_it_costs(beside.student, beside.teacher), *([gained] if gained else []), ending]


def described(model: PoseModel, parameters: int) -> str:
    """A model in words: its network, its head, its parameters, the crops that it reads."""
    settings = model.config.model_dump(mode="json")
    height, width = model.config.size
    return (
        f"{settings['backbone']['name']} with a {settings['head']['name']} head, {millions(parameters)} parameters, "
        f"crops of {height}x{width} px"
    )


def tiles_of(beside: Beside, evaluation: Evaluation, figures: Mapping[str, float]) -> list[Tile]:
    """The figures that a report opens with, each beside the teacher's where there is one."""
    student, teacher = beside.student, beside.teacher
    found = []
    if beside.held is not None:
        count = evaluation.conditions["persons"]
        found.append(
            Tile(percent(figures["mean_oks"]), "agreement, mean OKS", f"{people_in_words(count)} without labels")
        )
    labels = beside.on_labels
    if labels is not None and labels.teacher is not None:
        kept = _share(labels.student.mean_oks, labels.teacher.mean_oks)
        found += [
            Tile(percent(labels.student.mean_oks), "mean OKS", f"teacher {percent(labels.teacher.mean_oks)}"),
            Tile(f"{kept} %", "of its teacher", f"on {people_in_words(labels.persons)} with labels"),
        ]
    elif labels is not None and beside.held is None:
        found.append(Tile(percent(figures["mean_oks"]), "mean OKS", people_in_words(evaluation.conditions["persons"])))
    if beside.held is None:
        found.append(Tile(percent(figures["AP"]), "AP", people_in_words(evaluation.conditions["persons"])))
    found.append(
        Tile(
            f"{student.milliseconds:.1f} ms",
            "a crop",
            "" if teacher is None else f"teacher {teacher.milliseconds:.1f} ms",
        )
    )
    found.append(
        Tile(
            megabytes(student),
            "file",
            "" if teacher is None or teacher.bytes is None else f"teacher {megabytes(teacher)}",
        )
    )
    return found


def megabytes(cost: Cost) -> str:
    """The size of a model's file; a dash where it has none of its own."""
    return "–" if cost.bytes is None else f"{cost.bytes / 1e6:.1f} MB"


def millions(count: int) -> str:
    """A number of parameters in words: 0.31 M."""
    return f"{count / 1e6:.2f} M" if count < 10e6 else f"{count / 1e6:.0f} M"


def people_in_words(count: int) -> str:
    """A number of people in words: 1 person, 1,000 people."""
    return "1 person" if count == 1 else f"{count:,} people"


def _how_good(beside: Beside, evaluation: Evaluation, figures: Mapping[str, float]) -> str:
    labels = beside.on_labels
    if beside.held is not None:
        agreed, people = percent(figures["mean_oks"]), people_in_words(evaluation.conditions["persons"])
        said = f"agrees with its teacher to a mean OKS of {agreed} on {people} held out"
        if labels is None or labels.teacher is None:
            return f"{said} (100: the same places)."
        return f"{said}; by labels it {_kept(labels.student.mean_oks, labels.teacher.mean_oks, labels.persons)}."
    if labels is not None and labels.teacher is not None:
        return f"{_kept(labels.student.mean_oks, labels.teacher.mean_oks, labels.persons)}."
    if labels is None:
        return "was not judged: nobody in the validation data has labels."
    return (
        f"reaches a mean OKS of {percent(figures['mean_oks'])} and an AP of {percent(figures['AP'])} on "
        f"{people_in_words(evaluation.conditions['persons'])} (100 is perfect)."
    )


def _kept(own: float, teachers: float, persons: int) -> str:
    if not teachers > 0 or own != own:
        return f"reaches a mean OKS of {percent(own)}, its teacher {percent(teachers)}, on {people_in_words(persons)}"
    both = f"a mean OKS of {percent(own)} beside {percent(teachers)} on {people_in_words(persons)}"
    if own > teachers:
        return f"does better than its teacher: {both}"
    return f"keeps {_share(own, teachers)} % of its teacher's accuracy: {both}"


def _what_it_costs(student: Cost, teacher: Cost | None) -> str:
    own = f"{student.milliseconds:.1f} ms a crop"
    if teacher is None:
        return f"It takes {own}, and its file {megabytes(student)}."
    ratio = teacher.milliseconds / student.milliseconds
    times = f"{own} beside {teacher.milliseconds:.1f} ms"
    if ratio > 1 + _ALIKE:
        speed = f"It is {_times(ratio)} times as fast as the teacher ({times})"
    elif ratio < 1 - _ALIKE:
        speed = f"It takes {_times(1 / ratio)} times as long as the teacher ({times})"
    else:
        speed = f"It is about as fast as the teacher ({times})"
    if teacher.bytes is None or student.bytes is None:
        return f"{speed}."
    smaller, sizes = teacher.bytes / student.bytes, f"{megabytes(student)} beside {megabytes(teacher)}"
    if smaller > 1 + _ALIKE:
        return f"{speed}, and its file is {_times(smaller)} times smaller ({sizes})."
    if smaller < 1 - _ALIKE:
        return f"{speed}, and its file is {_times(1 / smaller)} times larger ({sizes})."
    return f"{speed}, and its file is about as large ({sizes})."


def _share(own: float, teachers: float) -> str:
    return f"{100 * own / teachers:.0f}" if teachers > 0 and own == own else "–"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"
