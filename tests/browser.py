"""A real browser for tests: serves a Streamlit script locally and opens pages that write down what they do."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Request

ROOT = Path(__file__).parents[1]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    # No name but this machine's is found. Playwright's own routing would turn the browser's cache off.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


@dataclass
class Visit:
    """A page and what it did: messages sent to the server, requests to elsewhere (all blocked), console errors."""

    page: "Page"
    sent: list[object] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def running_app(script: Path) -> Iterator[str]:
    """Run ``streamlit run script`` on a free local port and give its address; RuntimeError if it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(script)]
    options = {
        "server.headless": "true",
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    for name, value in options.items():
        command += [f"--{name}", value]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _await_health(server, address)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await_health(server: subprocess.Popen, address: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"streamlit did not start, exit status {server.poll()}")


@pytest.fixture(scope="session")
def serve_app() -> Iterator[Callable[[Path], str]]:
    """Serve Streamlit scripts until the session ends."""
    with ExitStack() as running:
        yield lambda script: running.enter_context(running_app(script))


def find_chromium() -> str:
    found = shutil.which("chromium") or (Path("/usr/bin/chromium").exists() and "/usr/bin/chromium")
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail("CI needs chromium for the browser tests")
    pytest.skip("needs chromium on the PATH")


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    """One headless Chromium for the whole session."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def contexts(chromium: "Browser") -> dict[str, "BrowserContext"]:
    """The profiles by their options, shared so that Streamlit's files are read from the cache after the first page."""
    return {}


@pytest.fixture
def open_page(chromium: "Browser", contexts: dict[str, "BrowserContext"]) -> Iterator[Callable[..., Visit]]:
    """Open an address in a fresh tab; after the test no page may have asked elsewhere or logged an error."""
    visits = []

    def open_address(address: str, *, width: int = 1280, height: int = 900, **options: object) -> Visit:
        kind = repr((width, height, options))
        if kind not in contexts:
            contexts[kind] = chromium.new_context(viewport={"width": width, "height": height}, **options)
            contexts[kind].set_default_timeout(10_000)
        visit = Visit(contexts[kind].new_page())
        visits.append(visit)

        def write_down(request: "Request") -> None:
            parts = urlsplit(request.url)
            if parts.scheme not in ("data", "blob") and parts.hostname not in ("127.0.0.1", "localhost"):
                visit.outside.append(request.url)

        visit.page.on("request", write_down)
        visit.page.on("websocket", lambda line: line.on("framesent", lambda frame: visit.sent.append(frame)))
        visit.page.on("console", lambda entry: visit.errors.append(entry.text) if entry.type == "error" else None)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.goto(address, wait_until="commit")
        return visit

    yield open_address
    for visit in visits:
        visit.page.close()
    assert [visit.outside for visit in visits if visit.outside] == []
    assert [visit.errors for visit in visits if visit.errors] == []
