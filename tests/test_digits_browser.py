"""The digits page in a real browser: it trains, reads what is drawn meanwhile, shows the digits of a clicked cell."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser import Visit

pytest_plugins = ("browser",)

ROOT = Path(__file__).resolve().parents[1]
TWO = ((0.3, 0.25), (0.5, 0.18), (0.7, 0.3), (0.6, 0.5), (0.45, 0.65), (0.3, 0.8), (0.5, 0.8), (0.75, 0.8))
GUESS = "Array.from(document.querySelectorAll('[data-testid=guess] [data-share]'), row => Number(row.dataset.share))"
PLOT = "document.querySelector('[data-testid=%s] .js-plotly-plot')"


@pytest.fixture(scope="module")
def address(serve_app: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        # On a machine that never downloaded MNIST, whatever the tests run on.
        patch.setenv("EXPLORER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("EXPLORER_DATA", raising=False)
        return serve_app(ROOT / "app.py")


@pytest.fixture
def visit(address: str, open_page: Callable[..., "Visit"]) -> "Visit":
    """The page with its first network trained."""
    visit = open_page(address)
    visit.page.set_default_timeout(60_000)
    visit.page.get_by_role("link", name="Digits").click()
    visit.page.locator(".st-key-position", has_text="75 passes done").wait_for()
    return visit


def wait_for(visit: "Visit", chart: str, what: str) -> None:
    """Wait until ``what`` is so of a chart's ``plot``."""
    visit.page.wait_for_function(f"() => {{ const plot = {PLOT % chart}; return plot?.data && {what}; }}")


def read_guess(visit: "Visit") -> list[float]:
    """The ten probabilities that are shown."""
    visit.page.wait_for_function(f"() => {GUESS}.length === 10")
    return visit.page.evaluate(GUESS)


def draw_two(visit: "Visit") -> None:
    paper = visit.page.get_by_test_id("canvas")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in TWO]
    visit.page.mouse.move(*points[0])
    visit.page.mouse.down()
    for point in points[1:]:
        visit.page.mouse.move(*point, steps=5)
    visit.page.mouse.up()


def press_view(visit: "Visit", name: str) -> None:
    visit.page.locator(".st-key-digits-view button", has_text=name).click()


def test_a_drawn_digit_is_read_and_the_paper_cleared(visit: "Visit") -> None:
    draw_two(visit)
    visit.page.locator(".st-key-digits-said", has_text="It reads a 2").wait_for()
    assert sum(read_guess(visit)) == pytest.approx(1, abs=1e-3)
    assert max(read_guess(visit)) == read_guess(visit)[2]
    assert visit.page.locator("img[alt='gradient of every pixel']").count() == 1
    visit.page.get_by_test_id("canvas").press("Delete")
    visit.page.locator(".st-key-digits-said", has_text="Draw a digit").wait_for()


def test_the_guess_changes_while_the_network_trains(visit: "Visit") -> None:
    draw_two(visit)
    visit.page.locator(".st-key-digits-said", has_text="It reads a 2").wait_for()
    visit.page.locator(".st-key-digits-speed button", has_text="5").first.click()
    visit.page.locator(".st-key-digits-begin button:not(:disabled)").first.click()
    wait_for(visit, "loss-chart", "plot.data[0].x.length > 0 && plot.data[0].x.length < 60")
    guesses = set()
    for _ in range(3):
        guess = read_guess(visit)[2]
        guesses.add(guess)
        changed = f"last => ((shares) => shares.length === 10 && shares[2] !== last)({GUESS})"
        visit.page.wait_for_function(changed, arg=guess)
    assert len(guesses) == 3
    assert visit.page.get_by_test_id("canvas").get_attribute("data-strokes") == "1"
    visit.page.locator(".st-key-digits-stop button:not(:disabled)").first.click()
    visit.page.locator(".st-key-position", has_text="Stopped after").wait_for()


def test_a_clicked_cell_shows_its_digits(visit: "Visit") -> None:
    press_view(visit, "Test digits")
    wait_for(visit, "confusion-chart", "plot.data[0].z.length === 10")
    # The diagonal is never empty: the zeros that are read as zeros.
    chart = visit.page.get_by_test_id("confusion-chart")
    chart.scroll_into_view_if_needed()
    spot = chart.evaluate(
        """root => {
            const plot = root.querySelector('.js-plotly-plot'), frame = plot.getBoundingClientRect();
            const { _offset: left, } = plot._fullLayout.xaxis, { _offset: top } = plot._fullLayout.yaxis;
            return [frame.x + left + plot._fullLayout.xaxis.d2p('0'), frame.y + top + plot._fullLayout.yaxis.d2p('0')];
        }"""
    )
    visit.page.mouse.move(*spot)
    visit.page.wait_for_timeout(200)
    visit.page.mouse.click(*spot)
    visit.page.get_by_text("and are read as a").wait_for()
    captions = visit.page.get_by_test_id("digits").locator("figcaption").all_inner_texts()
    assert captions and all(caption.startswith("0 ✓") for caption in captions)
    visit.page.get_by_role("button", name="All digits").click()
    visit.page.get_by_text("Wrong ones first").wait_for()


def test_every_view_shows_its_picture(visit: "Visit") -> None:
    press_view(visit, "Layers")
    wait_for(visit, "layers-chart", "plot.data.length === 6")
    press_view(visit, "Weights")
    image = visit.page.get_by_test_id("weights").locator("img")
    image.wait_for()
    assert image.evaluate("image => image.naturalWidth") > 100
    press_view(visit, "One step")
    visit.page.get_by_test_id("graph").locator("svg text", has_text="model.layer1.weight").wait_for()
    visit.page.get_by_test_id("step-next").click()
    visit.page.get_by_test_id("step-sentence").wait_for()
    assert visit.page.locator("[data-testid=stException]").count() == 0
