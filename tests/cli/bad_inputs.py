"""Bad inputs, one line each: which file is spoilt, how, and the words that the one line of the message must hold.

A change is a path into the content of the file with the value to put there (`GONE` takes it out), or the file's whole
new text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAN, INF = float("nan"), float("inf")
GONE = object()
NAMES = ["nose", "left_hand", "right_hand"]
DEEP_JSON = "[" * 20_000 + "]" * 20_000
DEEP_YAML = "a: " + "[" * 3_000 + "]" * 3_000
DIGITS = "9" * 5_000
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
LABELS = [20, 30, 2, 40, 50, 2, 60.5, 70, 1]


def contents() -> dict[str, Any]:
    """What every file holds before it is spoilt."""
    people = [
        {"id": 1 + at, "image_id": 1 + at // 2, "category_id": 1, "bbox": [10 + at, 20, 60, 80], "area": 3000,
         "iscrowd": 0, "num_keypoints": 3, "keypoints": list(LABELS)}
        for at in range(4)
    ]  # fmt: skip
    return {
        "gt.json": {
            "images": [{"id": at, "file_name": f"{at}.png", "width": 120, "height": 140} for at in (1, 2)],
            "annotations": people,
            "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES), "skeleton": [[1, 2], [1, 3]]}],
        },
        "results.json": [
            {"image_id": each["image_id"], "category_id": 1, "keypoints": list(LABELS), "score": 0.5} for each in people
        ],
        "detections.json": [
            {"image_id": each["image_id"], "category_id": 1, "bbox": each["bbox"], "score": 0.9} for each in people
        ],
        "boxes.json": {"1.png": [[10, 20, 60, 80]], "2.png": [[10, 20, 60, 80], [12, 20, 60, 80]]},
        "info.json": {
            "names": list(NAMES), "skeleton": [[0, 1], [0, 2]], "flip_pairs": [[1, 2]], "sigmas": [0.05, 0.1, 0.1],
            "upper_body": [0, 1, 2], "pck_norm": ["left_hand", "right_hand"],
        },
        "recipe.yaml": {
            "data": {
                "train": {"name": "coco", "annotations": "gt.json", "images": "images"},
                "val": {"name": "coco", "annotations": "gt.json", "images": "images"},
                "augment": {"half_body": 0},
            },
            "model": {
                "size": [32, 24], "backbone": {"name": "small_resnet", "channels": [8, 16], "max_pool": False},
                "head": "flat_fc", "codec": "coords",
            },
            "method": "supervised",
            "train": {"steps": 2, "batch_size": 4, "device": "cpu"},
        },
        "data.yaml": {"train": "yolo/images", "val": "yolo/images", "kpt_shape": [3, 3], "flip_idx": [0, 2, 1],
                      "kpt_names": list(NAMES), "names": ["person"]},
        "plan.yaml": {
            "regimes": {"r": {"recipe": "recipe.yaml", "arms": ["alone", "more"]}}, "arms": {"more": {"title": "more"}},
            "learning_rates": [0.001],
            "controls": ["alone"], "confirm": {},
        },
    }  # fmt: skip


@dataclass(frozen=True)
class Bad:
    """One bad input."""

    file: str
    change: Sequence[Any] | str | bytes
    words: str
    verb: str = ""
    """of `VERBS`; empty: the usual one of the file"""

    @property
    def name(self) -> str:
        """What the test is called."""
        change = self.change if isinstance(self.change, str | bytes) else self._shown()
        return f"{self.verb or VERB_OF[self.file]} {self.file} {str(change)[:40]!a}"

    def _shown(self) -> str:
        *path, value = self.change
        return f"{'.'.join(map(str, path))}={'gone' if value is GONE else str(value)[:20]}"

    def spoil(self, folder: Path) -> None:
        """Write the file as it should not be."""
        path = folder / self.file
        if isinstance(self.change, bytes):
            path.write_bytes(self.change)
        elif isinstance(self.change, str):
            path.write_text(self.change)
        else:
            *steps, last, value = self.change
            whole = place = deepcopy(contents()[self.file])
            for step in steps:
                place = place[step]
            if value is GONE:
                del place[last]
            else:
                place[last] = value
            path.write_text(json.dumps(whole).replace('"1e999"', "1e999").replace('"DIGITS"', DIGITS))


EVALUATE = ("evaluate", "--annotations", "gt.json", "--results", "results.json")
VERBS: dict[str, tuple[str, ...]] = {
    "score": EVALUATE,
    "score by metainfo": (*EVALUATE, "--metainfo", "info.json"),
    "train": ("train", "recipe.yaml", "--dry-run"),
    "train yolo": ("train", "recipe.yaml", "--dry-run", "--set", "data.train={name: yolo, data: data.yaml}", "--set",
                   "data.val={name: yolo, data: data.yaml, split: val}"),
    "detect": ("evaluate", "model", "--annotations", "gt.json", "--images", "images", "--boxes", "detections.json",
               "--device", "cpu"),
    "predict": ("predict", "model", "images", "--boxes", "boxes.json", "--out", "out", "--device", "cpu"),
    "evaluate": ("evaluate", "model", "--annotations", "gt.json", "--images", "images", "--device", "cpu"),
    "check": ("data", "check", "gt.json", "--images", "images"),
    "check by metainfo": ("data", "check", "gt.json", "--images", "images", "--metainfo", "info.json"),
    "check yolo": ("data", "check", "data.yaml"),
    "compare": ("compare", "plan.yaml", "--results", "results", "--work", "work", "--jobs", "1"),
    "convert": ("convert", "weights.pth", "--from", "distilpose-s", "--out", "converted"),
    "config": ("config", "recipe.yaml"),
    "pack": ("data", "pack", "recipe.yaml", "--crops", "--out", "packed"),
    "loader": ("bench", "--loader", "recipe.yaml", "--rounds", "1"),
    "page": ("page", "model", "--out", "site", "--runtime", "package"),
    "push": ("push", "model", "me/small", "--licence", "mit", "--dry-run"),
}  # fmt: skip
VERB_OF = {
    "gt.json": "score", "results.json": "score", "info.json": "score by metainfo", "detections.json": "detect",
    "boxes.json": "predict", "recipe.yaml": "config", "data.yaml": "train yolo", "plan.yaml": "compare",
    "weights.pth": "convert", "model/config.json": "evaluate",
}  # fmt: skip


def _everywhere(file: str, path: Sequence[Any], values: dict[Any, str], verb: str = "") -> list[Bad]:
    return [Bad(file, (*path, value), words, verb) for value, words in values.items()]


ANNOTATION = ("annotations", 1)
TABLE: list[Bad] = [
    # whole files
    *(Bad(file, "", f"{file} is not valid", verb) for file, verb in VERB_OF.items() if file.endswith(".json")),
    *(Bad(file, '{"a": ', f"{file} is not valid", verb) for file, verb in VERB_OF.items() if file.endswith(".json")),
    *(Bad(file, DEEP_JSON, "nested too deeply", verb) for file, verb in VERB_OF.items() if file.endswith(".json")),
    *(Bad(file, f'[{{"a": {DIGITS}}}]', "digits", verb) for file, verb in VERB_OF.items() if file.endswith(".json")),
    *(Bad(file, b"\xff\xfe\x00", f"{file} is not valid", verb) for file, verb in VERB_OF.items() if ".json" in file),
    *(Bad(file, DEEP_YAML, "nested too deeply") for file in ("recipe.yaml", "data.yaml", "plan.yaml")),
    *(Bad("recipe.yaml", DEEP_YAML, "nested too deeply", verb) for verb in ("pack", "loader")),
    Bad("recipe.yaml", ("data", "crops", {"file": "gt.json"}), "not a whole file of packed crops", "loader"),
    *(Bad(file, BOMB, "aliases make") for file in ("recipe.yaml", "data.yaml", "plan.yaml")),
    *(Bad(file, "a: &a [*a]", "holds the alias itself") for file in ("recipe.yaml", "data.yaml", "plan.yaml")),
    *(Bad(file, "a: 1\na: 2", "'a' stands twice, line 2") for file in ("recipe.yaml", "data.yaml", "plan.yaml")),
    *(Bad(file, "a: 2024-13-45", "month must be in 1..12") for file in ("recipe.yaml", "data.yaml", "plan.yaml")),
    *(Bad(file, f"a: {DIGITS}", "digits") for file in ("recipe.yaml", "data.yaml", "plan.yaml")),
    *(Bad(file, "a: !!python/object/apply:os.getcwd []", "not valid YAML") for file in ("recipe.yaml", "plan.yaml")),
    *(Bad(file, "a: \x1b[31m", "not valid YAML") for file in ("recipe.yaml", "plan.yaml")),
    *(Bad(file, b"\xff\xfe\x00", "no text in UTF-8") for file in ("recipe.yaml", "data.yaml", "plan.yaml")),
    *(Bad(file, "- 1", f"{file} ") for file in ("recipe.yaml", "data.yaml", "plan.yaml")),
    # annotations: the lists
    *(Bad("gt.json", (key, GONE), "it needs images, annotations and categories")
      for key in ("images", "annotations", "categories")),
    *(Bad("gt.json", (key, None), f"gt.json: {key} is null; a list is wanted")
      for key in ("images", "annotations", "categories")),
    *(Bad("gt.json", (key, [3]), f"gt.json: entry 0 of {key} is 3; a mapping is wanted")
      for key in ("images", "annotations", "categories")),
    # annotations: images
    *_everywhere("gt.json", ("images", 0, "id"), {
        GONE: "entry 0 of images: id is missing", None: "id is null", NAN: "id is nan", "x": "id is 'x'",
        1.5: "id is 1.5", True: "id is True", 2: "image 2 is there twice, as '1.png' and '2.png'", "1e999": "id is inf",
        "2": "image 2 is there twice"}),
    *_everywhere("gt.json", ("images", 0, "file_name"), {
        GONE: "image 1: file_name is missing", None: "file_name is null", 5: "file_name is 5", "": "file_name is ''",
        "x" * 5000: "the name of a file is wanted", "\ud83d": "the name of a file is wanted"}),
    *_everywhere("gt.json", ("images", 0, "width"), {
        0: "image 1: width is 0; a number of px above 0", -3: "width is -3", NAN: "width is nan",
        "120": "width is '120'", "DIGITS": "digits"}),
    # annotations: categories
    *_everywhere("gt.json", ("categories", 0, "id"), {
        GONE: "category 'person': id is missing", None: "id is null", "x": "id is 'x'", NAN: "id is nan",
        0: "all 4 annotations are of category 1, and the category with keypoints is 0 ('person')"}),
    *_everywhere("gt.json", ("categories", 0, "keypoints"), {
        GONE: "one category with keypoint names is wanted, found 0", 3: "keypoints is 3; a list of their names",
        "abc": "keypoints is 'abc'"}),
    Bad("gt.json", ("categories", 0, "keypoints", ["a", 2, "c"]), "a list of their names is wanted"),
    Bad("gt.json", ("categories", 0, "keypoints", ["a", "a", "c"]), "share a name"),
    Bad("gt.json", ("categories", 0, "keypoints", ["nose", "left_hand", "tail"]), "'left_hand' has no partner"),
    Bad("gt.json", ("categories", 0, "skeleton", 3), "skeleton is 3; a list of pairs"),
    Bad("gt.json", ("categories", 0, "skeleton", [[0, 1]]), "skeleton is 1-based"),
    Bad("gt.json", ("categories", 0, "skeleton", [[1, 4]]), "an index lies outside 0..2"),
    Bad("gt.json", ("categories", 0, "skeleton", [["a", "b"]]), "edge ['a', 'b'] is not a pair"),
    Bad("gt.json", ("categories", 0, "skeleton", [[1, NAN]]), "is not a pair of keypoint numbers"),
    # annotations: persons
    *_everywhere("gt.json", (*ANNOTATION, "id"), {
        GONE: "entry 1 of annotations: id is missing", None: "id is null", "x": "id is 'x'", 1.5: "id is 1.5",
        1: "annotation 1 is there twice", "1e999": "id is inf", "DIGITS": "digits"}),
    *_everywhere("gt.json", (*ANNOTATION, "image_id"), {
        GONE: "annotation 2: image_id is missing", None: "image_id is null", NAN: "image_id is nan",
        "x": "image_id is 'x'", 7: "(such as 7) are not in its images, that of annotation 2 first"}),
    *_everywhere("gt.json", (*ANNOTATION, "category_id"), {
        "x": "annotation 2: category_id is 'x'", NAN: "category_id is nan", 9: "category_id is 9, which is not among"}),
    *_everywhere("gt.json", (*ANNOTATION, "bbox"), {
        GONE: "annotation 2 lacks a proper 'bbox'", None: "lacks a proper 'bbox'", "1 2 3 4": "bbox is '1 2 3 4'",
        5: "bbox is 5; four numbers"}),
    Bad("gt.json", (*ANNOTATION, "bbox", [1, 2, 3]), "annotation 2 has a bbox of 3 numbers"),
    Bad("gt.json", (*ANNOTATION, "bbox", ["1", "2", "3", "4"]), "four numbers, x y w h, are wanted"),
    Bad("gt.json", (*ANNOTATION, "bbox", [1, 2, INF, 4]), "which is no place in a picture"),
    Bad("gt.json", (*ANNOTATION, "bbox", [1e300, 2, 3, 4]), "which is no place in a picture"),
    *_everywhere("gt.json", (*ANNOTATION, "area"), {
        0: "annotation 2: area is 0, by which OKS would divide", -4: "area is -4", NAN: "area is nan; a number",
        "big": "area is 'big'", "1e999": "area is inf"}),
    *_everywhere("gt.json", (*ANNOTATION, "iscrowd"), {
        "no": "annotation 2: iscrowd is 'no'; 0 or 1", 2: "iscrowd is 2", NAN: "iscrowd is nan"}),
    *_everywhere("gt.json", (*ANNOTATION, "keypoints"), {
        "text": "annotation 2: keypoints is 'text'", 5: "keypoints is 5"}),
    Bad("gt.json", (*ANNOTATION, "keypoints", [1, 2, 2]), "3 keypoint numbers; 3 keypoints make 9"),
    Bad("gt.json", (*ANNOTATION, "keypoints", ["1"] * 9), "a list of 9 keypoint numbers is wanted"),
    *(Bad("gt.json", (*ANNOTATION, "keypoints", [*LABELS[:3], *wrong, *LABELS[6:]]),
          "annotation 2: keypoint 'left_hand' of keypoints is x") for wrong in
      ([None, None, 2], [NAN, 3, 1], [3, INF, 2], [1, 1, None], [1, 1, NAN], [1e9, 1, 2])),
    Bad("gt.json", (*ANNOTATION, "keypoints", [None, None, 2, *LABELS[3:]]), "annotation 2: keypoint 'nose'", "train"),
    Bad("gt.json", (*ANNOTATION, "area", 0), "annotation 2: area is 0", "train"),
    Bad("gt.json", ("images", 0, "id", 2), "image 2 is there twice", "train"),
    Bad("gt.json", ("categories", 0, "id", 0), "all 4 annotations are of category 1", "train"),
    Bad("gt.json", (*ANNOTATION, "bbox", [1, 2, INF, 4]), "no place in a picture", "evaluate"),
    *(Bad("gt.json", (*ANNOTATION, key, value), f"{key} is", "check")
      for key, value in (("id", "x"), ("image_id", 1.5), ("category_id", "y"), ("bbox", "z"), ("keypoints", 3))),
    # results
    *_everywhere("results.json", (1, "image_id"), {
        GONE: "entry 1 lacks a proper 'image_id'", None: "entry 1: image_id is null", "x": "image_id is 'x'",
        0: "image ids (such as 0, of entry 1) are not in gt.json", "1e999": "image_id is inf"}),
    *_everywhere("results.json", (1, "category_id"), {"x": "entry 1: category_id is 'x'", NAN: "category_id is nan"}),
    *_everywhere("results.json", (1, "score"), {
        GONE: "entry 1 lacks a proper 'score'", None: "entry 1: score is null", NAN: "score is nan",
        "high": "score is 'high'", "1e999": "score is inf", True: "score is True"}),
    *_everywhere("results.json", (1, "keypoints"), {
        GONE: "entry 1 lacks a proper 'keypoints'", None: "lacks a proper 'keypoints'", "x": "keypoints is 'x'"}),
    Bad("results.json", (1, "keypoints", [None, *LABELS[1:]]), "entry 1: keypoint 'nose' of keypoints is x null"),
    Bad("results.json", (1, "keypoints", [1, 2]), "entry 1 has 2 keypoint numbers"),
    Bad("results.json", (1, "bbox", [1, 2, 3, 4]), "some entries carry a bbox and some do not"),
    Bad("results.json", json.dumps([{"image_id": 1, "score": 1, "keypoints": LABELS, "bbox": "1 2 3 4"}]),
        "entry 0: bbox is '1 2 3 4'"),
    Bad("results.json", json.dumps([{"image_id": 1, "score": 1, "keypoints": LABELS, "bbox": [1, 2, -3, 4]}]),
        "of negative size"),
    Bad("results.json", json.dumps([{"image_id": 1, "category_id": 0, "score": 1, "keypoints": LABELS}] * 3),
        "all 3 entries are of category 0, and the category of gt.json is 1 ('person')"),
    Bad("results.json", json.dumps([{"image_id": 1, "score": 1, "keypoints": [each / 100 for each in LABELS]}] * 3),
        "all keypoints lie within 0..1"),
    Bad("results.json", '{"annotations": []}', "is not a COCO results file"),
    Bad("results.json", "[3]", "entry 0 is no mapping"),
    # detections
    *_everywhere("detections.json", (1, "image_id"), {
        GONE: "entry 1: image_id is missing", None: "image_id is null", "x": "image_id is 'x'", "1e999": "is inf"}),
    *_everywhere("detections.json", (1, "category_id"), {"x": "entry 1: category_id is 'x'"}),
    *_everywhere("detections.json", (1, "score"), {
        GONE: "entry 1 lacks a proper 'score'", "high": "entry 1: score is 'high'", NAN: "score is nan"}),
    *_everywhere("detections.json", (1, "bbox"), {
        GONE: "entry 1 lacks a proper 'bbox'", "x": "entry 1: bbox is 'x'"}),
    *(Bad("detections.json", (1, "bbox", wrong), words) for wrong, words in (
        ([1, 2, 3], "bbox of 3 numbers"), ([1, 2, 3, 4, 0.9], "bbox of 5 numbers"), ([1, NAN, 3, 4], "four numbers"),
        ([1, 2, INF, 4], "no place in a picture"), ([1, 2, -3, 4], "of negative size"), ([None] * 4, "four numbers"))),
    Bad("detections.json", json.dumps([{"image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4], "score": 1}]),
        "all 1 entries are of category 0"),
    Bad("detections.json", json.dumps([{"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]),
        "its image_ids are 9, those of the data 1, 2"),
    Bad("detections.json", json.dumps([{"image_id": 1, "bbox": [0.1, 0.2, 0.3, 0.4], "score": 1}] * 2), "within 0..1"),
    Bad("detections.json", "[3]", "entry 0 is 3"),
    # boxes by file name
    *_everywhere("boxes.json", ("1.png",), {None: "those of '1.png' are null", "x": "those of '1.png' are 'x'"}),
    *(Bad("boxes.json", ("1.png", wrong), words) for wrong, words in (
        ([[1, 2, 3]], "row 0 has a box of 3 numbers"), ([[1, 2, 3, 4, 0.9]], "row 0 has a box of 5 numbers"),
        ([[1, 2, 3, 4], [1, 2, NAN, 4]], "row 1: box is [1, 2, nan, 4]"), ([[1, 2, INF, 4]], "no place in a picture"),
        ([[1, 2, -3, 4]], "of negative size"), ([["1", "2", "3", "4"]], "four numbers"), ([5], "box is 5"))),
    Bad("boxes.json", json.dumps({"1.png": [[0.1, 0.2, 0.3, 0.4]]}), "within 0..1"),
    Bad("boxes.json", json.dumps([{"image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4]}]), "of category 0"),
    # metainfo
    *(Bad("info.json", (key, 3), f"info.json: {key} is 3; a list is wanted")
      for key in ("names", "skeleton", "flip_pairs", "sigmas", "upper_body", "pck_norm")),
    *(Bad("info.json", ("sigmas", wrong), words) for wrong, words in (
        ([0.1, 0, 0.1], "sigmas has 0;"), ([0.1, NAN, 0.1], "sigmas has nan"), ([0.1, None, 0.1], "sigmas has null"),
        ([0.1, "a", 0.1], "sigmas has 'a'"), ([0.1], "sigmas has 1 numbers; 3 numbers above 0"),
        ([-1, 1, 1], "sigmas has -1"))),
    *(Bad("info.json", ("flip_pairs", wrong), words) for wrong, words in (
        ([[2, 3]], "flip_pairs has 3; a keypoint's number from 0 to 2 is wanted; indices count from 0"),
        ([[0, 1]], "'left_hand' and 'right_hand' are mirror partners by their names"), ([], "gives it no partner"),
        ([[1, 1]], "one keypoint twice"), ([[1, 2], [1, 0]], "has keypoint 1 twice"), ([[1]], "a pair of keypoint"),
        ([["a", "b"]], "flip_pairs has 'a'"), ([[1, None]], "flip_pairs has null"), ([[1, -1]], "flip_pairs has -1"))),
    *(Bad("info.json", ("skeleton", wrong), words) for wrong, words in (
        ([[0, 3]], "skeleton has 3"), ([[0]], "a pair of keypoint numbers"), ([[0, NAN]], "skeleton has nan"))),
    Bad("info.json", ("upper_body", [7]), "upper_body has 7"),
    Bad("info.json", ("pck_norm", ["left_hand"]), "the names of two keypoints are wanted"),
    Bad("info.json", ("pck_norm", ["left_hand", "tail"]), "the names of two keypoints are wanted"),
    Bad("info.json", '{"names": ["a", "b", "c"]}', "they must be the same, in the same order"),
    Bad("info.json", ("names", ["nose", None, "c"]), "a list of keypoint names is wanted"),
    Bad("info.json", ("sigma", [1, 1, 1]), "no such key 'sigma'; did you mean 'sigmas'?"),
    Bad("info.json", '{"other": 1}', "the keys of a metainfo file are names, skeleton, flip_pairs"),
    Bad("info.json", ("sigmas", [0, 0, 0]), "sigmas has 0;", "check by metainfo"),
    # data.yaml
    *(Bad("data.yaml", ("kpt_shape", wrong), "kpt_shape") for wrong in
      (None, 3, [3], [0, 3], [3, 4], ["3", 3], [3.0, 3], [-3, 3])),
    *(Bad("data.yaml", ("flip_idx", wrong), "flip_idx") for wrong in
      (3, [0, 1], [0, 2, 3], [1, 2, 0], ["a", "b", "c"], [0, None, 1], [1, 0, 2])),
    Bad("data.yaml", ("kpt_names", 3), "kpt_names is 3; a list of 3 names"),
    Bad("data.yaml", ("kpt_names", ["a", "a", "b"]), "kpt_names has 2 different names"),
    Bad("data.yaml", ("kpt_oks_sigmas", [0, 1, 1]), "kpt_oks_sigmas are not 3 positive numbers"),
    Bad("data.yaml", ("kpt_oks_sigmas", "x"), "kpt_oks_sigmas are not 3 positive numbers"),
    Bad("data.yaml", ("names", 3), "names is 3"),
    Bad("data.yaml", ("names", {"a": "person"}), "a list of the classes' names"),
    Bad("data.yaml", ("train", 3), "train is 3; a folder"),
    Bad("data.yaml", ("train", ["yolo/gone"]), "does not exist; correct `path` or `train`"),
    Bad("data.yaml", ("val", GONE), "has no split 'val'"),
    Bad("data.yaml", ("path", 3), "path is 3; the folder of the dataset"),
    Bad("data.yaml", ("kpt_shape", "x"), "kpt_shape", "check yolo"),
    # recipes
    *_everywhere("recipe.yaml", ("train", "steps"), {
        10**19: "recipe.yaml: train.steps:", 0: "train.steps", -1: "train.steps", "x": "train.steps", None: "epochs or"
        " steps", 1.5: "train.steps", "DIGITS": "digits"}),
    *_everywhere("recipe.yaml", ("train", "device"), {"gpu": "auto, cpu, cuda, cuda:1 and mps are known", 3: "device"}),
    *_everywhere("recipe.yaml", ("train", "batch_size"), {0: "train.batch_size", NAN: "train.batch_size"}),
    *_everywhere("recipe.yaml", ("train", "batch_size"), {10**12: "GiB of memory: lower train.batch_size"}, "train"),
    *_everywhere("recipe.yaml", ("train", "workers"), {10**6: "train.workers"}),
    *_everywhere("recipe.yaml", ("model", "head"), {"flat": "no 'flat' among the heads", 3: "give a name"}),
    *(Bad("recipe.yaml", ("model", "size", wrong), "model.size") for wrong in
      ([0, 24], [-32, 24], [32], 32, [10**6, 10**6], ["a", "b"], [32.5, 24])),
    Bad("recipe.yaml", ("model", "backbone", "channels", [10**6, 10**6]), "model: its weights take", "train"),
    Bad("recipe.yaml", ("model", "backbone", "channels", [10**30]), "more than any network has", "train"),
    Bad("recipe.yaml", ("model", "backbone", "channels", []), "model.backbone.channels"),
    Bad("recipe.yaml", ("teacher", "bundeld"), "did you mean 'bundled'? (known by name: bundled, ", "train"),
    Bad("recipe.yaml", ("data", "labelled", 100), "100 wanted, 4 of the persons carry labels", "train"),
    Bad("recipe.yaml", ("data", "augment", "flip", 2), "data.augment.flip"),
    Bad("recipe.yaml", ("data", "augment", "flip", NAN), "data.augment.flip"),
    Bad("recipe.yaml", ("data", "train", "annotations", "none.json"), "no annotation file none.json", "train"),
    Bad("recipe.yaml", ("data", "train", "annotations", "images"), "images is a folder", "train"),
    Bad("recipe.yaml", ("trian", {}), "no such key; did you mean 'train'?"),
    Bad("recipe.yaml", ("method", GONE), "method"),
    # plans
    Bad("plan.yaml", ("learning_rates", []), "learning_rates"),
    Bad("plan.yaml", ("learning_rates", [NAN]), "learning_rates"),
    Bad("plan.yaml", ("regimes", {}), "regimes"),
    Bad("plan.yaml", ("baseline", "gone"), "no 'gone'"),
    Bad("plan.yaml", ("regimes", "r", "recipe", "gone.yaml"), "no recipe 'gone.yaml'"),
    Bad("plan.yaml", ("arms", "more", "set", ["method=pkd"]), "the arm more of the regime r cannot be built"),
    Bad("plan.yaml", ("arms", "more", "set", ["method=gone"]), "no 'gone' among the methods"),
    # weights and models
    Bad("weights.pth", b"", "cannot be read as weights"),
    Bad("weights.pth", b"PK\x03\x04 cut off", "cannot be read as weights"),
    Bad("model/config.json", "[]", "was not written by posestill"),
    Bad("model/config.json", "[]", "was not written by posestill", "page"),
    Bad("model/config.json", "{", "model/config.json is not valid", "push"),
    Bad("package/package.json", "{", "package.json is not valid", "page"),
    Bad("model/config.json", '{"format": "posestill"}', "lacks model and skeleton"),
    Bad("model/config.json", '{"format": "posestill", "model": 3, "skeleton": {}}', "model"),
]  # fmt: skip
