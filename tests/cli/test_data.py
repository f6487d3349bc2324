import pytest


@pytest.mark.parametrize(
    "content", ["names: person\nkpt_shape: [2, 3]\ntrain: .\n", "path: 3\nkpt_shape: [2, 3]\ntrain: .\n"]
)
def test_a_malformed_yolo_file_is_named(posestill, tmp_path, content):
    (tmp_path / "data.yaml").write_text(content)
    status, _, err = posestill("data", "check", tmp_path / "data.yaml", "--sheet", tmp_path / "s.png")
    assert status == 2
    assert "data.yaml" in err
    assert "Traceback" not in err
    assert posestill("data", "check", tmp_path, "--sheet", tmp_path / "s.xyz")[0] == 2


@pytest.mark.parametrize("more", [("--part", "val"), ("--people", 3), ("--long-side", 64)])
def test_packed_crops_are_of_everybody_who_is_trained_on(posestill, recipe, tmp_path, more):
    status, _, err = posestill("data", "pack", recipe, "--crops", "--out", tmp_path / "o", *more)
    assert status == 2
    assert "--crops: everybody whom the recipe trains on is packed; leave --part, --people, --long-side" in err
    assert not (tmp_path / "o").exists()
