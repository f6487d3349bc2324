import json
import subprocess
import sys

import numpy as np
import pytest

from posestill.cli.main import main
from posestill.draw import write_image
from posestill.models.pose_model import PoseModel
from posestill.skeletons import COCO_17, COCO_WHOLEBODY
from tests.conftest import DOTS, small_model

RECIPE = """
data:
  train: {name: synthetic, people: 16, size: [64, 48]}
  val: {name: synthetic, people: 8, size: [64, 48], seed: 9}
model:
  size: [32, 24]
  backbone: {name: small_resnet, channels: [8, 16], max_pool: false}
  head: flat_fc
  codec: coords
method: supervised
train: {steps: 4, batch_size: 4, log_every: 2, optimiser: {learning_rate: 1e-3, warmup_steps: 2}}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def posestill(monkeypatch, capsys):
    """Runs a command in this process; returns its exit status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["posestill", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_recipe_trains_evaluates_and_predicts(posestill, recipe, tmp_path):
    status, out, _ = posestill("train", recipe, "--out", tmp_path / "run")
    assert status == 0
    assert f"model: {tmp_path / 'run' / 'best'}" in out
    status, out, _ = posestill(
        "evaluate", tmp_path / "run" / "best", "--recipe", tmp_path / "run", "--no-flip-test", "--json",
        tmp_path / "f.json", "--save-results", tmp_path / "r.json",
    )  # fmt: skip
    assert status == 0
    assert "flip test: False, input size: [32, 24]" in out
    assert "no trained confidence" in out
    assert json.loads((tmp_path / "f.json").read_text())["conditions"]["persons"] == 8
    assert len(json.loads((tmp_path / "r.json").read_text())) == 8
    write_image(tmp_path / "photo.png", np.full((60, 40, 3), 90, dtype=np.uint8))
    status, out, _ = posestill("predict", tmp_path / "run" / "best", tmp_path / "photo.png", "--out", tmp_path / "p")
    assert status == 0
    assert "1 persons in 1 images" in out
    entry = json.loads((tmp_path / "p" / "predictions.json").read_text())[0]
    assert len(entry["keypoints"]) == 51
    assert (tmp_path / "p" / "photo.png").exists()


@pytest.mark.parametrize("verb", ["distil", "distill"])
def test_distil_takes_a_teacher_and_asks_for_one(posestill, recipe, tmp_path, verb):
    small_model("heatmap", skeleton=COCO_17).save(tmp_path / "t")
    status, _, err = posestill(verb, recipe, "--out", tmp_path / "run")
    assert (status, "distil needs a teacher" in err) == (2, True)
    status, _, _ = posestill(
        verb, recipe, "--set", "method=tcd", "--teacher", tmp_path / "t", "--out", tmp_path / "run"
    )
    assert status == 0
    assert PoseModel.load(tmp_path / "run" / "best").lineage["teacher"]["path"] == str(tmp_path / "t")


def test_a_run_can_be_resumed_and_its_settings_printed(posestill, recipe, tmp_path):
    posestill("train", recipe, "--out", tmp_path / "run")
    status, _, _ = posestill("train", recipe, "--out", tmp_path / "run", "--resume")
    assert status == 0
    status, out, _ = posestill("config", tmp_path / "run", "--set", "train.steps=9")
    assert status == 0
    assert "steps: 9" in out


def test_a_dry_run_writes_nothing(posestill, recipe, tmp_path):
    status, out, _ = posestill("train", recipe, "--out", tmp_path / "run", "--dry-run")
    assert status == 0
    assert "fits; the first batch's losses: task" in out
    assert not (tmp_path / "run").exists()


def test_list_shows_every_table(posestill):
    status, out, _ = posestill("list")
    assert status == 0
    assert "Needs data/coco, timm's weights of resnet18, a teacher in runs/coco-teacher/best." in out
    for word in ("tcd", "reconstructed", "heatmap", "deconv", "small_resnet", "synthetic", "coco-sample", "bundled"):
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "RECIPE", "--set", "train.stpes=3"], "did you mean 'steps'"),
        (["train", "RECIPE", "--set", "model.backbone.chanels=[1]"], "did you mean 'channels'"),
        (["train", "nosuch"], "no recipe 'nosuch'"),
        (["train", "RECIPE", "--set", "model.size=[33, 24]", "--set", "model.head=deconv", "--set",
          "model.codec={name: heatmap, stride: 2}"], r"(33, 24) is not a multiple of the heatmap stride 2"),
        (["train", "RECIPE", "--set", "model.backbone=resnet18"], "take (32, 32)"),
        (["train", "RECIPE", "--set", "data.train={name: coco, annotations: gone, images: x}"], "no annotation file"),
        (["train", "RECIPE", "--set", "model.init_from=gone"], "no weights gone/model.safetensors"),
        (["distil", "RECIPE", "--teacher", "gone", "--set", "method=tcd"], "no model folder gone"),
        (["evaluate", "gone", "--recipe", "RECIPE"], "no model in gone"),
        (["evaluate"], "needs a model folder, or --results"),
        (["evaluate", "--results", "x.json"], "needs --annotations"),
        (["evaluate", "--results", "gone.json", "--annotations", "gone2.json"], "gone2.json"),
        (["evaluate", "MODEL"], "--annotations with --images, or --recipe"),
        (["evaluate", "MODEL", "--recipe", "RECIPE"], "(top, left_side, right_side, ...) and the data 17"),
        (["predict", "MODEL", "gone.jpg"], "no image or folder gone.jpg"),
        (["predict", "MODEL", "EMPTY"], "holds no images"),
        (["config", "RECIPE", "--plugin", "gone.py"], "--plugin: no Python file"),
        (["nosuchverb"], "nosuchverb"),
    ],
)  # fmt: skip
def test_a_mistake_gets_a_short_message_exit_status_2_and_no_traceback(
    posestill, recipe, tmp_path, arguments, message, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    small_model().save(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    names = {"RECIPE": recipe, "MODEL": tmp_path / "model", "EMPTY": tmp_path / "empty"}
    status, _, err = posestill(*(names.get(each, each) for each in arguments))
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 12


def test_boxes_come_from_a_coco_file_or_a_plain_mapping(posestill, tmp_path, capsys):
    small_model().save(tmp_path / "model")
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name, np.full((60, 40, 3), 90, dtype=np.uint8))
    (tmp_path / "plain.json").write_text(json.dumps({"a.png": [[0, 0, 20, 30], [10, 10, 20, 30]]}))
    coco = {
        "images": [{"id": 7, "file_name": "b.png"}], "categories": [{"id": 1, "keypoints": list(DOTS.names)}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 20, 30]}],
    }  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    for boxes, people, ids in (("plain.json", 2, {1}), ("coco.json", 1, {7})):
        status, out, err = posestill(
            "predict",
            tmp_path / "model",
            tmp_path / "images",
            "--boxes",
            tmp_path / boxes,
            "--out",
            tmp_path / boxes[:4],
        )
        assert (status, f"{people} persons in 1 images" in out) == (0, True), err
        entries = json.loads((tmp_path / boxes[:4] / "predictions.json").read_text())
        assert {entry["image_id"] for entry in entries} == ids
    (tmp_path / "wrong.json").write_text("[1]")
    status, _, err = posestill("predict", tmp_path / "model", tmp_path / "images", "--boxes", tmp_path / "wrong.json")
    assert (status, "is neither a COCO annotation file nor" in err) == (2, True)
    (tmp_path / "other.json").write_text(json.dumps({"c.png": [[0, 0, 1, 1]]}))
    status, _, err = posestill("predict", tmp_path / "model", tmp_path / "images", "--boxes", tmp_path / "other.json")
    assert (status, "names none of the 2 images" in err) == (2, True)


