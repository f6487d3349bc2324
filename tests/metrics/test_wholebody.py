import contextlib
import io
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posestill.metrics.oks import LabelledPeople, PredictedPeople, average_precision
from posestill.metrics.wholebody import wholebody_precision
from posestill.schema import UserError
from posestill.skeletons import COCO_17, COCO_WHOLEBODY
from posestill.types import Person

CROWDS = 40
PARTS = COCO_WHOLEBODY.parts
SLICES = {"wholebody": (0, 133), **PARTS}
SIGMAS = np.array(COCO_WHOLEBODY.oks_sigmas)
SIX = ("wholebody", "body", "foot", "face", "lefthand", "righthand")


@dataclass(frozen=True)
class Scene:
    truth: LabelledPeople
    predictions: PredictedPeople
    scores: dict[str, np.ndarray]
    image_ids: np.ndarray


def random_scene(seed: int) -> Scene:
    generator = np.random.default_rng(1000 + seed)
    image_ids = np.sort(generator.choice(1000, size=4, replace=False))
    people, points, score, of_image = [], [], [], []
    for place, image_id in enumerate(image_ids):
        present = []
        for _ in range(generator.integers(2, 5)):
            x, y, width, height = *generator.uniform(0, 400, 2), *generator.uniform(20, 220, 2)
            keypoints = np.zeros((133, 3))
            keypoints[:, :2] = generator.uniform((x, y), (x + width, y + height), (133, 2)).round(1)
            keypoints[:, 2] = generator.integers(0, 3, 133)
            for part, (start, stop) in PARTS.items():
                if generator.random() < 0.25 or (seed == 7 and part == "lefthand") or (seed == 8 and "hand" in part):
                    keypoints[start:stop] = 0
            crowd = generator.random() < 0.2
            if generator.random() < (0.5 if crowd else 0.1):
                keypoints[:] = 0
            area = 0.7 * width * height if generator.random() < 0.8 else generator.choice([32.0**2, 96.0**2])
            bbox = np.array([x, y, width, height])
            present.append(Person(len(people) + 1, int(image_id), bbox, keypoints, float(area), 1.0, crowd))
            people.append(present[-1])
        for _ in range(25 if place == 0 else generator.integers(3, 8)):
            person = present[generator.integers(len(present))]
            box, around = person.bbox, person.keypoints[:, :2]
            if not around.any():
                around = generator.uniform(box[:2], box[:2] + box[2:], (133, 2))
            points.append(around + generator.normal(size=(133, 2)) * generator.choice([0, 0.3, 1, 3, 10]))
            score.append(generator.integers(0, 6) / 6)
            of_image.append(image_id)
    order = generator.permutation(len(score))
    return Scene(
        truth=LabelledPeople.of(people, 133),
        predictions=PredictedPeople(
            image_id=np.array(of_image)[order], keypoints=np.array(points)[order], score=np.array(score)[order]
        ),
        scores={"foot": generator.integers(0, 6, len(score)) / 6, "wholebody": generator.random(len(score))},
        image_ids=image_ids,
    )


