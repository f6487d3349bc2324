import json
from dataclasses import replace

import numpy as np
import pytest

from posestill.data.coco import CocoSource
from posestill.data.synthetic.people import SyntheticConfig
from posestill.evaluation.evaluate import (
    EvaluateConfig,
    PredictedPoses,
    Share,
    as_coco_results,
    evaluate_model,
    person_score,
    predict_poses,
    score_poses,
    spread_evenly,
)
from posestill.evaluation.results import read_results, score_results
from posestill.schema import UserError
from posestill.types import Person
from tests.conftest import DotSource, small_model

UPRIGHT = EvaluateConfig(flip_test=False)


def test_perfect_poses_score_perfectly():
    source = DotSource(10)
    model = small_model()
    poses = predict_poses(model, source, np.arange(10), UPRIGHT)
    truth = np.stack([person.keypoints for person in source.people])
    exact = replace(poses, keypoints=truth)
    evaluation = score_poses(exact, source, own_boxes=True, conditions={})
    assert evaluation.metrics["AP"] == pytest.approx(1)
    assert evaluation.metrics["mean_oks"] == pytest.approx(1)
    assert evaluation.metrics["PCK"] == 1
    assert evaluation.metrics["normalised_error"] == 0
    assert (evaluation.similarity == 1).all()


def test_every_labelled_person_is_predicted_once_in_the_order_of_the_source():
    source = DotSource(11, unlabelled=2)
    first = source.people[4]
    source.people[4] = Person(first.id, first.image_id, first.bbox, first.keypoints, first.area, crowd=True)
    evaluation = evaluate_model(small_model(), source, EvaluateConfig(batch_size=4))
    assert evaluation.poses.person.tolist() == [2, 3, 5, 6, 7, 8, 9, 10]
    assert evaluation.conditions["persons"] == 8


def test_the_shares_of_several_processes_make_the_whole(monkeypatch):
    source, model = DotSource(11), small_model().eval()
    rows = []
    monkeypatch.setattr("posestill.evaluation.evaluate.gather_object", lambda own: rows.extend(own) or own)
    for rank in range(3):
        predict_poses(model, source, np.arange(11), EvaluateConfig(batch_size=2), Share(rank=rank, world=3))
    assert sorted(row[0] for row in rows) == list(range(11))
    whole = predict_poses(model, source, np.arange(11), EvaluateConfig())
    for index, keypoints, score in rows:
        np.testing.assert_allclose(keypoints, whole.keypoints[index], atol=1e-3)
        assert score == pytest.approx(whole.score[index], abs=1e-5)


def test_a_model_without_confidences_ranks_by_box_score_and_says_so():
    source = DotSource(3)
    source.people = [
        Person(person.id, person.image_id, person.bbox, person.keypoints, person.area, score=0.1 * person.id)
        for person in source.people
    ]
    source.image = lambda image_id: np.zeros((80, 64, 3), dtype=np.uint8)
    evaluation = evaluate_model(small_model("coords"), source, UPRIGHT)
    assert evaluation.poses.score.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert (evaluation.poses.keypoints[..., 2] == 1).all()
    assert "no trained confidence" in evaluation.notes[0]
    assert evaluation.conditions["keypoint_score"] == "none (1)"


def test_an_ap_of_zero_is_explained_in_words():
    evaluation = evaluate_model(small_model("coords"), DotSource(4), UPRIGHT)
    assert evaluation.metrics["AP"] == 0
    assert any("below 0.5" in note for note in evaluation.notes)


def coco_file(tmp_path):
    source = DotSource(6)
    content = {
        "images": [{"id": person.image_id, "file_name": f"{person.image_id}.png"} for person in source.people],
        "categories": [{"id": 3, "name": "dots", "keypoints": list(source.skeleton.names)}],
        "annotations": [
            {"id": person.id, "image_id": person.image_id, "category_id": 3, "bbox": person.bbox.tolist(),
             "area": person.area, "iscrowd": 0, "keypoints": person.keypoints.reshape(-1).tolist()}
            for person in source.people
        ],
    }  # fmt: skip
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


