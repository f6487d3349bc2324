import numpy as np
import pytest
import torch

from posestill.data.images import TaughtSource
from posestill.engine import judged
from posestill.engine.judged import Poses, on_labels_of, on_labels_of_pictures, with_teachers_answers
from posestill.engine.setup import open_sources
from posestill.evaluation.evaluate import EvaluateConfig
from posestill.skeletons import Skeleton
from posestill.teachers.base import ModelTeacher
from tests.conftest import DOTS, DotSource, small_model
from tests.engine.test_pictures import labels, run
from tests.networks import write_photos, write_teacher

CPU, ONCE = torch.device("cpu"), EvaluateConfig(flip_test=False)


def places_of(source):
    return np.stack([person.keypoints[:, :2] for person in source.people])


def test_poses_are_judged_by_the_truth_and_by_one_another_where_the_truth_shows_them():
    source = DotSource(6)
    hidden = next(row for row, person in enumerate(source.people) if (person.keypoints[:, 2] == 0).any())
    right, wrong = places_of(source), places_of(source)
    wrong[hidden, source.people[hidden].keypoints[:, 2] == 0] += 500  # nobody knows where that keypoint is
    wrong[1] += 500
    poses = Poses(source, source.people, student=wrong, teacher=right)
    assert poses.right(right) == pytest.approx(np.ones(6))
    expected = [0.0 if row == 1 else 1.0 for row in range(6)]
    assert poses.right(wrong) == pytest.approx(expected)
    assert poses.alike() == pytest.approx(expected)


def test_a_teacher_and_its_very_copy_are_equally_right_on_the_same_people():
    model = small_model()
    found = on_labels_of(model, ModelTeacher(model), DotSource(5), EvaluateConfig(flip_test=True), CPU)
    assert (found.persons, found.of, found.boxes) == (5, 5, "ground truth")
    assert found.keypoints == DOTS.names
    assert found.student.mean_oks == pytest.approx(found.teacher.mean_oks, abs=1e-3)
    assert found.poses.student == pytest.approx(found.poses.teacher, abs=0.5)


def test_people_without_labels_are_passed_over_and_of_many_some_are_asked_about(monkeypatch):
    monkeypatch.setattr(judged, "MOST", 3)
    found = on_labels_of(small_model(), None, DotSource(12, unlabelled=3), ONCE, CPU)
    assert ([person.id for person in found.poses.people], found.of) == ([4, 8, 12], 9)
    assert found.teacher is None
    assert found.as_json()["mean_oks"] == {"student": found.student.mean_oks}
    assert on_labels_of(small_model(), None, DotSource(3, unlabelled=3), ONCE, CPU) is None


def test_both_are_judged_by_the_keypoints_that_the_teacher_knows():
    names = ("top", "left_side", "right_side")
    fewer = Skeleton(names=names, swap=(0, 2, 1), oks_sigmas=(0.1,) * 3)
    found = on_labels_of(small_model(), ModelTeacher(small_model(skeleton=fewer)), DotSource(4), ONCE, CPU)
    assert found.keypoints == names
    assert np.isnan(found.student.by_keypoint["bottom"])
    assert np.isfinite(found.student.by_keypoint["top"])


@pytest.mark.parametrize("way", ["no prediction", "other keypoints"])
def test_a_teacher_that_can_say_nothing_of_these_keypoints_is_left_out(way):
    other = Skeleton(names=("beak", "tail"), swap=(0, 1), oks_sigmas=(0.1, 0.1))
    teacher = ModelTeacher(small_model(skeleton=other if way == "other keypoints" else DOTS))
    if way == "no prediction":
        teacher.provides = frozenset({"features"})
    found = on_labels_of(small_model(), teacher, DotSource(3), ONCE, CPU)
    assert (found.teacher, found.poses.teacher, found.keypoints) == (None, None, DOTS.names)


def test_held_out_people_without_labels_are_compared_where_the_teacher_is_sure(tmp_path):
    teacher = write_teacher(tmp_path / "t.onnx")
    sources = open_sources(run(teacher, write_photos(tmp_path / "p", 20)))
    student = small_model("coords", skeleton=sources.val.skeleton)
    found = with_teachers_answers(student, sources.val, ONCE, CPU)
    assert found.student.shape == found.teacher.shape == (2, 17, 2)
    assert found.right(found.teacher) == pytest.approx(np.ones(2))
    assert found.alike() == pytest.approx(found.right(found.student))


def test_labels_of_pictures_judge_the_pose_of_their_picture_that_fits_best(tmp_path):
    teacher = write_teacher(tmp_path / "t.onnx")
    config = run(teacher, write_photos(tmp_path / "p", 12), val=labels(tmp_path, [2, 5, 9]))
    sources = open_sources(config)
    answers = np.stack([np.nan_to_num(person.keypoints) for person in sources.labelled.people])
    perfect = TaughtSource(sources.val._source, answers, threshold=0.3)
    student = small_model("coords", skeleton=sources.train.skeleton)
    found = on_labels_of_pictures(student, perfect, sources.labelled, ONCE, CPU)
    assert found.teacher.mean_oks == pytest.approx(1)
    assert found.student.mean_oks < 0.9
    assert (found.boxes, found.keypoints) == ("whole-frame", ("nose", "left_ankle"))


def test_nothing_is_averaged_with_the_mirrored_crop_where_nobody_knows_the_partners():
    unknown = Skeleton(names=DOTS.names, swap=(0, 1, 2, 3), oks_sigmas=DOTS.oks_sigmas, partners_known=False)
    source, model = DotSource(5), small_model(skeleton=unknown)
    source.skeleton = unknown
    both, once = (on_labels_of(model, None, source, EvaluateConfig(flip_test=each), CPU) for each in (True, False))
    assert both.poses.student == pytest.approx(once.poses.student)


@pytest.mark.parametrize("flips", [True, False])
def test_teacher_and_student_are_judged_alike_with_and_without_a_flip_test(flips):
    model = small_model()
    found = on_labels_of(model, ModelTeacher(model), DotSource(5), EvaluateConfig(flip_test=flips), CPU)
    assert found.poses.student == pytest.approx(found.poses.teacher, abs=0.5)
