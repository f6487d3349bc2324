"""Keypoints as heatmaps: a Gaussian of height 1 on a map `stride` times smaller than the input.

A place x of the input lies at u = x / stride on the map or, on the UDP grid, at u = x (w - 1) / (W - 1). Sources:
Simple Baselines (ECCV 2018) for the target and the quarter offset; DARK (CVPR 2020) for the unbiased target and the
Taylor decoding; UDP (CVPR 2020) for its grid.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, PositiveFloat, PositiveInt
from torch import Tensor, nn

from posestill.codecs.base import Codec, CodecConfig, MapForm, Rescoring, masked_mean
from posestill.schema import UserError
from posestill.types import Heatmaps, Keypoints, PoseOutput, Size


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even: a kernel has a middle, take {value + 1}")
    return value


Decoder = Literal["argmax", "quarter", "dark", "local"]


class HeatmapConfig(CodecConfig):
    """A model draws one heatmap a keypoint and is trained by the mean squared error."""

    stride: PositiveInt = 4
    """Input px per map px; it must divide both sides of the input, and the head must draw maps of that size. A smaller
    stride makes finer maps, which place keypoints more exactly and cost more."""
    sigma: PositiveFloat = 2.0
    """The spread of a keypoint's Gaussian in map px; 2 is the published value for 64x48 maps. A larger spread is easier
    to learn and places keypoints less exactly; a smaller one leaves few px that tell the network anything."""
    target: Literal["unbiased", "plain"] = "unbiased"
    """Where a label's Gaussian sits. `unbiased`: at the exact place of the keypoint (DARK). `plain`: at the nearest map
    px, and cut off at 3 sigma (Simple Baselines)."""
    grid: Literal["stride", "udp", "cells"] = "stride"
    """How input px become map px. `stride`: a place x lies at x / stride. `udp`: the first and the last px of input and
    map coincide, so that a mirror needs no shift. `cells`: each map px covers the input px under it, so that its centre
    lies in their middle; it needs no shift either. Published models such as MoveNet are built so."""
    decoder: Decoder = "dark"
    """How a place is read off a map. `argmax`: the peak's px. `quarter`: a quarter px from there towards the higher
    neighbour. `dark`: one Taylor step on the smoothed map's logarithm. `local`: the mean place under the map in a
    window of 2.5 sigma around the peak."""
    blur_kernel: Annotated[PositiveInt, AfterValidator(_odd)] = 11
    """The width, in map px and odd, of the smoothing before the Taylor step of the decoder `dark`. A wider kernel
    removes more noise and flattens the peak more."""
    flip_shift: Literal["exact", "whole", "none"] = "exact"
    """How far the flip test moves a map that was mirrored back to the right, on the grid `stride`. `exact`: by 1 - 1 /
    stride map px, where it belongs. `whole`: by one map px, as published (shift_heatmap). `none`: not at all. The
    other grids need no shift and take none."""

    def build(self, size: Size) -> HeatmapCodec:
        """The codec for inputs of `size`. Fails when the stride does not divide the size, naming both."""
        if size[0] % self.stride or size[1] % self.stride:
            raise UserError(f"model.size: input {size} is not a multiple of the heatmap stride {self.stride}")
        return HeatmapCodec(self, size)


class HeatmapCodec(Codec):
    """Heatmaps of (H / stride, W / stride)."""

    prediction_type = Heatmaps
    has_score = True
    rescoring: Rescoring = "mean"
    form: MapForm

    def __init__(self, config: HeatmapConfig, size: Size) -> None:
        self.config = config
        self.size = size
        self.map_size: Size = (size[0] // config.stride, size[1] // config.stride)
        (height, width), (rows, columns) = size, self.map_size
        step: tuple[float, float] = (config.stride, config.stride)
        if config.grid == "udp":
            step = ((width - 1) / (columns - 1), (height - 1) / (rows - 1))
        first = (config.stride - 1) / 2 if config.grid == "cells" else 0.0
        self.form = MapForm(input_size=size, size=self.map_size, px_per_cell=step, sigma=config.sigma, first_cell=first)

    def encode(self, xy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, K, h, w). Weight stays wherever some of the Gaussian's 3-sigma box falls on the map."""
        centre = self.form.to_map(xy)  # (B, K, 2) map px
        reach = 3 * self.config.sigma
        if self.config.target == "plain":
            centre = torch.floor(centre + 0.5)
        maps = draw_gaussians(centre, self.config.sigma**2, self.map_size)
        if self.config.target == "plain":
            maps = maps * _box(centre, self.map_size, reach)
        height, width = self.map_size
        touches = (centre > -reach - 1) & (centre < centre.new_tensor([width, height]) + reach)
        kept = weight * touches.all(dim=-1).to(weight.dtype)
        return maps * (kept > 0)[..., None, None], kept

    def decode(self, prediction: Heatmaps) -> Keypoints:
        """Input px; the score is the peak's height."""
        xy, peak = decode_maps(prediction.maps.float(), self.config.decoder, sigma=self.config.sigma,
                               blur_kernel=self.config.blur_kernel)  # fmt: skip
        return Keypoints(xy=self.form.to_input(xy), score=peak)

    def flip(self, prediction: Heatmaps, swap: Tensor) -> Heatmaps:
        """Columns reversed, partners swapped and moved to the right by what `flip_shift` says."""
        maps = prediction.maps[:, swap].flip(-1)
        if self.config.flip_shift == "none" or self.config.grid != "stride":
            return Heatmaps(maps=maps)
        whole = torch.cat([maps[..., :1], maps[..., :-1]], dim=-1)
        share = 1.0 if self.config.flip_shift == "whole" else 1 - 1 / self.config.stride
        return Heatmaps(maps=torch.lerp(maps, whole, share))

    def loss(self, prediction: Heatmaps, target: Tensor, weight: Tensor, helper: nn.Module | None = None) -> Tensor:
        """The squared error, averaged over map pixels and keypoints (JointsMSELoss without its factor 1/2)."""
        error = F.mse_loss(prediction.maps, target, reduction="none").mean(dim=(-2, -1))  # (B, K)
        return masked_mean(error, weight, self.config.normalise)

    def as_target(self, prediction: Heatmaps) -> Tensor:
        """Its maps."""
        return prediction.maps

    def for_prediction(self, prediction: Heatmaps) -> HeatmapCodec:
        """The codec of finer maps of the same spread in input px, where these are finer by a whole factor."""
        stride = self.size[0] // prediction.maps.shape[-2]
        if stride == 0 or stride == self.config.stride or self.config.stride % stride or self.config.grid != "stride":
            return self
        sigma = self.config.sigma * self.config.stride / stride
        return self.config.model_copy(update={"stride": stride, "sigma": sigma}).build(self.size)

    def thinned(self, prediction: Heatmaps, codec: Codec) -> Heatmaps:
        """Finer maps at the cells of this codec's, which are every so many of theirs."""
        assert isinstance(codec, HeatmapCodec)
        step = self.config.stride // codec.config.stride
        return Heatmaps(maps=prediction.maps[..., ::step, ::step])

    def check(self, output: PoseOutput) -> None:
        """Fail when the head's maps are not of the size that stride and input give."""
        super().check(output)
        assert isinstance(output.prediction, Heatmaps)
        found = tuple(output.prediction.maps.shape[-2:])
        if found != self.map_size:
            raise UserError(
                f"model: the head draws maps of {found} and the codec expects {self.map_size} "
                f"(input {self.size} at heatmap stride {self.config.stride}): change the head's upsampling, "
                "model.codec.stride or model.size"
            )


