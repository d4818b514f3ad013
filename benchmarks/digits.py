"""What a network that learns digits costs: the page's program against plain Python, its answers, the page itself.

Run as ``python benchmarks/digits.py [--quick] [--json]``; Linux only, for it reads memory in /proc, and the rows of the
page need chromium on the PATH. The real digits are those of EXPLORER_DATA, else of the folder beside the checkout;
without either the 8x8 digits are measured, and the first row says so.

The two sides of a ratio run the same text in turn, with the same number of threads: ``run_ms`` of the recording against
``exec`` in a process of its own, which is warm as a worker is. Where others use the machine, look at the ratio of
processor times; the worker's has its check and its writing down in it.
"""

import base64
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from playwright.sync_api import sync_playwright
from report import ROOT, Row, median_row, print_rows, read_options, spread

from explorer import datasets
from explorer.limits import Limits
from explorer.network import DATA, Design, write_program
from explorer.program import Program
from explorer.runner import Run, Runner

sys.path.insert(0, str(ROOT / "tests"))

from browser import ARGUMENTS, find_chromium, running_app

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SLOWEST = 1.0 / 0.9
"""Nine tenths of the images per second take so many times as long."""

BESIDE = ROOT.parent / "shared" / "mnist"

PLAIN = """
import json, os, random, sys, time
import numpy as np
import torch
from torch import nn, optim
from explorer import datasets
source, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
datasets.prepare()
model = nn.Linear(4, 2)
optimizer = optim.Adam(model.parameters())
for _ in range(3):
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
torch.manual_seed(0)
random.seed(0)
np.random.seed(0)
names = {"torch": torch, "nn": nn, "optim": optim, "print": lambda *_: None}
code = compile(source, "program", "exec")
began, used = time.perf_counter(), time.process_time()
exec(code, names)
print(json.dumps([time.perf_counter() - began, time.process_time() - used, names["test_accuracies"]]))
"""


def run_plain(source: str, threads: int) -> tuple[float, float, list[float]]:
    """Seconds of the program in plain Python, those of the processor, and its test accuracies."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-c", PLAIN, source, str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


def run_recorded(runner: Runner, design: Design) -> tuple[float, float, list[float]]:
    """Seconds of the program in a worker, and so on. Raises RuntimeError where it fails."""
    run = begin(runner, design)
    recording = run.recording()
    if recording.status != "ok":
        raise RuntimeError(recording.problem.message)
    used = max(map(processor_ticks, children_of(runner._host.pid))) / os.sysconf("SC_CLK_TCK")
    told = run.ask({"kind": "numbers", "names": ["test_accuracies"]}, seconds=20.0)["numbers"]
    end(run)
    return recording.timings["run_ms"] / 1000, used, told["test_accuracies"]


def begin(runner: Runner, design: Design) -> Run:
    """A run as the page starts it."""
    return runner.start(Program(write_program(design)), hold=True)


def measure_speed(runner: Runner, design: Design, rounds: int) -> Iterator[Row]:
    """Images per second of both sides in turn, and what they have learned."""
    threads, source = runner.limits.count_threads(), write_program(design)
    plain, recorded = [], []
    for turn in range(rounds):
        for side in (plain, recorded) if turn % 2 else (recorded, plain):
            side.append(run_plain(source, threads) if side is plain else run_recorded(runner, design))
    images = design.epochs * design.count
    ratios, used = (
        [ours[kind] / theirs[kind] for ours, theirs in zip(recorded, plain, strict=True)] for kind in (0, 1)
    )
    load = f"load average {os.getloadavg()[0]:.1f}"
    note = ", ".join(filter(None, [f"{rounds} rounds, {threads} threads, {load}", spread(ratios)]))
    yield Row("training: recorded / plain time", statistics.median(ratios), "ratio", SLOWEST, note)
    yield Row("training: recorded / plain processor time", statistics.median(used), "ratio", SLOWEST, spread(used))
    for name, side in (("plain", plain), ("recorded", recorded)):
        yield Row(f"training: images, {name}", images / statistics.median(one[0] for one in side), "per s")
    accuracy, truth = recorded[-1][2], plain[-1][2]
    differ = sum(told != truth for *_, told in [*recorded, *plain])
    yield Row("test accuracies that differ from plain Python's", float(differ), "runs", 0.0, "bit for bit")
    most = 0.06 if design.data == "mnist" else None
    note = f"{accuracy[-1]:.2%} of the test digits are read right, in plain Python {truth[-1]:.2%}"
    yield Row(f"test error after {design.epochs} epochs", 1 - accuracy[-1], "share", most, note)


def measure_start(runner: Runner, design: Design, times: int) -> Row:
    """From start() to the first pass in the client's history."""
    taken = []
    for _ in range(times):
        time.sleep(0.3)
        began = time.perf_counter()
        run = begin(runner, design)
        arrived = await_truth(lambda run=run: run.history.passes > 0)
        taken.append(1000 * (time.perf_counter() - began) if arrived else None)
        end(run)
    return median_row("start() to the first pass heard", taken, None, "in the client of a runner")


