"""Labels of pictures that several machines share: each keeps its teacher's answers, and the last one writes the file.

In a folder beside the labels:

    job.json      what the parts are of; the first machine writes it, and the others must agree
    2-of-4.npz    a shard's people and the teacher's answers; whole or not there
    whole.json    what was made of all parts: whoever comes later finds it done
    lock          held by the process that puts the parts together

The parts may be deleted when the labels are there. A shard whose part is there does nothing again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from posestill.cluster.on_ray import RayCluster
from posestill.cluster.publish import publish
from posestill.cluster.shards import Shard, lots
from posestill.data.images import FoundBoxes, ImagesConfig, ImageSource, as_people
from posestill.data.pictures import Pictures
from posestill.engine.choose import open_teacher
from posestill.engine.log import RunLog
from posestill.engine.pictures import refuse_nobody
from posestill.files import finite, refuse_taken, write_json
from posestill.models.device import choose_device
from posestill.models.hub import find_network, is_reference, is_saved_network
from posestill.predict.label import Asked, Labelled, ask, claim_outputs, write_labels
from posestill.schema import UserError, reading
from posestill.teachers.answers import Answers
from posestill.teachers.base import Teacher
from posestill.teachers.lock import held
from posestill.teachers.made_for import ELSEWHERE, as_read_back, first_difference

LOT = 500
"""pictures that a node of a cluster is given at once, about"""
_FORMAT = "posestill label parts 1"


@dataclass(frozen=True)
class LabelJob:
    """Pictures to be labelled, and by whom."""

    given: ImagesConfig
    teacher: str
    """a file, a model folder, or a name"""
    layout: str | None
    out: Path
    device: str
    shard: Shard

    def __str__(self) -> str:
        return f"part {self.shard} of {self.out}"

    @property
    def folder(self) -> Path:
        """Where the parts lie."""
        return parts_folder(self.out)

    @property
    def part(self) -> Path:
        """Where that of the shard lies."""
        return self.folder / f"{self.shard.file_name}.npz"


def parts_folder(out: Path) -> Path:
    """Where the parts of a file of labels lie until they are put together."""
    return out.with_name(f"{out.stem}-shards")


def label_shard(job: LabelJob, *, threshold: float, log: RunLog, overwrite: bool = False) -> Labelled | None:
    """Label a shard of the pictures; the last one puts the parts of all together, for others the answer is None.

    A `UserError` where something is there that posestill did not write (unless `overwrite`), or parts of another job.
    """
    claim_outputs(job.given, job.out, overwrite=overwrite)
    make_part(job, log)
    missing = [each.number for each in job.shard.all if not _of(job, each).part.is_file()]
    if missing:
        log.say(
            f"shard {job.shard} has done its share; still to come: {job.shard.named(missing)}. Who ends last writes "
            f"{job.out}"
        )
        return None
    return put_together(job, threshold=threshold, log=log, overwrite=overwrite)


def label_on(cluster: RayCluster, job: LabelJob, *, threshold: float, log: RunLog, overwrite: bool = False) -> Labelled:
    """Label pictures on the nodes of a Ray cluster, in lots; what an earlier try has finished is there already."""
    claim_outputs(job.given, job.out, overwrite=overwrite)
    count = len(Pictures(job.given.folder, frame_step=job.given.frame_step))
    parts = [_of(job, shard) for shard in Shard(1, lots(count, of=LOT)).all]
    missing = [each for each in parts if not each.part.is_file()]
    with log.bar("asking the teacher, in parts", len(parts), len(parts) - len(missing)) as bar:
        cluster.each(make_part_quietly, missing, say=log.say, told=lambda _, __: bar.advance())
    return put_together(parts[0], threshold=threshold, log=log, overwrite=overwrite)


def make_part_quietly(job: LabelJob) -> None:
    """The same for a node, where nobody looks on."""
    make_part(job, RunLog(None, quiet=True))


def make_part(job: LabelJob, log: RunLog) -> None:
    """Ask the teacher about a shard of the pictures and publish what it says, unless that is there."""
    teacher = open_teacher(job.teacher, layout=job.layout)
    described = _agree(job, teacher)
    if job.part.is_file():
        log.say(f"{job.part} is there: the teacher is not asked")
        return
    asked = ask(job.given, teacher, log=log, device=choose_device(job.device), shard=job.shard)
    publish(job.part, _packed(asked, described))


def put_together(job: LabelJob, *, threshold: float, log: RunLog, overwrite: bool = False) -> Labelled:
    """Write the labels of all parts, once: whoever comes later finds them."""
    with held(job.folder / "lock", say=log.say, meanwhile=f"{job.out} is being written by"):
        outputs = claim_outputs(job.given, job.out, overwrite=overwrite)
        teacher = open_teacher(job.teacher, layout=job.layout)
        described, paths = _agree(job, teacher), [_of(job, shard).part for shard in job.shard.all]
        parts = [_read_part(path, described) for path in paths]
        made_of = _digest(paths, threshold)
        if (done := _done(job, made_of)) is not None:
            return done
        labelled = write_labels(_joined(job.given, parts, teacher), job.out, outputs, threshold=threshold)
        told = {**asdict(labelled), "images": str(labelled.images), "sheet": str(labelled.sheet)}
        write_json(job.folder / "whole.json", {"made of": made_of, "labels": _digest([job.out]), **told})
        return labelled


def _of(job: LabelJob, shard: Shard) -> LabelJob:
    """The same job for another shard."""
    return replace(job, shard=shard)


def _agree(job: LabelJob, teacher: Teacher) -> str:
    """Digits of what the parts are of; a `UserError` where those that are there are of something else."""
    wanted = as_read_back(_described(job, teacher))
    path, parts = job.folder / "job.json", [each.name for each in job.folder.glob("*.npz")]
    if not path.is_file():  # which was there before any part
        refuse_taken(job.folder, parts, what="the parts of --out,")
        publish(path, json.dumps(wanted, indent=2) + "\n")
    with reading(str(path)):
        difference = first_difference(json.loads(path.read_text(encoding="utf-8")), wanted)
    if difference is not None:
        raise UserError(
            f"{job.folder} has parts of other labels ({difference}): delete that folder, or choose another --out"
        )
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def _described(job: LabelJob, teacher: Teacher) -> dict[str, Any]:
    """What decides the parts; what a user changes first comes first."""
    given = job.given
    pictures = Pictures(given.folder, frame_step=given.frame_step)
    names = "\n".join(each.name for each in pictures.all)
    return {
        "format": _FORMAT,
        "shards": job.shard.count,
        "pictures": {"count": len(pictures), "names": hashlib.sha256(names.encode()).hexdigest()[:16]},
        "boxes": None if given.boxes is None else _digest([given.boxes]),
        "detector": None if given.detector is None else _detector(given.detector),
        "box threshold": given.box_threshold,
        "teacher": finite({name: each for name, each in teacher.lineage.items() if name not in ELSEWHERE}),
    }


def _detector(path: Path) -> str:
    """The SHA-256 of a detector: of its file, or of the weights and settings that transformers reads."""
    if is_reference(str(path)) or is_saved_network(path):
        return find_network(str(path), where="--detector").digest()
    return _digest([path])


def _packed(asked: Asked, described: str) -> bytes:
    """A part as the bytes of an .npz file."""
    people, pictures = asked.source.people, asked.source.pictures
    content = io.BytesIO()
    np.savez(
        content,
        job=np.array(described),
        position=np.array([each.image_id - 1 for each in people], dtype=np.int64),
        bbox=np.array([each.bbox for each in people], dtype=np.float64).reshape(-1, 4),
        score=np.array([each.score for each in people], dtype=np.float64),
        keypoints=asked.answers.keypoints,
        apart=asked.answers.apart,
        passed=np.array(json.dumps({str(image_id): text for image_id, text in asked.passed.items()})),
        unreadable=np.array(json.dumps([str(path) for path in pictures.unreadable])),
    )
    return content.getvalue()


def _read_part(path: Path, described: str) -> dict[str, np.ndarray]:
    with reading(f"the part {path} (delete it, and its shard makes it anew)"):
        try:
            with np.load(path, allow_pickle=False) as content:
                part = {name: content[name] for name in content.files}
        except (BadZipFile, EOFError, OSError) as error:
            raise ValueError(f"it is not whole ({error})") from None
        if str(part["job"]) != described:
            raise ValueError("it is of other labels")
    return part


def _joined(given: ImagesConfig, parts: Sequence[Mapping[str, np.ndarray]], teacher: Teacher) -> Asked:
    """What the teacher said of all pictures, in the order in which one process would have asked it."""
    pictures = Pictures(given.folder, frame_step=given.frame_step)
    position = np.concatenate([each["position"] for each in parts])
    order = np.argsort(position, kind="stable")  # a picture's people are of one part, and keep their order
    position, bbox, score, keypoints, apart = (
        np.concatenate([each[name] for each in parts])[order]
        for name in ("position", "bbox", "score", "keypoints", "apart")
    )
    own, first = np.unique(position, return_index=True)
    boxes, scores = np.split(bbox, first[1:]), np.split(score, first[1:])
    # Of nothing at all numpy makes one part that holds nothing, hence not strict.
    found = {int(each): FoundBoxes(*those) for each, *those in zip(own, boxes, scores, strict=False)}
    passed = {int(name): text for each in parts for name, text in json.loads(str(each["passed"])).items()}
    lost = [Path(path) for each in parts for path in json.loads(str(each["unreadable"]))]
    pictures.unreadable = list(dict.fromkeys([*pictures.unreadable, *lost]))
    people = as_people(found)
    refuse_nobody(given, pictures, people)
    source = ImageSource(pictures, people, teacher.skeleton, boxes=given.finder)
    return Asked(source, Answers(keypoints, apart), passed, teacher.lineage)


def _done(job: LabelJob, made_of: str) -> Labelled | None:
    """What was made of these very parts, where it is there."""
    path = job.folder / "whole.json"
    if not path.is_file() or not job.out.is_file():
        return None
    with reading(str(path)):
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("made of") != made_of or told.pop("labels") != _digest([job.out]):
            return None
        told["unreadable"] = tuple(told["unreadable"])
        labelled = Labelled(**{**told, "images": Path(told["images"]), "sheet": Path(told["sheet"])})
    return labelled if labelled.sheet.is_file() else None


def _digest(paths: Sequence[Path], *more: object) -> str:
    digest = hashlib.sha256(" ".join(map(str, more)).encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
