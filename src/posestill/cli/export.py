"""`posestill export`: files that runtimes execute, held to the model's own accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import Changes, Plugin, load_plugins, load_recipe, refuse_given
from posestill.schema import UserError

if TYPE_CHECKING:
    from posestill.deploy.export import People
    from posestill.deploy.graph import Precision


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder, such as runs/NAME/best.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it must not hold anything.")],
    to: Annotated[str, typer.Option(help="Runtimes, by commas: onnx, openvino, litert, pt2.")] = "onnx",
    fp16: Annotated[bool, typer.Option("--fp16", help="Also in half precision.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Also in eight bits (onnx, openvino).")] = False,
    decode: Annotated[
        str, typer.Option(help="outside: the file gives raw predictions; inside: keypoints.")
    ] = "outside",
    recipe: Annotated[Optional[str], typer.Option(help="Judge by the validation data of this recipe or run.")] = None,
    changes: Changes = None,
    annotations: Annotated[Optional[Path], typer.Option(help="Or by these COCO annotations.")] = None,
    images: Annotated[Optional[Path], typer.Option(help="Their folder of images.")] = None,
    metainfo: Annotated[Optional[Path], typer.Option(help="Sigmas and flip pairs of the skeleton.")] = None,
    people: Annotated[Optional[int], typer.Option(min=1, help="Judge by about so many of them; else all.")] = None,
    tolerance: Annotated[
        Optional[float], typer.Option(min=0, help="AP points (of 100) to lose; else 0.1, fp16 0.5, int8 1.")
    ] = None,
    plugin: Plugin = None,
) -> None:
    """Export a model to runtimes, held to its own accuracy."""
    from posestill.deploy.export import SYNTHETIC, Wanted, check_empty, export_model
    from posestill.deploy.gate import failure, table
    from posestill.deploy.runtimes import choose_targets
    from posestill.engine.log import RunLog
    from posestill.models.pose_model import PoseModel

    load_plugins(plugin)
    targets = choose_targets((name.strip() for name in to.split(",") if name.strip()), int8=int8)
    if decode not in ("outside", "inside"):
        raise UserError(f"--decode {decode}: outside or inside")
    check_empty(out)
    loaded = PoseModel.load(model)
    who = _people(recipe, changes, annotations, images, metainfo, people)
    precisions: list[Precision] = ["fp32", *(["fp16"] if fp16 else []), *(["int8"] if int8 else [])]  # type: ignore[list-item]
    wanted = Wanted(targets, precisions, "inside" if decode == "inside" else "outside", tolerance)
    log = RunLog(None)
    count = people or (SYNTHETIC if who.validation is None else len(who.validation.people))
    with log.bar("judging", count) as bar:
        gate = export_model(loaded, wanted, out, who, say=log.say, progress=bar.advance)
    for line in table(gate):
        typer.echo(line)
    if gate.failed:
        for row in gate.failed:
            typer.echo(failure(row, labels=gate.labels))
        typer.echo("nothing was exported")
        raise typer.Exit(1)
    typer.echo(f"exported: {out}")


def _people(
    recipe: str | None,
    changes: list[str] | None,
    annotations: Path | None,
    images: Path | None,
    metainfo: Path | None,
    count: int | None,
) -> People:
    """Whom the export is judged by: a recipe's persons, those of COCO files, or nobody who is known."""
    from posestill.deploy.export import People

    if recipe is not None:
        if annotations is not None or images is not None:
            raise UserError("export is judged by --recipe or by --annotations with --images: leave one of them out")
        refuse_given({"--metainfo": metainfo}, "export --recipe takes the recipe's persons")
        run = load_recipe(recipe, changes)
        return People(run.data.val.build(), run.data.train.build(), count)
    if (annotations is None) != (images is None):
        raise UserError("export needs --annotations and --images together, or neither of them")
    refuse_given({"--set": changes}, "export: --set changes the recipe of --recipe, and there is none")
    if annotations is None:
        refuse_given({"--metainfo": metainfo}, "export: --metainfo completes --annotations, and there are none")
        return People(count=count)
    from posestill.data.coco import CocoSource

    return People(CocoSource(annotations, images=images, metainfo=metainfo), None, count)
