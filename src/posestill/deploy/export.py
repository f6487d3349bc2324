"""An export as a whole: files, gate, and a folder that appears only if every file passes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np

from posestill.data.source import PoseSource
from posestill.data.synthetic.people import SyntheticConfig
from posestill.data.topdown import Labels, TopDownDataset
from posestill.deploy import decoder
from posestill.deploy.gate import Gate, Unlabelled, judge
from posestill.deploy.graph import Decode, Precision
from posestill.deploy.quantise import LEAST, check_enough
from posestill.deploy.runtimes import Target
from posestill.deploy.sidecar import HALF, read_sidecar, write_sidecar
from posestill.deploy.write import Writer
from posestill.evaluation.evaluate import labelled_people
from posestill.files import write_json
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError
from posestill.types import Person

DECODERS = ("posestill_decode.py", "posestill_decode.mjs")
"""the names of the decoders beside the files"""
SYNTHETIC = 200
"""synthetic persons of the gate, where there are no others"""


@dataclass(frozen=True)
class People:
    """The persons that judge an export and those that int8 is fitted to."""

    validation: PoseSource | None = None
    """None: synthetic people, and only agreement is judged"""
    calibration: PoseSource | None = None
    """None: the validation persons"""
    count: int | None = None
    """validation persons that are taken, evenly spaced; None: all"""


@dataclass(frozen=True)
class Wanted:
    """Which files are wanted."""

    targets: Sequence[Target]
    precisions: Sequence[Precision]
    decode: Decode = "outside"
    tolerance: float | None = None


def export_model(
    model: PoseModel,
    wanted: Wanted,
    out: Path,
    people: People,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int], None] | None = None,
) -> Gate:
    """Write the files of a model, judge them and, only if all pass, put them at `out`.

    A `UserError` where `out` holds something already, where keypoints differ or a runtime refuses the model.
    """
    source = _validation(model, people)
    calibration = _calibration(model, people, source) if "int8" in wanted.precisions else []
    with draft_of(out) as draft:
        writer = Writer(model, draft, wanted.decode)
        files = []
        for target in wanted.targets:
            for precision in wanted.precisions:
                if precision != "int8" or target.int8:
                    say(f"writing {target.title} {precision}")
                    files.append(writer.write(target, precision, calibration))
        judged = partial(
            judge, model, files, source, labels=people.validation is not None, tolerance=wanted.tolerance,
            progress=progress,
        )  # fmt: skip
        gate = judged()
        if let_calculate_exactly(gate, draft, say):
            gate = judged()
        if not gate.failed:
            writer.tidy()
            _finish(draft, files, gate)
            _put(draft, out)
    return gate


def let_calculate_exactly(gate: Gate, folder: Path, say: Callable[[str], None]) -> bool:
    """Let files that fail because they calculate in half precision keep it for their weights alone; True for any."""
    found = False
    for row in gate.failed:
        sidecar = read_sidecar(folder / row.file)
        if sidecar is not None and sidecar.get("calculates") == HALF:
            say(f"{row.title} loses {row.lost:.2f} points where it calculates in {HALF}: it is judged in f32")
            write_sidecar(folder / row.file, {**sidecar, "calculates": "f32"})
            found = True
    return found


@contextmanager
def draft_of(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` to work in, which is gone afterwards; refuses an `out` that holds something."""
    check_empty(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_empty(out: Path) -> None:
    """A `UserError` where a folder is there already, with something in it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there already: name another folder, or move this one away")


def exported_files(folder: Path) -> list[Path]:
    """The networks in a folder that `posestill export` wrote, in the order of their names."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and read_sidecar(path) is not None]


def _validation(model: PoseModel, people: People) -> PoseSource:
    if people.validation is None:
        return SyntheticConfig(people=people.count or SYNTHETIC, profile="medium", size=_picture(model), seed=1).build()
    names, theirs = model.skeleton.names, people.validation.skeleton.names
    if names != theirs:
        raise UserError(
            f"the model has {len(names)} keypoints ({', '.join(names[:3])}, ...) and the validation data {len(theirs)} "
            f"({', '.join(theirs[:3])}, ...): they must be the same"
        )
    labelled = labelled_people(people.validation)
    if not len(labelled):
        raise UserError("the validation data have no labelled person: give others, or none, and agreement is judged")
    return people.validation if people.count is None else Some(people.validation, labelled, people.count)


def _calibration(model: PoseModel, people: People, validation: PoseSource) -> list[np.ndarray]:
    """Crops (1, 3, H, W) of evenly spaced persons, cut as prediction cuts them."""
    source = people.calibration or people.validation
    if source is None:
        source = SyntheticConfig(people=LEAST, profile="medium", size=_picture(model), seed=2).build()
    usable = [
        at for at, person in enumerate(source.people) if not person.crowd and person.bbox[2] > 0 and person.bbox[3] > 0
    ]
    check_enough(len(usable))
    persons = np.array(usable)[np.linspace(0, len(usable) - 1, LEAST).astype(int)]
    labels = Labels(persons, np.zeros(len(persons), dtype=bool))
    crops = TopDownDataset(Unlabelled(source, model.skeleton), size=model.config.size, labels=labels)
    return [crops[0, index].image.numpy() for index in range(len(crops))]


def _picture(model: PoseModel) -> tuple[int, int]:
    """(height, width) of synthetic pictures: as fine as the crops, within reason."""
    height, width = model.config.size
    scale = max(1.0, 128 / height)
    return round(height * scale), round(width * scale)


class Some:
    """About so many of a source's labelled persons, evenly spaced, with all who stand in the same pictures."""

    def __init__(self, source: PoseSource, labelled: np.ndarray, count: int) -> None:
        chosen = labelled[np.unique(np.linspace(0, len(labelled) - 1, min(count, len(labelled))).astype(int))]
        self.image_ids = {source.people[int(at)].image_id for at in chosen}
        self.skeleton, self._source = source.skeleton, source
        self.people: Sequence[Person] = [each for each in source.people if each.image_id in self.image_ids]

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._source.image(image_id)


def _finish(draft: Path, files: Sequence[Path], gate: Gate) -> None:
    """Put the decoders and the gate's figures beside the files."""
    told = gate.as_json()
    for path, row in zip(files, told["files"], strict=True):
        sidecar = read_sidecar(path)
        assert sidecar is not None
        write_sidecar(path, {**sidecar, "gate": {"judged_by": told["judged_by"], "persons": gate.persons, **row}})
    write_json(draft / "gate.json", told)
    shutil.copyfile(str(decoder.__file__), draft / DECODERS[0])
    script = resources.files("posestill") / "assets" / "decode.mjs"
    (draft / DECODERS[1]).write_text(script.read_text(encoding="utf-8"), encoding="utf-8")


def _put(draft: Path, out: Path) -> None:
    check_empty(out)
    if out.is_dir():
        out.rmdir()
    draft.chmod(0o755)  # a temporary folder is for its maker alone
    draft.rename(out)
