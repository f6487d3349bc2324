import json
from dataclasses import replace

import numpy as np
import pytest

from posestill.codecs.heatmap import HeatmapConfig
from posestill.data.augment import AugmentConfig
from posestill.data.topdown import FixedViews, Labels, TopDownDataset
from posestill.schema import UserError
from posestill.teachers.base import CacheConfig, ModelTeacher
from posestill.teachers.checkpoint import CheckpointConfig
from posestill.teachers.file import FileTeacher, open_layout
from posestill.teachers.layouts import LayoutConfig, MapsOutput
from posestill.teachers.made_for import as_read_back, describe, first_difference, identity, read_description, table_of
from posestill.teachers.runtime import Port, RuntimeNetwork
from tests.conftest import DOTS, DotSource, small_model
from tests.teachers.painter import Painter

HALF = AugmentConfig(half_body=0.5, half_body_above=2)


def described(source=None, *, teacher=None, config=None, augment=None, size=(32, 24), labels=None):
    """What is said of a cache of 24 persons, and their table."""
    source, config = source or DotSource(), config or CacheConfig()
    views = FixedViews(config.views, config.seed) if config.views else None
    dataset = TopDownDataset(source, size=size, augment=augment, fixed_views=views, labels=labels)
    return as_read_back(describe(config, teacher or Painter(source), dataset)), table_of(dataset)


def difference(tmp_path, there, here):
    """What the refusal says in its brackets, of a folder made for `there` and a run that is `here`."""
    content, table = there
    (tmp_path / "cache.json").write_text(json.dumps(content))
    np.save(tmp_path / "persons.npy", table)
    with pytest.raises(UserError) as caught:
        read_description(tmp_path, *here)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"teacher.cache.folder: {tmp_path} was made for something else (")
    assert text.endswith("): name another folder, or delete this one")
    return text[text.index("(") + 1 : text.rindex(")")]


def test_the_same_run_finds_no_difference_whatever_its_seed_and_labels(tmp_path):
    content, table = described()
    (tmp_path / "cache.json").write_text(json.dumps({**content, "learnt": {"first_cell": 1.5}}))
    np.save(tmp_path / "persons.npy", table)
    few = Labels(persons=np.arange(24), shown=np.arange(24) < 3)
    assert read_description(tmp_path, *described(labels=few))["learnt"] == {"first_cell": 1.5}
    assert read_description(tmp_path, *described(size=(64, 48))) is not None  # of the same aspect: the same crops


def other_people(change):
    source = DotSource()
    source.people = [replace(person, **change(person)) if person.id == 7 else person for person in source.people]
    source.image = DotSource().image
    return source


