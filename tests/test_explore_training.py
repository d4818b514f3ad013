"""Training on the Explore page, as Streamlit builds it: knobs, curves, runs side by side, and what goes wrong."""

import csv
import io
import itertools
import math
import re
import time

import pytest
from test_explore_page import Page

from explorer.history import KnobEvent
from explorer.limits import Limits
from explorer.narrate import format_number
from explorer.program import Program
from explorer.runner import Run, Runner
from explorer.ui.training import ECHO, Training, is_learning_rate, tell_comparison, tell_progress

pytestmark = pytest.mark.filterwarnings("error")

LOOP = """\
learning_rate = 0.1
steps = 20
w = torch.tensor(1.0, requires_grad=True)
for step in range(steps):
    loss = (w - 3) ** 2
    loss.backward()
    with torch.no_grad():
        w -= learning_rate * w.grad
    w.grad = None
"""


@pytest.fixture
def page() -> Page:
    made = Page()
    made.submit(LOOP)
    return made


def losses(page: Page) -> list[float]:
    return [one.loss for one in page.session.recording.passes]


def descend(rate: float, steps: int = 20, start: float = 1.0) -> list[float]:
    """What the loop computes, in plain Python."""
    found, w = [], start
    for _ in range(steps):
        found.append((w - 3) ** 2)
        w -= rate * 2 * (w - 3)
    return found


def test_every_number_of_the_program_has_a_knob_that_says_what_it_does(page: Page) -> None:
    labels = {slider.key: slider.label for slider in page.test.select_slider}
    assert set(labels) == {"knob-learning_rate", "knob-steps", "knob-w"}
    assert "restarts" not in labels["knob-learning_rate"]
    assert "restarts" in labels["knob-steps"] and "start value" in labels["knob-w"]


def test_knob_at_rest_runs_the_program_again_from_the_start(page: Page) -> None:
    assert losses(page) == pytest.approx(descend(0.1), rel=1e-4)
    page.test.number_input(key="knob-learning_rate-number").set_value(0.3).run()
    page.finish()
    assert losses(page) == pytest.approx(descend(0.3), rel=1e-4, abs=1e-9)
    assert page.session.recording.program["knobs"] == {"learning_rate": 0.3}
    assert page.test.select_slider(key="knob-learning_rate").value == 0.3
    # The text is as it was until its reader wants it otherwise.
    assert page.session.source == LOOP


@pytest.mark.parametrize(("name", "number"), [("learning_rate", None), ("learning_rate", math.inf), ("steps", None)])
def test_emptied_box_leaves_its_knob_and_holds_it_again(page: Page, name: str, number: float | None) -> None:
    page.test.number_input(key="knob-learning_rate-number").set_value(0.3).run()
    page.finish()
    count, before = page.session.count, page.test.number_input(key=f"knob-{name}-number").value
    page.test.number_input(key=f"knob-{name}-number").set_value(number).run()
    page.finish()
    assert page.test.number_input(key=f"knob-{name}-number").value == before == page.session.values()[name]
    assert page.session.count == count and losses(page) == pytest.approx(descend(0.3), rel=1e-4, abs=1e-9)


def test_knob_that_was_moved_at_rest_can_be_written_into_the_program_at_once(page: Page) -> None:
    page.test.number_input(key="knob-learning_rate-number").set_value(0.3).run()
    page.finish()
    assert page.test.button(key="write-knobs").label == "Write learning\\_rate = 0.3 into the program"


def test_slider_of_a_rate_goes_up_by_equal_ratios(page: Page) -> None:
    options = [float(option) for option in page.test.select_slider(key="knob-learning_rate").options]
    assert options[0] <= 1e-3 and options[-1] >= 10
    ratios = [second / first for first, second in itertools.pairwise(options)]
    assert max(ratios) < 1.2


def test_start_value_and_count_of_steps_are_knobs_too(page: Page) -> None:
    page.test.number_input(key="knob-steps-number").set_value(5).run()
    page.finish()
    page.test.number_input(key="knob-w-number").set_value(-2.0).run()
    page.finish()
    assert losses(page) == pytest.approx(descend(0.1, 5, -2.0), rel=1e-4)


def test_moved_knobs_are_written_into_the_program_on_request(page: Page) -> None:
    page.test.number_input(key="knob-learning_rate-number").set_value(0.3).run()
    page.finish()
    page.test.button(key="write-knobs").click().run()
    page.finish()
    assert page.session.source == LOOP.replace("= 0.1", "= 0.3")
    assert page.session.knobs == {}
    assert losses(page) == pytest.approx(descend(0.3), rel=1e-4, abs=1e-9)


def test_number_that_is_typed_anew_takes_its_knob_along(page: Page) -> None:
    page.test.number_input(key="knob-learning_rate-number").set_value(0.3).run()
    page.finish()
    page.submit(LOOP.replace("= 0.1", "= 0.2"))
    assert losses(page) == pytest.approx(descend(0.2), rel=1e-4, abs=1e-9)
    assert page.test.number_input(key="knob-learning_rate-number").value == 0.2


