"""Faults to plant in a sound COCO tree, each with the one kind and place that must be found, and what mends it."""

import json
import shutil
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posestill.data.image_files import read_header
from posestill.doctor.findings import Finding
from posestill.schema import UserError
from posestill.skeletons import from_category

TRAIN = "person_keypoints_train"
Content = dict[str, Any]


@dataclass
class Planted:
    """A sound dataset with one fault in its training split."""

    root: Path
    sound: Content
    """the annotation file as it was"""
    content: Content
    """... and as it is now"""
    kind: str
    places: list[str]
    mended: Content | None
    """what the repaired file must hold; None where only a person can mend the fault"""
    images_left_out: list[str] = field(default_factory=list)
    """file names that a repaired copy does not have"""


def plant(name: str, source: Path, root: Path) -> Planted:
    """A copy of `source` at `root` with the fault `name` in it."""
    shutil.copytree(source, root)
    path = root / "annotations" / f"{TRAIN}.json"
    sound = json.loads(path.read_text())
    planted = Planted(root, sound, deepcopy(sound), "", [], deepcopy(sound))
    FAULTS[name](planted)
    path.write_text(json.dumps(planted.content))
    return planted


def person(content: Content) -> Content:
    """The person with all keypoints whose bbox is the largest."""
    people = [entry for entry in content["annotations"] if entry["num_keypoints"] == 17]
    return max(people, key=lambda entry: entry["bbox"][2] * entry["bbox"][3])


def picture(content: Content, suffix: str = ".jpg") -> Content:
    """The first image of a kind of file that people stand in."""
    used = {entry["image_id"] for entry in content["annotations"]}
    return next(image for image in content["images"] if image["id"] in used and image["file_name"].endswith(suffix))


