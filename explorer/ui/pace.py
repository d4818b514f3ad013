"""Runs at a speed that eyes can follow: every pass is let go one by one, and a knob acts on the very next."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.program import Program
from explorer.runner import Run
from explorer.ui.training import Training, tell_comparison, tell_share

SPEEDS: dict[str, float | None] = {"5": 5.0, "20": 20.0, "100": 100.0, "all": None}
"""Passes, or steps of a race, in a second by the name of the choice; None lets the program run free."""

MOST_WHOLE = 2_000
"""A run of so few passes has each looked at: none is missing in its pictures, however fast it goes."""

TRIES = 5
"""So often is a program started that ran on before it could be told to stand."""

FIRST_LOOK = 4.0
"""Seconds that a page waits for its first run, which it shows when it has ended."""


class Pace:
    """Lets a run make its passes one by one, so many in a second, each looked at; nothing is added to the program."""

    def __init__(self, run: Run, passes_per_second: float | None, *, is_held: bool = False) -> None:
        """``passes_per_second`` None lets the run go free; one that ``is_held`` stands after its first pass."""
        self._run = run
        self._rate = passes_per_second
        self._is_held = is_held
        self._is_standing = False
        self._is_over = False
        self._due = 0.0
        self._steps = 0
        self._changed = threading.Condition()
        if not self._is_free:
            run.pause()
        for target in (self._listen, self._drive):
            threading.Thread(target=target, name="explorer-pace", daemon=True).start()

    @property
    def is_held(self) -> bool:
        """Whether the run stands until its reader says otherwise."""
        return self._is_held

    def await_first_pass(self, seconds: float = 0.5) -> bool:
        """Wait until the run stands; False where it has made more than one pass by then."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_standing or self._is_over or self._run.history.passes > 1, seconds)
        return self._run.history.passes <= 1

    def hold(self) -> None:
        """Stand after the pass that is made now."""
        with self._changed:
            self._is_held = True
            self._run.pause()
            self._changed.notify_all()

    def go_on(self) -> None:
        """Make passes again."""
        with self._changed:
            self._is_held = False
            self._changed.notify_all()

    def step(self, count: int = 1) -> None:
        """Make so many passes, then stand again."""
        with self._changed:
            self._steps += count
            self._changed.notify_all()

    def set_rate(self, passes_per_second: float | None) -> None:
        """Go on at another speed."""
        with self._changed:
            if passes_per_second != self._rate:
                self._rate, self._due = passes_per_second, 0.0
                if passes_per_second is not None:
                    self._run.pause()
                self._changed.notify_all()

    @property
    def _is_free(self) -> bool:
        return self._rate is None and not self._is_held

    def _listen(self) -> None:
        """Hear when the run stands: only then may it be told to make the next pass."""
        for event in self._run.events():
            with self._changed:
                if event["event"] == "started" and not self._is_free:
                    self._run.pause()
                elif event["event"] in ("paused", "resumed"):
                    self._is_standing = event["event"] == "paused"
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _drive(self) -> None:
        """Let the run make its next pass when it is time."""
        with self._changed:
            while not self._is_over:
                now = time.monotonic()
                if not self._is_standing or (self._is_held and not self._steps):
                    self._changed.wait()
                elif now < self._due and not self._is_free and not self._steps:
                    self._changed.wait(self._due - now)
                else:
                    self._let_go(now)

    def _let_go(self, now: float) -> None:
        self._is_standing = False
        if self._is_free:
            self._run.resume()
            return
        self._steps = max(0, self._steps - 1)
        # A pass that came late does not make the next one wait longer.
        self._due = max(now, self._due + (1 / self._rate if self._rate else 0.0))
        self._run.step()


def start_paced(
    start: Callable[[], Run | None], passes_per_second: float | None, *, is_held: bool = False
) -> Pace | None:
    """``start()`` a run and let it go at this pace; None where there is no run that goes on.

    A program that makes its passes in no time may have made many before the order to stand arrives: it is then started
    again, and does the same.
    """
    run = start()
    if run is None or (passes_per_second is None and not is_held):
        return run and Pace(run, None)
    pace = Pace(run, passes_per_second, is_held=True)
    for _ in range(TRIES - 1):
        if pace.await_first_pass():
            break
        run = start()
        if run is None:
            return None
        pace = Pace(run, passes_per_second, is_held=True)
    if not is_held:
        pace.go_on()
    return pace


