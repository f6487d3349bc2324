"""`posestill teacher`: look at a teacher before it teaches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import (
    Changes,
    Gpus,
    On,
    Plugin,
    Recipe,
    Share,
    cluster_of,
    load_recipe,
    share_of,
    teacher_changes,
)
from posestill.schema import UserError

if TYPE_CHECKING:
    from posestill.data.source import PoseSource
    from posestill.engine.log import RunLog
    from posestill.skeletons import Skeleton
    from posestill.teachers.plain import Layout
    from posestill.teachers.runtime import RuntimeNetwork

teacher = typer.Typer(help="Look at a teacher before it teaches.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(teacher, name="teacher")


@teacher.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="A file (.onnx, .tflite, .xml), a model folder, or hf:OWNER/NAME.")],
    layout: Annotated[Optional[str], typer.Option(help="Its layout, a name or a YAML file.")] = None,
    annotations: Annotated[
        Optional[Path], typer.Option(help="COCO labels, or a file of boxes as for label; else a frame is one person.")
    ] = None,
    images: Annotated[Optional[Path], typer.Option(help="The folder of images.")] = None,
    metainfo: Annotated[Optional[Path], typer.Option(help="Sigmas and flip pairs of the skeleton.")] = None,
    people: Annotated[int, typer.Option(min=5, help="How many persons are asked about.")] = 100,
) -> None:
    """Say whether a file is read as it wants to be; exit status 1 where another way is better or none is any good."""
    from posestill.engine.log import RunLog
    from posestill.study.teacher_check import check_teacher

    if images is None:
        raise UserError("teacher check needs pictures: --images FOLDER, and --annotations GT.json with labels or boxes")
    network, layouts = _opened(file, layout)
    log = RunLog(None)
    source = _people(annotations, images, metainfo, layouts[0].skeleton, log)
    found = check_teacher(network, layouts, source, people=people, bar=log.bar, say=log.say)
    declared = next(each for each in layouts if each.name == found.layout)
    typer.echo(f"{file.name}: {network.describe()}")
    if len(found.candidates) > 1:
        typer.echo(f"the file does not tell its layout; on these persons the order is {', '.join(found.candidates)}")
    typer.echo(f"layout {declared.name}: crops of {declared.size[0]}x{declared.size[1]} px, "
               f"{declared.padding:g} times the box")  # fmt: skip
    what = "mean OKS" if found.has_labels else "agreement with itself, by confidence,"
    typer.echo(f"{what} x 100 on {len(found.declared.value)} persons, with the difference and its 95 % interval:")
    typer.echo(f"  {100 * found.declared.mean:5.1f}  {found.declared.name}")
    for each in found.others:
        assert each.over_declared is not None
        mean, low, high = (100 * value for value in (each.over_declared.mean, each.over_declared.low,
                                                     each.over_declared.high))  # fmt: skip
        typer.echo(f"  {100 * each.mean:5.1f}  {each.name}: {mean:+.1f} [{low:+.1f}, {high:+.1f}]")
    for line in found.refused:
        typer.echo(f"      -  {line}")
    if found.without:
        typer.echo(f"not among the network's keypoints by name: {', '.join(found.without)}")
    if not found.has_labels:
        typer.echo("nobody has labels: keypoints whose left and right are exchanged cannot be seen in this way")
    if found.remedy is not None:
        typer.echo(f"wrong: '{found.remedy.name}' is better than the declared layout beyond chance")
        raise typer.Exit(1)
    if not found.sees:
        typer.echo(
            "doubtful: its answers fit another person as well as the one it was asked about, so it has not learnt "
            "these keypoints, or it is to be read in a way that was not tried"
        )
        raise typer.Exit(1)
    named = "" if len(found.candidates) == 1 else f"; say layout: {found.layout}"
    typer.echo(f"the layout {found.layout} holds: nothing plausible is better beyond chance{named}")


@teacher.command("cache")
def cache(
    recipe: Recipe,
    changes: Changes = None,
    model: Annotated[
        Optional[str], typer.Option("--teacher", help="As for distil: a file, a model folder, or `bundled`.")
    ] = None,
    shard: Share = None,
    on: On = None,
    gpus: Gpus = None,
    plugin: Plugin = None,
) -> None:
    """Ask a recipe's teacher ahead of the training, and keep what it says.

    Several machines share the persons by --shard, one command each, or by --on, one command for all; data and
    teacher.cache.folder lie on a disk that all see. The training, with the same settings, then asks nobody.
    """
    from posestill.engine.ask import fill_cache, fill_cache_on, folder_of_answers
    from posestill.engine.log import RunLog

    share = share_of(shard, on)
    config, log = load_recipe(recipe, [*(changes or ()), *teacher_changes(model)], plugin), RunLog(None)
    with cluster_of(on, gpus, plugin) as cluster:
        if cluster is None:
            missing = fill_cache(config, shard=share, log=log)
        else:
            missing = fill_cache_on(cluster, config, log=log)
    if missing:
        log.say(f"shard {share} has done its share; still to come: {share.named(missing)}")
    else:
        typer.echo(f"answers: {folder_of_answers(config)}")


def _opened(file: Path, layout: str | None) -> tuple[RuntimeNetwork, list[Layout]]:
    """A network, and the layouts that it may have: more than one where it does not tell and none was named."""
    from posestill.engine.choose import open_teacher
    from posestill.models.hub import is_reference
    from posestill.study.own_network import own_network
    from posestill.teachers.file import open_layout
    from posestill.teachers.layouts import layout_beside
    from posestill.teachers.recognise import candidates
    from posestill.teachers.runtime import open_network

    if file.is_dir() or is_reference(str(file)):
        if layout is not None:
            raise UserError(f"--layout {layout} says how a file is read, and {file} tells that itself: leave it out")
        own = own_network(open_teacher(str(file)), file)
        return own.network, [own.layout]
    network = open_network(file)
    possible = candidates(network) if layout is None and layout_beside(file) is None else ()
    return network, [open_layout(network, name) for name in (possible if len(possible) > 1 else (layout,))]


def _people(
    annotations: Path | None, images: Path, metainfo: Path | None, skeleton: Skeleton, log: RunLog
) -> PoseSource:
    """The labelled people of a COCO file or, without keypoints, the people of a file of boxes, else whole frames."""
    from posestill.data.boxes import has_keypoints
    from posestill.data.coco import CocoSource, read_json
    from posestill.data.images import ImagesConfig
    from posestill.engine.pictures import find_people

    if annotations is not None and has_keypoints(read_json(annotations, what="annotation file")):
        return CocoSource(annotations, images=images, metainfo=metainfo)
    if metainfo is not None:
        raise UserError(f"--metainfo describes keypoints, and {annotations or 'a whole frame'} has none: leave it out")
    return find_people(ImagesConfig(folder=(images,), boxes=annotations), skeleton, log=log)
