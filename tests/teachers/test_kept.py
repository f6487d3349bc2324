import numpy as np
import pytest
import torch

from posestill.codecs.base import MapForm
from posestill.data.augment import AugmentConfig
from posestill.data.topdown import TopDownDataset
from posestill.geometry import Framing
from posestill.schema import UserError
from posestill.teachers.base import CacheConfig, ModelTeacher
from posestill.teachers.kept import KeptBins, KeptFeatures, KeptKeypoints, KeptMaps, kept_by, room_for_cells
from posestill.teachers.upright import UprightCrops
from posestill.types import Coords, Heatmaps, PoseBatch, PoseOutput, SimCC
from tests.conftest import DotSource, small_model
from tests.teachers.painter import Painter

SIZE = (32, 24)
STUDENT = Framing(SIZE)


def crops(*, augment=None, seed=4, count=20, **more):
    dataset = TopDownDataset(DotSource(20), size=SIZE, augment=augment, seed=seed, **more)
    return dataset.__getitems__([(0, index) for index in range(count)])


def through_the_store(kept, answer, batch):
    """The rows as they are read back: in the types that they are written in."""
    rows = kept.take(answer, batch)
    assert {name: tuple(each.shape[1:]) for name, each in rows.items()} == {
        name: field.shape for name, field in kept.fields.items()
    }
    written = {name: rows[name].numpy().astype(field.dtype) for name, field in kept.fields.items()}
    return {name: torch.from_numpy(each.astype(np.int64) if each.dtype.kind == "u" else each)
            for name, each in written.items()}  # fmt: skip


def upright_crops(teacher):
    boxes = np.stack([person.bbox for person in DotSource(20).people])
    return UprightCrops(boxes, teacher=teacher.framing, student=STUDENT)


def one_crop(to_image):
    return PoseBatch(
        image=torch.zeros(1, 3, *SIZE, dtype=torch.uint8), keypoints=torch.zeros(1, 4, 2), weight=torch.zeros(1, 4),
        to_image=torch.tensor([to_image]), index=torch.zeros(1, dtype=torch.long),
    )  # fmt: skip


def test_a_keypoint_goes_to_the_image_and_back_into_another_crop_by_hand():
    """At (6, 8) of a crop whose px are 2 image px from (10, 20) on: at (22, 36) of the image.

    A crop turned by a right angle: its x runs down the image from 30 and its y to the left from 40, px for px.
    """
    kept = KeptKeypoints(Painter(DotSource(2), gives="keypoints"), STUDENT)
    said = torch.tensor([[[6.0, 8.0], [0, 0], [1, 1], [2, 2]]]) / torch.tensor([24.0, 32.0])
    taken = kept.take(PoseOutput(Coords(xy=said, score=torch.tensor([[0.9, 0.8, 0.7, 0.6]]))),
                      one_crop([[2.0, 0, 10], [0, 2, 20]]))  # fmt: skip
    torch.testing.assert_close(taken["xy"][0, 0], torch.tensor([22.0, 36.0]))
    turned = one_crop([[0.0, -1, 40], [1, 0, 30]])
    place = kept.codec.decode(kept.give(taken, turned, None).prediction)
    torch.testing.assert_close(place.xy[0, 0], torch.tensor([36.0 - 30, 40 - 22]))
    torch.testing.assert_close(place.score, torch.tensor([[0.9, 0.8, 0.7, 0.6]]))


def test_a_mirrored_crop_exchanges_left_and_right_of_the_keypoints_by_hand():
    kept = KeptKeypoints(Painter(DotSource(2), gives="keypoints"), STUDENT)
    rows = {"xy": torch.tensor([[[1.0, 1], [20, 5], [4, 6], [9, 9]]]), "score": torch.tensor([[0.9, 0.8, 0.7, 0.6]])}
    mirrored = one_crop([[-1.0, 0, 23], [0, 1, 0]])
    place = kept.codec.decode(kept.give(rows, mirrored, None).prediction)
    torch.testing.assert_close(place.xy[0], torch.tensor([[22.0, 1], [19, 6], [3, 5], [14, 9]]))
    torch.testing.assert_close(place.score, torch.tensor([[0.9, 0.7, 0.8, 0.6]]))
    again = kept.take(PoseOutput(kept.give(rows, mirrored, None).prediction), mirrored)
    torch.testing.assert_close(again["xy"], rows["xy"])


