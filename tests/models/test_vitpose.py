import pytest
import torch

from posestill.codecs.heatmap import HeatmapConfig
from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.models.vitpose import VitPoseConfig, VitPoseHeadConfig
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17
from tests.conftest import small_model
from tests.saved import TINY_VITPOSE


def student(**changes):
    return small_model(**{**TINY_VITPOSE, **changes})


def test_a_vitpose_gives_one_map_at_stride_16_and_heatmaps_four_times_finer():
    model = student()
    output = model(torch.rand(2, 3, 64, 48))
    assert [tuple(each.shape) for each in output.features] == [(2, 32, 4, 3)]
    assert output.prediction.maps.shape == (2, 4, 16, 12)


def test_vitpose_s_and_b_have_the_published_numbers_of_parameters():
    # By hand for S: a layer has four linear layers of attention, two of its perceptron and two norms.
    layer = 4 * (384 * 384 + 384) + (384 * 1536 + 1536) + (1536 * 384 + 384) + 4 * 384
    by_hand = 12 * layer + (768 * 384 + 384) + 193 * 384 + 2 * 384
    with torch.device("meta"):
        small, base = (VitPoseConfig(width=width).build((256, 192)) for width in (384, 768))
        head = VitPoseHeadConfig().build((768, 16, 12), 17, HeatmapConfig().build((256, 192)))
    assert sum(each.numel() for each in small.parameters()) == by_hand
    # ViTPose-B is published with 86 M (table 1 of the paper, the head not counted) and 90 M with the classic head.
    assert round(sum(each.numel() for each in base.parameters()) / 1e6) == 86
    assert sum(each.numel() for each in head.parameters()) == 17 * (768 * 9 + 1)


def test_only_the_expert_that_is_used_is_trained():
    model = student(backbone={**TINY_VITPOSE["backbone"], "experts": 3, "expert_width": 8, "dataset_index": 1}).train()
    model(torch.rand(2, 3, 64, 48)).prediction.maps.square().sum().backward()
    idle = {name for name, each in model.named_parameters() if not each.requires_grad}
    assert idle == {f"backbone.layers.{layer}.experts.{expert}.{kind}"
                    for layer in (0, 1) for expert in (0, 2) for kind in ("weight", "bias")}  # fmt: skip
    assert not [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]


def test_a_training_step_lowers_the_loss():
    model = student().train()
    draw = torch.Generator().manual_seed(0)
    image, target = torch.rand(4, 3, 64, 48, generator=draw), torch.rand(4, 4, 16, 12, generator=draw)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)

    def loss():
        return model.codec.loss(model(image).prediction, target, torch.ones(4, 4))

    before = loss()
    before.backward()
    optimiser.step()
    assert loss() < before


def test_numbers_that_do_not_fit_are_refused_by_name():
    for changes, said in [
        ({"attention_heads": 5}, r"5 heads cannot share a width of 32"),
        ({"dataset_index": 1}, r"dataset_index: 1, and the experts are 0 to 0"),
        ({"experts": 2, "expert_width": 32}, r"expert_width: 32 of a width of 32 leaves nothing"),
    ]:
        with pytest.raises(UserError, match=said):
            student(backbone={**TINY_VITPOSE["backbone"], **changes})
    with pytest.raises(UserError, match=r"\(60, 48\) is not a multiple of the stride 16 of vitpose"):
        student(size=[60, 48])


def test_a_saved_vitpose_loads_and_predicts_the_same(tmp_path):
    model = PoseModel(validate(ModelConfig, TINY_VITPOSE, where="test"), COCO_17).eval()
    model.save(tmp_path)
    image = torch.rand(1, 3, 64, 48)
    torch.testing.assert_close(PoseModel.load(tmp_path).predict(image).xy, model.predict(image).xy, rtol=0, atol=0)
