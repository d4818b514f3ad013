"""The linear regression page: its choices, its pictures, the step that is taken written out in numbers."""

import functools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer import figures
from explorer.history import Curve
from explorer.loss_surface import CriticalRate, Range, best_line, choose_ranges, critical_rate, loss_at, loss_surface
from explorer.narrate import format_number
from explorer.optimizers import OPTIMIZERS, explain_divergence, find_optimizer, find_runaway, update_rows
from explorer.points import make_points, parse_points
from explorer.program import Program
from explorer.regression import LOSSES, PRESETS, Regression, write_program
from explorer.runner import RunnerError
from explorer.ui.pace import PacedTraining, choose_height, tell_position
from explorer.ui.plot import show_plot
from explorer.ui.training import draw_curves, get_runner
from explorer.ui.visitors import await_sent, choose_beat, keep_beat

OWN = "Your own points"
RATES = [float(f"{10 ** (step / 20):.3g}") for step in range(-80, 21)]
"""What the slider of the learning rate offers, from 0.0001 to 10."""

CANVAS: tuple[Range, Range] = ((-3.0, 3.0), (-5.0, 10.0))
"""The plot into which a reader clicks the first points."""

NEAR = 0.025
"""A click that is nearer to a point than this share of the plot is on it."""

MOST_PATH = 500
"""Of a path so many points are drawn."""

HEIGHT = 265

_NAMES = ("points", "noise", "true_w", "true_b", "data_seed", "start_w", "start_b", "epochs", "optimizer", "loss")
_NAMES += ("momentum", "weight_decay", "forget_zero_grad")


@dataclass(frozen=True, slots=True)
class Scene:
    """What of the pictures stays while a run goes on, and the best line."""

    x: Sequence[float]
    y: Sequence[float]
    best: tuple[float, float]
    fit: dict[str, Any]
    map: dict[str, Any]
    surface: dict[str, Any]
    spans: tuple[Range, ...]


@dataclass
class Study(PacedTraining):
    """What one visitor does on the page: the regression as it is set up, and its run."""

    regression: Regression | None = None
    own: tuple[tuple[float, float], ...] = ()
    is_own_new: bool = False
    rate: float | None = None
    noted: float | None = None
    slid: int = 0
    typed: int = 0
    misread: str = ""
    problem: str = ""
    warning: str = ""
    scene: Scene | None = None
    staged: tuple = ()

    def slide(self, key: str) -> None:
        """Take the learning rate of the slider; one that was not moved, or has left the page, tells what it had."""
        if key == self.slider and st.session_state[key] != self.shown_rate:
            self.expect_late(_key("number"), self.rate)
            self.rate, self.slid = st.session_state[key], self.slid + 1
            self.expect_late(_key("number"), self.rate)

    def type_rate(self, key: str) -> None:
        """Take the learning rate that was typed; an emptied box holds again what it held."""
        typed = st.session_state[key]
        if key != self.number:
            return
        if typed is None or self.is_told_late(_key("number"), typed):
            st.session_state[key] = self.rate
        elif typed != self.rate:
            self.set_typed(typed)

    @property
    def slider(self) -> str:
        """The key of the slider that is on the page."""
        return _key(f"slider-{self.typed}")

    @property
    def number(self) -> str:
        """The key of the number box that is on the page."""
        return _key(f"number-{self.slid}")

    def set_rate(self, rate: float) -> None:
        """Set slider and number to this learning rate."""
        self.slid += 1
        self.set_typed(rate)

    def set_typed(self, rate: float) -> None:
        """Take this learning rate and offer it on the slider."""
        self.rate, self.noted, self.typed = rate, rate, self.typed + 1

    @property
    def has_passes(self) -> bool:
        """Whether a run made a pass over points that are there."""
        return super().has_passes and self.regression is not None

    @property
    def shown_rate(self) -> float:
        """Where the slider stands, which has every rate that can be."""
        return self.rate if _can_be_slid(self.rate) else RATES[0]

    def begin(self, is_held: bool = False) -> None:
        """Run the program of the regression from its start."""
        if self.regression is not None:
            self.asked = self.regression
            self.play(Program(write_program(self.regression)), self.regression.passes, is_held=is_held)

    def follow(self) -> None:
        """Run what was set up anew; a learning rate alone acts on the run that goes on."""
        wanted, asked = self.regression, self.asked
        if wanted is None or (wanted == asked and not self.misses_a_knob):
            return
        if self.is_running and asked is not None and _without_rate(wanted) == _without_rate(asked):
            self.asked = wanted
            if self.move_knob(self.list_knobs()["learning_rate"], wanted.learning_rate):
                self.begin()
        else:
            self.begin()

    def keep(self, name: str) -> None:
        """Keep the run that has ended under this name and that of its optimizer."""
        super().keep(f"{self.asked.optimizer}, {name}" if self.asked else name)

    def stage(self) -> Scene | None:
        """The scene of the regression; where its points cannot be had ``problem`` says why, and the last one stays."""
        one = self.regression
        if one is None:
            return None
        key = (one.own_points, one.points, one.noise, one.true_w, one.true_b, one.data_seed)
        key += (one.loss, one.start_w, one.start_b)
        if self.staged != key:
            try:
                x, y = list(zip(*one.own_points, strict=True)) if one.own_points else _find_points(*key[1:6])
            except (RunnerError, ValueError) as error:
                self.problem, self.regression = str(error), self.asked
                return self.scene
            start = one.start_w, one.start_b
            self.scene = _make_scene(tuple(x), tuple(y), one.loss, start, is_own=bool(one.own_points))
            self.staged = key
        return self.scene


