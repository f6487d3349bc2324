"""JSON and YAML that a user gives, read within bounds: what is wrong with a file becomes a message that names it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from posestill.schema import UserError

MOST_NODES = 100_000
"""of a YAML text whose aliases are written out; a text that holds more of its own may have twice as many"""


def read_json(path: Path, *, what: str) -> Any:
    """The content of a JSON file, or a `UserError` that names it."""
    return _parsed(parse_json, _bytes_of(Path(path), what), what=f"{what} {path}", form="JSON")


def read_yaml(path: Path, *, what: str) -> Any:
    """The content of a YAML file, or a `UserError` that names it."""
    return _parsed(parse_yaml, _bytes_of(Path(path), what), what=f"{what} {path}", form="YAML")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; a ValueError says what is wrong with it."""
    if not text.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML text; a ValueError says what is wrong with it.

    Keys that stand twice, aliases that multiply or hold themselves, and depths that no reader follows are refused.
    """
    try:
        loader = yaml.SafeLoader(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _refuse_too_much(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    except (yaml.YAMLError, OverflowError, AttributeError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def _parsed(parse: Callable[[bytes], Any], text: bytes, *, what: str, form: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{what} is not valid {form} ({said}): correct it or, if it was cut off, fetch it again"
        ) from None


def _bytes_of(path: Path, what: str) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}; a {what} is wanted")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"no {what} {path}: correct the path") from None
    except OSError as error:
        raise UserError(f"{what} {str(path)[:200]} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise UserError(f"{what} {path} cannot be opened: {error}") from None


def _refuse_too_much(root: yaml.Node) -> None:
    """A ValueError for a key that stands twice, and for aliases that hold themselves or multiply beyond the bound."""
    sizes: dict[int, int] = {}  # of each node that was walked through, its aliases written out
    above: set[int] = set()  # the nodes that hold the one at hand
    waiting = [(root, False)]
    while waiting:
        node, is_left = waiting.pop()
        if is_left:
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in _children(node))
            above.discard(id(node))
        elif id(node) in above:
            raise ValueError("an alias stands for something that holds the alias itself")
        elif id(node) not in sizes:
            _refuse_twice(node)
            above.add(id(node))
            waiting.append((node, True))
            waiting += [(child, False) for child in _children(node)]
    if sizes[id(root)] > max(MOST_NODES, 2 * len(sizes)):
        raise ValueError(f"its aliases make {sizes[id(root)]:.3g} values of {len(sizes)}: write out what is needed")


def _refuse_twice(node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if (key.tag, key.value) in seen:
                    raise ValueError(f"the key '{key.value}' stands twice, line {key.start_mark.line + 1}")
                seen.add((key.tag, key.value))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
