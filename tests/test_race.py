"""Races as real programs: every racer goes as it would alone, and who arrived first is known."""

import ast
import math

import pytest

from explorer.history import Curve
from explorer.landscape import LANDSCAPES, Landscape, parse_landscape
from explorer.program import Program, find_knobs
from explorer.race import (
    MOST_RACERS,
    RACERS,
    Racer,
    Track,
    choose_goal,
    explain_race,
    find_arrivals,
    name_racers,
    read_race,
    write_race,
)
from explorer.recording import Recording
from explorer.runner import Runner

ALL = list(LANDSCAPES.values())
IDS = list(LANDSCAPES)


def curves_of(recording: Recording) -> tuple[Curve, dict[str, Curve]]:
    """The loss and the values of the leaves as a History has them."""
    loss, values = Curve(), {}
    for one in recording.passes:
        loss.append(one.index, float(one.loss))
        for leaf in one.leaves:
            if leaf.variable is not None and leaf.value is not None:
                values.setdefault(leaf.variable, Curve()).append(one.index, float(leaf.value.values))
    return loss, values


def race(runner: Runner, landscape: Landscape, racers: list[Racer], **options: object) -> dict[str, Track]:
    """The tracks of a real run."""
    # On a busy machine not every pass is looked at unless it is asked for.
    recording = runner.run(Program(write_race(landscape, racers, **options)), full=range(400))
    assert (recording.status, recording.problem) == ("ok", None)
    return read_race(racers, *curves_of(recording), variables=landscape.variables)


@pytest.mark.parametrize("landscape", ALL, ids=IDS)
def test_every_racer_goes_down_and_arrives_where_there_is_a_minimum(runner: Runner, landscape: Landscape) -> None:
    racers = [Racer(name, landscape.suggest_rate(name)) for name in RACERS]
    tracks = race(runner, landscape, racers, steps=(steps := min(landscape.steps, 150)))
    assert list(tracks) == list(RACERS)
    goal = choose_goal(landscape, tracks)
    for name, track in tracks.items():
        assert len(track.losses) == steps
        assert all(map(math.isfinite, track.losses)), name
        assert min(track.losses) < 0.6 * track.losses[0], name
        assert track.points[0] == pytest.approx((*landscape.start, track.losses[0]))
    assert (goal is None) == (landscape.name == "Saddle")
    if landscape.name in ("Quadratic bowl", "Himmelblau", "Parabola", "Ravine"):
        assert any(step is not None for step in find_arrivals(tracks, goal).values())
    assert explain_race(tracks, goal)


def test_racers_do_not_disturb_each_other(runner: Runner) -> None:
    """Each goes bit for bit as it would alone: its gradient is its own."""
    beale = LANDSCAPES["Beale"]
    racers = [Racer("Adam", 0.05), Racer("Nesterov", 0.001), Racer("AdamW", 0.05), Racer("Adam", 0.2)]
    together = race(runner, beale, racers, steps=20)
    assert list(together) == ["Adam", "Nesterov", "AdamW", "Adam (2)"]
    for racer, track in zip(racers, together.values(), strict=True):
        (alone,) = race(runner, beale, [racer], steps=20).values()
        assert alone.losses == track.losses
        assert alone.points == track.points
        assert track.steps == list(range(20))


def test_one_that_runs_away_leaves_the_others_alone(runner: Runner) -> None:
    bowl = LANDSCAPES["Quadratic bowl"]
    tracks = race(runner, bowl, [Racer("SGD", 1e9), Racer("Adam", 0.1), Racer("SGD", 0.0)], steps=120)
    goal = choose_goal(bowl, tracks)
    assert math.isnan(tracks["SGD"].losses[-1])
    assert explain_race(tracks, goal).endswith("SGD ran away: the loss became inf or nan. Lower the learning rate.")
    assert explain_race(tracks, goal).startswith("Adam arrived first, after ")


