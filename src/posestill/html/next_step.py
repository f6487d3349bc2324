"""The commands that follow a run, with its own paths, as somebody would type them."""

from __future__ import annotations

import shlex
from pathlib import Path

from posestill.engine.config import RunConfig

SOME_PICTURES = "PICTURES"
"""stands for what only the reader knows"""


def next_commands(config: RunConfig, folder: Path, *, longer_first: bool) -> list[tuple[str, str]]:
    """What to do next and the command for it: look at pictures, export, show it in a browser, train for longer."""
    best = folder / "best"
    judged = () if config.data.has_no_labels else ("--recipe", str(folder))
    pictures = _pictures(config)
    which = f"your pictures or videos, in the place of {SOME_PICTURES}" if pictures == SOME_PICTURES else "pictures"
    known = [
        (
            f"Draw its poses on {which}:",
            command_line("predict", best, pictures, "--out", folder / "predictions"),
        ),
        (
            "Export it to a file that runtimes execute, and hold that to the model's own figures:",
            command_line("export", best, "--out", folder / "export", *judged),
        ),
        (
            "Show it in a browser, on a picture, a video or the webcam:",
            command_line("page", best, "--out", folder / "page"),
        ),
    ]
    train = config.train
    unit, length = ("steps", train.steps) if train.steps is not None else ("epochs", train.epochs)
    assert length is not None
    verb = "train" if config.teacher is None else "distil"
    longer = f"train.{unit}={2 * length}"
    if config.teacher is None and train.optimiser.schedule != "cosine":
        command = command_line(verb, folder, "--out", folder, "--resume", "--set", longer)
    else:  # what the steps taken were depends on the length of the run, or may: it is begun anew
        command = command_line(verb, folder, "--out", folder.with_name(f"{folder.name}-longer"), "--set", longer)
    if longer_first:
        return [("Train it for longer, as it had not converged:", command), *known]
    return [*known, ("Train it for longer:", command)]


def _pictures(config: RunConfig) -> str | Path:
    """Pictures that the run knows of."""
    given = getattr(config.data.train, "folder", None)
    return given[0] if given else SOME_PICTURES


def command_line(verb: str, *words: str | Path) -> str:
    """A command as somebody would type it in a shell."""
    return shlex.join(["posestill", verb, *map(str, words)])
