"""The page in headless Chromium beside Python: where keypoints lie, milliseconds of the network, and screenshots.

python benchmarks/browser.py [--json results/browser.json] [--screenshots docs]     (needs .ci/browser)

The clip is a synthetic person that a fake camera shows. Times are of the network alone at batch 1 on one thread; the
browser and ONNX Runtime in Python take turns, so that other work on the machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from posestill.deploy import decoder
from posestill.deploy.page import SAMPLE, build_page
from posestill.deploy.runtimes import TARGETS, ExportedNetwork
from posestill.deploy.web_runtime import TESTED, find_runtime
from posestill.deploy.write import Writer
from posestill.engine.config import load_run
from posestill.engine.surroundings import surroundings
from posestill.files import Outputs
from posestill.models.pose_model import PoseModel
from posestill.predict.predictor import Predictor
from posestill.skeletons import COCO_17
from posestill.teachers.checkpoint import BUNDLED
from tests.browser import Browser, Page, camera_flags, chromium, served, web_runtime
from tests.predict.clips import number_of, walking_person, write_y4m

READY = "document.querySelector('[data-chosen]') !== null"
FRAMES, ROUNDS, CALLS = 30, 7, 30
LARGE = "coco/student-resnet18-coords"
WATCH = """
  window.seen = [];
  document.addEventListener("posestill:frame", ({ detail: { frame, models } }) => {
    const row = frame.height - 6;
    const squares = [0, 1, 2, 3, 4, 5].map((at) => frame.data[4 * (row * frame.width + 12 * at + 6)]);
    seen.push({ models, number: squares.reduce((sum, value, digit) => sum + (value > 127) * 2 ** digit, 0) });
  });
"""
"""keeps what the models find in every frame, and the frame's number, which stands in its squares"""


def page_of(models: dict[str, tuple[PoseModel, str]], folder: Path) -> list[Path]:
    """A page of some models, each by its name with a precision; the files of their networks."""
    files = []
    for name, (model, precision) in models.items():
        (folder / name).mkdir(parents=True)
        files.append(Writer(model.eval(), folder / name).write(TARGETS["onnx"], precision))
    build_page([path.parent for path in files], find_runtime(web_runtime()), folder / "page", Outputs("page"))
    return files


def look(page: Page, button: str, count: int) -> list[dict[str, Any]]:
    """What the page finds in so many frames after a button was pressed."""
    page.run(f"seen.length = 0; document.getElementById('{button}').click()")
    page.wait_for(f"seen.length >= {count}", seconds=600)
    found: list[dict[str, Any]] = page.run(f"seen.slice(0, {count})")
    if button == "camera":
        page.run("document.getElementById('stop').click()")
    return found


def px_apart(predictor: Predictor, picture: np.ndarray | Path, found: dict[str, Any]) -> np.ndarray:
    """(K,) px between the page's keypoints and Python's in the same box."""
    own = predictor.predict(picture, [found["box"]])[0]
    return np.linalg.norm(own[:, :2] - np.array(found["pose"])[:, :2], axis=1)


def times_by_turns(page: Page, files: list[Path]) -> list[dict[str, Any]]:
    """Milliseconds of each network in the browser and in Python, the medians of rounds that take turns."""
    networks = [ExportedNetwork(path, threads=1) for path in files]
    rounds: list[list[tuple[float, float, float]]] = [[] for _ in files]
    for _ in range(ROUNDS):
        last = look(page, "camera", FRAMES)[-1]["models"]
        for at, network in enumerate(networks):
            blank = np.full((1, *network.told["size"], 3), 127, dtype=np.uint8)
            given = decoder.tensor(blank, network.told)
            rounds[at].append((last[at]["network"], last[at]["whole"], milliseconds(network, given)))
    return [
        {
            "model": path.parent.name,
            "size": network.told["size"],
            "macs": network.told["macs"],
            "browser_ms": statistics.median(each[0] for each in own),
            "browser_whole_ms": statistics.median(each[1] for each in own),
            "python_ms": statistics.median(each[2] for each in own),
            "times_slower": {
                "median": statistics.median(each[0] / each[2] for each in own),
                "min": min(each[0] / each[2] for each in own),
                "max": max(each[0] / each[2] for each in own),
            },
            "rounds": own,
        }
        for path, network, own in zip(files, networks, rounds, strict=True)
    ]


