"""Ctrl-C and SIGTERM end a run after a whole step, whose state is saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A run was asked to stop, and saved its state first; the message says where `--resume` goes on."""


class AskedToStop(Exception):
    """An evaluation is left because the run was asked to stop."""


class Stop:
    """Within it the two signals are noted once training `gently` goes on; before that, each ends the run at once.

    Two Ctrl-C end it at once, too, if it is `alone`: of several processes each may be told twice, by the terminal and
    by what started them.
    """

    def __init__(self) -> None:
        self.asked = self.gently = False
        self.alone = True
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # elsewhere no handler can be set
            self._before = {each: signal.signal(each, self._note) for each in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, before in self._before.items():
            signal.signal(each, signal.SIG_DFL if before is None else before)

    def check(self, done: int = 0) -> None:
        """Raise `AskedToStop` where the run was asked to stop: what an evaluation calls as it goes."""
        if self.asked:
            raise AskedToStop

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.gently or (self.asked and self.alone and number == signal.SIGINT):
            raise KeyboardInterrupt
        self.asked = True
