"""The card of a model that is published: what it is, how it was made and measured, and under which licences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posestill.deploy.sidecar import licences
from posestill.models.pose_model import PoseModel
from posestill.models.repository import NAME, PREFIX

TASK = "keypoint-detection"
"""what the Hub calls it"""
_FIGURES = {"AP": "OKS AP", "AP50": "AP at OKS 0.50", "AP75": "AP at OKS 0.75", "AR": "OKS AR",
            "mean_oks": "mean OKS", "PCK": "PCK"}  # fmt: skip
_IN_THE_HUB = re.compile(rf"(?:hub|hf):({NAME.pattern})(?:@\S+)?")
"""how a lineage names what came from there"""


@dataclass(frozen=True)
class Published:
    """A model and all that is known of it."""

    repository: str
    """owner/name"""
    model: PoseModel
    lineage: Mapping[str, Any]
    """as it is published"""
    licence: str
    """the Hub's name of the licence that the model is published under"""
    recipe: str | None
    """the settings of its run as YAML"""
    settings: Mapping[str, Any]
    """the same as values; empty where they are not known"""
    figures: Mapping[str, Any] | None
    """what `eval.json` of its run says"""
    parameters: int
    base_model: str | None = None
    """owner/name of the teacher, where the lineage does not tell"""


def card(published: Published) -> str:
    """The card as Markdown, with what machines read in front of it."""
    from huggingface_hub import ModelCardData

    teacher = base_model(published)
    data = ModelCardData(
        license=published.licence,
        library_name="posestill",
        pipeline_tag=TASK,
        base_model=teacher,
        tags=["pose-estimation", "human-pose", "knowledge-distillation", *_method_tags(published.lineage)],
        model_name=published.repository.split("/")[1],
        eval_results=_results(published),
        ignore_metadata_errors=True,
    )
    parts = [
        f"# {published.repository.split('/')[1]}",
        _about(published),
        f"## How to load it\n\n{_loading(published)}",
        f"## How it was made\n\n{_made(published)}",
        f"## How good it is\n\n{_measured(published.figures)}",
        f"## Licences\n\n{_licences(published)}",
        f"## Recipe\n\n{_recipe(published)}",
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def base_model(published: Published) -> str | None:
    """The teacher as the Hub calls it: owner/name; None where there is none, or where it is not known there."""
    if published.base_model is not None:
        return published.base_model
    teacher = published.lineage.get("teacher")
    for value in teacher.values() if isinstance(teacher, Mapping) else ():
        if isinstance(value, str) and (found := _IN_THE_HUB.fullmatch(value)):
            return found[1]
    return None


def status(lineage: Mapping[str, Any]) -> str:
    """Whether the method is the published one or was reconstructed; empty where it is nobody's."""
    origin = str(lineage.get("origin", ""))
    if "reconstructed" in origin:
        return "reconstructed"
    return "published" if re.search(r"\b(19|20)\d\d\b", origin) else ""


def _about(published: Published) -> str:
    model = published.model
    height, width = model.config.size
    names = ", ".join(model.skeleton.names)
    return (
        f"A top-down human-pose model: it reads a crop of one person, {height} x {width} px (height x width), and "
        f"gives {len(model.skeleton)} keypoints. {published.parameters:,} parameters. Made with posestill.\n\n"
        f"Keypoints: {names}.\n\nScores: {_scores(model)}"
    )


def _scores(model: PoseModel) -> str:
    if model.codec.has_score:
        return "each keypoint has a trained confidence."
    return "none were trained: every keypoint's score is 1, and persons rank by the score of their box."


def _loading(published: Published) -> str:
    name = f"{PREFIX}{published.repository}@main"
    return (
        "```python\nimport posestill\n\n"
        f'model = posestill.load("{name}")\n'
        'poses = model.predict("picture.jpg", boxes=[[10, 5, 60, 110]])  # x, y, width, height of each person\n'
        "```\n\n"
        f"or `posestill predict {name} photos --out drawn`. Put a commit in the place of `main` to load the same "
        "weights for ever."
    )


def _made(published: Published) -> str:
    lineage, settings = published.lineage, published.settings
    rows = {
        "method": lineage.get("method"),
        "where the method is from": lineage.get("origin"),
        "published or reconstructed": status(lineage),
        "base model (the teacher)": _teacher(lineage.get("teacher"), base_model(published)),
        "training data": _source(settings, "train"),
        "validation data": _source(settings, "val"),
        "began from": lineage.get("init_from"),
        "step": lineage.get("step"),
        "seed": lineage.get("seed"),
    }
    return _table(("what", ""), {name: str(value) for name, value in rows.items() if value not in (None, "")})


def _teacher(teacher: Any, name: str | None) -> str | None:
    """A teacher in words: its name on the Hub, its file or folder, and the digits that tell its weights."""
    if not isinstance(teacher, Mapping):
        return name
    called = name or teacher.get("file") or teacher.get("path") or "the one that comes with posestill"
    digits = str(teacher.get("sha256") or "")[:12]
    return f"{called}{f' (SHA-256 {digits}...)' if digits else ''}"


def _source(settings: Mapping[str, Any], part: str) -> str | None:
    """A source in words: its kind and the files that it names."""
    source = settings.get("data", {}).get(part)
    if not isinstance(source, Mapping):
        return None
    if source.get("name") == "synthetic":
        return f"{source.get('people')} synthetic people (no photographs), profile {source.get('profile')}"
    named = [str(source[key]) for key in ("annotations", "root", "data", "file", "images") if source.get(key)]
    return f"{source.get('name')}: {', '.join(named)}" if named else str(source.get("name"))


def _measured(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return "No figures lay beside the model."
    told = {
        title: f"{100 * figures[name]:.1f}" for name, title in _FIGURES.items() if isinstance(figures.get(name), float)
    }
    protocol = "; ".join(
        f"{name.replace('_', ' ')}: {value}" for name, value in dict(figures.get("conditions", {})).items()
    )
    notes = "".join(f"\n\n{note}" for note in figures.get("notes", []))
    return f"{_table(('figure', 'x 100'), told)}\n\nProtocol: {protocol}. On the validation data above.{notes}"


def _licences(published: Published) -> str:
    inherited = licences(dict(published.lineage))
    told = ", ".join(inherited) if inherited else "none that is known"
    return (
        f"This model is published under `{published.licence}`. Licences of what it was made from, the teacher and "
        f"pretrained weights: {told}. The licence of the training data is not known to posestill."
    )


def _recipe(published: Published) -> str:
    if published.recipe is None:
        return "The settings of its training did not lie beside the model."
    return f"`recipe.yaml`, which `posestill train` takes:\n\n```yaml\n{published.recipe.strip()}\n```"


def _method_tags(lineage: Mapping[str, Any]) -> list[str]:
    found = [str(lineage["method"])] if lineage.get("method") else []
    return found + ([f"{status(lineage)}-method"] if status(lineage) else [])


def _results(published: Published) -> Any:
    """AP and mean OKS in the form that the Hub reads; None where there are no figures."""
    from huggingface_hub import EvalResult

    if published.figures is None:
        return None
    data = _source(published.settings, "val") or "validation data"
    return [
        EvalResult(
            task_type=TASK,
            dataset_type="validation",
            dataset_name=data,
            metric_type=name.lower().replace("_", "-"),
            metric_name=_FIGURES[name],
            metric_value=round(published.figures[name], 4),
        )
        for name in ("AP", "mean_oks")
        if isinstance(published.figures.get(name), float)
    ] or None


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items()])
