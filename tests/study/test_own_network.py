from pathlib import Path

import numpy as np
import pytest
import torch

from posestill.data.topdown import Labels, TopDownDataset
from posestill.schema import UserError
from posestill.study.own_network import own_network
from posestill.study.teacher_check import check_teacher
from posestill.teachers.base import ModelTeacher
from posestill.teachers.file import FileConfig
from posestill.teachers.transformers import TransformersConfig
from tests.conftest import DotSource, small_model
from tests.networks import write_teacher
from tests.saved import SIZE, save_vitpose

PATH = Path("a/model")


def crops(size, count=3):
    return np.random.default_rng(0).integers(0, 256, size=(count, *size, 3), dtype=np.uint8)


def read(own, pixels):
    layout = own.layout
    return layout.codec.decode(layout.prediction(layout.look(own.network, pixels)))


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "heatmap"},
        {"kind": "coords"},
        {"kind": "coords", "codec": "rle"},
        {"kind": "coords", "head": "simcc", "codec": "simcc"},
    ],
    ids=["heatmaps", "coordinates", "coordinates with spreads", "bins"],
)
def test_a_model_asked_like_a_file_says_what_it_says(kind):
    model = small_model(**kind).eval()
    pixels = crops((32, 24))
    found = read(own_network(ModelTeacher(model), PATH), pixels)
    wanted = model.predict(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    torch.testing.assert_close(found.xy, wanted.xy, rtol=0, atol=1e-3)


def test_a_network_of_transformers_asked_like_a_file_says_what_it_says(tmp_path):
    save_vitpose(tmp_path)
    teacher = TransformersConfig(path=tmp_path).build()
    own = own_network(teacher, tmp_path)
    pixels = crops(SIZE)
    maps = own.layout.prediction(own.layout.look(own.network, pixels)).maps
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    wanted = teacher.head(teacher.features_of((image - teacher.mean) / teacher.std)).maps
    torch.testing.assert_close(maps, wanted, rtol=0, atol=1e-5)
    assert own.layout.skeleton.names == teacher.skeleton.names


def test_a_file_is_asked_by_itself(tmp_path):
    pytest.importorskip("onnxruntime")
    teacher = FileConfig(path=write_teacher(tmp_path / "t.onnx")).build()
    with pytest.raises(UserError, match="is a FileTeacher, which is asked by its own file"):
        own_network(teacher, tmp_path / "t.onnx")


def test_a_model_that_learnt_its_people_passes_the_check_and_wrong_colours_are_worse():
    source = DotSource(24)
    model = small_model("heatmap", seed=3).train()
    dataset = TopDownDataset(source, size=(32, 24), labels=Labels(np.arange(24), np.ones(24, dtype=bool)))
    batch = dataset.__getitems__([(0, index) for index in range(24)])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        model.task_loss(model(batch.image), batch).backward()
        optimiser.step()
    own = own_network(ModelTeacher(model), PATH)
    found = check_teacher(own.network, [own.layout], source)
    assert found.remedy is None
    others = {each.name: each.mean for each in found.others}
    assert found.declared.mean > max(0.5, others["colours the other way round"] + 0.1)
    assert "px from 0 to 255" in others
