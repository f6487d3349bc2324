import json
import os
from pathlib import Path

import numpy as np
import pytest

from posestill.draw import write_image
from posestill.predict.files import drawings, find_images, find_pictures
from posestill.schema import UserError

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
    with pytest.raises(UserError, match="holds no images and no videos, nor do the folders in it"):
        find_images([str(tmp_path / "empty")])


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


def test_patterns_stand_for_the_files_that_they_match_in_order(tmp_path):
    folder = photos(tmp_path / "p", "b.png", "a.png", "c.jpg", "deep/d.png", "[x].png")
    assert names_of(folder / "?.png") == ["a.png", "b.png"]
    assert names_of(folder / "**" / "d.png") == ["d.png"]
    assert names_of(folder / "[x].png") == ["[x].png"]  # a file of that name is there
    with pytest.raises(UserError, match=r"no image or folder .*\*\.webp"):
        find_pictures([folder / "*.webp"])


def test_what_is_missing_beside_others_is_told_and_the_others_are_found(tmp_path):
    folder = photos(tmp_path / "p", "a.png")
    (tmp_path / "empty").mkdir()
    found = find_pictures([tmp_path / "gone.png", folder, tmp_path / "empty"])
    assert found.names == ("a.png",)
    missing, empty = found.problems
    assert missing == f"no image or folder {tmp_path / 'gone.png'}"
    assert empty.startswith(f"folder {tmp_path / 'empty'} holds no images and no videos")


def test_videos_and_cameras_stand_among_the_pictures_and_have_no_image_id(tmp_path):
    folder = photos(tmp_path / "p", "a.png", "c.png")
    (folder / "b.MP4").write_bytes(b"")
    wanted, _ = find_images([folder, "camera:0"])
    assert [(each.called, each.image_id, each.is_moving) for each in wanted] == [
        ("a.png", 1, False), ("b.MP4", 0, True), ("c.png", 2, False), ("camera-0", 0, True),
    ]  # fmt: skip
    assert drawings(["a.png", "b.MP4", "camera-0"], [False, True, True]) == ["a.png", "b.mp4", "camera-0.mp4"]


def test_boxes_name_no_frames_of_a_video(tmp_path):
    folder = photos(tmp_path / "p", "a.png")
    (folder / "b.mp4").write_bytes(b"")
    (tmp_path / "boxes.json").write_text(json.dumps({"a.png": [[0, 0, 9, 9]]}))
    wanted, found = find_images([folder], tmp_path / "boxes.json")
    assert [each.called for each in wanted] == ["a.png"]
    assert len(found.problems) == 1
    assert "b.mp4: --boxes name no frames of a video: give --detector" in found.problems[0]
    with pytest.raises(UserError, match="--boxes name no frames of a video"):
        find_images([folder / "b.mp4"], tmp_path / "boxes.json")


def test_a_pattern_does_not_mean_the_drawings_of_an_earlier_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path, "a.png", "drawn/a.png", "drawn/b/c.png")
    for pattern in ("*", "**/*.png"):
        assert names_of(Path(pattern), without=Path("drawn")) == ["a.png"]
    with pytest.raises(UserError, match="no image or folder"):
        names_of(Path("*/*"), without=Path("drawn"))
