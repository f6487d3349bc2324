"""A run without a recipe: pictures, a teacher and the name of a student become the settings of a run.

    pictures + teacher + student -> settings -> open the sources, count the people -> length -> RunConfig

Every choice is told in a line; the run folder keeps all settings as for any other run.
"""

from __future__ import annotations

import hashlib
import math
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import timm

from posestill.data.batches import choose_people
from posestill.data.images import ImagesConfig
from posestill.engine.config import RunConfig, run_of
from posestill.engine.log import RunLog
from posestill.engine.setup import Sources, open_sources
from posestill.models.device import choose_device
from posestill.schema import Choice, Config, UserError, did_you_mean, validate
from posestill.teachers.base import Teacher, TeacherConfig
from posestill.types import Size

BATCH_SIZE = 32
CROPS_TO_SEE = 100_000
"""how many crops a student sees in all, which a small one on a CPU does in some minutes; a small set is repeated"""
FEWEST_PASSES, MOST_PASSES = 10, 200
MOST_WARMUP_STEPS = 100
LEFT_OUT = 0.25
"""the share of the people who are not learned from: leaving them out helped a little in results/photographs-filter"""
MOST_BYTES_OF_CROPS = 2 << 30
"""of memory that kept crops may take; beyond it they are cut from the files every time"""
_REACHED_WITHIN = 5.0
"""seconds in which the place where timm's weights lie must answer"""


@dataclass(frozen=True)
class Student:
    """A network with a size that suits it."""

    backbone: str
    size: Size
    channels: int
    """of the deconvolutions that draw its heatmaps"""
    what: str
    """in words, for help and log"""


STUDENTS = {
    "small": Student("mobilenetv3_small_050", (128, 96), 32, "0.1 M parameters, for phones and browsers"),
    "good": Student("tf_efficientnet_lite0", (192, 160), 64, "0.9 M parameters, several times slower and better"),
}
"""students by name; any network of timm is one, too, whole"""
CUT_AFTER = 16
"""the stride of the last stage of students by name, which learned more so than whole (results/photographs-heads)"""
OTHER_CHANNELS = 64
"""of the deconvolutions of other networks of timm"""
OTHER_SIZE: Size = (192, 160)
"""what other networks of timm see; their strides divide it up to 32"""


@dataclass(frozen=True)
class Wish:
    """What is wanted, where there is no recipe."""

    images: Sequence[Path]
    teacher: str
    student: str = "small"
    weights: Path | None = None
    """of the student's backbone"""
    boxes: Path | None = None
    detector: Path | None = None
    annotations: Path | None = None
    """labels of some of the pictures, to measure by"""
    frame_step: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class ChosenRun:
    """A run, and its sources, which had to be opened to choose its length."""

    config: RunConfig
    sources: Sources


