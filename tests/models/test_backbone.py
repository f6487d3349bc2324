import pytest
import timm
import torch
from safetensors.torch import save_file

from posestill.models.backbone import SmallResNetConfig, TimmConfig
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from tests.conftest import small_model


@pytest.mark.parametrize(
    ("name", "size", "last"),
    [
        ("resnet10t", (64, 48), None),
        ("resnet18", (64, 64), (512, 2, 2)),
        ("mobilenetv3_small_050", (64, 96), (288, 2, 3)),
        ("vit_tiny_patch16_224", (64, 48), (192, 4, 3)),  # built for one size
        ("swin_tiny_patch4_window7_224", (64, 64), (768, 2, 2)),  # channels last
        ("hrnet_w18_small", (64, 64), (16, 16, 16)),  # its head reads the finest branch
    ],
)
def test_a_timm_network_gives_channels_first_maps_and_the_one_that_its_head_reads(name, size, last):
    if last is None:  # 48 is not a multiple of 32
        with pytest.raises(
            UserError, match=r"\(64, 48\) is not a multiple of the stride 32 of 'resnet10t': take \(64, 64\)"
        ):
            TimmConfig(model=name).build(size)
        return
    backbone = TimmConfig(model=name).build(size).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, *size))
    assert tuple(features[-1].shape) == (2, *last)


def test_the_network_normalises_as_its_weights_were_trained():
    assert TimmConfig(model="vit_tiny_patch16_224").build((32, 32)).mean == (0.5, 0.5, 0.5)
    assert TimmConfig(model="resnet18").build((32, 32)).mean == (0.485, 0.456, 0.406)


def test_an_unknown_network_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="no network 'resnet51'; did you mean 'resnet"):
        TimmConfig(model="resnet51").build((64, 64))


def test_a_small_resnet_halves_the_map_at_each_stage_and_is_as_narrow_as_asked():
    backbone = SmallResNetConfig(channels=(4, 6, 8), blocks=2, max_pool=False).build((32, 24))
    features = backbone(torch.zeros(1, 3, 32, 24))
    assert [tuple(each.shape[1:]) for each in features] == [(4, 16, 12), (6, 8, 6), (8, 4, 3)]
    pooled = SmallResNetConfig(channels=(4, 6), max_pool=True).build((32, 24))(torch.zeros(1, 3, 32, 24))
    assert tuple(pooled[-1].shape) == (1, 6, 4, 3)


def test_an_input_smaller_than_the_stride_is_refused():
    with pytest.raises(UserError, match="smaller than the stride 32"):
        SmallResNetConfig().build((16, 16))


def test_weights_out_of_reach_are_explained(monkeypatch):
    import timm

    real = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no connection")
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    message = "weights of 'resnet18' are not in timm's cache .*model.backbone.weights.*pretrained=false"
    with pytest.raises(UserError, match=message):
        TimmConfig(model="resnet18", pretrained=True).build((32, 32))
    TimmConfig(model="resnet18", pretrained=True).build((32, 32), pretrained=False)  # a saved model fetches nothing


def published(path, name, **changes):
    """A file of a whole network's weights, as its publisher has it: with the classifier."""
    network = timm.create_model(name, pretrained=False)
    weights = {key: torch.randn_like(value) if value.dtype.is_floating_point else value
               for key, value in network.state_dict().items()}  # fmt: skip
    save_file({**weights, **changes}, path)
    return weights


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet18"])
def test_weights_come_from_a_file_of_ones_own(tmp_path, name):
    weights = published(tmp_path / "w.safetensors", name)
    backbone = TimmConfig(model=name, weights=tmp_path / "w.safetensors").build((64, 64))
    own = backbone.network.state_dict()
    assert own
    assert all(torch.equal(value, weights[key]) for key, value in own.items())


def test_a_file_of_another_network_a_broken_file_and_a_missing_one_are_refused(tmp_path):
    published(tmp_path / "w.safetensors", "mobilenetv3_small_050")
    (tmp_path / "b.safetensors").write_bytes(b"no weights")
    for file, message in (
        ("w.safetensors", "does not fit this network: 120 of 120|does not fit this network: 119 of 120"),
        ("b.safetensors", "cannot be read"),
        ("none.safetensors", "no file"),
    ):
        with pytest.raises(UserError, match=message):
            TimmConfig(model="resnet18", weights=tmp_path / file).build((64, 64))


def test_a_saved_model_needs_the_file_no_more(tmp_path):
    published(tmp_path / "w.safetensors", "mobilenetv3_small_050")
    backbone = {"name": "mobilenetv3_small_050", "weights": str(tmp_path / "w.safetensors")}
    model = small_model("coords", size=[64, 64], backbone=backbone)
    model.save(tmp_path / "model")
    (tmp_path / "w.safetensors").unlink()
    loaded = PoseModel.load(tmp_path / "model")
    assert torch.equal(loaded.backbone.network.conv_stem.weight, model.backbone.network.conv_stem.weight)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("tf_efficientnet_lite0", 700_768), ("mobilenetv3_small_050", None), ("resnet18", 2_782_784)],
)
def test_a_network_is_cut_after_the_stage_of_a_stride(name, parameters):
    backbone = TimmConfig(model=name, stride=16).build((128, 96))
    maps = backbone(torch.rand(1, 3, 128, 96))
    assert maps[-1].shape[-2:] == (8, 6)
    if parameters is not None:
        assert sum(each.numel() for each in backbone.parameters()) == parameters
    maps[-1].sum().backward()
    assert all(each.grad is not None for each in backbone.parameters())  # nothing idle is left
    with pytest.raises(UserError, match=f"'{name}' has stages of stride 2, 4, 8, 16, 32"):
        TimmConfig(model=name, stride=5).build((128, 96))
