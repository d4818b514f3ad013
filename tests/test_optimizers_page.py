"""The optimizers page as Streamlit builds it: its program, its race, and what it says to odd input."""

import json
import math
import time
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.landscape import LANDSCAPES
from explorer.race import MOST_RACERS, Racer, write_race
from explorer.ui.race import FIRST, FIRST_RACERS, OWN, Contest


class Page:
    """The page of one visitor: what a person does, and what they then see."""

    def __init__(self, speed: str = "all") -> None:
        self.test = AppTest.from_file("../app.py", default_timeout=60).run()
        self.test.session_state["race-speed"] = speed
        self.test.switch_page("pages/optimizers.py").run()
        self.finish()

    @property
    def contest(self) -> Contest:
        return self.test.session_state["contest"]

    @property
    def program(self) -> str:
        """The program that is shown; Streamlit cuts its last newline."""
        (shown,) = [code.value for code in self.test.code if code.language == "python"]
        return shown + "\n"

    @property
    def errors(self) -> list[str]:
        return [error.value for error in self.test.error]

    @property
    def result(self) -> str:
        """Who arrived first."""
        return self.test.markdown[1].value

    def check(self) -> None:
        """No exception may have reached the page."""
        assert [element.value for element in self.test.exception] == []

    def run(self) -> None:
        self.test.run()
        self.check()

    def finish(self) -> None:
        """Wait for the end of the race, as the page does by itself in a browser."""
        self.check()
        end = time.monotonic() + 60
        while self.contest.is_running:
            assert time.monotonic() < end
            time.sleep(0.05)
            self.run()

    def widgets(self) -> list[Any]:
        test = self.test
        return [*test.selectbox, *test.number_input, *test.toggle, *test.text_input, *test.slider]

    def set(self, **values: Any) -> None:
        """Change controls, by the last part of their keys (_ for -), and wait for the end of what runs then."""
        for name, value in values.items():
            keys = (f"race-{name}", f"race-{name.replace('_', '-')}")
            (widget,) = [one for one in self.widgets() if one.key in keys]
            widget.set_value(value)
            self.run()
        self.finish()

    def press(self, name: str) -> None:
        self.test.button(key=f"race-{name}").click()
        self.run()
        self.finish()

    def chart(self, key: str) -> dict[str, Any]:
        """What the plot with that key was given at last."""
        told = self.test.session_state[f"race-{key}-told"]
        grown = {number: stream.columns for number, stream in told.streams.items()}
        return {"streams": grown} | {name: part for name, (_, part) in told.parts.items()}


@pytest.fixture(scope="module")
def shared_page() -> Page:
    """One visitor for tests that choose their landscape themselves."""
    return Page()


def suggested(name: str, *optimizers: str) -> list[Racer]:
    return [Racer(one, LANDSCAPES[name].suggest_rate(one)) for one in optimizers]


def test_first_look_is_a_finished_race() -> None:
    page = Page("20")
    assert not page.contest.is_running and page.contest.count == 1
    assert page.program == write_race(LANDSCAPES[FIRST], suggested(FIRST, *FIRST_RACERS))
    assert page.errors == []
    assert "SGD arrived first, after 44 steps" in " ".join(text.value for text in page.test.markdown)
    components = [element.proto for element in page.test.get("bidi_component")]
    shown = [json.loads(proto.json)["testid"] for proto in components if proto.component_name == "explorer.plot"]
    assert sorted(shown) == ["loss-chart", "map-chart", "surface-chart"]
    for number, track in enumerate(page.contest.tracks().values()):
        assert track.steps == list(range(100))
        assert len(page.chart("map")["streams"][str(number + 2)]["x"]) == 100


def test_every_control_has_a_stable_key_and_a_help_of_one_line(shared_page: Page) -> None:
    shared_page.set(landscape=OWN)
    for widget in [*shared_page.widgets(), *shared_page.test.button]:
        assert widget.key and widget.key.startswith(("race-", "large")), widget
        assert widget.help and "\n" not in widget.help, widget.key


@pytest.mark.parametrize("name", LANDSCAPES)
def test_every_landscape_is_raced_with_what_suits_it(shared_page: Page, name: str) -> None:
    shared_page.set(landscape=OWN)
    shared_page.set(landscape=name)
    landscape = LANDSCAPES[name]
    assert shared_page.program == write_race(landscape, suggested(name, *FIRST_RACERS))
    assert shared_page.contest.recording.status == "ok"
    assert shared_page.errors == []
    assert shared_page.contest.history.passes == 3 * landscape.steps
    charts = {json.loads(one.proto.json).get("testid") for one in shared_page.test.get("bidi_component")}
    assert ("surface-chart" in charts) == (landscape.y_range is not None)


