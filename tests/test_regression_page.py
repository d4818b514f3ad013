"""The linear regression page as Streamlit builds it: its program, its numbers, and what it says to odd input."""

import json
import math
import time
from array import array
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from explorer.history import KnobEvent
from explorer.narrate import format_number
from explorer.regression import PRESETS, write_program
from explorer.ui.regression import OWN, Study, _defaults, _find_near, find_moment

FIRST, SECOND = PRESETS


class Page:
    """The page of one visitor: what a person does, and what they then see."""

    def __init__(self, speed: str = "all") -> None:
        self.test = AppTest.from_file("../app.py", default_timeout=60).run()
        self.test.session_state["linreg-speed"] = speed
        self.test.switch_page("pages/linear_regression.py").run()
        self.finish()

    @property
    def study(self) -> Study:
        return self.test.session_state["study"]

    @property
    def program(self) -> str:
        """The program that is shown."""
        (shown,) = [code.value for code in self.test.code if code.language == "python"]
        return shown + "\n"

    @property
    def errors(self) -> list[str]:
        return [error.value for error in self.test.error]

    @property
    def step(self) -> str:
        """The update that is written out."""
        (table,) = [text.value for text in self.test.markdown if text.value.startswith("| leaf")]
        return table

    def check(self) -> None:
        """No exception may have reached the page."""
        assert [element.value for element in self.test.exception] == []

    def run(self) -> None:
        self.test.run()
        self.check()

    def finish(self) -> None:
        """Wait for the end of the run, as the page does by itself in a browser."""
        self.check()
        end = time.monotonic() + 60
        while self.study.is_running:
            assert time.monotonic() < end
            time.sleep(0.05)
            self.run()

    def set(self, **values: Any) -> None:
        """Change controls, by the last part of their keys, and wait for the end of what runs then."""
        for name, value in values.items():
            (widget,) = [one for one in self.widgets() if one.key == f"linreg-{name}"]
            widget.set_value(value)
            self.run()
        self.finish()

    def widgets(self) -> list[Any]:
        test = self.test
        return [*test.selectbox, *test.number_input, *test.toggle, *test.text_area, *test.slider, *test.select_slider]

    def reset(self) -> None:
        """Bring every control back to what the first data bring, in one go where that is possible."""
        defaults = _defaults(PRESETS[FIRST])
        if self.study.choices["linreg-data"] == FIRST:
            for widget in self.widgets():
                if widget.key in defaults and widget.value != defaults[widget.key]:
                    widget.set_value(defaults[widget.key])
            self.run()
            self.set_rate(PRESETS[FIRST].learning_rate)
            self.finish()
        if self.errors or self.program != write_program(PRESETS[FIRST]) or not self.is_at_rest:
            self.set(data=SECOND)
            self.set(data=FIRST)

    @property
    def is_at_rest(self) -> bool:
        """Whether the run that is shown is a whole one of the program that is shown."""
        study = self.study
        return study.program.source == self.program and study.history.passes == 100 and not study.knobs

    def set_rate(self, rate: float | None) -> None:
        """Type the learning rate."""
        (widget,) = [one for one in self.test.number_input if one.key.startswith("linreg-number")]
        widget.set_value(rate)
        self.run()

    def slide_rate(self, rate: float) -> None:
        (widget,) = [one for one in self.test.select_slider if one.key.startswith("linreg-slider")]
        widget.set_value(rate)
        self.run()

    def press(self, name: str) -> None:
        self.test.button(key=f"linreg-{name}").click()
        self.run()

    def chart(self, key: str) -> dict[str, Any]:
        """What the plot with that key was given at last."""
        told = self.test.session_state[f"linreg-{key}-told"]
        grown = {number: stream.columns for number, stream in told.streams.items()}
        return {"streams": grown} | {name: part for name, (_, part) in told.parts.items()}

    def texts(self) -> str:
        elements = [*self.test.markdown, *self.test.caption, *self.test.warning]
        return "\n".join(element.value for element in elements)


@pytest.fixture(scope="module")
def shared_page() -> Page:
    """One visitor for tests that say themselves where they begin."""
    return Page()


@pytest.fixture
def page(shared_page: Page) -> Page:
    shared_page.reset()
    return shared_page


