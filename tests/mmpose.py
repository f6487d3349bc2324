"""What mmpose's checkpoints hold: the names and shapes of their tensors, described here by themselves.

The facts are those of its public configurations and of the module trees that these build (mmpose 1.x, mmdet's CSPNeXt).
"""

from __future__ import annotations

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
RESNET_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
CSPNEXT = {"t": (0.167, 0.375), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0)}
"""deepen_factor and widen_factor"""


def norm(name: str, channels: int) -> Shapes:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{each}": (channels,) for each in vectors}, f"{name}.num_batches_tracked": ()}


def conv_norm(conv: str, bn: str, given: int, channels: int, kernel: int) -> Shapes:
    return {f"{conv}.weight": (channels, given, kernel, kernel), **norm(bn, channels)}


def bottleneck(name: str, given: int, inner: int) -> Shapes:
    found = {
        **conv_norm(f"{name}.conv1", f"{name}.bn1", given, inner, 1),
        **conv_norm(f"{name}.conv2", f"{name}.bn2", inner, inner, 3),
        **conv_norm(f"{name}.conv3", f"{name}.bn3", inner, 4 * inner, 1),
    }
    if given != 4 * inner:
        found |= conv_norm(f"{name}.downsample.0", f"{name}.downsample.1", given, 4 * inner, 1)
    return found


def resnet(depth: int) -> Shapes:
    found = conv_norm("backbone.conv1", "backbone.bn1", 3, 64, 7)
    given = 64
    for stage, blocks in enumerate(RESNET_BLOCKS[depth], start=1):
        inner = 32 * 2**stage
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}"
            found |= bottleneck(name, given, inner)
            if block == 0 and f"{name}.downsample.0.weight" not in found:
                found |= conv_norm(f"{name}.downsample.0", f"{name}.downsample.1", given, 4 * inner, 1)
            given = 4 * inner
    return found


def hrnet(width: int) -> Shapes:
    found = {
        **conv_norm("backbone.conv1", "backbone.bn1", 3, 64, 3),
        **conv_norm("backbone.conv2", "backbone.bn2", 64, 64, 3),
    }
    for block in range(4):
        found |= bottleneck(f"backbone.layer1.{block}", 64 if block == 0 else 256, 64)
    before = [256]
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        channels = [width * 2**branch for branch in range(stage)]
        for branch, wanted in enumerate(channels):
            name = f"backbone.transition{stage - 1}.{branch}"
            if branch >= len(before):
                found |= conv_norm(f"{name}.0.0", f"{name}.0.1", before[-1], wanted, 3)
            elif before[branch] != wanted:
                found |= conv_norm(f"{name}.0", f"{name}.1", before[branch], wanted, 3)
        for module in range(modules):
            own = f"backbone.stage{stage}.{module}"
            for branch, wanted in enumerate(channels):
                for block in range(4):
                    name = f"{own}.branches.{branch}.{block}"
                    for number in (1, 2):
                        found |= conv_norm(f"{name}.conv{number}", f"{name}.bn{number}", wanted, wanted, 3)
            targets = 1 if stage == 4 and module == modules - 1 else stage  # only the finest map is read
            for target in range(targets):
                for source in range(stage):
                    name = f"{own}.fuse_layers.{target}.{source}"
                    if source > target:
                        found |= conv_norm(f"{name}.0", f"{name}.1", channels[source], channels[target], 1)
                    for step in range(target - source):
                        last = channels[target] if step == target - source - 1 else channels[source]
                        found |= conv_norm(f"{name}.{step}.0", f"{name}.{step}.1", channels[source], last, 3)
        before = channels
    return found


