"""What there is to choose from, in words: every kind of part with its names, and each entry in a sentence."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from posestill.schema import Config, UserError, did_you_mean, table

SCREEN = 100
"""characters of a line of the overview"""
LINE = 120
"""characters of a line about one entry"""


@dataclass(frozen=True)
class Kind:
    """How a kind of thing is listed.

    Recipes are files and layouts have a table of their own. The entries of every other kind are those of the catalog's
    table that has its name.
    """

    open_entry: str = ""
    """the entry through which names are taken that no table can hold"""
    open_name: str = ""
    """what such a name is, shown in the place of that entry's own"""


KINDS = {
    "methods": Kind(),
    "codecs": Kind(),
    "backbones": Kind(open_entry="timm", open_name="any timm network"),
    "necks": Kind(),
    "heads": Kind(),
    "teachers": Kind(open_entry="checkpoint", open_name="any model folder"),
    "layouts": Kind(),
    "sources": Kind(),
    "recipes": Kind(),
}


def describe_everything() -> str:
    """The overview: every kind with the names in it, on one screen."""
    width = max(map(len, KINDS)) + 2
    lines = ["What a recipe can name, and the recipes that come with posestill:", ""]
    for kind in KINDS:
        names = _recipes_by_folder() if kind == "recipes" else list(_sentences(kind))
        whole = [name.replace(" ", "\N{NO-BREAK SPACE}") for name in names]  # a line never ends within a name
        wrapped = textwrap.wrap(
            ", ".join(whole),
            SCREEN,
            initial_indent=f"{kind:<{width}}",
            subsequent_indent=" " * width,
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [line.replace("\N{NO-BREAK SPACE}", " ") for line in wrapped]
    return "\n".join(
        [
            *lines,
            "",
            "`posestill list methods` says in a line what each method is; any kind above can stand there.",
            "`posestill config RECIPE` prints a recipe with all its settings.",
        ]
    )


def describe_kind(kind: str) -> str:
    """The entries of one of `KINDS`, each on a line of its own: its name and a sentence."""
    if kind not in KINDS:
        raise UserError(f"list {kind}: no such kind of thing{did_you_mean(kind, KINDS)} (known: {', '.join(KINDS)})")
    if kind == "recipes":
        told = {name: _describe_recipe(text) for name, text in recipe_texts().items()}
    elif kind == "methods":
        width = max(map(len, _entries(kind))) + 2
        told = {name: _describe_method(entry, LINE - width) for name, entry in _entries(kind).items()}
    else:
        told = _sentences(kind)
    width = max(map(len, told)) + 2
    return "\n".join(f"{name:<{width}}{sentence}" for name, sentence in told.items())


def first_sentence(entry: type[Config]) -> str:
    """What the docstring of an entry says first, as one line."""
    paragraph = " ".join((entry.__doc__ or "").strip().partition("\n\n")[0].split())
    sentence = re.match(r".*?[.!?](?=\s|$)", paragraph)
    return sentence.group() if sentence else paragraph


def recipe_texts() -> dict[str, str]:
    """What stands in the recipes that come with posestill, by their names; found without importing torch."""
    root = Path(str(resources.files("posestill"))) / "recipes"
    paths = {path.relative_to(root).with_suffix("").as_posix(): path for path in root.rglob("*.yaml")}
    return {name: paths[name].read_text(encoding="utf-8") for name in sorted(paths)}


def _sentences(kind: str) -> dict[str, str]:
    """The entries of a kind other than recipes, each with a sentence."""
    if kind == "layouts":
        from posestill.teachers.file import ABOUT_LAYOUTS  # brings torch, which the list of recipes does without

        return dict(ABOUT_LAYOUTS)
    return {name: first_sentence(entry) for name, entry in _entries(kind).items()}


def _entries(kind: str) -> dict[str, type[Config]]:
    """The table of a kind by what is shown of each name, the entry for names that no table can hold last."""
    about, entries = KINDS[kind], dict(table(kind))
    if about.open_entry in entries:
        entries[about.open_name] = entries.pop(about.open_entry)
    return entries


def _describe_method(entry: type[Config], room: int) -> str:
    """Where a method comes from, whether it is its published code's equal, and what it asks of a teacher.

    Where this does not fit, details are left out from the end: what follows a colon, then what follows a semicolon.
    """
    distiller = getattr(entry, "distiller", None)
    origin = getattr(distiller, "origin", "") or first_sentence(entry).rstrip(".")
    sentences = [f"{text[:1].upper()}{text[1:]}{_asked_of_a_teacher(entry)}." for text in _ever_shorter(origin)]
    return next((sentence for sentence in sentences if len(sentence) <= room), sentences[0])


def _ever_shorter(text: str) -> Iterator[str]:
    """The text, and the same with one part after another left out from its end."""
    yield text
    while found := re.match(r"(.*)(?:: |; )", text):
        text = found.group(1)
        yield text


def _asked_of_a_teacher(entry: type[Config]) -> str:
    """What a method needs, as the end of a sentence; nothing where the entry names no method."""
    from posestill.methods.base import MethodConfig  # brings torch, which the list of recipes does without

    if not issubclass(entry, MethodConfig) or not hasattr(entry, "distiller"):
        return ""
    if entry.needs is not MethodConfig.needs:  # not the class but the settings say
        return "; its settings decide what it needs of a teacher"
    needs = entry.distiller.needs
    if not needs:
        return "; needs no teacher"
    if "tokens" in needs:  # such a teacher has everything else
        return "; needs a token teacher"
    return f"; needs a teacher's {' and '.join(sorted(needs))}"


def _recipes_by_folder() -> list[str]:
    """The names of the recipes that lie at the top, and how many lie in each folder."""
    names = list(recipe_texts())
    counts = Counter(name.partition("/")[0] for name in names if "/" in name)
    return [
        *(name for name in names if "/" not in name),
        *(f"{count} in {folder}/" for folder, count in counts.items()),
    ]


def _describe_recipe(text: str) -> str:
    """The recipe's own first line, and what must be there before it runs."""
    needs = ", ".join(_needs_of_recipe(yaml.safe_load(text))) or "nothing"
    return f"{text.splitlines()[0].lstrip('# ').rstrip('.')}; needs {needs}."


def _needs_of_recipe(settings: Mapping[str, Any]) -> list[str]:
    """The data, the published weights and the teacher that a recipe asks for.

    Its settings are read as they are written: to resolve every recipe takes seconds and says no more about this.
    """
    source, backbone, teacher = settings["data"]["train"], settings["model"]["backbone"], settings.get("teacher")
    needs = []
    if "root" in source:
        needs.append(source["root"])
    elif "images" in source or "file" in source:
        needs.append(str(Path(source.get("images") or source["file"]).parent))
    if isinstance(backbone, dict) and backbone.get("pretrained"):
        needs.append("timm's weights")
    if teacher is not None and not (teacher if isinstance(teacher, str) else teacher["name"]).startswith("bundled"):
        needs.append("a teacher")
    return needs
