"""A headless Chromium, driven by its own DevTools protocol over two pipes, and a plain file server for it to read."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = Path(os.environ.get("POSESTILL_ORT_WEB", ROOT / ".browser" / "package"))
"""onnxruntime-web as `.ci/browser` unpacks it"""
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--hide-scrollbars", "--disable-default-apps",
    "--disable-sync", "--disable-dev-shm-usage", "--mute-audio",
    "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


class BrowserError(Exception):
    """What the browser answered instead of doing what it was told."""


def chromium() -> str:
    """Chromium's program; a test that needs it is skipped where there is none, but fails in CI."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        _give_up("there is no Chromium")
    return str(found)


def web_runtime() -> Path:
    """The unpacked onnxruntime-web; a test that needs it is skipped where there is none, but fails in CI."""
    if not (RUNTIME / "dist").is_dir():
        _give_up(f"there is no onnxruntime-web in {RUNTIME}")
    return RUNTIME


def _give_up(why: str) -> None:
    why = f"{why}: run .ci/browser"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


class Page:
    """A page in the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to a command of the DevTools protocol."""
        return self.browser.tell(method, session=self.session, **parameters)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.tell("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            told = answer["exceptionDetails"]
            raise BrowserError(told.get("exception", {}).get("description", told["text"]))
        return answer["result"].get("value")

    def wait_for(self, condition: str, *, seconds: float = 180) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(condition)):
            if time.monotonic() > end:
                raise BrowserError(f"not within {seconds:g} s: {condition}; the page says {self.run(SAID)!r}")
            time.sleep(0.05)
        return value

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file as a person does."""
        root = self.tell("DOM.getDocument")["root"]["nodeId"]
        node = self.tell("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.tell("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def resize(self, width: int, height: int, *, scale: float = 1, dark: bool = False) -> None:
        """Show the page as on a screen of this size, CSS px."""
        screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.tell("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, *, quality: int = 80, whole: bool = False) -> None:
        """Write what is to be seen, or the `whole` page, as WebP."""
        told = self.tell("Page.captureScreenshot", format="webp", quality=quality, captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))


SAID = "document.body.innerText.slice(0, 800)"
"""all that a page says"""


class Browser:
    """Chromium in a process of its own, with a profile that is thrown away."""

    def __init__(self, *flags: str) -> None:
        self.requests: list[str] = []
        """every address that pages and their workers asked for"""
        self.faults: list[str] = []
        """what pages and their workers wrote as an error"""
        self._profile = tempfile.TemporaryDirectory(prefix="posestill-chromium-", ignore_cleanup_errors=True)
        here, self._to = os.pipe()
        self._from, there = os.pipe()
        self._unread = b""
        self._asked = 0
        # Chromium reads commands from file 3 and answers in file 4.
        words = ["bash", "-c", f'exec "$@" 3<&{here} 4>&{there}', "bash", chromium(), *_FLAGS, *flags]
        words += [f"--user-data-dir={self._profile.name}", "about:blank"]
        quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(words, pass_fds=(here, there), start_new_session=True, **quiet)
        os.close(here)
        os.close(there)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrowserError, OSError):
            self.tell("Browser.close")
        os.close(self._to)
        os.close(self._from)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def open(self, address: str) -> Page:
        """A page of this address, whose requests and those of its workers are written down."""
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._watch(session)
        page = Page(self, session)
        page.tell("Page.enable")
        page.tell("Page.navigate", url=address)
        return page

    def tell(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The answer to a command."""
        number = self._send(method, session, parameters)
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']['message']}")
                found: dict[str, Any] = message["result"]
                return found
            self._note(message)

    def _send(self, method: str, session: str | None, parameters: dict[str, Any]) -> int:
        self._asked += 1
        to = {} if session is None else {"sessionId": session}
        message = {"id": self._asked, "method": method, "params": parameters, **to}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._asked

    def _receive(self, seconds: float = 120) -> dict[str, Any]:
        while b"\0" not in self._unread:
            if not select.select([self._from], [], [], seconds)[0]:
                raise BrowserError(f"Chromium has not answered for {seconds:g} s")
            if not (part := os.read(self._from, 1 << 20)):
                raise BrowserError("Chromium has ended")
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, message: dict[str, Any]) -> None:
        """Write down what an event tells, and watch workers from their first request on."""
        told = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.faults.append(told["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        elif message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.faults.append(f"{told['entry']['text']} ({told['entry'].get('url', '')})")
        elif message.get("method") == "Target.attachedToTarget" and told["waitingForDebugger"]:
            self._watch(told["sessionId"], wait=False)

    def _watch(self, session: str, *, wait: bool = True) -> None:
        """Be told of the requests and errors of a page or worker, and of the workers that it starts."""
        follow = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
        for method in ("Network.enable", "Runtime.enable", "Log.enable"):
            self._order(method, session, {}, wait=wait)
        self._order("Target.setAutoAttach", session, follow, wait=wait)
        self._order("Runtime.runIfWaitingForDebugger", session, {}, wait=wait)

    def _order(self, method: str, session: str, parameters: dict[str, Any], *, wait: bool) -> None:
        if wait:
            self.tell(method, session=session, **parameters)
        else:  # in the midst of another answer; a worker knows not every command
            self._send(method, session, parameters)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on Python's own plain file server."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def camera_flags(clip: Path) -> Sequence[str]:
    """What makes a clip (.y4m or .mjpeg) the camera of a browser."""
    return "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={clip}"
