import contextlib
import io
import math
import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posestill.metrics.oks import (
    LabelledPeople,
    PredictedPeople,
    average_precision,
    explain,
    mean_oks,
    normalised_error,
    oks,
    pck,
)
from posestill.schema import UserError
from posestill.types import Person

TEN_NUMBERS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
CROWDS = 200


@dataclass(frozen=True)
class Scene:
    """A random set of images with people and predictions, and what it contains."""

    truth: LabelledPeople
    predictions: PredictedPeople
    sigmas: np.ndarray
    image_ids: np.ndarray


def random_scene(seed: int) -> Scene:
    generator = np.random.default_rng(seed)
    num_keypoints = (5, 14, 17, 21, 133)[seed % 5]
    sigmas = generator.uniform(0.025, 0.11, num_keypoints)
    image_ids = np.sort(generator.choice(10_000, size=7, replace=False))
    no_labels, no_predictions, only_small = seed % 23 == 3, seed % 23 == 7, seed % 23 == 11
    people, points, score, of_image = [], [], [], []
    for place, image_id in enumerate(image_ids):
        # image 0 has people and no predictions, image 1 the reverse, image 2 neither
        for _ in range(0 if place in (1, 2) else generator.integers(1, 6)):
            width, height = (12.0, 14.0) if only_small else generator.uniform(15, 180, 2)
            x, y = generator.uniform(0, 400, 2)
            keypoints = np.zeros((num_keypoints, 3))
            keypoints[:, :2] = generator.uniform((x, y), (x + width, y + height), (num_keypoints, 2)).round(1)
            keypoints[:, 2] = generator.integers(0, 3, num_keypoints)
            crowd = generator.random() < 0.2
            if no_labels or generator.random() < (0.6 if crowd else 0.15):
                keypoints[:] = 0
            area = width * height * 0.7
            if not only_small and generator.random() < 0.3:
                area = generator.choice([32.0**2, 96.0**2, 0.0])
            people.append(
                Person(len(people) + 1, int(image_id), np.array([x, y, width, height]), keypoints, area, 1.0, crowd)
            )
            if generator.random() < 0.1:  # its twin: equal OKS, so the tie between persons decides
                people.append(replace(people[-1], id=len(people) + 1))
        present = [person for person in people if person.image_id == image_id]
        for _ in range(0 if place in (0, 2) or no_predictions else generator.integers(24, 30) if place == 3 else 4):
            if present and generator.random() < 0.85:
                person = present[generator.integers(len(present))]
                box = person.bbox
                around = person.keypoints[:, :2]
                if not person.keypoints.any():
                    around = generator.uniform(box[:2] - 0.5 * box[2:], box[:2] + 1.5 * box[2:], (num_keypoints, 2))
                xy = around + generator.normal(size=(num_keypoints, 2)) * generator.choice([0, 0.5, 2, 5, 15])
            else:
                xy = generator.uniform(0, 400, (num_keypoints, 2))
            if generator.random() < 0.15:  # the box around the keypoints is exactly 32 x 32 or 96 x 96
                side, corner = generator.choice([32.0, 96.0]), xy[0].round()
                xy = corner + generator.uniform(1, side - 1, (num_keypoints, 2))
                xy[:2] = corner, corner + side
            points.append(xy)
            score.append(generator.integers(0, 8) / 8 if generator.random() < 0.7 else generator.random())
            of_image.append(image_id)
    shuffled = generator.permutation(len(score))  # neither people nor predictions come sorted by image
    order = generator.permutation(len(people))
    return Scene(
        truth=LabelledPeople.of([people[index] for index in order], num_keypoints),
        predictions=PredictedPeople(
            image_id=np.array(of_image, dtype=np.int64)[shuffled],
            keypoints=np.array(points).reshape(-1, num_keypoints, 2)[shuffled],
            score=np.array(score)[shuffled],
        ),
        sigmas=sigmas,
        image_ids=image_ids,
    )


