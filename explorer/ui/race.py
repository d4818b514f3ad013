"""The optimizers page: a landscape, who races down it from where, and the race in pictures."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import streamlit as st

from explorer import figures
from explorer.history import Curve, thin
from explorer.landscape import LANDSCAPES, SURFACE_STEPS, Landscape, check_surface, parse_landscape, write_surface
from explorer.narrate import format_number
from explorer.program import Program
from explorer.race import (
    MOST_RACERS,
    RACERS,
    Racer,
    Track,
    choose_goal,
    explain_race,
    name_racers,
    read_race,
    write_race,
)
from explorer.runner import RunnerError
from explorer.ui.pace import PacedTraining, choose_height, tell_position
from explorer.ui.plot import show_plot
from explorer.ui.training import get_runner
from explorer.ui.visitors import await_sent, choose_beat, keep_beat

OWN = "Your own function"
FIRST = "Ravine"
FIRST_RACERS = ("SGD", "Momentum", "Adam")
MARKS = ("●", "■", "◆", "▲", "✚", "✖", "★", "⬟")
"""The symbols of figures.SYMBOLS as text."""

LONGEST_SURFACE = 15.0
"""Seconds that a page waits for the heights of a function."""

MOST_PATH = 600
"""Of a racer's path so many points are drawn."""

MOST_POINTS = 1_000
"""Of a curve of losses so many points are drawn."""

HEIGHT = 330


@dataclass(frozen=True, slots=True)
class Race:
    """One race as it is set up; the start is that of the landscape."""

    landscape: Landscape
    racers: tuple[Racer, ...]
    steps: int

    @property
    def program(self) -> str:
        """Its program. Raises ValueError where it cannot be."""
        return write_race(self.landscape, self.racers, steps=self.steps)


@dataclass(frozen=True, slots=True)
class Scene:
    """What of the pictures stays while a race goes on; ``lowest`` is the least height on the ground."""

    map: dict[str, Any]
    surface: dict[str, Any] | None
    map_ranges: tuple[tuple[float, float], ...]
    spans: tuple[tuple[float, float], ...]
    lowest: float


@dataclass
class Contest(PacedTraining):
    """What one visitor does on the page: the race as it is set up, and its run."""

    race: Race | None = None
    rows: list[int] = field(default_factory=lambda: list(range(len(FIRST_RACERS))))
    made: int = len(FIRST_RACERS)
    moved: tuple[float, ...] = ()
    problem: str = ""
    scene: Scene | None = None
    staged: tuple = ()

    def begin(self, is_held: bool = False) -> None:
        """Run the race from its start."""
        if self.race is not None:
            self.asked, self.together = self.race, len(self.race.racers)
            self.play(Program(self.race.program), self.race.steps * self.together, is_held=is_held)

    def follow(self) -> None:
        """Run what was set up anew."""
        if self.race is not None and self.race != self.asked:
            self.begin()

    def stage(self) -> Scene | None:
        """The scene of the race that was asked for last."""
        if self.asked is None:
            return None
        key = (replace(self.asked.landscape, start=()), self.asked.racers)
        if self.staged != key:
            self.scene, self.staged = _make_scene(*key), key
        return self.scene

    def tracks(self, last: int | None = None) -> dict[str, Track]:
        """The way of each racer, up to a step where one is given."""
        race, history = self.asked, self.history
        tracks = read_race(race.racers, history.loss, history.values, variables=race.landscape.variables)
        return tracks if last is None else {name: _cut(track, last) for name, track in tracks.items()}


def get_contest() -> Contest:
    """The Contest of this visitor."""
    if "contest" not in st.session_state:
        first = LANDSCAPES[FIRST]
        choices = {"landscape": FIRST, "function": "x**2 + 2 * torch.sin(3 * y)", "steps": first.steps}
        choices |= {f"start_{name}": number for name, number in zip("xy", first.start, strict=True)}
        choices |= {f"{name}_{end}": sign * 3.0 for name in "xy" for end, sign in (("low", -1), ("high", 1))}
        for row, name in enumerate(FIRST_RACERS):
            choices |= {f"optimizer-{row}": name, f"rate-{row}": first.suggest_rate(name)}
        st.session_state["contest"] = Contest(choices={_key(name): value for name, value in choices.items()})
    return st.session_state["contest"]


def _key(name: str) -> str:
    return f"race-{name}"


