import dataclasses
import math

import pytest
import torch

from posestill.methods.distilpose import (
    DistilPoseConfig,
    SimulatedHeatmapConfig,
    Weights,
    confidence_loss,
    losses,
    simulated_heatmap_loss,
    taught_weight,
)
from posestill.methods.supervised import SupervisedConfig
from posestill.schema import UserError
from posestill.skeletons import Skeleton
from posestill.teachers.base import ModelTeacher
from posestill.types import Coords, Heatmaps, PoseOutput, Tokens
from tests.conftest import DOTS, small_model
from tests.published import COORDS, fill, plain_distilpose
from tests.test_contracts import TOKENS, batch

PLAIN = plain_distilpose()
F64 = torch.float64


def coords(xy, *, scale=None, score=None):
    return Coords(xy=torch.tensor(xy, dtype=F64), scale=None if scale is None else torch.tensor(scale, dtype=F64),
                  score=None if score is None else torch.tensor(score, dtype=F64))  # fmt: skip


def drawn_by_hand(x, y, sigma_x, sigma_y, width, height):
    return torch.tensor(
        [
            [math.exp(-((u - x) ** 2 / sigma_x**2 + (v - y) ** 2 / sigma_y**2) / 2) for u in range(width)]
            for v in range(height)
        ],
        dtype=F64,
    )


def test_every_loss_by_hand_on_one_keypoint():
    """A 4x3 map: the student at (0.5, 0.25) with spreads of 1 and 2 cells, its label at (0.25, 0.75)."""
    maps = torch.arange(12, dtype=F64).view(1, 1, 3, 4) / 12
    prediction = coords([[[0.5, 0.25]]], scale=[[[1 / 4, 2 / 3]]], score=[[0.3]])
    student = PoseOutput(
        prediction, (), Tokens(visual=torch.zeros(1, 2, 2, dtype=F64), keypoint=torch.ones(1, 1, 2, dtype=F64))
    )
    teacher = PoseOutput(
        Heatmaps(maps),
        (),
        Tokens(visual=torch.full((1, 2, 2), 3.0).double(), keypoint=torch.full((1, 1, 2), 2.0).double()),
    )
    found = losses(student, teacher, torch.tensor([[[0.25, 0.75]]], dtype=F64), torch.ones(1, 1, dtype=F64))
    assert found["regression"].item() == pytest.approx((0.25**2 / 2 + 0.5**2 / 2) / 2, rel=1e-12)
    assert found["visual_tokens"].item() == pytest.approx(5e-4 * 9, rel=1e-12)
    assert found["keypoint_tokens"].item() == pytest.approx(5e-4 * 1, rel=1e-12)
    picture = drawn_by_hand(2.0, 0.75, 1, 2, 4, 3)
    assert found["simulated_heatmap"].item() == pytest.approx((picture - maps[0, 0]).square().mean().item(), rel=1e-7)
    # The cell: column round(0.5 * 3) = 2 (half to even), row round(0.25 * 2) = 0 (half to even).
    assert found["confidence"].item() == pytest.approx(1e-2 * abs(0.3 - 2 / 12), rel=1e-12)
    assert list(found) == ["regression", "visual_tokens", "keypoint_tokens", "simulated_heatmap", "confidence"]


def outputs(count=5, seed=0):
    """A student and a teacher of the published layout with filled weights, on the same images, in float64."""
    student, teacher = PLAIN.PlainDistilPose().double(), PLAIN.PlainDistilPose(maps=True).double()
    fill(student, 1)
    fill(teacher, 2)
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(count, 3, 256, 192, generator=draw, dtype=F64)
    xy = torch.rand(count, 17, 2, generator=draw, dtype=F64)
    weight = (torch.rand(count, 17, generator=draw) > 0.4).to(F64)
    return student.eval()(image), teacher.eval()(image), xy, weight


def as_ours(student, teacher):
    cells = torch.tensor([48.0, 64.0], dtype=F64)
    prediction = Coords(xy=student["xy"], scale=student["sigma"] / cells, score=student["score"][..., 0])
    return (
        PoseOutput(prediction, (), Tokens(student["vis_token"], student["kpt_token"])),
        PoseOutput(Heatmaps(teacher["maps"]), (), Tokens(teacher["vis_token"], teacher["kpt_token"])),
    )


def test_published_weighting_gives_the_looped_losses_of_the_release_and_their_gradients():
    student, teacher, xy, weight = outputs()
    teacher = {name: value.detach() for name, value in teacher.items()}
    wanted = PLAIN.plain_losses(student, teacher, xy, weight)
    found = losses(*as_ours(student, teacher), xy, weight, weighting="published")
    leaves = [student["xy"], student["sigma"], student["score"], student["vis_token"], student["kpt_token"]]
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=0)
        slopes = [
            torch.autograd.grad(side[name], leaves, retain_graph=True, allow_unused=True) for side in (found, wanted)
        ]
        for one, other in zip(*slopes, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)


