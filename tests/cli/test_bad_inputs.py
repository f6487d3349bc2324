import hashlib
import json

import numpy as np
import pytest
import torch
import yaml

from posestill.draw import write_image
from posestill.skeletons import from_category
from tests.cli.bad_inputs import NAMES, TABLE, VERB_OF, VERBS, contents
from tests.conftest import small_model
from tests.deploy.test_web_runtime import unpacked


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with one file of each kind, all of them sound."""
    folder = tmp_path_factory.mktemp("world")
    for name, content in contents().items():
        (folder / name).write_text(json.dumps(content) if name.endswith(".json") else yaml.safe_dump(content))
    for images in ("images", "yolo/images"):
        (folder / images).mkdir(parents=True)
        for number in (1, 2):
            write_image(folder / images / f"{number}.png", np.full((140, 120, 3), 60 * number, dtype=np.uint8))
    (folder / "yolo/labels").mkdir()
    for number in (1, 2):
        line = "0 .5 .5 .6 .8 .3 .3 2 .4 .4 2 .6 .6 1\n"
        (folder / f"yolo/labels/{number}.txt").write_text(line * 2)
    small_model(skeleton=from_category({"keypoints": NAMES})).save(folder / "model")
    unpacked(folder / "package")
    return folder


@pytest.fixture
def folder(world, monkeypatch):
    """That folder, in which a command runs; afterwards it is as it was."""
    kept = {path: path.read_bytes() for path in world.rglob("*") if path.is_file()}
    monkeypatch.chdir(world)
    yield world
    for path in sorted(world.rglob("*"), reverse=True):
        if path.is_file() and path not in kept:
            path.unlink()
        elif path.is_dir() and not any(each.is_relative_to(path) for each in kept):
            path.rmdir()
    for path, content in kept.items():
        path.write_bytes(content)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(posestill, verb):
    """The one line that a command says, after its counts of persons where it came so far."""
    status, _, err = posestill(*VERBS[verb])
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("data.")]
    assert status == 2, err
    assert len(lines) == 1, err
    assert lines[0].startswith("posestill: ")
    return lines[0]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("compare", "convert", "page")])
def test_the_same_commands_are_content_with_sound_files(verb, folder, posestill):
    status, _, err = posestill(*VERBS[verb])
    assert status in ((0, 1) if "check" in verb else (0,)), err


@pytest.mark.parametrize("bad", TABLE, ids=[f"{at}-{bad.name}" for at, bad in enumerate(TABLE)])
def test_a_bad_input_is_told_in_one_line_that_names_it(bad, folder, posestill):
    bad.spoil(folder)
    before = digests(folder)
    told = refused(posestill, bad.verb or VERB_OF[bad.file])
    assert bad.words in told
    assert all(digest == before[name] for name, digest in digests(folder).items() if name in before)


def test_the_table_is_long_and_no_line_stands_twice():
    assert len(TABLE) >= 150
    lines = [(bad.verb or VERB_OF[bad.file], bad.file, repr(bad.change)) for bad in TABLE]
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("weights", [{0: torch.zeros(2)}, {"a": 3}, [1, 2], {"state_dict": {5: torch.zeros(1)}}])
def test_a_checkpoint_that_holds_no_weights_by_name_is_refused(weights, folder, posestill):
    torch.save(weights, folder / "weights.pth")
    assert "holds no state_dict" in refused(posestill, "convert")


def test_a_checkpoint_that_was_cut_off_is_refused(folder, posestill):
    torch.save({"w": torch.zeros(100_000)}, folder / "weights.pth")
    (folder / "weights.pth").write_bytes((folder / "weights.pth").read_bytes()[:50_000])
    assert "cannot be read as weights" in refused(posestill, "convert")


def test_weights_that_are_no_numbers_are_named(folder, posestill):
    model = small_model(skeleton=from_category({"keypoints": NAMES}))
    with torch.no_grad():
        next(model.parameters())[0] = float("nan")
    model.save(folder / "model")
    for verb in ("evaluate", "predict"):
        assert "NaN or infinite weights in 1 tensors" in refused(posestill, verb)


def test_a_metainfo_that_says_one_thing_only_is_enough(folder, posestill):
    content = contents()["info.json"]
    for key in content:
        (folder / "info.json").write_text(json.dumps({key: content[key]}))
        status, _, err = posestill(*VERBS["score by metainfo"])
        assert status == 0, err


def test_ids_as_text_are_the_numbers_that_they_mean(folder, posestill):
    status, out, _ = posestill(*VERBS["score"])
    content = contents()
    for entry in [*content["gt.json"]["annotations"], *content["results.json"], *content["detections.json"]]:
        entry.update({key: str(entry[key]) for key in ("id", "image_id", "category_id") if key in entry})
    for entry in [*content["gt.json"]["images"], *content["gt.json"]["categories"]]:
        entry["id"] = f"00{entry['id']}"
    for name in ("gt.json", "results.json", "detections.json"):
        (folder / name).write_text(json.dumps(content[name]))
    assert posestill(*VERBS["score"])[:2] == (status, out)
    assert status == 0
    for verb in ("train", "detect", "evaluate", "check"):
        assert posestill(*VERBS[verb])[0] in (0, 1 if verb == "check" else 0)
