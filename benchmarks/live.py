"""Training as its reader sees it: the live curve of the real app in a real browser, alone and among ten visitors.

The other nine speak Streamlit's own websocket protocol and rerun what a browser would: on a class server their
screens are drawn by machines of their own.

Run as ``python benchmarks/live.py [--quick] [--json]``; needs chromium on the PATH. The browser, the server and the
programs share the machine's cores.
"""

import asyncio
import json
import statistics
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright
from report import ROOT, Row, print_rows, read_options, spread
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

sys.path.insert(0, str(ROOT / "tests"))

from browser import ARGUMENTS, find_chromium, running_app

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VISITORS = 10

PROGRAM = """\
x = torch.linspace(-1, 1, 50)
y = 2 * x + 1
learning_rate = 0.0001
w = torch.tensor(-2.0, requires_grad=True)
for step in range(100_000_000):
    loss = ((w * x + 1 - y) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= learning_rate * w.grad
    w.grad = None
"""

WATCH = """() => {
    const root = document.querySelector('[data-testid=loss-chart]');
    const node = root.querySelector('.main-svg'), height = root.clientHeight;
    const seen = window.seen = {updates: 0, frames: 0, blank: 0, replaced: 0, began: performance.now()};
    new MutationObserver(() => seen.updates++).observe(root, {attributes: true, attributeFilter: ['data-version']});
    const look = () => {
        const now = document.querySelector('[data-testid=loss-chart]');
        seen.frames++;
        if (now !== root || now.querySelector('.main-svg') !== node) seen.replaced++;
        const line = now?.querySelector('.js-line');
        if (!line || (line.getAttribute('d') || '').length < 20 || now.clientHeight !== height) seen.blank++;
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""
READ = "() => ({...window.seen, seconds: (performance.now() - window.seen.began) / 1000})"


def begin(browser: "Browser", address: str) -> "Page":
    """A tab in which the program trains and its curve is there."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    page.get_by_test_id("graph").locator("svg text").first.wait_for()
    page.get_by_test_id("editor").fill(PROGRAM)
    page.get_by_test_id("run").click()
    page.get_by_test_id("loss-chart").locator("path.js-line").first.wait_for(state="attached")
    page.wait_for_timeout(2_000)
    return page


def watch(page: "Page", seconds: float) -> dict[str, float]:
    """What the curve of a tab did in so many seconds."""
    page.evaluate(WATCH)
    page.wait_for_timeout(1_000 * seconds)
    return page.evaluate(READ)


def measure_curve(browser: "Browser", address: str, seconds: float) -> Iterator[Row]:
    """One visitor: updates, blank frames, and how long a knob takes to its mark in the curve."""
    page = begin(browser, address)
    seen = watch(page, seconds)
    note = f"over {seen['seconds']:.0f} s, {seen['frames'] / seen['seconds']:.0f} frames/s"
    yield Row("live curve: time between two updates", 1_000 * seen["seconds"] / seen["updates"], "ms", 100, note)
    yield Row("live curve: blank frames", seen["blank"], "frames", 0)
    yield Row("live curve: frames in which its node was another", seen["replaced"], "frames", 0)
    yield measure_knob(page)
    page.context.close()


def measure_knob(page: "Page") -> Row:
    """From Enter in the number box to the mark in the curve."""
    took = []
    box = page.locator(".st-key-knob-learning_rate-number input")
    for turn in range(10):
        value = f"0.000{turn + 2:02d}"
        box.fill(value)
        took.append(
            page.evaluate(
                """async value => {
                    const box = document.querySelector('.st-key-knob-learning_rate-number input');
                    const began = performance.now();
                    box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', code: 'Enter', bubbles: true}));
                    const shows = () => [...document.querySelectorAll('[data-testid=loss-chart] text')]
                        .some(text => text.textContent.includes(value));
                    while (!shows() && performance.now() - began < 20000)
                        await new Promise(done => requestAnimationFrame(done));
                    return performance.now() - began;
                }""",
                f"= {float(value):.4g}",
            )
        )
        page.wait_for_timeout(300)
    return Row("knob moved to its mark in the curve, median of 10", statistics.median(took), "ms", None, spread(took))


def measure_visitors(browser: "Browser", port: int, seconds: float) -> Iterator[Row]:
    """Nine visitors without their browsers, whose screens are drawn elsewhere, and one real tab, all in training."""
    with ThreadPoolExecutor(1) as pool:
        begun = threading.Event()
        others = pool.submit(asyncio.run, train_many(port, VISITORS - 1, seconds, begun))
        page = begin(browser, f"http://127.0.0.1:{port}")
        while not begun.wait(0.1) and not others.done():
            page.wait_for_timeout(100)
        seen = watch(page, seconds)
        rates = others.result()
    page.context.close()
    yield Row(
        f"{VISITORS} visitors train: time between two updates in a browser",
        1_000 * seconds / seen["updates"],
        "ms",
        500,
    )
    note = "updates of each: " + ", ".join(f"{rate:.1f}/s" for rate in rates)
    yield Row(
        f"{VISITORS} visitors train: time between two updates, slowest", 1_000 / max(min(rates), 1e-9), "ms", 500, note
    )


