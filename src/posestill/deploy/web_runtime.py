"""ONNX Runtime Web, which runs a network in a browser: the files that a page takes from its package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from posestill.documents.parse import read_json
from posestill.schema import UserError

TESTED = "1.30.0"
"""the version that pages are tested with"""
HOW_TO_GET = (
    f"npm pack onnxruntime-web@{TESTED} && tar xzf onnxruntime-web-{TESTED}.tgz"  # which makes the folder `package`
)
_WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_WEBGPU = tuple(
    ("ort.webgpu.min.mjs", f"ort-wasm-simd-threaded.{kind}.mjs", f"ort-wasm-simd-threaded.{kind}.wasm")
    for kind in ("asyncify", "jsep")  # the first of newer versions, the second of older ones
)


@dataclass(frozen=True)
class Backend:
    """The files of one way to calculate."""

    module: Path
    """what a page imports"""
    loader: Path
    """what the module imports"""
    wasm: Path

    def named(self) -> dict[str, Path]:
        """The files by what they are for."""
        return {"module": self.module, "loader": self.loader, "wasm": self.wasm}


@dataclass(frozen=True)
class WebRuntime:
    """The package in a folder."""

    version: str
    backends: dict[str, Backend]
    """`wasm`, and `webgpu` where the package has it"""


def find_runtime(folder: Path | None) -> WebRuntime:
    """The runtime in a folder that `npm pack onnxruntime-web` gave, unpacked; a `UserError` says how to get it."""
    if folder is None:
        raise UserError(
            f"page needs the files of ONNX Runtime Web, which are no part of posestill: run `{HOW_TO_GET}`, then give "
            "--runtime package, the folder that this makes"
        )
    roots = [folder, folder / "package"]
    root = next((each for each in roots if (each / "dist" / _WASM[0]).is_file()), None)
    if root is None:
        raise UserError(
            f"--runtime {folder} is no unpacked onnxruntime-web, as there is no dist/{_WASM[0]} in it: run "
            f"`{HOW_TO_GET}`, then give --runtime package"
        )
    wasm = _backend(root, _WASM)
    if wasm is None:
        raise UserError(f"--runtime {folder} is incomplete: unpack it again (`{HOW_TO_GET}`)")
    webgpu = next((found for names in _WEBGPU if (found := _backend(root, names)) is not None), None)
    described = read_json(root / "package.json", what="description of a package")
    version = str(described.get("version", "")) if isinstance(described, dict) else ""
    return WebRuntime(version, {"wasm": wasm, **({} if webgpu is None else {"webgpu": webgpu})})


def _backend(root: Path, names: tuple[str, str, str]) -> Backend | None:
    """The files of these names; None where one is missing."""
    found = Backend(*(root / "dist" / name for name in names))
    return found if all(path.is_file() for path in found.named().values()) else None
