import csv
import json

import numpy as np
import pytest

from posestill.files import Outputs
from posestill.predict.results import Told, open_results
from posestill.schema import UserError
from tests.conftest import DOTS

POSE = np.arange(12, dtype=float).reshape(1, 4, 3) / 7
TOLD = Told(
    name="a, b.mp4", image_id=5, category_id=1, size=(40, 30), boxes=np.array([[1.0, 2, 3, 4]]),
    box_score=np.array([0.5]),
    poses=POSE, score=np.array([0.8]), tracks=np.array([3]), frame=2, seconds=0.2,
)  # fmt: skip


def written(tmp_path, suffix, *told):
    outputs = Outputs("predict")
    path = outputs.claim(tmp_path / "new" / f"r.{suffix}", "--save-results")
    results = open_results(path, outputs, DOTS)
    for each in told:
        results.add(each)
    results.close()
    return path


def test_json_is_a_coco_results_list(tmp_path):
    (entry, other) = json.loads(written(tmp_path, "json", TOLD, TOLD).read_text())
    assert entry == other
    assert entry.pop("keypoints") == POSE.round(3).reshape(-1).tolist()
    assert entry == {
        "image_id": 5, "category_id": 1, "file_name": "a, b.mp4", "score": 0.8, "frame": 2, "track_id": 3,
    }  # fmt: skip


def test_json_lines_name_the_keypoints_and_hold_null_for_what_is_no_number(tmp_path):
    broken = POSE.copy()
    broken[0, 1, 0] = np.nan
    nobody = Told(
        **{**TOLD.__dict__, "poses": np.zeros((0, 4, 3)), "score": np.zeros(0), "tracks": None, "frame": None}
    )
    path = written(tmp_path, "jsonl", Told(**{**TOLD.__dict__, "poses": broken}), nobody)
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["people"][0]["keypoints"]["left_side"] == [None, 0.57, 0.7143]
    assert (first["frame"], first["seconds"], first["people"][0]["track"]) == (2, 0.2, 3)
    assert second == {"file_name": "a, b.mp4", "image_id": 5, "height": 40, "width": 30, "people": []}


def test_csv_is_a_row_a_person(tmp_path):
    (row,) = csv.DictReader(written(tmp_path, "csv", TOLD).open(newline=""))
    assert (row["file_name"], row["frame"], row["person"], row["box_h"]) == ("a, b.mp4", "2", "3", "4.0")
    assert (row["bottom_x"], row["bottom_y"], row["bottom_score"]) == ("1.286", "1.429", "1.571")
    assert len(row) == 10 + 3 * len(DOTS)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv"])
def test_the_same_command_replaces_what_it_wrote_and_nothing_half_lies_beside_it(tmp_path, suffix):
    path = written(tmp_path, suffix, TOLD)
    before = path.read_bytes()
    assert written(tmp_path, suffix, TOLD).read_bytes() == before
    assert {each.name for each in path.parent.iterdir()} == {path.name, ".posestill"}


def test_a_format_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--save-results .*r.xml: name it .json .* .jsonl .* .csv"):
        open_results(tmp_path / "r.xml", Outputs("predict"), DOTS)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    results = open_results(tmp_path / "file" / "r.jsonl", Outputs("predict"), DOTS)
    (tmp_path / "file").write_text("")  # where a folder was to be
    with pytest.raises(UserError, match=r"r.jsonl could not be written \(.*\): make room, or name another place"):
        results.add(TOLD)


def test_lines_that_were_written_whole_outlive_an_error_and_a_half_one_does_not(tmp_path):
    outputs = Outputs("predict")
    results = open_results(outputs.claim(tmp_path / "r.jsonl", "--save-results"), outputs, DOTS)
    results.add(TOLD)
    results._file.write('{"half": ')
    results.abandon()
    (line,) = (tmp_path / "r.jsonl").read_text().splitlines()
    assert json.loads(line)["image_id"] == 5
    outputs = Outputs("predict")
    results = open_results(outputs.claim(tmp_path / "r.json", "--save-results"), outputs, DOTS)
    results.add(TOLD)
    results.abandon()
    assert {each.name for each in tmp_path.iterdir()} == {"r.jsonl", ".posestill"}