def draw_gaussians(centre: Tensor, variance: float | Tensor, map_size: Size) -> Tensor:
    """(B, K, h, w) Gaussians of height 1 at centre (B, K, 2) map px, each the product of two 1-D ones.

    The variance (map px squared) is one for all, or (B, K, 2) of each keypoint on each axis; all is differentiable.
    """
    height, width = map_size
    columns = torch.arange(width, device=centre.device, dtype=centre.dtype)
    rows = torch.arange(height, device=centre.device, dtype=centre.dtype)
    along_x, along_y = (
        (variance[..., 0:1], variance[..., 1:2]) if isinstance(variance, Tensor) else (variance, variance)
    )
    across = torch.exp(-((columns - centre[..., 0:1]) ** 2) / (2 * along_x))  # (B, K, w)
    down = torch.exp(-((rows - centre[..., 1:2]) ** 2) / (2 * along_y))  # (B, K, h)
    return down[..., :, None] * across[..., None, :]


def simulated_heatmaps(place: Tensor, spread: Tensor, map_size: Size) -> Tensor:
    """(B, K, h, w) what coordinates look like as heatmaps: place and spread are (B, K, 2) map px, both differentiable.

    Section 3.2 of DistilPose, CVPR 2023, as its code draws them: axis-aligned, not normalised.
    """
    return draw_gaussians(place, spread**2 + 1e-9, map_size)


