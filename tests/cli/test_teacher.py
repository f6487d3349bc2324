"""`posestill teacher check`: what it prints, its exit status, and every planted fault with a published network."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from posestill.schema import validate
from posestill.skeletons import COCO_17
from posestill.teachers.file import ABOUT_LAYOUTS, FileConfig, open_layout
from posestill.teachers.layouts import LAYOUTS
from posestill.teachers.runtime import open_network
from tests.conftest import shared_folder
from tests.teachers.networks import gaussian, onnx, says

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "teachers.md").read_text()


def fenced(language, text=PAGE):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def test_the_layout_that_the_page_describes_runs(tmp_path):
    text = fenced("yaml", (DOCS / "own-layout.md").read_text())[0]
    (tmp_path / "mine.yaml").write_text(text)
    maps = np.stack([gaussian((64, 48), at) for at in ((5, 6), (7, 8), (40, 50))])
    network = open_network(says(tmp_path / "n.onnx", [1, 3, "H", "W"], {"maps": maps}))
    layout = open_layout(network, str(tmp_path / "mine.yaml"))
    found = layout.codec.decode(layout.prediction(layout.look(network, np.zeros((1, 256, 192, 3), dtype=np.uint8))))
    np.testing.assert_allclose(found.xy[0, 2], [40 * 191 / 47, 50 * 255 / 63], atol=0.02)


def test_the_page_names_every_layout_and_real_settings():
    assert sum(any(map(str.isalnum, word)) for word in PAGE.split()) <= 900
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row)} >= ABOUT_LAYOUTS.keys()
    for text in fenced("yaml"):
        if text.startswith("teacher:"):
            settings = yaml.safe_load(text)["teacher"]
            assert settings.pop("name") == "file"
            validate(FileConfig, settings, where="docs/teachers.md")


@pytest.mark.slow
def test_the_commands_of_the_page_run(published, tmp_path):
    (tmp_path / "movenet-thunder.onnx").symlink_to(published("movenet-thunder.onnx"))
    for command in fenced("bash")[0].splitlines():
        words = shlex.split(command)
        done = subprocess.run(
            [sys.executable, "-m", "posestill", *words[1:]], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    (text,) = (each for each in fenced("yaml") if "features:" in each)
    features = yaml.safe_load(text)["teacher"]["features"]
    teacher = FileConfig(path=tmp_path / "movenet-thunder.onnx", features=features).build()
    assert teacher.feature_shapes == ((96, 64, 64),)
    assert "# (96, 64, 64)" in text


@pytest.fixture
def movenet(tmp_path):
    """Says one pose of everybody, mirrored like itself."""
    places = np.full((1, 17, 3), 0.5)
    return says(tmp_path / "movenet.onnx", [1, 64, 64, 3], {"keypoints": places}, dtype="int32")


@pytest.fixture
def persons(sample_folder):
    """Options that name the sample's validation people."""
    annotations = sample_folder / "annotations" / "person_keypoints_val.json"
    return ("--annotations", annotations, "--images", sample_folder / "val")


def test_a_check_prints_every_way_with_its_difference_and_reaches_its_end(posestill, movenet, persons):
    status, out, err = posestill("teacher", "check", movenet, *persons, "--people", 20)
    lines = out.splitlines()
    assert status in (0, 1)
    assert lines[0].startswith("movenet.onnx: x (1, 64, 64, 3) int32 -> keypoints (1, 1, 17, 3) float32")
    assert lines[1] == "layout movenet: crops of 64x64 px, 1.25 times the box"
    assert lines[2].startswith("mean OKS x 100 on 20 persons")
    assert re.fullmatch(r" +\d+\.\d  as declared \(movenet\)", lines[3])
    assert re.search(r"^ +\d+\.\d  x and y exchanged: [+-]\d+\.\d \[[+-]\d+\.\d, [+-]\d+\.\d\]$", out, flags=re.M)
    assert "      -  px from 0 to 1, px from -1 to 1, px by ImageNet's moments: the file takes whole numbers" in out
    assert err.splitlines()[-1].startswith("asking in every plausible way 100/100")


