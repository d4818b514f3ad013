"""The programs of the linear regression page, run by the real runner and by plain Python."""

import ast
import contextlib
import io
import itertools
import math
from typing import Any

import pytest
from conftest import seed_programs

from explorer.check import check_program
from explorer.loss_surface import best_line, loss_at
from explorer.optimizers import OPTIMIZERS
from explorer.points import MOST_POINTS
from explorer.program import Program, find_knobs
from explorer.recording import Recording
from explorer.regression import LOSSES, PRESETS, Regression, write_program
from explorer.runner import Runner

BATCHES = (None, 20)
CHOICES = list(itertools.product(OPTIMIZERS, LOSSES, BATCHES, (False, True)))


def run_plainly(source: str) -> dict[str, Any]:
    """The variables of a program that plain Python runs."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source, "<plain>", "exec"), names)
    return names


def value_of(recording: Recording, name: str) -> Any:
    """The value of a variable that the recording holds whole."""
    return next(variable.value.values for variable in recording.variables if variable.name == name)


@pytest.mark.parametrize(("optimizer", "loss", "batch_size", "own"), CHOICES)
def test_every_choice_is_accepted_and_reaches_the_best_line(
    runner: Runner, optimizer: str, loss: str, batch_size: int | None, own: bool
) -> None:
    """Without noise the best line is the true one, for every loss and batch."""
    points = tuple((x / 10, 1.5 * x / 10 - 0.5) for x in range(-20, 21)) if own else ()
    rate = 0.02 if optimizer in ("Momentum", "Nesterov") else 0.05
    regression = Regression(
        points=60,
        noise=0.0,
        true_w=1.5,
        true_b=-0.5,
        own_points=points,
        learning_rate=rate,
        epochs=300 if batch_size is None else 100,
        batch_size=batch_size,
        optimizer=optimizer,
        loss=loss,
    )
    source = write_program(regression)
    recording = runner.run(Program(source))
    assert (recording.status, recording.problem) == ("ok", None)
    assert len(recording.passes) == regression.passes
    # L1 and what normalises its gradient end within a step or so of the line.
    room = 0.15 if loss == "L1" or OPTIMIZERS[optimizer].is_adaptive else 0.02
    assert value_of(recording, "w") == pytest.approx(1.5, abs=room)
    assert value_of(recording, "b") == pytest.approx(-0.5, abs=room)
    assert {leaf.variable for one in recording.passes for leaf in one.leaves} == {"w", "b"}
    plain = run_plainly(source)
    assert (plain["w"].item(), plain["b"].item()) == (value_of(recording, "w"), value_of(recording, "b"))
    x, y = plain["x"].tolist(), plain["y"].tolist()
    if batch_size is None:
        start = float(loss_at(x, y, 0.0, 0.0, loss=loss))
        assert recording.passes[0].loss == pytest.approx(start, rel=1e-5)
        assert best_line(x, y, loss=loss) == pytest.approx((1.5, -0.5), abs=1e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", BATCHES)
def test_forgotten_zero_grad_adds_the_gradients_up(runner: Runner, optimizer: str, batch_size: int | None) -> None:
    regression = Regression(
        optimizer=optimizer, batch_size=batch_size, forget_zero_grad=True, epochs=2, learning_rate=0.001
    )
    source = write_program(regression)
    code = "\n".join(line.partition("#")[0] for line in source.splitlines())
    assert "zero" in source
    assert "zero" not in code
    recording = runner.run(Program(source), full=[1])
    assert recording.status == "ok"
    steps = [step.accumulated for step in recording.passes[1].steps if step.accumulated is not None]
    assert len(steps) == 2
    assert all(step.before is not None and abs(step.after.values) > abs(step.before.values) for step in steps)


@pytest.mark.parametrize("entry", [one for one in seed_programs() if one.id in ("linreg100", "first_program", None)])
def test_presets_give_the_numbers_of_the_seeds(runner: Runner, entry: dict[str, Any]) -> None:
    preset = PRESETS[
        {"linreg100": "100 noisy points, b starts at 0", "first_program": "Learn y = 3x + 2 with noise"}[entry["id"]]
    ]
    ours, theirs = run_plainly(write_program(preset)), run_plainly(entry["code"])
    assert ours["x"].tolist() == theirs["X"].flatten().tolist()
    assert ours["y"].tolist() == theirs["y_true"].flatten().tolist()
    ours, theirs = (runner.run(Program(source)) for source in (write_program(preset), entry["code"]))
    assert len(ours.passes) == len(theirs.passes) == 100
    assert [one.loss for one in ours.passes] == pytest.approx([one.loss for one in theirs.passes], rel=1e-6)
    for name in ("w", "b"):
        assert value_of(ours, name) == pytest.approx(value_of(theirs, name)[0], rel=1e-6)


def test_program_is_deterministic_and_its_numbers_are_knobs() -> None:
    regression = Regression(optimizer="Nesterov", batch_size=10)
    source = write_program(regression)
    assert source == write_program(regression)
    knobs = {knob.name: knob.value for knob in find_knobs(ast.parse(source)).values()}
    expected = {"learning_rate": 0.1, "epochs": 100, "momentum": 0.9, "batch_size": 10, "points": 100, "noise": 0.5}
    assert knobs == expected | {"w": 0.0, "b": 0.0}
    assert "lr=learning_rate" in source
    assert "w = torch.tensor(0.0, requires_grad=True)" in source
    assert "with torch.no_grad():" in write_program(Regression())


@pytest.mark.parametrize("true_b", [2.0, -2.5, 0.0])
def test_true_line_is_written_as_one_writes_it(true_b: float) -> None:
    line = {2.0: "3 * x + 2 + noise", -2.5: "3 * x - 2.5 + noise", 0.0: "3 * x + noise"}[true_b]
    assert f"y = {line} * torch.randn(points)\n" in write_program(Regression(true_b=true_b))


def test_batch_not_smaller_than_the_points_is_the_full_batch() -> None:
    full = write_program(Regression(points=20))
    assert (
        full
        == write_program(Regression(points=20, batch_size=20))
        == write_program(Regression(points=20, batch_size=99))
    )
    assert Regression(points=20, batch_size=7, epochs=10).passes == 30
    assert Regression(own_points=((1.0, 2.0),), batch_size=1).is_full_batch


@pytest.mark.parametrize("noise", [0.1, 1e15 / 3, -1e-7])
def test_most_points_still_make_a_program_that_may_run(noise: float) -> None:
    pairs = tuple((-index - noise, -index / 3) for index in range(MOST_POINTS))
    source = write_program(Regression(own_points=pairs, batch_size=10, epochs=1))
    check_program(Program(source))
    assert max(map(len, source.splitlines())) <= 90


@pytest.mark.parametrize("rate", [0.0, 1e9, 1e30])
def test_extreme_rates_run_to_the_end(runner: Runner, rate: float) -> None:
    for optimizer in OPTIMIZERS:
        recording = runner.run(Program(write_program(Regression(learning_rate=rate, optimizer=optimizer, epochs=30))))
        assert (recording.status, len(recording.passes)) == ("ok", 30), recording.problem
        losses = [float(one.loss) for one in recording.passes]
        assert (losses == [losses[0]] * 30) == (rate == 0.0)
        if rate > 1 and not OPTIMIZERS[optimizer].is_adaptive:
            assert not math.isfinite(losses[-1])


@pytest.mark.parametrize("pairs", [((2.0, 3.0),), ((2.0, 3.0), (2.0, 5.0), (2.0, 1.0))])
def test_one_point_and_equal_x_run(runner: Runner, pairs: tuple[tuple[float, float], ...]) -> None:
    recording = runner.run(Program(write_program(Regression(own_points=pairs, learning_rate=0.05))))
    assert recording.status == "ok"
    assert 2 * value_of(recording, "w") + value_of(recording, "b") == pytest.approx(3.0, abs=1e-3)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epochs": 0}, "number of epochs must lie between 1 and 100,000, got 0"),
        ({"epochs": -5}, "got -5"),
        ({"epochs": 10.5}, "must be a whole number"),
        ({"epochs": 10**9}, "number of epochs"),
        ({"points": 0}, "number of points"),
        ({"points": 10**6}, "number of points must lie between 1 and 1,000, got 1,000,000"),
        ({"noise": -1.0}, "noise must not be below 0"),
        ({"noise": math.inf}, "noise must be a finite number"),
        ({"true_w": math.nan}, "true w must be a finite number"),
        ({"start_b": 1e30}, "start value of b must be below 1e\\+15"),
        ({"learning_rate": math.nan}, "learning rate must be a finite number, got nan"),
        ({"learning_rate": math.inf}, "learning rate must be a finite number"),
        ({"learning_rate": -0.1}, "learning rate must not be negative, got -0.1: such a step climbs the loss"),
        ({"batch_size": 0}, "batch size must lie between 1 and"),
        ({"data_seed": -1}, "seed of the data"),
        ({"optimizer": "Lion"}, "no optimizer named 'Lion'"),
        ({"loss": "BCE"}, "no loss named 'BCE'; choose one of MSE, L1, Huber"),
        ({"momentum": 1.0}, "momentum must be below 1"),
        ({"momentum": 0.0, "optimizer": "Nesterov"}, "Nesterov needs a momentum above 0"),
        ({"weight_decay": -0.1}, "weight decay must not be below 0"),
        ({"own_points": ((1.0, math.nan),)}, "y of point 1 must be a finite number"),
    ],
)
def test_bad_choice_is_refused_in_plain_words(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Regression(**choice)
