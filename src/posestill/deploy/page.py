"""A folder of static files that runs one or two models in a browser, on a picture, a video or a camera."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import posestill
from posestill.data.synthetic.people import SyntheticConfig
from posestill.deploy import decoder
from posestill.deploy.export import People, Wanted, export_model, exported_files
from posestill.deploy.gate import failure
from posestill.deploy.places import without_places
from posestill.deploy.runtimes import TARGETS, ExportedNetwork, check_installed
from posestill.deploy.sidecar import read_sidecar, sidecar_path
from posestill.deploy.web_runtime import Backend, WebRuntime
from posestill.draw import image_writer, keypoint_colours
from posestill.files import Outputs, distinct
from posestill.models.pose_model import SETTINGS, PoseModel
from posestill.schema import UserError, validate
from posestill.skeletons import Skeleton

Writers = dict[str, Callable[[Path], Any]]
"""what writes each file of a page to a place, by the file's name in the page"""
MOST = 2
"""models that a page compares"""
PERSONS = 20
"""synthetic persons that judge the file of a model folder"""
ABOUT, SAMPLE = "page.json", "sample.png"
_SAMPLE_PICTURE = SyntheticConfig(people=1, profile="easy", size=(480, 360), seed=102)
_WITHIN_RUNS = ("best", "last")
"""names of model folders that say nothing: their run's name does"""


@dataclass(frozen=True)
class Shown:
    """A network that a page shows."""

    title: str
    path: Path
    """an ONNX file with its sidecar"""


def build_page(models: Sequence[Path], runtime: WebRuntime, out: Path, outputs: Outputs) -> list[Path]:
    """Write a page of one or two models into a folder, and say which files it has.

    A model is a model folder, a folder that `posestill export` wrote, or an ONNX file in such a folder. A `UserError`
    names one that is none of these, and what in `out` is not posestill's; then nothing is written.
    """
    if len(models) > MOST:
        raise UserError(f"a page compares two models at most, and {len(models)} are given: leave some out")
    files = _fixed_files(runtime)
    networks = [f"models/model-{number}.onnx" for number in range(1, len(models) + 1)]
    for name in (*files, *networks, *map(_beside, networks), ABOUT):
        outputs.claim(out / name, "--out")  # before the work begins
    with _exported(models) as shown:
        for each, name in zip(shown, networks, strict=True):
            files |= _network_files(each, name)
        files[ABOUT] = _text(_about(shown, networks, runtime))
        for name, write in files.items():
            outputs.write(out / name, write)
    return [out / name for name in files]


