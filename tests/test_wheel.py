"""What `pip install` makes of the checkout works outside of it."""

import subprocess
import sys
from pathlib import Path

import pytest

import posestill

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_environment_where_the_command_works(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "check_wheel.py", "--here"],
        cwd=tmp_path, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"posestill {posestill.__version__}\n")
    assert done.stdout.endswith("is a wheel that installs\n")


def test_version_is_the_same_wherever_it_stands():
    assert f'version = "{posestill.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {posestill.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {posestill.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
