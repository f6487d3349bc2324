"""Pictures without labels in a run: who is in them, which are held out, and what the teacher says of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from posestill.cluster.shards import WHOLE, Shard
from posestill.data.images import (
    FoundBoxes,
    HeldOutConfig,
    ImagesConfig,
    ImageSource,
    TaughtSource,
    as_people,
    labelled_pictures,
)
from posestill.data.pictures import Pictures, hold_out
from posestill.data.source import PoseSource
from posestill.engine.config import RunConfig
from posestill.engine.log import RunLog
from posestill.engine.unreadable import refuse_many
from posestill.keypoints.names import read_name, same_keypoint
from posestill.schema import UserError, did_you_mean
from posestill.skeletons import COCO_17, Skeleton, from_category
from posestill.teachers.answers import ask_about
from posestill.teachers.base import Teacher
from posestill.teachers.detect import open_detector
from posestill.teachers.threads import FEWEST_CROPS
from posestill.types import Person

MOST_DOUBTFUL = 0.5
"""the share of doubtful persons beyond which a run is not worth its time"""
_NAMED = 5
"""so many pictures are named in a line of the log, and the others counted"""


@dataclass(frozen=True)
class OpenedPictures:
    """The two sources of a run on pictures without labels."""

    train: PoseSource
    val: PoseSource
    labelled: ImageSource | None
    """the labelled people in held-out pictures, where `data.val.annotations` names some"""


def open_pictures(config: RunConfig, *, log: RunLog, device: torch.device | None = None) -> OpenedPictures:
    """Find the people, hold pictures out, and ask the teacher about the people in those."""
    given = config.data.train
    assert isinstance(given, ImagesConfig)
    assert config.teacher is not None  # RunConfig sees to it
    teacher = config.teacher.build()
    source = find_people(given, skeleton_of(teacher, given.keypoints), log=log)
    if not isinstance(config.data.val, HeldOutConfig):
        return OpenedPictures(train=source, val=config.data.val.build(), labelled=None)
    train, held, labelled = _divide(source, config.data.val, log)
    passed: dict[int, str] = {}
    with log.bar("asking the teacher about held-out people", len(held.people)) as bar:
        found = ask_about(
            teacher, held, device=device, progress=bar.advance, say=log.say, threads=config.train.threads,
            passed_over=passed,
        )  # fmt: skip
    answers = found.named(teacher, source.skeleton.names).keypoints
    if passed:
        log.say(f"{len(passed)} held-out pictures are passed over: {'; '.join(list(passed.values())[:_NAMED])}")
        refuse_many(passed, len(held.image_ids))
        answers = answers[[person.image_id not in passed for person in held.people]]
        held = held.only([image_id - 1 for image_id in sorted(held.image_ids) if image_id not in passed])
    val = TaughtSource(held, answers, threshold=config.data.val.threshold)
    unsure = sum(person.keypoints is None for person in val.people)
    if unsure == len(val.people):
        raise UserError(
            f"the teacher is sure of no keypoint of the {unsure} held-out people (confidence above "
            f"{config.data.val.threshold}): {_advice(given)}"
        )
    if unsure:
        log.say(f"{unsure} of {len(val.people)} held-out people are judged by nothing: the teacher is not sure of them")
    return OpenedPictures(train=train, val=val, labelled=labelled)


def find_people(given: ImagesConfig, skeleton: Skeleton, *, log: RunLog, shard: Shard = WHOLE) -> ImageSource:
    """The people of some pictures: those of a file of boxes, those that a detector finds, or whole frames.

    A `UserError` where there are none. `shard`: those of its share of the pictures alone, where there may be none.
    """
    pictures = Pictures(given.folder, frame_step=given.frame_step)
    if pictures.unreadable:
        names = [path.name for path in pictures.unreadable]
        log.say(f"{len(names)} pictures cannot be decoded and are left out: {_some(names)}")
    own = shard.of(range(len(pictures)))
    if given.detector is None:
        people = [person for person in given.people(pictures) if shard.has(person.image_id - 1)]
    else:
        detector = open_detector(given.detector, threshold=given.box_threshold)
        wants_trial = len(own) >= FEWEST_CROPS
        found: dict[int, FoundBoxes] = {}
        with log.bar(f"finding people by {given.detector.name}", len(own)) as bar:
            for position in own:
                bar.advance()
                try:
                    picture = pictures.read(position)
                except UserError as error:
                    log.say(f"passed over: {error}")
                    pictures.unreadable.append(pictures.all[position].path)
                    continue
                if wants_trial and (trial := detector.choose_threads(picture)) is not None:
                    log.say(f"threads of the detector: {trial}")
                wants_trial = False
                found[position] = detector(picture)
        people = as_people(found)
    there = {person.image_id - 1 for person in people}
    empty = [pictures.all[position].name for position in own if position not in there]
    if shard == WHOLE:
        refuse_nobody(given, pictures, people)
    if empty:
        log.say(f"nobody was found in {len(empty)} of {len(own)} pictures: {_some(empty)}")
    return ImageSource(pictures, people, skeleton, boxes=given.finder)


def refuse_nobody(given: ImagesConfig, pictures: Pictures, people: Sequence[Person]) -> None:
    """A `UserError` where there is nobody in the pictures."""
    if not people:
        raise UserError(
            f"nobody was found in the {len(pictures)} pictures ({given.finder} boxes scored above "
            f"{given.box_threshold}): lower box_threshold, correct the boxes, or leave both out where a picture shows "
            "one person"
        )


def skeleton_of(teacher: Teacher, names: Sequence[str] | None) -> Skeleton:
    """The teacher's keypoints, or those of them that `names` lists, in that order."""
    if names is None:
        return teacher.skeleton
    own = teacher.skeleton
    meant = [same_keypoint(name, own.names) for name in names]
    for name, each in zip(names, meant, strict=True):
        if each is None and name not in teacher.names:
            raise UserError(
                f"data.train.keypoints: the teacher says nothing of '{name}'{did_you_mean(name, own.names)} (its "
                f"keypoints: {', '.join(own.names)})"
            )
    place = {each: row for row, each in enumerate(meant)}
    edges = [(own.names[start], own.names[end]) for start, end in own.edges]
    known = [[place[start] + 1, place[end] + 1] for start, end in edges if start in place and end in place]
    if not own.partners_known:  # of such keypoints COCO's alone are known for what they are
        told = {"partners_known": all(read_name(name).side or same_keypoint(name, COCO_17.names) for name in names)}
    else:
        told = {} if None in meant else _told_of(own, [each for each in meant if each])
    return from_category({"name": "person", "keypoints": list(names), "skeleton": known}, told)