def test_a_file_that_may_be_several_is_tried_as_each(posestill, tmp_path, persons):
    maps = np.stack([gaussian((16, 12), (5.3, 7.2))] * 17)
    file = says(tmp_path / "maps.onnx", [1, 3, 64, 48], {"heatmaps": maps})
    status, out, _ = posestill("teacher", "check", file, *persons, "--people", 10)
    assert status in (0, 1)
    assert "the file does not tell its layout; on these persons the order is " in out
    if status == 0:
        assert re.search(r"nothing plausible is better beyond chance; say layout: [a-z-]+$", out.strip())


def test_without_labels_it_says_what_cannot_be_seen(posestill, movenet, persons, tmp_path):
    content = json.loads(Path(persons[1]).read_text())
    for each in content["annotations"]:
        del each["keypoints"]
    (tmp_path / "bare.json").write_text(json.dumps(content))
    status, out, _ = posestill("teacher", "check", movenet, "--annotations", tmp_path / "bare.json", *persons[2:])
    assert status in (0, 1)
    assert "agreement with itself, by confidence, x 100" in out
    assert "nobody has labels: keypoints whose left and right are exchanged cannot be seen in this way" in out
    assert "left and right exchanged:" not in out


def test_boxes_without_keypoints_and_whole_frames_are_asked_about_without_labels(posestill, movenet, persons, tmp_path):
    content = json.loads(Path(persons[1]).read_text())
    names = {each["id"]: each["file_name"] for each in content["images"]}
    content["annotations"] = [each for each in content["annotations"] if not each["iscrowd"]][:20]
    for each in content["annotations"]:
        del each["keypoints"]
    content["categories"] = [{"id": content["annotations"][0]["category_id"], "name": "person"}]
    plain = {names[each["image_id"]]: [each["bbox"]] for each in content["annotations"]}
    for name, boxes in (("coco", content), ("plain", plain)):
        (tmp_path / f"{name}.json").write_text(json.dumps(boxes))
    assert len(plain) >= 5
    for name, count in (("coco", 7), ("plain", min(len(plain), 7)), (None, 7)):
        file = () if name is None else ("--annotations", tmp_path / f"{name}.json")
        status, out, err = posestill("teacher", "check", movenet, *file, *persons[2:], "--people", 7)
        assert status in (0, 1), err
        assert f"agreement with itself, by confidence, x 100 on {count} persons" in out
    metainfo = ("--metainfo", tmp_path / "metainfo.json")
    status, _, err = posestill("teacher", "check", movenet, *file, *persons[2:], *metainfo)
    assert (status, "--metainfo describes keypoints, and a whole frame has none: leave it out" in err) == (2, True)


def bad_files(folder: Path) -> dict[str, str]:
    """What can be wrong, by the words that tell it."""
    whole = says(folder / "whole.onnx", [1, 3, 64, 48], {"heatmaps": np.zeros((17, 16, 12))}).read_bytes()
    contents = {
        "cut.onnx": whole[: len(whole) // 2],
        "empty.onnx": b"",
        "text.onnx": b"no network, but a text\n" * 20,
        "cut.tflite": b"\x1c\0\0\0TFL3" + bytes(200),
        "model.pth": b"PK",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {
        "cut.onnx": "no whole ONNX file",
        "empty.onnx": "is empty",
        "text.onnx": "no whole ONNX file",
        "cut.tflite": "may have been cut off",
        "model.pth": "none of .onnx, .tflite, .xml",
        "nowhere.onnx": "no file",
    }


def test_a_bad_file_is_one_line_and_exit_status_2(posestill, tmp_path, persons):
    for name, words in bad_files(tmp_path).items():
        status, out, err = posestill("teacher", "check", tmp_path / name, *persons)
        assert (status, out) == (2, ""), name
        assert words in err, name
        assert len(err.strip().splitlines()) == 1, err


def test_a_bad_layout_and_missing_persons_are_one_line_and_exit_status_2(posestill, tmp_path, movenet, persons):
    (tmp_path / "mine.yaml").write_text("ordr: nhwc\noutput: {kind: numbers}\ncodec: coords\n")
    cases = [
        ([movenet], "teacher check needs pictures: --images FOLDER, and --annotations GT.json with labels or boxes"),
        ([movenet, *persons, "--layout", "movenets"], "no layout 'movenets'; did you mean 'movenet'?"),
        ([movenet, *persons, "--layout", tmp_path / "mine.yaml"], "ordr: no such key; did you mean 'order'?"),
        ([movenet, *persons, "--layout", "hrnet"], "hrnet gives a picture of three colours (nchw)"),
    ]
    for arguments, words in cases:
        status, out, err = posestill("teacher", "check", *arguments)
        assert (status, out) == (2, "")
        assert words in err
        assert len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{name: file, path: whole.onnx}", "may be hrnet, vitpose or simple-baselines"),
        ("{name: file, path: whole.onnx, layout: hrnet, features: nothing}", "has no tensor 'nothing'"),
        ("{name: file, path: whole.onnx, layout: {colour: bgr}}", "layout.colour: no such key; did you mean"),
        ("whole.onx", "no model folder whole.onx"),
        ("cut.tflite", "may have been cut off"),
    ],
)
def test_a_run_with_a_bad_teacher_ends_before_it_starts(posestill, tmp_path, recipe, monkeypatch, settings, words):
    bad_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    status, _, err = posestill(
        "train", recipe, "--set", "method=pseudo_label", "--set", f"teacher={settings}", "--out", "run"
    )
    assert status == 2
    assert words in err
    assert "Traceback" not in err


