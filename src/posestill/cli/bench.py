"""`posestill bench`: what models and files cost."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import Changes, Overwrite, Plugin, load_plugins, load_recipe, refuse_given
from posestill.schema import UserError

if TYPE_CHECKING:
    from posestill.deploy.bench import Candidate, Measured


@app.command()
def bench(
    models: Annotated[
        Optional[list[Path]], typer.Argument(help="Model folders, exported folders, or files of runtimes.")
    ] = None,
    loader: Annotated[
        Optional[str], typer.Option(help="Not models, but a recipe's crops: where their time goes, and what to change.")
    ] = None,
    to: Annotated[
        Optional[str], typer.Option(help="Runtimes of a model folder, by commas, or none; else onnx and openvino.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Crops at once, by commas.")] = "1",
    threads: Annotated[Optional[str], typer.Option(help="Threads, by commas; else as many as torch takes.")] = None,
    layout: Annotated[
        Optional[list[str]], typer.Option(help="A file's layout: NAME, or FILE=NAME for one of several. Repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each one has; of a loader: batches.")] = 12,
    changes: Changes = None,
    json_out: Annotated[Optional[Path], typer.Option("--json", help="Write the figures to this file.")] = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Measure what models, exported files or a run's crops cost."""
    if (loader is None) == (not models):
        raise UserError("bench: give models to measure, or --loader RECIPE")
    if loader is None and changes:
        raise UserError("--set changes the recipe of --loader, and models have none: leave it out")
    if loader is not None:
        of_models = {"--to": to, "--batch": batch if batch != "1" else None, "--threads": threads, "--layout": layout}
        refuse_given(of_models, "bench --loader measures a recipe's crops, and no model")
        _bench_loader(loader, changes, plugin, rounds=rounds, json_out=json_out, overwrite=overwrite)
        return
    assert models is not None
    import torch

    from posestill.deploy.bench import bench as measure
    from posestill.engine.log import RunLog
    from posestill.engine.surroundings import surroundings
    from posestill.files import Outputs

    load_plugins(plugin)
    outputs = Outputs("bench", overwrite=overwrite, read=models)
    if json_out is not None:
        outputs.claim(json_out, "--json")
    batches = _numbers(batch, "--batch")
    counts = [torch.get_num_threads()] if threads is None else _numbers(threads, "--threads")
    log = RunLog(None)
    with (
        _candidates(models, to, layout or ()) as candidates,
        log.bar("measuring", rounds * len(batches) * len(counts)) as bar,
    ):
        found = measure(candidates, batches=batches, threads=counts, rounds=rounds, progress=bar.advance)
    for line in _table(found):
        typer.echo(line)
    if json_out is not None:
        rows = [{**vars(each), "throughput": each.throughput} for each in found]
        outputs.write_json(json_out, {"rounds": rounds, "rows": rows, "surroundings": surroundings()})


def _bench_loader(
    recipe: str, changes: list[str] | None, plugin: list[Path] | None, *,
    rounds: int, json_out: Path | None, overwrite: bool,
) -> None:  # fmt: skip
    from posestill.engine.loader_cost import advice, measure_loader
    from posestill.engine.log import RunLog
    from posestill.engine.surroundings import surroundings
    from posestill.files import Outputs

    outputs = Outputs("bench", overwrite=overwrite, read=[Path(recipe)])
    if json_out is not None:
        outputs.claim(json_out, "--json")
    config = load_recipe(recipe, changes, plugin)
    cost = measure_loader(config, batches=rounds, log=RunLog(None))
    workers, told = config.train.workers, advice(cost, config)
    lines = [
        "microseconds a person: " + ", ".join(f"{name} {each:.0f}" for name, each in cost.stages.items()),
        f"in the training step: {cost.step:.0f}, of which {cost.encode:.0f} encode the keypoints as targets",
        f"persons/s: {cost.loads(workers):.0f} are cut with train.workers={workers}, {1e6 / cost.step:.0f} would be "
        f"taken by the step, {cost.trains(workers):.0f} pass through a run",
        *told,
    ]
    for line in lines:
        typer.echo(line)
    if json_out is not None:
        outputs.write_json(json_out, {**vars(cost), "workers": workers, "advice": told, "surroundings": surroundings()})


@contextlib.contextmanager
def _candidates(models: Sequence[Path], to: str | None, layouts: Sequence[str]) -> Iterator[list[Candidate]]:
    """Everything that is timed; a model folder's files lie in a folder that is gone afterwards."""
    from posestill.deploy.bench import Candidate
    from posestill.deploy.export import exported_files
    from posestill.deploy.runtimes import TARGETS, choose_targets, installed
    from posestill.deploy.write import Writer
    from posestill.models.pose_model import SETTINGS, PoseModel

    usual = [name for name in ("onnx", "openvino") if installed(TARGETS[name])]
    names = usual if to is None else [name.strip() for name in to.split(",") if name.strip() not in ("", "none")]
    targets = choose_targets(names) if names else []
    found: list[Candidate] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(models):
            title = str(path)
            if path.is_dir() and not (path / SETTINGS).is_file() and (files := exported_files(path)):
                found += [Candidate(file, name=f"{title}/{file.name}") for file in files]
            elif path.is_dir():
                found.append(Candidate(path, name=title))
                model = PoseModel.load(path)
                own = Path(folder) / str(number)
                own.mkdir()
                found += [Candidate(Writer(model, own).write(target, "fp32"), name=title) for target in targets]
            elif not path.is_file():
                raise UserError(f"no model folder and no file {path}")
            else:
                found.append(Candidate(path, layout=_layout_of(path, layouts), name=path.name))
        yield found


def _layout_of(path: Path, layouts: Sequence[str]) -> str | None:
    """The layout that was said for a file, or for all files."""
    pairs = [each.rpartition("=") for each in layouts]
    own = [name for file, _, name in pairs if file and Path(file).name == path.name]
    every = [name for file, _, name in pairs if not file]
    return next(iter([*own, *every]), None)


def _numbers(text: str, option: str) -> list[int]:
    try:
        found = [int(each) for each in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise UserError(f"{option} {text}: whole numbers from 1 on, by commas")
    return found


def _table(found: Sequence[Measured]) -> list[str]:
    width = max(len(each.name) for each in found) + 2
    lines = [
        "ms of a call of the network alone (the turns' medians in brackets), then from crops to keypoints; memory "
        "beyond the runtime's own",
        f"{'':<{width}}{'runtime':<27}{'batch':>6}{'threads':>8}{'median':>9}{'95 %':>9}  {'spread':<19}{'whole':>8}"
        f"{'crops/s':>9}{'MB RAM':>8}{'M par.':>8}{'G MACs':>8}{'MB':>7}",
    ]
    for each in found:
        spread = f"[{each.spread[0]:.2f}, {each.spread[1]:.2f}]"
        lines.append(
            f"{each.name:<{width}}{each.runtime:<27}{each.batch:>6}{each.threads:>8}{each.median:>9.2f}{each.p95:>9.2f}"
            f"  {spread:<19}{each.with_decoding:>8.2f}{each.throughput:>9.1f}{_millions(each.memory):>8}"
            f"{_millions(each.parameters, 2):>8}{_millions(each.macs, 3, 1e9):>8}{each.size / 1e6:>7.2f}"
        )
    return lines


def _millions(value: int | None, digits: int = 0, unit: float = 1e6) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"
