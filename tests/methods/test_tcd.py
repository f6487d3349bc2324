"""TCD in each of its forms; the weights of its terms without heatmaps are in test_methods."""

from dataclasses import replace

import pytest
import torch

from posestill.data.topdown import TopDownDataset
from posestill.methods.tcd import Tcd, TcdByHead, TcdByHelper, TcdConfig
from posestill.schema import UserError
from posestill.skeletons import from_category
from posestill.teachers.base import ModelTeacher
from posestill.types import Heatmaps
from tests.conftest import DOTS, DotSource, small_model


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
    if settings.get("form") in (None, "helper"):
        settings = {"stride": 2, "width": 8, **settings}
    return TcdConfig(**settings).build(student, teacher or confident())


def test_the_form_follows_from_what_the_teacher_provides():
    assert type(build()) is TcdByHead
    fine = confident(backbone="stemnet", head="conv_maps", codec={"name": "heatmap", "stride": 4}, size=[128, 96])
    helped = build(fine)
    assert type(helped) is TcdByHelper
    assert "a map of 32 rows, far finer than the student's 8" in helped.chosen
    deaf = confident()
    deaf.provides = frozenset({"prediction"})
    assert type(build(deaf)) is TcdByHelper
    assert type(build(ModelTeacher(small_model("coords")))) is Tcd
    assert type(TcdConfig().build(small_model("heatmap"), confident())) is Tcd
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
    moved = tcd.bridge.resampled(maps, tcd.helper.codec.form, given)
    assert moved.shape == (6, 4, 16, 12)
    assert (tcd.helper.places(Heatmaps(moved)).xy - xy).abs().max() < 0.3


def test_a_teacher_of_another_grid_is_resampled_too():
    teacher = confident(codec={"name": "heatmap", "stride": 2, "sigma": 1.0, "grid": "udp"})
    tcd, given = build(teacher, form="helper"), batch()
    assert teacher.codec.map_size == tcd.helper.codec.map_size
    xy = torch.tensor([[[6.0, 7.0], [12.0, 12.0], [16.0, 9.0], [18.0, 25.0]]]).expand(6, -1, -1)
    maps, _ = teacher.codec.encode(xy, torch.ones(6, 4))
    moved = tcd.bridge.resampled(maps, tcd.helper.codec.form, given)
    assert (tcd.helper.places(Heatmaps(moved)).xy - xy).abs().max() < 0.3


def test_places_are_as_exact_in_half_precision():
    teacher = confident(
        size=[384, 288],
        backbone={"name": "small_resnet", "channels": [8, 8, 8]},
        head={"name": "deconv", "channels": [8, 8]},
        codec={"name": "heatmap", "stride": 4},
    )
    student = small_model("coords", size=[256, 192])
    tcd = TcdConfig(form="helper", width=8).build(student, teacher)
    given = TopDownDataset(DotSource(2), size=(256, 192)).__getitems__([(0, 0), (0, 1)])
    maps = torch.rand(2, 4, *teacher.codec.map_size).bfloat16()
    moved = tcd.bridge.resampled(maps, tcd.helper.codec.form, given)
    torch.testing.assert_close(moved, tcd.bridge.resampled(maps.float(), tcd.helper.codec.form, given))


def test_a_teacher_says_nothing_of_what_lies_outside_its_crops():
    teacher = confident()
    teacher.padding = 1.25 * 2 / 3  # it sees two thirds of the width and of the height
    tcd, given = build(teacher, form="helper"), batch(1)
    maps = torch.ones(1, 4, *teacher.codec.map_size)
    moved = tcd.bridge.resampled(maps, tcd.helper.codec.form, given)
    columns = moved[0, 0].amax(0)  # of 24 px the middle 16 are seen, from 4 on; a column lies at every other px
    assert columns[:2].max() == columns[10:].max() == 0
    assert columns[2:10].min() == 1


