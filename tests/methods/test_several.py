import copy

import pytest
import torch

from posestill import catalog
from posestill.methods.several import SeveralConfig
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError, validate
from posestill.teachers.base import ModelTeacher
from tests.conftest import small_model
from tests.test_contracts import batch


def teacher():
    return ModelTeacher(small_model("heatmap", seed=3))


def build(*methods, student=None, taught=None):
    config = validate(SeveralConfig, {"of": list(methods)}, where="test")
    return config.build(student or small_model("coords"), teacher() if taught is None else taught)


def alone(name, student, **settings):
    return catalog.METHODS[name](**settings).build(student, teacher() if catalog.METHODS[name]().needs else None)


def test_each_adds_its_losses_under_its_name_and_the_labels_count_once():
    torch.manual_seed(0)
    losses = build({"name": "tcd", "form": "keypoints"}, {"name": "fitnet", "weight": 3}, "ocd")(batch(), 0.5)
    assert list(losses) == ["task", "tcd.head", "fitnet.features", "ocd.heatmap", "ocd.head"]
    student = small_model("coords")
    wanted = alone("tcd", student, form="keypoints")(batch(), 0.5)
    torch.testing.assert_close(losses["task"], wanted["task"])
    torch.testing.assert_close(losses["tcd.head"], wanted["head"])


def test_student_and_teacher_run_once_a_step(monkeypatch):
    several, calls = build("pkd", "tcd", "pseudo_label"), []
    for kind in (PoseModel, ModelTeacher):
        features, ask = kind.features, kind.__call__
        monkeypatch.setattr(
            kind, "features", lambda *given, kind=kind, features=features: (calls.append(kind), features(*given))[1]
        )
        if kind is ModelTeacher:
            monkeypatch.setattr(kind, "__call__", lambda *given, ask=ask: (calls.append("asked"), ask(*given))[1])
    several(batch(), 0.5)
    assert calls.count("asked") == 1
    assert calls.count(ModelTeacher) == 0
    assert calls.count(PoseModel) == 2  # the student, and the teacher's own model inside its one answer


def test_the_student_is_held_once_by_the_state_and_by_an_average():
    several = build("tcd", "agentpose")
    names = [name for name in several.state_dict() if "backbone" in name]
    assert names == [f"student.{name}" for name in several.student.state_dict() if "backbone" in name]
    average = copy.deepcopy(several)
    assert all(member.student is average.student for member in average.members.values())
    assert average.student is not several.student


def test_measured_weights_stand_side_by_side():
    several = build({"name": "tcd", "form": "head", "heatmap_weight": "auto"}, {"name": "pkd", "weight": "auto"})
    for _ in range(2):
        sum(several(batch(), 0.5).values()).backward()
        several.after_step()
    watched = several.watch()
    assert set(watched) == {"tcd.heatmap_weight", "pkd.weight"}
    assert watched["tcd.heatmap_weight"] != 10
    assert watched["pkd.weight"] != 10


def test_the_one_that_decides_about_the_head_weighs_the_labels():
    student = small_model("heatmap")
    losses = build("pkd", {"name": "fpd", "share": 0.75}, student=student)(batch(), 0.5)
    full = student.task_loss(student(batch().image), batch())
    torch.testing.assert_close(losses["task"], 0.25 * full)


def test_a_method_without_a_teacher_joins_and_several_without_any_need_none():
    assert set(build("ocd", "pkd").members) == {"ocd", "pkd"}
    student = small_model("coords", head={"name": "flat_fc", "channels": 8})
    of = [{"name": "ocd", "width": 8}, {"name": "head_slimming", "full": {"name": "flat_fc", "channels": 16}}]
    several = validate(SeveralConfig, {"of": of}, where="test").build(student, None)
    assert several.needs == frozenset()
    assert all(torch.isfinite(value) for value in several(batch(), 0.5).values())


@pytest.mark.parametrize(
    ("methods", "student", "message"),
    [
        (["pkd", "pkd"], {}, "each method once, not pkd, pkd"),
        (["pkd", {"name": "several", "of": ["pkd", "tcd"]}], {}, "several cannot be one of several"),
        (
            [{"name": "ocd", "task_reaches_backbone": False}, "agentpose"],
            {"neck": "agent"},
            "ocd and agentpose both decide how the student's head is trained",
        ),
        (["pkd", "fitnet"], {"codec": {"name": "coords", "score": True}}, "does not train a confidence"),
        (["distilpose", "pkd"], {}, "needs the teacher's tokens"),
    ],
)
def test_what_does_not_go_together_is_refused(methods, student, message):
    with pytest.raises(UserError, match=message):
        build(*methods, student=small_model("coords", **student))


def test_a_confidence_is_trained_by_one_of_them():
    scored = small_model("coords", codec={"name": "coords", "score": True, "scale": True})
    losses = build("pkd", "simulated_heatmap", student=scored)(batch(), 0.5)
    assert losses["simulated_heatmap.confidence"] > 0


def test_several_need_a_teacher_where_one_of_them_does():
    with pytest.raises(UserError, match="Several needs a teacher"):
        SeveralConfig().build(small_model("coords"), None)
