import json

import numpy as np
import pytest
import torch

from posestill.data.images import TaughtSource
from posestill.engine.beside import FILE, REPEATS, WARMUP, alternating, put_beside
from posestill.engine.setup import Sources, open_sources
from posestill.html.beside import beside_parts, told
from tests.conftest import small_model
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
    assert kept["on_labels"]["mean_oks"] == pytest.approx(found.on_labels.mean_oks)
    assert kept["surroundings"]["torch"] == torch.__version__


def test_a_teacher_that_says_what_the_labels_say_is_right(taught):
    config, folder, sources = taught
    assert isinstance(sources.val, TaughtSource)
    answers = np.stack([np.nan_to_num(person.keypoints) for person in sources.labelled.people])
    perfect = TaughtSource(sources.val._source, answers, threshold=0.3)
    found = put_beside(config, folder, Sources(sources.train, perfect, labelled=sources.labelled)).on_labels
    assert found.mean_oks["teacher"] == pytest.approx(1)
    assert found.mean_oks["student"] < 0.9


def test_weights_that_lie_beside_a_file_count(taught):
    config, folder, sources = taught
    own = config.teacher.path.stat().st_size
    config.teacher.path.with_name("t.onnx.data").write_bytes(b"0" * 1000)
    assert put_beside(config, folder, sources).teacher.bytes == own + 1000


def test_the_report_and_the_terminal_say_the_same(taught):
    found = put_beside(*taught)
    lines, parts = told(found), "".join(beside_parts(found))
    assert lines[0].startswith("on 3 people with labels: mean OKS ")
    assert f"{found.student.milliseconds:.1f} ms a crop" in lines[1]
    assert f"{found.teacher.bytes / 1e6:.1f} MB" in lines[1]
    assert "each judged by that pose of its picture which fits it best" in parts
    assert f"<td>{found.teacher.milliseconds:.1f}</td>" in parts
    assert "by whole-frame boxes" in parts