@pytest.mark.parametrize("gives", ["maps", "bins", "keypoints"])
@pytest.mark.parametrize("size", [(32, 24), (64, 48), (64, 64)])
def test_kept_keypoints_are_where_every_augmented_crop_shows_them(gives, size):
    teacher = Painter(DotSource(20), gives=gives, size=size)
    shown, seen = crops(augment=AugmentConfig(half_body=0)), crops()
    assert shown.mirrored().any()
    assert not shown.mirrored().all()
    for kept in (KeptKeypoints(teacher, STUDENT), KeptKeypoints(teacher, STUDENT, framing=teacher.framing)):
        rows = through_the_store(kept, PoseOutput(teacher.drawn(seen)), seen)
        place = kept.codec.decode(kept.give(rows, shown, None).prediction)
        wanted = Painter(DotSource(20), size=kept.framing.size).places(shown)
        tolerance = {"maps": 0.65, "bins": 0.6, "keypoints": 1e-3}[gives] * kept.framing.size[0] / 32
        off = (place.xy - wanted).norm(dim=-1)
        assert off.median() < tolerance
        height, width = kept.framing.size
        edge = 2.5 * height / 16  # of two cells and a half, in which a decoder does not look between the cells
        inner = ((wanted > edge) & (wanted < torch.tensor([width - 1 - edge, height - 1 - edge]))).all(dim=-1)
        assert inner.sum() > 20
        assert off[inner].max() < 3 * tolerance + 1e-2


