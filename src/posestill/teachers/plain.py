"""Asking a network as its layout says: crops in, a tensor made of them, outputs read."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

from posestill.codecs.base import BinForm, Codec, MapForm, NumberForm
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.teachers.keypoint_sets import KEYPOINT_SETS, keypoint_set
from posestill.teachers.layouts import BinsOutput, LayoutConfig, MapsOutput
from posestill.teachers.runtime import Port, RuntimeNetwork
from posestill.types import Coords, Heatmaps, Prediction, SimCC, Size

Shape = tuple[int, ...]


class Layout:
    """How a network is asked about crops of persons."""

    name: str
    size: Size
    """(height, width) of the crops that it is given, px"""
    padding: float
    """how much larger than the box such a crop is"""
    skeleton: Skeleton
    codec: Codec
    """what reads its predictions, for crops of `size`"""
    keeps_crop: bool = True
    """True: the network sees the crop as it is, so that its inner maps lie on the crop"""

    @property
    def given(self) -> Hashable:
        """What decides what the network is given for a crop: where it is the same, so are the answers."""
        return self.name

    def look(self, network: RuntimeNetwork, crops: np.ndarray) -> dict[str, np.ndarray]:
        """What the network says of crops (B, H, W, 3) uint8 RGB, as far as it is read: (B, ...) each, by name."""
        raise NotImplementedError

    def prediction(self, found: dict[str, np.ndarray]) -> Prediction:
        """What `look` found as one of our predictions."""
        raise NotImplementedError


class PlainLayout(Layout):
    """A layout that is data."""

    def __init__(self, name: str, config: LayoutConfig, network: RuntimeNetwork) -> None:
        """Fails, naming both, where the file's inputs and outputs are not the layout's."""
        self.name, self.config = name, config
        if len(network.inputs) != 1:
            raise UserError(f"teacher.layout: {name} has one input, and {network.path.name} has: {network.describe()}")
        self.port = network.inputs[0]
        self.size = self._size()
        self.padding = config.padding
        self.batch = self.port.shape[0]
        if np.issubdtype(self.port.dtype, np.integer) and config.normalises:
            raise UserError(f"teacher.layout: the file takes whole numbers ({self.port}), which are not normalised")
        check_range(self.port)
        self.codec = config.codec.build(self.size)
        self._check_codec()
        self.read: tuple[str, ...] = ()
        shapes = {each.name: each.shape[1:] for each in network.outputs}
        if any(size is None for shape in shapes.values() for size in shape):
            # What the file does not say of its outputs shows in one answer.
            found = self.run(network, np.zeros((1, *self.size, 3), dtype=np.uint8))
            shapes = {each.name: found[each.name].shape[1:] for each in network.outputs}
        outputs = {name: tuple(int(size or 0) for size in shape) for name, shape in shapes.items()}
        self.read, count = self._choose(outputs, network)
        where = f"teacher.layout {name}"
        self.skeleton = keypoint_set(config.keypoints, count=count, where=where, told=config.told_of_keypoints)

    @property
    def given(self) -> Hashable:
        """Colours, range and normalisation, and which outputs are read."""
        return self.config.colours, self.config.highest, self.config.mean, self.config.std, self.read

    def look(self, network: RuntimeNetwork, crops: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs that are read, and the inner tensors that the network gives."""
        found = self.run(network, crops)
        wanted = {name: found.get(name, np.zeros(0)) for name in (*self.read, *network.inner)}
        for name, each in wanted.items():
            if each.shape[:1] != (len(crops),):
                raise UserError(f"teacher: {name} of {network.path.name} has no entry for each crop: {each.shape}")
        return wanted

    def run(self, network: RuntimeNetwork, crops: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs and inner tensors for crops (B, H, W, 3) uint8 RGB, in as many lots as the file's batch asks for."""
        tensor = self.tensor(crops)
        if self.batch is None:
            return network({self.port.name: tensor})
        parts = [tensor[at : at + self.batch] for at in range(0, len(tensor), self.batch)]
        spare = self.batch - len(parts[-1])
        if spare:  # the last part is filled up with its last crop
            parts[-1] = np.concatenate([parts[-1], parts[-1][-1:].repeat(spare, axis=0)])
        each = [network({self.port.name: part}) for part in parts]
        return {name: np.concatenate([one[name] for one in each])[: len(crops)] for name in self._with_batch(each[0])}

    def tensor(self, crops: np.ndarray) -> np.ndarray:
        """What the network is given for crops (B, H, W, 3) uint8 RGB."""
        config = self.config
        values = crops if config.colours == "rgb" else crops[..., ::-1]
        if config.normalises:
            scaled = values.astype(np.float32) / np.float32(255 / config.highest)
            mean, std = (np.array(each, dtype=np.float32) for each in (config.mean, config.std))
            values = (scaled - mean) / std
        ordered = values.transpose(0, 3, 1, 2) if config.order == "nchw" else values
        return np.ascontiguousarray(ordered.astype(self.port.dtype))

    def prediction(self, found: dict[str, np.ndarray]) -> Prediction:
        """The network's outputs as one of our predictions."""
        output = self.config.output
        values, *more = (torch.from_numpy(found[name]).float() for name in self.read)
        if isinstance(output, BinsOutput):
            return SimCC(x=values * output.factor, y=more[0] * output.factor)
        if isinstance(output, MapsOutput):
            maps = values.permute(0, 3, 1, 2) if output.order == "nhwc" else values  # (B, K, h, w)
            return Heatmaps(maps=maps.sigmoid() if output.logits else maps)
        values = values.reshape(len(values), len(self.skeleton), -1)  # (B, K, numbers)
        score = None if output.score is None else values[..., output.score]
        xy = torch.stack([values[..., output.x], values[..., output.y]], dim=-1)
        return Coords(xy=as_fractions(xy, output.unit, self.size), score=score)

    def _size(self) -> Size:
        shape, is_first = self.port.shape, self.config.order == "nchw"
        if len(shape) != 4 or shape[1 if is_first else 3] not in (3, None):
            raise UserError(
                f"teacher.layout: {self.name} gives a picture of three colours ({self.config.order}), and the file's "
                f"input is {self.port}"
            )
        given, wanted = shape[2:4] if is_first else shape[1:3], self.config.size or (None, None)
        sizes = [one if one is not None else other for one, other in zip(given, wanted, strict=True)]
        if sizes[0] is None or sizes[1] is None:
            raise UserError("teacher.layout: the file takes crops of any size: say which by a layout's `size`")
        if self.config.size is not None and tuple(sizes) != self.config.size:
            raise UserError(f"teacher.layout: size {wanted} was asked for, and the file's input is {self.port}")
        return sizes[0], sizes[1]

    def _check_codec(self) -> None:
        """Refuse a codec that reads something else than the output holds."""
        kind, form = self.config.output.kind, self.codec.form
        if not isinstance(form, {"maps": MapForm, "bins": BinForm, "numbers": NumberForm}[kind]) or (
            isinstance(form, NumberForm) and form.count != 2
        ):
            codec = {"maps": "heatmap", "bins": "simcc", "numbers": "coords, without score and scale"}[kind]
            raise UserError(f"teacher.layout: {self.name} has {kind}, which another codec reads: choose {codec}")

    def _choose(self, outputs: dict[str, Shape], network: RuntimeNetwork) -> tuple[tuple[str, ...], int | None]:
        """The outputs that are read, of those with these shapes (without the batch), and how many keypoints they hold.

        None: as many as the layout names.
        """
        output = self.config.output
        wanted = self._wanted_count()
        if isinstance(output, BinsOutput):
            (columns, count), (rows, other) = (
                reversed(self._named(name, outputs, network, axes=2)) for name in (output.x, output.y)
            )
            assert isinstance(self.codec.form, BinForm)
            if count != other or (columns, rows) != (self.codec.form.x, self.codec.form.y):
                raise UserError(
                    f"teacher.layout: {self.name} expects {self.codec.form.x} bins of x and {self.codec.form.y} of y "
                    f"for {self.size}, and the file has: {network.describe()}"
                )
            return (output.x, output.y), count
        if isinstance(output, MapsOutput):
            name = output.tensor or self._only(
                [each for each, shape in outputs.items() if len(shape) == 3
                 and (wanted is None or _maps_of(shape, output)[0] == wanted)], network
            )  # fmt: skip
            count, *size = _maps_of(self._named(name, outputs, network, axes=3), output)
            form = self.codec.form
            assert isinstance(form, MapForm)
            if tuple(size) != form.size:
                raise UserError(
                    f"teacher.layout: {self.name} expects maps of {form.size} for crops of {self.size}, and those of "
                    f"{name} are {tuple(size)}: its codec's stride is another (or the `order` of its output)"
                )
            return (name,), count
        least = 1 + max(output.x, output.y, output.score or 0)
        fitting = [each for each, shape in outputs.items() if _numbers_of(shape, least, wanted) is not None]
        name = output.tensor or self._only(fitting, network)
        if name not in fitting:
            shape = self._named(name, outputs, network)
            raise UserError(
                f"teacher.layout: {self.name} reads {least} numbers or more of each keypoint, and {name} is {shape}"
            )
        return (name,), _numbers_of(outputs[name], least, wanted)

    def _wanted_count(self) -> int | None:
        """How many keypoints the layout names; None where the file decides."""
        named = self.config.keypoints
        if named is None or (isinstance(named, str) and named not in KEYPOINT_SETS):
            return None
        return len(KEYPOINT_SETS[named]) if isinstance(named, str) else len(named)

    def _named(self, name: str, outputs: dict[str, Shape], network: RuntimeNetwork, *, axes: int = 0) -> Shape:
        """The shape of an output by its name, of so many axes beside the batch."""
        if name not in outputs:
            raise UserError(
                f"teacher.layout: {self.name} reads the output '{name}', and {network.path.name} has: "
                f"{network.describe()}"
            )
        if axes and len(outputs[name]) != axes:
            raise UserError(f"teacher.layout: {self.name} reads {axes} axes and the batch of {name}, which has others: "
                            f"{network.describe()}")  # fmt: skip
        return outputs[name]

    def _only(self, fitting: list[str], network: RuntimeNetwork) -> str:
        if len(fitting) == 1:
            return fitting[0]
        wanted = self._wanted_count()
        found = "none has that form" + ("" if wanted is None else f" for the {wanted} keypoints that it names")
        if fitting:
            found = f"{len(fitting)} outputs have that form: name one by output.tensor"
        raise UserError(
            f"teacher.layout: {self.name} reads {self.config.output.kind}, and of {network.describe()} {found}"
        )

    def _with_batch(self, found: dict[str, np.ndarray]) -> list[str]:
        """Those with one entry a crop."""
        return [name for name, each in found.items() if each.ndim and len(each) == self.batch]


def check_range(port: Port) -> None:
    """Refuse inputs that cannot hold 0..255."""
    if np.issubdtype(port.dtype, np.integer) and np.iinfo(port.dtype).max < 255:
        raise UserError(f"teacher.layout: the file's input {port} cannot hold px from 0 to 255: take a file of floats")


def check_float(name: str, port: Port) -> None:
    """Refuse inputs that cannot hold shares."""
    if not np.issubdtype(port.dtype, np.floating):
        raise UserError(f"teacher.layout: {name} gives numbers between whole ones, and the file's input is {port}")


def as_fractions(xy: Tensor, unit: str, size: Size) -> Tensor:
    """Places (..., 2) in a layout's unit as shares of the input's (W, H), where px centres lie at whole numbers."""
    extent = xy.new_tensor([size[1], size[0]])
    if unit == "px":
        return xy / extent
    return xy - 0.5 / extent if unit == "edges" else xy


def _maps_of(shape: Shape, output: MapsOutput) -> Shape:
    """(K, h, w) of an output's shape without the batch."""
    return shape if output.order == "nchw" else (shape[-1], *shape[:-1])


def _numbers_of(shape: Shape, least: int, wanted: int | None) -> int | None:
    """How many keypoints an output holds that has so many numbers of each or more; None where it has another form."""
    if len(shape) >= 2 and math.prod(shape[:-2]) == 1 and shape[-1] >= least and wanted in (None, shape[-2]):
        return shape[-2]
    total = math.prod(shape)
    flat = wanted is not None and total == max(shape, default=0) and total % wanted == 0 and total // wanted >= least
    return wanted if flat else None
