"""A Ray cluster of two nodes in processes of this machine, one of which may be killed."""

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100 << 20}


class TwoNodes:
    """A head, on which nothing is run, and two nodes with one place each; calls find in NODE which one they are on."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.client_port = free.getsockname()[1]
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                **SMALL,
                "num_cpus": 0,
                "include_dashboard": False,
                "ray_client_server_port": self.client_port,
            },
        )
        self.nodes = {
            name: self.cluster.add_node(**SMALL, env_vars={**os.environ, "NODE": name}) for name in ("one", "other")
        }
        self.address = self.cluster.address

    def kill_when(self, true: Callable[[], object], which: Callable[[], str]) -> None:
        """Kill a node, without a word to it, as soon as something is true."""

        def wait() -> None:
            while not true():
                time.sleep(0.05)
            time.sleep(0.2)
            self.cluster.remove_node(self.nodes.pop(which()), allow_graceful=False)

        threading.Thread(target=wait, daemon=True).start()


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Within it `--on ray` joins two nodes."""
    before = dict(os.environ)
    temporary = tempfile.mkdtemp(prefix="r")  # short, as the paths of sockets are
    os.environ.update(
        RAY_TMPDIR=temporary, RAY_worker_niceness="0", RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1",
        PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(ROOT), before.get("PYTHONPATH", "")]),
    )  # fmt: skip
    nodes = None
    try:
        nodes = TwoNodes()
        os.environ["RAY_ADDRESS"] = nodes.address
        yield nodes
    finally:
        if nodes is not None:
            nodes.cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(temporary, ignore_errors=True)
