"""What comes of work that is tried elsewhere: what it gives, or why it gives nothing."""

from __future__ import annotations

from dataclasses import dataclass

from posestill.schema import UserError


class InUse(UserError):
    """Another process is at the same work, which may pass."""


@dataclass(frozen=True)
class Failure:
    """Why a piece of work gave nothing."""

    reason: str
    may_pass: bool
    """True: another try may fare better"""
    trace: str = ""
    """of an error that is not the user's"""


def failure_of(error: BaseException, trace: str = "") -> Failure:
    """What an error means for the work that it ended, and for no other; `trace` is told of what is not the user's."""
    if isinstance(error, UserError):
        return Failure(str(error), may_pass=isinstance(error, InUse))
    if isinstance(error, KeyboardInterrupt):
        return Failure(str(error) or "its process was interrupted", may_pass=True)
    return Failure(f"{type(error).__name__}: {' '.join(str(error).split())}", may_pass=True, trace=trace)
