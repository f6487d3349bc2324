import numpy as np
import pytest
import torch

from posestill.deploy.graph import Graph, outputs_of, prediction_of
from tests.deploy.conftest import KINDS, a_model

NAMES = {
    "heatmap": {"maps": (4, 16, 12)}, "agent": {"maps": (4, 16, 12)}, "coords": {"numbers": (4, 2)},
    "rle": {"numbers": (4, 4)}, "token": {"numbers": (4, 5)}, "simcc": {"simcc_x": (4, 48), "simcc_y": (4, 64)},
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", sorted(KINDS))


def crops(count=3):
    return torch.randint(0, 256, (count, 3, 32, 24), generator=torch.Generator().manual_seed(0)).float()


@kinds
@torch.no_grad()
def test_a_graph_takes_px_and_gives_outputs_by_name_that_decode_to_the_models_keypoints(kind):
    model = a_model(kind)
    found = Graph(model)(crops())
    assert {name: tuple(value.shape[1:]) for name, value in found.items()} == NAMES[kind]
    wanted = model.predict(crops().to(torch.uint8))
    read = model.codec.decode(prediction_of(found, model(crops() / 255).prediction))
    torch.testing.assert_close(read.xy, wanted.xy, atol=1e-3, rtol=0)
    torch.testing.assert_close(read.score, wanted.score, atol=1e-5, rtol=0)


@kinds
@torch.no_grad()
def test_decoding_inside_gives_the_same_keypoints_in_px(kind):
    model = a_model(kind)
    found = Graph(model, decode="inside")(crops())["keypoints"]
    wanted = model.predict(crops().to(torch.uint8))
    np.testing.assert_allclose(found, torch.cat([wanted.xy, wanted.score[..., None]], -1), atol=1e-3)


@torch.no_grad()
def test_colours_may_come_last():
    model = a_model("coords")
    first = Graph(model)(crops())["numbers"]
    torch.testing.assert_close(Graph(model, order="nhwc")(crops().permute(0, 2, 3, 1))["numbers"], first)


@kinds
@torch.no_grad()
def test_half_precision_inside_still_takes_and_gives_full_precision(kind):
    model = a_model(kind)
    found, exact = Graph(model, half=True)(crops()), Graph(model)(crops())
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert (value - exact[name]).abs().max() < 0.02 * exact[name].abs().max()
    assert next(model.parameters()).dtype == torch.float32  # the model itself is left alone


def test_coordinates_keep_full_precision_in_half():
    graph = Graph(a_model("coords"), half=True)
    assert graph.model.head.coordinates.weight.dtype == torch.float32
    assert next(graph.model.backbone.parameters()).dtype == torch.float16


def test_outputs_keep_a_score_before_the_spread():
    prediction = a_model("token")(crops() / 255).prediction
    numbers = outputs_of(prediction)["numbers"]
    torch.testing.assert_close(numbers[..., 2], prediction.score)
    torch.testing.assert_close(numbers[..., 3:], prediction.scale)
