"""Metainfo files: what a dataset's file of labels does not say of its keypoints, in our keys or in mmpose's."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posestill.documents.fields import is_number, shown, whole_number
from posestill.documents.parse import read_json, read_yaml
from posestill.schema import UserError

KEYS = ("names", "skeleton", "flip_pairs", "sigmas", "upper_body", "pck_norm")
"""what a metainfo file may say; indices count from 0"""
_WHAT = "metainfo file"
_MISSPELT = 0.85
"""how alike an unknown key is to a known one that is meant; other keys are somebody else's"""


def read_metainfo(path: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """What a metainfo file says: any of names, skeleton (0-based), flip_pairs, sigmas, upper_body, pck_norm.

    The file is JSON or YAML, with one skeleton or several by name (the one whose names equal `names` is returned), or
    mmpose's `dataset_info` (keypoint_info, skeleton_info, sigmas), also as the `.py` that mmpose ships: that is read
    as literals, nothing in it is executed. `names` are those of the dataset, by which everything is checked.
    """
    path = Path(path)
    content = _read_content(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds no mapping: a metainfo file has keys such as names, flip_pairs, sigmas")
    content = content.get("dataset_info", content)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: dataset_info holds no mapping")
    if "keypoint_info" in content:
        return checked_metainfo(_from_dataset_info(content, path), names, where=str(path))
    if set(content) & set(KEYS):
        return checked_metainfo(content, names, where=str(path))
    for name, entry in content.items():
        listed = entry.get("names") if isinstance(entry, Mapping) else None
        if isinstance(listed, list) and listed == list(names):
            return checked_metainfo(entry, names, where=f"{path}: {name}")
    raise UserError(
        f"{path} holds no skeleton with the dataset's {len(names)} keypoint names ({', '.join(names[:3])}, ...); the "
        f"keys of a metainfo file are {', '.join(KEYS)}"
    )


def metainfo_of(category: Mapping[str, Any], given: Mapping[str, Any] | None, *, where: str) -> dict[str, Any]:
    """What is `given` of a category's keypoints, completed by what its entry says itself, as `posestill label` writes.

    Such an entry has `sigmas` and `flip_pairs`, or `partners_known: false` where nothing tells these; the COCO format
    knows none of them.
    """
    own = {key: category[key] for key in ("flip_pairs", "sigmas") if category.get(key) is not None}
    told = {**checked_metainfo(own, category.get("keypoints") or (), where=f"{where}: its category"), **(given or {})}
    if category.get("partners_known") is False and "flip_pairs" not in told:
        told["partners_known"] = False
    return told


def checked_metainfo(content: Mapping[str, Any], names: Sequence[str], *, where: str) -> dict[str, Any]:
    """What is read of a metainfo; a `UserError` names a key that is misspelt or holds something else than it should."""
    for key in content:
        close = difflib.get_close_matches(str(key), KEYS, n=1, cutoff=_MISSPELT)
        if close and key not in KEYS:
            raise UserError(f"{where}: no such key '{key}'; did you mean '{close[0]}'?")
    info = {key: content[key] for key in KEYS if content.get(key) is not None}
    for key in info:
        if not isinstance(info[key], list | tuple):
            raise UserError(f"{where}: {key} is {shown(info[key])}; a list is wanted")
    own = info.get("names") or list(names)
    if not all(isinstance(name, str) and name for name in own):
        raise UserError(f"{where}: names is {shown(own)}; a list of keypoint names is wanted")
    count = len(own)
    for key in ("skeleton", "flip_pairs"):
        if key in info:
            info[key] = [_pair(pair, count, where=where, key=key) for pair in info[key]]
    partners = [end for pair in info.get("flip_pairs", ()) for end in pair]
    twice = next((end for end in partners if partners.count(end) > 1), None)
    if twice is not None:
        raise UserError(f"{where}: flip_pairs has keypoint {twice} twice; a keypoint has one mirror partner")
    if "upper_body" in info:
        info["upper_body"] = [_index(each, count, where=where, key="upper_body") for each in info["upper_body"]]
    sigmas = info.get("sigmas") or [1.0] * count
    wrong = [shown(each) for each in sigmas if not (is_number(each) and each > 0)]
    if wrong or len(sigmas) != count:
        found = wrong[0] if wrong else f"{len(sigmas)} numbers"
        raise UserError(f"{where}: sigmas has {found}; {count} numbers above 0 are wanted, one for each keypoint")
    if info.get("pck_norm"):
        pair = info["pck_norm"]
        if len(pair) != 2 or pair[0] == pair[1] or any(each not in own for each in pair):
            raise UserError(f"{where}: pck_norm is {shown(pair)}; the names of two keypoints are wanted")
    return info


def _pair(given: Any, count: int, *, where: str, key: str) -> list[int]:
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise UserError(f"{where}: {key} has {shown(given)}; a pair of keypoint numbers is wanted")
    pair = [_index(each, count, where=where, key=key) for each in given]
    if pair[0] == pair[1]:
        raise UserError(f"{where}: {key} has {shown(given)}, which is one keypoint twice")
    return pair


def _index(given: Any, count: int, *, where: str, key: str) -> int:
    index = None if isinstance(given, str) else whole_number(given)
    if index is None or not 0 <= index < count:
        hint = "; indices count from 0" if index == count else ""
        raise UserError(f"{where}: {key} has {shown(given)}; a keypoint's number from 0 to {count - 1} is wanted{hint}")
    return index


def _read_content(path: Path) -> Any:
    if path.suffix != ".py":
        read = read_yaml if path.suffix in (".yaml", ".yml") else read_json
        return read(path, what=_WHAT)
    try:
        return _read_literal(path.read_text(encoding="utf-8-sig"), path)
    except FileNotFoundError:
        raise UserError(f"no {_WHAT} {path}: correct data.metainfo or leave it out") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file: metainfo is JSON, YAML or mmpose's .py") from None


def _read_literal(text: str, path: Path) -> Any:
    """The value of `dataset_info = ...`, of which only what is needed is read."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise UserError(f"{path} is not valid Python ({place})") from None
    for statement in body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "dataset_info" for target in targets):
            assert isinstance(statement, ast.Assign)
            try:
                return _needed(statement.value, path)
            except RecursionError:
                raise UserError(f"{path}: dataset_info is nested too deeply") from None
    raise UserError(f"{path} has no line `dataset_info = dict(...)`")


_READ = ("keypoint_info", "skeleton_info", "sigmas", *KEYS)
_LITERAL_CALLS: dict[str, Any] = {"dict": dict, "list": list, "tuple": tuple, "range": range}
_LONGEST = 10_000


def _needed(node: ast.expr, path: Path) -> Any:
    """A mapping's values under the keys that are read; what stands under others need be no literal."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        if any(word.arg is None for word in node.keywords):
            return _literal(node, path)
        return {word.arg: _literal(word.value, path) for word in node.keywords if word.arg in _READ}
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        named = [(key.value, value) for key, value in zip(node.keys, node.values, strict=True)
                 if isinstance(key, ast.Constant)]  # fmt: skip
        return {key: _literal(value, path) for key, value in named if key in _READ}
    return _literal(node, path)


def _literal(node: ast.expr, path: Path) -> Any:
    """The value of literals, of `[...] * n`, and of calls of dict, list, tuple and range with such arguments."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(each, path) for each in node.elts]
    if isinstance(node, ast.Dict):
        if all(key is not None for key in node.keys):
            pairs = zip(node.keys, node.values, strict=True)
            try:
                return {_literal(key, path): _literal(value, path) for key, value in pairs if key is not None}
            except TypeError:  # a list as a key
                pass
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        if isinstance(node.operand.value, int | float):
            return -node.operand.value
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        one, other = _literal(node.left, path), _literal(node.right, path)
        values, times = (one, other) if isinstance(one, list) else (other, one)
        if isinstance(values, list) and type(times) is int and 0 <= times * len(values) <= _LONGEST:
            return values * times
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _LITERAL_CALLS:
        name, keywords = node.func.id, {word.arg: _literal(word.value, path) for word in node.keywords if word.arg}
        arguments = [_literal(each, path) for each in node.args]
        if len(keywords) == len(node.keywords) and (name == "dict" or not keywords):
            try:
                value = _LITERAL_CALLS[name](*arguments, **keywords)
                if len(value) <= _LONGEST:
                    return value if name == "dict" else list(value)
            except (TypeError, ValueError, OverflowError):
                pass
    raise UserError(
        f"{path}, line {node.lineno}: `{ast.unparse(node)[:60]}` is not a literal; dataset_info is read, never "
        "executed: write the value out"
    )


def _from_dataset_info(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """From mmpose's keypoint_info {id: {name, swap, type}}, skeleton_info {id: {link}} and sigmas: our metainfo."""
    try:
        numbered = {int(key): value for key, value in content["keypoint_info"].items()}
        points = [numbered[index] for index in sorted(numbered)]
        names = [str(point["name"]) for point in points]
        place = {name: index for index, name in enumerate(names)}
        swaps = [place[point.get("swap") or name] for name, point in zip(names, points, strict=True)]
        links = [link["link"] for link in (content.get("skeleton_info") or {}).values()]
        edges = [[place[start], place[end]] for start, end in links]
    except KeyError as error:
        raise UserError(f"{path}: {error} is missing, or names a keypoint that keypoint_info does not have") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: keypoint_info or skeleton_info is not mmpose's form ({error})") from None
    if len(place) != len(names):
        raise UserError(f"{path}: two entries of keypoint_info share a name")
    if any(swaps[swaps[index]] != index for index in range(len(names))):
        raise UserError(f"{path}: a keypoint's swap partner names another partner; correct keypoint_info")
    info: dict[str, Any] = {
        "names": names,
        "skeleton": edges,
        "flip_pairs": [[index, partner] for index, partner in enumerate(swaps) if index < partner],
    }
    if any(point.get("type") for point in points):
        info["upper_body"] = [index for index, point in enumerate(points) if point.get("type") == "upper"]
    if content.get("sigmas"):
        info["sigmas"] = content["sigmas"]
    return info
