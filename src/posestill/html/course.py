"""The course of a training for its report: losses and figures by step, and whether it had converged at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posestill.html.charts import curves
from posestill.html.page import figure, paragraph, side_by_side

Row = Mapping[str, Any]
"""of a metrics.jsonl"""
_NO_LOSSES = frozenset({"step", "learning_rate", "persons_per_second", "evaluation", "watched", "unreadable"})
LAST = 1 / 3
"""the share of a run, at its end, in which a training that has converged changes next to nothing"""
MOST_POINTS = 1.0
"""of mean OKS that the figure of such a training rises in that share"""
MOST_FALL = 0.05
"""of all that the loss of such a training fell, that it falls in that share"""
FEWEST = 4
"""figures without which nobody can tell"""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.is_file() else []


def loss_curves(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """Each named loss over the steps, from the rows of a metrics.jsonl."""
    names = dict.fromkeys(name for row in rows for name in row if name not in _NO_LOSSES)
    return {name: [(row["step"], row[name]) for row in rows if row.get(name) is not None] for name in names}


def figure_curve(rows: Sequence[Row], name: str) -> list[tuple[float, float]]:
    """One figure of the evaluations over the steps, times 100."""
    known = [(row["step"], row["evaluation"].get(name)) for row in rows if "evaluation" in row]
    return [(step, 100 * value) for step, value in known if value is not None]


def course_parts(rows: Sequence[Row], *, truth: str | None) -> list[str]:
    """Losses and accuracy over the steps, side by side; where `truth` stands in for labels, agreement with it."""
    names = {"mean_oks": "mean OKS", **({} if truth else {"AP": "AP"}), "PCK": "PCK"}
    judged = {words: figure_curve(rows, name) for name, words in names.items()}
    losses = {name: points for name, points in loss_curves(rows).items() if any(value for _, value in points)}
    caption = "Losses, as they enter the sum" if len(losses) > 1 else f"The loss: {', '.join(losses)}"
    drawn = figure(curves(losses, across="steps", up="loss"), caption)
    if len(judged["mean OKS"]) < 2:
        return [
            drawn,
            paragraph("The run was evaluated once, at its end; `evaluate.every` in its recipe says how often."),
        ]
    what = "Accuracy on the validation people" if truth is None else f"Agreement with {truth}"
    up = f"{'agreement' if truth else 'figure'} x 100"
    return [side_by_side([drawn, figure(curves(judged, across="steps", up=up), what)])]


@dataclass(frozen=True)
class Ending:
    """Whether a training had converged."""

    sentence: str
    wants_more: bool = False
    """True: a longer run would probably do better"""


def ending(rows: Sequence[Row]) -> Ending:
    """Whether the training had converged: by its figures or, where these are few, by its losses."""
    figures = figure_curve(rows, "mean_oks")
    if len(figures) >= FEWEST:
        step, before = _nearest(figures, 1 - LAST)
        change = figures[-1][1] - before
        when = f"in the last {100 * (1 - step / figures[-1][0]):.0f} % of the steps"
        if change > MOST_POINTS:
            return Ending(
                f"Training had not converged: mean OKS still rose by {change:.1f} points {when}, so that a longer run "
                "would probably do better.",
                wants_more=True,
            )
        if change < -MOST_POINTS:
            return Ending(f"Training had passed its best: mean OKS fell by {-change:.1f} points {when}.")
        return Ending(f"Training had converged: mean OKS changed by {abs(change):.1f} points {when}.")
    return _ending_by_losses(rows)


def _ending_by_losses(rows: Sequence[Row]) -> Ending:
    losses = _total(rows)
    if len(losses) < FEWEST:
        return Ending("Too little was logged to tell whether training had converged.")
    first, before, last = losses[0][1], _mean_about(losses, 1 - LAST), _mean_about(losses, 1.0)
    if last >= first:
        return Ending("Training had not begun to learn: at its end the loss was no lower than at its beginning.")
    share = (before - last) / (first - last)
    if share > MOST_FALL:
        return Ending(
            f"Training had not converged: {100 * share:.0f} % of all that the loss fell came in the last third of the "
            "steps, so that a longer run would probably do better.",
            wants_more=True,
        )
    return Ending(
        f"Training had converged: {max(0, 100 * share):.0f} % of all that the loss fell came in the last third of the "
        "steps."
    )


def _total(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """The sum of all losses over the steps."""
    sums: dict[float, float] = {}
    for points in loss_curves(rows).values():
        for step, value in points:
            sums[step] = sums.get(step, 0.0) + value
    return sorted(sums.items())


def _nearest(points: Sequence[tuple[float, float]], share: float) -> tuple[float, float]:
    """Step and figure of the point, before the last one, that lies nearest to a share of the steps."""
    end = share * points[-1][0]
    return min(points[:-1], key=lambda point: abs(point[0] - end))


def _mean_about(points: Sequence[tuple[float, float]], share: float) -> float:
    """The mean of the points, a tenth of all or three, that end at a share of the steps: losses are noisy."""
    until = [value for step, value in points if step <= share * points[-1][0]] or [points[0][1]]
    taken = until[-max(3, len(points) // 10) :]
    return sum(taken) / len(taken)
