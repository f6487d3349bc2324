"""Single values of a user's file: each is of the kind that is wanted, or a `UserError` names file, entry and value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posestill.schema import UserError

MISSING = object()
"""in the place of a value that is not there"""
LARGEST = 1e7
"""the largest coordinate or size that is believed, px"""
_LARGEST_ID = 2**63 - 1


def shown(value: Any, longest: int = 40) -> str:
    """A value as a message shows it, in one short line."""
    if value is MISSING:
        return "missing"
    if value is None:
        return "null"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**longest:
        return "a number of very many digits"
    if isinstance(value, str):
        value = value[: longest + 1]
    elif isinstance(value, list | tuple) and len(value) > longest:
        value = value[:longest]
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def whole_number(value: Any) -> int | None:
    """The id or index that a value means: a whole number, also as text or written 3.0; None where it is none."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", value):
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_ID:
        return value
    return None


def is_number(value: Any) -> bool:
    """True for a number that is neither NaN nor infinite, nor of more digits than a measurement has."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15


def identity(entry: Mapping[str, Any], key: str, *, where: str, remedy: str = "") -> int:
    """The id that an entry has under a key."""
    given = entry.get(key, MISSING)
    found = whole_number(given)
    if found is None:
        raise UserError(f"{where}: {key} is {shown(given)}; a whole number is wanted{remedy}")
    return found


def number(entry: Mapping[str, Any], key: str, *, where: str, remedy: str = "") -> float:
    """The finite number that an entry has under a key."""
    given = entry.get(key, MISSING)
    if not is_number(given):
        raise UserError(f"{where}: {key} is {shown(given)}; a number is wanted{remedy}")
    return float(given)


def mapping(given: Any, *, where: str, wanted: str) -> Mapping[str, Any]:
    """An entry that is a mapping."""
    if not isinstance(given, Mapping):
        raise UserError(f"{where} is {shown(given)}; {wanted} is wanted")
    return given


def entries(content: Mapping[str, Any], key: str, *, where: str) -> list[Mapping[str, Any]]:
    """The list of mappings that a file has under a key."""
    given = content.get(key, MISSING)
    if not isinstance(given, list):
        raise UserError(f"{where}: {key} is {shown(given)}; a list is wanted")
    return [mapping(each, where=f"{where}: entry {at} of {key}", wanted="a mapping") for at, each in enumerate(given)]


def numbers(given: Any) -> np.ndarray | None:
    """(N,) what a list of numbers holds, null as NaN; None where it is no flat list or holds text or anything else."""
    if not isinstance(given, list | tuple):
        return None
    try:
        found = np.array(given)
    except (ValueError, OverflowError):  # lists of several lengths
        return None
    if found.size == 0:
        return np.zeros(0)
    if found.ndim == 1 and found.dtype.kind in "iuf":
        return found.astype(np.float64)
    if found.ndim != 1 or not all(each is None or _is_plain(each) for each in given):
        return None
    with np.errstate(over="ignore"):
        return np.array([np.nan if each is None else _as_float(each) for each in given])


def box_of(given: Any, *, where: str, key: str = "bbox", remedy: str = "") -> np.ndarray:
    """(4,) x y w h of a box: numbers that can be places in a picture; width and height may be anything."""
    found = numbers(given)
    if found is None:
        raise UserError(f"{where}: {key} is {shown(given)}; four numbers, x y w h, are wanted{remedy}")
    if found.shape != (4,):
        raise UserError(f"{where} has a {key} of {found.size} numbers; x y w h are wanted{remedy}")
    if np.isinf(found).any() or (np.abs(found[np.isfinite(found)]) > LARGEST).any():
        raise UserError(f"{where}: {key} is {shown(given)}, which is no place in a picture: correct it{remedy}")
    return found


def sound_box(given: Any, *, where: str, key: str = "bbox") -> np.ndarray:
    """(4,) x y w h of a box of finite numbers and no negative size."""
    found = box_of(given, where=where, key=key)
    if not np.isfinite(found).all():
        raise UserError(f"{where}: {key} is {shown(given)}; four numbers, x y w h, are wanted")
    if found[2] < 0 or found[3] < 0:
        raise UserError(f"{where}: {key} is {shown(given)}, of negative size; x y w h are wanted")
    return found


def are_shares(places: np.ndarray) -> bool:
    """True where places (N, 2) that should be px all lie within 0..1, and so are shares of a picture's size."""
    within = len(places) > 1 and bool(((places >= 0) & (places <= 1)).all())
    return within and bool((places % 1 != 0).any())


def some(names: Sequence[object], most: int = 3) -> str:
    """The first few of some names or numbers."""
    shown_names = ", ".join(str(each) for each in names[:most])
    return shown_names + (f" and {len(names) - most} more" if len(names) > most else "")


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # of hundreds of digits
        return math.inf