@contextmanager
def _exported(models: Sequence[Path]) -> Iterator[list[Shown]]:
    """The network of each model; what had to be exported first is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="posestill-page-") as draft:
        titles = distinct([_title(path) for path in models])
        yield [
            Shown(title, _network(path, Path(draft) / str(at)))
            for at, (title, path) in enumerate(zip(titles, models, strict=True))
        ]


def _network(path: Path, draft: Path) -> Path:
    """The ONNX file of a model: the one that was exported, or one that is exported into `draft` now."""
    if path.suffix == ".onnx":
        if read_sidecar(path) is None:
            raise UserError(f"{path} has no {path.name}.json beside it: name a file that `posestill export` wrote")
        return path
    if path.is_dir() and not (path / SETTINGS).is_file():
        exported = [each for each in exported_files(path) if each.suffix == ".onnx"]
        if exported:
            return next((each for each in exported if "fp32" in each.name), exported[0])
        if any(exported_files(path)):
            raise UserError(f"{path} has no ONNX file, which is what a browser runs: export the model with --to onnx")
    return _export(PoseModel.load(path), path, draft)


def _export(model: PoseModel, path: Path, draft: Path) -> Path:
    """A model as an ONNX file, judged beside PyTorch as every export is."""
    try:
        check_installed(TARGETS["onnx"])
    except UserError as error:
        raise UserError(str(error).replace("--to onnx", f"{path} is exported for the page, which")) from None
    gate = export_model(model, Wanted([TARGETS["onnx"]], ["fp32"]), draft, People(count=PERSONS))
    if gate.failed:
        raise UserError(f"{path}: {failure(gate.failed[0], labels=gate.labels)}")
    return exported_files(draft)[0]


def _title(path: Path) -> str:
    """What a model is called: its folder's name or, where that says nothing, its run's."""
    named = path.resolve()
    if path.suffix == ".onnx":
        return f"{named.parent.name} {named.stem}"
    return named.parent.name if named.name in _WITHIN_RUNS else named.name


def _fixed_files(runtime: WebRuntime) -> Writers:
    """What is the same for every model: the page itself, its sample picture and the runtime."""
    files: Writers = {name: _text(content) for name, content in _assets().items()}
    files[SAMPLE] = image_writer(Path(SAMPLE), _sample())
    for backend in runtime.backends.values():
        named = _named(backend)
        files |= {named[part]: partial(shutil.copyfile, path) for part, path in backend.named().items()}
    return files


def _network_files(shown: Shown, name: str) -> Writers:
    """A network under its name in the page, and its sidecar."""
    sidecar = without_places(read_sidecar(shown.path))
    return {name: partial(shutil.copyfile, shown.path), _beside(name): _text(sidecar)}


def _about(shown: Sequence[Shown], names: Sequence[str], runtime: WebRuntime) -> dict[str, Any]:
    """What the page is told of its parts."""
    backends = {name: _named(backend) for name, backend in runtime.backends.items()}
    return {
        "made_by": f"posestill {posestill.__version__}",
        "runtime": {"version": runtime.version, "backends": {"webgpu": None, **backends}},
        "sample": SAMPLE,
        "models": [_entry(each, name) for each, name in zip(shown, names, strict=True)],
    }


def _named(backend: Backend) -> dict[str, str]:
    """What the files of a backend are called in the page.

    Not every server knows what .mjs is, and browsers run no script that is served as something else.
    """
    return {part: f"runtime/{re.sub('[.]mjs$', '.js', path.name)}" for part, path in backend.named().items()}


def _beside(name: str) -> str:
    """What the sidecar of a network is called."""
    return f"{name}.json"


def _entry(shown: Shown, name: str) -> dict[str, Any]:
    """What the page is told of a network beside its sidecar, the keypoints of the sample picture among it."""
    picture = _sample()
    network = ExportedNetwork(shown.path)
    told = network.told
    height, width = picture.shape[:2]
    crop, to_picture = decoder.cut(picture, [0, 0, width, height], told)
    found = decoder.decode(network(decoder.tensor(crop[None], told)), told)
    skeleton = validate(Skeleton, told["skeleton"], where=f"{sidecar_path(shown.path)}: skeleton")
    return {
        "title": shown.title,
        "file": name,
        "bytes": shown.path.stat().st_size,
        "colours": keypoint_colours(skeleton),
        "sample": decoder.place(found, to_picture[None])[0].round(4).tolist(),
    }


def _assets() -> dict[str, str]:
    """The page's own files, which are the same for every model, and the decoder."""
    folder = resources.files("posestill") / "assets"
    own = {each.name: each.read_text(encoding="utf-8") for each in (folder / "web").iterdir() if each.is_file()}
    return {**dict(sorted(own.items())), "decode.js": (folder / "decode.mjs").read_text(encoding="utf-8")}


@cache
def _sample() -> np.ndarray:
    """(H, W, 3) uint8 RGB: the picture of a synthetic person."""
    return _SAMPLE_PICTURE.build().image(0)


def _text(content: str | dict[str, Any]) -> Callable[[Path], Any]:
    """What writes a text, or values as JSON."""
    text = content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"
    return lambda draft: draft.write_text(text, encoding="utf-8")
