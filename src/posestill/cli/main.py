"""The console script: every verb there is, and a user's mistake as a short message."""

from __future__ import annotations

import os
import sys

# Each file adds its verbs to the command line; help lists them in this order.
from posestill.cli import compare, config, convert, data, evaluate, list, predict, quickstart, train  # noqa: F401
from posestill.cli.app import Interrupted, app
from posestill.schema import UserError


def main() -> None:
    """Run the command line; a user's mistake becomes a short message and exit status 2."""
    try:
        app()
    except UserError as error:
        # A loader's process hands its mistake over inside a traceback; only its last words are for the user.
        _fail(str(error).rsplit("UserError: ", 1)[-1].strip(), 2)
    except Interrupted as error:
        _fail(str(error), 130)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 2)


def _fail(message: str, status: int) -> None:
    rank = os.environ.get("RANK", "0")
    print(f"posestill{'' if rank == '0' else f' [rank {rank}]'}: {message}", file=sys.stderr)
    sys.exit(status)
