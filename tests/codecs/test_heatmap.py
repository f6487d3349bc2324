import math

import pytest
import torch

from posestill.codecs.heatmap import HeatmapConfig, decode_maps, draw_gaussians, simulated_heatmaps
from posestill.schema import UserError
from posestill.types import Coords, Heatmaps, PoseOutput

SIZE = (256, 192)


def places(count=200, seed=0, margin=24.0):
    draw = torch.rand(count, 1, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return margin + draw * (torch.tensor([SIZE[1], SIZE[0]]) - 1 - 2 * margin)


@pytest.mark.parametrize(
    ("decoder", "worst"),
    # input px at stride 4: half a cell's diagonal; a quarter's; DARK is exact on a Gaussian; the window cuts its tail
    [("argmax", 2.9), ("quarter", 1.5), ("dark", 0.02), ("local", 0.2)],
)
def test_an_unbiased_target_decodes_to_where_it_was_drawn(decoder, worst):
    codec = HeatmapConfig(decoder=decoder).build(SIZE)
    xy = places()
    target, _ = codec.encode(xy, torch.ones(200, 1))
    found = codec.decode(Heatmaps(maps=target))
    assert (found.xy - xy).norm(dim=-1).max() < worst
    assert (found.score > 0.9).all()


def test_the_plain_target_peaks_at_the_nearest_cell_and_ends_at_three_sigma():
    codec = HeatmapConfig(target="plain").build(SIZE)
    target, _ = codec.encode(torch.tensor([[[101.0, 50.0]]]), torch.ones(1, 1))
    row, column = divmod(int(target.flatten().argmax()), 48)
    assert (column, row) == (25, 13)  # floor(101 / 4 + 0.5), floor(50 / 4 + 0.5)
    assert target[0, 0, 13, 25] == 1
    assert target[0, 0, 13, 25 + 6] == pytest.approx(math.exp(-36 / 8))
    assert target[0, 0, 13, 25 + 7] == 0


def test_a_gaussian_value_worked_by_hand():
    maps = draw_gaussians(torch.tensor([[[3.5, 2.0]]]), 4.0, (6, 8))
    assert maps[0, 0, 4, 5] == pytest.approx(math.exp(-(1.5**2 + 2**2) / 8))


def test_a_keypoint_just_outside_still_draws_its_tail_and_one_far_outside_loses_its_weight():
    codec = HeatmapConfig().build(SIZE)
    xy = torch.tensor([[[-10.0, 100.0], [-60.0, 100.0]]])
    target, weight = codec.encode(xy, torch.ones(1, 2))
    assert weight.tolist() == [[1.0, 0.0]]
    assert target[0, 0].max() > 0.1
    assert target[0, 1].max() == 0


def test_flipping_twice_is_the_identity_when_the_shift_is_off():
    codec = HeatmapConfig(flip_shift="none").build(SIZE)
    maps, swap = torch.randn(2, 3, 64, 48), torch.tensor([0, 2, 1])
    twice = codec.flip(codec.flip(Heatmaps(maps), swap), swap)
    assert torch.equal(twice.maps, maps)


@pytest.mark.parametrize(
    ("flip_shift", "stride", "off"), [("exact", 4, 0), ("exact", 2, 0), ("whole", 4, 1), ("whole", 2, 1)]
)
def test_a_mirrored_map_comes_back_onto_the_upright_one_and_the_published_shift_goes_too_far(flip_shift, stride, off):
    codec = HeatmapConfig(flip_shift=flip_shift, stride=stride, decoder="local").build(SIZE)
    xy = places(40)
    mirrored = torch.stack([SIZE[1] - 1 - xy[..., 0], xy[..., 1]], dim=-1)
    back = codec.flip(Heatmaps(codec.encode(mirrored, torch.ones(40, 1))[0]), torch.tensor([0]))
    shift = (codec.decode(back).xy - xy).double()
    # mirrored map: (w - 1) - (W - 1 - x) / s = x / s - (1 - 1 / s); a whole px more than that is one input px too far
    assert shift[..., 0].mean().item() == pytest.approx(off, abs=0.06)
    assert shift[..., 1].abs().max() < 0.3


def test_decoding_keeps_its_precision_under_mixed_precision():
    codec = HeatmapConfig().build(SIZE)
    maps = Heatmaps(codec.encode(places(), torch.ones(200, 1))[0].float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = codec.decode(maps).xy
    torch.testing.assert_close(inside, codec.decode(maps).xy, atol=1e-4, rtol=0)


def test_dark_does_not_step_from_a_border_or_a_flat_map():
    maps = torch.zeros(1, 2, 8, 6)
    maps[0, 0, 0, 0] = 1
    xy, peak = decode_maps(maps, "dark", sigma=2.0)
    assert xy[0].tolist() == [[0, 0], [0, 0]]
    assert peak.tolist() == [[1, 0]]


def test_local_expectation_survives_weak_peaks_that_ruin_a_global_mean():
    xy = places(100)
    clean = draw_gaussians(xy / 4, 4.0, (64, 48)) * 0.4
    noisy = clean + 0.03 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=clean.dtype)
    found, _ = decode_maps(noisy, "local", sigma=2.0)
    assert (found - xy / 4).norm(dim=-1).mean() < 0.3


def test_the_loss_is_the_mean_square_over_maps_and_all_keypoints():
    codec = HeatmapConfig(stride=4, sigma=1.0).build((16, 16))
    target = torch.zeros(1, 2, 4, 4)
    prediction = Heatmaps(maps=torch.full((1, 2, 4, 4), 0.5))
    assert codec.loss(prediction, target, torch.tensor([[1.0, 0.0]])) == pytest.approx(0.25 / 2)
    labelled = HeatmapConfig(stride=4, sigma=1.0, normalise="labelled").build((16, 16))
    assert labelled.loss(prediction, target, torch.tensor([[1.0, 0.0]])) == pytest.approx(0.25)
    assert labelled.loss(prediction, target, torch.zeros(1, 2)) == 0


@pytest.mark.parametrize("change", [{"stride": 0}, {"sigma": 0}, {"blur_kernel": 4}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        HeatmapConfig(**change)


def test_a_size_off_the_stride_is_refused_with_both_named():
    with pytest.raises(UserError, match=r"\(256, 190\) is not a multiple of the heatmap stride 4"):
        HeatmapConfig().build((256, 190))


def test_maps_of_another_size_are_refused_with_both_sizes_and_the_stride():
    codec = HeatmapConfig().build(SIZE)
    with pytest.raises(UserError, match=r"maps of \(32, 24\).*expects \(64, 48\).*stride 4"):
        codec.check(PoseOutput(Heatmaps(torch.zeros(1, 17, 32, 24)), ()))


def test_a_coordinate_head_under_a_heatmap_codec_is_refused():
    with pytest.raises(UserError, match="returns Coords and the codec reads Heatmaps"):
        HeatmapConfig().build(SIZE).check(PoseOutput(Coords(torch.zeros(1, 17, 2)), ()))


@pytest.mark.parametrize(
    ("grid", "px"), [("stride", (80.0, 120.0)), ("udp", (20 * 191 / 47, 30 * 255 / 63))], ids=["stride", "udp"]
)
def test_a_cell_lies_on_the_input_by_the_convention_of_its_grid(grid, px):
    """A whole map px is four input px or, where first and last pixels coincide, (W - 1) / (w - 1)."""
    form = HeatmapConfig(grid=grid).build((256, 192)).form
    torch.testing.assert_close(form.to_input(torch.tensor([[[20.0, 30.0]]]))[0, 0], torch.tensor(px))
    torch.testing.assert_close(form.to_map(torch.tensor([[px]]))[0, 0], torch.tensor([20.0, 30.0]))


def test_maps_of_another_stride_or_grid_have_other_cells_and_those_of_another_spread_the_same():
    form = HeatmapConfig().build((256, 192)).form
    assert form.has_the_cells_of(HeatmapConfig(sigma=3.0).build((256, 192)).form)
    assert not form.has_the_cells_of(HeatmapConfig(grid="udp").build((256, 192)).form)
    assert not form.has_the_cells_of(HeatmapConfig(stride=2).build((256, 192)).form)
    assert not form.has_the_cells_of(HeatmapConfig().build((128, 96)).form)


def test_simulated_heatmaps_have_height_one_and_gradients_to_place_and_spread():
    place = torch.tensor([[[10.0, 12.0]]], requires_grad=True)
    spread = torch.tensor([[[2.0, 3.0]]], requires_grad=True)
    maps = simulated_heatmaps(place, spread, (32, 24))
    assert maps[0, 0, 12, 10].item() == pytest.approx(1)
    assert maps[0, 0, 12, 12].item() == pytest.approx(math.exp(-0.5), rel=1e-5)
    assert maps[0, 0, 15, 10].item() == pytest.approx(math.exp(-0.5), rel=1e-5)
    maps[0, 0, :, 11:].sum().backward()
    assert place.grad[0, 0, 0] > 0  # to the right is more
    assert spread.grad.abs().min() > 0


def test_a_udp_target_decodes_to_where_it_was_drawn_and_its_mirror_needs_no_shift():
    codec = HeatmapConfig(grid="udp").build((256, 192))
    draw = torch.rand(60, 1, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    xy, weight = 24 + draw * torch.tensor([192 - 49.0, 256 - 49.0]), torch.ones(60, 1, dtype=torch.float64)
    target, _ = codec.encode(xy, weight)
    assert (codec.decode(Heatmaps(target)).xy - xy).norm(dim=-1).max() < 0.02
    mirrored = torch.stack([191 - xy[..., 0], xy[..., 1]], dim=-1)
    seen, _ = codec.encode(mirrored, weight)
    torch.testing.assert_close(codec.flip(Heatmaps(seen), torch.tensor([0])).maps, target)
