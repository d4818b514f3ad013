"""Who is at the page: a visitor's place in the queue, and whether they are still there."""

import threading
import time

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.runner import Run

PATIENCE = 1.5
"""Seconds that a browser may be away (a reload, a lost connection) before its runs are ended."""


BEAT = 0.08
"""Seconds between two drawings of what is live."""

LOOK = 0.25
"""Seconds between two looks at whether a run has ended."""

SENDING = 1.0
"""Seconds that a drawing waits to be sent, at most: the browser may be gone."""

CROWD = 3
"""With more runs than this being watched, each page draws them less often: as often in all as for so many."""


def choose_beat() -> float:
    """Seconds between two drawings of a live part of the page, as the server is now."""
    return BEAT * max(1.0, get_attendance().count() / CROWD)


def keep_beat(key: str) -> None:
    """Wait until this live part of the page was last drawn a beat ago, where many are at the server."""
    beat, now = choose_beat(), time.monotonic()
    wait = st.session_state.get(f"{key}-drawn", now - beat) + beat - now
    if beat > BEAT and wait > 0:
        time.sleep(wait)
    st.session_state[f"{key}-drawn"] = time.monotonic()


def await_sent(*, is_page: bool = False) -> None:
    """Wait, at the end of the page or of a part of it that is drawn alone, until the server has sent what was drawn.

    Streamlit drops what was not sent when the next drawing begins, but not the word that the last one is complete: the
    browser then takes away what it was not sent, and a control that comes back has forgotten what it held. Of a part
    that is drawn faster than a busy server sends nothing arrives at all.
    """
    context = get_script_run_ctx()
    if context is None or not runtime.exists() or not (is_page or context.fragment_ids_this_run):
        return
    session = runtime.get_instance().get_app_session(context.session_id)
    if session is None:
        return
    end, taken = time.monotonic() + SENDING, threading.Event()
    # Messages go to the event loop one by one, and this behind them; there they wait in a queue of the session.
    session._event_loop.call_soon_threadsafe(taken.set)
    taken.wait(SENDING)
    while not session._browser_queue.is_empty() and time.monotonic() < end:
        time.sleep(0.005)


def name_visitor() -> str:
    """The visitor as explorer.turns counts them: address, then tab."""
    context = get_script_run_ctx()
    return f"{st.context.ip_address or 'here'}/{context.session_id if context else ''}"


@st.cache_resource(show_spinner=False)
def get_attendance() -> "Attendance":
    """The server's one list of who runs what."""
    return Attendance()


class Attendance:
    """Ends the runs of visitors who closed their tab."""

    def __init__(self) -> None:
        self._runs: list[tuple[str, Run]] = []
        self._lock = threading.Lock()
        self._runtime: runtime.Runtime | None = None
        self._thread: threading.Thread | None = None

    def count(self) -> int:
        """How many runs go on while somebody watches."""
        return sum(not run.is_done for _, run in list(self._runs))

    def watch(self, run: Run) -> None:
        """End ``run`` should the visitor whose page this is leave."""
        context = get_script_run_ctx()
        if context is None or not runtime.exists():
            return
        self._runtime = runtime.get_instance()
        with self._lock:
            self._runs.append((context.session_id, run))
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="explorer-attendance", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        away_since: dict[str, float] = {}
        while True:
            time.sleep(PATIENCE / 3)
            with self._lock:
                self._runs = [(visitor, run) for visitor, run in self._runs if not run.is_done or run.is_held]
                if not self._runs:
                    self._thread = None
                    return
                runs = list(self._runs)
            now = time.monotonic()
            for visitor, run in runs:
                if self._runtime.is_active_session(visitor):
                    away_since.pop(visitor, None)
                elif now - away_since.setdefault(visitor, now) > PATIENCE:
                    run.release()
