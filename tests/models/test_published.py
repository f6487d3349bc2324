import functools

import pytest
import torch
import torch.nn.functional as F

from posestill.models.convert import convert_checkpoint
from posestill.models.pose_model import ModelConfig, PoseModel
from posestill.models.published import PUBLISHED
from posestill.schema import validate
from posestill.skeletons import COCO_17
from tests.mmpose import CSPNEXT, filled, shapes_of

QUICK = ("simplebaseline-r50", "hrnet-w32", "deeppose-r50", "rle-r50", "simcc-r50", "rtmpose-t")
LARGE = (
    "simplebaseline-r101", "simplebaseline-r152", "hrnet-w48", "rtmpose-s", "rtmpose-m", "rtmpose-l", "rtmpose-m-384",
)  # fmt: skip
"""the layouts that PUBLISHED has beside these have the same tensors and another codec"""
MILLIONS = {
    # Simple Baselines and HRNet: table 1 of "Deep High-Resolution Representation Learning" (CVPR 2019)
    "simplebaseline-r50": 34.0, "simplebaseline-r101": 53.0, "simplebaseline-r152": 68.6,
    "hrnet-w32": 28.5, "hrnet-w48": 63.6,
    # RTMPose: the table of projects/rtmpose/README.md in mmpose
    "rtmpose-t": 3.34, "rtmpose-s": 5.47, "rtmpose-m": 13.59, "rtmpose-l": 27.66,
}  # fmt: skip


def each_of(layouts):
    """The layouts, those that take a while to build in the slow tier."""
    marked = [pytest.param(each, marks=pytest.mark.slow) if each in LARGE else each for each in layouts]
    return pytest.mark.parametrize("layout", marked)


@functools.cache
def empty(layout):
    """The model of a layout; without memory for its weights, but for heads that read coordinates."""
    with torch.device("cpu" if PUBLISHED[layout].model["head"] == "gap_fc" else "meta"):
        return PoseModel(validate(ModelConfig, PUBLISHED[layout].model, where="test"), COCO_17)


@each_of((*QUICK, *LARGE))
def test_every_published_tensor_has_its_place_and_its_shape(layout):
    own = {name: tuple(value.shape) for name, value in empty(layout).state_dict().items()}
    assert {PUBLISHED[layout].our_name(name): shape for name, shape in shapes_of(layout).items()} == own


@each_of(MILLIONS)
def test_a_family_has_the_published_number_of_parameters(layout):
    count = sum(each.numel() for each in empty(layout).parameters())
    digits = 2 if layout.startswith("rtmpose") else 1
    assert abs(count / 1e6 - MILLIONS[layout]) <= 0.51 * 10**-digits


@pytest.mark.parametrize(
    ("layout", "by_hand"),
    [
        ("deeppose-r50", 23_508_032 + 34 * 2049),
        ("rle-r50", 23_508_032 + 68 * 2049),
        # Simple Baselines' 33,999,697, and a linear layer from 64 x 48 places to each bin
        ("simcc-r50", 33_999_697 + (384 + 512) * 3073),
    ],
)
def test_a_family_without_a_published_number_has_the_sum_of_its_layers(layout, by_hand):
    assert sum(each.numel() for each in empty(layout).parameters()) == by_hand


@pytest.mark.parametrize(
    ("layout", "size", "codec"),
    [
        ("simplebaseline-r50", (256, 192), {"sigma": 2, "target": "plain", "decoder": "quarter", "grid": "stride",
                                            "flip_shift": "whole"}),
        ("hrnet-w48-384", (384, 288), {"sigma": 3, "target": "plain", "decoder": "quarter", "flip_shift": "whole"}),
        ("hrnet-w32-dark", (256, 192), {"sigma": 2, "target": "unbiased", "decoder": "dark", "blur_kernel": 11,
                                        "grid": "stride", "flip_shift": "whole"}),
        ("hrnet-w32-udp-384", (384, 288), {"sigma": 3, "target": "unbiased", "decoder": "dark", "grid": "udp"}),
        ("deeppose-r50", (256, 192), {"loss": "smooth_l1", "bounded": False, "mirror_shift": True}),
        ("rle-r50", (256, 192), {"mirror_shift": True}),
        ("simcc-r50", (256, 192), {"split": 2, "flip_exact": False}),
        ("rtmpose-s", (256, 192), {"split": 2, "sigma": (4.9, 5.66), "beta": 10, "flip_exact": False}),
        ("rtmpose-l-384", (384, 288), {"split": 2, "sigma": (6.0, 6.93), "beta": 10, "flip_exact": False}),
    ],
)  # fmt: skip
def test_a_layout_has_the_published_input_and_codec(layout, size, codec):
    config = validate(ModelConfig, PUBLISHED[layout].model, where="test")
    told = config.codec.model_dump()
    assert config.size == size
    assert {key: told[key] for key in codec} == codec


