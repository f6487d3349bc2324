"""`posestill teacher`: look at a teacher before it teaches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.schema import UserError

teacher = typer.Typer(help="Look at a teacher before it teaches.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(teacher, name="teacher")


@teacher.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="A network that a runtime executes: .onnx, .tflite or .xml.")],
    layout: Annotated[Optional[str], typer.Option(help="Its layout, a name or a YAML file.")] = None,
    annotations: Annotated[Optional[Path], typer.Option(help="COCO annotations, with or without keypoints.")] = None,
    images: Annotated[Optional[Path], typer.Option(help="Their folder of images.")] = None,
    metainfo: Annotated[Optional[Path], typer.Option(help="Sigmas and flip pairs of the skeleton.")] = None,
    people: Annotated[int, typer.Option(min=5, help="How many persons are asked about.")] = 100,
) -> None:
    """Say whether a file is read as it wants to be."""
    from posestill.data.coco import CocoSource
    from posestill.engine.log import RunLog
    from posestill.study.teacher_check import check_teacher, variants
    from posestill.teachers.file import open_layout
    from posestill.teachers.runtime import open_network

    if annotations is None or images is None:
        raise UserError("teacher check needs persons: --annotations GT.json --images FOLDER")
    network = open_network(file)
    declared = open_layout(network, layout)
    typer.echo(f"{file.name}: layout {declared.name}, crops of {declared.size[0]}x{declared.size[1]} px, "
               f"{declared.padding:g} times the box; {network.describe()}")  # fmt: skip
    source = CocoSource(annotations, images=images, metainfo=metainfo)
    with RunLog(None).bar("asking", 1 + len(variants(declared, network)[1])) as bar:
        found = check_teacher(network, declared, source, people=people, progress=bar.advance)
    what = "mean OKS" if found.has_labels else "agreement with itself, by confidence"
    typer.echo(f"{what} x 100 on {len(found.declared.value)} persons:")
    typer.echo(f"  {100 * found.declared.mean:5.1f}  {found.declared.name}")
    for each in found.others:
        assert each.over_declared is not None
        low, high = 100 * each.over_declared.low, 100 * each.over_declared.high
        typer.echo(f"  {100 * each.mean:5.1f}  {each.name}  ({low:+.1f} to {high:+.1f} beside the declared)")
    for line in found.refused:
        typer.echo(f"   (not tried) {line}")
    if not found.has_labels:
        typer.echo("Nobody has labels: names that are mirrored cannot be seen in this way.")
    if found.better:
        best = found.better[0]
        typer.echo(f"wrong: '{best.name}' is better than the declared layout beyond chance; correct the layout")
        raise typer.Exit(1)
    typer.echo("the declared layout holds: nothing plausible is better beyond chance")
