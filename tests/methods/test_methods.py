import pytest
import torch

from posestill.codecs.coords import CoordsConfig
from posestill.data.topdown import TopDownDataset
from posestill.methods.base import MethodConfig, TaughtDistiller
from posestill.methods.pseudo_label import PseudoLabelConfig
from posestill.methods.supervised import SupervisedConfig
from posestill.methods.tcd import TcdConfig
from posestill.schema import UserError
from posestill.teachers.base import ModelTeacher, Teacher
from posestill.types import Coords, PoseOutput
from tests.conftest import DotSource, small_model


class Says(Teacher):
    """Always the same keypoints with the same confidences."""

    provides = frozenset({"prediction"})

    def __init__(self, skeleton, xy, score):
        self.skeleton, self.input_size, self.lineage = skeleton, (32, 24), {}
        self.codec = CoordsConfig().build((32, 24))
        self.xy, self.score = xy, score

    def __call__(self, batch):
        xy = self.xy.expand(len(batch), -1, -1) / torch.tensor([24.0, 32.0])
        return PoseOutput(Coords(xy=xy, score=self.score.expand(len(batch), -1)), ())


PLACES = torch.tensor([[5.0, 6.0], [10.0, 8.0], [12.0, 20.0], [3.0, 30.0]])
SCORES = torch.tensor([0.9, 0.25, 0.5, 0.1])


def taught(config):
    student = small_model("coords").eval()
    distiller = config.build(student, Says(student.skeleton, PLACES, SCORES)).eval()
    batch = TopDownDataset(DotSource(3), size=(32, 24)).__getitems__([(0, 0), (0, 1), (0, 2)])
    return distiller, batch, student(batch.image).prediction.xy


def test_pseudo_labels_count_fully_above_the_threshold_and_only_where_labels_are_missing():
    distiller, batch, predicted = taught(PseudoLabelConfig(threshold=0.3))
    confident = torch.tensor([1.0, 0.0, 1.0, 0.0]) * (1 - batch.weight)
    error = (predicted - PLACES / torch.tensor([24.0, 32.0])).abs().mean(dim=-1)
    wanted = (error * confident).sum() / confident.numel()
    assert (1 - batch.weight).sum() > 0
    torch.testing.assert_close(distiller(batch, 0.0)["pseudo_label"], wanted)


def test_tcd_weighs_every_keypoint_by_the_teachers_confidence_beside_the_labels():
    distiller, batch, predicted = taught(TcdConfig(head_weight=2.0))
    confidence = torch.tensor([0.9, 0.25, 0.5, 0.0])  # 0.1 is below the threshold of 0.2
    error = (predicted - PLACES / torch.tensor([24.0, 32.0])).abs().mean(dim=-1)
    losses = distiller(batch, 0.0)
    torch.testing.assert_close(losses["head"], 2 * (error * confidence).sum() / error.numel())
    alone = SupervisedConfig().build(distiller.student, None).eval()
    torch.testing.assert_close(losses["task"], alone(batch, 0.0)["task"])


def test_a_silent_teacher_leaves_the_student_to_its_labels():
    student = small_model("coords").eval()
    silent = Says(student.skeleton, PLACES, torch.zeros(4))
    batch = TopDownDataset(DotSource(3), size=(32, 24)).__getitems__([(0, 0), (0, 1), (0, 2)])
    for config, term in ((PseudoLabelConfig(), "pseudo_label"), (TcdConfig(), "head")):
        assert config.build(student, silent).eval()(batch, 0.0)[term] == 0


def test_a_heatmap_student_learns_from_a_coordinate_teacher_too():
    student = small_model("heatmap")
    distiller = TcdConfig().build(student, Says(student.skeleton, PLACES, SCORES))
    batch = TopDownDataset(DotSource(3), size=(32, 24)).__getitems__([(0, 0), (0, 1), (0, 2)])
    assert distiller(batch, 0.0)["head"] > 0


def test_a_missing_an_unwanted_and_an_unfit_teacher_are_refused():
    with pytest.raises(UserError, match="Tcd needs a teacher: add"):
        TcdConfig().build(small_model("coords"), None)
    with pytest.raises(UserError, match="Supervised has no use for a teacher"):
        SupervisedConfig().build(small_model("coords"), ModelTeacher(small_model()))
    deaf = ModelTeacher(small_model())
    deaf.provides = frozenset({"features"})
    with pytest.raises(UserError, match="needs the teacher's prediction; this one provides features"):
        TcdConfig().build(small_model("coords"), deaf)


def test_a_misspelt_need_is_the_fault_of_the_method_and_not_of_the_teacher():
    class Mine(TaughtDistiller):
        needs = frozenset({"featurs"})

    class MineConfig(MethodConfig):
        distiller = Mine

    with pytest.raises(UserError, match="Mine.needs names 'featurs', which no teacher provides; did you mean 'feat"):
        MineConfig().build(small_model("coords"), ModelTeacher(small_model()))


def test_a_loss_that_is_no_scalar_is_refused_by_its_name_and_shape():
    distiller, batch, _ = taught(PseudoLabelConfig())
    distiller.losses = lambda output, answer, batch, progress: {"each": output.prediction.xy}
    with pytest.raises(UserError, match=r"its loss 'each' is a tensor of shape \(3, 4, 2\) and must be a scalar"):
        distiller(batch, 0.0)
