"""Strict, frozen settings, and choices looked up by name in the tables of `catalog.py`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, model_validator
from pydantic_core import PydanticCustomError, core_schema


class UserError(Exception):
    """A mistake that its maker can mend: the message names the file or key and says what to do."""


def printable(text: object, *, keep: str = "", most: int | None = None) -> str:
    """A text for a terminal: control characters, line ends and half surrogates are written as escapes.

    `keep`: characters that stay as they are. `most`: a longer text is cut to so many characters.
    """
    whole = str(text)
    cut = whole if most is None or len(whole) <= most else f"{whole[:most]}..."
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in cut
    )


class SettingsError(UserError):
    """Settings that do not fit: the message says where they stand and what is wrong with them."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.what = what


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion to append to a message, `; did you mean 'x'?`, or an empty text when nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever a malformed file makes go wrong inside becomes a `UserError` that names `what`."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{what} is malformed: {detail}") from None


class Config(BaseModel):
    """Settings of one part: every key is known, typed and frozen; a misspelt key is an error with a suggestion."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            for key in given:
                if key not in cls.model_fields:
                    hint = did_you_mean(str(key), cls.model_fields) or f"; known keys: {', '.join(cls.model_fields)}"
                    raise PydanticCustomError("unknown_key", "no such key{hint}", {"key": str(key), "hint": hint})
        return given


_MOST_FAULTS = 10
"""of one file that a message names"""
_TABLES: dict[str, Mapping[str, type[Config]]] = {}


def set_tables(**tables: Mapping[str, type[Config]]) -> None:
    """Make tables known by name; `catalog.py` does so once, when it is first imported."""
    _TABLES.update(tables)


def table(name: str) -> Mapping[str, type[Config]]:
    """A table of the catalog: entry name -> its Config. Whoever asks first fills them all."""
    if not _TABLES:
        import_module("posestill.catalog")  # by name, as it stands above this file and imports it
    return _TABLES[name]


@dataclass(frozen=True)
class Choice:
    """Annotates a field whose value is one entry of a table: `head: Annotated[HeadConfig, Choice("heads")]`.

    In YAML a choice is a name (`head: deconv`) or a mapping (`head: {name: deconv, channels: [256, 256, 256]}`).
    With `otherwise=("timm", "model")` a name that the table lacks becomes entry `timm` with field `model` set to it.
    """

    table: str
    otherwise: tuple[str, str] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validate by looking the name up; dump as `{name: ..., settings}`, which loads back."""
        return core_schema.no_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(self._serialise, info_arg=True),
        )

    def _validate(self, given: Any) -> Config:
        entries = table(self.table)
        if isinstance(given, Config):
            if type(given) not in entries.values():
                raise PydanticCustomError("wrong_choice", f"{type(given).__name__} is not one of the {self.table}")
            return given
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise PydanticCustomError("no_name", "give a name, or a mapping with a key 'name'")
        settings = {key: value for key, value in given.items() if key != "name"}
        name: str = given["name"]
        if name in entries:
            return entries[name].model_validate(settings)
        if self.otherwise is not None:
            entry, field = self.otherwise
            if field in settings:
                raise PydanticCustomError("named_twice", f"'name: {name}' says it already: leave out '{field}'")
            return entries[entry].model_validate({field: name, **settings})
        hint = did_you_mean(name, entries)
        raise PydanticCustomError(
            "unknown_name", f"no '{name}' among the {self.table}{hint} (known: {', '.join(sorted(entries))})"
        )

    def _serialise(self, value: Config, info: Any) -> dict[str, Any]:
        settings = value.model_dump(mode="json", exclude_defaults=info.exclude_defaults)
        name = next(key for key, entry in table(self.table).items() if entry is type(value))
        if self.otherwise is not None and name == self.otherwise[0]:
            name = settings.pop(self.otherwise[1])
        return {"name": name, **settings}


ConfigType = TypeVar("ConfigType", bound=Config)


def validate(config_type: type[ConfigType], given: Any, *, where: str) -> ConfigType:
    """`given` as a checked `config_type`, or a `UserError` that names `where`, the key's whole path and the remedy."""
    try:
        return config_type.model_validate(given)
    except ValidationError as error:
        raise SettingsError(where, "; ".join(_explain(error))) from None
    except RecursionError:
        raise UserError(f"{where}: it is nested too deeply") from None


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors(include_url=False):
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "unknown_key":
            path = ".".join(filter(None, [path, item["ctx"]["key"]]))
        message = item["msg"].removeprefix("Value error, ")
        given = (
            ""
            if item["type"] in {"unknown_key", "unknown_name", "no_name", "missing", "value_error"}
            else f" (given: {_shortly(item['input'])})"
        )
        lines.append(f"{path}: {message}{given}" if path else f"{message}{given}")
    more = len(lines) - _MOST_FAULTS
    return lines if more <= 0 else [*lines[:_MOST_FAULTS], f"and {more} more"]


def _shortly(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**40:
        return "a number of very many digits"
    text = repr(value[:100] if isinstance(value, str | list | tuple) else value)
    return text if len(text) <= 100 else f"{text[:100]}..."
