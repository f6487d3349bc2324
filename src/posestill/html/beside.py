"""What a report says of a student beside its teacher: keypoints, agreement where nobody has labels, size and time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from posestill.engine.beside import REPEATS, Beside, Cost
from posestill.engine.judged import OnLabels
from posestill.evaluation.agreement import Agreement, Range
from posestill.html.charts import bars
from posestill.html.page import details, figure, heading, paragraph, percent, side_by_side, table
from posestill.html.verdict import megabytes, millions, people_in_words

MOST_BARS = 24
"""keypoints that a chart shows; of more of them, the ones that are found worst"""


def keypoint_parts(found: OnLabels) -> list[str]:
    """How well each keypoint is found by labels, the worst first, the teacher's figure beside the student's."""
    judged = {"student": found.student.by_keypoint}
    if found.teacher is not None:
        judged["teacher"] = found.teacher.by_keypoint
    rows = _worst_first(judged["student"])
    some = "" if found.persons == found.of else f", spread evenly over the {found.of:,} there are"
    who, mirrored = "They were cut out by", ""
    if found.teacher is not None:
        who = "Both were shown the same people by"
        mirrored = (
            " Each answer of the teacher is the mean over a crop and its mirror image, where its mirror partners are "
            "known."
        )
    return [
        heading("Accuracy by keypoint"),
        paragraph(
            f"{people_in_words(found.persons)} with labels{some}. {who} {found.boxes} boxes. A keypoint's figure is "
            f"the mean of OKS's term over the people who show it: 100 where it lies on its label.{mirrored}"
        ),
        side_by_side([_chart(judged, rows, across="OKS's term x 100"), _keypoint_table(judged, rows)]),
    ]


def agreement_parts(agreement: Agreement) -> list[str]:
    """Agreement with the teacher by keypoint, by confidence and by person, as HTML parts."""
    judged = {"agreement": agreement.by_keypoint, "the teacher's confidence": agreement.confidence}
    rows = _worst_first(agreement.by_keypoint)
    return [
        heading("Agreement with the teacher by keypoint"),
        paragraph(
            "The mean of OKS's term over the held-out people of whom the teacher is sure: 100 where both name the same "
            "place. Beside it the teacher's mean confidence, over all of them. The student is the model after the last "
            "step."
        ),
        side_by_side([_chart(judged, rows, across="agreement, confidence x 100"), _keypoint_table(judged, rows)]),
        heading("Agreement with the teacher by its confidence"),
        paragraph(
            "Where the teacher is not sure, a student that disagrees may be right as well as wrong; where it is sure "
            "and they disagree, the student has more to learn."
        ),
        side_by_side(
            [
                table(
                    ["the teacher's confidence", "keypoints", "agreement x 100"],
                    _ranges(agreement.by_confidence),
                    caption="Agreement of single keypoints, by how sure the teacher is of them",
                ),
                table(
                    ["its mean confidence in a person", "persons", "mean OKS x 100"],
                    _ranges(agreement.by_person),
                    caption="Agreement on whole people, in quarters by how sure the teacher is of them",
                ),
            ]
        ),
    ]


def cost_parts(beside: Beside, surroundings: Mapping[str, Any]) -> list[str]:
    """Size and time of both with the hardware that they were measured on, as HTML parts."""
    costs = {"student": beside.student, **({} if beside.teacher is None else {"teacher": beside.teacher})}
    where = surroundings["gpu"] if beside.device == "cuda" else surroundings["processor"]
    turns = "" if beside.teacher is None else ", both in turn"
    runtime = "" if beside.teacher is None else " A teacher that is a file runs in its own runtime."
    return [
        heading("Size and time"),
        table(
            ["", "ms a crop", "fastest", "slowest", "crop, px", "parameters", "file"],
            [_cost(name, each) for name, each in costs.items()],
            caption="What a crop of one person costs",
        ),
        paragraph(
            f"Milliseconds from the px of one crop to its keypoints, without flip test: the median of "
            f"{REPEATS}{turns}, on {where or 'an unnamed processor'} ({beside.device}, {_threads(beside.threads)}, "
            f"torch {surroundings['torch']}). The student runs in PyTorch with its batch norms folded.{runtime}"
        ),
    ]


def told(beside: Beside) -> list[str]:
    """The same in lines for a terminal."""
    lines, labels = [], beside.on_labels
    if labels is not None and labels.teacher is not None:
        lines.append(
            f"on {labels.persons} people with labels: mean OKS {percent(labels.student.mean_oks)}, the teacher "
            f"{percent(labels.teacher.mean_oks)} ({len(labels.keypoints)} keypoints)"
        )
    one, other = beside.student, beside.teacher
    teachers = "" if other is None else f", the teacher {other.milliseconds:.1f} ms and {megabytes(other)}"
    lines.append(
        f"{one.milliseconds:.1f} ms a crop and {megabytes(one)}{teachers} ({beside.threads} thread(s), {beside.device})"
    )
    return lines


def _chart(judged: Mapping[str, Mapping[str, float]], rows: Sequence[str], *, across: str) -> str:
    shown = rows[:MOST_BARS]
    figures = {name: {row: 100 * each[row] for row in shown} for name, each in judged.items()}
    caption = "The worst first" if len(shown) == len(rows) else f"The {len(shown)} worst of {len(rows)} keypoints"
    return figure(bars(figures, across=across), f"{caption}; the numbers on the right are the {next(iter(judged))}'s")


def _keypoint_table(judged: Mapping[str, Mapping[str, float]], rows: Sequence[str]) -> str:
    lines = [[row.replace("_", " "), *(percent(each[row]) for each in judged.values())] for row in rows]
    headers = ["keypoint", *(f"{name} x 100" for name in judged)]
    return details("The same as a table", [table(headers, lines, caption="All keypoints, the worst first")])


def _worst_first(figures: Mapping[str, float]) -> list[str]:
    """The names in the order of their figures; those without one come last."""
    return sorted(figures, key=lambda name: math.inf if figures[name] != figures[name] else figures[name])


def _ranges(ranges: Sequence[Range]) -> list[list[str]]:
    return [[f"{each.low:.2f} to {each.high:.2f}", f"{each.count:,}", percent(each.agreement)] for each in ranges]


def _cost(name: str, cost: Cost) -> list[str]:
    height, width = cost.size
    times = [f"{each:.1f}" for each in (cost.milliseconds, cost.fastest, cost.slowest)]
    return [name, *times, f"{height}x{width}", "–" if cost.parameters is None else millions(cost.parameters),
            megabytes(cost)]  # fmt: skip


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
