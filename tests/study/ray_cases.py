"""A study on two nodes of a Ray cluster, one of which dies while a run is on it; `test_on_ray` runs it."""

from pathlib import Path

import pytest

from posestill.cluster.on_ray import RayCluster
from posestill.engine.config import load_plugin
from posestill.study.lines import name_of
from posestill.study.pool import Workshop
from posestill.study.results import Results
from posestill.study.run import run_and_write
from tests.cluster.two_nodes import two_nodes

pytest.importorskip("ray")

PLAN = """
prepare:
  teacher: {recipe: protocol/synthetic, set: [method=supervised, teacher=null, data.labelled_per_batch=null,
            data.train.people=24, data.val.people=12, data.labelled=null, train.steps=2, train.batch_size=8]}
regimes:
  few:
    recipe: protocol/synthetic
    set: [data.train.people=24, data.val.people=12, data.labelled=8, train.steps=200, train.batch_size=8,
          data.labelled_per_batch=4, train.save_every=20, train.threads=1, "model.init_from=<teacher>#backbone"]
    arms: [alone, pseudo_label, tcd]
arms:
  tcd: {title: TCD}
learning_rates: [1.0e-3]
seeds: {choose: [5], confirm: [1]}
confirm: {}
"""


def figures(folder):
    """Every row but for its times."""
    rows = {name_of(row): dict(row) for row in Results.read(folder / "results").rows}
    for row in rows.values():
        del row["seconds"], row["training_seconds"]
    return rows


def table(folder):
    """The cells of the table but for the last column, which is seconds."""
    lines = (folder / "results" / "table.md").read_text().splitlines()
    return [line.split("|")[:-2] for line in lines if line.startswith("|")]


def node_of(folder: Path) -> str:
    """On which node the process is that trains into a run folder; empty where none does."""
    try:
        process = next(folder.rglob(".lock")).read_text().split()[0]
        told = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except (StopIteration, IndexError, OSError):
        return ""
    return next(each.partition(b"=")[2].decode() for each in told if each.startswith(b"NODE="))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_study_ends_as_on_this_machine_though_a_node_dies(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(PLAN)
    here, there = tmp_path / "here", tmp_path / "there"
    run_and_write(Path("plan.yaml"), Workshop(results=here / "results", work=here / "work", processes=2))
    with two_nodes() as nodes, RayCluster("ray", load=load_plugin) as cluster:
        trained = there / "work" / "runs"
        # A run that has saved a state, and is not at its end, whose process is on a node that is there.
        nodes.kill_when(lambda: any(trained.rglob("training.pt")) and node_of(trained), which=lambda: node_of(trained))
        shop = Workshop(results=there / "results", work=there / "work", cluster=cluster)
        run_and_write(Path("plan.yaml"), shop)
    assert "its process or its node died (" in capfd.readouterr().err
    assert figures(there) == figures(here)
    assert len(figures(there)) == 3
    assert table(there) == table(here)
    assert not [path for path in (there / "work" / "runs").rglob("*") if path.is_file()]