def _cut(track: Track, last: int) -> Track:
    count = sum(step <= last for step in track.steps)
    return Track(track.losses[: last + 1], track.steps[:count], track.points[:count])


@st.cache_data(max_entries=64, show_spinner=False)
def _find_surface(landscape: Landscape) -> list[Any]:
    """The heights of the landscape on a grid, as the program of its surface tells them.

    Raises RunnerError where that could not run, ValueError where the function is none that can be drawn.
    """
    # In nobody's name: a visitor whose two runs go on would wait for them here.
    run = get_runner().start(Program(write_surface(landscape)), keep=("surface",))
    if not run.wait(LONGEST_SURFACE):
        run.release()
        raise RunnerError(
            "The server is too busy to draw this function now. Change it, or reload the page, in a while."
        )
    recording = run.recording()
    problem = recording.problem
    if problem is not None and problem.type == "Busy":
        raise RunnerError(f"The server is too busy to draw this function now: {problem.message}.")
    if problem is not None:
        raise ValueError(
            f"the function does not run. {problem.type}: {problem.message.rstrip('.')}. {problem.hint or ''}"
        )
    surface = recording.kept.get("surface")
    check_surface(landscape, surface)
    return surface


@functools.lru_cache(maxsize=32)
def _make_scene(landscape: Landscape, racers: tuple[Racer, ...]) -> Scene:
    """The scene of a race; a class looks at the same ones, and it takes a quarter of a second."""
    heights = _find_surface(replace(landscape, start=()))
    x = _spread(landscape.x_range)
    names = _tell_racers(racers)
    flat = [float(number) for row in heights for number in (row if isinstance(row, list) else [row])]
    lowest = min((number for number in flat if math.isfinite(number)), default=math.nan)
    if landscape.y_range is None:
        minima = [(*place, landscape.lowest) for place in landscape.minima]
        ground, surface, spans = figures.plot_race_curve(x, heights, names, minima=minima), None, ()
    else:
        y = _spread(landscape.y_range)
        ground = figures.plot_race_map(x, y, heights, names, minima=landscape.minima)
        surface = figures.plot_race_surface(x, y, heights, names)
        surface.update_layout(showlegend=False, margin={"l": 0, "r": 0, "t": 0, "b": 0})
        spans = figures.read_ranges(surface)
    # The list of racers is their legend, and stays where eight of them would leave no room for the map.
    ground.update_layout(
        uirevision=landscape.expression, hovermode="closest" if surface else "x", showlegend=False, margin={"t": 8}
    )
    map_ranges = figures.read_ranges(ground)
    return Scene(ground.to_plotly_json(), surface and surface.to_plotly_json(), map_ranges, spans, lowest)


def _spread(ends: tuple[float, float]) -> list[float]:
    low, high = ends
    return [low + (high - low) * step / (SURFACE_STEPS - 1) for step in range(SURFACE_STEPS)]


def _tell_racers(racers: Sequence[Racer]) -> list[str]:
    """The racers with their rates, for legends."""
    return [
        f"{name}, {format_number(racer.rate)}" for name, racer in zip(name_racers(racers).values(), racers, strict=True)
    ]


# -- choices -------------------------------------------------------------------------------------------


def choose_race(contest: Contest) -> None:
    """The landscape, the start and the racers; what cannot be is said, and the last race stays."""
    for name, number in zip("xy", contest.moved, strict=False):
        contest.put(_key(f"start_{name}"), number)
    contest.moved = ()
    chosen = st.selectbox(
        "Landscape",
        [*LANDSCAPES, OWN],
        key=contest.held(_key("landscape")),
        format_func=lambda name: f"{name}: {LANDSCAPES[name].formula}" if name in LANDSCAPES else name,
        on_change=_take_landscape,
        args=(contest,),
        help="Functions on which optimizers differ, or one that you type.",
    )
    contest.problem = ""
    try:
        landscape = LANDSCAPES[chosen] if chosen in LANDSCAPES else _choose_function(contest)
    except ValueError as error:
        contest.problem = _tell(error)
        landscape = contest.race.landscape if contest.race else LANDSCAPES[FIRST]
    start, steps = _choose_start(contest, landscape)
    chosen_racers = _choose_racers(contest, landscape)
    contest.remember()
    if contest.problem:
        return
    try:
        racers = tuple(Racer(*each) for each in chosen_racers)
        race = Race(replace(landscape, start=start), racers, steps)
        if race != contest.race:
            _ = race.program
            _find_surface(replace(landscape, start=()))
            contest.race = race
    except (ValueError, RunnerError) as error:
        contest.problem = _tell(error)


