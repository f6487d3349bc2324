import json
import os

import numpy as np
import pytest

from posestill.data.image_files import read_image
from posestill.draw import write_image
from posestill.files import Outputs
from posestill.models.threads import ThreadTrial
from posestill.predict import files
from posestill.predict.files import drawings, find_images, find_pictures, predict_files
from posestill.predict.predictor import Predictor
from posestill.schema import UserError
from tests.conftest import small_model

GREY = np.full((40, 30, 3), 90, dtype=np.uint8)


def photos(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, GREY)
    return folder


def names_of(*paths, **options):
    return list(find_pictures(paths, **options).names)


def test_folders_are_read_with_all_folders_in_them_and_hidden_ones_are_not(tmp_path):
    photos(tmp_path / "p", "b.png", "a.png", "one/a.png", "one/two/C.JPG", ".hidden/d.png", "one/.e.png")
    (tmp_path / "p" / "notes.txt").write_text("")
    (tmp_path / "p" / "one" / "README").write_text("")
    found = find_pictures([tmp_path / "p"])
    assert list(found.names) == ["a.png", "b.png", "one/a.png", "one/two/C.JPG"]
    assert found.passed_over() == "2 other files in these folders are no pictures by their names (.txt, README)"
    assert find_pictures([tmp_path / "p" / "b.png"]).passed_over() == ""


def test_drawings_of_an_earlier_run_are_no_pictures_to_look_at(tmp_path):
    folder = photos(tmp_path / "p", "a.jpg", "predictions/a.png")
    assert names_of(folder, without=folder / "predictions") == ["a.jpg"]
    assert names_of(folder, without=folder) == ["a.jpg", "predictions/a.png"]
    assert names_of(folder, without=tmp_path / "elsewhere") == ["a.jpg", "predictions/a.png"]


def test_a_picture_that_is_given_twice_is_one(tmp_path):
    folder = photos(tmp_path / "p", "a.png")
    (tmp_path / "link.png").symlink_to(folder / "a.png")
    assert names_of(folder, folder / "a.png", folder / ".." / "p", tmp_path / "link.png") == ["a.png"]


def test_pictures_of_one_name_are_told_apart_by_their_folders(tmp_path):
    one, two = photos(tmp_path / "one" / "cam", "a.png", "b.png"), photos(tmp_path / "two" / "cam", "a.png", "A.png")
    expected = ["one/cam/a.png", "b.png", "A.png", "two/cam/a.png"]
    if len(list(two.iterdir())) == 2:  # elsewhere case is no difference
        assert names_of(one, two) == expected


def test_drawings_have_a_name_each(tmp_path):
    assert drawings(["a.jpg", "b.jpg", "sub/a.jpg"]) == ["a.png", "b.png", "sub/a.png"]
    assert drawings(["a.jpg", "a.png", "A.webp"]) == ["a.jpg.png", "a.png.png", "A.webp.png"]
    assert len({each.casefold() for each in drawings(["a.jpg", "a.jpg.png", "a.jpg.jpg", "a.png"])}) == 4


@pytest.mark.parametrize("name", ["gone", "\ud800", "x" * 300, "pipe"])
def test_what_is_no_picture_and_no_folder_is_named(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="no image or folder"):
        find_images([tmp_path / name])
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no images, nor do the folders in it"):
        find_images([str(tmp_path / "empty")])


def test_what_cannot_be_read_is_passed_over_and_the_rest_is_written(tmp_path):
    folder = photos(tmp_path / "p", "a.png", "b.png", "c.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:-20])
    os.mkfifo(folder / "d.png")
    (folder / "c\x1b[2J.png").write_bytes(b"")
    wanted, _ = find_images([folder])
    done = predict_files(Predictor(small_model()), wanted, out=tmp_path / "out")
    assert (done.people, done.images, len(done.unreadable)) == (2, 2, 3)
    assert sorted(line.split("image ")[1].split("/")[-1] for line in done.unreadable) == [
        "b.png is cut off: fetch it again",
        "c\\x1b[2J.png is empty: fetch it again",
        "d.png is a pipe, a socket or a device: a file is wanted",
    ]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [(entry["file_name"], entry["image_id"]) for entry in entries] == [("a.png", 1), ("c.png", 4)]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "c.png", "predictions.json", ".posestill"}
    assert read_image(tmp_path / "out" / "a.png").shape == GREY.shape


