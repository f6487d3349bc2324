"""What a network is given, and how what it says is read: for every layout that is data."""

import numpy as np
import pytest
import torch

from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17, COCO_WHOLEBODY
from posestill.teachers.file import ABOUT_LAYOUTS, open_layout
from posestill.teachers.layouts import LAYOUTS, LayoutConfig, named_layout, read_layout
from posestill.teachers.one_stage import ONE_STAGE
from posestill.teachers.runtime import open_network
from tests.teachers.networks import crops, gaussian, says

SIZE = (64, 48)
MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
IMAGENET_RGB = tuple(LAYOUTS.keys() - {"movenet", "movenet-maps", "simple-baselines"})


def asked(layout, network, pictures):
    """Keypoints (B, K, 3) x y score, px of the crop."""
    found = layout.codec.decode(layout.prediction(layout.look(network, pictures)))
    return torch.cat([found.xy, found.score[..., None]], dim=-1).numpy()


def file_for(name, path, size=SIZE, count=17, batch="N", **settings):
    """A file of a layout's form; the answers are of no interest."""
    height, width = size
    shape = [batch, height, width, 3] if LAYOUTS[name].get("order") == "nhwc" else [batch, 3, height, width]
    kind, drawn = LAYOUTS[name]["output"]["kind"], np.zeros((height // 4, width // 4))
    answers = {
        "maps": {"heatmaps": np.stack([drawn] * count, -1 if "movenet" in name else 0)},
        "bins": {"simcc_x": np.zeros((count, 2 * width)), "simcc_y": np.zeros((count, 2 * height))},
        "numbers": {"keypoints": np.zeros((1, count, 3) if name == "movenet" else (count, 2))},
    }[kind]
    return says(path / "network.onnx", shape, answers, **settings)


def given(name, path, pictures, **settings):
    """What the network is given, by its own account."""
    network = open_network(file_for(name, path, **settings), also=("seen",))
    return open_layout(network, name).look(network, pictures)["seen"]


@pytest.mark.parametrize("name", sorted(IMAGENET_RGB))
def test_most_networks_are_given_rgb_by_imagenets_moments(name, tmp_path):
    pictures = crops(2, SIZE)
    wanted = ((pictures.astype(np.float32) - MEAN) / STD).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(given(name, tmp_path, pictures), wanted)


def test_simple_baselines_is_given_bgr_with_the_moments_of_rgb(tmp_path):
    pictures = crops(2, SIZE)
    wanted = ((pictures[..., ::-1].astype(np.float32) - MEAN) / STD).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(given("simple-baselines", tmp_path, pictures), wanted)


@pytest.mark.parametrize("name", ["movenet", "movenet-maps"])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_movenet_is_given_px_as_they_are_whatever_the_type(name, dtype, tmp_path):
    pictures = crops(2, SIZE)
    np.testing.assert_array_equal(given(name, tmp_path, pictures, dtype=dtype), pictures.astype(np.float32))


def test_px_may_go_to_one_or_be_centred(tmp_path):
    pictures = crops(1, SIZE)
    network = open_network(file_for("movenet", tmp_path), also=("seen",))
    base = LAYOUTS["movenet"]

    def seen(**changes):
        layout = open_layout(network, validate(LayoutConfig, {**base, **changes}, where="test"))
        return layout.look(network, pictures)["seen"]

    np.testing.assert_array_equal(seen(highest=1), pictures.astype(np.float32) / np.float32(255))
    centred = seen(mean=(127.5,) * 3, std=(127.5,) * 3)
    np.testing.assert_array_equal(centred, (pictures.astype(np.float32) - np.float32(127.5)) / np.float32(127.5))
    np.testing.assert_array_equal(seen(colours="bgr"), pictures[..., ::-1].astype(np.float32))


@pytest.mark.parametrize("batch", [1, 2, 3, 4, "N"])
def test_any_number_of_crops_goes_into_batches_of_any_size(batch, tmp_path):
    places = np.stack([np.full(17, 0.25), np.full(17, 0.5), np.full(17, 0.75)], axis=-1)[None]
    path = says(tmp_path / "n.onnx", [batch, *SIZE, 3], {"keypoints": places}, follows=1 / 256)
    network = open_network(path)
    pictures = np.stack([np.full((*SIZE, 3), value, dtype=np.uint8) for value in (0, 16, 32, 64, 128)])
    found = asked(open_layout(network), network, pictures)
    assert found.shape == (5, 17, 3)
    extra = np.array([0, 16, 32, 64, 128]) / 256
    np.testing.assert_allclose(found[:, 0, 0], 48 * (0.5 + extra) - 0.5, atol=1e-4)
    np.testing.assert_allclose(found[:, 0, 1], 64 * (0.25 + extra) - 0.5, atol=1e-4)
    np.testing.assert_allclose(found[:, 0, 2], 0.75 + extra, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "first", "step"),
    [("hrnet", 0, (4, 4)), ("simple-baselines", 0, (4, 4)), ("vitpose", 0, (47 / 11, 63 / 15)),
     ("movenet-maps", 1.5, (4, 4))],
)  # fmt: skip
def test_a_maps_cell_is_read_where_the_layouts_grid_has_it(name, first, step, tmp_path):
    """A peak in the middle of cell (5, 7) of maps at stride 4: on the plain grid at 20, 28."""
    maps = np.stack([gaussian((16, 12), (5, 7), 1.5)] * 17, axis=-1 if name == "movenet-maps" else 0)
    shape = [1, *SIZE, 3] if name == "movenet-maps" else [1, 3, *SIZE]
    network = open_network(says(tmp_path / "n.onnx", shape, {"heatmaps": maps}))
    found = asked(open_layout(network, name), network, crops(2, SIZE))
    np.testing.assert_allclose(found[1, 3], [first + 5 * step[0], first + 7 * step[1], 1], atol=1e-3)


def test_the_quarter_decoder_moves_towards_the_higher_neighbour(tmp_path):
    maps = np.stack([gaussian((16, 12), (5.2, 6.8), 1.5)] * 17)
    network = open_network(says(tmp_path / "n.onnx", [1, 3, *SIZE], {"maps": maps}))
    np.testing.assert_allclose(asked(open_layout(network, "hrnet"), network, crops(1, SIZE))[0, 0, :2], [21, 27])


def test_logits_of_maps_become_confidences(tmp_path):
    network = open_network(says(tmp_path / "n.onnx", [1, 3, *SIZE], {"maps": np.full((17, 16, 12), -100.0)}))
    config = {"output": {"kind": "maps", "logits": True}, "codec": "heatmap"}
    found = asked(open_layout(network, validate(LayoutConfig, config, where="t")), network, crops(1, SIZE))
    assert found[..., 2] == pytest.approx(0)
    assert (asked(open_layout(network, "hrnet"), network, crops(1, SIZE))[..., 2] == -100).all()


def bins_at(x, y, size, *, sigma, height):
    lines = [np.exp(-((np.arange(2 * extent) - at) ** 2) / (2 * spread**2)) * height
             for extent, at, spread in zip(size[::-1], (2 * x, 2 * y), sigma, strict=True)]  # fmt: skip
    return {name: np.stack([line] * 17) for name, line in zip(("simcc_x", "simcc_y"), lines, strict=True)}


@pytest.mark.parametrize(
    ("name", "sigma", "height"), [("rtmpose", (4.9, 5.66), 1), ("rtmw", (4.9, 5.66), 10), ("rtmpose-384", (6, 6.93), 1)]
)
def test_bins_of_a_perfect_answer_score_one_and_of_a_flat_one_next_to_nothing(name, sigma, height, tmp_path):
    """Networks that were trained with beta 10 give logits of height 1 for it, those without one of height 10."""
    size = (384, 288) if name.endswith("384") else (256, 192)
    answer = bins_at(30.5, 101, size, sigma=sigma, height=height)
    network = open_network(says(tmp_path / "n.onnx", [1, 3, *size], answer))
    sure = asked(open_layout(network, name), network, crops(1, size))[0]
    np.testing.assert_allclose(sure[0], [30.5, 101, 1], atol=1e-3)
    flat = {each: values * 0.3 for each, values in answer.items()}
    network = open_network(says(tmp_path / "flat.onnx", [1, 3, *size], flat))
    unsure = asked(open_layout(network, name), network, crops(1, size))[0]
    np.testing.assert_allclose(unsure[0, :2], [30.5, 101])
    assert 0.02 < unsure[0, 2] < 0.2


def test_bins_of_normalised_gaussians_score_one_too(tmp_path):
    """SimCC's own target: a Gaussian of 6 bins whose sum is 1, learnt by a plain softmax."""
    lines = bins_at(30.5, 101, (256, 192), sigma=(6, 6), height=1)
    logits = {name: np.log(line / line.sum(axis=-1, keepdims=True) + 1e-9) for name, line in lines.items()}
    network = open_network(says(tmp_path / "n.onnx", [1, 3, 256, 192], logits))
    np.testing.assert_allclose(asked(open_layout(network, "simcc"), network, crops(1, (256, 192)))[0, 0],
                               [30.5, 101, 1], atol=0.01)  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "said", "wanted"),
    [("edges", (0.5, 0.25), (23.5, 15.5)), ("centres", (0.5, 0.25), (24, 16)), ("px", (24, 16), (24, 16))],
)
def test_places_are_read_in_the_layouts_unit(unit, said, wanted, tmp_path):
    numbers = np.tile(np.array([0.7, said[1], said[0], 0.1]), (5, 1))
    network = open_network(says(tmp_path / "n.onnx", [1, 3, *SIZE], {"places": numbers}))
    output = {"kind": "numbers", "x": 2, "y": 1, "score": 0, "unit": unit}
    config = {"keypoints": ["a", "b", "c", "d", "e"], "output": output, "codec": "coords"}
    found = asked(open_layout(network, validate(LayoutConfig, config, where="test")), network, crops(1, SIZE))
    np.testing.assert_allclose(found[0, 4], [*wanted, 0.7], atol=1e-4)


