import builtins
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from posestill.engine.config import load_plugin
from posestill.engine.log import RunLog
from posestill.schema import UserError
from posestill.study.gains import compare_rows, unpack_similarity
from posestill.study.jobs import chosen_rates
from posestill.study.lines import name_of
from posestill.study.plan import load_plan
from posestill.study.pool import Workshop
from posestill.study.results import Results
from posestill.study.run import plan_as_run, run_and_write, run_plan
from tests.html.parsed import below, parsed, within

pytestmark = pytest.mark.slow  # whole plans are trained

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


def run(path, workshop, stages=("tune", "screen", "confirm")):
    """The results of a plan's stages, without its tables."""
    results = Results.read(workshop.results)
    run_plan(load_plan(path), workshop, results, RunLog(None, quiet=True), stages=stages)
    return results


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    report = run_and_write(tiny(folder), shop(folder))
    return folder, report


def test_a_plan_leaves_one_file_of_rows_a_table_pictures_and_a_page(finished):
    folder, report = finished
    rows = Results.read(folder / "results").rows
    # tuning 3 arms x 2 rates; screening: 3 of those again, and 3 in the other regime; confirmation 3 arms x 2 seeds
    assert len(rows) == 6 + 3 + 6
    assert {path.name for path in (folder / "results").iterdir()} == {
        "runs.jsonl", "table.md", "summary.json",
        "gain-by-labels.svg", "gain-over-student-alone.svg", "gain-over-pseudo-labels.svg",
    }  # fmt: skip
    assert report == folder / "work" / "report.html"
    assert plan_as_run(Results.read(folder / "results")) == load_plan(tiny(folder))
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
    assert report.read_text().count("<svg") > 3
    assert (folder / "results" / "gain-by-labels.svg").read_text().startswith("<svg ")
    assert not list((folder / "work" / "runs").rglob("*.safetensors"))


def test_the_page_shows_the_same_people_by_every_arm_though_no_model_is_kept(finished):
    folder, report = finished
    plan = load_plan(tiny(folder))
    shown = within(below(parsed(report.read_text()), "The same people, by arm"), "section")
    assert [each.one("h3").text for each in shown] == list(plan.regimes)
    for regime, each in zip(plan.regimes, shown, strict=True):
        titles = [plan.arms[arm].title for arm in plan.arms_of(regime)]
        assert [caption.text for caption in each.all("figcaption")] == ["labels", *titles]
    assert {path.suffix for path in (folder / "work" / "people").rglob("*") if path.is_file()} == {".jpg"}


def test_the_teacher_is_measured_on_the_same_persons_once_and_the_table_tells_how_much_of_the_gap_was_closed(finished):
    folder, _ = finished
    results = folder / "results"
    teachers = Results.read(results).teachers
    assert set(teachers) == {("test", "few"), ("tune", "few"), ("tune", "more")}
    rows, plan = Results.read(results).rows, load_plan(tiny(folder))
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
    before = (results / "runs.jsonl").stat().st_mtime_ns
    run_and_write(tiny(folder), shop(folder), stages=["none"])
    assert (results / "runs.jsonl").stat().st_mtime_ns == before


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
        rows = run(plan, shop(tmp_path, plugins=(plugin,)), stages=["screen"]).rows
    finally:
        del catalog.METHODS["quiet"]
    found = {row["arm"]: row["similarity"] for row in rows if row["regime"] == "few"}
    assert found["quiet"] == found["alone"]


def test_a_control_gets_the_measured_time_of_a_method_and_it_is_measured_once(tmp_path, capsys, monkeypatch):
    path = tiny(tmp_path)
    in_time = "in_time: {title: as long as TCD, control: alone, as_long_as: tcd, tuned_as: alone}"
    text = path.read_text().replace("  tcd: {title: TCD}", f"  tcd: {{title: TCD}}\n  {in_time}")
    text = text.replace("[alone, pseudo_label, tcd]", "[in_time]")
    path.write_text(text)
    run_and_write(path, shop(tmp_path), stages=("tune", "confirm"))
    ratio = Results.read(tmp_path / "results").lengths["few", "in_time"]["ratio"]
    assert f"a step of tcd takes {ratio:.2f} times as long" in capsys.readouterr().err
    rows = [row for row in Results.read(tmp_path / "results").rows if row["arm"] == "in_time"]
    assert {(row["split"], row["steps"]) for row in rows} == {("test", max(1, int(3 * ratio)))}
    monkeypatch.setattr("posestill.study.errands.measure_steps", lambda *_: pytest.fail("measured again"))
    run_and_write(path, shop(tmp_path), stages=("tune", "confirm"))


