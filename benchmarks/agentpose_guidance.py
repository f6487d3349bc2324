"""Does AgentPose's agent bring a student's features nearer to the teacher's? Asked by inference, on photographs.

    python benchmarks/agentpose_guidance.py --json results/agentpose-guidance.json

trains the students of benchmarks/photographs.yaml and photographs-small.yaml by AgentPose, as these plans do with the
seed of their choices (their `token-teacher` must be there), and looks at the persons of tune. Distances are mean
squares in the agent's latent space, whose channels have variance 1: of the student's projected features from the
teacher's (own), and of what the agent makes of them in one evaluation from different diffusion times, or in its own two
(guided). Below 1, guided / own says that the agent helps. `shrunk` is no agent: the student's features times the one
number that brings those of a batch nearest to the teacher's, as any estimate that is unsure of itself comes nearer by
shrinking. `mean_oks` is what the teacher's own head sees in each: the latents go back through the autoencoder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from agentpose_picture import TRAINED, SeenConfig
from torch import Tensor

from posestill.data.source import PoseSource
from posestill.data.topdown import Labels, TopDownDataset
from posestill.engine.fit import fit
from posestill.engine.surroundings import surroundings
from posestill.evaluation.evaluate import labelled_people
from posestill.files import write_json
from posestill.methods.agentpose import AgentPose
from posestill.models.pose_model import PoseModel
from posestill.models.vp_sde import signal_and_noise
from posestill.study.jobs import Asked, Resolver, at_hand, chosen_rates
from posestill.study.plan import load_plan
from posestill.study.results import Results
from posestill.teachers.base import ModelTeacher
from posestill.types import PoseBatch, Size

PLANS = {"good": Path("benchmarks/photographs.yaml"), "small": Path("benchmarks/photographs-small.yaml")}
TIMES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6)
MANY = 32


def main() -> None:
    """Train, look, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/photographs"), help="where the plan's teacher lies")
    parser.add_argument("--regimes", nargs="+", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = {regime: look_at(regime, asked.work) for regime in asked.regimes}
    for regime, figures in found.items():
        print(regime, figures["mean_oks"], {key: each["all"] for key, each in figures["guided_over_own"].items()})
    if asked.json is not None:
        write_json(asked.json, {"seed": 100, "split": "tune", "regimes": found, "surroundings": surroundings()})


def look_at(regime: str, work: Path) -> dict[str, Any]:
    """The figures of one student, trained at the learning rate that the plan's tuning chose for it."""
    plan = load_plan(PLANS[regime])
    learning_rate = chosen_rates(plan, Results.read(Path("results") / PLANS[regime].stem).rows)[regime, "agentpose"]
    folders = {name: work / "prepared" / name / "best" for name in plan.prepare}
    job = Resolver(plan).job(Asked("tune", regime, "agentpose", learning_rate, 100))
    config = at_hand(job.config, folders)
    config = config.model_copy(update={"method": SeenConfig(**config.method.model_dump())})
    with tempfile.TemporaryDirectory() as folder:
        result = fit(config, Path(folder) / "run")
    method, teacher = TRAINED[-1].eval(), ModelTeacher(PoseModel.load(folders["token-teacher"]))
    seen = [_seen(method, teacher, batch) for batch in batches(result.sources.val, config.model.size)]
    together = {name: np.concatenate([each[name] for each in seen]) for name in seen[0]}
    return _told(together, method.student.skeleton.names) | {
        "learning_rate": learning_rate, "begin": float(method.watch()["begin"]),
        "student_error": float(method.watch()["student_error"]),
        "student": result.evaluation.metrics,
    }  # fmt: skip


def batches(source: PoseSource, size: Size) -> Iterator[PoseBatch]:
    """The crops of all persons with labels, upright."""
    persons = labelled_people(source)
    dataset = TopDownDataset(source, size=size, labels=Labels(persons, np.ones(len(persons), dtype=bool)))
    for first in range(0, len(dataset), MANY):
        yield dataset.__getitems__([(0, index) for index in range(first, min(first + MANY, len(dataset)))])


@torch.no_grad()
def states(method: AgentPose, batch: PoseBatch) -> dict[str, Tensor]:
    """Latents (B, D, h, w): the student's own, and what the agent makes of them from each time and by default."""
    guide = method.guide
    assert guide is not None
    own = method._latent(method.student.features(batch.image)).float()
    once = {
        f"from {time:g}": guide._clean(signal_and_noise(torch.tensor(time))[0] * own, torch.tensor(time))
        for time in TIMES
    }
    return {"own": own, **once, "as trained": guide.denoise(own, iter(()))}


@torch.no_grad()
def _seen(method: AgentPose, teacher: ModelTeacher, batch: PoseBatch) -> dict[str, np.ndarray]:
    """For each state (B, 2 + K): its distance over the crop and at keypoints' cells, and the OKS of what it shows."""
    latent, _ = method.autoencoder(teacher.features(batch)[-1])
    found = {}
    own_and_guided = states(method, batch)
    own = own_and_guided["own"]
    shrunk = (own * latent).sum() / own.square().sum() * own
    for name, state in {**own_and_guided, "shrunk": shrunk, "teacher": latent}.items():
        squares = (state - latent).square().mean(dim=1)  # (B, h, w)
        row, column = _cells(batch, squares.shape[-2:])
        at_keypoints = squares[torch.arange(len(squares))[:, None], row, column]  # (B, K)
        at_keypoints[batch.weight == 0] = torch.nan
        figures = [squares.mean(dim=(1, 2))[:, None], at_keypoints, _similarity(method, teacher, state, batch)[:, None]]
        found[name] = torch.cat(figures, dim=1).numpy()
    return found


def _cells(batch: PoseBatch, grid: Size) -> tuple[Tensor, Tensor]:
    """(B, K) row and column of the cell in which each keypoint lies; one beyond the crop counts to its border."""
    height, width = batch.image.shape[-2:]
    column = (batch.keypoints[..., 0] / width * grid[1]).long().clamp(0, grid[1] - 1)
    row = (batch.keypoints[..., 1] / height * grid[0]).long().clamp(0, grid[0] - 1)
    return row, column


def _similarity(method: AgentPose, teacher: ModelTeacher, latent: Tensor, batch: PoseBatch) -> Tensor:
    """(B,) the OKS of what the teacher's head sees in a latent (B, D, h, w), against people's labels."""
    seen = teacher.codec.decode(teacher.head((method.autoencoder.decode(latent),)))
    sigmas = torch.tensor(teacher.skeleton.oks_sigmas)
    height, width = batch.image.shape[-2:]
    # A crop is 1.25 times the box; only differences between states matter here.
    area = torch.tensor(0.53 * (height / 1.25) * (width / 1.25))
    fall = (seen.xy - batch.keypoints).square().sum(dim=-1) / (2 * area * (2 * sigmas) ** 2)
    known = (batch.weight > 0).float()
    return ((-fall).exp() * known).sum(dim=1) / known.sum(dim=1)


def _told(seen: dict[str, np.ndarray], names: Sequence[str]) -> dict[str, Any]:
    """Ratios of mean distances, with the standard error over persons for the whole crop, and mean OKS."""
    own = seen["own"]
    guided = {name: each for name, each in seen.items() if name not in ("own", "teacher")}
    places = {"all": 0, **{name: 1 + number for number, name in enumerate(names)}}
    return {
        "persons": len(own),
        "own_distance": {name: float(np.nanmean(own[:, at])) for name, at in places.items()},
        "guided_over_own": {
            state: {name: float(np.nanmean(each[:, at]) / np.nanmean(own[:, at])) for name, at in places.items()}
            for state, each in guided.items()
        },
        "standard_error": {state: _error_of_ratio(each[:, 0], own[:, 0]) for state, each in guided.items()},
        "mean_oks": {state: float(np.nanmean(each[:, -1])) for state, each in seen.items()},
        "oks_over_own": {state: _mean_and_error(each[:, -1] - own[:, -1]) for state, each in guided.items()},
    }


def _mean_and_error(values: np.ndarray) -> dict[str, float]:
    """The mean over persons and its standard error."""
    known = values[np.isfinite(values)]
    return {"mean": float(known.mean()), "standard_error": float(known.std(ddof=1) / np.sqrt(len(known)))}


def _error_of_ratio(one: np.ndarray, other: np.ndarray) -> float:
    """The standard error of the ratio of two means over the same persons."""
    ratio = one.mean() / other.mean()
    return float((one - ratio * other).std(ddof=1) / other.mean() / np.sqrt(len(one)))


if __name__ == "__main__":
    main()