def test_help_and_scoring_a_results_file_import_no_torch(tmp_path, coco_sample):
    truth = coco_sample / "annotations" / "val.json"
    content = json.loads(truth.read_text())
    results = [
        {"image_id": each["image_id"], "category_id": 1, "keypoints": each["keypoints"], "score": 0.9}
        for each in content["annotations"]
        if each["num_keypoints"]
    ]
    (tmp_path / "r.json").write_text(json.dumps(results))
    program = (
        "import sys\n"
        "from posestill.cli.main import main\n"
        "sys.argv = ['posestill', 'evaluate', '--annotations', {!r}, '--results', {!r}, '--json', {!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "sys.argv = ['posestill', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    ).format(str(truth), str(tmp_path / "r.json"), str(tmp_path / "out.json"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["AP"] == pytest.approx(1)
    assert {"AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"} <= set(figures)


def test_a_wholebody_results_file_gets_a_table_of_its_parts(posestill, tmp_path):
    counts = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
    rng = np.random.default_rng(0)
    lists = {
        name: np.concatenate([rng.uniform(0, 200, (count, 2)), np.full((count, 1), 2)], axis=1).ravel().tolist()
        for name, count in counts.items()
    }
    lists["righthand_kpts"] = [0] * 63
    entry = {"image_id": 1, "category_id": 1, **lists}
    truth = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.names)}],
        "annotations": [{"id": 1, "bbox": [0, 0, 200, 200], "area": 20000, "iscrowd": 0, **entry}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps([{**entry, "score": 0.5}]))
    files = ("--annotations", tmp_path / "truth.json", "--results", tmp_path / "results.json")
    status, out, _ = posestill("evaluate", *files, "--wholebody", "--json", tmp_path / "f.json")
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    first = rows.index(["part", "AP", "AR"]) + 1
    assert rows[first : first + 7] == [
        ["wholebody", "100.0", "100.0"], ["body", "100.0", "100.0"], ["foot", "100.0", "100.0"],
        ["face", "100.0", "100.0"], ["lefthand", "100.0", "100.0"], ["righthand", "-1", "-1"],
        ["hand", "100.0", "100.0"],
    ]  # fmt: skip
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["parts"]["righthand"]["AP"] == -1
    assert figures["AP"] == figures["parts"]["wholebody"]["AP"] == pytest.approx(1)
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "1.png", np.zeros((200, 200, 3), dtype=np.uint8))
    small_model(skeleton=COCO_WHOLEBODY).save(tmp_path / "model")
    data = ("--annotations", tmp_path / "truth.json", "--images", tmp_path / "images", "--wholebody")
    status, out, _ = posestill("evaluate", tmp_path / "model", *data, "--save-results", tmp_path / "r.json")
    assert (status, "AP_righthand     -1" in out) == (0, True)
    assert set(counts) <= set(json.loads((tmp_path / "r.json").read_text())[0])
    status, _, err = posestill("evaluate", *files, "--wholebody", "--metainfo", tmp_path / "m.json")
    assert (status, "brings its own skeleton" in err) == (2, True)


