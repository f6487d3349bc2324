from dataclasses import replace

import numpy as np
import pytest
import torch

from posestill.data.augment import AugmentConfig, draw_crops, reach_of, uniform_draws
from posestill.data.crop_pack import PackedCrops, pack_crops
from posestill.data.crops import CropsConfig
from posestill.data.topdown import Labels, TopDownDataset
from posestill.engine.fit import fit
from posestill.engine.setup import Sources
from posestill.files import Outputs
from posestill.geometry import Framing, affine_to_input, crop_of_bbox, invert_affine, transform_points
from posestill.schema import UserError
from tests.conftest import DOTS, DotSource, small_run

SIZE = (64, 48)
AUGMENT = AugmentConfig(colour=0.3, half_body_above=2)


def opened(source, **more) -> TopDownDataset:
    return TopDownDataset(source, **{"size": SIZE, "augment": AUGMENT, "seed": 3, **more})


def packed(source, folder, *, quality=98, density=5.0, **more) -> PackedCrops:
    plain, file = opened(source, **more), folder / "crops"
    pack_crops(plain, file, density=density, quality=quality, outputs=Outputs("data pack"))
    return PackedCrops(plain, file, density=density)


def pairs(count, epochs=3):
    return [(epoch, index) for epoch in range(epochs) for index in range(count)]


def test_draws_and_keypoints_are_those_of_the_path_from_files_and_pixels_differ_by_jpeg(tmp_path, dots):
    files, crops = opened(dots), packed(dots, tmp_path)
    one, other = (each.__getitems__(pairs(len(dots.people))) for each in (files, crops))
    for name in ("keypoints", "weight", "to_image", "index"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert other.image.dtype == torch.uint8
    apart = (one.image.float() - other.image.float()).abs()
    assert apart.mean() < 2
    assert apart.mean() < (one.image.float() - other.image.float().roll(1, dims=0)).abs().mean() / 10


def test_the_widest_draws_of_student_and_teacher_lie_inside_the_packed_crop(tmp_path):
    """A white image: black may only show where the path from files shows it too."""
    source = DotSource(12)
    source.image = lambda image_id: np.full((600, 600, 3), 255, dtype=np.uint8)
    source.people = [
        replace(person, bbox=person.bbox + [200.0, 200, 0, 0], keypoints=person.keypoints + [200, 200, 0])
        for person in source.people
    ]
    wide = AugmentConfig(rotation=180, rotation_probability=1, shift_probability=1, half_body=0.5, half_body_above=2)
    crops = packed(source, tmp_path, augment=wide, teacher_size=(96, 96), teacher_padding=1.9)
    batch = crops.__getitems__(pairs(12, epochs=8))
    assert batch.image.min() > 250
    assert batch.teacher_image.min() > 250


@pytest.mark.parametrize("augment", [None, AUGMENT, AugmentConfig(rotation=0, draws="clipped")])
def test_no_draw_shows_more_than_the_reach(dots, augment):
    labels = np.stack([person.keypoints for person in dots.people])
    crop = crop_of_bbox(np.stack([person.bbox for person in dots.people]), SIZE)
    reach = reach_of(crop, labels, size=SIZE, augment=augment, skeleton=DOTS, shown=Framing(SIZE))
    corners = np.array([[0.0, 0], [SIZE[1] - 1, 0], [0, SIZE[0] - 1], [SIZE[1] - 1, SIZE[0] - 1]])
    nearest = np.inf
    for epoch in range(60):
        drawn = crop
        if augment is not None:
            draws = uniform_draws(0, np.full(len(labels), epoch), np.arange(len(labels)))
            drawn = draw_crops(crop, labels, draws, size=SIZE, augment=augment, skeleton=DOTS)
        seen = transform_points(corners, invert_affine(affine_to_input(drawn, SIZE)))  # (N, 4, 2) image px
        room = np.minimum(seen - reach.low[:, None], reach.high[:, None] - seen)
        assert room.min() >= -1e-6
        nearest = min(nearest, room.min())
    assert nearest < 20  # and it is not far more than what is shown


def test_most_draws_are_warped_from_a_near_crop_with_the_pixels_of_the_wide_one(tmp_path):
    source = DotSource(12)
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(40, 200, (60, 60, 1)), np.ones((10, 10, 3))).astype(np.uint8)  # grey: JPEG is exact
    source.image = lambda image_id: scene
    source.people = [
        replace(person, bbox=person.bbox + [200.0, 200, 0, 0], keypoints=person.keypoints + [200, 200, 0])
        for person in source.people
    ]
    crops = packed(source, tmp_path, quality=100, augment=AugmentConfig())
    asked, kept_crop = [], crops.kept_crop
    crops.kept_crop = lambda row, which: asked.append(which) or kept_crop(row, which)
    both = crops.__getitems__(pairs(12, epochs=10))
    assert 0.6 < 1 - np.mean(asked) < 0.95  # of which 0 is the near one
    crops.index.near[:] = [np.inf, np.inf, -np.inf, -np.inf]
    wide = crops.__getitems__(pairs(12, epochs=10))
    assert asked[120:] == [1] * 120
    assert (both.image.float() - wide.image.float()).abs().mean() < 0.5


def test_a_larger_person_is_kept_at_the_density_and_shown_nearly_as_from_files(tmp_path, dots):
    crops = packed(dots, tmp_path, density=0.75)
    one = opened(dots).__getitems__(pairs(len(dots.people)))
    other = crops.__getitems__(pairs(len(dots.people)))
    blurred = [torch.nn.functional.avg_pool2d(each.image.float(), 8) for each in (one, other)]
    assert (blurred[0] - blurred[1]).abs().mean() < 3


