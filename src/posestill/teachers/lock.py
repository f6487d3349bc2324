"""A lock file: of several processes one at a time does something, and the system frees it when that one is killed."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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
        return True


@contextmanager
def held(path: Path, *, say: Callable[[str], None], meanwhile: str, pause: float = 0.2) -> Iterator[None]:
    """Within it nobody else holds the lock file at `path`, which stays when it is free.

    Whoever comes meanwhile waits, trying again after `pause` seconds, and says so once: `meanwhile` and the holder's
    number.
    """
    try:
        handle = path.open("a+")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}), so that nothing can be kept beside it") from None
    with handle:  # closing it frees the lock
        waiting = False
        while not _try_to_lock(handle):
            if not waiting:
                handle.seek(0)
                say(f"{meanwhile} process {handle.read().strip() or 'unknown'}: waiting for it")
                waiting = True
            time.sleep(pause)
        handle.seek(0)
        handle.truncate()
        handle.write(f"{os.getpid()} on {platform.node()}\n")
        handle.flush()
        yield
