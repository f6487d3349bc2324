"""Batches in their order, cut by this process or by others beside it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from posestill.data.batches import JoinedBatches, PlannedBatches
from posestill.data.topdown import TopDownDataset
from posestill.types import PoseBatch


def batch_loader(dataset: TopDownDataset, batches: Any, *, workers: int) -> DataLoader[Any]:
    """A plain loader of `PoseBatch`es for lists of (epoch, index); it draws nothing from the global generator."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),
    )


def training_batches(dataset: TopDownDataset, planned: PlannedBatches, *, workers: int) -> Iterator[PoseBatch]:
    """The batch of every planned step; steps that share pictures are cut together."""
    joined = JoinedBatches(planned)
    for part, batch in zip(joined.parts(), batch_loader(dataset, joined, workers=workers), strict=True):
        share = len(batch) // len(part)
        for start in range(0, len(batch), share):
            yield batch.rows(start, start + share)


def _as_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the run itself ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)  # many processes, each with OpenCV's own threads, would stand in each other's way