def test_saved_results_score_as_the_model_did(tmp_path):
    truth = coco_file(tmp_path)
    source = DotSource(6)
    evaluation = evaluate_model(small_model(), source, UPRIGHT)
    results = tmp_path / "results.json"
    results.write_text(json.dumps(as_coco_results(evaluation.poses, source.skeleton, category_id=3)))
    figures = score_results(truth, results)
    # the spreads differ (the file carries none), the count and the keys do not
    assert list(figures)[:10] == ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]
    assert figures["conditions"]["predictions"] == 6
    read = read_results(results, CocoSource(truth, images=None))
    np.testing.assert_allclose(read.keypoints, evaluation.poses.keypoints[..., :2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "should be a list"),
        ([{"image_id": 1, "keypoints": [0] * 12}], "entry 0 lacks a proper 'score'"),
        ([{"image_id": 1, "keypoints": [0] * 51, "score": 1}], "51 keypoint numbers; 4 keypoints make 12"),
        ([{"image_id": 99, "keypoints": [0] * 12, "score": 1}], r"1 image ids \(such as 99, of entry 0\)"),
    ],
)
def test_a_results_file_that_does_not_fit_is_explained(tmp_path, content, message):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        score_results(coco_file(tmp_path), path)


def test_results_of_other_categories_do_not_count(tmp_path):
    path = tmp_path / "r.json"
    entry = {"image_id": 1, "category_id": 1, "keypoints": [0] * 12, "score": 1}
    path.write_text(json.dumps([entry, {**entry, "category_id": 3}]))
    figures = score_results(coco_file(tmp_path), path)
    assert figures["conditions"]["predictions"] == 1
    assert "1 of 2 entries" in figures["notes"][0]
    assert "of category 1, and the category of" in figures["notes"][0]
    path.write_text(json.dumps([entry]))
    with pytest.raises(UserError, match=r"all 1 entries are of category 1, and the category of .* is 3 \('dots'\)"):
        score_results(coco_file(tmp_path), path)


@pytest.mark.parametrize("with_bbox", [False, True])
def test_a_results_file_scores_as_pycocotools_reads_it(tmp_path, with_bbox):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = json.loads(coco_file(tmp_path).read_text())
    rng = np.random.default_rng(0)
    for entry in content["annotations"]:
        entry["area"] = float(rng.choice([900.0, 1024.0, 5000.0, 9216.0]))
        entry["num_keypoints"] = sum(v > 0 for v in entry["keypoints"][2::3])
    results = [
        {"image_id": entry["image_id"], "category_id": 3, "score": float(rng.random()),
         "keypoints": (np.array(entry["keypoints"]).reshape(-1, 3) + rng.normal(0, 4, (4, 3))).reshape(-1).tolist(),
         **({"bbox": [0, 0, *rng.uniform(5, 150, 2).tolist()]} if with_bbox else {})}
        for entry in content["annotations"] for _ in range(4)
    ]  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(results))
    ours = score_results(tmp_path / "truth.json", tmp_path / "results.json")
    coco = COCO(str(tmp_path / "truth.json"))
    theirs = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "keypoints")
    theirs.params.kpt_oks_sigmas = np.array([0.079] * 4)
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    np.testing.assert_allclose([ours[name] for name in list(ours)[:10]], theirs.stats, atol=1e-10)
    assert 0 < ours["AP"] < 1


def detections(tmp_path, source, boxes):
    content = [
        {"image_id": image_id, "category_id": 1, "bbox": list(map(float, bbox)), "score": score}
        for image_id, bbox, score in boxes
    ]
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([*content, {"image_id": 999, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 1}]))
    return path


