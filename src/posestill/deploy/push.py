"""A model in a repository of the Hugging Face Hub: its folder, card, figures and recipe, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from posestill.deploy.card import Published, card
from posestill.deploy.places import without_places
from posestill.documents.parse import read_json, read_yaml
from posestill.files import read_bytes
from posestill.models.pose_model import SETTINGS, WEIGHTS, PoseModel, read_description
from posestill.models.repository import NAME, open_hub, told_in_words
from posestill.schema import UserError, printable

CARD, RECIPE, FIGURES = "README.md", "recipe.yaml", "eval.json"
_RUN = {"settings": "config.yaml", "figures": "eval.json"}
"""what a run folder calls them"""


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
    model = PoseModel.load(folder)
    described = without_places(read_description(folder))
    run = _run_of(folder, model.lineage)
    settings = without_places(run.get("settings", {}))
    figures = run.get("figures")
    recipe = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True) if settings else None
    published = Published(
        repository=repository,
        model=model,
        lineage=described.get("lineage", {}),
        licence=licence,
        recipe=recipe,
        settings=settings,
        figures=figures,
        parameters=sum(each.numel() for each in model.parameters()),
        base_model=base_model,
    )
    files = {
        CARD: card(published).encode(),
        SETTINGS: _json(described),
        WEIGHTS: read_bytes(folder / WEIGHTS, what="the weights"),
        **({} if recipe is None else {RECIPE: recipe.encode()}),
        **({} if figures is None else {FIGURES: _json(without_places(figures))}),
    }
    others = sorted(each.name for each in folder.iterdir() if each.name not in (SETTINGS, WEIGHTS))
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


def _run_of(folder: Path, lineage: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and figures of the run whose `best` a model is; empty where they are not there, or another model's."""
    run = folder.resolve().parent
    found = {}
    if (run / _RUN["settings"]).is_file():
        found["settings"] = read_yaml(run / _RUN["settings"], what="the run's settings")
    if (run / _RUN["figures"]).is_file():
        figures = read_json(run / _RUN["figures"], what="the run's figures")
        if isinstance(figures, dict) and figures.get("best_step", figures.get("step")) == lineage.get("step"):
            found["figures"] = figures
    return {name: value for name, value in found.items() if isinstance(value, dict)}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