def get_study() -> Study:
    """The Study of this visitor."""
    if "study" not in st.session_state:
        first = next(iter(PRESETS))
        st.session_state["study"] = Study(
            choices={_key("data"): first, _key("text"): "", **_defaults(PRESETS[first])},
            rate=PRESETS[first].learning_rate,
        )
    return st.session_state["study"]


def _without_rate(regression: Regression) -> tuple:
    return tuple(getattr(regression, name) for name in (*_NAMES, "own_points", "batch_size"))


@st.cache_data(max_entries=128, show_spinner=False)
def _find_points(points: int, noise: float, true_w: float, true_b: float, seed: int) -> tuple[list[float], list[float]]:
    """The points that the program makes, as one pass of it tells them.

    Raises RunnerError where it could not run, ValueError for points that float32 cannot hold.
    """
    one = Regression(points, noise, true_w, true_b, seed, epochs=1)
    # In nobody's name: a visitor whose two runs go on would wait for them here.
    recording = get_runner().run(Program(write_program(one)), keep=("x", "y"))
    if recording.problem is not None:
        raise RunnerError(f"The points could not be made. {recording.problem.message}")
    x, y = ([float(number) for number in recording.kept[name]] for name in "xy")
    if not all(map(math.isfinite, x + y)):
        raise ValueError("The points are too large for float32. Choose less noise, or a smaller true w and b.")
    return x, y


@functools.lru_cache(maxsize=32)
def _make_scene(
    x: tuple[float, ...], y: tuple[float, ...], loss: str, start: tuple[float, float], *, is_own: bool
) -> Scene:
    """The scene of these points; a class looks at the same ones, and it takes a quarter of a second."""
    best = best_line(x, y, loss=loss)
    w_range, b_range = choose_ranges(start, best)
    ground = loss_surface(x, y, loss=loss, w_range=w_range, b_range=b_range)
    fit = figures.plot_fit(x, y, best=best)
    if is_own:
        _open_canvas(fit, x, y)
    surface = figures.plot_loss_surface(ground.w, ground.b, ground.values)
    surface.update_layout(showlegend=False, margin={"l": 0, "r": 0, "t": 0, "b": 0})
    spans = figures.read_ranges(surface)
    plain = [
        figure.to_plotly_json()
        for figure in (fit, figures.plot_loss_map(ground.w, ground.b, ground.values, best=best), surface)
    ]
    for one in plain:
        # A zoom into other data would show nothing of these.
        one["layout"]["uirevision"] = f"{best} {w_range}"
    plain[2]["layout"]["scene"]["uirevision"] = "kept"
    return Scene(x, y, best, *plain, spans)


