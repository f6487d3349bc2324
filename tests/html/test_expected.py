"""The figures that reports quote are those of the study they name."""

import json
from pathlib import Path

import pytest

from posestill.html.expected import GAINS, STUDY, expected

ROOT = Path(__file__).parents[2]


def test_the_study_that_is_named_is_there():
    assert (ROOT / STUDY).is_file()
    assert STUDY in expected()


@pytest.mark.parametrize("arm", list(GAINS))
def test_a_quoted_gain_is_that_of_the_results(arm):
    cells = json.loads((ROOT / "results" / "photographs" / "summary.json").read_text())["cells"]["test"]
    (cell,) = (each for each in cells if (each["regime"], each["arm"]) == ("good", arm))
    gain = cell["gains"]["pseudo"]
    assert GAINS[arm] == "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * gain[each] for each in ("mean", "low", "high")))
    assert GAINS[arm] in expected()
