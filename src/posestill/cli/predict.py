"""`posestill predict`: poses of the persons in images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import Device, Overwrite, Plugin, load_plugins
from posestill.schema import UserError, printable


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder, such as runs/NAME/best.")],
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders, which are read with all folders in them.")],
    out: Annotated[Path, typer.Option(help="Where drawn images and predictions.json go.")] = Path("predictions"),
    boxes: Annotated[
        Optional[Path],
        typer.Option(
            help="COCO annotations or detections, or {file name: [[x, y, w, h], ...]}; else a frame is one person."
        ),
    ] = None,
    annotations: Annotated[
        Optional[Path], typer.Option(help="COCO annotations that say what the image ids of --boxes are called.")
    ] = None,
    box_threshold: Annotated[float, typer.Option(help="Boxes scored below are left out.")] = 0.0,
    flip_test: Annotated[bool, typer.Option(help="Average with the mirrored crop's prediction.")] = False,
    threshold: Annotated[float, typer.Option(help="Keypoints scored below are not drawn.")] = 0.2,
    device: Device = "auto",
    draw: Annotated[bool, typer.Option(help="Write drawn images.")] = True,
    plugin: Plugin = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the poses of the persons in images, and draw them.

    The exit status is 1 when an image could not be read; the others are predicted.
    """
    from posestill.files import Outputs
    from posestill.models.pose_model import SETTINGS, WEIGHTS
    from posestill.predict.files import find_images, predict_files
    from posestill.predict.predictor import Predictor

    load_plugins(plugin)
    predictor = Predictor(model, flip_test=flip_test, device=device)
    wanted, found = find_images(paths, boxes, annotations=annotations, threshold=box_threshold, out=out)
    if not overwrite and os.path.realpath(out) in {os.path.realpath(path) for path in paths if path.is_dir()}:
        raise UserError(
            f"--out {out} is a folder of the pictures, among which drawings would lie: choose another, or give "
            "--overwrite"
        )
    read = (boxes, annotations, model / SETTINGS, model / WEIGHTS, *(each.path for each in wanted))
    outputs = Outputs("predict", overwrite=overwrite, read=read)
    done = predict_files(predictor, wanted, out=out, threshold=threshold, draw=draw, outputs=outputs)
    if not predictor.model.codec.has_score:
        typer.echo("This model has no trained confidence: every keypoint score is 1.")
    if len(wanted) < len(found.files):
        typer.echo(f"{len(found.files) - len(wanted)} of {len(found.files)} images are not named in {boxes}: left out")
    if note := found.passed_over():
        typer.echo(note)
    typer.echo(printable(f"{done.people} persons in {done.images} images -> {out}"))
    for line in done.unreadable:
        typer.echo(printable(f"passed over: {line}"), err=True)
    if done.unreadable:
        typer.echo(f"{len(done.unreadable)} of {len(wanted)} images could not be read", err=True)
        raise typer.Exit(1)
