"""The folder that runs models in a browser; what it does there is tested in test_page_in_browser.py."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from posestill.deploy import page
from posestill.deploy.page import build_page
from posestill.deploy.runtimes import TARGETS
from posestill.deploy.web_runtime import find_runtime
from posestill.deploy.write import Writer
from posestill.draw import LEFT, MIDDLE, RIGHT
from posestill.files import Outputs
from posestill.schema import UserError
from tests.conftest import small_model
from tests.deploy.test_web_runtime import unpacked, webgpu
from tests.networks import write_exported


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder as `posestill export` writes it, with an ONNX file; for reading only."""
    folder = tmp_path_factory.mktemp("exported") / "small"
    write_exported(folder / "model-fp32.onnx", small_model())
    return folder


@pytest.fixture
def runtime(tmp_path):
    return find_runtime(unpacked(tmp_path / "package", *webgpu("asyncify")))


def built(models, runtime, out):
    files = build_page(models, runtime, out, Outputs("page"))
    return [path.relative_to(out).as_posix() for path in files], json.loads((out / "page.json").read_text())


def test_the_folder_holds_all_that_the_page_asks_for(exported, runtime, tmp_path):
    names, told = built([exported], runtime, tmp_path / "out")
    wanted = {told["sample"], *(each["file"] for each in told["models"])}
    wanted |= {path for files in told["runtime"]["backends"].values() for path in files.values()}
    assert wanted | {"models/model-1.onnx.json", "index.html", "main.js", "decode.js"} <= set(names)
    assert all((tmp_path / "out" / name).is_file() for name in names)
    assert (tmp_path / "out/models/model-1.onnx").read_bytes() == (exported / "model-fp32.onnx").read_bytes()


def test_scripts_have_the_one_name_that_every_server_knows(exported, runtime, tmp_path):
    names, _ = built([exported], runtime, tmp_path / "out")
    assert {Path(name).suffix for name in names} == {".html", ".css", ".js", ".json", ".onnx", ".png", ".svg", ".wasm"}


def test_a_runtime_without_webgpu_leaves_it_out(exported, tmp_path):
    names, told = built([exported], find_runtime(unpacked(tmp_path / "package")), tmp_path / "out")
    assert told["runtime"]["backends"]["webgpu"] is None
    assert not [name for name in names if "webgpu" in name]


def test_no_place_on_this_machine_is_told(runtime, tmp_path):
    model = small_model()
    model.lineage = {"teacher": {"path": "/home/jane/teacher/best"}}
    write_exported(tmp_path / "exported" / "model-fp32.onnx", model)
    built([tmp_path / "exported"], runtime, tmp_path / "out")
    sidecar = json.loads((tmp_path / "out/models/model-1.onnx.json").read_text())
    assert sidecar["lineage"] == {"teacher": {"path": "best"}}
    assert not [path for path in (tmp_path / "out").rglob("*.js*") if "jane" in path.read_text()]


def test_keypoints_have_the_colours_that_predict_draws_them_in(exported, runtime, tmp_path):
    _, told = built([exported], runtime, tmp_path / "out")  # top, left_side, right_side, bottom
    assert told["models"][0]["colours"] == [list(each) for each in (MIDDLE, LEFT, RIGHT, MIDDLE)]


def test_two_models_stand_side_by_side_and_are_told_apart_by_name(exported, runtime, tmp_path):
    names, told = built([exported, exported / "model-fp32.onnx"], runtime, tmp_path / "out")
    assert [each["title"] for each in told["models"]] == ["small", "small model-fp32"]
    assert {"models/model-1.onnx", "models/model-2.onnx"} <= set(names)
    assert [each["title"] for each in built([exported, exported], runtime, tmp_path / "o")[1]["models"]] == [
        "small", "small-2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "title"), [("runs/student/best", "student"), ("runs/student/last", "student"), ("teacher", "teacher")]
)
def test_a_model_is_called_by_the_name_that_says_most(path, title):
    assert page._title(Path(path)) == title


@pytest.mark.slow
def test_a_model_folder_is_exported_first_and_nothing_of_that_stays(runtime, tmp_path):
    pytest.importorskip("onnxscript")
    small_model().save(tmp_path / "run" / "best")
    _, told = built([tmp_path / "run" / "best"], runtime, tmp_path / "out")
    assert told["models"][0]["title"] == "run"
    sidecar = json.loads((tmp_path / "out/models/model-1.onnx.json").read_text())
    assert sidecar["gate"]["persons"] == page.PERSONS
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out", "package"}


def refused(models, runtime, out):
    with pytest.raises(UserError) as told:
        build_page(models, runtime, out, Outputs("page"))
    assert not out.exists()
    return str(told.value)


def test_what_is_no_model_is_named(exported, runtime, tmp_path):
    out = tmp_path / "out"
    assert "no model in" in refused([tmp_path / "gone"], runtime, out)
    (tmp_path / "theirs.onnx").write_bytes(b"")
    assert "no theirs.onnx.json beside it" in refused([tmp_path / "theirs.onnx"], runtime, out)
    assert "3 are given" in refused([exported] * 3, runtime, out)
    Writer(small_model().eval(), tmp_path).write(TARGETS["pt2"], "fp32")
    assert "has no ONNX file" in refused([tmp_path], runtime, out)


def test_a_file_of_the_users_stays_and_nothing_is_written_beside_it(exported, runtime, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        build_page([exported], runtime, tmp_path / "out", Outputs("page"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]


class Links(HTMLParser):
    """What a page of HTML loads."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href")]


def test_the_page_loads_nothing_from_elsewhere():
    links = Links()
    links.feed(page._assets()["index.html"])
    assert links.found
    for name, content in page._assets().items():
        assert "//" not in re.sub(r"(^|\s)//.*|http://www.w3.org/2000/svg", "", content, flags=re.M), name
    assert all(link in page._assets() for link in links.found)
