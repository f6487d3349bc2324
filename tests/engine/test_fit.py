import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from posestill.engine.beside import put_beside
from posestill.engine.checkpoint import load_state, save_state
from posestill.engine.fit import _Run, fit
from posestill.engine.log import RunLog
from posestill.engine.setup import Sources, try_one_batch
from posestill.engine.stopping import Stopped
from posestill.html.course import read_metrics
from posestill.html.report import write_run_report
from posestill.models.pose_model import PoseModel, read_weights
from posestill.schema import UserError
from tests.conftest import DotSource, small_model, small_model_config, small_run


def sources(count=24):
    return Sources(train=DotSource(count), val=DotSource(count))


def fit_until(step, config, folder, **settings):
    """A run that is interrupted once it has saved this step."""
    save = _Run.save

    def save_and_stop(run, done):
        save(run, done)
        if done == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Run, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fit(config, folder, sources=sources(), quiet=True, **settings)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_leaves_the_folder_that_the_design_names(tmp_path):
    config = small_run(evaluate={"every": 3})
    result = fit(config, tmp_path / "run", sources=sources(), quiet=True)
    write_run_report(result, config, put_beside(config, tmp_path / "run", result.sources))
    found = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert found == {
        "config.yaml", "metrics.jsonl", "eval.json", "beside.json", "report.html", "best/model.safetensors",
        "best/config.json", "last/training.pt",
    }  # fmt: skip
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "task" in row] == [2, 4, 6]
    assert [row["step"] for row in rows if "evaluation" in row] == [3, 6]
    figures = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert figures["conditions"]["boxes"] == "ground truth"
    assert figures["conditions"]["input_size"] == [32, 24]
    assert figures["conditions"]["flip_test"] is True
    shipped = PoseModel.load(tmp_path / "run" / "best")
    assert shipped.lineage["method"] == "supervised"


@pytest.mark.parametrize("kind", ["heatmap", "coords"])
def test_training_learns_the_dots(tmp_path, kind):
    changes = {
        "train": {"steps": 150, "batch_size": 8, "optimiser": {"learning_rate": 5e-3, "schedule": "cosine",
                                                               "warmup_steps": 5}},
        "evaluate": {"flip_test": False},
    }  # fmt: skip
    result = fit(small_run(kind, **changes), tmp_path / "run", sources=sources(), quiet=True)
    assert result.evaluation.metrics["mean_oks"] > 0.75
    assert result.evaluation.metrics["AP"] > 0.5


@pytest.mark.parametrize(("ema", "sampler"), [(None, "by_person"), (0.9, "by_person"), (None, "by_image")])
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not_bit_for_bit(tmp_path, ema, sampler):
    plain = small_run()
    config = small_run(
        data={**plain.data.model_dump(mode="json"), "sampler": sampler, "buffer": 24},
        train={"steps": 10, "batch_size": 8, "log_every": 3, "ema": ema, "clip_norm": 1.0, "save_every": 1,
               "optimiser": {"name": "adamw", "learning_rate": 3e-3, "weight_decay": 0.01, "warmup_steps": 2}},
        evaluate={"every": 4},
    )  # fmt: skip
    fit(config, tmp_path / "whole", sources=sources(), quiet=True)
    fit_until(5, config, tmp_path / "parts")
    fit_until(7, config, tmp_path / "parts", resume=True)
    fit(config, tmp_path / "parts", sources=sources(), quiet=True, resume=True)
    one, other = (load_state(tmp_path / name / "last") for name in ("whole", "parts"))
    assert equal(one.distiller, other.distiller)
    assert one.best == other.best
    if ema is not None:
        assert equal(one.averaged, other.averaged)
        assert not equal(one.averaged, one.distiller)
    assert equal(read_weights(tmp_path / "whole" / "best"), read_weights(tmp_path / "parts" / "best"))
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    for rows in logs:
        for row in rows:
            row.pop("persons_per_second", None)
    assert logs[0] == logs[1]


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({}, {"name": "agentpose", "distil_weight": "auto"}),
        ({"neck": {"name": "agent_paper"}}, {"name": "agentpose_paper"}),
        ({}, {"name": "tcd", "heatmap_weight": "auto"}),
        ({}, {"name": "several", "of": [{"name": "tcd", "heatmap_weight": "auto"}, {"name": "agentpose"}]}),
    ],
)
def test_what_a_method_keeps_account_of_survives_a_stop(tmp_path, changes, method):
    small_model("heatmap", seed=5).save(tmp_path / "teacher")
    config = small_run(
        method=method, model=small_model_config("coords", **changes).model_dump(mode="json"),
        teacher=str(tmp_path / "teacher"), evaluate={"every": 3},
        train={"steps": 6, "batch_size": 8, "log_every": 3, "ema": 0.9, "save_every": 1},
    )  # fmt: skip
    fit(config, tmp_path / "whole", sources=sources(), quiet=True)
    fit_until(4, config, tmp_path / "parts")
    fit(config, tmp_path / "parts", sources=sources(), quiet=True, resume=True)
    one, other = (load_state(tmp_path / name / "last") for name in ("whole", "parts"))
    assert equal(one.distiller, other.distiller)
    assert equal(one.averaged, other.averaged)