def test_per_sample_weighting_masks_each_person_by_itself():
    draw = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 2, 6, 5, generator=draw, dtype=F64)
    prediction = Coords(xy=torch.rand(3, 2, 2, generator=draw, dtype=F64), scale=torch.full((3, 2, 2), 0.2, dtype=F64))
    weight = torch.tensor([[1, 0], [0, 0], [1, 1]], dtype=F64)
    cells = torch.tensor([5.0, 6.0], dtype=F64)
    by_hand = [
        (drawn_by_hand(*(prediction.xy[n, k] * cells).tolist(), 1.0, 1.2, 5, 6) - maps[n, k]).square().mean()
        for n, k in [(0, 0), (2, 0), (2, 1)]
    ]
    found = simulated_heatmap_loss(prediction, maps, weight, "per_sample")
    assert found.item() == pytest.approx(sum(by_hand).item() / 6, rel=1e-7)
    changed = maps.clone()
    changed[1] += 1  # nobody labelled there
    assert simulated_heatmap_loss(prediction, changed, weight, "per_sample") == found
    published = simulated_heatmap_loss(prediction, maps, weight, "published")
    assert simulated_heatmap_loss(prediction, changed, weight, "published") > published


def test_the_confidence_is_looked_up_without_a_gradient_to_the_place():
    maps = torch.zeros(1, 1, 64, 48, dtype=F64)
    maps[0, 0, 63, 47] = 0.7
    prediction = coords([[[1.0, 1.0]]], score=[[0.0]])
    prediction.xy.requires_grad_()
    prediction.score.requires_grad_()
    found = confidence_loss(prediction, maps, torch.ones(1, 1, dtype=F64))
    assert found.item() == pytest.approx(0.7)
    place, score = torch.autograd.grad(found, [prediction.xy, prediction.score], allow_unused=True)
    assert place is None
    assert score.item() == -1


def test_a_person_without_labels_is_taught_where_the_teacher_is_sure():
    maps = torch.zeros(2, 3, 4, 4)
    maps[:, 0, 1, 1], maps[:, 1, 2, 2] = 0.9, 0.1
    weight = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert taught_weight(weight, maps, 0.3).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("weighting", ["per_sample", "published"])
def test_the_memory_of_the_simulated_heatmap_grows_with_the_batch_and_not_with_its_square(weighting):
    def largest(count):
        """Bytes of all tensors that autograd keeps for the backward pass."""
        kept = []
        xy = torch.rand(count, 17, 2).requires_grad_()
        prediction = Coords(xy=xy, scale=torch.full_like(xy, 0.04))
        with torch.autograd.graph.saved_tensors_hooks(
            lambda each: kept.append(each.numel()) or each, lambda each: each
        ):
            simulated_heatmap_loss(prediction, torch.rand(count, 17, 64, 48), torch.ones(count, 17), weighting)
        return sum(kept)

    sizes = {count: largest(count) for count in (16, 64, 256)}
    assert sizes[64] == pytest.approx(4 * sizes[16], rel=0.05)
    assert sizes[256] == pytest.approx(4 * sizes[64], rel=0.05)
    assert sizes[16] < 5 * 16 * 17 * 64 * 48


def distilled(**changes):
    teacher = ModelTeacher(small_model("heatmap", seed=3, **TOKENS))
    student = small_model(codec=COORDS, **{**TOKENS, **changes.pop("student", {})})
    return DistilPoseConfig(**changes).build(student, teacher)


def test_the_distiller_gives_what_the_pure_function_gives():
    distiller, crops = distilled(), batch()
    found = distiller(crops, 0.5)
    student, teacher = distiller.student(crops.image), distiller.teacher(crops)
    target, weight = distiller.student.codec.encode(crops.keypoints, crops.weight)
    wanted = losses(student, teacher, target, weight)
    assert list(found) == list(wanted)
    for name in found:
        torch.testing.assert_close(found[name], wanted[name])


def test_a_weight_of_zero_leaves_a_term_out():
    found = distilled(weights=Weights(simulated_heatmap=0, visual_tokens=0))(batch(), 0.5)
    assert found["simulated_heatmap"] == found["visual_tokens"] == 0
    assert found["keypoint_tokens"] > 0


def test_what_cannot_be_distilled_says_why():
    with pytest.raises(UserError, match=r"teaches tokens, and this student has none"):
        distilled(student={"head": "flat_fc"})
    with pytest.raises(UserError, match=r"student has 8 visual tokens of 16 channels and the teacher 4 of 16"):
        distilled(student={"head": {**TOKENS["head"], "patch": [2, 3]}})
    with pytest.raises(UserError, match=r"needs the teacher's tokens"):
        DistilPoseConfig().build(small_model(codec=COORDS, **TOKENS), ModelTeacher(small_model("heatmap")))
    with pytest.raises(UserError, match=r"model.codec.score is true and method.weights.confidence is 0"):
        distilled(weights=Weights(confidence=0))
    others = DOTS.model_copy(update={"names": ("a", "left_side", "right_side", "bottom")})
    teacher = ModelTeacher(small_model("heatmap", **TOKENS))
    with pytest.raises(UserError, match=r"must have the same keypoints"):
        DistilPoseConfig().build(small_model(codec=COORDS, skeleton=others, **TOKENS), teacher)


