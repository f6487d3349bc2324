"""Carries the code, plans and results that the pages link to into the site, so that their links lead somewhere there.

MkDocs knows the files below docs/ alone. A link to a file of the repository beside it, such as ../results/x.json, is
pointed to a copy below repository/ in the site. A link to a file that is not there stays, and strict building stops.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")


def _outside(page: str, target: str) -> str | None:
    """The path, from the repository's root, of a file beside docs/ to which a page (below docs/) links."""
    path = os.path.normpath(Path("docs", page).parent / target)
    return path if not path.startswith("docs" + os.sep) and (ROOT / path).is_file() else None


def _in_site(path: str) -> str:
    """Where the copy lies in the site; Markdown is shown as it is written, and not as a page."""
    return f"repository/{path}" + (".txt" if path.endswith(".md") else "")


def on_files(files: Files, config: Any) -> Files:
    """All pages' files, and those that they link to."""
    linked = {
        found
        for file in files.documentation_pages()
        for _, target in LINK.findall(file.content_string)
        if (found := _outside(file.src_uri, target)) is not None
    }
    for path in sorted(linked):
        files.append(File.generated(config, _in_site(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """A page whose links to the repository lead to the copies."""
    here = page.file.src_uri

    def pointed(found: re.Match[str]) -> str:
        path = _outside(here, found[2])
        return found[0] if path is None else found[1] + os.path.relpath(_in_site(path), Path(here).parent)

    return LINK.sub(pointed, markdown)
