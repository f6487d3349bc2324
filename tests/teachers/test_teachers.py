import copy

import numpy as np
import pytest
import torch

from posestill.data.augment import AugmentConfig
from posestill.data.topdown import TopDownDataset, View
from posestill.geometry import Framing, transform_points
from posestill.schema import UserError
from posestill.skeletons import COCO_17
from posestill.teachers.base import ModelTeacher, Teacher
from posestill.teachers.bridge import Bridge, to_student, to_teacher, worth_knowing
from posestill.teachers.cache import CachedTeacher
from posestill.teachers.checkpoint import CheckpointConfig
from posestill.types import Coords, PoseOutput
from tests.conftest import DOTS, DotSource, small_model


class OracleTeacher(Teacher):
    """Knows every person's keypoints and says them in its own input px, whatever the crop."""

    provides = frozenset({"prediction"})

    def __init__(self, source, size):
        from posestill.codecs.coords import CoordsConfig

        self.source, self.input_size, self.skeleton = source, size, source.skeleton
        self.codec, self.lineage = CoordsConfig().build(size), {}

    def __call__(self, batch):
        twin = TopDownDataset(self.source, size=self.input_size)
        exact = twin.__getitems__([(0, int(index)) for index in batch.index])
        assert not batch.mirrored().any()
        xy = exact.keypoints / torch.tensor([self.input_size[1], self.input_size[0]])
        return PoseOutput(Coords(xy=xy, score=torch.full(xy.shape[:2], 0.5)), ())


def test_a_teacher_is_never_trained_and_never_copied():
    teacher = ModelTeacher(small_model().train())
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert copy.deepcopy(teacher) is teacher


def test_a_teachers_head_is_differentiable_in_the_features():
    teacher = ModelTeacher(small_model())
    features = torch.randn(1, 16, 8, 6, requires_grad=True)
    teacher.head((features,)).maps.sum().backward()
    assert features.grad is not None
    with pytest.raises(UserError, match="has no head to lend"):
        OracleTeacher(DotSource(2), (32, 24)).head((features,))


def test_a_bridge_names_keypoints_not_positions():
    reordered = DOTS.model_copy(
        update={"names": ("bottom", "top", "left_side", "extra"), "swap": (0, 1, 2, 3), "upper": (), "edges": ()}
    )
    teacher = ModelTeacher(small_model("heatmap", skeleton=reordered))
    bridge = Bridge(teacher, small_model("coords"))
    assert bridge.source.tolist() == [1, 2, -1, 0]  # top, left_side, right_side (unknown to the teacher), bottom
    batch = TopDownDataset(DotSource(3), size=(32, 24)).__getitems__([(0, 0), (0, 1), (0, 2)])
    taught = bridge.keypoints(bridge.teacher(batch), batch)
    raw = teacher.codec.decode(teacher(batch).prediction)
    assert torch.equal(taught.xy[:, 0], raw.xy[:, 1])
    assert (taught.score[:, 2] == 0).all()
    assert torch.equal(taught.score[:, 3], raw.score[:, 0])


def test_a_bridge_between_strangers_is_refused():
    with pytest.raises(UserError, match="none of the student's keypoints"):
        Bridge(ModelTeacher(small_model(skeleton=COCO_17)), small_model("coords"))


@pytest.mark.parametrize("given", [(64, 48), (64, 64), (48, 64)])
def test_points_move_between_inputs_of_any_size_and_aspect(given):
    """The same draws warped at two sizes: labels of one are the points of the other."""
    source, wanted = DotSource(16), (96, 72)
    augment = AugmentConfig(half_body=0)
    student = TopDownDataset(source, size=wanted, augment=augment, seed=1, teacher_size=given)
    pairs = [(0, index) for index in range(16)]
    batch = student.__getitems__(pairs)
    assert batch.mirrored().any()
    # find the teacher's own label places: the labels under the affine that its crops were cut with
    asked: list[View] = []
    student.pixels = lambda index, views, colours: [asked.append(view) or batch.image for view in views]
    student.__getitems__(pairs)
    labels = np.stack([source.people[index].keypoints for _, index in pairs])
    swapped = labels[:, list(DOTS.swap)]
    labels = np.where(batch.mirrored().numpy()[:, None, None], swapped, labels)
    places = transform_points(labels[..., :2], asked[1].affine)
    framings = {"teacher": Framing(given), "student": Framing(wanted)}
    seen = torch.from_numpy(places).float()
    moved = to_student(seen, **framings, mirrored=batch.mirrored())
    labelled = batch.weight > 0
    torch.testing.assert_close(moved[labelled], batch.keypoints[labelled], atol=1e-3, rtol=0)
    back = to_teacher(batch.keypoints, **framings, mirrored=batch.mirrored())
    torch.testing.assert_close(back[labelled], seen[labelled], atol=1e-3, rtol=0)