def test_a_score_that_nothing_trains_is_refused():
    """The release's issue 2: an untrained score ranked persons by noise, and AP fell to 0.02."""
    with pytest.raises(UserError, match=r"model.codec.score: Supervised does not train a confidence"):
        SupervisedConfig().build(small_model("coords", codec=COORDS), None)


WIDE = Skeleton(
    names=("bottom", "extra", "top", "left_side", "right_side"), swap=(0, 1, 2, 4, 3), oks_sigmas=(0.1,) * 5
)


def taught_batch():
    return dataclasses.replace(batch(), teacher_image=torch.rand(8, 3, 64, 48))


def finer_teacher(**changes):
    """Twice the student's input size, other keypoints in another order, maps of 32x24."""
    return ModelTeacher(small_model("heatmap", skeleton=WIDE, size=[64, 48], **changes))


@pytest.mark.parametrize("codec", ["coords", "rle", {"name": "coords", "scale": True}])
def test_any_coordinate_student_learns_from_any_heatmap_teacher(codec):
    distiller = SimulatedHeatmapConfig().build(small_model("coords", codec=codec), finer_teacher())
    crops = taught_batch()
    answer = distiller.teacher(crops)
    maps, known = distiller.bridge.maps(answer.prediction)
    assert torch.equal(maps, answer.prediction.maps[:, [2, 3, 4, 0]])
    assert known.tolist() == [1, 1, 1, 1]
    found = distiller(crops, 0.0)
    found["simulated_heatmap"].backward()
    assert found["confidence"] == 0
    assert distiller.student.head.coordinates.weight.grad.abs().sum() > 0


def test_a_keypoint_that_the_teacher_lacks_teaches_nothing():
    few = DOTS.model_copy(update={"names": ("top", "left_side", "right_side", "toe")})
    distiller = SimulatedHeatmapConfig().build(small_model("coords", skeleton=few), finer_teacher())
    assert distiller.bridge.maps(distiller.teacher(taught_batch()).prediction)[1].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("grid", "cell"),
    # Input px 24 of 48 is cell 24 / 2 on the stride grid, and 24 * 23 / 47 where first and last pixels coincide.
    [("stride", (12.0, 16.0)), ("udp", (24 * 23 / 47, 32 * 31 / 63))],
)
def test_the_middle_of_the_students_crop_is_drawn_in_the_middle_of_the_teachers(grid, cell):
    teacher = finer_teacher(codec={"name": "heatmap", "stride": 2, "sigma": 1.0, "grid": grid})
    distiller = SimulatedHeatmapConfig().build(small_model("coords", codec={"name": "coords", "scale": True}), teacher)
    crops = taught_batch()
    middle = Coords(xy=torch.full((8, 4, 2), 0.5), scale=torch.full((8, 4, 2), 0.125))
    drawn = distiller.bridge.on_teacher_map(middle, crops)
    upright, cells = ~crops.mirrored(), torch.tensor([24.0, 32.0])
    assert upright.any()
    torch.testing.assert_close((drawn.xy * cells)[upright], torch.tensor(cell).expand(int(upright.sum()), 4, 2))
    # An eighth of the student's 24 px are 3 of its px, 6 of the teacher's and 3 cells.
    wanted = torch.tensor([3.0, 4.0]) * torch.tensor(cell) / torch.tensor([12.0, 16.0])
    torch.testing.assert_close(drawn.scale * cells, wanted.expand(8, 4, 2))


def test_without_a_spread_of_its_own_a_student_draws_with_the_teachers_sigma():
    distiller = SimulatedHeatmapConfig().build(small_model("coords"), ModelTeacher(small_model("heatmap")))
    drawn = distiller.bridge.on_teacher_map(Coords(xy=torch.rand(8, 4, 2)), batch())
    torch.testing.assert_close(drawn.scale * torch.tensor([12.0, 16.0]), torch.full((8, 4, 2), 1.0))


def test_a_teacher_without_heatmaps_is_refused():
    with pytest.raises(UserError, match=r"its heatmaps are needed, and this one gives Coords"):
        SimulatedHeatmapConfig().build(small_model("coords"), ModelTeacher(small_model("coords")))
    with pytest.raises(UserError, match=r"are drawn from coordinates, and this student gives Heatmaps"):
        SimulatedHeatmapConfig().build(small_model("heatmap"), ModelTeacher(small_model("heatmap")))