def with_floats(path: Path, wanted: Path) -> Path:
    """The same network, with an input of floats that are cut to whole numbers within it."""
    model = onnx.load(str(path))
    given = model.graph.input[0]
    name, given.name = given.name, "floats"
    given.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["floats"], [name], to=onnx.TensorProto.INT32))
    onnx.save(model, str(wanted))
    return wanted


FAULTS = {
    "right": ({}, None),
    "bgr": ({"colours": "bgr"}, "colours the other way round"),
    "range": ({"highest": 1}, "px from 0 to 255"),
    "crop": ({"padding": 1.875}, "crops of 1.25 times the box"),
    "axes": ({"output": {**LAYOUTS["movenet"]["output"], "x": 0, "y": 1}}, "x and y exchanged"),
    "mirrored": ({"keypoints": [COCO_17.names[at] for at in COCO_17.swap]}, "left and right exchanged"),
}


@pytest.fixture
def published():
    """A published file by its name."""

    def find(name):
        path = shared_folder() / "models" / name
        if not path.is_file():
            pytest.skip(f"{name} is not on this machine")
        return path

    return find


def check_photographs(posestill, lsp_photos, file, layout, annotations, people):
    """Exit status, what was printed, and the fault's remedy as its last line has it."""
    status, out, err = posestill(
        "teacher", "check", file, "--layout", layout, "--people", people, "--annotations", annotations,
        "--images", lsp_photos / "images", "--metainfo", lsp_photos / "metainfo.json",
    )  # fmt: skip
    done, total = err.strip().splitlines()[-1].split()[-1].split("/")
    assert done == total, err
    named = re.match(r"wrong: '(.*)' is better than the declared layout", out.splitlines()[-1])
    return status, out, named and named[1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_movenet_thunder_on_photographs_shows_every_fault(fault, lsp_photos, published, tmp_path, posestill):
    changes, remedy = FAULTS[fault]
    file = published("movenet-thunder.onnx")
    file = with_floats(file, tmp_path / "floats.onnx") if fault == "range" else file
    layout = tmp_path / "declared.yaml"
    layout.write_text(yaml.safe_dump({**LAYOUTS["movenet"], **changes}))
    status, out, named = check_photographs(
        posestill, lsp_photos, file, layout, lsp_photos / "annotations" / "tune.json", 80
    )
    assert (status, named) == (0 if remedy is None else 1, remedy), out
    assert "not among the network's keypoints by name: neck, head_top" in out


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["right", "bgr", "axes", "mirrored"])
def test_movenet_lightning_on_photographs_without_labels(fault, lsp_photos, published, tmp_path, posestill):
    changes, remedy = FAULTS[fault]
    content = json.loads((lsp_photos / "annotations" / "tune.json").read_text())
    content["annotations"] = [{**each, "keypoints": None} for each in content["annotations"]]
    (tmp_path / "bare.json").write_text(json.dumps(content))
    layout = tmp_path / "declared.yaml"
    layout.write_text(yaml.safe_dump({**LAYOUTS["movenet"], **changes}))
    status, out, named = check_photographs(
        posestill, lsp_photos, published("movenet-lightning.onnx"), layout, tmp_path / "bare.json", 80
    )
    seen = None if fault == "mirrored" else remedy
    assert (status, named) == (0 if seen is None else 1, seen), out
    assert "cannot be seen in this way" in out
