"""A stand-in for the Hugging Face Hub: its HTTP interface, as huggingface_hub uses it, over a local folder."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_COMMIT = "{:040x}"


class Hub:
    """The repositories: each a folder `owner/name/COMMIT`, whose last commit is `main`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        """every request, as `GET /path`"""

    def create(self, name: str, *, private: bool) -> None:
        self.private.setdefault(name, private)
        (self.folder / name).mkdir(parents=True, exist_ok=True)

    def commits(self, name: str) -> list[str]:
        """The commits of a repository, the oldest first."""
        return sorted(path.name for path in (self.folder / name).iterdir())

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Another commit that holds these files alone."""
        commit = _COMMIT.format(len(self.commits(name)) + 1)
        (self.folder / name / commit).mkdir()
        for path, content in files.items():
            (self.folder / name / commit / path).write_bytes(content)
        return commit

    def find(self, name: str, revision: str) -> str | None:
        """The commit that a revision is; None where there is none."""
        commits = self.commits(name)
        wanted = commits[-1] if revision == "main" and commits else revision
        return wanted if wanted in commits else None


def ask_there(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Let huggingface_hub, which has been imported, ask at another address and keep its files in another cache."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@contextlib.contextmanager
def served_hub(folder: Path) -> Iterator[tuple[str, Hub]]:
    """The address of such a stand-in, and what it holds."""
    hub = Hub(folder)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._resolve(with_content=False)

    def do_GET(self) -> None:
        self.hub.asked.append(f"GET {self.path}")
        if read := re.match(r"/api/models/([^/]+/[^/]+)/revision/([^?]+)", self.path):
            self._tell_commit(read[1], read[2])
        elif read := re.match(r"/api/models/([^/]+/[^/]+)/tree/([^?]+)", self.path):
            self._tell_files(read[1], read[2])
        else:
            self._resolve(with_content=True)

    def do_POST(self) -> None:
        self.hub.asked.append(f"POST {self.path}")
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            self._create(json.loads(content))
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for each in json.loads(content)["files"]]  # fmt: skip
            self._answer({"files": files})
        elif read := re.match(r"/api/models/([^/]+/[^/]+)/commit/", self.path):
            self._commit(read[1], content)
        else:
            self._answer({"error": "not known here"}, status=404)

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if not self.headers.get("Authorization"):
            self._answer({"error": "no token"}, status=401)
            return
        self.hub.create(name, private=bool(wanted.get("private")) or wanted.get("visibility") == "private")
        self._answer({"url": f"http://{self.headers['Host']}/{name}"})

    def _commit(self, name: str, content: bytes) -> None:
        lines = [json.loads(line) for line in content.splitlines()]
        sent = [line["value"] for line in lines if line["key"] == "file"]
        files = {each["path"]: base64.b64decode(each["content"]) for each in sent}
        commit = self.hub.commit(name, files)
        self._answer({"commitOid": commit, "commitUrl": f"http://{self.headers['Host']}/{name}/commit/{commit}"})

    def _tell_commit(self, name: str, revision: str) -> None:
        if (commit := self._found(name, revision)) is not None:
            files = [{"rfilename": path.name} for path in sorted((self.hub.folder / name / commit).iterdir())]
            self._answer({"id": name, "sha": commit, "siblings": files})

    def _tell_files(self, name: str, revision: str) -> None:
        if (commit := self._found(name, revision)) is not None:
            self._answer([
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _digest(path)}
                for path in sorted((self.hub.folder / name / commit).iterdir())
            ])  # fmt: skip

    def _resolve(self, *, with_content: bool) -> None:
        read = re.match(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if read is None:
            self._answer({"error": "not known here"}, status=404)
            return
        if (commit := self._found(read[1], read[2])) is None:
            return
        path = self.hub.folder / read[1] / commit / read[3]
        if not path.is_file():
            self._refuse("EntryNotFound")
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{_digest(path)}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def _found(self, name: str, revision: str) -> str | None:
        """The commit of a revision; what is missing is answered."""
        if not (self.hub.folder / name).is_dir():
            self._refuse("RepoNotFound")
            return None
        if (commit := self.hub.find(name, revision)) is None:
            self._refuse("RevisionNotFound")
        return commit

    def _refuse(self, code: str) -> None:
        self._answer({"error": code}, status=404, code=code)

    def _answer(self, value: Any, *, status: int = 200, code: str | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
