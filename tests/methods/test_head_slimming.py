import pytest
import torch

from posestill.data.topdown import TopDownDataset
from posestill.methods.head_slimming import HeadSlimmingConfig
from posestill.methods.supervised import SupervisedConfig
from posestill.models.gau_head import GauConfig
from posestill.models.heads import DeconvConfig, GapFcConfig
from posestill.schema import UserError
from tests.conftest import DotSource, small_model


def batch(count=6):
    return TopDownDataset(DotSource(count), size=(32, 24)).__getitems__([(0, index) for index in range(count)])


SLIM = {
    "heatmap": (small_model("heatmap", head={"name": "deconv", "channels": [8]}), DeconvConfig(channels=(32,))),
    "simcc": (
        small_model("coords", codec="simcc", head={"name": "gau", "kernel": 1, "hidden": 16, "shared": 8}),
        GauConfig(kernel=7, hidden=32, shared=16),
    ),
    "rle": (small_model("coords", codec="rle", head="gap_fc"), GapFcConfig()),
}


@pytest.mark.parametrize("kind", sorted(SLIM))
def test_the_small_head_is_pulled_to_the_full_one_and_not_the_other_way_round(kind):
    student, full = SLIM[kind]
    slimming = HeadSlimmingConfig(full=full).build(student, None)
    slimming.zero_grad()
    slimming(batch(), 0.5)["distance"].backward()
    assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in student.head.parameters())
    assert all(each.grad is None for each in slimming.full_head.parameters())


@pytest.mark.parametrize("full", [DeconvConfig(), GauConfig()])
def test_a_full_head_of_another_kind_is_refused_by_its_own_name(full):
    with pytest.raises(UserError, match="method.full: the full head must suit the student's codec, CoordsCodec"):
        HeadSlimmingConfig(full=full).build(small_model("coords"), None)


def test_the_distance_counts_more_and_more():
    student, full = SLIM["heatmap"]
    slimming = HeadSlimmingConfig(full=full).build(student, None).eval()
    given = batch()
    early, half, late = (slimming(given, progress)["distance"] for progress in (0.0, 0.5, 1.0))
    assert late > 0
    torch.testing.assert_close(torch.stack([early, half]), torch.stack([0 * late, late / 2]))


def test_the_distance_of_heatmaps_is_their_mean_squared_difference_labels_or_not():
    student, full = SLIM["heatmap"]
    slimming = HeadSlimmingConfig(full=full, distance_weight=2.0).build(student, None).eval()
    given = batch()
    features = student.features(given.image)
    wanted = (student.head(features).maps - slimming.full_head(features).maps).square().mean()
    torch.testing.assert_close(slimming(given, 1.0)["distance"], 2 * wanted)


def test_the_distance_of_bins_is_the_divergence_of_the_softened_logits():
    student, full = SLIM["simcc"]
    slimming = HeadSlimmingConfig(full=full).build(student, None).eval()
    given = batch()
    features = student.features(given.image)
    small, large = student.head(features), slimming.full_head(features)
    wanted = 0.0
    for one, other in ((small.x, large.x), (small.y, large.y)):
        p, q = (10 * other).softmax(-1), (10 * one).softmax(-1)
        wanted = wanted + (p * (p / q).log()).mean(-1)
    torch.testing.assert_close(slimming(given, 1.0)["distance"], wanted.mean(), rtol=1e-4, atol=1e-9)


def test_without_its_two_losses_it_is_the_student_alone_step_for_step():
    states = []
    for config in (HeadSlimmingConfig(full=DeconvConfig(channels=(32,)), full_weight=0, distance_weight=0),
                   SupervisedConfig()):  # fmt: skip
        distiller = config.build(small_model("heatmap"), None)
        optimiser = torch.optim.SGD(distiller.parameters(), lr=1e-2)
        for _ in range(3):
            distiller.train()
            optimiser.zero_grad()
            sum(distiller(batch(), 0.5).values()).backward()
            optimiser.step()
        states.append(distiller.deployable().state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=0)


def test_a_finer_full_head_is_read_at_the_cells_of_the_coarser_small_one():
    student = small_model("heatmap", head="conv_maps", codec={"name": "heatmap", "stride": 4, "sigma": 1.0})
    slimming = HeadSlimmingConfig(full=DeconvConfig(channels=(16,))).build(student, None).eval()
    assert slimming.full_codec.map_size == (16, 12)
    assert slimming.full_codec.config.sigma == 2.0  # as wide in input px
    given = batch()
    features = student.features(given.image)
    wanted = (student.head(features).maps - slimming.full_head(features).maps[..., ::2, ::2]).square().mean()
    torch.testing.assert_close(slimming(given, 1.0)["distance"], wanted)
    fine, _ = slimming.full_codec.encode(given.keypoints, given.weight)
    coarse, _ = student.codec.encode(given.keypoints, given.weight)
    seen = given.weight > 0
    torch.testing.assert_close(fine[..., ::2, ::2][seen], coarse[seen])  # labels agree on both grids


def test_a_full_head_of_another_representation_is_refused():
    with pytest.raises(UserError, match="choose a head and a codec of one kind"):
        HeadSlimmingConfig().build(small_model("coords"), None)


def test_what_is_deployed_has_the_small_head_alone():
    student, full = SLIM["heatmap"]
    slimming = HeadSlimmingConfig(full=full).build(student, None)
    assert slimming.deployable() is student
    assert not any("full" in name for name in student.state_dict())
