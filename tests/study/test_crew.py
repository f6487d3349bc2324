import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest

from posestill.cluster.attempts import Failure
from posestill.engine.checkpoint import load_state, save_state
from posestill.engine.fit import fit
from posestill.engine.log import RunLog
from posestill.engine.setup import Sources
from posestill.schema import UserError
from posestill.study.crew import goes_on, outcome_of
from posestill.study.lines import name_of
from posestill.study.plan import load_plan
from posestill.study.pool import Workshop
from posestill.study.results import Results
from posestill.study.run import run_plan
from tests.conftest import DotSource, small_run

PLAN = """
regimes:
  few:
    recipe: protocol/synthetic
    set: [data.train.people=24, data.val.people=12, data.labelled=8, train.steps={steps}, train.batch_size=8,
          data.labelled_per_batch=4]
    arms: [alone, longer{more}]
arms:
  longer: {{title: longer, control: alone, length: 2}}
learning_rates: [1.0e-3]
seeds: {{choose: [5], confirm: [1]}}
confirm: {{}}
"""
DYING = """
import os
from pathlib import Path
from posestill import catalog
from posestill.methods.supervised import Supervised, SupervisedConfig

class Dying(Supervised):
    origin = "dies"

    def after_step(self):
        died = Path({marker!r})
        if {always} or not died.exists():
            died.touch()
            os.kill(os.getpid(), 9)

class DyingConfig(SupervisedConfig):
    "It dies."

DyingConfig.distiller = Dying
catalog.METHODS["dying"] = DyingConfig
"""


@pytest.mark.parametrize(
    ("error", "may_pass", "reason"),
    [
        (UserError("data.labelled: too many"), False, "data.labelled: too many"),
        (BrokenProcessPool(), True, "its process was killed, by hand or for want of memory"),
        (KeyboardInterrupt("interrupted after step 3"), True, "interrupted after step 3"),
        (RuntimeError("out of\nmemory"), True, "RuntimeError: out of memory"),
    ],
)
def test_why_a_run_has_no_row_and_whether_another_try_may_fare_better(error, may_pass, reason):
    failed = Future()
    failed.set_exception(error)
    assert outcome_of(failed) == Failure(reason, may_pass=may_pass)


def test_a_row_is_its_own_outcome():
    done = Future()
    done.set_result({"arm": "tcd"})
    assert outcome_of(done) == {"arm": "tcd"}


def test_a_run_folder_goes_on_only_if_it_is_that_of_the_same_run_and_version(tmp_path):
    config, folder = small_run(), tmp_path / "run"
    assert not goes_on(config, folder)
    fit(config, folder, sources=Sources(train=DotSource(24), val=DotSource(24)), quiet=True)
    assert goes_on(config, folder)
    assert not goes_on(config.model_copy(update={"seed": 1}), folder)
    save_state(folder / "last", replace(load_state(folder / "last"), method_version=99))
    assert not goes_on(config, folder)
    (folder / "last" / "training.pt").write_bytes(b"cut off")
    assert not goes_on(config, folder)


def quiet_plan(folder, *, steps=3):
    """Two runs, and nothing happens to them."""
    (folder / "plan.yaml").write_text(PLAN.format(steps=steps, more=""))
    return folder / "plan.yaml"


def dying_plan(folder, *, always=False):
    """A third run, whose process kills itself: once, or always."""
    plan, plugin = folder / "plan.yaml", folder / "dying.py"
    third = "  dying: {title: dying, control: alone, set: [method=dying]}\nlearning_rates"
    plan.write_text(PLAN.format(steps=3, more=", dying").replace("learning_rates", third))
    plugin.write_text(DYING.format(marker=str(folder / "died"), always=always))
    return plan, plugin


def run_screen(folder, plan, plugin):
    program = (
        "from pathlib import Path\nimport sys\nfrom posestill.cli.main import main\n"
        "if __name__ == '__main__':\n"
        f"    sys.argv = ['posestill', 'compare', {str(plan)!r}, '--plugin', {str(plugin)!r}, '--stage', 'screen', "
        f"'--jobs', '2', '--results', {str(folder / 'results')!r}, '--work', {str(folder / 'work')!r}]\n    main()\n"
    )
    (folder / "program.py").write_text(program)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(folder / "program.py")], capture_output=True, text=True, env=environment, timeout=300
    )


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_run_a_second_try_and_no_other_anything(tmp_path):
    done = run_screen(tmp_path, *dying_plan(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "few/dying-lr0.001-seed5: its process was killed, by hand or for want of memory; it is tried" in done.stderr
    rows = {row["arm"]: row for row in Results.read(tmp_path / "results").rows}
    assert set(rows) == {"alone", "dying", "longer"}
    assert rows["dying"]["similarity"] == rows["alone"]["similarity"]
    assert not [path for path in (tmp_path / "work" / "runs").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_run_that_dies_twice_is_named_and_the_others_are_kept(tmp_path):
    done = run_screen(tmp_path, *dying_plan(tmp_path, always=True))
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("posestill: screen: 1 of 3 runs failed, the first of them tune/few/dying-lr0.001-seed5: its")
    assert {row["arm"] for row in Results.read(tmp_path / "results").rows} == {"alone", "longer"}


def test_results_that_cannot_be_written_are_noticed_before_the_first_run(tmp_path):
    plan = quiet_plan(tmp_path)
    (tmp_path / "file").touch()
    shop = Workshop(results=tmp_path / "file" / "results", work=tmp_path / "work", processes=1)
    with pytest.raises(UserError, match=r"file/results cannot be written \(Not a directory\): make room, or name"):
        run_plan(load_plan(plan), shop, Results(tmp_path), RunLog(None, quiet=True), stages=["screen"])
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_a_row_that_cannot_be_written_costs_no_training(tmp_path, monkeypatch):
    plan = quiet_plan(tmp_path)
    shop = Workshop(results=tmp_path / "results", work=tmp_path / "work", processes=1)
    results, log = Results(shop.results), RunLog(None, quiet=True)

    def full(row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "add_run", full)
    with pytest.raises(UserError, match=r"is finished, but its row could not be written .* is kept: make room"):
        run_plan(load_plan(plan), shop, results, log, stages=["screen"])
    states = list((tmp_path / "work" / "runs").rglob("training.pt"))
    assert states
    trained = load_state(states[0].parent)
    assert trained.step == 3
    monkeypatch.undo()
    run_plan(load_plan(plan), shop, results, log, stages=["screen"])
    rows = {name_of(row): row for row in results.rows}
    name = states[0].parent.parent.relative_to(tmp_path / "work" / "runs").as_posix()
    assert rows[name]["training_seconds"] == trained.seconds  # the steps of the first time, and none of a second


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_within_seconds_when_their_parent_is_killed(tmp_path):
    plan = quiet_plan(tmp_path, steps=100000)
    victim = subprocess.Popen(
        [sys.executable, "-m", "posestill", "compare", str(plan), "--jobs", "2", "--stage", "screen",
         "--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")],
        stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "work").rglob("metrics.jsonl"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    children = [int(each) for each in Path(f"/proc/{victim.pid}/task/{victim.pid}/children").read_text().split()]
    assert len(children) >= 2
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    began = time.monotonic()
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() - began < 30:
        time.sleep(0.1)
    assert time.monotonic() - began < 10
