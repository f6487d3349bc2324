"""What the labels of a dataset look like as a whole: shares in the place of px, corners in that of sizes, and so on.

Each of these makes figures meaningless without any entry being wrong for itself. What is sure is refused, the rest is
said wherever figures are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from posestill.data.image_files import image_size
from posestill.documents.fields import are_shares, shown
from posestill.schema import UserError
from posestill.types import Person, Size

MOST_FILES = 500
"""pictures whose sizes are compared with what the annotations say; of more, so many spread evenly"""
_OUTSIDE = 1.0
"""px that a keypoint may lie outside its image"""
_MANY = 0.2
"""a share of the labelled keypoints beyond which so many outside their images cannot be slips"""


def refuse_shares(people: Sequence[Person], *, path: Path) -> None:
    """A `UserError` where all labels, or all boxes, lie within 0..1 and so are no px."""
    labelled = [person.keypoints[person.keypoints[:, 2] > 0, :2] for person in people if person.keypoints is not None]
    boxes = np.array([person.bbox for person in people if person.bbox[2] > 0]).reshape(-1, 4)
    for what, places in (
        ("keypoints", np.concatenate(labelled) if labelled else np.zeros((0, 2))),
        ("bboxes", boxes.reshape(-1, 2)),
    ):
        if are_shares(places):
            raise UserError(
                f"{path}: all {what} lie within 0..1, so they are shares of the image; px are wanted: multiply x by "
                "the image's width and y by its height"
            )


def notes_on_boxes(people: Sequence[Person], given: Sequence[object], sizes: Mapping[int, Size | None]) -> list[str]:
    """Persons without a usable bbox, boxes that lie elsewhere than in their image, and boxes that look like corners.

    `given` are the boxes as the file has them.
    """
    notes = []
    bare = [at for at, person in enumerate(people) if person.bbox[2] <= 0]
    if bare:
        first = people[bare[0]]
        notes.append(
            f"{len(bare)} of {len(people)} persons are left out for their bbox, annotation {first.id} with "
            f"{shown(given[bare[0]])} first: `posestill data check --fix` draws one around the keypoints in a copy."
        )
    known = [person for person in people if person.bbox[2] > 0 and sizes.get(person.image_id) is not None]
    if not known:
        return notes
    boxes = np.array([person.bbox for person in known])
    limits = np.array([sizes[person.image_id] for person in known], dtype=float)[:, ::-1]  # (N, 2) width, height
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    away = ((middle < 0) | (middle > limits)).any(axis=1)
    if are_corners(boxes, limits):
        notes.append(
            f"The {len(boxes)} bboxes look like x1 y1 x2 y2: as x y w h, which is COCO's form, most of them leave "
            "their images. Write width and height in the place of the second corner."
        )
    elif away.any():
        first = known[int(away.argmax())]
        notes.append(
            f"{int(away.sum())} of {len(people)} bboxes lie mostly outside their images, annotation {first.id} with "
            f"{first.bbox.tolist()} first: `posestill data check` lists them."
        )
    return notes


def are_corners(boxes: np.ndarray, limits: np.ndarray) -> bool:
    """True where boxes (N, 4), read as x y w h in images of limits (N, 2) width and height, must be x1 y1 x2 y2."""
    over = ((boxes[:, :2] + boxes[:, 2:]) > limits + 0.02 * limits + _OUTSIDE).any(axis=1)
    as_corners = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (boxes[:, 2:] <= limits + _OUTSIDE).all(axis=1)
    return len(boxes) > 1 and bool(as_corners.all()) and bool(over.mean() > 0.5)


def notes_on_keypoints(people: Sequence[Person], sizes: Mapping[int, Size | None]) -> list[str]:
    """Labelled keypoints outside their images where they are many, and visibilities that are not 0, 1 or 2."""
    notes, count, outside, odd = [], 0, 0, 0
    for person in people:
        if person.keypoints is None:
            continue
        places = person.keypoints[person.keypoints[:, 2] > 0]
        odd += int((~np.isin(person.keypoints[:, 2], (0, 1, 2))).sum())
        size = sizes.get(person.image_id)
        if size is not None:
            count += len(places)
            limit = np.array([size[1], size[0]]) + _OUTSIDE
            outside += int(((places[:, :2] < -_OUTSIDE) | (places[:, :2] > limit)).any(axis=1).sum())
    if outside > _MANY * count:
        notes.append(
            f"{outside} of {count} labelled keypoints lie outside their images: were the labels made for pictures of "
            "another size, or turned otherwise? `posestill data check` lists them."
        )
    if odd:
        notes.append(f"{odd} keypoints have a visibility other than 0, 1 and 2: above 0 counts as labelled.")
    return notes


def notes_on_files(
    sizes: Mapping[int, Size | None], place: Callable[[int], Path], *, most: int = MOST_FILES
) -> list[str]:
    """Pictures whose size is not what the annotations say: turned otherwise, or another copy."""
    known = [image_id for image_id, size in sizes.items() if size is not None]
    chosen = known if len(known) <= most else [known[at] for at in np.linspace(0, len(known) - 1, most).astype(int)]
    turned: list[tuple[int, Size, Size]] = []
    others: list[tuple[int, Size, Size]] = []
    for image_id in chosen:
        said = sizes[image_id]
        try:
            found = image_size(place(image_id))
        except (UserError, OSError):
            continue  # whoever reads the picture says what is wrong with it
        if said is not None and found != said:
            (turned if found == said[::-1] else others).append((image_id, said, found))
    notes = []
    for wrong, what in (
        (
            turned,
            "are turned by their files (EXIF) and labelled as they are stored, so that the labels lie elsewhere: "
            "`posestill data check --fix` turns the labels in a copy.",
        ),
        (others, "have another size than the annotations say: were the labels made for another copy of them?"),
    ):
        if wrong:
            image_id, said, found = wrong[0]
            notes.append(
                f"{len(wrong)} of {len(chosen)} pictures {what} {place(image_id).name} is {found[1]} x {found[0]}, the "
                f"annotations say {said[1]} x {said[0]}."
            )
    return notes
