import math

import pytest
import torch

from posestill.codecs.coords import CoordsConfig
from posestill.codecs.heatmap import HeatmapConfig
from posestill.codecs.simcc import SimccConfig
from posestill.models.token_head import TokenConfig, sine_position
from posestill.schema import UserError
from posestill.skeletons import COCO_17
from tests.conftest import small_model
from tests.published import COORDS, plain_distilpose

PLAIN = plain_distilpose()
TWO = {"name": "coords", "bounded": True}
HRNET_3 = {"name": "hrnet", "stages": 3}


@pytest.mark.parametrize(
    ("backbone", "codec", "trainable"),
    [
        ("stemnet", COORDS, 5_364_101),
        (HRNET_3, COORDS, 21_265_637),
        ("hrnet", "heatmap", 69_411_360),
        ("stemnet", "heatmap", 6_620_736),
        ("stemnet", TWO, 5_363_522),
        (HRNET_3, TWO, 21_265_058),
    ],
)
def test_the_published_models_have_the_published_parameters(backbone, codec, trainable):
    """S, L, the teacher, its StemNet twin, and the two baselines."""
    model = small_model(size=[256, 192], backbone=backbone, head="token", codec=codec, skeleton=COCO_17)
    assert sum(each.numel() for each in model.parameters()) == trainable


def test_positions_are_sines_and_cosines_of_row_then_column():
    position = sine_position((16, 16), 192)
    torch.testing.assert_close(position, PLAIN.position(16, 16, 192))
    y, x = 3 / (16 + 1e-6) * 2 * math.pi, 6 / (16 + 1e-6) * 2 * math.pi  # third row, sixth column, counted from 1
    found = position[0, 2 * 16 + 5]
    assert found[0].item() == pytest.approx(math.sin(y), abs=1e-6)
    assert found[3].item() == pytest.approx(math.cos(y / 10000 ** (2 / 96)), abs=1e-6)
    assert found[96].item() == pytest.approx(math.sin(x), abs=1e-6)
    assert found[191].item() == pytest.approx(math.cos(x / 10000 ** (94 / 96)), abs=1e-6)


def test_a_patch_is_read_row_by_row_with_the_channel_fastest():
    head = TokenConfig(patch=(2, 3), dim=8, heads=2, depth=1).build((5, 4, 6), 3, CoordsConfig().build((16, 24)))
    features = torch.arange(5 * 4 * 6, dtype=torch.float32).view(1, 5, 4, 6)
    patches = head._patches(features)
    assert patches.shape == (1, 4, 30)
    wanted = [
        features[0, channel, 2 + row, 3 + column] for row in range(2) for column in range(3) for channel in range(5)
    ]
    assert torch.equal(patches[0, 3], torch.stack(wanted))


@pytest.mark.parametrize(("size", "patch", "keypoints"), [((96, 64), (3, 2), 5), ((128, 96), (2, 8), 133)])
def test_any_input_size_and_skeleton_gets_its_own_grid(size, patch, keypoints):
    codec = HeatmapConfig().build(size)
    head = TokenConfig(patch=patch, dim=16, heads=2, depth=2).build((7, *codec.map_size), keypoints, codec)
    prediction, tokens = head.answer((torch.randn(2, 7, *codec.map_size),))
    assert prediction.maps.shape == (2, keypoints, *codec.map_size)
    assert tokens.visual.shape == (2, codec.map_size[0] * codec.map_size[1] // (patch[0] * patch[1]), 16)
    assert tokens.keypoint.shape == (2, keypoints, 16)


def test_a_model_returns_its_tokens_and_others_have_none():
    model = small_model(head={"name": "token", "patch": [2, 2], "dim": 8, "heads": 2, "depth": 1}, codec="coords")
    output = model(torch.zeros(2, 3, 32, 24))
    assert output.tokens.keypoint.shape == (2, 4, 8)
    assert small_model("coords")(torch.zeros(2, 3, 32, 24)).tokens is None


def test_a_new_model_starts_as_published():
    """Coordinates near the middle, score near 0 and a spread of softplus(0) cells."""
    torch.manual_seed(0)
    model = small_model(size=[256, 192], backbone="stemnet", head="token", codec=COORDS, skeleton=COCO_17).eval()
    with torch.no_grad():
        found = model(torch.rand(2, 3, 256, 192)).prediction
    assert (found.xy - 0.5).abs().max() < 0.15
    assert found.score.abs().max() < 1
    cells = found.scale * torch.tensor([48.0, 64.0])
    assert 0.3 < cells.mean() < 1.2


def test_a_score_and_a_spread_change_nothing_else_of_the_initial_weights():
    settings = {"name": "token", "patch": [2, 2], "dim": 8, "heads": 2, "depth": 2}
    full, bare = (small_model(head=settings, codec=codec) for codec in (COORDS, TWO))
    for name, value in bare.state_dict().items():
        other = full.state_dict()[name]
        assert torch.equal(other[:2] if "output.linear" in name else other, value), name


def test_what_does_not_fit_says_which_setting_to_change():
    codec = CoordsConfig().build((64, 48))
    with pytest.raises(UserError, match=r"head.patch: patches of \(4, 3\) do not tile feature maps of \(10, 12\)"):
        TokenConfig().build((8, 10, 12), 5, codec)
    with pytest.raises(UserError, match="head.dim: 20 is not a multiple of 4 and of 8 heads"):
        TokenConfig(dim=20).build((8, 16, 12), 5, codec)
    with pytest.raises(UserError, match="choose the codec heatmap, coords or rle"):
        TokenConfig().build((8, 16, 12), 5, SimccConfig().build((64, 48)))


def test_coordinates_keep_their_precision_under_mixed_precision():
    head = TokenConfig(patch=(1, 1), dim=16, heads=2, depth=1).build((8, 4, 3), 5, CoordsConfig().build((64, 48)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head((torch.randn(2, 8, 4, 3),)).xy.dtype == torch.float32