def choose_run(wish: Wish, folder: Path, *, changes: Sequence[str] = (), log: RunLog) -> ChosenRun:
    """The run into a folder that a wish and `a.b=c` changes describe. Each choice is a line of the log."""
    content = settings_of(wish, folder, log=log)
    if any(each.partition("=")[0].strip() == "teacher.cache.views" for each in changes):
        del content["teacher"]["cache"]["leave_out"]  # which only answers about upright crops allow

    def draft_of(content: Mapping[str, Any]) -> RunConfig:
        steps = {**content["train"], "steps": 1}
        return run_of({**content, "train": steps}, without_length(changes), where="--set")

    draft = draft_of(content)
    device = choose_device(draft.train.device, option="train.device")
    sources = open_sources(draft, log=log, device=device)
    if not sources.train.skeleton.partners_known and "leave_out" in content["teacher"]["cache"]:
        del content["teacher"]["cache"]["leave_out"]  # which compares answers upright and mirrored
        draft = draft_of(content)
        log.say(
            "mirroring: nothing tells which keypoints are mirror partners, so that the teacher is asked about upright "
            "crops alone, and nobody is left out"
        )
    people = len(choose_people(sources.train, draft.data).persons)
    cache = None if draft.teacher is None else draft.teacher.kept
    learned_from = people if cache is None else people - int(cache.leave_out * people)
    train, data = dict(content["train"]), dict(content["data"])
    kept = people * bytes_of_crop(draft.model.size)
    if kept <= MOST_BYTES_OF_CROPS:
        data["crops"] = {}
        log.say(f"crops: kept in memory, about {max(1, round(kept / 2**20))} MiB")
    else:
        train["workers"] = max(0, min(8, (os.cpu_count() or 1) - 1))
        log.say(
            f"crops: cut from the files every time by {train['workers']} more processes, as they would take "
            f"{kept / 2**30:.1f} GiB of memory"
        )
    if without_length(changes) == list(changes):
        train.update(_length(learned_from, wish.steps, batch_size=draft.train.batch_size))
    sized = run_of({**content, "data": data, "train": train}, changes, where="--set").train
    steps = sized.steps or max(1, round((sized.epochs or 0) * learned_from / sized.batch_size))
    train["save_every"] = max(1, round((sized.steps or sized.epochs or 1) / 20))
    train["optimiser"] = {**train["optimiser"], "warmup_steps": min(MOST_WARMUP_STEPS, steps // 10)}
    config = run_of({**content, "data": data, "train": train}, changes, where="--set")
    length = f"{sized.steps} steps" if sized.steps else f"{sized.epochs:g} passes"
    log.say(f"length: {length} over {learned_from} people, {steps} steps of {sized.batch_size} (--steps N for another)")
    return ChosenRun(config, sources)


def check_begun(config: RunConfig, given: Mapping[str, Any], *, folder: Path) -> None:
    """A `UserError` where a run that is gone on with was begun with other options than those `given` now by name.

    Its settings stand in the folder, so that an option could change nothing.
    """
    pictures, backbone = config.data.train, config.model.backbone.model_dump()
    if not isinstance(pictures, ImagesConfig):
        raise UserError(f"--resume: {folder} holds a run of a recipe: go on by posestill distil {folder} --resume")
    begun = {
        "images": pictures.folder,
        "boxes": pictures.boxes,
        "detector": pictures.detector,
        "frame_step": pictures.frame_step,
        "annotations": getattr(config.data.val, "annotations", None),
        "teacher": _named(config.teacher),
        "student": backbone.get("model"),
        "weights": backbone.get("weights"),
    }
    for name, value in given.items():
        if name == "teacher":
            value = _named(validate(_Taught, {"teacher": teacher_of(value)}, where="--teacher").teacher)
        elif name == "student":
            value = STUDENTS[value].backbone if value in STUDENTS else value
            begun[name] = begun[name] or value  # a backbone that --set chose is no student by name
        if _as_text(value) != _as_text(begun[name]):
            option = f"--{name.replace('_', '-')}"
            raise UserError(
                f"--resume: {folder} was begun with another {option} ({_as_text(begun[name])} there, {_as_text(value)} "
                "here): leave the option out to go on, or begin a run of its own by another --out"
            )


def _named(teacher: TeacherConfig | None) -> Any:
    """What a teacher is called: its path or, where it has none, its kind."""
    return getattr(teacher, "path", type(teacher).__name__)


def _as_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def settings_of(wish: Wish, folder: Path, *, log: RunLog) -> dict[str, Any]:
    """The settings of a wish, all but its length and how crops are kept; answers are kept in the run folder."""
    named = STUDENTS.get(wish.student)
    backbone, size = (wish.student, OTHER_SIZE) if named is None else (named.backbone, named.size)
    if not timm.is_model(backbone):
        known = [*STUDENTS, *timm.list_models()]
        raise UserError(
            f"--student: '{wish.student}' is neither {' nor '.join(STUDENTS)} nor a network of timm"
            f"{did_you_mean(wish.student, known)}"
        )
    log.say(f"teacher: {wish.teacher}, asked once about each person, upright and mirrored")
    if wish.boxes is not None or wish.detector is not None:
        log.say(f"people: the boxes of {wish.boxes or wish.detector}")
    else:
        log.say("people: the whole frame is one person (--boxes or --detector where that is not so)")
    what = "a network of timm" if named is None else f"{backbone}, {named.what}"
    log.say(f"student: {wish.student} ({what}), crops of {size[0]}x{size[1]}, heatmaps")
    weights = _weights(backbone, wish.weights, log)
    pictures = {
        "boxes": None if wish.boxes is None else str(wish.boxes),
        "detector": None if wish.detector is None else str(wish.detector),
        "frame_step": wish.frame_step,
    }
    val = {"name": "held_out", **({} if wish.annotations is None else {"annotations": str(wish.annotations)})}
    log.say("method: pseudo_label, the teacher's keypoints of a confidence above 0.3 as labels")
    cache = {"folder": str(folder / f"answers-{_key(wish, size)}"), "leave_out": LEFT_OUT}
    return {
        "data": {
            "train": {
                "name": "images",
                "folder": [str(path) for path in wish.images],
                **{name: value for name, value in pictures.items() if value is not None},
            },
            "val": val,
            "augment": {"half_body": 0, "scale": 0.25, "rotation": 40, "shift": 0.05, "colour": 0.3},
        },
        "model": {
            "size": list(size),
            "backbone": {"name": backbone, **({} if named is None else {"stride": CUT_AFTER}), **weights},
            "head": {"name": "deconv", "channels": OTHER_CHANNELS if named is None else named.channels},
            "codec": {"name": "heatmap", **_sharpness(size)},
        },
        "method": "pseudo_label",
        "teacher": {**teacher_of(wish.teacher), "cache": cache},
        "train": {
            "batch_size": BATCH_SIZE,
            "optimiser": {
                "name": "adamw", "learning_rate": 2e-3, "weight_decay": 0.02, "schedule": "cosine",
                "warmup_steps": MOST_WARMUP_STEPS,
            },
        },
    }  # fmt: skip


def _sharpness(size: Size) -> dict[str, Any]:
    """How far heatmaps are spread and smoothed for crops of a size, by what suits crops of 256x192."""
    sigma = round(2 * math.sqrt(size[0] / 256), 2)
    kernel = 2 * round((sigma - 0.8) / 0.3 + 1) + 1  # the width that OpenCV gives a Gaussian of that sigma
    return {"sigma": sigma, "blur_kernel": kernel}


def teacher_of(teacher: str) -> dict[str, Any]:
    """The settings of a teacher that is given by the path of a file or a model folder, or by a name."""
    return {"name": "file", "path": teacher} if Path(teacher).is_file() else {"name": teacher}


def open_teacher(teacher: str, **settings: Any) -> Teacher:
    """The teacher that a path or a name means, with further settings of it; None leaves a setting at its default."""
    given = {name: value for name, value in settings.items() if value is not None}
    return validate(_Taught, {"teacher": {**teacher_of(teacher), **given}}, where="--teacher").teacher.build()


class _Taught(Config):
    """What a recipe says of its teacher, alone."""

    teacher: Annotated[TeacherConfig, Choice("teachers", otherwise=("checkpoint", "path"))]


def starts_from_nothing(config: RunConfig) -> str:
    """What to say loudly where a student of timm starts from random weights; empty where it does not."""
    backbone = config.model.backbone.model_dump()
    if config.model.init_from is not None or not {"pretrained", "weights"} <= set(backbone):
        return ""
    if backbone["pretrained"] or backbone["weights"] is not None:
        return ""
    return (
        f"RANDOM WEIGHTS: the student ({backbone['model']}) started from random weights, not from pretrained ones. It "
        "learns much less from the same pictures: give its weights by --weights FILE, or train where timm can fetch "
        "them."
    )


def without_length(changes: Sequence[str]) -> list[str]:
    """`a.b=c` changes without those that say how long a run is."""
    return [each for each in changes if each.partition("=")[0].strip() not in ("train.steps", "train.epochs")]


def bytes_of_crop(size: Size) -> int:
    """About how much memory a kept crop takes: wide enough for the augmentation that `settings_of` chooses."""
    reach = math.hypot(*size) / 2 * 1.25 + 0.05 * max(size)
    return 3 * (2 * math.ceil(1.25 * reach) + 2) ** 2


def _length(people: int, steps: int | None, *, batch_size: int) -> Mapping[str, Any]:
    if steps is not None:
        return {"steps": steps}
    passes = max(FEWEST_PASSES, min(MOST_PASSES, round(CROPS_TO_SEE / max(people, 1))))
    return {"epochs": max(passes, math.ceil(batch_size / max(people, 1)))}


def _key(wish: Wish, size: Size) -> str:
    """Eight digits of whatever answers depend on: another attempt in the same folder must not meet those of this."""
    asked = [*wish.images, wish.teacher, wish.boxes, wish.detector, wish.annotations, wish.frame_step, size]
    return hashlib.sha256(" ".join(map(str, asked)).encode()).hexdigest()[:8]


def _weights(backbone: str, given: Path | None, log: RunLog) -> dict[str, Any]:
    """How the student's backbone starts: from a file, from timm's pretrained weights, or from nothing."""
    if given is not None:
        log.say(f"weights: {given}")
        return {"weights": str(given)}
    published = timm.get_pretrained_cfg(backbone)
    if published is None or not published.has_weights:
        log.say(f"weights: RANDOM, as timm has none for {backbone}; choose another student, or give --weights FILE")
        return {}
    if _is_cached(published) or _can_be_fetched():
        log.say(f"weights: timm's pretrained ones ({published.tag}, licence {published.license or 'not said'})")
        return {"pretrained": True}
    log.say(
        f"weights: RANDOM, as those of {backbone} are not in timm's cache and cannot be fetched from here; the student "
        "will be much weaker: give them by --weights FILE"
    )
    return {}


def _is_cached(published: Any) -> bool:
    """True where timm would find the weights of a network on this machine."""
    from huggingface_hub import try_to_load_from_cache

    names = ("model.safetensors", "pytorch_model.bin")
    return bool(published.hf_hub_id) and any(
        isinstance(try_to_load_from_cache(published.hf_hub_id, name), str) for name in names
    )


def _can_be_fetched() -> bool:
    """True where the place that timm fetches weights from answers at all: its own attempts last a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    try:
        with urllib.request.urlopen(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), timeout=_REACHED_WITHIN):
            return True
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False
