"""The model that is trained and the model that ships: backbone -> neck -> head, with its codec, skeleton and folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

import posestill
from posestill.codecs.base import CodecConfig
from posestill.documents.parse import read_json
from posestill.files import write_whole
from posestill.models.backbone import BackboneConfig
from posestill.models.heads import HeadConfig
from posestill.models.repository import find_folder
from posestill.schema import Choice, Config, UserError, did_you_mean, validate
from posestill.skeletons import Skeleton
from posestill.types import FeatureShape, Keypoints, PoseBatch, PoseOutput, Prediction, mean_prediction

WEIGHTS = "model.safetensors"
SETTINGS = "config.json"
MODEL_FILES = (SETTINGS, WEIGHTS)
"""all that a model folder holds"""
Side = Annotated[int, Field(ge=1, le=8192)]
ForHead = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]


class NeckConfig(Config):
    """These are the settings of a neck, a network from feature maps to feature maps."""

    trained_by_labels: ClassVar[bool] = True
    """False: only a method trains it, so that the student alone goes without"""

    def build(self, feature_shape: FeatureShape) -> nn.Module:
        """The network for a last feature map of (C, h, w)."""
        raise NotImplementedError


class ModelConfig(Config):
    """These settings say what a pose model is made of and which input it reads."""

    size: tuple[Side, Side] = (256, 192)
    """The (height, width) in px of the crops that the model reads; backbone and codec say which sizes fit. A larger
    input shows more detail and costs more."""
    backbone: Annotated[BackboneConfig, Choice("backbones", otherwise=("timm", "model"))]
    """The network from the image to feature maps: the name of a timm network, or one that `posestill list backbones`
    shows."""
    neck: Annotated[NeckConfig, Choice("necks")] | None = None
    """A network between the backbone's features and the head. None: the head reads the backbone's last feature map."""
    head: Annotated[HeadConfig, Choice("heads")]
    """The network from the last feature map to the prediction, in the form that the codec reads."""
    codec: Annotated[CodecConfig, Choice("codecs")]
    """The representation of keypoints: how labels become targets, which loss is taken, and how a prediction becomes
    places."""
    init_from: str | None = None
    """A model folder, or `hub:owner/name@revision`, whose weights the model starts from: all of them (FOLDER) or those
    of one part (FOLDER#PART, such as `runs/a/best#backbone`). None: it starts from random weights, or from those that
    the backbone fetches."""


class PoseModel(nn.Module):
    """A top-down pose model. It reads uint8 or 0..1 RGB crops and normalises them itself."""

    mean: Tensor
    std: Tensor
    swap: Tensor

    def __init__(self, config: ModelConfig, skeleton: Skeleton, *, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        self.skeleton = skeleton
        self.lineage: dict[str, Any] = {}
        """where the weights come from; kept in the model's folder"""
        self.codec = config.codec.build(config.size)
        self.backbone = config.backbone.build(config.size, pretrained=pretrained)
        self.register_buffer("mean", torch.tensor(self.backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.backbone.std).view(3, 1, 1), persistent=False)
        self.register_buffer("swap", torch.tensor(skeleton.swap), persistent=False)
        self.neck: nn.Module = nn.Identity()
        if config.neck is not None:
            shape = self._shapes_of_features()[-1]
            with torch.random.fork_rng(devices=[]):  # the head begins as it does without a neck
                self.neck = config.neck.build(shape)
        self.feature_shapes = self._shapes_of_features()
        """(C, h, w) of each feature map; the head reads the last one"""
        self.head = config.head.build(self.feature_shapes[-1], len(skeleton), self.codec)
        with torch.no_grad(), evaluating(self):
            output = self(torch.zeros(1, 3, *config.size))
        try:
            self.codec.check(output)
        except UserError:
            self._refuse_broken_strides()
            raise
        self.token_shape = None if output.tokens is None else tuple(output.tokens.visual.shape[1:])
        """(P, D) of the visual tokens; None where the head has none"""

    def forward(self, image: Tensor, for_head: ForHead | None = None) -> PoseOutput:
        """Prediction, features and, from a token head, tokens for crops (B, 3, H, W).

        `for_head` may hand the head other features than those that are returned: the same ones with their gradients
        watched or stopped.
        """
        features = self.features(image)
        output = self.read(features if for_head is None else for_head(features))
        return replace(output, features=features)

    def read(self, features: tuple[Tensor, ...]) -> PoseOutput:
        """What the head reads off features that `features` gave."""
        prediction, tokens = self.head.answer(features)
        return PoseOutput(prediction=prediction, features=features, tokens=tokens)

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, C_i, h_i, w_i) feature maps; the head reads the last one."""
        if not torch.jit.is_tracing() and tuple(image.shape[-2:]) != tuple(self.config.size):
            raise UserError(f"the model reads crops of {self.config.size} and was given {tuple(image.shape[-2:])}")
        if image.dtype == torch.uint8:
            image = image.float() / 255
        mean, std = self.mean, self.std
        if image.dtype == torch.float64:  # whoever checks arithmetic in float64 needs these in float64, too
            mean, std = (image.new_tensor(each).view(3, 1, 1) for each in (self.backbone.mean, self.backbone.std))
        # Most small convolutional networks run faster on a CPU with the channel fastest, large ones about alike.
        normalised = ((image - mean) / std).contiguous(memory_format=torch.channels_last)
        features: tuple[Tensor, ...] = self.neck(self.backbone(normalised))
        return features

    def task_loss(self, output: PoseOutput, batch: PoseBatch, helper: nn.Module | None = None) -> Tensor:
        """The codec's loss of an output against the labels of its batch; helper is what `codec.helper()` made."""
        target, weight = self.codec.encode(batch.keypoints, batch.weight)
        return self.codec.loss(output.prediction, target, weight, helper)

    @torch.no_grad()
    def predict(self, image: Tensor, *, flip_test: bool = False) -> Keypoints:
        """Keypoints in input px for crops (B, 3, H, W); `flip_test` averages with the mirrored crop's prediction."""
        return self.codec.decode(self.prediction(image, flip_test=flip_test))

    @torch.no_grad()
    def prediction(self, image: Tensor, *, flip_test: bool = False) -> Prediction:
        """What `predict` decodes, for crops (B, 3, H, W)."""
        with evaluating(self):
            prediction = self(image).prediction
            assert prediction is not None
            if flip_test:
                mirrored = self.codec.flip(self(image.flip(-1)).prediction, self.swap)
                prediction = mean_prediction(prediction, mirrored)
            return prediction

    def save(self, folder: Path) -> None:
        """Write the folder that `PoseModel.load`, predict and export read: weights and their description."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        # As bytes, which Python writes: a full disk is then an OSError, as everywhere.
        content = as_bytes(weights, metadata={"format": "pt"})
        write_whole(folder / WEIGHTS, lambda path: path.write_bytes(content))
        described = {
            "format": "posestill",
            "version": posestill.__version__,
            "model": self.config.model_copy(update={"init_from": None}).model_dump(mode="json"),
            "skeleton": self.skeleton.model_dump(mode="json"),
            "score": "trained" if self.codec.has_score else "none: every score is 1, persons rank by their box score",
            "lineage": self.lineage,
        }
        text = json.dumps(described, indent=2)
        write_whole(folder / SETTINGS, lambda path: path.write_text(text))

    @staticmethod
    def load(folder: Path | str) -> PoseModel:
        """The model of a folder, or of `hub:owner/name@revision`, in eval mode.

        Fails with a message that names the file and the key.
        """
        found = find_folder(folder, MODEL_FILES)
        folder = found.path
        described = read_description(folder)
        with _told_by_version(folder, described.get("version")):
            model = PoseModel(
                validate(ModelConfig, described["model"], where=f"{folder / SETTINGS}: model"),
                validate(Skeleton, described["skeleton"], where=f"{folder / SETTINGS}: skeleton"),
                pretrained=False,
            )
            model.load_weights(read_weights(folder), where=str(folder / WEIGHTS))
        model.lineage = described.get("lineage", {})
        if found.repository is not None:
            model.lineage["repository"] = found.repository
        return model.eval()

    def load_weights(self, weights: dict[str, Tensor], *, where: str, part: str | None = None) -> list[str]:
        """Take weights over, all of the model's or those of one part (`backbone`); every key and shape must fit.

        A part may be the beginning of a larger one, as the three stages of an HRNet are of four: the keys that then
        remain unused are returned.
        """
        target: nn.Module = self
        if part is not None:
            parts = ["backbone", *([] if self.config.neck is None else ["neck"]), "head"]
            if part not in parts:
                raise UserError(f"init_from: this model has no part '{part}'{did_you_mean(part, parts)}")
            target = getattr(self, part)
            prefix = f"{part}."
            weights = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
        own = target.state_dict()
        problems = [f"missing {key}" for key in own if key not in weights]
        unused = [key for key in weights if key not in own]
        if part is None:
            problems += [f"unexpected {key}" for key in unused]
        problems += [
            f"{key} is {tuple(weights[key].shape)}, wanted {tuple(value.shape)}"
            for key, value in own.items()
            if key in weights and weights[key].shape != value.shape
        ]
        if problems:
            shown = "; ".join(problems[:3])
            raise UserError(f"{where} does not fit this model ({len(problems)} keys): {shown}")
        target.load_state_dict({key: weights[key] for key in own})
        return unused

    def _refuse_broken_strides(self) -> None:
        """A `UserError` where the input is no multiple of the stride of the map that the head reads."""
        size, (_, *cells) = self.config.size, self.feature_shapes[-1]
        stride = max(1 << max(0, (-(-side // count) - 1).bit_length()) for side, count in zip(size, cells, strict=True))
        if any(side % stride for side in size):
            near = tuple(max(stride, round(side / stride) * stride) for side in size)
            raise UserError(
                f"model.size: input {size} is not a multiple of the stride {stride} of the backbone: take {near}"
            )

    def _shapes_of_features(self) -> tuple[FeatureShape, ...]:
        with torch.no_grad(), evaluating(self):
            maps = self.neck(self.backbone(torch.zeros(1, 3, *self.config.size)))
        return tuple((each.shape[1], each.shape[2], each.shape[3]) for each in maps)


def build_model(config: ModelConfig, skeleton: Skeleton) -> PoseModel:
    """A model ready to train: random or pretrained weights, then those of `init_from`."""
    model = PoseModel(config, skeleton)
    if config.init_from is not None:
        folder, _, part = config.init_from.partition("#")
        weights = read_weights(find_folder(folder, MODEL_FILES).path)
        unused = model.load_weights(weights, where=f"model.init_from: {folder}", part=part or None)
        model.lineage["init_from"] = config.init_from
        if unused:
            model.lineage["init_from_unused"] = f"{len(unused)} tensors, such as {unused[0]}"
    if model.backbone.licence:
        model.lineage["pretrained_licence"] = model.backbone.licence
    return model


def read_description(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder, or a `UserError` that says what is wrong with it."""
    path = folder / SETTINGS
    if not path.is_file():
        inner = next((name for name in ("best", "last") if (folder / name / SETTINGS).is_file()), None)
        hint = (
            f": did you mean {folder / inner}?" if inner else ": a model folder holds model.safetensors and config.json"
        )
        raise UserError(f"no model in {folder}{hint}")
    described = read_json(path, what="description of a model")
    if not isinstance(described, dict) or described.get("format") != "posestill":
        raise UserError(f'{path} was not written by posestill (no "format": "posestill")')
    if missing := {"model", "skeleton"} - set(described):
        raise UserError(f"{path} lacks {' and '.join(sorted(missing))}: copy the folder again")
    return described


