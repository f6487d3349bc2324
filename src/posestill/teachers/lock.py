"""A lock file: of several processes one at a time does something, and the system frees it when that one is killed."""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from posestill.cluster.attempts import InUse
from posestill.schema import UserError

if sys.platform == "win32":
    import msvcrt

    def _try_to_lock(handle: IO[str]) -> bool:
        handle.seek(1 << 20)  # beyond the text, which others shall be able to read
        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_to_lock(handle: IO[str]) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:  # a disk that knows no locks, such as some network shares
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        return True


@contextmanager
def held(path: Path, *, say: Callable[[str], None], meanwhile: str, pause: float = 0.2) -> Iterator[None]:
    """Within it nobody else holds the lock file at `path`, which stays when it is free.

    Whoever comes meanwhile waits, trying again after `pause` seconds, and says so once: `meanwhile` and the holder's
    number.
    """
    with _opened(path) as handle:  # closing it frees the lock
        waiting = False
        while not _try_to_lock(handle):
            if not waiting:
                say(f"{meanwhile} process {_holder(handle)}: waiting for it")
                waiting = True
            time.sleep(pause)
        _sign(handle)
        yield


@contextmanager
def claimed(path: Path, *, refusal: Callable[[str], str]) -> Iterator[None]:
    """Within it the lock file at `path` is this process's; it is removed at the end.

    Where another process has it, an `InUse` says what `refusal` makes of that one's number.
    """
    with _opened(path) as handle:
        if not _try_to_lock(handle) or not _is_at(handle, path):  # or it was freed and removed this very instant
            raise InUse(refusal(_holder(handle)))
        _sign(handle)
        try:
            yield
        finally:
            if os.name == "posix":  # elsewhere an open file cannot be removed
                path.unlink(missing_ok=True)


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("a+")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}), so that nothing can be kept beside it") from None


def _holder(handle: IO[str]) -> str:
    handle.seek(0)
    return handle.read().strip() or "unknown"


def _sign(handle: IO[str]) -> None:
    with suppress(OSError):  # a full disk: the lock holds all the same
        handle.seek(0)
        handle.truncate()
        handle.write(f"{os.getpid()} on {platform.node()}\n")
        handle.flush()


def _is_at(handle: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