def test_only_the_prepared_models_that_are_needed_are_trained_and_a_later_one_may_start_from_an_earlier(finished):
    folder, _ = finished
    assert {path.name for path in (folder / "work" / "prepared").iterdir()} == {"first", "second"}
    assert set(Results.read(folder / "results").prepared) == {"first", "second"}
    assert "first/best" in (folder / "work" / "prepared" / "second" / "config.yaml").read_text()


def test_finished_runs_are_not_run_again(finished):
    folder, _ = finished
    assert run(tiny(folder), shop(folder)).loose == []


def test_regimes_that_differ_in_the_teacher_alone_share_the_student_alone(tmp_path):
    path = tiny(tmp_path)
    text = path.read_text().replace("[1.0e-3, 3.0e-3]", "[1.0e-3]").replace("    dose: {labels: 16}\n", "")
    few = text[text.index("  few:") : text.index("  more:")]
    other = few.replace("few:", "other:").replace("set: [", "set: [teacher.cache=false, ")
    path.write_text(text.replace("arms:\n", f"{other}arms:\n", 1))
    rows = run(path, shop(tmp_path), stages=["screen"]).rows
    found = {(row["regime"], row["arm"]): row for row in rows}
    assert found["other", "alone"]["same_run_as"] == "tune/few/alone-lr0.001-seed5"
    assert found["other", "alone"]["similarity"] == found["few", "alone"]["similarity"]
    assert "same_run_as" not in found["other", "tcd"]


def test_a_finished_run_of_other_settings_stops_the_plan(finished):
    folder, _ = finished
    path = folder / "changed.yaml"
    path.write_text(tiny(folder).read_text().replace("train.steps=3", "train.steps=4"))
    with pytest.raises(UserError, match=r"tune/few/alone-lr0\.001-seed5: train\.steps was 3 and is now 4") as told:
        run(path, shop(folder))
    assert f"remove the line of tune/few/alone-lr0.001-seed5 in {folder / 'results' / 'runs.jsonl'}" in str(told.value)


def test_prepared_models_in_another_place_make_no_other_runs(finished, tmp_path):
    folder, _ = finished
    elsewhere = Workshop(results=folder / "results", work=tmp_path / "elsewhere", processes=1)
    assert run(tiny(folder), elsewhere).loose == []
    assert not (tmp_path / "elsewhere").exists()  # with every run finished no model is needed
    begun = {row["regime"]: row["settings"]["model"]["init_from"] for row in Results.read(folder / "results").rows}
    assert begun == {"few": "<second>#backbone", "more": None}


def test_the_arms_of_a_seed_start_alike_and_a_rerun_gives_the_same_figures(finished, tmp_path):
    folder, _ = finished
    before, again = Results.read(folder / "results"), run(tiny(tmp_path), shop(tmp_path), stages=["tune"]).rows
    assert len(again) == 6
    for row in again:
        assert before.run(name_of(row))["similarity"] == row["similarity"]


def test_tables_need_no_run_and_unknown_stages_are_named(finished, tmp_path):
    folder, _ = finished
    run_and_write(tiny(folder), shop(folder), stages=["none"])
    with pytest.raises(UserError, match="no stage 'confrm'"):
        run_and_write(tiny(folder), shop(folder), stages=["confrm"])
    with pytest.raises(UserError, match="nothing is finished"):
        run_and_write(tiny(tmp_path), shop(tmp_path), stages=["none"])


@pytest.fixture
def another(finished, tmp_path):
    """The finished plan and its results, to be changed."""
    shutil.copytree(finished[0] / "results", tmp_path / "results")
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny(finished[0]).read_text())
    return path


