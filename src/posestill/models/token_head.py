"""Keypoints as tokens: TokenPose's head (ICCV 2021) as DistilPose (CVPR 2023) uses it, for its teacher and students.

    features --patches--> visual tokens + position -+
                                                    +-> 12 transformer layers -> keypoint tokens -> coordinates or maps
    learnt keypoint tokens -------------------------+

The transformer is what the token losses of DistilPose distil: teacher and student share its width, its depth and the
grid of patches, whatever lies under them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from posestill.codecs.base import BinForm, Codec, MapForm
from posestill.models.heads import Head, HeadConfig, numbers_of
from posestill.schema import UserError
from posestill.types import Heatmaps, Prediction, Size, Tokens


class TokenConfig(HeadConfig):
    """A transformer over patches and keypoints predicts from the keypoints' tokens; its sizes are published."""

    patch: tuple[PositiveInt, PositiveInt] = (4, 3)
    """The (rows, columns) of the feature map that become one visual token; they must divide the map. Larger patches
    make fewer tokens, which cost less and tell places less finely."""
    dim: PositiveInt = 192
    """The channels of a token, a multiple of 4 and of `heads`; 192 is published. More channels make the head stronger
    and larger."""
    depth: PositiveInt = 12
    """The number of transformer layers; 12 is published. More layers make the head stronger and slower."""
    heads: PositiveInt = 8
    """The number of attention heads in a layer; 8 is published. With more heads a token attends in more ways, each of
    which has fewer channels."""
    mlp_ratio: PositiveInt = 3
    """The hidden channels of each layer's MLP, as a multiple of `dim`; 3 is published. More channels make the head
    stronger and larger."""

    def build(self, feature_shape: tuple[int, int, int], num_keypoints: int, codec: Codec) -> TokenHead:
        """The network: to maps under the heatmap codec, else to coordinates. Fails where a size does not divide."""
        channels, height, width = feature_shape
        if height % self.patch[0] or width % self.patch[1]:
            raise UserError(
                f"model.head.patch: patches of {self.patch} do not tile feature maps of {(height, width)}: choose "
                "divisors of both"
            )
        if self.dim % self.heads or self.dim % 4:
            raise UserError(f"model.head.dim: {self.dim} is not a multiple of 4 and of {self.heads} heads")
        if isinstance(codec.form, BinForm):
            raise UserError("model.head: token gives heatmaps or coordinates: choose the codec heatmap, coords or rle")
        return TokenHead(self, channels, (height // self.patch[0], width // self.patch[1]), num_keypoints, codec)


class TokenHead(Head):
    """Visual and keypoint tokens through one transformer; the prediction is read off the keypoint tokens."""

    gives_tokens = True
    position: Tensor

    def __init__(
        self,
        config: TokenConfig,
        channels: int,
        grid: Size,
        num_keypoints: int,
        codec: Codec,
    ) -> None:
        super().__init__()
        self.patch = config.patch
        self.grid = grid
        self.embed = nn.Linear(config.patch[0] * config.patch[1] * channels, config.dim)
        self.keypoint_tokens = nn.Parameter(torch.empty(1, num_keypoints, config.dim))
        self.register_buffer("position", sine_position(grid, config.dim))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))
        nn.init.trunc_normal_(self.keypoint_tokens, std=0.02)
        self.output: nn.Module
        for layer in [self.embed, *self.layers]:
            initialise_linear(layer)
        # Drawn last, so that students with and without a score or a spread start from the same weights elsewhere.
        if isinstance(codec.form, MapForm):
            self.output = _MapsOutput(config.dim, codec.form.size)
        else:
            self.output = _CoordsOutput(config.dim, codec)

    def forward(self, features: tuple[Tensor, ...]) -> Prediction:
        """The prediction for B crops."""
        return self.answer(features)[0]

    def answer(self, features: tuple[Tensor, ...]) -> tuple[Prediction, Tokens]:
        """The prediction, and the tokens (B, P, D) and (B, K, D) after the last layer, not normalised."""
        visual = self.embed(self._patches(features[-1]))  # (B, P, D)
        # not len(): an exported graph would keep the batch size
        keypoint = self.keypoint_tokens.expand(visual.shape[0], -1, -1)  # (B, K, D)
        count = keypoint.shape[1]
        position = F.pad(self.position, (0, 0, count, 0))  # (1, K + P, D): keypoints have no place of their own
        tokens = torch.cat([keypoint, visual], dim=1)  # (B, K + P, D)
        for layer in self.layers:
            tokens = layer(tokens + position)  # the place is told anew before every layer, as published
        keypoint, visual = tokens[:, :count], tokens[:, count:]
        return self.output(keypoint), Tokens(visual=visual, keypoint=keypoint)

    def _patches(self, features: Tensor) -> Tensor:
        """(B, P, rows * columns * C), row by row; in a patch the channel runs fastest."""
        (rows, columns), (down, across) = self.patch, self.grid
        split = features.permute(0, 2, 3, 1).unflatten(1, (down, rows)).unflatten(3, (across, columns))
        return split.transpose(2, 3).flatten(3).flatten(1, 2)


