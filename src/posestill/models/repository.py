"""Model folders in repositories of the Hugging Face Hub: `hub:owner/name@revision` as a folder on this machine.

What was fetched once is read from the cache of huggingface_hub, whose settings (`HF_HOME`, `HF_HUB_OFFLINE`,
`HF_TOKEN`, `HF_ENDPOINT`) hold here, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from posestill.schema import UserError, printable

PREFIX = "hub:"
NAME = re.compile(r"[\w.-]+/[\w.-]+")
"""an owner and what they call the repository"""
_REFERENCE = re.compile(rf"{PREFIX}(?P<name>{NAME.pattern})(?:@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True)
class ModelFolder:
    """Where a model lies."""

    path: Path
    repository: str | None = None
    """`hub:owner/name@commit`, by which it is found again; None where it is a folder of the user's"""


def find_folder(model: str | Path, files: tuple[str, ...]) -> ModelFolder:
    """The folder of a model: the one that is named or, of `hub:owner/name@revision`, these files of that revision.

    Without a revision the newest commit is taken. A `UserError` says what is missing: the network, the repository, the
    revision, a login.
    """
    text = model.as_posix() if isinstance(model, Path) else model
    if not text.startswith(PREFIX):
        return ModelFolder(Path(model))
    read = _REFERENCE.fullmatch(text)
    if read is None:
        raise UserError(
            f"{printable(text, most=200)} is no repository of the Hub: write {PREFIX}OWNER/NAME@REVISION, the revision "
            "being a commit, a tag or a branch"
        )
    hub = open_hub(text)
    with told_in_words(text):
        snapshot = Path(hub.snapshot_download(read["name"], revision=read["revision"], allow_patterns=list(files)))
    return ModelFolder(snapshot, f"{PREFIX}{read['name']}@{snapshot.name}")


def open_hub(where: str) -> ModuleType:
    """huggingface_hub, without its progress bars; a `UserError` that opens with `where` names the extra."""
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(f'{where} needs the package huggingface_hub: pip install "posestill[hub]"') from None
    huggingface_hub.utils.disable_progress_bars()
    return huggingface_hub


@contextmanager
def told_in_words(where: str) -> Iterator[None]:
    """Whatever goes wrong with the Hub inside becomes a `UserError` that opens with `where` and says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except UserError:
        raise
    except errors.RevisionNotFoundError:
        raise UserError(f"{where}: there is no such revision: name a commit, a tag or a branch that is there") from None
    except errors.GatedRepoError:
        raise UserError(f"{where}: accept the conditions on the repository's page, and set HF_TOKEN") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{where}: the Hub knows no such repository: correct its name or, where it is private, set HF_TOKEN"
        ) from None
    except Exception as error:  # there are as many classes as ways to be without a connection
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise UserError(f"{where}: the Hub does not let you: log in (hf auth login), or set HF_TOKEN") from None
        answer = f"it answered {status}" if status else type(error).__name__
        raise UserError(
            f"{where}: the Hub could not be reached ({answer}): check the connection, HF_HUB_OFFLINE and HF_ENDPOINT"
        ) from None
