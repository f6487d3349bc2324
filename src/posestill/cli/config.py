"""`posestill config`: a recipe with every setting resolved."""

from __future__ import annotations

import typer

from posestill.cli.app import app
from posestill.cli.options import Changes, Plugin, Recipe, load_recipe


@app.command()
def config(recipe: Recipe, changes: Changes = None, plugin: Plugin = None) -> None:
    """Print a run with every setting resolved."""
    from posestill.engine.config import dump_run

    typer.echo(dump_run(load_recipe(recipe, changes, plugin)), nl=False)
