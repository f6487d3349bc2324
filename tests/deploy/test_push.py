"""What is sent of a model folder, and what never is."""

import json

import pytest
import yaml

from posestill.deploy.push import OF_EVERY_RUN, OF_SOME_RUNS, prepare, send
from posestill.engine.config import RunConfig
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from tests.conftest import small_model
from tests.hub_server import ask_there, served_hub


@pytest.fixture
def run(tmp_path):
    """A run folder as `train` leaves it, with much that is nobody else's business."""
    folder = tmp_path / "home" / "run"
    model = small_model()
    model.lineage = {"method": "supervised", "step": 8, "teacher": {"path": "/home/jane/teacher/best"}}
    model.save(folder / "best")
    (folder / "last").mkdir()
    (folder / "last" / "training.pt").write_bytes(b"the state of the optimiser")
    (folder / "best" / "me.jpg").write_bytes(b"a picture")
    (folder / "report.html").write_text("pictures of people")
    settings = {
        "data": {"train": {"name": "coco", "images": "/home/jane/photos"}}, "method": {"name": "supervised"},
        "model": {"size": [32, 24]}, "train": {"steps": 9},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    figures = {"AP": 0.25, "best_step": 8, "step": 9, "conditions": {"boxes": "ground truth"}}
    (folder / "eval.json").write_text(json.dumps(figures))
    return folder


def test_the_model_its_card_its_recipe_and_its_figures_are_sent_and_nothing_else(run):
    shipment = prepare(run / "best", "me/small", licence="mit")
    assert sorted(shipment.files) == ["README.md", "config.json", "eval.json", "model.safetensors", "recipe.yaml"]
    assert shipment.left_out == ("me.jpg",)
    assert shipment.files["model.safetensors"] == (run / "best" / "model.safetensors").read_bytes()


def test_no_place_on_this_machine_is_told(run, tmp_path):
    for name, content in prepare(run / "best", "me/small", licence="mit").files.items():
        assert b"jane" not in content, name
        assert str(tmp_path).encode() not in content, name


def test_a_runs_settings_are_known_by_their_keys():
    assert set(RunConfig.model_fields) == OF_EVERY_RUN | OF_SOME_RUNS
    assert {name for name, each in RunConfig.model_fields.items() if each.is_required()} == OF_EVERY_RUN


def test_a_config_that_is_no_runs_is_nobody_elses_business(run):
    (run / "config.yaml").write_text("database: {password: s3cret}")
    shipment = prepare(run / "best", "me/small", licence="mit")
    assert sorted(shipment.files) == ["README.md", "config.json", "model.safetensors"]
    assert all(b"s3cret" not in content for content in shipment.files.values())


def test_figures_are_not_taken_for_those_of_a_model_that_does_not_tell_its_step(run):
    model = PoseModel.load(run / "best")
    model.lineage = {"method": "supervised"}
    model.save(run / "best")
    (run / "eval.json").write_text(json.dumps({"AP": 0.9}))
    assert "eval.json" not in prepare(run / "best", "me/small", licence="mit").files


def test_the_sent_folder_loads_as_the_model_does(run, tmp_path):
    shipment = prepare(run / "best", "me/small", licence="mit")
    (tmp_path / "there").mkdir()
    for name, content in shipment.files.items():
        (tmp_path / "there" / name).write_bytes(content)
    assert PoseModel.load(tmp_path / "there").lineage["teacher"] == {"path": "best"}


def test_figures_of_another_model_of_the_run_are_not_this_ones(run):
    figures = json.loads((run / "eval.json").read_text())
    (run / "eval.json").write_text(json.dumps({**figures, "best_step": 4}))
    shipment = prepare(run / "best", "me/small", licence="mit")
    assert "eval.json" not in shipment.files
    assert b"No figures lay beside the model." in shipment.files["README.md"]


def test_a_model_without_its_run_is_sent_with_a_card_that_says_so(tmp_path):
    small_model().save(tmp_path / "model")
    assert sorted(prepare(tmp_path / "model", "me/small", licence="mit").files) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(("repository", "base_model"), [("small", None), ("me/small/x", None), ("me/small", "large")])
def test_what_is_no_name_of_a_repository_is_refused(run, repository, base_model):
    with pytest.raises(UserError, match="write OWNER/NAME"):
        prepare(run / "best", repository, licence="mit", base_model=base_model)


def test_a_run_folder_is_no_model_and_is_not_sent(run):
    with pytest.raises(UserError, match="did you mean"):
        prepare(run, "me/small", licence="mit")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with served_hub(tmp_path / "hub") as (address, found):
        ask_there(monkeypatch, address, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", "a token")
        yield found


@pytest.mark.parametrize("public", [False, True])
def test_what_was_sent_is_loaded_again_by_its_commit(run, hub, public):
    shipment = prepare(run / "best", "me/small", licence="mit")
    commit = send(shipment, public=public)
    assert hub.private == {"me/small": not public}
    assert {path.name: path.read_bytes() for path in (hub.folder / "me/small" / commit).iterdir()} == shipment.files
    assert PoseModel.load(f"hub:me/small@{commit}").lineage["repository"] == f"hub:me/small@{commit}"


def test_pushing_again_makes_another_commit_of_the_same_repository(run, hub):
    shipment = prepare(run / "best", "me/small", licence="mit")
    first, second = send(shipment, public=False), send(shipment, public=True)
    assert hub.commits("me/small") == [first, second]
    assert hub.private == {"me/small": True}


def test_without_a_token_it_says_how_to_log_in(run, hub, monkeypatch):
    import huggingface_hub

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "no-such-file")
    with pytest.raises(UserError, match="hub:me/small: .*(log in|set HF_TOKEN)"):
        send(prepare(run / "best", "me/small", licence="mit"), public=False)


def test_without_a_connection_it_says_so(run, monkeypatch, tmp_path):
    ask_there(monkeypatch, "http://127.0.0.1:9", tmp_path)
    with pytest.raises(UserError, match="hub:me/small: the Hub could not be reached"):
        send(prepare(run / "best", "me/small", licence="mit"), public=False)
