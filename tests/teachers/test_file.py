"""A network in a file as a teacher: in a recipe, of methods that learn from it, and in a student's lineage."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from posestill import catalog
from posestill.data.synthetic.people import SyntheticConfig
from posestill.data.topdown import TopDownDataset
from posestill.engine.config import RunConfig
from posestill.engine.fit import fit
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17
from posestill.teachers.file import FileConfig, FileTeacher
from posestill.teachers.made_for import identity
from posestill.types import Coords
from tests.conftest import DOTS, DotSource, shared_folder, small_model, small_run
from tests.teachers.networks import gaussian, helper, save, says

DOT_LAYOUT = {"keypoints": list(DOTS.names), "output": {"kind": "numbers", "tensor": "places"}, "codec": "coords"}
MIDDLES = np.array([[0.5, 0.1], [0.9, 0.5], [0.1, 0.5], [0.5, 0.9]])


@pytest.fixture
def pooling(tmp_path):
    """A network for 32x24 crops of four dots, whose inner tensor `pooled` (3, 8, 6) is the picture made small."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMean", ["pooled"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Squeeze", ["zero", "last"], ["flat"]),
        helper.make_node("Add", ["flat", "middles"], ["places"]),
    ]
    constants = {
        "nothing": np.zeros((1, 1, 1, 1), dtype=np.float32),
        "last": np.array([3]),
        "middles": MIDDLES[None].astype(np.float32),
    }
    return save(tmp_path / "pooling.onnx", nodes, ["N", 3, 32, 24], {"places": ["N", 4, 2]}, constants=constants)


@pytest.fixture
def coco_places(tmp_path):
    """A MoveNet of 64x48 crops that says one pose of everybody."""
    places = np.stack([np.linspace(0.2, 0.8, 17), np.linspace(0.3, 0.7, 17), np.full(17, 0.9)], axis=-1)
    return says(tmp_path / "places.onnx", ["N", 32, 24, 3], {"keypoints": places[None]}, dtype="uint8")


def dots(count=6):
    return TopDownDataset(DotSource(count), size=(32, 24)).__getitems__([(0, index) for index in range(count)])


def two_steps(distiller, batch):
    """The losses before the first and after the second step."""
    optimiser = torch.optim.SGD(distiller.parameters(), lr=0.05)
    told = []
    for _ in range(3):
        losses = distiller(batch, 0.0)
        told.append({name: value.item() for name, value in losses.items()})
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
        distiller.after_step()
    return told[0], told[2]


def test_a_path_in_the_place_of_a_name_is_enough(coco_places):
    config = small_run("coords", teacher=str(coco_places), method="pseudo_label")
    teacher = config.teacher.build()
    assert isinstance(teacher, FileTeacher)
    assert teacher.skeleton == COCO_17
    assert teacher.provides == {"prediction"}
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_path_in_the_place_of_a_name_has_none_of_a_files_settings():
    with pytest.raises(UserError, match=r"a file has layout as \{name: file, path: movenet\.onnx, \.\.\.\}"):
        small_run("coords", teacher={"name": "movenet.onnx", "layout": "movenet"}, method="pseudo_label")


def test_a_run_is_taught_by_a_file_and_its_student_remembers_which(coco_places, tmp_path):
    teacher = {"name": "file", "path": str(coco_places), "licence": "Apache-2.0"}
    config = small_run("coords", teacher=teacher, method="pseudo_label", seed=3)
    fit(config, tmp_path / "run", quiet=True)
    told = json.loads((tmp_path / "run" / "best" / "config.json").read_text())["lineage"]["teacher"]
    assert (told["file"], told["layout"], told["licence"]) == ("places.onnx", "movenet", "Apache-2.0")
    assert len(told["sha256"]) == 64


def test_answers_are_the_same_for_whole_and_for_broken_numbers(coco_places):
    teacher = FileConfig(path=coco_places).build()
    source = SyntheticConfig(people=2, size=(64, 48)).build()
    batch = TopDownDataset(source, size=(32, 24)).__getitems__([(0, 0), (0, 1)])
    one = teacher(batch).prediction
    other = teacher(type(batch)(**{**vars(batch), "image": batch.image.float() / 255})).prediction
    assert isinstance(one, Coords)
    assert isinstance(other, Coords)
    assert torch.equal(one.xy, other.xy)
    assert torch.equal(one.score, torch.full((2, 17), 0.9))


def test_an_inner_tensor_is_a_feature_map_that_pkd_learns_from(pooling):
    teacher = validate(
        FileConfig, {"path": str(pooling), "layout": DOT_LAYOUT, "features": "pooled"}, where="teacher"
    ).build()
    assert teacher.provides == {"prediction", "features"}
    assert teacher.feature_shapes == ((3, 8, 6),)
    batch = dots()
    expected = torch.nn.functional.avg_pool2d(batch.image.float(), 4)
    torch.testing.assert_close(teacher(batch).features[0], expected, atol=1e-3, rtol=0)
    torch.manual_seed(0)
    distiller = catalog.METHODS["pkd"]().build(small_model("coords"), teacher)
    before, after = two_steps(distiller, batch)
    assert after["features"] < 0.98 * before["features"]


