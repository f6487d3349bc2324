"""The same few people as each arm of a plan sees them: a small picture a run, drawn while its model is there.

Run folders go when their rows are written, so that each run leaves a strip of a few people with its poses beside them,
in `people/RUN.jpg` of the study's work folder, and one with their labels in `people/SPLIT/REGIME/labels.jpg`. They are
for the page alone: no figure depends on them, and they can be thrown away.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from posestill.draw import encode_image
from posestill.engine.fit import FitResult
from posestill.evaluation.evaluate import labelled_people, spread_evenly
from posestill.files import write_whole
from posestill.html.people import draw_person
from posestill.schema import UserError
from posestill.study.lines import Row, name_of
from posestill.study.plan import Plan

PEOPLE = 4
SIZE = (176, 132)
"""(height, width) of each of them, px"""
LABELS = "labels"
MOST_STRIPS = 60
"""of a page, about a megabyte"""


@dataclass(frozen=True)
class ArmsPeople:
    """The strips of one regime, by the titles of its arms; labels come first."""

    regime: str
    strips: Mapping[str, bytes]
    """JPEG"""
    missing: Sequence[str]
    """the titles of the arms of which no strip was kept"""
    left_out: bool = False
    """True: the page would become too large by them, and there are no strips"""


def keep_people(result: FitResult, work: Path, name: str, *, of_split: str) -> None:
    """Draw a few people with the poses of a run that has just ended; a disk without room for that harms no run."""
    source = result.sources.val
    labelled = labelled_people(source)
    if not len(labelled):
        return
    evenly = spread_evenly(len(labelled), PEOPLE)
    people = [source.people[position] for position in labelled[evenly]]
    labels = [person.keypoints for person in people if person.keypoints is not None]
    shown = [each[:, 2] > 0 for each in labels]
    strips = {name: result.evaluation.places[evenly], f"{of_split}/{LABELS}": [each[:, :2] for each in labels]}
    for each, poses in strips.items():
        drawn = [
            draw_person(source.image(person.image_id), person, places, visible, source.skeleton, SIZE)
            for person, places, visible in zip(people, poses, shown, strict=True)
        ]
        content, path = encode_image(np.concatenate(drawn, axis=1), quality=80), place_of(work, each)
        with suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, partial(Path.write_bytes, data=content), draft_of=str(os.getpid()))


def place_of(work: Path, name: str) -> Path:
    """Where the strip of a run, by its name, is kept."""
    return work / "people" / f"{name}.jpg"


def people_by_arm(
    plan: Plan, rows: Sequence[Row], rates: Mapping[tuple[str, str], float], work: Path
) -> list[ArmsPeople]:
    """What was kept of each regime: its first seed on test or, where nothing was run on test, on tune."""
    found, count = [], 0
    for regime in plan.regimes:
        own = [row for row in rows if row["regime"] == regime]
        split = "test" if any(row["split"] == "test" for row in own) else "tune"
        strips: dict[str, bytes] = {}
        missing = []
        for arm in plan.arms_of(regime):
            runs = [
                row
                for row in own
                if (row["split"], row["arm"]) == (split, arm) and row["learning_rate"] == rates.get((regime, arm))
            ]
            if not runs:
                continue
            first = min(runs, key=lambda row: row["seed"])
            path = place_of(work, first.get("same_run_as") or name_of(first))
            if path.is_file():
                strips[plan.arms[arm].title] = path.read_bytes()
            else:
                missing.append(plan.arms[arm].title)
        labels = place_of(work, f"{split}/{regime}/{LABELS}")
        if strips and labels.is_file():
            strips = {LABELS: labels.read_bytes(), **strips}
        if count + len(strips) > MOST_STRIPS:
            found.append(ArmsPeople(regime, {}, [], left_out=True))
        elif strips or missing:
            found.append(ArmsPeople(regime, strips, missing))
            count += len(strips)
    return found
