"""`posestill compare`: many ways of training under one protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from posestill.cli.app import Interrupted, app
from posestill.cli.options import Gpus, On, Plugin, Share, cluster_of, load_plugins, share_of
from posestill.schema import UserError


@app.command()
def compare(
    plan: Annotated[Path, typer.Argument(help="A YAML of arms, regimes, seeds and learning rates.")],
    results: Annotated[Optional[Path], typer.Option(help="Rows of all runs, table, pictures; results/PLAN.")] = None,
    work: Annotated[Optional[Path], typer.Option(help="Run folders, prepared models, report; runs/PLAN.")] = None,
    stage: Annotated[Optional[list[str]], typer.Option(help="tune, screen, confirm, or none: the table only.")] = None,
    jobs: Annotated[Optional[int], typer.Option(min=1, help="Runs at a time; one a core, one on a GPU.")] = None,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep the run folders with their models.")] = False,
    shard: Share = None,
    wait: Annotated[bool, typer.Option("--wait", help="A shard waits for others where it needs their part.")] = False,
    on: On = None,
    gpus: Gpus = None,
    plugin: Plugin = None,
) -> None:
    """Compare ways of training under one protocol.

    Controls, seeds and intervals belong to it. Run it again to go on with what is not finished. Several machines share
    it by --shard, one command each, or by --on, one command for all; --results and --work lie on a disk that all see.
    """
    from posestill.study.pool import Workshop
    from posestill.study.run import STAGES, run_and_write

    share = share_of(shard, on)
    if wait and shard is None:
        raise UserError("--wait is for a shard, which may need what others have in hand: give --shard I/N, too")
    load_plugins(plugin)
    try:
        with cluster_of(on, gpus, plugin, most=jobs) as cluster:
            shop = Workshop(
                results=results or Path("results") / plan.stem,
                work=work or Path("runs") / plan.stem,
                processes=jobs,
                plugins=tuple(plugin or ()),
                keep_runs=keep_runs,
                shard=share,
                waits=wait,
                cluster=cluster,
            )
            report = run_and_write(plan, shop, stages=STAGES if stage is None else stage)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command goes on with what is not finished") from None
    if report is not None:
        typer.echo(f"table: {shop.results / 'table.md'}\nreport: {report}")
