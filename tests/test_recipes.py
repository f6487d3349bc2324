"""Recipes that need data or weights which are not here are built with the data replaced, and otherwise as they are."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from posestill.data.synthetic.people import SyntheticConfig
from posestill.engine.config import dump_run, find_recipe, load_run, recipe_names
from posestill.engine.fit import fit
from posestill.engine.log import RunLog
from posestill.engine.setup import Sources, open_sources, try_one_batch
from posestill.models.pose_model import PoseModel
from posestill.skeletons import COCO_17, COCO_WHOLEBODY
from tests.conftest import shared_folder
from tests.test_docs import printed_runs


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_a_whole_run_and_loads_back_from_what_it_prints(name, tmp_path):
    run = load_run(name)
    (tmp_path / "printed.yaml").write_text(dump_run(run))
    assert load_run(str(tmp_path / "printed.yaml")) == run


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_in_one_line_whether_it_was_run_here_and_what_came_of_it(name):
    told = re.findall(r"^#.*(?:[Rr]un here|its end here).*$", find_recipe(name).read_text(), flags=re.M)
    assert len(told) == 1
    for path in re.findall(r"results/[\w/.-]+\w", told[0]):
        assert (Path(__file__).parents[1] / path).exists()


WHOLE = [(name, []) for name in recipe_names() if name.startswith(("coco/", "wholebody/"))]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "printed"), [*WHOLE, *(each for each in printed_runs() if each[1])])
def test_a_recipe_for_the_whole_of_coco_fits_together(name, printed, tmp_path):
    """So does one with the changes that the docs print: its parts are built and one small batch goes through; only
    weights and data are replaced.
    """
    if not name.startswith(("coco/", "wholebody/")):
        pytest.skip("trains on synthetic people or photographs")
    run = load_run(name, printed)
    changes = [*printed, "train.batch_size=2"]
    if getattr(run.model.backbone, "pretrained", False):
        changes.append("model.backbone.pretrained=false")
    if run.teacher is not None:
        torch.manual_seed(0)
        task = name.partition("/")[0]
        recipe = f"{task}/teacher-{run.teacher.path.parent.name.removeprefix(f'{task}-')}"
        told = []
        if recipe == "coco/teacher-vit-base-heatmap":  # which the docs make of another
            recipe, told = next(each for each in printed_runs() if any("=vit_base" in change for change in each[1]))
        teacher = load_run(
            f"{task}/teacher-resnet50-heatmap" if recipe not in recipe_names() else recipe,
            [*told, "model.backbone.pretrained=false"],
        )
        skeleton = COCO_WHOLEBODY if task == "wholebody" else COCO_17
        PoseModel(teacher.model, skeleton).save(tmp_path / "teacher")
        changes.append(f"teacher={tmp_path / 'teacher'}")
        if run.model.init_from is not None:
            changes.append(f"model.init_from={tmp_path / 'teacher'}#backbone")
    run = load_run(name, changes)
    people = SyntheticConfig(people=4, keypoints=133 if name.startswith("wholebody") else 17).build()
    losses = try_one_batch(run, Sources(people, people), log=RunLog(None, quiet=True))
    assert 0 < next(iter(losses.values())) < 100  # the task loss
    assert all(0 <= value < 100 for value in losses.values())  # an untrained teacher is sure of nothing


def test_the_changes_that_the_recipe_for_photographs_prints_make_it_a_coco_recipe():
    text = find_recipe("coco-sample").read_text()
    command = " ".join(re.findall(r"^#   (.*?)\\?$", text, flags=re.M))
    words = shlex.split(command)
    changes = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    run = load_run("coco-sample", changes)
    published = load_run("coco/teacher-resnet50-heatmap")
    assert run.data == published.data
    assert run.model == published.model
    assert run.train == published.train


def test_the_recipe_for_the_sample_opens_what_data_sample_wrote_and_fits(sample_folder, monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sample").symlink_to(sample_folder)
    monkeypatch.chdir(tmp_path)
    run = load_run("sample")
    sources = open_sources(run)
    assert (len(sources.train.image_ids), len(sources.val.image_ids)) == (60, 20)
    assert try_one_batch(run, sources, log=RunLog(None, quiet=True))["task"] > 0


@pytest.mark.parametrize("name", ["coco-sample", "lsp-photos"])
def test_recipes_for_the_photographs_open_and_fit(name, monkeypatch, tmp_path):
    if not shared_folder().is_dir():
        pytest.skip("the photographs are not on this machine (set POSESTILL_SHARED)")
    beside = tmp_path / "checkout"  # the recipes say ../shared: beside the folder one stands in
    beside.mkdir()
    (tmp_path / "shared").symlink_to(shared_folder().resolve())
    monkeypatch.chdir(beside)
    run = load_run(name)
    sources = open_sources(run)
    assert len(sources.train.skeleton) == {"coco-sample": 17, "lsp-photos": 14}[name]
    assert try_one_batch(run, sources, log=RunLog(None, quiet=True))["task"] > 0


@pytest.mark.release
def test_the_recipe_for_the_photographs_of_coco_overfits_them(coco_sample, tmp_path):
    folder = {"annotations": str(coco_sample / "annotations" / "all.json"), "images": str(coco_sample / "images")}
    run = load_run("coco-sample", [f"data.{part}={{name: coco, annotations: {folder['annotations']}, "
                                   f"images: {folder['images']}}}" for part in ("train", "val")])  # fmt: skip
    result = fit(run, tmp_path / "run")
    assert result.evaluation.metrics["AP"] >= 0.90
    assert result.evaluation.conditions["persons"] == 36
    assert result.seconds < 600
