"""Teachers from model folders, one that you trained or the small one of posestill, and from paths of other kinds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import model_validator

from posestill.models.hub import PREFIX, is_reference, is_saved_network
from posestill.models.pose_model import WEIGHTS, PoseModel
from posestill.schema import UserError, did_you_mean, table
from posestill.teachers.base import ModelTeacher, Teacher, TeacherConfig
from posestill.teachers.file import FileConfig
from posestill.teachers.runtime import SUFFIXES, file_hash
from posestill.teachers.transformers import TransformersConfig

BUNDLED = Path(__file__).parents[1] / "assets" / "teacher"
"""A half-width residual heatmap model, trained on synthetic people; `results/` has its figures."""
BUNDLED_TOKENS = BUNDLED.parent / "token-teacher"
"""A small token model with heatmaps, which DistilPose needs, trained on synthetic people."""


class CheckpointConfig(TeacherConfig):
    """A model folder is the teacher: `teacher: runs/teacher/best`."""

    path: Path
    """The model folder, such as a run's `best/`; in YAML it is simply the `name` of the choice."""

    @model_validator(mode="before")
    @classmethod
    def _leave_a_files_settings_to_files(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and Path(str(given.get("path", ""))).suffix.lower() in SUFFIXES:
            theirs = [key for key in given if key in FileConfig.model_fields and key not in cls.model_fields]
            if theirs:
                raise ValueError(f"a file has {', '.join(theirs)} as {{name: file, path: {given['path']}, ...}}")
        if isinstance(given, Mapping) and is_reference(str(given.get("path", ""))):
            theirs = [key for key in given if key in TransformersConfig.model_fields and key not in cls.model_fields]
            if theirs:
                told = f"{{name: transformers, path: {given['path']}, ...}}"
                raise ValueError(f"a network of the Hub has {', '.join(theirs)} as {told}")
        return given

    def open(self) -> Teacher:
        """The folder's model as a teacher."""
        if is_reference(str(self.path)) or is_saved_network(self.path):
            return TransformersConfig(path=self.path).open()
        if self.path.suffix.lower() in SUFFIXES:
            return FileConfig(path=self.path).open()
        if not self.path.exists():
            known = [name for name in table("teachers") if name not in ("checkpoint", "file", "transformers")]
            raise UserError(
                f"teacher: no model folder {self.path}{did_you_mean(str(self.path), known)} (known by name: "
                f"{', '.join(known)}; else the path of a model folder, of a file that ends in {', '.join(SUFFIXES)}, "
                f"or {PREFIX}OWNER/NAME of the Hugging Face Hub)"
            )
        model = _load(self.path)
        model.lineage["path"] = str(self.path)
        return ModelTeacher(model)


class BundledConfig(TeacherConfig):
    """The small teacher that comes with posestill knows COCO's 17 keypoints, from synthetic people only."""

    def open(self) -> Teacher:
        """The bundled model as a teacher."""
        return ModelTeacher(_load(BUNDLED))


class BundledTokensConfig(TeacherConfig):
    """The small token teacher that comes with posestill, for DistilPose; it is trained on synthetic people."""

    def open(self) -> Teacher:
        """The bundled model as a teacher."""
        return ModelTeacher(_load(BUNDLED_TOKENS))


def _load(folder: Path) -> PoseModel:
    """The model of a folder, whose lineage also has its weights' hash: what is kept of its answers is known by it."""
    model = PoseModel.load(folder)
    model.lineage = {**model.lineage, "sha256": file_hash(folder / WEIGHTS)}
    return model
