import pytest
import torch

from posestill import catalog
from posestill.data.synthetic.people import SyntheticConfig
from posestill.engine.log import RunLog
from posestill.engine.setup import Sources, set_up, try_one_batch
from posestill.methods.tcd import Tcd
from posestill.schema import UserError
from posestill.teachers.base import ModelTeacher, TeacherConfig
from posestill.teachers.cache import CachedTeacher
from tests.conftest import DotSource, small_model, small_run
from tests.networks import write_teacher

QUIET = RunLog(None, quiet=True)


def parts(run, sources):
    return set_up(run, sources, device=torch.device("cpu"), world=1, log=QUIET)


def test_a_method_knows_the_teachers_shapes_without_asking_it(monkeypatch, tmp_path):
    small_model("heatmap").save(tmp_path)
    moved = []
    monkeypatch.setattr(ModelTeacher, "to", lambda teacher, device: moved.append(device.type))
    for name in ("__call__", "features"):
        monkeypatch.setattr(ModelTeacher, name, lambda *given: pytest.fail("the teacher was asked"))
    run = small_run("coords", method={"name": "tcd", "form": "head"}, teacher=str(tmp_path))
    set_up(run, Sources(DotSource(8), DotSource(8)), device=torch.device("meta"), world=1, log=QUIET)
    assert moved == ["meta"]


@pytest.mark.parametrize("method", ["agentpose", "supervised"])
def test_a_method_that_has_no_use_for_a_cached_teacher_is_refused_before_anyone_is_asked_about(
    method, monkeypatch, tmp_path
):
    small_model("heatmap").save(tmp_path)
    monkeypatch.setattr(CachedTeacher, "ask", lambda *given, **named: pytest.fail("the teacher was asked"))
    run = small_run("coords", method=method, teacher={"name": str(tmp_path), "cache": True})
    message = "needs the teacher's features|no use for a teacher"
    with pytest.raises(UserError, match=message):
        parts(run, Sources(DotSource(8), DotSource(8)))
    with pytest.raises(UserError, match=message):
        try_one_batch(run, Sources(DotSource(8), DotSource(8)), log=QUIET)


def test_a_dry_run_asks_a_cached_teacher_about_its_one_batch_and_keeps_no_answer(monkeypatch, tmp_path):
    small_model("heatmap").save(tmp_path)
    seen, ask = [], CachedTeacher.ask
    monkeypatch.setattr(
        CachedTeacher, "ask", lambda teacher, *given, **named: (seen.append(given[2]), ask(teacher, *given, **named))[1]
    )
    run = small_run("coords", method="tcd", teacher={"name": str(tmp_path), "cache": True})
    sources = Sources(DotSource(40), DotSource(8))
    assert set(try_one_batch(run, sources, log=QUIET)) == {"task", "head"}  # the form of a cached teacher
    assert len(seen[0]) == 8
    assert not sources.asked
    assert isinstance(parts(run, sources).distiller, Tcd)
    assert seen[1] is None
    parts(run, sources)
    assert len(seen) == 2


def test_the_threads_of_a_run_are_also_those_of_a_file_that_is_asked_at_every_step(two_threads, tmp_path):
    path = write_teacher(tmp_path / "teacher.onnx")
    sources = Sources(*[SyntheticConfig(people=8, size=(64, 48)).build()] * 2)
    for length, threads in (({"threads": 1}, 1), ({"threads": 2}, 2)):
        run = small_run(
            "coords", method="pseudo_label", teacher=str(path), train={"steps": 2, "batch_size": 4, **length}
        )
        assert parts(run, sources).distiller.teacher.network.threads == threads


def test_two_kinds_of_teacher_without_settings_are_not_taken_for_one_another(monkeypatch):
    class One(TeacherConfig):
        def build(self):
            return ModelTeacher(small_model("heatmap", seed=1))

    class Other(TeacherConfig):
        def build(self):
            return ModelTeacher(small_model("heatmap", seed=2))

    monkeypatch.setitem(catalog.TEACHERS, "one", One)
    monkeypatch.setitem(catalog.TEACHERS, "other", Other)
    sources = Sources(DotSource(8), DotSource(8))
    found = [
        parts(small_run("coords", method="tcd", teacher={"name": name, "cache": True}), sources).distiller.teacher
        for name in ("one", "other", "one")
    ]
    assert found[0] is found[2] is not found[1]
