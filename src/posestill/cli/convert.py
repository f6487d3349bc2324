"""`posestill convert`: a model folder of a published checkpoint, or a folder that transformers reads of a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import Overwrite, refuse_given
from posestill.schema import UserError

if TYPE_CHECKING:
    from posestill.files import Outputs
    from posestill.models.convert import Converted
    from posestill.models.pose_model import PoseModel
    from posestill.skeletons import Skeleton

TRANSFORMERS = "transformers"


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A published checkpoint, such as a .pth file; hf:OWNER/NAME; or, with --to, a model folder."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    layout: Annotated[
        Optional[str],
        typer.Option("--from", help="What it is, such as rtmpose-m, hrnet-w32 or vitpose; a wrong name lists all."),
    ] = None,
    target: Annotated[
        Optional[str], typer.Option("--to", help="transformers: write a VitPose of yours as that library reads it.")
    ] = None,
    metainfo: Annotated[
        Optional[Path], typer.Option(help="The names of its keypoints, where they are no known set.")
    ] = None,
    dataset_index: Annotated[int, typer.Option(min=0, help="Which expert of a ViTPose++ is used; 0 is COCO's.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Convert a published checkpoint, or a VitPose for transformers."""
    from posestill.files import Outputs
    from posestill.models.pose_model import SETTINGS, WEIGHTS

    if (layout is None) == (target is None):
        raise UserError("convert: say what is converted by --from NAME, or into what by --to transformers")
    inside = (source / name for name in (SETTINGS, WEIGHTS))
    outputs = Outputs("convert", overwrite=overwrite, read=(source, metainfo, *inside))
    if target is not None:
        of_checkpoints = {"--metainfo": metainfo, "--dataset-index": dataset_index or None}
        refuse_given(of_checkpoints, "convert --to takes the keypoints of the model")
        _write_for(target, source, out, outputs)
        return
    assert layout is not None
    files = [outputs.claim(out / name, "--out") for name in (SETTINGS, WEIGHTS)]
    converted = _converted(source, layout, metainfo, dataset_index)
    converted.model.save(out)
    for path in files:
        outputs.remember(path)
    for key in converted.unused:
        typer.echo(f"not used: {key}")
    count = _parameters(converted.model)
    typer.echo(f"{layout}: {count:,} parameters, every key fits, {len(converted.unused)} not used\nmodel: {out}")


def _converted(source: Path, layout: str, metainfo: Path | None, dataset_index: int) -> Converted:
    """The model of a checkpoint or of a saved VitPose."""
    from posestill.models.convert import Converted, convert_checkpoint
    from posestill.models.hub import find_network
    from posestill.models.vitpose_format import MODEL_TYPE, read_vitpose

    keypoints = partial(_skeleton, metainfo=metainfo, source=source)
    if layout != MODEL_TYPE:
        return convert_checkpoint(source, layout, keypoints=keypoints, also=(MODEL_TYPE,))
    saved = find_network(str(source), where="convert")
    return Converted(read_vitpose(saved, keypoints=keypoints, dataset_index=dataset_index), unused=())


def _skeleton(count: int, *, metainfo: Path | None, source: Path) -> Skeleton:
    """The keypoints that a metainfo file names, or the known set of as many."""
    from posestill.keypoints.metainfo import read_metainfo
    from posestill.skeletons import from_category
    from posestill.teachers.keypoint_sets import KEYPOINT_SETS

    if metainfo is not None:
        found = from_category({"name": str(metainfo)}, read_metainfo(metainfo), where=str(metainfo))
        if len(found) != count:
            raise UserError(f"--metainfo {metainfo} names {len(found)} keypoints, and {source} has {count}")
        return found
    known = next((each for each in KEYPOINT_SETS.values() if len(each) == count), None)
    if known is None:
        there = ", ".join(f"{name} with {len(each)}" for name, each in KEYPOINT_SETS.items())
        raise UserError(
            f"{source} has {count} keypoints, and no known set has as many ({there}): name them by --metainfo FILE"
        )
    return known


def _write_for(target: str, source: Path, out: Path, outputs: Outputs) -> None:
    """A model folder as another library's."""
    from posestill.models.pose_model import PoseModel
    from posestill.models.vitpose_format import FILES, NETWORK, write_vitpose

    if target != TRANSFORMERS:
        raise UserError(f"--to {target}: no such library (known: {TRANSFORMERS})")
    files = [outputs.claim(out / name, "--out") for name in FILES]
    model = PoseModel.load(source)
    write_vitpose(model, out)
    for path in files:
        outputs.remember(path)
    typer.echo(f"{NETWORK}: {_parameters(model):,} parameters\nfor {target}: {out}")


def _parameters(model: PoseModel) -> int:
    return sum(each.numel() for each in model.parameters())