def as_corners(content: Content) -> None:
    """Every bbox as x1 y1 x2 y2 in the place of x y w h."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for entry in content["annotations"]:
        width, height = sizes[entry["image_id"]]
        entry["bbox"], entry["area"] = [0.5 * width, 0.5 * height, 0.9 * width, 0.9 * height], 900


def around(entry: Content) -> list[float]:
    """The bbox of the keypoints, a fifth longer each way."""
    points = np.array(entry["keypoints"]).reshape(-1, 3)
    low, high = points[points[:, 2] > 0, :2].min(axis=0), points[points[:, 2] > 0, :2].max(axis=0)
    return [*((low + high) / 2 - 0.6 * (high - low)), *(1.2 * (high - low))]


def usual_area(box: list[float]) -> float:
    return 0.53 * box[2] * box[3]


def drop_image(content: Content, image_id: int) -> None:
    content["images"] = [image for image in content["images"] if image["id"] != image_id]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != image_id]


def _spoil_file(
    planted: Planted, kind: str, change: Callable[[Path], Any], suffix: str = ".jpg", why: str = ""
) -> None:
    image = picture(planted.sound, suffix)
    change(planted.root / "train" / image["file_name"])
    planted.kind, planted.places = kind, [f"image {image['id']} ({image['file_name']}){why}"]
    drop_image(planted.mended, image["id"])
    planted.images_left_out = [image["file_name"]]


def missing_file(planted: Planted) -> None:
    _spoil_file(planted, "image-missing", Path.unlink)


def undecodable_file(planted: Planted) -> None:
    why = ": it cannot be decoded: fetch it again, or save it anew as PNG or JPEG"
    _spoil_file(planted, "image-undecodable", lambda path: path.write_bytes(b"no picture"), ".png", why)


def file_cut_off(planted: Planted) -> None:
    half = lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # noqa: E731
    _spoil_file(planted, "image-undecodable", half, why=": it is cut off: fetch it again")


def wrong_size(planted: Planted) -> None:
    image = picture(planted.content)
    width, height = image["width"], image["height"]
    image["width"] += 7
    planted.kind = "image-size"
    planted.places = [
        f"image {image['id']} ({image['file_name']}): {width + 7} x {height}, the file {width} x {height}"
    ]


def labels_on_stored_pixels(planted: Planted) -> None:
    """The photograph that lies turned by a quarter in its file, labelled as it lies there."""
    image = next(each for each in planted.content["images"] if each["width"] < each["height"])
    width, height = image["width"], image["height"]  # as it is shown
    image.update(width=height, height=width)
    planted.kind = "labels-unturned"
    planted.places = [f"image {image['id']} ({image['file_name']}): {height} x {width}, the file {width} x {height}"]
    orientation = read_header(planted.root / "train" / image["file_name"]).orientation
    assert orientation == 8  # shown (x, y) = stored (y, W - x), so stored (x, y) = shown (W - y, x)
    for entry in planted.content["annotations"]:
        if entry["image_id"] == image["id"]:
            x, y, across, down = entry["bbox"]
            entry["bbox"] = [height - y - down, x, down, across]
            points = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
            there = points[:, 2] > 0
            points[there, :2] = np.stack([height - points[there, 1], points[there, 0]], axis=1)
            entry["keypoints"] = points.ravel().tolist()


def image_id_twice(planted: Planted) -> None:
    cv2.imwrite(str(planted.root / "train" / "more.png"), np.zeros((50, 60, 3), dtype=np.uint8))
    image = {"id": 1, "file_name": "more.png", "width": 60, "height": 50}
    planted.content["images"].append(image)
    planted.kind, planted.places = "image-id-twice", ["image 1 (more.png)"]
    planted.mended["images"].append({**image, "id": 13})  # there are 12


def image_twice(planted: Planted) -> None:
    image = planted.content["images"][0]
    shutil.copyfile(planted.root / "train" / image["file_name"], planted.root / "train" / "copy.jpg")
    planted.content["images"].append({**image, "id": 999, "file_name": "copy.jpg"})
    planted.content["annotations"][0]["image_id"] = 999  # moves back to the first entry of the picture
    planted.kind, planted.places = "image-twice", ["image 999 (copy.jpg) = image 1"]
    planted.images_left_out = ["copy.jpg"]


def image_without_name(planted: Planted) -> None:
    image = picture(planted.content)
    planted.images_left_out = [image.pop("file_name")]
    planted.kind, planted.places = "entry-incomplete", [f"image {image['id']} (None)"]
    drop_image(planted.mended, image["id"])


def annotation_id_twice(planted: Planted) -> None:
    entries = planted.content["annotations"]
    entries[1]["id"] = entries[0]["id"]
    planted.kind, planted.places = "annotation-id-twice", [f"annotation {entries[0]['id']}"]
    planted.mended["annotations"][1]["id"] = 1 + max(entry["id"] for entry in entries)


def annotation_without_image(planted: Planted) -> None:
    del planted.content["annotations"][0]["image_id"]
    planted.kind, planted.places = "entry-incomplete", [f"annotation {planted.sound['annotations'][0]['id']}"]
    del planted.mended["annotations"][0]


def unknown_image(planted: Planted) -> None:
    planted.content["annotations"][3]["image_id"] = 4242
    planted.kind = "unknown-image"
    planted.places = [f"annotation {planted.sound['annotations'][3]['id']} of image 4242"]
    del planted.mended["annotations"][3]


def unknown_category(planted: Planted) -> None:
    planted.content["annotations"][3]["category_id"] = 77
    planted.kind = "unknown-category"
    planted.places = [f"annotation {planted.sound['annotations'][3]['id']} of category 77"]


def category_that_nobody_has(planted: Planted) -> None:
    planted.content["categories"].append({"id": 2, "name": "pose", "keypoints": []})
    planted.kind, planted.places = "category-empty", ["category 2 (pose)"]


def category_without_keypoints(planted: Planted) -> None:
    planted.content["categories"].append({"id": 2, "name": "car"})
    planted.content["annotations"][0]["category_id"] = 2
    planted.kind, planted.places = "category-without-keypoints", ["category 2 (car)"]
    del planted.mended["annotations"][0]


def no_keypoint_names(planted: Planted) -> None:
    planted.content["categories"][0]["keypoints"] = []
    planted.kind, planted.places, planted.mended = "no-keypoint-names", [TRAIN], None


def two_skeletons(planted: Planted) -> None:
    names = ["left_ear", "right_ear"]
    planted.content["categories"].append({"id": 2, "name": "dog", "keypoints": names, "skeleton": []})
    planted.content["annotations"][0].update(category_id=2, keypoints=[0] * 6, num_keypoints=0)
    planted.kind, planted.places, planted.mended = "several-skeletons", ["person, dog"], None


def side_without_partner(planted: Planted) -> None:
    planted.content["categories"][0]["keypoints"][1] = "left_eyebrow"
    with pytest.raises(UserError, match="left_eyebrow") as refused:  # every reader's words, whatever they are
        from_category({"name": "person", "keypoints": planted.content["categories"][0]["keypoints"]})
    planted.kind, planted.places, planted.mended = "side-without-partner", [str(refused.value)], None


def keypoint_name_twice(planted: Planted) -> None:
    planted.content["categories"][0]["keypoints"][1] = "right_eye"
    planted.kind, planted.places, planted.mended = "keypoint-name-twice", ["right_eye"], None


def edges_that_count_from_zero(planted: Planted) -> None:
    category = planted.content["categories"][0]
    category["skeleton"] = [[start - 1, end - 1] for start, end in category["skeleton"]]
    planted.kind, planted.places = "edges-range", ["edge [0, 1] of 17 keypoints (0-based, it seems)"]


def edge_beyond_the_last_keypoint(planted: Planted) -> None:
    planted.content["categories"][0]["skeleton"].append([3, 18])
    planted.kind, planted.places = "edges-range", ["edge [3, 18] of 17 keypoints"]


def _change_person(planted: Planted, kind: str, detail: str, **changes: Any) -> None:
    """Change a person's entry, find it there, and mend it by what is taken from the sound one."""
    entry = person(planted.content)
    entry.update(changes)
    planted.kind, planted.places = kind, [f"annotation {entry['id']}{detail}"]