def run_plainly(source: str) -> dict[str, Any]:
    """The globals of the program after plain Python has run it."""
    names: dict[str, Any] = {}
    exec(source, names)
    return names


def test_first_look_is_a_finished_training() -> None:
    page = Page("20")
    assert not page.study.is_running and page.study.count == 1
    assert page.study.history.passes == 100
    assert page.program == write_program(PRESETS[FIRST])
    assert page.errors == []
    assert "- 0.01 * " in page.step
    components = [element.proto for element in page.test.get("bidi_component")]
    shown = [json.loads(proto.json)["testid"] for proto in components if proto.component_name == "explorer.plot"]
    assert sorted(shown) == ["fit-chart", "loss-chart", "map-chart", "rates-chart", "surface-chart"]
    assert page.study.history.values["w"].x == list(range(100))


def test_every_control_has_a_stable_key_and_a_help_of_one_line(page: Page) -> None:
    page.set(optimizer="AdamW")
    for widget in [*page.widgets(), *page.test.button]:
        is_name_of_kept = widget.key and widget.key.startswith("linreg-kept")
        assert widget.key and widget.key.startswith(("linreg-", "large")), widget
        if not is_name_of_kept and not widget.key.startswith("linreg-curves"):
            assert widget.help and "\n" not in widget.help, widget.key


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("points", 20, "points = 20"),
        ("noise", 0.0, "noise = 0.0"),
        ("true_w", -1.5, "y = -1.5 * x + 2 +"),
        ("true_b", 0.0, "y = 3 * x + noise"),
        ("data_seed", 7, "torch.manual_seed(7)"),
        ("start_w", 5.0, "w = torch.tensor(5.0, requires_grad=True)"),
        ("start_b", -2.0, "b = torch.tensor(-2.0, requires_grad=True)"),
        ("epochs", 30, "epochs = 30"),
        ("batch_size", 25, "order = torch.randperm(points)"),
        ("loss", "L1", ".abs().mean()"),
        ("loss", "Huber", "huber_loss"),
        ("optimizer", "RMSprop", "torch.optim.RMSprop([w, b], lr=learning_rate)"),
        ("optimizer", "Nesterov", "nesterov=True"),
        ("forget_zero_grad", True, "are forgotten"),
    ],
)
def test_every_control_changes_the_program_and_runs_it(page: Page, name: str, value: Any, line: str) -> None:
    count = page.study.count
    assert line not in page.program
    page.set(**{name: value})
    assert line in page.program
    assert page.study.count == count + 1
    assert page.study.program.source == page.program
    assert page.study.recording.status == "ok"
    assert page.errors == []


@pytest.mark.parametrize("optimizer", ["SGD by hand", "Momentum", "Adam"])
def test_numbers_are_those_of_plain_pytorch(page: Page, optimizer: str) -> None:
    page.set(optimizer=optimizer, epochs=12, batch_size=40)
    plain = run_plainly(page.program)
    left = {one.name: one.value.values for one in page.study.recording.variables if one.name in ("w", "b", "loss")}
    assert left == {name: plain[name].item() for name in ("w", "b", "loss")}
    assert page.study.history.passes == 36
    assert page.study.history.loss.y[-1] == plain["loss"].item()


def test_the_step_that_is_written_out_is_the_one_that_was_taken(page: Page) -> None:
    page.set(epochs=5)
    x, y = (torch.tensor(numbers) for numbers in (page.study.scene.x, page.study.scene.y))
    for index in range(5):
        moment = find_moment(page.study, index)
        before = run_plainly(page.program.replace("epochs = 5", f"epochs = {index}").rsplit("\nprint", 1)[0])
        w, b = (before[name].detach().requires_grad_() for name in "wb")
        grads = torch.autograd.grad(((w * x + b - y) ** 2).mean(), [w, b])
        assert moment.values == {"w": w.item(), "b": b.item()}
        assert moment.grads == pytest.approx({"w": grads[0].item(), "b": grads[1].item()}, rel=1e-6)
        after = run_plainly(page.program.replace("epochs = 5", f"epochs = {index + 1}"))
        assert moment.after == {"w": after["w"].item(), "b": after["b"].item()}
    cells = page.step.splitlines()[-2].split("`")
    assert cells[1] == "w"
    assert cells[7] == f"{w.item():.4g} - 0.01 * ({grads[0].item():.4g}) = {after['w'].item():.4g}"