def test_exact_detections_give_what_the_annotated_boxes_gave(tmp_path):
    source, model = DotSource(8), small_model()
    path = detections(tmp_path, source, [(person.image_id, person.bbox, 1.0) for person in source.people])
    annotated = evaluate_model(model, source, EvaluateConfig())
    detected = evaluate_model(model, source, EvaluateConfig(boxes=path))
    assert detected.conditions["boxes"] == str(path)
    for name, value in annotated.metrics.items():
        assert detected.metrics[name] == pytest.approx(value), name
    np.testing.assert_allclose(annotated.similarity, detected.similarity)


def test_detections_are_thresholded_and_doubles_suppressed_by_their_poses(tmp_path):
    source, model = DotSource(4), small_model("coords")
    boxes = [(person.image_id, person.bbox, 0.9) for person in source.people]
    boxes += [(person.image_id, person.bbox + [0.2, 0, 0, 0], 0.8) for person in source.people]  # the same person again
    boxes += [(source.people[0].image_id, [0, 0, 9, 9], 0.05)]
    path = detections(tmp_path, source, boxes)
    counts = {}
    for name, changes in {
        "all": {"oks_nms": None}, "sure": {"oks_nms": None, "box_threshold": 0.1}, "single": {"box_threshold": 0.1},
    }.items():  # fmt: skip
        counts[name] = len(evaluate_model(model, source, EvaluateConfig(boxes=path, **changes)).poses.person)
    assert counts == {"all": 9, "sure": 8, "single": 4}


def test_a_person_that_the_detector_missed_counts_as_missed(tmp_path):
    source = DotSource(4)
    path = detections(tmp_path, source, [(person.image_id, person.bbox, 1.0) for person in source.people[:3]])
    evaluation = evaluate_model(small_model(), source, EvaluateConfig(boxes=path))
    assert evaluation.similarity[3] == 0
    assert np.isfinite(evaluation.metrics["normalised_error"])


@pytest.mark.parametrize(
    ("rescoring", "wanted"), [("box", 0.5), ("mean", 0.5 * 0.7), ("sum", 0.5 + (0.8 + 0.6 + 0.1) / 3 + 0.8)]
)
def test_a_persons_score_by_hand(rescoring, wanted):
    assert person_score(np.array([0.8, 0.6, 0.1]), 0.5, rescoring=rescoring) == pytest.approx(wanted)
    assert person_score(np.array([0.1, 0.1]), 0.5, rescoring="mean") == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "is not a list of detections"), ([{"image_id": 1, "bbox": [1, 2], "score": 1}], "bbox of 2 numbers"),
     ([{"image_id": 1}], "entry 0 lacks a proper 'bbox'"), ([], "has no box of category 1 on the 3 images")],
)  # fmt: skip
def test_a_file_of_detections_that_does_not_fit_is_explained(tmp_path, content, message):
    path = tmp_path / "d.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        evaluate_model(small_model(), DotSource(3), EvaluateConfig(boxes=path))


def wholebody_case(tmp_path, *, error=4.0):
    """Synthetic people of 133 keypoints, poses that miss by some px, and both as COCO-WholeBody's files."""
    source = SyntheticConfig(people=12, seed=5, keypoints=133, size=(256, 192), profile="medium").build()
    truth = np.stack([person.keypoints for person in source.people])
    rng = np.random.default_rng(0)
    found = truth.copy()
    found[..., :2] += rng.normal(0, error, found[..., :2].shape) * rng.uniform(0, 1, (12, 1, 1))
    poses = PredictedPoses(person=np.arange(12), image_id=np.arange(12), keypoints=found, score=rng.random(12))
    results = as_coco_results(poses, source.skeleton)
    lists = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    assert set(results[0]) == {"image_id", "category_id", "score", *lists}
    whole = as_coco_results(replace(poses, keypoints=truth), source.skeleton)
    content = {
        "images": [{"id": index, "file_name": f"{index}.png"} for index in range(12)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(source.skeleton.names[:17])}],
        "annotations": [
            {"id": person.id + 1, "bbox": person.bbox.tolist(), "area": person.area, **entry}
            for person, entry in zip(source.people, whole, strict=True)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(results))
    return source, poses, results


