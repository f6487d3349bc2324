"""Tests that join a Ray cluster, in a process of their own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_cases(path: Path, folder: Path) -> None:
    """Every test of a file that joins a Ray cluster, in a Python of its own.

    Ray leaves threads in a process that joined a cluster, and the other tests of pytest's own process would run beside
    them.
    """
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:cov"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [*command, "--timeout", "300", "--basetemp", str(folder / "cases"), str(path)],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout, done.stdout
