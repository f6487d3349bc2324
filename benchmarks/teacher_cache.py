"""A teacher that is asked once: what a step costs from its kept answers, how exactly they are replayed, and kills.

python benchmarks/teacher_cache.py --json results/teacher-cache.json     (seven minutes on one core of its own)

A step is all of it: crops cut from memory, the teacher's answer, forward, backward and the optimiser. All ways of a
student alternate in one process. The kills are real: a process that fills a folder is ended by SIGKILL ten times.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from steps import alternate

from posestill.codecs.base import Codec, MapForm
from posestill.codecs.coords import CoordsConfig
from posestill.codecs.heatmap import HeatmapConfig
from posestill.codecs.simcc import SimccConfig
from posestill.data.augment import AugmentConfig
from posestill.data.synthetic.people import SyntheticConfig
from posestill.data.topdown import Labels, TopDownDataset, teacher_crop
from posestill.engine.config import RunConfig, load_run
from posestill.engine.log import RunLog
from posestill.engine.optim import build_optimiser
from posestill.engine.setup import Sources, set_up
from posestill.engine.surroundings import surroundings
from posestill.files import write_json
from posestill.geometry import Framing, affine_to_input, crop_of_bbox
from posestill.skeletons import COCO_17
from posestill.teachers.base import CacheConfig, ModelTeacher, Teacher
from posestill.teachers.bridge import to_student
from posestill.teachers.cache import CachedTeacher
from posestill.teachers.checkpoint import BundledConfig
from posestill.teachers.kept import kept_by
from posestill.types import Heatmaps, PoseBatch, PoseOutput, Size

QUIET = RunLog(None, quiet=True)
PEOPLE, BATCH, SIZE = 512, 64, (128, 96)
STUDENTS = {
    "small_resnet": [
        "model.backbone={name: small_resnet, channels: [16, 32, 64, 128]}", "model.head=flat_fc", "model.codec=coords",
    ],
    "mobilenetv3_small_050": [
        "model.backbone=mobilenetv3_small_050", "model.head=simcc", "model.codec={name: simcc, sigma: [3.5, 4.0]}",
    ],
}  # fmt: skip
"""a coordinate student, and the one that `posestill distil` trains on pictures"""


# steps


def ways_of(student: str, folder: Path) -> dict[str, list[str]]:
    """The changes of a run that make each way of training a student."""
    ways = {
        "supervised": ["method=supervised"],
        "pseudo_label, kept in memory": ["method=pseudo_label", "teacher={name: bundled, cache: true}"],
        "pseudo_label, kept on disk": ["method=pseudo_label", kept_in(folder / "keypoints", "keypoints")],
        "pseudo_label, live": ["method=pseudo_label", "teacher=bundled"],
        "pkd, kept on disk": ["method=pkd", kept_in(folder / "features", "features")],
        "pkd, live": ["method=pkd", "teacher=bundled"],
    }
    if "simcc" not in " ".join(STUDENTS[student]):
        ways["simulated_heatmap, kept on disk"] = ["method=simulated_heatmap", kept_in(folder / "maps", "maps")]
        ways["simulated_heatmap, live"] = ["method=simulated_heatmap", "teacher=bundled"]
    return ways


def kept_in(folder: Path, keep: str) -> str:
    return f"teacher={{name: bundled, cache: {{folder: '{folder}', keep: {keep}}}}}"


def step_of(config: RunConfig, sources: Sources) -> Callable[[], None]:
    """A whole training step of a run, on the next batch of its own order each time."""
    built = set_up(config, sources, device=torch.device("cpu"), world=1, log=QUIET)
    method = built.distiller.train()
    optimiser = build_optimiser(config.train.optimiser, method, method.parameter_groups())
    steps = count()

    def step() -> None:
        batch = built.dataset.__getitems__(built.batches.batch(next(steps)))
        optimiser.zero_grad()
        torch.stack(list(method(batch, 0.5).values())).sum().backward()
        optimiser.step()
        method.after_step()

    return step


def steps_of(student: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Milliseconds of each way of training a student, and how many times those of training it on labels alone."""
    common = [
        f"data.train.people={PEOPLE}", "data.crops={}", f"model.size={list(SIZE)}", f"train.batch_size={BATCH}",
        f"data.labelled={PEOPLE // 2}", *STUDENTS[student],
    ]  # fmt: skip
    sources = None
    ways = {}
    for name, changes in ways_of(student, folder).items():
        config = load_run("students", [*common, *changes])
        sources = sources or Sources(train=config.data.train.build(), val=config.data.val.build())
        ways[name] = step_of(config, sources)
    return alternate(ways, rounds, beside="supervised")


