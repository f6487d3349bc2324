"""Persons a second that reach a student at 256x192: posestill's ways beside the plain chain, in one process.

python benchmarks/loader.py [--json results/loader.json]

Pictures are made on the spot: 640x480 JPEGs of some 155 kB, as COCO's are, with 2.6 persons each whose boxes are spread
as COCO's. The plain chain is what one would write down: imread, cvtColor, warpAffine, a normalised float tensor, and a
heatmap a joint. It is timed in turns of 256 persons with the others, and the ratios are those of the processor time of
one turn: other work on the machine then slows both sides alike.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from posestill.data.augment import AugmentConfig
from posestill.data.batches import BatchPlan, JoinedBatches, PlannedBatches, pictures_of
from posestill.data.coco import CocoSource
from posestill.data.crop_pack import PackedCrops, pack_crops
from posestill.data.topdown import TopDownDataset
from posestill.engine.surroundings import surroundings
from posestill.files import Outputs, write_json
from posestill.skeletons import COCO_17
from posestill.types import Person

SIZE, BATCH, TOGETHER, PICTURES, QUALITY = (256, 192), 64, 4, 240, 90
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def write_pictures(folder: Path, pictures: int = PICTURES) -> Path:
    """Pictures and their annotations; returns the annotation file."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "images").mkdir()
    for number in range(1, pictures + 1):
        name = f"{number:06d}.jpg"
        cv2.imwrite(str(folder / "images" / name), picture(rng), [cv2.IMWRITE_JPEG_QUALITY, 95])
        images.append({"id": number, "file_name": name, "width": 640, "height": 480})
        for _ in range(1 + rng.poisson(1.6)):
            height = min(440.0, 130 * math.exp(0.65 * rng.normal()))
            width = min(500.0, 0.45 * height * math.exp(0.4 * rng.normal()))
            corner = rng.random(2) * [640 - width, 480 - height]
            points = corner + rng.random((17, 2)) * [width, height]
            visible = rng.choice([0, 2], p=[0.3, 0.7], size=(17, 1))
            keypoints = np.concatenate([points * (visible > 0), visible], axis=1)
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                "bbox": [*corner.tolist(), width, height], "area": 0.5 * width * height,
                "keypoints": keypoints.reshape(-1).tolist(), "num_keypoints": int((visible > 0).sum()),
            })  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.names), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(content))
    return folder / "people.json"


