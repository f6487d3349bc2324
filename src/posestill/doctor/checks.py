"""What can be wrong with a pose dataset, one check after another, over COCO entries as they stand in the file."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posestill.data.image_files import bits_of, decode_image, read_header
from posestill.doctor.findings import Finding, in_words
from posestill.doctor.turned import unturned_images
from posestill.documents.fields import is_number, numbers, shown
from posestill.files import read_bytes
from posestill.keypoints.metainfo import metainfo_of
from posestill.schema import UserError
from posestill.skeletons import from_category
from posestill.types import Size

EDGE_TOLERANCE = 1.0
"""px that a bbox or keypoint may lie outside its image"""
FAR_FROM_BBOX = 0.6
"""a keypoint further from its bbox than this share of the bbox's longer side belongs to something else"""


@dataclass(frozen=True)
class ImageFile:
    """An image file is what decoding it gave."""

    size: Size | None
    """(height, width), or None when it cannot be decoded"""
    digest: str
    """of its bytes; empty when there is no file"""
    problem: str = ""
    """why it cannot be decoded, in words"""
    orientation: int = 1
    """EXIF's: how the picture is turned to be shown"""
    bits: int = 8
    """a channel, as the file has them"""


@dataclass(frozen=True)
class AnnotationSet:
    """An annotation set is one annotation file or one split of a YOLO folder, as COCO entries that may be faulty."""

    name: str
    content: Mapping[str, Any]
    """images, annotations, categories"""
    folder: Path
    """of the images"""
    metainfo: Mapping[str, Any] | None = None
    findings: tuple[Finding, ...] = ()
    """made while reading, of what COCO entries cannot show (faulty lines of label files)"""
    files: Mapping[str, ImageFile] = field(default_factory=dict)
    """file name -> what decoding gave"""

    @property
    def sound_images(self) -> dict[Any, Mapping[str, Any]]:
        """Every image id leads to the first entry that has it."""
        found: dict[Any, Mapping[str, Any]] = {}
        for image in self.content["images"]:
            found.setdefault(image.get("id"), image)
        return found

    @property
    def unturned(self) -> set[Any]:
        """These are the ids of images whose labels were made on pixels as they are stored, not as they are shown."""
        sized = [
            image
            for image in self.sound_images.values()
            if (file := self.files.get(image.get("file_name") or "")) is not None
            and file.size is not None
            and (image.get("width"), image.get("height")) == file.size
            and file.size[0] != file.size[1]
        ]
        orientations = {name: file.orientation for name, file in self.files.items()}
        return unturned_images(sized, self.content["annotations"], orientations)

    @property
    def category(self) -> Mapping[str, Any] | None:
        """The category is the first one that names keypoints, or None."""
        return next((each for each in self.content["categories"] if each.get("keypoints")), None)

    def size(self, image_id: Any) -> Size | None:
        """The (height, width) of an image is that of its file where it can be decoded, else what its entry says."""
        image = self.sound_images.get(image_id)
        return None if image is None else _size(self, image)


def decode_files(folder: Path, names: Iterable[str]) -> dict[str, ImageFile]:
    """Decode the image files of a folder, several at a time, and give what each of them is by its name."""
    names = list(dict.fromkeys(names))
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: _decode(folder / name), names), strict=True))


def _decode(path: Path) -> ImageFile:
    try:
        data = read_bytes(path, what="image")
    except UserError:
        return ImageFile(None, "")
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    try:
        height, width = decode_image(data, where="").shape[:2]
    except UserError as error:
        return ImageFile(None, digest, problem=str(error).strip())
    header = read_header(path)
    orientation = 1 if header is None else header.orientation
    return ImageFile((height, width), digest, orientation=orientation, bits=bits_of(data))


class Faults:
    """These are places of faults, gathered by kind."""

    def __init__(self, annotation_set: str) -> None:
        self.annotation_set = annotation_set
        self.gathered: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, where: str) -> None:
        """Note one place."""
        self.gathered[kind].append(where)

    def findings(self) -> list[Finding]:
        """List one finding a kind."""
        return [in_words(kind, where, self.annotation_set) for kind, where in self.gathered.items()]


def examine_set(annotation_set: AnnotationSet) -> list[Finding]:
    """List everything that is wrong with one annotation set, seen for itself."""
    faults = Faults(annotation_set.name)
    _check_images(annotation_set, faults)
    _check_categories(annotation_set, faults)
    _check_annotations(annotation_set, faults)
    return [*annotation_set.findings, *faults.findings()]


def examine_overlap(one: AnnotationSet, other: AnnotationSet) -> list[Finding]:
    """List the pictures that two annotation sets have in common."""
    theirs = {file.digest for file in other.files.values() if file.digest}
    shared = [name for name, file in one.files.items() if file.digest in theirs]
    faults = Faults(f"{one.name} and {other.name}")
    for name in shared:
        faults.add("split-overlap", name)
    return faults.findings()


