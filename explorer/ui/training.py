"""Runs that go on while their reader watches: their knobs, controls, live curves, and the runs kept beside them."""

import ast
import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from explorer.figures import cut_losses
from explorer.history import Curve, History, thin
from explorer.limits import Limits
from explorer.narrate import format_number
from explorer.optimizers import explain_divergence, find_runaway
from explorer.program import Knob, Program, find_knobs
from explorer.recording import Recording
from explorer.runner import Run, Runner, RunnerError
from explorer.ui.plot import show_plot
from explorer.ui.visitors import LOOK, await_sent, choose_beat, get_attendance, keep_beat, name_visitor

PATIENCE = 0.4
"""Seconds that a page waits for a run before it shows that one is going on."""

STOPPING = 1.5
"""Seconds that a page waits for a run that was stopped; it goes on without it on a server that takes longer."""

ECHO = 0.1
"""Seconds in which nobody clicks twice."""

LATE = 2.0
"""Seconds in which a browser may tell a value that the page has changed since."""

SETTLING = 3.0
"""Seconds in which a browser may have passed over the drawing that gave a control its value."""

MOST_POINTS = 2_000
"""Of a curve so many points are drawn."""

MOST_KEPT = 8
"""So many finished runs are kept beside each other."""

RATES = [float(f"{10 ** (step / 20):.3g}") for step in range(-120, 21)]
"""What the slider of a learning rate offers, from 0.000001 to 10."""

SHOWN = {"loss": "Loss", "norms": "Gradient norms", "values": "Leaf values"}


@st.cache_resource(show_spinner=False)
def get_runner() -> Runner:
    """The server's one Runner."""
    runner = Runner(Limits.from_environment())
    runner.warm_up()
    return runner


@dataclass
class KeptRun:
    """A finished run that stays in the picture."""

    name: str
    history: History
    knobs: dict[str, float]
    said: str = ""
    is_shown: bool = True

    @property
    def end(self) -> str:
        """How it ended: its passes, its last loss, the last line that it printed."""
        losses = self.history.loss.y
        parts = [f"{self.history.passes:,} passes"]
        parts += [f"last loss {format_number(losses[-1])}"] if len(losses) else []
        return ", ".join(parts) + (f"; printed last: {self.said}" if self.said else "")


