"""Which persons a step sees: a pure function of (seed, step), whatever the processes, workers or resumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt, model_validator

from posestill.data.augment import AugmentConfig
from posestill.data.crops import CropsConfig
from posestill.data.images import HeldOutConfig, ImagesConfig
from posestill.data.source import PoseSource, SourceConfig
from posestill.data.topdown import Labels
from posestill.schema import Choice, Config, UserError

SHARED_BY = 8
"""so many processes at most find the persons of one picture together in their share of a batch"""


class DataConfig(Config):
    """These settings say whose crops a run sees, and how many of these persons with their labels."""

    train: Annotated[SourceConfig, Choice("sources")]
    """The source of the persons that the run trains on."""
    val: Annotated[SourceConfig, Choice("sources")] = HeldOutConfig()
    """The source of the persons that the run is evaluated on; they must have the same keypoints. Pictures without
    labels need none: a share of them is held out, where the teacher's answers stand in for labels."""
    augment: AugmentConfig = AugmentConfig()
    """What is drawn at random for each crop that is trained on."""
    people: PositiveInt | None = None
    """How many persons of the training source the run sees; a smaller number sees some of those that a larger one sees.
    None: all of them."""
    labelled: NonNegativeInt | None = None
    """How many of these persons show their labels; only losses that need no labels, such as a teacher's, reach the
    others. None: all that have labels."""
    labelled_per_batch: PositiveInt | None = None
    """How many labelled persons each batch has; it is filled up with unlabelled ones. The more there are, the more
    often each label is seen; None: batches are drawn from all alike."""
    unlabelled_people: bool = False
    """True: persons that carry no labels in the source are taken in, too, for losses that need none. False: they are
    left out, unless the source is one of pictures without labels."""
    sampler: Literal["by_person", "by_image"] = "by_person"
    """In which order persons are seen, each once an epoch. `by_person`: in a new random order, as the published recipes
    have it. `by_image`: pictures come in a new random order, and their persons within `buffer` persons of one another,
    so that a picture is decoded once for all of them; a batch then shows fewer pictures."""
    buffer: PositiveInt = 256
    """Of `by_image`: of how many persons, shuffled among one another, the next batches are made. A larger buffer parts
    the persons of one picture further, and takes more memory."""
    crops: CropsConfig | None = None
    """Where crops that were cut once are kept, from which each is augmented. None: they are cut from the images every
    time, which takes less room and more time."""
    split_seed: NonNegativeInt = 0
    """The seed by which persons and labels are chosen where not all are taken. Another seed chooses others."""

    @model_validator(mode="after")
    def _something_to_judge_by(self) -> DataConfig:
        if isinstance(self.val, HeldOutConfig) and not self.has_no_labels:
            raise ValueError(
                "val: name the source of the persons that the run is evaluated on; only of pictures without labels is "
                "a share held out"
            )
        return self

    @property
    def has_no_labels(self) -> bool:
        """True where nobody who is trained on has labels: what is learnt comes from a teacher."""
        return isinstance(self.train, ImagesConfig)


def choose_people(source: PoseSource, data: DataConfig) -> Labels:
    """The persons that a run trains on: no crowds, no empty boxes; a smaller choice is a prefix of a larger one."""
    usable = [
        position
        for position, person in enumerate(source.people)
        if not person.crowd
        and person.bbox[2] > 0
        and person.bbox[3] > 0
        and (person.keypoints is not None or data.unlabelled_people or data.has_no_labels)
    ]
    order = np.random.default_rng((data.split_seed, 1)).permutation(np.array(usable, dtype=int))
    people = len(order) if data.people is None else data.people
    if people > len(order) or people == 0:
        raise UserError(f"data.people: {people} persons wanted, the training source has {len(order)} to train on")
    persons = order[:people]
    has_labels = np.array([source.people[position].keypoints is not None for position in persons])
    labelled = int(has_labels.sum()) if data.labelled is None else data.labelled
    if labelled > has_labels.sum():
        raise UserError(f"data.labelled: {labelled} wanted, {has_labels.sum()} of the persons carry labels")
    shown = has_labels & (np.cumsum(has_labels) <= labelled)
    return Labels(persons=persons, shown=shown)


def pictures_of(source: PoseSource, labels: Labels) -> np.ndarray:
    """(N,) the image id of each person whom a run sees."""
    return np.array([source.people[position].image_id for position in labels.persons])


