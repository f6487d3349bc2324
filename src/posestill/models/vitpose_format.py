"""VitPose as transformers saves it, read into a pose model and written from one: the same weights under their names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import Tensor

from posestill.codecs.base import MapForm
from posestill.codecs.heatmap import HeatmapConfig
from posestill.files import write_whole
from posestill.models.backbone import IMAGENET_MEAN, IMAGENET_STD
from posestill.models.heads import DeconvConfig
from posestill.models.hub import PROCESSOR, SETTINGS, SavedNetwork
from posestill.models.pose_model import WEIGHTS, ModelConfig, PoseModel
from posestill.models.saved_keypoints import saved_skeleton, spelled_out
from posestill.models.vitpose import PATCH, VitPoseConfig, VitPoseHeadConfig
from posestill.schema import UserError, reading, validate
from posestill.skeletons import Skeleton

MODEL_TYPE = "vitpose"
NETWORK = "VitPoseForPoseEstimation"
FILES = (SETTINGS, PROCESSOR, WEIGHTS)
_CLASSIC = (256, 256)
"""channels of the deconvolutions of the classic head, which transformers does not let one choose"""
_LAYER = r"backbone\.layers\.(\d+)\."
_NAMES = (
    (r"backbone\.patches", r"backbone.embeddings.patch_embeddings.projection"),
    (r"backbone\.position", r"backbone.embeddings.position_embeddings"),
    (rf"{_LAYER}attention_norm", r"backbone.encoder.layer.\1.layernorm_before"),
    (rf"{_LAYER}(query|key|value)", r"backbone.encoder.layer.\1.attention.attention.\2"),
    (rf"{_LAYER}merge", r"backbone.encoder.layer.\1.attention.output.dense"),
    (rf"{_LAYER}mlp_norm", r"backbone.encoder.layer.\1.layernorm_after"),
    (rf"{_LAYER}expand", r"backbone.encoder.layer.\1.mlp.fc1"),
    (rf"{_LAYER}shrink", r"backbone.encoder.layer.\1.mlp.fc2"),
    (rf"{_LAYER}experts", r"backbone.encoder.layer.\1.mlp.experts"),
    (r"backbone\.norm", r"backbone.layernorm"),
    (r"head\.layers\.0", r"head.deconv1"),
    (r"head\.layers\.1", r"head.batchnorm1"),
    (r"head\.layers\.3", r"head.deconv2"),
    (r"head\.layers\.4", r"head.batchnorm2"),
    (r"head\.maps", r"head.conv"),
)
"""the beginning of a name here, and what it is there"""


def read_vitpose(saved: SavedNetwork, *, keypoints: Callable[[int], Skeleton], dataset_index: int = 0) -> PoseModel:
    """A VitPose that transformers saved as a pose model, in eval mode.

    `keypoints` says which skeleton has so many keypoints, where the settings do not name them. A `UserError` says what
    of the network this one does not have, or which tensors are missing.
    """
    settings = saved.settings()
    if settings["model_type"] != MODEL_TYPE:
        raise UserError(f"{saved.name} is a {settings['model_type']}, and a {MODEL_TYPE} is wanted")
    with reading(f"{saved.name}: {SETTINGS}"):
        config = validate(ModelConfig, _our_settings(settings, dataset_index), where=saved.name)
    _check_processor(saved)
    weights = _weights_of(saved)
    model = PoseModel(config, saved_skeleton(settings, _count(weights, saved), keypoints))
    named = {their_name(key): key for key in model.state_dict()}
    ours = {named.get(key, key): value for key, value in weights.items()}
    model.load_weights(ours, where=saved.name)
    model.lineage = {"converted_from": saved.name, "sha256": saved.digest(), "licence": saved.licence()}
    return model.eval()


def write_vitpose(model: PoseModel, folder: Path) -> None:
    """Write the folder that transformers reads as a `VitPoseForPoseEstimation`.

    A `UserError` says why a model is none.
    """
    settings = json.dumps(_their_settings(model), indent=2)
    processor = json.dumps(_their_processor(model), indent=2)
    weights = {their_name(key): value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    content = as_bytes(weights, metadata={"format": "pt"})
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SETTINGS, lambda path: path.write_text(settings))
    write_whole(folder / PROCESSOR, lambda path: path.write_text(processor))
    write_whole(folder / WEIGHTS, lambda path: path.write_bytes(content))


def their_name(key: str) -> str:
    """What transformers calls one of our tensors."""
    for ours, theirs in _NAMES:
        if match := re.match(rf"{ours}(?=\.|$)", key):
            return match.expand(theirs) + key[match.end() :]
    raise UserError(f"transformers' VitPose has nothing like {key}")


def _our_settings(settings: Mapping[str, Any], dataset_index: int) -> dict[str, Any]:
    """Their settings as those of a pose model."""
    inner = settings.get("backbone_config") or {}
    size, patch = (
        _pair(inner.get(key, otherwise)) for key, otherwise in (("image_size", (256, 192)), ("patch_size", 16))
    )
    if patch != (PATCH, PATCH) or inner.get("hidden_act", "gelu") != "gelu" or not inner.get("qkv_bias", True):
        raise UserError(f"its patches, activation or biases are not ViTPose's: {dict(inner)}")
    width = inner.get("hidden_size", 768)
    simple, scale = settings.get("use_simple_decoder", True), settings.get("scale_factor", 4)
    return {
        "size": size,
        "backbone": {
            "name": "vitpose",
            "width": width,
            "depth": inner.get("num_hidden_layers", 12),
            "attention_heads": inner.get("num_attention_heads", 12),
            "mlp_ratio": inner.get("mlp_ratio", 4),
            "experts": inner.get("num_experts", 1),
            "expert_width": inner.get("part_features", 256),
            "dataset_index": dataset_index,
            "norm_eps": inner.get("layer_norm_eps", 1e-12),
        },
        "head": {"name": "vitpose", "scale": scale} if simple else {"name": "deconv", "channels": _CLASSIC},
        "codec": {"name": "heatmap", "stride": PATCH // (scale if simple else 4), "grid": "udp"},
    }


def _their_settings(model: PoseModel) -> dict[str, Any]:
    """A pose model's settings as theirs; a `UserError` where it is no VitPose of theirs."""
    backbone, head = model.config.backbone, model.config.head
    simple = isinstance(head, VitPoseHeadConfig)
    classic = isinstance(head, DeconvConfig) and head.channels in (_CLASSIC, _CLASSIC[0])
    if not isinstance(backbone, VitPoseConfig) or model.config.neck is not None or not (simple or classic):
        raise UserError(
            "transformers reads a VitPose, which is the backbone vitpose without a neck under the head vitpose "
            "or {name: deconv, channels: [256, 256]}: this model is another"
        )
    form = model.codec.form
    if not isinstance(form, MapForm) or not form.has_the_cells_of(_udp(model, form)):
        raise UserError(
            "transformers reads VitPose's heatmaps on the UDP grid, and this model was trained on another: train it "
            "with model.codec={name: heatmap, grid: udp}"
        )
    return {
        "architectures": [NETWORK],
        "model_type": MODEL_TYPE,
        "dtype": "float32",
        "backbone_config": {
            "model_type": "vitpose_backbone",
            "image_size": list(model.config.size),
            "patch_size": [PATCH, PATCH],
            "num_channels": 3,
            "hidden_size": backbone.width,
            "num_hidden_layers": backbone.depth,
            "num_attention_heads": backbone.attention_heads,
            "mlp_ratio": backbone.mlp_ratio,
            "num_experts": backbone.experts,
            "part_features": backbone.expert_width,
            "layer_norm_eps": backbone.norm_eps,
            "out_indices": [backbone.depth],
        },
        "scale_factor": head.scale if isinstance(head, VitPoseHeadConfig) else 4,
        "use_simple_decoder": simple,
        **spelled_out(model.skeleton),
    }