def other_picture():
    source = DotSource(4)
    image = source.image
    source.image = lambda image_id: image(image_id) + (image_id == 3)
    return source


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ({}, {"config": CacheConfig(keep="maps")}, "keep: keypoints there, maps here"),
        ({}, {"teacher": Painter(DotSource(), sha256="another")}, "teacher.sha256: of a painter there, another here"),
        (
            {"teacher": ModelTeacher(small_model(seed=1))},
            {"teacher": ModelTeacher(small_model(seed=1, codec={"name": "heatmap", "stride": 2, "sigma": 1.5}))},
            "teacher.model.codec.sigma: 1.0 there, 1.5 here",
        ),
        (
            {"teacher": ModelTeacher(small_model())},
            {"teacher": ModelTeacher(small_model(skeleton=DOTS.model_copy(
                update={"names": ("top", "left_side", "right_side", "chin")})))},
            "keypoints 3: bottom there, chin here",
        ),
        ({}, {"teacher": Painter(DotSource(), gives="keypoints")}, "form.kind: MapForm there, NumberForm here"),
        ({}, {"teacher": Painter(DotSource(), size=(64, 48))}, "form.input_size 0: 32 there, 64 here"),
        ({}, {"size": (32, 32)}, "crops.around crops of height:width: 4:3 there, 1:1 here"),
        ({}, {"config": CacheConfig(views=2)}, "views.count: 0 there, 2 here"),
        (
            {"config": CacheConfig(views=2)}, {"config": CacheConfig(views=3)}, "views.count: 2 there, 3 here",
        ),
        (
            {"config": CacheConfig(views=2)}, {"config": CacheConfig(views=2, seed=5)}, "views.seed: 0 there, 5 here",
        ),
        (
            {"config": CacheConfig(views=2), "augment": AugmentConfig()},
            {"config": CacheConfig(views=2), "augment": AugmentConfig(rotation=40)},
            "views.augment.rotation: 80.0 there, 40.0 here",
        ),
        (
            {"config": CacheConfig(views=2), "augment": HALF},
            {"config": CacheConfig(views=2), "augment": HALF, "labels": Labels(np.arange(24), np.arange(24) < 3)},
            "views.labels for half bodies: ",
        ),
        ({}, {"source": DotSource(23)}, "persons.count: 24 there, 23 here"),
        (
            {}, {"source": other_people(lambda person: {"id": 99})},
            "persons: number 6 has the id 7 there and 99 here",
        ),
        (
            {}, {"source": other_people(lambda person: {"image_id": 2})},
            "persons: number 6 has the image_id 7 there and 2 here",
        ),
        (
            {}, {"source": other_people(lambda person: {"bbox": np.array([1.0, 2, 3, 4])})},
            "persons: number 6 has the bbox [",
        ),
        ({"source": DotSource(4)}, {"source": other_picture()}, "pictures.3: "),
    ],
)  # fmt: skip
def test_the_first_difference_is_named_in_one_line(tmp_path, there, here, said):
    assert difference(tmp_path, described(**there), described(**here)).startswith(said)


def test_another_format_and_a_broken_file_are_refused(tmp_path):
    content, table = described()
    assert difference(tmp_path, ({**content, "format": "posestill teacher cache 0"}, table), (content, table)) == (
        "format: posestill teacher cache 0 there, posestill teacher cache 1 here"
    )
    (tmp_path / "cache.json").write_text("{")
    with pytest.raises(UserError, match=r"cache.json is malformed"):
        read_description(tmp_path, content, table)


def test_a_teacher_is_known_by_its_weights_wherever_they_lie(tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        small_model(seed=seed).save(tmp_path / name)
    one, same, other = (identity(CheckpointConfig(path=tmp_path / name).build()) for name in ("one", "same", "other"))
    assert one == same
    assert first_difference(one, other) is not None
    assert len(one["sha256"]) == 64
    assert "path" not in one
    handed = [identity(ModelTeacher(small_model(seed=seed))) for seed in (1, 1, 2)]
    assert handed[0] == handed[1] != handed[2]


class Network(RuntimeNetwork):
    """What a file would be to a runtime: 17 heatmaps."""

    inputs = (Port("crop", (1, 3, 64, 48), np.dtype(np.float32)),)
    outputs = (Port("maps", (1, 17, 16, 12), np.dtype(np.float32)),)

    def __init__(self, path):
        self.path = path
        path.write_bytes(b"weights")


def test_a_teacher_in_a_file_is_known_by_its_bytes_and_by_how_it_is_read(tmp_path):
    network, other = Network(tmp_path / "one.onnx"), Network(tmp_path / "other-name.onnx")
    layout = LayoutConfig(output=MapsOutput(), codec=HeatmapConfig())
    same = [identity(FileTeacher(each, open_layout(each, layout))) for each in (network, other)]
    assert same[0] == same[1]
    brighter = layout.model_copy(update={"mean": (1.0, 0.0, 0.0)})
    read = identity(FileTeacher(network, open_layout(network, brighter)))
    assert first_difference(same[0], read, "teacher") == "teacher.layout.mean: nothing there, [1.0, 0.0, 0.0] here"


def test_a_teacher_that_does_not_say_which_network_it_is_cannot_be_kept_on_disk():
    teacher = Painter(DotSource(2))
    teacher.lineage = {"layout": "mine"}
    with pytest.raises(UserError, match="Painter does not say which network it is .*folder: null"):
        identity(teacher)


def test_a_long_value_is_shortened():
    assert first_difference({"a": "x" * 99}, {"a": None}) == f"a: {'x' * 37}... there, nothing here"
