"""Explore: type a PyTorch program, see the graph it builds, step its backward pass, watch it train."""

import streamlit as st

from explorer.ui import panels, training
from explorer.ui.completions import COMPLETIONS
from explorer.ui.editor import edit_program
from explorer.ui.frame import stand_in_frame
from explorer.ui.graph import show_graph
from explorer.ui.session import get_session

stand_in_frame()
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
    session.asked = wanted
    session.begin(edited.source, device, seed)
    st.rerun()

if session.misses_a_knob:
    session.restart()
    st.rerun()

look = panels.choose_look(session, picture_column)
with picture_column if look == "training" else program_column:
    training.show_progress(session)
with program_column:
    training.show_knobs(session, restart=session.restart)
    if panels.offer_knobs(session):
        st.rerun()
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
    training.show_divergence(session)
    if look == "training":
        training.show_curves(session, key="curves", height=520 if is_large else 420)
        training.show_kept(session)
    else:
        picture = session.picture()
        shown = show_graph(session.view(picture, large=is_large), key="picture", height=640 if is_large else 520)
        if shown.show != session.show:
            session.show = shown.show
            st.rerun()

    if session.recording and not session.is_running:
        passes_tab, variables_tab = st.tabs(["Passes and loss", "Variables"])
        with passes_tab:
            asked_pass = panels.choose_pass(session, session.recording)
            if look == "graph" and panels.has_curve(session):
                training.show_curves(session, key="curves", height=300)
                training.show_kept(session)
            panels.show_passes(session.recording)
        with variables_tab:
            panels.show_variables(session.recording)
        if asked_pass is not None:
            session.record_pass(asked_pass)
            st.rerun()
