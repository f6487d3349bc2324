"""`posestill convert`: a model folder of a published checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posestill.cli.app import app
from posestill.cli.options import Overwrite


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A published checkpoint, such as a .pth file.")],
    layout: Annotated[str, typer.Option("--from", help="distilpose-s, distilpose-l or tokenpose-hr48.")],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Make a model folder of a published checkpoint."""
    from posestill.files import Outputs
    from posestill.models.convert import convert_checkpoint
    from posestill.models.pose_model import SETTINGS, WEIGHTS

    outputs = Outputs("convert", overwrite=overwrite, read=(checkpoint,))
    files = [outputs.claim(out / name, "--out") for name in (SETTINGS, WEIGHTS)]
    converted = convert_checkpoint(checkpoint, layout)
    converted.model.save(out)
    for path in files:
        outputs.remember(path)
    parameters = sum(each.numel() for each in converted.model.parameters())
    for key in converted.unused:
        typer.echo(f"not used: {key}")
    typer.echo(f"{layout}: {parameters:,} parameters, every key fits, {len(converted.unused)} not used\nmodel: {out}")
