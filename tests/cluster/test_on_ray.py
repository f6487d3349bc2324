"""On two nodes of a Ray cluster of this machine alone; what needs no cluster comes first."""

import builtins
import os
import time

import pytest

from posestill.cluster.attempts import InUse
from posestill.cluster.on_ray import Place, RayCluster, _call
from posestill.schema import UserError
from tests.cluster.two_nodes import two_nodes


def load(path):
    exec(path.read_text(), {"path": path})


def double(number):
    return 2 * number


def fail(how):
    if how == "user":
        raise UserError("data: none")
    raise ValueError("broken")


def busy_once(marker):
    if not marker.exists():
        marker.touch()
        raise InUse("another process is at it")
    return "done"


def die_once(marker):
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return "done"


def node_once(marker):
    """Where it runs; the first time it stays there until it is killed."""
    if not marker.exists():
        marker.write_text(os.environ["NODE"])
        time.sleep(600)
    return os.environ["NODE"]


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


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def joined(cluster):
    with RayCluster("ray", load=load) as found:
        yield found


def results(joined, function, givens):
    """What each call gave, and what was said meanwhile."""
    found, said = {}, []
    joined.each(function, givens, say=said.append, told=found.__setitem__)
    return found, said


@pytest.mark.slow
def test_calls_give_what_they_give_here(joined):
    assert joined.room == 2  # the head has room for none
    assert results(joined, double, [1, 2, 3]) == ({1: 2, 2: 4, 3: 6}, [])
    assert joined.call(double, 4, say=print) == 8


@pytest.mark.slow
def test_errors_come_back_as_they_would_here(joined):
    with pytest.raises(UserError, match=r"^user: data: none$"):
        joined.call(fail, "user", say=print)
    said = []
    with pytest.raises(UserError, match=r"(?s)^own: ValueError: broken\nTraceback .*in fail"):
        joined.call(fail, "own", say=said.append)
    assert said == ["own: ValueError: broken; it is tried again"] * 3


@pytest.mark.slow
def test_what_another_process_is_at_is_waited_for(joined, tmp_path):
    assert joined.call(busy_once, tmp_path / "marker", say=print) == "done"


@pytest.mark.slow
def test_a_call_whose_process_dies_is_made_again(joined, tmp_path):
    marker = tmp_path / "marker"
    found, said = results(joined, die_once, [marker])
    assert found == {marker: "done"}
    assert said == [f"{marker}: its process or its node died (WorkerCrashedError); it is tried again"]


def getattr_of_builtins(name):
    return getattr(builtins, name)


@pytest.mark.slow
def test_plugins_are_loaded_before_what_is_given_is_read_and_no_more_calls_are_made_than_wanted(cluster, tmp_path):
    import ray

    ray.shutdown()  # of the other tests
    plugin = tmp_path / "mine.py"
    plugin.write_text("import builtins\nbuiltins.mine = str(path)\n")
    with RayCluster("ray", load=load, plugins=[plugin], most=1) as joined:
        assert results(joined, getattr_of_builtins, ["mine"]) == ({"mine": str(plugin)}, [])
        joined.start(getattr_of_builtins, "mine")
        assert not joined.takes_more
        assert list(joined.ended()) == [("mine", str(plugin))]
        assert joined.takes_more


@pytest.mark.slow
def test_more_gpus_than_any_node_has_are_refused_in_place_of_waiting_for_ever(cluster):
    with pytest.raises(
        UserError, match=r"^--gpus 0\.5: no node of the cluster has so many GPUs, 0 at most: start such"
    ):
        RayCluster("ray", gpus=0.5, load=load).__enter__()


@pytest.mark.slow
def test_a_call_whose_node_dies_is_made_on_another(cluster, tmp_path):
    marker = tmp_path / "marker"
    cluster.kill_when(lambda: marker.is_file() and marker.read_text(), which=marker.read_text)
    with RayCluster("ray", load=load) as joined:
        found, said = results(joined, node_once, [marker])
    assert {found[marker], marker.read_text()} == {"one", "other"}
    assert len(said) == 1
    assert "its process or its node died (" in said[0]


@pytest.mark.slow
def test_a_cluster_is_joined_by_its_address_too(cluster):
    import ray

    ray.shutdown()
    with RayCluster(f"ray://127.0.0.1:{cluster.client_port}", load=load) as joined:
        assert results(joined, double, [1, 2]) == ({1: 2, 2: 4}, [])
        with pytest.raises(UserError, match=r"^user: data: none$"):
            joined.call(fail, "user", say=print)


@pytest.mark.slow
def test_an_address_where_no_cluster_is_becomes_one_line(cluster):
    with pytest.raises(UserError, match=r"^--on ray://127\.0\.0\.1:1: there is no joining this cluster \(.*\): is it"):
        RayCluster("ray://127.0.0.1:1", load=load).__enter__()
