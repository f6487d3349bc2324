import torch

from posestill.engine.log import RunLog
from posestill.engine.setup import Sources, set_up
from posestill.teachers.base import ModelTeacher
from tests.conftest import DotSource, small_model, small_run


def test_the_method_is_built_before_the_teacher_goes_to_the_device(monkeypatch, tmp_path):
    """A method may show both a blank crop, where the student lies: on the CPU, whatever the run's device."""
    small_model("heatmap").save(tmp_path)
    seen = []
    monkeypatch.setattr(ModelTeacher, "to", lambda teacher, device: seen.append(("moved", device.type)))
    asked = ModelTeacher.features  # what this method asks for when it is built
    monkeypatch.setattr(
        ModelTeacher, "features", lambda teacher, batch: (seen.append("asked"), asked(teacher, batch))[1]
    )
    run = small_run("coords", method={"name": "tcd", "form": "head"}, teacher=str(tmp_path))
    set_up(run, Sources(DotSource(8), DotSource(8)), device=torch.device("meta"), world=1, log=RunLog(None, quiet=True))
    assert seen[0] == "asked"
    assert seen[-1] == ("moved", "meta")