def test_an_unwritable_place_is_a_message_not_a_traceback(posestill, recipe, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = posestill("train", recipe, "--out", tmp_path / "file" / "run")
    assert status == 2
    assert "Not a directory" in err or "exists" in err


def test_an_interrupted_run_says_how_to_go_on(posestill, recipe, tmp_path, monkeypatch):
    def interrupt(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("posestill.engine.fit.fit", interrupt)
    status, _, err = posestill("train", recipe, "--out", tmp_path / "run")
    assert (status, "--resume goes on" in err) == (130, True)


def test_a_loaders_mistake_is_told_without_its_traceback(posestill, tmp_path, coco_sample):
    import shutil

    shutil.copytree(coco_sample / "images", tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"broken")
    source = f"{{name: coco, annotations: {coco_sample / 'annotations' / 'val.json'}, images: {tmp_path / 'images'}}}"
    status, _, err = posestill(
        "train", "coco-sample", "--out", tmp_path / "run",
        "--set", f"data.train={source}", "--set", f"data.val={source}",
        "--set", "train.workers=1", "--set", "model.backbone=small_resnet", "--set", "model.size=[64, 64]",
        "--set", "model.head={name: deconv, channels: [8]}", "--set", "model.codec={name: heatmap, stride: 16}",
    )  # fmt: skip
    assert status == 2
    last = [line for line in err.splitlines() if line.startswith("posestill: ")]
    assert len(last) == 1
    assert "cannot be decoded" in last[0]
    assert "Traceback" not in err


def test_a_plugins_head_can_be_evaluated_and_used(posestill, recipe, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from posestill.catalog import HEADS\n"
        "from posestill.models.heads import FlatFcConfig\n"
        "class MineConfig(FlatFcConfig):\n    '''Mine.'''\n"
        "HEADS['mine'] = MineConfig\n"
    )
    from posestill import catalog

    try:
        run = tmp_path / "run"
        assert posestill("train", recipe, "--plugin", plugin, "--set", "model.head=mine", "--out", run)[0] == 0
        catalog.HEADS.pop("mine")
        assert "no 'mine' among the heads" in posestill("evaluate", run / "best", "--recipe", recipe)[2]
        assert posestill("evaluate", run / "best", "--recipe", recipe, "--plugin", plugin)[0] == 0
    finally:
        catalog.HEADS.pop("mine", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": [{"name": "p", "keypoints": ["a"]}]}, "'id' is missing"),
        ({"images": [{"file_name": "x.png"}]}, "'id' is missing"),
        ({"annotations": None}, "malformed"),
        ({"annotations": [3]}, "malformed"),
        ({"categories": [{"id": 1, "keypoints": ["a", "b"], "skeleton": [[0, 1]]}]}, "skeleton is 1-based"),
        ({"categories": [{"id": 1, "keypoints": ["a", "a"]}]}, "share a name"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1], "keypoints": "text"}]}, "keypoint numbers"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1], "area": "big"}]}, "malformed"),
    ],
)
def test_a_malformed_annotation_file_is_named(posestill, tmp_path, change, message):
    content = {
        "images": [{"id": 1, "file_name": "x.png"}],
        "categories": [{"id": 1, "name": "p", "keypoints": ["a", "b"]}],
        "annotations": [],
        **change,
    }
    (tmp_path / "bad.json").write_text(json.dumps(content))
    (tmp_path / "r.json").write_text("[]")
    status, _, err = posestill("evaluate", "--annotations", tmp_path / "bad.json", "--results", tmp_path / "r.json")
    assert (status, message in err, "Traceback" in err) == (2, True, False), err