def test_loss_belongs_to_the_line_of_its_racer(runner: Runner) -> None:
    """Passes of one racer come from one line, so that Explore draws a curve for each."""
    racers = [Racer(name, 0.01) for name in RACERS]
    source = write_race(LANDSCAPES["Saddle"], racers, steps=5)
    recording = runner.run(Program(source))
    lines = source.splitlines()
    for one in recording.passes:
        suffix = list(name_racers(racers))[one.index % len(racers)]
        assert lines[one.line - 1] == f"    loss_{suffix}.backward()"
        assert {leaf.variable for leaf in one.leaves} == {f"x_{suffix}", f"y_{suffix}"}


def test_rates_start_and_steps_are_knobs() -> None:
    racers = [Racer("SGD", 0.1), Racer("Momentum", 0.02), Racer("SGD", 0.2), Racer("AdamW", 1)]
    source = write_race(LANDSCAPES["Ravine"], racers, start=(1, -2), steps=7)
    found = {name: knob.value for name, knob in find_knobs(ast.parse(source)).items()}
    rates = {"lr_sgd": 0.1, "lr_momentum": 0.02, "lr_sgd_2": 0.2, "lr_adamw": 1.0}
    assert found == rates | {"start_x": 1, "start_y": -2, "steps": 7, "momentum": 0.9, "weight_decay": 0.01}
    assert source == write_race(LANDSCAPES["Ravine"], racers, start=(1, -2), steps=7)


def test_program_runs_in_plain_python(capsys: pytest.CaptureFixture[str]) -> None:
    racers = [Racer(name, 0.05) for name in RACERS]
    for landscape in (LANDSCAPES["Beale"], LANDSCAPES["Parabola"], parse_landscape("x * math.pi + torch.cos(y)")):
        exec(compile(write_race(landscape, racers, steps=3), "<plain>", "exec"), {"__name__": "__main__"})
        assert len(capsys.readouterr().out.splitlines()) == len(RACERS)