class BatchPlan:
    """(epoch, index) pairs for every step: each person once an epoch of its stream, in a new order each time."""

    def __init__(
        self,
        labels: Labels,
        *,
        batch_size: int,
        labelled_per_batch: int | None,
        seed: int,
        pictures: np.ndarray | None = None,
        buffer: int = 1,
    ) -> None:
        """`pictures` (N,): whose persons stay together, within `buffer` persons. None: persons come one by one."""
        everyone = np.arange(len(labels.shown)) if labels.drawn is None else np.flatnonzero(labels.drawn)
        if labelled_per_batch is None:
            self.streams = [(everyone, batch_size)]
        else:
            shown, hidden = everyone[labels.shown[everyone]], everyone[~labels.shown[everyone]]
            rest = batch_size - labelled_per_batch
            if rest < 0 or not len(shown) or (rest and not len(hidden)):
                raise UserError(
                    f"data.labelled_per_batch: {labelled_per_batch} of a batch of {batch_size} cannot be drawn "
                    f"from {len(shown)} labelled and {len(hidden)} unlabelled persons"
                )
            self.streams = [(shown, labelled_per_batch), (hidden, rest)]
        self.batch_size = batch_size
        self.seed = seed
        self.pictures = pictures
        self.steps_together = 1 if pictures is None else max(1, buffer // batch_size)
        """the steps over which the persons of a picture are spread: the first of them is a multiple of this"""
        self._order = lru_cache(maxsize=4)(self._draw_order)

    def steps_per_epoch(self) -> float:
        """How many steps show every person of the first stream once."""
        people, share = self.streams[0]
        return len(people) / share

    def batch(self, step: int, *, rank: int = 0, world: int = 1) -> list[tuple[int, int]]:
        """The (epoch, index) pairs that one process reads at a step; together the processes read the same batch."""
        pairs: list[tuple[int, int]] = []
        for stream, (people, share) in enumerate(self.streams):
            drawn = []
            for position in range(step * share, (step + 1) * share):
                epoch, place = divmod(position, len(people))
                drawn.append((epoch, int(people[self._order(stream, epoch)[place]])))
            pairs += drawn if self.pictures is None else self._shared_by_picture(drawn, start=len(pairs))
        return pairs[rank::world]

    def _draw_order(self, stream: int, epoch: int) -> np.ndarray:
        people, share = self.streams[stream]
        generator = np.random.default_rng((self.seed, 2, stream, epoch))
        if self.pictures is None:
            return generator.permutation(len(people))
        _, picture = np.unique(self.pictures[people], return_inverse=True)  # (N,) counted from 0
        grouped = np.argsort(generator.permutation(picture.max() + 1)[picture], kind="stable")
        buffer = (epoch * len(people) + np.arange(len(people))) // (self.steps_together * share)  # (N,) which one
        return grouped[np.lexsort((generator.random(len(people)), buffer))]

    def _shared_by_picture(self, pairs: list[tuple[int, int]], *, start: int) -> list[tuple[int, int]]:
        """The pairs in an order in which every `SHARED_BY`-th has whole pictures; the first is the batch's `start`-th.

        Row i of a batch belongs to process i modulo their number, so that of up to so many processes each decodes
        pictures of its own. The order is the same whatever their number.
        """
        assert self.pictures is not None
        pictures = self.pictures
        places = sorted(range(len(pairs)), key=lambda place: ((start + place) % SHARED_BY, place))
        by_picture = sorted(pairs, key=lambda pair: (pair[0], pictures[pair[1]], pair[1]))
        return [pair for _, pair in sorted(zip(places, by_picture, strict=True))]


class PlannedBatches:
    """A batch sampler over some steps of a plan, for one process: what a plain DataLoader takes."""

    def __init__(self, plan: BatchPlan, *, start: int, stop: int, rank: int, world: int) -> None:
        self.plan = plan
        self.steps = range(start, stop)
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return (self.plan.batch(step, rank=self.rank, world=self.world) for step in self.steps)


class JoinedBatches:
    """A batch sampler over the same steps, in which those that share pictures are one batch: to be cut together."""

    def __init__(self, planned: PlannedBatches) -> None:
        self.planned = planned

    def parts(self) -> Iterator[range]:
        """The steps of each batch."""
        together, steps = self.planned.plan.steps_together, self.planned.steps
        for first in range(steps.start - steps.start % together, steps.stop, together) if steps else ():
            yield range(max(first, steps.start), min(first + together, steps.stop))

    def __len__(self) -> int:
        return sum(1 for _ in self.parts())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        plan, rank, world = self.planned.plan, self.planned.rank, self.planned.world
        for part in self.parts():
            yield [pair for step in part for pair in plan.batch(step, rank=rank, world=world)]


def in_order(indices: Sequence[int], batch_size: int) -> list[list[tuple[int, int]]]:
    """Batches of (0, index) in the given order: what evaluation reads."""
    return [[(0, index) for index in indices[at : at + batch_size]] for at in range(0, len(indices), batch_size)]
