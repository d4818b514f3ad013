"""The live plot: what its messages say, and a real browser in which a curve grows."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from explorer.ui.plot import OVERLAP, _Told

if TYPE_CHECKING:
    from browser import Visit
    from playwright.sync_api import Locator

pytest_plugins = ("browser",)

MARKUP = "<img src=x onerror=window.hacked=1>"


class Reader:
    """What chart.js does with messages."""

    def __init__(self) -> None:
        self.token, self.version, self.parts, self.streams = "", 0, {}, {}

    def is_behind(self, message: dict[str, Any]) -> bool:
        if message["token"] != self.token:
            self.token, self.version, self.parts, self.streams = message["token"], 0, {}, {}
        return self.version < message["base"]

    def take_in(self, message: dict[str, Any]) -> None:
        self.version = message["version"]
        self.parts |= {name: message[name] for name in ("figure", "marks") if name in message}
        streams = {}
        for number in message["growing"]:
            streams[number] = self.streams.get(number, {})
            if number in message["streams"]:
                tail, before = message["streams"][number], streams[number]
                start = tail.pop("from")
                assert start <= len(before.get("x", []))
                streams[number] = {name: before.get(name, [])[:start] + new for name, new in tail.items()}
        self.streams = streams


@given(seed=st.integers(0, 10**6), skipped=st.lists(st.integers(0, OVERLAP + 2), max_size=25))
def test_a_reader_that_skips_messages_has_the_whole_or_knows_that_it_has_not(seed: int, skipped: list[int]) -> None:
    chance, told, reader = random.Random(seed), _Told(), Reader()
    x, y, figure = [], [], {"data": [1]}
    for count in skipped:
        for _ in range(count + 1):
            keep = chance.randrange(len(x) // 2, len(x) + 1)
            new = range(keep, keep + chance.randrange(9))
            x, y = x[:keep] + list(new), y[:keep] + [chance.random() for _ in new]
            figure = {"data": [chance.randrange(3)]}
            told.tell({"figure": figure, "marks": []}, {"0": {"x": x, "y": y}})
        message = json.loads(json.dumps(told.message))
        if reader.is_behind(message):
            assert count >= OVERLAP
            told.forget()
            told.tell({"figure": figure, "marks": []}, {"0": {"x": x, "y": y}})
            message = told.message
            assert not reader.is_behind(message)
        if message["version"] > reader.version:
            reader.take_in(message)
        assert reader.streams == {"0": {"x": x, "y": y}}
        assert reader.parts == {"figure": figure, "marks": []}


def test_a_message_holds_only_the_ends_of_long_streams() -> None:
    told, x = _Told(), list(range(2_000))
    for count in range(1_000, 2_000, 10):
        told.tell({"figure": {"data": list(range(500))}}, {"0": {"x": x[:count], "y": x[:count], "z": x[:count]}})
    assert told.message["streams"]["0"]["from"] == 1_990 - 10 * OVERLAP
    assert {name: len(told.message["streams"]["0"][name]) for name in "xyz"} == dict.fromkeys("xyz", 10 * OVERLAP)
    assert "figure" not in told.message


def test_nothing_new_is_the_same_message() -> None:
    told = _Told()
    told.tell({"figure": {}}, {"0": {"x": [1, 2], "y": [3, 4]}})
    before = told.message
    told.tell({"figure": {}}, {"0": {"x": [1, 2], "y": [3, 4]}})
    assert told.message is before


def test_a_stream_that_is_no_longer_given_is_dropped() -> None:
    told = _Told()
    told.tell({}, {"0": {"x": [1]}, "1": {"x": [1]}})
    told.tell({}, {"1": {"x": [1]}})
    assert told.message["growing"] == ["1"]


def show_odd_numbers(markup: str) -> None:
    from explorer.ui.plot import show_plot

    figure = {"data": [{"name": markup}, {"y": (1.0, float("inf"))}], "layout": {"template": {"layout": {}}}}
    show_plot(figure, key="odd", streams={0: ([0, 1], [float("nan"), 2.0])}, marks=[(1, markup)])


def test_what_is_not_finite_is_a_gap_and_markup_is_text() -> None:
    app = AppTest.from_function(show_odd_numbers, args=(MARKUP,)).run()
    assert not app.exception
    sent = json.loads(app.get("bidi_component")[0].proto.json)
    assert sent["streams"]["0"] == {"from": 0, "x": [0, 1], "y": [None, 2.0]}
    assert sent["figure"]["data"][1]["y"] == [1.0, None]
    assert sent["figure"]["layout"] == {}
    assert "<" not in sent["figure"]["data"][0]["name"] + sent["marks"][0][1]


SCRIPT = """
import json, math
import streamlit as st
from explorer.ui.plot import show_plot

