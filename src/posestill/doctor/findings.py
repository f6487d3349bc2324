"""What `data check` can find, in words: each kind of fault with its severity, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """A finding is one kind of fault in one annotation set of a dataset, with all its places."""

    kind: str
    """a short key, such as bbox-off-image"""
    severity: Severity
    where: tuple[str, ...]
    """every place: `annotation 12`, `image 3 (a.jpg)`, `a.txt, line 2`"""
    what: str
    """what is wrong, in plain words"""
    remedy: str
    """what to do about it"""
    annotation_set: str = ""
    """the name of the annotation file or split"""


Words = tuple[Severity, str, str]
KINDS: dict[str, Words] = {
    "image-missing": ("error", "no such image file", "correct --images, or fetch them; --fix leaves them out"),
    "image-undecodable": ("error", "the image cannot be decoded or is cut off", "fetch it again; --fix leaves it out"),
    "image-size": ("error", "width and height are not those of the file", "were the labels made for another copy? --fix writes the file's size, and scales labels that fit the listed size alone"),
    "labels-unturned": ("error", "the picture is shown turned, as its EXIF block says, and its labels are not", "--fix turns the labels"),
    "sixteen-bits": ("note", "16 bits a channel, of which the upper 8 are used", "save it with 8 bits where these do not suit"),
    "image-id-twice": ("error", "several images have the same id", "--fix gives new ids; their labels stay with the first: look at them"),
    "image-twice": ("warning", "the same picture is listed under different ids", "--fix makes one of them"),
    "annotation-id-twice": ("error", "several annotations have the same id", "--fix gives new ids"),
    "entry-incomplete": ("error", "an entry has no id, file_name or image_id", "--fix leaves it out"),
    "unknown-image": ("error", "the annotation's image is not listed", "add the image; --fix leaves the annotation out"),
    "unknown-category": ("error", "the annotation's category is not listed", "--fix gives it the one with keypoints"),
    "no-keypoint-names": ("error", "no category lists its keypoints", "add `keypoints: [name, ...]` to the category"),
    "several-skeletons": ("error", "several categories have different keypoints", "make a file of each"),
    "several-categories": ("note", "several categories have the same keypoints: they are read as one", "--fix makes one of them"),
    "category-empty": ("warning", "no annotation has this category", "--fix takes it out"),
    "category-without-keypoints": ("warning", "the category names no keypoints: its annotations are not read", "add `keypoints`, or take the category out"),
    "keypoint-name-twice": ("error", "two keypoints share a name", "rename one"),
    "side-without-partner": ("error", "a left or right keypoint has no partner, so a mirrored image cannot be labelled", "rename it, or give flip_pairs (flip_idx)"),
    "no-sides": ("warning", "nothing tells left from right: training switches mirroring and the flip test off", "name keypoints left_.../right_..., or give flip_pairs (flip_idx); [] where there are no sides"),
    "edges-range": ("error", "an edge of the skeleton names no keypoint: COCO counts from 1", "--fix corrects edges that count from 0, and takes others out"),
    "not-finite": ("error", "NaN, infinity or something that is no number", "--fix takes the value out"),
    "bbox-missing": ("error", "no bbox, or one without width or height", "--fix draws one around the keypoints"),
    "bbox-off-image": ("warning", "the bbox leaves the image", "--fix cuts it at the border"),
    "area-missing": ("warning", "no area: OKS cannot be scaled", "--fix writes 0.53 of the bbox"),
    "area-zero": ("error", "the area is not above 0, and OKS divides by it", "--fix writes 0.53 of the bbox"),
    "area-wrong": ("warning", "the area is larger than the bbox", "--fix writes 0.53 of the bbox"),
    "keypoints-length": ("error", "the list of keypoints has the wrong length", "label again; --fix leaves the person unlabelled"),
    "crowd-odd": ("error", "iscrowd is not 0 or 1", "--fix writes 0"),
    "visibility": ("warning", "a visibility is not 0, 1 or 2: above 0 counts as labelled", "--fix writes 2 for more, 0 for others"),
    "num-keypoints": ("warning", "num_keypoints is not the number of labelled keypoints", "--fix counts again"),
    "keypoint-off-image": ("warning", "a labelled keypoint lies outside the image", "--fix makes it unlabelled"),
    "keypoint-far": ("warning", "a labelled keypoint lies far from its bbox", "look at the contact sheet: whose is it?"),
    "sides-exchanged": ("warning", "left and right seem exchanged: left is where a person's left is, not the image's", "exchange the names, or the numbers"),
    "shares": ("error", "coordinates lie within 0..1: they are shares of the image, and px are wanted", "multiply x by the image's width and y by its height"),
    "corners": ("error", "bboxes look like x1 y1 x2 y2: as x y w h most of them leave their images", "write width and height in the place of the second corner; --fix leaves them as they are"),
    "few-people": ("warning", "too few labelled people to train or measure anything", "label more"),
    "split-overlap": ("warning", "the same picture trains and validates: figures will flatter", "take it out of one of them"),
    "yolo-line": ("error", "a line of a label file cannot be read", "correct the line; --fix leaves it out"),
    "yolo-visibility": ("error", "a visibility is not 0, 1 or 2", "correct the line; --fix leaves it out"),
    "yolo-shape": ("error", "kpt_shape does not fit the label files", "correct kpt_shape in data.yaml"),
    "yolo-class": ("error", "a class is not among the names of data.yaml", "correct the line; --fix leaves it out"),
    "yolo-range": ("error", "a value lies outside 0..1: it is a share of the image", "divide by width or height; --fix cuts small excesses, leaves other lines out"),
    "yolo-flip": ("error", "flip_idx is wrong", "correct data.yaml; --fix goes by the names"),
    "yolo-names": ("error", "kpt_names are wrong", "correct data.yaml"),
    "yolo-sigmas": ("error", "kpt_oks_sigmas are wrong", "correct data.yaml"),
    "label-without-image": ("warning", "a label file has no image", "add the image, or take the label file away"),
}  # fmt: skip
"""kind -> severity, what is wrong, what to do"""


def in_words(kind: str, where: Iterable[str], annotation_set: str) -> Finding:
    """Make a finding of a kind at some places of an annotation set, with what `KINDS` says about it."""
    severity, what, remedy = KINDS[kind]
    return Finding(kind, severity, tuple(where), what, remedy, annotation_set)