@dataclass
class PacedTraining(Training):
    """A Training whose run goes at the speed that its reader chose; ``together`` passes are one step on the page."""

    pace: Pace | None = None
    speed: str = "20"
    together: int = 1
    asked: Any = None
    steps_asked: int = 0
    choices: dict[str, Any] = field(default_factory=dict)

    def play(self, program: Program, passes: int, *, is_held: bool = False) -> None:
        """Start the program, of so many passes, at the chosen speed; the first run of a page is over at once."""
        is_first = self.program is None
        rate = None if is_first else self._rate

        def start() -> Run | None:
            self.start(program, patience=0, looks_at_all=passes <= MOST_WHOLE)
            return self.run

        self.knobs = {}
        self.pace = start_paced(start, rate, is_held=is_held)
        if is_first and self.run is not None:
            self.run.wait(FIRST_LOOK)
            self.take()

    @property
    def _rate(self) -> float | None:
        rate = SPEEDS[self.speed]
        return None if rate is None else rate * self.together

    def set_speed(self, speed: str) -> None:
        """Go on at the speed of that name."""
        self.speed = speed
        if self.run is not None and self.pace is not None:
            self.pace.set_rate(self._rate)

    def set_hold(self, is_held: bool) -> None:
        """Let the run stand, or go on."""
        if self.run is not None and self.pace is not None:
            if is_held:
                self.pace.hold()
            else:
                self.pace.go_on()

    def make_one(self, number: int) -> None:
        """Let the run that goes on make one step and stand; ``number`` is what ``steps_asked`` was when it was offered.

        A browser that draws a part of the page anew by itself may tell of a click with that, and then of the same
        click again.
        """
        if self.run is not None and self.pace is not None and number == self.steps_asked:
            self.steps_asked += 1
            self.pace.hold()
            self.pace.step(self.together)

    def held(self, key: str) -> str:
        """The key of a widget, which holds again what it held when it was last on the page: Streamlit forgets."""
        return self.offer(key, self.choices[key]) if key in self.choices else key

    def keep_number(self, key: str) -> None:
        """Let a number box that was emptied, or given what is no number, hold again what it held."""
        if st.session_state[key] is None:
            st.session_state[key] = self.choices[key]
        # Who goes to another page straight from the box leaves no run of this one to remember it.
        self.choices[key] = st.session_state[key]

    def ask_number(self, place: DeltaGenerator, label: str, key: str, **options: Any) -> Any:
        """The number in a box at ``place``, which ``choices`` tells from the beginning; ``options`` are Streamlit's."""
        # Without a value of None an emptied box would say 0.
        return place.number_input(
            label, value=None, key=self.held(key), on_change=self.keep_number, args=(key,), **options
        )

    def put(self, key: str, value: Any) -> None:
        """Let the widget with that key hold this value, whether it is on the page now or later."""
        self.choices[key] = value
        if key in st.session_state:
            self.give(key, value)

    def remember(self) -> None:
        """Keep what the widgets that are on the page hold."""
        self.choices |= {key: st.session_state[key] for key in self.choices if key in st.session_state}


@st.fragment
def show_controls(
    training: PacedTraining, *, key: str, begin: Callable[[bool], None] | None, verb: str = "Train", unit: str = "pass"
) -> None:
    """Buttons to train, hold, step and stop, and the speed; ``begin(is_held)`` starts a run, None: there is none."""
    is_running, pace = training.is_running, training.pace
    is_held = is_running and pace is not None and pace.is_held
    row = st.container(horizontal=True, gap="small")
    if row.button(
        verb,
        key=f"{key}-begin",
        type="primary",
        icon=":material/play_arrow:",
        disabled=begin is None,
        help="Run the program from its start.",
    ):
        begin(False)
        st.rerun()
    row.button(
        "Go on" if is_held else "Pause",
        key=f"{key}-pause",
        disabled=not is_running,
        on_click=training.set_hold,
        args=(not is_held,),
        help=f"Let the program go on, or stand after the {unit} that it makes.",
    )
    is_idle = begin is None and not is_running
    if (
        row.button(
            f"One {unit}",
            key=f"{key}-one",
            disabled=is_idle,
            on_click=training.make_one,
            args=(training.steps_asked,),
            help=f"Make one {unit}, then stand. Where no run goes on, a new one makes its first.",
        )
        and not is_running
    ):
        begin(True)
        st.rerun()
    if row.button("Stop", key=f"{key}-stop", disabled=not is_running, help="End the run; what it recorded is kept."):
        training.stop()
        st.rerun()
    many = _plural(unit)
    speed = st.segmented_control(
        f"{many.capitalize()} in a second",
        list(SPEEDS),
        key=training.offer(f"{key}-speed", training.speed),
        required=True,
        format_func=lambda name: "as fast as it goes" if name == "all" else name,
        help=f"Between two {many} the program stands still; nothing is added to it. Long runs: as fast as it goes.",
    )
    # A browser that lost the control for a moment tells that nothing is chosen.
    training.set_speed(speed or training.speed)


def _plural(unit: str) -> str:
    return "passes" if unit == "pass" else f"{unit}s"


def tell_position(training: PacedTraining, unit: str = "pass") -> tuple[float, str]:
    """How much of the run is done, from 0 to 1, and that in words."""
    run, together = training.run, training.together
    if run is None and training.is_comparing:
        return tell_comparison(training)
    if run is None:
        history, many = training.history, _plural(unit)
        count = history.passes // together
        problem = training.recording.problem if training.recording else None
        if problem is not None and problem.type == "Stopped" and history.expected:
            share = min(1.0, history.passes / history.expected)
            return share, f"Stopped after {count:,} of {-(-history.expected // together):,} {many}"
        return 1.0, f"{count:,} {many} done"
    if run.is_waiting:
        return 0.0, "Waiting for a free worker"
    history = run.history
    of = f" of {-(-history.expected // together):,}" if history.expected else ""
    held = ", standing" if training.pace is not None and training.pace.is_held else ""
    held = ", stopping" if run.is_stopping else held
    return tell_share(run), f"{unit.capitalize()} {-(-history.passes // together):,}{of}{held}"


def choose_height(usual: int) -> int:
    """The height of a picture in pixels: more where letters are larger."""
    return usual * 6 // 5 if st.session_state.get("large") else usual