def test_of_a_map_the_highest_cells_are_kept_in_half_precision():
    teacher = Painter(DotSource(20))
    kept = KeptMaps(teacher, STUDENT)
    assert kept.count == room_for_cells(teacher.codec.form) == 44  # 1.5 pi 2 ln 100 sigma^2, with sigma 1
    seen = crops()
    maps = teacher.drawn(seen).maps
    rows = through_the_store(kept, PoseOutput(Heatmaps(maps)), seen)
    found = kept.give(rows, seen, None).prediction.maps
    torch.testing.assert_close(found, torch.where(maps > 0.01, maps, 0.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(kept.score(rows), maps.amax(dim=(-1, -2)), atol=1e-3, rtol=0)
    assert room_for_cells(MapForm(input_size=SIZE, size=(4, 3), px_per_cell=(8.0, 8.0), sigma=2.0)) == 12  # all it has


def test_a_map_of_several_peaks_keeps_the_highest_and_never_more_than_it_has_room_for():
    kept = KeptMaps(Painter(DotSource(20)), STUDENT)
    maps = torch.rand(1, 4, 16, 12, generator=torch.Generator().manual_seed(0))
    rows = through_the_store(kept, PoseOutput(Heatmaps(maps)), one_crop([[1.0, 0, 0], [0, 1, 0]]))
    found = kept.give(rows, one_crop([[1.0, 0, 0], [0, 1, 0]]), None).prediction.maps
    assert ((found > 0).sum(dim=(-1, -2)) == 44).all()
    assert found[found > 0].min() > maps[found == 0].min()
    assert torch.equal(found.amax(dim=(-1, -2)), maps.half().float().amax(dim=(-1, -2)))


@pytest.mark.parametrize("size", [(32, 24), (64, 48), (64, 64)])
def test_kept_maps_are_drawn_where_every_augmented_crop_shows_the_keypoints(size):
    """The decoded places against the dots, in map px; a crop that shows another part of the person tells nothing."""
    teacher = Painter(DotSource(20), size=size)
    kept, seen, shown = KeptMaps(teacher, STUDENT), crops(), crops(augment=AugmentConfig(half_body=0))
    if size != SIZE:
        seen = crops(teacher_size=size)
    rows = through_the_store(kept, PoseOutput(teacher.drawn(seen)), seen)
    found = kept.codec.decode(kept.give(rows, shown, upright_crops(teacher)).prediction)
    step = kept.form.px_per_cell[0]
    wanted = teacher.places(shown)
    limit = torch.tensor([size[1], size[0]]) - 1 - 2 * step
    there = ((wanted > 2 * step) & (wanted < limit)).all(dim=-1) & (found.score > 0.3)
    assert there.sum() > 40
    apart = (found.xy - wanted).norm(dim=-1)[there] / step
    assert apart.median() < 0.25
    assert apart.quantile(0.95) < 0.8
    mirrored = shown.mirrored()[:, None] & there
    assert ((found.xy - wanted).norm(dim=-1)[mirrored] / step).median() < 0.25


def test_kept_bins_are_read_as_they_were():
    teacher = Painter(DotSource(20), gives="bins")
    kept, seen = KeptBins(teacher, STUDENT), crops(augment=AugmentConfig())
    said = teacher.drawn(seen)
    raised = SimCC(x=said.x + 300, y=said.y)  # where half precision tells no quarter from the next
    rows = through_the_store(kept, PoseOutput(raised), seen)
    found = kept.give(rows, seen, None).prediction
    for one, other in ((found.x, said.x), (found.y, said.y)):
        torch.testing.assert_close(one.softmax(-1), other.softmax(-1), atol=1e-4, rtol=1e-2)
    wanted = teacher.codec.decode(said)
    torch.testing.assert_close(kept.codec.decode(found).xy, wanted.xy)
    both = {name: each.unflatten(0, (10, 2)) for name, each in rows.items()}
    torch.testing.assert_close(kept.score(both).flatten(0, 1), wanted.score, atol=1e-3, rtol=1e-2)


def test_kept_features_follow_the_crop_and_come_with_keypoints():
    """Features that are the shrunk picture itself: those of an augmented crop are what its own picture gives."""
    teacher = Painter(DotSource(20), size=(64, 48))
    kept = KeptFeatures(teacher, STUDENT)
    assert kept.feature_shapes == ((2, 16, 12),)
    seen = crops(teacher_size=(64, 48))
    mild = AugmentConfig(half_body=0, scale=0.1, rotation=15, shift=0.02)
    shown = crops(augment=mild, teacher_size=(64, 48))
    kept.know(kept.learn(teacher, lambda: seen))
    assert kept.form.first_cell == 1.5  # each cell is the mean of the four px under it
    rows = through_the_store(kept, PoseOutput(teacher.drawn(seen), teacher.features(seen)), seen)
    answer = kept.give(rows, shown, upright_crops(teacher))
    wanted = teacher.features(shown)[-1]
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    spread = (wanted - wanted.roll(1, dims=0))[inner].abs().mean()
    assert (answer.features[0] - wanted)[inner].abs().mean() < spread / 4
    unmirrored = kept.give(rows, shown, None).features[0]
    mirrored = shown.mirrored()
    assert (unmirrored - wanted)[mirrored][inner].abs().mean() > spread / 2
    place = kept.codec.decode(answer.prediction)
    assert (place.xy - teacher.places(shown)).norm(dim=-1).median() < 1.2
    alone = kept.give({"feature": rows["feature"]}, shown, None)
    assert alone.prediction is None


def test_features_beyond_half_precision_are_refused():
    teacher = Painter(DotSource(20))
    kept, seen = KeptFeatures(teacher, STUDENT), crops()
    for height in (7e4, float("nan")):
        with pytest.raises(UserError, match=r"the teacher's features reach (7e\+04|nan), more than half precision"):
            kept.take(PoseOutput(teacher.drawn(seen), (torch.full((20, 2, 8, 6), height),)), seen)


def test_a_teacher_without_a_prediction_keeps_features_alone():
    teacher = Painter(DotSource(20))
    teacher.provides = frozenset({"features"})
    kept = KeptFeatures(teacher, STUDENT)
    assert kept.provides == {"features"}
    assert set(kept.fields) == {"feature"}


@pytest.mark.parametrize(
    ("gives", "keep", "message"),
    [
        ("bins", "maps", "this teacher gives SimCC and no maps: set keep=bins"),
        ("keypoints", "maps", "this teacher gives Coords and no maps: set keep=keypoints"),
        ("maps", "bins", "this teacher gives Heatmaps and no bins: set keep=maps"),
        ("keypoints", "bins", "this teacher gives Coords and no bins: set keep=keypoints"),
    ],
)
def test_what_a_teacher_does_not_give_cannot_be_kept(gives, keep, message):
    with pytest.raises(UserError, match=message):
        kept_by(CacheConfig(keep=keep, views=1), Painter(DotSource(2), gives=gives), STUDENT)


def test_a_teacher_without_features_is_told_of_inner_tensors():
    teacher = Painter(DotSource(2))
    teacher.provides = frozenset({"prediction"})
    with pytest.raises(UserError, match="provides prediction and no features: .*an inner tensor of its file"):
        kept_by(CacheConfig(keep="features"), teacher, STUDENT)


@pytest.mark.parametrize("keep", ["keypoints", "maps", "features"])
def test_what_is_kept_says_what_it_provides(keep):
    teacher = ModelTeacher(small_model())
    kept = kept_by(CacheConfig(keep=keep), teacher, Framing((64, 48)))
    assert kept.provides == ({"prediction", "features"} if keep == "features" else {"prediction"})
    assert kept.feature_shapes == (teacher.feature_shapes[-1:] if keep == "features" else ())
    assert kept.framing.size == ((64, 48) if keep == "keypoints" else (32, 24))
    assert kept.codec.prediction_type is (Heatmaps if keep == "maps" else Coords)
    assert sum(field.nbytes for field in kept.fields.values()) == {
        "keypoints": 4 * 12, "maps": 4 * 44 * 4, "features": 2 * 16 * 8 * 6 + 4 * 12,
    }[keep]  # fmt: skip
