"""Memory that the C library keeps for the next step rather than giving it back to the system after each."""

from __future__ import annotations

import ctypes
import platform

# glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_AHEAD = 64 * 2**20
"""bytes that are fetched at a time where the kept ones do not suffice"""


def keep_freed_memory() -> bool:
    """Have this process keep the memory of freed tensors; False where its C library is not glibc.

    A training step on a CPU frees every tensor that it made. By default glibc returns large ones to the system, which
    must then hand out and zero the same pages again in the next step: that takes a good part of the step. The peak of
    memory in use stays what it was; it is no longer given back between steps. Settings of the user's own
    (`MALLOC_TRIM_THRESHOLD_` and its like) are overridden. Source: the manual page mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = [mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, _AHEAD), mallopt(_MMAP_MAX, 0)]
    return all(each == 1 for each in kept)