def test_nothing_is_written_where_no_picture_can_be_read(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(UserError, match=r"none of the 1 images can be read; image .*a.png cannot be decoded"):
        predict_files(Predictor(small_model()), find_images([tmp_path / "a.png"])[0], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_everything_is_checked_before_anything_is_written(tmp_path):
    folder = photos(tmp_path / "p", "a.png", "b.png")
    photos(tmp_path / "out", "b.png")
    before = (tmp_path / "out" / "b.png").read_bytes()
    with pytest.raises(UserError, match=r"b.png is there already, and not what predict wrote there"):
        predict_files(Predictor(small_model()), find_images([folder])[0], out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]
    assert (tmp_path / "out" / "b.png").read_bytes() == before


def test_a_drawing_that_cannot_be_written_ends_the_command_and_leaves_no_half_file(tmp_path, monkeypatch):
    folder = photos(tmp_path / "p", "a.png", "b.png")
    wanted, _ = find_images([folder])
    (tmp_path / "out").mkdir()
    real = Outputs.write

    def full(self, path, write, **options):
        if path.name == "b.png":

            def write(draft):
                draft.write_bytes(b"half")
                raise OSError(28, "No space left on device")

        real(self, path, write, **options)

    monkeypatch.setattr(Outputs, "write", full)
    with pytest.raises(UserError, match=r"b.png could not be written \(No space left on device\)"):
        predict_files(Predictor(small_model()), wanted, out=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", ".posestill"}


def test_detections_name_pictures_by_numbers_that_annotations_explain(tmp_path):
    folder = photos(tmp_path / "p", "a.png", "b.png")
    found = [
        {"image_id": 8, "category_id": 3, "bbox": [1, 2, 20, 30], "score": 0.9},
        {"image_id": 8, "category_id": 3, "bbox": [5, 6, 20, 30], "score": 0.1},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.9},  # of another category
    ]
    truth = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
        "annotations": [], "categories": [{"id": 3, "name": "person", "keypoints": ["left_eye", "right_eye"]}],
    }  # fmt: skip
    (tmp_path / "det.json").write_text(json.dumps(found))
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    with pytest.raises(UserError, match=r"names none of the 2 images"):
        find_images([folder], tmp_path / "det.json")
    wanted, _ = find_images([folder], tmp_path / "det.json", annotations=tmp_path / "gt.json", threshold=0.5)
    (only,) = wanted
    assert (only.name, only.image_id, only.category_id, only.boxes.tolist()) == ("b.png", 8, 3, [[1, 2, 20, 30]])


def test_a_predictor_reads_an_image_file_by_its_name(tmp_path):
    write_image(tmp_path / "a.png", GREY)
    predictor = Predictor(small_model())
    np.testing.assert_array_equal(predictor(str(tmp_path / "a.png")), predictor(GREY))
    np.testing.assert_array_equal(predictor(tmp_path / "a.png", [[0, 0, 9, 9]]), predictor(GREY, [[0, 0, 9, 9]]))


def test_the_fastest_number_of_threads_is_told_before_anything_is_predicted(tmp_path, monkeypatch, capsys):
    found = []
    monkeypatch.setattr(files, "try_threads", lambda work: (found.append(work()), ThreadTrial({1: 0.01, 2: 0.02}))[1])
    write_image(tmp_path / "a.png", np.full((60, 40, 3), 90, dtype=np.uint8))
    predictor = Predictor(small_model(), device="cpu")
    assert predict_files(predictor, find_images([tmp_path / "a.png"])[0], out=tmp_path / "out").images == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "threads: 1 of 2 threads is the fastest here (1: 10 ms, 2: 20 ms)"
    assert told[1].startswith("predicting 1/1")
    assert found[0].shape == (1, 4, 3)  # the whole work for one person was tried