def test_a_teacher_of_a_square_crop_is_resampled_where_the_persons_are():
    """Its crop is cut around the student's: as high, and wider."""
    teacher = confident(size=[64, 64], codec={"name": "heatmap", "stride": 4, "sigma": 2.0},
                        backbone={"name": "small_resnet", "channels": [8, 8, 8], "max_pool": False})  # fmt: skip
    tcd = build(teacher, form="helper")
    crops = TopDownDataset(DotSource(6), size=(32, 24), teacher_size=(64, 64))
    given = crops.__getitems__([(0, index) for index in range(6)])
    xy = torch.tensor([[[8.0, 20.0], [12.0, 12.0], [16.0, 8.0], [10.0, 22.0]]]).expand(6, -1, -1)
    there = 2 * xy + torch.tensor([8.0, 0.0])  # 24 columns are 48 px of the teacher's 64
    maps, _ = teacher.codec.encode(there, torch.ones(6, 4))
    moved = tcd.bridge.resampled(maps, tcd.helper.codec.form, given)
    assert (tcd.helper.places(Heatmaps(moved)).xy - xy).abs().max() < 0.3


def test_the_teachers_head_is_taught_labels_at_their_place_in_its_own_crops():
    teacher = confident(size=[64, 48])
    tcd, given = build(teacher, form="head", heatmap_weight=1.0).eval(), crops_for(teacher)
    drawn = teacher.head(tcd.adapter(tcd.student.features(given.image))).maps
    target, weight = teacher.codec.encode(
        given.keypoints * 2 + 0.5 * given.mirrored().float()[:, None, None], given.weight
    )
    labelled = weight > 0
    assert labelled.any()
    wanted = (drawn - target).square().mean((-2, -1))[labelled].sum()
    taught = teacher(given).prediction.maps
    peak = taught.flatten(2).amax(-1)
    counted = peak.clamp(0, 1) * (peak > 0.2) * ~labelled
    wanted = wanted + (counted * (drawn - taught).square().mean((-2, -1))).sum()
    torch.testing.assert_close(tcd(given, 0.5)["heatmap"], wanted / labelled.numel())


def crops_for(teacher):
    crops = TopDownDataset(DotSource(6), size=(32, 24), teacher_size=tuple(teacher.input_size))
    return crops.__getitems__([(0, index) for index in range(6)])


@pytest.mark.parametrize(
    ("form", "settings"), [("head", {"width": 8}), ("keypoints", {"heatmap_weight": 3.0}), ("keypoints", {"stride": 2})]
)
def test_settings_that_a_form_has_no_use_for_are_refused(form, settings):
    with pytest.raises(UserError, match=f"method.{next(iter(settings))}: the form '{form}' has no use for it"):
        build(form=form, **settings)


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


def test_the_helper_learns_nothing_of_a_teachers_map_for_a_keypoint_that_it_puts_between_two():
    """The teacher has two keypoints where the student has a third in their middle, of which it draws no map."""
    skeleton = from_category({"name": "two", "keypoints": ["left_side", "right_side"]})
    teacher = confident(skeleton=skeleton)
    teacher.names = {"top": ("left_side", "right_side"), "bottom": ("left_side", "right_side")}
    helped = build(teacher, form="helper", teacher_share=1.0, heatmap_weight=1.0).eval()
    given = batch()
    between = torch.tensor([name in teacher.names for name in DOTS.names])
    only = replace(given, weight=torch.where(between, torch.ones(1), torch.zeros(1)).expand_as(given.weight))
    target, weight = helped.helper.codec.encode(only.keypoints, only.weight)
    drawn = helped.helper(helped.student.features(given.image))
    told = helped(only, 0.5)["heatmap"]
    answer = teacher(only)
    maps, known = helped.bridge.maps(answer.prediction)
    assert known.tolist() == (~between).float().tolist()
    soft = helped.bridge.resampled(maps, helped.helper.codec.form, only)
    wanted = torch.where(between[:, None, None], target, soft)
    counted = torch.where(between, weight, helped.places(answer, only)[1])
    torch.testing.assert_close(told, helped.helper.codec.loss(drawn, wanted, counted))
