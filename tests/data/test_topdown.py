from dataclasses import replace

import numpy as np
import pytest
import torch

from posestill.data.augment import NO_AUGMENT, AugmentConfig
from posestill.data.topdown import Labels, TopDownDataset
from posestill.geometry import transform_batch
from tests.conftest import DOTS, DotSource

SIZE = (64, 48)


def test_a_crop_and_its_keypoints_agree_the_dots_are_where_the_labels_say(dots):
    dataset = TopDownDataset(dots, size=SIZE, augment=AugmentConfig(half_body=0), seed=3)
    batch = dataset.__getitems__([(epoch, index) for epoch in range(3) for index in range(len(dots.people))])
    colours = torch.tensor([(255, 80, 80), (80, 255, 80), (80, 80, 255), (255, 255, 80)])
    mirrored = batch.mirrored()
    assert 10 < int(mirrored.sum()) < 62
    seen = 0
    for row in range(len(batch)):
        for k in range(4):
            x, y = (batch.keypoints[row, k] + 0.5).floor().int().tolist()
            if batch.weight[row, k] and 1 <= x < SIZE[1] - 1 and 1 <= y < SIZE[0] - 1:
                # a mirrored crop swaps left and right: what it calls left shows the right dot's colour
                wanted = colours[DOTS.swap[k] if mirrored[row] else k]
                found = batch.image[row, :, y, x].int()
                assert (found - wanted).abs().max() < 90, (row, k)
                seen += 1
    assert seen > 150


def test_to_image_brings_the_keypoints_back_to_the_annotation(dots):
    dataset = TopDownDataset(dots, size=SIZE, augment=AugmentConfig(), seed=0)
    batch = dataset.__getitems__([(5, index) for index in range(len(dots.people))])
    back = transform_batch(batch.keypoints, batch.to_image)
    for row, person in enumerate(dots.people):
        wanted = person.keypoints[list(DOTS.swap)] if batch.mirrored()[row] else person.keypoints
        labelled = torch.from_numpy(wanted[:, 2] > 0)
        places = torch.from_numpy(wanted[:, :2]).float()
        torch.testing.assert_close(back[row][labelled], places[labelled], atol=2e-2, rtol=0)


def test_the_same_epoch_and_index_give_the_same_pixels_whatever_is_asked_beside_them(dots):
    dataset = TopDownDataset(dots, size=SIZE, augment=AugmentConfig(colour=0.3), seed=1)
    alone = dataset.__getitems__([(2, 7)])
    among = dataset.__getitems__([(2, 1), (2, 7), (0, 3)])
    assert torch.equal(alone.image[0], among.image[1])
    assert torch.equal(alone.to_image[0], among.to_image[1])
    assert not torch.equal(alone.image[0], dataset.__getitems__([(3, 7)]).image[0])


def test_hidden_labels_have_weight_zero_and_the_same_pixels():
    source = DotSource(6)
    shown, hidden = (
        TopDownDataset(source, size=SIZE, labels=Labels(np.arange(6), np.full(6, each))) for each in (True, False)
    )
    wanted = [(0, index) for index in range(6)]
    assert hidden.__getitems__(wanted).weight.sum() == 0
    assert shown.__getitems__(wanted).weight.sum() > 12
    assert torch.equal(shown.__getitems__(wanted).image, hidden.__getitems__(wanted).image)


def test_hidden_labels_do_not_steer_the_crop_either():
    source = DotSource(40)
    augment = AugmentConfig(half_body=1.0, half_body_above=2)
    blind = DotSource(40)
    blind.people = [replace(person, keypoints=None) for person in blind.people]
    blind.image = source.image
    wanted, hidden = [(0, index) for index in range(40)], Labels(np.arange(40), np.zeros(40, dtype=bool))
    given = TopDownDataset(source, size=SIZE, labels=hidden, augment=augment).__getitems__(wanted)
    without = TopDownDataset(blind, size=SIZE, labels=hidden, augment=augment).__getitems__(wanted)
    assert torch.equal(given.to_image, without.to_image)


def test_the_teacher_sees_the_same_draws_at_its_own_size(dots):
    dataset = TopDownDataset(dots, size=SIZE, augment=AugmentConfig(), seed=2, teacher_size=(128, 96))
    batch = dataset.__getitems__([(0, index) for index in range(8)])
    assert batch.teacher_image is not None
    small = torch.nn.functional.interpolate(batch.teacher_image.float(), SIZE, mode="area")
    assert (small - batch.image.float()).abs().mean() < 12
    assert TopDownDataset(dots, size=SIZE, teacher_size=SIZE).teacher_size is None


def test_a_teacher_with_a_wider_padding_sees_as_much_more_around_the_same_middle(dots):
    dataset = TopDownDataset(dots, size=SIZE, augment=AugmentConfig(), seed=2, teacher_size=SIZE, teacher_padding=2.5)
    batch = dataset.__getitems__([(0, index) for index in range(8)])
    inner = batch.teacher_image[..., 16:48, 12:36].float()
    same = torch.nn.functional.interpolate(batch.image.float(), (32, 24), mode="area")
    assert (inner - same).abs().mean() < 4
    assert (inner - same.roll(1, dims=0)).abs().mean() > 12


@pytest.mark.parametrize("part", ["flip", "half_body", "scale", "rotation", "shift", "colour"])
def test_each_augmentation_is_switched_on_alone(dots, part):
    on = NO_AUGMENT.model_copy(update={part: 1.0 if part in ("flip", "half_body") else 0.4})
    on = on.model_copy(update={"half_body_above": 2, "rotation_probability": 1.0, "shift_probability": 1.0})
    wanted = [(0, index) for index in range(8)]
    plain = TopDownDataset(dots, size=SIZE, augment=NO_AUGMENT).__getitems__(wanted)
    changed = TopDownDataset(dots, size=SIZE, augment=on).__getitems__(wanted)
    assert not torch.equal(plain.image, changed.image)
    assert bool(changed.mirrored().any()) == (part == "flip")
    assert torch.equal(plain.to_image, changed.to_image) == (part == "colour")
    none = TopDownDataset(dots, size=SIZE).__getitems__(wanted)
    assert torch.equal(plain.image, none.image)