@pytest.mark.parametrize(
    ("racers", "options", "message"),
    [
        ([], {}, "1 to 8 optimizers, got 0"),
        ([Racer("SGD", 0.1)] * (MOST_RACERS + 1), {}, "got 9"),
        ([Racer("SGD", 0.1)], {"steps": 0}, "number of steps"),
        ([Racer("SGD", 0.1)], {"steps": 10**6}, "number of steps"),
        ([Racer("SGD", 0.1)], {"start": (1.0,)}, "a number for x and y, got 1"),
        ([Racer("SGD", 0.1)], {"start": (1.0, math.inf)}, "start must be a finite number"),
    ],
)
def test_race_that_cannot_be_run_is_refused(racers: list[Racer], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_race(LANDSCAPES["Saddle"], racers, **options)


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("SGD by hand", 0.1, "choose SGD instead"),
        ("SGD", math.nan, "learning rate must be a finite number"),
        ("Adam", -1.0, "learning rate must not be negative"),
        ("Lion", 0.1, "no optimizer named"),
    ],
)
def test_racer_that_cannot_race_is_refused(name: str, rate: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Racer(name, rate)


def test_arrival_counts_only_where_one_stays() -> None:
    tracks = {"a": Track([9, 0, 9, 0, 0]), "b": Track([9, 9, 0, 9]), "c": Track([0.0]), "d": Track()}
    assert find_arrivals(tracks, 0.5) == {"a": 3, "b": None, "c": 0, "d": None}
    assert set(find_arrivals(tracks, None).values()) == {None}


def test_goal_of_an_own_function_is_the_least_that_was_seen() -> None:
    own = parse_landscape("x**2 + y - y")
    tracks = {"a": Track([100.0, 1.0, 1.0]), "b": Track([100.0, math.nan])}
    assert choose_goal(own, tracks) == pytest.approx(1 + 99e-4)
    assert choose_goal(own, tracks, seen=0.0) == pytest.approx(100e-4)
    assert choose_goal(own, tracks, seen=math.nan) == pytest.approx(1 + 99e-4)
    assert choose_goal(own, {"a": Track()}) is None
    assert choose_goal(own, {"a": Track([math.inf, 1.0])}) is None


def test_nobody_arrives_where_an_own_function_falls_without_end() -> None:
    own = parse_landscape("x + y")
    falling = {
        "SGD": Track([4.0 - step for step in range(100)]),
        "Adam": Track([4.0 - step / 9 for step in range(100)]),
    }
    assert choose_goal(own, falling) is None
    assert choose_goal(own, falling, seen=-6.0) is None
    assert explain_race(falling, None) == "No minimum to arrive at was found; SGD is lowest at -95."
    assert choose_goal(own, {"SGD": Track([4.0, 4.0, 4.0, -math.inf])}) is None
    assert explain_race({"SGD": Track([4.0, -math.inf])}, None) == "SGD fell without end: the loss became -inf."


def test_who_leaves_the_domain_is_told_with_its_step_and_place() -> None:
    tracks = {
        "SGD": Track([1.0, 0.2, math.nan, math.nan], [0, 1, 2, 3], [(2.0, 1.0), (1.0, 0.2), (-0.5, math.nan)]),
        "Adam": Track([1.0, 0.5, 0.5]),
    }
    tracks["SGD"].points.append((math.nan, math.nan))
    assert (
        "SGD left the domain of the function after 2 steps: at x = -0.5 it is nan, as the logarithm or the square root "
        "of a negative number is. Lower its learning rate, or choose another start." in explain_race(tracks, 0.5)
    )
    start = Track([math.nan], [0], [(-2.0, 3.0, math.nan)])
    assert explain_race({"SGD": start, "Adam": start}, None).startswith(
        "The function has no value at the start, x = -2, y = 3: it is nan there"
    )
    far = Track([1.0, math.nan], [0, 1], [(2.0, 1.0), (1e9, math.nan)])
    assert explain_race({"SGD": far}, None).startswith("SGD ran away")


def test_sentence_says_who_was_first_and_who_followed() -> None:
    tracks = {"SGD": Track([9, 0, 0]), "Adam": Track([9, 9, 0]), "AdamW": Track([9, 0, 0])}
    assert explain_race(tracks, 1.0) == "SGD and AdamW arrived first, after 1 step; Adam after 2."
    assert explain_race({"SGD": Track([9.0, 4.0])}, 1.0) == "Nobody has arrived; SGD is lowest at 4."
    assert explain_race({"SGD": Track([9.0, -4.0])}, None) == "No minimum to arrive at was found; SGD is lowest at -4."
    assert explain_race({"SGD": Track()}, None) == "Nobody has moved yet."
    assert explain_race({"SGD": Track([math.nan])}, None).startswith("SGD ran away")


def test_half_told_race_is_read_as_far_as_it_goes() -> None:
    """Losses come with every pass, values with some; a point needs both of its leaves and its loss."""
    racers = [Racer("SGD", 0.1), Racer("Adam", 0.1)]
    values = {"x_sgd": Curve([0, 2, 6], [1.0, 2.0, 3.0]), "y_sgd": Curve([2, 6], [5.0, 6.0])}
    tracks = read_race(racers, Curve([0, 1, 2], [10.0, 20.0, 30.0]), values)
    assert tracks == {"SGD": Track([10.0, 30.0], [1], [(2.0, 5.0, 30.0)]), "Adam": Track([20.0], [], [])}


def test_who_went_through_the_lowest_place_and_rose_again_has_found_a_minimum() -> None:
    own = parse_landscape("x**2 + y**2", start=(-2.0, 2.0))
    passing = {"a": Track([8.0, 1.0, 1e-7, 0.5, 0.9, 0.7])}
    assert choose_goal(own, passing) == pytest.approx(8e-4, rel=1e-2)
    assert choose_goal(own, {"a": Track([8.0, 4.0, 2.0, 1.0, 0.5, 0.2])}) is None
