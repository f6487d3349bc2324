import pytest
import torch

from posestill.codecs.coords import CoordsConfig
from posestill.types import Coords

SIZE = (256, 192)


def test_labels_become_fractions_of_width_and_height():
    target, weight = CoordsConfig().build(SIZE).encode(torch.tensor([[[96.0, 64.0], [191.0, 255.0]]]), torch.ones(1, 2))
    assert target[0, 0].tolist() == [0.5, 0.25]
    assert weight.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("outside", [(-1.0, 10.0), (191.5, 10.0), (10.0, 256.0)])
def test_a_keypoint_outside_the_input_loses_its_weight(outside):
    _, weight = CoordsConfig().build(SIZE).encode(torch.tensor([[outside]]), torch.ones(1, 1))
    assert weight.item() == 0


def test_decoding_undoes_encoding_and_the_score_is_one():
    codec = CoordsConfig().build(SIZE)
    xy = torch.rand(5, 3, 2) * torch.tensor([190.0, 250.0])
    found = codec.decode(Coords(xy=codec.encode(xy, torch.ones(5, 3))[0]))
    torch.testing.assert_close(found.xy, xy)
    assert (found.score == 1).all()
    assert not codec.has_score


@pytest.mark.parametrize("mirror_shift", [True, False])
def test_flipping_twice_is_the_identity(mirror_shift):
    codec, swap = CoordsConfig(mirror_shift=mirror_shift).build(SIZE), torch.tensor([0, 2, 1])
    given = Coords(xy=torch.rand(2, 3, 2), scale=torch.rand(2, 3, 2), score=torch.rand(2, 3))
    twice = codec.flip(codec.flip(given, swap), swap)
    torch.testing.assert_close(twice.xy, given.xy)
    assert twice.scale is not None
    torch.testing.assert_close(twice.scale, given.scale)
    torch.testing.assert_close(twice.score, given.score)


def test_a_mirror_is_exact_for_pixel_centres_at_integers():
    codec = CoordsConfig().build(SIZE)
    mirrored = Coords(xy=torch.tensor([[[(191 - 30) / 192, 0.5]]]))  # pixel 30, seen in the mirrored crop
    assert codec.decode(codec.flip(mirrored, torch.tensor([0]))).xy[0, 0, 0] == pytest.approx(30, abs=1e-4)


def test_smooth_l1_at_beta_one_is_half_the_square_and_l1_is_the_distance():
    prediction, target = Coords(xy=torch.full((1, 2, 2), 0.1)), torch.zeros(1, 2, 2)
    weight = torch.tensor([[1.0, 0.0]])
    smooth = CoordsConfig(loss="smooth_l1").build(SIZE).loss(prediction, target, weight)
    assert smooth == pytest.approx(0.5 * 0.01 / 2)  # masked entries stay in the denominator
    assert CoordsConfig().build(SIZE).loss(prediction, target, weight) == pytest.approx(0.1 / 2)
    assert CoordsConfig(normalise="labelled").build(SIZE).loss(prediction, target, weight) == pytest.approx(0.1)
