"""In which setting two runs differ first, by its name.

Settings that were kept earlier may lack some that exist today. That is no difference while such a setting has its
default, which leaves everything as it was before there was the setting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_NOTHING = object()


def first_difference(was: Any, now: Any, chosen: Any, path: str = "") -> str | None:
    """The first value in which two nested settings differ, by its dotted path and both values; None where they agree.

    `chosen` is what of `now` is not at its default (`model_dump(exclude_defaults=True)`): only that counts of what
    `was` lacks.
    """
    parts: list[tuple[Any, Any, Any, Any]]
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        some = chosen if isinstance(chosen, Mapping) else {}
        parts = [(key, was.get(key, _NOTHING), now.get(key, _NOTHING), some.get(key)) for key in {**now, **was}
                 if key in was or key in some]  # fmt: skip
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        each = chosen if isinstance(chosen, list) and len(chosen) == len(now) else [None] * len(now)
        parts = [(place, was[place], now[place], each[place]) for place in range(len(now))]
    else:
        return None if was == now else f"{path} was {_said(was)} and is now {_said(now)}"
    for key, one, other, part in parts:
        if (found := first_difference(one, other, part, f"{path}.{key}" if path else str(key))) is not None:
            return found
    return None


def _said(value: Any) -> str:
    if value is _NOTHING:
        return "not there"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
