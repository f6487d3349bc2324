import math

import pytest
import torch

from posestill.codecs.simcc import SimccConfig, bins_divergence
from posestill.types import SimCC

SIZE = (64, 48)


def places(count=100):
    return torch.rand(count, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor(
        [47, 63]
    )


def test_a_target_decodes_to_half_a_bin():
    codec = SimccConfig().build(SIZE)
    xy = places()
    target, weight = codec.encode(xy, torch.ones(100, 1, dtype=torch.float64))
    found = codec.decode(SimCC(*target.split(list(codec.bins), dim=-1)))
    assert (found.xy - xy).abs().max() <= 0.25 + 1e-6  # split 2: bins half a px apart
    assert (weight == 1).all()
    assert found.score.min() > 0.8


def test_bins_are_counted_per_axis():
    codec = SimccConfig(split=3).build(SIZE)
    assert codec.bins == (144, 192)
    assert codec.encode(torch.zeros(1, 2, 2), torch.ones(1, 2))[0].shape == (1, 2, 336)


def test_a_flat_answer_has_a_low_score():
    codec = SimccConfig().build(SIZE)
    flat = codec.decode(SimCC(x=torch.zeros(1, 1, 96), y=torch.zeros(1, 1, 128)))
    assert flat.score.item() < 0.35


def test_the_divergence_by_hand():
    logits, target = torch.tensor([[[0.0, 0.2, 0.0]]]), torch.tensor([[[0.0, 1.0, 0.0]]])
    wanted = [math.exp(10 * each) for each in (0, 1, 0)]
    given = [math.exp(10 * each) for each in (0, 0.2, 0)]
    p, q = [each / sum(wanted) for each in wanted], [each / sum(given) for each in given]
    by_hand = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 3
    assert bins_divergence(logits, target, beta=10).item() == pytest.approx(by_hand, rel=1e-5)


def test_a_mirror_is_exact_for_pixel_centres_and_the_published_one_is_off_by_its_spare_bins():
    xy = torch.tensor([[[30.0, 20.0]]])
    mirrored = torch.tensor([[[47 - 30.0, 20.0]]])
    for exact, off in ((True, 0.0), (False, 0.5)):
        codec = SimccConfig(flip_exact=exact).build(SIZE)
        seen = SimCC(*codec.encode(mirrored, torch.ones(1, 1))[0].split(list(codec.bins), dim=-1))
        back = codec.decode(codec.flip(seen, torch.tensor([0])))
        assert back.xy[0, 0, 0].item() - xy[0, 0, 0].item() == pytest.approx(off)


def test_a_fraction_of_a_bin_is_refused():
    with pytest.raises(ValueError, match=r"1\.5 bins per px: a whole number is wanted"):
        SimccConfig(split=1.5)
