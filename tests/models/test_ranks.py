import pytest
import torch

from posestill.models import ranks
from posestill.models.ranks import (
    count,
    mean_over_ranks,
    normal_by_person,
    seed_of_process,
    shared_seed,
    uniform_by_person,
)


def generator():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def second_of_two(monkeypatch):
    monkeypatch.setattr(ranks, "_several", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)


def test_one_process_draws_what_torch_draws():
    assert count() == 1
    assert torch.equal(uniform_by_person((4, 2), generator()), torch.rand(4, 2, generator=generator()))
    assert torch.equal(normal_by_person((4, 2), generator()), torch.randn(4, 2, generator=generator()))
    assert seed_of_process(12) == 12
    value = torch.ones(2)
    assert mean_over_ranks(value) is value


def test_a_second_process_draws_for_every_second_person(second_of_two):
    whole = torch.randn(8, 3, generator=generator())
    assert torch.equal(normal_by_person((4, 3), generator()), whole[1::2])


def test_processes_draw_apart_and_know_the_seed_that_they_share(second_of_two):
    own = seed_of_process(12)
    assert own != 12
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(own)
        assert shared_seed() == 12