async def train_many(port: int, count: int, seconds: float, begun: threading.Event) -> list[float]:
    """Train on the linear regression page in so many tabs; updates of each one's loss curve in a second."""
    async with AsyncExitStack() as lines:
        options = {"subprotocols": ["streamlit"], "max_size": None, "open_timeout": 60.0, "ping_interval": None}
        address = f"ws://127.0.0.1:{port}/_stcore/stream"
        visitors = [Visitor(await lines.enter_async_context(connect(address, **options))) for _ in range(count)]
        following = [asyncio.create_task(visitor.follow()) for visitor in visitors]
        await asyncio.gather(*(visitor.begin() for visitor in visitors))
        begun.set()
        before = [visitor.updates for visitor in visitors]
        await asyncio.sleep(seconds)
        rates = [(visitor.updates - then) / seconds for visitor, then in zip(visitors, before, strict=True)]
        for task in following:
            if task.done():
                await task
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return rates


class Visitor:
    """A tab without a browser on the linear regression page: reruns what asks for it, counts updates of its curve."""

    def __init__(self, line: object) -> None:
        self.updates = 0
        self._line = line
        self._widgets: dict[str, str] = {}
        self._values: dict[str, tuple[str, Any]] = {}
        self._kept: set[str] = set()
        self._version = None
        self._timers: dict[str, asyncio.Task] = {}

    async def begin(self) -> None:
        """Open the page, make its run a long one, press Train, and wait for its curve to move."""
        await self._rerun()
        await self._until(lambda: self.updates > 0 and "Epochs" in self._widgets)
        await self._rerun(Epochs=("double_value", 100_000.0))
        await asyncio.sleep(2.0)
        count = self.updates
        await self._rerun(Train=("trigger_value", True))
        await self._until(lambda: self.updates > count + 3)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60.0):
            while not is_so():
                await asyncio.sleep(0.05)

    async def _rerun(self, fragment: str = "", **changed: tuple[str, Any]) -> None:
        """Ask for a run of the script, or of one fragment, as a browser does that kept what it was sent."""
        self._values |= changed
        wish = BackMsg()
        client = wish.rerun_script
        client.page_name, client.fragment_id, client.is_auto_rerun = "linear_regression", fragment, bool(fragment)
        client.cached_message_hashes.extend(self._kept)
        for label, (kind, value) in self._values.items():
            state = client.widget_states.widgets.add()
            state.id = self._widgets[label]
            setattr(state, kind, value)
        self._values = {label: value for label, value in self._values.items() if value[0] != "trigger_value"}
        if not fragment:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
        await self._line.send(wish.SerializeToString())

    async def _repeat(self, fragment: str, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self._rerun(fragment)

    async def follow(self) -> None:
        """Take in what the server sends."""
        while True:
            said = ForwardMsg.FromString(await self._line.recv())
            if said.hash and said.metadata.cacheable:
                self._kept.add(said.hash)
            kind = said.WhichOneof("type")
            if kind == "auto_rerun":
                self._restart(said.auto_rerun.fragment_id, said.auto_rerun.interval)
            elif kind == "delta":
                self._take(said.delta.new_element)

    def _restart(self, fragment: str, interval: float) -> None:
        if fragment in self._timers:
            self._timers[fragment].cancel()
        self._timers[fragment] = asyncio.create_task(self._repeat(fragment, interval))

    def _take(self, element: Any) -> None:
        kind = element.WhichOneof("type")
        if kind == "exception":
            raise RuntimeError(f"the page failed: {element.exception.message}")
        if kind in ("number_input", "button"):
            one = getattr(element, kind)
            self._widgets[one.label] = one.id
        elif kind == "bidi_component":
            told = json.loads(element.bidi_component.json or "{}")
            if told.get("testid") == "loss-chart" and told["version"] != self._version:
                self._version = told["version"]
                self.updates += 1


def measure_all(is_quick: bool) -> Iterator[Row]:
    """Every row."""
    seconds = 8.0 if is_quick else 20.0
    with ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        stack.callback(browser.close)
        address = stack.enter_context(running_app(ROOT / "app.py"))
        yield from measure_curve(browser, address, seconds)
        yield from measure_visitors(browser, int(address.rpartition(":")[2].strip("/")), seconds)


if __name__ == "__main__":
    chosen = read_options(__doc__.splitlines()[0])
    print_rows(measure_all(chosen.quick), as_json=chosen.json)
