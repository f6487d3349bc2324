"""DistilPose-S written out plainly: the fixed yardstick of our speed and of our arithmetic.

Eager, with attention as einsum and softmax, layers one by one, and losses looped over joints as released, whose weights
broadcast to (N, N, h w). Module names are those of the published checkpoints. Not for use: posestill.models is.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(given: int, channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(given, channels, kernel, stride, kernel // 2, bias=False)


class Bottleneck(nn.Module):
    def __init__(self, given: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(given, 64, 1), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = convolution(64, 64, 3), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = convolution(64, 256, 1), nn.BatchNorm2d(256)
        if given != 256:
            self.downsample = nn.Sequential(convolution(given, 256, 1), nn.BatchNorm2d(256))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(3, 64, 3, 2), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = convolution(64, 64, 3, 2), nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64), Bottleneck(256), Bottleneck(256), Bottleneck(256))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.layer1(x)


class Wrapped(nn.Module):
    """x + fn(norm(x)), under the published names."""

    def __init__(self, dim: int, inner: nn.Module) -> None:
        super().__init__()
        self.fn = nn.Module()
        self.fn.norm = nn.LayerNorm(dim)
        self.fn.fn = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn.fn(self.fn.norm(x))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        batch, count, dim = x.shape
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = (each.reshape(batch, count, self.heads, -1).transpose(1, 2) for each in (q, k, v))
        scores = torch.einsum("bhid,bhjd->bhij", q, k) * (dim // self.heads) ** -0.5
        mixed = torch.einsum("bhij,bhjd->bhid", scores.softmax(dim=-1), v)
        return self.to_out(mixed.transpose(1, 2).reshape(batch, count, dim))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, 3 * dim), nn.GELU(), nn.Dropout(0.0), nn.Linear(3 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Tokens(nn.Module):
    """The token head; `maps` gives the teacher's output in place of the student's five numbers."""

    def __init__(self, channels: int = 256, *, joints: int = 17, maps: bool = False) -> None:
        super().__init__()
        self.keypoint_token = nn.Parameter(torch.randn(1, joints, 192) * 0.02)
        self.pos_embedding = nn.Parameter(position(16, 16, 192), requires_grad=False)
        self.patch_to_embedding = nn.Linear(12 * channels, 192)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            nn.ModuleList([Wrapped(192, Attention(192, 8)), Wrapped(192, Mlp(192))]) for _ in range(12)
        )
        last = [nn.LayerNorm(192), nn.Linear(192, 5)]
        if maps:
            last = [nn.LayerNorm(192), nn.Linear(192, 384), nn.LayerNorm(384), nn.Linear(384, 3072)]
        self.mlp_head = nn.Sequential(*last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, channels = x.shape[:2]
        joints = self.keypoint_token.shape[1]
        patches = x.reshape(batch, channels, 16, 4, 16, 3).permute(0, 2, 4, 3, 5, 1).reshape(batch, 256, -1)
        visual = self.patch_to_embedding(patches) + self.pos_embedding
        x = torch.cat([self.keypoint_token.expand(batch, -1, -1), visual], dim=1)
        for index, (attention, mlp) in enumerate(self.transformer.layers):
            if index > 0:
                x = torch.cat([x[:, :joints], x[:, joints:] + self.pos_embedding], dim=1)
            x = mlp(attention(x))
        return self.mlp_head(x[:, :joints]), x[:, joints:], x[:, :joints]


class PlainDistilPose(nn.Module):
    """DistilPose-S, or with `maps` its heatmap twin on the same backbone (the release's teacher_stemnet)."""

    def __init__(self, *, maps: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.keypoint_head = nn.Module()
        self.name = "tokenpose" if maps else "tokenhead"
        setattr(self.keypoint_head, self.name, Tokens(maps=maps))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """From normalised images (N, 3, 256, 192): tokens and, from a student, x y score and spread in map px."""
        values, visual, keypoint = getattr(self.keypoint_head, self.name)(self.backbone(image))
        found = {"vis_token": visual, "kpt_token": keypoint}
        if values.shape[-1] != 5:
            return {**found, "maps": values.reshape(len(values), -1, 64, 48)}
        xy, score, sigma = values[..., :2].sigmoid(), values[..., 2:3], F.softplus(values[..., 3:])
        return {**found, "xy": xy, "score": score, "sigma": sigma}


def position(rows: int, columns: int, dim: int) -> Tensor:
    half = dim // 2
    table = torch.zeros(1, rows * columns, dim)
    for row in range(rows):
        for column in range(columns):
            for i in range(half):
                wave = 10000 ** (2 * (i // 2) / half)
                turn = math.sin if i % 2 == 0 else math.cos
                table[0, row * columns + column, i] = turn((row + 1) / (rows + 1e-6) * 2 * math.pi / wave)
                table[0, row * columns + column, half + i] = turn((column + 1) / (columns + 1e-6) * 2 * math.pi / wave)
    return table


def plain_losses(
    student: dict[str, Tensor], teacher: dict[str, Tensor], xy: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """The five losses as released: xy (N, K, 2) fractions, weight (N, K)."""
    mask = weight[..., None].repeat(1, 1, 2)
    maps = teacher["maps"]
    return {
        "regression": F.smooth_l1_loss(mask * student["xy"], mask * xy),
        "visual_tokens": 5e-4 * F.mse_loss(student["vis_token"], teacher["vis_token"]),
        "keypoint_tokens": 5e-4 * F.mse_loss(student["kpt_token"], teacher["kpt_token"]),
        "simulated_heatmap": plain_simulated(student, maps, weight),
        "confidence": 1e-2 * plain_confidence(student, maps, mask),
    }


def plain_simulated(student: dict[str, Tensor], maps: Tensor, weight: Tensor) -> Tensor:
    count, joints, height, width = maps.shape
    grid_x = torch.arange(width, dtype=maps.dtype)[None, None, None, :]
    grid_y = torch.arange(height, dtype=maps.dtype)[None, None, :, None]
    mean_x = (student["xy"][..., 0] * width)[..., None, None]
    mean_y = (student["xy"][..., 1] * height)[..., None, None]
    sigma_x, sigma_y = student["sigma"][..., 0, None, None], student["sigma"][..., 1, None, None]
    across = (grid_x - mean_x) ** 2 / (sigma_x**2 + 1e-9)
    down = (grid_y - mean_y) ** 2 / (sigma_y**2 + 1e-9)
    drawn = torch.exp(-0.5 * (across + down)).reshape(count, joints, -1)
    target = maps.reshape(count, joints, -1)
    total = maps.new_zeros(())
    for joint in range(joints):
        w = weight[:, joint, None, None]  # (N, 1, 1) against (N, hw): (N, N, hw)
        total = total + F.mse_loss(drawn[:, joint] * w, target[:, joint] * w)
    return total / joints


def plain_confidence(student: dict[str, Tensor], maps: Tensor, mask: Tensor) -> Tensor:
    count, joints, height, width = maps.shape
    place = student["xy"].detach().clamp(0, 1)
    column, row = torch.round(place[..., 0] * (width - 1)).long(), torch.round(place[..., 1] * (height - 1)).long()
    people, kinds = torch.arange(count)[:, None], torch.arange(joints)[None]
    label = maps[people, kinds, row, column][..., None]
    return F.l1_loss(student["score"] * mask, label * mask)
