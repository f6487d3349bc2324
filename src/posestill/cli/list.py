"""`posestill list`: what there is to choose from."""

from __future__ import annotations

import typer

from posestill.cli.app import app
from posestill.cli.options import Plugin, load_plugins


@app.command("list")
def list_parts(plugin: Plugin = None) -> None:
    """Show the methods, models, data sources and recipes there are, and what they need."""
    from posestill.cli.listing import describe_parts

    load_plugins(plugin)
    typer.echo(describe_parts())
