"""What is published tells nothing of the machine that it was made on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath, PureWindowsPath
from typing import Any


def without_places(value: Any) -> Any:
    """The same nested value with the last name alone of every text that is an absolute path."""
    if isinstance(value, str):
        return _last_name(value)
    if isinstance(value, Mapping):
        return {key: without_places(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(each) for each in value]
    return value


def _last_name(text: str) -> str:
    if re.match(r"[A-Za-z]:[\\/]|\\\\", text):
        return PureWindowsPath(text).name
    return PurePath(text).name if text.startswith(("/", "~")) else text
