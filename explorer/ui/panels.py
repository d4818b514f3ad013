"""The parts of a page around the editor and the graph."""

import platform
from importlib.metadata import version

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.examples import Example, list_examples
from explorer.limits import Limits
from explorer.narrate import format_number
from explorer.program import write_knobs
from explorer.recording import Recording
from explorer.ui.session import Session, list_devices
from explorer.ui.views import backward_line, pass_rows, shown_passes, variable_rows

MOST_SHOWN_TEXT = 20_000

FEWEST_PASSES = 4
"""A program with fewer passes has no curve."""


def choose_example(session: Session) -> Example | None:
    """The gallery; returns the example that was just chosen."""
    examples = {example.id: example for example in list_examples()}
    chosen = st.selectbox(
        "Example",
        list(examples),
        key="example",
        format_func=lambda name: f"{examples[name].group}: {examples[name].title}",
        help="Short programs, each for one idea. Choosing one puts it into the editor and runs it.",
    )
    is_changed = bool(session.source) and session.source != session.example.source and chosen == session.example.id
    st.caption("Your program." if is_changed else examples[chosen].caption)
    if chosen == session.example.id:
        return None
    session.example = examples[chosen]
    return session.example


def choose_device_and_seed() -> tuple[str, int]:
    """Where tensors are made, and the seed of torch, random and NumPy."""
    devices = list_devices()
    available = [name for name, missing in devices.items() if not missing]
    row = st.container(horizontal=True)
    missing = "; ".join(f"{name}: {why}" for name, why in devices.items() if why)
    device = row.selectbox(
        "Device",
        available,
        key="device",
        help="Tensors are made here unless the program names a device itself. Not to be had: " + (missing or "none"),
    )
    seed = row.number_input(
        "Seed", min_value=0, max_value=2**31 - 1, value=0, step=1, key="seed", help="The same seed gives the same run."
    )
    return device, int(seed)


def show_problem(recording: Recording) -> None:
    """The problem that ended the program: PyTorch's own message, the line, what to do."""
    problem = recording.problem
    if problem is None:
        return
    with st.container(key="problem", border=True):
        where = f", line {problem.line}" if problem.line else ""
        st.markdown(f":red[**{_literally(problem.type)}**]{where}")
        st.code(problem.message or "(no message)", language=None, wrap_lines=True)
        if problem.explanation:
            st.text(problem.explanation)
        if problem.hint:
            st.text(f"What to do: {problem.hint}")


def show_output(text: str, *, truncated: bool = False) -> None:
    """What the program printed."""
    with st.container(key="stdout"):
        if not text:
            st.caption("The program printed nothing.")
            return
        shown = text[:MOST_SHOWN_TEXT]
        st.code(
            shown.rstrip("\n") or " ",
            language=None,
            wrap_lines=True,
            height=260 if shown.count("\n") > 11 else "content",
        )
        if truncated or len(text) > MOST_SHOWN_TEXT:
            st.caption(f"Only the first {len(shown):,} characters are shown.")


def show_variables(recording: Recording) -> None:
    """Every global of the program."""
    with st.container(key="variables"):
        rows = variable_rows(recording)
        if not rows:
            st.caption("The program left no variables.")
            return
        st.dataframe(
            rows,
            hide_index=True,
            width="stretch",
            column_config={"value": st.column_config.TextColumn(width="medium")},
        )


def offer_knobs(session: Session) -> bool:
    """A button that writes moved knobs into the text of the program; whether it was pressed."""
    moved = {name: value for name, value in session.knobs.items() if value != session.list_knobs()[name].value}
    if not moved or session.is_running:
        return False
    told = ", ".join(f"{_literally(name)} = {format_number(value)}" for name, value in moved.items())
    if not st.button(f"Write {told} into the program", key="write-knobs", help="The text then says what was run."):
        return False
    session.knobs = {}
    session.replace_program(write_knobs(session.source, moved))
    return True


def has_curve(session: Session) -> bool:
    """Whether the program made enough passes for a curve of their losses."""
    return len(session.history.loss.x) >= FEWEST_PASSES