@pytest.mark.parametrize("teacher_size", [(32, 24), (64, 48)])
def test_a_cached_teacher_replays_its_keypoints_under_every_augmentation(teacher_size):
    source = DotSource(20)
    oracle = OracleTeacher(source, teacher_size)
    oracle_flip = oracle.codec.flip
    oracle.codec.flip = lambda prediction, swap: prediction  # it answers the upright crop whatever it is shown
    upright = TopDownDataset(source, size=(32, 24), teacher_size=teacher_size)
    cached = CachedTeacher(oracle, size=(32, 24)).ask(oracle, upright)
    oracle.codec.flip = oracle_flip
    batch = TopDownDataset(source, size=(32, 24), augment=AugmentConfig(), seed=4).__getitems__(
        [(0, index) for index in range(20)]
    )
    assert batch.mirrored().any()
    assert not batch.mirrored().all()
    taught = Bridge(cached, small_model("coords")).keypoints(cached(batch), batch)
    labelled = batch.weight > 0
    torch.testing.assert_close(taught.xy[labelled], batch.keypoints[labelled], atol=0.05, rtol=0)
    torch.testing.assert_close(taught.score, torch.full((20, 4), 0.5))


def test_a_teacher_folder_that_is_none_is_explained(tmp_path):
    with pytest.raises(UserError, match="no model in"):
        CheckpointConfig(path=tmp_path).build()
    with pytest.raises(UserError, match="no model folder bundeld; did you mean 'bundled'"):
        CheckpointConfig(path="bundeld").build()


def test_a_checkpoint_teacher_remembers_where_it_came_from(tmp_path):
    small_model().save(tmp_path / "t")
    assert CheckpointConfig(path=tmp_path / "t").build().lineage["path"] == str(tmp_path / "t")


def test_names_meet_in_every_style_and_a_midpoint_is_asked_for_by_two_names():
    own = DOTS.model_copy(update={"names": ("Top", "LSide", "RSide", "middle")})
    teacher = ModelTeacher(small_model("heatmap"))
    teacher.names = {"middle": ("left_side", "right_side")}
    bridge = Bridge(teacher, small_model("coords", skeleton=own))
    assert bridge.source.tolist() == [0, 1, 2, 1]
    assert bridge.other.tolist() == [0, 1, 2, 2]
    batch = TopDownDataset(DotSource(3), size=(32, 24)).__getitems__([(0, 0), (0, 1), (0, 2)])
    taught, raw = bridge.keypoints(teacher(batch), batch), teacher.codec.decode(teacher(batch).prediction)
    assert torch.equal(taught.xy[:, :3], raw.xy[:, :3])
    torch.testing.assert_close(taught.xy[:, 3], (raw.xy[:, 1] + raw.xy[:, 2]) / 2)
    assert torch.equal(taught.score[:, 3], torch.minimum(raw.score[:, 1], raw.score[:, 2]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"tpo": "top"}, "the student has no keypoint 'tpo'; did you mean 'top'"),
        ({"top": "tpo"}, "teacher.names.top: the teacher has no keypoint 'tpo'; did you mean 'top'"),
    ],
)
def test_misspelt_names_are_refused(names, message):
    teacher = ModelTeacher(small_model("heatmap"))
    teacher.names = names
    with pytest.raises(UserError, match=message):
        Bridge(teacher, small_model("coords"))


def test_what_a_teacher_lacks_and_a_licence_against_commerce_are_said():
    few = DOTS.model_copy(update={"names": ("top", "left_side", "right_side", "toe")})
    teacher = ModelTeacher(small_model("heatmap"))
    teacher.lineage = {"licence": "CC-BY-NC-4.0"}
    lines = worth_knowing(teacher, small_model("coords", skeleton=few))
    assert lines[0] == "the teacher says nothing of toe: labels alone teach these"
    assert "(CC-BY-NC-4.0) is not for commercial use" in lines[1]
    teacher.lineage = {"licence": "Apache-2.0"}
    assert worth_knowing(teacher, small_model("coords")) == []
