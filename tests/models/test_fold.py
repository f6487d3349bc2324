import pytest
import torch
from torch import nn

from posestill.models.fold import folded
from tests.conftest import small_model
from tests.published import COORDS, fill

TOKEN = {"name": "token", "patch": [2, 2], "dim": 16, "heads": 2, "depth": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "stemnet", "head": TOKEN, "codec": COORDS},
        {"backbone": {"name": "hrnet", "width": 18, "stages": 3}, "head": TOKEN, "codec": "coords"},
        {"backbone": "mobilenetv3_small_050", "head": "gap_fc", "codec": "coords"},
        {
            "backbone": "resnet18",
            "head": {"name": "deconv", "channels": [8]},
            "codec": {"name": "heatmap", "stride": 16},
        },
        {"backbone": "densenet121", "head": "flat_fc", "codec": "rle"},
        {"backbone": "vit_tiny_patch16_224", "head": "gap_fc", "codec": "coords"},
    ],
    ids=lambda changes: changes["backbone"] if isinstance(changes["backbone"], str) else "hrnet",
)
def test_a_folded_model_predicts_the_same(changes):
    model = small_model(size=[64, 64], **changes)
    model.load_state_dict(fill(model))
    image = torch.rand(2, 3, 64, 64)
    shipped = folded(model)
    found, wanted = shipped.predict(image), model.predict(image)
    torch.testing.assert_close(found.xy, wanted.xy, rtol=1e-3, atol=0.02)
    assert model.training == small_model("coords").training  # the model itself is left as it was


def norms(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]


def test_every_norm_that_follows_a_convolution_is_gone():
    for changes in (
        {"backbone": "stemnet", "head": TOKEN, "codec": "coords"},
        {"backbone": "mobilenetv3_small_050", "head": "gap_fc", "codec": "coords"},
    ):
        model = small_model(size=[64, 64], **changes)
        assert norms(model)
        assert not norms(folded(model))


def test_a_norm_that_reads_something_else_stays():
    model = small_model(size=[64, 64], backbone="densenet121", head="gap_fc", codec="coords")
    assert 0 < len(norms(folded(model))) < len(norms(model))