def pycocotools_numbers(scene: Scene, part: str, score: np.ndarray) -> np.ndarray:
    """The ten numbers of COCO's own evaluation, of the keypoints of one part."""
    start, stop = SLICES[part]
    truth, predictions = scene.truth, scene.predictions
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = {
            "images": [{"id": int(image_id)} for image_id in scene.image_ids],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [
                {
                    "id": index + 1, "image_id": int(truth.image_id[index]), "category_id": 1,
                    "keypoints": truth.keypoints[index, start:stop].ravel().tolist(),
                    "num_keypoints": int(truth.labelled[index, start:stop].sum()),
                    "bbox": truth.bbox[index].tolist(), "area": float(truth.area[index]),
                    "iscrowd": int(truth.crowd[index]),
                }
                for index in range(len(truth))
            ],
        }  # fmt: skip
        annotated.createIndex()
        found = annotated.loadRes(
            [
                {
                    "image_id": int(predictions.image_id[index]), "category_id": 1, "score": float(score[index]),
                    "keypoints": np.pad(xy, ((0, 0), (0, 1))).ravel().tolist(),
                }
                for index, xy in enumerate(predictions.keypoints[:, start:stop])
            ]
        )  # fmt: skip
        evaluation = COCOeval(annotated, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = SIGMAS[start:stop]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [random_scene(seed) for seed in range(CROWDS)]


def test_six_evaluations_equal_six_runs_of_pycocotools_on_random_crowds(scenes):
    for seed, scene in enumerate(scenes):
        scores = scene.scores if seed % 2 else {}
        ours = wholebody_precision(scene.truth, scene.predictions, parts=PARTS, oks_sigmas=SIGMAS, part_scores=scores)
        assert tuple(ours) == (*SIX, "hand")
        for part in SIX:
            theirs = pycocotools_numbers(scene, part, scores.get(part, scene.predictions.score))
            np.testing.assert_allclose(
                list(ours[part].values()), theirs, rtol=0, atol=1e-10, err_msg=f"seed {seed}, {part}"
            )


def test_the_random_crowds_hold_every_hard_case(scenes):
    met: Counter[str] = Counter()
    for scene in scenes:
        truth, predictions = scene.truth, scene.predictions
        labelled = truth.labelled.any(axis=1)
        met["crowd with labels"] += np.any(truth.crowd & labelled)
        met["crowd without labels"] += np.any(truth.crowd & ~labelled)
        met["person without labels"] += np.any(~truth.crowd & ~labelled)
        met["several people an image"] += min(Counter(truth.image_id.tolist()).values()) > 1
        met["more than 20 predictions"] += max(Counter(predictions.image_id.tolist()).values()) > 20
        met["tied scores within an image"] += len(
            {*zip(predictions.image_id.tolist(), predictions.score.tolist(), strict=True)}
        ) < len(predictions)
        ours = wholebody_precision(truth, predictions, parts=PARTS, oks_sigmas=SIGMAS)
        for part, (start, stop) in PARTS.items():
            met[f"{part} unlabelled on a labelled person"] += np.any(
                labelled & ~truth.crowd & ~truth.labelled[:, start:stop].any(axis=1)
            )
            met[f"AP of {part} between"] += 0.02 < ours[part]["AP"] < 0.98
            extent = np.ptp(predictions.keypoints[:, start:stop], axis=1).prod(axis=1)
            whole = np.ptp(predictions.keypoints, axis=1).prod(axis=1)
            met[f"{part} in another area range than the person"] += np.any((extent < 96.0**2) & (whole > 96.0**2))
        met["one hand never labelled"] += (ours["lefthand"]["AP"] == -1) != (ours["righthand"]["AP"] == -1)
        met["no hand labelled"] += ours["hand"]["AP"] == -1
    assert len(met) == 6 + 3 * 5 + 2
    assert all(met.values()), met


def test_hand_is_the_mean_of_both_or_the_one_that_exists(scenes):
    def hands(scene: Scene) -> tuple[float, float, float]:
        ours = wholebody_precision(scene.truth, scene.predictions, parts=PARTS, oks_sigmas=SIGMAS)
        return ours["lefthand"]["AP"], ours["righthand"]["AP"], ours["hand"]["AP"]

    left, right, hand = hands(scenes[0])
    assert hand == pytest.approx((left + right) / 2)
    left, right, hand = hands(scenes[7])
    assert (left, hand) == (-1, right)
    assert right > 0
    assert hands(scenes[8]) == (-1, -1, -1)


def test_a_part_ranks_by_its_own_score_where_there_is_one():
    # one person, two predictions: a perfect one of score 0.2 behind a lost one of score 0.9
    keypoints = np.full((1, 133, 3), 2.0)
    keypoints[0, :, :2] = np.stack([np.arange(133.0), 3 * np.arange(133.0)], axis=-1)
    truth = LabelledPeople(
        image_id=np.array([1]), keypoints=keypoints, bbox=np.array([[0, 0, 132, 396.0]]), area=np.array([40000.0]),
        crowd=np.array([False]),
    )  # fmt: skip
    predictions = PredictedPeople(
        image_id=np.array([1, 1]), keypoints=np.concatenate([keypoints[..., :2], keypoints[..., :2] + 5000]),
        score=np.array([0.2, 0.9]),
    )  # fmt: skip
    ours = wholebody_precision(
        truth, predictions, parts=PARTS, oks_sigmas=SIGMAS, part_scores={"foot": np.array([0.9, 0.2])}
    )
    assert ours["foot"]["AP"] == pytest.approx(1)
    assert ours["body"]["AP"] == ours["wholebody"]["AP"] == pytest.approx(0.5)  # precision 1/2 at every recall
    assert ours["body"]["AR"] == pytest.approx(1)


def test_body_is_the_evaluation_of_cocos_17_keypoints(scenes):
    scene = scenes[3]
    of_parts = wholebody_precision(scene.truth, scene.predictions, parts=PARTS, oks_sigmas=SIGMAS)
    body = average_precision(
        replace(scene.truth, keypoints=scene.truth.keypoints[:, :17]),
        replace(scene.predictions, keypoints=scene.predictions.keypoints[:, :17]),
        oks_sigmas=COCO_17.oks_sigmas,
    )
    assert of_parts["body"] == body


def test_a_wrong_number_of_keypoints_is_refused(scenes):
    scene = scenes[0]
    with pytest.raises(UserError, match="133 keypoints"):
        wholebody_precision(scene.truth, scene.predictions, parts={}, oks_sigmas=SIGMAS[:17])
