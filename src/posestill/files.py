"""Files that outlive a crash, and JSON that any reader can read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from posestill.schema import UserError


def write_whole(path: Path, write: Callable[[Path], Any], *, draft_of: str = "") -> None:
    """Let `write` make a file and put it at `path`: a reader finds the old one or the new one, whole.

    Where it cannot be written, as on a full disk, a `UserError` says so: the draft is gone and the old file is as it
    was. `draft_of` names the writer where several may write the same file at once, so that each has a draft of its own.
    """
    draft = path.with_name(f".{path.name}{draft_of and '.'}{draft_of}.draft")
    try:
        write(draft)
        with draft.open("rb") as handle:
            os.fsync(handle.fileno())
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError):
            raise UserError(not_written(path, error)) from None
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def not_written(path: Path, error: OSError) -> str:
    """What to say of a file that could not be written."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{path} could not be written ({reason}): what was there before is as it was. Make room, then try again"


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