def _open_canvas(fit: figures.Figure, x: Sequence[float] = (), y: Sequence[float] = ()) -> None:
    """Room for more points, and something under every place that can be clicked: the last trace."""
    spans = []
    for numbers, (low, high) in zip((x, y), CANVAS, strict=True):
        room = 0.08 * (max(numbers) - min(numbers)) if len(numbers) else 0.0
        spans.append((min([low, *(n - room for n in numbers)]), max([high, *(n + room for n in numbers)])))
    columns, rows = ([low + (high - low) * step / 120 for step in range(121)] for low, high in spans)
    fit.add_heatmap(x=columns, y=rows, z=[[0] * 121] * 121, opacity=0, showscale=False, hoverinfo="none")
    fit.update_layout(xaxis_range=spans[0], yaxis_range=spans[1], hovermode="closest")


# -- choices -------------------------------------------------------------------------------------------


def _key(name: str) -> str:
    return f"linreg-{name}"


def _defaults(preset: Regression) -> dict[str, Any]:
    found = {_key(name): getattr(preset, name) for name in _NAMES}
    return found | {_key("batch_size"): preset.batch_size or preset.count}


def _take_preset(study: Study) -> None:
    """Set every control to what the chosen data brings."""
    preset = PRESETS.get(st.session_state[_key("data")])
    if preset is not None:
        for key, value in _defaults(preset).items():
            study.put(key, value)
        study.set_rate(preset.learning_rate)


def choose_regression(study: Study) -> None:
    """The data, the optimizer, the loss and where w and b begin."""

    def key(name: str) -> str:
        return study.held(_key(name))

    def number(place: DeltaGenerator, label: str, name: str, **options: Any) -> None:
        study.ask_number(place, label, _key(name), **options)

    data = st.selectbox(
        "Data",
        [*PRESETS, OWN],
        key=key("data"),
        on_change=_take_preset,
        args=(study,),
        help="Two regressions with all their numbers, or points that you click and paste.",
    )
    if data == OWN:
        _choose_points(study)
    left, right = st.columns(2)
    left.selectbox("Optimizer", list(OPTIMIZERS), key=key("optimizer"), help="What is done with the gradient.")
    right.selectbox("Loss", list(LOSSES), key=key("loss"), help="What is made small: the mean over the points.")
    number(left, "Epochs", "epochs", step=10, help="How often the loop sees all points.")
    number(right, "Batch size", "batch_size", step=1, help="Points in a pass; from their number on, all.")
    knobs = find_optimizer(st.session_state[_key("optimizer")]).knobs
    number(left, "Start value of w", "start_w", step=0.5, format="%.6g", help="Where w begins.")
    number(right, "Start value of b", "start_b", step=0.5, format="%.6g", help="Where b begins.")
    for name, _ in knobs:
        label = name.replace("_", " ").capitalize()
        number(left, label, name, step=0.01, format="%.4g", help=f"The {name} of the optimizer.")
    st.toggle(
        "Forget zero_grad",
        key=key("forget_zero_grad"),
        help="Leaves out the line that empties .grad: every backward() adds to what is there.",
    )
    if data != OWN:
        with st.expander("How the points are made"):
            left, right = st.columns(2)
            number(left, "Points", "points", step=10, help="How many; x is normally distributed.")
            number(right, "Noise", "noise", step=0.1, format="%.4g", help="Spread of y about the line.")
            number(left, "True w", "true_w", step=0.5, format="%.6g", help="Slope of the line.")
            number(right, "True b", "true_b", step=0.5, format="%.6g", help="Height of the line at 0.")
            number(left, "Seed", "data_seed", step=1, help="The same seed makes the same points.")
    study.remember()


def _choose_points(study: Study) -> None:
    """The reader's own points as text; clicks into the plot write here too."""
    if study.is_own_new:
        study.put(_key("text"), "\n".join(f"{x:.15g}, {y:.15g}" for x, y in study.own))
        study.is_own_new = False
    row = st.container(horizontal=True, vertical_alignment="bottom")
    if row.button("Clear", key=_key("clear"), help="Take every point away."):
        study.own, study.is_own_new = (), True
        st.rerun()
    row.caption("Click into the plot: a point is put there, or taken away where one is.")
    st.text_area(
        "Points, one x, y a row",
        key=study.held(_key("text")),
        height=110,
        placeholder="x, y\n0.5, 1.2\n1.5, 3.1",
        on_change=_read_points,
        args=(study,),
        help="Two columns from a file or a table; a first row of names is passed over.",
    )


def _read_points(study: Study) -> None:
    """Take over the pasted text; one that cannot be read leaves the points as they are."""
    text = study.choices[_key("text")] = st.session_state[_key("text")]
    try:
        points = parse_points(text)
        study.own, study.misread = tuple(zip(points.x, points.y, strict=True)), ""
    except ValueError as error:
        study.misread = str(error)


