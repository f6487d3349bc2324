"""What stands beside an exported network, in `NETWORK.json`: all that whoever runs it must know."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import posestill
from posestill.codecs.base import NumberForm
from posestill.deploy.graph import Decode, Order, Precision
from posestill.files import write_json
from posestill.geometry import PADDING
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.teachers.layouts import EXPORTED

VERSION = 1
"""of this format; another one is refused"""
HALF = "bf16"
"""what OpenVINO calculates in by files of half precision: float16 is no faster than float32 on most processors"""


@dataclass(frozen=True)
class FileFacts:
    """What a file has that its model does not tell."""

    runtime: str
    """which executes it: onnx, openvino, pt2 or litert"""
    precision: Precision
    decode: Decode
    order: Order
    input_name: str
    batch: int | None
    """crops that one call takes; None: any number"""
    outputs: dict[str, list[int]]
    """the shape of each output for one crop, by the name that the decoder knows it by, in the file's order"""


def describe(model: PoseModel, facts: FileFacts, *, parameters: int, macs: int) -> dict[str, Any]:
    """The sidecar of a file, as plain values."""
    settings = model.config.model_dump(mode="json")
    return {
        "format": EXPORTED,
        "version": VERSION,
        "made_by": f"posestill {posestill.__version__}",
        "runtime": facts.runtime,
        "precision": facts.precision,
        **({"calculates": HALF if facts.precision == "fp16" else "f32"} if facts.runtime == "openvino" else {}),
        "size": list(model.config.size),
        "padding": PADDING,
        "input": {
            "name": facts.input_name,
            "order": facts.order,
            "dtype": "float32",
            "batch": facts.batch,
            "colours": "rgb",
            "range": [0, 255],
        },
        "normalisation": {
            "where": "inside the file: (px / 255 - mean) / std",
            "mean": model.mean.flatten().tolist(),
            "std": model.std.flatten().tolist(),
        },
        "decode": facts.decode,
        "outputs": facts.outputs,
        "codec": settings["codec"],
        "keypoint_score": "trained" if model.codec.has_score else "none: every score is 1",
        "person_score": model.codec.rescoring,
        "skeleton": model.skeleton.model_dump(mode="json"),
        "licence": licences(model.lineage),
        "lineage": model.lineage,
        "parameters": parameters,
        "macs": macs,
        "layout": layout_of(model, facts),
    }


def licences(lineage: Any) -> list[str]:
    """Every licence that a lineage names, the teacher's included; each once."""
    found: list[str] = []
    entries = lineage.items() if isinstance(lineage, dict) else enumerate(lineage) if isinstance(lineage, list) else ()
    for key, value in entries:
        if isinstance(value, str) and value and str(key).endswith("licence"):
            found.append(value)
        elif isinstance(value, dict | list):
            found += licences(value)
    return list(dict.fromkeys(found))


def sidecar_path(file: Path) -> Path:
    """Where what is to be known of a file stands."""
    return file.with_name(f"{file.name}.json")


def write_sidecar(file: Path, content: dict[str, Any]) -> None:
    """Put it beside the file."""
    write_json(sidecar_path(file), content)


def read_sidecar(file: Path) -> dict[str, Any] | None:
    """What stands beside a file that posestill exported; None where it is somebody else's.

    A `UserError` says that it is broken or of another version.
    """
    path = sidecar_path(file)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): export the model again") from None
    if not isinstance(content, dict) or content.get("format") != EXPORTED:
        return None
    if content.get("version") != VERSION:
        raise UserError(
            f"{path} is of version {content.get('version')}, and this posestill reads {VERSION}: export the model again"
        )
    return content


def layout_of(model: PoseModel, facts: FileFacts) -> dict[str, Any]:
    """How `posestill teacher check`, `distil` and `label` read the file."""
    codec: Any = model.config.model_dump(mode="json")["codec"]
    name = next(iter(facts.outputs))
    output: dict[str, Any]
    if facts.decode == "inside":
        codec, output = "coords", {"kind": "numbers", "tensor": name, "score": 2, "unit": "px"}
    elif isinstance(model.codec.form, NumberForm):
        score = 2 if model.codec.has_score and codec["name"] == "coords" else None
        codec, output = "coords", {"kind": "numbers", "tensor": name, "score": score, "unit": "centres"}
    elif name == "maps":
        output = {"kind": "maps", "tensor": name}
    else:
        output = {"kind": "bins"}
    return {
        "size": list(model.config.size),
        "padding": PADDING,
        "order": facts.order,
        "keypoints": list(model.skeleton.names),
        **model.skeleton.as_metainfo(),
        "output": output,
        "codec": codec,
    }
