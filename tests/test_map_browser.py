"""Heat maps in a real browser: the inspector paints the gradients of a run that asked for maps, cell by cell."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser import Visit

pytest_plugins = ("browser",)

SCRIPT = '''
import streamlit as st
from explorer.program import Program
from explorer.ui.graph import show_graph
from explorer.ui.session import Session

SOURCE = """\\
w = torch.arange(-100.0, 100.0).reshape(10, 20)
w[9, 19] = torch.nan
w.requires_grad_()
layer = nn.Linear(20, 30)
loss = (w ** 2).sum() + layer(torch.rand(50, 20)).sum()
loss.backward()
"""

if "session" not in st.session_state:
    session = st.session_state["session"] = Session()
    session.start(Program(SOURCE), full=[0], maps=st.query_params.get("maps") != "no")
session = st.session_state["session"]
if session.is_running:
    session.run.wait()
    session.take()
st.title(session.recording.status)
show_graph(session.view(session.picture(), large=False), key="graph", height=400)
'''

READ_PIXELS = """canvas => {
    const [width, height] = [canvas.width, canvas.height];
    const data = [...canvas.getContext("2d").getImageData(0, 0, width, height).data];
    const cells = Array.from({ length: width * height }, (_, cell) => cell);
    return { width, height, colours: cells.map((cell) => data.slice(4 * cell, 4 * cell + 4)) };
}"""

BLUE, ORANGE, GREY = (0, 114, 178), (213, 94, 0), (80, 80, 80)


@pytest.fixture(scope="module")
def address(serve_app: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    script = tmp_path_factory.mktemp("harness") / "harness.py"
    script.write_text(SCRIPT, "utf-8")
    return serve_app(script)


def open_graph(address: str, open_page: Callable[..., "Visit"], **options: object) -> "Visit":
    visit = open_page(address, **options)
    visit.page.locator("[data-node-id]").first.wait_for(timeout=60_000)
    return visit


def select(visit: "Visit", text: str) -> None:
    visit.page.get_by_test_id("step-last").click()
    visit.page.get_by_test_id("graph").locator("svg text", has_text=text).first.click()


def colour_of(value: float, limit: float) -> list[int]:
    """The colour of a cell, from what the map is said to be."""
    share = abs(round(value / limit * 127)) / 127
    return [round(255 + (part - 255) * share) for part in (BLUE if value > 0 else ORANGE)] + [255]


def test_a_gradient_is_painted_cell_by_cell(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_graph(address, open_page)
    select(visit, "w (10, 20)")
    canvas = visit.page.get_by_test_id("inspector").locator("canvas").first
    shown = canvas.evaluate(READ_PIXELS)
    assert (shown["width"], shown["height"]) == (20, 10)
    # The gradient of w ** 2 is 2 w, which runs from -200 to 196.
    expected = [colour_of(2.0 * value, 200.0) for value in range(-100, 99)] + [[*GREY, 255]]
    for found, wanted in zip(shown["colours"], expected, strict=True):
        assert found == pytest.approx(wanted, abs=1)
    assert shown["colours"][0] == [*ORANGE, 255] and shown["colours"][100] == [255] * 4


def test_a_map_says_what_it_shows(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_graph(address, open_page)
    select(visit, "w (10, 20)")
    inspector = visit.page.get_by_test_id("inspector")
    told = inspector.inner_text()
    assert "10 x 20 cells of (10, 20), full colour 200" in told
    assert "1 cell with nan or inf" in told
    alternative = inspector.locator("canvas").first.get_attribute("aria-label")
    assert "Heat map of (10, 20)" in alternative and "orange negative" in alternative and "nan" in alternative
    size = inspector.locator("canvas").first.bounding_box()
    assert size["width"] > 100 and size["height"] > 50


def test_maps_follow_the_steps_and_nothing_else_moves(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_graph(address, open_page)
    page, inspector = visit.page, visit.page.get_by_test_id("inspector")
    page.get_by_test_id("step-first").click()
    boxes, counts = set(), []
    for _ in range(int(page.get_by_test_id("step-slider").get_attribute("max"))):
        page.get_by_test_id("step-next").click()
        counts.append(inspector.locator("canvas").count())
        boxes.add(tuple(page.locator(".explorer-graph").bounding_box().values()))
    assert len(boxes) == 1
    assert 0 in counts and max(counts) >= 2


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, {"width": 390}], ids=["light", "dark", "phone"])
def test_a_map_fits_its_panel_in_a_frame(address: str, open_page: Callable[..., "Visit"], options: dict) -> None:
    visit = open_graph(address, open_page, **options)
    select(visit, "w (10, 20)")
    inspector = visit.page.get_by_test_id("inspector")
    canvas = inspector.locator("canvas").first
    style = canvas.evaluate("canvas => { const style = getComputedStyle(canvas); return { ...style }; }")
    assert (style["imageRendering"], style["borderTopWidth"]) == ("pixelated", "1px")
    assert inspector.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    inner, outer = canvas.bounding_box(), inspector.bounding_box()
    assert outer["x"] <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]


def test_nodes_are_named_after_their_layer(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_graph(address, open_page)
    select(visit, "layer: AddmmBackward0")
    assert "to layer: TBackward0" in visit.page.get_by_test_id("inspector").inner_text()


def test_a_run_that_did_not_ask_has_no_canvas(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_graph(f"{address}/?maps=no", open_page)
    select(visit, "w (10, 20)")
    inspector = visit.page.get_by_test_id("inspector")
    assert "mean" in inspector.inner_text() and inspector.locator("canvas").count() == 0
    assert not visit.page.locator(".heat-key").is_visible()
