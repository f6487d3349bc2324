"""What is committed of the finished studies is whole, small, and says the same as their plans and tables."""

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
from posestill.study.agreement import agreement
from posestill.study.gains import compare_rows
from posestill.study.intervals import Spreads, false_positive_rate
from posestill.study.jobs import chosen_rates
from posestill.study.page import write_comparison
from posestill.study.plan import Plan, load_plan
from posestill.study.results import Results
from posestill.study.run import plan_as_run

ROOT = Path(__file__).parents[2]
ROWS = {
    "protocol": 135,
    "protocol-distilpose": 135,
    "protocol-ocd": 250,
    "protocol-agentpose": 35,
    "protocol-agentpose-few": 232,
}
PLUGINS = {"protocol-ocd": "ocd_variants.py", "protocol-agentpose-few": "agentpose_controls.py"}


@dataclass
class Study:
    """A finished study as it is committed."""

    name: str

    @cached_property
    def plan(self) -> Plan:
        return load_plan(ROOT / "benchmarks" / f"{self.name}.yaml")

    @cached_property
    def results(self) -> Results:
        return Results.read(ROOT / "results" / self.name)

    @cached_property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.results.folder / "summary.json").read_text())


@pytest.fixture(scope="module", params=sorted(ROWS))
def study(request: pytest.FixtureRequest) -> Iterator[Study]:
    known = dict(catalog.METHODS)
    if (plugin := PLUGINS.get(request.param)) is not None:
        load_plugin(ROOT / "benchmarks" / plugin)
    yield Study(request.param)
    catalog.METHODS.clear()
    catalog.METHODS.update(known)


def test_every_row_is_one_that_the_plan_asks_for_today_with_its_very_settings(study):
    assert study.plan.finished
    found = agreement(study.plan, study.results.rows)
    assert len(found.sentences()) == 1, found.sentences()
    assert found.agreeing == found.rows == ROWS[study.name] == study.summary["runs"]


def test_the_rows_are_of_one_protocol_and_their_plan_is_the_one_in_benchmarks(study):
    plan = plan_as_run(study.results)
    assert {row["protocol"] for row in study.results.rows} == {plan.protocol_hash()} == {study.summary["protocol"]}
    assert plan.model_copy(update={"finished": None}) == study.plan.model_copy(update={"finished": None})


def test_every_confirmed_arm_has_the_first_seeds(study):
    plan, rows = study.plan, study.results.rows
    rates = chosen_rates(plan, rows)
    seeds: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if row["split"] == "test":
            assert row["learning_rate"] == rates[row["regime"], row["arm"]]
            seeds.setdefault((row["regime"], row["arm"]), []).append(row["seed"])
    assert set(seeds) == {(regime, arm) for regime, arms in plan.confirm.items() for arm in arms}
    for found in seeds.values():
        assert tuple(sorted(found)) == plan.seeds.confirm[: len(found)]
        assert len(found) >= 3


def test_a_study_keeps_its_rows_its_table_its_summary_and_three_pictures_at_most(study):
    names = [path.name for path in study.results.folder.iterdir() if path.name != "runs"]
    pictures = [name for name in names if name.endswith(".svg")]
    assert sorted(set(names) - set(pictures)) == ["runs.jsonl", "summary.json", "table.md"]
    assert len(pictures) <= 3


def test_all_results_are_at_most_a_hundred_files_and_eight_megabytes():
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file() and path.parts[-3:-2] != ("runs",)]
    assert len(files) <= 100
    assert sum(path.stat().st_size for path in files) <= 8_000_000


@pytest.mark.release
def test_table_and_summary_are_made_of_the_rows_alone_byte_for_byte(study, tmp_path):
    results = Results.read(study.results.folder)
    results.folder = tmp_path
    plan, told = plan_as_run(results), results.plan
    write_comparison(plan, results, chosen_rates(plan, results.rows), name=told["name"], command=told["command"],
                     report=tmp_path / "report.html")  # fmt: skip
    for path in study.results.folder.iterdir():
        if path.suffix in (".md", ".json", ".svg"):
            assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_confirmed_gains_over_the_baseline_in_the_summary_are_those_of_the_rows(study):
    """In one regime each; the slow tier makes the whole of the summary anew."""
    if not study.plan.confirm:
        pytest.skip("this study was screened only")
    regime = min(study.plan.confirm, key=lambda name: len(study.plan.confirm[name]))
    plan = study.plan.model_copy(update={"regimes": {regime: study.plan.regimes[regime]}, "controls": ()})
    cells = compare_rows(plan, study.results.rows, "test", chosen_rates(study.plan, study.results.rows))
    told = {cell["arm"]: cell for cell in study.summary["cells"]["test"] if cell["regime"] == regime}
    assert {cell.arm for cell in cells} == set(told)
    for cell in cells:
        assert told[cell.arm]["mean_oks"] == cell.mean_oks
        for reference, gain in cell.gains.items():
            assert told[cell.arm]["gains"][reference]["low"] == gain.low
            assert told[cell.arm]["gains"][reference]["high"] == gain.high


@pytest.mark.release
def test_with_the_spreads_measured_here_the_interval_errs_at_most_seven_times_in_a_hundred(study):
    plan, simulated = study.plan, 0
    for cell in study.summary["cells"].get("test", ()):
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
