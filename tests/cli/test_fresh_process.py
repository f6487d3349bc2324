"""Every verb, in a process of its own where nothing has been imported before.

A test in this process cannot see what a verb forgets to import: another test has imported it already.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
import typer
import yaml

import posestill
from posestill.cli.listing import KINDS
from posestill.cli.main import app
from posestill.engine.config import recipe_names
from posestill.html.next_step import SOME_PICTURES
from posestill.models.pose_model import PoseModel
from posestill.schema import table
from posestill.skeletons import COCO_17
from posestill.teachers.file import ABOUT_LAYOUTS
from tests.cli.conftest import RECIPE
from tests.conftest import small_model
from tests.deploy.test_web_runtime import unpacked
from tests.html.parsed import below, parsed, within
from tests.hub_server import served_hub
from tests.mmpose import filled, shapes_of
from tests.networks import write_detector, write_exported, write_photos, write_teacher
from tests.predict.clips import write_clip
from tests.published import fill, plain_distilpose
from tests.saved import IMAGENET, save_vitpose

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLAN = """
regimes:
  few:
    recipe: protocol/synthetic
    set: [data.train.people=16, data.val.people=12, data.labelled=8, train.steps=2, train.batch_size=8,
          data.labelled_per_batch=4, data.crops.folder=crops]
    test: [data.val.seed=9]
arms:
  tcd: {title: TCD}
