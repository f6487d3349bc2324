import importlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest

from posestill.engine.config import load_plugin
from posestill.engine.log import RunLog
from posestill.schema import UserError
from posestill.study.gains import (
    compare_rows,
    gain_over,
    pack_similarity,
    read_rows,
    read_teachers,
    slope_of_gain,
    unpack_similarity,
)
from posestill.study.plan import chosen_rates, load_plan
from posestill.study.run import Workshop, _Clock, _outcome, run_and_write, run_plan

TINY = """
prepare:
  unused: {{recipe: protocol/synthetic}}
  first: {{recipe: protocol/synthetic, set: [method=supervised, teacher=null, data.labelled_per_batch=null,
          data.train.people=24, data.val.people=12, data.labelled=null, train.steps=2, train.batch_size=8]}}
  second: {{recipe: protocol/synthetic, set: [method=supervised, teacher=null, data.labelled_per_batch=null,
           data.train.people=24, data.val.people=12, data.labelled=null, train.steps=2, train.batch_size=8,
           model.init_from=<first>]}}
regimes:
  few:
    recipe: protocol/synthetic
    set: [data.train.people=24, data.val.people=12, data.labelled=8, train.steps=3, train.batch_size=8,
          data.labelled_per_batch=4, data.crops.folder={crops}, "model.init_from=<second>#backbone"]
    test: [data.val.seed=9]
    dose: {{labels: 8}}
  more:
    recipe: protocol/synthetic
    set: [data.train.people=24, data.val.people=12, data.labelled=16, train.steps=3, train.batch_size=8,
          data.labelled_per_batch=4, data.crops.folder={crops}]
    tuned_in: few
    dose: {{labels: 16}}
arms:
  tcd: {{title: TCD}}
learning_rates: [1.0e-3, 3.0e-3]
seeds: {{choose: [5], confirm: [1, 2]}}
confirm: {{few: [alone, pseudo_label, tcd]}}
"""


def tiny(folder):
    path = folder / "tiny.yaml"
    path.write_text(TINY.format(crops=folder / "crops"))
    return path