def test_any_pass_can_be_looked_back_at(page: Page) -> None:
    page.set(**{"pass": 1})
    assert "`0.3932`" in page.step
    assert page.chart("map")["traces"]["3"] == {"x": [pytest.approx(0.3931549)], "y": [0.0]}
    page.set(**{"pass": 50})
    assert len(page.chart("map")["streams"]["2"]["x"]) == len([i for i in page.study.history.values["w"].x if i < 50])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("epochs", 0, "The number of epochs must lie between 1 and 100,000, got 0."),
        ("epochs", -5, "The number of epochs must lie between 1 and 100,000, got -5."),
        ("batch_size", 0, "The batch size must lie between"),
        ("points", 0, "The number of points must lie between"),
        ("noise", -1.0, "The noise must not be below 0"),
        ("noise", 1e300, "The points are too large for float32"),
        ("true_w", 1e30, "The true w must be below"),
    ],
)
def test_what_cannot_be_is_said_and_the_last_run_stays(page: Page, name: str, value: Any, said: str) -> None:
    count, program = page.study.count, page.program
    page.set(**{name: value})
    assert len(page.errors) == 1 and page.errors[0].startswith(said)
    assert (page.study.count, page.program) == (count, program)
    assert "| `w` |" in page.step


@pytest.mark.parametrize("number", [None, math.inf])
def test_emptied_box_holds_again_what_it_held(page: Page, number: float | None) -> None:
    count, program = page.study.count, page.program
    names = ["start_w", "noise"] if number else ["start_w", "noise", "epochs", "batch_size", "points"]
    for name in names:
        before = page.test.number_input(key=f"linreg-{name}").value
        page.set(**{name: number})
        assert page.test.number_input(key=f"linreg-{name}").value == before is not None
    page.set_rate(number)
    (box,) = [one for one in page.test.number_input if one.key.startswith("linreg-number")]
    assert box.value == 0.01
    assert (page.study.count, page.program, page.errors) == (count, program, [])


@pytest.mark.parametrize("rate", [0.0, 1.2, 25.0, 0.0123])
def test_slider_stands_at_the_rate_that_was_typed(page: Page, rate: float) -> None:
    page.set_rate(rate)
    page.finish()
    (slider,) = [one for one in page.test.select_slider if one.key.startswith("linreg-slider")]
    assert slider.value == rate
    assert format_number(rate) in slider.options


def test_a_slider_that_left_the_page_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(rate=0.01)
    left = study.slider
    study.set_typed(0.1)
    monkeypatch.setattr("explorer.ui.regression.st.session_state", {left: 0.01, study.slider: 0.5})
    study.slide(left)
    assert study.rate == 0.1
    number = study.number
    study.slide(study.slider)
    assert study.rate == 0.5
    monkeypatch.setattr("explorer.ui.regression.st.session_state", {number: 0.1, study.number: 0.2})
    study.type_rate(number)
    assert study.rate == 0.5
    study.type_rate(study.number)
    assert study.rate == 0.2


def test_divergence_is_said_with_the_rate_of_the_pass_that_diverged(page: Page) -> None:
    page.study.regression = page.study.asked
    history = page.study.history
    history.loss.y[60:] = array("d", [math.inf] * 40)
    history.first_not_finite = 60
    history.knob_events[:] = [KnobEvent(50, "learning_rate", 2.0), KnobEvent(70, "learning_rate", 0.001)]
    page.run()
    assert "The loss became inf at pass 61: the learning rate 2 is above 2/L" in page.texts()


@pytest.mark.parametrize("rate", [math.nan, math.inf, -0.1, None])
def test_a_learning_rate_that_is_none_is_refused(page: Page, rate: float | None) -> None:
    count = page.study.count
    page.study.set_rate(rate)
    page.run()
    assert len(page.errors) == 1 and page.errors[0].startswith("The learning rate must")
    assert page.study.count == count and not page.study.is_running


def test_a_learning_rate_of_zero_stands_still(page: Page) -> None:
    page.set_rate(0.0)
    page.finish()
    assert set(page.study.history.loss.y) == {page.study.history.loss.y[0]}
    assert "- 0 * " in page.step


