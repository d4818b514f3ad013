"""The canvas: what Python believes of its messages, and a real browser in which a digit is drawn."""

import base64
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.handwriting import read_ink
from explorer.ui.canvas import SIDE, _read_ink

if TYPE_CHECKING:
    from browser import Visit
    from playwright.sync_api import Locator

pytest_plugins = ("browser",)

PICTURE = base64.b64encode(bytes(range(256)) * 12 + bytes(64)).decode()
SENT = {"id": 1, "side": SIDE, "pixels": PICTURE}


def test_a_picture_is_read_row_by_row_and_cannot_be_changed() -> None:
    ink = _read_ink(SENT)
    assert len(ink.pixels) == SIDE * SIDE
    assert read_ink(ink.pixels)[0].tolist() == list(range(SIDE))


FORGED = [
    None,
    "ink",
    5,
    [SENT],
    {},
    {**SENT, "side": 57},
    {**SENT, "side": -SIDE},
    {**SENT, "side": None},
    {**SENT, "side": [SIDE]},
    {"side": SIDE},
    {**SENT, "pixels": None},
    {**SENT, "pixels": [0] * SIDE * SIDE},
    {**SENT, "pixels": ""},
    {**SENT, "pixels": PICTURE[:-4]},
    {**SENT, "pixels": PICTURE + "AAAA"},
    {**SENT, "pixels": PICTURE[:-4] + "****"},
    {**SENT, "pixels": PICTURE[:-4] + "===="},
    {**SENT, "pixels": PICTURE[:-2] + "A="},
    {**SENT, "pixels": "\u00e9" * len(PICTURE)},
    {**SENT, "pixels": "A" * 10**7},
]


@pytest.mark.parametrize("sent", FORGED, ids=lambda sent: repr(sent)[:40])
def test_a_forged_message_is_no_ink(sent: Any) -> None:
    assert _read_ink(sent) is None


def show_canvas() -> None:
    import streamlit as st

    from explorer.ui.canvas import draw_digit

    ink = draw_digit(key="digit")
    st.text("empty" if ink is None else str(sum(ink.pixels)))


@pytest.mark.parametrize("state", [5, "forged", {"ink": "forged"}, {"ink": {**SENT, "pixels": "AAAA"}}, {"other": 1}])
def test_a_page_with_a_forged_state_goes_on(state: Any) -> None:
    app = AppTest.from_function(show_canvas).run()
    app.session_state["digit"] = state
    assert not app.run().exception
    assert app.text[0].value == "empty"


def test_a_page_reads_the_picture() -> None:
    app = AppTest.from_function(show_canvas).run()
    app.session_state["digit"] = {"ink": SENT}
    assert int(app.run().text[0].value) == sum(range(256)) * 12


SCRIPT = """
import json
import streamlit as st
from explorer.handwriting import read_ink
from explorer.ui.canvas import draw_digit
from explorer.ui.visitors import await_sent

is_shown = st.toggle("shown", value=True)
st.button("rerun")

@st.fragment(run_every=0.1)
def follow():
    st.session_state.count = st.session_state.get("count", 0) + 1
    ink = draw_digit(key="digit") if is_shown else None
    told = None
    if ink is not None:
        rows, columns = (read_ink(ink.pixels).max(axis=axis).nonzero()[0] for axis in (1, 0))
        told = {
            "sum": sum(ink.pixels), "most": max(ink.pixels),
            "box": [int(each) for each in (columns[0], rows[0], columns[-1], rows[-1])] if len(rows) else None,
        }
    st.code(json.dumps({"count": st.session_state.count, "ink": told}), language=None)
    await_sent()

follow()
await_sent(is_page=True)
"""


