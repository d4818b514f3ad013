"""Who is at the page: a live part is drawn again when what it drew before was sent."""

import inspect
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.runtime.app_session import AppSession

from explorer.ui import visitors

SENT_AFTER = 0.2


class Server:
    """A server whose event loop takes a message and whose queue is sent ``seconds`` later; never where None."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._is_sent = False
        self._event_loop = self._browser_queue = self

    def get_app_session(self, session_id: str) -> "Server | None":
        return self if session_id == "here" else None

    def call_soon_threadsafe(self, callback: Any) -> None:
        threading.Timer(0.05, self._take, (callback,)).start()

    def _take(self, callback: Any) -> None:
        callback()
        if self._seconds is not None:
            threading.Timer(self._seconds, lambda: setattr(self, "_is_sent", True)).start()

    def is_empty(self) -> bool:
        return self._is_sent


def wait_at(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    visitor: str = "here",
    parts: tuple[str, ...] = ("curves",),
    **of: bool,
) -> float:
    """Seconds that the end of a drawing waits on this visitor's page, of which these ``parts`` are drawn alone."""
    context = SimpleNamespace(session_id=visitor, fragment_ids_this_run=list(parts))
    monkeypatch.setattr(visitors, "get_script_run_ctx", lambda: context)
    monkeypatch.setattr(visitors, "runtime", SimpleNamespace(exists=lambda: True, get_instance=lambda: server))
    began = time.monotonic()
    visitors.await_sent(**of)
    return time.monotonic() - began


def test_a_live_part_ends_when_what_it_drew_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(SENT_AFTER)
    assert wait_at(server, monkeypatch) >= SENT_AFTER
    assert server.is_empty()


def test_a_whole_page_waits_once_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(SENT_AFTER)
    wait_at(server, monkeypatch, parts=())
    assert not server.is_empty()
    wait_at(server, monkeypatch, parts=(), is_page=True)
    assert server.is_empty()


def test_nobody_waits_long_for_a_browser_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "SENDING", 0.3)
    server = Server(None)
    assert wait_at(server, monkeypatch) >= 0.3
    assert not server.is_empty()
    wait_at(server, monkeypatch, "left")


def test_streamlit_has_the_queue_and_the_loop_that_are_asked() -> None:
    made = inspect.getsource(AppSession.__init__)
    for name in ("_event_loop", "_browser_queue"):
        assert f"self.{name} = " in made