def choose_look(session: Session, column: DeltaGenerator) -> str:
    """Whether ``column`` shows the graph or the training: "graph" or "training"; a long loop shows the training."""
    clicked = st.session_state.pop("curves-clicked", None)
    if clicked is not None and session.recording and not session.is_running:
        st.session_state["pass"] = clicked + 1
        st.session_state["look"] = "graph"
    if not has_curve(session):
        st.session_state.pop("look", None)
        return "graph"
    if session.is_running and session.looked != session.count:
        # A new run that trains is watched; its reader may look at the graph meanwhile.
        session.looked = session.count
        st.session_state["look"] = "training"
    if session.was_short:
        session.was_short = False
        st.session_state["look"] = "graph"
    st.session_state.setdefault("look", "graph")
    return column.segmented_control(
        "Picture",
        ["graph", "training"],
        required=True,
        key="look",
        format_func={"graph": "Graph of a pass", "training": "Training"}.__getitem__,
        label_visibility="collapsed",
    )


def choose_pass(session: Session, recording: Recording) -> int | None:
    """The passes of the program; returns a pass whose steps were not kept and are asked for."""
    count = recording.passes[-1].index + 1 if recording.passes else 0
    if count == 0:
        st.caption("No backward() has run. A pass is one call of backward() or autograd.grad().")
        return None
    if count > 1:
        if st.session_state.get("pass", 1) > count:
            st.session_state["pass"] = 1
        chosen = st.slider(
            f"Pass to step through, of {count}",
            min_value=1,
            max_value=count,
            key="pass",
            help="Every backward() is a pass. Long loops keep some in full; another is run again with the same seed.",
        )
        if chosen - 1 != session.shown_pass:
            session.shown_pass = chosen - 1
            if chosen - 1 not in shown_passes(recording):
                return chosen - 1
            st.rerun()
    return None


def show_passes(recording: Recording) -> None:
    """The table of passes."""
    st.dataframe(pass_rows(recording), hide_index=True, width="stretch")


def offer_backward(recording: Recording) -> str | None:
    """For a program without backward(): a button that adds one; returns the line to add."""
    found = backward_line(recording)
    if found is None or recording.status != "ok":
        return None
    name, is_scalar = found
    with st.container(key="offer-backward", border=True):
        st.caption(f"The program calls no backward(). {_literally(name)} has a grad_fn.")
        gradient = ""
        if not is_scalar:
            gradient = st.text_input(
                "gradient=",
                value=f"torch.ones_like({name})",
                key="gradient",
                help=f"{_literally(name)} is not a scalar: backward() needs the vector of its vector-Jacobian product.",
            )
        line = f"{name}.backward({f'gradient={gradient}' if gradient else ''})"
        if st.button(
            f"Run {_literally(name)}.backward()", key="run-backward", help="Adds the line to the program and runs it."
        ):
            return line
    return None


def _literally(name: str) -> str:
    """A Python name in Markdown, where underscores would be emphasis."""
    return name.replace("_", "\\_")


WALLS = {
    "check": "A program names only what PyTorch teaching needs; anything else is refused with its line.",
    "process": "Time, memory, open files and file size are bounded by the operating system.",
    "landlock": "No file can be opened but the code of Python and PyTorch.",
    "seccomp": "No network, no other process, no change to any file.",
}


def show_walls(walls: dict[str, str], *, shared: bool) -> None:
    """Which walls stand around a program on this machine, and what each holds."""
    with st.container(key="walls"):
        mode = "shared: a class server, which runs nothing unless all of these stand" if shared else "local: one person"
        st.markdown(f"This server is **{mode}**.")
        st.table(
            [
                {"wall": wall, "stands": "no: " + walls[wall] if walls.get(wall) else "yes", "what it holds": what}
                for wall, what in WALLS.items()
            ],
            hide_index=True,
        )


def show_limits(limits: Limits) -> None:
    """Every limit of this server."""
    with st.container(key="limits"):
        st.table(limits.rows(), hide_index=True)


def show_versions() -> None:
    """What this server is made of."""
    names = ("explorer", "torch", "streamlit", "torchviz", "pygraphviz", "plotly", "numpy")
    st.code("\n".join([f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]))
