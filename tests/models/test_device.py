import pytest
import torch

from posestill.models.device import choose_device, is_device_name, trains_on_cpu
from posestill.schema import UserError


def test_devices_are_known_by_name():
    known = ("auto", "cpu", "cuda", "cuda:1", "mps")
    assert all(is_device_name(name) for name in known)
    assert not any(is_device_name(name) for name in ("gpu", "cuda:", "cuda:x", "cpu:0", "meta", "", "CUDA"))


def test_a_device_that_is_not_there_is_named():
    assert choose_device("cpu") == torch.device("cpu")
    assert trains_on_cpu("cpu")
    with pytest.raises(UserError, match=r"train.device gpu: no such device; auto, cpu, cuda"):
        choose_device("gpu", option="train.device")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="train.device cuda:1: "):
            trains_on_cpu("cuda:1")
