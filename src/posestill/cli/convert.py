"""`posestill convert`: a model folder of a published checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posestill.cli.app import app


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A published checkpoint, such as a .pth file.")],
    layout: Annotated[str, typer.Option("--from", help="distilpose-s, distilpose-l or tokenpose-hr48.")],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
) -> None:
    """Make a model folder of a published checkpoint."""
    from posestill.models.convert import convert_checkpoint

    converted = convert_checkpoint(checkpoint, layout)
    converted.model.save(out)
    parameters = sum(each.numel() for each in converted.model.parameters())
    for key in converted.unused:
        typer.echo(f"not used: {key}")
    typer.echo(f"{layout}: {parameters:,} parameters, every key fits, {len(converted.unused)} not used\nmodel: {out}")