def pycocotools_evaluation(scene: Scene) -> COCOeval:
    truth, predictions = scene.truth, scene.predictions
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = {
            "images": [{"id": int(image_id)} for image_id in scene.image_ids],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [
                {
                    "id": index + 1,
                    "image_id": int(truth.image_id[index]),
                    "category_id": 1,
                    "keypoints": truth.keypoints[index].ravel().tolist(),
                    "num_keypoints": int((truth.keypoints[index, :, 2] > 0).sum()),
                    "bbox": truth.bbox[index].tolist(),
                    "area": float(truth.area[index]),
                    "iscrowd": int(truth.crowd[index]),
                }
                for index in range(len(truth))
            ],
        }
        annotated.createIndex()
        results = [
            {
                "image_id": int(predictions.image_id[index]),
                "category_id": 1,
                "keypoints": np.pad(predictions.keypoints[index], ((0, 0), (0, 1))).ravel().tolist(),
                "score": float(predictions.score[index]),
            }
            for index in range(len(predictions))
        ]
        if results:
            found = annotated.loadRes(results)
        else:  # loadRes cannot read an empty list
            found = COCO()
            found.dataset = {**annotated.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(annotated, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = scene.sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.fixture(scope="module")
def evaluated_scenes() -> list[tuple[Scene, COCOeval]]:
    return [(scene, pycocotools_evaluation(scene)) for scene in map(random_scene, range(CROWDS))]


def test_ten_numbers_equal_pycocotools_on_random_crowds(evaluated_scenes):
    for seed, (scene, evaluation) in enumerate(evaluated_scenes):
        ours = average_precision(scene.truth, scene.predictions, oks_sigmas=scene.sigmas)
        assert tuple(ours) == TEN_NUMBERS
        np.testing.assert_allclose(list(ours.values()), evaluation.stats, rtol=0, atol=1e-10, err_msg=f"seed {seed}")


def test_pairwise_oks_equals_pycocotools_on_random_crowds(evaluated_scenes):
    for scene, evaluation in evaluated_scenes[:40]:
        ours = oks(scene.predictions.keypoints, scene.truth, oks_sigmas=scene.sigmas)
        for image_id in scene.image_ids:
            theirs = evaluation.ious[image_id, 1]
            if len(theirs):
                rows = np.flatnonzero(scene.predictions.image_id == image_id)
                rows = rows[np.argsort(-scene.predictions.score[rows], kind="stable")][:20]
                columns = np.flatnonzero(scene.truth.image_id == image_id)
                np.testing.assert_allclose(ours[np.ix_(rows, columns)], theirs, rtol=0, atol=1e-12)


def test_the_random_crowds_hold_every_hard_case(evaluated_scenes):
    met: Counter[str] = Counter()
    for scene, evaluation in evaluated_scenes:
        truth, predictions, stats = scene.truth, scene.predictions, evaluation.stats
        unlabelled = ~(truth.keypoints[:, :, 2] > 0).any(axis=1)
        per_image = Counter(predictions.image_id.tolist())
        extent = np.ptp(predictions.keypoints, axis=1).prod(axis=1)
        met["crowd without labels"] += np.any(truth.crowd & unlabelled)
        met["crowd with labels"] += np.any(truth.crowd & ~unlabelled)
        met["person without labels"] += np.any(~truth.crowd & unlabelled)
        met["no labelled person at all"] += bool(unlabelled.all())
        images_of_score = Counter(score for _, score in {*zip(predictions.image_id, predictions.score, strict=True)})
        met["tied scores across images"] += max(images_of_score.values(), default=0) > 1
        met["tied scores within an image"] += len({*zip(predictions.image_id, predictions.score, strict=True)}) < len(
            predictions
        )
        for edge in (32.0**2, 96.0**2):
            met[f"person of area {edge}"] += np.any(truth.area[~unlabelled & ~truth.crowd] == edge)
            met[f"prediction of area {edge}"] += np.any(extent == edge)
        met["area zero"] += np.any(truth.area[~unlabelled] == 0)
        met["more than 20 predictions"] += max(per_image.values(), default=0) > 20
        met["predictions without people"] += bool(set(per_image) - set(truth.image_id.tolist()))
        met["people without predictions"] += bool(set(truth.image_id.tolist()) - set(per_image))
        met["image with neither"] += bool(set(scene.image_ids) - set(per_image) - set(truth.image_id.tolist()))
        met["no prediction at all"] += len(predictions) == 0
        met["nothing to evaluate"] += stats[0] == -1
        met["no medium, no large"] += stats[0] > -1 and stats[3] == -1 and stats[4] == -1
        met["AP between"] += 0.02 < stats[0] < 0.98
        met[f"K = {len(scene.sigmas)}"] += 1
        for of_image in filter(None, evaluation.evalImgs):
            crowds = np.flatnonzero(truth.crowd) + 1
            matches = of_image["dtMatches"][0]
            met["crowd matched twice"] += any(np.count_nonzero(matches == crowd) > 1 for crowd in crowds)
            met["prediction ignored for its area"] += np.any(of_image["dtIgnore"][0] & (matches == 0))
            ignored = np.asarray(of_image["gtIgnore"]) == 1
            similarity = evaluation.ious[of_image["image_id"], 1]
            met["regular person preferred to a more similar ignored one"] += 0
            if len(similarity) and ignored.any() and not ignored.all():
                columns = [index - 1 for index in of_image["gtIds"]]
                within = np.flatnonzero(truth.image_id == of_image["image_id"])
                similarity = similarity[:, np.searchsorted(within, columns)]
                chosen = np.isin(matches, np.asarray(of_image["gtIds"])[~ignored])
                better_ignored = similarity[:, ignored].max(axis=1) > similarity[:, ~ignored].max(axis=1)
                met["regular person preferred to a more similar ignored one"] += np.any(chosen & better_ignored)
        same = np.unique(np.column_stack([truth.image_id, truth.keypoints.reshape(len(truth), -1)]), axis=0)
        met["twins"] += len(same) < len(truth)
    rare = {case: count for case, count in met.items() if count < 3}
    assert not rare, rare
    assert met["AP between"] > CROWDS / 2


def test_six_thousand_images_take_a_few_seconds_at_most():
    generator = np.random.default_rng(0)
    image_id = np.repeat(np.arange(6000), 2)
    keypoints = np.concatenate([generator.uniform(0, 200, (12_000, 17, 2)), np.full((12_000, 17, 1), 2.0)], axis=2)
    truth = LabelledPeople(
        image_id, keypoints, np.tile([0.0, 0, 200, 200], (12_000, 1)), np.full(12_000, 2e4), np.zeros(12_000, bool)
    )
    xy = keypoints[:, :, :2] + generator.normal(0, 8, (12_000, 17, 2))
    started = time.perf_counter()
    average_precision(truth, PredictedPeople(image_id, xy, generator.random(12_000)), oks_sigmas=np.full(17, 0.06))
    assert time.perf_counter() - started < 5


def people(keypoints, *, bbox=(0, 0, 100, 50), area=10_000.0, image_id=(1,), crowd=False) -> LabelledPeople:
    count = len(keypoints)
    return LabelledPeople(
        image_id=np.resize(image_id, count),
        keypoints=np.array(keypoints, dtype=float),
        bbox=np.tile(np.array(bbox, dtype=float), (count, 1)),
        area=np.full(count, area),
        crowd=np.full(count, crowd),
    )


def predicted(keypoints, *, score=None, image_id=(1,)) -> PredictedPeople:
    count = len(keypoints)
    return PredictedPeople(
        image_id=np.resize(image_id, count),
        keypoints=np.array(keypoints, dtype=float),
        score=np.linspace(1, 0.5, count) if score is None else np.array(score, dtype=float),
    )


THREE_POINTS = [[10, 10, 2], [50, 20, 1], [0, 0, 0]]
# sigma 0.05: (2 sigma)^2 = 0.01, times area 10,000 times 2 = 200
THREE_SIGMAS = (0.05, 0.05, 0.05)


def test_oks_of_one_person_worked_by_hand():
    truth = people([THREE_POINTS])
    xy = np.array([[[10, 10], [56, 28], [999, 999]]])  # exact; 6 and 8 off: exp(-100 / 200); not labelled
    expected = (1 + math.exp(-0.5)) / 2
    assert oks(xy, truth, oks_sigmas=THREE_SIGMAS) == pytest.approx(expected, abs=1e-12)
    assert mean_oks(xy, truth, oks_sigmas=THREE_SIGMAS) == pytest.approx(expected, abs=1e-12)


def test_without_labels_oks_measures_how_far_outside_the_widened_box_a_keypoint_lies():
    truth = people(np.zeros((1, 3, 3)), bbox=(100, 100, 20, 10))  # widened: x 80..140, y 90..120
    xy = np.array([[[143, 124], [80, 120], [110, 85]]])  # 3 and 4 outside; on the corner; 5 above
    expected = (math.exp(-25 / 200) + 1 + math.exp(-25 / 200)) / 3
    assert oks(xy, truth, oks_sigmas=THREE_SIGMAS) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(mean_oks(xy, truth, oks_sigmas=THREE_SIGMAS)).all()


def test_at_area_zero_only_an_exact_keypoint_scores():
    truth = people([THREE_POINTS], area=0.0)
    xy = np.array([[[10, 10], [50, 20.0001], [0, 0]]])
    assert mean_oks(xy, truth, oks_sigmas=THREE_SIGMAS) == pytest.approx(0.5, abs=1e-12)


def test_a_nan_keypoint_scores_nothing_and_matches_nobody():
    truth = people([THREE_POINTS])
    half, none = np.array([[[10, 10], [np.nan, 20], [0, 0]]]), np.full((1, 3, 2), np.nan)
    assert mean_oks(half, truth, oks_sigmas=THREE_SIGMAS) == pytest.approx(0.5)
    assert mean_oks(none, truth, oks_sigmas=THREE_SIGMAS) == pytest.approx(0.0)
    assert average_precision(truth, predicted(none), oks_sigmas=THREE_SIGMAS)["AP"] == 0


def test_mean_oks_is_the_diagonal_of_pairwise_oks():
    scene = random_scene(5)
    count = len(scene.truth)
    xy = scene.truth.keypoints[:, :, :2] + np.random.default_rng(0).normal(0, 3, (count, len(scene.sigmas), 2))
    own = mean_oks(xy, scene.truth, oks_sigmas=scene.sigmas)
    pairwise = oks(xy, scene.truth, oks_sigmas=scene.sigmas)
    labelled = scene.truth.labelled.any(axis=1)
    assert labelled.any()
    assert not labelled.all()
    np.testing.assert_array_equal(own[labelled], np.diag(pairwise)[labelled])
    assert np.isnan(own[~labelled]).all()


def test_oks_is_the_same_when_the_pairs_are_worked_in_blocks(monkeypatch):
    scene = random_scene(2)
    whole = oks(scene.predictions.keypoints, scene.truth, oks_sigmas=scene.sigmas)
    monkeypatch.setattr("posestill.metrics.oks._VALUES_AT_ONCE", 100)
    np.testing.assert_array_equal(oks(scene.predictions.keypoints, scene.truth, oks_sigmas=scene.sigmas), whole)


def test_one_person_found_of_two_gives_ap_of_51_of_101_recalls():
    truth = people([THREE_POINTS, THREE_POINTS], image_id=(1, 2))
    found = predicted([[[10, 10], [50, 20], [0, 0]]])
    metrics = average_precision(truth, found, oks_sigmas=THREE_SIGMAS)
    # area 10,000 is above 96^2: large, not medium; recall 0, 0.01, ..., 0.5 are reached at precision 1
    assert metrics == pytest.approx(
        {**dict.fromkeys(("AP", "AP50", "AP75", "APl"), 51 / 101), "APm": -1}
        | {**dict.fromkeys(("AR", "AR50", "AR75", "ARl"), 0.5), "ARm": -1}
    )


def test_without_any_person_or_prediction_every_number_is_minus_one():
    nobody, nothing = people(np.zeros((0, 3, 3))), predicted(np.zeros((0, 3, 2)))
    assert set(average_precision(nobody, nothing, oks_sigmas=THREE_SIGMAS).values()) == {-1.0}
    assert oks(nothing.keypoints, people([THREE_POINTS]), oks_sigmas=THREE_SIGMAS).shape == (0, 1)


def test_what_was_given_is_not_changed():
    scene = random_scene(4)
    before = [np.copy(value) for part in (scene.truth, scene.predictions) for value in vars(part).values()]
    average_precision(scene.truth, scene.predictions, oks_sigmas=scene.sigmas)
    after = [value for part in (scene.truth, scene.predictions) for value in vars(part).values()]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_pck_worked_by_hand():
    # person 0: pair (0, 1) labelled, 3-4-5 apart by 50: within 10. Person 1: pair not labelled, box 100 x 50: within 20
    truth = people([[[0, 0, 2], [30, 40, 1], [9, 9, 0]], [[0, 0, 2], [30, 40, 0], [60, 60, 2]]])
    xy = np.array([[[10, 0], [30, 51], [9, 9]], [[20, 0], [30, 40], [60, 81]]])  # 10, 11, -; 20, -, 21
    result = pck(xy, truth, pck_pair=(0, 1), threshold=0.2)
    assert result["overall"] == pytest.approx(2 / 4)
    np.testing.assert_allclose(result["per_keypoint"], [1, 0, 0])
    # without a pair the box counts for both: 11 is within 20 too
    assert pck(xy, truth, pck_pair=None)["overall"] == pytest.approx(3 / 4)


def test_pck_is_nan_where_never_labelled_and_a_nan_prediction_is_not_found():
    truth = people([THREE_POINTS])
    result = pck(np.full((1, 3, 2), np.nan), truth, pck_pair=None)
    np.testing.assert_array_equal(result["per_keypoint"], [0, 0, np.nan])
    assert result["overall"] == 0
    assert math.isnan(pck(np.zeros((1, 3, 2)), people(np.zeros((1, 3, 3))), pck_pair=None)["overall"])


def test_normalised_error_worked_by_hand():
    truth = people([THREE_POINTS, THREE_POINTS], bbox=(0, 0, 80, 20))  # sqrt(80 x 20) = 40
    xy = np.array([[[13, 14], [50, 20], [7, 7]], [[25, 10], [50, 10], [0, 0]]])  # 5 and 15; 0 and 10; never
    np.testing.assert_allclose(normalised_error(xy, truth), [(5 + 15) / 2 / 40, (0 + 10) / 2 / 40, np.nan])


def test_normalised_error_leaves_out_a_person_whose_box_has_no_extent():
    truth = people([THREE_POINTS, THREE_POINTS], bbox=(0, 0, 80, 20))
    truth = replace(truth, bbox=truth.bbox * [[1], [0]])
    xy = np.array([[[13, 14], [50, 20], [7, 7]], [[25, 10], [50, 10], [0, 0]]])
    np.testing.assert_allclose(normalised_error(xy, truth), [5 / 40, 0, np.nan])


def explained(truth: LabelledPeople, predictions: PredictedPeople) -> list[str]:
    metrics = average_precision(truth, predictions, oks_sigmas=THREE_SIGMAS)
    return explain(metrics, truth, predictions, oks_sigmas=THREE_SIGMAS)


EXACT = [[10, 10], [50, 20], [0, 0]]
FAR = [[80, 10], [50, 90], [0, 0]]


def test_explain_says_only_which_sizes_nobody_has_when_ap_is_above_zero():
    truth = people([THREE_POINTS] * 2, image_id=(1, 2))
    both = replace(truth, area=np.array([50.0**2, 100.0**2]))
    found = predicted([EXACT] * 2, image_id=(1, 2))
    assert explained(both, found) == []
    large = replace(truth, area=np.array([200.0**2, 100.0**2]))
    assert explained(large, found) == ["APm is -1: no labelled person is of medium area."]


@pytest.mark.parametrize(
    ("truth", "predictions", "words"),
    [
        (people(np.zeros((0, 3, 3))), predicted([EXACT]), ["No labelled person", "0 of 0"]),
        (people(np.zeros((4, 3, 3))), predicted([EXACT]), ["No labelled person", "0 of 4", "carry keypoints"]),
        (people([THREE_POINTS], crowd=True), predicted([EXACT]), ["1 of 1", "1 of those", "iscrowd"]),
        (people([THREE_POINTS]), predicted(np.zeros((0, 3, 2))), ["no prediction at all", "threshold"]),
        (people([THREE_POINTS], image_id=(7,)), predicted([EXACT], image_id=(3,)), ["first: 3", "first: 7", "split"]),
        (people([THREE_POINTS]), predicted([FAR]), ["Every OKS is below 0.5", "mean OKS", "long before AP"]),
        (people([THREE_POINTS], area=0.0), predicted([FAR]), ["1 of 1", "area", "mask", "Every OKS is below 0.5"]),
        (people([THREE_POINTS], area=math.nan), predicted([FAR]), ["missing, zero or out of range"]),
        (people([THREE_POINTS], area=1e11), predicted([EXACT]), ["missing, zero or out of range"]),
        (people([THREE_POINTS]), predicted([FAR], score=[math.nan]), ["1 of 1", "NaN in their score", "learning rate"]),
        (people([THREE_POINTS]), predicted(np.full((1, 3, 2), np.nan)), ["NaN in their keypoints", "below 0.5"]),
        (people([THREE_POINTS]), predicted([FAR] * 20 + [EXACT]), ["best 1.000", "20 of the highest score"]),
    ],
)  # fmt: skip
def test_explain_names_the_cause_and_the_remedy(truth, predictions, words):
    sentences = explained(truth, predictions)
    assert sentences
    for word in words:
        assert word in " ".join(sentences)


def test_explain_says_the_best_and_the_mean_oks():
    truth = people([THREE_POINTS] * 3, image_id=(1, 2, 3))
    # keypoint 0 is 20 off: exp(-400 / 200); keypoint 1 is far: 0. Image 2 has a worse one, image 3 nothing
    near, worse = [[30, 10], [999, 999], [0, 0]], [[999, 999], [999, 999], [0, 0]]
    (sentence,) = explained(truth, predicted([near, worse], image_id=(1, 2)))
    assert f"the best is {math.exp(-2) / 2:.3f}" in sentence
    assert f"mean over 3 labelled persons {math.exp(-2) / 6:.3f}" in sentence


def test_people_become_arrays_and_one_without_labels_gets_v_zero():
    labelled = Person(1, 5, np.array([0, 0, 10, 10]), np.array(THREE_POINTS), 80.0)
    bare = Person(2, 6, np.array([1, 2, 3, 4]), None, 12.0, crowd=True)
    truth = LabelledPeople.of([labelled, bare], 3)
    np.testing.assert_array_equal(truth.image_id, [5, 6])
    np.testing.assert_array_equal(truth.keypoints, [THREE_POINTS, np.zeros((3, 3))])
    np.testing.assert_array_equal(truth.crowd, [False, True])
    assert len(LabelledPeople.of([], 3)) == 0
    with pytest.raises(ValueError, match="keypoints of person 1 has shape"):
        LabelledPeople.of([labelled], 4)


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"area has shape \(2,\), not \(1\)"):
        replace(people([THREE_POINTS]), area=np.zeros(2))
    with pytest.raises(ValueError, match=r"keypoints has shape \(1, 3, 3\), not \(1, 3, 2\)"):
        predicted([THREE_POINTS])


def test_another_number_of_keypoints_or_persons_is_refused_with_the_numbers():
    truth = people([THREE_POINTS])
    with pytest.raises(UserError, match="have 17 keypoints, the labelled people 3, and there are 3 OKS sigmas"):
        average_precision(truth, predicted(np.zeros((1, 17, 2))), oks_sigmas=THREE_SIGMAS)
    with pytest.raises(UserError, match="there are 17 OKS sigmas"):
        mean_oks(np.zeros((1, 3, 2)), truth, oks_sigmas=(0.05,) * 17)
    with pytest.raises(UserError, match="2 predictions for 1 persons"):
        pck(np.zeros((2, 3, 2)), truth, pck_pair=None)
