"""What every entry of the catalog must do: an entry is tested the moment it is listed."""

import copy
import functools

import numpy as np
import pytest
import torch

from posestill import catalog
from posestill.cli.listing import describe_kind
from posestill.data.topdown import Labels, TopDownDataset
from posestill.models.heads import DeconvConfig
from posestill.models.pose_model import PoseModel
from posestill.teachers.base import ModelTeacher
from posestill.types import Coords, Heatmaps, PoseBatch, SimCC
from tests.conftest import DOTS, DotSource, small_model

SIZE = (256, 192)
PREDICTION = {
    "heatmap": lambda target: Heatmaps(maps=target),
    "coords": lambda target: Coords(xy=target),
    "rle": lambda target: Coords(xy=target, scale=torch.full_like(target, 0.01)),
    "simcc": lambda target: SimCC(*target.split([384, 512], dim=-1)),
}
"""How a codec's own target reads as a prediction; a new codec adds its line."""
TOLERANCE = {"heatmap": 0.05, "coords": 1e-4, "rle": 1e-4, "simcc": 0.36}
"""input px: what each codec's default decoding promises on its own target, away from the border"""
MIRROR_TOLERANCE = {**TOLERANCE, "heatmap": 0.3}
"""input px: a fraction of a map px is moved by interpolation, which widens the peak"""
codecs = pytest.mark.parametrize("name", sorted(catalog.CODECS))
methods = pytest.mark.parametrize("name", sorted(catalog.METHODS))


def labels(count=32, keypoints=4):
    draw = torch.rand(count, keypoints, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 24 + draw * (torch.tensor([SIZE[1], SIZE[0]]) - 49), torch.ones(count, keypoints, dtype=torch.float64)


@codecs
def test_a_codec_decodes_what_it_encoded(name):
    codec = catalog.CODECS[name]().build(SIZE)
    xy, weight = labels()
    target, kept = codec.encode(xy, weight)
    assert (kept == 1).all()
    assert (codec.decode(PREDICTION[name](target)).xy - xy).norm(dim=-1).max() < TOLERANCE[name]


@codecs
def test_a_codec_flipped_twice_is_itself(name):
    config = catalog.CODECS[name]()
    inexact = {"heatmap": {"flip_shift": "none"}, "simcc": {"flip_exact": False}}.get(name, {})
    config = config.model_copy(update=inexact)  # shifting there and back loses a border
    codec, swap = config.build(SIZE), torch.tensor(DOTS.swap)
    prediction = PREDICTION[name](codec.encode(*labels())[0])
    twice = codec.flip(codec.flip(prediction, swap), swap)
    for field in ("maps", "xy", "scale", "x", "y"):
        if hasattr(prediction, field):
            torch.testing.assert_close(getattr(twice, field), getattr(prediction, field))


@codecs
def test_what_a_codec_sees_in_a_mirrored_crop_comes_back_to_its_place(name):
    codec, (xy, weight) = catalog.CODECS[name]().build(SIZE), labels()
    mirrored = torch.stack([SIZE[1] - 1 - xy[..., 0], xy[..., 1]], dim=-1)[:, list(DOTS.swap)]
    seen = PREDICTION[name](codec.encode(mirrored, weight)[0])
    back = codec.decode(codec.flip(seen, torch.tensor(DOTS.swap))).xy
    assert (back - xy).norm(dim=-1).max() < MIRROR_TOLERANCE[name]
    assert (back - xy).mean(dim=(0, 1)).abs().max() < 0.05 + TOLERANCE[name] / 4  # no bias


@codecs
def test_the_gradient_at_a_codecs_own_target_is_zero(name):
    if name == "rle":
        pytest.skip("a likelihood has its own test: its gradient at the label is that of the spread")
    codec = catalog.CODECS[name]().build(SIZE)
    target, weight = codec.encode(*labels())
    given = target.clone().requires_grad_()
    loss = codec.loss(PREDICTION[name](given), target, weight)
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert given.grad.abs().max() < 1e-12


@codecs
def test_a_codecs_loss_is_zero_and_finite_without_labels(name):
    codec = catalog.CODECS[name]().build(SIZE)
    xy, _ = labels()
    target, weight = codec.encode(xy, torch.zeros(32, 4, dtype=torch.float64))
    assert codec.loss(PREDICTION[name](target + 1), target, weight, codec.helper()) == 0


TOKENS = {"head": {"name": "token", "patch": [4, 3], "dim": 16, "heads": 2, "depth": 2}}
STUDENT = {
    "distilpose": {**TOKENS, "codec": {"name": "coords", "bounded": True, "score": True, "scale": True}},
    "simcc_logits": {"head": "simcc", "codec": "simcc"},
    "simulated_heatmap": {"codec": {"name": "coords", "score": True, "scale": True}},
}
"""What a method's student has beside coordinates; a method that asks for no more needs no line."""


def build(name):
    """A method around a small student, with a teacher of another representation where it needs one."""
    config = catalog.METHODS[name]()
    student = small_model("heatmap" if name in ("head_slimming", "fpd") else "coords", **STUDENT.get(name, {}))
    if name == "simcc_logits":
        return config.build(student, ModelTeacher(small_model("coords", seed=3, **STUDENT[name])))
    if name == "head_slimming":
        config = config.model_copy(update={"full": DeconvConfig(channels=(32,))})
    teacher = _token_taught() if name == "distilpose" else _taught()
    return config.build(student, ModelTeacher(teacher) if config.needs else None)


def _token_taught():
    teacher = small_model("heatmap", seed=3, **TOKENS)
    torch.nn.init.constant_(teacher.head.output.layers[3].bias, 0.8)
    return teacher


@functools.cache
def _weights_of_the_taught():
    """A teacher that has learnt the dots a little: confident, so that its terms count."""
    teacher, given = small_model("heatmap", seed=3).train(), batch(16)
    optimiser = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        teacher.task_loss(teacher(given.image), given).backward()
        optimiser.step()
    return teacher.state_dict()


def _taught():
    teacher = small_model("heatmap", seed=3)
    teacher.load_state_dict(_weights_of_the_taught())
    return teacher


def batch(count=8, *, shown=True) -> PoseBatch:
    source = DotSource(count)
    dataset = TopDownDataset(source, size=(32, 24), labels=Labels(np.arange(count), np.full(count, shown)))
    return dataset.__getitems__([(0, index) for index in range(count)])


@methods
def test_a_methods_settings_name_the_method_that_they_are_of(name):
    config = catalog.METHODS[name]
    assert config.__dict__.get("distiller") is not None, "add the line `MineConfig.distiller = Mine`"
    assert config().version >= 1
    assert config.distiller.origin


@methods
def test_a_method_gives_the_same_finite_named_losses_at_every_progress(name):
    distiller = build(name)
    seen = []
    for progress in (0.0, 0.5, 1.0):
        losses = distiller(batch(), progress)
        assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
        seen.append(list(losses))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]


