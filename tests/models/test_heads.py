import pytest
import torch

from posestill.codecs.coords import CoordsConfig
from posestill.codecs.heatmap import HeatmapConfig
from posestill.codecs.rle import RleConfig
from posestill.codecs.simcc import SimccConfig
from posestill.models.heads import ConvMapsConfig, DeconvConfig, FlatFcConfig, GapFcConfig, SimccHeadConfig
from posestill.schema import UserError, validate

COORDS, MAPS = CoordsConfig().build((256, 192)), HeatmapConfig().build((256, 192))
RLE, SIMCC = RleConfig().build((256, 192)), SimccConfig().build((256, 192))
SHAPE = (2048, 8, 6)
FEATURES = (torch.zeros(1, 2048, 8, 6),)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("config", "num_keypoints", "parameters"),
    # 0.070 M, 0.545 M, 10.49 M, 2.23 M; HRNet-W32's head has 561
    [
        (GapFcConfig(), 17, 2048 * 34 + 34),
        (GapFcConfig(), 133, 2048 * 266 + 266),
        (DeconvConfig(), 17, 10_491_665),
        (DeconvConfig(channels=(64, 64, 64)), 17, 2_229_713),
    ],
)
def test_heads_have_the_published_number_of_parameters(config, num_keypoints, parameters):
    assert count(config.build(SHAPE, num_keypoints, COORDS)) == parameters


def test_hrnets_head_is_one_small_convolution():
    assert count(ConvMapsConfig().build((32, 64, 48), 17, MAPS)) == 561


def test_each_deconvolution_doubles_the_map():
    assert DeconvConfig(channels=(8, 8)).build(SHAPE, 5, MAPS)(FEATURES).maps.shape == (1, 5, 32, 24)
    assert ConvMapsConfig().build(SHAPE, 5, MAPS)(FEATURES).maps.shape == (1, 5, 8, 6)


def test_coordinate_heads_give_two_numbers_a_keypoint():
    for config in (GapFcConfig(), FlatFcConfig(channels=4)):
        assert config.build(SHAPE, 5, COORDS)(FEATURES).xy.shape == (1, 5, 2)


def test_gap_forgets_where_things_are_and_flat_does_not():
    features = torch.randn(1, 16, 4, 3)
    moved = features.roll(1, dims=-1)
    gap, flat = (config.build((16, 4, 3), 2, COORDS).eval() for config in (GapFcConfig(), FlatFcConfig(channels=4)))
    torch.testing.assert_close(gap((features,)).xy, gap((moved,)).xy)
    assert (flat((features,)).xy - flat((moved,)).xy).abs().max() > 1e-3


@pytest.mark.parametrize(("num_keypoints", "parameters"), [(17, 2048 * 68 + 68), (133, 2048 * 532 + 532)])
def test_a_head_for_rle_predicts_a_spread_beside_each_place(num_keypoints, parameters):
    head = GapFcConfig().build(SHAPE, num_keypoints, RLE)
    assert count(head) == parameters  # 0.139 M and 1.090 M
    found = head(FEATURES)
    assert found.xy.shape == found.scale.shape == (1, num_keypoints, 2)
    assert (found.scale == 0.5).all()  # sigmoid(0)


def test_a_simcc_head_gives_bins_and_refuses_other_codecs():
    found = SimccHeadConfig(kernel=7).build(SHAPE, 5, SIMCC)(FEATURES)
    assert (found.x.shape, found.y.shape) == ((1, 5, 384), (1, 5, 512))
    with pytest.raises(UserError, match="simcc gives bins, which only the simcc codec reads"):
        SimccHeadConfig().build(SHAPE, 5, COORDS)


def test_coordinates_keep_their_precision_under_mixed_precision():
    torch.manual_seed(0)
    head, features = GapFcConfig().build((64, 4, 3), 17, RLE), (torch.randn(4, 64, 4, 3),)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = head(features)
    torch.testing.assert_close(inside.xy, head(features).xy)
    torch.testing.assert_close(inside.scale, head(features).scale)


def test_the_simcc_head_of_mmpose_draws_on_an_enlarged_map_and_adds_a_number_to_each_bin():
    head = SimccHeadConfig(deconv=(8, 8), bias=True).build((4, 2, 3), 5, SimccConfig().build((32, 24))).eval()
    assert head.x.weight.shape == (48, 16 * 2 * 3)
    with torch.no_grad():
        head.x.weight.zero_()
        head.x.bias.copy_(torch.arange(48.0))
        found = head((torch.rand(1, 4, 2, 3),))
    assert found.x[0, 4].tolist() == list(range(48))
    assert found.y.shape == (1, 5, 64)


@pytest.mark.parametrize("given", [0, True, 2.5, [64, 0], "64", None])
def test_channels_that_are_no_numbers_are_refused_in_one_sentence(given):
    with pytest.raises(UserError, match=r"channels: .* a list of such, such as \[64, 64\]; given: ") as caught:
        validate(DeconvConfig, {"channels": given}, where="test")
    assert str(caught.value).count("channels") == 1


def test_one_number_stands_for_the_deconvolutions_that_the_maps_ask_for():
    codec = HeatmapConfig().build((64, 48))
    one, two = (DeconvConfig(channels=each).build((8, 4, 3), 4, codec) for each in (6, (6, 6)))
    assert {name: each.shape for name, each in one.state_dict().items()} == {
        name: each.shape for name, each in two.state_dict().items()
    }
    assert len(DeconvConfig(channels=6).build((8, 16, 12), 4, codec).layers) == 0
    with pytest.raises(UserError, match="the head returns Heatmaps and the codec reads Coords"):
        DeconvConfig(channels=6).build((8, 4, 3), 4, CoordsConfig().build((64, 48)))
