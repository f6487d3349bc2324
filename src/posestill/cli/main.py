"""The console script: every verb there is, and a user's mistake as a short message."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module

from posestill.cli.app import Interrupted, app
from posestill.schema import UserError, printable

VERBS = (
    "quickstart", "train", "evaluate", "predict", "label", "export", "page", "push", "bench", "compare", "list",
    "config", "convert", "data", "teacher",
)  # fmt: skip
"""the files of this room that add verbs to the command line, in the order in which help lists them"""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""what a disk says that takes no more; such an error may name no file"""

for file in VERBS:
    import_module(f"posestill.cli.{file}")


def main() -> None:
    """Run the command line; a user's mistake becomes one line and exit status 2."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what it would say of a broken picture is said in one line
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # nor need its reader of videos
    try:
        app()
    except UserError as error:
        # A loader's process hands its mistake over inside a traceback; only its last words are for the user.
        _fail(str(error).rsplit("UserError: ", 1)[-1].strip(), 2)
    except Interrupted as error:
        _fail(str(error), 130)
    except OSError as error:
        if error.errno is None:
            raise
        named = "" if error.filename is None else f"{printable(error.filename, most=200)}: "
        remedy = ": make room, try again" if error.errno in _DISK else ""  # such an error may name no file
        _fail(f"{named}{error.strerror}{remedy}", 2)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail(
            "there is not enough memory: lower train.batch_size (or --batch-size) or model.size, or take a smaller "
            "model",
            2,
        )


def _is_out_of_memory(error: BaseException) -> bool:
    """True for what Python, torch and CUDA raise where memory is short (torch is not imported here)."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in str(error) for words in ("can't allocate memory", "not enough memory", "out of memory"))
    )


def _fail(message: str, status: int) -> None:
    rank = os.environ.get("RANK", "0")
    print(f"posestill{'' if rank == '0' else f' [rank {rank}]'}: {one_line(message)}", file=sys.stderr)
    sys.exit(status)


def one_line(message: str) -> str:
    """A message on one line that no control character of a file's name or content can change."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    joined = "".join(
        line if position + 1 == len(lines) else f"{line} " if line.endswith((":", ";", ",")) else f"{line}; "
        for position, line in enumerate(lines)
    )
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in joined
    )