@pytest.fixture(scope="module")
def address(serve_app: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    script = tmp_path_factory.mktemp("canvas") / "app.py"
    script.write_text(SCRIPT, "utf-8")
    return serve_app(script)


@pytest.fixture
def visit(address: str, open_page: Callable[..., "Visit"]) -> "Visit":
    return open_canvas(open_page, address)


def open_canvas(open_page: Callable[..., "Visit"], address: str, **options: Any) -> "Visit":
    visit = open_page(address, **options)
    paper(visit).wait_for(timeout=60_000)
    told(visit, "!told.ink")
    return visit


def paper(visit: "Visit") -> "Locator":
    return visit.page.get_by_test_id("canvas")


def place(visit: "Visit", x: float, y: float) -> tuple[float, float]:
    """A point of the paper, 0 to 1 from its left and its top, in the window."""
    box = paper(visit).bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def told(visit: "Visit", test: str, argument: object = None) -> dict[str, Any]:
    """What Python told once ``test``, a JavaScript expression of ``told`` and ``given``, is true."""
    found = visit.page.wait_for_function(
        "([test, given]) => { const text = document.querySelector('[data-testid=stCode] code')?.innerText;"
        " const told = text && JSON.parse(text); return told && eval(test) ? told : null; }",
        arg=[test, argument],
    )
    return found.json_value()


def settled(visit: "Visit") -> dict[str, Any] | None:
    """The ink as Python has it some runs after now: a picture from the middle of a stroke is not the last one."""
    return told(visit, "told.count > given + 4", told(visit, "true")["count"])["ink"]


def strokes(visit: "Visit") -> int:
    return int(paper(visit).get_attribute("data-strokes"))


def pictures(visit: "Visit") -> list[str]:
    """The different pictures that were sent; every message to the server repeats the last one."""
    found = [
        match for frame in visit.sent for match in re.findall(r'"pixels":\s*"([^"]+)"', str(frame).replace("\\", ""))
    ]
    return list(dict.fromkeys(found))


def draw(visit: "Visit", *points: tuple[float, float], up: bool = True) -> None:
    visit.page.mouse.move(*place(visit, *points[0]))
    visit.page.mouse.down()
    for point in points[1:]:
        visit.page.mouse.move(*place(visit, *point), steps=8)
    if up:
        visit.page.mouse.up()


def drawn(visit: "Visit") -> str:
    return paper(visit).locator("path").get_attribute("d")


def test_a_stroke_arrives_while_it_is_drawn(visit: "Visit") -> None:
    draw(visit, (0.5, 0.2), (0.5, 0.5), up=False)
    half = told(visit, "told.ink?.box[3] >= 28")["ink"]
    visit.page.mouse.move(*place(visit, 0.5, 0.8), steps=8)
    whole = told(visit, "told.ink.box[3] > 45")["ink"]
    visit.page.mouse.up()
    assert half["sum"] < whole["sum"] and whole["most"] == 255
    assert strokes(visit) == 1
    left, top, right, bottom = whole["box"]
    assert (left, top, right, bottom) == pytest.approx((25.5, 8.7, 30.5, 47.3), abs=1.5)


def test_a_picture_is_sent_only_when_it_changed_and_not_for_every_move(visit: "Visit") -> None:
    draw(visit, (0.2, 0.2), up=False)
    begin = time.monotonic()
    visit.page.mouse.move(*place(visit, 0.8, 0.8), steps=60)
    visit.page.mouse.up()
    spent = time.monotonic() - begin
    assert settled(visit)["box"][3] > 45
    before = len(pictures(visit))
    assert 2 <= before <= spent / 0.06 + 3
    count = told(visit, "true")["count"]
    visit.page.mouse.move(*place(visit, 0.2, 0.8), steps=10)
    paper(visit).focus()
    visit.page.keyboard.press("ArrowDown")
    told(visit, "told.count > given + 5", count)
    assert len(pictures(visit)) == before and strokes(visit) == 1


@pytest.mark.parametrize("how", ["canvas-clear", "Delete", "Backspace", "Escape"])
def test_clear_empties_the_canvas(visit: "Visit", how: str) -> None:
    draw(visit, (0.2, 0.2), (0.8, 0.8))
    draw(visit, (0.2, 0.8))
    told(visit, "told.ink")
    if how == "canvas-clear":
        visit.page.get_by_test_id(how).click()
    else:
        paper(visit).focus()
        visit.page.keyboard.press(how)
    told(visit, "told.ink === null")
    assert strokes(visit) == 0 and drawn(visit) == ""
    assert paper(visit).get_by_text("Draw a digit").is_visible()


def test_the_hint_gives_way_to_ink(visit: "Visit") -> None:
    assert paper(visit).get_by_text("Draw a digit").is_visible()
    draw(visit, (0.5, 0.5))
    assert paper(visit).get_by_text("Draw a digit").is_hidden()
    assert told(visit, "told.ink")["ink"]["most"] > 200


@pytest.mark.parametrize("how", ["canvas-undo", "Control+z"])
def test_undo_takes_back_the_last_stroke(visit: "Visit", how: str) -> None:
    draw(visit, (0.2, 0.2), (0.2, 0.8))
    one = settled(visit)
    draw(visit, (0.8, 0.2), (0.8, 0.8))
    told(visit, "told.ink.box[2] > 40")

    def undo() -> None:
        if how == "canvas-undo":
            visit.page.get_by_test_id(how).click()
        else:
            paper(visit).focus()
            visit.page.keyboard.press(how)

    undo()
    assert settled(visit) == one
    undo()
    told(visit, "told.ink === null")
    assert strokes(visit) == 0 and drawn(visit) == ""
    assert visit.page.get_by_test_id("canvas-undo").get_attribute("aria-disabled") == "true"


WATCH = """() => {
    const find = () => {
        for (const host of document.querySelectorAll('*')) {
            const found = (host.shadowRoot ?? host).querySelector?.('[data-testid=canvas]');
            if (found) return found;
        }
    };
    const first = find();
    const seen = window.seen = { frames: 0, replaced: 0, blank: 0, shrunk: 0 };
    let longest = 0;
    const look = () => {
        const now = find();
        const length = now?.querySelector('path').getAttribute('d').length ?? 0;
        seen.frames++;
        if (now !== first) seen.replaced++;
        if (!length) seen.blank++;
        if (length < longest) seen.shrunk++;
        longest = Math.max(longest, length);
        requestAnimationFrame(look);
    };
    look();
}"""


def test_reruns_neither_wipe_a_drawing_nor_break_a_stroke(visit: "Visit") -> None:
    draw(visit, (0.2, 0.2), (0.2, 0.8))
    count = told(visit, "told.ink")["count"]
    visit.page.evaluate(WATCH)
    visit.page.mouse.move(*place(visit, 0.5, 0.2))
    visit.page.mouse.down()
    for step in range(6):
        visit.page.mouse.move(*place(visit, 0.5, 0.3 + step / 10), steps=4)
        count = told(visit, "told.count > given + 2", count)["count"]
    visit.page.mouse.up()
    visit.page.get_by_role("button", name="rerun").click()
    told(visit, "told.count > given + 5", count)
    seen = visit.page.evaluate("window.seen")
    assert seen["frames"] > 20
    assert (seen["replaced"], seen["blank"], seen["shrunk"]) == (0, 0, 0)
    assert strokes(visit) == 2
    assert told(visit, "told.ink")["ink"]["box"] == pytest.approx([8.7, 8.7, 30.5, 47.3], abs=1.5)


def test_a_canvas_that_was_away_comes_back_with_its_drawing(visit: "Visit") -> None:
    draw(visit, (0.2, 0.2), (0.8, 0.8))
    before, path = settled(visit), drawn(visit)
    shown = visit.page.locator("[data-testid=stCheckbox] label", has_text="shown")
    shown.click()
    paper(visit).wait_for(state="detached")
    told(visit, "told.ink === null")
    shown.click()
    assert told(visit, "told.ink")["ink"] == before
    assert drawn(visit) == path and strokes(visit) == 1
    draw(visit, (0.8, 0.2))
    assert told(visit, "told.ink.sum > given", before["sum"])
    assert strokes(visit) == 2


def test_a_stroke_goes_on_when_the_canvas_is_made_anew_under_the_pen(visit: "Visit") -> None:
    shown = visit.page.locator("[data-testid=stCheckbox] input").first
    draw(visit, (0.2, 0.2), (0.2, 0.5), up=False)
    told(visit, "told.ink?.box[3] >= 28")
    shown.evaluate("root => root.click()")
    paper(visit).wait_for(state="detached")
    shown.evaluate("root => root.click()")
    paper(visit).wait_for()
    visit.page.mouse.move(*place(visit, 0.2, 0.8), steps=8)
    visit.page.mouse.move(*place(visit, 0.2, 1.3))
    visit.page.mouse.up()
    told(visit, "told.ink?.box[3] === 55")
    visit.page.mouse.move(*place(visit, 0.8, 0.8))
    assert strokes(visit) == 1


def test_a_stroke_that_leaves_the_paper_goes_on_where_it_comes_back(visit: "Visit") -> None:
    draw(visit, (0.8, 0.3), (1.4, 0.3), (1.4, 0.7), (0.8, 0.7))
    assert strokes(visit) == 1
    left, top, right, bottom = settled(visit)["box"]
    assert right == 55 and (left, top, bottom) == pytest.approx((43, 15, 40), abs=1.5)


def test_a_small_digit_is_drawn_with_a_pen_of_its_size(visit: "Visit") -> None:
    widths = []
    for size in (0.4, 0.75):
        draw(visit, (0.15, 0.15), (0.15 + size, 0.15), (0.15, 0.15 + size))
        left, _, right, _ = settled(visit)["box"]
        widths.append((right - left + 1) / size / SIDE - 1)
        visit.page.get_by_test_id("canvas-clear").click()
        told(visit, "told.ink === null")
    assert widths == pytest.approx([0.15, 0.15], abs=0.12)
    assert paper(visit).locator("path").get_attribute("stroke-width") == "9"


def test_a_button_other_than_the_left_draws_nothing(visit: "Visit") -> None:
    paper(visit).click(button="right")
    paper(visit).click(button="middle")
    assert strokes(visit) == 0


def test_a_finger_draws_and_does_not_scroll(address: str, open_page: Callable[..., "Visit"]) -> None:
    options = {"width": 390, "height": 800, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    visit = open_canvas(open_page, address, **options)
    box = paper(visit).bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["width"] == box["height"]
    fingers = visit.page.context.new_cdp_session(visit.page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [dict(zip("xy", place(visit, *point), strict=True)) for point in points]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (0.3, 0.2))
    for step in range(1, 13):
        touch("touchMove", (0.3, 0.2 + step / 20))
    told(visit, "told.ink?.box[3] > 40")
    # A second finger draws nothing.
    touch("touchMove", (0.3, 0.8), (0.9, 0.9))
    touch("touchEnd")
    assert settled(visit)["box"] == pytest.approx([14.3, 8.7, 19.3, 47.3], abs=1.5)
    assert strokes(visit) == 1
    assert visit.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop + scrollY") == 0


def test_a_narrow_page_has_a_smaller_square(visit: "Visit") -> None:
    wide = paper(visit).bounding_box()
    assert (wide["width"], wide["height"]) == (280, 280)
    draw(visit, (0.5, 0.2), (0.5, 0.8))
    before = settled(visit)
    visit.page.set_viewport_size({"width": 250, "height": 700})
    box = paper(visit).bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 250
    assert box["width"] == pytest.approx(box["height"], abs=0.5) and box["width"] < 280
    assert settled(visit) == before


def test_the_keyboard_reaches_the_canvas_and_sees_where_it_is(visit: "Visit") -> None:
    draw(visit, (0.2, 0.2), (0.8, 0.8))
    ring = "root => getComputedStyle(root).outlineStyle"
    assert paper(visit).evaluate(ring) == "none"
    visit.page.keyboard.press("Tab")
    assert visit.page.get_by_test_id("canvas-undo").evaluate("root => root.matches(':focus-visible')")
    visit.page.keyboard.press("Shift+Tab")
    assert paper(visit).evaluate(ring) == "solid"
    assert "digit" in paper(visit).get_attribute("aria-label")
    visit.page.keyboard.press("Delete")
    told(visit, "told.ink === null")
    assert paper(visit).evaluate("root => root.matches(':focus')")
