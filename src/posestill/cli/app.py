"""The command line's two groups of verbs, to which the files that `main.VERBS` names add theirs.

Nothing here imports torch: every verb brings in what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import typer

import posestill

app = typer.Typer(
    name="posestill",
    help="Turn a strong human-pose estimator and your images into a small one that ships.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Check, pack or make a dataset.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")


class Interrupted(Exception):
    """The user stopped a verb; the message says how to go on."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"posestill {posestill.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Take what can be said before any verb."""
