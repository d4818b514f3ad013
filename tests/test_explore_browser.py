"""The Explore page in a real browser: what a student does, from the first look to a program that hangs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import read_shared

if TYPE_CHECKING:
    from browser import Visit

pytest_plugins = ("browser",)

APP = Path(__file__).parents[1] / "app.py"


@pytest.fixture(scope="module")
def address(serve_app: Callable[[Path], str]) -> str:
    return serve_app(APP)


@pytest.fixture
def visit(address: str, open_page: Callable[..., "Visit"]) -> "Visit":
    visit = open_page(address)
    wait_for_node(visit, "SigmoidBackward0", seconds=60)
    return visit


def wait_for_node(visit: "Visit", text: str, seconds: float = 15) -> None:
    visit.page.get_by_test_id("graph").locator("svg text", has_text=text).first.wait_for(timeout=seconds * 1000)


def await_text(visit: "Visit", part: str, text: str) -> None:
    """Wait until a part of the page, by its test id or its class, says so."""
    found = visit.page.locator(part) if part.startswith(".") else visit.page.get_by_test_id(part)
    found.filter(has_text=text).first.wait_for(timeout=15_000)


def run_program(visit: "Visit", source: str) -> None:
    visit.page.get_by_test_id("editor").fill(source)
    visit.page.get_by_test_id("run").click()


def click_chart_until_its_pass_is_chosen(visit: "Visit") -> None:
    """The chart is drawn anew after each choice, and a click that comes meanwhile goes into the void."""
    chart, slider = visit.page.get_by_test_id("loss-chart"), visit.page.locator(".st-key-pass input[type=range]")
    chart.scroll_into_view_if_needed()
    for _ in range(10):
        box = chart.bounding_box()
        visit.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 3)
        visit.page.wait_for_timeout(300)
        visit.page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 3)
        for _ in range(7):
            if int(slider.input_value()) > 20:
                return
            visit.page.wait_for_timeout(100)
    pytest.fail("no click on the loss curve chose a pass")


def test_the_first_look_is_a_finished_example(visit: "Visit") -> None:
    assert "sigmoid" in visit.page.get_by_test_id("editor").input_value()
    await_text(visit, ".st-key-stdout", "tensor(0.3150)")
    await_text(visit, "step-sentence", "starts at y with gradient 1")
    assert visit.page.locator("[data-node-id]").count() == 4


def test_the_pass_is_walked_with_the_true_numbers_and_no_request(visit: "Visit") -> None:
    sent = len(visit.sent)
    sentences = []
    for _ in range(4):
        visit.page.get_by_test_id("step-next").click()
        sentences.append(visit.page.get_by_test_id("step-sentence").inner_text())
    assert "MulBackward0, line 4, receives 1, sends 3 to SigmoidBackward0" in sentences[1]
    assert "AccumulateGrad adds 0.315 to x.grad (was None, is now 0.315)" in sentences[3]
    assert visit.page.locator('[data-node-id][data-state="done"]').count() == 3
    assert visit.page.locator('[data-node-id][data-state="active"]').count() == 1
    assert len(visit.sent) == sent


def test_a_typed_program_replaces_the_graph(visit: "Visit") -> None:
    run_program(visit, "a = torch.tensor(3.0, requires_grad=True)\nb = a ** 2\nc = b.exp()\nc.backward()\n")
    wait_for_node(visit, "PowBackward0")
    assert visit.page.locator("[data-node-id]").count() == 3


def test_an_error_marks_its_line_and_keeps_text_and_picture(visit: "Visit") -> None:
    source = "x = torch.ones(2, 3)\ny = x @ x\n"
    run_program(visit, source)
    await_text(visit, ".st-key-problem", "RuntimeError, line 2")
    await_text(visit, ".st-key-problem", "mat1 and mat2 shapes cannot be multiplied")
    assert visit.page.get_by_test_id("editor").input_value() == source
    wait_for_node(visit, "SigmoidBackward0")
    await_text(visit, "graph-message", "From an earlier run")


def test_a_program_without_backward_gets_one_by_a_button(visit: "Visit") -> None:
    run_program(visit, "w = torch.ones(3, requires_grad=True)\nz = w * 2\n")
    button = visit.page.locator(".st-key-run-backward button").first
    button.wait_for()
    button.click()
    visit.page.locator(".st-key-offer-backward").wait_for(state="detached")
    visit.page.wait_for_function(
        "() => [...document.querySelectorAll('*')].some(e => e.shadowRoot?.querySelector("
        "'[data-testid=editor]')?.value.includes('z.backward(gradient=torch.ones_like(z))'))"
    )
    await_text(visit, "step-sentence", "2 steps")


def test_an_endless_loop_is_stopped_by_its_button(visit: "Visit") -> None:
    run_program(visit, "print('on it')\nwhile True:\n    pass\n")
    visit.page.locator(".st-key-progress").wait_for()
    visit.page.get_by_test_id("stop").click()
    await_text(visit, ".st-key-problem", "Stopped")
    await_text(visit, ".st-key-stdout", "on it")
    run_program(visit, "q = torch.ones((), requires_grad=True).cos()\nq.backward()\n")
    wait_for_node(visit, "CosBackward0")


def test_a_reload_keeps_the_typed_program_and_draws_it(visit: "Visit") -> None:
    source = "t = torch.tensor(1.0, requires_grad=True)\nu = torch.tanh(t)\nu.backward()\n"
    run_program(visit, source)
    wait_for_node(visit, "TanhBackward0")
    visit.page.get_by_test_id("editor").fill(source + "# not run yet\n")
    visit.page.reload()
    wait_for_node(visit, "TanhBackward0", seconds=30)
    assert visit.page.get_by_test_id("editor").input_value() == source + "# not run yet\n"


def test_a_training_loop_shows_its_loss_and_any_pass(visit: "Visit") -> None:
    programs = {entry["id"]: entry["code"] for entry in read_shared("seeds/programs.json")}
    if not programs:
        pytest.skip("the seed programs are not part of the repository")
    run_program(visit, programs["linreg15"])
    visit.page.get_by_test_id("loss-chart").locator("path.js-line").first.wait_for()
    await_text(visit, ".st-key-stdout", "Epoch 180: w = ")
    wait_for_node(visit, "MeanBackward0")
    before = visit.page.get_by_test_id("graph").locator("svg").text_content()
    slider = visit.page.locator(".st-key-pass input[type=range]")
    slider.focus()
    for _ in range(6):
        slider.press("ArrowRight")
    visit.page.wait_for_function(
        "before => [...document.querySelectorAll('*')].some(e => { const svg = e.shadowRoot?.querySelector("
        "'[data-testid=graph] svg'); return svg && svg.textContent !== before })",
        arg=before,
    )
    click_chart_until_its_pass_is_chosen(visit)
    sentence = visit.page.get_by_test_id("step-sentence")
    for _ in range(20):
        # The steps of the chosen pass come a moment after its number, and begin at the start.
        visit.page.get_by_test_id("step-first").click()
        visit.page.get_by_test_id("step-next").click()
        if "Step 1 of 7: MeanBackward0" in sentence.inner_text():
            break
        visit.page.wait_for_timeout(300)
    assert "Step 1 of 7: MeanBackward0" in sentence.inner_text()


LONG_LOOP = """\
x = torch.linspace(-1, 1, 50)
y = 2 * x + 1
learning_rate = 0.001
w = torch.tensor(-2.0, requires_grad=True)
for step in range(1_000_000):
    loss = ((w * x + 1 - y) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= learning_rate * w.grad
    w.grad = None
"""


def read_passes(visit: "Visit") -> int:
    """How many passes the page says were made."""
    text = visit.page.locator(".st-key-progress").inner_text()
    return int(re.search(r"([\d,]+) of 1,000,000", text)[1].replace(",", ""))


def test_a_knob_moved_at_rest_shows_the_new_output_and_offers_to_write_it(visit: "Visit") -> None:
    page, printed = visit.page, visit.page.locator(".st-key-stdout")
    run_program(visit, LONG_LOOP.replace("1_000_000", "20") + "print(f'rate {learning_rate}, w {w.item():.3f}')\n")
    printed.get_by_text("rate 0.001, w -1.94").wait_for()
    rate = page.locator(".st-key-knob-learning_rate-number input")
    rate.fill("0.5")
    rate.press("Enter")
    printed.get_by_text("rate 0.5").wait_for()
    page.get_by_role("button", name="Write learning_rate = 0.5 into the program").wait_for()
    rate.fill("")
    rate.press("Enter")
    page.wait_for_function(
        "() => document.querySelector('.st-key-knob-learning_rate-number input').value === '0.5'",
    )
    assert "rate 0.5" in printed.inner_text()


def test_a_loop_is_watched_paused_stepped_and_its_rate_moved(visit: "Visit") -> None:
    page = visit.page
    run_program(visit, LONG_LOOP)
    page.get_by_test_id("loss-chart").locator("path.js-line").first.wait_for()
    page.locator(".st-key-progress", has_text="passes/s").wait_for()
    page.wait_for_function(
        "first => Number(/([\\d,]+) of 1,000,000/.exec(document.querySelector('.st-key-progress')?.innerText)?.[1]"
        ".replaceAll(',', '')) > first",
        arg=read_passes(visit),
    )
    rate = page.locator(".st-key-knob-learning_rate-number input")
    rate.fill("0.5")
    rate.press("Enter")
    page.get_by_test_id("loss-chart").get_by_text("learning_rate = 0.5").wait_for()
    page.get_by_role("button", name="Pause").click()
    page.locator(".st-key-progress", has_text="Paused after").wait_for()
    stood = read_passes(visit)
    page.get_by_role("button", name="One pass").click()
    page.locator(".st-key-progress", has_text=f"{stood + 1:,} of").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.locator(".st-key-progress", has_text="passes/s").wait_for()
    page.locator(".st-key-stop-training button").first.click()
    await_text(visit, ".st-key-problem", "Stopped")
    assert int(page.locator(".st-key-pass input[type=range]").get_attribute("max")) > stood
    page.get_by_role("button", name="Write learning_rate = 0.5 into the program").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('*')].some(e => e.shadowRoot?.querySelector("
        "'[data-testid=editor]')?.value.includes('learning_rate = 0.5'))"
    )


def test_dark_and_narrow_show_the_same_page(address: str, open_page: Callable[..., "Visit"]) -> None:
    visit = open_page(address, width=390, height=844, color_scheme="dark")
    wait_for_node(visit, "SigmoidBackward0", seconds=30)
    width = visit.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