class _Layer(nn.Module):
    """Attention and MLP, each after a norm and added to what came in."""

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.dim)
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.merge = nn.Linear(config.dim, config.dim)
        self.mlp_norm = nn.LayerNorm(config.dim)
        hidden = config.mlp_ratio * config.dim
        self.mlp = nn.Sequential(nn.Linear(config.dim, hidden), nn.GELU(), nn.Linear(hidden, config.dim))

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            self.qkv(self.attention_norm(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        )  # (B, heads, K + P, D / heads) each
        mixed = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.merge(mixed.transpose(1, 2).flatten(2))
        mixed_channels: Tensor = self.mlp(self.mlp_norm(tokens))
        return tokens + mixed_channels


class _MapsOutput(nn.Module):
    """(B, K, D) -> one map a keypoint, through an eighth of the map's px and no activation, as published."""

    def __init__(self, dim: int, map_size: Size) -> None:
        super().__init__()
        self.map_size = map_size
        cells = map_size[0] * map_size[1]
        hidden = max(1, cells // 8)
        self.layers = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.LayerNorm(hidden), nn.Linear(hidden, cells)
        )
        initialise_linear(self)

    def forward(self, keypoint: Tensor) -> Heatmaps:
        return Heatmaps(maps=self.layers(keypoint).unflatten(-1, self.map_size))


class _CoordsOutput(nn.Module):
    """(B, K, D) -> what the codec reads, in full precision whatever the mixed precision around it."""

    def __init__(self, dim: int, codec: Codec) -> None:
        super().__init__()
        self.codec = codec
        self.norm = nn.LayerNorm(dim)
        self.linear: nn.Linear = nn.utils.skip_init(nn.Linear, dim, numbers_of(codec))
        for row in self.linear.weight.data:  # one by one: x and y start alike, whatever else is predicted beside them
            nn.init.trunc_normal_(row, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, keypoint: Tensor) -> Prediction:
        with torch.autocast(keypoint.device.type, enabled=False):
            values = self.linear(self.norm(keypoint.to(self.linear.weight.dtype)))  # (B, K, channels)
        prediction: Prediction = self.codec.assemble(values)
        return prediction


def initialise_linear(network: nn.Module) -> None:
    """Linear weights of spread 0.02 within two spreads, biases 0, as published."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def sine_position(grid: Size, dim: int) -> Tensor:
    """(1, P, dim) where each patch of the grid lies: sines and cosines of its row, then of its column (DETR's)."""
    half = dim // 2
    pair = torch.arange(half, dtype=torch.float64).div(2, rounding_mode="floor")
    wavelength = 10000 ** (2 * pair / half)
    places = []
    for count in grid:
        angle = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1e-6) * 2 * math.pi
        phase = angle[:, None] / wavelength  # (count, half)
        places.append(torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], dim=-1).flatten(1))
    rows, columns = places
    full = torch.cat([rows[:, None].expand(-1, grid[1], -1), columns[None].expand(grid[0], -1, -1)], dim=-1)
    return full.flatten(0, 1)[None].float()