def test_images_of_one_name_are_refused(posestill, tmp_path):
    small_model().save(tmp_path / "model")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "a.png", np.zeros((9, 9, 3), dtype=np.uint8))
    status, _, err = posestill("predict", tmp_path / "model", tmp_path / "one", tmp_path / "two")
    assert (status, "several images are called a" in err) == (2, True)


def test_evaluate_starts_from_the_recipes_settings_and_takes_the_given_ones(posestill, recipe, tmp_path):
    posestill("train", recipe, "--out", tmp_path / "run")
    best, data = tmp_path / "run" / "best", ("--recipe", recipe, "--set", "evaluate.flip_test=false")
    assert "flip test: False" in posestill("evaluate", best, *data)[1]
    assert "flip test: True" in posestill("evaluate", best, *data, "--flip-test")[1]
    assert "person score: mean" in posestill("evaluate", best, *data, "--rescoring", "mean")[1]
    assert "rescoring: Input should be" in posestill("evaluate", best, *data, "--rescoring", "other")[2]


@pytest.mark.parametrize(
    "content", ["names: person\nkpt_shape: [2, 3]\ntrain: .\n", "path: 3\nkpt_shape: [2, 3]\ntrain: .\n"]
)
def test_a_malformed_yolo_file_is_named(posestill, tmp_path, content):
    (tmp_path / "data.yaml").write_text(content)
    status, _, err = posestill("data", "check", tmp_path / "data.yaml", "--sheet", tmp_path / "s.png")
    assert status == 2
    assert "data.yaml" in err
    assert "Traceback" not in err
    assert posestill("data", "check", tmp_path, "--sheet", tmp_path / "s.xyz")[0] == 2