def _tell(error: Exception) -> str:
    said = str(error).strip()
    return f"{said[:1].upper()}{said[1:]}{'' if said.endswith(('.', '?')) else '.'}"


def show_notes(contest: Contest) -> None:
    """What cannot be as the controls say."""
    for text in (contest.problem, contest.failure):
        if text:
            st.error(text)


def _take_landscape(contest: Contest) -> None:
    """Put start, steps and learning rates to what suits the landscape that was chosen."""
    state = st.session_state
    landscape = LANDSCAPES.get(state[_key("landscape")]) or parse_landscape("x + y")
    contest.put(_key("steps"), landscape.steps)
    for name, number in zip("xy", landscape.start, strict=False):
        contest.put(_key(f"start_{name}"), number)
    for row in contest.rows:
        contest.put(_key(f"rate-{row}"), landscape.suggest_rate(state[_key(f"optimizer-{row}")]))


def _choose_function(contest: Contest) -> Landscape:
    key = contest.held(_key("function"))
    text = st.text_input(
        f"f({', '.join(_read_variables(st.session_state[key]))}) =",
        key=key,
        help="Python over x and y, or x alone, with torch functions, such as x**2 + torch.sin(3 * y).",
    )
    ranges: dict[str, tuple[float, ...]] = {}
    with st.expander("From where to look"):
        columns = st.columns(2)
        for name in "xy":
            ranges[f"{name}_range"] = tuple(
                contest.ask_number(
                    column,
                    f"{name} {label}",
                    _key(f"{name}_{end}"),
                    step=1.0,
                    format="%.6g",
                    help="An end of the picture.",
                )
                for column, end, label in zip(columns, ("low", "high"), ("from", "to"), strict=True)
            )
    contest.remember()
    return parse_landscape(text, start=tuple(contest.choices[_key(f"start_{name}")] for name in "xy"), **ranges)


def _read_variables(text: str) -> tuple[str, ...]:
    """The variables of the function that is typed; both while it is none."""
    try:
        return parse_landscape(text).variables
    except ValueError:
        return ("x", "y")


def _choose_start(contest: Contest, landscape: Landscape) -> tuple[tuple[float, ...], int]:
    columns = st.columns(len(landscape.variables) + 1)
    start = tuple(
        contest.ask_number(
            column,
            f"Start {name}",
            _key(f"start_{name}"),
            step=0.5,
            format="%.6g",
            help="Or click into the map.",
        )
        for column, name in zip(columns, landscape.variables, strict=False)
    )
    told = "How many steps each racer takes."
    return start, contest.ask_number(columns[-1], "Steps", _key("steps"), step=10, help=told)


def _choose_racers(contest: Contest, landscape: Landscape) -> list[tuple[str, float]]:
    found = []

    def suggest(row: int) -> None:
        contest.put(_key(f"rate-{row}"), landscape.suggest_rate(st.session_state[_key(f"optimizer-{row}")]))

    with st.container(key=_key("racers"), gap="xsmall"):
        for place, row in enumerate(contest.rows):
            mark, left, right, out = st.columns([1, 6, 5, 2], vertical_alignment="center", gap="xsmall")
            mark.html(f'<span style="color:{figures.COLOURS[place]}" title="in the pictures">{MARKS[place]}</span>')
            optimizer = left.selectbox(
                f"Optimizer {place + 1}",
                RACERS,
                key=contest.held(_key(f"optimizer-{row}")),
                label_visibility="collapsed",
                on_change=suggest,
                args=(row,),
                help="Choosing one sets a learning rate that suits it here.",
            )
            rate = contest.ask_number(
                right,
                f"Learning rate {place + 1}",
                _key(f"rate-{row}"),
                step=None,
                format="%.6g",
                label_visibility="collapsed",
                help="Its learning rate.",
            )
            is_last = len(contest.rows) == 1
            if out.button("✕", key=_key(f"out-{row}"), type="tertiary", disabled=is_last, help="Leaves the race."):
                contest.rows.remove(row)
                st.rerun()
            found.append((optimizer, rate))
    is_full = len(contest.rows) >= MOST_RACERS
    if st.button("Add a racer", key=_key("add"), disabled=is_full, help=f"Up to {MOST_RACERS}."):
        taken = {optimizer for optimizer, _ in found}
        name = next((one for one in RACERS if one not in taken), RACERS[0])
        row, contest.made = contest.made, contest.made + 1
        contest.rows.append(row)
        contest.choices |= {_key(f"optimizer-{row}"): name, _key(f"rate-{row}"): landscape.suggest_rate(name)}
        st.rerun()
    return found


