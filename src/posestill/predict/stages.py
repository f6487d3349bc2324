"""How the time of a prediction is split: seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("decode", "find", "crop", "network", "decode keypoints", "draw", "encode")
"""in the order in which a picture passes through them: the file to pixels, people, their crops, the model's output,
keypoints, the drawing, and the drawing and the results to files"""


class Stages:
    """The seconds that each stage took so far."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """What is done inside counts for a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began

    def __str__(self) -> str:
        total = sum(self.seconds.values())
        shares = ", ".join(f"{name} {100 * each / max(total, 1e-9):.0f} %" for name, each in self.seconds.items())
        return f"{total:.1f} s: {shares}"
