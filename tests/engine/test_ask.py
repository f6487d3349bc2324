from types import SimpleNamespace

import pytest

from posestill.cluster.shards import Shard
from posestill.engine import ask
from posestill.engine.ask import fill_cache, fill_cache_on, folder_of_answers
from posestill.engine.log import RunLog
from posestill.schema import UserError
from tests.conftest import small_run
from tests.teachers.test_store import contents

QUIET = RunLog(None, quiet=True)


def run_of(folder, people=130):
    """A run whose teacher knows synthetic people, of whom there are three chunks."""
    return small_run(
        data={"train": {"name": "synthetic", "people": people, "size": [64, 48]},
              "val": {"name": "synthetic", "people": 8, "size": [64, 48], "seed": 9}},
        method="pseudo_label",
        teacher={"name": "bundled", "cache": {"folder": str(folder)}},
    )  # fmt: skip


@pytest.mark.parametrize("teacher", [None, {"name": "bundled"}, {"name": "bundled", "cache": True}])
def test_a_run_that_keeps_nothing_on_disk_is_told_how_to(teacher):
    config = small_run(method="pseudo_label" if teacher else "supervised", teacher=teacher)
    with pytest.raises(
        UserError, match=r"^teacher\.cache\.folder: this run keeps no answers of a teacher on disk: name"
    ):
        folder_of_answers(config)


def test_shards_and_a_cluster_fill_the_very_cache_that_one_process_fills(tmp_path, monkeypatch):
    assert fill_cache(run_of(tmp_path / "one"), log=QUIET) == ()
    assert fill_cache(run_of(tmp_path / "shards"), shard=Shard(2, 2), log=QUIET) == [1]
    assert fill_cache(run_of(tmp_path / "shards"), shard=Shard(1, 2), log=QUIET) == []
    called = []

    def each(function, givens, *, say, told):
        for given in givens:
            called.append(str(given))
            told(given, function(given))

    monkeypatch.setattr(ask, "LOT", 65)
    assert fill_cache_on(SimpleNamespace(each=each), run_of(tmp_path / "cluster"), log=QUIET) == []
    assert called == ["shard 1/2 of the persons", "shard 2/2 of the persons"]
    whole = contents(tmp_path / "one")
    assert contents(tmp_path / "shards") == whole
    assert contents(tmp_path / "cluster") == whole
