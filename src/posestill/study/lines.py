"""The lines of `runs.jsonl`: one JSON object each, checked as it is read, and what several hold said once.

The runs of a study repeat one another: the same data, the same student, the same machine. A value of some length that
more than one line holds stands once, in a line of kind `shared` under a name made of its content, and the lines that
hold it have `{"shared": NAME}` in its place. Nothing is lost by it, and a new run changes few lines.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from posestill.schema import UserError

Row = Mapping[str, Any]
"""What is known of one run, teacher, measured length or prepared model, as JSON knows it; nobody changes it."""
Kind = Literal["prepared", "teacher", "length", "run"]
Key = tuple[Kind, str]
"""A kind and a name: what a row is found by."""
KINDS: tuple[Kind, ...] = ("prepared", "teacher", "length", "run")
"""In the order of their lines, behind those of the plan and of what is shared."""
CALLED = {"plan": "plan", "prepared": "prepared model", "teacher": "measured teacher", "length": "measured length",
          "run": "run"}  # fmt: skip
"""What the kinds are called in messages."""
SPLITS = ("tune", "test")
LEAST = 100
"""characters of JSON that a value has before it is worth a line of its own"""
_NUMBER = (int, float)
_WANTED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "plan": {"name": str, "command": str, "plan": dict},
    "prepared": {"step": int, "conditions": dict},
    "teacher": {"teacher": dict, "metrics": dict, "similarity": str},
    "length": {"ratio": _NUMBER, "as_long_as": str},
    "run": {
        "split": str, "regime": str, "arm": str, "learning_rate": _NUMBER, "seed": int, "metrics": dict,
        "per_keypoint": dict, "similarity": str, "training_seconds": _NUMBER, "seconds": _NUMBER,
        "surroundings": dict, "settings": dict, "method_version": int,
    },
}  # fmt: skip
"""What each kind holds at least."""


def run_name(*, split: str, regime: str, arm: str, learning_rate: float, seed: int) -> str:
    """What a run is called in its study: also the path of its own file, without the suffix."""
    return f"{split}/{regime}/{arm}-lr{learning_rate:g}-seed{seed}"


def name_of(row: Row) -> str:
    """The name of a run's row."""
    return run_name(**{part: row[part] for part in ("split", "regime", "arm", "learning_rate", "seed")})


def in_order(names: Iterator[str] | Sequence[str]) -> list[str]:
    """Names sorted folder by folder."""
    return sorted(names, key=lambda name: name.split("/"))


def checked(kind: str, name: str, content: Any) -> Row:
    """`content` if it is what its kind and name say; ValueError with the reason if not."""
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    for field, wanted in _WANTED[kind].items():
        if not isinstance(content.get(field), wanted):
            raise ValueError(f"a {CALLED[kind]} has '{field}', which is missing here or is something else")
    if kind == "run" and (content["split"] not in SPLITS or name_of(content) != name):
        raise ValueError(f"it stands under the name {name} and holds {name_of(content)}")
    return content


def from_json(text: str) -> Any:
    """The value in a text; ValueError with the reason where the text is empty or broken."""
    if not text.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not whole JSON ({error})") from None


def write_lines(plan: Row, rows: Mapping[Key, Row]) -> str:
    """The content of `runs.jsonl`: the plan's line, what is shared, then everything by kind and name."""
    keys = [(kind, name) for kind in KINDS for name in in_order([name for each, name in rows if each == kind])]
    shared, short = _shorten([rows[key] for key in keys])
    lines = [{"kind": "plan", **plan}]
    lines += [{"kind": "shared", "name": name, "value": shared[name]} for name in sorted(shared)]
    lines += [{"kind": kind, "name": name, **row} for (kind, name), row in zip(keys, short, strict=True)]
    return "".join(f"{_compact(line)}\n" for line in lines)


def read_lines(text: str, where: str) -> tuple[Row, dict[Key, Row]]:
    """The plan's line, without its kind, and all rows; a `UserError` names the line of `where` that cannot be read."""
    plan: Row | None = None
    shared: dict[str, Any] = {}
    rows: dict[Key, Row] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            content = from_json(line)
            if not isinstance(content, dict) or not isinstance(name := content.get("name"), str):
                raise ValueError("it is no JSON object with a name")
            kind = content.pop("kind", None)
            if (kind == "plan") != (number == 1):
                raise ValueError("the first line, and only the first, is the plan")
            if kind == "plan":
                plan = checked(kind, name, content)
            elif kind == "shared":
                shared[name] = content["value"]
            elif kind in KINDS:
                del content["name"]
                if (kind, name) in rows:
                    raise ValueError(f"the {CALLED[kind]} {name} is there twice")
                rows[kind, name] = checked(kind, name, _whole(content, shared))
            else:
                raise ValueError(f"there is no kind '{kind}' ({', '.join(['plan', 'shared', *KINDS])})")
        except (ValueError, KeyError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"{where}, line {number}: {reason}. Take the file from version control again; where only a run's line "
                "is spoilt, remove the line, and the run is measured again"
            ) from None
    assert plan is not None
    return plan, rows


def _shorten(rows: Sequence[Row]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The values that several rows hold, by name, and the rows with those names in the values' places."""
    counts = Counter(text for row in rows for value in row.values() for text in _candidates(value))
    shared: dict[str, Any] = {}

    def short(value: Any) -> Any:
        if not isinstance(value, dict | str):
            return value
        text = _compact(value)
        if counts[text] > 1 or _is_reference(value):  # what only looks like a reference is put behind a real one
            name = hashlib.sha256(text.encode()).hexdigest()[:10]
            if _compact(shared.setdefault(name, value)) != text:
                raise ValueError(f"two values have the name {name}: it needs more digits")
            return {"shared": name}
        return {key: short(each) for key, each in value.items()} if isinstance(value, dict) else value

    return shared, [{key: short(value) for key, value in row.items()} for row in rows]


def _whole(value: Any, shared: Mapping[str, Any]) -> Any:
    """A value with what is shared back in its places."""
    if _is_reference(value):
        if value["shared"] not in shared:
            raise ValueError(f"no line before it is shared under the name {value['shared']}")
        return shared[value["shared"]]
    return {key: _whole(each, shared) for key, each in value.items()} if isinstance(value, dict) else value


def _candidates(value: Any) -> Iterator[str]:
    """The JSON of a value, and of all within it, that is long enough to be shared."""
    if isinstance(value, dict | str) and len(text := _compact(value)) >= LEAST:
        yield text
        for each in value.values() if isinstance(value, dict) else ():
            yield from _candidates(each)


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["shared"] and isinstance(value["shared"], str)


def _compact(value: Any) -> str:
    """JSON on one line without spaces: a number has as many digits as give it back exactly."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
