"""The committed results are those of the committed protocols, and their intervals err as seldom as they say."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posestill import catalog
from posestill.engine.config import load_plugin
from posestill.study.gains import compare_rows, read_rows
from posestill.study.intervals import Spreads, false_positive_rate
from posestill.study.plan import Plan, chosen_rates, confirming_jobs, load_plan, screening_jobs, tuning_jobs

ROOT = Path(__file__).parents[2]


@dataclass
class Results:
    """A plan and what was committed of its runs."""

    name: str

    @cached_property
    def plan(self) -> Plan:
        return load_plan(ROOT / "benchmarks" / f"{self.name}.yaml")

    @cached_property
    def folder(self) -> Path:
        return ROOT / "results" / self.name

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.folder)

    @cached_property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "summary.json").read_text())


PLUGINS = {
    "protocol": None,
    "protocol-distilpose": None,
    "protocol-ocd": "ocd_variants.py",
    "protocol-agentpose": None,
    "protocol-agentpose-few": "agentpose_controls.py",
}


@pytest.fixture(scope="module", params=sorted(PLUGINS))
def results(request: pytest.FixtureRequest) -> Iterator[Results]:
    known = dict(catalog.METHODS)
    if (plugin := PLUGINS[request.param]) is not None:
        load_plugin(ROOT / "benchmarks" / plugin)
    yield Results(request.param)
    catalog.METHODS.clear()
    catalog.METHODS.update(known)


def test_every_finished_run_is_one_that_the_protocol_asks_for_with_its_very_settings(results):
    plan, rows = results.plan, results.rows
    folders = {name: Path("runs") / results.name / "prepared" / name / "best" for name in plan.prepare}
    rates = chosen_rates(plan, rows)
    asked = {
        job.name: job.settings_hash
        for job in [
            *tuning_jobs(plan, folders),
            *screening_jobs(plan, folders, rates),
            *confirming_jobs(plan, folders, rates),
        ]
    }
    found = {
        str(path.relative_to(results.folder).with_suffix("")): json.loads(path.read_text())
        for split in ("tune", "test")
        for path in (results.folder / split).rglob("*.json")
    }
    assert set(found) <= set(asked)
    assert {name: row["settings_hash"] for name, row in found.items()} == {name: asked[name] for name in found}
    assert {row["protocol"] for row in rows} == {plan.protocol_hash()} == {results.summary["protocol"]}


def test_every_confirmed_arm_has_the_first_seeds_and_the_summary_is_made_of_the_runs(results):
    plan, summary = results.plan, results.summary
    cells = compare_rows(plan, results.rows, "test", chosen_rates(plan, results.rows))
    assert {(cell.regime, cell.arm) for cell in cells} == {
        (regime, arm) for regime, arms in plan.confirm.items() for arm in arms
    }
    told = {(cell["regime"], cell["arm"]): cell for cell in summary["cells"].get("test", ())}
    for cell in cells:
        assert cell.seeds == plan.seeds.confirm[: len(cell.seeds)]
        assert len(cell.seeds) >= 3
        assert told[cell.regime, cell.arm]["mean_oks"] == pytest.approx(cell.mean_oks)
        for reference, gain in cell.gains.items():
            assert told[cell.regime, cell.arm]["gains"][reference]["low"] == pytest.approx(gain.low)


@pytest.mark.slow
def test_with_the_spreads_measured_here_the_interval_errs_at_most_seven_times_in_a_hundred(results):
    plan, simulated = results.plan, 0
    for cell in results.summary["cells"].get("test", ()):
        if cell["spreads"] is None:
            continue
        gain = cell["gains"][plan.baseline]
        for seeds in (3, gain["seeds"]):
            rate = false_positive_rate(
                Spreads(**cell["spreads"]),
                seeds=seeds,
                persons=gain["persons"],
                trials=2000,
                rng=np.random.default_rng(seeds),
            )
            assert rate <= 0.07, (cell["regime"], cell["arm"], seeds, rate)
        simulated += 1
    assert simulated == sum(len(arms) - 1 for arms in plan.confirm.values())