state = st.session_state
state.setdefault("clicks", [])
state.setdefault("count", 100)
is_log = st.toggle("log")
is_shown = st.toggle("shown", value=True)
is_growing = st.toggle("growing", value=True)
grid = [each / 4 - 3 for each in range(24)]

@st.fragment(run_every=0.1)
def follow():
    state.count += 10 * is_growing
    x = list(range(state.count))
    loss = [1.5 + math.sin(each / 90) + each / 2000 for each in x]
    if is_shown:
        clicked = show_plot(
            {
                "data": [
                    {"type": "scatter", "mode": "lines", "name": "loss"},
                    {"type": "scatter", "mode": "lines", "name": "w" + %r},
                    {"type": "scatter", "mode": "lines", "name": "fit"},
                ],
                "layout": {
                    "xaxis": {"title": {"text": "pass"}}, "yaxis": {"type": "log" if is_log else "linear"},
                    "hovermode": "x",
                },
            },
            key="loss",
            testid="loss-chart",
            streams={0: (x, loss), 1: (x[::2], [1 + each / 4 for each in loss[::2]])},
            traces={2: {"x": [0, state.count], "y": [1, 2]}},
            marks=[(50, "lr = 0.1" + %r)],
        )
        if clicked:
            state.clicks.append([clicked.trace, clicked.x, clicked.y, clicked.point])
    st.code(json.dumps([state.count, state.clicks]), language=None)

