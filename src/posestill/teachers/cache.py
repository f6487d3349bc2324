"""A teacher that was asked once: its keypoints of every person, replayed under whatever affine a crop was cut with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from posestill.codecs.coords import CoordsConfig
from posestill.data.batches import in_order
from posestill.data.topdown import TopDownDataset
from posestill.geometry import invert_batch, transform_batch
from posestill.teachers.base import Teacher
from posestill.teachers.bridge import to_student
from posestill.types import Coords, PoseBatch, PoseOutput, Size, mean_prediction


class CachedTeacher(Teacher):
    """Keypoints per person in image px. What the teacher said of the upright crop holds for every augmented one."""

    provides = frozenset({"prediction"})

    def __init__(self, teacher: Teacher, *, size: Size) -> None:
        """For inputs of `size`. It knows nothing before `ask`: a method that needs more is refused without the wait."""
        self.skeleton = teacher.skeleton
        self.input_size = size
        self.codec = CoordsConfig().build(size)
        self.lineage = teacher.lineage
        self.swap = torch.tensor(teacher.skeleton.swap)
        self.xy = torch.empty(0, len(teacher.skeleton), 2)
        """(N, K, 2) image px"""
        self.score = torch.empty(0, len(teacher.skeleton))
        """(N, K)"""
        self.was_asked = False

    def ask(
        self,
        teacher: Teacher,
        dataset: TopDownDataset,
        persons: Sequence[int] | None = None,
        *,
        batch_size: int = 64,
        device: torch.device | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> CachedTeacher:
        """Ask about persons of an upright (unaugmented) dataset by their index, None: about all; returns itself."""
        device = device or torch.device("cpu")
        teacher.to(device)
        xy, score = (known.new_zeros(len(dataset), *known.shape[1:]) for known in (self.xy, self.score))
        for wanted in in_order(range(len(dataset)) if persons is None else persons, batch_size):
            batch = dataset.__getitems__(wanted).to(device)
            taught = teacher.codec.decode(_flip_tested(teacher, batch, self.swap.to(device)))
            inside = to_student(taught.xy, teacher=teacher.framing, student=self.framing, mirrored=batch.mirrored())
            rows = batch.index.cpu()
            xy[rows], score[rows] = transform_batch(inside, batch.to_image).cpu().to(xy), taught.score.cpu().to(score)
            if progress is not None:
                progress(len(wanted))
        self.xy, self.score, self.was_asked = xy, score, True
        return self

    @torch.no_grad()
    def __call__(self, batch: PoseBatch) -> PoseOutput:
        """The keypoints at their place in each crop, as coordinates; no features."""
        device, mirrored = batch.to_image.device, batch.mirrored()
        xy, score = self.xy[batch.index.cpu()].to(device), self.score[batch.index.cpu()].to(device)
        xy = torch.where(mirrored[:, None, None], xy[:, self.swap], xy)
        score = torch.where(mirrored[:, None], score[:, self.swap], score)
        inside = transform_batch(xy, invert_batch(batch.to_image))  # (B, K, 2) input px
        fraction = inside / inside.new_tensor([self.input_size[1], self.input_size[0]])
        return PoseOutput(prediction=Coords(xy=fraction, score=score), features=())


def _flip_tested(teacher: Teacher, batch: PoseBatch, swap: torch.Tensor):  # type: ignore[no-untyped-def]
    mirrored = PoseBatch(
        image=batch.image.flip(-1),
        keypoints=batch.keypoints,
        weight=batch.weight,
        to_image=batch.to_image,
        index=batch.index,
        teacher_image=None if batch.teacher_image is None else batch.teacher_image.flip(-1),
    )
    there_and_back = teacher.codec.flip(teacher(mirrored).prediction, swap)
    upright = teacher(batch).prediction
    assert upright is not None
    return mean_prediction(upright, there_and_back)
