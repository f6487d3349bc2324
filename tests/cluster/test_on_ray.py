"""Work on the nodes of a Ray cluster: what needs no cluster, and the run of what needs one."""

import builtins
from pathlib import Path

import pytest

from posestill.cluster.on_ray import Place, RayCluster, _call
from posestill.schema import UserError
from tests.cluster.own_process import run_cases


def load(path):
    exec(path.read_text(), {"path": path})


def test_a_place_other_than_ray_is_refused():
    with pytest.raises(UserError, match=r"--on slurm: it is ray, or ray://HOST:PORT"):
        RayCluster("slurm", load=load)


def test_more_than_one_gpu_is_a_whole_number():
    with pytest.raises(UserError, match=r"--gpus 1\.5: a share of one GPU such as 0\.25, or a whole number of them"):
        RayCluster("ray", gpus=1.5, load=load)


def test_without_ray_one_line_says_how_to_get_it(monkeypatch):
    import_module = builtins.__import__

    def without(name, *more):
        if name == "ray":
            raise ImportError(name)
        return import_module(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r'^--on ray needs Ray: pip install "posestill\[cluster\]"$'):
        RayCluster("ray", load=load).__enter__()


def test_a_node_without_the_folder_of_the_command_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failure = _call(b"", Place(tmp_path / "none", (), load))
    assert failure.reason.endswith("none: start the command in a folder on a disk that all nodes share, under the "
                                   "same path")  # fmt: skip
    assert not failure.may_pass


@pytest.mark.slow
def test_calls_on_two_nodes(tmp_path):
    run_cases(Path(__file__).with_name("ray_cases.py"), tmp_path)
