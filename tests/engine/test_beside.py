import json

import pytest
import torch

from posestill.data.synthetic.people import SyntheticConfig
from posestill.engine.beside import FILE, REPEATS, WARMUP, alternating, put_beside
from posestill.engine.setup import Sources, open_sources
from posestill.models.fold import folded
from posestill.skeletons import COCO_17
from posestill.teachers.checkpoint import BUNDLED, BUNDLED_TOKENS
from tests.conftest import DotSource, small_model, small_run
from tests.engine.test_pictures import labels, run
from tests.networks import write_photos, write_teacher

CPU = torch.device("cpu")


def test_both_are_asked_in_turn_and_the_first_times_do_not_count():
    asked = []
    times = alternating({"one": lambda: asked.append("one"), "other": lambda: asked.append("other")}, device=CPU)
    assert asked == ["one", "other"] * (WARMUP + REPEATS)
    assert [len(found) for found in times.values()] == [REPEATS, REPEATS]


@pytest.fixture
def taught(tmp_path):
    """A run on twelve pictures of which three have labels, with an untrained student in its folder."""
    teacher = write_teacher(tmp_path / "t.onnx")
    config = run(teacher, write_photos(tmp_path / "p", 12), val=labels(tmp_path, [2, 5, 9]))
    sources = open_sources(config)
    small_model("coords", skeleton=sources.train.skeleton).save(tmp_path / "run" / "best")
    return config, tmp_path / "run", sources


def test_size_time_and_figures_on_labels_are_measured_and_kept(taught):
    config, folder, sources = taught
    found = put_beside(config, folder, sources)
    assert found.student.size == (32, 24)
    assert found.teacher.size == (32, 32)
    assert found.student.fastest <= found.student.milliseconds <= found.student.slowest
    assert found.teacher.bytes == config.teacher.path.stat().st_size
    assert found.on_labels.persons == 3
    assert found.on_labels.keypoints == ("nose", "left_ankle")
    kept = json.loads((folder / FILE).read_text())
    told_of = {"student": found.on_labels.student, "teacher": found.on_labels.teacher}
    assert kept["on_labels"]["mean_oks"] == pytest.approx({name: each.mean_oks for name, each in told_of.items()})
    assert kept["on_labels"]["keypoints"] == ["nose", "left_ankle"]
    assert kept["surroundings"]["torch"] == torch.__version__


def test_a_model_without_a_teacher_is_measured_alone(tmp_path):
    small_model().save(tmp_path / "run" / "best")
    found = put_beside(small_run(), tmp_path / "run", Sources(DotSource(8), DotSource(5)))
    assert (found.teacher, found.held, found.on_labels.persons) == (None, None, 5)
    assert found.student.parameters == sum(each.numel() for each in folded(small_model()).parameters())
    kept = json.loads((tmp_path / "run" / FILE).read_text())
    assert kept["teacher"] is None
    assert kept["on_labels"]["mean_oks"] == {"student": pytest.approx(found.on_labels.student.mean_oks)}


def test_a_model_that_teaches_is_judged_by_labels_beside_its_student(tmp_path):
    small_model(seed=1).save(tmp_path / "teacher")
    small_model().save(tmp_path / "run" / "best")
    config = small_run(teacher=str(tmp_path / "teacher"), method="pseudo_label")
    found = put_beside(config, tmp_path / "run", Sources(DotSource(8), DotSource(5)))
    assert found.teacher.parameters == found.student.parameters
    assert found.teacher.bytes == (tmp_path / "teacher" / "model.safetensors").stat().st_size
    assert found.on_labels.poses.teacher.shape == (5, 4, 2)


def test_weights_that_lie_beside_a_file_count(taught):
    config, folder, sources = taught
    own = config.teacher.path.stat().st_size
    config.teacher.path.with_name("t.onnx.data").write_bytes(b"0" * 1000)
    assert put_beside(config, folder, sources).teacher.bytes == own + 1000


@pytest.mark.parametrize(("name", "own"), [("bundled", BUNDLED), ("bundled-tokens", BUNDLED_TOKENS)])
def test_each_bundled_teacher_has_its_own_file(tmp_path, name, own):
    small_model(skeleton=COCO_17).save(tmp_path / "run" / "best")
    source = SyntheticConfig(people=3, seed=1).build()
    found = put_beside(small_run(teacher=name, method="pseudo_label"), tmp_path / "run", Sources(source, source))
    assert found.teacher.bytes == (own / "model.safetensors").stat().st_size