@pytest.mark.parametrize("layout", ["simplebaseline-r50", "hrnet-w32", "rtmpose-t"])
def test_colours_are_normalised_as_published(layout):
    backbone = empty(layout).backbone  # in the order of RGB
    assert (backbone.mean, backbone.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def rtmpose(state, image, blocks):
    """RTMPose's forward pass by the published names alone: (B, 3, H, W) normalised to the logits of x and y."""

    def conv(name, x, stride=1, groups=1):
        weight = state[f"{name}.conv.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        told = [state[f"{name}.bn.{each}"] for each in ("running_mean", "running_var", "weight", "bias")]
        return F.silu(F.batch_norm(x, *told))

    x = conv("backbone.stem.0", image, stride=2)
    x = conv("backbone.stem.2", conv("backbone.stem.1", x))
    for stage in range(1, 5):
        own = f"backbone.stage{stage}"
        x = conv(f"{own}.0", x, stride=2)
        if stage == 4:
            inner = conv(f"{own}.1.conv1", x)
            pooled = [F.max_pool2d(inner, width, 1, width // 2) for width in (5, 9, 13)]
            x = conv(f"{own}.1.conv2", torch.cat([inner, *pooled], 1))
        name = f"{own}.{2 if stage == 4 else 1}"
        main = conv(f"{name}.main_conv", x)
        for block in range(blocks[stage - 1]):
            inner = f"{name}.blocks.{block}"
            changed = conv(f"{inner}.conv2.depthwise_conv", conv(f"{inner}.conv1", main), groups=main.shape[1])
            changed = conv(f"{inner}.conv2.pointwise_conv", changed)
            main = changed if stage == 4 else main + changed
        x = torch.cat([main, conv(f"{name}.short_conv", x)], 1)
        fc = [state[f"{name}.attention.fc.{each}"] for each in ("weight", "bias")]
        x = conv(f"{name}.final_conv", x * F.hardsigmoid(F.conv2d(x.mean((2, 3), keepdim=True), *fc)))

    def scale_norm(x, gain):
        return x / (x.norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5).clamp(min=1e-5) * gain

    x = F.conv2d(x, state["head.final_layer.weight"], state["head.final_layer.bias"], padding=3).flatten(2)
    x = scale_norm(x, state["head.mlp.0.g"]) @ state["head.mlp.1.weight"].T
    uv = F.silu(scale_norm(x, state["head.gau.ln.g"]) @ state["head.gau.uv.weight"].T)
    u, v, base = uv.split([512, 512, 128], dim=-1)
    q, k = (base * state["head.gau.gamma"][row] + state["head.gau.beta"][row] for row in (0, 1))
    kernel = (q @ k.transpose(1, 2) / 128**0.5).relu() ** 2
    x = x * state["head.gau.res_scale.scale"] + (u * (kernel @ v)) @ state["head.gau.o.weight"].T
    return x @ state["head.cls_x.weight"].T, x @ state["head.cls_y.weight"].T


def normalised(image):
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (image - mean.to(image.dtype)) / std.to(image.dtype)


def test_a_converted_rtmpose_computes_what_the_published_names_say(tmp_path):
    state = filled(shapes_of("rtmpose-t"))
    torch.save({"state_dict": state}, tmp_path / "t.pth")
    model = convert_checkpoint(tmp_path / "t.pth", "rtmpose-t").model.double()
    image = torch.rand(1, 3, 256, 192, dtype=torch.float64)
    blocks = [max(round(count * CSPNEXT["t"][0]), 1) for count in (3, 6, 6, 3)]
    with torch.no_grad():
        wanted = rtmpose({name: value.double() for name, value in state.items()}, normalised(image), blocks)
        found = model(image).prediction
    torch.testing.assert_close((found.x, found.y), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_a_converted_simcc_gives_the_published_probabilities_and_a_full_score_to_the_published_target(tmp_path):
    state = filled(shapes_of("simcc-r50"))
    torch.save(state, tmp_path / "s.pth")
    model = convert_checkpoint(tmp_path / "s.pth", "simcc-r50").model
    with torch.no_grad():
        features = (torch.rand(1, 2048, 8, 6),)
        found = model.head(features)
        flat = model.head.maps(model.head.layers(features[0])).flatten(2)
        wanted = F.linear(flat, state["head.mlp_head_x.weight"], state["head.mlp_head_x.bias"])
    torch.testing.assert_close((found.x * 10).softmax(-1), wanted.softmax(-1))
    # The published target has the sum 1 and a spread of 6 bins; its logarithm are the logits of a perfect answer.
    density = torch.exp(-((torch.arange(512) - 256.0) ** 2) / 72)
    perfect = type(found)(x=(density[64:448] / density.sum()).log() / 10, y=(density / density.sum()).log() / 10)
    read = model.codec.decode(type(found)(x=perfect.x.expand(1, 17, -1), y=perfect.y.expand(1, 17, -1)))
    assert read.score.min() > 0.98
    torch.testing.assert_close(read.xy[0, 0], torch.tensor([96.0, 128.0]))
