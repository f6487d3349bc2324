import pytest
import timm
import torch

from posestill.models.hrnet import HRNetConfig
from posestill.schema import UserError
from tests.published import fill

PARAMETERS = {3: 16_705_824, 4: 63_594_912}


@pytest.mark.parametrize("stages", [3, 4])
def test_it_has_the_published_parameters(stages):
    network = HRNetConfig(stages=stages).build((256, 192))
    assert sum(each.numel() for each in network.parameters()) == PARAMETERS[stages]


def test_its_modules_have_the_published_parameters():
    network = HRNetConfig().build((256, 192))
    count = {name: sum(each.numel() for each in module.parameters()) for name, module in network.named_children()}
    assert count["transition1"] == 332_064
    assert count["stage2"] == 878_112
    assert count["transition2"] == 166_272
    assert count["stage3"] == 15_335_040
    assert count["transition3"] == 664_320
    assert count["stage4"] == 45_894_048
    assert sum(each.numel() for each in HRNetConfig(stages=3).build((256, 192)).stage3.parameters()) == 15_004_320


@pytest.mark.parametrize("stages", [3, 4])
def test_with_timms_weights_it_computes_timms_finest_branch(stages):
    """timm's HRNet is another hand's: the same weights must give the same maps."""
    theirs = timm.create_model("hrnet_w18", features_only=True, feature_location="").eval()
    weights = fill(theirs)
    theirs.load_state_dict(weights)
    ours = HRNetConfig(width=18, stages=stages).build((64, 64)).eval()
    ours.take_over(weights)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = theirs.layer1(theirs.act2(theirs.bn2(theirs.conv2(theirs.act1(theirs.bn1(theirs.conv1(image)))))))
        branches = theirs.stage2([change(features) for change in theirs.transition1])
        branches = theirs.stage3(
            [change(branches[-1] if index == 2 else branches[index]) for index, change in enumerate(theirs.transition2)]
        )
        if stages == 4:
            branches = theirs.stage4(
                [
                    change(branches[-1] if index == 3 else branches[index])
                    for index, change in enumerate(theirs.transition3)
                ]
            )
        torch.testing.assert_close(ours(image)[0], branches[0], rtol=1e-4, atol=1e-4)


def test_three_stages_start_from_four():
    four, three = (HRNetConfig(width=18, stages=stages).build((64, 64)) for stages in (4, 3))
    three.take_over(four.state_dict())
    assert torch.equal(three.stage3[3].branches[2][3].bn2.weight, four.stage3[3].branches[2][3].bn2.weight)
    assert torch.equal(three.stage3[0].fuse_layers[2][0][1][0].weight, four.stage3[0].fuse_layers[2][0][1][0].weight)


def test_every_parameter_gets_a_gradient():
    network = HRNetConfig(width=18).build((64, 64))
    network(torch.randn(2, 3, 64, 64))[0].sum().backward()
    assert not [name for name, each in network.named_parameters() if each.grad is None]


def test_a_size_that_its_coarsest_branch_does_not_divide_is_refused():
    with pytest.raises(UserError, match=r"input \(72, 48\) is not a multiple of the stride 32 of hrnet with 4 stages"):
        HRNetConfig().build((72, 48))


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch):
    def no_connection(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr(timm, "create_model", no_connection)
    with pytest.raises(UserError, match=r"weights of 'hrnet_w48' could not be loaded .*pretrained=false"):
        HRNetConfig(pretrained=True).build((64, 64))
