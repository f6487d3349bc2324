"""What every entry of the catalog must do: an entry is tested the moment it is listed."""

import copy

import numpy as np
import pytest
import torch

from posestill import catalog
from posestill.data.topdown import Labels, TopDownDataset
from posestill.listing import describe_parts
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.teachers.base import ModelTeacher
from posestill.types import Coords, Heatmaps, PoseBatch
from tests.conftest import DOTS, DotSource, small_model

SIZE = (256, 192)
PREDICTION = {
    "heatmap": lambda target: Heatmaps(maps=target),
    "coords": lambda target: Coords(xy=target),
}
"""How a codec's own target reads as a prediction; a new codec adds its line."""
TOLERANCE = {"heatmap": 0.05, "coords": 1e-4}
"""input px: what each codec's default decoding promises on its own target, away from the border"""
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
    if name == "heatmap":
        config = config.model_copy(update={"flip_shift": False})
    codec, swap = config.build(SIZE), torch.tensor(DOTS.swap)
    prediction = PREDICTION[name](codec.encode(*labels())[0])
    twice = codec.flip(codec.flip(prediction, swap), swap)
    for field in ("maps", "xy"):
        if hasattr(prediction, field):
            torch.testing.assert_close(getattr(twice, field), getattr(prediction, field))


@codecs
def test_the_gradient_at_a_codecs_own_target_is_zero(name):
    codec = catalog.CODECS[name]().build(SIZE)
    target, weight = codec.encode(*labels())
    given = target.clone().requires_grad_()
    loss = codec.loss(PREDICTION[name](given), target, weight)
    loss.backward()
    assert loss == 0
    assert given.grad.abs().max() == 0


@codecs
def test_a_codecs_loss_is_zero_and_finite_without_labels(name):
    codec = catalog.CODECS[name]().build(SIZE)
    xy, _ = labels()
    target, weight = codec.encode(xy, torch.zeros(32, 4, dtype=torch.float64))
    assert codec.loss(PREDICTION[name](target + 1), target, weight) == 0


def build(name, *, kind="coords"):
    """A method around a small student, with a teacher of another representation where it needs one."""
    config = catalog.METHODS[name]()
    student = small_model(kind)
    try:
        return config.build(student, None)
    except UserError as error:
        assert "needs a teacher" in str(error)
        return config.build(student, ModelTeacher(_taught()))


def _taught():
    """A teacher whose heatmaps peak near 0.8 somewhere: confident, so that its terms count."""
    teacher = small_model("heatmap", seed=3)
    torch.nn.init.normal_(teacher.head.maps.weight, std=1.0)
    torch.nn.init.constant_(teacher.head.maps.bias, 0.8)
    return teacher


def batch(count=8, *, shown=True) -> PoseBatch:
    source = DotSource(count)
    dataset = TopDownDataset(source, size=(32, 24), labels=Labels(np.arange(count), np.full(count, shown)))
    return dataset.__getitems__([(0, index) for index in range(count)])


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
def test_a_method_gives_every_trainable_parameter_a_gradient(name):
    distiller = build(name)
    sum(distiller(batch(), 0.5).values()).backward()
    without = [name for name, parameter in distiller.named_parameters() if parameter.grad is None]
    assert not without
    grouped = {id(parameter) for group in distiller.parameter_groups() for parameter in group["params"]}
    assert grouped == {id(parameter) for parameter in distiller.parameters() if parameter.requires_grad}


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
    assert losses["task"] == 0


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
    first = None
    for _ in range(80):
        distiller.train()
        loss = distiller(few, 0.5)["task"]
        if distiller.teacher is not None:  # the teacher here is a stranger to the labels: judge by the labels alone
            loss = loss + 0 * sum(distiller(few, 0.5).values())
        first = first or loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.35 * first


@methods
def test_every_method_is_listed_with_its_origin_and_needs(name):
    line = next(line for line in describe_parts().splitlines() if line.strip().startswith(name))
    assert "needs" in line
    assert catalog.METHODS[name].__doc__


@pytest.mark.parametrize("table", ["CODECS", "SOURCES", "BACKBONES", "HEADS", "TEACHERS", "METHODS"])
def test_every_setting_in_the_catalog_has_a_default_or_is_the_point_of_the_entry(table):
    allowed = {"TimmConfig": {"model"}, "CheckpointConfig": {"path"}, "YoloConfig": {"data"}}
    for entry in getattr(catalog, table).values():
        required = {name for name, field in entry.model_fields.items() if field.is_required()}
        assert required <= allowed.get(entry.__name__, set())
