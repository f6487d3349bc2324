"""The committed results are those of the committed protocol, and its intervals err as seldom as they say."""

import json
from pathlib import Path

import numpy as np
import pytest

from posestill.comparison import compare_rows, read_rows
from posestill.metrics.stats import Spreads, false_positive_rate
from posestill.plan import chosen_rates, confirming_jobs, load_plan, screening_jobs, tuning_jobs

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "protocol"
PLAN = load_plan(ROOT / "benchmarks" / "protocol.yaml")
ROWS = read_rows(RESULTS)
SUMMARY = json.loads((RESULTS / "summary.json").read_text())


def test_every_finished_run_is_one_that_the_protocol_asks_for_with_its_very_settings():
    folders = {name: Path("runs/protocol/prepared") / name / "best" for name in PLAN.prepare}
    rates = chosen_rates(PLAN, ROWS)
    asked = {
        job.name: job.settings_hash
        for job in [
            *tuning_jobs(PLAN, folders),
            *screening_jobs(PLAN, folders, rates),
            *confirming_jobs(PLAN, folders, rates),
        ]
    }
    found = {
        str(path.relative_to(RESULTS).with_suffix("")): json.loads(path.read_text())
        for split in ("tune", "test")
        for path in (RESULTS / split).rglob("*.json")
    }
    assert set(found) <= set(asked)
    assert {name: row["settings_hash"] for name, row in found.items()} == {name: asked[name] for name in found}
    assert {row["protocol"] for row in ROWS} == {PLAN.protocol_hash()} == {SUMMARY["protocol"]}


def test_every_confirmed_arm_has_eight_seeds_and_the_summary_is_made_of_the_runs():
    cells = compare_rows(PLAN, ROWS, "test", chosen_rates(PLAN, ROWS))
    assert {(cell.regime, cell.arm) for cell in cells} == {
        (regime, arm) for regime in PLAN.confirm.regimes for arm in PLAN.confirm.arms
    }
    told = {(cell["regime"], cell["arm"]): cell for cell in SUMMARY["cells"]["test"]}
    for cell in cells:
        assert len(cell.seeds) == 8
        assert told[cell.regime, cell.arm]["mean_oks"] == pytest.approx(cell.mean_oks)
        for reference, gain in cell.gains.items():
            assert told[cell.regime, cell.arm]["gains"][reference]["low"] == pytest.approx(gain.low)


@pytest.mark.slow
def test_with_the_spreads_measured_here_the_interval_errs_at_most_seven_times_in_a_hundred():
    simulated = 0
    for cell in SUMMARY["cells"]["test"]:
        if cell["spreads"] is None:
            continue
        gain = cell["gains"][PLAN.baseline]
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
    assert simulated == len(PLAN.confirm.regimes) * (len(PLAN.confirm.arms) - 1)
