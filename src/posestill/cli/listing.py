"""What there is, in words: methods, models, sources and recipes with what they need."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping

from posestill import catalog
from posestill.data.coco import CocoConfig
from posestill.engine.config import find_recipe, load_run, recipe_names
from posestill.methods.base import Distiller, MethodConfig
from posestill.models.backbone import TimmConfig
from posestill.schema import Config
from posestill.teachers.checkpoint import CheckpointConfig


def describe_parts() -> str:
    """The tables of `catalog.py` and the recipes, one line an entry."""
    sections = [
        ("methods (method:)", {name: _describe_method(entry) for name, entry in catalog.METHODS.items()}),
        ("codecs (model.codec:)", _first_lines(catalog.CODECS)),
        (
            "backbones (model.backbone:), besides every timm network by its name",
            _first_lines(catalog.BACKBONES, but="timm"),
        ),
        ("heads (model.head:)", _first_lines(catalog.HEADS)),
        ("teachers (teacher:), besides any model folder by its path", _first_lines(catalog.TEACHERS, but="checkpoint")),
        ("sources (data.train:, data.val:)", _first_lines(catalog.SOURCES)),
        ("recipes", {name: _describe_recipe(name) for name in recipe_names()}),
    ]
    lines = []
    for title, entries in sections:
        width = max(map(len, entries))
        lines += [title, *(f"  {name:<{width}}  {text}" for name, text in entries.items()), ""]
    return "\n".join(lines).rstrip()


def _describe_method(entry: type[MethodConfig]) -> str:
    """The method's origin and needs, read from the class that its settings build."""
    method: type[Distiller] = typing.get_type_hints(entry.build, vars(inspect.getmodule(entry)))["return"]
    needs = f"needs a teacher's {', '.join(sorted(method.needs))}" if method.needs else "needs no teacher"
    return f"{method.origin}; {needs}"


def _first_lines(table: Mapping[str, type[Config]], but: str | None = None) -> dict[str, str]:
    return {name: (entry.__doc__ or "").strip().splitlines()[0] for name, entry in table.items() if name != but}


def _describe_recipe(recipe: str) -> str:
    """The recipe's own first line, and what must be there before it runs."""
    run = load_run(recipe)
    needs = []
    if isinstance(run.data.train, CocoConfig):
        needs.append(str(run.data.train.root or run.data.train.images))
    if isinstance(run.model.backbone, TimmConfig) and run.model.backbone.pretrained:
        needs.append(f"timm's weights of {run.model.backbone.model}")
    if isinstance(run.teacher, CheckpointConfig):
        needs.append(f"a teacher in {run.teacher.path}")
    first = find_recipe(recipe).read_text().splitlines()[0].lstrip("# ")
    return f"{first} Needs {', '.join(needs) or 'nothing'}."
