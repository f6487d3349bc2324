"""Which shard does what of a plan, and waiting for what others have in hand.

Every shard makes the same lists (prepared models, measured lengths, and per stage the runs, the same run under several
names counted once) and takes every so many-th place of each. Without shards all of it is one shard's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from posestill.cluster.shards import WHOLE
from posestill.engine.log import RunLog
from posestill.schema import UserError
from posestill.study.jobs import Job, Resolver, tuning
from posestill.study.plan import Plan
from posestill.study.pool import Workshop
from posestill.study.results import Results

PAUSE = 5.0
"""seconds between two looks at what other shards have finished"""


class Division:
    """The share of one shard of a plan."""

    def __init__(self, plan: Plan, shop: Workshop, results: Results, log: RunLog) -> None:
        self.plan, self.results, self.log = plan, results, log
        self.shard, self.waits = shop.shard, shop.waits
        self.owners: dict[str, int] = {}
        """the number of the shard that has each run, by the run's name, of the stages that were divided"""

    @cached_property
    def _tuned(self) -> list[Job]:
        return Resolver(self.plan).jobs(tuning(self.plan))

    def own(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of the jobs of a stage that are this shard's."""
        if self.shard == WHOLE:
            return list(jobs)
        tuned = _places(self._tuned)
        # Screening asks again for runs of tuning: these stay with who has them, and only the others are dealt out.
        places = {**_places([job for job in jobs if job.identity not in tuned]), **tuned}
        owner = {job.name: self.shard.owner(places[job.identity]) for job in jobs}
        self.owners.update(owner)
        return [job for job in jobs if owner[job.name] == self.shard.number]

    def await_choices(self) -> None:
        """Return when every run is there by which learning rates are chosen."""
        if self.shard == WHOLE:
            return
        places = _places(self._tuned)
        owners = {job.name: self.shard.owner(places[job.identity]) for job in self._tuned}
        self.wait_for("the tuning run", lambda: self._unfinished(owners))

    def wait_for(self, what: str, missing: Callable[[], Mapping[str, int]]) -> None:
        """Return when nothing is missing: names and the numbers of the shards that have them.

        Without `--wait` a `UserError` says which shards to await; with it a line does, whenever these are others.
        """
        if self.shard == WHOLE:
            return
        told: set[int] = set()
        while True:
            self.results.refresh()
            if not (left := missing()):
                return
            owners = set(left.values())
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            said = (
                f"shard {self.shard} cannot go on without {what} {next(iter(left))}{more} of {self.shard.named(owners)}"
            )
            if not self.waits or self.shard.number in owners:  # for itself it would wait for ever
                raise UserError(
                    f"{said}: run that first and then the same command again, or let this one wait by --wait"
                )
            if owners != told:
                self.log.say(f"{said}: waiting for it")
                told = owners
            time.sleep(PAUSE)

    def left(self) -> str:
        """In words, whose runs are not finished, of the stages that were divided; empty where all are."""
        if self.shard == WHOLE:
            return ""
        self.results.refresh()
        if not (left := self._unfinished(self.owners)):
            return ""
        return (
            f"shard {self.shard} has done its share; {len(left)} of {len(self.owners)} runs are still those of "
            f"{self.shard.named(left.values())}. Who ends last writes the table; `posestill compare` without --shard "
            "does, too"
        )

    def _unfinished(self, owners: Mapping[str, int]) -> dict[str, int]:
        return {name: owner for name, owner in owners.items() if self.results.run(name) is None}


def _places(jobs: Sequence[Job]) -> dict[str, int]:
    """The place of each run in the list, by its identity: the same run under several names has one place."""
    places: dict[str, int] = {}
    for job in jobs:
        places.setdefault(job.identity, len(places))
    return places
