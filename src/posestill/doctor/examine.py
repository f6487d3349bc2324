"""Finds what is wrong with a pose dataset, says it in plain words and writes a repaired copy.

A dataset is a COCO annotation file, a folder with annotation files and images, or a YOLO-pose data.yaml or its folder.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from posestill.data import yolo
from posestill.data.image_files import IMAGE_SUFFIXES
from posestill.doctor.checks import AnnotationSet, decode_files, examine_overlap, examine_set
from posestill.doctor.findings import KINDS, Finding, in_words
from posestill.doctor.repair import repair_set
from posestill.doctor.sheet import draw_sheet
from posestill.doctor.whole import count_in_words, examine_whole
from posestill.documents.fields import MISSING, shown, whole_number
from posestill.documents.parse import read_json
from posestill.files import Outputs, distinct
from posestill.keypoints.metainfo import read_metainfo
from posestill.schema import UserError, printable, reading

_ORDER = ("error", "warning", "note")
_EXAMPLES = 5


@dataclass(frozen=True)
class Dataset:
    """A dataset is one or several annotation files or splits, with their images decoded."""

    path: Path
    annotation_sets: tuple[AnnotationSet, ...]


def open_dataset(path: Path, *, images: Path | None = None, metainfo: Path | None = None) -> Dataset:
    """Open a dataset as it stands, faults and all. A `UserError` says so where there is none."""
    path = Path(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        annotation_sets = list(_yolo_sets(path))
    elif path.is_dir() and (data := _find_yaml(path)) is not None:
        annotation_sets = list(_yolo_sets(data))
    elif path.is_dir():
        files = _find_annotations(path)
        if not files:
            raise UserError(f"{path} holds neither COCO annotation files nor a data.yaml with kpt_shape")
        annotation_sets = [_coco_set(each, _image_folder(each, path, images), metainfo) for each in files]
        annotation_sets = _named_apart(annotation_sets, files)
    else:
        annotation_sets = [_coco_set(path, _image_folder(path, path.parent.parent, images), metainfo)]
    return Dataset(path, tuple(_with_files(annotation_sets)))


def examine(dataset: Dataset) -> list[Finding]:
    """List everything that is wrong, errors first; nothing but notes means that the dataset is sound."""
    found = [
        finding
        for annotation_set in dataset.annotation_sets
        for finding in (*examine_set(annotation_set), *examine_whole(annotation_set))
    ]
    for one, other in combinations(dataset.annotation_sets, 2):
        splits = {_split(one.name), _split(other.name)}
        if len(splits) == 2 and None not in splits:
            found += examine_overlap(one, other)
    return sorted(_once(found), key=lambda finding: _ORDER.index(finding.severity))


def _once(findings: Sequence[Finding]) -> list[Finding]:
    """The same findings, each said once: what holds for several annotation sets alike names all of them."""
    alike: dict[tuple[str, ...], Finding] = {}
    for each in findings:
        key = (each.kind, each.what, each.remedy, *each.where)
        names = [alike[key].annotation_set] if key in alike else []
        alike[key] = replace(each, annotation_set=", ".join(dict.fromkeys([*names, each.annotation_set])))
    return list(alike.values())


def repair(dataset: Dataset, out: Path) -> list[str]:
    """Write a repaired COCO copy (annotations/ and images/) and give, line by line, what was changed.

    What cannot be repaired without knowing the truth stays, and `examine` names it again.
    """
    out = Path(out)
    _refuse_taken(out)
    return [
        line
        for annotation_set in dataset.annotation_sets
        for line in repair_set(annotation_set, out, several=len(dataset.annotation_sets) > 1)
    ]


def _refuse_taken(out: Path) -> None:
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--fix {printable(out)}: give a new or empty folder, so that nothing is written over")


def describe(dataset: Dataset, findings: Sequence[Finding]) -> str:
    """Say the findings in plain words, grouped by severity, with a closing line."""
    lines = []
    for annotation_set in dataset.annotation_sets:
        images, people = len(annotation_set.content["images"]), annotation_set.content["annotations"]
        told = f"{len(people)} annotations ({count_in_words(people)})"
        lines.append(f"{annotation_set.name}: {images} images, {told}, images in {annotation_set.folder}")
    for severity in _ORDER:
        chosen = [finding for finding in findings if finding.severity == severity]
        lines += ["", f"{severity}s"] if chosen else []
        for finding in chosen:
            shown = finding.where if severity == "note" else finding.where[:_EXAMPLES]
            rest = len(finding.where) - len(shown)
            more = f" and {rest} more" if rest else ""
            times = "" if severity == "note" else f" ({len(finding.where)}x)"
            lines.append(f"  [{finding.kind}] {finding.annotation_set}: {finding.what}{times}")
            lines.append(f"      {'; '.join(shown)}{more}")
            lines.append(f"      -> {finding.remedy}")
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in _ORDER}
    verdict = "nothing is wrong" if is_sound(findings) else f"{counts['error']} errors, {counts['warning']} warnings"
    return "\n".join([*lines, "", f"{dataset.path}: {verdict}"])


def is_sound(findings: Sequence[Finding]) -> bool:
    """True when there is no error and no warning."""
    return all(finding.severity == "note" for finding in findings)


def check(
    path: Path,
    *,
    images: Path | None,
    metainfo: Path | None,
    fix: Path | None,
    sheet: Path,
    overwrite: bool = False,
) -> tuple[str, bool]:
    """Give the text that `data check` prints and whether the dataset is sound; write the contact sheet and the copy.

    With `overwrite` the sheet may replace a file that posestill did not write.
    """
    if sheet.suffix.lower() not in IMAGE_SUFFIXES or sheet.is_dir():
        raise UserError(f"--sheet {sheet}: give an image file, such as data-check.png")
    Outputs("data check", overwrite=overwrite, read=(path, metainfo)).claim(sheet, "--sheet")  # before the work begins
    if fix is not None:
        _refuse_taken(fix)
        if fix.resolve() in sheet.resolve().parents:
            raise UserError(f"--sheet {sheet} lies in the folder of --fix, which holds the copy alone: name another")
    with reading(str(path)):
        dataset = open_dataset(path, images=images, metainfo=metainfo)
        findings = examine(dataset)
    lines = [describe(dataset, findings)]
    pictures = (each.folder / name for each in dataset.annotation_sets for name in each.files)
    outputs = Outputs("data check", overwrite=overwrite, read=(path, metainfo, *pictures))
    outputs.claim(sheet, "--sheet")
    if draw_sheet(dataset.annotation_sets, sheet, outputs=outputs):
        lines.append(f"contact sheet: {sheet}")
    if fix is not None:
        changes = repair(dataset, fix)
        left = [finding for finding in examine(open_dataset(fix)) if finding.severity != "note"]
        lines += ["", "repaired:", *(f"  {line}" for line in changes or ["nothing had to be changed"])]
        remaining = [f"  [{each.kind}] {each.annotation_set}: {each.what}" for each in left]
        lines += ["left to you:", *remaining] if remaining else []
        lines.append(f"copy: {fix}")
    return "\n".join(lines), is_sound(findings)


def _with_files(annotation_sets: Sequence[AnnotationSet]) -> Iterator[AnnotationSet]:
    """Each set with its images decoded; sets that share a folder share the work."""
    wanted: dict[Path, list[str]] = defaultdict(list)
    for annotation_set in annotation_sets:
        names = (image.get("file_name") for image in annotation_set.content["images"])
        wanted[annotation_set.folder] += [name for name in names if name]
    decoded = {folder: decode_files(folder, names) for folder, names in wanted.items()}
    return (
        replace(annotation_set, files=_of_set(annotation_set, decoded[annotation_set.folder]))
        for annotation_set in annotation_sets
    )


def _named_apart(annotation_sets: Sequence[AnnotationSet], files: Sequence[Path]) -> list[AnnotationSet]:
    """The same sets, named with their folder where several files have one name: train-annotations, valid-annotations.

    Their copies would else be written to the same places.
    """
    names = [each.name for each in annotation_sets]
    apart = [
        f"{path.parent.name}-{name.lstrip('_')}" if names.count(name) > 1 else name
        for name, path in zip(names, files, strict=True)
    ]
    return [replace(each, name=name) for each, name in zip(annotation_sets, distinct(apart), strict=True)]


def _of_set(annotation_set: AnnotationSet, files: dict[str, Any]) -> dict[str, Any]:
    names = {image.get("file_name") for image in annotation_set.content["images"]}
    return {name: file for name, file in files.items() if name in names}


def _split(name: str) -> str | None:
    """`train`, `val` or `test` where a file's or split's name says so."""
    return next((split for split in ("train", "val", "test") if split in name.lower()), None)


def _find_yaml(folder: Path) -> Path | None:
    named = [
        folder / "data.yaml",
        folder / "dataset.yaml",
        *sorted(folder.glob("*.yaml")),
        *sorted(folder.glob("*.yml")),
    ]
    return next((path for path in named if path.is_file() and "kpt_shape" in path.read_text(errors="replace")), None)


def _find_annotations(folder: Path) -> list[Path]:
    """The COCO files of a folder: person_keypoints_* of a COCO tree if there are, else all."""
    named = sorted((folder / "annotations").glob("person_keypoints_*.json"))
    if named:
        return named
    places = [
        *(folder / "annotations").glob("*.json"),
        *folder.glob("*.json"),
        *folder.glob("*/_annotations.coco.json"),
    ]
    return [path for path in sorted(places) if _is_coco(read_json(path, what="annotation file"))]


def _is_coco(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    )


_IDS = ("id", "image_id", "category_id")
_FORMS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"file_name": str},
    "annotations": {"bbox": list, "keypoints": list},
    "categories": {"keypoints": list, "skeleton": list},
}


def _refuse_other_forms(content: Any, path: Path) -> None:
    """A `UserError` for the first value of another type than COCO's: no check could read on from there."""
    for kind, forms in _FORMS.items():
        for number, entry in enumerate(content[kind]):
            where = f"{path}: entry {number} of {kind}"
            if not isinstance(entry, dict):
                raise UserError(f"{where} is {shown(entry)}; a mapping is wanted")
            for key, form in forms.items():
                if entry.get(key) is not None and not isinstance(entry[key], form):
                    raise UserError(f"{where}: {key} is {shown(entry[key])}, which is of another type than COCO's")
            for key in _IDS:
                if entry.get(key) is not None and whole_number(entry[key]) is None:
                    raise UserError(f"{where}: {key} is {shown(entry[key])}; a whole number is wanted: number them")
    for category in content["categories"]:
        where = f"{path}: category {shown(category.get('name', MISSING))}"
        if category.get("id") is None:
            raise UserError(f"{where} has no id")
        if not all(isinstance(name, str) and name for name in category.get("keypoints") or ()):
            raise UserError(f"{where}: keypoints is {shown(category['keypoints'])}; a list of their names is wanted")
        for edge in category.get("skeleton") or ():
            if not isinstance(edge, list) or any(type(end) is not int for end in edge):
                raise UserError(f"{where}: skeleton edge {shown(edge)} is not a pair of keypoint numbers")


