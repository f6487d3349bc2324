"""What a video costs end to end, with its time by stage, and the memory that 10,000 frames take.

A minute of 720p in which three synthetic people move is made on the spot, and predicted as
`posestill predict --track --smooth --save-results poses.jsonl` does, drawing included. Then 10,000 small frames are
predicted, and the resident memory is read as they pass.

python benchmarks/video.py [--detector FILE] [--model FOLDER] [--busy TEXT] [--json results/video.json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import posestill
from posestill.data.images import FoundBoxes
from posestill.data.synthetic.drawing import background, draw_figure
from posestill.data.synthetic.figure import NUM_DRAWS, Figures, pose_people
from posestill.data.synthetic.people import PROFILES
from posestill.engine.surroundings import surroundings
from posestill.predict.files import find_images
from posestill.predict.people import Following, whole_frame
from posestill.predict.predictor import Predictor
from posestill.predict.run import Predicted, predict_files
from posestill.predict.smooth import OneEuroConfig

SIZE, RATE, SECONDS, PEOPLE = (720, 1280), 30, 60, 3
SMALL, MANY = (96, 128), 10_000
CELL = (240, 180)
BUNDLED = Path(posestill.__file__).parent / "assets" / "teacher"


def moving_people(frames: int, size: tuple[int, int], people: int) -> list[Figures]:
    """The people of each frame: their limbs swing, and each walks to and fro on its own part of the ground."""
    rng = np.random.default_rng(0)
    seconds = np.arange(frames)[:, None, None] / RATE
    base = rng.uniform(0.3, 0.7, (people, NUM_DRAWS))
    swing = np.zeros((people, NUM_DRAWS))
    swing[:, 1:16] = rng.uniform(0.1, 0.3, (people, 15))  # the angles of limbs
    pace = rng.uniform(0.2, 0.7, (people, NUM_DRAWS))  # Hz
    draws = base + swing * np.sin(2 * np.pi * pace * seconds + rng.uniform(0, 6, (people, NUM_DRAWS)))
    figures = pose_people(draws.reshape(-1, NUM_DRAWS), PROFILES["easy"], CELL)
    height, width = size
    scale = np.tile(rng.uniform(0.7, 0.9, people) * height / CELL[0], frames)
    across = (np.arange(people) + 0.5) / people + 0.08 * np.sin(2 * np.pi * 0.1 * seconds[:, :, 0] + np.arange(people))
    foot = np.stack([(across * width).reshape(-1), np.full(frames * people, 0.93 * height)], axis=-1)
    stood = figures.bbox[:, :2] + figures.bbox[:, 2:] * [0.5, 1.0]
    moved = figures.moved(scale, foot - scale[:, None] * stood)
    fields = moved.__dict__
    return [
        Figures(**{name: each[at : at + people] for name, each in fields.items()})
        for at in range(0, frames * people, people)
    ]


def write_video(path: Path, figures: list[Figures], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    empty = background(rng, size, PROFILES["easy"].clutter)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (size[1], size[0]))
    for each in figures:
        image = empty.copy()
        for index in range(len(each.bbox)):
            draw_figure(image, each, index, np.random.default_rng(10 + index), light=0.0)
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()


def resident() -> float:
    """MB of memory that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def whole_minute(model: Predictor, detector: Path | None, folder: Path) -> dict[str, Any]:
    figures = moving_people(RATE * SECONDS, SIZE, PEOPLE)
    write_video(folder / "people.mp4", figures, SIZE)
    asked = 0

    def known(image: np.ndarray) -> FoundBoxes:
        """A stand-in for a detector: where the people are when the video begins."""
        return FoundBoxes(figures[0].bbox, np.ones(PEOPLE))

    finder: Callable[[np.ndarray], FoundBoxes] = known
    if detector is not None:
        from posestill.teachers.detect import Detector

        finder = Detector(detector)

    def counted(image: np.ndarray) -> FoundBoxes:
        nonlocal asked
        asked += 1
        return finder(image)

    began, used = time.perf_counter(), time.process_time()
    done = predict_files(
        model,
        find_images([folder / "people.mp4"])[0],
        out=folder / "drawn",
        results=folder / "poses.jsonl",
        finder=counted,
        following=Following(track=True, find_every=30 if detector else 10**9, smooth=OneEuroConfig()),
    )
    seconds, used = time.perf_counter() - began, time.process_time() - used
    lines = [json.loads(line) for line in (folder / "poses.jsonl").read_text().splitlines()]
    return {
        "video": f"{SECONDS} s, {RATE} frames a second, {SIZE[1]}x{SIZE[0]} px, {PEOPLE} people",
        "finder": f"{detector.name}, asked every 30 frames" if detector else "known boxes of the first frame",
        **of_stages(done, seconds),
        "processor_seconds": round(used, 1),
        "finder_asked": asked,
        "poses": done.people,
        "tracks": len({person["track"] for line in lines for person in line["people"]}),
        "keypoint_error": keypoint_error(figures, lines),
    }


