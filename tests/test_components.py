"""The editor and the graph in a real browser, fed with a fixed view of y = x * x at x = 3."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from explorer.narrate import format_number

if TYPE_CHECKING:
    from browser import Visit
    from playwright.sync_api import Locator

pytest_plugins = ("browser",)

SOURCE = "x = torch.tensor(3.0, requires_grad=True)\ny = x * x\ny.backward()\n"
MARKUP = "<img src=x onerror=window.hacked=1>"

SVG = """<svg width="300pt" height="320pt" viewBox="0 0 300 320" xmlns="http://www.w3.org/2000/svg"
 xmlns:xlink="http://www.w3.org/1999/xlink" onload="window.hacked=1">
<script>window.hacked=1</script>
<g id="graph0" class="graph" transform="scale(1 1) rotate(0) translate(4 316)">
<g id="n0.output" class="node output"><title>out</title><polygon points="60,-40 160,-40 160,-4 60,-4"/>
<text x="110" y="-20" font-size="10">y = 9</text></g>
<g id="n0" class="node op"><polygon points="60,-120 160,-120 160,-84 60,-84"/>
<text text-anchor="middle" x="110" y="-100" font-size="10">MulBackward0</text></g>
<g id="n1" class="node accumulate"><polygon points="60,-220 160,-220 160,-184 60,-184"/>
<text x="110" y="-200" font-size="10">AccumulateGrad</text></g>
<g id="n1.variable" class="node leaf"><a xlink:href="https://example.org/">
<polygon points="60,-300 160,-300 160,-264 60,-264"/>
<text x="110" y="-280" font-size="10" onclick="window.hacked=1">&lt;b&gt;x&lt;/b&gt; = 3</text></a></g>
<g id="n1.variable-edge" class="edge"><path d="M110,-264C110,-250 110,-235 110,-220"/></g>
<g id="n0-0" class="edge"><path d="M80,-184C80,-165 80,-140 80,-120"/>
<text text-anchor="middle" x="100" y="-150" font-size="10">0.0000</text></g>
<g id="n0-1" class="edge"><path d="M140,-184C140,-165 140,-140 140,-120"/>
<text text-anchor="middle" x="160" y="-150" font-size="10">0.0000</text></g>
<g id="n0.output-edge" class="edge"><path d="M110,-84C110,-70 110,-55 110,-40"/></g>
</g></svg>"""


def scalar(value: float) -> dict:
    return {"shape": [], "dtype": "float32", "values": value}


VIEW = {
    "id": "run-1",
    "signature": "mul",
    "svg": SVG,
    "dot": "digraph { n1 -> n0 }",
    "source": SOURCE,
    "graph": {
        "nodes": [
            {"id": "n0", "name": "MulBackward0", "is_leaf": False, "line": 2, "variable": "y", "output": scalar(9.0)},
            {"id": "n1", "name": "AccumulateGrad", "is_leaf": True, "line": 1, "variable": "x", "output": scalar(3.0)},
        ],
        "edges": [
            {"source": "n0", "slot": 0, "target": "n1", "input_nr": 0},
            {"source": "n0", "slot": 1, "target": "n1", "input_nr": 0},
        ],
        "roots": ["n0"],
    },
    "passes": [
        {
            "index": 0,
            "line": 3,
            "kind": "backward",
            "loss": 9.0,
            "steps": [
                {
                    "node": "n0",
                    "grad_outputs": [scalar(1.0)],
                    "grad_inputs": [scalar(3.0), scalar(3.0)],
                    "accumulated": None,
                    "local": [scalar(3.0), scalar(3.0)],
                },
                {
                    "node": "n1",
                    "grad_outputs": [scalar(6.0)],
                    "grad_inputs": [],
                    "accumulated": {"before": None, "after": scalar(6.0)},
                    "local": None,
                },
            ],
            "start": "Before the backward pass.",
            "sentences": [f"Step 1 of 2: MulBackward0 {MARKUP}", "Step 2 of 2: AccumulateGrad"],
            "failed": None,
        }
    ],
    "message": None,
    "show": {"saved": False, "attributes": False},
    "playing": False,
}

SCRIPT = """
import json
from pathlib import Path
import streamlit as st
from explorer.ui.editor import edit_program
from explorer.ui.graph import show_graph

