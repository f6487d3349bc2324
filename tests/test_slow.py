"""What runs the slow tests tells a process that died from a test that failed."""

import pytest

from tests.slow import run

TEST = """
import os
from pathlib import Path
import pytest

@pytest.mark.slow
def test_it():
    runs = Path({runs!r})
    with runs.open("a") as file:
        file.write("run\\n")
    first = runs.read_text() == "run\\n"
    {body}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "passed", "runs", "words"),
    [
        ("pass", True, 1, "1 passed"),
        ("assert first is None", False, 1, "1 failed"),
        ("if first: os._exit(3)", True, 2, "died with status 3"),
        ("if first: os.kill(os.getpid(), 9)", True, 2, "died with status -9"),
        ("os._exit(0)", False, 2, "died with status 0"),
    ],
)
def test_a_file_whose_process_dies_is_run_once_more_and_one_that_fails_is_not(tmp_path, body, passed, runs, words):
    written = tmp_path / "runs.txt"
    file = tmp_path / "test_written.py"
    file.write_text(TEST.format(runs=str(written), body=body))
    ended, told = run(str(file))
    assert (ended, len(written.read_text().splitlines())) == (passed, runs)
    assert words in told