def measure_answers(runner: Runner, design: Design, times: int) -> Iterator[Row]:
    """A question about one digit, while the network trains and at rest."""
    side = DATA[design.data][0]
    pixels = base64.b64encode(np.linspace(0, 1, side * side, dtype=np.float32).tobytes()).decode()

    def ask(run: Run) -> list[float | None]:
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            answer = run.ask({"kind": "predict", "pixels": pixels})
            taken.append(1000 * (time.perf_counter() - began) if "predicted" in answer else None)
            time.sleep(0.037)
        return taken

    run = begin(runner, replace(design, epochs=100))
    await_truth(lambda: run.history.passes > 10)
    yield median_row("predict asked while it trains", ask(run), 100, "in the client of a runner")
    run.stop()
    run.wait()
    await_truth(lambda: run.is_held)
    yield median_row("predict asked at rest", ask(run), 100, "in the client of a runner")
    end(run)


def measure_memory(runner: Runner, design: Design) -> Row:
    """Resident memory of the worker from a twentieth of a run to nine tenths of it."""
    before = children_of(runner._host.pid)
    run = begin(runner, design)
    await_truth(lambda: run.history.passes > design.passes // 20)
    worker = max(before | children_of(runner._host.pid), key=processor_ticks)
    first = resident_mb(worker)
    await_truth(lambda: run.history.passes > design.passes * 9 // 10, 300.0)
    grown = resident_mb(worker) - first
    run.recording()
    end(run)
    return Row("memory the worker grows by in a run", grown, "MB", None, f"{first:.0f} MB at a twentieth")


def end(run: Run) -> None:
    """Stop a run, and give up its model."""
    run.stop()
    run.wait()
    await_truth(lambda: run.stop() or not run.is_held)


def await_truth(question: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether the answer becomes yes in time."""
    last = time.monotonic() + seconds
    while not question():
        if time.monotonic() > last:
            return False
        time.sleep(0.001)
    return True


def children_of(pid: int) -> set[int]:
    """The processes that it forked."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def processor_ticks(pid: int) -> int:
    """What a process used of the processor; nothing where it has ended."""
    try:
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    except OSError:
        return 0


def resident_mb(pid: int) -> float:
    """The memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


# -- in a browser --------------------------------------------------------------------------------------

BARS = "document.querySelectorAll('[data-testid=guess] [data-share]')"

WATCH_BARS = f"""() => {{
    const read = () => Array.from({BARS}, bar => bar.dataset.share).join();
    window.changed = new Promise(done => {{
        let shown = read(), moved = null, changed = null;
        const began = performance.now();
        addEventListener('pointermove', () => moved ??= performance.now(), {{capture: true, once: true}});
        const look = () => {{
            const now = performance.now(), bars = read();
            if (bars !== shown) [shown, changed] = [bars, now];
            if (now - began < 2500) requestAnimationFrame(look);
            else done(changed && changed - moved);
        }};
        requestAnimationFrame(look);
    }});
}}"""
"""The last point of a stroke is one event, sent on its own: what comes after it is the answer to the whole stroke."""

PRESS_TRAIN = """() => new Promise(done => {
    const plot = () => document.querySelector('[data-testid=loss-chart] .js-plotly-plot');
    const end = trace => Array.from(trace.x ?? []).at(-1) ?? -1;
    const last = () => Math.max(-1, ...Array.from(plot()?.data ?? []).map(end));
    const before = last(), began = performance.now();
    document.querySelector('.st-key-digits-begin button').click();
    const look = () => {
        const now = performance.now(), at = last();
        if (at >= 0 && at < before) done(now - began);
        else if (now - began > 20000) done(null);
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
})"""


def open_digits(browser: "Browser", address: str) -> "Page":
    """The page, with a network that has learned."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    page.get_by_role("link", name="Digits").first.click()
    page.get_by_test_id("guess").wait_for()
    await_rest(page)
    return page


def await_rest(page: "Page") -> None:
    """Until the run that the page began has ended."""
    page.wait_for_timeout(2_000)
    page.wait_for_function("document.querySelector('.st-key-digits-stop button')?.disabled", timeout=120_000)
    page.wait_for_timeout(1_000)


def measure_strokes(page: "Page", times: int) -> Row:
    """From the last point of a stroke to the last change of the bars, at rest."""
    taken = []
    paper = page.get_by_test_id("canvas").locator("svg").first
    for turn in range(times):
        paper.scroll_into_view_if_needed()
        box = paper.bounding_box()

        def move(x: float, y: float, steps: int = 5, box: dict = box) -> None:
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=steps)

        move(0.3 + 0.03 * turn, 0.15)
        page.mouse.down()
        move(0.5, 0.5)
        # What was sent on the way has come back.
        page.wait_for_timeout(700)
        page.evaluate(WATCH_BARS)
        move(0.7 - 0.04 * turn, 0.85, steps=1)
        page.mouse.up()
        taken.append(page.evaluate("() => window.changed"))
        page.get_by_test_id("canvas-clear").click()
        page.wait_for_timeout(500)
    return median_row("end of a stroke to changed bars, at rest", taken, 100, "in a browser")


def measure_train(page: "Page", times: int) -> Row:
    """From Train to the first point of the new run's loss."""
    taken = []
    for _ in range(times):
        await_rest(page)
        taken.append(page.evaluate(PRESS_TRAIN))
    return median_row("Train pressed to the first point of its loss", taken, None, "in a browser")


def measure_page(is_quick: bool) -> Iterator[Row]:
    """What a visitor of the page waits for."""
    with ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        stack.callback(browser.close)
        page = open_digits(browser, stack.enter_context(running_app(ROOT / "app.py")))
        yield measure_strokes(page, 10)
        yield measure_train(page, 1 if is_quick else 5)


def measure_all(is_quick: bool) -> Iterator[Row]:
    """Every row of the table."""
    if not datasets.is_there() and BESIDE.exists():
        os.environ["EXPLORER_DATA"] = str(BESIDE)
    design = Design() if datasets.is_there() else Design(data="digits")
    told = datasets.tell_source() if design.data == "mnist" else "MNIST is not here: the 8x8 digits of scikit-learn"
    yield Row("digits to train", float(design.count), "digits", None, told)
    runner = Runner(Limits())
    try:
        # What the first run of a host loads and builds is there for the others.
        end(begin(runner, replace(design, epochs=1)))
        yield from measure_speed(runner, design, 1 if is_quick else 5)
        yield measure_start(runner, design, 5 if is_quick else 10)
        yield from measure_answers(runner, design, 40 if is_quick else 100)
        yield measure_memory(runner, design)
    finally:
        runner.close()
    yield from measure_page(is_quick)


if __name__ == "__main__":
    chosen = read_options(__doc__.splitlines()[0])
    print_rows(measure_all(chosen.quick), as_json=chosen.json)
