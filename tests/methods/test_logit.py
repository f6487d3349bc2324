import pytest
import torch

from posestill.methods.logit import HeatmapLogitConfig, SimccLogitConfig
from posestill.schema import UserError
from posestill.teachers.base import ModelTeacher
from tests.conftest import small_model
from tests.methods.test_agentpose import batch

BINS = {"head": "simcc", "codec": "simcc"}


def test_heatmaps_are_mixed_with_the_labels_by_their_share():
    student, taught = small_model("heatmap").eval(), small_model("heatmap", seed=3)
    method, given = HeatmapLogitConfig(share=0.25).build(student, ModelTeacher(taught)), batch()
    method.eval()
    losses = method(given, 0.5)
    wanted = (student(given.image).prediction.maps - taught.eval()(given.image).prediction.maps).square().mean()
    torch.testing.assert_close(losses["heatmaps"], 0.25 * wanted)
    torch.testing.assert_close(losses["task"], 0.75 * student.task_loss(student(given.image), given))


def test_bins_are_compared_by_their_divergence_which_falls_to_nothing():
    student, taught = small_model("coords", **BINS).eval(), small_model("coords", seed=3, **BINS)
    method, given = SimccLogitConfig(weight=0.2).build(student, ModelTeacher(taught)).eval(), batch()
    one, other = student(given.image).prediction, taught.eval()(given.image).prediction
    wanted = 0.0
    for own, target in ((one.x, other.x), (one.y, other.y)):
        p, q = (10 * target).softmax(-1), (10 * own).softmax(-1)
        wanted = wanted + (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(method(given, 0.75)["logits"], 0.2 * 0.25 * wanted, rtol=1e-3, atol=1e-8)
    assert method(given, 1.0)["logits"] == 0


def test_predictions_of_another_kind_are_refused():
    with pytest.raises(UserError, match="choose a heatmap student"):
        HeatmapLogitConfig().build(small_model("coords"), ModelTeacher(small_model("heatmap")))
    with pytest.raises(UserError, match=r"the student has \(48, 64\), the teacher none"):
        SimccLogitConfig().build(small_model("coords", **BINS), ModelTeacher(small_model("heatmap")))