view = json.loads(Path(__file__).with_name("view.json").read_text("utf-8"))
sources = {"first": view["source"], "second": "z = 1\\n"}
st.session_state.runs = st.session_state.get("runs", 0) + 1
chosen = st.segmented_control("example", list(sources), default="first")
edited = edit_program(
    sources[chosen], key="editor", revision=chosen, problem_line=2,
    problem_message=%r, running=True, completions=["torch.sigmoid", "torch.sin", ".backward"],
)
st.button("Rerun")
shown = show_graph(view, key="graph", height=340)
st.code(json.dumps([st.session_state.runs, edited.run_count, edited.source, edited.stop, shown.show]), language=None)
"""


@pytest.fixture(scope="module")
def address(serve_app: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("harness")
    (folder / "view.json").write_text(json.dumps(VIEW), "utf-8")
    script = folder / "harness.py"
    script.write_text(SCRIPT % MARKUP, "utf-8")
    return serve_app(script)


@pytest.fixture
def visit(address: str, open_page: Callable[..., "Visit"]) -> "Visit":
    opened = open_page(address)
    opened.page.locator("[data-node-id]").first.wait_for()
    opened.page.get_by_test_id("stCode").wait_for()
    return opened


def editor(visit: "Visit") -> "Locator":
    return visit.page.get_by_test_id("editor")


def write(visit: "Visit", text: str) -> None:
    editor(visit).click()
    visit.page.keyboard.press("Control+a")
    visit.page.keyboard.press("Delete")
    visit.page.keyboard.type(text)


def answer(visit: "Visit") -> list:
    """What the script last saw: its runs, run count, source, stop, show."""
    return json.loads(visit.page.get_by_test_id("stCode").inner_text())


def await_answer(visit: "Visit", is_it: Callable[[list], bool]) -> list:
    for _ in range(100):
        if is_it(answer(visit)):
            return answer(visit)
        visit.page.wait_for_timeout(50)
    raise AssertionError(f"the script still says {answer(visit)}")


def rerun(visit: "Visit") -> None:
    before = answer(visit)[0]
    visit.page.get_by_role("button", name="Rerun").click()
    await_answer(visit, lambda seen: seen[0] > before)


def states(visit: "Visit") -> dict[str, str]:
    found = visit.page.locator("[data-node-id], [data-edge-id]").all()
    return {one.get_attribute("id"): one.get_attribute("data-state") for one in found}


def press(visit: "Visit", name: str) -> None:
    visit.page.get_by_test_id(name).click()


def test_typing_survives_a_rerun_with_its_caret(visit: "Visit") -> None:
    write(visit, "typed = 12")
    visit.page.keyboard.press("ArrowLeft")
    rerun(visit)
    assert editor(visit).input_value() == "typed = 12"
    assert editor(visit).evaluate("area => area.selectionStart") == 9
    assert answer(visit)[1:3] == [0, SOURCE]


def test_typing_survives_a_reload_and_is_run_then(visit: "Visit") -> None:
    write(visit, "typed = 1")
    visit.page.reload()
    visit.page.get_by_test_id("stCode").wait_for()
    await_answer(visit, lambda seen: seen[2] == "typed = 1")
    assert editor(visit).input_value() == "typed = 1"


def test_another_revision_replaces_the_text_and_offers_it_back(visit: "Visit") -> None:
    write(visit, "mine = 1")
    visit.page.get_by_role("radio", name="second").click()
    await_answer(visit, lambda seen: seen[2] == "z = 1\n")
    assert editor(visit).input_value() == "z = 1\n"
    press(visit, "bring-back")
    await_answer(visit, lambda seen: seen[2] == "mine = 1")
    assert editor(visit).input_value() == "mine = 1"
    assert not visit.page.get_by_test_id("bring-back").is_visible()


def test_an_untouched_example_is_not_offered_back(visit: "Visit") -> None:
    visit.page.get_by_role("radio", name="second").click()
    await_answer(visit, lambda seen: seen[2] == "z = 1\n")
    assert not visit.page.get_by_test_id("bring-back").is_visible()


def test_tab_indents_a_selection_and_shift_tab_takes_it_back(visit: "Visit") -> None:
    write(visit, "a = 1\nb = 2")
    visit.page.keyboard.press("Control+a")
    visit.page.keyboard.press("Tab")
    assert editor(visit).input_value() == "    a = 1\n    b = 2"
    visit.page.keyboard.press("Shift+Tab")
    assert editor(visit).input_value() == "a = 1\nb = 2"


def test_enter_keeps_the_indentation_and_deepens_after_a_colon(visit: "Visit") -> None:
    write(visit, "for i in a:  # each\nb\nc")
    assert editor(visit).input_value() == "for i in a:  # each\n    b\n    c"


def test_slash_toggles_comments_and_undo_takes_it_back(visit: "Visit") -> None:
    write(visit, "a = 1")
    visit.page.keyboard.press("Control+/")
    assert editor(visit).input_value() == "# a = 1"
    visit.page.keyboard.press("Control+z")
    assert editor(visit).input_value() == "a = 1"


def test_control_enter_and_the_button_send_the_text(visit: "Visit") -> None:
    write(visit, "a = 1")
    visit.page.keyboard.press("Control+Enter")
    await_answer(visit, lambda seen: seen[1:3] == [1, "a = 1"])
    press(visit, "run")
    await_answer(visit, lambda seen: seen[1:3] == [2, "a = 1"])


def test_stop_is_true_for_one_run_of_the_script(visit: "Visit") -> None:
    press(visit, "stop")
    await_answer(visit, lambda seen: seen[3] is True)
    rerun(visit)
    assert answer(visit)[3] is False


def test_letters_do_not_reach_the_shortcuts_of_streamlit(visit: "Visit") -> None:
    write(visit, "rc")
    visit.page.wait_for_timeout(200)
    assert answer(visit)[0] == 1
    assert visit.page.get_by_role("dialog").count() == 0


def test_escape_then_tab_leaves_the_editor(visit: "Visit") -> None:
    write(visit, "a")
    visit.page.keyboard.press("Escape")
    visit.page.keyboard.press("Tab")
    assert editor(visit).input_value() == "a"
    assert visit.page.get_by_test_id("run").evaluate("button => button.getRootNode().activeElement === button")


def test_a_dot_offers_names_and_enter_takes_one(visit: "Visit") -> None:
    write(visit, "torch.")
    names = visit.page.get_by_test_id("completions")
    assert names.get_by_role("option").all_inner_texts() == ["sigmoid", "sin"]
    visit.page.keyboard.type("si")
    visit.page.keyboard.press("ArrowDown")
    visit.page.keyboard.press("Enter")
    assert editor(visit).input_value() == "torch.sin"
    assert not names.is_visible()


def test_the_failing_line_is_marked_until_it_changes(visit: "Visit") -> None:
    marked = visit.page.locator(".gutter .problem")
    assert marked.inner_text() == "2"
    assert marked.get_attribute("title") == MARKUP
    editor(visit).click()
    visit.page.keyboard.press("Control+Home")
    visit.page.keyboard.type("a")
    assert marked.count() == 0


def test_steps_change_states_without_a_word_to_the_server(visit: "Visit") -> None:
    idle = {"n0": "idle", "n1": "idle", "n0-0": "idle", "n0-1": "idle"}
    first = {"n0": "active", "n1": "idle", "n0-0": "active", "n0-1": "active"}
    second = {"n0": "done", "n1": "active", "n0-0": "done", "n0-1": "done"}
    requests: list[str] = []
    visit.page.on("request", lambda request: requests.append(request.url))
    before = len(visit.sent)
    assert states(visit) == idle
    press(visit, "step-next")
    assert states(visit) == first
    press(visit, "step-last")
    assert states(visit) == second
    press(visit, "step-prev")
    assert states(visit) == first
    press(visit, "step-first")
    assert states(visit) == idle
    visit.page.get_by_test_id("graph").click(position={"x": 5, "y": 5})
    for key, wanted in {"ArrowRight": first, "End": second, "ArrowLeft": first, "Home": idle}.items():
        visit.page.keyboard.press(key)
        assert states(visit) == wanted
    visit.page.get_by_test_id("step-slider").fill("2")
    assert states(visit) == second
    visit.page.locator('[id="n0"]').click()
    assert len(visit.sent) == before
    assert requests == []


def test_play_walks_to_the_end_and_stops(visit: "Visit") -> None:
    visit.page.get_by_test_id("step-speed").select_option("200")
    press(visit, "step-play")
    visit.page.locator('[data-node-id="n1"][data-state="active"]').wait_for()
    assert visit.page.get_by_test_id("step-play").get_attribute("aria-label") == "Play"


def test_numbers_appear_on_edges_once_they_are_known(visit: "Visit") -> None:
    label = visit.page.locator('[data-edge-id="n0-0"] > text')
    badge = visit.page.locator('[id="n1.variable"] .badge')
    assert label.text_content() == ""
    press(visit, "step-next")
    assert label.text_content() == "3"
    assert not badge.is_visible()
    press(visit, "step-next")
    assert label.text_content() == "3"
    assert badge.text_content() == "x.grad = 6"
    press(visit, "step-first")
    assert label.text_content() == ""
    assert not badge.is_visible()


def test_the_inspector_spells_out_received_times_local(visit: "Visit") -> None:
    inspector = visit.page.get_by_test_id("inspector")
    visit.page.locator('[id="n0"]').click()
    assert "not yet" in inspector.inner_text()
    press(visit, "step-next")
    words = " ".join(inspector.inner_text().split())
    assert "1 \u00d7 3 = 3 () float32 to AccumulateGrad (x)" in words
    assert "y = x * x" in words


def test_a_fan_in_shows_its_parts_and_their_sum(visit: "Visit") -> None:
    visit.page.locator('[id="n1.variable"]').click()
    press(visit, "step-last")
    words = " ".join(visit.page.get_by_test_id("inspector").inner_text().split())
    assert words.count("3 () float32 from MulBackward0 (y)") == 2
    assert "sum 6 () float32" in words
    assert "x.grad none \u2192 6" in words


def test_a_click_selects_an_edge(visit: "Visit") -> None:
    press(visit, "step-next")
    visit.page.locator('[data-edge-id="n0-1"] > text').click()
    words = visit.page.get_by_test_id("inspector").inner_text()
    assert "MulBackward0 (y), slot 1" in words
    assert visit.page.locator("g[data-selected]").get_attribute("id") == "n0-1"


def test_a_rerun_keeps_step_and_selection(visit: "Visit") -> None:
    press(visit, "step-next")
    visit.page.locator('[id="n1"]').click()
    seen = states(visit)
    visit.page.locator("label", has_text="attributes").click()
    await_answer(visit, lambda seen: seen[4] == {"saved": False, "attributes": True})
    rerun(visit)
    assert states(visit) == seen
    assert visit.page.locator("g[data-selected]").get_attribute("id") == "n1"


def test_editor_and_graph_point_at_each_other_by_line(visit: "Visit") -> None:
    press(visit, "step-next")
    assert visit.page.locator("pre .linked").inner_text() == "y = x * x" + MARKUP
    editor(visit).click()
    visit.page.keyboard.press("Control+Home")
    assert visit.page.locator("[data-line-active]").get_attribute("data-node-id") == "n1"
    visit.page.keyboard.press("ArrowDown")
    assert visit.page.locator("[data-line-active]").get_attribute("data-node-id") == "n0"


def test_markup_stays_text(visit: "Visit") -> None:
    press(visit, "step-next")
    assert visit.page.get_by_test_id("step-sentence").inner_text() == f"Step 1 of 2: MulBackward0 {MARKUP}"
    assert visit.page.locator('[id="n1.variable"] > text').text_content() == "<b>x</b> = 3"
    graph = visit.page.get_by_test_id("graph")
    assert graph.locator("script, a, title, img, [onclick], [onload]").count() == 0
    visit.page.locator('[id="n1.variable"] > text').click()
    assert visit.page.evaluate("window.hacked") is None


def test_downloads_are_the_picture_and_its_dot(visit: "Visit") -> None:
    press(visit, "step-next")
    with visit.page.expect_download() as saved:
        press(visit, "download-svg")
    text = Path(saved.value.path()).read_text("utf-8")
    assert text.startswith("<svg") and "MulBackward0" in text and ">3</text>" in text and "var(" not in text
    with visit.page.expect_download() as saved:
        press(visit, "download-dot")
    assert Path(saved.value.path()).read_text("utf-8") == VIEW["dot"]


def test_a_phone_shows_everything_in_its_width(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_page(address, width=390, height=800, has_touch=True)
    visit.page.locator("[data-node-id]").first.wait_for()
    for name in ("editor", "run", "graph", "step-last", "step-slider", "inspector", "download-dot"):
        box = visit.page.get_by_test_id(name).bounding_box()
        assert box["x"] >= 0 and (box["x"] + box["width"] <= 390 or name == "editor")


def test_numbers_are_written_as_python_writes_them(visit: "Visit") -> None:
    numbers = [0.5, 3.0, -1 / 3, 12345.678, 123456.0, 1e6, 1.5e-5, 0.00012345, 2.5e-10, 9999.6, 1e300, "nan", True]
    source = files("explorer.ui.graph").joinpath("inspector.js").read_text("utf-8")
    written = visit.page.evaluate(
        "([source, numbers]) => numbers.map(new Function(`${source}; return formatNumber`)())", [source, numbers]
    )
    assert written == [format_number(number) for number in numbers]