def test_a_learning_rate_far_too_large_diverges_and_that_is_said(page: Page) -> None:
    page.set_rate(1e9)
    page.finish()
    assert page.study.recording.status == "ok"
    assert "The loss became inf at pass 3: the learning rate 1e+09 is above 2/L = 0.9566" in page.texts()
    assert page.errors == []
    layout = page.chart("curves-plot")["figure"]["layout"]
    assert layout["yaxis"]["range"][1] < 1e3


def test_critical_rate_is_drawn_below_the_slider(page: Page) -> None:
    assert "2/L = 0.9566" in json.dumps(page.chart("rates"))
    assert "exact for the MSE of the full batch" in page.texts()
    page.set(optimizer="Adam")
    assert "2/L" not in json.dumps(page.chart("rates"))
    assert "Adam divides by the size of its gradients" in page.texts()


def test_slider_and_number_follow_each_other(page: Page) -> None:
    page.slide_rate(0.1)
    page.finish()
    assert "learning_rate = 0.1\n" in page.program
    (number,) = [one for one in page.test.number_input if one.key.startswith("linreg-number")]
    assert number.value == 0.1
    page.set_rate(0.3)
    page.finish()
    (slider,) = [one for one in page.test.select_slider if one.key.startswith("linreg-slider")]
    assert slider.value == pytest.approx(0.3, rel=0.06)
    page.run()
    assert "learning_rate = 0.3\n" in page.program


def test_own_points_are_read_and_trained(page: Page) -> None:
    page.set(data=OWN)
    assert page.study.regression is None and page.test.button(key="linreg-begin").disabled
    page.set(text="x;y\n0;1\n1;3\n2;5\n")
    assert page.errors == []
    assert "x = torch.tensor([0.0, 1.0, 2.0])" in page.program
    assert page.study.scene.best == pytest.approx((2.0, 1.0))
    # A click on a point takes it away, one beside it puts another.
    assert _find_near(page.study, 1.05, 3.1) == 1 and _find_near(page.study, 1.0, 4.5) is None
    count = page.study.count
    for text, said in (
        ("x,y\n1,2\n3,abc\n", "Row 3: y is 'abc', not a number"),
        ("1\n2\n", "Row 1 has no y"),
        ("1,2,3\n4,5,6\n", "Row 1 has 3 cells"),
        ("1,2\nnan,3\n", "not a finite number"),
        ("1,2\n" * 1_001, "There are 1,001 rows; at most 1,000"),
        ("1,2\n" * 100_000, "The text has 400,000 characters"),
        ("1,2\n", "There is one point; a line needs at least 2"),
    ):
        page.set(text=text)
        assert len(page.errors) == 1 and said in page.errors[0]
        assert page.study.count == count and len(page.study.own) == 3
    page.set(text="1,1\n1,2\n1,6\n")
    assert page.errors == [] and "All x are 1" in page.texts()
    assert page.study.count == count + 1
    page.press("clear")
    page.finish()
    assert page.study.own == () and page.study.regression is None


def test_empty_canvas_offers_no_run_of_earlier_data(page: Page) -> None:
    page.press("kept-keep")
    page.set(data=OWN)
    page.study.own = ()
    page.run()
    assert page.study.regression is None and page.study.history.passes
    assert page.test.button(key="linreg-kept-keep").disabled
    (csv,) = [one.proto for one in page.test.get("download_button") if "linreg-kept-csv" in one.proto.id][:1]
    assert csv.disabled
    assert not [one for one in page.test.button if one.key == "linreg-kept-sweep"]
    page.study.kept.clear()


def test_own_points_are_in_their_box_after_a_visit_elsewhere() -> None:
    page = Page()
    page.set(data=OWN)
    text = "x,y\n0,1\n1,3\n2,5\n"
    page.set(text=text)
    page.test.switch_page("pages/about.py").run()
    page.test.switch_page("pages/linear_regression.py").run()
    page.check()
    assert page.test.text_area(key="linreg-text").value == text
    assert page.study.choices["linreg-data"] == OWN and len(page.study.own) == 3


def test_what_is_typed_on_the_way_to_another_page_is_not_lost() -> None:
    page = Page()
    page.set(data=OWN)
    text = "x,y\n0,1\n1,3\n2,5\n"
    page.test.text_area(key="linreg-text").set_value(text)
    page.test.number_input(key="linreg-epochs").set_value(30)
    page.test.switch_page("pages/about.py").run()
    page.test.switch_page("pages/linear_regression.py").run()
    page.finish()
    assert page.test.text_area(key="linreg-text").value == text
    assert len(page.study.own) == 3 and "epochs = 30" in page.program