def test_numbers_may_stand_in_one_row_and_without_a_score(tmp_path):
    row = np.array([0.25, 0.5, 0.75, 0.25])
    network = open_network(says(tmp_path / "n.onnx", [1, 3, *SIZE], {"row": row}))
    config = {"keypoints": ["nose", "neck"], "output": {"kind": "numbers"}, "codec": "coords"}
    layout = open_layout(network, validate(LayoutConfig, config, where="test"))
    np.testing.assert_allclose(asked(layout, network, crops(1, SIZE))[0], [[12, 32, 1], [36, 16, 1]], atol=1e-4)


@pytest.mark.parametrize(("count", "names"), [(17, COCO_17.names), (133, COCO_WHOLEBODY.names)])
def test_the_keypoints_are_the_known_set_of_as_many(count, names, tmp_path):
    for known in (True, False):
        network = open_network(file_for("rtmpose", tmp_path, count=count, known=known))
        assert open_layout(network, "rtmpose").skeleton.names == names
    network = open_network(file_for("rtmpose", tmp_path, count=26))
    assert open_layout(network, "rtmpose").skeleton.names[17:20] == ("head", "neck", "hip")


def refused(network, wanted) -> str:
    if isinstance(wanted, dict):
        wanted = validate(LayoutConfig, wanted, where="test")
    with pytest.raises(UserError) as error:
        open_layout(network, wanted)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_does_not_fit_is_refused_when_the_file_is_opened(tmp_path):
    path = tmp_path / "n.onnx"
    maps, other = np.zeros((17, 16, 12)), np.zeros((21, 16, 12))
    drawn = open_network(says(path, [1, 3, *SIZE], {"maps": maps}))
    numbers = {"kind": "numbers"}
    cases = [
        (drawn, "rtmpose", "reads the output 'simcc_x', and n.onnx has: x (1, 3, 64, 48) float32 -> maps"),
        (drawn, "movenet", "gives a picture of three colours (nhwc), and the file's input is x (1, 3, 64, 48) float32"),
        (drawn, "rtmpos", "no layout 'rtmpos'; did you mean 'rtmpose'?"),
        (drawn, {"output": numbers, "codec": "coords"}, "none has that form"),
        (drawn, {"output": {"kind": "maps", "tensor": "map"}, "codec": "heatmap"}, "reads the output 'map'"),
        (drawn, {"output": {"kind": "maps"}, "codec": {"name": "heatmap", "stride": 8}},
         "expects maps of (8, 6) for crops of (64, 48), and those of maps are (16, 12)"),
        (drawn, {"output": {"kind": "maps"}, "codec": "coords"}, "has maps, which another codec reads: choose heatmap"),
        (drawn, {"output": {"kind": "maps"}, "codec": "heatmap", "keypoints": "cocoo"}, "no set of keypoints 'cocoo'"),
        (drawn, {"output": {"kind": "maps"}, "codec": "heatmap", "size": [32, 24]}, "size (32, 24) was asked for"),
        (open_network(says(path, [1, 3, *SIZE], {"maps": other})), "hrnet", "gives 21 keypoints, and no known set"),
        (open_network(says(path, [1, 3, *SIZE], {"one": maps, "two": maps})), "hrnet", "2 outputs have that form"),
        (open_network(says(path, [1, 3, *SIZE], {"maps": maps}, dtype="uint8")), "hrnet", "takes whole numbers"),
        (open_network(says(path, [1, 3, *SIZE], {"maps": maps}, dtype="int8")),
         {"output": {"kind": "maps"}, "codec": "heatmap"}, "cannot hold px from 0 to 255"),
        (open_network(says(path, [1, 3, "H", "W"], {"maps": maps})), "hrnet", "takes crops of any size"),
        (open_network(says(path, [1, 3, 32, 24], {"simcc_x": np.zeros((17, 96)), "simcc_y": np.zeros((17, 128))})),
         "rtmpose", "expects 48 bins of x and 64 of y for (32, 24)"),
        (open_network(says(path, [1, 3, *SIZE], {"y": np.zeros((17, 2))})),
         {"output": numbers, "codec": "coords", "keypoints": ["a", "b"]},
         "none has that form for the 2 keypoints that it names"),
        (open_network(says(path, [1, 3, *SIZE], {"y": np.zeros((17, 2))})),
         {"output": numbers, "codec": {"name": "coords", "score": True}}, "choose coords, without score and scale"),
    ]  # fmt: skip
    for network, wanted, words in cases:
        assert words in refused(network, wanted)


