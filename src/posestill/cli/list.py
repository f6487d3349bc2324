"""`posestill list`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import Plugin, load_plugins


@app.command("list")
def list_parts(
    kind: Annotated[
        Optional[str],
        typer.Argument(
            help="methods, codecs, backbones, necks, heads, teachers, layouts, sources or recipes: a line about each."
        ),
    ] = None,
    plugin: Plugin = None,
) -> None:
    """Show the methods, parts of models, sources and recipes."""
    from posestill.cli.listing import describe_everything, describe_kind

    load_plugins(plugin)
    typer.echo(describe_everything() if kind is None else describe_kind(kind))
