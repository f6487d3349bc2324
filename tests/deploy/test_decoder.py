"""The decoders that applications copy, beside the codecs that the models were trained with."""

import ast
import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from posestill import catalog
from posestill.data.topdown import warp
from posestill.deploy import decoder
from posestill.deploy.graph import outputs_of
from posestill.geometry import affine_to_input, crop_of_bbox
from posestill.types import Coords, Heatmaps, SimCC

SIZE = (64, 48)
CODECS = {
    "coords": {},
    "coords with score": {"score": True, "scale": True},
    "rle": {},
    "simcc": {"sigma": [2.5, 2.9]},
    **{
        f"heatmap {decoder_name} {grid}": {"decoder": decoder_name, "grid": grid, "stride": 2, "sigma": 1.5}
        for decoder_name in ("argmax", "quarter", "dark", "local")
        for grid in ("stride", "udp", "cells")
    },
}
every_codec = pytest.mark.parametrize("case", sorted(CODECS))


def built(case):
    """A codec, and what a sidecar says of it."""
    name = case.split()[0]
    config = catalog.CODECS[name].model_validate(CODECS[case])
    told = {"size": list(SIZE), "padding": 1.25, "codec": {"name": name, **config.model_dump(mode="json")}}
    return config.build(SIZE), told


def a_prediction(codec, case, seed=0):
    """Answers of 3 crops with 5 keypoints, some beyond the border."""
    draw = torch.Generator().manual_seed(seed)
    xy = torch.rand(3, 5, 2, generator=draw) * torch.tensor([60.0, 80.0]) - 6
    if case.startswith("heatmap"):
        maps = codec.encode(xy, torch.ones(3, 5))[0] * 0.9
        return Heatmaps(maps=maps + 0.02 * torch.rand(maps.shape, generator=draw))
    if case == "simcc":
        logits = codec.encode(xy.clamp(min=0), torch.ones(3, 5))[0] + 0.05 * torch.rand(3, 5, 224, generator=draw)
        return SimCC(*logits.split([96, 128], dim=-1))
    spread = torch.rand(3, 5, 2, generator=draw) / 10
    score = torch.rand(3, 5, generator=draw) if "score" in case else None
    return Coords(xy=xy / torch.tensor([48.0, 64.0]), scale=None if case == "coords" else spread, score=score)


def test_every_codec_of_the_catalog_is_decoded_here():
    assert {case.split()[0] for case in CODECS} == set(catalog.CODECS)


@every_codec
def test_the_python_decoder_reads_what_the_codec_reads(case):
    codec, told = built(case)
    prediction = a_prediction(codec, case)
    wanted = codec.decode(prediction)
    outputs = {name: value.numpy() for name, value in outputs_of(prediction).items()}
    found = decoder.decode(outputs, told)
    np.testing.assert_allclose(found[..., :2], wanted.xy.numpy(), atol=2e-3)
    np.testing.assert_allclose(found[..., 2], wanted.score.numpy(), atol=1e-5)


def test_keypoints_that_were_decoded_inside_are_taken_as_they_are():
    found = decoder.decode({"keypoints": np.array([[[3.0, 4.0, 0.5]]], dtype=np.float32)}, {"codec": {}})
    np.testing.assert_array_equal(found, [[[3, 4, 0.5]]])


def test_shares_become_px_by_hand():
    told = {"size": [64, 48], "codec": {"name": "coords", "score": False}}
    found = decoder.decode({"numbers": np.array([[[0.5, 0.25]]])}, told)
    np.testing.assert_array_equal(found, [[[24, 16, 1]]])


@pytest.mark.parametrize("box", [[30, 20, 40, 90], [-10, 5, 200, 30], [100, 100, 0.2, 0.4]])
def test_a_crop_is_cut_as_evaluation_cuts_it(box):
    picture = np.random.default_rng(0).integers(0, 256, (150, 120, 3), dtype=np.uint8)
    crop, back = decoder.cut(picture, box, {"size": SIZE, "padding": 1.25})
    affine = affine_to_input(crop_of_bbox(np.array(box, dtype=float), SIZE), SIZE)
    np.testing.assert_array_equal(crop, warp(picture, affine, SIZE))
    there = np.concatenate([affine, [[0, 0, 1]]]) @ np.concatenate([back, [[0, 0, 1]]])
    np.testing.assert_allclose(there, np.eye(3), atol=1e-9)


