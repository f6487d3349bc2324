import pickle
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from posestill.cli.main import app
from posestill.data.packed import PackedConfig, PackedSource, pack
from posestill.engine.config import load_run
from posestill.engine.fit import fit
from posestill.engine.setup import Sources
from posestill.schema import UserError
from tests.conftest import DotSource, small_run


def test_a_packed_source_has_the_same_people_skeleton_and_nearly_the_same_pixels(tmp_path):
    source = DotSource(6)
    seen = {person.image_id: source.image(person.image_id) for person in source.people}
    source.image = seen.__getitem__
    source.people[2] = replace(source.people[2], keypoints=None, crowd=True, score=0.5)
    assert pack(source, tmp_path / "dots.npz") == 6
    packed = PackedConfig(file=tmp_path / "dots.npz").build()
    assert packed.skeleton == source.skeleton
    assert list(packed.image_ids) == [person.image_id for person in source.people]
    for one, other in zip(source.people, packed.people, strict=True):
        assert (one.id, one.image_id, one.area, one.score, one.crowd) == (
            other.id, other.image_id, other.area, other.score, other.crowd
        )  # fmt: skip
        np.testing.assert_array_equal(one.bbox, other.bbox)
        assert (one.keypoints is None) == (other.keypoints is None)
        if one.keypoints is not None:
            np.testing.assert_array_equal(one.keypoints, other.keypoints)
        apart = packed.image(one.image_id).astype(int) - source.image(one.image_id)
        assert np.abs(apart).mean() < 6  # JPEG
    again = pickle.loads(pickle.dumps(packed))
    np.testing.assert_array_equal(again.image(again.people[0].image_id), packed.image(packed.people[0].image_id))


def test_a_shrunk_image_takes_its_people_with_it(tmp_path):
    source = DotSource(1)
    person = source.people[0]
    source.image = lambda image_id: np.zeros((100, 200, 3), dtype=np.uint8)
    places = np.array([[9.5, 19.5, 2], [0, 0, 0], [99.5, 49.5, 1], [30.0, 40.0, 2]])
    source.people = [replace(person, bbox=np.array([-0.5, 9.5, 40.0, 60.0]), keypoints=places, area=400.0)]
    pack(source, tmp_path / "small.npz", long_side=50)
    packed = PackedSource(tmp_path / "small.npz")
    assert packed.image(person.image_id).shape == (25, 50, 3)
    (small,) = packed.people
    np.testing.assert_allclose(small.bbox, [-0.5, 2, 10, 15])  # edges at half pixels stay edges at half pixels
    np.testing.assert_allclose(small.keypoints, [[2, 4.5, 2], [0, 0, 0], [24.5, 12, 1], [7.125, 9.625, 2]])
    assert small.area == 25


def test_a_choice_leaves_out_crowds_people_without_labels_and_their_images(tmp_path):
    source = DotSource(6)
    source.people[0] = replace(source.people[0], keypoints=None)
    source.people[1] = replace(source.people[1], crowd=True)
    assert pack(source, tmp_path / "few.npz", people=3) == 3
    packed = PackedSource(tmp_path / "few.npz")
    assert [person.id for person in packed.people] == [person.id for person in source.people[2:5]]
    assert len(packed.image_ids) == 3
    source.people = source.people[:1]
    with pytest.raises(UserError, match="nobody to pack"):
        pack(source, tmp_path / "none.npz", people=3)


def test_a_broken_foreign_or_missing_file_is_named_with_the_remedy(tmp_path):
    pack(DotSource(4), tmp_path / "good.npz")
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    for name in ("cut", "foreign", "text"):
        with pytest.raises(UserError, match=f"{name}.npz is not a whole packed dataset"):
            PackedSource(tmp_path / f"{name}.npz")
    with pytest.raises(UserError, match=r"no packed dataset .*data pack"):
        PackedSource(tmp_path / "none.npz")


def test_a_run_trains_on_a_packed_source(tmp_path):
    pack(DotSource(8), tmp_path / "dots.npz")
    packed = PackedSource(tmp_path / "dots.npz")
    result = fit(small_run(), tmp_path / "run", sources=Sources(packed, packed), quiet=True)
    assert result.evaluation.metrics["mean_oks"] > 0


def test_the_command_packs_the_data_of_a_recipe_and_says_how_to_use_it(tmp_path):
    file = tmp_path / "people.npz"
    asked = ["data", "pack", "quickstart", "--out", str(file), "--part", "val", "--people", "5"]
    asked += ["--set", "data.val.people=9"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    assert "5 people, 5 images" in told.output
    line = next(line for line in told.output.splitlines() if "name: packed" in line)
    run = load_run("quickstart", [f"data.val={line.split('data.val: ')[1]}"])
    assert len(run.data.val.build().people) == 5
    assert CliRunner().invoke(app, asked).exit_code == 0  # posestill wrote it, and writes it again
    file.write_bytes(b"mine")
    with pytest.raises(UserError, match="is there already, and not what data pack wrote there"):
        CliRunner().invoke(app, asked, catch_exceptions=False)
    assert file.read_bytes() == b"mine"
