"""Files that several processes write: whole or not at all, and the first one to write a name has it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from posestill.schema import UserError

WON = "won"
"""ends the name of the folder by which the first writer of a file is known where there are no hard links"""
_PROBE = 1 << 16
"""bytes"""


def publish(path: Path, content: str | bytes) -> bool:
    """Put a whole file at `path` unless one is there: False where another was first, whose file stays as it is.

    It needs no lock: of several machines that do so at once one alone is told True, also over a network.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _drafted(path, content) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            # Over a network the answer to a link that was made can get lost; the second try then finds the first.
            first = draft.samefile(path)
        except OSError:
            first = _publish_without_links(draft, path)
        else:
            first = True
    _settle(path.parent)
    return first


def withdraw(path: Path) -> None:
    """Remove a published file, if it is there, and whatever says who wrote it first."""
    path.unlink(missing_ok=True)
    shutil.rmtree(_won(path), ignore_errors=True)


def _publish_without_links(draft: Path, path: Path) -> bool:
    """The same on a disk without hard links, such as FAT and some shares.

    There, too, a folder cannot take the name of one that holds something: whose folder gets the name was first. The
    file in it is then copied to `path` by whoever comes by, so that a stop in between leaves nothing undone.
    """
    if path.exists():
        return False
    own = draft.with_suffix(".folder")
    own.mkdir()
    draft.rename(own / "content")
    try:
        own.rename(_won(path))
        first = True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):  # the last is what Windows says
            raise
        first = False
    finally:
        shutil.rmtree(own, ignore_errors=True)
    if not path.exists():
        with _drafted(path, (_won(path) / "content").read_bytes()) as copy:
            copy.replace(path)
    return first


def _won(path: Path) -> Path:
    return path.with_name(f".{path.name}.{WON}")


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
def _drafted(path: Path, content: str | bytes) -> Iterator[Path]:
    """The content in a file of this process's own beside `path`, on the disk; what is left of it is removed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.draft")
    try:
        with draft.open("xb") as handle:
            handle.write(content.encode() if isinstance(content, str) else content)
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
