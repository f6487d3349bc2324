import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.models.published import PUBLISHED
from posestill.schema import validate
from posestill.teachers.transformers import TransformersConfig
from tests.conftest import small_model
from tests.mmpose import filled, shapes_of
from tests.saved import TINY_VITPOSE, save_vitpose

PAGE = (Path(__file__).parents[2] / "docs" / "published.md").read_text()


def test_the_page_names_real_settings_and_every_network_of_mmpose():
    for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.M | re.S):
        told = yaml.safe_load(text)
        if "model" in told:
            validate(ModelConfig, told["model"], where="docs/published.md")
        else:
            assert told["teacher"].pop("name") == "transformers"
            validate(TransformersConfig, told["teacher"], where="docs/published.md")
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z]+-[a-z]+[0-9-]*)`", row)}
    assert named <= PUBLISHED.keys()
    families = {name.partition("-")[0] for name, each in PUBLISHED.items() if each.source == "mmpose"}
    assert {name.partition("-")[0] for name in named} == families


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A checkpoint of RTMPose-t with as many keypoints as one likes."""
    monkeypatch.chdir(tmp_path)

    def write(keypoints=17, **changes):
        state = filled(shapes_of("rtmpose-t", keypoints))
        torch.save(changes.get("wrap", lambda each: {"state_dict": each})(state), "rtmpose-t.pth")
        return state

    return write


def test_keypoints_are_the_known_set_of_as_many(posestill, checkpoint):
    checkpoint(26)
    status, out, err = posestill("convert", "rtmpose-t.pth", "--from", "rtmpose-t", "--out", "model")
    assert status == 0, err
    assert "every key fits, 0 not used" in out
    assert PoseModel.load("model").skeleton.names[17:20] == ("head", "neck", "hip")


def test_keypoints_of_ones_own_are_named_by_a_metainfo_file(posestill, checkpoint, tmp_path):
    checkpoint(3)
    arguments = ("convert", "rtmpose-t.pth", "--from", "rtmpose-t", "--out", "model")
    status, _, err = posestill(*arguments)
    assert (status, "has 3 keypoints, and no known set has as many" in err, "--metainfo" in err) == (2, True, True)
    (tmp_path / "fish.json").write_text(json.dumps({"names": ["tip", "left_fin", "right_fin"]}))
    status, _, err = posestill(*arguments, "--metainfo", "fish.json")
    assert status == 0, err
    skeleton = PoseModel.load("model").skeleton
    assert (skeleton.names, skeleton.swap) == (("tip", "left_fin", "right_fin"), (0, 2, 1))
    (tmp_path / "fish.json").write_text(json.dumps({"names": ["tip", "tail"]}))
    status, _, err = posestill(*arguments, "--metainfo", "fish.json", "--overwrite")
    assert (status, "names 2 keypoints, and rtmpose-t.pth has 3" in err) == (2, True)


def test_an_unknown_layout_is_answered_with_those_there_are(posestill, checkpoint):
    checkpoint()
    status, _, err = posestill("convert", "rtmpose-t.pth", "--from", "rtmpose-xl", "--out", "model")
    assert status == 2
    assert len(err.splitlines()) == 1
    assert all(f" {name}" in err for name in (*PUBLISHED, "vitpose"))


def test_a_vitpose_goes_into_a_model_folder_and_back_to_transformers(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = save_vitpose(tmp_path / "theirs", experts=3)
    status, out, err = posestill("convert", "theirs", "--from", "vitpose", "--dataset-index", 2, "--out", "model")
    assert status == 0, err
    assert f"vitpose: {sum(each.numel() for each in network.parameters()):,} parameters" in out
    assert PoseModel.load("model").config.backbone.dataset_index == 2
    status, out, err = posestill("convert", "model", "--to", "transformers", "--out", "back")
    assert status == 0, err
    assert "VitPoseForPoseEstimation" in out
    again = type(network).from_pretrained(tmp_path / "back")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say what is converted by --from NAME, or into what by --to transformers"),
        (("--from", "vitpose", "--to", "transformers"), "say what is converted by --from NAME"),
        (("--to", "mmpose"), "--to mmpose: no such library (known: transformers)"),
        (("--to", "transformers"), "no model in gone"),
        (("--from", "vitpose"), "convert: no config.json in gone"),
        (("--from", "rtmpose-t"), "no checkpoint gone"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_a_line(posestill, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    status, _, err = posestill("convert", "gone", *arguments, "--out", "out")
    assert (status, len(err.splitlines()), said in err) == (2, 1, True), err


def test_a_model_that_is_no_vitpose_is_not_written_for_transformers(posestill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_model().save(tmp_path / "model")
    status, _, err = posestill("convert", "model", "--to", "transformers", "--out", "out")
    assert (status, "this model is another" in err, (tmp_path / "out").exists()) == (2, True, False)
    small_model(**TINY_VITPOSE).save(tmp_path / "vitpose")
    assert posestill("convert", "vitpose", "--to", "transformers", "--out", "out")[0] == 0
