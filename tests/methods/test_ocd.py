import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from posestill.data.topdown import TopDownDataset
from posestill.methods.ocd import OcdConfig
from posestill.methods.supervised import SupervisedConfig
from posestill.schema import UserError
from posestill.types import Heatmaps
from tests.conftest import DotSource, small_model


def batch(count=6):
    return TopDownDataset(DotSource(count), size=(32, 24)).__getitems__([(0, index) for index in range(count)])


def student(codec):
    head = "simcc" if codec == "simcc" else "flat_fc"
    return small_model("coords", codec=codec, head=head)


def macs_of(model):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, 32, 24))
    return counter.get_total_flops()


CODECS = ["coords", "rle", "simcc"]


def sure(ocd):
    """A helper that is sure of itself."""
    torch.nn.init.normal_(ocd.helper.head.maps.weight, std=1.0)
    torch.nn.init.constant_(ocd.helper.head.maps.bias, 0.7)
    return ocd


@pytest.mark.parametrize("codec", CODECS)
def test_each_loss_reaches_what_it_should_and_nothing_else(codec):
    ocd = sure(OcdConfig(stride=2, width=8).build(student(codec), None))
    parts = {"backbone": ocd.student.backbone, "student": ocd.student.head, "helper": ocd.helper}
    reached = {}
    for name, loss in ocd(batch(), 0.5).items():
        ocd.zero_grad()
        loss.backward(retain_graph=True)
        reached[name] = {
            part: any(each.grad is not None and each.grad.abs().sum() > 0 for each in module.parameters())
            for part, module in parts.items()
        }
    assert reached == {
        "task": {"backbone": True, "student": True, "helper": False},
        "heatmap": {"backbone": True, "student": False, "helper": True},
        "head": {"backbone": True, "student": True, "helper": False},
    }


@pytest.mark.parametrize("codec", CODECS)
def test_a_helper_that_knows_nothing_teaches_nothing(codec):
    ocd = OcdConfig(stride=2, width=8).build(student(codec), None)
    losses = ocd(batch(), 0.0)
    assert losses["head"] == 0
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("codec", CODECS)
def test_without_its_two_losses_it_is_the_student_alone_step_for_step(codec):
    states = []
    for config in (OcdConfig(stride=2, width=8, heatmap_weight=0, head_weight=0), SupervisedConfig()):
        distiller = config.build(student(codec), None)
        optimiser = torch.optim.SGD(distiller.parameters(), lr=1e-3)
        for _ in range(3):
            distiller.train()
            optimiser.zero_grad()
            sum(distiller(batch(), 0.5).values()).backward()
            optimiser.step()
        states.append(distiller.deployable().state_dict())
    for name, value in states[0].items():
        assert torch.isfinite(value).all()
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=0)


def test_the_head_loss_is_the_confidence_weighted_distance_to_the_helpers_places():
    ocd = sure(OcdConfig(stride=2, width=8, head_weight=3.0).build(student("coords"), None)).eval()
    given = batch()
    output = ocd.student(given.image)
    places = ocd.helper.codec.decode(Heatmaps(ocd.helper(output.features).maps))
    confidence = places.score.clamp(0, 1) * (places.score > 0.2)
    error = (output.prediction.xy - places.xy / torch.tensor([24.0, 32.0])).abs().mean(dim=-1)
    assert confidence.max() > 0.2
    torch.testing.assert_close(ocd(given, 0.5)["head"], 3 * (confidence * error).mean())


def test_the_features_can_be_left_to_the_heatmap_loss():
    config = OcdConfig(stride=2, width=8, task_reaches_backbone=False)
    ocd = sure(config.build(student("coords"), None))
    backbone = list(ocd.student.backbone.parameters())
    losses = ocd(batch(), 0.5)
    (losses["task"] + losses["head"]).backward(retain_graph=True)
    assert any(each.grad.abs().sum() > 0 for each in ocd.student.head.parameters())
    assert all(each.grad is None for each in backbone)
    losses["heatmap"].backward()
    assert any(each.grad.abs().sum() > 0 for each in backbone)
    with pytest.raises(UserError, match="balances two gradients"):
        OcdConfig(stride=2, task_reaches_backbone=False, heatmap_weight="auto").build(student("coords"), None)


def test_what_is_deployed_is_the_plain_student():
    ocd = OcdConfig(stride=2, width=8).build(student("coords"), None)
    assert ocd.deployable() is ocd.student
    plain = student("coords")
    assert list(ocd.deployable().state_dict()) == list(plain.state_dict())
    assert macs_of(ocd.deployable()) == macs_of(plain)


def test_the_heatmap_loss_weighs_ten_times_more_beside_l1():
    gentle = small_model("coords", codec={"name": "coords", "loss": "smooth_l1"})
    assert OcdConfig(stride=2).build(gentle, None).heatmap_weight.weight == 1
    assert OcdConfig(stride=2).build(student("coords"), None).heatmap_weight.weight == 10
    assert OcdConfig(stride=2, heatmap_weight=4).build(student("rle"), None).heatmap_weight.weight == 4


def test_students_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="this student has heatmaps already"):
        OcdConfig().build(small_model("heatmap"), None)
    with pytest.raises(UserError, match=r"features of \(8, 6\) to heatmaps of stride 3"):
        OcdConfig(stride=3).build(student("coords"), None)
    with pytest.raises(UserError, match="to heatmaps of stride 8"):
        OcdConfig(stride=8).build(student("coords"), None)
