import math

import numpy as np
import pytest
import torch

from posestill.codecs.rle import RealNvp, RleConfig
from posestill.schema import UserError
from posestill.types import Coords

SIZE = (256, 192)


def flow(seed=0):
    torch.manual_seed(seed)
    made = RealNvp(hidden=8).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made


def by_hand(points, made):
    """The log-density with loops and numpy: each coupling undone point by point, its Jacobian counted from scratch."""
    weights = {name: value.numpy() for name, value in made.state_dict().items()}

    def network(kind, layer, values):
        for position in (0, 2, 4):
            weight, bias = (weights[f"{kind}.{layer}.{position}.{part}"] for part in ("weight", "bias"))
            values = weight @ values + bias
            if position < 4:
                values = np.where(values > 0, values, 0.01 * values)
        return np.tanh(values) if kind == "scales" else values

    found = []
    for point in points:
        z, log_volume = point.copy(), 0.0
        for layer in range(5, -1, -1):
            moved = 0 if layer % 2 == 0 else 1  # the coordinate that this coupling changes
            kept = z.copy()
            kept[moved] = 0
            s, t = network("scales", layer, kept)[moved], network("shifts", layer, kept)[moved]
            z[moved] = (z[moved] - t) * math.exp(-s)
            log_volume -= s
        found.append(log_volume - 0.5 * (z @ z) - math.log(2 * math.pi))
    return np.array(found)


def test_the_flow_equals_an_independent_computation():
    made, points = flow(), np.random.default_rng(0).normal(size=(20, 2))
    np.testing.assert_allclose(made(torch.from_numpy(points)).detach().numpy(), by_hand(points, made), rtol=1e-12)


def test_the_flow_is_a_density():
    made = flow()
    axis = torch.linspace(-12, 12, 481, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    assert made(grid).exp().sum().item() * 0.05**2 == pytest.approx(1, abs=2e-3)


def test_loss_and_gradient_equal_an_independent_computation():
    rng = np.random.default_rng(1)
    xy, scale, target = rng.random((2, 3, 2)), rng.uniform(0.02, 0.2, (2, 3, 2)), rng.random((2, 3, 2))
    weight, made = np.array([[1.0, 0, 1], [1, 1, 0]]), flow(2)

    def loss_by_hand(xy, scale):
        error = (xy - target) / (scale + 1e-9)
        log_phi = by_hand(error.reshape(-1, 2), made).reshape(2, 3)
        total = 0.0
        for b in range(2):
            for k in range(3):
                for axis in range(2):
                    flowing = math.log(scale[b, k, axis]) - log_phi[b, k]
                    laplace = math.log(2 * scale[b, k, axis]) + abs(error[b, k, axis])
                    total += weight[b, k] * (flowing + laplace)
        return total / 6

    given = [torch.from_numpy(each).requires_grad_() for each in (xy, scale)]
    codec = RleConfig().build(SIZE)
    loss = codec.loss(Coords(xy=given[0], scale=given[1]), torch.from_numpy(target), torch.from_numpy(weight), made)
    assert loss.item() == pytest.approx(loss_by_hand(xy, scale), rel=1e-9)
    loss.backward()
    for array, tensor in zip((xy, scale), given, strict=True):
        for index in [(0, 0, 0), (1, 1, 1), (0, 2, 0), (0, 1, 0)]:
            step = np.zeros_like(array)
            step[index] = 1e-6
            pair = [(xy + way * step, scale) if array is xy else (xy, scale + way * step) for way in (1, -1)]
            slope = (loss_by_hand(*pair[0]) - loss_by_hand(*pair[1])) / 2e-6
            assert tensor.grad[index].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)
    assert given[0].grad[0, 1].abs().max() == 0  # not labelled


def test_the_score_is_one_less_the_mean_spread():
    found = RleConfig().build(SIZE).decode(Coords(xy=torch.full((1, 1, 2), 0.5), scale=torch.tensor([[[0.1, 0.3]]])))
    assert found.score.item() == pytest.approx(0.8)
    assert found.xy.tolist() == [[[96, 128]]]


def test_a_flow_is_needed():
    codec = RleConfig().build(SIZE)
    with pytest.raises(UserError, match="needs a head that predicts spreads"):
        codec.loss(Coords(xy=torch.zeros(1, 1, 2)), torch.zeros(1, 1, 2), torch.ones(1, 1), codec.helper())


def test_bf16_around_it_does_not_touch_the_density():
    made, points = RealNvp(), torch.randn(8, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = made(points)
    torch.testing.assert_close(inside, made(points))