# replay


class Drawer(Teacher):
    """Draws a Gaussian at each of a batch's keypoints, in its own crop."""

    provides = frozenset({"prediction"})

    def __init__(self, codec: Codec, size: Size) -> None:
        self.codec, self.input_size, self.skeleton, self.lineage = codec, size, COCO_17, {"sha256": "none"}

    def __call__(self, batch: PoseBatch) -> PoseOutput:
        maps, _ = self.codec.encode(batch.keypoints, torch.ones(batch.keypoints.shape[:2]))
        return PoseOutput(Heatmaps(maps))


def replay_error(people: int, epochs: int) -> dict[str, Any]:
    """How far maps that are replayed from the upright crop are from exact ones, by random augmentations.

    `place`: the decoded place against that of the keypoint itself, whose Gaussian was stored. `exact warp`: the same
    against the stored map resampled in float64, and how much the two maps differ at most.
    """
    size = (256, 192)
    teacher = Drawer(HeatmapConfig().build(size), size)
    source = SyntheticConfig(people=people, profile="medium", seed=5).build()
    labels = Labels(np.arange(people), np.ones(people, dtype=bool))
    asked = CachedTeacher(teacher, size=size, config=CacheConfig(keep="maps"))
    upright = asked.crops_to_ask_about(teacher, source, labels, AugmentConfig())
    asked.ask(Unflipped(teacher), upright)
    form = teacher.codec.form
    assert isinstance(form, MapForm)
    shown = TopDownDataset(source, size=size, augment=AugmentConfig(), seed=1)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("place", "warp", "height", "mirrored")}
    for epoch in range(epochs):
        for at in range(0, people, BATCH):
            pairs = [(epoch, index) for index in range(at, min(at + BATCH, people))]
            batch, flat = shown.__getitems__(pairs), upright.__getitems__(pairs)
            replayed = asked(batch).prediction
            assert isinstance(replayed, Heatmaps)
            exact = exactly(asked, batch, form)
            read = [form.to_map(teacher.codec.decode(Heatmaps(each)).xy) for each in (replayed.maps, exact.float())]
            true = form.to_map(batch.keypoints)
            limit = torch.tensor([form.size[1], form.size[0]]) - 1
            there = (batch.weight > 0) & ((true >= 2) & (true <= limit - 2)).all(-1)
            before = form.to_map(flat.keypoints)  # what the teacher never saw whole cannot be replayed
            swapped = torch.where(batch.mirrored()[:, None, None], before[:, list(COCO_17.swap)], before)
            there &= ((swapped >= 2) & (swapped <= limit - 2)).all(-1)
            found["place"].append((read[0] - true).norm(dim=-1)[there].numpy())
            found["warp"].append((read[0] - read[1]).norm(dim=-1)[there].numpy())
            found["height"].append((replayed.maps - exact).abs().amax(dim=(-1, -2))[there].numpy())
            found["mirrored"].append(batch.mirrored()[:, None].expand_as(there)[there].numpy())
    every = {name: np.concatenate(each) for name, each in found.items()}
    return {
        "augment": AugmentConfig().model_dump(),
        "maps": form.size,
        "sigma": form.sigma,
        "keypoints": len(every["place"]),
        "place, map px": spread_of(every["place"]),
        "place in mirrored crops, map px": spread_of(every["place"][every["mirrored"]]),
        "place against the exact warp, map px": spread_of(every["warp"]),
        "height against the exact warp": spread_of(every["height"]),
    }


class Unflipped(Teacher):
    """The same teacher for a question about mirrored crops: it knows the labels of the crops as they were."""

    def __init__(self, teacher: Drawer) -> None:
        self.teacher, self.questions = teacher, 0
        self.codec, self.skeleton, self.input_size = teacher.codec, teacher.skeleton, teacher.input_size
        self.provides, self.lineage = teacher.provides, teacher.lineage

    def __call__(self, batch: PoseBatch) -> PoseOutput:
        self.questions += 1
        if self.questions % 2:
            return self.teacher(batch)
        xy = batch.keypoints[:, list(COCO_17.swap)]
        mirrored = torch.stack([self.input_size[1] - 1 - xy[..., 0], xy[..., 1]], dim=-1)
        maps, _ = self.codec.encode(mirrored, torch.ones(xy.shape[:2]))
        return PoseOutput(Heatmaps(maps))


