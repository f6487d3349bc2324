import pytest
import torch

from posestill.engine import choose
from posestill.engine.choose import Wish, bytes_of_crop, choose_run, open_teacher, settings_of, starts_from_nothing
from posestill.engine.config import run_of
from posestill.models.pose_model import ModelConfig, build_model
from posestill.schema import UserError, validate
from posestill.skeletons import COCO_17
from posestill.teachers.checkpoint import BundledConfig
from tests.conftest import small_model
from tests.engine.test_pictures import Heard
from tests.networks import write_photos, write_teacher


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(choose, "_can_be_fetched", lambda: False)
    monkeypatch.setattr(choose, "_is_cached", lambda published: False)


@pytest.fixture
def wish(tmp_path):
    return Wish(images=[write_photos(tmp_path / "p", 20)], teacher=str(write_teacher(tmp_path / "t.onnx")))


def test_every_choice_is_a_line_and_the_run_is_an_ordinary_one(tmp_path, wish):
    log = Heard()
    chosen = choose_run(wish, tmp_path / "run", log=log)
    told = [line.partition(":")[0] for line in log.lines if ": " in line]
    assert told == [
        "teacher",
        "people",
        "student",
        "weights",
        "method",
        "held out",
        "data.train",
        "data.val",
        "crops",
        "length",
    ]
    config = chosen.config
    assert config.model.size == (128, 96)
    assert config.model.backbone.model == "mobilenetv3_small_050"
    assert config.data.crops is not None
    assert config.teacher.kept.folder.parent == tmp_path / "run"
    assert config.train.epochs == 200  # few people are seen often
    assert config.train.optimiser.warmup_steps == 8
    assert config.teacher.kept.leave_out == 0.25
    assert log.lines[-1] == "length: 200 passes over 13 people, 81 steps of 32 (--steps N for another)"
    assert len(chosen.sources.train.people) == 17
    assert run_of(config.model_dump(mode="json"), where="test") == config


def test_steps_and_changes_have_the_last_word(tmp_path, wish):
    short = Wish(images=wish.images, teacher=wish.teacher, steps=7)
    assert choose_run(short, tmp_path, log=Heard()).config.train.steps == 7
    changed = choose_run(wish, tmp_path, changes=["train.steps=5", "train.batch_size=4"], log=Heard()).config
    assert (changed.train.steps, changed.train.epochs, changed.train.batch_size) == (5, None, 4)
    assert changed.train.optimiser.warmup_steps == 0
    longer = choose_run(wish, tmp_path, changes=["train.epochs=400"], log=Heard()).config
    assert (longer.train.epochs, longer.train.save_every, longer.train.optimiser.warmup_steps) == (400, 20, 16)


def test_answers_about_augmented_crops_leave_nobody_out(tmp_path, wish):
    config = choose_run(wish, tmp_path, changes=["teacher.cache.views=2"], log=Heard()).config
    assert (config.teacher.kept.views, config.teacher.kept.leave_out) == (2, 0)


def test_many_large_crops_are_cut_from_the_files(tmp_path, wish, monkeypatch):
    monkeypatch.setattr(choose, "MOST_BYTES_OF_CROPS", 1000)
    log = Heard()
    chosen = choose_run(wish, tmp_path, log=log)
    assert chosen.config.data.crops is None
    assert any(line.startswith("crops: cut from the files every time") for line in log.lines)
    assert bytes_of_crop((128, 96)) == 3 * 268**2


@pytest.mark.parametrize(
    ("student", "size", "maps", "sharpness"),
    [("small", (128, 96), (32, 24), (1.41, 7)), ("good", (192, 160), (48, 40), (1.73, 9)),
     ("resnet18", (192, 160), (48, 40), (1.73, 9)), ("hrnet_w18_small", (192, 160), (48, 40), (1.73, 9)),
     ("vit_tiny_patch16_224", (192, 160), (48, 40), (1.73, 9))],
)  # fmt: skip
def test_a_student_of_any_stride_draws_heatmaps_of_a_quarter_of_its_crops(
    tmp_path, wish, student, size, maps, sharpness
):
    log = Heard()
    content = settings_of(Wish(images=wish.images, teacher=wish.teacher, student=student), tmp_path, log=log)
    model = build_model(validate(ModelConfig, content["model"], where="test"), COCO_17)
    assert model(torch.zeros(1, 3, *size)).prediction.maps.shape == (1, 17, *maps)
    assert (model.codec.config.sigma, model.codec.config.blur_kernel) == sharpness
    assert any(line.endswith(f"crops of {size[0]}x{size[1]}, heatmaps") for line in log.lines)