def test_places_go_back_to_the_picture():
    found = decoder.place(np.array([[[2.0, 3.0, 0.7]]]), np.array([[[2.0, 0, 10], [0, 2.0, 20]]]))
    np.testing.assert_array_equal(found, [[[14, 26, 0.7]]])


def test_a_tensor_has_the_order_that_the_file_wants():
    crops = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    told = {"input": {"order": "nchw", "dtype": "float32"}}
    assert decoder.tensor(crops, told).shape == (2, 3, 3, 4)
    assert decoder.tensor(crops, told)[1, 2, 0, 3] == crops[1, 0, 3, 2]
    told["input"]["order"] = "nhwc"
    np.testing.assert_array_equal(decoder.tensor(crops, told), crops)


def test_the_decoder_stands_alone():
    tree = ast.parse(Path(decoder.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"__future__", "json", "collections.abc", "pathlib", "typing", "cv2", "numpy"}


def script(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    text = (resources.files("posestill") / "assets" / "decode.mjs").read_text()
    (tmp_path / "decode.mjs").write_text(text)
    return tmp_path


def run_node(folder, body):
    program = f'import * as decoder from "./decode.mjs";\nimport {{ readFileSync }} from "node:fs";\n{body}'
    (folder / "run.mjs").write_text(program)
    done = subprocess.run(["node", "run.mjs"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_javascript_decoder_reads_what_the_python_one_reads(tmp_path):
    folder, wanted = script(tmp_path), {}
    cases = {}
    for case in sorted(CODECS):
        codec, told = built(case)
        outputs = {name: value[:1].numpy() for name, value in outputs_of(a_prediction(codec, case)).items()}
        wanted[case] = decoder.decode(outputs, told)[0]
        given = {name: {"dims": value.shape, "data": value.ravel().tolist()} for name, value in outputs.items()}
        cases[case] = {"outputs": given, "told": told}
    (folder / "cases.json").write_text(json.dumps(cases))
    found = run_node(folder, """
        const cases = JSON.parse(readFileSync("cases.json"));
        const found = {};
        for (const [name, { outputs, told }] of Object.entries(cases)) {
          for (const each of Object.values(outputs)) each.data = Float32Array.from(each.data);
          found[name] = decoder.decode(outputs, told);
        }
        console.log(JSON.stringify(found));""")  # fmt: skip
    for case, each in wanted.items():
        np.testing.assert_allclose(np.array(found[case]), each, atol=1e-4, err_msg=case)


@pytest.mark.slow
def test_the_javascript_crop_is_the_python_one_to_a_shade(tmp_path):
    folder = script(tmp_path)
    picture = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    told = {"size": [32, 24], "padding": 1.25, "input": {"order": "nchw", "dtype": "float32"}}
    box = [5, 3, 30, 50]
    crop, back = decoder.cut(picture, box, told)
    rgba = np.concatenate([picture, np.full((40, 50, 1), 255, dtype=np.uint8)], axis=2)
    (folder / "picture.json").write_text(json.dumps({"data": rgba.ravel().tolist(), "told": told, "box": box}))
    found = run_node(folder, """
        const { data, told, box } = JSON.parse(readFileSync("picture.json"));
        const { crop, toPicture } = decoder.cut({ data, width: 50, height: 40 }, box, told);
        const pose = decoder.place([[3, 4, 0.5]], toPicture);
        const given = Array.from(decoder.tensor(crop, told));
        const found = { crop: Array.from(crop), given, pose, shape: decoder.shape(told) };
        console.log(JSON.stringify(found));""")  # fmt: skip
    seen = np.array(found["crop"]).reshape(32, 24, 3)
    assert np.abs(seen - crop.astype(int)).max() <= 8  # OpenCV counts places in 32nds of a px
    assert np.abs(seen - crop.astype(int)).mean() < 1
    np.testing.assert_array_equal(np.array(found["given"]).reshape(3, 32, 24), seen.transpose(2, 0, 1))
    assert found["shape"] == [1, 3, 32, 24]
    np.testing.assert_allclose(found["pose"], decoder.place(np.array([[[3, 4, 0.5]]]), back[None])[0], atol=1e-9)
