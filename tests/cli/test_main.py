import json
import subprocess
import sys

import pytest

from posestill.skeletons import COCO_17
from tests.conftest import small_model
from tests.networks import write_photos


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


def test_help_version_and_scoring_a_results_file_import_no_torch(tmp_path, sample_folder):
    truth = sample_folder / "annotations" / "person_keypoints_val.json"
    content = json.loads(truth.read_text())
    results = [
        {"image_id": each["image_id"], "category_id": 1, "keypoints": each["keypoints"], "score": 0.9}
        for each in content["annotations"]
        if each["num_keypoints"]
    ]
    (tmp_path / "r.json").write_text(json.dumps(results))
    scoring = ["--annotations", str(truth), "--results", str(tmp_path / "r.json"), "--json", str(tmp_path / "f.json")]
    program = (
        "import sys\n"
        "from posestill.cli.main import main\n"
        f"for arguments in (['evaluate', *{scoring}], ['--help'], ['--version'], ['list', 'recipes']):\n"
        "    sys.argv = ['posestill', *arguments]\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert not end.code, arguments\n"
        "    assert 'torch' not in sys.modules, f'{arguments} imported torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["AP"] == pytest.approx(1)
    assert {"AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"} <= set(figures)


def test_help_tells_each_verb_in_one_whole_sentence_at_80_columns(posestill, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = posestill("--help")
    assert status == 0
    told = dict(line.split(maxsplit=1) for line in out.partition("Commands:\n")[2].splitlines())
    assert list(told) == [
        "quickstart", "train", "distil", "evaluate", "predict", "label", "export", "page", "push", "bench", "compare",
        "list", "config", "convert", "data", "teacher",
    ]  # fmt: skip
    for verb, sentence in told.items():
        assert sentence.endswith("."), verb
        assert not sentence.endswith("..."), f"the help of {verb} is cut"


def test_an_unwritable_place_is_a_message_not_a_traceback(posestill, recipe, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = posestill("train", recipe, "--out", tmp_path / "file" / "run")
    assert status == 2
    assert "Not a directory" in err or "exists" in err


def test_a_loaders_mistake_is_told_without_its_traceback(posestill, tmp_path, sample_folder):
    annotations = sample_folder / "annotations" / "person_keypoints_val.json"
    (tmp_path / "images").mkdir()
    for each in json.loads(annotations.read_text())["images"]:
        (tmp_path / "images" / each["file_name"]).write_bytes(b"broken")
    source = f"{{name: coco, annotations: {annotations}, images: {tmp_path / 'images'}}}"
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "sample", "--seeds", 3), "--seeds counts the trainings of --control: give that, too"),
        (("export", "model", "--out", "e", "--set", "a.b=1"), "there is none: leave --set out"),
        (("export", "model", "--out", "e", "--metainfo", "m.json"), "there are none: leave --metainfo out"),
        (("export", "model", "--out", "e", "--recipe", "sample", "--metainfo", "m.json"), "leave --metainfo out"),
        (("bench", "--loader", "sample", "--batch", "4", "--to", "onnx"), "leave --to, --batch out"),
        (("convert", "model", "--to", "transformers", "--out", "e", "--metainfo", "m"), "leave --metainfo out"),
        (
            ("predict", "model", "photos", "--box-threshold", 0.5, "--find-every", 3),
            "--box-threshold, --find-every out",
        ),
        (("evaluate", "model", "--annotations", "a.json", "--images", ".", "--oks-nms", 0.9), "leave --oks-nms out"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(posestill, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    small_model(skeleton=COCO_17).save(tmp_path / "model")
    write_photos(tmp_path / "photos", 1)
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.names)}
    (tmp_path / "a.json").write_text(json.dumps({"images": [], "annotations": [], "categories": [category]}))
    status, _, err = posestill(*words)
    assert (status, said in err) == (2, True), err
