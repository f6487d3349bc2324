from dataclasses import replace

import numpy as np
import pytest
import torch

from posestill.data.augment import AugmentConfig, change_colour, draw_colours, uniform_draws
from posestill.data.crops import CropsConfig, CropsInMemory, change_colours, sample
from posestill.data.topdown import Labels, TopDownDataset, View
from posestill.engine.fit import fit
from posestill.engine.setup import Sources
from posestill.schema import UserError
from tests.conftest import DotSource, small_run

SIZE = (64, 48)
AUGMENT = AugmentConfig(colour=0.3, half_body=0)


def both(source, *, augment=AUGMENT, density=1.25, **more):
    common = {"size": SIZE, "augment": augment, "seed": 3, **more}
    return TopDownDataset(source, **common), CropsInMemory(source, config=CropsConfig(density=density), **common)


def pairs(count, epochs=2):
    return [(epoch, index) for epoch in range(epochs) for index in range(count)]


def test_everything_but_the_pixels_is_what_the_path_from_files_gives(dots):
    files, memory = (each.__getitems__(pairs(len(dots.people))) for each in both(dots))
    assert memory.image.dtype == files.image.dtype == torch.uint8
    for name in ("keypoints", "weight", "to_image", "index"):
        assert torch.equal(getattr(files, name), getattr(memory, name)), name


def test_an_image_no_finer_than_needed_gives_the_same_pixels_as_warping_it(dots):
    files, memory = (each.__getitems__(pairs(len(dots.people))) for each in both(dots, density=5.0))
    apart = (files.image.float() - memory.image.float()).abs()
    assert apart.mean() < 0.5  # OpenCV rounds fractions of a px to 1/32, from two different corners
    assert apart.quantile(0.999) < 12


def test_a_shrunk_kept_crop_gives_nearly_the_same_picture(dots):
    files, memory = (each.__getitems__(pairs(len(dots.people))) for each in both(dots))
    blurred = [torch.nn.functional.avg_pool2d(each, 4) for each in (files.image.float(), memory.image.float())]
    apart = (blurred[0] - blurred[1]).abs()
    assert apart.mean() < 3
    unrelated = (blurred[0] - blurred[1].roll(1, dims=0)).abs().mean()
    assert apart.mean() < unrelated / 8


def test_the_widest_augmentation_stays_inside_the_kept_crop():
    """A white image: black may only show where the path from files shows it too."""
    source = DotSource(12)
    source.image = lambda image_id: np.full((600, 600, 3), 255, dtype=np.uint8)
    source.people = [replace(person, bbox=person.bbox + [200.0, 200, 0, 0]) for person in source.people]
    wide = AugmentConfig(rotation=180, rotation_probability=1, shift_probability=1, half_body=0)
    for teacher_size, padding in ((None, 1.25), ((64, 64), 1.25), ((96, 32), 1.25), ((64, 48), 1.9)):
        files, memory = both(source, augment=wide, teacher_size=teacher_size, teacher_padding=padding)
        one, other = files.__getitems__(pairs(12, epochs=8)), memory.__getitems__(pairs(12, epochs=8))
        assert one.image.min() == 255
        assert other.image.min() == 255
        if teacher_size is not None:
            assert other.teacher_image.shape == one.teacher_image.shape
            assert other.teacher_image.min() == 255


def test_sampling_by_hand():
    kept = torch.tensor([[[[0.0, 10, 20], [30, 40, 50]]]])  # (1, 1, 2, 3)
    right_by_half = torch.tensor([[[1.0, 0, 0.5], [0, 1.0, 0]]], dtype=torch.float64)
    torch.testing.assert_close(sample(kept, right_by_half, (2, 3)), torch.tensor([[[[5.0, 15, 10], [35, 45, 25]]]]))
    mirrored = torch.tensor([[[-1.0, 0, 2], [0, 1.0, 0]]], dtype=torch.float64)
    torch.testing.assert_close(sample(kept, mirrored, (2, 3)), torch.tensor([[[[20.0, 10, 0], [50, 40, 30]]]]))


def test_a_gpu_samples_what_a_cpu_warps(dots):
    _, memory = both(dots)
    index = np.arange(12)
    affine = np.tile([[[1.3, 0.2, 3.5], [-0.2, 1.3, 8.25]]], (12, 1, 1))
    for colours in (None, draw_colours(uniform_draws(0, index, index), 0.4)):
        (warped,), (sampled,) = (cut(index, [View(affine, SIZE)], colours) for cut in (memory._warp, memory._sample))
        apart = (warped.float() - 255 * sampled).abs()
        assert apart.mean() < 0.7  # OpenCV rounds fractions of a px to 1/32 and colours to whole ones
        assert apart.quantile(0.999) < 14


def test_colours_change_as_on_the_path_from_files():
    images = np.random.default_rng(0).integers(0, 255, (4, 8, 6, 3), dtype=np.uint8)
    colours = draw_colours(uniform_draws(0, np.arange(4), np.arange(4)), 0.4)
    wanted = [change_colour(*each) for each in zip(images, colours.matrix, colours.pull, strict=True)]
    given = change_colours(torch.from_numpy(images).permute(0, 3, 1, 2).float(), colours)
    assert (
        np.abs(255 * given.permute(0, 2, 3, 1).numpy() - np.stack(wanted)).max() <= 0.75
    )  # OpenCV multiplies uint8 in fixed point


def test_a_folder_is_filled_once_and_shared(tmp_path, dots):
    class Counting(DotSource):
        calls = 0

        def image(self, image_id):
            Counting.calls += 1
            return super().image(image_id)

    def opened(count=12, **more):
        return CropsInMemory(
            Counting(count), size=SIZE, augment=AUGMENT, config=CropsConfig(folder=tmp_path, **more)
        ).__getitems__([(0, 3)])

    first, told = opened(), Counting.calls
    again = opened()
    assert torch.equal(first.image, again.image)
    assert Counting.calls - told == 8  # the persons by which a file is recognised
    assert len(list(tmp_path.iterdir())) == 1
    opened(density=0.8)
    opened(count=11)
    assert len(list(tmp_path.iterdir())) == 3


def test_hidden_labels_change_neither_pixels_nor_folder(tmp_path, dots):
    count = len(dots.people)
    made = [
        CropsInMemory(
            dots,
            size=SIZE,
            labels=Labels(np.arange(count), np.full(count, shown)),
            augment=AUGMENT,
            config=CropsConfig(folder=tmp_path),
        ).__getitems__(pairs(count))
        for shown in (True, False)
    ]
    assert torch.equal(made[0].image, made[1].image)
    assert made[1].weight.sum() == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_trains_from_crops_in_memory_and_refuses_loader_processes(tmp_path):
    config = small_run()
    config = config.model_copy(update={"data": config.data.model_copy(update={"crops": CropsConfig()})})
    sources = Sources(train=DotSource(8), val=DotSource(8))
    assert fit(config, tmp_path / "memory", sources=sources, quiet=True).evaluation.metrics["mean_oks"] > 0
    parallel = config.model_copy(update={"train": config.train.model_copy(update={"workers": 2})})
    with pytest.raises(UserError, match=r"train\.workers=0"):
        fit(parallel, tmp_path / "refused", sources=sources, quiet=True)
