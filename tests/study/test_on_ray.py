from pathlib import Path

import pytest

from tests.cluster.own_process import run_cases


@pytest.mark.slow
def test_a_study_on_two_nodes_of_which_one_dies(tmp_path):
    run_cases(Path(__file__).with_name("ray_cases.py"), tmp_path)