def test_slider_of_a_rate_stays_where_it_is_whatever_the_text_says(page: Page) -> None:
    before = page.test.select_slider(key="knob-learning_rate").options
    page.submit(LOOP.replace("= 0.1", "= 0.2"))
    after = page.test.select_slider(key="knob-learning_rate").options
    assert (before[0], before[-1]) == (after[0], after[-1]) and len(after) <= len(before) + 1


def test_knob_that_the_run_did_not_hear_of_any_more_starts_it_again(page: Page) -> None:
    # As if it had been moved after the last pass and before the page heard of the end.
    page.session.knobs["learning_rate"] = 0.3
    page.test.run()
    page.finish()
    assert losses(page) == pytest.approx(descend(0.3), rel=1e-4, abs=1e-9)
    count = page.session.count
    page.test.run()
    assert page.session.count == count


def test_moved_knob_does_not_change_what_the_run_was_started_with(page: Page) -> None:
    page.session.begin(LOOP, "cpu", 0)
    page.session.knobs["learning_rate"] = 0.5
    assert page.session.program.knobs == {}


@pytest.mark.parametrize("name", ["lr", "learning_rate", "lr_sgd", "start_lr", "base_learning_rate"])
def test_learning_rates_are_known_by_their_names(name: str) -> None:
    assert is_learning_rate(name) and not is_learning_rate("dropout_rate")


def test_sweep_of_a_fraction_that_stands_at_zero_runs_fractions(page: Page) -> None:
    page.submit(LOOP.replace("torch.tensor(1.0", "torch.tensor(0.0"))
    page.test.selectbox(key="kept-sweep-knob").set_value("w").run()
    page.test.text_input(key="kept-sweep-values-w").set_value("-1.5, 0.5").run()
    page.test.button(key="kept-sweep").click().run()
    assert {run.program.knobs["w"] for _, run in page.session.swept} <= {-1.5, 0.5}
    names = {name for name, _ in [*page.session.swept, *page.session.sweep]} | {run.name for run in page.session.kept}
    assert names == {"w -1.5", "w 0.5"}


def test_second_comparison_takes_the_place_of_the_first(page: Page) -> None:
    slow = LOOP.replace("range(steps)", "range(steps * 10**6)")
    programs = [(str(number), Program(slow)) for number in range(3)]
    page.session.begin_comparison(programs)
    page.session.begin_comparison(programs[:2])
    share, text = tell_comparison(page.session)
    assert 0 <= share <= 1 and text.startswith("0 of 2 runs done")
    page.session.stop_sweep()


def test_kept_run_says_how_it_ended(page: Page) -> None:
    page.submit(LOOP + "print('at last', f'*{w.item():.2f}*')\n\n")
    page.test.button(key="kept-keep").click().run()
    page.check()
    end = f"20 passes, last loss {format_number(losses(page)[-1])}; printed last: at last *2.98*"
    assert end in [text.value for text in page.test.text]


def test_kept_run_stays_beside_the_next(page: Page) -> None:
    page.test.button(key="kept-keep").click().run()
    page.test.number_input(key="knob-learning_rate-number").set_value(0.3).run()
    page.finish()
    plot = page.component("plot")
    assert len(plot["streams"]) == 2
    assert [trace["name"] for trace in plot["figure"]["data"]] == ["this run", "learning_rate 0.1"]
    assert plot["streams"]["1"]["y"] == pytest.approx(descend(0.1), rel=1e-4)