def test_the_method_changes_neither_the_initial_weights_nor_the_order(tmp_path):
    small_model("heatmap", seed=5).save(tmp_path / "teacher")
    frozen = {"steps": 1, "batch_size": 8, "optimiser": {"learning_rate": 1e-12, "warmup_steps": 0}}
    weights = []
    for method, teacher in (("supervised", None), ("tcd", str(tmp_path / "teacher"))):
        config = small_run("coords", method=method, teacher=teacher, train=frozen)
        fit(config, tmp_path / method, sources=sources(), quiet=True)
        state = load_state(tmp_path / method / "last").distiller
        weights.append(state)  # also the running statistics, in which another order would show
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-9, rtol=0)


class Slow(DotSource):
    """People whose pictures take two milliseconds to read."""

    def image(self, image_id):
        time.sleep(0.002)
        return super().image(image_id)


def test_the_time_of_a_training_counts_the_pictures_that_are_read(tmp_path):
    config = small_run(train={"steps": 8, "batch_size": 8})
    result = fit(config, tmp_path / "run", sources=Sources(Slow(16), DotSource(8)), quiet=True)
    assert result.seconds > 8 * 8 * 0.002
    rates = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(row.get("persons_per_second", 0) for row in rates) < 1 / 0.002


def test_unlabelled_people_reach_the_teacher_terms_only(tmp_path):
    small_model("heatmap", seed=5).save(tmp_path / "teacher")
    config = small_run("coords", method="tcd", teacher={"name": str(tmp_path / "teacher"), "cache": True})
    data = config.data.model_copy(update={"people": 20, "labelled": 4, "labelled_per_batch": 2})
    fit(config.model_copy(update={"data": data}), tmp_path / "run", sources=sources(), quiet=True)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {"task", "head"} <= set(rows[0])


def test_a_run_folder_in_use_and_another_runs_folder_are_refused(tmp_path):
    config = small_run()
    fit(config, tmp_path, sources=sources(), quiet=True)
    with pytest.raises(UserError, match="holds a run already: choose another --out, or go on with it by --resume"):
        fit(config, tmp_path, sources=sources(), quiet=True)
    with pytest.raises(UserError, match="describes another run: seed was 0 and is now 1"):
        fit(config.model_copy(update={"seed": 1}), tmp_path, sources=sources(), quiet=True, resume=True)
    (tmp_path / "last" / "training.pt").write_bytes(b"PK no")
    with pytest.raises(UserError, match=r"training\.pt is broken"):
        fit(config, tmp_path, sources=sources(), quiet=True, resume=True)


