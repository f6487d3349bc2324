"""A study's results for readers: table.md, summary.json and a few pictures to commit, report.html with all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from posestill.files import write_json, write_whole
from posestill.html.charts import Point, curves, dots, gains, scatter
from posestill.html.ink import standalone
from posestill.html.page import (
    commands,
    details,
    figure,
    heading,
    labelled_pictures,
    page,
    paragraph,
    side_by_side,
    table,
    verdict,
    warning,
)
from posestill.html.people import LEGEND
from posestill.study.gains import Cell, compare_rows, signed
from posestill.study.intervals import false_positive_rate
from posestill.study.lines import Row
from posestill.study.people import PEOPLE, SIZE, ArmsPeople, people_by_arm
from posestill.study.plan import Plan
from posestill.study.results import Results
from posestill.study.verdict import ALPHA, verdict_of

MOST_PICTURES = 3
"""that are kept with the results; all of them are in the report"""
_WORDS = {
    "test": "Confirmed on test: 95 % intervals over seeds and persons",
    "tune": "Screened on tune: with one seed the intervals are over persons only, and another seed may differ by more",
}
_SPREAD = "mean OKS x 100, bars: a standard deviation over seeds"
_NOT_APART = "Repeated with the seeds of confirmation: 95 % intervals over seeds and persons"


def said_of_test(plan: Plan, cells: Sequence[Cell]) -> str:
    """What the runs on test are where a regime has no persons of its own for them; empty where all regimes have."""
    without = [name for name in dict.fromkeys(cell.regime for cell in cells) if not plan.regimes[name].test]
    if not without:
        return ""
    return (
        f"Not confirmed on test: {', '.join(without)} {'names' if len(without) == 1 else 'name'} no `test:` persons, "
        "so that these runs are judged by the persons that learning rates and arms were chosen by, which flatters them."
    )


def write_comparison(
    plan: Plan, results: Results, rates: Mapping[tuple[str, str], float], *, name: str, command: str, report: Path
) -> Path:
    """Write what is committed into the results folder and everything into `report`, an HTML page; returns its path.

    `name` and `command` are those of the plan. Three pictures are kept at most: first the curves over doses, then the
    gains over the baseline, then those over the controls; what was kept before and is not now is removed.
    """
    rows, teachers, folder = results.rows, results.teachers, results.folder
    splits = {split: compare_rows(plan, rows, split, rates, teachers) for split in ("test", "tune")}
    splits = {split: cells for split, cells in splits.items() if cells}
    foot = _foot(plan, rows)
    first = {**dose_curves(plan, splits), **_gain_chart(plan, splits)}
    parts, text = [], [f"# {name}", "", foot]
    for split, cells in splits.items():
        headers, lines = table_of(plan, cells)
        words, flattered = _WORDS[split], said_of_test(plan, cells) if split == "test" else ""
        if flattered:
            words = _NOT_APART
        if split == "test" and any(gain.seeds == 1 for cell in cells for gain in cell.gains.values()):
            words += ", over persons alone where two arms share one seed"
        loud = [warning(flattered)] if flattered else []
        parts += [heading(words), *loud, _arms_first(headers, lines, split)]
        text += ["", f"## {words}", "", *([flattered, ""] if flattered else []), *_markdown(headers, lines)]
    others = {**_keypoints(plan, splits), **_cost(plan, splits)}
    for label, svg in {**first, **others}.items():
        file = folder / f"{re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-')}.svg"
        if label in list(first)[:MOST_PICTURES]:
            _write(file, standalone(svg))
        else:
            file.unlink(missing_ok=True)
    _write(folder / "table.md", "\n".join(text) + "\n")
    write_json(
        folder / "summary.json",
        {
            "name": name,
            "command": command,
            "protocol": plan.protocol_hash(),
            "runs": len(rows),
            "surroundings": _surroundings(rows),
            "training_hours": sum(row["seconds"] for row in rows) / 3600,
            "teachers": {
                f"{split}/{regime}": {name: row[name] for name in ("teacher", "metrics")}
                for (split, regime), row in teachers.items()
            },
            "notes": [note for note in [said_of_test(plan, splits.get("test", ()))] if note],
            "cells": {split: [_cell_json(cell, plan) for cell in cells] for split, cells in splits.items()},
        },
    )
    report.parent.mkdir(parents=True, exist_ok=True)
    people = people_by_arm(plan, rows, rates, report.parent)
    whole = [
        verdict(_verdict(plan, splits)),
        heading("Gains"),
        side_by_side([figure(drawn, label) for label, drawn in first.items()]),
        *parts,
        *_people_parts(people),
        heading("Keypoints and cost"),
        side_by_side([figure(drawn, label) for label, drawn in others.items()]),
        details("How it was measured", [paragraph(foot), commands([("The command of this study:", command)])]),
    ]
    _write(report, page(f"Comparison {Path(name).stem}", whole, subtitle=_subtitle(rows)))
    return report


def _arms_first(headers: Sequence[str], lines: Sequence[Sequence[str]], split: str) -> str:
    """The table of a page: arms stay in sight where it scrolls, and regimes come second."""
    moved = [[arm, regime, *rest] for regime, arm, *rest in [headers, *lines]]
    return table(moved[0], moved[1:], caption=f"Every arm in every regime, on {split}", words=2)


def _verdict(plan: Plan, splits: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Of the runs on test or, where there are none, of those on tune."""
    for split, cells in splits.items():
        return verdict_of(plan, cells, split=split)
    return ["None of the runs that are finished is of an arm and a regime of this plan."]