def test_sweep_runs_every_value_and_keeps_each(page: Page) -> None:
    page.test.text_input(key="kept-sweep-values-learning_rate").set_value("0.01; 0.1, 0.3").run()
    page.test.button(key="kept-sweep").click().run()
    end = time.monotonic() + 20
    while page.session.sweep or page.session.swept:
        assert time.monotonic() < end
        time.sleep(0.1)
        share, text = tell_comparison(page.session)
        assert 0 <= share <= 1 and re.match("[0-3] of 3 runs done", text)
        page.session.advance_sweep()
    page.test.run()
    page.check()
    assert [text.value for text in page.test.text if text.value.startswith("20 passes, last loss ")]
    assert sorted(run.name for run in page.session.kept) == [
        "learning_rate 0.01",
        "learning_rate 0.1",
        "learning_rate 0.3",
    ]
    for run in page.session.kept:
        assert run.history.loss.y == pytest.approx(descend(run.knobs["learning_rate"]), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("text", ["", "a, b", "0.1, nan", "1e999", ",,,"])
def test_sweep_over_what_is_no_number_says_so(page: Page, text: str) -> None:
    page.test.text_input(key="kept-sweep-values-learning_rate").set_value(text).run()
    page.test.button(key="kept-sweep").click().run()
    page.check()
    assert any("0.003, 0.03, 0.3" in error.value for error in page.test.error)


def test_numbers_of_a_run_are_exact_in_its_file(page: Page) -> None:
    rows = list(csv.DictReader(io.StringIO(page.session.history.to_csv())))
    assert [float(row["loss"]) for row in rows] == losses(page)


def test_divergence_is_said_with_its_pass_and_the_rate(page: Page) -> None:
    page.submit(LOOP.replace("= 0.1", "= 3.0").replace("= 20", "= 200"))
    page.test.session_state["look"] = "training"
    page.test.run()
    page.check()
    first = next(one.index for one in page.session.recording.passes if one.loss in ("inf", "nan"))
    (warning,) = [warning.value for warning in page.test.warning]
    assert f"pass {first + 1}" in warning and "smaller learning rate than 3" in warning


def test_a_loss_that_never_was_a_number_is_not_blamed_on_the_steps(page: Page) -> None:
    source = "x = torch.tensor(-1.0, requires_grad=True)\nfor i in range(9):\n    torch.sqrt(x).backward()\n"
    page.submit(source)
    (warning,) = [warning.value for warning in page.test.warning]
    assert "at pass 1: it never was a number" in warning and "rate" not in warning


def test_a_loss_that_came_down_again_is_said_by_its_highest_pass(page: Page) -> None:
    source = LOOP.replace("loss = (w - 3) ** 2", "loss = (w - 3) ** 2 * (1e5 if step == 7 else 1.0)")
    page.submit(source.replace("= 0.1", "= 0.0001"))
    (warning,) = [warning.value for warning in page.test.warning]
    assert "by pass 8 with the learning rate 0.0001" in warning


def test_a_loss_that_grows_without_end_is_said_before_it_is_no_number(page: Page) -> None:
    page.submit(LOOP.replace("= 0.1", "= 1.05").replace("= 20", "= 60"))
    assert all(math.isfinite(loss) for loss in losses(page))
    (warning,) = [warning.value for warning in page.test.warning]
    assert warning.startswith("The loss grew from 4 to ") and "by pass 60 with the learning rate 1.05" in warning
    page.submit(LOOP)
    assert not page.test.warning


def test_divergence_is_said_with_the_rate_of_the_pass_that_diverged(page: Page) -> None:
    page.session.history.first_not_finite = 12
    page.session.history.knob_events[:] = [KnobEvent(5, "learning_rate", 2.0), KnobEvent(15, "learning_rate", 0.01)]
    page.session.knobs = {"learning_rate": 0.01}
    page.test.session_state["look"] = "training"
    page.test.run()
    (warning,) = [warning.value for warning in page.test.warning]
    assert "smaller learning rate than 2." in warning


def test_rate_of_passes_counts_running_time_only(runner: Runner) -> None:
    run = Run(runner, 1, Program(LOOP), Limits())
    run.history.passes, run.history.expected = 100, 200
    run.hear({"event": "paused", "pass": 99})
    run.started -= 20
    run._paused -= 10
    run.hear({"event": "resumed"})
    assert run.running_seconds == pytest.approx(10, abs=1)
    assert tell_progress(run).startswith("Pass 100 of 200, 10 passes/s, 10 s left, 10 s of")
    run.hear({"event": "paused", "pass": 99})
    run._paused -= 4
    assert run.running_seconds == pytest.approx(6, abs=1)


def test_click_that_is_handed_on_makes_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    training, now = Training(), 100.0
    monkeypatch.setattr("explorer.ui.training.time.monotonic", lambda: now)
    assert not training.is_echo()
    now += 0.9 * ECHO
    assert training.is_echo()
    now += 1.1 * ECHO
    assert not training.is_echo()


def test_program_without_backward_has_no_curve(page: Page) -> None:
    page.submit("x = 3\nfor step in range(100):\n    x = x + 1\n")
    assert not [one for one in page.test.get("bidi_component") if one.proto.component_name == "explorer.plot"]


def test_million_lines_are_cut_and_the_page_stays(page: Page) -> None:
    page.submit("for i in range(1_000_000):\n    print(i)\n")
    assert page.session.recording.status in ("ok", "limit")
    assert page.session.recording.stdout_truncated
    assert any("Only the first" in caption.value for caption in page.test.caption)


def test_text_that_is_no_python_has_no_knobs(page: Page) -> None:
    page.submit("learning_rate = 0.1\nfor\n")
    assert not [slider for slider in page.test.select_slider if slider.key.startswith("knob-")]
    assert page.session.recording.problem.type == "SyntaxError"


def test_stop_twice_and_stop_of_nothing_do_no_harm(page: Page) -> None:
    page.session.stop()
    page.session.stop()
    page.test.run()
    page.check()
    assert losses(page) == pytest.approx(descend(0.1), rel=1e-4)
