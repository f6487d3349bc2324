"""`posestill page`: a folder of static files that runs models in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from posestill.cli.app import app
from posestill.cli.options import Overwrite, Plugin, load_plugins


@app.command()
def page(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL [MODEL]", help="One or two: model folders, exported folders or .onnx files."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write, for any static file server.")],
    runtime: Annotated[
        Optional[Path], typer.Option(help="The unpacked onnxruntime-web; without it you are told how to get it.")
    ] = None,
    plugin: Plugin = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a web page that runs one or two models in the browser."""
    from posestill.deploy.page import build_page
    from posestill.deploy.web_runtime import find_runtime
    from posestill.files import Outputs

    load_plugins(plugin)
    found = find_runtime(runtime)
    files = build_page(models, found, out, Outputs("page", overwrite=overwrite, read=_read(models)))
    size = sum(path.stat().st_size for path in files) / 1e6
    typer.echo(f"page: {out} ({len(files)} files, {size:.0f} MB)")
    typer.echo(f"to see it: python -m http.server --directory {out}, then open http://localhost:8000")


def _read(models: list[Path]) -> list[Path]:
    """The files of the models, none of which is written over."""
    return [file for path in models for file in ([path] if path.is_file() else sorted(path.glob("*")))]
