"""`posestill evaluate`: the figures of a model, or of any COCO results file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import Changes, Device, Overwrite, Plugin, load_plugins, load_recipe, refuse_given
from posestill.files import Outputs
from posestill.schema import UserError

if TYPE_CHECKING:
    from posestill.data.source import PoseSource


@app.command()
def evaluate(
    model: Annotated[Optional[Path], typer.Argument(help="A model folder, such as runs/NAME/best.")] = None,
    annotations: Annotated[Optional[Path], typer.Option(help="COCO keypoint annotations: the truth.")] = None,
    images: Annotated[Optional[Path], typer.Option(help="Their folder of images.")] = None,
    results: Annotated[Optional[Path], typer.Option(help="Score this COCO results file; no model is needed.")] = None,
    metainfo: Annotated[Optional[Path], typer.Option(help="JSON with sigmas and flip pairs of the skeleton.")] = None,
    wholebody: Annotated[
        bool, typer.Option("--wholebody", help="The annotations are COCO-WholeBody's: 133 keypoints.")
    ] = False,
    recipe: Annotated[
        Optional[str], typer.Option(help="Take the validation data of this recipe or run folder.")
    ] = None,
    changes: Changes = None,
    plugin: Plugin = None,
    boxes: Annotated[Optional[Path], typer.Option(help="A COCO detections file; else the annotated boxes.")] = None,
    box_threshold: Annotated[Optional[float], typer.Option(help="Detections scored below are left out.")] = None,
    rescoring: Annotated[Optional[str], typer.Option(help="A person's score: published, mean, sum or box.")] = None,
    oks_nms: Annotated[
        Optional[float], typer.Option(help="OKS beyond which one of two detected poses goes; 0: none.")
    ] = None,
    flip_test: Annotated[Optional[bool], typer.Option(help="Average with the mirrored crop's prediction.")] = None,
    batch_size: Annotated[Optional[int], typer.Option(min=1, help="Crops at a time.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that cut crops; 0: this one.")] = 0,
    device: Device = "auto",
    json_out: Annotated[Optional[Path], typer.Option("--json", help="Write the figures to this file.")] = None,
    save_results: Annotated[Optional[Path], typer.Option(help="Write the predictions as a COCO results file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Print OKS AP, mean OKS and PCK of a model or a results file."""
    load_plugins(plugin)
    own = () if model is None else (model / "config.json", model / "model.safetensors")
    read = (annotations, results, metainfo, boxes, Path(recipe or ""), *own)
    outputs = Outputs("evaluate", overwrite=overwrite, read=read)
    for path, option in ((json_out, "--json"), (save_results, "--save-results")):
        if path is not None:  # before the work begins
            outputs.claim(path, option)
    of_a_model = {
        "MODEL": model, "--recipe": recipe, "--set": changes, "--images": images, "--boxes": boxes,
        "--box-threshold": box_threshold, "--rescoring": rescoring, "--oks-nms": oks_nms, "--flip-test": flip_test,
        "--batch-size": batch_size, "--save-results": save_results,
    }  # fmt: skip
    of_annotations = {"--annotations": annotations, "--images": images, "--metainfo": metainfo}
    if results is not None:
        refuse_given(of_a_model, "evaluate --results scores a file and asks no model")
        if annotations is None:
            raise UserError("evaluate --results needs --annotations, the truth to score against")
        from posestill.evaluation.results import score_results

        figures = score_results(annotations, results, metainfo=metainfo, wholebody=wholebody)
    elif model is not None:
        from posestill.engine.log import RunLog
        from posestill.evaluation.evaluate import as_coco_results
        from posestill.evaluation.folder import evaluate_folder, evaluation_settings

        if recipe is None:
            refuse_given({"--set": changes}, "evaluate: --set changes the recipe of --recipe, and there is none")
        else:
            refuse_given(
                {**of_annotations, "--wholebody": wholebody or None}, "evaluate --recipe takes the recipe's persons"
            )
        run = None if recipe is None else load_recipe(recipe, changes)
        if run is not None:
            source: PoseSource = run.data.val.build()
        else:
            source = _open_truth(annotations, images, metainfo=metainfo, wholebody=wholebody)
        settings = evaluation_settings(
            None if run is None else run.evaluate,
            flip_test=flip_test,
            batch_size=batch_size,
            boxes=boxes,
            box_threshold=box_threshold,
            oks_nms=oks_nms,
            rescoring=rescoring,
        )
        if settings.boxes is None:
            detected = {"--box-threshold": box_threshold, "--oks-nms": oks_nms}
            refuse_given(detected, "evaluate: detections come by --boxes, and there are none")
        log = RunLog(None)
        with log.bar("evaluating", len(source.people)) as bar:
            evaluation = evaluate_folder(
                model, source, settings, workers=workers, device=device, progress=bar.advance, say=log.say
            )
        if save_results is not None:
            category_id = getattr(source, "category_id", 1)
            entries = as_coco_results(evaluation.poses, source.skeleton, category_id=category_id)
            outputs.write_json(save_results, entries, indent=None)
        figures = evaluation.as_json()
    else:
        raise UserError("evaluate needs a model folder, or --results with --annotations")
    _print_figures(figures)
    if json_out is not None:
        outputs.write_json(json_out, figures)


def _open_truth(annotations: Path | None, images: Path | None, *, metainfo: Path | None, wholebody: bool) -> PoseSource:
    if annotations is None or images is None:
        raise UserError("evaluate needs the data: --annotations with --images, or --recipe RECIPE")
    if wholebody and metainfo is not None:
        raise UserError("--wholebody brings its own skeleton: leave --metainfo out")
    from posestill.data.coco import CocoSource

    return CocoSource(annotations, images=images, metainfo=metainfo, wholebody=wholebody)


def _print_figures(figures: Mapping[str, Any]) -> None:
    typer.echo(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in figures["conditions"].items()))
    for name, value in figures.items():
        if isinstance(value, float):
            typer.echo(f"{name:>16} {_percent(value)}")
    if "parts" in figures:
        typer.echo(f"{'part':>16} {'AP':>6} {'AR':>6}")
        for part, ten in figures["parts"].items():
            typer.echo(f"{part:>16} {_percent(ten['AP'])} {_percent(ten['AR'])}")
    for note in figures["notes"]:
        typer.echo(note)


def _percent(value: float) -> str:
    """Six characters; -1, which says that there was nothing to evaluate, stays -1."""
    return f"{100 * value:6.1f}" if value != -1 else f"{'-1':>6}"
