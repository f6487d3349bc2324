from dataclasses import replace

import cv2
import numpy as np
import pytest

from posestill.engine.fit import FitResult
from posestill.engine.setup import Sources
from posestill.evaluation.evaluate import EvaluateConfig, evaluate_model
from posestill.study import people
from posestill.study.jobs import Asked
from posestill.study.people import PEOPLE, SIZE, keep_people, people_by_arm, place_of
from tests.conftest import DotSource, small_model
from tests.study.plans import small_plan, small_row

RATES = {("few", "alone"): 1e-3, ("few", "tcd"): 1e-3}


def ended(folder, source):
    """A run that has just ended, untrained."""
    evaluation = evaluate_model(small_model(), source, EvaluateConfig(flip_test=False))
    return FitResult(folder, Sources(source, source), evaluation, seconds=1.0, is_main_process=True)


def row(arm, *, split="test", seed=1, **changes):
    return small_row(Asked(split, "few", arm, 1e-3, seed), **changes)


def keep(work, *names):
    for name in names:
        path = place_of(work, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_a_run_leaves_a_strip_of_people_with_its_poses_and_one_with_the_labels(tmp_path):
    keep_people(ended(tmp_path, DotSource(9)), tmp_path, "test/few/tcd-lr0.001-seed1", of_split="test/few")
    strips = {str(path.relative_to(tmp_path)): cv2.imread(str(path)) for path in sorted(tmp_path.rglob("*.jpg"))}
    assert list(strips) == ["people/test/few/labels.jpg", "people/test/few/tcd-lr0.001-seed1.jpg"]
    assert {each.shape for each in strips.values()} == {(SIZE[0], PEOPLE * SIZE[1], 3)}
    one, other = strips.values()
    assert np.abs(one.astype(int) - other).max() > 60  # other poses on the same people
    assert not list(tmp_path.rglob("*.draft"))


def test_the_poses_are_those_of_the_people_that_are_drawn(tmp_path):
    source = DotSource(9)
    result = ended(tmp_path, source)
    places = np.stack([person.keypoints[:, :2] for person in source.people])
    right = replace(result, evaluation=replace(result.evaluation, places=places))
    keep_people(right, tmp_path, "test/few/tcd-lr0.001-seed1", of_split="test/few")
    one, other = (path.read_bytes() for path in sorted(tmp_path.rglob("*.jpg")))
    assert one == other


def test_nobody_is_drawn_where_nobody_has_labels_and_a_full_disk_harms_no_run(tmp_path, monkeypatch):
    result = ended(tmp_path, DotSource(3))
    keep_people(replace(result, sources=Sources(DotSource(1), DotSource(3, unlabelled=3))), tmp_path, "n", of_split="s")
    assert not list(tmp_path.rglob("*.jpg"))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(people, "write_whole", full)
    keep_people(result, tmp_path, "test/few/tcd-lr0.001-seed1", of_split="test/few")
    assert not list(tmp_path.rglob("*.jpg"))


def test_arms_are_shown_by_their_titles_behind_the_labels_by_the_first_seed_on_test(tmp_path):
    rows = [row("tcd", seed=2), row("tcd"), row("alone"), row("alone", split="tune", seed=7)]
    names = ["alone-lr0.001-seed1", "tcd-lr0.001-seed1", "tcd-lr0.001-seed2", "labels"]
    keep(tmp_path, *(f"test/few/{name}" for name in names))
    (found,) = people_by_arm(small_plan(), rows, RATES, tmp_path)
    assert found.regime == "few"
    assert list(found.strips) == ["labels", "student alone", "TCD"]
    assert found.strips["TCD"] == b"test/few/tcd-lr0.001-seed1"
    assert not found.missing


def test_without_runs_on_test_those_of_tune_are_shown_and_a_twin_has_the_pictures_of_the_run_that_it_is(tmp_path):
    twin = row("alone", split="tune", seed=7, same_run_as="tune/many/alone-lr0.001-seed7")
    keep(tmp_path, "tune/many/alone-lr0.001-seed7")
    (found,) = people_by_arm(small_plan(), [twin], RATES, tmp_path)
    assert found.strips == {"student alone": b"tune/many/alone-lr0.001-seed7"}


def test_an_arm_whose_pictures_are_not_there_is_named(tmp_path):
    keep(tmp_path, "test/few/tcd-lr0.001-seed1")
    (found,) = people_by_arm(small_plan(), [row("tcd"), row("alone")], RATES, tmp_path)
    assert (list(found.strips), list(found.missing)) == (["TCD"], ["student alone"])
    (nothing,) = people_by_arm(small_plan(), [row("tcd")], RATES, tmp_path / "elsewhere")
    assert (nothing.strips, list(nothing.missing)) == ({}, ["TCD"])


@pytest.mark.parametrize(("most", "left_out"), [(1, True), (2, False)])
def test_a_page_does_not_grow_without_end(tmp_path, monkeypatch, most, left_out):
    monkeypatch.setattr(people, "MOST_STRIPS", most)
    keep(tmp_path, "test/few/tcd-lr0.001-seed1", "test/few/alone-lr0.001-seed1")
    (found,) = people_by_arm(small_plan(), [row("tcd"), row("alone")], RATES, tmp_path)
    assert (found.left_out, len(found.strips)) == (left_out, 0 if left_out else 2)
