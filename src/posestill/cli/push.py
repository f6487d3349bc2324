"""`posestill push`: a model, its card and its figures in a repository of the Hugging Face Hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import Overwrite, Plugin, load_plugins

if TYPE_CHECKING:
    from posestill.deploy.push import Shipment


@app.command()
def push(
    model: Annotated[Path, typer.Argument(help="A model folder, such as runs/NAME/best.")],
    repo: Annotated[str, typer.Argument(help="The repository: OWNER/NAME. It is made if it is not there.")],
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="What you publish it under, as the Hub calls it: apache-2.0.")
    ],
    base_model: Annotated[
        Optional[str], typer.Option(help="The teacher's OWNER/NAME on the Hub, where the model does not tell it.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A repository that is made now is for everybody.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing, and print the card.")] = False,
    out: Annotated[Optional[Path], typer.Option(help="Send nothing, and write it into this folder.")] = None,
    plugin: Plugin = None,
    overwrite: Overwrite = False,
) -> None:
    """Publish a model with a filled card on the Hugging Face Hub."""
    from posestill.deploy.card import base_model as teacher_of
    from posestill.deploy.push import CARD, prepare, send

    load_plugins(plugin)
    shipment = prepare(model, repo, licence=licence, base_model=base_model)
    for name, content in shipment.files.items():
        typer.echo(f"{len(content):>12,} bytes  {name}")
    if shipment.left_out:
        typer.echo(f"stays here: {', '.join(shipment.left_out)}")
    if shipment.published.lineage.get("teacher") and teacher_of(shipment.published) is None:
        typer.echo("the card names the teacher in words alone: give --base-model OWNER/NAME if it is on the Hub")
    if out is not None:
        _write(shipment, out, overwrite=overwrite, read=model)
        typer.echo(f"nothing was sent; it is in {out}")
    elif dry_run:
        typer.echo(shipment.files[CARD].decode())
        typer.echo("nothing was sent")
    else:
        commit = send(shipment, public=public)
        typer.echo(f'pushed; to load it: posestill.load("hub:{repo}@{commit}")')


def _write(shipment: Shipment, out: Path, *, overwrite: bool, read: Path) -> None:
    from posestill.files import Outputs

    outputs = Outputs("push", overwrite=overwrite, read=[read / name for name in shipment.files])
    for name in shipment.files:
        outputs.claim(out / name, "--out")
    for name, content in shipment.files.items():
        outputs.write(out / name, partial(_write_bytes, content))


def _write_bytes(content: bytes, draft: Path) -> None:
    draft.write_bytes(content)
