"""The files of examples/: they can be read by a shell, their commands exist, and what needs no cluster is run."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from posestill.cli.main import app
from tests.cli.conftest import RECIPE
from tests.networks import write_photos, write_teacher

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path for path in EXAMPLES.rglob("*") if path.suffix in (".sh", ".sbatch"))


def names(paths):
    return [path.relative_to(EXAMPLES).as_posix() for path in paths]


def commands_of(script):
    """The words of each posestill command of a script."""
    lines = script.read_text().replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|\s)posestill\s(.*)$", line) for line in lines if not line.startswith("#")]
    return [shlex.split(each[1]) for each in found if each]


def options_of(words):
    """The options of the command that some words call, `--no-` forms included."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    return {option for each in command.params for option in (*each.opts, *each.secondary_opts)}


def test_every_example_has_a_page_that_says_what_to_change():
    assert names(SCRIPTS) == [
        "ray/head.sh", "ray/run.sh", "ray/worker.sh", "slurm/compare.sbatch", "slurm/label.sbatch",
        "slurm/teacher-cache.sbatch", "torchrun/train.sh",
    ]  # fmt: skip
    for folder in sorted({path.parent for path in SCRIPTS}):
        page = (folder / "README.md").read_text()
        assert "change" in page.lower()
        assert all(path.name in page for path in SCRIPTS if path.parent == folder), folder


@pytest.mark.parametrize("script", SCRIPTS, ids=names(SCRIPTS))
def test_a_shell_can_read_it(script):
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=names(SCRIPTS))
def test_its_commands_exist_with_these_options(script):
    commands = commands_of(script)
    assert commands or script.parent.name == "ray"
    for words in commands:
        known = options_of(words)
        assert {word for word in words if word.startswith("--")} <= known


def run(script, folder, **changes):
    """A script in a folder, where `posestill` is that of this interpreter."""
    (folder / "bin").mkdir(exist_ok=True)
    command = folder / "bin" / "posestill"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m posestill "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", str(script)], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **changes},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_torchrun_trains_by_two_processes_and_goes_on_where_it_was(tmp_path):
    (tmp_path / "small.yaml").write_text(RECIPE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    how = {"RECIPE": "small.yaml", "OUT": "run", "GPUS": "2", "PORT": port}
    assert "2 x cpu" in run(EXAMPLES / "torchrun" / "train.sh", tmp_path, **how)
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()
    run(EXAMPLES / "torchrun" / "train.sh", tmp_path, **how)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 4


@pytest.mark.slow
def test_an_array_of_jobs_labels_every_picture(tmp_path):
    write_teacher(tmp_path / "teacher.onnx")
    write_photos(tmp_path / "photos", 4)
    script = tmp_path / "label.sbatch"
    text = (EXAMPLES / "slurm" / "label.sbatch").read_text()
    assert re.search(r"--array=1-(\d+)", text)[1] == re.search(r"^N=(\d+)", text, flags=re.M)[1]
    script.write_text(re.sub(r"^N=\d+", "N=2", text, flags=re.M))
    run(script, tmp_path, SLURM_ARRAY_TASK_ID="2")
    assert not (tmp_path / "labels.json").exists()
    run(script, tmp_path, SLURM_ARRAY_TASK_ID="1")
    assert len(json.loads((tmp_path / "labels.json").read_text())["annotations"]) == 4
