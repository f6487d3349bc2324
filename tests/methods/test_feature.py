import math

import pytest
import torch

from posestill.methods.feature import ChannelWiseConfig, FitNetConfig, MaskedGenerationConfig, PearsonConfig
from posestill.models.resize import resized
from posestill.teachers.base import ModelTeacher
from tests.conftest import small_model
from tests.methods.test_agentpose import balanced_pulls

ONE = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])  # (2, 1, 1, 2)
OTHER = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 2.0]]]])


def build(config, student="coords", **changes):
    return config.build(small_model(student), ModelTeacher(small_model("heatmap", seed=3, **changes)))


def test_fitnets_distance_is_the_mean_squared_error():
    assert build(FitNetConfig()).distance(ONE, OTHER) == (0 + 1 + 4 + 25) / 4


def test_pkds_distance_is_one_less_the_correlation():
    one, other = ONE.flatten() - 4, OTHER.flatten() - 2
    correlation = (one @ other / (one.norm() * other.norm())).item()
    assert build(PearsonConfig()).distance(ONE, OTHER).item() == pytest.approx(1 - correlation, abs=1e-5)
    assert build(PearsonConfig()).distance(3 * OTHER + 1, OTHER).item() == pytest.approx(0, abs=1e-6)


def test_cwds_distance_is_the_divergence_over_places_times_the_temperature_squared():
    def softened(a, b, temperature):
        a, b = math.exp(a / temperature), math.exp(b / temperature)
        return a / (a + b), b / (a + b)

    wanted = 0.0
    for student, taught in (((1, 3), (1, 2)), ((5, 7), (3, 2))):
        q, p = softened(*student, 2.0), softened(*taught, 2.0)
        wanted += sum(each * math.log(each / other) for each, other in zip(p, q, strict=True))
    assert build(ChannelWiseConfig(temperature=2.0)).distance(ONE, OTHER).item() == pytest.approx(
        4 * wanted / 2, rel=1e-5
    )


def test_mgds_distance_is_summed_and_divided_by_the_batch_and_hides_places_by_the_step():
    method = build(MaskedGenerationConfig(masked=0.0))
    feature, taught = torch.rand(2, 16, 8, 6), torch.rand(2, 16, 8, 6)
    wanted = (method.generate(feature) - taught).square().sum() / 2
    torch.testing.assert_close(method.distance(feature, taught), wanted)
    hidden = build(MaskedGenerationConfig(masked=0.9))
    torch.manual_seed(1)
    first = hidden.distance(feature, taught)
    torch.manual_seed(1)
    assert hidden.distance(feature, taught) == first
    torch.manual_seed(2)
    assert hidden.distance(feature, taught) != first


@pytest.mark.parametrize("student", ["coords", "heatmap"])  # the losses of maps are far smaller than those of features
@pytest.mark.parametrize("config", [FitNetConfig(), PearsonConfig(), MaskedGenerationConfig(), ChannelWiseConfig()])
def test_the_weight_is_the_published_one_or_balances_the_gradients(config, student):
    fixed = build(config, student)
    assert fixed.balance.weight == pytest.approx(config.weight)
    method = build(config.model_copy(update={"weight": "auto"}), student)
    own, other = balanced_pulls(method)
    torch.testing.assert_close(other, 0.5 * own, rtol=1e-3, atol=0)


def test_features_of_another_grid_are_met_by_resizing():
    from posestill.data.topdown import TopDownDataset
    from tests.conftest import DotSource

    method = build(FitNetConfig(), size=[64, 48])
    assert method.grid == (16, 12)
    crops = TopDownDataset(DotSource(2), size=(32, 24), teacher_size=(64, 48)).__getitems__([(0, 0), (0, 1)])
    assert torch.isfinite(method(crops, 0.5)["features"])


def test_a_finer_student_is_met_with_all_its_places():
    finer = torch.rand(1, 4, 16, 12, requires_grad=True)
    for grid in ((4, 3), (6, 5)):
        (gradient,) = torch.autograd.grad(resized(finer, grid).sum(), finer)
        assert (gradient > 0).all()
    torch.testing.assert_close(resized(finer, (8, 6))[0, 0, 0, 0], finer[0, 0, :2, :2].mean())