def _read_coco(path: Path) -> dict[str, Any]:
    content = read_json(path, what="annotation file")
    if not _is_coco(content):
        raise UserError(f"{path} is not a COCO file: it needs lists of images, annotations and categories")
    _refuse_other_forms(content, path)
    return {**content, **{kind: [_with_numbers(entry) for entry in content[kind]] for kind in _FORMS}}


def _with_numbers(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry whose ids are numbers, as every reader takes them, where they mean numbers: 7 for "7" and 7.0."""
    return {key: each if key not in _IDS or (number := whole_number(each)) is None else number
            for key, each in entry.items()}  # fmt: skip


def _coco_set(path: Path, folder: Path, metainfo: Path | None) -> AnnotationSet:
    content = _read_coco(path)
    annotation_set = AnnotationSet(path.stem, content, folder)
    names = (annotation_set.category or {}).get("keypoints", ())
    if metainfo is not None:
        return replace(annotation_set, metainfo=read_metainfo(metainfo, names))
    beside = next((each for each in (path.parent, path.parent.parent) if (each / "metainfo.json").is_file()), None)
    if beside is None:
        return annotation_set
    try:  # one that lies beside the annotations helps where it fits them
        info = read_metainfo(beside / "metainfo.json", names)
    except UserError:
        return annotation_set
    return replace(annotation_set, metainfo=info if list(info.get("names", ())) == list(names) else None)


def _image_folder(annotations: Path, root: Path, given: Path | None) -> Path:
    """Where the first of the listed images lies: --images, the usual places, else beside the annotation file."""
    if given is not None:
        if not given.is_dir():
            raise UserError(f"no folder of images {given}: correct --images")
        return given
    content = _read_coco(annotations)
    stem = annotations.stem
    split = stem.removeprefix("person_keypoints_")
    places = [root / "images" / stem, root / "images" / split, root / split, root / "images"]
    places += [annotations.parent / "images", annotations.parent, root]
    names = [image["file_name"] for image in content["images"] if image.get("file_name")][:20]
    counts = [sum((place / name).is_file() for name in names) for place in places]
    if not any(counts):
        existing = (place for place in places if place.is_dir() and any(_images_in(place)))
        return next(existing, annotations.parent)
    return places[counts.index(max(counts))]


def _images_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _yolo_sets(data: Path) -> Iterator[AnnotationSet]:
    problems: dict[str, list[tuple[str, str]]] = defaultdict(list)
    dataset = yolo.read_dataset(data, lambda kind, where, what: problems[kind].append((where, what)))
    if not dataset.splits:
        raise UserError(f"{data} has no train, val or test")
    absent = [split for split in dataset.splits if split == "test" and not yolo.is_there(dataset, split)]
    for split in dataset.splits:
        if split in absent:  # Roboflow names it, whether or not it is exported
            continue
        labels = yolo.read_split(dataset, split, lambda kind, where, what: problems[kind].append((where, what)))
        stray = [(str(path), "") for path in _labels_without_image(list(labels.paths.values()))]
        if stray and not any(place in {where for where, _ in problems["label-without-image"]} for place, _ in stray):
            problems["label-without-image"] += stray
        if _shape_is_wrong(problems["yolo-line"], len(labels.annotations)):
            problems["yolo-shape"] = problems.pop("yolo-line")
        findings = tuple(
            in_words(kind, (f"{where}: {detail}" if detail else where for where, detail in found), split)
            for kind, found in problems.items()
            if found and kind in KINDS
        )
        notes = [Finding("assumed", "note", (str(data),), note, "say it in data.yaml", split) for note in dataset.notes]
        notes += [
            Finding("split-absent", "note", (f"{data}: {each}",), "data.yaml names a folder that is not there",
                    "add it, or take the line out; nothing but `split: test` reads it", each)
            for each in absent
        ]  # fmt: skip
        content = {
            "images": labels.images,
            "annotations": labels.annotations,
            "categories": [dataset.category(number) for number in dataset.classes],
        }
        yield AnnotationSet(split, content, dataset.root, dataset.metainfo, (*findings, *notes))
        problems.clear()


def _shape_is_wrong(bad_lines: Sequence[tuple[str, str]], good_lines: int) -> bool:
    """True when most lines have one and the same other number of values: then data.yaml is wrong, not the lines."""
    return len(bad_lines) > max(good_lines, 1) and len({what for _, what in bad_lines}) == 1


def _labels_without_image(images: Sequence[Path]) -> list[Path]:
    """Label files in the folders of the images' labels that belong to no image file there."""
    known = {yolo.label_path(path) for path in images}
    folders = {path.parent for path in known if path.parent not in {image.parent for image in images}}
    candidates = {label for folder in folders if folder.is_dir() for label in folder.glob("*.txt")}
    stems = {
        yolo.label_path(each)
        for path in {image.parent for image in images}
        if path.is_dir()
        for each in _images_in(path)
    }
    return sorted(candidates - known - stems)