def exactly(asked: CachedTeacher, batch: PoseBatch, form: MapForm) -> torch.Tensor:
    """(B, K, h, w) fp64: the stored maps under the augmentation, by affines and a bilinear sample in float64."""
    assert asked.store is not None
    assert asked.upright is not None
    index = batch.index.numpy()
    rows = asked.store.rows(index, np.zeros_like(index), ("cell", "height"))
    height, width = form.size
    stored = np.zeros((*rows["cell"].shape[:2], height * width))
    np.put_along_axis(stored, rows["cell"].astype(np.int64), rows["height"].astype(np.float64), axis=-1)
    stored = stored.reshape(*stored.shape[:2], height, width)
    mirrored = batch.mirrored().numpy()
    stored[mirrored] = stored[mirrored][:, list(COCO_17.swap)]
    student, teacher = asked.upright.student, asked.upright.teacher
    crop = crop_of_bbox(asked.upright.boxes[index], student.size)
    affine = affine_to_input(teacher_crop(crop, teacher), teacher.size)  # (B, 2, 3) image px -> upright px
    cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2).astype(np.float64)
    seen = form.to_input(torch.from_numpy(cells)).expand(len(index), -1, -1)
    framings = {"teacher": Framing(teacher.size, teacher.padding), "student": student}
    own = to_student(seen, **framings, mirrored=batch.mirrored()).numpy()
    to_image = batch.to_image.double().numpy()
    image = own @ to_image[:, :, :2].swapaxes(1, 2) + to_image[:, None, :, 2]
    upright = image @ affine[:, :, :2].swapaxes(1, 2) + affine[:, None, :, 2]
    place = form.to_map(torch.from_numpy(upright)).numpy()  # (B, h w, 2)
    low = np.floor(place).astype(int)
    share = place - low
    padded = np.pad(stored, ((0, 0), (0, 0), (1, 2), (1, 2)))
    found = np.zeros((*stored.shape[:2], height * width))
    batch_rows = np.arange(len(index))[:, None]
    for right in (0, 1):
        for down in (0, 1):
            column, row = (np.clip(low[..., axis] + step, -1, length) for axis, step, length in
                           ((0, right, width), (1, down, height)))  # fmt: skip
            weight = np.abs(1 - right - share[..., 0]) * np.abs(1 - down - share[..., 1])
            values = padded[batch_rows, :, row + 1, column + 1]  # (B, h w, K)
            found += (values * weight[..., None]).swapaxes(1, 2)
    return torch.from_numpy(found.reshape(stored.shape))


def spread_of(values: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(values)), "p95": float(np.quantile(values, 0.95)), "max": float(values.max())}


# room


class Shaped(Teacher):
    """A teacher of some shapes, for what its answers take on disk."""

    provides = frozenset({"prediction", "features"})

    def __init__(self, codec: Codec, feature: tuple[int, int, int] = (1, 1, 1)) -> None:
        self.codec, self.input_size, self.skeleton, self.lineage = codec, codec.size, COCO_17, {}
        self.feature_shapes = (feature,)


def bytes_a_crop() -> dict[str, int]:
    """What the answer about one crop of 256x192 takes, of 17 keypoints."""
    size = (256, 192)
    maps, bins, coords = HeatmapConfig().build(size), SimccConfig().build(size), CoordsConfig().build(size)
    asked = {
        "keypoints": ("keypoints", Shaped(coords)),
        "maps, 64x48 with sigma 2": ("maps", Shaped(maps)),
        "bins, 384 and 512": ("bins", Shaped(bins)),
        "features, 2048x8x6 (ResNet-50)": ("features", Shaped(coords, (2048, 8, 6))),
        "features, 768x16x12 (ViT-B)": ("features", Shaped(coords, (768, 16, 12))),
    }
    found = {}
    for name, (keep, teacher) in asked.items():
        kept = kept_by(CacheConfig(keep=keep, views=1), teacher, Framing(size))
        found[name] = sum(field.nbytes for field in kept.fields.values())
    return {**found, "for comparison: whole maps in fp16": 17 * 64 * 48 * 2}


# kills