@dataclass
class Training:
    """The run of a page: what it is made from, how far it has come, what is kept of earlier ones."""

    program: Program | None = None
    run: Run | None = None
    recording: Recording | None = None
    history: History = field(default_factory=History)
    failure: str = ""
    started: int = 0
    is_stale: bool = False
    clicked: float = 0.0
    late: dict[tuple[str, float | None], float] = field(default_factory=dict)
    given: dict[str, float] = field(default_factory=dict)
    refused: str = ""
    recorded: int = 0
    count: int = 0
    knobs: dict[str, float] = field(default_factory=dict)
    kept: list[KeptRun] = field(default_factory=list)
    sweep: list[tuple[str, Program]] = field(default_factory=list)
    swept: list[tuple[str, Run]] = field(default_factory=list)
    compared: int = 0

    @property
    def is_running(self) -> bool:
        """Whether the run goes on."""
        return self.run is not None

    @property
    def is_comparing(self) -> bool:
        """Whether runs of a comparison go on or are to come."""
        return bool(self.swept or self.sweep)

    @property
    def has_passes(self) -> bool:
        """Whether the run that is shown made a pass."""
        return bool(self.history.passes)

    def stop_sweep(self) -> None:
        """End the runs of a sweep; those that have ended stay."""
        self.sweep = []
        for _, run in self.swept:
            run.stop()

    def start(self, program: Program, *, patience: float = PATIENCE, **options: Any) -> None:
        """End the run that goes on, if any, and start this one; a short one is over when this returns.

        ``options`` are those of ``Runner.start``.
        """
        self.stop_sweep()
        if self.run is not None:
            # What the other run recorded so far is not wanted any more.
            self.run.release()
            self.run = None
        self.program, self.failure = program, ""
        self.started += 1
        try:
            self.run = get_runner().start(program, visitor=name_visitor(), **options)
        except RunnerError as error:
            self.failure = str(error)
            return
        self.history = self.run.history
        if not self.run.wait(patience):
            get_attendance().watch(self.run)
        self.take()

    def take(self) -> bool:
        """Take over the Recording of a run that has ended; whether one has."""
        if self.run is None or not self.run.is_done:
            return False
        self.recording = self.run.recording()
        self.recorded = self.started
        self.count += 1
        self.run = None
        return True

    def stop(self) -> None:
        """Stop the run that goes on and keep what it recorded; a busy server may take a while to write that down."""
        self.stop_sweep()
        if self.run is not None:
            self.run.stop()
            self.run.wait(STOPPING)
            self.take()

    def is_echo(self) -> bool:
        """Whether a click was heard already: a part of the page that draws itself anew may tell of it twice."""
        before, self.clicked = self.clicked, time.monotonic()
        return self.clicked - before < ECHO

    def expect_late(self, widget: str, value: float | None) -> None:
        """The widget held this value until now, when the page gave it another: the browser may yet tell the old one."""
        now = time.monotonic()
        self.late = {known: when for known, when in self.late.items() if now - when < LATE} | {(widget, value): now}

    def is_told_late(self, widget: str, value: float | None) -> bool:
        """Whether a browser that draws itself anew many times a second tells what the widget held a moment ago."""
        return time.monotonic() - self.late.get((widget, value), -math.inf) < LATE

    def give(self, widget: str, value: Any) -> None:
        """Let the widget hold this value; only to be called before the widget is drawn."""
        self.given[widget] = time.monotonic()
        st.session_state[widget] = value

    def offer(self, widget: str, value: Any) -> str:
        """Give the widget this value where it is new on the page; returns its key.

        Streamlit tells a value of ours with one drawing only. A browser that was still at work on it when the next came
        shows the control without what it holds: for some seconds every drawing tells it again.
        """
        if widget not in st.session_state:
            self.give(widget, value)
        elif time.monotonic() - self.given.get(widget, -math.inf) < SETTLING:
            st.session_state[widget] = st.session_state[widget]
        return widget

    def why_not(self, name: str, value: float) -> str:
        """Why a knob of this page cannot have that value; "" where it can."""
        return ""

    def move_knob(self, knob: Knob, value: float) -> bool:
        """Give a number of the program a new value; whether the program has to start again for it."""
        self.knobs[knob.name] = value
        if self.run is not None and knob.is_live and not self.run.has_run:
            self.run.set_knob(knob.name, value)
            return False
        return True

    @property
    def misses_a_knob(self) -> bool:
        """Whether a knob was moved so late that the run, which has ended by itself, made no pass after it."""
        recording = self.recording
        if self.is_running or recording is None or recording.status != "ok" or self.recorded != self.started:
            return False
        known = self.list_knobs()
        told = dict(self.program.knobs) | {event.name: event.value for event in self.history.knob_events}
        return any(
            name in known and known[name].is_live and told.get(name, known[name].value) != value
            for name, value in self.knobs.items()
        )

    def value_at(self, name: str, index: int) -> float | None:
        """The value of a knob that the update after the backward() of this pass read; None where there is no such."""
        known = self.list_knobs()
        if name not in known:
            return None
        value = self.program.knobs.get(name, known[name].value)
        for event in self.history.knob_events:
            # Set between two passes: after the backward() of the one before, so its update reads it already.
            if event.name == name and event.index <= index + 1:
                value = event.value
        return float(value)

    def keep(self, name: str) -> None:
        """Keep the run that has ended under this name."""
        if self.history.passes:
            self._keep(name, self.history, self.values(), self.recording.stdout if self.recording else "")

    def _keep(self, name: str, history: History, knobs: Mapping[str, float], printed: str) -> None:
        said = next((line for line in reversed(printed.splitlines()) if line.strip()), "")[:200]
        self.kept = [*self.kept, KeptRun(name, history, dict(knobs), said)][-MOST_KEPT:]

    def values(self) -> dict[str, float]:
        """The value of every knob as the program now stands."""
        return {name: self.knobs.get(name, knob.value) for name, knob in self.list_knobs().items()}

    def list_knobs(self) -> dict[str, Knob]:
        """The knobs of the program; none where its text cannot be read."""
        return list_knobs(self.program.source) if self.program is not None else {}

    def begin_sweep(self, name: str, values: Iterable[float]) -> None:
        """Run the program once for each of these values of a knob; each run is kept."""
        one = self.program
        knobs = [{**self.knobs, name: value} for value in values]
        others = {known: value for known, value in self.knobs.items() if known != name}
        self.begin_comparison(
            [(_tell_knobs(each, others), Program(one.source, one.device, one.seed, each)) for each in knobs]
        )

    def begin_comparison(self, programs: Sequence[tuple[str, Program]]) -> None:
        """Run each of these programs once; each run is kept under its name."""
        self.stop_sweep()
        for _, run in self.swept:
            run.release()
        self.swept = []
        self.sweep = list(programs)[:MOST_KEPT]
        self.compared = len(self.sweep)
        self.advance_sweep()

    def advance_sweep(self) -> bool:
        """Keep the runs of the sweep that have ended, and start the next; whether it still goes on."""
        # In the order of the values, whichever ends first.
        while self.swept and self.swept[0][1].is_done:
            name, run = self.swept.pop(0)
            if run.history.passes:
                self._keep(name, run.history, run.program.knobs, run.stdout)
        while self.sweep and len(self.swept) < get_runner().limits.at_once_each:
            name, program = self.sweep.pop(0)
            try:
                run = get_runner().start(program, visitor=name_visitor())
            except RunnerError as error:
                self.failure, self.sweep = str(error), []
                break
            get_attendance().watch(run)
            self.swept.append((name, run))
        return self.is_comparing


