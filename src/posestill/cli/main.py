"""The console script: every verb there is, and a user's mistake as a short message."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from posestill.cli.app import Interrupted, app
from posestill.schema import UserError, printable

VERBS = (
    "quickstart", "train", "evaluate", "predict", "label", "compare", "list", "config", "convert", "data", "teacher",
)  # fmt: skip
"""the files of this room that add verbs to the command line, in the order in which help lists them"""

for file in VERBS:
    import_module(f"posestill.cli.{file}")


def main() -> None:
    """Run the command line; a user's mistake becomes a short message and exit status 2."""
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
        _fail(f"{named}{error.strerror}", 2)


def _fail(message: str, status: int) -> None:
    rank = os.environ.get("RANK", "0")
    message = printable(message, keep="\n")  # a file's name may hold what a terminal obeys
    print(f"posestill{'' if rank == '0' else f' [rank {rank}]'}: {message}", file=sys.stderr)
    sys.exit(status)