def fill(folder: Path, people: int) -> None:
    """Fill a folder; each chunk is noted before anyone is asked. What `--fill` does in a process of its own."""
    call = ModelTeacher.__call__

    def noted(teacher: ModelTeacher, batch: PoseBatch) -> PoseOutput:
        print(int(batch.index[0]) // BATCH, flush=True)
        return call(teacher, batch)

    ModelTeacher.__call__ = noted  # type: ignore[method-assign]
    asked, dataset, teacher = bundled(folder, people)
    print("ready", flush=True)
    asked.ask(teacher, dataset)


def bundled(folder: Path, people: int) -> tuple[CachedTeacher, TopDownDataset, Teacher]:
    source, teacher = SyntheticConfig(people=people, profile="medium", seed=5).build(), BundledConfig().build()
    asked = CachedTeacher(teacher, size=(64, 48), config=CacheConfig(folder=folder, keep="maps"))
    labels = Labels(np.arange(people), np.ones(people, dtype=bool))
    return asked, asked.crops_to_ask_about(teacher, source, labels, AugmentConfig()), teacher


def kills(people: int, times: int, folder: Path) -> dict[str, Any]:
    """A process that fills a folder, killed so many times in a row and then left alone; beside an undisturbed one."""
    whole, parts, draws = folder / "whole", folder / "parts", random.Random(0)
    chunks, seconds = run_fill(whole, people, after=None)
    each: list[dict[str, Any]] = []
    again = 0
    for _ in range(times):
        before = recorded(parts)
        after = draws.uniform(0, 1.6 * seconds / times)
        asked, _ = run_fill(parts, people, after=after)
        again += len(asked & before)
        each.append({"killed after s": after, "asked": len(asked), "recorded": len(recorded(parts) - before)})
    before = recorded(parts)
    asked, _ = run_fill(parts, people, after=None)
    again += len(asked & before)
    same = {path.name: (parts / path.name).read_bytes() == path.read_bytes() for path in whole.iterdir()
            if path.name not in ("lock", "complete.json")}  # fmt: skip
    return {
        "chunks": len(chunks),
        "seconds undisturbed": seconds,
        "kills": each,
        "asked after the last kill": len(asked),
        "recorded chunks that were asked about again": again,
        "the bytes are those of an undisturbed process": same,
    }


def run_fill(folder: Path, people: int, *, after: float | None) -> tuple[set[int], float]:
    """The chunks that a process asked about, and for how many s, before it was killed `after` s (None: it was done)."""
    command = [sys.executable, __file__, "--fill", str(folder), "--people", str(people)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    if after is not None:
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
    said = process.communicate()[0]
    assert process.returncode == (0 if after is None else -signal.SIGKILL)
    return {int(line) for line in said.split()}, time.monotonic() - began


def recorded(folder: Path) -> set[int]:
    path = folder / "chunks.jsonl"
    text = path.read_text() if path.is_file() else ""
    return {int(number) for number in re.findall(r'"chunk": (\d+), "crc32": "\w{8}"', text)}


def opening(folder: Path, people: int) -> dict[str, Any]:
    """Seconds to open a complete folder: checked anew, as after a copy, and as any later run does."""
    asked, dataset, teacher = bundled(folder / "whole", people)
    size = sum(path.stat().st_size for path in (folder / "whole").glob("*.npy"))
    found: dict[str, Any] = {"megabytes": size / 1e6}
    (folder / "whole" / "complete.json").unlink()
    for name in ("seconds with the check", "seconds"):
        began = time.perf_counter()
        asked.ask(teacher, dataset)
        found[name] = time.perf_counter() - began
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--fill", type=Path, help="for the kills: fill this folder and nothing else")
    parser.add_argument("--people", type=int, default=3200, help="of the kills")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if asked.fill is not None:
        fill(asked.fill, asked.people)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures: Mapping[str, Any] = {
            "command": "python benchmarks/teacher_cache.py --json results/teacher-cache.json",
            "steps": {
                "input": SIZE, "batch": BATCH, "threads": 1, "rounds": asked.rounds, "students": STUDENTS,
                **{student: steps_of(student, asked.rounds, folder) for student in STUDENTS},
            },
            "replay of maps": replay_error(256, 4),
            "bytes a crop": bytes_a_crop(),
            "kills": kills(asked.people, 10, folder),
            "opening": opening(folder, asked.people),
            "surroundings": surroundings(),
        }  # fmt: skip
    if asked.json is not None:
        write_json(asked.json, figures)
    else:
        print(figures)


if __name__ == "__main__":
    main()