def _check_images(annotation_set: AnnotationSet, faults: Faults) -> None:
    seen: set[Any] = set()
    by_content: dict[str, Any] = {}
    unturned = annotation_set.unturned
    for image in annotation_set.content["images"]:
        where = f"image {image.get('id')} ({image.get('file_name')})"
        if image.get("id") is None or not image.get("file_name"):
            faults.add("entry-incomplete", where)
            continue
        if image["id"] in seen:
            faults.add("image-id-twice", where)
        seen.add(image["id"])
        file = annotation_set.files[image["file_name"]]
        if not file.digest:
            faults.add("image-missing", where)
            continue
        if by_content.setdefault(file.digest, image["id"]) != image["id"]:
            faults.add("image-twice", f"{where} = image {by_content[file.digest]}")
        if file.size is None:
            faults.add("image-undecodable", f"{where}: it {file.problem}")
            continue
        if file.bits > 8:
            faults.add("sixteen-bits", where)
        if image.get("width") is not None and (image.get("height"), image["width"]) != file.size:
            height, width = file.size
            kind = "labels-unturned" if image["id"] in unturned else "image-size"
            faults.add(kind, f"{where}: {image['width']} x {image.get('height')}, the file {width} x {height}")


def _check_categories(annotation_set: AnnotationSet, faults: Faults) -> None:
    used = {entry.get("category_id") for entry in annotation_set.content["annotations"]}
    named = [each for each in annotation_set.content["categories"] if each.get("keypoints")]
    if not named:
        faults.add("no-keypoint-names", annotation_set.name)
    called = ", ".join(str(each.get("name")) for each in named)
    if len({tuple(each["keypoints"]) for each in named}) > 1:
        faults.add("several-skeletons", called)
    elif len(named) > 1:
        faults.add("several-categories", called)
    for category in annotation_set.content["categories"]:
        where = f"category {category.get('id')} ({category.get('name')})"
        if category.get("id") not in used:
            faults.add("category-empty", where)
        elif named and not category.get("keypoints"):
            faults.add("category-without-keypoints", where)
    for category in {tuple(each["keypoints"]): each for each in reversed(named)}.values():
        _check_names(category, annotation_set, faults)


def _check_names(category: Mapping[str, Any], annotation_set: AnnotationSet, faults: Faults) -> None:
    names = list(category["keypoints"])
    edges = category.get("skeleton") or []
    wrong = [edge for edge in edges if len(edge) != 2 or any(not 1 <= end <= len(names) for end in edge)]
    if wrong:
        zero_based = " (0-based, it seems)" if counts_from_zero(edges, len(names)) else ""
        faults.add("edges-range", f"edge {wrong[0]} of {len(names)} keypoints{zero_based}")
    if len(set(names)) != len(names):
        faults.add("keypoint-name-twice", ", ".join(sorted({name for name in names if names.count(name) > 1})))
        return
    try:
        told = metainfo_of(category, annotation_set.metainfo, where=annotation_set.name)
        skeleton = from_category({"keypoints": names, "name": "person"}, told)
    except (UserError, ValueError) as error:
        faults.add("side-without-partner", str(error))
        return
    if not skeleton.partners_known:
        faults.add("no-sides", ", ".join(names[:4]) + (", ..." if len(names) > 4 else ""))


def counts_from_zero(edges: Sequence[Sequence[int]], count: int) -> bool:
    """True where edges that should count from 1 look as if they counted from 0."""
    ends = [end for edge in edges for end in edge]
    return bool(ends) and min(ends) == 0 and max(ends) < count


def _check_annotations(annotation_set: AnnotationSet, faults: Faults) -> None:
    images, sizes = annotation_set.sound_images, {}
    categories = {category.get("id"): category for category in annotation_set.content["categories"]}
    seen: set[Any] = set()
    for entry in annotation_set.content["annotations"]:
        where = f"annotation {entry.get('id')}"
        if entry.get("id") is None or entry.get("image_id") is None:
            faults.add("entry-incomplete", where)
            continue
        if entry["id"] in seen:
            faults.add("annotation-id-twice", where)
        seen.add(entry["id"])
        image_id = entry["image_id"]
        if image_id not in images:
            faults.add("unknown-image", f"{where} of image {image_id}")
        if image_id not in sizes:
            sizes[image_id] = annotation_set.size(image_id)
        category = categories.get(entry.get("category_id"))
        if category is None:
            faults.add("unknown-category", f"{where} of category {entry.get('category_id')}")
        for kind, detail in entry_faults(entry, category or annotation_set.category, sizes[image_id]):
            faults.add(kind, f"{where}{detail}")