def cspnext(size: str) -> Shapes:
    deepen, widen = CSPNEXT[size]

    def conv(name: str, given: int, channels: int, kernel: int, groups: int = 1) -> Shapes:
        return conv_norm(f"backbone.{name}.conv", f"backbone.{name}.bn", given // groups, channels, kernel)

    stem = int(64 * widen)
    found = {
        **conv("stem.0", 3, stem // 2, 3),
        **conv("stem.1", stem // 2, stem // 2, 3),
        **conv("stem.2", stem // 2, stem, 3),
    }
    given = stem
    for stage, (width, blocks) in enumerate(((128, 3), (256, 6), (512, 6), (1024, 3)), start=1):
        channels, position = int(width * widen), 1
        found |= conv(f"stage{stage}.0", given, channels, 3)
        if stage == 4:
            found |= conv("stage4.1.conv1", channels, channels // 2, 1)
            found |= conv("stage4.1.conv2", channels // 2 * 4, channels, 1)
            position = 2
        half, name = channels // 2, f"stage{stage}.{position}"
        for each in ("main_conv", "short_conv"):
            found |= conv(f"{name}.{each}", channels, half, 1)
        found |= conv(f"{name}.final_conv", 2 * half, channels, 1)
        for block in range(max(round(blocks * deepen), 1)):
            inner = f"{name}.blocks.{block}"
            found |= conv(f"{inner}.conv1", half, half, 3)
            found |= conv(f"{inner}.conv2.depthwise_conv", half, half, 5, groups=half)
            found |= conv(f"{inner}.conv2.pointwise_conv", half, half, 1)
        found[f"backbone.{name}.attention.fc.weight"] = (2 * half, 2 * half, 1, 1)
        found[f"backbone.{name}.attention.fc.bias"] = (2 * half,)
        given = channels
    return found


def heatmap_head(given: int, keypoints: int = 17, *, deconv: bool, name: str = "head") -> Shapes:
    found: Shapes = {}
    for position in range(3 if deconv else 0):
        found[f"{name}.deconv_layers.{3 * position}.weight"] = (given, 256, 4, 4)
        found |= norm(f"{name}.deconv_layers.{3 * position + 1}", 256)
        given = 256
    return {**found, f"{name}.final_layer.weight": (keypoints, given, 1, 1), f"{name}.final_layer.bias": (keypoints,)}


def regression_head(numbers: int, keypoints: int = 17) -> Shapes:
    return {"head.fc.weight": (keypoints * numbers, 2048), "head.fc.bias": (keypoints * numbers,)}


def simcc_head(size: tuple[int, int], keypoints: int = 17) -> Shapes:
    places = size[0] // 4 * (size[1] // 4)
    found = heatmap_head(2048, keypoints, deconv=True, name="head.deconv_head")
    for axis, bins in (("x", 2 * size[1]), ("y", 2 * size[0])):
        found |= {f"head.mlp_head_{axis}.weight": (bins, places), f"head.mlp_head_{axis}.bias": (bins,)}
    return found


def rtmcc_head(given: int, size: tuple[int, int], keypoints: int = 17) -> Shapes:
    places = size[0] // 32 * (size[1] // 32)
    return {
        "head.final_layer.weight": (keypoints, given, 7, 7), "head.final_layer.bias": (keypoints,),
        "head.mlp.0.g": (1,), "head.mlp.1.weight": (256, places),
        "head.gau.gamma": (2, 128), "head.gau.beta": (2, 128), "head.gau.o.weight": (256, 512),
        "head.gau.uv.weight": (2 * 512 + 128, 256), "head.gau.ln.g": (1,), "head.gau.res_scale.scale": (256,),
        "head.cls_x.weight": (2 * size[1], 256), "head.cls_y.weight": (2 * size[0], 256),
    }  # fmt: skip


def shapes_of(layout: str, keypoints: int = 17) -> Shapes:
    """The tensors of the checkpoint that `posestill convert --from LAYOUT` reads."""
    family, which, *rest = layout.split("-")
    size = (384, 288) if rest[-1:] == ["384"] else (256, 192)
    if family == "hrnet":
        width = int(which[1:])
        return {**hrnet(width), **heatmap_head(width, keypoints, deconv=False)}
    if family == "rtmpose":
        return {**cspnext(which), **rtmcc_head(int(1024 * CSPNEXT[which][1]), size, keypoints)}
    head = {
        "simplebaseline": lambda: heatmap_head(2048, keypoints, deconv=True),
        "deeppose": lambda: regression_head(2, keypoints),
        "rle": lambda: regression_head(4, keypoints),
        "simcc": lambda: simcc_head(size, keypoints),
    }[family]()
    return {**resnet(int(which[1:])), **head}


def filled(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Tensors of these shapes with values that tell layers apart and keep a forward pass within bounds."""
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
            continue
        noise = torch.randn(shape, generator=draw)
        if len(shape) > 1:
            found[name] = noise * (2 / noise[0].numel()) ** 0.5
        else:
            is_scale = name.endswith(("weight", "running_var", ".g", ".scale"))
            found[name] = 1 + 0.1 * noise.clamp(-3, 3) if is_scale else 0.1 * noise
    return found
