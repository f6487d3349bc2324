"""Every verb against files that are there already: what is not posestill's stays, to the byte."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from posestill.data.synthetic.sample import write_sample
from tests.conftest import small_model
from tests.deploy.test_web_runtime import unpacked
from tests.networks import write_exported, write_photos, write_teacher

TRUTH = ("--annotations", "gt.json", "--images", "data/val")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A dataset, a model, a teacher, photographs and results, which every test copies."""
    folder = tmp_path_factory.mktemp("prepared")
    write_sample(folder / "data", pictures=16)
    shutil.copyfile(folder / "data/annotations/person_keypoints_val.json", folder / "gt.json")
    truth = json.loads((folder / "gt.json").read_text())
    results = [
        {"image_id": each["image_id"], "category_id": 1, "score": 0.5, "keypoints": each["keypoints"]}
        for each in truth["annotations"]
        if each["num_keypoints"]
    ]
    (folder / "results.json").write_text(json.dumps(results))
    from posestill.skeletons import COCO_17

    small_model(skeleton=COCO_17).save(folder / "model")
    write_teacher(folder / "teacher.onnx")
    write_photos(folder / "photos", 2)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "plan.yaml").write_text(PLAN)
    (folder / "checkpoint.pth").write_bytes(b"no checkpoint")
    write_exported(folder / "exported" / "model-fp32.onnx", small_model())
    unpacked(folder / "package")
    return folder


RECIPE = """
data:
  train: {name: coco, annotations: gt.json, images: data/val}
  val: {name: coco, annotations: gt.json, images: data/val}
model:
  {size: [32, 24], backbone: {name: small_resnet, channels: [8, 16], max_pool: false}, head: flat_fc, codec: coords}
method: supervised
train: {steps: 2, batch_size: 4}
"""
PLAN = """
regimes: {few: {recipe: protocol/synthetic, set: [data.labelled=100], test: [data.val.seed=9]}}
arms: {tcd: {title: TCD}}
learning_rates: [1.0e-3]
seeds: {choose: [7], confirm: [1]}
confirm: {few: [alone, tcd]}
"""


