import pytest
import torch

from posestill.models.cspnext import CspNextConfig
from posestill.schema import UserError
from posestill.skeletons import COCO_17
from tests.conftest import small_model

TINY = {"size": [64, 64], "backbone": {"name": "cspnext", "variant": "t"}, "head": "gau", "codec": "simcc"}


def test_it_gives_a_map_at_each_stride_from_4_to_32():
    with torch.device("meta"):
        network = CspNextConfig(variant="s").build((128, 96))
        maps = network(torch.zeros(1, 3, 128, 96))
    assert [tuple(each.shape) for each in maps] == [(1, 64, 32, 24), (1, 128, 16, 12), (1, 256, 8, 6), (1, 512, 4, 3)]


def test_blocks_are_added_to_what_went_in_but_for_the_last_stage():
    with torch.device("meta"):
        network = CspNextConfig(variant="l").build((64, 64))
    stages = [[block.adds for block in getattr(network, f"stage{number}")[-1].blocks] for number in (1, 2, 3, 4)]
    assert stages == [[True] * 3, [True] * 6, [True] * 6, [False] * 3]


def test_a_training_step_lowers_the_loss_of_an_rtmpose():
    model = small_model(skeleton=COCO_17, **TINY).train()
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(4, 3, 64, 64, generator=draw)
    target, weight = model.codec.encode(64 * torch.rand(4, 17, 2, generator=draw), torch.ones(4, 17))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-5)  # of a small weight the norm makes a large slope

    def loss():
        return model.codec.loss(model(image).prediction, target, weight)

    before = loss()
    before.backward()
    optimiser.step()
    assert loss() < before


def test_a_size_that_its_stride_does_not_divide_is_refused():
    with pytest.raises(UserError, match=r"\(72, 64\) is not a multiple of the stride 32 of cspnext"):
        CspNextConfig().build((72, 64))