def test_a_whole_comparison_reads_each_file_of_rows_once(another, tmp_path, monkeypatch):
    results = Results.read(tmp_path / "results")
    late = {**results.rows[0], "seed": 99}
    results.add_run(late)
    counts, open_file = Counter(), io.open

    def counting(file, mode="r", *args, **keywords):
        if "r" in mode and ("runs" in Path(str(file)).parts or str(file).endswith("runs.jsonl")):
            counts[Path(str(file)).relative_to(tmp_path / "results").as_posix()] += 1
        return open_file(file, mode, *args, **keywords)

    monkeypatch.setattr(io, "open", counting)
    monkeypatch.setattr(builtins, "open", counting)
    run_and_write(another, shop(tmp_path))
    assert counts == {"runs.jsonl": 1, f"runs/{name_of(late)}.json": 1}


def test_tables_alone_say_whether_plan_and_rows_agree(another, tmp_path, capsys):
    run_and_write(another, shop(tmp_path), stages=["none"])
    told = capsys.readouterr().err
    assert "15 of 15 rows agree with the plan" in told
    assert f"{another} are the same." in told
    summary = (tmp_path / "results" / "summary.json").read_text()
    text = another.read_text()
    another.write_text(text.replace("{title: TCD}", "{title: TCD, set: [method.threshold=0.3]}"))
    for _ in range(2):  # the plan that the rows were run by stays as it is
        run_and_write(another, shop(tmp_path), stages=["none"])
        told = capsys.readouterr().err
        assert "10 of 15 rows agree with the plan" in told
        assert "The first that does not is tune/few/tcd-lr0.001-seed5: method.threshold was 0.2 and is now 0.3." in told
        assert f"{another} differ: arms.tcd.set was [] and is now [" in told
    assert (tmp_path / "results" / "summary.json").read_text() == summary


def test_a_finished_study_runs_nothing_and_its_tables_need_nothing_but_its_rows(another, tmp_path, capsys, monkeypatch):
    before = {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir()}
    changed = another.read_text().replace("recipe: protocol/synthetic", "recipe: gone").replace("TCD}", "New}")
    another.write_text(f"{changed}finished: a-tag\n")
    with pytest.raises(UserError, match="finished at the tag a-tag") as told:
        run_and_write(another, shop(tmp_path))
    assert "`--stage none` draws its tables; a copy of the plan under another name" in str(told.value)
    monkeypatch.chdir(tmp_path)
    run_and_write(Path("tiny.yaml"), shop(tmp_path), stages=["none"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir()} == before
    told = capsys.readouterr().err
    assert "0 of 15 rows agree" in told
    assert "that today's code cannot resolve: 15 (alone, pseudo_label, tcd): no recipe 'gone'" in told
    assert "The rows were run by `posestill compare " in told
    assert "tiny.yaml differ: " in told


def test_a_study_is_not_finished_before_all_its_rows_are_gathered(another, tmp_path):
    another.write_text(another.read_text() + "finished: a-tag\n")
    results = Results.read(tmp_path / "results")
    results.add_run({**results.rows[0], "seed": 99})
    with pytest.raises(UserError, match=r"seed99 is not yet in .*runs\.jsonl"):
        run_and_write(another, shop(tmp_path), stages=["none"])
    shutil.rmtree(tmp_path / "results")
    with pytest.raises(UserError, match=r"no .*runs\.jsonl: take that file from version control"):
        run_and_write(another, shop(tmp_path), stages=["none"])


@pytest.mark.slow
def test_a_plan_that_is_killed_and_run_again_gives_the_same_table(finished, tmp_path):
    command = [sys.executable, "-m", "posestill", "compare", str(tiny(tmp_path)), "--jobs", "2",
               "--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(list((tmp_path / "results" / "runs").rglob("*seed*.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = len(Results.read(tmp_path / "results").rows)
    assert 4 <= done < 15
    time.sleep(3)  # its workers notice that they are alone
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=400)

    def lines(folder):
        text = (folder / "results" / "table.md").read_text()
        return [line.rsplit("|", 2)[0] for line in text.splitlines() if line.startswith("|")]  # training s left out

    assert lines(tmp_path) == lines(finished[0])