def milliseconds(network: ExportedNetwork, given: np.ndarray) -> float:
    """The median of some calls."""
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        network(given)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def agreement(page: Page, clip: list[np.ndarray], folder: Path, predictor: Predictor) -> dict[str, Any]:
    """How far apart, px, the page's keypoints and Python's lie on the sample and over the clip, the first model's."""
    (sample,) = look(page, "sample", 1)
    seen = look(page, "camera", 2 * len(clip))
    apart = [px_apart(predictor, clip[each["number"]], each["models"][0]) for each in seen]
    return {
        "sample_px": {"max": float(px_apart(predictor, folder / "page" / SAMPLE, sample["models"][0]).max())},
        "clip_px": {
            "frames": len(seen),
            "different_frames": len({each["number"] for each in seen}),
            "median": float(np.median(apart)),
            "max": float(np.max(apart)),
        },
    }


def take_screenshots(page: Page, folder: Path) -> None:
    """The page on a desktop and on a phone."""
    page.resize(400, 860, scale=2)
    time.sleep(0.5)  # until it is painted
    page.screenshot(folder / "browser-empty.webp", quality=70)
    for name, width, height, scale, dark in (("desktop", 1280, 960, 1, False), ("phone", 400, 860, 2, True)):
        page.resize(width, height, scale=scale, dark=dark)
        look(page, "sample", 1)
        time.sleep(0.5)
        page.screenshot(folder / f"browser-{name}.webp", quality=70)


def figures(folder: Path) -> dict[str, Any]:
    """Everything that is measured, with a page of the bundled teacher and a large model that nothing has trained."""
    torch.manual_seed(0)
    large = PoseModel(load_run(LARGE, []).model, COCO_17, pretrained=False)
    files = page_of({"bundled": (PoseModel.load(BUNDLED), "fp32"), "resnet18": (large, "fp32")}, folder)
    clip = write_y4m(folder / "clip.y4m", walking_person(24))
    assert [number_of(frame) for frame in clip] == list(range(24))
    with served(folder / "page") as address, Browser(*camera_flags(folder / "clip.y4m")) as browser:
        page = browser.open(address)
        page.resize(1200, 900)
        page.wait_for(READY, seconds=600)
        page.run(WATCH)
        found = agreement(page, clip, folder, Predictor(BUNDLED, device="cpu"))
        found["speed"] = times_by_turns(page, files)
        elsewhere = [each for each in browser.requests if not each.startswith((address, "blob:", "data:"))]
        found["requests"] = {"all": len(browser.requests), "elsewhere": len(elsewhere)}
        found["backend"] = page.run("document.querySelector('.badge').innerText")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--screenshots", type=Path, help="a folder for screenshots; nothing is measured then")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="posestill-browser-") as draft:
        folder = Path(draft)
        if asked.screenshots:
            teacher = PoseModel.load(BUNDLED)
            page_of({"teacher-fp32": (teacher, "fp32"), "teacher-fp16": (teacher, "fp16")}, folder)
            with served(folder / "page") as address, Browser() as browser:
                page = browser.open(address)
                page.wait_for(READY, seconds=600)
                page.run(WATCH)
                take_screenshots(page, asked.screenshots)
            return
        found = figures(folder)
    found |= {
        "command": "python benchmarks/browser.py --json results/browser.json",
        "clip": "240x320 px, a synthetic person (seed 102) that moves and comes nearer, at 10 frames a second",
        "rounds": ROUNDS,
        "load_average": os.getloadavg()[0],
        "chromium": subprocess.run([chromium(), "--version"], capture_output=True, text=True).stdout.strip(),
        "onnxruntime_web": TESTED,
        "onnxruntime": onnxruntime.__version__,
        "surroundings": surroundings(),
    }
    text = json.dumps(found, indent=2) + "\n"
    sys.stdout.write(text)
    if asked.json:
        asked.json.write_text(text)


if __name__ == "__main__":
    main()
