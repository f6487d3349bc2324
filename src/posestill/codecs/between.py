"""One representation into another. Every way passes through coordinates: a place, a spread and a confidence.

A place p on the map of an input of (W, H) is u = p * stride / (W, H), and on the UDP grid u = p (W - 1) / ((w - 1) W).
A mistake of half a map pixel here would move every taught keypoint by two input px.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posestill.codecs.base import Codec, CoordinateCodec
from posestill.codecs.heatmap import HeatmapCodec, decode_maps
from posestill.codecs.rle import RleCodec
from posestill.codecs.simcc import SimccCodec, draw_bins, split_bins
from posestill.types import Coords, Heatmaps, Prediction, SimCC

DEFAULT_SPREAD = 0.02
"""fraction of the input: the spread of coordinates whose model predicts none; about a cell of a 64x48 map"""


def convert(prediction: Prediction, given: Codec, wanted: Codec) -> Prediction:
    """What `wanted` would read as the same places, spreads and confidences; both codecs have one input size.

    Confidences survive between heatmaps and coordinates; SimCC has its own, and RLE's is its spread. Spreads survive
    between coordinates and heatmaps; elsewhere they become the wanted codec's own sigma.
    """
    return from_coords(to_coords(prediction, given), wanted)


def to_coords(prediction: Prediction, codec: Codec) -> Coords:
    """Places (B, K, 2), spreads (B, K, 2) as fractions of the input, and confidences (B, K).

    Heatmaps are read by their local expectation, the decoder that stands weak peaks; nothing is differentiable there.
    """
    extent = _extent(codec, _any_tensor(prediction))
    if isinstance(prediction, Coords):
        score = prediction.score
        if isinstance(codec, RleCodec):
            score = codec.decode(prediction).score
        scale = torch.full_like(prediction.xy, DEFAULT_SPREAD) if prediction.scale is None else prediction.scale
        return Coords(xy=prediction.xy, scale=scale, score=score)
    if isinstance(prediction, Heatmaps) and isinstance(codec, HeatmapCodec):
        cells, peak = decode_maps(prediction.maps, "local", sigma=codec.config.sigma)
        spread = codec.to_input(torch.full_like(cells, codec.config.sigma)) / extent
        return Coords(xy=codec.to_input(cells) / extent, scale=spread, score=peak)
    if isinstance(prediction, SimCC) and isinstance(codec, SimccCodec):
        found = codec.decode(prediction)
        spread = found.xy.new_tensor(codec.config.sigma) / codec.config.split / extent
        return Coords(xy=found.xy / extent, scale=spread.expand_as(found.xy), score=found.score)
    raise TypeError(f"{type(codec).__name__} does not read {type(prediction).__name__}")


def from_coords(coords: Coords, codec: Codec) -> Prediction:
    """What `codec` reads as these places; `coords` has spreads and, or not, confidences."""
    place = coords.xy * _extent(codec, coords.xy)  # (B, K, 2) input px
    if isinstance(codec, CoordinateCodec):
        return coords
    assert coords.scale is not None
    if isinstance(codec, HeatmapCodec):
        spread = codec.to_map(coords.scale * _extent(codec, coords.xy))
        maps = simulated_heatmaps(codec.to_map(place), spread, codec.map_size)
        return Heatmaps(maps=maps if coords.score is None else maps * coords.score[..., None, None])
    if isinstance(codec, SimccCodec):
        return split_bins(draw_bins(place * codec.config.split, codec.bins, codec.config.sigma), codec.bins)
    raise TypeError(f"no way into {type(codec).__name__}")


def simulated_heatmaps(place: Tensor, spread: Tensor, map_size: tuple[int, int]) -> Tensor:
    """(B, K, h, w) Gaussians of height 1 at place (B, K, 2) with spread (B, K, 2), both map px; differentiable in both.

    Section 3.2 of DistilPose, CVPR 2023, as its code draws them: axis-aligned, not normalised.
    """
    height, width = map_size
    columns = torch.arange(width, device=place.device, dtype=place.dtype)
    rows = torch.arange(height, device=place.device, dtype=place.dtype)
    across = torch.exp(-((columns - place[..., 0:1]) ** 2) / (2 * (spread[..., 0:1] ** 2 + 1e-9)))  # (B, K, w)
    down = torch.exp(-((rows - place[..., 1:2]) ** 2) / (2 * (spread[..., 1:2] ** 2 + 1e-9)))  # (B, K, h)
    return down[..., :, None] * across[..., None, :]


def _extent(codec: Codec, like: Tensor) -> Tensor:
    return like.new_tensor([codec.size[1], codec.size[0]])


def _any_tensor(prediction: Prediction) -> Tensor:
    if isinstance(prediction, Heatmaps):
        return prediction.maps
    return prediction.xy if isinstance(prediction, Coords) else prediction.x