def test_a_network_whose_map_never_becomes_the_heatmaps_is_refused_with_a_remedy(tmp_path, wish):
    changes = ["model.backbone=vit_tiny_patch16_224", "model.codec.stride=6", "model.size=[192, 144]"]
    config = choose_run(wish, tmp_path, changes=changes, log=Heard()).config
    with pytest.raises(UserError, match=r"map of 12 x 9, doubled .* of 32 x 24: .* set model.head=simcc and"):
        build_model(config.model, COCO_17)


def test_any_network_of_timm_is_a_student_and_a_wrong_name_is_answered(tmp_path, wish):
    log = Heard()
    content = settings_of(Wish(images=wish.images, teacher=wish.teacher, student="resnet18"), tmp_path, log=log)
    assert content["model"]["backbone"] == {"name": "resnet18"}
    assert content["model"]["size"] == [192, 160]
    with pytest.raises(
        UserError, match="--student: 'smal' is neither small nor good nor a network of timm; did you mea"
    ):
        settings_of(Wish(images=wish.images, teacher=wish.teacher, student="smal"), tmp_path, log=Heard())


@pytest.mark.parametrize(
    ("cached", "fetched", "given", "backbone", "line"),
    [
        (False, False, None, {}, "weights: RANDOM, as those of mobilenetv3_small_050 are not in timm's cache"),
        (True, False, None, {"pretrained": True}, "weights: timm's pretrained ones (lamb_in1k, licence apache-2.0)"),
        (False, True, None, {"pretrained": True}, "weights: timm's pretrained ones"),
        (False, False, "own.safetensors", {"weights": "own.safetensors"}, "weights: own.safetensors"),
    ],
)
def test_weights_come_from_a_file_else_from_timm_else_they_are_random_and_it_is_said(
    tmp_path, wish, monkeypatch, cached, fetched, given, backbone, line
):
    from pathlib import Path

    monkeypatch.setattr(choose, "_is_cached", lambda published: cached)
    monkeypatch.setattr(choose, "_can_be_fetched", lambda: fetched)
    log = Heard()
    wanted = Wish(images=wish.images, teacher=wish.teacher, weights=None if given is None else Path(given))
    content = settings_of(wanted, tmp_path, log=log)
    assert content["model"]["backbone"] == {"name": "mobilenetv3_small_050", "stride": 16, **backbone}
    assert any(each.startswith(line) for each in log.lines)
    config = run_of({**content, "train": {"steps": 1}}, where="test")
    assert starts_from_nothing(config).startswith("RANDOM WEIGHTS: the student (mobilenetv3_small_050)") == (
        not backbone
    )


def test_a_network_that_timm_has_no_weights_of_is_said_to_be_random(tmp_path, wish):
    log = Heard()
    settings_of(Wish(images=wish.images, teacher=wish.teacher, student="resnet18d"), tmp_path, log=log)
    settings_of(Wish(images=wish.images, teacher=wish.teacher, student="test_vit2"), tmp_path, log=log)
    assert sum("RANDOM" in line for line in log.lines) == 2


def test_answers_of_another_attempt_in_the_same_folder_lie_elsewhere(tmp_path, wish):
    def folder(**changes):
        given = Wish(**{**vars(wish), **changes})
        return settings_of(given, tmp_path, log=Heard())["teacher"]["cache"]["folder"]

    assert folder() == folder()
    assert len({folder(), folder(student="good"), folder(teacher="other.onnx"), folder(frame_step=3)}) == 4


def test_a_teacher_is_a_file_a_folder_or_a_name(tmp_path):
    assert open_teacher(str(write_teacher(tmp_path / "t.onnx"))).lineage["file"] == "t.onnx"
    small_model().save(tmp_path / "model")
    assert open_teacher(str(tmp_path / "model")).input_size == (32, 24)
    assert open_teacher("bundled").skeleton == BundledConfig().build().skeleton
    with pytest.raises(UserError, match="no model folder"):
        open_teacher(str(tmp_path / "gone"))
    with pytest.raises(UserError, match="did you mean"):
        open_teacher(str(tmp_path / "t.onnx"), layuot="movenet")
