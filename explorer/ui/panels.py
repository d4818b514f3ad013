"""The parts of a page around the editor and the graph."""

import time

import streamlit as st

from explorer.examples import Example, list_examples
from explorer.plot import plot_loss
from explorer.recording import Recording
from explorer.ui.session import Session, list_devices
from explorer.ui.views import backward_line, pass_rows, shown_passes, variable_rows

MOST_SHOWN_TEXT = 20_000


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


def show_progress(session: Session) -> None:
    """While a run goes on: how long, how far, what it printed; the page is drawn anew when it ends."""
    if session.is_running:
        _follow(session)


@st.fragment(run_every=0.25)
def _follow(session: Session) -> None:
    run = session.run
    if run is None or session.take():
        st.rerun()
    with st.container(key="progress", border=True):
        seconds = time.monotonic() - run.started
        parts = [f"Running for {seconds:.1f} s of at most {run.limits.seconds:g} s"]
        if run.is_waiting:
            parts = ["Waiting for a free worker"]
        if run.passes:
            last = run.passes[-1]
            of = f" of {last['expected']}" if last.get("expected") else ""
            parts.append(f"pass {last['index'] + 1}{of}")
        if run.progress:
            done, total = run.progress.get("n"), run.progress.get("total")
            parts.append(f"{done} of {total}" if total else f"{done} done")
        st.progress(min(1.0, seconds / run.limits.seconds), text=", ".join(parts))
        if run.stdout:
            st.code(run.stdout[-2_000:], language=None, wrap_lines=True, height=200)


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
    figure = plot_loss(recording, log=False, chosen=session.shown_pass)
    if figure is not None:
        is_log = st.toggle("Logarithmic loss", key="log_loss", help="A straight line then means a constant rate.")
        if is_log:
            figure.update_yaxes(type="log")
        st.plotly_chart(
            figure,
            key="loss-chart",
            width="stretch",
            on_select=_choose_point,
            selection_mode="points",
            config={"displayModeBar": False},
        )
        st.caption("Click a point to step through that pass.")
    st.dataframe(pass_rows(recording), hide_index=True, width="stretch")
    return None


def _choose_point() -> None:
    """A point of the loss curve was clicked: its pass is the one to show."""
    points = st.session_state["loss-chart"]["selection"]["points"]
    if points and "pass" in st.session_state:
        st.session_state["pass"] = int(points[0]["x"])


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