def shop(folder, **changes):
    return Workshop(results=folder / "results", work=folder / "work", processes=1, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    report = run_and_write(tiny(folder), shop(folder))
    return folder, report


def test_a_plan_leaves_one_file_a_run_a_table_pictures_and_a_page(finished):
    folder, report = finished
    rows = read_rows(folder / "results")
    # tuning 3 arms x 2 rates; screening: 3 of those again, and 3 in the other regime; confirmation 3 arms x 2 seeds
    assert len(rows) == 6 + 3 + 6
    assert len(list((folder / "results").rglob("*seed*.json"))) == len(rows)
    assert {row["protocol"] for row in rows} == {load_plan(tiny(folder)).protocol_hash()}
    table = (folder / "results" / "table.md").read_text()
    assert load_plan(tiny(folder)).protocol_hash() in table
    assert table.count("| few | ") == 6
    assert table.count("| more | ") == 3
    summary = json.loads((folder / "results" / "summary.json").read_text())
    confirmed = {cell["arm"]: cell for cell in summary["cells"]["test"]}
    assert confirmed["tcd"]["seeds"] == [1, 2]
    assert confirmed["tcd"]["gains"]["alone"]["seeds"] == 2
    assert set(confirmed["tcd"]["gains"]) == {"alone", "pseudo_label"}
    assert set(confirmed["alone"]["gains"]) == {"pseudo_label"}
    assert "<svg" in report.read_text()
    assert (folder / "results" / "gain-by-labels.svg").read_text().startswith("<svg ")
    assert not list((folder / "work" / "runs").rglob("*.safetensors"))


def test_the_teacher_is_measured_on_the_same_persons_once_and_the_table_tells_how_much_of_the_gap_was_closed(finished):
    folder, _ = finished
    results = folder / "results"
    teachers = read_teachers(results)
    assert set(teachers) == {("test", "few"), ("tune", "few"), ("tune", "more")}
    rows, plan = read_rows(results), load_plan(tiny(folder))
    cells = compare_rows(plan, rows, "test", chosen_rates(plan, rows), teachers)
    tcd, alone = (next(cell for cell in cells if cell.arm == name) for name in ("tcd", "alone"))
    taught = np.mean(unpack_similarity(teachers["test", "few"]["similarity"]))
    assert taught > 0.5  # the bundled teacher knows such people
    oks = {
        arm: np.mean([unpack_similarity(row["similarity"]) for row in rows
                      if (row["split"], row["arm"], row["learning_rate"]) == ("test", arm, tcd.learning_rate)])
        for arm in ("tcd", "alone")
    }  # fmt: skip
    assert tcd.learning_rate == alone.learning_rate
    assert tcd.gap_closed.mean == pytest.approx((oks["tcd"] - oks["alone"]) / (taught - oks["alone"]))
    assert alone.gap_closed is None
    assert "gap closed, %" in (results / "table.md").read_text()
    before = (results / "teachers" / "test" / "few.json").stat().st_mtime_ns
    run_and_write(tiny(folder), shop(folder), stages=["none"])
    assert (results / "teachers" / "test" / "few.json").stat().st_mtime_ns == before


def test_arms_may_name_parts_of_a_plugin_in_every_process(tmp_path):
    plugin = tmp_path / "quiet_method.py"
    plugin.write_text(
        "from posestill import catalog\nfrom posestill.methods.supervised import SupervisedConfig\n"
        "class Quiet(SupervisedConfig):\n    'The same, by another name.'\ncatalog.METHODS['quiet'] = Quiet\n"
    )
    plan = tiny(tmp_path)
    plan.write_text(
        plan.read_text().replace("arms:\n", "arms:\n  quiet: {title: mine, control: alone, set: [method=quiet]}\n")
        .replace("[1.0e-3, 3.0e-3]", "[1.0e-3]")
    )  # fmt: skip
    catalog = importlib.import_module("posestill.catalog")
    load_plugin(plugin)
    try:
        rows = run_plan(load_plan(plan), shop(tmp_path, plugins=(plugin,)), RunLog(None, quiet=True), stages=["screen"])
    finally:
        del catalog.METHODS["quiet"]
    found = {row["arm"]: row["similarity"] for row in rows if row["regime"] == "few"}
    assert found["quiet"] == found["alone"]


def test_only_the_prepared_models_that_are_needed_are_trained_and_a_later_one_may_start_from_an_earlier(finished):
    folder, _ = finished
    assert {path.name for path in (folder / "work" / "prepared").iterdir()} == {"first", "second"}
    assert {path.stem for path in (folder / "results" / "prepared").glob("*.json")} == {"first", "second"}
    assert "first/best" in (folder / "work" / "prepared" / "second" / "config.yaml").read_text()


def test_finished_runs_are_not_run_again(finished):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*seed*.json")}
    run_plan(load_plan(tiny(folder)), shop(folder), RunLog(None, quiet=True))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_regimes_that_differ_in_the_teacher_alone_share_the_student_alone(tmp_path):
    path = tiny(tmp_path)
    text = path.read_text().replace("[1.0e-3, 3.0e-3]", "[1.0e-3]").replace("    dose: {labels: 16}\n", "")
    few = text[text.index("  few:") : text.index("  more:")]
    other = few.replace("few:", "other:").replace("set: [", "set: [teacher.cache=false, ")
    path.write_text(text.replace("arms:\n", f"{other}arms:\n", 1))
    rows = run_plan(load_plan(path), shop(tmp_path), RunLog(None, quiet=True), stages=["screen"])
    found = {(row["regime"], row["arm"]): row for row in rows}
    assert found["other", "alone"]["same_run_as"] == "tune/few/alone-lr0.001-seed5"
    assert found["other", "alone"]["similarity"] == found["few", "alone"]["similarity"]
    assert "same_run_as" not in found["other", "tcd"]


def test_a_finished_run_of_other_settings_stops_the_plan(finished):
    folder, _ = finished
    path = folder / "changed.yaml"
    path.write_text(tiny(folder).read_text().replace("train.steps=3", "train.steps=4"))
    with pytest.raises(UserError, match="was measured with other settings"):
        run_plan(load_plan(path), shop(folder), RunLog(None, quiet=True))


def test_the_arms_of_a_seed_start_alike_and_a_rerun_gives_the_same_figures(finished, tmp_path):
    folder, _ = finished
    rows = {
        (row["split"], row["regime"], row["arm"], row["learning_rate"], row["seed"]): row
        for row in read_rows(folder / "results")
    }
    again = run_plan(load_plan(tiny(tmp_path)), shop(tmp_path), RunLog(None, quiet=True), stages=["tune"])
    assert len(again) == 6
    for row in again:
        known = rows[row["split"], row["regime"], row["arm"], row["learning_rate"], row["seed"]]
        assert known["similarity"] == row["similarity"]


def test_tables_need_no_run_and_unknown_stages_are_named(finished, tmp_path):
    folder, _ = finished
    run_and_write(tiny(folder), shop(folder), stages=["none"])
    with pytest.raises(UserError, match="no stage 'confrm'"):
        run_and_write(tiny(folder), shop(folder), stages=["confrm"])
    with pytest.raises(UserError, match="nothing is finished"):
        run_and_write(tiny(tmp_path), shop(tmp_path), stages=["none"])


def test_similarities_are_kept_to_a_ten_thousandth():
    values = np.array([0.0, 1.0, 0.12345, np.nan])
    assert pack_similarity(values) == "0 10000 1234 -"
    np.testing.assert_allclose(unpack_similarity(pack_similarity(values)), values, atol=5.1e-5)


def row(arm, seed, level, regime="few", rate=1e-3):
    rng = np.random.default_rng(0)
    return {
        "split": "test", "regime": regime, "arm": arm, "seed": seed, "learning_rate": rate,
        "similarity": pack_similarity(np.clip(rng.normal(0.5, 0.1, 200) + level, 0, 1)),
        "training_seconds": 10.0 * seed,
        "metrics": {"mean_oks": 0.5 + level, "AP": 0.1}, "per_keypoint": {"nose": {"PCK": 0.5}},
    }  # fmt: skip


def test_gains_are_over_the_seeds_that_both_arms_have(finished):
    rows = {seed: row("tcd", seed, 0.02 + 0.01 * seed) for seed in (1, 2, 3)}
    gain = gain_over(rows, {seed: row("alone", seed, 0.0) for seed in (2, 3, 4)})
    assert gain.seeds == 2
    assert gain.mean == pytest.approx(0.045, abs=1e-3)


def test_the_slope_of_a_gain_is_that_of_the_line_through_the_regimes():
    at, noise = [0.6, 0.8, 0.9], np.random.default_rng(1).normal(0, 0.01, (3, 2))
    alone = [{seed: row("alone", seed, 0.0) for seed in (1, 2, 9)} for _ in at]
    taught = [
        {seed: row("tcd", seed, 0.3 * place + moved) for seed, moved in zip((1, 2), moves, strict=True)}
        for place, moves in zip(at, noise, strict=True)
    ]
    levels = [np.mean([unpack_similarity(each["similarity"]) for each in runs.values()]) for runs in taught]
    slope = slope_of_gain(taught, alone, at)
    assert slope.mean == pytest.approx(np.polyfit(at, levels, 1)[0])
    assert slope.seeds == 2
    with pytest.raises(ValueError, match="two places"):
        slope_of_gain(taught[:1], alone[:1], at[:1])


def test_cells_take_runs_of_the_chosen_rate_only_and_holm_counts_the_arms(finished):
    plan = load_plan(tiny(finished[0]))
    rows = [row(arm, seed, level + 0.002 * seed * (arm == "tcd"))
            for arm, level in (("alone", 0.0), ("tcd", 0.05), ("pseudo_label", 0.0)) for seed in (1, 2, 3)]  # fmt: skip
    rows.append(row("tcd", 4, 0.9, rate=9e-3))
    rates = {("few", arm): 1e-3 for arm in plan.arms}
    cells = {cell.arm: cell for cell in compare_rows(plan, rows, "test", rates)}
    assert cells["tcd"].seeds == (1, 2, 3)
    assert cells["tcd"].training_seconds == 20
    assert cells["tcd"].spread == pytest.approx(0.002)
    assert cells["tcd"].adjusted["alone"] == pytest.approx(2 * cells["tcd"].gains["alone"].p)
    assert cells["pseudo_label"].adjusted["alone"] == 1


def test_the_time_that_is_left_is_told_by_what_the_same_arms_took():
    jobs = [SimpleNamespace(regime=regime, arm=arm) for regime in ("few", "more") for arm in ("alone", "tcd")]
    clock = _Clock(jobs, 2, [{"regime": "few", "arm": "tcd", "seconds": 30.0}])
    # left: few/tcd as before, 30; more/alone as few/alone, 10; more/tcd as few/tcd, 30; two at a time
    assert clock.finished(jobs[0], 10.0) == (30 + 10 + 30) / 2


def test_a_run_that_fails_is_named():
    failed = Future()
    failed.set_exception(UserError("data.labelled: too many"))
    with pytest.raises(UserError, match=r"test/few/tcd: data\.labelled: too many"):
        _outcome(failed, SimpleNamespace(name="test/few/tcd"))


@pytest.mark.slow
def test_a_plan_that_is_killed_and_run_again_gives_the_same_table(finished, tmp_path):
    command = [sys.executable, "-m", "posestill", "compare", str(tiny(tmp_path)), "--jobs", "2",
               "--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(list((tmp_path / "results").rglob("*seed*.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = len(read_rows(tmp_path / "results"))
    assert 4 <= done < 15
    time.sleep(3)  # its workers notice that they are alone
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=400)

    def lines(folder):
        text = (folder / "results" / "table.md").read_text()
        return [line.rsplit("|", 2)[0] for line in text.splitlines() if line.startswith("|")]  # training s left out

    assert lines(tmp_path) == lines(finished[0])
