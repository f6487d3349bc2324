import torch

from posestill.methods.ocd import OcdConfig
from posestill.models.heatmap_helper import HeatmapHelper, HeatmapWeight
from posestill.types import Heatmaps
from tests.conftest import small_model


def test_its_places_are_where_unbiased_maps_were_drawn_within_a_twentieth_of_a_cell():
    """specs/ocd_tcd.md section 14, invariant 2."""
    helper = HeatmapHelper(small_model("coords", size=[128, 96]), stride=4, width=8, sigma=2.0)
    xy = torch.tensor([[[40.3, 50.9], [48.0, 64.0], [37.7, 81.2], [58.5, 73.3]]])
    maps, _ = helper.codec.encode(xy, torch.ones(1, 4))
    assert (helper.places(Heatmaps(maps)).xy - xy).abs().max() / 4 < 0.05


def taught(pull):
    """One step of losses a * sum(F) for the student and w * pull * sum(F) for the helper, on features of one px."""
    weight = HeatmapWeight(small_model("coords"), "auto", decay=0.5)
    features = (torch.ones(1, 4, 1, 1, requires_grad=True),)
    own, helper = weight.branch(features)
    (3 * own[-1].sum() + weight.weight * pull * helper[-1].sum()).backward()
    weight.after_step()
    return weight, features[-1].grad


def test_the_balanced_weight_is_the_ratio_of_the_gradients_on_the_shared_features():
    weight, gradient = taught(0.5)
    assert torch.equal(gradient, torch.full((1, 4, 1, 1), 3 + 10 * 0.5))  # both pulls reach the features unchanged
    torch.testing.assert_close(weight.weight, torch.tensor(3 / 0.5))  # began with 10, which is taken out again
    torch.testing.assert_close(weight.norms, torch.tensor([6.0, 1.0]))  # norms of 4 equal numbers


def test_the_balance_forgets_slowly_and_a_step_without_labels_leaves_it_alone():
    weight, _ = taught(0.5)
    features = (torch.ones(1, 4, 1, 1, requires_grad=True),)
    own, helper = weight.branch(features)
    (3 * own[-1].sum() + weight.weight * 1.5 * helper[-1].sum()).backward()
    weight.after_step()
    torch.testing.assert_close(weight.weight, torch.tensor(6.0 / (0.5 * 1 + 0.5 * 3)))
    before = weight.weight.clone()
    own, helper = weight.branch((torch.ones(1, 4, 1, 1, requires_grad=True),))
    (0 * own[-1].sum() + 0 * helper[-1].sum()).backward()
    weight.after_step()
    assert weight.weight == before


def test_a_fixed_weight_measures_nothing():
    weight = HeatmapWeight(small_model("coords"), 4.0)
    features = (torch.ones(1, 4, 1, 1, requires_grad=True),)
    assert weight.branch(features) == (features, features)
    weight.after_step()
    assert weight.weight == 4


def test_in_a_training_the_balanced_losses_pull_equally_hard():
    from tests.methods.test_ocd import batch

    ocd = OcdConfig(stride=2, width=8, heatmap_weight="auto").build(small_model("coords"), None)
    ocd.heatmap_weight.decay = 0.0
    for _ in range(2):  # the second step uses what the first one found
        sum(ocd(batch(), 0.5).values()).backward()
        own, helper = (ocd.heatmap_weight.measured[which] for which in (0, 1))
        used = ocd.heatmap_weight.weight.clone()
        ocd.after_step()
    torch.testing.assert_close(own, helper, rtol=1e-4, atol=0)
    assert used != 10
    assert ocd.watch() == {"heatmap_weight": ocd.heatmap_weight.weight.item()}
