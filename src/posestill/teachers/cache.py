"""A teacher that was asked once: what it said of every person, brought back for whatever crop a training shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posestill.cluster.shards import Shard
from posestill.data.augment import AugmentConfig
from posestill.data.source import PoseSource
from posestill.data.topdown import FixedViews, Labels, TopDownDataset
from posestill.geometry import Framing
from posestill.schema import UserError
from posestill.teachers.answers import SURE, Answers
from posestill.teachers.base import CacheConfig, Teacher
from posestill.teachers.kept import Field, KeptKeypoints, kept_by
from posestill.teachers.made_for import describe, table_of
from posestill.teachers.shared_store import StoreOfShard, put_together
from posestill.teachers.store import Say, Store, StoreInFolder, StoreOfSome
from posestill.teachers.threads import asking
from posestill.teachers.upright import UprightCrops, mirrored_crops
from posestill.types import Need, Person, PoseBatch, PoseOutput, Prediction, Size, mean_prediction

CROPS_TO_LEARN_FROM = 16
"""of upright crops: what must be known of a teacher beside its answers shows in a few"""
Bar = Callable[[int, int], AbstractContextManager[Any]]
"""A progress bar for so many persons, of whom so many are done; its `advance` is told of each further lot."""


class CachedTeacher(Teacher):
    """Answers from what is kept of another teacher's answers. It looks at no picture."""

    def __init__(self, teacher: Teacher, *, size: Size, config: CacheConfig | None = None) -> None:
        """For students with inputs of `size`.

        It knows nothing before `ask`, but says what it will provide: a method that needs more is refused without the
        wait. A `UserError` where the teacher does not give what shall be kept.
        """
        self.config = config or CacheConfig()
        self.student = Framing(size)
        self.kept = kept_by(self.config, teacher, self.student)
        self.fields = dict(self.kept.fields)
        """what is stored: what is kept of each answer and, where some are left out, how well two answers agree"""
        self.places: KeptKeypoints | None = None
        if self.config.leave_out:
            if "prediction" not in teacher.provides:
                raise UserError(
                    "teacher.cache.leave_out: this teacher gives no keypoints whose places upright and mirrored could "
                    "be compared: set leave_out=0"
                )
            if not teacher.skeleton.partners_known:
                raise UserError(
                    "teacher.cache.leave_out: nothing tells which of the teacher's keypoints are mirror partners, so "
                    "that its answers upright and mirrored cannot be compared: set leave_out=0"
                )
            self.places = KeptKeypoints(teacher, self.student)
            self.fields["agreement"] = Field((), np.dtype(np.float32))
        self.provides, self.codec = self.kept.provides, self.kept.codec
        self.input_size, self.padding = self.kept.framing.size, self.kept.framing.padding
        self.feature_shapes = self.kept.feature_shapes
        self.token_shape = teacher.token_shape if "tokens" in self.provides else None
        self.lender = teacher if self.kept.lends_head and "head" in self.provides else None
        """whose head it lends; None: it holds no network"""
        self.skeleton, self.names, self.lineage = teacher.skeleton, teacher.names, teacher.lineage
        self.remarks = teacher.remarks
        self.fixed_views = FixedViews(self.config.views, self.config.seed) if self.config.views else None
        """the crops that it is asked about and that a training must show; None: it is asked about upright ones"""
        self.store: Store | None = None
        self.upright: UprightCrops | None = None

    @property
    def was_asked(self) -> bool:
        """True where it can answer."""
        return self.store is not None

    @property
    def score(self) -> Tensor:
        """(N, K) how sure the teacher was of each person's keypoints, on the mean of the crops it was asked about."""
        assert self.store is not None
        crops = np.arange(self.store.crops)
        found = [
            self.kept.score(self._rows(np.array(persons)[:, None], crops, tuple(self.kept.fields))).mean(dim=1)
            for persons in self.store.chunks
        ]
        return torch.cat(found)

    @property
    def agreement(self) -> np.ndarray:
        """(N,) how well its answers upright and mirrored agree on each person, 0..1, where some are left out."""
        assert self.store is not None
        return self.store.rows(np.arange(self.store.persons), np.zeros(1, dtype=int), ("agreement",))["agreement"]

    def check(self, needs: frozenset[Need]) -> None:
        """Fail where a method needs what is not kept."""
        if lacking := needs - self.provides:
            remedy = (
                "set keep=features"
                if lacking == {"features"}
                else "keep all, with views (teacher.cache=false asks live)"
            )
            raise UserError(
                f"teacher.cache.keep: the method needs the teacher's {' and '.join(sorted(lacking))}, and of its "
                f"answers only the {self.config.keep} are kept: {remedy}"
            )

    def crops_to_ask_about(
        self, teacher: Teacher, source: PoseSource, labels: Labels, augment: AugmentConfig
    ) -> TopDownDataset:
        """The crops of these persons that the teacher is shown: upright, or the fixed ones."""
        return TopDownDataset(
            source,
            size=self.student.size,
            labels=labels,
            augment=augment if self.fixed_views else None,
            teacher_size=teacher.input_size,
            teacher_padding=teacher.padding,
            fixed_views=self.fixed_views,
            passes_over=True,
        )

    def ask(
        self,
        teacher: Teacher,
        dataset: TopDownDataset,
        wanted: Sequence[tuple[int, int]] | None = None,
        *,
        device: torch.device | None = None,
        say: Say | None = None,
        bar: Bar | None = None,
        threads: int | None = None,
    ) -> CachedTeacher:
        """Ask about every person of `crops_to_ask_about`, or find the answers in their folder; returns itself.

        `wanted` (epoch, index) pairs: if the answers are not in the folder, ask about these crops alone and keep that
        in memory. `say` is told in a sentence of whatever a user should know. `threads` run the teacher; None: the
        number that is found to be the fastest.
        """
        assert dataset.fixed_views == self.fixed_views
        device, say = device or torch.device("cpu"), say or (lambda text: None)
        store = self._store_for(teacher, dataset)
        learnt = store.found()
        if learnt is not None:
            say(f"{self.config.folder} has the teacher's answers about all {len(dataset)} persons: it is not asked")
        elif wanted is not None:
            learnt = self._learn(teacher.to(device), dataset, device)
            store = self._ask_about_some(teacher, dataset, wanted, device)
        else:
            with store.turn(lambda: self._learn(teacher.to(device), dataset, device), say) as learnt:
                self._ask_missing(store, teacher, dataset, device, say=say, bar=bar, threads=threads)
        if learnt:
            self.kept.know(learnt)
        if self.fixed_views is None:
            boxes = np.stack([dataset.person(index).bbox for index in range(len(dataset))])
            self.upright = UprightCrops(boxes, teacher=teacher.framing, student=self.student)
        self.store = store
        return self

    def ask_share(
        self,
        teacher: Teacher,
        dataset: TopDownDataset,
        shard: Shard,
        *,
        device: torch.device | None = None,
        say: Say | None = None,
        bar: Bar | None = None,
        threads: int | None = None,
    ) -> list[int]:
        """Ask about a shard's share of the persons; returns the numbers of the shards that have not finished theirs.

        The answers lie in a folder of their own below that of the settings. Once those of all shards are there, whoever
        comes last puts them together, and every later run finds them as if one process had asked about everybody.
        """
        device, say = device or torch.device("cpu"), say or (lambda text: None)
        whole = self._store_for(teacher, dataset)
        assert isinstance(whole, StoreInFolder)  # what is kept in memory can be shared with nobody
        if whole.found() is not None:
            say(f"{whole.folder} has the teacher's answers about all {len(dataset)} persons: it is not asked")
            return []

        def learn() -> dict[str, Any]:
            return self._learn(teacher.to(device), dataset, device)

        own = StoreOfShard(whole, shard)
        if own.chunks and own.found() is None:
            with own.turn(learn, say):
                self._ask_missing(own, teacher, dataset, device, say=say, bar=bar, threads=threads)
        return put_together(whole, shard, learn, say)

    @torch.no_grad()
    def __call__(self, batch: PoseBatch) -> PoseOutput:
        """What is kept of the answers, for the crops of a batch."""
        return self._answer(batch, tuple(self.kept.fields))

    @torch.no_grad()
    def features(self, batch: PoseBatch) -> tuple[Tensor, ...]:
        """(B, C, h, w) the last feature map alone, where it is kept."""
        return self._answer(batch, ("feature",)).features

    def head(self, features: tuple[Tensor, ...]) -> Prediction:
        """The teacher's head on somebody's features, where it is lent."""
        return super().head(features) if self.lender is None else self.lender.head(features)

    def to(self, device: torch.device) -> Teacher:
        """Itself; what it is asked decides where its answers go, and the head that it lends is moved."""
        if self.lender is not None:
            self.lender.to(device)
        return self

    def _answer(self, batch: PoseBatch, names: Sequence[str]) -> PoseOutput:
        person = batch.index.cpu().numpy()
        if self.fixed_views is None:
            crop = np.zeros_like(person)
        else:
            assert batch.view is not None  # the training shows the crops that the teacher was asked about
            crop = batch.view.cpu().numpy()
        device = batch.to_image.device
        rows = {name: each.to(device) for name, each in self._rows(person, crop, names).items()}
        return self.kept.give(rows, batch, self.upright)

    def _rows(self, person: np.ndarray, crop: np.ndarray, names: Sequence[str]) -> dict[str, Tensor]:
        """Of each named field the rows of persons and crops, whose numbers are broadcast against each other."""
        assert self.store is not None
        found = self.store.rows(person, crop, names)
        # Of numbers without a sign torch has few operations.
        signed = {name: each.astype(np.int64) if each.dtype.kind == "u" else each for name, each in found.items()}
        return {name: torch.from_numpy(np.asarray(each)) for name, each in signed.items()}

    def _store_for(self, teacher: Teacher, dataset: TopDownDataset) -> Store:
        """Where the answers about a dataset are kept, or will be."""
        fields, crops = self.fields, self.config.views or 1
        if self.config.folder is None:
            return Store(fields, persons=len(dataset), crops=crops)
        return StoreInFolder(
            self.config.folder, fields, table=table_of(dataset), crops=crops,
            described=describe(self.config, teacher, dataset), is_readable=dataset.is_readable,
        )  # fmt: skip

    def _ask_missing(
        self, store: Store, teacher: Teacher, dataset: TopDownDataset, device: torch.device, *, say: Say,
        bar: Bar | None, threads: int | None,
    ) -> None:  # fmt: skip
        """Ask about the chunks that are missing, one after another."""
        missing = store.missing
        left = sum(len(store.chunks[number]) for number in missing)
        if not left:
            return
        with (
            asking(teacher.to(device), left * (self.config.views or 2), device=device, say=say, threads=threads),
            nullcontext() if bar is None else bar(store.persons, store.persons - left) as shown,
        ):
            for number in missing:
                persons = store.persons_of(number)
                crops = [
                    self._ask(teacher, dataset, [(crop, index) for index in persons], device)
                    for crop in range(store.crops)
                ]
                rows = {name: np.stack([each[name] for each in crops], axis=1) for name in store.fields}
                passed_over = [index for index in persons if index in dataset.unreadable]
                for name, each in rows.items():  # of whoever stood in
                    each[[index - persons.start for index in passed_over]] = np.nan if name == "agreement" else 0
                store.add(number, rows, passed_over=passed_over)
                if shown is not None:
                    shown.advance(len(persons))

    def _ask_about_some(
        self, teacher: Teacher, dataset: TopDownDataset, wanted: Sequence[tuple[int, int]], device: torch.device
    ) -> Store:
        """The answers about some (epoch, index) pairs."""
        answers = self._ask(teacher, dataset, wanted, device)
        pairs = [(dataset.replaced(index), epoch % (self.config.views or 1)) for epoch, index in wanted]
        return StoreOfSome(pairs, answers)

    @torch.no_grad()
    def _ask(
        self, teacher: Teacher, dataset: TopDownDataset, wanted: Sequence[tuple[int, int]], device: torch.device
    ) -> dict[str, np.ndarray]:
        """What is kept of the teacher's answer about one batch: one array a field, with a row for each crop."""
        batch = dataset.__getitems__(wanted).to(device)
        answer, rows = teacher(batch), {}
        if self.fixed_views is None and answer.prediction is not None and self.skeleton.partners_known:
            mirrored = _of_the_mirrored(teacher, batch)
            upright, answer = answer, replace(answer, prediction=mean_prediction(answer.prediction, mirrored))
            if self.places is not None:
                people = [dataset.person(index) for index in batch.index.tolist()]
                told, one, other = (
                    self.places.take(each, batch) for each in (answer, upright, PoseOutput(prediction=mirrored))
                )
                rows["agreement"] = self._agreement(people, told, one["xy"] - other["xy"])
        rows |= self.kept.take(answer, batch)
        return {name: rows[name].cpu().numpy().astype(field.dtype) for name, field in self.fields.items()}

    def _agreement(self, people: Sequence[Person], told: Mapping[str, Tensor], between: Tensor) -> Tensor:
        """(B,) how well two answers agree whose mean is `told`: xy (B, K, 2) and score (B, K).

        `between` (B, K, 2) leads from the one to the other, image px.
        """
        answers = Answers(
            keypoints=torch.cat([told["xy"], told["score"][..., None]], dim=-1).cpu().double().numpy(),
            apart=between.norm(dim=-1).cpu().double().numpy(),
        )
        return torch.from_numpy(answers.agreement(people, skeleton=self.skeleton, threshold=SURE))

    @torch.no_grad()
    def _learn(self, teacher: Teacher, dataset: TopDownDataset, device: torch.device) -> dict[str, Any]:
        """What must be known of the teacher beside its answers; nothing, where these are about the very crops."""
        if self.fixed_views is not None:
            return {}
        pairs = [(0, index) for index in range(min(CROPS_TO_LEARN_FROM, len(dataset)))]
        return self.kept.learn(teacher, lambda: dataset.__getitems__(pairs).to(device))


def _of_the_mirrored(teacher: Teacher, batch: PoseBatch) -> Prediction:
    """What the teacher says of the mirrored crops, turned back."""
    other = teacher(mirrored_crops(batch)).prediction
    assert other is not None
    return teacher.codec.flip(other, torch.tensor(teacher.skeleton.swap, device=batch.index.device))