def choose_rate(study: Study) -> DeltaGenerator:
    """The learning rate as a slider and as a number; returns the place below the slider.

    Whichever is moved, the other is made anew under another key: while a run goes on, the browser tells the values of
    all widgets many times a second, and would set one back that the server had just changed.
    """
    left, right = st.columns([7, 3], vertical_alignment="top")
    slider, number = study.offer(study.slider, study.shown_rate), study.offer(study.number, study.rate)
    left.container(key=_key("rate-slider")).select_slider(
        "Learning rate",
        _list_rates(study.noted, study.rate),
        key=slider,
        format_func=format_number,
        on_change=study.slide,
        args=(slider,),
        help="Acts on the run that goes on from its next pass.",
    )
    right.container(key=_key("rate")).number_input(
        "Exactly",
        value=None,
        key=number,
        step=None,
        format="%.6g",
        on_change=study.type_rate,
        args=(number,),
        help="The same number, typed.",
    )
    return left


def _can_be_slid(rate: float | None) -> bool:
    return rate is not None and 0 <= rate < math.inf


def _list_rates(*others: float | None) -> list[float]:
    """What the slider offers: even ratios, and these others in the place of what would be told by the same digits."""
    told = {format_number(rate): rate for rate in (*RATES, *filter(_can_be_slid, others))}
    return sorted(told.values())


def show_rates(study: Study) -> str:
    """Below the slider: where the learning rate becomes too large for this very problem; returns that in words."""
    critical = CriticalRate(None, "", True, "")
    if study.scene is not None and study.regression is not None:
        critical = critical_rate(study.regression, study.scene.x)
    rate = study.rate if study.rate is not None and math.isfinite(study.rate) else 0.0
    show_plot(_draw_rates(rate, critical.rate, critical.formula), key=_key("rates"), testid="rates-chart", height=66)
    return critical.sentence


@functools.lru_cache(maxsize=256)
def _draw_rates(rate: float, critical: float | None, formula: str) -> dict[str, Any]:
    plain = figures.plot_rates(rate, critical, formula=formula, low=RATES[0], high=RATES[-1]).to_plotly_json()
    plain["layout"]["margin"] = {"l": 8, "r": 8, "t": 2, "b": 20}
    return plain


def set_up(study: Study) -> None:
    """Make the regression of what the controls say; where it cannot be, the last one stays."""
    values = {name: study.choices[_key(name)] for name in (*_NAMES, "batch_size")} | {"learning_rate": study.rate}
    study.problem = study.warning = ""
    is_own = study.choices[_key("data")] == OWN
    try:
        if is_own and study.own:
            values["own_points"] = study.own
            study.warning = make_points(list(study.own)).warning or ""
        one = Regression(**values)
        # Written as the full batch, the program has no inner loop.
        study.regression = Regression(**values | {"batch_size": None}) if one.is_full_batch else one
    except ValueError as error:
        study.problem = f"{str(error)[:1].upper()}{str(error)[1:].rstrip('.')}."
    if is_own and not study.own:
        study.regression = None
    study.stage()


def show_notes(study: Study) -> None:
    """What cannot be as the controls say, and what is odd about it."""
    is_own = st.session_state[_key("data")] == OWN
    for text in (study.misread if is_own else "", study.problem, study.failure):
        if text:
            st.error(text)
    if study.warning and not study.problem and not (is_own and study.misread):
        st.warning(study.warning)


# -- pictures ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """One pass: where w and b were, what stood in their ``.grad``, the rate, and where the step led."""

    index: int
    loss: float | None
    values: dict[str, float] = field(default_factory=dict)
    grads: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    path: list[tuple[float, float]] = field(default_factory=list)

    @property
    def line(self) -> tuple[float, float] | None:
        """w and b."""
        return (self.values["w"], self.values["b"]) if len(self.values) == 2 else None


