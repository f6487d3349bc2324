import pytest
import torch

from posestill.engine import accelerator
from posestill.engine.accelerator import flat, open_accelerator
from posestill.schema import UserError
from tests.conftest import small_run


def test_processes_that_do_not_find_each_other_are_told_in_one_line(tmp_path, monkeypatch):
    def refused(**settings):
        raise torch.distributed.DistBackendError("timed out connecting\nand a stack")

    monkeypatch.setattr(accelerator, "Accelerator", refused)
    with pytest.raises(UserError, match=r"could not connect to one another \(timed out connecting\): .*--resume"):
        open_accelerator(small_run(), tmp_path)


def test_trackers_are_told_settings_by_dotted_key():
    assert flat({"train": {"steps": 3, "optimiser": {"name": "sgd"}}, "seed": 1}) == {
        "train.steps": "3", "train.optimiser.name": "sgd", "seed": "1",
    }  # fmt: skip
