"""The data of benchmarks/photographs.yaml: twelve limb keypoints of lsp-photos, named by people and by MoveNet Thunder.

    python benchmarks/photographs.py

writes below runs/photographs, and asks Thunder about each training person once (about 12 minutes on one thread):

    thunder.json          what Thunder says about the training persons (`posestill label`)
    train-thunder.json    the training persons of whom Thunder is sure, with its answers and no label of a person
    train-400.json        400 of them with people's labels
    train-400-thunder.json  the same 400, and the others of train-thunder.json with Thunder's answers
    tune.json  test.json  people's labels of the other two splits
    metainfo.json         mirror partners and spreads of the twelve keypoints

Every file has the twelve keypoints that people and Thunder both name: all arms learn them and are judged by them.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from posestill.data.images import ImagesConfig
from posestill.engine.choose import open_teacher
from posestill.engine.log import RunLog
from posestill.files import write_json
from posestill.predict.label import label_pictures
from posestill.schema import UserError

PHOTOS = Path("../shared/lsp-photos")
THUNDER = Path("../shared/models/movenet-thunder.onnx")
OUT = Path("runs/photographs")
LABELLED = 400
SEED = 0
"""by which the persons are drawn that show people's labels"""

Coco = dict[str, Any]


def main() -> None:
    """Write what is not there yet."""
    given = places(__doc__.splitlines()[0], OUT)
    answers = given.out / "thunder.json"
    if not answers.is_file():
        ask(given.photos, given.teacher, answers)
    write_all(given.photos, answers, given.out)


def places(description: str, out: Path) -> argparse.Namespace:
    """Where `photos` and `teacher` lie and what is written goes (`out`), by the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="the folder of lsp-photos")
    parser.add_argument("--teacher", type=Path, default=THUNDER, help="movenet-thunder.onnx")
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


def ask(photos: Path, teacher: Path, out: Path) -> None:
    """Write the teacher's keypoints of the training persons, whose boxes are those of the annotations."""
    config = ImagesConfig(folder=(photos / "images",), boxes=photos / "annotations" / "train.json")
    label_pictures(config, open_teacher(str(teacher)), out, log=RunLog(None))


def write_all(photos: Path, answers: Path, out: Path) -> None:
    """Write the annotation files of the study."""
    people = {split: read(photos / "annotations" / f"{split}.json") for split in ("train", "tune", "test")}
    info = read(photos / "metainfo.json")
    names = [name for name in info["names"] if name in info["to_coco17"]]  # people and COCO name these twelve
    write_json(out / "metainfo.json", metainfo(info, names))
    for split in ("tune", "test"):
        write_json(out / f"{split}.json", with_keypoints(people[split], names))
    labelled = with_keypoints(people["train"], names)
    told = as_named_by(with_keypoints(read(answers), names), labelled)
    write_json(out / "train-thunder.json", told)
    named = {each["id"] for each in told["annotations"]}
    shown = shows_labels([each for each in labelled["annotations"] if each["id"] in named], LABELLED)
    write_json(out / f"train-{LABELLED}.json", {**labelled, "annotations": list(shown.values())})
    # The very persons of train-thunder.json in their order, so that a teacher is asked once about both.
    mixed = [shown.get(each["id"], each) for each in told["annotations"]]
    write_json(out / f"train-{LABELLED}-thunder.json", {**labelled, "annotations": mixed})


def with_keypoints(coco: Coco, names: list[str]) -> Coco:
    """A COCO file with these keypoints only, in this order, and their edges."""
    (category,) = coco["categories"]
    places = [category["keypoints"].index(name) for name in names]
    kept = {place + 1: number + 1 for number, place in enumerate(places)}
    edges = [[kept[a], kept[b]] for a, b in category["skeleton"] if a in kept and b in kept]
    return {
        "images": coco["images"],
        "annotations": [_with(each, places) for each in coco["annotations"]],
        "categories": [{"id": category["id"], "name": "person", "keypoints": names, "skeleton": edges}],
    }


def as_named_by(told: Coco, labelled: Coco) -> Coco:
    """The teacher's answers in the labelled file's order of persons, under its numbers of images and persons."""
    number = {image["file_name"]: image["id"] for image in labelled["images"]}
    name = {image["id"]: image["file_name"] for image in told["images"]}
    answer = {number[name[each["image_id"]]]: each for each in told["annotations"]}
    annotations = [
        {**answer[each["image_id"]], "id": each["id"], "image_id": each["image_id"], "bbox": each["bbox"]}
        for each in labelled["annotations"]
        if each["image_id"] in answer
    ]
    return {**labelled, "annotations": annotations}


def shows_labels(annotations: list[dict[str, Any]], count: int) -> dict[int, dict[str, Any]]:
    """A seeded choice among those with labels, by their id and in their order."""
    labelled = [each for each in annotations if each["num_keypoints"]]
    chosen = set(random.Random(SEED).sample(range(len(labelled)), count))
    return {each["id"]: each for place, each in enumerate(labelled) if place in chosen}


def metainfo(info: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Mirror partners, spreads and the pair that PCK is measured by, for these keypoints."""
    place = {info["names"].index(name): number for number, name in enumerate(names)}
    return {
        "names": names,
        "skeleton": [[place[a], place[b]] for a, b in info["skeleton"] if a in place and b in place],
        "flip_pairs": [[place[a], place[b]] for a, b in info["flip_pairs"] if a in place and b in place],
        "sigmas": [info["sigmas"][old] for old in place],
        "pck_norm": info["pck_norm"],
    }


def read(path: Path) -> Any:
    """The JSON of a file."""
    if not path.is_file():
        raise UserError(f"no file {path}: this study needs lsp-photos and MoveNet Thunder (--photos, --teacher)")
    return json.loads(path.read_text())


def _with(annotation: dict[str, Any], places: list[int]) -> dict[str, Any]:
    rows = [annotation["keypoints"][3 * place : 3 * place + 3] for place in places]
    kept = {key: annotation[key] for key in ("id", "image_id", "category_id", "iscrowd", "bbox", "area")}
    numbers = [number for row in rows for number in row]
    return {**kept, "keypoints": numbers, "num_keypoints": sum(row[2] > 0 for row in rows)}


if __name__ == "__main__":
    main()