def test_one_point_is_trained_with_a_warning(page: Page) -> None:
    page.set(data=OWN)
    page.study.own = ((1.0, 2.0),)
    page.run()
    page.finish()
    assert "With one point every line through it is as good" in page.texts()
    assert page.study.history.loss.y[-1] < page.study.history.loss.y[0]
    page.press("clear")


def test_run_that_is_kept_stays_beside_the_next(page: Page) -> None:
    page.press("kept-keep")
    page.set(optimizer="Adam")
    assert [run.name for run in page.study.kept] == ["SGD by hand, learning_rate 0.01"]
    assert [trace["name"] for trace in page.chart("curves-plot")["figure"]["data"]] == [
        "this run", "SGD by hand, learning_rate 0.01",
    ]  # fmt: skip
    page.study.kept.clear()


def test_several_rates_are_compared(page: Page) -> None:
    page.test.selectbox(key="linreg-kept-sweep-knob").set_value("learning_rate")
    page.run()
    page.test.text_input(key="linreg-kept-sweep-values-learning_rate").set_value("0.003, 0.03, 3")
    page.press("kept-sweep")
    end = time.monotonic() + 30
    while page.study.swept or page.study.sweep:
        assert time.monotonic() < end
        page.run()
    assert [run.knobs["learning_rate"] for run in page.study.kept] == [0.003, 0.03, 3]
    assert len(page.chart("curves-plot")["figure"]["data"]) == 4
    page.study.kept.clear()


def test_program_opens_in_explore() -> None:
    page = Page()
    program = page.program
    page.test.button(key="linreg-open").click().run()
    page.check()
    assert page.test.session_state["session"].source == program
    (editor,) = [one.proto for one in page.test.get("bidi_component") if one.proto.component_name == "explorer.editor"]
    assert json.loads(editor.json)["source"] == program


def test_choices_and_run_outlive_another_page() -> None:
    page = Page()
    page.set(optimizer="Momentum", epochs=40)
    page.set_rate(0.02)
    page.finish()
    program, count = page.program, page.study.count
    page.test.switch_page("pages/about.py").run()
    page.test.switch_page("pages/linear_regression.py").run()
    page.check()
    assert (page.program, page.study.count) == (program, count)


def await_pass(page: Page, index: int) -> None:
    end = time.monotonic() + 20
    while page.study.history.passes <= index:
        assert time.monotonic() < end and page.study.is_running
        time.sleep(0.01)


def test_learning_rate_acts_on_the_run_that_goes_on_and_other_controls_begin_anew() -> None:
    page = Page("20")
    page.press("begin")
    run, started = page.study.run, page.study.started
    await_pass(page, 4)
    page.slide_rate(0.1)
    assert page.study.run is run and "learning_rate = 0.1\n" in page.program
    await_pass(page, page.study.history.passes + 2)
    ((index, name, value),) = [(one.index, one.name, one.value) for one in run.history.knob_events]
    assert (name, value) == ("learning_rate", 0.1)
    page.run()
    assert "- 0.1 * " in page.step
    assert find_moment(page.study, index - 2).rate == 0.01
    assert find_moment(page.study, index - 1).rate == 0.1
    page.test.number_input(key="linreg-epochs").set_value(60)
    page.run()
    assert page.study.started == started + 1 and "epochs = 60" in page.program
    page.press("stop")
    page.study.stop()
    assert not page.study.is_running and page.study.recording.problem.type == "Stopped"
    assert page.study.history.passes > 0 and page.errors == []
    page.run()
    assert not page.study.is_running


def test_a_run_is_held_and_makes_one_pass_at_a_time() -> None:
    page = Page("20")
    page.press("one")
    await_pass(page, 0)
    page.run()
    assert page.study.is_running and page.study.history.passes == 1
    assert page.test.button(key="linreg-pause").label == "Go on"
    page.press("one")
    await_pass(page, 1)
    time.sleep(0.3)
    assert page.study.history.passes == 2
    page.press("pause")
    page.test.session_state["linreg-speed"] = "all"
    page.run()
    page.finish()
    assert page.study.history.passes == 100
