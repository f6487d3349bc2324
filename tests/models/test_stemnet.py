import pytest
import torch

from posestill.models.stemnet import StemNetConfig
from posestill.schema import UserError


def test_it_has_the_published_parameters_and_one_map_of_256_channels_at_stride_4():
    network = StemNetConfig().build((256, 192))
    assert sum(each.numel() for each in network.parameters()) == 325_056
    assert [tuple(each.shape) for each in network.eval()(torch.zeros(1, 3, 64, 48))] == [(1, 256, 16, 12)]


def test_its_names_are_those_of_the_published_checkpoints():
    names = set(StemNetConfig().build((256, 192)).state_dict())
    assert {"conv1.weight", "bn2.running_mean", "layer1.0.downsample.1.weight", "layer1.3.conv3.weight"} <= names
    assert "layer1.1.downsample.0.weight" not in names


def test_a_size_that_its_stride_does_not_divide_is_refused():
    with pytest.raises(UserError, match=r"input \(256, 190\) is not a multiple of the stride 4 of stemnet"):
        StemNetConfig().build((256, 190))
