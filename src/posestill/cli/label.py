"""`posestill label`: a teacher's keypoints of pictures without labels, as a COCO file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import (
    Boxes,
    Detector,
    Device,
    Gpus,
    On,
    Overwrite,
    Plugin,
    Share,
    cluster_of,
    load_plugins,
    share_of,
)

if TYPE_CHECKING:
    from posestill.predict.label import Labelled


@app.command()
def label(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, videos, or folders of them.")],
    teacher: Annotated[
        str, typer.Option(help="A file (.onnx, .tflite, .xml), a model folder, hf:OWNER/NAME, or `bundled`.")
    ],
    out: Annotated[Path, typer.Option(help="The COCO file to write; a contact sheet goes beside it.")],
    boxes: Boxes = None,
    detector: Detector = None,
    box_threshold: Annotated[float, typer.Option(help="Boxes scored below are left out.")] = 0.3,
    threshold: Annotated[float, typer.Option(help="Keypoints above this confidence become visible ones.")] = 0.3,
    layout: Annotated[Optional[str], typer.Option(help="The layout of the teacher's file, if it cannot tell.")] = None,
    frame_step: Annotated[int, typer.Option(min=1, help="Of a video every so many-th frame.")] = 10,
    device: Device = "auto",
    shard: Share = None,
    on: On = None,
    gpus: Gpus = None,
    plugin: Plugin = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a teacher's keypoints of pictures as a COCO file.

    The exit status is 1 when a picture could not be read; the others are labelled.

    A contact sheet beside it shows the people that the teacher is surest of, least sure of, and those that were left
    out, as it is sure of too few of their keypoints.

    Several machines share the pictures by --shard, one command each, or by --on, one command for all; pictures and
    --out lie on a disk that all see.
    """
    from posestill.cluster.shards import WHOLE
    from posestill.data.images import ImagesConfig
    from posestill.engine.choose import open_teacher
    from posestill.engine.log import RunLog
    from posestill.models.device import choose_device
    from posestill.predict.label import frames_folder, label_pictures
    from posestill.predict.label_shards import LabelJob, label_on, label_shard
    from posestill.schema import printable, validate

    share = share_of(shard, on)
    load_plugins(plugin)
    settings = {
        "folder": pictures, "boxes": boxes, "detector": detector, "box_threshold": box_threshold,
        "frame_step": frame_step,
    }  # fmt: skip
    given = validate(ImagesConfig, settings, where="label")
    log, job = RunLog(None), LabelJob(given, teacher, layout, out, device, share)
    found: Labelled | None
    with cluster_of(on, gpus, plugin) as cluster:
        if cluster is not None:
            found = label_on(cluster, job, threshold=threshold, log=log, overwrite=overwrite)
        elif share != WHOLE:
            found = label_shard(job, threshold=threshold, log=log, overwrite=overwrite)
        else:
            place = choose_device(device)
            found = label_pictures(
                given, open_teacher(teacher, layout=layout), out, threshold=threshold, log=log, device=place,
                overwrite=overwrite,
            )  # fmt: skip
    if found is None:
        return
    typer.echo(
        f"{found.people} people in {found.pictures} pictures, mean confidence {found.confidence:.2f}; {found.dropped} "
        "dropped, as the teacher is sure of too few of their keypoints"
    )
    if frames_folder(out).is_dir():
        typer.echo(f"frames: {found.images}")
    typer.echo(f"labels: {out}\nsheet: {found.sheet}")
    typer.echo(f"data.train: {{name: coco, annotations: {out}, images: {found.images}}}")
    for line in found.unreadable:
        typer.echo(printable(f"passed over: {line}"), err=True)
    if found.unreadable:
        raise typer.Exit(1)
