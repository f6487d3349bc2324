import pytest

from posestill.engine.config import run_of
from posestill.schema import UserError, validate
from posestill.study.control import train_with_controls
from posestill.study.jobs import Asked, Resolver
from posestill.study.plan import Plan
from posestill.study.rehearse import rehearse

SMALL = {
    "data": {"train": {"name": "synthetic", "people": 8, "size": [64, 48]},
             "val": {"name": "synthetic", "people": 4, "size": [64, 48]}},
    "model": {"size": [32, 24], "backbone": {"name": "small_resnet", "channels": [8, 16], "max_pool": False},
              "head": "flat_fc", "codec": "coords"},
    "method": "supervised",
    "train": {"steps": 2, "batch_size": 4},
}  # fmt: skip


def jobs_of(tmp_path, *changes, prepare=()):
    """A plan with one arm of these changes, and its jobs."""
    import yaml

    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    recipe = str(tmp_path / "small.yaml")
    content = {
        "regimes": {"r": {"recipe": recipe, "arms": ["alone", "mine"]}},
        "arms": {"mine": {"title": "mine", "set": list(changes)}},
        "learning_rates": [1e-3],
        "controls": ["alone"],
        "prepare": {"t": {"recipe": recipe, "set": list(prepare)}},
    }
    plan = validate(Plan, content, where="test")
    asked = [Asked("tune", "r", arm, 1e-3, 0) for arm in ("alone", "mine")]
    return plan, Resolver(plan).jobs(asked)


def test_an_arm_that_cannot_be_built_is_named(tmp_path):
    plan, jobs = jobs_of(tmp_path, "method=pkd")
    with pytest.raises(UserError, match="the arm mine of the regime r cannot be built: .*teacher"):
        rehearse(plan, jobs, {"t": tmp_path / "t"})


def test_a_model_that_is_prepared_later_is_stood_in_for_by_an_untrained_one(tmp_path):
    plan, jobs = jobs_of(tmp_path, "method=pseudo_label", "teacher=<t>")
    rehearse(plan, jobs, {"t": tmp_path / "t"})
    assert not (tmp_path / "t").exists()
    plan, jobs = jobs_of(tmp_path, "method=pseudo_label", "teacher=<t>", prepare=["model.size=[2, 2]"])
    with pytest.raises(UserError, match="the prepared model t cannot be built: .*model.size"):
        rehearse(plan, jobs, {"t": tmp_path / "t"})


def test_controls_without_labels_are_refused_before_anything_is_trained(tmp_path):
    settings = {**SMALL, "teacher": "bundled", "method": "pseudo_label"}
    settings["data"] = {**SMALL["data"], "labelled": 0}
    with pytest.raises(UserError, match="labels"):
        train_with_controls(run_of(settings, where="test"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