def test_numbers_are_those_of_plain_pytorch(shared_page: Page) -> None:
    shared_page.set(landscape=FIRST)
    shared_page.set(steps=15, start_x=3.0, start_y=-1.5)
    plain: dict[str, Any] = {}
    exec(shared_page.program, plain)
    tracks = shared_page.contest.tracks()
    for suffix, track in zip(("sgd", "momentum", "adam"), tracks.values(), strict=True):
        assert track.points[0] == (3.0, -1.5, track.losses[0])
        assert track.losses[-1] == plain[f"loss_{suffix}"].item()
    left = {one.name: one.value.values for one in shared_page.contest.recording.variables if one.kind == "tensor"}
    assert left["x_adam"] == plain["x_adam"].item()


def test_racers_come_and_go(shared_page: Page) -> None:
    page = shared_page
    page.set(landscape="Quadratic bowl")
    page.set(optimizer_1="AdamW")
    assert page.contest.race.racers[1] == Racer("AdamW", LANDSCAPES["Quadratic bowl"].suggest_rate("AdamW"))
    page.set(rate_1=0.05)
    assert "lr_adamw = 0.05\n" in page.program
    for count in range(4, MOST_RACERS + 1):
        page.press("add")
        assert len(page.contest.race.racers) == count and page.errors == []
    assert page.test.button(key="race-add").disabled
    assert {racer.optimizer for racer in page.contest.race.racers} >= {"Momentum", "Nesterov", "RMSprop"}
    assert len(page.chart("map")["figure"]["data"]) == MOST_RACERS + 3
    while len(page.contest.rows) > 1:
        page.press(f"out-{page.contest.rows[-1]}")
    assert page.test.button(key="race-out-0").disabled
    assert [racer.optimizer for racer in page.contest.race.racers] == ["SGD"]
    for name in ("Momentum", "Adam"):
        page.press("add")
        row = page.contest.rows[-1]
        page.test.selectbox(key=f"race-optimizer-{row}").set_value(name)
        page.run()
    page.finish()


def test_any_step_can_be_looked_back_at(shared_page: Page) -> None:
    shared_page.set(landscape=FIRST)
    shared_page.set(step=1)
    traces = shared_page.chart("map")["traces"]
    assert traces["5"] == {"x": [-7.0, -7.0, -7.0], "y": [2.0, 2.0, 2.0]}
    shared_page.set(step=100)


def test_own_function_is_raced(shared_page: Page) -> None:
    shared_page.set(landscape=OWN)
    shared_page.set(function="x**2 + 3 * torch.cos(y)")
    assert "    return x**2 + 3 * torch.cos(y)\n" in shared_page.program
    assert shared_page.contest.recording.status == "ok" and shared_page.errors == []
    shared_page.set(x_low=-1.0, start_x=0.5)
    assert shared_page.chart("map")["figure"]["layout"]["xaxis"]["range"] == [-1.0, 3.0]
    shared_page.set(x_low=-3.0, function="(x - 1) ** 2")
    assert "def f(x):" in shared_page.program
    assert shared_page.chart("map")["figure"]["layout"]["yaxis"]["title"]["text"] == "f(x)"


def test_label_names_the_variables_of_the_function_that_is_typed(shared_page: Page) -> None:
    shared_page.set(landscape=OWN)
    for function, label in (("(x - 1) ** 2", "f(x) ="), ("x**2 + y**2", "f(x, y) ="), ("2x", "f(x, y) =")):
        shared_page.set(function=function)
        assert shared_page.test.text_input(key="race-function").label == label


def test_logarithm_of_a_negative_number_is_said_with_its_place(shared_page: Page) -> None:
    shared_page.set(landscape=FIRST)
    shared_page.set(landscape=OWN)
    shared_page.set(function="torch.log(x)", start_x=-2.0)
    said = " ".join(text.value for text in shared_page.test.markdown)
    assert "The function has no value at the start, x = -2: it is nan there" in said
    shared_page.set(start_x=1.0)
    said = " ".join(text.value for text in shared_page.test.markdown)
    assert "left the domain of the function after" in said and "arrived first" not in said


EMPTIED = [(name, number) for name in ("start_x", "rate_0", "x_low") for number in (None, math.inf)]


