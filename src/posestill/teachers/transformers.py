"""Teachers of the library transformers: VitPose, VitPose++ and Sapiens2, from the Hugging Face Hub or from a folder.

The library executes the network. Crops and decoding are posestill's: the library's own processor of VitPose smooths a
heatmap less than ViTPose's authors do before it looks for the peak.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from posestill.codecs.heatmap import HeatmapConfig
from posestill.models.backbone import IMAGENET_MEAN, IMAGENET_STD
from posestill.models.hub import SETTINGS, SavedNetwork, find_network
from posestill.models.saved_keypoints import saved_skeleton
from posestill.schema import UserError, did_you_mean
from posestill.skeletons import Skeleton
from posestill.teachers.base import Teacher, TeacherConfig, crops_of
from posestill.teachers.keypoint_sets import KEYPOINT_SETS
from posestill.types import Heatmaps, PoseBatch, PoseOutput, Size

INSTALL = 'pip install "posestill[hf]"'
DATASETS = ("COCO", "AI Challenger", "MPII", "AP-10K", "APT-36K", "COCO-WholeBody")
"""of ViTPose++, by `dataset_index`"""


class TransformersConfig(TeacherConfig):
    """VitPose, VitPose++ or Sapiens2 of transformers is the teacher: `teacher: hf:OWNER/NAME`."""

    path: Path
    """A repository of the Hugging Face Hub as `hf:OWNER/NAME@REVISION`, or a folder that transformers saved. The
    revision is a commit, a tag or a branch; without one the newest commit is taken, which the student's lineage
    records."""
    dataset_index: NonNegativeInt = 0
    """Which expert of ViTPose++ answers: 0 COCO, 1 AI Challenger, 2 MPII, 3 AP-10K, 4 APT-36K, 5 COCO-WholeBody. Other
    networks have no experts and take 0."""
    licence: str | None = None
    """The licence of the network, which is kept with the student. None: the one that its card names."""

    def open(self) -> Teacher:
        """The teacher; a `UserError` says what cannot be fetched, is not installed or does not fit."""
        transformers_library(str(self.path))  # before anything is fetched
        saved = find_network(str(self.path), where="teacher")
        return TransformersTeacher(saved, dataset_index=self.dataset_index, licence=self.licence)


@dataclass(frozen=True)
class Family:
    """How the networks of one model type are asked."""

    network: str
    """the class in transformers"""
    sigma: float
    """spread of the Gaussians that it was trained on, map px"""
    tokens: Callable[[Any, Tensor, int], Tensor]
    """(B, h w, C) before its head, from the network, normalised crops (B, 3, H, W) and the dataset"""
    head: str
    """the name of its head, which reads (B, C, h, w)"""


def _vitpose_tokens(network: Any, image: Tensor, dataset_index: int) -> Tensor:
    index = torch.full((len(image),), dataset_index, device=image.device)
    given = {"dataset_index": index} if network.config.backbone_config.num_experts > 1 else {}
    tokens: Tensor = network.backbone(image, **given).feature_maps[-1]
    return tokens


def _sapiens_tokens(network: Any, image: Tensor, dataset_index: int) -> Tensor:
    tokens: Tensor = network.model(image).last_hidden_state  # (B, 1 + registers + h w, C)
    return tokens[:, 1 + network.config.num_register_tokens :]


FAMILIES: dict[str, Family] = {
    "vitpose": Family("VitPoseForPoseEstimation", sigma=2.0, tokens=_vitpose_tokens, head="head"),
    "sapiens2": Family("Sapiens2ForPoseEstimation", sigma=6.0, tokens=_sapiens_tokens, head="decode_head"),
}
"""by the `model_type` of their settings"""


class TransformersTeacher(Teacher):
    """A network of transformers as a teacher: heatmaps on the UDP grid, its last feature map, and its head."""

    def __init__(self, saved: SavedNetwork, *, dataset_index: int = 0, licence: str | None = None) -> None:
        """A `UserError` says what of the network is missing, or what no teacher can be made of."""
        settings = saved.settings()
        self.family = _family_of(settings, saved)
        self.network = load_network(saved, self.family.network)
        inner = getattr(self.network.config, "backbone_config", None) or self.network.config
        self.dataset_index, experts = dataset_index, getattr(inner, "num_experts", 1)
        if dataset_index >= experts:
            known = ", ".join(f"{at} {name}" for at, name in enumerate(DATASETS[:experts]))
            raise UserError(
                f"teacher.dataset_index: {saved.name} has no expert {dataset_index}: it has "
                f"{known if experts > 1 else 'none, and takes 0'}"
            )
        self.input_size, patch = _pair(inner.image_size), _pair(inner.patch_size)
        self.cells = (self.input_size[0] // patch[0], self.input_size[1] // patch[1])
        self.feature_shapes = ((int(inner.hidden_size), *self.cells),)
        self.mean, self.std = _normalisation(saved)
        with torch.no_grad():
            maps = self.head((torch.zeros(1, *self.feature_shapes[0]),))
        stride = self.input_size[0] // maps.maps.shape[-2]
        self.codec_config = HeatmapConfig(stride=stride, sigma=self.family.sigma, grid="udp")
        self.codec = self.codec_config.build(self.input_size)
        self.codec.check(PoseOutput(prediction=maps))
        self.skeleton = saved_skeleton(settings, maps.maps.shape[1], partial(_numbered, saved))
        self.provides = frozenset(("prediction", "features", "head"))
        self.lineage = {"path": saved.name, "sha256": saved.digest(), "licence": licence or saved.licence()}
        if experts > 1:
            self.lineage["dataset_index"] = dataset_index
        if not saved.is_pinned:
            self.remarks = (f"the teacher is {saved.name}: name this commit in the recipe, so that it stays the same",)

    @torch.no_grad()
    def __call__(self, batch: PoseBatch) -> PoseOutput:
        """Heatmaps (B, K, h, w), and the feature map (B, C, H / 16, W / 16) that they were read off."""
        features = self.features(batch)
        return PoseOutput(prediction=self.head(features), features=features)

    @torch.no_grad()
    def features(self, batch: PoseBatch) -> tuple[Tensor, ...]:
        """The last feature map, without the work of the head."""
        crops = crops_of(batch)
        image = crops.float() / 255 if crops.dtype == torch.uint8 else crops
        return self.features_of((image - self.mean) / self.std)

    def features_of(self, image: Tensor) -> tuple[Tensor, ...]:
        """The last feature map of crops (B, 3, H, W) that are normalised already."""
        tokens = self.family.tokens(self.network, image, self.dataset_index)
        return (tokens.transpose(1, 2).unflatten(2, self.cells),)

    def head(self, features: tuple[Tensor, ...]) -> Heatmaps:
        """The network's head on somebody's features."""
        return Heatmaps(maps=getattr(self.network, self.family.head)(features[-1].contiguous()))

    def to(self, device: torch.device) -> Teacher:
        """The same teacher on `device`."""
        self.network.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self


def transformers_library(wanted_for: str) -> ModuleType:
    """The library, silent; a `UserError` that names what to install where it is missing."""
    try:
        library = importlib.import_module("transformers")
    except ImportError:
        raise UserError(f"{wanted_for} needs the package transformers, which is not installed: {INSTALL}") from None
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def load_network(saved: SavedNetwork, class_name: str) -> Any:
    """A network of transformers with the weights of a folder, in eval mode and never to be trained.

    A `UserError` says that this version of the library lacks it, or which tensors the folder lacks.
    """
    library = transformers_library(saved.name)
    network_type = getattr(library, class_name, None)
    if network_type is None:
        raise UserError(
            f"{saved.name} is a {class_name}, which transformers {library.__version__} lacks: install a newer one"
        )
    saved.weights()  # says so where there are none
    try:
        network, told = network_type.from_pretrained(
            saved.folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:  # the library's own, safetensors' and torch's
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{saved.name} cannot be read by transformers {library.__version__}: {said}") from None
    missing = sorted(told["missing_keys"])
    if missing:
        raise UserError(
            f"{saved.name} lacks {len(missing)} tensors of a {class_name}, such as {missing[0]}: fetch it again, or "
            "name the network of the whole task, not a backbone alone"
        )
    return network.eval().requires_grad_(False)


def _family_of(settings: dict[str, Any], saved: SavedNetwork) -> Family:
    kind = settings["model_type"]
    if kind not in FAMILIES:
        raise UserError(
            f"teacher: {saved.name} is a {kind}; the pose estimators of transformers that can teach are "
            f"{' and '.join(FAMILIES)}{did_you_mean(kind, FAMILIES)}"
        )
    return FAMILIES[kind]


def _numbered(saved: SavedNetwork, count: int) -> Skeleton:
    """The known set of as many keypoints."""
    found = next((each for each in KEYPOINT_SETS.values() if len(each) == count), None)
    if found is None:
        raise UserError(
            f"teacher: {saved.name} only numbers its {count} keypoints, and no known set has as many: name them by "
            f"id2label in its {SETTINGS}"
        )
    return found


def _normalisation(saved: SavedNetwork) -> tuple[Tensor, Tensor]:
    """The mean and the spread of its colours, (3, 1, 1) each: ImageNet's where it says nothing."""
    told = saved.processor()
    mean, std = told.get("image_mean", IMAGENET_MEAN), told.get("image_std", IMAGENET_STD)
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)


def _pair(value: Any) -> Size:
    height, width = (value, value) if isinstance(value, int) else value
    return int(height), int(width)