def test_a_file_serves_runs_that_see_some_of_its_persons_in_any_order(tmp_path, dots):
    packed(dots, tmp_path)
    chosen = Labels(np.array([7, 2, 5]), np.array([True, False, True]))
    some = PackedCrops(opened(dots, labels=chosen), tmp_path / "crops", density=5.0)
    every = PackedCrops(opened(dots), tmp_path / "crops", density=5.0)
    upright = [PackedCrops(opened(dots, labels=each, seed=0), tmp_path / "crops", density=5.0) for each in
               (chosen, Labels(np.array([7]), np.array([True])))]  # fmt: skip
    assert torch.equal(*(each.__getitems__([(0, 0)]).image for each in upright))
    assert some.rows.tolist() == [7, 2, 5]
    files, kept = (each.__getitems__(pairs(3)) for each in (opened(dots, labels=chosen), some))
    assert (files.image.float() - kept.image.float()).abs().mean() < 2  # the JPEGs' error
    assert len(every) == len(dots.people)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"size": (96, 72)}, "another run: .*model.size was 64x48, and here it is 96x72"),
     ({"augment": AugmentConfig(rotation=10, half_body_above=2)},
      "data.augment.rotation was 80.0, and here it is 10.0"),
     ({"augment": None}, "data.augment"),
     ({"teacher_size": (128, 96)}, "what the teacher is shown was the student's crops, and here it is 128x96")],
)  # fmt: skip
def test_a_file_that_was_cut_for_another_run_is_refused_with_what_to_do(tmp_path, dots, changes, words):
    packed(dots, tmp_path)
    with pytest.raises(UserError, match=f"{words}.*posestill data pack RECIPE --crops --out FILE"):
        PackedCrops(opened(dots, **changes), tmp_path / "crops", density=5.0)


def test_colour_and_probabilities_need_no_other_file(tmp_path, dots):
    packed(dots, tmp_path)
    other = AUGMENT.model_copy(update={"colour": 0.0, "flip": 0.0, "rotation_probability": 0.1})
    assert len(PackedCrops(opened(dots, augment=other), tmp_path / "crops", density=5.0)) == len(dots.people)


def test_a_file_of_other_annotations_or_density_is_refused(tmp_path, dots):
    packed(dots, tmp_path)
    moved = DotSource(len(dots.people))
    moved.people = [replace(dots.people[0], bbox=dots.people[0].bbox + 1.0), *moved.people[1:]]
    with pytest.raises(UserError, match="other annotations: its persons, boxes or keypoints"):
        PackedCrops(opened(moved), tmp_path / "crops", density=5.0)
    with pytest.raises(UserError, match=r"data.crops.density was 5.0, and here it is 1.25"):
        PackedCrops(opened(dots), tmp_path / "crops", density=1.25)


def test_a_person_whom_the_file_lacks_is_named_before_training(tmp_path, dots):
    few = Labels(np.arange(3), np.ones(3, dtype=bool))
    pack_crops(opened(dots, labels=few), tmp_path / "crops", density=5.0, quality=90, outputs=Outputs("data pack"))
    with pytest.raises(UserError, match=f"lacks {len(dots.people) - 3} of the {len(dots.people)} persons"):
        PackedCrops(opened(dots), tmp_path / "crops", density=5.0)


def test_a_cut_off_or_foreign_file_is_refused(tmp_path, dots):
    packed(dots, tmp_path)
    whole = (tmp_path / "crops").read_bytes()
    for content in (b"", whole[:10], whole[: len(whole) // 2], whole[:-1], b"x" * 100):
        (tmp_path / "crops").write_bytes(content)
        with pytest.raises(UserError, match="not a whole file of packed crops"):
            PackedCrops(opened(dots), tmp_path / "crops", density=5.0)
    with pytest.raises(UserError, match="data.crops.file .* does not exist"):
        PackedCrops(opened(dots), tmp_path / "none", density=5.0)


def test_a_picture_that_cannot_be_read_is_passed_over_as_from_files(tmp_path):
    class Holed(DotSource):
        def image(self, image_id):
            if image_id == 4:
                raise UserError("image 4 is empty: fetch it again")
            return super().image(image_id)

    crops = packed(Holed(8), tmp_path, passes_over=True)
    assert crops.unreadable == {3: "image 4 is empty: fetch it again"}
    wanted = [(0, index) for index in range(8)]
    from_files = opened(Holed(8), passes_over=True).__getitems__(wanted)
    assert crops.__getitems__(wanted).index.tolist() == from_files.index.tolist() == [0, 1, 2, 4, 4, 5, 6, 7]


def test_a_run_trains_from_packed_crops(tmp_path):
    config = small_run()
    source = DotSource(8)
    dataset = TopDownDataset(source, size=config.model.size, augment=config.data.augment)
    pack_crops(dataset, tmp_path / "crops", density=1.25, quality=90, outputs=Outputs("data pack"))
    crops = CropsConfig(file=tmp_path / "crops")
    config = config.model_copy(update={"data": config.data.model_copy(update={"crops": crops})})
    sources = Sources(train=source, val=DotSource(8))
    source.image = lambda _: pytest.fail("a picture was read again")
    assert fit(config, tmp_path / "run", sources=sources, quiet=True).evaluation.metrics["mean_oks"] > 0


def test_crops_lie_in_a_folder_or_in_a_file(tmp_path):
    with pytest.raises(ValueError, match="folder and file both say where crops are kept"):
        CropsConfig(folder=tmp_path, file=tmp_path / "crops")