def stop_at(step, config, folder, *, when="train_step", **settings):
    """A run that is told to stop in this step, as a signal tells it."""
    original = getattr(_Run, when)

    def told(run, at, *arguments):
        if at == step:
            run.stop.asked = True
        return original(run, at, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Run, when, told)
        with pytest.raises(Stopped) as stopped:
            fit(config, folder, sources=sources(), quiet=True, **settings)
    return str(stopped.value)


def test_a_run_that_is_asked_to_stop_saves_and_says_from_where_it_goes_on(tmp_path):
    config = small_run()
    assert stop_at(2, config, tmp_path / "run") == (
        "interrupted after step 3, which is saved: --resume goes on from there"
    )
    assert load_state(tmp_path / "run" / "last").step == 3
    assert stop_at(3, config, tmp_path / "run", resume=True).startswith("interrupted after step 4")
    fit(config, tmp_path / "run", sources=sources(), quiet=True, resume=True)
    fit(config, tmp_path / "whole", sources=sources(), quiet=True)
    one, other = (load_state(tmp_path / name / "last") for name in ("whole", "run"))
    assert equal(one.distiller, other.distiller)


def test_a_run_that_is_stopped_in_an_evaluation_goes_on_with_it(tmp_path):
    config = small_run(evaluate={"every": 3})
    assert stop_at(3, config, tmp_path / "run", when="evaluate").startswith("interrupted after step 3")
    assert load_state(tmp_path / "run" / "last").evaluated is False
    assert not (tmp_path / "run" / "best").exists()
    fit(config, tmp_path / "run", sources=sources(), quiet=True, resume=True)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "evaluation" in row] == [3, 6]


def test_a_run_saves_when_the_minutes_have_passed(tmp_path):
    timed = small_run(
        train={"steps": 6, "batch_size": 8, "log_every": 2, "save_every_minutes": 1e-9,
               "optimiser": {"learning_rate": 3e-3, "warmup_steps": 2}},
    )  # fmt: skip
    saved = []
    save = _Run.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Run, "save", lambda run, step, **more: (saved.append(step), save(run, step, **more)))
        fit(timed, tmp_path / "often", sources=sources(), quiet=True)
        assert saved == [1, 2, 3, 4, 5, 6]
        saved.clear()
        fit(small_run(), tmp_path / "seldom", sources=sources(), quiet=True)
        assert saved == [6]


def test_resume_starts_where_nothing_is_saved_and_says_so(tmp_path, capsys):
    config = small_run()
    fit(config, tmp_path / "run", sources=sources(), resume=True)
    assert f"nothing to resume in {tmp_path / 'run'}: starting at step 0" in capsys.readouterr().err
    fit(config, tmp_path / "run", sources=sources(), resume=True)
    assert "going on from step 6" in capsys.readouterr().err


def test_a_finished_run_of_a_constant_rate_is_made_longer_bit_for_bit(tmp_path):
    def of(steps):
        optimiser = {"learning_rate": 3e-3, "warmup_steps": 2}
        return small_run(train={"steps": steps, "batch_size": 8, "log_every": 2, "optimiser": optimiser})

    fit(of(4), tmp_path / "run", sources=sources(), quiet=True)
    fit(of(8), tmp_path / "run", sources=sources(), quiet=True, resume=True)
    fit(of(8), tmp_path / "whole", sources=sources(), quiet=True)
    one, other = (load_state(tmp_path / name / "last") for name in ("whole", "run"))
    assert equal(one.distiller, other.distiller)
    with pytest.raises(UserError, match="has reached step 8 and would end at step 6: give it more steps"):
        fit(of(6), tmp_path / "run", sources=sources(), quiet=True, resume=True)


def test_seconds_of_training_are_counted_across_a_stop(tmp_path):
    config = small_run()
    stop_at(3, config, tmp_path / "run")
    before = load_state(tmp_path / "run" / "last").seconds
    assert before > 0
    assert fit(config, tmp_path / "run", sources=sources(), quiet=True, resume=True).seconds > before


