"""A run at a chosen speed: every pass is looked at, and what its reader does acts on the very next."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from explorer.program import Program
from explorer.runner import Run, Runner
from explorer.ui.pace import Pace, PacedTraining, start_paced
from explorer.ui.training import LATE, SETTLING

AT_ONCE = 1e6

SOURCE = """\
w = torch.tensor(1.0, requires_grad=True)
lr = 0.01
for epoch in range({passes}):
    loss = (w - 3) ** 2
    loss.backward()
    with torch.no_grad():
        w -= lr * w.grad
    w.grad.zero_()
"""


def start(runner: Runner, passes: int, rate: float | None, *, is_held: bool = False) -> tuple[Run, Pace]:
    runs: list[Run] = []

    def begin() -> Run:
        for run in runs:
            run.stop()
        runs.append(runner.start(Program(SOURCE.format(passes=passes)), full=range(400)))
        return runs[-1]

    pace = start_paced(begin, rate, is_held=is_held)
    return runs[-1], pace


def await_that(true: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def stand(run: Run) -> int:
    """The number of passes once it does not change any more."""
    before = -1
    while run.history.passes != before:
        before = run.history.passes
        time.sleep(0.3)
    return before


def test_every_pass_of_a_paced_run_is_looked_at(runner: Runner) -> None:
    run, _ = start(runner, 150, AT_ONCE)
    recording = run.recording()
    assert recording.status == "ok"
    w, grad = run.history.values["w"], run.history.grads["w"]
    assert w.x == grad.x == list(range(150))
    assert grad.y == pytest.approx([2 * (value - 3) for value in w.y], rel=1e-5)


def test_a_run_keeps_its_pace(runner: Runner) -> None:
    run, _ = start(runner, 21, 40)
    began = time.monotonic()
    assert run.recording().status == "ok"
    assert time.monotonic() - began >= 0.45


def test_a_held_run_stands_and_makes_the_passes_that_it_is_told_to(runner: Runner) -> None:
    run, pace = start(runner, 1_000, 100, is_held=True)
    await_that(lambda: run.history.passes == 1)
    assert pace.is_held and stand(run) == 1
    pace.step()
    await_that(lambda: run.history.passes == 2)
    pace.step(3)
    await_that(lambda: run.history.passes == 5)
    assert stand(run) == 5
    pace.go_on()
    await_that(lambda: run.history.passes > 20)
    pace.hold()
    count = stand(run)
    assert count < 1_000 and not run.is_done
    pace.set_rate(None)
    assert stand(run) == count
    pace.go_on()
    assert run.recording().status == "ok"


def test_two_calls_of_one_click_make_one_step(runner: Runner) -> None:
    run, pace = start(runner, 1_000, 100, is_held=True)
    await_that(lambda: run.history.passes == 1)
    training = PacedTraining(run=run, pace=pace)
    for _ in range(2):
        training.make_one(0)
    await_that(lambda: run.history.passes == 2)
    assert stand(run) == 2
    training.make_one(1)
    await_that(lambda: run.history.passes == 3)
    for is_held in (False, True):
        training.set_hold(is_held)
        training.set_hold(is_held)
        assert pace.is_held == is_held
    run.stop()


def test_a_run_that_stands_too_long_says_who_ended_it(runner: Runner) -> None:
    limits = replace(runner.limits, pause_seconds=0.5)
    run = runner.start(Program(SOURCE.format(passes=100_000)), limits=limits)
    await_that(lambda: run.history.passes > 0)
    run.pause()
    problem = run.recording().problem
    assert problem.type == "PauseLimit"
    assert problem.message == "the run stood paused for more than 0.5 s, and the server ended it"
    assert "EXPLORER_PAUSE_SECONDS" in problem.hint and "server ended it" in problem.explanation
    told = runner.start(Program(SOURCE.format(passes=100_000)))
    await_that(lambda: told.history.passes > 0)
    told.pause()
    await_that(lambda: told.is_paused)
    told.stop()
    assert told.recording().problem.type == "Stopped"


def test_a_knob_acts_before_the_next_pass_whatever_the_run_does(runner: Runner) -> None:
    run, pace = start(runner, 400, 100)
    for number in range(1, 6):
        await_that(lambda number=number: run.history.passes >= 10 * number)
        run.set_knob("lr", number / 100)
    pace.hold()
    stand(run)
    run.set_knob("lr", 0.5)
    pace.go_on()
    pace.set_rate(AT_ONCE)
    recording = run.recording()
    assert [event["value"] for event in recording.knob_events] == [0.01, 0.02, 0.03, 0.04, 0.05, 0.5]
    values = run.history.values["w"].y
    rate, events = 0.01, {event["pass"]: event["value"] for event in recording.knob_events}
    for index in range(len(values) - 1):
        rate = events.get(index, rate)
        # The update after the backward() of a pass is the first that reads what was set before the next.
        rate = events.get(index + 1, rate)
        assert values[index + 1] == pytest.approx(values[index] - rate * 2 * (values[index] - 3), rel=1e-4)


def test_a_run_let_free_is_fast_and_can_be_slowed(runner: Runner) -> None:
    run, pace = start(runner, 100_000, None)
    await_that(lambda: run.history.passes > 300)
    pace.set_rate(20)
    await_that(lambda: run.is_paused)
    count = run.history.passes
    time.sleep(0.5)
    assert run.history.passes - count <= 20
    run.stop()
    assert run.recording().problem.type == "Stopped"
    assert len(run.history.loss.x) == run.history.passes


def test_stopping_twice_and_telling_a_run_that_has_ended_is_nothing(runner: Runner) -> None:
    run, pace = start(runner, 1_000, 20, is_held=True)
    await_that(lambda: run.history.passes == 1)
    run.stop()
    run.stop()
    assert run.recording().problem.type == "Stopped"
    for act in (pace.hold, pace.step, pace.go_on, lambda: pace.set_rate(None)):
        act()


def test_what_a_widget_held_a_moment_ago_is_told_late() -> None:
    training = PacedTraining()
    training.expect_late("number", 0.1)
    assert training.is_told_late("number", 0.1)
    assert not training.is_told_late("number", 0.2) and not training.is_told_late("slider", 0.1)
    training.late["number", 0.1] -= LATE
    assert not training.is_told_late("number", 0.1)


def show_box() -> None:
    import streamlit as st

    from explorer.ui.training import Training

    training = st.session_state.setdefault("training", Training())
    st.text_input("Name", key=training.offer("name", "Ada"))


def test_a_value_of_ours_is_told_again_until_a_slow_browser_has_it() -> None:
    app = AppTest.from_function(show_box).run()
    box = app.text_input[0]
    assert (box.value, box.proto.set_value) == ("Ada", True)
    assert app.run().text_input[0].proto.set_value
    app.text_input[0].input("Grace").run()
    assert app.text_input[0].value == "Grace"
    app.session_state["training"].given["name"] -= SETTLING
    assert not app.run().text_input[0].proto.set_value
    assert app.text_input[0].value == "Grace"