@contextmanager
def _told_by_version(folder: Path, version: object) -> Iterator[None]:
    """What does not fit in a model that another version of posestill wrote is told in one line that names both."""
    try:
        yield
    except UserError as error:
        if version in (None, posestill.__version__):  # models of the first version do not say it
            raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"the model in {folder} was written by posestill {version}, and this is {posestill.__version__}: "
            f"use that version, or train anew ({reason})"
        ) from None


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model folder, or a `UserError` that names the file."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"no weights {path}: a model folder holds {WEIGHTS} and {SETTINGS}")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is broken ({error}): copy it again") from None
    wrong = [name for name, value in weights.items() if not value.isfinite().all()]
    if wrong:
        raise UserError(
            f"{path} holds NaN or infinite weights in {len(wrong)} tensors, {wrong[0]} first: its training diverged, "
            "or the file was damaged; train it again, or copy it again"
        )
    return weights


class evaluating:
    """Eval mode for a while: batch-norm statistics stay as they are."""

    def __init__(self, module: nn.Module) -> None:
        self.modes = [(each, each.training) for each in module.modules()]

    def __enter__(self) -> None:
        for module, _ in self.modes:
            module.training = False

    def __exit__(self, *_: object) -> None:
        for module, training in self.modes:
            module.training = training
