"""Builds the wheel, installs it into an empty environment, and holds the command there to working.

python .ci/check_wheel.py            # what it depends on is downloaded, as a user's pip does
python .ci/check_wheel.py --here     # what it depends on is lent by the environment that runs this
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def run(*words: str | Path, cwd: Path) -> str:
    """What a command printed; it must end with status 0. It sees no code of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def built(folder: Path) -> Path:
    """The wheel, made of a copy, since setuptools leaves folders of its own beside what it builds."""
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    copy = folder / "source"
    for name in files:
        if name.startswith(("src/", "pyproject.toml", "README.md", "LICENSE")) and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", folder, copy, cwd=folder)
    (wheel,) = folder.glob("posestill-*.whl")
    return wheel


def installed(wheel: Path, folder: Path, *, here: bool) -> Path:
    """The folder of the new environment's programs."""
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", environment, cwd=folder)
    programs = environment / ("Scripts" if sys.platform == "win32" else "bin")
    run(programs / "python", *PIP, "install", *(["--no-deps"] if here else []), wheel, cwd=folder)
    if here:
        (own,) = environment.glob("lib/python*/site-packages")
        (own / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")  # no .pth of that folder is followed
    return programs


def main() -> None:
    """Build, install, and run a few commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = built(folder)
        programs = installed(wheel, folder, here=asked.here)
        where = run(programs / "python", "-c", "import posestill; print(posestill.__file__)", cwd=folder)
        assert str(folder) in where, where
        posestill = programs / "posestill"
        print(run(posestill, "--version", cwd=folder), end="")
        for words in (
            ("list", "recipes"),
            ("data", "sample", "data/sample", "--pictures", "16"),
            ("distil", "sample", "--teacher", "bundled", "--set", "method=pkd", "--dry-run"),
            ("distil", "sample", "--teacher", "bundled", "--set", "method=pkd", "--set", "train.steps=2"),
            ("predict", "runs/sample/best", "data/sample/val"),
        ):
            run(posestill, *words, cwd=folder)
            print(f"posestill {' '.join(words)}: works")
        print(f"{wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB, is a wheel that installs")


if __name__ == "__main__":
    main()
