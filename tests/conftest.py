"""What tests share: a tiny source of coloured dots, small models, a dataset as files, and where the real data lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import posestill.catalog  # noqa: F401
from posestill.data.synthetic.sample import write_sample
from posestill.engine.config import RunConfig
from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.schema import validate
from posestill.skeletons import Skeleton
from posestill.types import Person

torch.set_num_threads(1)

DOTS = Skeleton(
    names=("top", "left_side", "right_side", "bottom"),
    swap=(0, 2, 1, 3),
    edges=((0, 1), (0, 2), (1, 3), (2, 3)),
    oks_sigmas=(0.1, 0.1, 0.1, 0.1),
    upper=(0, 1, 2),
)


class DotSource:
    """People made of four coloured dots, one an image: learnt in seconds."""

    def __init__(self, count: int = 24, size: tuple[int, int] = (80, 64), unlabelled: int = 0) -> None:
        self.skeleton = DOTS
        self.size = size
        rng = np.random.default_rng(7)
        people = []
        for index in range(count):
            low = rng.uniform(4, 14, size=2)
            extent = np.array([size[1], size[0]]) - low - rng.uniform(4, 14, size=2)
            places = low + extent * np.array([[0.5, 0.1], [0.9, 0.5], [0.1, 0.5], [0.5, 0.9]])
            places += rng.normal(0, 3, size=(4, 2))
            keypoints = np.concatenate([places, np.full((4, 1), 2.0)], axis=1)
            keypoints[rng.integers(4), 2] = rng.choice([0, 1, 2])
            people.append(
                Person(
                    id=index + 1,
                    image_id=index + 1,
                    bbox=np.concatenate([low, extent]),
                    keypoints=None if index < unlabelled else keypoints,
                    area=float(extent.prod()) * 0.53,
                )
            )
            people[-1].__dict__["places"] = places
        self.people = people

    @property
    def image_ids(self) -> range:
        return range(1, len(self.people) + 1)

    def image(self, image_id: int) -> np.ndarray:
        import cv2

        image = np.full((*self.size, 3), 30, dtype=np.uint8)
        colours = ((255, 80, 80), (80, 255, 80), (80, 80, 255), (255, 255, 80))
        for (x, y), colour in zip(self.people[image_id - 1].__dict__["places"], colours, strict=True):
            cv2.circle(image, (round(float(x)), round(float(y))), 4, colour, -1, cv2.LINE_AA)
        return image


def small_model_config(kind: str = "heatmap", **changes: object) -> ModelConfig:
    """A model of 32x24 crops that trains in milliseconds a step."""
    content: dict[str, object] = {
        "size": [32, 24],
        "backbone": {"name": "small_resnet", "channels": [8, 16], "max_pool": False},
        "head": {"name": "deconv", "channels": [16]} if kind == "heatmap" else "flat_fc",
        "codec": {"name": "heatmap", "stride": 2, "sigma": 1.0} if kind == "heatmap" else {"name": "coords"},
        **changes,
    }
    return validate(ModelConfig, content, where="test")


def small_model(kind: str = "heatmap", *, skeleton: Skeleton = DOTS, seed: int = 0, **changes: object) -> PoseModel:
    torch.manual_seed(seed)
    return PoseModel(small_model_config(kind, **changes), skeleton)


def small_run(kind: str = "heatmap", **changes: object) -> RunConfig:
    """A run whose sources are handed in by the test (those named here are never opened)."""
    content: dict[str, object] = {
        "data": {
            "train": {"name": "synthetic", "people": 8},
            "val": {"name": "synthetic", "people": 8},
            "augment": {"half_body": 0, "scale": 0.1, "rotation": 10, "shift": 0},
        },
        "model": small_model_config(kind).model_dump(mode="json"),
        "method": "supervised",
        "train": {"steps": 6, "batch_size": 8, "log_every": 2, "optimiser": {"learning_rate": 3e-3, "warmup_steps": 2}},
        **changes,
    }
    return validate(RunConfig, content, where="test")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failure is printed at once, for runs that are ended before pytest's own summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid} ({report.when}, {report.duration:.0f} s):\n{report.longreprtext}", flush=True)


@pytest.fixture
def dots() -> DotSource:
    return DotSource()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch has two threads, however many the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `posestill data sample` writes, a COCO tree of 80 pictures; for reading only, as all tests share it."""
    folder = tmp_path_factory.mktemp("sample") / "coco"
    write_sample(folder)
    return folder


@pytest.fixture(scope="session")
def sample_yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO-pose folder of the first 40 of these pictures (its data.yaml lies in it); for reading only."""
    folder = tmp_path_factory.mktemp("sample") / "yolo"
    write_sample(folder, pictures=40, yolo=True)
    return folder


def shared_folder() -> Path:
    """Where the real data lies: `POSESTILL_SHARED`, or `shared` beside the checkout."""
    return Path(os.environ.get("POSESTILL_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture
def coco_sample() -> Path:
    folder = shared_folder() / "coco-sample"
    if not folder.is_dir():
        pytest.skip("the COCO sample is not on this machine (set POSESTILL_SHARED to its folder's parent)")
    return folder


@pytest.fixture
def lsp_photos() -> Path:
    folder = shared_folder() / "lsp-photos"
    if not folder.is_dir():
        pytest.skip("lsp-photos is not on this machine (set POSESTILL_SHARED to its folder's parent)")
    return folder
