"""What a report says of a student beside its teacher: agreement where nobody has labels, size, time, and labels."""

from __future__ import annotations

from collections.abc import Sequence

from posestill.engine.beside import REPEATS, Beside, Cost
from posestill.evaluation.agreement import Agreement, Range
from posestill.html.charts import dots
from posestill.html.page import heading, paragraph, percent, table


def agreement_parts(agreement: Agreement) -> list[str]:
    """Agreement with the teacher by keypoint, by confidence and by person, as HTML parts."""
    by_keypoint = {
        "agreement": {name: 100 * value for name, value in agreement.by_keypoint.items()},
        "the teacher's confidence": {name: 100 * value for name, value in agreement.confidence.items()},
    }
    return [
        heading("Agreement with the teacher by keypoint"),
        paragraph(
            "The mean of OKS's term over the held-out people of whom the teacher is sure: 100 where both name the same "
            "place. Beside it the teacher's mean confidence, over all of them."
        ),
        dots(by_keypoint, across="x 100"),
        table(
            ["keypoint", "agreement x 100", "teacher's confidence x 100"],
            [
                [name, percent(value), percent(agreement.confidence[name])]
                for name, value in agreement.by_keypoint.items()
            ],
        ),
        heading("Agreement with the teacher by its confidence"),
        paragraph(
            "Where the teacher is not sure, a student that disagrees may be right as well as wrong; where it is sure "
            "and they disagree, the student has more to learn."
        ),
        table(["the teacher's confidence", "keypoints", "agreement x 100"], _rows(agreement.by_confidence)),
        table(["its mean confidence in a person", "persons", "mean OKS x 100"], _rows(agreement.by_person)),
    ]


def beside_parts(beside: Beside) -> list[str]:
    """Labels, size and time of both, as HTML parts."""
    parts = []
    if beside.on_labels is not None:
        found = beside.on_labels
        parts += [
            heading("On labels"),
            paragraph(
                f"{found.persons} labelled people of the held-out pictures, each judged by that pose of its picture "
                f"which fits it best. Both were shown the same people, by {found.boxes} boxes. Keypoints: "
                f"{', '.join(each.replace('_', ' ') for each in found.keypoints)}."
            ),
            table(
                ["", "mean OKS x 100", "PCK x 100"],
                [[name, percent(found.mean_oks[name]), percent(found.pck[name])] for name in ("teacher", "student")],
            ),
        ]
    return [
        *parts,
        heading("Size and time"),
        table(
            ["", "crop", "ms a crop", "fastest", "slowest", "file"],
            [_cost("teacher", beside.teacher), _cost("student", beside.student)],
        ),
        paragraph(
            f"Milliseconds from the px of one crop to its keypoints, without flip test: the median of {REPEATS}, in "
            f"turn, {beside.threads} thread(s), {beside.device}. A teacher that is a file runs in its own runtime, the "
            "student in PyTorch with its batch norms folded."
        ),
    ]


def told(beside: Beside) -> list[str]:
    """The same in lines for a terminal."""
    lines = []
    if beside.on_labels is not None:
        found = beside.on_labels
        lines.append(
            f"on {found.persons} people with labels: mean OKS {percent(found.mean_oks['student'])}, the teacher "
            f"{percent(found.mean_oks['teacher'])} ({len(found.keypoints)} keypoints)"
        )
    one, other = beside.student, beside.teacher
    lines.append(
        f"{one.milliseconds:.1f} ms a crop and {_megabytes(one)}, the teacher {other.milliseconds:.1f} ms and "
        f"{_megabytes(other)} ({beside.threads} thread(s), {beside.device})"
    )
    return lines


def _rows(ranges: Sequence[Range]) -> list[list[str]]:
    return [[f"{each.low:.2f} to {each.high:.2f}", f"{each.count:,}", percent(each.agreement)] for each in ranges]


def _cost(name: str, cost: Cost) -> list[str]:
    height, width = cost.size
    times = [f"{each:.1f}" for each in (cost.milliseconds, cost.fastest, cost.slowest)]
    return [name, f"{height}x{width}", *times, _megabytes(cost)]


def _megabytes(cost: Cost) -> str:
    return "–" if cost.bytes is None else f"{cost.bytes / 1e6:.1f} MB"