def picture(rng: np.random.Generator) -> np.ndarray:
    """(480, 640, 3) uint8 noise, finer in brightness than in colour, whose JPEG is as large as a photograph's."""
    image = np.full((480, 640, 3), 120.0, np.float32)
    for coarse, strength, channels in ((64, 35, 3), (16, 15, 3), (16, 20, 1), (4, 16, 1), (1, 6, 1)):
        noise = rng.normal(size=(480 // coarse + 1, 640 // coarse + 1, channels)).astype(np.float32)
        image += strength * np.atleast_3d(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC))
    return image.clip(0, 255).astype(np.uint8)


class PlainChain:
    """What one would write down, person by person."""

    def __init__(self, source: CocoSource) -> None:
        self.source = source
        self.rng = np.random.default_rng(0)

    def batch(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, H, W) and heatmaps (B, K, h, w)."""
        items = [self.person(self.source.people[each]) for each in index]
        return torch.stack([image for image, _ in items]), torch.from_numpy(np.stack([maps for _, maps in items]))

    def person(self, person: Person) -> tuple[torch.Tensor, np.ndarray]:
        image = cv2.imread(str(self.source.image_path(person.image_id)), cv2.IMREAD_COLOR)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        affine = self.affine(person)
        crop = cv2.warpAffine(image, affine, (SIZE[1], SIZE[0]), flags=cv2.INTER_LINEAR)
        values = torch.from_numpy(crop).permute(2, 0, 1).contiguous().float().div_(255)
        maps = np.zeros((17, SIZE[0] // 4, SIZE[1] // 4), np.float32)
        for joint, (x, y, visible) in enumerate(person.keypoints):
            if visible > 0:
                self.draw(maps[joint], (affine @ [x, y, 1.0]) / 4)
        return values.sub_(MEAN).div_(DEVIATION), maps

    def affine(self, person: Person) -> np.ndarray:
        x, y, width, height = person.bbox
        scale = max(width / SIZE[1], height / SIZE[0]) * 1.25 * (1 + np.clip(0.5 * self.rng.normal(), -0.5, 0.5))
        angle = np.clip(80 * self.rng.normal(), -80, 80) if self.rng.random() < 0.6 else 0.0
        affine = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), angle, 1 / scale)
        affine[:, 2] += [SIZE[1] / 2 - x - width / 2, SIZE[0] / 2 - y - height / 2]
        return affine

    def draw(self, heatmap: np.ndarray, place: np.ndarray, sigma: float = 2.0) -> None:
        """A Gaussian cut off at three sigma, as Simple Baselines draws it."""
        reach = int(3 * sigma)
        column, row = (int(each + 0.5) for each in place)
        across = np.arange(2 * reach + 1, dtype=np.float32) - reach
        patch = np.exp(-(across**2 + across[:, None] ** 2) / (2 * sigma**2))
        top, left = max(0, row - reach), max(0, column - reach)
        bottom, right = min(heatmap.shape[0], row + reach + 1), min(heatmap.shape[1], column + reach + 1)
        if top < bottom and left < right:
            heatmap[top:bottom, left:right] = patch[
                top - row + reach : bottom - row + reach, left - column + reach : right - column + reach
            ]


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the processor, and of the clock."""
    clock, used = time.perf_counter(), time.process_time()
    work()
    return {"processor": time.process_time() - used, "clock": time.perf_counter() - clock}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def alternate(ways: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, Any]:
    """Each way's persons a second and how many times the plain chain's that is; the first round warms up."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            took = timed(lambda way=way, number=number: way(number))
            if number:
                turns[name].append(took)
    persons = BATCH * TOGETHER
    return {
        name: {
            "persons_per_second_of_processor": spread([persons / each["processor"] for each in of_way]),
            **{
                f"times_plain_by_{kind}": spread(
                    [one[kind] / other[kind] for one, other in zip(turns["plain chain"], of_way, strict=True)]
                )
                for kind in ("processor", "clock")
            },
        }
        for name, of_way in turns.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = CocoSource(write_pictures(folder), images=folder / "images")
        files = TopDownDataset(source, size=SIZE, augment=AugmentConfig())
        began = time.perf_counter()
        pack_crops(files, folder / "crops", density=1.25, quality=QUALITY, outputs=Outputs("benchmark"))
        packing = time.perf_counter() - began
        packed = PackedCrops(files, folder / "crops", density=1.25)
        plain = PlainChain(source)
        plans = {
            order: BatchPlan(
                files.labels, batch_size=BATCH, labelled_per_batch=None, seed=0, buffer=BATCH * TOGETHER,
                pictures=pictures_of(source, files.labels) if order == "by_image" else None,
            )
            for order in ("by_person", "by_image")
        }  # fmt: skip

        def turn(order: str, number: int) -> list[list[tuple[int, int]]]:
            start = number * TOGETHER
            planned = PlannedBatches(plans[order], start=start, stop=start + TOGETHER, rank=0, world=1)
            return list(JoinedBatches(planned))

        def cut(dataset: TopDownDataset, order: str) -> Callable[[int], object]:
            return lambda number: [dataset.__getitems__(pairs) for pairs in turn(order, number)]

        ways: dict[str, Callable[[int], object]] = {
            "plain chain": lambda number: [
                plain.batch([index for _, index in pairs]) for pairs in turn("by_person", number)
            ],
            "from files, by person": cut(files, "by_person"),
            "from files, by image": cut(files, "by_image"),
            "packed crops": cut(packed, "by_person"),
        }
        found = alternate(ways, options.rounds)
        pairs = plans["by_person"].batch(0)
        apart = (files.__getitems__(pairs).image.float() - packed.__getitems__(pairs).image.float()).abs()
        whole = torch.from_numpy(packed.index.to_kept[[index for _, index in pairs], 1, 0, 0] == 1)
        figures = {
            "command": "python benchmarks/loader.py --json results/loader.json",
            "size": SIZE,
            "batch": BATCH,
            "threads": 1,
            "pictures": PICTURES,
            "persons": len(files),
            "persons_per_picture": len(files) / PICTURES,
            "kilobytes_a_picture": sum(each.stat().st_size for each in (folder / "images").iterdir()) / PICTURES / 1000,
            "augment": AugmentConfig().model_dump(),
            "ways": found,
            "packed": {
                "quality": QUALITY,
                "kilobytes_a_person": (folder / "crops").stat().st_size / len(files) / 1000,
                "seconds_to_pack_a_thousand": 1000 * packing / len(files),
                "grey_levels_from_files": {
                    "mean": apart.mean().item(),
                    "persons_no_larger_than_the_input": whole.float().mean().item(),
                    "mean_of_those": apart[whole].mean().item(),
                    "largest_of_those": apart[whole].max().item(),
                },
            },
            "surroundings": surroundings(),
        }
    print(json.dumps(figures, indent=2))
    if options.json is not None:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
