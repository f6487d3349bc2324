"""Every arm of a plan is built once before its first run, so that none stops the study when hours have gone by."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from posestill.engine.config import RunConfig, load_run
from posestill.engine.log import RunLog
from posestill.engine.sense import settled
from posestill.engine.setup import Sources, open_sources, set_up
from posestill.models.pose_model import build_model
from posestill.schema import UserError
from posestill.study.jobs import Job, at_hand
from posestill.study.plan import Plan


def rehearse(plan: Plan, jobs: Sequence[Job], folders: Mapping[str, Path]) -> None:
    """Build student, teacher and method of each way that jobs train in; a `UserError` names the one that cannot be.

    In the place of a prepared model that is not there yet stands an untrained one of the same settings.
    """
    ways = {(job.regime, job.arm): job for job in jobs}
    opened: dict[str, Sources] = {}
    with tempfile.TemporaryDirectory() as place:
        stand_ins = _stand_ins(plan, list(ways.values()), folders, Path(place), opened)
        for (regime, arm), job in ways.items():
            try:
                build_once(at_hand(job.config, stand_ins), opened)
            except UserError as error:
                raise UserError(f"the arm {arm} of the regime {regime} cannot be built: {error}") from None


def build_once(config: RunConfig, opened: dict[str, Sources]) -> None:
    """Build a run's parts, ask no teacher and train nothing; sources are kept in `opened` for runs that share them."""
    sources, log = _sources(config, opened), RunLog(None, quiet=True)
    config = settled(config, sources.train.skeleton, log)
    if config.teacher is not None and config.teacher.kept is not None:
        return  # what is kept of its answers is checked when it is asked, which takes time
    crops = config.data.model_copy(update={"crops": None})
    set_up(config.model_copy(update={"data": crops}), sources, device=torch.device("cpu"), world=1, log=log)


def _sources(config: RunConfig, opened: dict[str, Sources]) -> Sources:
    key = key_of_sources(config)
    if key not in opened:
        opened[key] = open_sources(config)
    return opened[key]


def key_of_sources(config: RunConfig) -> str:
    """What runs that share their sources have in common."""
    return json.dumps([config.data.train.model_dump(mode="json"), config.data.val.model_dump(mode="json")])


def _stand_ins(
    plan: Plan, jobs: Sequence[Job], folders: Mapping[str, Path], place: Path, opened: dict[str, Sources]
) -> dict[str, Path]:
    """The folder of each prepared model that jobs name: its own where it is there, else an untrained model's."""
    wanted = json.dumps([job.settings for job in jobs], ensure_ascii=False)
    found = dict(folders)
    for name in plan.prepare:  # a prepared run may need those before it
        if folders[name].is_dir() or not any(f"<{name}>" in text for text in (wanted, *_changes(plan))):
            continue
        config = at_hand(load_run(plan.prepare[name].recipe, plan.prepare[name].set), found)
        try:
            build_model(config.model, _sources(config, opened).train.skeleton).save(place / name)
        except UserError as error:
            raise UserError(f"the prepared model {name} cannot be built: {error}") from None
        found[name] = place / name
    return found


def _changes(plan: Plan) -> list[str]:
    return [change for each in plan.prepare.values() for change in each.set]
