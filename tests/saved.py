"""Small networks of transformers with random weights, saved as that library saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

SIZE = (64, 48)
TINY_VITPOSE: dict[str, Any] = {
    "size": SIZE,
    "backbone": {"name": "vitpose", "width": 32, "depth": 2, "attention_heads": 4},
    "head": "vitpose",
    "codec": {"name": "heatmap", "grid": "udp"},
}
"""the settings of a pose model that is a small VitPose"""
IMAGENET = tuple(torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def save_vitpose(folder: Path, *, experts: int = 1, size: tuple[int, int] = SIZE, **settings: Any) -> Any:
    """A VitPose of two layers, or with `experts` a VitPose++; the network itself, in eval mode."""
    library = pytest.importorskip("transformers")
    backbone = library.VitPoseBackboneConfig(
        image_size=list(size), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_experts=experts,
        part_features=8, out_indices=[2],
    )  # fmt: skip
    settings = {"num_labels": 17, **settings}
    network = library.VitPoseForPoseEstimation(library.VitPoseConfig(backbone_config=backbone, **settings))
    return _saved(network, folder)


def save_sapiens(folder: Path, **settings: Any) -> Any:
    """A Sapiens2 of three layers that knows its 308 keypoints; the network itself, in eval mode."""
    library = pytest.importorskip("transformers")
    if not hasattr(library, "Sapiens2ForPoseEstimation"):
        pytest.skip(f"transformers {library.__version__} has no Sapiens2")
    config = library.Sapiens2Config(
        image_size=list(SIZE), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_attention_heads=2, num_first_full_attention_layers=1, num_last_full_attention_layers=1,
        num_register_tokens=2,
        head_config={"upsample_out_channels": [16, 16], "conv_out_channels": [16], "conv_kernel_sizes": [1]},
        **({"num_labels": 308} if "id2label" not in settings else {}), **settings,
    )  # fmt: skip
    return _saved(library.Sapiens2ForPoseEstimation(config), folder)


def save_detector(folder: Path, labels: tuple[str, ...] = ("car", "person")) -> Any:
    """A small RT-DETR with its processor; the network itself, in eval mode."""
    library = pytest.importorskip("transformers")
    backbone = library.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic", out_indices=[2, 3, 4]
    )
    config = library.RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16], encoder_ffn_dim=16,
        encoder_attention_heads=2, d_model=16, num_queries=10, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16,
        decoder_layers=2, decoder_attention_heads=2, num_denoising=0, hidden_expansion=0.5,
        id2label=dict(enumerate(labels)), label2id={name: index for index, name in enumerate(labels)},
    )  # fmt: skip
    network = _saved(library.RTDetrForObjectDetection(config), folder)
    library.RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return network


def _saved(network: Any, folder: Path) -> Any:
    draw = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.data.copy_(noise / max(1, parameter[0].numel()) ** 0.5)
    network.save_pretrained(folder)
    return network.eval()