learning_rates: [1.0e-3]
seeds: {choose: [5], confirm: [1]}
confirm: {few: [alone, tcd]}
"""


@pytest.fixture
def fresh(tmp_path):
    """Runs a command in a process of its own and an empty folder; returns what it printed there or on `stream`."""

    def run(*arguments, program=(sys.executable, "-m", "posestill"), status=0, stream="stdout"):
        done = subprocess.run(
            [*map(str, program), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return getattr(done, stream)

    (tmp_path / "small.yaml").write_text(RECIPE)
    return run


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def docs_plugin():
    """The method that docs/own-method.md shows, as the file that a reader makes of it."""
    page = (ROOT / "docs" / "own-method.md").read_text()
    return re.search(r"^```python\n(.*?)^```", page, flags=re.M | re.S).group(1)


def test_train_leaves_a_whole_run_folder(fresh, tmp_path):
    out = fresh("train", "small.yaml", "--out", "run")
    assert out.splitlines()[-3:] == ["model: run/best", "figures: run/eval.json", "report: run/report.html"]
    assert files(tmp_path / "run") >= {
        "config.yaml", "metrics.jsonl", "best/model.safetensors", "best/config.json", "eval.json", "beside.json",
        "report.html",
    }  # fmt: skip
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 4
    assert json.loads((tmp_path / "run" / "eval.json").read_text())["conditions"]["persons"] == 8


def test_the_commands_that_a_report_ends_with_run_as_they_stand(fresh, tmp_path):
    fresh("train", "small.yaml", "--out", "run")
    write_photos(tmp_path / SOME_PICTURES, 2)
    report = parsed((tmp_path / "run" / "report.html").read_text())
    typed = [shlex.split(each.text) for each in within(below(report, "What to do next"), "code")]
    run = {words[1]: words[2:] for words in typed if words[1] != "page"}  # which has tests of its own
    for verb, words in run.items():
        fresh(verb, *words)
    assert sorted(run) == ["export", "predict", "train"]
    assert (tmp_path / "run" / "predictions" / "predictions.json").is_file()
    assert (tmp_path / "run" / "export" / "model-fp32.onnx").is_file()


def test_train_dry_run_prints_the_run_and_leaves_nothing(fresh, tmp_path):
    out = fresh("train", "small.yaml", "--dry-run", "--out", "run")
    assert yaml.safe_load(out)["train"]["steps"] == 4  # the last line is a comment
    assert re.search(r"^# fits; the first batch's losses: task [\d.]+$", out, flags=re.M)
    assert files(tmp_path) == {"small.yaml"}


def test_distil_teaches_a_student_by_a_model_folder(fresh, tmp_path):
    small_model("heatmap", skeleton=COCO_17).save(tmp_path / "teacher")
    fresh("distil", "small.yaml", "--set", "method=tcd", "--teacher", "teacher", "--out", "run")
    assert PoseModel.load(tmp_path / "run" / "best").lineage["teacher"]["path"] == "teacher"


def test_distill_is_accepted_too_and_the_bundled_teacher_needs_no_folder(fresh, tmp_path):
    fresh("distill", "small.yaml", "--set", "method=pseudo_label", "--teacher", "bundled", "--out", "run")
    losses = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert losses["step"] == 2
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()


def test_evaluate_measures_a_model_on_coco_files(fresh, tmp_path, sample_folder):
    small_model(skeleton=COCO_17).save(tmp_path / "model")
    truth = sample_folder / "annotations" / "person_keypoints_val.json"
    out = fresh(
        "evaluate", "model", "--annotations", truth, "--images", sample_folder / "val", "--json", "figures.json",
        "--save-results", "results.json",
    )  # fmt: skip
    labelled = sum(
        each["num_keypoints"] > 0 and not each["iscrowd"] for each in json.loads(truth.read_text())["annotations"]
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["conditions"]["persons"] == labelled
    assert f"persons: {labelled}" in out
    assert 0 <= figures["AP"] <= figures["AP50"] < 0.5  # nothing has trained it
    assert re.search(r"^ +AP +\d+\.\d$", out, flags=re.M)
    assert len(json.loads((tmp_path / "results.json").read_text())[0]["keypoints"]) == 51


def test_evaluate_scores_a_results_file(fresh, tmp_path, sample_folder):
    truth = sample_folder / "annotations" / "person_keypoints_val.json"
    perfect = [
        {"image_id": each["image_id"], "category_id": 1, "keypoints": each["keypoints"], "score": 0.9}
        for each in json.loads(truth.read_text())["annotations"]
        if each["num_keypoints"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(perfect))
    out = fresh("evaluate", "--annotations", truth, "--results", "results.json", "--json", "figures.json")
    assert re.search(r"^ +AP +100\.0$", out, flags=re.M)
    assert json.loads((tmp_path / "figures.json").read_text())["AP"] == pytest.approx(1)


def test_predict_draws_every_picture_and_writes_its_persons(fresh, tmp_path, sample_folder):
    small_model(skeleton=COCO_17).save(tmp_path / "model")
    truth = json.loads((sample_folder / "annotations" / "person_keypoints_val.json").read_text())
    boxes = {each["file_name"]: [[10, 20, 60, 120], [90, 20, 60, 120]] for each in truth["images"][:3]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    out = fresh("predict", "model", sample_folder / "val", "--boxes", "boxes.json", "--out", "drawn")
    assert "6 persons in 3 images -> drawn" in out
    entries = json.loads((tmp_path / "drawn" / "predictions.json").read_text())
    assert [len(entry["keypoints"]) for entry in entries] == [51] * 6
    drawn = files(tmp_path / "drawn") - {"predictions.json", ".posestill"}
    assert {Path(name).stem for name in drawn} == {Path(name).stem for name in boxes}
    assert all(cv2.imread(str(tmp_path / "drawn" / name)) is not None for name in drawn)


def of_predicting(language):
    """The commands, or the program, of docs/predicting.md."""
    text = (ROOT / "docs" / "predicting.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def test_predict_runs_every_command_and_the_program_of_its_page(fresh, tmp_path):
    small_model(skeleton=COCO_17).save(tmp_path / "runs" / "sample" / "best")
    for path in write_photos(tmp_path / "photos", 2, size=(60, 40)).iterdir():
        path.rename(path.with_suffix(".jpg"))  # which no reader minds
    (tmp_path / "boxes.json").write_text(json.dumps({"1.jpg": [[5, 5, 20, 50]]}))
    write_clip(tmp_path / "walk.mp4", 4)
    write_detector(tmp_path / "detector.onnx")
    commands = [shlex.split(line, comments=True)[1:] for block in of_predicting("bash") for line in block.splitlines()]
    assert len(commands) == 4
    for command in commands:
        fresh(*command)
    assert {"predictions/1.png", "predictions/2.png", "predictions/predictions.json"} <= files(tmp_path)
    assert {"drawn/1.png", "drawn/walk.mp4", "drawn/poses.jsonl", "poses.json", "poses.csv"} <= files(tmp_path)
    assert len((tmp_path / "drawn" / "poses.jsonl").read_text().splitlines()) == 2 + 4
    assert len(json.loads((tmp_path / "poses.json").read_text())) == 1
    assert len((tmp_path / "poses.csv").read_text().splitlines()) == 1 + 4
    (program,) = of_predicting("python")
    assert fresh("-c", f"{program}print(poses.shape)", program=(sys.executable,)) == "(1, 17, 3)\n"


def test_predict_names_a_camera_that_is_not_there(fresh, tmp_path):
    small_model(skeleton=COCO_17).save(tmp_path / "runs" / "sample" / "best")
    (command,) = of_predicting("console")
    words = shlex.split(command.replace("camera:0", "camera:97"))[1:]
    said = fresh(*words, status=2, stream="stderr").splitlines()
    assert said[-1] == (
        "posestill: none of the 1 images can be read; camera:97 is not there, or another program has it: name another, "
        "such as camera:0"
    )


def test_config_prints_a_run_that_loads_again(fresh, tmp_path):
    out = fresh("config", "small.yaml", "--set", "train.steps=9")
    (tmp_path / "resolved.yaml").write_text(out)
    assert yaml.safe_load(out)["train"]["steps"] == 9
    assert fresh("config", "resolved.yaml") == out


def test_list_fits_on_one_screen(fresh):
    lines = fresh("list").splitlines()
    assert len(lines) <= 24
    assert {line.split()[0] for line in lines if line} >= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_list_shows_each_kind(fresh, kind):
    out = fresh("list", kind)
    others = {"recipes": recipe_names(), "layouts": ABOUT_LAYOUTS}
    assert len(out.splitlines()) == len(others[kind] if kind in others else table(kind))
    assert max(map(len, out.splitlines())) <= 120


def test_list_shows_the_method_of_the_docs_as_a_plugin(fresh, tmp_path):
    (tmp_path / "my_method.py").write_text(docs_plugin())
    lines = fresh("list", "methods", "--plugin", "my_method.py").splitlines()
    assert len(lines) == len(table("methods").keys() - {"mine"}) + 1
    assert re.fullmatch(r"mine +Mine; needs a teacher's prediction\.", lines[-1])
    assert "mine" in fresh("list", "--plugin", "my_method.py").split()


def test_distil_runs_the_method_of_the_docs_as_a_plugin(fresh, tmp_path):
    (tmp_path / "my_method.py").write_text(docs_plugin())
    out = fresh(
        "distil", "small.yaml", "--teacher", "bundled", "--plugin", "my_method.py", "--set", "method=mine", "--dry-run"
    )
    assert re.search(r"^# fits; the first batch's losses: task [\d.]+, taught [\d.]+$", out, flags=re.M)


def test_quickstart_trains_four_ways_and_reports(fresh, tmp_path):
    said = fresh("quickstart", "--steps", 2, "--out", "quick", stream="stderr")
    for way in ("student alone", "student alone, for as long", "student on pseudo-labels", "student distilled"):
        assert way in said
    rows = json.loads((tmp_path / "quick" / "quickstart.json").read_text())["rows"]
    assert {name: (row["labels"], row["unlabelled"]) for name, row in rows.items()} == {
        "teacher": (0, 0),
        "alone": (400, 0),
        "same_time": (400, 0),
        "pseudo_label": (400, 3600),
        "distilled": (400, 3600),
    }
    assert (tmp_path / "quick" / "distilled" / "onnx" / "model-fp32.onnx").is_file()
    assert (tmp_path / "quick" / "report.html").read_text().startswith("<!doctype html>")


def test_convert_makes_a_model_folder_of_a_published_checkpoint(fresh, tmp_path):
    published = plain_distilpose().PlainDistilPose()
    torch.save({"state_dict": fill(published)}, tmp_path / "distilpose-s.pth")
    out = fresh("convert", "distilpose-s.pth", "--from", "distilpose-s", "--out", "model")
    assert "5,364,101 parameters, every key fits, 0 not used" in out
    assert "model: model" in out
    model = PoseModel.load(tmp_path / "model")
    assert torch.equal(model.state_dict()["backbone.conv1.weight"], published.state_dict()["backbone.conv1.weight"])


def test_convert_takes_a_checkpoint_of_mmpose_of_which_the_teacher_check_doubts_that_it_was_trained(fresh, tmp_path):
    torch.save({"state_dict": filled(shapes_of("rtmpose-t"))}, tmp_path / "rtmpose-t.pth")
    fresh("data", "sample", "data", "--pictures", 16)
    convert, check = docs_of_mmpose()
    assert "3,337,007 parameters, every key fits, 0 not used" in fresh(*convert)
    out = fresh(*check, status=1)  # its weights are random
    assert "layout of the model: crops of 256x192 px, 1.25 times the box" in out
    assert "doubtful: its answers fit another person as well as the one it was asked about" in out


def test_a_vitpose_teaches_a_vitpose_s_which_transformers_reads_afterwards(fresh, tmp_path, coco_sample):
    save_vitpose(tmp_path / "teacher", size=(64, 48))
    data = f"{{name: coco, annotations: {coco_sample / 'annotations/all.json'}, images: {coco_sample / 'images'}}}"
    changes = [
        f"data.train={data}", f"data.val={data}", "method=pkd", "model.size=[64, 48]", "model.backbone=vitpose",
        "model.head=vitpose", "model.codec={name: heatmap, grid: udp}", "train.steps=2", "train.batch_size=4",
        "evaluate.every=2",
    ]  # fmt: skip
    told = fresh("distil", "coco-sample", "--teacher", "teacher", "--out", "run",
                 *(word for change in changes for word in ("--set", change)))  # fmt: skip
    assert "model: run/best" in told
    student = PoseModel.load(tmp_path / "run" / "best")
    assert student.lineage["teacher"]["path"] == "teacher"
    assert "21,653,393 parameters" in fresh("convert", "run/best", "--to", "transformers", "--out", "back")
    import transformers

    network = transformers.VitPoseForPoseEstimation.from_pretrained(tmp_path / "back").eval()
    image, (mean, std) = torch.rand(1, 3, 64, 48), IMAGENET
    with torch.no_grad():
        found, wanted = network((image - mean) / std).heatmaps, student(image).prediction.maps
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        (False, "the Hub could not be reached"),
        (True, 'needs the package transformers, which is not installed: pip install "posestill[hf]"'),
    ],
    ids=["without a network", "without the extra"],
)
@pytest.mark.parametrize("verb", ["distil", "label", "convert"])
def test_a_repository_that_cannot_be_had_is_one_line(fresh, tmp_path, monkeypatch, hidden, said, verb):
    if hidden and verb == "convert":
        pytest.skip("a VitPose is read without transformers")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if hidden:
        (tmp_path / "transformers.py").write_text("raise ImportError\n")
    else:
        pytest.importorskip("transformers")
    write_photos(tmp_path / "photos", 2)
    name = "hf:usyd-community/vitpose-base-simple"
    command = {
        "distil": ("distil", "small.yaml", "--set", "method=pseudo_label", "--teacher", name, "--dry-run"),
        "label": ("label", "photos", "--teacher", name, "--out", "labels.json"),
        "convert": ("convert", name, "--from", "vitpose", "--out", "model"),
    }[verb]
    err = fresh(*command, status=2, stream="stderr")
    lines = [line for line in err.splitlines() if line.startswith("posestill: ")]
    assert len(lines) == 1
    assert said in lines[0]


def docs_of_mmpose():
    """The commands of docs/published.md about a checkpoint of mmpose, as words."""
    text = (ROOT / "docs" / "published.md").read_text()
    block = next(each for each in re.findall(r"^```bash\n(.*?)^```", text, flags=re.M | re.S) if "rtmpose-t" in each)
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.strip()]


def test_compare_runs_a_plan_to_its_table(fresh, tmp_path):
    (tmp_path / "tiny.yaml").write_text(PLAN)
    out = fresh("compare", "tiny.yaml", "--jobs", 1)
    assert "table: results/tiny/table.md" in out
    table_of_results = (tmp_path / "results" / "tiny" / "table.md").read_text()
    assert table_of_results.count("| few | ") >= 3
    lines = map(json.loads, (tmp_path / "results" / "tiny" / "runs.jsonl").read_text().splitlines())
    confirmed = {line["name"].split("-lr")[0] for line in lines if line["name"].endswith("seed1")}
    assert confirmed == {"test/few/alone", "test/few/tcd"}
    assert "<svg" in (tmp_path / re.search(r"^report: (.*)$", out, flags=re.M).group(1)).read_text()


def test_data_check_finds_a_sound_dataset_sound_and_draws_it(fresh, tmp_path, sample_folder):
    annotations = sample_folder / "annotations" / "person_keypoints_val.json"
    out = fresh("data", "check", annotations, "--images", sample_folder / "val")
    assert "20 images" in out
    assert cv2.imread(str(tmp_path / "data-check.png")) is not None


def test_data_check_ends_with_status_1_where_something_is_wrong(fresh, tmp_path, sample_folder):
    content = json.loads((sample_folder / "annotations" / "person_keypoints_val.json").read_text())
    content["images"][0]["file_name"] = "gone.jpg"
    (tmp_path / "wrong.json").write_text(json.dumps(content))
    assert "gone.jpg" in fresh("data", "check", "wrong.json", "--images", sample_folder / "val", status=1)


def test_data_pack_writes_one_file_that_a_recipe_reads(fresh, tmp_path):
    out = fresh("data", "pack", "small.yaml", "--out", "train.npz", "--people", 5)
    assert "5 people, 5 images" in out
    assert "# fits" in fresh("train", "small.yaml", *said_sources(out), "--dry-run")


def test_packed_crops_are_trained_on_and_refused_where_they_are_others(fresh, tmp_path):
    out = fresh("data", "pack", "small.yaml", "--crops", "--out", "train.crops")
    assert "16 people, " in out
    assert out.splitlines()[-1] == "data.crops: {file: train.crops}"
    fresh("train", "small.yaml", "--out", "run", "--set", "data.crops.file=train.crops")
    assert (tmp_path / "run" / "eval.json").is_file()
    wider = ("--set", "data.crops.file=train.crops", "--set", "data.augment.rotation=90")
    said = fresh("train", "small.yaml", "--out", "other", *wider, status=2, stream="stderr")
    assert "data.augment.rotation was 80.0, and here it is 90.0" in said


def test_by_image_trains_with_processes_beside_it(fresh, tmp_path):
    fresh("train", "small.yaml", "--out", "run", "--set", "data.sampler=by_image", "--set", "train.workers=2")
    assert (tmp_path / "run" / "eval.json").is_file()


def test_data_sample_writes_a_coco_tree_that_a_recipe_reads(fresh, tmp_path):
    out = fresh("data", "sample", "people", "--pictures", 16)
    assert re.search(r"^train: 12 pictures of \d+ people", out, flags=re.M)
    assert files(tmp_path / "people") >= {
        "annotations/person_keypoints_train.json", "annotations/person_keypoints_val.json",
    }  # fmt: skip
    assert "# fits" in fresh("train", "small.yaml", *said_sources(out), "--dry-run")


def test_data_sample_writes_a_yolo_folder_that_a_recipe_reads(fresh, tmp_path):
    out = fresh("data", "sample", "people", "--yolo", "--pictures", 16)
    assert (tmp_path / "people" / "data.yaml").is_file()
    assert len(list((tmp_path / "people" / "images" / "val").iterdir())) == 4
    assert "# fits" in fresh("train", "small.yaml", *said_sources(out), "--dry-run")


def test_label_writes_what_a_teacher_sees_in_pictures(fresh, tmp_path):
    write_teacher(tmp_path / "teacher.onnx")
    write_detector(tmp_path / "detector.onnx")
    write_photos(tmp_path / "photos", 4)
    out = fresh(
        "label", "photos", "--teacher", "teacher.onnx", "--detector", "detector.onnx", "--out", "labels.json"
    )  # fmt: skip
    assert out.startswith("4 people in 4 pictures")
    assert len(json.loads((tmp_path / "labels.json").read_text())["annotations"]) == 4


def test_teacher_check_says_how_a_file_is_better_read_and_ends_with_status_1(fresh, tmp_path, sample_folder):
    write_teacher(tmp_path / "teacher.onnx")  # the people it makes up turn their left to the left of the picture
    out = fresh(
        "teacher", "check", "teacher.onnx", "--layout", "movenet", "--images", sample_folder / "val",
        "--annotations", sample_folder / "annotations" / "person_keypoints_val.json", "--people", 20,
        status=1,
    )  # fmt: skip
    assert "layout movenet: crops of 32x32 px, 1.25 times the box" in out
    assert re.search(r"^ +[\d.]+  as declared \(movenet\)$", out, flags=re.M)
    assert "wrong: 'left and right exchanged' is better than the declared layout beyond chance" in out


def test_export_and_bench_as_the_docs_show_them(fresh, tmp_path):
    pytest.importorskip("onnxscript")
    commands = re.findall(r"^posestill (.*)$", shipping("bash")[0], flags=re.M)
    assert [command.split()[0] for command in commands] == ["data", "train", "export", "bench"]
    fresh(*shlex.split(commands[0], comments=True))
    fresh(*commands[1].split(), "--set", "train.steps=120")
    out = fresh(*commands[2].split())
    assert re.search(r"^ONNX Runtime fp32 .*$", out, flags=re.M)
    assert out.splitlines()[-1] == "exported: exported"
    assert files(tmp_path / "exported") == {
        "model-fp32.onnx", "model-fp32.onnx.json", "model-fp32.pt2", "model-fp32.pt2.json", "gate.json",
        "posestill_decode.py", "posestill_decode.mjs",
    }  # fmt: skip
    out = fresh(*commands[3].split())
    assert [line.split()[0] for line in out.splitlines()[2:]] == [
        *["runs/shipped/best"] * 3, "exported/model-fp32.onnx", "exported/model-fp32.pt2",
    ]  # fmt: skip
    picture = next((tmp_path / "data" / "sample" / "val").glob("*.jpg"))
    (tmp_path / "exported" / "picture.jpg").write_bytes(picture.read_bytes())
    (tmp_path / "exported" / "run.py").write_text(shipping("python")[0])
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=tmp_path / "exported", capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 17  # x y score of each keypoint


def test_an_exported_file_is_a_teacher_without_a_word_about_its_layout(fresh, tmp_path, sample_folder):
    pytest.importorskip("onnxscript")
    small_model(skeleton=COCO_17).save(tmp_path / "model")
    fresh("export", "model", "--out", "exported", "--people", 8)
    out = fresh(
        "teacher", "check", "exported/model-fp32.onnx", "--images", sample_folder / "val",
        "--annotations", sample_folder / "annotations" / "person_keypoints_val.json", "--people", 5, status=1,
    )  # fmt: skip
    assert "doubtful" in out  # its weights are random
    assert "layout exported: crops of 32x24 px, 1.25 times the box" in out


def test_bench_says_which_stage_of_a_recipes_crops_is_the_limit(fresh, tmp_path):
    out = fresh("bench", "--loader", "small.yaml", "--rounds", 2, "--json", "loader.json")
    assert re.search(r"^microseconds a person: draw \d+, decode \d+, warp \d+, colour 0, collate \d+$", out, flags=re.M)
    assert "is the limit" in out
    said = json.loads((tmp_path / "loader.json").read_text())
    assert said["step"] > 0
    assert said["advice"][0] in out


def test_the_page_on_performance_shows_commands_that_run(fresh, tmp_path):
    page = (ROOT / "docs" / "performance.md").read_text()
    commands = re.findall(r"^posestill (.*)$", page, flags=re.M)
    assert [command.split()[0] for command in commands] == ["data", "bench", "data", "train", "train"]
    for command in commands:
        short = ("--set", "train.steps=2") if command.startswith("train") else ()
        out = fresh(*shlex.split(command, comments=True), *short)
        assert command.split()[0] != "bench" or "is the limit" in out
    assert (tmp_path / "runs" / "by-image" / "eval.json").is_file()


def test_bench_says_what_it_measured_in_json(fresh, tmp_path):
    small_model("coords").save(tmp_path / "model")
    fresh("bench", "model", "--to", "none", "--rounds", 1, "--json", "bench.json")
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert row["runtime"] == "PyTorch"
    assert row["throughput"] > 0


def of_browser(language):
    """The commands of docs/browser.md that are posestill's, each as its words."""
    text = (ROOT / "docs" / "browser.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("posestill ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_page_writes_a_folder_for_a_file_server_as_the_docs_show_it(fresh, tmp_path):
    write_exported(tmp_path / "exported" / "model-fp32.onnx", small_model())
    unpacked(tmp_path / "package")
    fresh("page", "exported", "--out", "first", "--runtime", "package")
    train, page, push = of_browser("bash")
    assert (train[0], page[0], push[0]) == ("train", "page", "push")
    fresh("data", "sample", "data/sample")
    assert "# fits" in fresh(*train, "--dry-run")
    small_model(skeleton=COCO_17).save(tmp_path / "runs" / "page" / "best")
    pytest.importorskip("onnxscript")
    out = fresh(*page)
    assert re.match(r"page: site \(\d+ files, \d+ MB\)", out)
    assert "python -m http.server --directory site" in out
    assert {"index.html", "page.json", "models/model-1.onnx", "models/model-1.onnx.json"} <= files(tmp_path / "site")
    said = fresh("page", "runs/page/best", "--out", "other", status=2, stream="stderr")
    assert said.count("\n") == 1
    assert re.search(r"`(npm pack .*)`", said)[1] in (ROOT / "docs" / "browser.md").read_text()


def test_push_sends_a_model_that_predict_then_loads_as_the_docs_show_it(fresh, tmp_path, monkeypatch):
    small_model(skeleton=COCO_17).save(tmp_path / "runs" / "page" / "best")
    write_photos(tmp_path / "photos", 1, size=(60, 40))
    (to_folder,) = (words for words in of_browser("bash") if words[0] == "push")
    push, predict = of_browser("console")
    fresh("push", "runs/page/best", "me/small", "--licence", "mit", "--dry-run")
    fresh(*to_folder)
    assert {"README.md", "config.json", "model.safetensors"} <= files(tmp_path / "to-send")
    with served_hub(tmp_path / "hub") as (address, hub):
        for name, value in (("HF_ENDPOINT", address), ("HF_HOME", str(tmp_path / "home")), ("HF_TOKEN", "a token")):
            monkeypatch.setenv(name, value)
        (commit,) = re.findall(r'posestill\.load\("hub:me/small-pose@(\w+)"\)', fresh(*push))
        assert hub.commits("me/small-pose") == [commit]
        fresh(*predict)
    fresh("predict", f"hub:me/small-pose@{commit}", "photos", "--out", "again")  # without a server, from the cache
    assert {"drawn/1.png", "again/1.png"} <= files(tmp_path)
    said = fresh("predict", "hub:me/other", "photos", "--out", "o", status=2, stream="stderr")
    assert "hub:me/other: the Hub could not be reached" in said


def shipping(language):
    """The blocks of docs/shipping.md in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / "shipping.md").read_text(), flags=re.M | re.S)


def said_sources(out):
    """The sources that a command printed for a recipe, as options."""
    return [
        word for change in re.findall(r"^(data\.\w+): (.*)$", out, flags=re.M) for word in ("--set", "=".join(change))
    ]


def test_version_is_the_packages(fresh):
    assert fresh("--version") == f"posestill {posestill.__version__}\n"


def test_the_console_script_is_the_same_command(fresh):
    script = Path(sys.executable).parent / "posestill"
    assert fresh("--version", program=(script,)) == f"posestill {posestill.__version__}\n"


def test_help_names_every_verb(fresh):
    out = fresh("--help")
    assert {words[0] for words in commands() if words != ("distill",)} <= set(out.split())


def test_teacher_cache_asks_a_teacher_ahead_of_the_training(fresh, tmp_path):
    (tmp_path / "recipe.yaml").write_text(KEEPING)
    assert fresh("teacher", "cache", "recipe.yaml") == "answers: runs/answers\n"
    said = fresh("train", "recipe.yaml", "--out", "run", stream="stderr")
    assert "runs/answers has the teacher's answers about all 16 persons: it is not asked" in said


KEEPING = RECIPE.replace(
    "method: supervised", "method: pseudo_label\nteacher: {name: bundled, cache: {folder: runs/answers}}"
)


def of_many_machines(fresh, tmp_path, *, with_ray):
    """Run the commands of docs/many-machines.md: those for shards, or those for Ray."""
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "recipe.yaml").write_text(KEEPING)
    write_teacher(tmp_path / "teacher.onnx")
    write_photos(tmp_path / "photos", 3)
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs" / "many-machines.md").read_text(), flags=re.M | re.S)
    chosen = [each for each in blocks if ("--on ray" in each) == with_ray]
    lines = [line for block in chosen for line in block.splitlines() if not line.startswith("pip install")]
    assert len(lines) == (3 if with_ray else 6)
    command = f'set -e\nposestill() {{ {shlex.quote(sys.executable)} -m posestill "$@"; }}\n'
    fresh("-c", command + "\n".join(lines) + "\nwait", program=("bash",))
    assert (tmp_path / "results" / "plan" / "table.md").is_file()
    assert len(json.loads((tmp_path / "labels.json").read_text())["annotations"]) == 3
    assert (tmp_path / "runs" / "answers" / "complete.json").is_file()


def test_shards_of_the_page_of_many_machines_end_with_one_result(fresh, tmp_path):
    of_many_machines(fresh, tmp_path, with_ray=False)


def test_ray_of_the_page_of_many_machines_ends_with_the_same(fresh, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else a busy machine starves the runs
    of_many_machines(fresh, tmp_path, with_ray=True)


def test_every_command_of_the_command_line_is_run_by_a_test_above():
    calls = [node for node in ast.walk(ast.parse(Path(__file__).read_text())) if isinstance(node, ast.Call)]
    run = [
        [argument.value for argument in call.args[:2] if isinstance(argument, ast.Constant)]
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "fresh"
    ]
    for command in commands():
        assert list(command) in [words[: len(command)] for words in run], f"no test runs posestill {' '.join(command)}"


def commands(group=None, before=()):
    """Every command that typer knows, each as the words that call it."""
    group = group or typer.main.get_command(app)
    found = []
    for name, command in group.commands.items():
        words = (*before, name)
        found += commands(command, words) if hasattr(command, "commands") else [words]
    return found