def test_a_layout_of_ones_own_is_a_yaml_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "size: [64, 48]\npadding: 1.5\ncolours: bgr\nhighest: 1\nkeypoints: [tip, left_fin, right_fin]\n"
        "output: {kind: maps, tensor: drawn}\ncodec: {name: heatmap, stride: 4, decoder: argmax}\n"
    )
    maps = np.stack([gaussian((16, 12), at) for at in ((2, 3), (4, 5), (6, 7))])
    network = open_network(says(tmp_path / "n.onnx", [1, 3, "H", "W"], {"drawn": maps}), also=("seen",))
    layout = open_layout(network, str(tmp_path / "mine.yaml"))
    assert (layout.size, layout.padding) == (SIZE, 1.5)
    assert layout.skeleton.swap == (0, 2, 1)
    pictures = crops(1, SIZE)
    np.testing.assert_allclose(asked(layout, network, pictures)[0], [[8, 12, 1], [16, 20, 1], [24, 28, 1]], atol=1e-5)
    np.testing.assert_array_equal(
        layout.look(network, pictures)["seen"], (pictures[..., ::-1] / np.float32(255)).transpose(0, 3, 1, 2)
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour: bgr\noutput: {kind: maps}\ncodec: heatmap", "colour: no such key; did you mean 'colours'?"),
        ("output: {kind: maps, tensr: a}\ncodec: heatmap", "tensr: no such key; did you mean 'tensor'?"),
        ("output: {kind: mapps}\ncodec: heatmap", "output"),
        ("output: {kind: maps}\ncodec: heatmaps", "no 'heatmaps' among the codecs; did you mean 'heatmap'?"),
        ("output: {kind: maps}", "codec: Field required"),
        ("{", "is not valid YAML"),
        ("", "Input should be"),
    ],
)
def test_a_mistake_in_such_a_file_is_one_line_that_names_file_and_key(text, words, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_layout(tmp_path / "mine.yaml")
    assert words in str(error.value)
    assert "mine.yaml" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"no file other\.yaml"):
        named_layout("other.yaml")


def test_every_layout_is_described_in_a_sentence():
    assert ABOUT_LAYOUTS.keys() == {*LAYOUTS, *ONE_STAGE, "blazepose", "blazepose-upright"}
    assert all(text.endswith(".") and len(text) < 100 for text in ABOUT_LAYOUTS.values())
    for name in LAYOUTS:
        assert isinstance(named_layout(name), LayoutConfig)