def entry_faults(
    entry: Mapping[str, Any], category: Mapping[str, Any] | None, size: Size | None
) -> list[tuple[str, str]]:
    """List what is wrong with one annotation in an image of `size` (height, width), as pairs of kind and detail."""
    found: list[tuple[str, str]] = []
    flat, box, area = entry.get("keypoints") or None, entry.get("bbox"), entry.get("area")
    crowd = entry.get("iscrowd")
    if crowd is not None and not isinstance(crowd, bool) and crowd not in (0, 1):
        found.append(("crowd-odd", f": {shown(crowd)}"))
    if any(not is_finite(value) for value in (*labels_in(flat), *(box or ()), *(() if area is None else (area,)))):
        return [*found, ("not-finite", "")]
    has_box = box is not None and len(box) == 4 and box[2] > 0 and box[3] > 0
    if not has_box:
        found.append(("bbox-missing", f": {box}"))
    elif box is not None and size is not None and off_image(box, size):
        found.append(("bbox-off-image", f": {box} in {size[1]} x {size[0]}"))
    if area is None:
        found.append(("area-missing", ""))
    elif has_box and area <= 0:
        found.append(("area-zero", f": {area:g}"))
    elif has_box and box is not None and area > 1.01 * box[2] * box[3] + 1:
        found.append(("area-wrong", f": {area:g}"))
    count = len((category or {}).get("keypoints") or ())
    if flat is None or not count:
        return found
    if len(flat) != 3 * count:
        return [*found, ("keypoints-length", f": {len(flat)} numbers; {count} keypoints make {3 * count}")]
    points = np.nan_to_num(numbers_in(flat)).reshape(count, 3)
    odd = [value for value in points[:, 2] if value not in (0, 1, 2)]
    if odd:
        found.append(("visibility", f": {odd[0]:g}"))
    labelled = int((points[:, 2] > 0).sum())
    if entry.get("num_keypoints") is not None and entry["num_keypoints"] != labelled:
        found.append(("num-keypoints", f": says {entry['num_keypoints']}, has {labelled}"))
    outside = np.zeros(count, dtype=bool) if size is None else outside_image(points, size)
    names = (category or {})["keypoints"]
    if outside.any():
        found.append(("keypoint-off-image", f": {names[int(outside.argmax())]}"))
    if has_box and box is not None:
        reach = max(FAR_FROM_BBOX * max(box[2:]), 10.0)
        low, high = np.array(box[:2]) - reach, np.array(box[:2]) + np.array(box[2:]) + reach
        far = ((points[:, :2] < low) | (points[:, :2] > high)).any(axis=1) & (points[:, 2] > 0) & ~outside
        if far.any():
            found.append(("keypoint-far", f": {names[int(far.argmax())]}"))
    return found


def numbers_in(flat: Sequence[Any]) -> np.ndarray:
    """Give the numbers of a flat list, NaN where it holds something else."""
    found = numbers(flat)
    return np.full(len(flat), np.nan) if found is None else found


def labels_in(flat: Sequence[Any] | None) -> Iterable[Any]:
    """Give the numbers of a flat list of x y v that mean something: x and y only where v is not 0."""
    if flat is None or len(flat) % 3:
        return flat or ()
    triples = [flat[at : at + 3] for at in range(0, len(flat), 3)]
    return [value for x, y, v in triples for value in ((v,) if is_finite(v) and v == 0 else (x, y, v))]


def is_finite(value: Any) -> bool:
    """True for a number that is neither NaN nor infinite."""
    return is_number(value)


def off_image(box: Sequence[float], size: Size) -> bool:
    """True for a bbox (4,) x y w h that leaves an image of (height, width) by more than the tolerance, px."""
    x, y, width, height = box
    over = max(-x, -y, x + width - size[1], y + height - size[0])
    return over > EDGE_TOLERANCE


def outside_image(points: np.ndarray, size: Size) -> np.ndarray:
    """Give (K,) bool: which labelled keypoints of (K, 3) x y v lie outside an image of `size` (height, width)."""
    limit = np.array([size[1], size[0]]) + EDGE_TOLERANCE
    out = (points[:, :2] < -EDGE_TOLERANCE) | (points[:, :2] > limit)
    return np.asarray(out.any(axis=1) & (points[:, 2] > 0))


def _size(annotation_set: AnnotationSet, image: Mapping[str, Any]) -> Size | None:
    file = annotation_set.files.get(image.get("file_name") or "")
    if file is not None and file.size is not None:
        return file.size
    if is_finite(image.get("width")) and is_finite(image.get("height")):
        return int(image["height"]), int(image["width"])
    return None