def no_bbox(planted: Planted) -> None:
    _change_person(planted, "bbox-missing", ": None", bbox=None)
    box = around(person(planted.sound))
    person(planted.mended).update(bbox=box, area=usual_area(box))


def flat_bbox(planted: Planted) -> None:
    x, y, _, height = person(planted.sound)["bbox"]
    _change_person(planted, "bbox-missing", f": {[x, y, 0, height]}", bbox=[x, y, 0, height])
    box = around(person(planted.sound))
    person(planted.mended).update(bbox=box, area=usual_area(box))


def bbox_beyond_the_image(planted: Planted) -> None:
    x, y, *_ = person(planted.sound)["bbox"]
    _change_person(planted, "bbox-off-image", f": {[x, y, 900, 900]} in 320 x 240", bbox=[x, y, 900, 900])
    person(planted.mended)["bbox"] = [x, y, 320 - x, 240 - y]


def bbox_that_is_no_number(planted: Planted) -> None:
    _, y, width, height = person(planted.sound)["bbox"]
    _change_person(planted, "not-finite", "", bbox=[float("nan"), y, width, height])
    person(planted.mended)["bbox"] = around(person(planted.sound))


def keypoint_that_is_infinite(planted: Planted) -> None:
    points = person(planted.sound)["keypoints"]
    _change_person(planted, "not-finite", "", keypoints=[float("inf"), *points[1:]])
    person(planted.mended).update(keypoints=[0, 0, 0, *points[3:]], num_keypoints=16)


def no_area(planted: Planted) -> None:
    for entry in planted.content["annotations"]:
        del entry["area"]
    planted.kind = "area-missing"
    planted.places = [f"annotation {entry['id']}" for entry in planted.content["annotations"]]
    for entry in planted.mended["annotations"]:
        entry["area"] = usual_area(entry["bbox"])


def area_of_zero(planted: Planted) -> None:
    _change_person(planted, "area-zero", ": 0", area=0)
    person(planted.mended)["area"] = usual_area(person(planted.sound)["bbox"])


def crowd_in_words(planted: Planted) -> None:
    _change_person(planted, "crowd-odd", ": 'no'", iscrowd="no")


def area_beyond_the_bbox(planted: Planted) -> None:
    _change_person(planted, "area-wrong", ": 1e+06", area=1e6)
    person(planted.mended)["area"] = usual_area(person(planted.sound)["bbox"])


def too_few_numbers(planted: Planted) -> None:
    numbers = person(planted.sound)["keypoints"][:-1]
    _change_person(planted, "keypoints-length", ": 50 numbers; 17 keypoints make 51", keypoints=numbers)
    person(planted.mended).update(keypoints=[0] * 51, num_keypoints=0)