follow()
show_plot(
    {"data": [{"type": "contour", "x": grid, "y": grid, "z": [[a * a + b * b for a in grid] for b in grid]}]},
    key="contour", testid="contour", height=240,
)
"""


@pytest.fixture(scope="module")
def address(serve_app: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    script = tmp_path_factory.mktemp("live") / "app.py"
    script.write_text(SCRIPT % (MARKUP, MARKUP), "utf-8")
    return serve_app(script)


@pytest.fixture
def visit(address: str, open_page: Callable[..., "Visit"]) -> "Visit":
    visit = open_page(address)
    chart(visit).and_(visit.page.locator("[data-version]")).wait_for(timeout=60_000)
    return visit


def chart(visit: "Visit") -> "Locator":
    return visit.page.get_by_test_id("loss-chart")


def drawn(visit: "Visit", test: str, argument: object = None) -> None:
    """Wait until ``test``, a JavaScript expression of ``plot`` (plotly's own node) and ``given``, is true."""
    visit.page.wait_for_function(
        "([given, test]) => { const plot = document.querySelector('[data-testid=loss-chart] .js-plotly-plot');"
        f" return plot && ({test}); }}",
        arg=[argument, test],
        timeout=20_000,
    )


def points(visit: "Visit") -> list[int]:
    return chart(visit).evaluate(
        "root => root.querySelector('.js-plotly-plot').data.map(trace => (trace.x ?? []).length)"
    )


def answer(visit: "Visit") -> list[Any]:
    return json.loads(visit.page.locator("[data-testid=stCode] code").inner_text())


def switch(visit: "Visit", name: str) -> None:
    visit.page.locator("[data-testid=stCheckbox] label", has_text=name).click()


def stop_growing(visit: "Visit") -> int:
    """How many passes there are in the end, once all are drawn."""
    switch(visit, "growing")
    visit.page.wait_for_function(
        """() => {
            const told = document.querySelector('[data-testid=stCode] code')?.innerText;
            if (!told) return false;
            const found = JSON.parse(told)[0];
            const plot = document.querySelector('[data-testid=loss-chart] .js-plotly-plot');
            const isSame = window.told === told && plot.data[0]?.x.length === found;
            window.told = told;
            return isSame;
        }""",
        polling=700,
        timeout=20_000,
    )
    return answer(visit)[0]


WATCH = """() => {
    const root = document.querySelector('[data-testid=loss-chart]');
    const [node, picture] = [root.querySelector('.drawing'), root.querySelector('.main-svg')];
    const seen = window.seen = { blank: 0, replaced: 0, frames: 0, drawn: 0, heights: [] };
    new MutationObserver(() => seen.drawn++).observe(root, { attributeFilter: ['data-version'] });
    const look = () => {
        seen.frames++;
        const now = document.querySelector('[data-testid=loss-chart]');
        const isSame = root.querySelector('.drawing') === node && root.querySelector('.main-svg') === picture;
        if (now !== root || !isSame) seen.replaced++;
        if ((root.querySelector('.js-line')?.getAttribute('d') ?? '').length < 100) seen.blank++;
        if (!seen.heights.includes(root.clientHeight)) seen.heights.push(root.clientHeight);
        requestAnimationFrame(look);
    };
    look();
}"""


def test_a_curve_grows_without_a_blank_frame_or_a_new_node(visit: "Visit") -> None:
    visit.page.evaluate(WATCH)
    before = points(visit)
    drawn(visit, "plot.data[0].x.length > given + 150", before[0])
    switch(visit, "log")
    drawn(visit, "plot._fullLayout.yaxis.type === 'log'")
    seen = visit.page.evaluate("window.seen")
    assert seen["drawn"] > 3
    assert (seen["blank"], seen["replaced"], seen["heights"]) == (0, 0, [320])


def test_every_point_arrives_at_its_place(visit: "Visit") -> None:
    count = stop_growing(visit)
    x, y = chart(visit).evaluate("root => [root.querySelector('.js-plotly-plot').data[0]].map(({ x, y }) => [x, y])[0]")
    assert x == list(range(count))
    assert y == [1.5 + math.sin(each / 90) + each / 2000 for each in x]
    assert points(visit) == [count, -(-count // 2), 2]


MODULE = 'await import(performance.getEntriesByType("resource").find(({ name }) => name.includes("chart.js")).name)'

FORGET = """async () => {
    const { show } = MODULE;
    const nothing = { figure: { data: [], layout: {} }, traces: {}, marks: [], growing: [], streams: {} };
    const other = { ...nothing, key: "loss", token: "other", version: 1, base: 0, height: 320 };
    show(document.querySelector("[data-testid=loss-chart]"), other, () => {});
}""".replace("MODULE", MODULE)


def test_a_browser_that_lost_the_points_asks_for_all_of_them(visit: "Visit") -> None:
    drawn(visit, "plot.data[0].x.length > given + 100", points(visit)[0])
    visit.page.evaluate(FORGET)
    drawn(visit, "plot.data[0]?.x.length > given + 30", answer(visit)[0])
    count = stop_growing(visit)
    assert chart(visit).evaluate("root => root.querySelector('.js-plotly-plot').data[0].x") == list(range(count))


def test_a_chart_stays_when_streamlit_cleans_up_a_call_that_was_overtaken(visit: "Visit") -> None:
    visit.page.evaluate(WATCH)
    visit.page.evaluate(f"async () => ({MODULE}).leave(document.querySelector('[data-testid=loss-chart]'))")
    visit.page.wait_for_timeout(1_200)
    drawn(visit, "plot.data[0].x.length > given + 50", points(visit)[0])
    seen = visit.page.evaluate("window.seen")
    assert (seen["blank"], seen["replaced"]) == (0, 0)


def test_a_click_is_told_once_with_its_point(visit: "Visit") -> None:
    chart(visit).scroll_into_view_if_needed()
    box = chart(visit).bounding_box()
    visit.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.page.wait_for_function(
        "() => JSON.parse(document.querySelector('[data-testid=stCode] code').innerText)[1].length > 0"
    )
    drawn(visit, "plot.data[0].x.length > given + 50", points(visit)[0])
    (clicked,) = answer(visit)[1]
    trace, x, y, point = clicked
    assert (trace, point) in ((0, x), (1, x / 2), (2, 0), (2, 1))
    if trace == 0:
        assert y == 1.5 + math.sin(x / 90) + x / 2000


def test_zoom_and_hidden_traces_survive_new_points(visit: "Visit") -> None:
    box = chart(visit).locator(".nsewdrag").first.bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.3)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.35, steps=8)
    visit.page.mouse.up()
    drawn(visit, "plot._fullLayout.xaxis.autorange === false")
    chart(visit).locator(".legendtoggle").nth(2).click()
    drawn(visit, "plot._fullData[2].visible === 'legendonly'")
    seen = "root => root.querySelector('.js-plotly-plot')._fullLayout.xaxis.range"
    before = chart(visit).evaluate(seen)
    drawn(visit, "plot.data[0].x.length > given + 100", points(visit)[0])
    assert chart(visit).evaluate(seen) == before
    drawn(visit, "plot._fullData[2].visible === 'legendonly'")


def test_a_chart_that_was_away_comes_back_whole(visit: "Visit") -> None:
    switch(visit, "shown")
    chart(visit).wait_for(state="detached")
    switch(visit, "shown")
    drawn(visit, "plot.data[0].x.length > 0")
    count = stop_growing(visit)
    assert points(visit)[0] == count


def test_plotly_comes_from_here_once_and_markup_stays_text(visit: "Visit") -> None:
    visit.page.get_by_test_id("contour").locator(".contour path").first.wait_for()
    loaded = visit.page.evaluate("performance.getEntriesByType('resource').map(entry => new URL(entry.name).pathname)")
    assert len([path for path in loaded if path.endswith("/plotly.min.js")]) == 1
    assert chart(visit).locator(".legendtext").nth(1).text_content() == "w" + MARKUP
    assert chart(visit).locator(".annotation-text").text_content() == "lr = 0.1" + MARKUP
    assert visit.page.evaluate("window.hacked") is None
    assert chart(visit).locator("[data-title*='hare'], [data-title*='loud']").count() == 0


def test_a_chart_follows_the_theme_and_its_width(visit: "Visit") -> None:
    stop_growing(visit)
    colour = "root => root.querySelector('.js-line').style.stroke"
    light = chart(visit).evaluate(colour)
    visit.page.emulate_media(color_scheme="dark")
    drawn(visit, "plot.querySelector('.js-line').style.stroke !== given", light)
    visit.page.set_viewport_size({"width": 390, "height": 800})
    drawn(visit, "plot.querySelector('.main-svg').clientWidth < 390")
    box = chart(visit).bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] == 320


def test_a_chart_of_which_nothing_changed_is_not_drawn_anew(visit: "Visit") -> None:
    visit.page.get_by_test_id("contour").locator(".contour path").first.wait_for()
    visit.page.evaluate(
        """() => {
            const react = window.Plotly.react;
            window.drawings = {};
            window.Plotly.react = (node, ...rest) => {
                const name = node.closest('[data-testid]').dataset.testid;
                window.drawings[name] = (window.drawings[name] ?? 0) + 1;
                return react(node, ...rest);
            };
        }"""
    )
    switch(visit, "log")
    drawn(visit, "plot._fullLayout.yaxis.type === 'log' && window.drawings['loss-chart'] > 3")
    assert "contour" not in visit.page.evaluate("window.drawings")


def test_a_chart_without_plotly_says_so(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_page("about:blank", bypass_csp=True)
    visit.page.route("**/plotly.min.js*", lambda route: route.fulfill(body="", content_type="text/javascript"))
    visit.page.goto(address)
    chart(visit).get_by_text("The chart cannot be drawn. plotly.js could not be read.").wait_for(timeout=60_000)