@functools.lru_cache(maxsize=512)
def list_knobs(source: str) -> dict[str, Knob]:
    """The knobs of a program; none where its text cannot be read."""
    try:
        return find_knobs(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def is_learning_rate(name: str) -> bool:
    """Whether a knob is one by its name; ``dropout_rate`` is none."""
    return name == "lr" or name.startswith("lr_") or name.endswith("_lr") or "learning_rate" in name


def _tell_knobs(knobs: Mapping[str, float], usual: Mapping[str, float]) -> str:
    told = [f"{name} {format_number(value)}" for name, value in knobs.items() if usual.get(name) != value]
    return ", ".join(told) or "run"


# -- knobs ---------------------------------------------------------------------------------------------


def scale_of(knob: Knob, now: float) -> list[float]:
    """The values that a slider offers: even steps of a ratio around a rate, even steps around another number."""
    base = knob.value or 1.0
    if isinstance(knob.value, int):
        most = max(10, 4 * abs(knob.value))
        step = max(1, most // 200)
        low = -most if knob.value < 0 else min(1, knob.value)
        values: set[float] = set(range(low, most + 1, step))
    elif _is_share(knob):
        values = {round(0.01 * step, 2) for step in range(100)} | {0.995, 0.999}
    elif RATES[0] <= base < 1 and not knob.is_start:
        # The same for every rate: a slider whose ends went along would move under the hand that moved it.
        values = set(RATES)
    elif 0 < abs(base) < 1 and not knob.is_start:
        sign = math.copysign(1, base)
        exponent = math.log10(abs(base))
        values = {sign * float(f"{10 ** (exponent + step / 20):.3g}") for step in range(-60, 61)}
    else:
        width = max(4.0, 2 * abs(base))
        values = {round(-width + width * step / 100, 6) for step in range(201)}
    return sorted({*values, knob.value, now})


def _is_share(knob: Knob) -> bool:
    return knob.name in ("momentum", "dropout", "p", "gamma", "dampening", "beta1", "beta2") and 0 <= knob.value < 1


@st.fragment
def show_knobs(training: Training, *, restart: Callable[[], None], names: Sequence[str] | None = None) -> None:
    """A slider and a number box for every knob of the program; ``restart`` runs it again."""
    knobs = training.list_knobs()
    wanted = [knobs[name] for name in (names if names is not None else knobs) if name in knobs]
    if training.is_stale:
        # What moved the knob drew this part of the page alone.
        training.is_stale = False
        st.rerun()
    if not wanted:
        return
    # An emptied box holds again what it held: there is nothing to clear.
    st.html('<style>.st-key-knobs [data-testid="stNumberInputClearButton"] { display: none; }</style>')
    with st.container(key="knobs"):
        for knob in wanted:
            _show_knob(training, knob, restart)


def _show_knob(training: Training, knob: Knob, restart: Callable[[], None]) -> None:
    key = f"knob-{knob.name}"
    now = training.knobs.get(knob.name, knob.value)
    is_int = isinstance(knob.value, int)

    def move(source: str) -> None:
        value, current = st.session_state[source], training.knobs.get(knob.name, knob.value)
        if value is None or training.is_told_late(source, value):
            # An emptied box, a number too large to be one, or what the widget held before the other was moved.
            value = current
        value = int(value) if is_int else float(value)
        refused = training.why_not(knob.name, value)
        if refused:
            value = current
        # What is said of it stands elsewhere on the page.
        training.is_stale, training.refused = training.is_stale or refused != training.refused, refused
        if value != current:
            training.expect_late(key if source != key else f"{key}-number", current)
        st.session_state[key] = st.session_state[f"{key}-number"] = value
        if value == training.knobs.get(knob.name, knob.value):
            # A run of the page that was cut short leaves its change to the next, which calls again.
            return
        if training.move_knob(knob, value):
            restart()
            training.is_stale = True

    shown = st.session_state.get(key)
    for widget in (key, f"{key}-number"):
        if shown != now:
            training.expect_late(widget, shown)
            training.give(widget, now)
        else:
            training.offer(widget, now)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    effect = "Moves the run that goes on." if knob.is_live else "Starts the run again."
    what = "start value" if knob.is_start else f"line {knob.line}"
    left.select_slider(
        f"`{knob.name}` :gray[{what}{'' if knob.is_live else ', restarts'}]",
        scale_of(knob, now),
        key=key,
        format_func=format_number,
        on_change=move,
        args=(key,),
        help=effect,
    )
    right.number_input(
        knob.name,
        value=None,
        key=f"{key}-number",
        label_visibility="collapsed",
        step=1 if is_int else None,
        format="%d" if is_int else "%.6g",
        on_change=move,
        args=(f"{key}-number",),
    )


# -- while it runs -------------------------------------------------------------------------------------


def show_progress(training: Training) -> None:
    """While a run goes on: how far it is, and buttons to hold it; the page is drawn anew when it ends."""
    if training.is_running:
        _follow(training)
    elif training.is_comparing:
        _follow_comparison(training)


@st.fragment(run_every=LOOK)
def _follow_comparison(training: Training) -> None:
    share, text = tell_comparison(training)
    with st.container(key="progress", border=True):
        st.progress(share, text=text)


@st.fragment(run_every=LOOK)
def _follow(training: Training) -> None:
    run = training.run
    if run is None or training.take():
        st.rerun()
    history = run.history
    with st.container(key="progress", border=True):
        st.progress(tell_share(run), text=tell_progress(run))
        if history.passes:
            row = st.container(horizontal=True)
            if run.is_paused:
                if row.button("Resume", key="resume", help="Let the program go on."):
                    run.resume()
                if row.button("One pass", key="one-pass", help="Let the program make one pass, then stand again.") and (
                    not training.is_echo()
                ):
                    run.step()
            elif row.button("Pause", key="pause", help="Let the program stand after the pass that it makes."):
                run.pause()
            if row.button("Stop", key="stop-training", help="End the run; what it recorded is kept."):
                training.stop()
                st.rerun()
        if run.stdout:
            st.code(run.stdout[-2_000:], language=None, wrap_lines=True, height=200)


def tell_share(run: Run) -> float:
    """How much of a run is done, from 0 to 1: of its passes where their number is known, else of its time."""
    history = run.history
    if history.expected:
        return min(1.0, history.passes / history.expected)
    seconds = run.limits.training_seconds if history.passes > 1 else run.limits.seconds
    return min(1.0, run.running_seconds / seconds)


def tell_comparison(training: Training) -> tuple[float, str]:
    """How much of a comparison is done, from 0 to 1, and that in words."""
    going = [(name, run) for name, run in training.swept if not run.is_done]
    done = training.compared - len(training.sweep) - len(going)
    parts = [f"{done} of {training.compared} runs done"]
    for name, run in going:
        history = run.history
        of = f" of {history.expected:,}" if history.expected else ""
        parts.append(f"{name}: {'waiting' if run.is_waiting else f'pass {history.passes:,}{of}'}")
    share = (done + sum(tell_share(run) for _, run in going)) / max(1, training.compared)
    return min(1.0, share), ", ".join(parts)


def tell_progress(run: Run) -> str:
    """How far a run is, in words."""
    seconds, history = run.running_seconds, run.history
    if run.is_waiting:
        return "Waiting for a free worker"
    if run.is_stopping:
        return f"Stopping after pass {history.passes:,}"
    if not history.passes:
        parts = [f"Running for {seconds:.1f} s of at most {run.limits.seconds:g} s"]
        if run.progress:
            done, total = run.progress.get("n"), run.progress.get("total")
            parts.append(f"{done} of {total}" if total else f"{done} done")
        return ", ".join(parts)
    of = f" of {history.expected:,}" if history.expected else ""
    parts = [f"{'Paused after' if run.is_paused else 'Pass'} {history.passes:,}{of}"]
    if not run.is_paused:
        rate = history.passes / max(seconds, 1e-3)
        parts.append(f"{rate:,.0f} passes/s")
        if history.expected:
            parts.append(f"{max(0, history.expected - history.passes) / max(rate, 1e-9):.0f} s left")
        parts.append(f"{seconds:.0f} s of at most {run.limits.training_seconds:g} s")
    return ", ".join(parts)


# -- curves --------------------------------------------------------------------------------------------


def show_curves(training: Training, *, key: str = "curves", height: int = 340) -> None:
    """Live curves of the run and of those kept; a click on a point leaves its pass in ``key``-clicked."""
    if training.is_running or training.swept:
        st.fragment(_follow_curves, run_every=choose_beat())(training, key, height)
    else:
        draw_curves(training, key, height)


def _follow_curves(training: Training, key: str, height: int) -> None:
    keep_beat(key)
    if training.swept and not training.advance_sweep():
        st.rerun()
    draw_curves(training, key, height)
    await_sent()


def draw_curves(training: Training, key: str, height: int) -> None:
    """The curves as they are now, for a page that draws itself anew while a run goes on."""
    row = st.container(horizontal=True, vertical_alignment="center")
    what = row.segmented_control(
        "Curve",
        list(SHOWN),
        default="loss",
        required=True,
        key=f"{key}-what",
        format_func=SHOWN.__getitem__,
        label_visibility="collapsed",
    )
    is_log = row.toggle("Log scale", key=f"{key}-log", help="A straight line then means a constant rate.")
    histories = [("this run", training.history)] if training.history.passes else []
    histories += [(run.name, run.history) for run in training.kept if run.is_shown]
    histories += [(name, run.history) for name, run in training.swept]
    lines = [line for name, history in histories for line in _lines_of(name, history, what, alone=len(histories) == 1)]
    marks = [
        (event.index + 1, f"{event.name} = {format_number(event.value)}") for event in training.history.knob_events
    ]
    # One curve that runs away leaves the others readable; values may go anywhere.
    cut = None if is_log or what == "values" else cut_losses(y for _, _, y in lines)
    clicked = show_plot(
        {
            "data": [
                {"type": "scatter", "mode": "lines+markers" if len(y) < 60 else "lines", "name": name}
                | {"hovertemplate": "pass %{x}: %{y:.6g}"}
                for name, _, y in lines
            ],
            "layout": {
                "xaxis": {"title": {"text": "pass"}},
                "yaxis": {
                    "title": {"text": SHOWN[what].lower() + (" (cut; log scale shows all)" if cut else "")},
                    "type": "log" if is_log else "linear",
                }
                | ({"range": cut} if cut else {}),
                "hovermode": "x",
                "showlegend": len(lines) > 1,
                "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
                "uirevision": f"{what}{is_log}{training.started}",
            },
        },
        key=f"{key}-plot",
        testid="loss-chart",
        height=height,
        streams={number: (x, y) for number, (_, x, y) in enumerate(lines)},
        marks=marks,
    )
    if clicked is not None and clicked.trace < len(_lines_of("", training.history, what, alone=True)):
        st.session_state[f"{key}-clicked"] = int(clicked.x) - 1
        st.rerun()


def _lines_of(name: str, history: History, what: str, *, alone: bool) -> list[tuple[str, list[int], list[float]]]:
    if what == "loss":
        curves: dict[str, Curve] = {"": history.loss}
    else:
        curves = dict(list(getattr(history, what).items())[:12])
    lines = []
    for part, curve in curves.items():
        drawn = thin(curve, MOST_POINTS)
        label = (part or "loss") if alone else f"{name} {part}".strip()
        lines.append((label, [index + 1 for index in drawn.x], drawn.y))
    return lines


def show_divergence(training: Training) -> None:
    """Say so where the loss is not a number any more, or a rate of the program let it grow beyond all bounds."""
    history, losses = training.history, training.history.loss
    names = [name for name in training.list_knobs() if is_learning_rate(name)]
    first = history.first_not_finite
    if first is not None:
        value = losses.y[losses.x.index(first)]
        said = f"The loss became {format_number(value)} at pass {first + 1}"
        if not first:
            said += ": it never was a number. Look for a logarithm or root of what is negative, or a division by zero."
        elif names:
            # The update after the pass before led here, at the rate that it had then.
            rate = training.value_at(names[0], max(0, first - 1))
            said += ": the steps grew instead of shrinking. Try a smaller learning rate"
            said += "." if rate is None else f" than {format_number(rate)}."
        else:
            said += ". A click on the curve opens the passes before it."
        st.warning(said)
    elif names and losses.y:
        highest = losses.y.index(max(losses.y))
        if find_runaway([losses.y[0], losses.y[highest]]):
            rate = training.value_at(names[0], max(0, losses.x[highest] - 1)) or 0.0
            st.warning(explain_divergence(losses.y[: highest + 1], rate))


# -- runs side by side -----------------------------------------------------------------------------------


def show_kept(training: Training, *, key: str = "kept") -> None:
    """Keep the run, name, hide and delete kept ones, run one knob over several values, download the numbers."""
    with st.container(key=key):
        row = st.container(horizontal=True, vertical_alignment="bottom")
        can_keep = training.has_passes and not training.is_running
        can_keep = can_keep and all(run.history is not training.history for run in training.kept)
        if row.button(
            "Keep this run", key=f"{key}-keep", disabled=not can_keep, help="Its curve stays beside the next."
        ):
            training.keep(_name_run(training))
            st.rerun()
        row.download_button(
            "CSV",
            data=lambda: training.history.to_csv(),
            file_name="run.csv",
            mime="text/csv",
            key=f"{key}-csv",
            disabled=not training.has_passes,
            on_click="ignore",
            help="Every pass of this run, every number exact.",
        )
        for number, run in enumerate(list(training.kept)):
            line = st.container(horizontal=True, vertical_alignment="center")
            run.is_shown = line.checkbox(
                f"Show run {number + 1}", value=run.is_shown, key=f"{key}-show-{id(run)}", label_visibility="collapsed"
            )
            run.name = line.text_input(
                "Name", value=run.name, key=f"{key}-name-{id(run)}", label_visibility="collapsed"
            )
            line.download_button(
                "CSV",
                data=run.history.to_csv,
                file_name="run.csv",
                mime="text/csv",
                key=f"{key}-csv-{id(run)}",
                on_click="ignore",
            )
            if line.button("Delete", key=f"{key}-delete-{id(run)}"):
                training.kept.remove(run)
                st.rerun()
            with st.container(key=f"{key}-end-{number}"):
                # Text of a program: not to be read as Markdown.
                st.text(run.end)
        _show_sweep(training, key)


def _show_sweep(training: Training, key: str) -> None:
    knobs = training.list_knobs()
    if not knobs or not training.has_passes:
        return
    if training.is_comparing:
        if st.button("Stop comparing", key=f"{key}-sweep-stop", help="End these runs; what they recorded stays."):
            training.stop_sweep()
            st.rerun()
        return
    with st.expander("Compare values of one knob"):
        name = st.selectbox("Knob", list(knobs), key=f"{key}-sweep-knob")
        value = knobs[name].value
        base = value or type(value)(1)
        usual = (
            [base / 10, base / 3, base, base * 3] if isinstance(base, float) else [max(1, base // 2), base, base * 2]
        )
        text = st.text_input(
            "Values", value=", ".join(f"{value:.3g}" for value in usual), key=f"{key}-sweep-values-{name}"
        )
        if st.button("Run all", key=f"{key}-sweep", help="One run for each value; each is kept and drawn."):
            try:
                values = [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
                if not 0 < len(values) <= MOST_KEPT or not all(map(math.isfinite, values)):
                    raise ValueError
            except ValueError:
                st.error(f"Values are up to {MOST_KEPT} numbers with commas between them, such as 0.003, 0.03, 0.3.")
                return
            training.begin_sweep(name, [int(v) if isinstance(base, int) else v for v in values])
            st.rerun()


def _name_run(training: Training) -> str:
    values = training.values()
    usual = {name: knob.value for name, knob in training.list_knobs().items()}
    changed = {name: value for name, value in values.items() if usual[name] != value}
    shown = changed or {name: value for name, value in values.items() if is_learning_rate(name)}
    return ", ".join(f"{name} {format_number(value)}" for name, value in shown.items()) or f"run {training.count}"
