"""TCD in each of its forms; the weights of its terms without heatmaps are in test_methods."""

import pytest
import torch

from posestill.data.topdown import TopDownDataset
from posestill.methods.tcd import TcdConfig
from posestill.schema import UserError
from posestill.teachers.base import ModelTeacher
from posestill.types import Heatmaps
from tests.conftest import DotSource, small_model


def batch(count=6, unlabelled=0):
    source = DotSource(count, unlabelled=unlabelled)
    return TopDownDataset(source, size=(32, 24)).__getitems__([(0, index) for index in range(count)])


def confident(**changes):
    """A heatmap teacher whose maps peak near 0.8 somewhere."""
    model = small_model("heatmap", seed=3, **changes)
    torch.nn.init.normal_(model.head.maps.weight, std=1.0)
    torch.nn.init.constant_(model.head.maps.bias, 0.8)
    return ModelTeacher(model)


def build(teacher=None, codec="coords", **settings):
    head = "simcc" if codec == "simcc" else "flat_fc"
    student = small_model("coords", codec=codec, head=head)
    return TcdConfig(stride=2, width=8, **settings).build(student, teacher or confident())


def test_the_form_follows_from_what_the_teacher_provides():
    assert build().form == "head"
    fine = confident(backbone="stemnet", head="conv_maps", codec={"name": "heatmap", "stride": 4}, size=[128, 96])
    helped = build(fine)
    assert helped.form == "helper"
    assert "a map of 32 rows, far finer than the student's 8" in helped.chosen
    deaf = confident()
    deaf.provides = frozenset({"prediction"})
    assert build(deaf).form == "helper"
    assert build(ModelTeacher(small_model("coords"))).form == "keypoints"
    assert TcdConfig().build(small_model("heatmap"), confident()).form == "keypoints"
    assert "crops are of another aspect" in build(confident(size=[32, 32])).chosen
    assert build(form="helper").chosen == "TCD in its form 'helper': as asked for"


def test_the_heatmap_loss_is_that_of_the_teachers_head_on_adapted_features():
    tcd, given = build(heatmap_weight=3.0).eval(), batch()
    drawn = tcd.teacher.model.head(tcd.adapter(tcd.student.features(given.image))).maps
    target, weight = tcd.teacher.codec.encode(given.keypoints, given.weight)
    taught = tcd.teacher(given).prediction.maps
    peak = taught.flatten(2).amax(-1)
    without = (weight == 0).float()[..., None, None]
    counted = torch.where(weight > 0, weight, peak.clamp(0, 1) * (peak > 0.2))
    error = (drawn - (1 - without) * target - without * taught).square().mean((-2, -1))
    assert 0 < weight.sum() < weight.numel()
    torch.testing.assert_close(tcd(given, 0.5)["heatmap"], 3 * (counted * error).mean())


def test_a_helper_learns_labels_mixed_with_the_teachers_maps_where_it_is_sure():
    tcd, given = build(form="helper", heatmap_weight=1.0, teacher_share=0.25).eval(), batch()
    target, weight = tcd.helper.codec.encode(given.keypoints, given.weight)
    taught = tcd.teacher(given).prediction.maps  # of the same grid here
    peak = taught.flatten(2).amax(-1)
    told = torch.where(weight > 0, 0.25 * (peak > 0.2), 1.0)[..., None, None]
    drawn = tcd.helper(tcd.student.features(given.image)).maps
    error = (drawn - (1 - told) * target - told * taught).square().mean((-2, -1))
    counted = torch.where(weight > 0, weight, peak.clamp(0, 1) * (peak > 0.2))
    torch.testing.assert_close(tcd(given, 0.5)["heatmap"], (counted * error).mean())


@pytest.mark.parametrize("form", ["head", "helper"])
@pytest.mark.parametrize("codec", ["coords", "rle", "simcc"])
def test_unlabelled_persons_are_taught_and_each_loss_reaches_what_it_should(form, codec):
    tcd, given = build(form=form, codec=codec), batch(unlabelled=6)
    assert given.weight.sum() == 0
    network = tcd.adapter if form == "head" else tcd.helper
    parts = {"backbone": tcd.student.backbone, "student": tcd.student.head, "network": network}
    reached = {}
    for name, loss in tcd(given, 0.5).items():
        tcd.zero_grad()
        loss.backward(retain_graph=True)
        reached[name] = {
            part: any(each.grad is not None and each.grad.abs().sum() > 0 for each in module.parameters())
            for part, module in parts.items()
        }
    nothing = {"backbone": False, "student": False, "network": False}
    assert reached == {
        "task": nothing,
        "head": {**nothing, "backbone": True, "student": True},
        "heatmap": {**nothing, "backbone": True, "network": True},
    }


@pytest.mark.parametrize("form", ["head", "helper"])
def test_the_teacher_stays_as_it_is_and_in_eval_mode_while_all_around_it_trains(form):
    tcd = build(form=form).train()
    before = {name: value.clone() for name, value in tcd.teacher.model.state_dict().items()}
    optimiser = torch.optim.SGD(tcd.parameters(), lr=0.1)
    for _ in range(3):
        sum(tcd(batch(), 0.5).values()).backward()
        optimiser.step()
        tcd.after_step()
    assert not tcd.teacher.model.head.training
    after = tcd.teacher.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any("teacher" in name for name in tcd.state_dict())


def test_a_teacher_of_finer_crops_is_resampled_where_the_helpers_cells_lie():
    teacher = confident(size=[64, 48], codec={"name": "heatmap", "stride": 2, "sigma": 2.0})
    tcd, given = build(teacher, form="helper"), batch()
    xy = torch.tensor([[[8.0, 20.0], [12.0, 12.0], [16.0, 9.0], [10.0, 25.0]]]).expand(6, -1, -1)
    maps, _ = teacher.codec.encode(2 * xy, torch.ones(6, 4))
    moved = tcd.heatmap_bridge.resampled(maps, tcd.helper.codec, given)
    assert moved.shape == (6, 4, 16, 12)
    assert (tcd.helper.places(Heatmaps(moved)).xy - xy).abs().max() < 0.3


def test_forms_that_do_not_suit_are_refused():
    with pytest.raises(UserError, match="set method.form=keypoints"):
        TcdConfig(form="helper").build(small_model("heatmap"), confident())
    deaf = confident()
    deaf.provides = frozenset({"prediction"})
    with pytest.raises(UserError, match="does not lend its head: set method.form=helper"):
        build(deaf, form="head")
    with pytest.raises(UserError, match="of another aspect"):
        build(confident(size=[32, 32]), form="head")
    with pytest.raises(UserError, match="its heatmaps are needed, and this one gives Coords"):
        build(ModelTeacher(small_model("coords")), form="helper")