def test_a_student_learns_from_movenets_maps_by_simulated_heatmaps(tmp_path):
    maps = np.stack([gaussian((8, 6), (1 + 0.2 * each, 2 + 0.25 * each), 1.4) for each in range(17)], axis=-1)
    offsets = np.zeros((8, 6, 34))
    path = says(tmp_path / "maps.onnx", ["N", 32, 24, 3], {"heatmaps": maps, "offsets": offsets}, dtype="int32")
    teacher = FileConfig(path=path, layout="movenet-maps").build()
    source = SyntheticConfig(people=6, size=(64, 48)).build()
    batch = TopDownDataset(source, size=(32, 24)).__getitems__([(0, index) for index in range(6)])
    distiller = catalog.METHODS["simulated_heatmap"]().build(small_model("coords", skeleton=COCO_17), teacher)
    before, after = two_steps(distiller, batch)
    assert sum(after.values()) < sum(before.values())
    assert after["simulated_heatmap"] < before["simulated_heatmap"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pkd", "agentpose", "simulated_heatmap"])
def test_a_student_learns_from_the_features_and_the_maps_of_movenet_thunder_without_labels(method):
    path = shared_folder() / "models" / "movenet-thunder.onnx"
    if not path.is_file():
        pytest.skip("movenet-thunder.onnx is not on this machine (set POSESTILL_SHARED to its folder's parent)")
    inner = {"features": "StatefulPartitionedCall/kpt_heatmap_0/re_lu_4/Relu:0"}
    teacher = FileConfig(path=path, **({"layout": "movenet-maps"} if method == "simulated_heatmap" else inner)).build()
    people = TopDownDataset(
        SyntheticConfig(people=4, size=(128, 128)).build(), size=(64, 64), teacher_size=teacher.input_size,
        teacher_padding=teacher.padding,
    ).__getitems__([(0, index) for index in range(4)])  # fmt: skip
    batch = replace(people, weight=torch.zeros_like(people.weight))
    student = small_model("coords", size=(64, 64), skeleton=COCO_17)
    torch.manual_seed(0)
    distiller = catalog.METHODS[method]().build(student, teacher)
    optimiser = torch.optim.Adam(distiller.parameters(), lr=2e-3)
    told = []
    for _ in range(10):
        torch.manual_seed(0)  # the same noise for AgentPose's diffusion
        losses = distiller(batch, 0.5)
        told.append({name: value.item() for name, value in losses.items() if name != "task"})
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
        distiller.after_step()
    assert (
        told[0].keys()
        == {
            "pkd": {"features"},
            "agentpose": {"distil", "diffusion", "autoencoder"},
            "simulated_heatmap": {"simulated_heatmap", "confidence"},
        }[method]
    )
    assert sum(told[-1].values()) < 0.97 * sum(told[0].values()), told


def test_a_method_that_needs_the_teachers_head_refuses_a_file_before_anything_starts(coco_places, tmp_path):
    method = {"name": "tcd", "form": "head"}
    config = small_run("coords", teacher=str(coco_places), method=method)
    with pytest.raises(UserError, match=r"this teacher does not lend its head: set method\.form=helper"):
        fit(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    teacher = FileConfig(path=coco_places).build()
    with pytest.raises(UserError, match="FileTeacher has no head to lend"):
        teacher.head(())


def test_features_that_do_not_lie_on_the_crop_are_refused(pooling, tmp_path):
    def message(**settings):
        with pytest.raises(UserError) as error:
            validate(FileConfig, settings, where="teacher").build()
        assert "\n" not in str(error.value)
        return str(error.value)

    told = message(path=pooling, layout=DOT_LAYOUT, features="flat")
    assert "flat is (1, 1, 1), and a feature map is (batch, channels, rows, columns)" in told
    told = message(path=pooling, layout=DOT_LAYOUT, features="pool")
    assert "has no tensor 'pool'" in told
    assert "pooled (3, 8, 6)" in told
    people = says(tmp_path / "people.onnx", [1, "H", "W", 3], {"people": np.zeros((6, 56))}, dtype="int32")
    assert "layout movenet-multipose shows the network another part" in message(path=people, features="seen")
    blaze = says(tmp_path / "blaze.onnx", [1, 256, 256, 3], {"points": np.zeros(195)})
    assert "layout blazepose shows the network another part" in message(path=blaze, features="seen")
    upright = {"path": blaze, "layout": "blazepose-upright", "features": "seen"}
    assert validate(FileConfig, upright, where="teacher").build().feature_shapes == ((256, 256, 3),)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"colour": "bgr"}, "layout.colour: no such key; did you mean 'colours'?"),
        ({"output": {"kind": "maps"}, "codec": "heatmpa"}, "layout.codec: no 'heatmpa' among the codecs"),
        (7, "layout: a name, the path of a YAML file, or a mapping of size, padding"),
    ],
)
def test_a_mistake_in_a_layout_is_named_by_its_own_path(layout, words):
    with pytest.raises(UserError) as error:
        validate(FileConfig, {"path": "a.onnx", "layout": layout}, where="teacher")
    assert words in str(error.value)
    assert "LayoutConfig" not in str(error.value)


def test_what_is_kept_of_its_answers_is_known_by_file_layout_and_tensor(pooling):
    def told(**settings):
        return identity(validate(FileConfig, {"path": str(pooling), **settings}, where="teacher").build())

    one = told(layout=DOT_LAYOUT)
    assert one == told(layout=DOT_LAYOUT, licence="MIT")
    assert one != told(layout={**DOT_LAYOUT, "padding": 1.5})
    assert one != told(layout=DOT_LAYOUT, features="pooled")
    assert json.loads(json.dumps(one)) == one | {"layout": json.loads(json.dumps(one["layout"]))}
