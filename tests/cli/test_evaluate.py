import json

import numpy as np
import pytest

from posestill.draw import write_image
from posestill.skeletons import COCO_17, COCO_WHOLEBODY
from tests.conftest import small_model


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
        ({"categories": [{"name": "p", "keypoints": ["a"]}]}, "id is missing"),
        ({"images": [{"file_name": "x.png"}]}, "id is missing"),
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


def test_evaluate_starts_from_the_recipes_settings_and_takes_the_given_ones(posestill, recipe, tmp_path):
    posestill("train", recipe, "--out", tmp_path / "run")
    best, data = tmp_path / "run" / "best", ("--recipe", recipe, "--set", "evaluate.flip_test=false")
    assert "flip test: False" in posestill("evaluate", best, *data)[1]
    assert "flip test: True" in posestill("evaluate", best, *data, "--flip-test")[1]
    assert "person score: mean" in posestill("evaluate", best, *data, "--rescoring", "mean")[1]
    assert "rescoring: Input should be" in posestill("evaluate", best, *data, "--rescoring", "other")[2]


def test_options_that_would_do_nothing_are_refused(posestill, tmp_path):
    data = ("--annotations", "truth.json", "--results", "results.json")
    status, _, err = posestill("evaluate", "model", *data, "--boxes", "b.json", "--save-results", tmp_path / "out.json")
    assert (status, "leave MODEL, --boxes, --save-results out" in err) == (2, True)
    status, _, err = posestill("evaluate", "model", "--recipe", "sample", "--annotations", "truth.json", "--wholebody")
    assert (status, "leave --annotations, --wholebody out" in err) == (2, True)
    status, _, err = posestill("evaluate", "model", "--annotations", "a.json", "--images", ".", "--set", "a.b=1")
    assert (status, "--set changes the recipe of --recipe, and there is none: leave --set out" in err) == (2, True)
