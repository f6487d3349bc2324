"""Model folders in repositories of the Hub, against a stand-in that speaks its interface."""

import sys
from pathlib import Path

import pytest

import posestill
from posestill.models import repository
from posestill.models.pose_model import MODEL_FILES, SETTINGS, WEIGHTS, PoseModel, build_model
from posestill.schema import UserError
from tests.conftest import small_model, small_model_config
from tests.hub_server import ask_there, served_hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for the Hub with one model in two versions; huggingface_hub asks there, and its cache is empty."""
    with served_hub(tmp_path / "hub") as (address, found):
        found.create("me/small", private=False)
        for seed in (1, 2):
            small_model(seed=seed).save(tmp_path / "model")
            files = {name: (tmp_path / "model" / name).read_bytes() for name in MODEL_FILES}
            found.commit("me/small", {**files, "README.md": b"a card", "optimiser.pt": b"not fetched"})
        ask_there(monkeypatch, address, tmp_path / "cache")
        yield found


def first_weight(model):
    return next(model.parameters()).detach()


def is_version(model, seed):
    return bool((first_weight(model) == first_weight(small_model(seed=seed))).all())


def test_a_folder_is_itself(tmp_path):
    assert repository.find_folder(tmp_path, MODEL_FILES) == repository.ModelFolder(tmp_path)
    assert repository.find_folder("runs/best", MODEL_FILES).path == Path("runs/best")


def test_a_model_is_loaded_from_a_repository_at_the_newest_or_at_a_pinned_commit(hub):
    first, second = hub.commits("me/small")
    assert is_version(PoseModel.load("hub:me/small"), 2)
    assert is_version(PoseModel.load("hub:me/small@main"), 2)
    pinned = PoseModel.load(f"hub:me/small@{first}")
    assert is_version(pinned, 1)
    assert pinned.lineage["repository"] == f"hub:me/small@{first}"
    assert PoseModel.load(Path("hub:me/small")).lineage["repository"] == f"hub:me/small@{second}"


def test_only_the_files_of_a_model_folder_are_fetched(hub):
    folder = repository.find_folder("hub:me/small", MODEL_FILES).path
    assert sorted(path.name for path in folder.iterdir()) == [SETTINGS, WEIGHTS]
    assert not [each for each in hub.asked if "optimiser.pt" in each or "README.md" in each]


def test_load_predicts_with_a_model_of_a_repository(hub):
    import numpy as np

    model = posestill.load("hub:me/small@main", device="cpu")
    assert model.predict(np.zeros((40, 30, 3), dtype=np.uint8)).shape == (1, 4, 3)


def test_a_student_may_begin_from_a_repository(hub):
    config = small_model_config(init_from="hub:me/small@main#backbone")
    model = build_model(config, small_model().skeleton)
    assert bool((first_weight(model) == first_weight(small_model(seed=2))).all())


def test_offline_what_was_fetched_is_read_and_nobody_is_asked(hub, monkeypatch):
    import huggingface_hub

    (commit, *_) = hub.commits("me/small")
    PoseModel.load(f"hub:me/small@{commit}")
    hub.asked.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert is_version(PoseModel.load(f"hub:me/small@{commit}"), 1)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hub:me/none", "knows no such repository"),
        ("hub:me/small@v9", "no such revision"),
        ("hub:small", "no repository of the Hub: write hub:OWNER/NAME@REVISION"),
        ("hub:me/small@", "no repository of the Hub"),
        ("hub:me/small/best", "no repository of the Hub"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(hub, name, words):
    with pytest.raises(UserError) as told:
        PoseModel.load(name)
    assert str(told.value).startswith(name)
    assert words in str(told.value)


def test_without_a_connection_it_says_so(tmp_path, monkeypatch):
    ask_there(monkeypatch, "http://127.0.0.1:9", tmp_path)
    with pytest.raises(UserError, match="could not be reached"):
        PoseModel.load("hub:me/small")


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'pip install "posestill\[hub\]"'):
        PoseModel.load("hub:me/small")


@pytest.mark.parametrize(("status", "words"), [(401, "log in"), (403, "log in"), (500, "it answered 500")])
def test_an_answer_that_is_none_is_told_by_its_number(status, words):
    class Answered(Exception):
        response = type("Response", (), {"status_code": status})

    with pytest.raises(UserError, match=words), repository.told_in_words("hub:me/small"):
        raise Answered