def keypoint_error(figures: list[Figures], lines: list[dict[str, Any]]) -> dict[str, float]:
    """The median distance of a keypoint from its true place, as a share of the person's height, and who was missed."""
    errors, missed = [], 0
    for truth, line in zip(figures, lines, strict=True):
        found = [np.array([[each[0], each[1]] for each in person["keypoints"].values()]) for person in line["people"]]
        for keypoints, hidden, box in zip(truth.keypoints, truth.hidden, truth.bbox, strict=True):
            near = [np.linalg.norm(each - keypoints, axis=-1)[~hidden] / box[3] for each in found]
            best = min(near, key=np.median, default=np.full(1, np.inf))
            missed += bool(np.median(best) > 0.2)
            errors.append(best)
    together = np.concatenate(errors)
    return {"median": round(float(np.median(together)), 4), "people_missed": missed / (len(figures) * PEOPLE)}


def of_stages(done: Predicted, seconds: float) -> dict[str, Any]:
    told = {name: round(each, 2) for name, each in done.stages.seconds.items()}
    return {
        "frames": done.frames,
        "seconds": round(seconds, 1),
        "frames_a_second": round(done.frames / seconds, 1),
        "seconds_by_stage": {**told, "everything else": round(seconds - sum(done.stages.seconds.values()), 2)},
    }


def many_frames(model: Predictor, folder: Path) -> dict[str, Any]:
    figures = moving_people(300, SMALL, 1)
    write_video(folder / "small.mp4", [figures[number % 300] for number in range(MANY)], SMALL)
    memory: dict[int, float] = {}
    count = 0

    def finder(image: np.ndarray) -> FoundBoxes:
        nonlocal count
        count += 1
        if count in (1, 100, 500, 1000, 2000, 5000, MANY):
            memory[count] = round(resident(), 1)
        return whole_frame(image)

    began = time.perf_counter()
    done = predict_files(
        model,
        find_images([folder / "small.mp4"])[0],
        out=folder / "drawn",
        results=folder / "small.jsonl",
        finder=finder,
        following=Following(smooth=OneEuroConfig()),
    )
    seconds = time.perf_counter() - began
    return {
        "video": f"{MANY} frames of {SMALL[1]}x{SMALL[0]} px, drawn",
        **of_stages(done, seconds),
        "resident_mb_at_frame": memory,
        "resident_mb_after": round(resident(), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--busy", default="", help="what else the machine did meanwhile, in words")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    model = posestill.load(asked.model)
    figures: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/video.py", *sys.argv[1:]]),
        "model": "bundled" if asked.model == BUNDLED else str(asked.model),
        "crop": model.model.config.size,
        "machine_was": asked.busy or "not said",
        "surroundings": surroundings(),
        "load_of_the_machine": {"before": os.getloadavg()[0]},
    }
    with tempfile.TemporaryDirectory() as folder:
        figures["a_minute"] = whole_minute(model, asked.detector, Path(folder))
        figures["load_of_the_machine"]["between"] = os.getloadavg()[0]
        write(figures, asked.json)  # the second part takes as long again
        figures["ten_thousand_frames"] = many_frames(model, Path(folder))
        figures["load_of_the_machine"]["after"] = os.getloadavg()[0]
    sys.stdout.write(write(figures, asked.json))


def write(figures: dict[str, Any], path: Path | None) -> str:
    text = json.dumps(figures, indent=2) + "\n"
    if path:
        path.write_text(text)
    return text


if __name__ == "__main__":
    main()
