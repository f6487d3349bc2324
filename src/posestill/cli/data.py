"""`posestill data`: datasets written for a machine that has none, checked, repaired and packed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import data
from posestill.cli.options import Changes, Overwrite, Plugin, Recipe, load_recipe
from posestill.schema import UserError, printable

if TYPE_CHECKING:
    from posestill.engine.config import RunConfig
    from posestill.files import Outputs


@data.command("sample")
def sample(
    out: Annotated[Path, typer.Argument(help="A new or empty folder; the recipe `sample` reads data/sample.")],
    yolo: Annotated[bool, typer.Option("--yolo", help="Write a YOLO-pose folder in the place of a COCO tree.")] = False,
    pictures: Annotated[int, typer.Option(help="How many pictures; three quarters of them are to train on.")] = 80,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other people.")] = 0,
) -> None:
    """Write a small dataset of synthetic people, to try things on."""
    from posestill.data.synthetic.sample import write_sample

    for split, count in write_sample(out, pictures=pictures, seed=seed, yolo=yolo).items():
        people = f"{count.people} people, {count.unlabelled} of them without keypoints"
        crowds = f"; crowds: {count.crowds}" if count.crowds else ""
        typer.echo(f"{split}: {count.pictures} pictures of {people}{crowds}")
    name = f"name: yolo, data: {out / 'data.yaml'}" if yolo else f"name: coco, root: {out}"
    for split in ("train", "val"):
        typer.echo(f"data.{split}: {{{name}, split: {split}}}")


@data.command("check")
def check(
    dataset: Annotated[Path, typer.Argument(help="COCO annotations, a folder of them, or a YOLO-pose data.yaml.")],
    images: Annotated[Optional[Path], typer.Option(help="The folder of images, where it is not beside.")] = None,
    metainfo: Annotated[Optional[Path], typer.Option(help="Sigmas and flip pairs of the skeleton.")] = None,
    fix: Annotated[Optional[Path], typer.Option(help="Write a repaired COCO copy to this new folder.")] = None,
    sheet: Annotated[Path, typer.Option(help="Where the contact sheet goes.")] = Path("data-check.png"),
    overwrite: Overwrite = False,
) -> None:
    """Say in plain words what is wrong with a dataset.

    The exit status is 1 when something is wrong.
    """
    from posestill.doctor.examine import check

    text, is_sound = check(dataset, images=images, metainfo=metainfo, fix=fix, sheet=sheet, overwrite=overwrite)
    typer.echo(printable(text, keep="\n"))
    if not is_sound:
        raise typer.Exit(1)


@data.command("pack")
def pack(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    part: Annotated[str, typer.Option(help="train or val: which of the recipe's sources.")] = "train",
    people: Annotated[Optional[int], typer.Option(min=1, help="Only the first so many labelled people.")] = None,
    long_side: Annotated[Optional[int], typer.Option(min=16, help="Shrink larger images to it, px.")] = None,
    crops: Annotated[bool, typer.Option("--crops", help="Write the crops that the recipe trains on.")] = False,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEGs.")] = 90,
    changes: Changes = None,
    plugin: Plugin = None,
    overwrite: Overwrite = False,
) -> None:
    """Write people and images of a recipe into one small file, or the crops that it trains on.

    It moves to another machine at once, and a recipe reads it there as {name: packed, file: ...}. Crops are read beside
    the recipe's own annotations, and several times as fast as pictures.
    """
    from posestill.data.packed import PackedSource, pack
    from posestill.files import Outputs

    if part not in ("train", "val"):
        raise UserError(f"--part {part}: train or val")
    config = load_recipe(recipe, changes, plugin)
    settings = getattr(config.data, part)
    outputs = Outputs("data pack", overwrite=overwrite, read=[each for _, each in settings if isinstance(each, Path)])
    outputs.claim(out, "--out")
    if crops:
        if part != "train" or people is not None or long_side is not None:
            raise UserError(
                "--crops: everybody whom the recipe trains on is packed; leave --part, --people, --long-side"
            )
        _pack_crops(config, out, quality=quality, outputs=outputs)
        return
    source = settings.build()
    count = pack(source, out, people=people, long_side=long_side, quality=quality, outputs=outputs)
    images, megabytes = len(PackedSource(out).image_ids), out.stat().st_size / 1e6
    typer.echo(f"{count} people, {images} images, {megabytes:.1f} MB\ndata.{part}: {{name: packed, file: {out}}}")


def _pack_crops(config: RunConfig, out: Path, *, quality: int, outputs: Outputs) -> None:
    from posestill.data.crop_pack import pack_crops
    from posestill.data.crops import CropsConfig
    from posestill.engine.log import RunLog
    from posestill.engine.setup import crops_to_pack

    dataset = crops_to_pack(config)
    density = (config.data.crops or CropsConfig()).density
    with RunLog(None).bar("packing crops", len(dataset)) as bar:
        pack_crops(dataset, out, density=density, quality=quality, outputs=outputs, progress=bar.advance)
    for why in list(dataset.unreadable.values())[:5]:
        typer.echo(f"passed over: {printable(why)}")
    left_out = f", {len(dataset.unreadable)} of them without a picture" if dataset.unreadable else ""
    typer.echo(f"{len(dataset)} people{left_out}, {out.stat().st_size / 1e6:.1f} MB\ndata.crops: {{file: {out}}}")
