"""Two processes with half a batch each train as one with the whole batch: every method of the catalog, and variants."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from posestill import catalog
from posestill.models.ranks import seed_of_process
from posestill.teachers.base import ModelTeacher
from tests.conftest import small_model
from tests.test_contracts import STUDENT, _taught, _token_taught, batch, build

VARIANTS = {
    "distilpose, published": ("distilpose", {"weighting": "published"}),
    "simulated_heatmap, published": ("simulated_heatmap", {"weighting": "published"}),
    "pkd, auto": ("pkd", {"weight": "auto"}),
    "ocd, auto": ("ocd", {"heatmap_weight": "auto"}),
}
"""Settings of a method that has another way of sharing a batch."""
KEPT = {"agentpose, kept": ("agentpose", "agent"), "agentpose_paper, kept": ("agentpose_paper", "agent_paper")}
"""Agents that stay in the model, where they stand before its head."""
NAMES = (*sorted(catalog.METHODS), *VARIANTS, *KEPT)
BOUND = 1e-5
"""of relative differences: of losses, and of gradients and buffers beside the largest number of each; float32 rounds by
6e-8, and a number sums some thousands of others in another order"""


def made(name):
    """A method around a small student; the same in every process."""
    if name in KEPT:
        method, neck = KEPT[name]
        student = small_model("coords", neck=neck)
        return catalog.METHODS[method]().build(student, ModelTeacher(_taught()))
    if name in VARIANTS:
        method, changes = VARIANTS[name]
        teacher = _token_taught() if method == "distilpose" else _taught()
        config = catalog.METHODS[method](**changes)
        student = small_model("coords", **STUDENT.get(method, {}))
        return config.build(student, ModelTeacher(teacher) if config.needs else None)
    return build(name)


def trained(name, rank=0, world=1):
    """Losses and gradients of two steps, and buffers after them, of a process with its part of the batch."""
    torch.manual_seed(0)
    distiller = made(name)
    distiller.train()
    for module in distiller.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()  # its statistics are of one process
    whole = batch(8)
    whole.weight[1, 0] = whole.weight[2] = whole.weight[5, 1:] = 0  # parts of a batch have different labels
    part = type(whole)(**{key: None if value is None else value[rank::world] for key, value in vars(whole).items()})
    wrapped = distiller if world == 1 else torch.nn.parallel.DistributedDataParallel(distiller)
    optimiser = torch.optim.SGD(distiller.parameters(), lr=1e-3)
    losses, gradients = [], []
    for step, progress in enumerate((0.4, 0.5)):
        torch.manual_seed(seed_of_process(hash((7, step, 0)) & 0x7FFF_FFFF))
        found = wrapped(part, progress)
        optimiser.zero_grad()
        sum(found.values()).backward()
        gradients.append({key: each.grad.clone() for key, each in distiller.named_parameters() if each.requires_grad})
        optimiser.step()
        distiller.after_step()
        means = torch.stack([value.detach() for value in found.values()])
        if world > 1:
            torch.distributed.all_reduce(means)
        losses.append(dict(zip(found, (means / world).tolist(), strict=True)))
    return losses, gradients, dict(distiller.named_buffers())


def work(folder):
    """What each of two processes does: all methods, one after the other."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    found = {}
    for name in NAMES:
        try:
            found[name] = trained(name, rank, 2)
        except Exception as error:  # told by the test of that method
            found[name] = f"{type(error).__name__}: {error}"
    if rank == 0:
        Path(folder, "found.pickle").write_bytes(pickle.dumps(found))


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, str(folder)],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return pickle.loads((folder / "found.pickle").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_with_half_a_batch_each_train_as_one_with_the_whole(name, of_two):
    assert not isinstance(of_two[name], str), of_two[name]
    (losses, gradients, buffers), (losses_two, gradients_two, buffers_two) = trained(name), of_two[name]
    for one, two in zip(losses, losses_two, strict=True):
        assert one == pytest.approx(two, rel=1e-6, abs=1e-7)
    for one, two in zip([*gradients, buffers], [*gradients_two, buffers_two], strict=True):
        assert one.keys() == two.keys()
        largest = max(_height(each) for each in one.values())
        for key, value in one.items():  # a gradient that is nothing but rounding is measured by the others'
            limit = BOUND * max(_height(value), 0.1 * largest)
            assert _height(value.double() - two[key].double()) <= limit, key


def _height(value):
    return value.double().abs().max().item() if value.numel() else 0.0


if __name__ == "__main__":
    work(sys.argv[1])
