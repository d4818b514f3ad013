"""The pages that train, in a real browser: pictures that move while a run goes on, and what its reader does then."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser import Visit

pytest_plugins = ("browser",)

APP = Path(__file__).parents[1] / "app.py"


@pytest.fixture(scope="module")
def address(serve_app: Callable[[Path], str]) -> str:
    return serve_app(APP)


def go_to(visit: "Visit", title: str) -> None:
    """By the navigation: for an address with a path Streamlit looks for the server there first, and logs that."""
    visit.page.set_default_timeout(60_000)
    visit.page.get_by_role("link", name=title).click()
    for chart in ("map-chart", "surface-chart", "loss-chart"):
        drawn(visit, chart, "plot.data.length > 0")


def drawn(visit: "Visit", chart: str, test: str, given: object = None) -> None:
    """Wait until ``test``, a JavaScript expression of ``plot`` (plotly's own node) and ``given``, is true."""
    visit.page.wait_for_function(
        "([chart, given, test]) => { const plot = document.querySelector(`[data-testid=${chart}] .js-plotly-plot`);"
        f" return plot?.data && ({test}); }}",
        arg=[chart, given, test],
        timeout=60_000,
    )


def read(visit: "Visit", chart: str, what: str) -> object:
    return visit.page.get_by_test_id(chart).evaluate(
        f"root => {{ const plot = root.querySelector('.js-plotly-plot'); return {what}; }}"
    )


def press(visit: "Visit", key: str) -> None:
    visit.page.locator(f".st-key-{key} button:not(:disabled)").first.click()


def choose_speed(visit: "Visit", key: str, name: str) -> None:
    visit.page.locator(f".st-key-{key}-speed button", has_text=name).first.click()


def await_rest(visit: "Visit") -> int:
    """How many passes are drawn once a run stands and its pictures have caught up."""
    visit.page.wait_for_function(
        """() => {
            const told = document.querySelector('.st-key-position').innerText;
            const plot = document.querySelector('[data-testid=loss-chart] .js-plotly-plot');
            const count = plot.data[0].x.length;
            const isSame = window.countLast === count;
            window.countLast = count;
            return isSame && Number(/Pass ([0-9]+) of 1,000, standing/.exec(told)?.[1]) === count;
        }""",
        polling=700,
    )
    return read(visit, "loss-chart", "plot.data[0].x.length")


def program(visit: "Visit", key: str) -> str:
    return visit.page.locator(f".st-key-{key}-program").inner_text()


def test_the_line_moves_while_it_trains_and_a_dragged_rate_acts_at_once(
    address: str, open_page: Callable[..., "Visit"]
) -> None:
    visit = open_page(address)
    go_to(visit, "Linear regression")
    drawn(visit, "loss-chart", "plot.data[0].x.length === 100")
    drawn(visit, "map-chart", "plot.data[2].x.length === 100")
    choose_speed(visit, "linreg", "5")
    # Long enough for a slow machine; another number of epochs runs at once.
    epochs = visit.page.locator(".st-key-linreg-epochs input")
    epochs.fill("1000")
    epochs.press("Enter")
    visit.page.locator(".st-key-linreg-program", has_text="epochs = 1000").wait_for()
    drawn(visit, "loss-chart", "plot.data[0].x.length < 50")
    press(visit, "linreg-begin")
    drawn(visit, "loss-chart", "plot.data[0].x.length < 50")
    for _ in range(3):
        line = read(visit, "fit-chart", "plot.data[3].y[0]")
        count = read(visit, "loss-chart", "plot.data[0].x.length")
        drawn(visit, "fit-chart", "plot.data[3].y[0] !== given", line)
        drawn(visit, "map-chart", "plot.data[2].x.length > given", count)
        drawn(visit, "loss-chart", "plot.data[0].x.length > given", count)
    slider = visit.page.locator(".st-key-linreg-rate-slider [role=slider], .st-key-linreg-rate-slider input").first
    slider.focus()
    for _ in range(8):
        slider.press("ArrowRight")
    # The mark of the moment, the text of the program and the step that is written out tell the same new rate.
    drawn(
        visit,
        "loss-chart",
        "(() => { const told = (key) => document.querySelector(key).innerText;"
        " const rate = /learning_rate = (.*)/.exec(told('.st-key-linreg-program'))[1];"
        " return rate > 0.02 && plot.layout.annotations?.at(-1)?.text === `learning_rate = ${rate}`"
        " && told('.st-key-linreg-step').includes(`- ${rate} * `); })()",
    )
    press(visit, "linreg-pause")
    visit.page.locator(".st-key-position", has_text="standing").wait_for()
    count = await_rest(visit)
    press(visit, "linreg-one")
    drawn(visit, "loss-chart", "plot.data[0].x.length === given + 1", count)
    assert await_rest(visit) == count + 1
    press(visit, "linreg-stop")
    visit.page.locator(".st-key-linreg-pass").wait_for()
    assert read(visit, "loss-chart", "plot.data[0].x.length") == count + 1
    assert visit.page.locator("[data-testid=stException]").count() == 0


def test_racers_move_and_a_click_on_the_map_is_another_start(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_page(address)
    go_to(visit, "Optimizers")
    drawn(visit, "map-chart", "plot.data[2].x.length === 100 && plot.data[4].x.length === 100")
    choose_speed(visit, "race", "5")
    steps = visit.page.locator(".st-key-race-steps input")
    steps.fill("1000")
    steps.press("Enter")
    visit.page.locator(".st-key-race-program", has_text="steps = 1000").wait_for()
    press(visit, "race-begin")
    drawn(visit, "map-chart", "plot.data[2].x.length < 50")
    for _ in range(3):
        place, count = read(visit, "map-chart", "[plot.data[5].x, plot.data[2].x.length]")
        drawn(visit, "map-chart", "plot.data[5].x.every((x, racer) => x !== given[racer])", place)
        drawn(visit, "surface-chart", "plot.data[1].x.length > given", count)
        drawn(visit, "loss-chart", "plot.data[2].x.length > given", count)
    press(visit, "race-stop")
    visit.page.locator(".st-key-race-step").wait_for()
    before = program(visit, "race")
    box = visit.page.get_by_test_id("map-chart").locator(".nsewdrag").first.bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.2)
    visit.page.wait_for_timeout(500)
    visit.page.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.2)
    drawn(visit, "map-chart", "plot.data[5].x[0] > 0 && plot.data[5].y[0] > 0")
    assert program(visit, "race") != before and "start_x = -7.0" in before
    assert visit.page.locator("[data-testid=stException]").count() == 0


@pytest.mark.parametrize("title", ["Linear regression", "Optimizers"])
def test_narrow_and_dark_stack_the_same_page(address: str, open_page: Callable[..., "Visit"], title: str) -> None:
    visit = open_page(address, color_scheme="dark")
    go_to(visit, title)
    visit.page.set_viewport_size({"width": 390, "height": 844})
    places = [".st-key-drive", ".st-key-pictures", ".st-key-choices"]
    visit.page.wait_for_function(
        "places => { const tops = places.map((place) => document.querySelector(place).getBoundingClientRect());"
        " return tops.every(({ left, right }) => left >= 0 && right <= 390)"
        " && tops[0].bottom <= tops[1].top && tops[1].bottom <= tops[2].top; }",
        arg=places,
    )
    drawn(visit, "map-chart", "plot.clientWidth <= 390")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
