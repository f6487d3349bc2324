import pytest
import torch

from posestill.codecs.between import convert, from_coords, simulated_heatmaps, to_coords
from posestill.codecs.coords import CoordsConfig
from posestill.codecs.heatmap import HeatmapConfig
from posestill.codecs.rle import RleConfig
from posestill.codecs.simcc import SimccConfig
from posestill.types import Coords

SIZE = (256, 192)
EXTENT = torch.tensor([192.0, 256.0], dtype=torch.float64)
CODECS = {
    "heatmap": HeatmapConfig().build(SIZE),
    "udp": HeatmapConfig(grid="udp").build(SIZE),
    "coords": CoordsConfig().build(SIZE),
    "rle": RleConfig().build(SIZE),
    "simcc": SimccConfig().build(SIZE),
}
TOLERANCE = {"heatmap": 0.1, "udp": 0.1, "coords": 1e-3, "rle": 1e-3, "simcc": 0.26}
"""input px that each representation may cost at its own spread: the local expectation cuts tails, SimCC has bins"""


def places(count=60):
    draw = torch.rand(count, 1, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return 24 + draw * torch.tensor([192 - 49.0, 256 - 49.0])


def coords(xy):
    fraction = xy / EXTENT
    score = torch.linspace(0.4, 1, len(xy), dtype=xy.dtype)[:, None]
    return Coords(xy=fraction, scale=(8 / EXTENT).expand_as(fraction), score=score)


@pytest.mark.parametrize("given", sorted(CODECS))
@pytest.mark.parametrize("wanted", sorted(CODECS))
def test_every_representation_becomes_every_other_at_the_same_place(given, wanted):
    xy = places()
    first = from_coords(coords(xy), CODECS[given])
    second = convert(first, CODECS[given], CODECS[wanted])
    back = to_coords(second, CODECS[wanted]).xy * EXTENT
    assert (back - xy).abs().max() < TOLERANCE[given] + TOLERANCE[wanted]


@pytest.mark.parametrize("given", ["heatmap", "udp", "coords"])
@pytest.mark.parametrize("wanted", ["heatmap", "udp", "coords"])
def test_confidences_survive_between_heatmaps_and_coordinates(given, wanted):
    start = coords(places())
    found = to_coords(convert(from_coords(start, CODECS[given]), CODECS[given], CODECS[wanted]), CODECS[wanted])
    assert (found.score - start.score).abs().max() < 0.12  # a peak between two cells is a little lower than its top


def test_a_heatmap_place_is_read_by_the_convention_of_its_grid():
    """specs/ocd_tcd.md section 5: u = p / (w, h), and on the UDP grid u = p (W - 1) / ((w - 1) W)."""
    maps = simulated_heatmaps(torch.tensor([[[20.0, 30.0]]]), torch.full((1, 1, 2), 2.0), (64, 48))
    from posestill.types import Heatmaps

    plain = to_coords(Heatmaps(maps), CODECS["heatmap"]).xy[0, 0]
    torch.testing.assert_close(plain, torch.tensor([20 / 48, 30 / 64]), atol=1e-4, rtol=0)
    udp = to_coords(Heatmaps(maps), CODECS["udp"]).xy[0, 0]
    torch.testing.assert_close(udp, torch.tensor([20 * 191 / (47 * 192), 30 * 255 / (63 * 256)]), atol=1e-4, rtol=0)


def test_simulated_heatmaps_have_height_one_and_gradients_to_place_and_spread():
    place = torch.tensor([[[10.0, 12.0]]], requires_grad=True)
    spread = torch.tensor([[[2.0, 3.0]]], requires_grad=True)
    maps = simulated_heatmaps(place, spread, (32, 24))
    assert maps[0, 0, 12, 10].item() == pytest.approx(1)
    assert maps[0, 0, 12, 12].item() == pytest.approx(2.718281828 ** (-0.5), rel=1e-5)
    assert maps[0, 0, 15, 10].item() == pytest.approx(2.718281828 ** (-0.5), rel=1e-5)
    maps[0, 0, :, 11:].sum().backward()
    assert place.grad[0, 0, 0] > 0  # to the right is more
    assert spread.grad.abs().min() > 0


def test_a_udp_target_decodes_to_where_it_was_drawn_and_its_mirror_needs_no_shift():
    codec, xy = CODECS["udp"], places()
    from posestill.types import Heatmaps

    target, _ = codec.encode(xy, torch.ones(60, 1, dtype=torch.float64))
    assert (codec.decode(Heatmaps(target)).xy - xy).norm(dim=-1).max() < 0.02
    mirrored = torch.stack([191 - xy[..., 0], xy[..., 1]], dim=-1)
    seen, _ = codec.encode(mirrored, torch.ones(60, 1, dtype=torch.float64))
    torch.testing.assert_close(codec.flip(Heatmaps(seen), torch.tensor([0])).maps, target)


def test_a_prediction_under_the_wrong_codec_is_a_programming_error():
    with pytest.raises(TypeError, match="HeatmapCodec does not read SimCC"):
        convert(from_coords(coords(places()), CODECS["simcc"]), CODECS["heatmap"], CODECS["coords"])
