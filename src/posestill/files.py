"""Files that outlive a crash, outputs that replace nothing of the user's, and JSON that any reader can read."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from posestill.schema import UserError, printable


def write_whole(path: Path, write: Callable[[Path], Any], *, draft_of: str = "") -> None:
    """Let `write` make a file and put it at `path`: a reader finds the old one or the new one, whole.

    Where it cannot be written, as on a full disk, a `UserError` says so: the draft is gone and the old file is as it
    was. `draft_of` names the writer where several may write the same file at once, so that each has a draft of its own.
    """
    draft = path.with_name(f".{path.name}{draft_of and '.'}{draft_of}.draft")
    try:
        write(draft)
        with draft.open("rb") as handle:
            os.fsync(handle.fileno())
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError):
            raise UserError(not_written(path, error)) from None
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def not_written(path: Path, error: OSError) -> str:
    """What to say of a file that could not be written."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{path} could not be written ({reason}): what was there before is as it was. Make room, then try again"


def write_json(path: Path, content: Any) -> None:
    """A readable JSON file; what is not finite becomes null, as JSON knows no NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda draft: draft.write_text(json.dumps(finite(content), indent=2) + "\n"))


def finite(value: Any) -> Any:
    """The same nested value with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


WRITTEN = ".posestill"
"""lies beside outputs, and tells which of them posestill wrote: a line with name, command and digest each"""
_ABOUT = "what posestill wrote here: the same command writes over these files again as long as nobody changes them"


class Outputs:
    """The files that one command writes: none in the place of what it reads, or of what it did not write itself.

    A file of an earlier run of the command is known by its line in `.posestill`, which lies beside it, and is replaced
    like that; one that was changed since is not. With `overwrite` all of them are, but never what a symbolic link leads
    to.
    """

    def __init__(self, command: str, *, overwrite: bool = False, read: Iterable[Path | None] = ()) -> None:
        """`command`: the verb. `read`: the files that it reads."""
        self.command, self.overwrite = command, overwrite
        self._read = {each for path in read if path is not None and (each := _identity(path)) is not None}
        self._claimed: dict[str, str] = {}
        self._recorded: set[Path] = set()

    def claim(self, path: Path, option: str) -> Path:
        """`path`, where a file may be written; else a `UserError`, which opens with `option`, says what to do."""
        what = f"{option} {printable(path, most=200)}"
        try:
            there = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            there = None
        except (OSError, ValueError) as error:
            raise UserError(f"{what} cannot be written ({_reason(error)}): give another name") from None
        for parent in path.parents:
            if os.path.lexists(parent):
                if not parent.is_dir():
                    raise UserError(f"{what} cannot be written: {printable(parent)} is no folder")
                break
        if (other := self._claimed.setdefault(_place(path), option)) != option:
            raise UserError(f"{what} is also what {other} writes: give another name")
        if there is None:
            return path
        if stat.S_ISDIR(there):
            raise UserError(f"{what} is a folder: name a file")
        if not (stat.S_ISREG(there) or stat.S_ISLNK(there)):
            raise UserError(f"{what} is no ordinary file: give another name")
        if not self.overwrite:
            self._refuse_what_others_wrote(path, there, what, option)
        return path

    def write(self, path: Path, write: Callable[[Path], Any], *, one_of_many: bool = False) -> None:
        """Let `write` make a file that was claimed, whole, and remember that it is posestill's.

        `one_of_many`: a power cut may take it, which costs less time.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        (write_quickly if one_of_many else write_whole)(path, write)
        self.remember(path)

    def write_json(self, path: Path, content: Any, *, indent: int | None = 2) -> None:
        """A JSON file that was claimed; what is not finite becomes null."""
        text = json.dumps(finite(content), indent=indent) + "\n"
        self.write(path, lambda draft: draft.write_text(text))

    def remember(self, path: Path) -> None:
        """Write down, beside a file, that posestill wrote it."""
        record = path.parent / WRITTEN
        if path.parent not in self._recorded:  # read once: it has a line for each of perhaps thousands of files
            if (known := _recorded(path.parent)) is None:
                return  # something else has this name
            lines = [json.dumps({"about": _ABOUT}) + "\n"]
            lines += [_line(name, *told) for name, told in known.items() if (path.parent / name).is_file()]
            write_whole(record, lambda draft: draft.write_text("".join(lines)))
            self._recorded.add(path.parent)
        line = _line(path.name, f"{self.command} {self._claimed.get(_place(path), '')}", _digest(path))
        try:
            with record.open("a") as handle:
                handle.write(line)
        except OSError as error:
            raise UserError(not_written(record, error)) from None

    def _refuse_what_others_wrote(self, path: Path, there: int, what: str, option: str) -> None:
        remedy = "choose another name, or give --overwrite to replace"
        if _identity(path) in self._read:
            raise UserError(f"{what} is a file that this command reads: {remedy} it")
        if stat.S_ISLNK(there):
            raise UserError(f"{what} is a symbolic link: {remedy} the link itself")
        if (_recorded(path.parent) or {}).get(path.name) != (f"{self.command} {option}", _digest(path)):
            raise UserError(f"{what} is there already, and not what {self.command} wrote there: {remedy} it")


def refuse_taken(folder: Path, names: Iterable[str], *, what: str) -> None:
    """A `UserError` where a file that is to be written into a folder is there already; `what` says whose place it is.

    It is for folders that posestill keeps for itself: whatever else lies in them stays as it is.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"{what} {printable(folder)} is no folder: choose another name")
    for name in names:
        if os.path.lexists(folder / name):
            raise UserError(
                f"{what} {printable(folder)} holds {name}, which is not posestill's: choose another folder, or take "
                "the file away"
            )


