"""What is shown on two nodes of a Ray cluster of this machine alone; `test_on_ray` runs it in a process of its own."""

import builtins
import os
import time

import pytest

from posestill.cluster.attempts import InUse
from posestill.cluster.on_ray import RayCluster
from posestill.schema import UserError
from tests.cluster.two_nodes import two_nodes

pytest.importorskip("ray")


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


@pytest.fixture(scope="module")
def cluster():
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


def test_calls_give_what_they_give_here(joined):
    assert joined.room == 2  # the head has room for none
    assert results(joined, double, [1, 2, 3]) == ({1: 2, 2: 4, 3: 6}, [])
    assert joined.call(double, 4, say=print) == 8


def test_errors_come_back_as_they_would_here(joined):
    with pytest.raises(UserError, match=r"^user: data: none$"):
        joined.call(fail, "user", say=print)
    said = []
    with pytest.raises(UserError, match=r"(?s)^own: ValueError: broken\nTraceback .*in fail"):
        joined.call(fail, "own", say=said.append)
    assert said == ["own: ValueError: broken; it is tried again"] * 3


def test_what_another_process_is_at_is_waited_for(joined, tmp_path):
    assert joined.call(busy_once, tmp_path / "marker", say=print) == "done"


def test_a_call_whose_process_dies_is_made_again(joined, tmp_path):
    marker = tmp_path / "marker"
    found, said = results(joined, die_once, [marker])
    assert found == {marker: "done"}
    assert said == [f"{marker}: its process or its node died (WorkerCrashedError); it is tried again"]


def getattr_of_builtins(name):
    return getattr(builtins, name)


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


def test_more_gpus_than_any_node_has_are_refused_in_place_of_waiting_for_ever(cluster):
    with pytest.raises(
        UserError, match=r"^--gpus 0\.5: no node of the cluster has so many GPUs, 0 at most: start such"
    ):
        RayCluster("ray", gpus=0.5, load=load).__enter__()


def test_a_call_whose_node_dies_is_made_on_another(cluster, tmp_path):
    marker = tmp_path / "marker"
    cluster.kill_when(lambda: marker.is_file() and marker.read_text(), which=marker.read_text)
    with RayCluster("ray", load=load) as joined:
        found, said = results(joined, node_once, [marker])
    assert {found[marker], marker.read_text()} == {"one", "other"}
    assert len(said) == 1
    assert "its process or its node died (" in said[0]


def enter_patiently(cluster, tries=3):
    """Ray gives the server of a client 30 seconds to start, which may be too few on a busy machine."""
    try:
        return cluster.__enter__()
    except UserError as error:
        if tries == 1 or "Starting Ray client server failed" not in str(error):
            raise
        return enter_patiently(cluster, tries - 1)


def test_a_cluster_is_joined_by_its_address_too(cluster):
    import ray

    ray.shutdown()
    joined = enter_patiently(RayCluster(f"ray://127.0.0.1:{cluster.client_port}", load=load))
    try:
        assert results(joined, double, [1, 2]) == ({1: 2, 2: 4}, [])
        with pytest.raises(UserError, match=r"^user: data: none$"):
            joined.call(fail, "user", say=print)
    finally:
        joined.__exit__(None, None, None)


def test_an_address_where_no_cluster_is_becomes_one_line(cluster):
    with pytest.raises(UserError, match=r"^--on ray://127\.0\.0\.1:1: there is no joining this cluster \(.*\): is it"):
        RayCluster("ray://127.0.0.1:1", load=load).__enter__()