@pytest.fixture
def place(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def hashes(folder):
    """Every file below a folder, links told apart from what they lead to."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def mine(path):
    """A file of the user's own."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("mine")


def link(path):
    """A symbolic link to a photograph."""
    Path(path).symlink_to(Path("photos/1.png").resolve())


def dangling(path):
    """A symbolic link to nothing yet, through which a file would be made elsewhere."""
    Path(path).symlink_to(Path("made-elsewhere").resolve())


EVALUATE, SCORE = ("evaluate", "model", *TRUTH), ("evaluate", *TRUTH[:2], "--results", "results.json")
CHECK = ("data", "check", "gt.json", "--images", "data/val")
PACK = ("data", "pack", "recipe.yaml")
PACK_CROPS = (*PACK, "--crops")
LABEL = ("label", "photos", "--teacher", "teacher.onnx")
PREDICT = ("predict", "model", "photos")
PREDICT_ALONE = (*PREDICT, "--no-draw")
PAGE = ("page", "exported", "--runtime", "package")
PUSH = ("push", "model", "me/small", "--licence", "mit")
CONVERT = ("convert", "checkpoint.pth", "--from", "distilpose-s")
CONVERT_BACK = ("convert", "model", "--to", "transformers")

OUTPUTS = {
    "evaluate --json": (EVALUATE, "--json", "o.json", "o.json"),
    "evaluate --save-results": (EVALUATE, "--save-results", "o.json", "o.json"),
    "evaluate --results --json": (SCORE, "--json", "o.json", "o.json"),
    "data check --sheet": (CHECK, "--sheet", "o.png", "o.png"),
    "data pack": (PACK, "--out", "o.npz", "o.npz"),
    "data pack --crops": (PACK_CROPS, "--out", "o.crops", "o.crops"),
    "label": (LABEL, "--out", "o.json", "o.json"),
    "label's sheet": (LABEL, "--out", "o.json", "o.png"),
    "predict's listing": (PREDICT, "--out", "o", "o/predictions.json"),
    "predict's drawing": (PREDICT, "--out", "o", "o/1.png"),
    "predict's results": (PREDICT_ALONE, "--save-results", "o.json", "o.json"),
    "predict's lines": (PREDICT_ALONE, "--save-results", "o.jsonl", "o.jsonl"),
    "predict's table": (PREDICT_ALONE, "--save-results", "o.csv", "o.csv"),
    "page's index": (PAGE, "--out", "o", "o/index.html"),
    "page's network": (PAGE, "--out", "o", "o/models/model-1.onnx"),
    "push's card": (PUSH, "--out", "o", "o/README.md"),
    "convert's weights": (CONVERT, "--out", "o", "o/model.safetensors"),
    "convert's settings": (CONVERT, "--out", "o", "o/config.json"),
    "convert --to's weights": (CONVERT_BACK, "--out", "o", "o/model.safetensors"),
    "convert --to's settings": (CONVERT_BACK, "--out", "o", "o/config.json"),
    "convert --to's processor": (CONVERT_BACK, "--out", "o", "o/preprocessor_config.json"),
}
"""what is written -> the verb, the option and its value, and the file"""


@pytest.mark.parametrize("occupied", [mine, link, dangling], ids=lambda make: make.__name__)
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_posestill_did_not_write_stays_and_the_message_names_overwrite(posestill, place, output, occupied):
    verb, option, value, file = OUTPUTS[output]
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    occupied(file)
    before = hashes(place)
    status, _, err = posestill(*verb, option, value)
    assert (status, file in err, "--overwrite" in err, len(err.splitlines())) == (2, True, True, 1), err
    assert hashes(place) == before


@pytest.mark.parametrize("output", [name for name in OUTPUTS if not name.startswith("convert")])
def test_with_overwrite_the_file_or_the_link_itself_is_replaced_and_nothing_else(posestill, place, output):
    verb, option, value, file = OUTPUTS[output]
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    link(file)
    before = hashes(place)
    status, _, err = posestill(*verb, option, value, "--overwrite")
    assert status == 0, err
    after = hashes(place)
    assert (Path(file).is_symlink(), before[file] != after[file]) == (False, True)
    assert {name: after[name] for name in before if name != file} == {
        name: digest for name, digest in before.items() if name != file
    }


@pytest.mark.parametrize("output", [name for name in OUTPUTS if not name.startswith("convert")])
def test_the_same_command_twice_is_no_nuisance_until_somebody_changed_its_file(posestill, place, output):
    verb, option, value, file = OUTPUTS[output]
    for _ in range(2):
        status, _, err = posestill(*verb, option, value)
        assert status == 0, err
    with Path(file).open("ab") as handle:
        handle.write(b" ")  # by hand
    before = hashes(place)
    status, _, err = posestill(*verb, option, value)
    assert (status, "wrote there: choose" in err) == (2, True), err
    assert hashes(place) == before


READ = {
    "results by figures": (SCORE, "--json", "results.json"),
    "annotations by figures": (SCORE, "--json", "gt.json"),
    "annotations by results": (EVALUATE, "--save-results", "gt.json"),
    "a picture by a sheet": (CHECK, "--sheet", "data/val/000000000013.jpg"),
    "a picture by a sheet in another folder": (CHECK, "--sheet", "data/val/../val/000000000013.jpg"),
    "annotations by a packed file": (PACK, "--out", "gt.json"),
    "a recipe by a packed file": (PACK, "--out", "recipe.yaml"),
    "a recipe by packed crops": (PACK_CROPS, "--out", "recipe.yaml"),
    "a teacher by labels": (LABEL, "--out", "teacher.onnx"),
    "a photograph by a sheet": (LABEL, "--out", "photos/1.json"),
    "a checkpoint by a folder": (CONVERT, "--out", "checkpoint.pth"),
    "a model by a converted one": (CONVERT, "--out", "model"),
    "a model by its form for another library": (CONVERT_BACK, "--out", "model"),
    "boxes by predictions": (("predict", "model", "data/val", "--boxes", "gt.json"), "--save-results", "gt.json"),
    "photographs by drawings": (PREDICT, "--out", "photos"),
    "photographs by drawings elsewhere": (("predict", "model", "photos/1.png"), "--out", "photos"),
    "a picture by a drawing": (("predict", "model", "photos/1.png", "data/val"), "--out", "photos"),
    "a model by a run": (("train", "recipe.yaml"), "--out", "model/config.json"),
    "a model by what is pushed": (PUSH, "--out", "model"),
    "pictures by a sample": (("data", "sample"), "data"),
    "pictures by a repaired copy": (CHECK, "--fix", "data"),
    "a file by a repaired copy": (CHECK, "--fix", "gt.json"),
    "a file by a sample": (("data", "sample"), "gt.json"),
}


@pytest.mark.parametrize("case", READ)
def test_what_a_command_reads_is_never_written_over(posestill, place, case):
    verb, *output = READ[case]
    before = hashes(place)
    status, _, err = posestill(*verb, *output)
    assert (status, len(err.splitlines())) == (2, 1), err
    assert hashes(place) == before


@pytest.mark.parametrize("name", ["results.json", "predictions.json"])
def test_even_an_output_of_posestill_is_not_written_over_by_who_reads_it(posestill, place, name):
    assert posestill(*EVALUATE, "--save-results", name, "--overwrite")[0] == 0
    before = hashes(place)
    status, _, err = posestill("evaluate", *TRUTH[:2], "--results", name, "--json", name)
    assert (status, "is a file that this command reads" in err) == (2, True), err
    assert hashes(place) == before


FOLDERS = {
    "a run's figures": (("train", "recipe.yaml", "--out", "o"), "o/eval.json"),
    "a run's report": (("train", "recipe.yaml", "--out", "o"), "o/report.html"),
    "a run's model": (("train", "recipe.yaml", "--out", "o"), "o/best/model.safetensors"),
    "a run's rows": (("train", "recipe.yaml", "--out", "o"), "o/metrics.jsonl"),
    "a run's settings": (("train", "recipe.yaml", "--out", "o"), "o/config.yaml"),
    "a quickstart's report": (("quickstart", "--out", "o"), "o/report.html"),
    "a study's table": (("compare", "plan.yaml", "--results", "o", "--work", "w"), "o/table.md"),
    "a study's summary": (("compare", "plan.yaml", "--results", "o", "--work", "w"), "o/summary.json"),
    "a study's page": (("compare", "plan.yaml", "--results", "r", "--work", "o"), "o/report.html"),
}


@pytest.mark.parametrize("occupied", [mine, dangling], ids=lambda make: make.__name__)
@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_with_something_elses_file_is_no_place_for_a_run(posestill, place, case, occupied):
    verb, file = FOLDERS[case]
    Path(file).parent.mkdir(parents=True)
    occupied(file)
    before = hashes(place)
    status, _, err = posestill(*verb)
    assert status == 2
    assert f"{Path(file).relative_to('o')}, which is not posestill's" in err or "o holds a run already" in err
    assert hashes(place) == before


def test_two_outputs_of_one_name_are_refused_before_the_work(posestill, place):
    before = hashes(place)
    status, _, err = posestill(*EVALUATE, "--json", "o.json", "--save-results", "./o.json")
    assert (status, "is also what --json writes" in err) == (2, True), err
    status, _, err = posestill(*LABEL, "--out", "labels.png")  # where its sheet goes, too
    assert (status, "is also what --out writes" in err) == (2, True), err
    assert hashes(place) == before


def test_a_repaired_copy_keeps_pictures_of_one_name_apart(posestill, place):
    truth = json.loads(Path("gt.json").read_text())
    first, second = truth["images"][:2]
    for entry, name in ((first, "../up.jpg"), (second, "up.jpg")):
        shutil.copyfile(Path("data/val") / entry["file_name"], Path("data/val") / name)
        entry["file_name"] = name
    Path("gt.json").write_text(json.dumps(truth))
    _, out, err = posestill(*CHECK, "--fix", "fixed")
    assert "1 images given a new name, as another has theirs" in out, err
    fixed = json.loads(Path("fixed/annotations/gt.json").read_text())
    for entry, given in zip(fixed["images"][:2], ("../up.jpg", "up.jpg"), strict=True):
        copied = (Path("fixed/images") / entry["file_name"]).read_bytes()
        assert copied == (Path("data/val") / given).read_bytes()


def test_a_repaired_copy_keeps_annotation_files_of_one_name_apart(posestill, place):
    for split in ("train", "valid"):
        Path(f"robo/{split}").mkdir(parents=True)
        part = "train" if split == "train" else "val"
        shutil.copyfile(f"data/annotations/person_keypoints_{part}.json", f"robo/{split}/_annotations.coco.json")
        for path in Path(f"data/{part}").iterdir():
            shutil.copyfile(path, f"robo/{split}/{path.name}")
    _, out, err = posestill("data", "check", "robo", "--fix", "fixed")
    names = ["train-annotations.coco", "valid-annotations.coco"]
    assert sorted(path.stem for path in Path("fixed/annotations").iterdir()) == names, (out, err)
    counts = [len(json.loads(Path(f"fixed/annotations/{name}.json").read_text())["images"]) for name in names]
    assert counts == [12, 4]
    assert [len(list(Path(f"fixed/images/{name}").iterdir())) for name in names] == counts


FULL = {
    "predict": (*PREDICT, "--out", "o"),
    "evaluate": (*EVALUATE, "--json", "o/f.json", "--save-results", "o/r.json"),
    "data check": (*CHECK, "--sheet", "sheet/s.png", "--fix", "o"),
    "data pack": (*PACK, "--out", "o/p.npz"),
    "data pack --crops": (*PACK_CROPS, "--out", "o/p.crops"),
    "data sample": ("data", "sample", "o"),
    "label": (*LABEL, "--out", "o/l.json"),
}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the largest size of a file is POSIX's")
@pytest.mark.parametrize("case", FULL)
def test_a_write_that_fails_is_one_line_and_leaves_no_half_file(place, case):
    """In a process that may write no file of more than 60 bytes, as on a full disk."""
    import resource

    verb = FULL[case]
    before = hashes(place)
    limit = 60
    done = subprocess.run(
        [sys.executable, "-m", "posestill", *verb],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, "could not be written" in last, "Traceback" in done.stderr) == (2, True, False), (
        done.stderr
    )
    named = re.search(r"posestill: (.*) could not be written", last).group(1)
    assert not Path(named).exists()
    assert not [path for path in place.rglob("*") if "draft" in path.name]
    after = hashes(place)
    assert {name: after[name] for name in before} == before
    assert all((place / name).stat().st_size < limit for name in after if name not in before)
