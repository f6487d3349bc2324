import math

import pytest
import torch
from torch import nn

from posestill.codecs.simcc import SimccConfig
from posestill.models.gau_head import GatedAttentionUnit, GauConfig, ScaleNorm
from posestill.schema import UserError
from tests.conftest import small_model


@pytest.mark.parametrize(
    ("keypoints", "settings", "parameters"),
    [
        (17, {}, 1.31e6),
        (17, {"hidden": 128}, 0.88e6),
        (17, {"hidden": 64}, 0.73e6),
        (133, {}, 5.67e6),
        (133, {"hidden": 64}, 5.10e6),
        (17, {"kernel": 1}, 0.68e6),
        (17, {"kernel": 1, "hidden": 64}, 0.11e6),
        (133, {"kernel": 1, "hidden": 64}, 0.20e6),
    ],
)
def test_its_parameters_are_those_of_rtmposes_head(keypoints, settings, parameters):
    """Heads on features of 768 channels and 8x6."""
    head = GauConfig(**settings).build((768, 8, 6), keypoints, SimccConfig().build((256, 192)))
    assert abs(sum(each.numel() for each in head.parameters()) - parameters) <= 0.005e6 + 1


def test_the_unit_is_the_gated_sum_written_out_keypoint_by_keypoint():
    torch.manual_seed(0)
    unit = GatedAttentionUnit(GauConfig(hidden=4, shared=3, expansion=2)).double()
    tokens = torch.randn(2, 5, 4, dtype=torch.float64)
    wanted = torch.zeros_like(tokens)
    for b in range(2):

        def parts(k, b=b):
            vector = tokens[b, k] / (tokens[b, k].norm() / math.sqrt(4)) * unit.norm.scale
            mixed = unit.expand.weight @ vector
            mixed = mixed * torch.sigmoid(mixed)
            return mixed[:8], mixed[8:16], mixed[16:]

        for k in range(5):
            gate, _, base = parts(k)
            total = torch.zeros(8, dtype=torch.float64)
            for other in range(5):
                _, value, others = parts(other)
                query, key = base * unit.scale[0] + unit.shift[0], others * unit.scale[1] + unit.shift[1]
                total = total + max(0.0, (query @ key).item() / math.sqrt(3)) ** 2 * value
            wanted[b, k] = unit.kept * tokens[b, k] + unit.merge.weight @ (gate * total)
    torch.testing.assert_close(unit(tokens), wanted)


def test_a_vector_of_nothing_stays_nothing():
    assert torch.equal(ScaleNorm(3)(torch.zeros(1, 3)), torch.zeros(1, 3))


def test_it_reads_the_codec_of_bins_only_and_odd_kernels():
    assert small_model("coords", codec="simcc", head="gau")(torch.rand(2, 3, 32, 24)).prediction.x.shape == (2, 4, 48)
    with pytest.raises(UserError, match="only the simcc codec reads"):
        small_model("coords", head="gau")
    with pytest.raises(UserError, match="take 7"):
        small_model("coords", codec="simcc", head={"name": "gau", "kernel": 6})


def test_it_trains_to_a_place():
    model = small_model("coords", codec={"name": "simcc", "sigma": [2.0, 2.0]}, head={"name": "gau", "hidden": 32})
    assert isinstance(model.head, nn.Module)
    image, xy = torch.rand(2, 3, 32, 24), torch.tensor([[[5.0, 6.0], [10.0, 8.0], [12.0, 20.0], [3.0, 30.0]]] * 2)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        loss = model.codec.loss(model.train()(image).prediction, *model.codec.encode(xy, torch.ones(2, 4)))
        loss.backward()
        optimiser.step()
    assert (model.codec.decode(model(image).prediction).xy - xy).abs().max() < 1.0
