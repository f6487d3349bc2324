"""Files that outlive a crash, and JSON that any reader can read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file and put it at `path`: a reader finds the old one or the new one, whole."""
    draft = path.with_name(f".{path.name}.draft")
    write(draft)
    with draft.open("rb") as handle:
        os.fsync(handle.fileno())
    draft.replace(path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def write_json(path: Path, content: Any) -> None:
    """A readable JSON file; what is not finite becomes null, as JSON knows no NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda draft: draft.write_text(json.dumps(finite(content), indent=2) + "\n"))


def finite(value: Any) -> Any:
    """The same nested value with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
