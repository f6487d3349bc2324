"""Repositories of the Hugging Face Hub, `hf:owner/name@revision`, as folders on this machine.

What was fetched once is read from the cache of huggingface_hub, whose settings (`HF_HOME`, `HF_HUB_OFFLINE`,
`HF_TOKEN`) hold here, too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posestill.documents.parse import parse_yaml, read_json
from posestill.models.repository import NAME, open_hub, told_in_words
from posestill.schema import UserError

PREFIX = "hf:"
SETTINGS = "config.json"
PROCESSOR = "preprocessor_config.json"
_FILES = (SETTINGS, PROCESSOR, "README.md", "*.safetensors", "*.safetensors.index.json")
"""what is fetched of a repository: no weights that are pickles, which could run code"""
_REFERENCE = re.compile(rf"{PREFIX}(?P<name>{NAME.pattern})(?:@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True)
class SavedNetwork:
    """A network as transformers saves it: a folder with its settings and its weights."""

    folder: Path
    name: str
    """`hf:owner/name@commit`, or the folder as it was given"""
    is_pinned: bool = True
    """False: no revision was asked for, and the newest commit was taken"""

    def settings(self) -> dict[str, Any]:
        """Its `config.json`, or a `UserError` that says what is wrong with it."""
        found = read_json(self.folder / SETTINGS, what="description of a network")
        if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
            raise UserError(
                f"{self.name}: {SETTINGS} names no model_type, as that of every network of transformers does"
            )
        return found

    def processor(self) -> dict[str, Any]:
        """Its `preprocessor_config.json`; empty where there is none."""
        path = self.folder / PROCESSOR
        found = read_json(path, what="description of a network's input") if path.is_file() else {}
        return found if isinstance(found, dict) else {}

    def weights(self) -> tuple[Path, ...]:
        """Its files of weights, in order; a `UserError` where it has none that is safe to read."""
        found = tuple(sorted(self.folder.glob("*.safetensors")))
        if not found:
            raise UserError(
                f"{self.name} has no weights as .safetensors, the only form that is read: nothing in it runs"
            )
        return found

    def digest(self) -> str:
        """The SHA-256 of its weights and settings, in hexadecimal digits."""
        digest = hashlib.sha256()
        for path in (self.folder / SETTINGS, *self.weights()):
            with path.open("rb") as handle:
                while chunk := handle.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()

    def licence(self) -> str | None:
        """What its card says; None where it has no card, or one that is silent."""
        card = self.folder / "README.md"
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        parts = re.split(r"^---\s*$", text, maxsplit=2, flags=re.MULTILINE)
        try:
            told = parse_yaml(parts[1]) if len(parts) == 3 and not parts[0].strip() else {}
        except ValueError:
            return None
        found = (told.get("license_name") or told.get("license")) if isinstance(told, dict) else None
        return found if isinstance(found, str) else None


def is_reference(text: str) -> bool:
    """True for what names a repository of the Hub."""
    return text.startswith(PREFIX)


def is_saved_network(folder: Path) -> bool:
    """True for a folder that transformers saved, or that looks like one."""
    try:
        found = read_json(folder / SETTINGS, what="description of a network")
    except UserError:  # whoever wants to read it as something else says what is wrong with it
        return False
    return isinstance(found, dict) and "model_type" in found


def find_network(name: str, *, where: str) -> SavedNetwork:
    """The network of a repository, fetched where it is not in the cache, or that of a folder.

    A `UserError` opened by `where` says what is missing: the network connection, the repository, the revision, a login.
    """
    if not is_reference(name):
        folder = Path(name)
        if not (folder / SETTINGS).is_file():
            raise UserError(
                f"{where}: no {SETTINGS} in {name}: name a folder that transformers saved, or {PREFIX}OWNER/NAME"
            )
        return SavedNetwork(folder, name)
    read = _REFERENCE.fullmatch(name)
    if read is None:
        raise UserError(
            f"{where}: {name} is no repository of the Hub: write {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME@REVISION"
        )
    folder = _fetch(read["name"], read["revision"], where=where)
    return SavedNetwork(folder, f"{PREFIX}{read['name']}@{folder.name}", is_pinned=read["revision"] is not None)


def _fetch(name: str, revision: str | None, *, where: str) -> Path:
    """The snapshot of a repository; its folder has the name of the commit."""
    asked = f"{where}: {PREFIX}{name}" + ("" if revision is None else f"@{revision}")
    hub = open_hub(asked)
    with told_in_words(asked):
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(_FILES)))
