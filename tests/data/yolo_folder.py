"""A YOLO-pose folder made of the COCO sample, as its users have them."""

import json
import shutil
from pathlib import Path

import yaml

from posestill.skeletons import COCO_17


def write_yolo(folder: Path, coco_sample: Path) -> Path:
    """data.yaml, images/{train,val}, labels/{train,val}; crowds are left out, as converters do."""
    for split in ("train", "val"):
        content = json.loads((coco_sample / "annotations" / f"{split}.json").read_text())
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for image in content["images"]:
            shutil.copyfile(coco_sample / "images" / image["file_name"], images / image["file_name"])
            lines = [
                _line(entry, image["width"], image["height"])
                for entry in content["annotations"]
                if entry["image_id"] == image["id"] and not entry["iscrowd"]
            ]
            (labels / image["file_name"]).with_suffix(".txt").write_text("\n".join(lines) + "\n")
    description = {
        "path": str(folder),
        "train": "images/train",
        "val": "images/val",
        "kpt_shape": [17, 3],
        "flip_idx": list(COCO_17.swap),
        "kpt_names": {0: list(COCO_17.names)},
        "names": {0: "person"},
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(description))
    return folder / "data.yaml"


def _line(entry, width, height):
    x, y, w, h = entry["bbox"]
    values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    for start in range(0, 51, 3):
        px, py, v = entry["keypoints"][start : start + 3]
        values += [px / width, py / height, v]
    return "0 " + " ".join(f"{value:.6g}" for value in values)
