import shlex
from pathlib import Path

from posestill.html.next_step import next_commands
from tests.conftest import small_run


def typed(config, folder):
    return [shlex.split(command) for _, command in next_commands(config, Path(folder), longer_first=False)]


def said_of(config):
    return next_commands(config, Path("runs/a"), longer_first=False)


def test_a_run_is_followed_by_looking_exporting_showing_and_training_on():
    longer = {"steps": 6, "batch_size": 8}
    assert typed(small_run(train=longer), "runs/a") == [
        ["posestill", "predict", "runs/a/best", "PICTURES", "--out", "runs/a/predictions"],
        ["posestill", "export", "runs/a/best", "--out", "runs/a/export", "--recipe", "runs/a"],
        ["posestill", "page", "runs/a/best", "--out", "runs/a/page"],
        ["posestill", "train", "runs/a", "--out", "runs/a", "--resume", "--set", "train.steps=12"],
    ]


def test_training_for_longer_comes_first_where_the_run_had_not_converged():
    said = next_commands(small_run(), Path("runs/a"), longer_first=True)
    assert said[0][0] == "Train it for longer, as it had not converged:"
    assert [command.split()[1] for _, command in said] == ["train", "predict", "export", "page"]


def test_a_run_whose_steps_belong_to_its_length_is_begun_anew():
    falling = {"steps": 6, "batch_size": 8, "optimiser": {"schedule": "cosine"}}
    assert typed(small_run(train=falling), "runs/a")[-1] == [
        "posestill", "train", "runs/a", "--out", "runs/a-longer", "--set", "train.steps=12",
    ]  # fmt: skip


def test_numbers_are_written_out_as_settings_take_them():
    assert typed(small_run(train={"steps": 1_234_567, "batch_size": 8}), "runs/a")[-1][-1] == "train.steps=2469134"
    assert typed(small_run(train={"epochs": 2.5, "batch_size": 8}), "runs/a")[-1][-1] == "train.epochs=5.0"


def test_pictures_without_labels_are_named_and_nothing_is_judged_by_them():
    data = {"train": {"name": "images", "folder": ["my photos"]}, "val": {"name": "held_out"}}
    config = small_run(data=data, teacher="bundled", method="pseudo_label")
    found = typed(config, "runs/a b")
    assert found[0] == ["posestill", "predict", "runs/a b/best", "my photos", "--out", "runs/a b/predictions"]
    assert "--recipe" not in found[1]
    assert [each[0][0] for each in (said_of(config), said_of(small_run()))] == [
        "Draw its poses on pictures:", "Draw its poses on your pictures or videos, in the place of PICTURES:",
    ]  # fmt: skip
    assert found[3][1] == "distil"
