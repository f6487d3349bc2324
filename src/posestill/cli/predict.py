"""`posestill predict`: poses of the persons in images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import Device, Plugin, load_plugins


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder, such as runs/NAME/best.")],
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Where drawn images and predictions.json go.")] = Path("predictions"),
    boxes: Annotated[
        Optional[Path],
        typer.Option(help="COCO annotations, or JSON {file name: [[x, y, w, h], ...]}; else a frame is one person."),
    ] = None,
    flip_test: Annotated[bool, typer.Option(help="Average with the mirrored crop's prediction.")] = False,
    threshold: Annotated[float, typer.Option(help="Keypoints scored below are not drawn.")] = 0.2,
    device: Device = "auto",
    draw: Annotated[bool, typer.Option(help="Write drawn images.")] = True,
    plugin: Plugin = None,
) -> None:
    """Find the poses of the persons in images, and draw them."""
    from posestill.predict.files import find_images, predict_files
    from posestill.predict.predictor import Predictor

    load_plugins(plugin)
    predictor = Predictor(model, flip_test=flip_test, device=device)
    wanted = find_images(paths, boxes)
    people = predict_files(predictor, wanted, out=out, threshold=threshold, draw=draw)
    if not predictor.model.codec.has_score:
        typer.echo("This model has no trained confidence: every keypoint score is 1.")
    typer.echo(f"{people} persons in {len(wanted)} images -> {out}")
