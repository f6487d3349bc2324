from dataclasses import replace

import numpy as np
import pytest
import torch

from posestill.data.augment import AugmentConfig
from posestill.data.batches import BatchPlan, PlannedBatches, pictures_of
from posestill.data.loading import training_batches
from posestill.data.topdown import Labels, TopDownDataset
from tests.conftest import DotSource

SIZE = (64, 48)


class CrowdedSource(DotSource):
    """Three persons a picture, which counts how often it is read."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.read = 0
        self.people = [replace(person, image_id=number // 3 + 1) for number, person in enumerate(self.people)]

    def image(self, image_id: int) -> np.ndarray:
        self.read += 1
        return np.random.default_rng(image_id).integers(0, 256, (*self.size, 3), dtype=np.uint8)


def opened(source, *, together: bool, start=0, stop=10, workers=0):
    labels = Labels(np.arange(len(source.people)), np.ones(len(source.people), dtype=bool))
    dataset = TopDownDataset(source, size=SIZE, labels=labels, augment=AugmentConfig(), seed=1)
    pictures = pictures_of(source, labels) if together else None
    plan = BatchPlan(labels, batch_size=6, labelled_per_batch=None, seed=0, pictures=pictures, buffer=18)
    planned = PlannedBatches(plan, start=start, stop=stop, rank=0, world=1)
    return list(planned), list(training_batches(dataset, planned, workers=workers))


@pytest.mark.parametrize("together", [True, False])
def test_every_planned_step_gets_its_own_batch(together):
    wanted, batches = opened(CrowdedSource(36), together=together)
    assert len(batches) == 10
    for pairs, batch in zip(wanted, batches, strict=True):
        assert batch.index.tolist() == [index for _, index in pairs]
        assert batch.image.shape == (6, 3, *SIZE)


def test_a_crop_is_the_same_however_persons_are_ordered_and_wherever_a_run_begins():
    source = CrowdedSource(36)
    dataset = TopDownDataset(source, size=SIZE, augment=AugmentConfig(), seed=1)
    wanted, batches = opened(source, together=True)
    alone = dataset.__getitems__(wanted[5])
    assert torch.equal(batches[5].image, alone.image)
    assert torch.equal(batches[5].to_image, alone.to_image)
    _, resumed = opened(source, together=True, start=5)
    assert all(torch.equal(one.image, other.image) for one, other in zip(batches[5:], resumed, strict=True))


def test_a_picture_is_read_once_for_all_its_persons_in_a_buffer():
    together, apart = CrowdedSource(36), CrowdedSource(36)
    opened(together, together=True, stop=9)
    opened(apart, together=False, stop=9)
    assert together.read == 18  # nine steps of six persons, three of whom share a picture
    assert apart.read > 40


@pytest.mark.slow
def test_processes_beside_it_cut_the_same_batches():
    source = CrowdedSource(36)
    _, alone = opened(source, together=True)
    _, helped = opened(source, together=True, workers=2)
    assert all(torch.equal(one.image, other.image) for one, other in zip(alone, helped, strict=True))
