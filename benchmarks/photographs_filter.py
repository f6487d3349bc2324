"""Which of MoveNet Thunder's keypoints should a student learn? The label files of benchmarks/photographs-filter.yaml.

    python benchmarks/photographs_filter.py

asks Thunder about the training persons of lsp-photos, upright and mirrored, and writes below runs/photographs-filter:

    every.json      all twelve keypoints of every person, however unsure
    sure.json       those of a confidence above 0.3, as `posestill distil` and `posestill label` take them
    surer.json      those above 0.5
    agreed.json     those of sure.json that it places alike on the mirrored crop: OKS's term of the two is above 0.5
    persons.json    sure.json for the three quarters of its persons on whose keypoints the two answers agree most

benchmarks/photographs.py comes first: it writes the persons for choosing, and what is known of the keypoints.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from photographs import Coco, places, read, with_keypoints

from posestill.data.images import ImagesConfig
from posestill.engine.choose import open_teacher
from posestill.engine.log import RunLog
from posestill.files import write_json
from posestill.predict.label import ask

OUT = Path("runs/photographs-filter")
SURE, SURER, ALIKE = 0.3, 0.5, 0.5
FEWEST = 3
"""keypoints that a person needs to be learned from, as `posestill label` asks for a quarter of them"""


def main() -> None:
    """Ask, and write the files."""
    given = places(__doc__.splitlines()[0], OUT)
    info = read(given.photos / "metainfo.json")
    names = [name for name in info["names"] if name in info["to_coco17"]]
    labelled = with_keypoints(read(given.photos / "annotations" / "train.json"), names)
    keypoints, alike = ask_about(labelled, names, given.photos, given.teacher)
    for name, chosen in choices(keypoints, alike).items():
        write_json(given.out / f"{name}.json", with_answers(labelled, keypoints, chosen))
        print(f"{name}: {chosen.any(1).sum()} persons with {chosen.sum()} keypoints")


def ask_about(labelled: Coco, names: list[str], photos: Path, teacher_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the teacher says of the file's persons, in their order: (N, 12, 3) x y confidence, and (N, 12) OKS's terms.

    The terms say how near its answers on the crop and on the mirrored crop are; the answer is the mean of the two.
    """
    teacher = open_teacher(str(teacher_file))
    pictures = ImagesConfig(folder=(photos / "images",), boxes=photos / "annotations" / "train.json")
    asked = ask(pictures, teacher, log=RunLog(None))
    answers = asked.answers.named(teacher, names)
    paths = [each.path.name for each in asked.source.pictures.all]
    row_of = {paths[person.image_id - 1]: row for row, person in enumerate(asked.source.people)}
    file_of = {image["id"]: image["file_name"] for image in labelled["images"]}
    rows = [row_of[Path(file_of[each["image_id"]]).name] for each in labelled["annotations"]]
    places = [asked.source.skeleton.names.index(name) for name in names]
    areas = np.array([each["area"] for each in labelled["annotations"]])
    spread = 2 * np.array(asked.source.skeleton.oks_sigmas)[places]
    terms = np.exp(-(answers.apart[rows] ** 2) / (2 * areas[:, None] * spread**2))
    return answers.keypoints[rows], terms


def choices(keypoints: np.ndarray, alike: np.ndarray) -> dict[str, np.ndarray]:
    """(N, 12) which keypoints each file has, by its name."""
    sure = keypoints[..., 2] > SURE
    agreement = np.where(sure, alike, np.nan)
    persons = np.where(sure.sum(1) >= FEWEST, np.nansum(agreement, 1) / np.maximum(sure.sum(1), 1), -1)
    least = np.quantile(persons[persons >= 0], 0.25)
    found = {
        "every": np.ones_like(sure),
        "sure": sure,
        "surer": keypoints[..., 2] > SURER,
        "agreed": sure & (alike > ALIKE),
        "persons": sure & (persons >= least)[:, None],
    }
    return {name: chosen & (chosen.sum(1) >= FEWEST)[:, None] for name, chosen in found.items()}


def with_answers(labelled: Coco, keypoints: np.ndarray, chosen: np.ndarray) -> Coco:
    """The labelled file with the teacher's chosen keypoints for people's, without persons that have none."""
    annotations = []
    for person, answer, shown in zip(labelled["annotations"], keypoints, chosen, strict=True):
        if not shown.any():
            continue
        rows = np.where(shown[:, None], np.concatenate([answer[:, :2].round(2), np.full((len(shown), 1), 2)], 1), 0)
        annotations.append({**person, "keypoints": rows.reshape(-1).tolist(), "num_keypoints": int(shown.sum())})
    return {**labelled, "annotations": annotations}


if __name__ == "__main__":
    main()
