"""Explore: type a PyTorch program, see the graph it builds, step its backward pass."""

import streamlit as st

from explorer.ui import panels
from explorer.ui.completions import COMPLETIONS
from explorer.ui.editor import edit_program
from explorer.ui.graph import show_graph
from explorer.ui.session import get_session

session = get_session()
is_large = st.session_state.get("large", False)
program_column, picture_column = st.columns([5, 7], gap="medium")

with program_column:
    chosen = panels.choose_example(session)
    if chosen or not session.revision:
        session.replace_program(session.example.source)
    device, seed = panels.choose_device_and_seed()
    problem = session.recording.problem if session.recording and not session.is_running else None
    edited = edit_program(
        session.source,
        key="program",
        revision=f"r{session.revision}",
        problem_line=problem.line if problem else None,
        problem_message=f"{problem.type}: {problem.message}" if problem else None,
        running=session.is_running,
        completions=COMPLETIONS,
        session=session.id,
        large=is_large,
    )

if edited.stop and session.is_running:
    session.stop()
    st.rerun()
wanted = (edited.source, device, seed, session.revision, edited.run_count)
if wanted != session.asked:
    session.asked, session.shown_pass = wanted, 0
    st.session_state["pass"] = 1
    session.start(edited.source, device, seed)
    st.rerun()

with program_column:
    panels.show_progress(session)
    if session.failure:
        st.error(session.failure)
    if session.recording and not session.is_running:
        panels.show_problem(session.recording)
        added = panels.offer_backward(session.recording)
        if added:
            session.replace_program(f"{session.source.rstrip()}\n{added}\n")
            st.rerun()
        st.caption("Printed")
        panels.show_output(session.recording.stdout, truncated=session.recording.stdout_truncated)

with picture_column:
    picture = session.picture()
    shown = show_graph(session.view(picture, large=is_large), key="picture", height=640 if is_large else 520)
    if shown.show != session.show:
        session.show = shown.show
        st.rerun()

    asked_pass = None
    if session.recording:
        passes_tab, variables_tab = st.tabs(["Passes and loss", "Variables"])
        with passes_tab:
            asked_pass = panels.choose_pass(session, session.recording)
        with variables_tab:
            panels.show_variables(session.recording)

if asked_pass is not None:
    session.start(session.source, device, seed, full=[asked_pass])
    st.rerun()
