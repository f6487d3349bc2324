"""The figures of a model folder on any source, as `posestill evaluate` prints them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from posestill.data.source import PoseSource
from posestill.evaluation.evaluate import EvaluateConfig, Evaluation, Share, evaluate_model
from posestill.models.device import choose_device
from posestill.models.pose_model import PoseModel
from posestill.models.threads import try_threads
from posestill.schema import UserError, validate


def evaluation_settings(
    recipe: EvaluateConfig | None,
    *,
    flip_test: bool | None = None,
    batch_size: int | None = None,
    boxes: Path | None = None,
    box_threshold: float | None = None,
    oks_nms: float | None = None,
    rescoring: str | None = None,
) -> EvaluateConfig:
    """A recipe's settings of evaluation (or the defaults), replaced by those that are given; `oks_nms` 0: none."""
    settings = (recipe or EvaluateConfig()).model_dump()
    given = {
        "flip_test": flip_test,
        "batch_size": batch_size,
        "boxes": boxes,
        "box_threshold": box_threshold,
        "rescoring": rescoring,
        "oks_nms": oks_nms,
    }
    settings.update({name: value for name, value in given.items() if value is not None})
    settings["oks_nms"] = settings["oks_nms"] or None
    return validate(EvaluateConfig, settings, where="evaluate")


def evaluate_folder(
    model: Path,
    source: PoseSource,
    settings: EvaluateConfig,
    *,
    workers: int = 0,
    device: str = "auto",
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """The figures of a model folder on a source.

    `progress` is told how many persons are done, `say` which number of threads was found to be the fastest.
    """
    loaded = PoseModel.load(model)
    names, wanted = loaded.skeleton.names, source.skeleton.names
    if names != wanted:
        raise UserError(
            f"the model has {len(names)} keypoints ({', '.join(names[:3])}, ...) and the data {len(wanted)} "
            f"({', '.join(wanted[:3])}, ...): they must be the same"
        )
    place = choose_device(device)
    share = Share(device=place, workers=workers, progress=progress)
    if place.type == "cpu":
        blank = torch.zeros(settings.batch_size, 3, *loaded.config.size)
        trial = try_threads(lambda: loaded.predict(blank))
        if trial is not None and say is not None:
            say(f"threads: {trial}")
    return evaluate_model(loaded.to(place), source, settings, share)