def visibility_of_three(planted: Planted) -> None:
    points = list(person(planted.sound)["keypoints"])
    points[2] = 3
    _change_person(planted, "visibility", ": 3", keypoints=points)
    person(planted.mended)["keypoints"][2] = 2


def keypoint_beside_the_image(planted: Planted) -> None:
    points = person(planted.sound)["keypoints"]
    _change_person(planted, "keypoint-off-image", ": nose", keypoints=[-40, *points[1:]])
    person(planted.mended).update(keypoints=[0, 0, 0, *points[3:]], num_keypoints=16)


def wrong_count_of_keypoints(planted: Planted) -> None:
    _change_person(planted, "num-keypoints", ": says 9, has 17", num_keypoints=9)


def _only_told(planted: Planted, kind: str, places: list[str]) -> None:
    """What no program can mend: the repaired file is the faulty one."""
    planted.kind, planted.places, planted.mended = kind, places, deepcopy(planted.content)


def keypoint_far_from_its_bbox(planted: Planted) -> None:
    people = [entry for entry in planted.content["annotations"] if entry["num_keypoints"] == 17]
    entry = min(people, key=lambda each: max(each["bbox"][2:]))
    x, _, width, _ = entry["bbox"]
    entry["keypoints"][0] = 1 if x + width / 2 > 160 else 318  # the other end of the image
    _only_told(planted, "keypoint-far", [f"annotation {entry['id']}: nose"])


def sides_exchanged(planted: Planted) -> None:
    names = planted.content["categories"][0]["keypoints"]
    other = {"left": "right", "right": "left"}
    pieces = [name.split("_") for name in names]
    renamed = ["_".join([other.get(first, first), *rest]) for first, *rest in pieces]
    planted.content["categories"][0]["keypoints"] = renamed
    facing = _facing(planted.sound)
    _only_told(planted, "sides-exchanged", [f"{facing} of {facing} people who face the camera"])


def _facing(content: Content) -> int:
    """How many people show both eyes, with the shoulders below them."""
    poses = [np.array(entry["keypoints"]).reshape(17, 3) for entry in content["annotations"] if entry["num_keypoints"]]
    return sum(
        pose[1, 2] == 2 and pose[2, 2] == 2 and min(pose[5:7, 2]) > 0 and max(pose[1:3, 1]) < min(pose[5:7, 1])
        for pose in poses
    )


def nothing_tells_the_sides(planted: Planted) -> None:
    planted.content["categories"][0]["keypoints"] = [f"k{index}" for index in range(17)]
    _only_told(planted, "no-sides", ["k0, k1, k2, k3, ..."])


def hardly_any_people(planted: Planted) -> None:
    people = [entry for entry in planted.content["annotations"] if entry["num_keypoints"]]
    planted.content["annotations"] = people[:3]
    _only_told(planted, "few-people", ["3 people with labels"])


FAULTS: dict[str, Callable[[Planted], None]] = {
    function.__name__.replace("_", " "): function
    for function in (
        missing_file, undecodable_file, file_cut_off, wrong_size, labels_on_stored_pixels, image_id_twice,
        image_twice, image_without_name,
        annotation_id_twice, annotation_without_image, unknown_image, unknown_category, category_that_nobody_has,
        category_without_keypoints, no_keypoint_names, two_skeletons, side_without_partner, keypoint_name_twice,
        edges_that_count_from_zero, edge_beyond_the_last_keypoint, no_bbox, flat_bbox, bbox_beyond_the_image,
        bbox_that_is_no_number, crowd_in_words, keypoint_that_is_infinite, no_area, area_of_zero, area_beyond_the_bbox,
        too_few_numbers, visibility_of_three, keypoint_beside_the_image, wrong_count_of_keypoints,
        keypoint_far_from_its_bbox, sides_exchanged, nothing_tells_the_sides, hardly_any_people,
    )
}  # fmt: skip


def serious(findings: Iterable[Finding]) -> list[Finding]:
    """The errors and warnings among findings."""
    return [finding for finding in findings if finding.severity != "note"]


def rewrite(change: Callable[[Content], Any], source: Path, root: Path) -> Path:
    """A copy of a COCO tree whose training annotations were changed."""
    shutil.copytree(source, root)
    path = root / "annotations" / f"{TRAIN}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root
