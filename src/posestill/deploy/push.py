"""A model in a repository of the Hugging Face Hub: its folder, card, figures and recipe, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from posestill.deploy.card import Published, card
from posestill.deploy.places import without_places
from posestill.documents.parse import read_json, read_yaml
from posestill.files import read_bytes
from posestill.models.pose_model import MODEL_FILES, SETTINGS, WEIGHTS, PoseModel, read_description
from posestill.models.repository import NAME, open_hub, told_in_words
from posestill.schema import UserError, printable

CARD, RECIPE, FIGURES = "README.md", "recipe.yaml", "eval.json"
"""what is sent beside the model"""
DESCRIPTION = "config.yaml"
"""what a run folder calls its settings"""
OF_EVERY_RUN = frozenset({"data", "model", "method", "train"})
OF_SOME_RUNS = frozenset({"seed", "teacher", "evaluate"})
"""the keys of such settings"""


@dataclass(frozen=True)
class Shipment:
    """What is sent."""

    repository: str
    """owner/name"""
    files: Mapping[str, bytes]
    """each by its name there"""
    left_out: tuple[str, ...]
    """what else lies in the model folder, and stays there"""
    published: Published


def prepare(folder: Path, repository: str, *, licence: str, base_model: str | None = None) -> Shipment:
    """What is to be sent of a model folder: the model, its card and, of the run beside it, settings and figures.

    Only these files are ever sent: no pictures, no state of the optimiser, no report with pictures of people. Absolute
    paths in them, which tell of the machine, are cut to their last name.
    """
    for name, option in ((repository, "REPO"), (base_model, "--base-model")):
        if name is not None and not NAME.fullmatch(name):
            raise UserError(f"{option} {printable(name, most=200)} is no name of a repository: write OWNER/NAME")
    published = _published(folder, repository, licence, base_model)
    files = {
        CARD: card(published).encode(),
        SETTINGS: _json(without_places(read_description(folder))),
        WEIGHTS: read_bytes(folder / WEIGHTS, what="the weights"),
    }
    if published.recipe is not None:
        files[RECIPE] = published.recipe.encode()
    if published.figures is not None:
        files[FIGURES] = _json(published.figures)
    others = sorted(each.name for each in folder.iterdir() if each.name not in MODEL_FILES)
    return Shipment(repository, files, tuple(others), published)


def send(shipment: Shipment, *, public: bool) -> str:
    """Put everything into the repository, in one commit, and give back its name; the repository is made if need be."""
    where = f"hub:{shipment.repository}"
    hub = open_hub(where)
    with told_in_words(where):
        api = hub.HfApi()
        api.create_repo(shipment.repository, private=not public, exist_ok=True)
        done = api.create_commit(
            shipment.repository,
            operations=[
                hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                for name, content in shipment.files.items()
            ],
            commit_message="A model made with posestill",
        )
    return str(done.oid)


def _published(folder: Path, repository: str, licence: str, base_model: str | None) -> Published:
    """A model and what its folder and its run tell of it."""
    model = PoseModel.load(folder)
    run = folder.resolve().parent
    settings = without_places(_settings_of_run(run))
    figures = without_places(_values(run / FIGURES, read_json)) if settings else None
    step = model.lineage.get("step")
    if figures is not None and (step is None or figures.get("best_step", figures.get("step")) != step):
        figures = None  # of another model of the run
    return Published(
        repository=repository,
        model=model,
        lineage=without_places(model.lineage),
        licence=licence,
        recipe=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True) if settings else None,
        settings=settings,
        figures=figures,
        parameters=sum(each.numel() for each in model.parameters()),
        base_model=base_model,
    )


def _settings_of_run(run: Path) -> dict[str, Any]:
    """The settings of the run in a folder; empty where it is no run's, whose config.yaml may be of anything."""
    found = _values(run / DESCRIPTION, read_yaml) or {}
    return found if OF_EVERY_RUN <= set(found) <= OF_EVERY_RUN | OF_SOME_RUNS else {}


def _values(path: Path, read: Callable[..., Any]) -> dict[str, Any] | None:
    """The values in a file of a run; None where there is none, or where it holds something else."""
    found = read(path, what="file of the run") if path.is_file() else None
    return found if isinstance(found, dict) else None


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