def decode_maps(maps: Tensor, decoder: Decoder, *, sigma: float, blur_kernel: int = 11) -> tuple[Tensor, Tensor]:
    """Places (B, K, 2) map px and peak heights (B, K) of maps (B, K, h, w)."""
    width = maps.shape[-1]
    peak, position = maps.flatten(2).max(dim=-1)  # (B, K)
    cell = torch.stack([position % width, position // width], dim=-1)  # (B, K, 2)
    xy = cell.to(maps.dtype)
    if decoder == "quarter":
        xy = xy + _quarter_offset(maps, cell)
    elif decoder == "dark":
        xy = xy + _taylor_offset(_log_blur(maps, blur_kernel), cell)
    elif decoder == "local":
        xy = _local_expectation(maps, xy, radius=2.5 * sigma)
    return xy, peak


def _box(centre: Tensor, map_size: Size, reach: float) -> Tensor:
    height, width = map_size
    columns = torch.arange(width, device=centre.device, dtype=centre.dtype)
    rows = torch.arange(height, device=centre.device, dtype=centre.dtype)
    across = ((columns - centre[..., 0:1]).abs() <= reach).to(centre.dtype)  # (B, K, w)
    down = ((rows - centre[..., 1:2]).abs() <= reach).to(centre.dtype)  # (B, K, h)
    return down[..., :, None] * across[..., None, :]


def _neighbours(maps: Tensor, cell: Tensor) -> Tensor:
    """(B, K, 3, 3) the values around each cell (B, K, 2), edges repeated; [row, column]."""
    batch, count, height, width = maps.shape
    step = torch.arange(-1, 2, device=maps.device)
    rows = (cell[..., 1:2] + step).clamp(0, height - 1)  # (B, K, 3)
    columns = (cell[..., 0:1] + step).clamp(0, width - 1)
    flat = rows[..., :, None] * width + columns[..., None, :]  # (B, K, 3, 3)
    return maps.flatten(2).gather(-1, flat.flatten(2)).view(batch, count, 3, 3)


def _interior(maps: Tensor, cell: Tensor, margin: int) -> Tensor:
    limit = cell.new_tensor([maps.shape[-1] - 1 - margin, maps.shape[-2] - 1 - margin])
    return ((cell >= margin) & (cell <= limit)).all(dim=-1)  # (B, K)


def _quarter_offset(maps: Tensor, cell: Tensor) -> Tensor:
    near = _neighbours(maps, cell)
    slope = torch.stack([near[..., 1, 2] - near[..., 1, 0], near[..., 2, 1] - near[..., 0, 1]], dim=-1)
    return torch.sign(slope) * 0.25 * _interior(maps, cell, 1)[..., None]


def _log_blur(maps: Tensor, kernel: int) -> Tensor:
    """The logarithm of the smoothed maps. Their height does not matter to the Taylor step, so it is not restored."""
    deviation = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8  # OpenCV's rule for a kernel given without a spread
    offsets = torch.arange(kernel, device=maps.device, dtype=maps.dtype) - (kernel - 1) / 2
    line = torch.exp(-(offsets**2) / (2 * deviation**2))
    line = line / line.sum()
    flat = maps.flatten(0, 1)[:, None]  # (B*K, 1, h, w)
    with torch.autocast(maps.device.type, enabled=False):  # half precision would cost a quarter of a px
        flat = F.conv2d(flat, line.view(1, 1, 1, -1), padding=(0, kernel // 2))
        flat = F.conv2d(flat, line.view(1, 1, -1, 1), padding=(kernel // 2, 0))
    return flat.view_as(maps).clamp(min=1e-10).log()


def _taylor_offset(log_maps: Tensor, cell: Tensor) -> Tensor:
    """DARK's step -H^-1 g at the peak, from central differences; none at the border or where the map is not curved."""
    near = _neighbours(log_maps, cell)
    dx = (near[..., 1, 2] - near[..., 1, 0]) / 2
    dy = (near[..., 2, 1] - near[..., 0, 1]) / 2
    dxx = near[..., 1, 2] - 2 * near[..., 1, 1] + near[..., 1, 0]
    dyy = near[..., 2, 1] - 2 * near[..., 1, 1] + near[..., 0, 1]
    dxy = (near[..., 2, 2] - near[..., 2, 0] - near[..., 0, 2] + near[..., 0, 0]) / 4
    determinant = dxx * dyy - dxy**2
    # Published, too: next to the border the smoothing has met nothing on the other side, and the step goes astray.
    usable = _interior(log_maps, cell, 2) & (determinant > 1e-12)
    safe = torch.where(usable, determinant, torch.ones_like(determinant))
    offset = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=-1) / safe[..., None]
    # The maximum of a unimodal peak lies within a pixel of its largest cell; a longer step comes from noise.
    return torch.where(usable[..., None], offset.clamp(-1, 1), torch.zeros_like(offset))


def _local_expectation(maps: Tensor, peak_xy: Tensor, *, radius: float) -> Tensor:
    """The mean place under the positive part of the map, in a window of `radius` map px around the peak.

    The window is cut symmetrically at the border, so that a peak there is not pulled inwards.
    """
    height, width = maps.shape[-2:]
    half = math.ceil(radius)
    limit = maps.new_tensor([width - 1, height - 1])
    room = torch.minimum(peak_xy, limit - peak_xy).clamp(max=half)[..., None, None]  # (B, K, 2, 1, 1)
    columns = torch.arange(width, device=maps.device, dtype=maps.dtype)
    rows = torch.arange(height, device=maps.device, dtype=maps.dtype)[:, None]
    near_x = (columns - peak_xy[..., 0, None, None]).abs() <= room[..., 0, :, :]  # (B, K, 1, w)
    near_y = (rows - peak_xy[..., 1, None, None]).abs() <= room[..., 1, :, :]  # (B, K, h, 1)
    mass = maps.clamp(min=0) * near_x * near_y
    total = mass.sum(dim=(-2, -1))  # (B, K)
    mean_x = (mass * columns).sum(dim=(-2, -1)) / total.clamp(min=1e-12)
    mean_y = (mass * rows).sum(dim=(-2, -1)) / total.clamp(min=1e-12)
    return torch.where((total > 1e-12)[..., None], torch.stack([mean_x, mean_y], dim=-1), peak_xy)