# A browser lets no whole number be infinite.
@pytest.mark.parametrize(("name", "number"), [*EMPTIED, ("steps", None)])
def test_emptied_box_holds_again_what_it_held(shared_page: Page, name: str, number: float | None) -> None:
    page = shared_page
    page.set(landscape=FIRST)
    page.set(landscape=OWN)
    count, program = page.contest.count, page.program
    keys = (f"race-{name}", f"race-{name.replace('_', '-')}")
    (before,) = [one.value for one in page.test.number_input if one.key in keys]
    page.set(**{name: number})
    (after,) = [one.value for one in page.test.number_input if one.key in keys]
    assert before == after is not None
    assert (page.contest.count, page.program, page.errors) == (count, program, [])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("function", "2x + y", "Python cannot read the function"),
        ("function", "x = 3", "Type the expression alone"),
        ("function", "", "There is no function"),
        ("function", "sin(x) + y", "'sin' is not known here: write torch.sin"),
        ("function", "torch.nosuch(x) + y", "The function does not run. Refused: module 'torch' has no attribute"),
        ("function", "torch.stack([x, y]).sum()", "The function must give one number for each x and y"),
        ("function", "__import__('os')", "'__import__' is not known"),
        ("function", "3.0", "The function does not depend on x or y"),
        ("x_low", 9.0, "The range of x is empty"),
        ("steps", 0, "The number of steps must lie between 1 and 10,000, got 0."),
        ("steps", -3, "The number of steps must lie between"),
        ("rate_0", -1.0, "The learning rate must not be negative"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_lost(shared_page: Page, name: str, value: Any, said: str) -> None:
    page = shared_page
    page.set(landscape=FIRST)
    page.set(landscape=OWN)
    page.set(function="x**2 + y**4")
    count, program, figure = page.contest.count, page.program, page.chart("map")["figure"]
    page.set(**{name: value})
    assert len(page.errors) == 1 and page.errors[0].startswith(said)
    assert (page.contest.count, page.program, page.chart("map")["figure"]) == (count, program, figure)
    shown = {one.key for one in page.widgets()}
    assert {"race-start_x", "race-start_y", "race-steps"} <= shown
    assert len([key for key in shown if key.startswith("race-rate-")]) == 3
    assert page.test.text_input(key="race-function").value == (value if name == "function" else "x**2 + y**4")
    page.set(**{name: {"function": "x**2 + y**4", "x_low": -3.0, "steps": 100, "rate_0": 0.01}[name]})
    assert page.errors == []


def test_who_runs_away_is_said_and_the_chart_stays_readable(shared_page: Page) -> None:
    shared_page.set(landscape=FIRST)
    shared_page.set(rate_0=1e9)
    said = " ".join(text.value for text in shared_page.test.markdown)
    assert "SGD ran away: the loss became inf or nan. Lower the learning rate." in said
    assert "arrived first" in said and shared_page.errors == []
    layout = shared_page.chart("losses")["figure"]["layout"]
    assert layout["yaxis"]["type"] == "linear" and layout["yaxis"]["range"][1] < 1e3
    shared_page.set(rate_0=0.0)
    assert shared_page.errors == []


def test_program_opens_in_explore() -> None:
    page = Page()
    program = page.program
    page.test.button(key="race-open").click().run()
    page.check()
    assert page.test.session_state["session"].source == program


def test_choices_and_race_outlive_another_page() -> None:
    page = Page()
    page.set(landscape=OWN)
    page.set(function="x**2 + 5 * y**2", start_x=1.0, optimizer_0="RMSprop", rate_0=0.02)
    program, count = page.program, page.contest.count
    page.test.switch_page("pages/about.py").run()
    page.test.switch_page("pages/optimizers.py").run()
    page.check()
    assert (page.program, page.contest.count) == (program, count)


def test_a_race_is_held_stepped_and_stopped() -> None:
    page = Page("5")
    page.test.button(key="race-one").click()
    page.run()
    end = time.monotonic() + 20

    def await_passes(count: int) -> None:
        while page.contest.history.passes != count:
            assert time.monotonic() < end
            time.sleep(0.02)

    await_passes(1)
    page.test.button(key="race-one").click()
    page.run()
    await_passes(4)
    assert page.contest.is_running and page.contest.pace.is_held
    for _ in range(2):
        page.contest.stop()
    page.run()
    assert not page.contest.is_running and page.contest.recording.problem.type == "Stopped"
    assert page.contest.history.passes == 4