def test_a_state_of_another_model_or_another_version_of_the_method_is_refused(tmp_path):
    config = small_run()
    fit(config, tmp_path / "run", sources=sources(), quiet=True)
    state = load_state(tmp_path / "run" / "last")
    save_state(tmp_path / "run" / "last", replace(state, method_version=99))
    with pytest.raises(UserError, match="was begun by version 99 of its method, and this is version 1"):
        fit(config, tmp_path / "run", sources=sources(), quiet=True, resume=True)
    fit(small_run("coords"), tmp_path / "other", sources=sources(), quiet=True)
    save_state(tmp_path / "run" / "last", load_state(tmp_path / "other" / "last"))
    with pytest.raises(UserError, match="last is of another model"):
        fit(config, tmp_path / "run", sources=sources(), quiet=True, resume=True)


def test_a_loss_that_explodes_ends_the_run_with_advice(tmp_path):
    config = small_run(
        "coords", train={"steps": 60, "batch_size": 8, "log_every": 5,
                         "optimiser": {"name": "sgd", "learning_rate": 1e30, "warmup_steps": 0}},
    )  # fmt: skip
    with pytest.raises(UserError, match="'task' was not finite by step .*lower train.optimiser.learning_rate"):
        fit(config, tmp_path, sources=sources(), quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"steps": 2, "precision": "fp16"}}, "fp16 needs a CUDA GPU"),
        ({"train": {"steps": 2, "batch_size": 8, "trackers": ["mlflow"]}}, "mlflow not installed: pip install mlflow"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(tmp_path, changes, message):
    if torch.cuda.is_available() or importlib.util.find_spec("mlflow"):
        pytest.skip("both work here")
    with pytest.raises(UserError, match=message):
        fit(small_run(**changes), tmp_path / "run", sources=sources(), quiet=True)
    assert not (tmp_path / "run").exists()


def test_bf16_trains_nearly_as_fp32_does_with_a_cached_teacher(tmp_path):
    small_model("heatmap", seed=5).save(tmp_path / "teacher")
    logged = {}
    for precision in ("fp32", "bf16"):
        config = small_run(
            "coords", method={"name": "tcd", "threshold": -1.0},
            teacher={"name": str(tmp_path / "teacher"), "cache": True},
            train={"steps": 4, "batch_size": 8, "log_every": 4, "precision": precision},
        )  # fmt: skip
        fit(config, tmp_path / precision, sources=sources(), quiet=True)
        logged[precision] = read_metrics(tmp_path / precision / "metrics.jsonl")[0]["task"]
    assert logged["bf16"] == pytest.approx(logged["fp32"], rel=0.02)
    assert logged["bf16"] != logged["fp32"]


def test_tensorboard_is_an_option(tmp_path):
    config = small_run(train={"steps": 2, "batch_size": 8, "log_every": 1, "trackers": ["tensorboard"]})
    fit(config, tmp_path, sources=sources(), quiet=True)
    assert list(tmp_path.rglob("events.out.tfevents*"))


def test_sources_of_different_keypoints_are_refused(tmp_path):
    from posestill.engine.setup import open_sources

    run = small_run()
    other = DotSource(4)
    stub = type("Stub", (), {"build": lambda self: other})()
    data = run.data.model_copy(update={"val": stub})
    with pytest.raises(UserError, match="17 keypoints .* 4 .*must be the same"):
        open_sources(run.model_copy(update={"data": data}))


def test_a_dry_run_tries_one_batch():
    assert try_one_batch(small_run(), sources(), log=RunLog(None, quiet=True))["task"] > 0


def test_workers_cut_the_same_crops(tmp_path):
    config = small_run(train={"steps": 3, "batch_size": 8, "optimiser": {"learning_rate": 1e-3}})
    fit(config, tmp_path / "zero", sources=sources(), quiet=True)
    two = config.model_copy(update={"train": config.train.model_copy(update={"workers": 2})})
    fit(two, tmp_path / "two", sources=sources(), quiet=True)
    one, other = (load_state(tmp_path / name / "last").distiller for name in ("zero", "two"))
    assert equal(one, other)


@pytest.mark.slow
def test_a_compiled_student_trains_as_an_eager_one_does(tmp_path):
    logged = []
    for compiled in (False, True):
        train = {"steps": 2, "batch_size": 8, "log_every": 2, "compile": compiled, "ema": 0.5}
        fit(small_run("coords", train=train), tmp_path / str(compiled), sources=sources(), quiet=True)
        logged.append(read_metrics(tmp_path / str(compiled) / "metrics.jsonl")[0]["task"])
        PoseModel.load(tmp_path / str(compiled) / "best")
    assert logged[1] == pytest.approx(logged[0], rel=1e-4)


RECIPE = """
data:
  train: {name: synthetic, people: 64, size: [64, 48]}
  val: {name: synthetic, people: 37, size: [64, 48], seed: 9}
model: {size: [32, 32], backbone: {name: small_resnet, channels: [8, 16]}, head: flat_fc, codec: coords}
method: supervised
train: {steps: 60, batch_size: 8, log_every: 5, save_every: 5, optimiser: {learning_rate: 1e-3, warmup_steps: 5}}
evaluate: {every: 30}
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "posestill", "train", str(tmp_path / "r.yaml"), "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    victim = subprocess.Popen([*command, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    state = tmp_path / "killed" / "last" / "training.pt"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    reached = load_state(tmp_path / "killed" / "last").step
    assert 0 < reached < 60
    subprocess.run([*command, str(tmp_path / "killed"), "--resume"], check=True, capture_output=True)
    one, other = (load_state(tmp_path / name / "last") for name in ("whole", "killed"))
    assert equal(one.distiller, other.distiller)
    assert equal(read_weights(tmp_path / "whole" / "best"), read_weights(tmp_path / "killed" / "best"))


@pytest.mark.slow
def test_two_processes_evaluate_each_person_exactly_once_and_train_the_same_model(tmp_path):
    # One evaluation, at the end, so that the model in `best/` is the one whose rows are compared.
    (tmp_path / "r.yaml").write_text(RECIPE.replace("every: 30", "every: 60"))
    program = tmp_path / "rows.py"
    program.write_text(
        "import sys, json\n"
        "from pathlib import Path\n"
        "import torch\n"
        "torch.set_num_threads(1)\n"
        "from posestill.engine.config import load_run\n"
        "from posestill.engine.fit import fit\n"
        "result = fit(load_run(sys.argv[1]), Path(sys.argv[2]))\n"
        "poses = result.evaluation.poses\n"
        "if result.is_main_process:\n"
        "    rows = {'person': poses.person.tolist(), 'keypoints': poses.keypoints.tolist()}\n"
        "    Path(sys.argv[2], 'rows.json').write_text(json.dumps(rows))\n"
    )
    run = [str(program), str(tmp_path / "r.yaml")]
    subprocess.run([sys.executable, *run, str(tmp_path / "one")], check=True, capture_output=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*torchrun, *run, str(tmp_path / "two")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "rows.json").read_text()) for name in ("one", "two"))
    assert one["person"] == two["person"] == list(range(37))
    # Batch norm sees half a batch in each of two processes, so the models differ; the same model must not.
    model = PoseModel.load(tmp_path / "two" / "best")
    from posestill.data.synthetic.people import SyntheticConfig
    from posestill.evaluation.evaluate import evaluate_model

    source = SyntheticConfig(people=37, size=(64, 48), seed=9).build()
    again = evaluate_model(model, source).poses
    torch.testing.assert_close(
        torch.tensor(two["keypoints"]).double(), torch.from_numpy(again.keypoints), atol=1e-3, rtol=0
    )
    assert len(read_metrics(tmp_path / "two" / "metrics.jsonl")) == len(
        read_metrics(tmp_path / "one" / "metrics.jsonl")
    )