def _their_processor(model: PoseModel) -> dict[str, Any]:
    height, width = model.config.size
    return {
        "image_processor_type": "VitPoseImageProcessor",
        "do_affine_transform": True,
        "size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model.backbone.mean),
        "image_std": list(model.backbone.std),
    }


def _check_processor(saved: SavedNetwork) -> None:
    """A `UserError` where its colours are not normalised as VitPose's are here."""
    told = saved.processor()
    for key, known in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)):
        if list(told.get(key, known)) != list(known):
            raise UserError(
                f"{saved.name}: {PROCESSOR} has an {key} of {told[key]}, and only {list(known)} can be read"
            )


def _udp(model: PoseModel, form: MapForm) -> MapForm:
    found = HeatmapConfig(stride=model.config.size[0] // form.size[0], grid="udp").build(model.config.size).form
    return found


def _pair(value: Any) -> tuple[int, int]:
    one, other = (value, value) if isinstance(value, int) else value
    return int(one), int(other)


def _weights_of(saved: SavedNetwork) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for path in saved.weights():
        try:
            weights |= load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is broken ({error}): fetch it again") from None
    return weights


def _count(weights: Mapping[str, Tensor], saved: SavedNetwork) -> int:
    if "head.conv.weight" not in weights:
        raise UserError(f"{saved.name} has no head.conv.weight: it is no pose estimator, but a backbone alone")
    return weights["head.conv.weight"].shape[0]