def _subtitle(rows: Sequence[Row]) -> str:
    arms, regimes = (len({row[part] for row in rows}) for part in ("arm", "regime"))
    return (
        f"{arms} {'way' if arms == 1 else 'ways'} to train, {regimes} {'regime' if regimes == 1 else 'regimes'}, "
        f"{len(rows)} {'run' if len(rows) == 1 else 'runs'}"
    )


def table_of(plan: Plan, cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Headers and lines of text; a star where Holm's p-value over the regime's arms is below 0.05."""
    references = [plan.baseline, *plan.controls]
    told = any(cell.gap_closed for cell in cells)
    headers = ["regime", "arm", "learning rate", "seeds", "mean OKS", *(f"over {each}" for each in references),
               *(["gap closed, %"] if told else []), "AP", "training s"]  # fmt: skip
    lines = []
    for cell in cells:
        spread = "" if cell.spread is None else f" ± {100 * cell.spread:.1f}"
        lines.append(
            [
                cell.regime,
                plan.arms[cell.arm].title,
                f"{cell.learning_rate:g}",
                str(len(cell.seeds)),
                f"{100 * cell.mean_oks:.1f}{spread}",
                *(_gain(cell, reference) for reference in references),
                *([_closed(cell)] if told else []),
                f"{100 * cell.average_precision:.1f}",
                f"{cell.training_seconds:.0f}",
            ]
        )
    return headers, lines


def dose_curves(plan: Plan, splits: Mapping[str, Sequence[Cell]]) -> dict[str, str]:
    """Gain over the baseline against each dose, of arms at two doses or more; confirmed: filled, screened: hollow."""
    drawn = {}
    for factor in dict.fromkeys(name for regime in plan.regimes.values() for name in regime.dose):
        series: dict[str, dict[float, Point]] = {}
        for split in ("tune", "test"):  # what is confirmed takes the place of what was screened
            for cell in splits.get(split, ()):
                dose, gain = plan.regimes[cell.regime].dose.get(factor), cell.gains.get(plan.baseline)
                if dose is None or (gain is None and cell.arm != plan.baseline):
                    continue
                point = Point(dose, 0.0, filled=len(cell.seeds) > 1)
                if gain is not None:
                    point = replace(point, y=100 * gain.mean, low=100 * gain.low, high=100 * gain.high)
                series.setdefault(plan.arms[cell.arm].title, {})[dose] = point
        lines = {arm: [points[dose] for dose in sorted(points)] for arm, points in series.items() if len(points) > 1}
        if lines:
            up = (
                f"mean OKS over {plan.arms[plan.baseline].title} (filled: {len(plan.seeds.confirm)} seeds, hollow: one)"
            )
            doses = sorted({dose for points in series.values() for dose in points})
            drawn[f"Gain by {factor}"] = curves(
                lines, across=factor, up=up, marks=True, ticks=doses, among=_titles(plan)
            )
    return drawn


def _gain_chart(plan: Plan, splits: Mapping[str, Sequence[Cell]]) -> dict[str, str]:
    drawn = {}
    for reference in (plan.baseline, *plan.controls):
        rows = [
            (f"{cell.regime}: {plan.arms[cell.arm].title}", 100 * gain.mean, 100 * gain.low, 100 * gain.high)
            for cell in splits.get("test", ())
            if (gain := cell.gains.get(reference)) is not None
        ]
        if rows:
            title = plan.arms[reference].title
            drawn[f"Gain over {title}"] = gains(rows, across=f"mean OKS over {title}, 95 % interval")
    return drawn


def _keypoints(plan: Plan, splits: Mapping[str, Sequence[Cell]]) -> dict[str, str]:
    cells = splits.get("test") or splits.get("tune", ())
    drawn = {}
    for regime in dict.fromkeys(cell.regime for cell in cells):
        found = {
            plan.arms[cell.arm].title: {
                name: 100 * value for name, value in cell.per_keypoint.items() if value == value
            }
            for cell in cells
            if cell.regime == regime
        }
        if len(found) > 1:
            drawn[f"PCK by keypoint in {regime}"] = dots(found, across="PCK x 100", among=_titles(plan))
    return drawn


def _cost(plan: Plan, splits: Mapping[str, Sequence[Cell]]) -> dict[str, str]:
    cells = splits.get("test") or splits.get("tune", ())
    drawn = {}
    for regime in dict.fromkeys(cell.regime for cell in cells):
        points = {plan.arms[cell.arm].title: _with_spread(cell) for cell in cells if cell.regime == regime}
        if len(points) > 1:
            drawn[f"Accuracy against training time in {regime}"] = scatter(
                points, across="seconds of training, median", up=_SPREAD, among=_titles(plan)
            )
    return drawn


def _with_spread(cell: Cell) -> Point:
    """An arm's mean OKS by its training time, with a standard deviation over seeds to both sides."""
    place, spread = Point(cell.training_seconds, 100 * cell.mean_oks), cell.spread
    if spread is None:
        return place
    return replace(place, low=100 * (cell.mean_oks - spread), high=100 * (cell.mean_oks + spread))


def _titles(plan: Plan) -> list[str]:
    """The titles of all arms: what each has its colour by, in every chart."""
    return [arm.title for arm in plan.arms.values()]


def _people_parts(found: Sequence[ArmsPeople]) -> list[str]:
    """The same people as each arm sees them, where runs left their pictures."""
    parts = [heading("The same people, by arm")]
    kept = [each for each in found if each.strips]
    if not kept:
        return [
            *parts,
            paragraph(
                "The pictures that runs leave of a few people are not in the folder of this study's work, as when it "
                "ran on another machine: nobody can be shown here."
            ),
        ]
    parts.append(paragraph(f"{PEOPLE} people of each regime, by the first seed of each arm. {LEGEND}"))
    height, width = SIZE
    for each in kept:
        shown = {
            title: (jpeg, f"{PEOPLE} people in {each.regime} with the poses of {title}")
            for title, jpeg in each.strips.items()
        }
        parts.append(labelled_pictures(each.regime, shown, width=PEOPLE * width, height=height))
        if each.missing:
            parts.append(paragraph(f"No pictures were kept of {', '.join(each.missing)}."))
    if others := [each.regime for each in found if each.left_out]:
        parts.append(paragraph(f"Left out, for the page would become too large: {', '.join(others)}."))
    return parts


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _gain(cell: Cell, reference: str) -> str:
    if (gain := cell.gains.get(reference)) is None:
        return "–"
    return signed(gain) + (" *" if gain.seeds > 1 and cell.adjusted[reference] < ALPHA else "")


def _closed(cell: Cell) -> str:
    if (share := cell.gap_closed) is None:
        return "–"
    return f"{100 * share.mean:.0f} [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _cell_json(cell: Cell, plan: Plan) -> dict[str, Any]:
    described = asdict(cell)
    for reference, value in described.pop("adjusted").items():
        described["gains"][reference]["p_holm"] = value
    return {**described, **_how_often_wrong(cell, plan)}


def _how_often_wrong(cell: Cell, plan: Plan) -> dict[str, Any]:
    """How often the 95 % interval would leave out 0 if the arm had no effect, by simulation with its own spreads."""
    if cell.spreads is None:
        return {}
    gain = cell.gains[plan.baseline]
    rates = [
        false_positive_rate(
            cell.spreads, seeds=gain.seeds, persons=gain.persons, trials=2000, rng=np.random.default_rng(0),
            over_seeds=over_seeds,
        )
        for over_seeds in (True, False)
    ]  # fmt: skip
    return {"false_positive_rate": rates[0], "false_positive_rate_over_persons_alone": rates[1]}


def _surroundings(rows: Sequence[Row]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        for key, value in row["surroundings"].items():
            if value not in found.setdefault(key, []):
                found[key].append(value)
    return found


def _foot(plan: Plan, rows: Sequence[Row]) -> str:
    around = _surroundings(rows)
    rates = ", ".join(f"{each:g}" for each in plan.learning_rates)
    return (
        f"Protocol {plan.protocol_hash()}, {len(rows)} runs; mean OKS, AP x 100; ground-truth boxes, {_flips(rows)}. "
        f"Star: Holm's p-value over the regime's arms below {ALPHA:g}. Learning rates tried for every arm on tune: "
        f"{rates}. {', '.join(map(str, around['processor']))}; torch {', '.join(map(str, around['torch']))}."
    )


def _flips(rows: Sequence[Row]) -> str:
    """Whether the runs were judged with a flip test; rows of before conditions were kept all were."""
    found = {row.get("conditions", {}).get("flip_test", True) for row in rows}
    return {(True,): "flip test", (False,): "no flip test"}.get(tuple(found), "flip test in some runs")


def _markdown(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rule = "|---|---|" + "--:|" * (len(headers) - 2)
    return [f"| {' | '.join(headers)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)]
