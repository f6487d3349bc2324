"""`posestill predict`: poses of the persons in pictures, videos and what a camera sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import Interrupted, app
from posestill.cli.options import Device, Overwrite, Plugin, load_plugins, refuse_given
from posestill.schema import UserError, printable, validate

if TYPE_CHECKING:
    from posestill.predict.files import Found, Wanted
    from posestill.predict.people import Following
    from posestill.predict.run import Predicted


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder, such as runs/NAME/best.")],
    paths: Annotated[
        list[str],
        typer.Argument(help="Pictures, videos, folders of them, patterns such as 'a*.jpg', cameras such as camera:0."),
    ],
    out: Annotated[Path, typer.Option(help="Where drawings and predictions.json go.")] = Path("predictions"),
    save_results: Annotated[
        Optional[Path],
        typer.Option(help="Write predictions here instead: .json (COCO results), .jsonl (a line a picture) or .csv."),
    ] = None,
    boxes: Annotated[
        Optional[Path],
        typer.Option(
            help="COCO annotations or detections, or {file name: [[x, y, w, h], ...]}; else a frame is one person."
        ),
    ] = None,
    annotations: Annotated[
        Optional[Path], typer.Option(help="COCO annotations that say what the image ids of --boxes are called.")
    ] = None,
    detector: Annotated[
        Optional[Path],
        typer.Option(help="A file (.onnx, .tflite, .xml) or hf:OWNER/NAME that finds people, instead of --boxes."),
    ] = None,
    box_threshold: Annotated[
        Optional[float], typer.Option(help="Boxes scored below are left out: 0 of --boxes, 0.3 of --detector.")
    ] = None,
    track: Annotated[
        bool, typer.Option("--track", help="In videos, look for a person where it was in the frame before.")
    ] = False,
    find_every: Annotated[
        int, typer.Option(min=1, help="With --track, frames after which the detector is asked again.")
    ] = 30,
    smooth: Annotated[bool, typer.Option("--smooth", help="Smooth the keypoints of videos (One-Euro filter).")] = False,
    min_cutoff: Annotated[
        Optional[float], typer.Option(help="With --smooth, Hz where nothing moves: lower trembles less. Default 1.")
    ] = None,
    beta: Annotated[
        Optional[float], typer.Option(help="With --smooth: larger lags less in fast movements. Default 5.")
    ] = None,
    derivative_cutoff: Annotated[
        Optional[float], typer.Option(help="With --smooth, Hz of the speed: higher notices it sooner. Default 1.")
    ] = None,
    frames: Annotated[
        Optional[int], typer.Option(min=1, help="Of each video and camera at most so many frames.")
    ] = None,
    flip_test: Annotated[bool, typer.Option(help="Average with the mirrored crop's prediction.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops at a time.")] = 32,
    threshold: Annotated[float, typer.Option(help="Keypoints scored below are not drawn, and not tracked.")] = 0.2,
    device: Device = "auto",
    draw: Annotated[bool, typer.Option(help="Write drawn pictures and videos.")] = True,
    plugin: Plugin = None,
    overwrite: Overwrite = False,
) -> None:
    """Find and draw the poses of persons in pictures and videos.

    The exit status is 1 when something could not be read or a box was left out; the rest is predicted.
    """
    from posestill.files import Outputs
    from posestill.models.pose_model import SETTINGS, WEIGHTS
    from posestill.predict.files import find_images
    from posestill.predict.people import Following
    from posestill.predict.predictor import Predictor
    from posestill.predict.results import check_format
    from posestill.predict.run import predict_files
    from posestill.predict.smooth import OneEuroConfig

    load_plugins(plugin)
    if boxes is not None and detector is not None:
        raise UserError("--boxes and --detector both say where persons are: give one of them")
    if annotations is not None and boxes is None:
        raise UserError("--annotations says what the images of --boxes are called: give --boxes, too")
    if boxes is None and detector is None:
        whole = {"--box-threshold": box_threshold, "--find-every": None if find_every == 30 else find_every}
        refuse_given(whole, "predict: without --boxes and --detector each frame is one person")
    if save_results is not None:
        check_format(save_results)
    given = {"min_cutoff": min_cutoff, "beta": beta, "derivative_cutoff": derivative_cutoff}
    filters = {name: value for name, value in given.items() if value is not None}
    if filters and not smooth:
        raise UserError(f"--{next(iter(filters)).replace('_', '-')} is a setting of --smooth: give that, too")
    filtering = validate(OneEuroConfig, filters, where="--smooth") if smooth else None
    following = Following(track=track, find_every=find_every, smooth=filtering)
    wanted, found = find_images(paths, boxes, annotations=annotations, threshold=box_threshold or 0.0, out=out)
    _check_following(following, wanted)
    if (
        draw
        and not overwrite
        and os.path.realpath(out) in {os.path.realpath(each) for each in paths if os.path.isdir(each)}
    ):
        raise UserError(
            f"--out {out} is a folder of the pictures, among which drawings would lie: choose another, or give "
            "--overwrite"
        )
    finder = None
    if detector is not None:
        from posestill.teachers.detect import open_detector

        finder = open_detector(detector, threshold=0.3 if box_threshold is None else box_threshold)
    predictor = Predictor(model, flip_test=flip_test, device=device)
    if boxes is None and detector is None:
        typer.echo(_about_whole_frames(track))
    read = (boxes, annotations, detector, model / SETTINGS, model / WEIGHTS, *(each.path for each in wanted))
    done = predict_files(
        predictor, wanted, out=out, threshold=threshold, draw=draw, results=save_results, finder=finder,
        following=following, batch_size=batch_size, most_frames=frames,
        outputs=Outputs("predict", overwrite=overwrite, read=read),
    )  # fmt: skip
    if not predictor.model.codec.has_score:
        typer.echo("This model has no trained confidence: every keypoint score is 1.")
    where = out if save_results is None else f"{save_results}, {out}" if draw else save_results
    _report(done, found, wanted, boxes, where=str(where), is_camera=any(each.startswith("camera:") for each in paths))


def _check_following(following: Following, wanted: Sequence[Wanted]) -> None:
    if following.is_wanted and not any(each.is_moving for each in wanted):
        raise UserError(
            f"{'--track' if following.track else '--smooth'} follows persons from frame to frame, and there is no "
            "video and no camera here: leave it out"
        )


def _about_whole_frames(track: bool) -> str:
    said = "No boxes and no detector: each picture is taken for one person as a whole"
    return said + (", and a frame of a video where nobody is followed." if track else ".")


def _report(
    done: Predicted, found: Found, wanted: Sequence[Wanted], boxes: Path | None, *, where: str, is_camera: bool
) -> None:
    """Say what was done, and end with the exit status that it deserves."""
    moving = sum(each.is_moving for each in wanted)
    unnamed = len(found.files) - len(wanted) - sum("--boxes name no frames" in line for line in found.problems)
    if unnamed > 0:
        typer.echo(f"{unnamed} of {len(found.files)} images are not named in {boxes}: left out")
    if note := found.passed_over():
        typer.echo(note)
    if done.empty:
        typer.echo(f"nobody was found in {done.empty} of {done.images + done.frames} pictures")
    parts = [f"{done.images} images"] if done.images or not done.frames else []
    parts += [f"{done.frames} frames of {done.videos} videos"] if done.frames else []
    typer.echo(printable(f"{done.people} persons in {' and '.join(parts)} -> {where}"))
    if moving:
        typer.echo(str(done.stages))
    problems = (*found.problems, *done.unreadable)
    for line in (*problems, *done.left_out):
        typer.echo(printable(f"passed over: {line}"), err=True)
    if done.unreadable:
        typer.echo(f"{len(done.unreadable)} of {len(wanted)} images could not be read", err=True)
    if done.is_stopped and not is_camera:
        raise Interrupted("stopped: what was predicted before is written")
    if not done.people:
        raise UserError("nobody was found at all: correct the boxes, or lower --box-threshold")
    if problems or done.left_out:
        raise typer.Exit(1)
