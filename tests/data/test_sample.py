import json
from collections import Counter

import cv2
import numpy as np
import pytest
import yaml

from posestill.data.coco import CocoConfig
from posestill.data.image_files import image_size
from posestill.data.synthetic.sample import _scene, write_sample
from posestill.data.yolo import YoloConfig
from posestill.schema import UserError
from posestill.skeletons import COCO_17


def annotations(folder, split):
    return json.loads((folder / "annotations" / f"person_keypoints_{split}.json").read_text())


@pytest.mark.parametrize(("split", "pictures"), [("train", 60), ("val", 20)])
def test_a_coco_tree_opens_as_a_source_with_the_people_that_its_file_lists(sample_folder, split, pictures):
    source = CocoConfig(root=sample_folder, split=split).build()
    assert source.skeleton == COCO_17.model_copy(update={"pck_pair": None})
    assert len(source.image_ids) == pictures
    people = [person for person in source.people if not person.crowd]
    assert pictures < len(people) < 4 * pictures
    assert 0 < sum(person.keypoints is None for person in people) < 0.3 * len(people)
    assert any(person.crowd for person in source.people)
    per_picture = Counter(person.image_id for person in people)
    assert set(per_picture) == set(source.image_ids)
    assert {1, 2, 3, 4} == set(per_picture.values())


def test_an_annotation_file_has_every_field_of_coco(sample_folder):
    content = annotations(sample_folder, "val")
    assert set(content) == {"info", "images", "annotations", "categories"}
    assert all(set(image) == {"id", "file_name", "width", "height"} for image in content["images"])
    (category,) = content["categories"]
    assert (category["id"], category["name"], category["supercategory"]) == (1, "person", "person")
    assert category["keypoints"] == list(COCO_17.names)
    assert [0, 1] not in category["skeleton"]
    assert [16, 14] in category["skeleton"]  # left ankle to left knee, counted from 1
    fields = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "num_keypoints", "keypoints"}
    assert all(set(entry) == fields for entry in content["annotations"])
    everything = [entry for split in ("train", "val") for entry in annotations(sample_folder, split)["annotations"]]
    assert [entry["id"] for entry in everything] == list(range(1, len(everything) + 1))
    for entry in everything:
        assert entry["num_keypoints"] == sum(value > 0 for value in entry["keypoints"][2::3])
        assert not (entry["iscrowd"] and entry["num_keypoints"])


def test_pictures_are_jpeg_and_png_files_and_some_lie_turned_in_their_file(sample_folder):
    content = annotations(sample_folder, "train")
    suffixes = Counter(image["file_name"].rpartition(".")[2] for image in content["images"])
    assert suffixes == {"jpg": 45, "png": 15}
    turned = Counter()
    for image in content["images"]:
        path = sample_folder / "train" / image["file_name"]
        labelled = (image["height"], image["width"])
        assert image_size(path) == cv2.imread(str(path)).shape[:2] == labelled
        stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if not np.array_equal(stored, cv2.imread(str(path))):
            turned[stored.shape[:2], labelled] += 1
    assert turned == {((240, 320), (320, 240)): 5, ((240, 320), (240, 320)): 2}  # by a quarter, or upside down


def test_a_picture_that_lies_turned_in_its_file_is_read_as_it_was_composed(sample_folder):
    source = CocoConfig(root=sample_folder, split="train").build()
    for number, size in ((8, (320, 240)), (16, (240, 320)), (24, (320, 240)), (9, (240, 320))):
        composed = _scene(number, seed=0, size=size)
        assert np.abs(source.image(number).astype(int) - composed.image).mean() < 8  # JPEG
        shown = [person for person in source.people if person.image_id == number]
        for one, other in zip(shown, composed.people, strict=True):
            np.testing.assert_allclose(one.bbox, other.bbox, atol=0.01)
            if other.keypoints is not None:
                np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.01)


def test_the_same_seed_writes_the_same_pictures_and_labels_however_many(tmp_path, sample_folder):
    write_sample(tmp_path / "few", pictures=16)
    write_sample(tmp_path / "other", pictures=16, seed=4)
    names = [path.name for path in (tmp_path / "few" / "train").iterdir()]
    assert len(names) == 12
    for name in names:
        picture = (tmp_path / "few" / "train" / name).read_bytes()
        assert picture == (sample_folder / "train" / name).read_bytes()
        assert picture != (tmp_path / "other" / "train" / name).read_bytes()
    few, many, other = (
        annotations(folder, "train") for folder in (tmp_path / "few", sample_folder, tmp_path / "other")
    )
    assert few["annotations"] == many["annotations"][: len(few["annotations"])]
    assert few["annotations"] != other["annotations"]
    assert few["info"] == many["info"] != other["info"]


def test_a_yolo_folder_holds_the_same_people_without_the_crowds(sample_folder, sample_yolo):
    described = yaml.safe_load((sample_yolo / "data.yaml").read_text())
    assert described["kpt_shape"] == [17, 3]
    assert described["flip_idx"] == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert described["names"] == {0: "person"}
    truth = CocoConfig(root=sample_folder, split="train").build()
    source = YoloConfig(data=sample_yolo / "data.yaml", split="train").build()
    assert source.skeleton == truth.skeleton
    assert source.notes == ()
    assert [path.name for path in source.paths.values()] == list(truth.file_names.values())[:30]
    expected = [person for person in truth.people if person.image_id <= 30 and not person.crowd]
    for one, other in zip(source.people, expected, strict=True):
        assert one.image_id == other.image_id
        np.testing.assert_allclose(one.bbox, other.bbox, atol=0.01)
        assert (one.keypoints is None) == (other.keypoints is None)
        if one.keypoints is not None:
            np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.01)
    assert np.array_equal(source.image(5), truth.image(5))
    assert len(YoloConfig(data=sample_yolo / "data.yaml", split="val").build().paths) == 10


def test_what_was_written_is_counted(tmp_path):
    counts = write_sample(tmp_path / "coco", pictures=16)
    yolo = write_sample(tmp_path / "yolo", pictures=16, yolo=True)
    for split in ("train", "val"):
        entries = annotations(tmp_path / "coco", split)["annotations"]
        people = [entry for entry in entries if not entry["iscrowd"]]
        count = counts[split]
        assert count.people == len(people) == yolo[split].people
        assert count.unlabelled == sum(entry["num_keypoints"] == 0 for entry in people) == yolo[split].unlabelled
        assert count.crowds == len(entries) - len(people)
        assert yolo[split].crowds == 0
    assert (counts["train"].pictures, counts["val"].pictures) == (12, 4)
    assert counts["train"].crowds == 1


def test_nothing_is_written_over_and_too_few_pictures_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="give a new or empty folder, so that nothing is written over"):
            write_sample(taken)
    with pytest.raises(UserError, match="5 pictures are too few .* ask for 16 or more"):
        write_sample(tmp_path / "new", pictures=5)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}
    (tmp_path / "empty").mkdir()
    assert write_sample(tmp_path / "empty", pictures=16)["val"].pictures == 4
