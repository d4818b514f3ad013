"""The layout of a page that trains: what drives the run, its pictures, its choices."""

from importlib.resources import files

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.ui import panels
from explorer.ui.session import get_session
from explorer.ui.training import Training


def lay_out_bench() -> tuple[DeltaGenerator, DeltaGenerator, DeltaGenerator]:
    """Places for what drives the run (left), its pictures (right), its choices (left, below).

    On a phone they stack in this order: a reader who has just pressed Train sees the pictures, not the choices.
    """
    st.html(files("explorer.ui") / "bench.css")
    with st.container(key="bench"):
        places = [st.container(key=name, gap="small") for name in ("drive", "pictures", "choices")]
    return places[0], places[1], places[2]


def show_end(training: Training) -> None:
    """What ended the run before its time, unless its reader did."""
    recording = training.recording
    if training.recorded != training.started:
        return
    if recording is None or training.is_running or recording.problem is None or recording.problem.type == "Stopped":
        return
    panels.show_problem(recording)


def offer_program(source: str, *, key: str) -> None:
    """The program behind a page, and a button that opens it in Explore."""
    row = st.container(horizontal=True, vertical_alignment="center")
    row.markdown("**The program**")
    if row.button(
        "Open in Explore",
        key=f"{key}-open",
        type="tertiary",
        icon=":material/open_in_new:",
        disabled=not source,
        help="Puts this program into the editor, where every pass can be stepped through.",
    ):
        get_session().replace_program(source)
        st.switch_page("pages/explore.py")
    with st.container(key=f"{key}-program"):
        st.code(source or "# The program appears here when there is a point.", language="python", wrap_lines=True)