def _told_of(own: Skeleton, names: Sequence[str]) -> dict[str, Any]:
    """Mirror partners and spreads of some of a skeleton's keypoints, in their order.

    Without the partner of one of them nothing can be mirrored, and the names must say what there is to say.
    """
    rows = [own.names.index(name) for name in names]
    sigmas = [own.oks_sigmas[row] for row in rows]
    if any(own.swap[row] not in rows for row in rows):
        return {"partners_known": False, "sigmas": sigmas}
    partners = [rows.index(own.swap[row]) for row in rows]
    pairs = [[at, partner] for at, partner in enumerate(partners) if at < partner]
    return {"flip_pairs": pairs, "sigmas": sigmas}


def check_confidence(config: RunConfig, score: torch.Tensor, *, log: RunLog) -> None:
    """Say how many persons of pictures without labels the teacher doubts, from its confidences (N, K).

    Where these are most of them, a `UserError` says what to look at: the student would learn from guesses.
    """
    given = config.data.train
    if not isinstance(given, ImagesConfig):
        return
    doubtful = (score.mean(dim=1) < given.least_confidence).float().mean().item()
    said = (
        f"{100 * doubtful:.0f} % of the {len(score)} people to train on are doubtful: the teacher's mean confidence is "
        f"below {given.least_confidence}"
    )
    if doubtful > MOST_DOUBTFUL:
        raise UserError(
            f"{said}; {_advice(given)}. `posestill label` draws the surest and the least sure: where they look right, "
            "as people may whom the frame cuts off, lower data.train.least_confidence (--set)"
        )
    log.say(said)


def _divide(
    source: ImageSource, given: HeldOutConfig, log: RunLog
) -> tuple[ImageSource, ImageSource, ImageSource | None]:
    """What is trained on, what is held out, and the labelled people of that."""
    there = sorted({person.image_id - 1 for person in source.people})
    if given.annotations is not None:
        labelled = labelled_pictures(source, given.annotations)
        held = {image_id - 1 for image_id in labelled.image_ids}
        rest = [position for position in there if position not in held]
        if not rest:
            raise UserError(
                f"data.val.annotations: {given.annotations} has labels of every picture, and these are not trained on: "
                "give more pictures, or train on the labels (data.train: coco)"
            )
        if not held & set(there):
            raise UserError(f"nobody was found in the {len(held)} pictures with labels: correct the boxes")
        log.say(f"held out: the {len(held)} pictures that have labels in {given.annotations}")
        return source.only(rest), source.only(sorted(held)), labelled
    split = hold_out([source.pictures.all[position] for position in there], given.share)
    log.say(split.how)
    places = np.array(there)
    return source.only(places[split.train].tolist()), source.only(places[split.held_out].tolist()), None


def _advice(given: ImagesConfig) -> str:
    if given.boxes is None and given.detector is None:
        return "the whole frame was taken for one person: give boxes or a detector where people are small or several"
    return "look whether the boxes are right, and whether the teacher knows such people and such pictures"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