@methods
def test_a_method_says_whether_its_losses_follow_the_share_of_the_run_that_is_done(name):
    early, late = (build(name).eval()(batch(), progress) for progress in (0.3, 0.9))
    assert any(not torch.equal(early[key], late[key]) for key in early) == build(name).follows_progress


@methods
def test_a_method_gives_every_trainable_parameter_a_gradient(name):
    distiller = build(name)
    sum(distiller(batch(), 0.5).values()).backward()
    trained = [(name, each) for name, each in distiller.named_parameters() if each.requires_grad]
    without = [name for name, each in trained if each.grad is None]
    assert not without
    grouped = {id(parameter) for group in distiller.parameter_groups() for parameter in group["params"]}
    assert grouped == {id(parameter) for parameter in distiller.parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    "backbone", ["resnet18", "hrnet_w18_small", "small_resnet", "stemnet", "hrnet", "vitpose", "cspnext"]
)
def test_every_trainable_parameter_of_a_backbone_gets_a_gradient(backbone):
    """Data parallel stops at the second step otherwise."""
    kinds = {"head": {"name": "deconv", "channels": [8]}, "codec": {"name": "heatmap", "stride": 16}}
    if backbone.startswith("hrnet") or backbone == "stemnet":
        kinds = {"head": "conv_maps", "codec": {"name": "heatmap", "stride": 4}}
    if backbone == "small_resnet":
        kinds["codec"] = {"name": "heatmap", "stride": 16}
    if backbone == "vitpose":
        kinds["codec"] = {"name": "heatmap", "stride": 8}
    model = small_model(size=[64, 64], backbone=backbone, **kinds).train()
    model(torch.rand(2, 3, 64, 64)).prediction.maps.sum().backward()
    assert not [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]


@methods
def test_a_method_leaves_its_teacher_as_it_was_and_outside_of_itself(name):
    distiller = build(name)
    if distiller.teacher is None:
        assert not distiller.needs
        return
    before = copy.deepcopy(distiller.teacher.model.state_dict())
    optimiser = torch.optim.SGD(distiller.parameters(), lr=0.1)
    distiller.train()
    for _ in range(2):
        sum(distiller(batch(), 0.5).values()).backward()
        optimiser.step()
        distiller.after_step()
    after = distiller.teacher.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not distiller.teacher.model.training
    own = {id(parameter) for parameter in distiller.parameters()}
    assert not own & {id(parameter) for parameter in distiller.teacher.model.parameters()}
    assert not any("teacher" in key for key in distiller.state_dict())
    assert copy.deepcopy(distiller).teacher is distiller.teacher


@methods
def test_a_method_is_finite_on_a_batch_without_labels(name):
    losses = build(name)(batch(shown=False), 0.5)
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses[catalog.METHODS[name].distiller.task_name] == 0


@methods
def test_what_a_method_deploys_saves_loads_and_predicts_the_same(name, tmp_path):
    shipped = build(name).eval().deployable()
    shipped.save(tmp_path)
    image = batch().image
    assert torch.equal(PoseModel.load(tmp_path).predict(image).xy, shipped.predict(image).xy)


@methods
def test_a_method_overfits_one_batch(name):
    distiller, few = build(name), batch(4)
    optimiser = torch.optim.Adam(distiller.parameters(), lr=1e-2)
    totals = []
    for _ in range(80):
        distiller.train()
        loss = sum(distiller(few, 0.5).values())
        totals.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # A teacher that knows nothing of the labels pulls elsewhere: what can be reached is a place in between.
    assert totals[-1] < (0.35 if distiller.teacher is None else 0.75) * totals[0]


@methods
def test_every_method_is_listed_with_its_origin_and_needs(name):
    line = next(line for line in describe_kind("methods").splitlines() if line.split()[0] == name)
    assert "needs" in line
    assert catalog.METHODS[name].__doc__


@pytest.mark.parametrize("table", ["CODECS", "SOURCES", "BACKBONES", "HEADS", "TEACHERS", "METHODS"])
def test_every_setting_in_the_catalog_has_a_default_or_is_the_point_of_the_entry(table):
    allowed = {
        "TimmConfig": {"model"}, "CheckpointConfig": {"path"}, "FileConfig": {"path"}, "YoloConfig": {"data"},
        "PackedConfig": {"file"}, "ImagesConfig": {"folder"}, "TransformersConfig": {"path"},
    }  # fmt: skip
    for entry in getattr(catalog, table).values():
        required = {name for name, field in entry.model_fields.items() if field.is_required()}
        assert required <= allowed.get(entry.__name__, set())