# -- pictures ------------------------------------------------------------------------------------------


def show_pictures(contest: Contest) -> None:
    """The race on map and surface, the loss of each racer, and who arrived first."""
    if contest.stage() is not None:
        lives = st.fragment(_show_pictures, run_every=choose_beat() if contest.is_running else None)
        lives(contest)


def _show_pictures(contest: Contest) -> None:
    if contest.is_running:
        keep_beat(_key("pictures"))
        if contest.take():
            st.rerun()
    scene, race, height = contest.scene, contest.asked, choose_height(HEIGHT)
    tracks = contest.tracks(_choose_step(contest))
    goal = choose_goal(race.landscape, tracks, seen=scene.lowest)
    with st.container(key=_key("result")):
        st.markdown(f"**{explain_race(tracks, goal)}**")
    paths = {name: _thin_path(track.points) for name, track in tracks.items()}
    flat = {name: [point[:2] for point in path] for name, path in paths.items()}
    left, right = st.columns(2, gap="small") if scene.surface is not None else (st.container(), None)
    with left:
        moved = figures.move_race(scene.map_ranges, flat)
        options = {"traces": moved, "growing": list(moved)[:-1]}
        clicked = show_plot(scene.map, key=_key("map"), testid="map-chart", height=height, **options)
        if clicked is not None:
            contest.moved = tuple(float(f"{number:.3g}") for number in (clicked.x, clicked.y))
            contest.moved = contest.moved[: len(race.landscape.variables)]
            st.rerun()
    if right is not None:
        with right:
            moved = figures.move_race_surface(scene.spans, paths)
            options = {"traces": moved, "growing": list(moved)[:-1]}
            show_plot(scene.surface, key=_key("surface"), testid="surface-chart", height=height, **options)
    _show_losses(race, tracks, height - 80)
    if contest.is_running:
        await_sent()


def _thin_path(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    # What was drawn of a path stays where it is: only its end is new.
    stride = -(-len(points) // MOST_PATH) or 1
    return [*points[:-1:stride], *points[-1:]]


def _show_losses(race: Race, tracks: Mapping[str, Track], height: int) -> None:
    has_log = all(loss > 0 for one in tracks.values() for loss in one.losses)
    is_log = has_log and st.session_state.get(_key("log"), True)
    thinned = [thin(Curve(list(range(len(one.losses))), one.losses), MOST_POINTS) for one in tracks.values()]
    curves = {name: (curve.x, curve.y) for name, curve in zip(_tell_racers(race.racers), thinned, strict=True)}
    plain = figures.plot_losses(curves, log=is_log, x_title="step").to_plotly_json()
    for trace in plain["data"]:
        trace["x"] = trace["y"] = []
    streams = {number: (curve.x, curve.y) for number, curve in enumerate(thinned)}
    show_plot(plain, key=_key("losses"), testid="loss-chart", height=height, streams=streams)
    told = "A straight line then means a constant rate." if has_log else "Losses of 0 and less have no logarithm."
    st.toggle("Log scale", key=_key("log"), value=True, disabled=not has_log, help=told)


def _choose_step(contest: Contest) -> int | None:
    """Which step the pictures show: the last while the race goes on, any when it has ended."""
    with st.container(key="position"):
        count = -(-contest.history.passes // contest.together)
        if contest.is_running or count < 2:
            share, text = tell_position(contest, "step")
            st.progress(share, text=text)
            return None
        if st.session_state.get(_key("seen")) != contest.count:
            st.session_state[_key("seen")], st.session_state[_key("step")] = contest.count, count
        st.session_state[_key("step")] = min(st.session_state.get(_key("step"), count), count)
        return st.slider(f"Step, of {count:,}", 1, count, key=_key("step"), help="Look back at any step.") - 1