def distinct(names: Sequence[str]) -> list[str]:
    """The same names, numbered where several would be one file: a.png, a-2.png; also where only the case differs."""
    taken = {name.casefold() for name in names}
    seen: set[str] = set()
    found = []
    for name in names:
        each, number = name, 1
        while each.casefold() in seen or (number > 1 and each.casefold() in taken):
            number += 1
            path = PurePosixPath(name)
            each = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        seen.add(each.casefold())
        found.append(each)
    return found


def write_quickly(path: Path, write: Callable[[Path], Any]) -> None:
    """As `write_whole`, for one of many files: it is whole or not there, but a power cut may still take it."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)  # never through a link
        write(draft)
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError):
            raise UserError(not_written(path, error)) from None
        raise


def read_bytes(path: Path, *, what: str) -> bytes:
    """The content of an ordinary file, or a `UserError` that names it; a pipe or a device is not waited for."""
    check_readable(path, what=what)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{what} {printable(path)} cannot be read ({_reason(error)})") from None


def read_text(path: Path, *, what: str) -> str:
    """The same as text in UTF-8."""
    try:
        return read_bytes(path, what=what).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{what} {printable(path)} is not a text file (UTF-8)") from None


def check_readable(path: Path, *, what: str) -> None:
    """A `UserError` where there is no ordinary file at `path`."""
    try:
        there = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{what} {printable(path)} does not exist") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{what} {printable(path, most=200)} cannot be read ({_reason(error)})") from None
    if not stat.S_ISREG(there):
        kind = "a folder" if stat.S_ISDIR(there) else "a pipe, a socket or a device"
        raise UserError(f"{what} {printable(path)} is {kind}: a file is wanted")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return "no file can have this name" if isinstance(error, ValueError) else str(error)


def _identity(path: Path) -> tuple[int, int] | None:
    """What is the same for all names of one file; None where there is none."""
    try:
        known = os.stat(path)
    except (OSError, ValueError):
        return None
    return known.st_dev, known.st_ino


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as handle:
        while part := handle.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _place(path: Path) -> str:
    """What is the same for two names of one file that need not be there, also where a system minds no case."""
    return os.path.join(os.path.realpath(path.parent), path.name).casefold()


def _line(name: str, command: str, digest: str) -> str:
    return json.dumps({"file": name, "by": command, "digest": digest}) + "\n"


def _recorded(folder: Path) -> dict[str, tuple[str, str]] | None:
    """Command and digest of what posestill wrote into a folder, by name; None where that list is something else."""
    record = folder / WRITTEN
    if not os.path.lexists(record):
        return {}
    if record.is_symlink() or not record.is_file():
        return None
    first, *lines = record.read_text(errors="replace").splitlines() or [""]
    if first != json.dumps({"about": _ABOUT}):
        return None
    found = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):  # a line that a kill cut off
            entry = json.loads(line)
            found[str(entry["file"])] = (str(entry["by"]), str(entry["digest"]))
    return found
