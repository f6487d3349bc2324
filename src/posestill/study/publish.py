"""Files that several processes write: whole or not at all, and the first one to write a name has it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from posestill.schema import UserError

_PROBE = 1 << 16
"""bytes"""


def publish(path: Path, text: str) -> bool:
    """Put a whole file at `path` unless one is there: False where another was first, whose file stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _drafted(path, text) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            # Over a network the answer to a link that was made can get lost; the second try then finds the first.
            first = draft.samefile(path)
        except OSError:  # no hard links here: of two that finish in the same instant the later one's file stays, whole
            first = not path.exists()
            if first:
                draft.rename(path)
        else:
            first = True
    _settle(path.parent)
    return first


def replace(path: Path, text: str, *, unless: Callable[[], bool]) -> bool:
    """Put a whole file in the place of the one at `path`; False, and nothing is done, where `unless` says so at last.

    `unless` is asked when all but the exchange is done, so that next to no time is left in which it may become true.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _drafted(path, text) as draft:
        if unless():
            return False
        draft.replace(path)
    _settle(path.parent)
    return True


def check_writable(folder: Path) -> None:
    """A `UserError` where a folder takes no file of the size of some rows, before anything is worked out for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _drafted(folder / "probe", "0" * _PROBE):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): make room, or name another folder"
        ) from None


@contextmanager
def _drafted(path: Path, text: str) -> Iterator[Path]:
    """The text in a file of this process's own beside `path`, on the disk; what is left of it is removed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.draft")
    try:
        with draft.open("x", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
