"""What a person waits for on the page: the real app in a real browser.

Run as ``python benchmarks/page.py [--quick] [--json]``; needs chromium on the PATH. Times on the page are taken
inside it, with ``performance.now()``: from the click on Run to the second animation frame after the new picture
is in the document, which is when it has been painted.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright
from report import MOST_SECONDS, ROOT, Row, median_row, print_rows, read_options

sys.path.insert(0, str(ROOT / "tests"))

import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FUNCTIONS = ("sigmoid", "tanh", "sin", "exp")

# Names, functions and lengths change from run to run, so that no picture is one that was laid out before.
SMALL = """\
x = torch.tensor(2.0, requires_grad=True)
y{number} = 3 * torch.{function}(x) + 5
y{number}.backward()
"""
RECURRENT = """\
inputs = torch.linspace(-1, 1, {steps})
w = torch.tensor(0.5, requires_grad=True)
u = torch.tensor(0.9, requires_grad=True)
b = torch.tensor(0.1, requires_grad=True)
h = torch.tensor(0.0)
for i in range({steps}):
    h = torch.tanh(w * inputs[i] + u * h + b)
y{number} = h * h
y{number}.backward()
"""
LAYERS = """\
net = nn.Sequential(*[layer for _ in range(23) for layer in (nn.Linear(4, 4), nn.Tanh())])
y{number} = net(torch.{function}(torch.ones(1, 4))).sum()
y{number}.backward()
"""

IN_PAGE = """
window.explorerBench = {
  find(name, root = document) {
    const found = root.querySelector(`[data-testid="${name}"]`);
    if (found) return found;
    for (const element of root.querySelectorAll("*")) {
      const inside = element.shadowRoot && this.find(name, element.shadowRoot);
      if (inside) return inside;
    }
    return null;
  },
  frame: () => new Promise(requestAnimationFrame),
  async shown(label, seconds) {
    const end = performance.now() + 1000 * seconds;
    for (let graph, svg; performance.now() < end; ) {
      await this.frame();
      if (!graph?.isConnected) graph = this.find("graph");
      const now = graph?.querySelector("svg");
      if (!now || now === svg) continue;
      // A folded picture says above it how many nodes it stands for.
      if (![now, this.find("graph-message")].some((element) => element.textContent.includes(label))) continue;
      await this.frame();
      return performance.now();
    }
    return null;
  },
  async run(label, seconds) {
    const button = this.find("run");
    const began = performance.now();
    button.click();
    const ended = await this.shown(label, seconds);
    return ended && ended - began;
  },
  async steps() {
    const names = ["step-first", "step-next", "step-slider", "graph"];
    const [first, next, slider, graph] = names.map((name) => this.find(name));
    first.click();
    const times = [];
    while (Number(slider.value) < Number(slider.max)) {
      await this.frame();
      const began = performance.now();
      next.click();
      graph.querySelector("svg").getBoundingClientRect();
      times.push(performance.now() - began);
    }
    return times;
  },
};
"""
"""Runs in the page. Reading a rectangle makes the browser do the layout that the click asked for at once."""

_numbers = count(1)


def next_program(text: str) -> tuple[str, str]:
    """A program that was not run before, and the name that its picture must show."""
    number = next(_numbers)
    return text.format(number=number, function=FUNCTIONS[number % len(FUNCTIONS)]), f"y{number}"


def next_recurrent(nodes: int) -> tuple[str, str]:
    """A recurrent program of at least ``nodes`` nodes, longer each time, and the count that its picture must tell."""
    number = next(_numbers)
    # A step makes five nodes, all of them together four more.
    steps = nodes // 5 + number
    return RECURRENT.format(number=number, steps=steps), f"{5 * steps + 4:,} nodes"


@contextmanager
def open_page(chromium: "Browser") -> "Iterator[Page]":
    """The page in a fresh profile, with an empty cache."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(30_000)
    context.add_init_script(IN_PAGE)
    try:
        yield context.new_page()
    finally:
        context.close()


def load(page: "Page", address: str) -> float | None:
    """Milliseconds from the navigation to the first picture."""
    page.goto(address, wait_until="commit")
    return page.evaluate("explorerBench.shown('', 60)")


def press_run(page: "Page", source: str, label: str) -> float | None:
    """Type the program, press Run; milliseconds until its picture is on the screen, None if it never is."""
    page.get_by_test_id("editor").fill(source)
    settle(page)
    return page.evaluate(f"label => explorerBench.run(label, {MOST_SECONDS})", label)


def settle(page: "Page") -> None:
    """Wait until the server's script and the browser have nothing left to do."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_timeout(300)


def measure_steps(page: "Page", name: str, sent: list[object]) -> Iterator[Row]:
    """Every step of the picture on the screen, once each."""
    settle(page)
    before = len(sent)
    times = page.evaluate("explorerBench.steps()")
    page.wait_for_timeout(500)
    yield median_row(f"one step, {name}", times, 16, f"slowest {max(times):.3g}")
    yield Row(f"one step, {name}: messages to the server", len(sent) - before, "sent", 0)


def measure_page(times: int) -> Iterator[Row]:
    """The rows that need a browser."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.find_chromium(), args=browser.ARGUMENTS)
        first_visits = []
        for server in range(3 if times > 5 else 1):
            with browser.running_app(ROOT / "app.py") as address:
                with open_page(chromium) as page:
                    first_visits.append(load(page, address))
                if server == 0:
                    yield from _measure_visits(chromium, address, times)
        yield median_row("page load, first visit of a new server", first_visits)
        chromium.close()


def _measure_visits(chromium: "Browser", address: str, times: int) -> Iterator[Row]:
    with open_page(chromium) as page:
        sent: list[object] = []
        page.on("websocket", lambda line: line.on("framesent", lambda frame: sent.append(frame)))
        page.on("request", lambda request: sent.append(request))
        load(page, address)
        few = max(3, times // 4)

        def press(make: Callable[..., tuple[str, str]], *what: object, often: int = few) -> list[float | None]:
            found = []
            for _ in range(often):
                found.append(press_run(page, *make(*what)))
                if found[-1] is None:
                    break
            return found

        press(next_program, SMALL, often=2)
        small = press(next_program, SMALL, often=times)
        yield median_row("Run pressed to graph on the screen", small, 300)
        yield from measure_steps(page, "small graph", sent)
        press(next_program, LAYERS, often=1)
        yield from measure_steps(page, "graph of 116 nodes", sent)
        yield median_row("Run pressed to picture: 116 nodes, 23 layers", press(next_program, LAYERS), 1_000)
        short = RECURRENT.replace("{steps}", "23")
        yield median_row("Run pressed to picture: 119 nodes, recurrent", press(next_program, short), 1_000)
        yield median_row("Run pressed to picture: 1,000 nodes", press(next_recurrent, 1_000), 1_000)
        yield median_row("Run pressed to picture: 10,000 nodes", press(next_recurrent, 10_000), 2_000)
    loads = []
    for _ in range(max(3, times // 4)):
        with open_page(chromium) as page:
            loads.append(load(page, address))
    yield median_row("page load, empty cache, warm server", loads)


def measure_all(is_quick: bool) -> Iterator[Row]:
    """Every row of the table."""
    times = 5 if is_quick else 20
    yield from measure_page(times)


if __name__ == "__main__":
    chosen = read_options("What a person waits for on the page, in a real browser.")
    print_rows(measure_all(chosen.quick), as_json=chosen.json)
