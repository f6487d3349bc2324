"""What a run is computed on."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from posestill.engine.allocator import keep_freed_memory
from posestill.engine.config import RunConfig
from posestill.engine.log import RunLog
from posestill.models.device import trains_on_cpu
from posestill.models.pose_model import PoseModel
from posestill.schema import UserError


def open_accelerator(config: RunConfig, folder: Path) -> Accelerator:
    """The devices of a run, its processes and its trackers; a `UserError` where the settings do not suit them."""
    precision = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[config.train.precision]
    if precision == "fp16" and not torch.cuda.is_available():
        raise UserError("train.precision: fp16 needs a CUDA GPU; on a CPU take bf16 or fp32")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.use_deterministic_algorithms(config.train.deterministic)
    missing = [name for name in config.train.trackers if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"train.trackers: {', '.join(missing)} not installed: pip install {' '.join(missing)}")
    AcceleratorState._reset_state()  # a second run in this process may want another precision
    # Without `cpu`, processes on CPUs alone would not find each other.
    cpu = trains_on_cpu(config.train.device)
    if cpu:
        keep_freed_memory()
    try:
        return Accelerator(
            cpu=cpu,
            mixed_precision=precision,
            log_with=list(config.train.trackers) or None,
            project_dir=str(folder),
            step_scheduler_with_optimizer=False,
        )
    except torch.distributed.DistError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the processes of this run could not connect to one another ({reason}): start all of them again, with "
            "--resume to go on from the last saved step"
        ) from None


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key, as trackers show them."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, dict)
        found.update(flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": str(value)})
    return found


def compile_student(student: PoseModel, log: RunLog) -> None:
    """Compile it where that can be done; else say that it cannot."""
    try:
        torch.compile(nn.Linear(1, 1))(torch.zeros(1, 1))
    except Exception as error:  # whatever the compiler lacks on this machine, the run goes on without it
        log.say(f"train.compile: not available here ({type(error).__name__}); going on eagerly")
        return
    student.compile()
