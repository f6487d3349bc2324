"""The card of a model that is published."""

import re

import pytest
import yaml

from posestill import catalog
from posestill.deploy.card import Published, base_model, card, status
from tests.conftest import small_model

pytest.importorskip("huggingface_hub")

LINEAGE = {
    "method": "tcd", "origin": "TCD, ECCV Workshops 2024; reconstructed from the abstract", "seed": 3, "step": 400,
    "pretrained_licence": "mit",
    "teacher": {"network": "hf:them/large@0123", "licence": "apache-2.0", "sha256": "ab" * 32},
}  # fmt: skip
SETTINGS = {
    "data": {
        "train": {"name": "synthetic", "people": 40, "profile": "easy"},
        "val": {"name": "coco", "annotations": "data/val.json", "images": "data/val", "root": None},
    }
}
CONDITIONS = {"boxes": "ground truth", "flip_test": True}
FIGURES = {"AP": 0.4321, "mean_oks": 0.5, "conditions": CONDITIONS, "notes": ["So so."]}


def published(**changes):
    known = {
        "repository": "me/small", "model": small_model(), "lineage": LINEAGE, "licence": "apache-2.0",
        "recipe": "method: tcd\n", "settings": SETTINGS, "figures": FIGURES, "parameters": 12345,
    }  # fmt: skip
    return Published(**{**known, **changes})


def parts(text):
    """What machines read, and what people do."""
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_machines_read_task_licence_teacher_and_figures():
    head, _ = parts(card(published()))
    assert (head["pipeline_tag"], head["license"]) == ("keypoint-detection", "apache-2.0")
    assert (head["base_model"], head["library_name"]) == ("them/large", "posestill")
    assert head["tags"][-2:] == ["tcd", "reconstructed-method"]
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"]["name"] == "coco: data/val.json, data/val"
    assert {each["type"]: each["value"] for each in result["metrics"]} == {"ap": 0.4321, "mean-oks": 0.5}


def test_people_read_how_it_was_made_measured_and_loaded():
    _, body = parts(card(published()))
    for words in (
        "32 x 24 px", "12,345 parameters", 'posestill.load("hub:me/small@main")', "| method | tcd |",
        "| published or reconstructed | reconstructed |",
        "| base model (the teacher) | them/large (SHA-256 abababababab...) |",
        "| training data | 40 synthetic people (no photographs), profile easy |", "| OKS AP | 43.2 |",
        "Protocol: boxes: ground truth; flip test: True.", "So so.", "pretrained weights: mit, apache-2.0.",
        "```yaml\nmethod: tcd\n```", "top, left_side, right_side, bottom",
    ):  # fmt: skip
        assert words in body, words


def test_what_is_not_known_is_said_and_not_made_up():
    head, body = parts(card(published(lineage={}, recipe=None, settings={}, figures=None, model=small_model("coords"))))
    assert not {"base_model", "model-index"} & set(head)
    assert "No figures lay beside the model." in body
    assert "The settings of its training did not lie beside the model." in body
    assert "none that is known" in body
    assert "none were trained" in body  # scores


@pytest.mark.parametrize(
    ("teacher", "name"),
    [
        ({"repository": "hub:me/large@main"}, "me/large"),
        ({"file": "movenet.onnx"}, None),
        ({"path": "runs/hub:x"}, None),
        (None, None),
    ],
)
def test_a_teacher_is_named_where_it_is_on_the_hub(teacher, name):
    assert base_model(published(lineage={"teacher": teacher})) == name
    assert base_model(published(lineage={"teacher": teacher}, base_model="a/b")) == "a/b"


def test_a_teacher_in_a_file_is_named_in_words():
    _, body = parts(card(published(lineage={"teacher": {"file": "movenet.onnx", "sha256": "12" * 32}})))
    assert re.search(r"base model \(the teacher\) \| movenet.onnx \(SHA-256 1212", body)


def test_every_method_of_the_catalog_is_published_reconstructed_or_nobodys():
    found = {
        name: status({"origin": config.distiller.origin})
        for name, config in catalog.METHODS.items()
        if hasattr(config, "distiller")
    }
    assert found["distilpose"] == "published"
    assert {found[name] for name in ("tcd", "ocd", "agentpose")} == {"reconstructed"}
    assert found["supervised"] == ""