def test_wholebody_poses_get_a_figure_for_every_part(tmp_path):
    source, poses, _ = wholebody_case(tmp_path)
    metrics = score_poses(poses, source, own_boxes=True, conditions={}).metrics
    parts = ("body", "foot", "face", "lefthand", "righthand", "hand")
    assert {f"{kind}_{part}" for kind in ("AP", "AR") for part in parts} <= set(metrics)
    assert all(type(value) is float for value in metrics.values())
    assert metrics["AP_hand"] == pytest.approx((metrics["AP_lefthand"] + metrics["AP_righthand"]) / 2)
    assert metrics["AP_body"] > metrics["AP_face"]  # the same error in px is more of a face's spread


def test_a_wholebody_results_file_scores_as_the_poses_did(tmp_path):
    source, poses, results = wholebody_case(tmp_path)
    metrics = score_poses(poses, source, own_boxes=True, conditions={}).metrics
    figures = score_results(tmp_path / "truth.json", tmp_path / "results.json", wholebody=True)
    assert list(figures["parts"]) == ["wholebody", "body", "foot", "face", "lefthand", "righthand", "hand"]
    assert 0 < figures["AP"] < 1
    assert {name: figures[name] for name in figures["parts"]["wholebody"]} == figures["parts"]["wholebody"]
    for name in ("AP", "AR"):
        assert figures[name] == pytest.approx(metrics[name])
        for part in ("body", "foot", "face", "lefthand", "righthand", "hand"):
            assert figures["parts"][part][name] == pytest.approx(metrics[f"{name}_{part}"])
    # one list of all 133 says the same as the five
    one_list = [
        {"image_id": each["image_id"], "category_id": 1, "score": each["score"], "keypoints": pose.ravel().tolist()}
        for each, pose in zip(results, poses.keypoints, strict=True)
    ]
    (tmp_path / "one.json").write_text(json.dumps(one_list))
    assert score_results(tmp_path / "truth.json", tmp_path / "one.json", wholebody=True)["parts"] == figures["parts"]


def test_a_parts_own_score_in_a_results_file_ranks_that_part_alone(tmp_path):
    _, _, results = wholebody_case(tmp_path, error=8.0)
    plain = score_results(tmp_path / "truth.json", tmp_path / "results.json", wholebody=True)["parts"]
    for index, entry in enumerate(results[:-1]):  # the last one ranks by its person's score
        entry["face_score"] = index / 20
    (tmp_path / "scored.json").write_text(json.dumps(results))
    scored = score_results(tmp_path / "truth.json", tmp_path / "scored.json", wholebody=True)["parts"]
    assert {part for part in plain if scored[part] != plain[part]} == {"face"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"foot_kpts": None}, "entry 0 lacks foot_kpts"),
        ({"lefthand_kpts": [0] * 3}, "entry 0 has 3 numbers in lefthand_kpts; its 21 keypoints make 63"),
        ({"foot_score": "high"}, "entry 0: foot_score is 'high'; a number is wanted"),
    ],
)
def test_a_wholebody_results_file_that_does_not_fit_is_explained(tmp_path, change, message):
    _, _, results = wholebody_case(tmp_path)
    results[0] = {key: value for key, value in {**results[0], **change}.items() if value is not None}
    (tmp_path / "r.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match=message):
        score_results(tmp_path / "truth.json", tmp_path / "r.json", wholebody=True)
    with pytest.raises(UserError, match="brings its own skeleton"):
        score_results(tmp_path / "truth.json", tmp_path / "r.json", wholebody=True, metainfo=tmp_path / "m.json")


@pytest.mark.parametrize(("count", "most", "found"), [(9, 1, [0]), (9, 3, [0, 4, 8]), (3, 20, [0, 1, 2]), (0, 5, [])])
def test_things_are_spread_evenly_from_the_first_to_the_last(count, most, found):
    assert spread_evenly(count, most).tolist() == found