def find_moment(study: Study, index: int | None = None) -> Moment:
    """The pass with this index, the last one where none is given; of passes not looked at the one before."""
    history = study.history
    last = history.passes - 1
    index = last if index is None else min(index, last)
    w, b = (history.values.get(name, Curve()) for name in "wb")
    count = min(bisect_right(w.x, index), bisect_right(b.x, index), len(w.y), len(b.y))
    if not count:
        return Moment(max(index, 0), None)
    found = w.x[count - 1]
    after = {name: curve.y[count] for name, curve in zip("wb", (w, b), strict=True) if _is_next(curve, count, found)}
    if not after and found == last and not study.is_running:
        after = _read_end(study)
    # What was drawn of a path stays where it is: only its end is new.
    stride = -(-count // MOST_PATH)
    chosen = [*range(0, count - 1, stride), count - 1]
    return Moment(
        found,
        _number_at(history.loss, found),
        {"w": w.y[count - 1], "b": b.y[count - 1]},
        {name: number for name in "wb" if (number := _number_at(history.grads.get(name), found)) is not None},
        after,
        study.value_at("learning_rate", found) or 0.0,
        [(w.y[each], b.y[each]) for each in chosen],
    )


def _is_next(curve: Curve, count: int, found: int) -> bool:
    return len(curve.y) > count and curve.x[count] == found + 1


def _number_at(curve: Curve | None, index: int) -> float | None:
    if curve is None:
        return None
    place = bisect_right(curve.x, index) - 1
    return curve.y[place] if 0 <= place < len(curve.y) and curve.x[place] == index else None


def _read_end(study: Study) -> dict[str, float]:
    """w and b as the program left them."""
    variables = study.recording.variables if study.recording is not None else []
    found = {one.name: one.value for one in variables if one.name in ("w", "b") and one.value is not None}
    return {name: float(value.values) for name, value in found.items() if value.is_whole and not value.shape}


def show_pictures(study: Study) -> None:
    """Data and line, the loss over w and b as map and surface, the curves, and the step in numbers."""
    if study.regression is None or study.scene is None:
        _show_canvas(study)
        return
    clicked = st.session_state.pop(_key("curves-clicked"), None)
    if clicked is not None and not study.is_running:
        st.session_state[_key("pass")] = clicked + 1
    lives = st.fragment(_show_pictures, run_every=choose_beat() if study.is_running or study.swept else None)
    lives(study)


def _show_canvas(study: Study) -> None:
    """Where there is no point yet: a plot to click into."""
    figure = figures.new_figure("canvas", "x", "y")
    _open_canvas(figure)
    # Where the data will be, so that the next click of a quick hand lands on it too.
    left, right = st.columns(2, gap="small")
    with left:
        plain, height = figure.to_plotly_json(), choose_height(HEIGHT)
        clicked = show_plot(plain, key=_key("canvas"), testid="fit-chart", height=height)
    right.caption("Click into the plot to put points. The line is trained as soon as there is one.")
    if clicked is not None:
        study.own, study.is_own_new = (*study.own, (round(clicked.x, 4), round(clicked.y, 4))), True
        study.misread = ""
        st.rerun()


def _show_pictures(study: Study) -> None:
    is_live = study.is_running or bool(study.swept)
    if is_live:
        keep_beat(_key("pictures"))
    if study.take() or (study.swept and not study.advance_sweep()):
        st.rerun()
    scene, height = study.scene, choose_height(HEIGHT)
    moment = find_moment(study, _choose_pass(study))
    left, right = st.columns(2, gap="small")
    with left:
        moved = figures.move_fit(scene.x, scene.y, moment.line or (math.nan, math.nan))
        clicked = show_plot(scene.fit, key=_key("fit"), testid="fit-chart", height=height, traces=_hold_legend(moved))
        if clicked is not None and study.regression is not None and study.regression.own_points:
            _put_point(study, clicked.trace, clicked.x, clicked.y, clicked.point)
    with right:
        gradient = (moment.grads["w"], moment.grads["b"]) if len(moment.grads) == 2 else None
        moved = figures.move_map(*scene.spans[:2], path=moment.path, gradient=gradient)
        show_plot(
            scene.map, key=_key("map"), testid="map-chart", height=height, traces=_hold_legend(moved), growing=[2]
        )
    left, right = st.columns(2, gap="small")
    with left:
        # Each kept run is a line of the legend.
        kept = sum(run.is_shown for run in study.kept) + len(study.swept)
        draw_curves(study, key=_key("curves"), height=height - 50 + 20 * kept)
    with right:
        moved = figures.move_surface(scene.spans, path=_lift(study, moment))
        show_plot(scene.surface, key=_key("surface"), testid="surface-chart", height=height, traces=moved, growing=[1])
    # Where a step needs what the optimizer remembers, the numbers of the pass before are known while a run goes on.
    whole = find_moment(study, moment.index - 1) if study.is_running and not moment.after else moment
    _show_step(study, whole if whole.after else moment)
    if is_live:
        await_sent()


def _hold_legend(moved: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """A trace without points would leave the legend, and what is below would jump."""
    return {number: {name: part or [None] for name, part in trace.items()} for number, trace in moved.items()}


def _lift(study: Study, moment: Moment) -> list[tuple[float, float, float]]:
    """The path with the loss of all points at each place."""
    if not moment.path:
        return []
    w, b = zip(*moment.path, strict=True)
    heights = loss_at(study.scene.x, study.scene.y, w, b, loss=study.asked.loss).tolist()
    return list(zip(w, b, heights, strict=True))


def _put_point(study: Study, trace: int, x: float, y: float, number: Any) -> None:
    """A click on the canvas puts a point, one on a point takes it away."""
    if trace == 4:
        # What can be clicked everywhere lies above the points too: one that is near is meant.
        number = _find_near(study, x, y)
    if trace not in (1, 4):
        return
    if number is None:
        study.own = (*study.own, (round(x, 4), round(y, 4)))
    else:
        study.own = tuple(pair for index, pair in enumerate(study.own) if index != number)
    study.is_own_new, study.misread = True, ""
    st.rerun()


def _find_near(study: Study, x: float, y: float) -> int | None:
    """The number of the own point at this place of the plot, or None."""
    layout = study.scene.fit["layout"]
    (left, right), (low, high) = layout["xaxis"]["range"], layout["yaxis"]["range"]
    distances = [math.hypot((one - x) / (right - left), (other - y) / (high - low)) for one, other in study.own]
    nearest = min(range(len(distances)), key=distances.__getitem__, default=None)
    return nearest if nearest is not None and distances[nearest] < NEAR else None


def _choose_pass(study: Study) -> int | None:
    """Which pass the pictures show: the last while a run goes on, any when it has ended."""
    with st.container(key="position"):
        count = study.history.passes
        if study.is_running or study.swept or count < 2:
            share, text = tell_position(study)
            st.progress(share, text=text)
            return None
        if st.session_state.get(_key("seen")) != study.count:
            st.session_state[_key("seen")], st.session_state[_key("pass")] = study.count, count
        st.session_state[_key("pass")] = min(st.session_state.get(_key("pass"), count), count)
        told = "Look back at any pass; a click on the curve does so too."
        return st.slider(f"Pass, of {count:,}", 1, count, key=_key("pass"), help=told) - 1


def _show_step(study: Study, moment: Moment) -> None:
    """The update of this pass written out, or what is to be said of a loss that runs away."""
    asked, scene = study.asked, study.scene
    losses = study.history.loss.y[: moment.index + 1]
    critical = critical_rate(asked, scene.x)
    began = find_runaway(losses)
    # The update after the pass before led there.
    rate = moment.rate if began is None else study.value_at("learning_rate", max(0, began - 1)) or 0.0
    said = explain_divergence(losses, rate, critical=critical.rate, formula=critical.formula)
    with st.container(key=_key("step")):
        rule = find_optimizer(asked.optimizer).rule
        loss = "?" if moment.loss is None else format_number(moment.loss)
        w, b = map(format_number, scene.best)
        told = f"**Pass {moment.index + 1:,}**: loss `{loss}`, step `{rule}`. Lowest loss at `w = {w}, b = {b}`."
        st.markdown(f":red[**{said}**]" if said else told)
        rows = update_rows(asked.optimizer, moment.rate, moment.values, moment.grads, moment.after)
        lines = ["| leaf | value | .grad | next value |", "|---|---|---|---|"]
        for row in rows:
            cells = [row.leaf, _tell(row.value), _tell(row.grad), row.text]
            lines.append("| " + " | ".join(f"`{cell}`" for cell in cells) + " |")
        st.markdown("\n".join(lines))


def _tell(number: float | None) -> str:
    return "?" if number is None else format_number(number)


# -- the program ---------------------------------------------------------------------------------------


def read_program(study: Study) -> str:
    """The program of the controls as they stand."""
    return write_program(study.regression) if study.regression is not None else ""
