"""Whether a plan and the rows of its study still agree, and the first setting in which they do not, by its name.

A row that is older than some setting lacks it. That is no difference while the setting has its default, which leaves
everything as it was before there was such a setting; a default that does not makes another version of the method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from posestill.engine.differences import first_difference
from posestill.schema import SettingsError, UserError
from posestill.study.jobs import Asked, Job, Resolver, chosen_rates, confirming, screening, tuning
from posestill.study.lines import Row, name_of
from posestill.study.plan import Plan


@dataclass(frozen=True)
class Agreement:
    """What a plan asks for today beside what was run."""

    rows: int
    agreeing: int
    """rows whose settings and version of the method are what the plan resolves today under their names"""
    first: str
    """the first of the differences; empty where there is none"""
    strange: Sequence[str]
    """rows that no stage asks for"""
    missing: Sequence[str]
    """runs that are asked for and have no row"""
    unresolved: Mapping[str, Sequence[Row]]
    """rows whose arm cannot be resolved today, by the reason"""
    unknown: str
    """why the stages after tuning cannot be said to ask for anything yet; empty where they can"""

    def sentences(self) -> list[str]:
        """The verdict in a line, and a line for everything that is not as it should be."""
        told = [f"{self.agreeing} of {self.rows} rows agree with the plan, in all settings and the method's version."]
        if self.first:
            told.append(f"The first that does not is {self.first}.")
        for reason, rows in self.unresolved.items():
            arms = ", ".join(dict.fromkeys(row["arm"] for row in rows))
            told.append(f"Rows of arms that today's code cannot resolve: {len(rows)} ({arms}): {reason}")
        if self.strange:
            told.append(f"Rows that no stage asks for: {len(self.strange)}, the first {self.strange[0]}.")
        if self.missing:
            told.append(f"Runs that are asked for and have no row: {len(self.missing)}, the first {self.missing[0]}.")
        if self.unknown:
            told.append(f"What screening and confirmation ask for is not known yet: {self.unknown}.")
        return told


def agreement(
    plan: Plan, rows: Sequence[Row], lengths: Mapping[tuple[str, str], Row] = MappingProxyType({})
) -> Agreement:
    """Compare every row with what the plan resolves today for its place, and the places with those asked for.

    `lengths` are those that were measured, by regime and arm.
    """
    resolver = Resolver(plan, lengths)
    first, agreeing, strange, unresolved = "", 0, list[str](), dict[str, list[Row]]()
    for row in rows:
        if row["regime"] not in plan.regimes or row["arm"] not in plan.arms:
            strange.append(name_of(row))
            continue
        try:
            job = resolver.job(Asked(row["split"], row["regime"], row["arm"], row["learning_rate"], row["seed"]))
        except UserError as error:
            unresolved.setdefault(_reason(error), []).append(row)
            continue
        found = difference_of(row, job)
        agreeing += found is None
        if found is not None and not first:
            first = f"{name_of(row)}: {found}"
    asked, unknown, known = tuning(plan), "", [name_of(row) for row in rows]
    try:
        rates = chosen_rates(plan, rows)
    except UserError as error:
        unknown = str(error)
    else:
        asked += [*screening(plan, rates), *confirming(plan, rates)]
        names = {each.name for each in asked}
        strange = [name for name in known if name not in names]
    return Agreement(
        rows=len(rows),
        agreeing=agreeing,
        first=first,
        strange=strange,
        missing=list(dict.fromkeys(each.name for each in asked if each.name not in known)),
        unresolved=unresolved,
        unknown=unknown,
    )


def difference_of(row: Row, job: Job) -> str | None:
    """The first thing in which a row was run otherwise than the job asks today; None where they are the same run."""
    if (found := first_difference(row["settings"], job.settings, job.chosen)) is not None:
        return found
    if row["method_version"] != job.version:
        return f"the method's version was {row['method_version']} and is now {job.version}"
    return None


def _reason(error: UserError) -> str:
    """What is wrong without where: the same for all arms that one thing is wrong with."""
    return error.what if isinstance(error, SettingsError) else str(error)
