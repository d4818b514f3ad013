"""What a browser can reach beside the pages: nothing from elsewhere, no file of ours, no text as markup."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from processes import await_truth
from streamlit.testing.v1 import AppTest

from explorer.limits import Limits

if TYPE_CHECKING:
    from browser import Visit

pytest_plugins = ("browser",)

ROOT = Path(__file__).resolve().parents[1]
MARKUP = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
MARKED = f"""\
class Tag(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, g):
        raise ValueError({MARKUP!r})
weights = {{{MARKUP!r}: torch.ones(1, requires_grad=True)}}
text = {MARKUP!r}
print({MARKUP!r})
loss = Tag.apply(weights[{MARKUP!r}]).sum()
loss.backward()
"""


@pytest.fixture(scope="module")
def address(serve_app: Callable[[Path], str]) -> str:
    return serve_app(ROOT / "app.py")


def ask(address: str, path: str, method: str = "GET", **headers: str) -> int:
    """The status of one plain request, whose path is sent as it stands."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=False)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Protocol": "streamlit",
}


def test_another_site_cannot_open_a_session(address: str) -> None:
    assert ask(address, "/_stcore/stream", **UPGRADE, Origin=address) == 101
    assert ask(address, "/_stcore/stream", **UPGRADE, Origin="http://elsewhere.example") in (400, 403)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_nothing_can_be_uploaded(address: str, method: str) -> None:
    assert ask(address, "/_stcore/upload_file/session/file", method) in (400, 403, 404, 405)


@pytest.mark.parametrize(
    "path",
    [
        f"/{prefix}/{climb}{file}"
        for prefix in ("app/static", "static", "media", "component", "_stcore/bidi-components")
        for climb in (
            "../../../../../../../..",
            "..%2f..%2f..%2f..%2f..%2f..%2f..",
            "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e",
        )
        for file in ("/etc/passwd", "/pyproject.toml")
    ],
)
def test_no_path_climbs_out_of_what_is_served(address: str, path: str) -> None:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.putrequest("GET", path)
    connection.endheaders()
    body = connection.getresponse().read()
    connection.close()
    # Streamlit answers an unknown path with its own page.
    assert b"root:" not in body and b"[build-system]" not in body


def test_no_text_of_a_program_becomes_markup(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_page(address)
    page = visit.page
    page.get_by_test_id("graph").locator("svg text").first.wait_for(timeout=60_000)
    page.get_by_test_id("editor").fill(MARKED)
    page.get_by_test_id("run").click()
    page.locator(".st-key-stdout", has_text="onerror").wait_for()
    page.get_by_role("tab", name="Variables").click()
    page.wait_for_timeout(500)
    found = page.evaluate(
        """() => {
            const all = [document];
            for (const root of all)
                for (const element of root.querySelectorAll('*')) if (element.shadowRoot) all.push(element.shadowRoot);
            return all.map(root => root.querySelectorAll('img[src="x"], [onerror]').length).reduce((a, b) => a + b);
        }"""
    )
    assert found == 0
    assert "hacked" not in page.title()


@pytest.fixture
def patient_server() -> Iterator[tuple[str, int]]:
    """A server whose programs may run for a minute, and its process id."""
    from browser import running_app

    environment = os.environ.get("EXPLORER_SECONDS")
    os.environ["EXPLORER_SECONDS"] = "60"
    try:
        with running_app(ROOT / "app.py") as address:
            port = urlsplit(address).port
            yield address, find_listener(port)
    finally:
        os.environ.pop("EXPLORER_SECONDS")
        if environment is not None:
            os.environ["EXPLORER_SECONDS"] = environment


def find_listener(port: int) -> int:
    """The child of this process that was started with ``port``."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"streamlit" in words and str(port).encode() in words:
            return int(line.parent.name)
    raise AssertionError("no such server")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the processes on Linux only")
def test_a_closed_tab_ends_its_run(patient_server: tuple[str, int], open_page: Callable[..., "Visit"]) -> None:
    address, server = patient_server
    page = open_page(address).page
    page.get_by_test_id("graph").locator("svg text").first.wait_for(timeout=60_000)
    page.get_by_test_id("editor").fill("while True:\n    pass\n")
    page.get_by_test_id("run").click()
    page.locator(".st-key-progress").wait_for()
    busy: list[int] = []
    assert await_truth(lambda: bool(busy.extend(find_busy(server)) or busy), 20.0)
    worker = busy[-1]
    page.close()
    assert await_truth(lambda: not Path(f"/proc/{worker}").exists(), 10.0), "the run outlived its tab"


def find_busy(server: int) -> list[int]:
    """The workers below a server that use their processor."""

    def used() -> dict[int, int]:
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = stat.read_text().rpartition(")")
            except OSError:
                continue
            fields = rest.split()
            found[int(name.split()[0])] = (int(fields[1]), int(fields[11]) + int(fields[12]))
        return found

    before = used()
    time.sleep(0.6)
    after = used()
    hosts = [pid for pid, (parent, _) in after.items() if parent == server]
    return [
        pid for pid, (parent, ticks) in after.items() if parent in hosts and ticks - before.get(pid, (0, ticks))[1] > 10
    ]


ABOUT = """
from explorer.ui.frame import show_frame
show_frame("About")
import runpy
runpy.run_path("pages/about.py")
"""


def test_about_shows_every_limit_and_which_walls_stand() -> None:
    page = AppTest.from_string(ABOUT, default_timeout=30).run()
    assert not page.exception and not page.error
    walls, limits = (table.value for table in page.table)
    assert set(walls["wall"]) == {"check", "process", "landlock", "seccomp"}
    assert list(limits["variable"]) == [row["variable"] for row in Limits().rows()]
    assert "EXPLORER_SECONDS" in set(limits["variable"])


WITHOUT = """
import os, pathlib
os.environ["EXPLORER_MODE"] = "shared"
os.environ["PYTHONPATH"] = {folder!r}
from streamlit.testing.v1 import AppTest
page = AppTest.from_file({app!r}, default_timeout=60).run()
assert not page.exception, page.exception
print([error.value for error in page.error], len(page.get("bidi_component")))
"""


def test_shared_server_without_a_wall_shows_why_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "landlock.py").write_text("raise ImportError('no Landlock on this machine')\n")
    script = WITHOUT.format(folder=str(tmp_path), app=str(ROOT / "app.py"))
    # Its own Runner has to find the module that fails.
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "shared server needs both" in done.stdout and "no Landlock on this machine" in done.stdout
    assert done.stdout.strip().endswith(" 0")
