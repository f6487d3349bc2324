"""What a figure was measured with: versions, hardware, and the run's settings as one hash."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from typing import Any

import torch

import posestill
from posestill.engine.config import RunConfig


def surroundings() -> dict[str, Any]:
    """Versions and hardware."""
    return {
        "posestill": posestill.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def run_hash(config: RunConfig) -> str:
    """Twelve hexadecimal digits of all resolved settings, defaults included: equal digits are the same settings."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
