"""What training live costs: recorded loops against plain Python, a knob's way into the losses, memory, ten at once.

Run as ``python benchmarks/training.py [--quick] [--json]``; Linux only, for it reads memory in /proc.

The two sides of a ratio are forks of one process, both warm as a worker is (one thread, frozen heap, the worker's
collector); the plain one runs the program by ``exec`` over the real ``torch``, the recorded one as a worker does, with
its events written and its orders read. They go on in turn, some 50 ms each, and the clock of the recorder stands still
while it waits, so that a busy machine slows both alike. Times are of the processor; a ratio is that of the sums.
"""

import gc
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from report import Row, median_row, print_rows, read_options, spread
from torch import nn, optim

from explorer import policy
from explorer.check import check_program
from explorer.control import Control, Orders
from explorer.limits import Limits
from explorer.program import FILENAME, Program
from explorer.recorder import Run
from explorer.runner import Run as ClientRun
from explorer.runner import Runner
from explorer.transcript import Positions
from explorer.worker import Answer, warm_up

BLOCKS = 60
"""A loop is cut into so many turns."""

PASSES = 100_000
AT_ONCE = 10
LOSSLESS = 1.0 / 0.9
"""A loop that keeps nine tenths of its speed takes so many times as long."""

DATA = """\
x = torch.linspace(-1, 1, 64)
t = 3 * x - 2
w = torch.zeros((), requires_grad=True)
b = torch.zeros((), requires_grad=True)
learning_rate = 0.1
"""
BY_HAND = """\
for step in range(steps):
    if step % block == 0:
        take_turn()
    loss = ((w * x + b - t) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= learning_rate * w.grad
        b -= learning_rate * b.grad
    w.grad = b.grad = None
take_turn()
"""
BY_SGD = """\
optimizer = optim.SGD([w, b], lr=learning_rate)
for step in range(steps):
    if step % block == 0:
        take_turn()
    loss = ((w * x + b - t) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
take_turn()
"""
MLP = """\
torch.manual_seed(0)
inputs, labels = torch.randn(64, 784), torch.randint(0, 10, (64,))
model = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 10))
optimizer = optim.SGD(model.parameters(), lr=0.1)
for step in range(steps):
    if step % block == 0:
        take_turn()
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), labels)
    loss.backward()
    optimizer.step()
take_turn()
"""


@dataclass(frozen=True, slots=True)
class Loop:
    """A training loop and about how many passes of it take three seconds."""

    name: str
    source: str
    steps: int
    target: float | None = LOSSLESS


LOOPS = (
    Loop("regression by hand", DATA + BY_HAND, 30_000),
    Loop("regression, optim.SGD", DATA + BY_SGD, 18_000),
    Loop("MLP 784-400-10, batch 64", MLP, 1_800),
)


class Turns:
    """One side's turns: the processor time of each, and the word that passes the turn on."""

    def __init__(self, pipe: Any, on_wait: Callable[[float], None]) -> None:
        self._pipe = pipe
        self._on_wait = on_wait
        self._began: float | None = None

    def take(self) -> None:
        """The turn is over, but for the first call; wait for the next."""
        now = time.process_time()
        self._pipe.send(None if self._began is None else now - self._began)
        asked = time.perf_counter()
        self._pipe.recv()
        self._on_wait(time.perf_counter() - asked)
        self._began = time.process_time()


def run_plain(source: str, steps: int, pipe: Any) -> None:
    """The program in plain Python."""
    code = compile(source, FILENAME, "exec")
    names = {"torch": torch, "nn": nn, "optim": optim, "steps": steps, "block": steps // BLOCKS}
    exec(code, names | {"take_turn": Turns(pipe, lambda _: None).take})


def run_recorded(source: str, steps: int, pipe: Any) -> None:
    """The program as a worker runs it. Raises RuntimeError where it is not recorded to its end."""
    program = Program(source)
    tree = check_program(program)
    namespace, positions = policy.program_globals(), Positions(tree)
    orders, _ = os.pipe()
    with open(os.devnull, "wb", buffering=0) as nothing:
        answer = Answer(nothing, 1, numbered=False)
        control = Control(tree, namespace, positions, on_event=answer.send, orders=Orders(orders))
        run = Run(program, tree, namespace, positions, control)

        def skip(seconds: float) -> None:
            tracer = control.tracer
            count, then = tracer._last_count
            tracer._started, tracer._last_count = tracer._started + seconds, (count, then + seconds)
            tracer.tell_at += seconds

        namespace |= {"steps": steps, "block": steps // BLOCKS, "take_turn": Turns(pipe, skip).take}
        problem = run.execute(compile(tree, FILENAME, "exec"), 600.0, 600.0)
        control.tell()
    if problem is not None or control.tracer.count != steps:
        raise RuntimeError(f"{control.tracer.count} passes of {steps}: {problem}")


class Side:
    """A process that runs a loop turn by turn."""

    def __init__(self, run: Callable[[str, int, Any], None], loop: Loop, steps: int) -> None:
        self._pipe, other = multiprocessing.Pipe()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                gc.set_threshold(50_000, 20, 100)
                # Once, so that what the first run of a loop sets up is there.
                run(loop.source, BLOCKS, _Nobody())
                gc.collect()
                gc.freeze()
                run(loop.source, steps, other)
                status = 0
            finally:
                os._exit(status)
        other.close()
        self.seconds: list[float] = []
        self._pipe.recv()

    def take_turn(self) -> None:
        """Let it make one block of passes."""
        self._pipe.send(None)
        self.seconds.append(self._pipe.recv())

    def close(self) -> None:
        """Let it end."""
        self._pipe.send(None)
        os.waitpid(self._pid, 0)


class _Nobody:
    """Whom a turn is passed on to that nobody waits for."""

    def send(self, _: Any) -> None:
        """Tell nobody."""

    def recv(self) -> None:
        """Go on at once."""


def measure_speed(loop: Loop, rounds: int, share: float) -> Iterator[Row]:
    """Passes per second of both sides, and what recording costs; each round is a loop from its start to its end."""
    steps = int(loop.steps * share) // BLOCKS * BLOCKS
    ratios, later, speeds = [], [], []
    for turn in range(rounds):
        plain, recorded = Side(run_plain, loop, steps), Side(run_recorded, loop, steps)
        for _ in range(BLOCKS):
            for side in (plain, recorded) if turn % 2 else (recorded, plain):
                side.take_turn()
        plain.close()
        recorded.close()
        ratios.append(sum(recorded.seconds) / sum(plain.seconds))
        half = BLOCKS // 2
        later.append(sum(recorded.seconds[half:]) / sum(plain.seconds[half:]))
        speeds.append((steps / sum(plain.seconds), steps / sum(recorded.seconds)))
    plain_speed, speed = (statistics.median(side) for side in zip(*speeds, strict=True))
    note = ", ".join(filter(None, [f"{steps:,} passes, {rounds} rounds", spread(ratios)]))
    yield Row(f"{loop.name}: recorded / plain time", statistics.median(ratios), "ratio", loop.target, note)
    yield Row(f"{loop.name}: the same, second half", statistics.median(later), "ratio", note=spread(later))
    yield Row(f"{loop.name}: passes, plain", plain_speed, "per s")
    yield Row(f"{loop.name}: passes, recorded", speed, "per s")


# -- through the runner --------------------------------------------------------------------------------

ENDLESS = DATA.replace("0.1", "0.01") + (
    "while True:\n"
    "    loss = learning_rate * ((w * x + b - t) ** 2).mean() / ((w * x + b - t) ** 2).mean()\n"
    "    loss.backward()\n"
    "    w.grad = b.grad = None\n"
)
"""Its loss is its learning rate, so that the first loss of a new one is known."""

LONG = (DATA + BY_HAND).replace("    if step % block == 0:\n        take_turn()\n", "").replace("take_turn()\n", "")


def measure_knob(runner: Runner, times: int) -> Row:
    """From the call that moves a knob to the first loss of the new value in the client's history."""
    run = runner.start(Program(ENDLESS))
    _await(lambda: run.history.passes > 1_000)
    taken = []
    for number in range(times):
        value = 0.02 + 0.01 * number
        began = time.perf_counter()
        run.set_knob("learning_rate", value)
        arrived = _await(lambda value=value: abs(run.history.loss.y[-1] - value) < 1e-4)
        taken.append(1000 * (time.perf_counter() - began) if arrived else None)
        time.sleep(0.137)
    run.stop()
    run.recording()
    return median_row("a knob moved: until its first loss is there", taken, 250, "in the client of a runner")


def measure_memory(runner: Runner, passes: int) -> Iterator[Row]:
    """Resident memory of the worker and of this process over a long run, read while it goes on."""
    host = runner._host.pid
    run, before = runner.start(Program(LONG.replace("steps", str(passes)))), _resident_mb(os.getpid())
    _await(lambda: run.history.passes > passes // 20)
    worker = max(_children(host), key=_processor_ticks)
    first = _resident_mb(worker)
    _await(lambda: run.history.passes > passes * 9 // 10, 600.0)
    grown = (_resident_mb(worker) - first) / 0.85
    heard = _resident_mb(os.getpid()) - before
    kept = run.recording()
    is_whole = kept.status == "ok" and run.history.loss.x == list(range(passes))
    yield Row(f"{passes:,} passes: losses missing in the client", float(not is_whole), "runs", 0.0, kept.status)
    yield Row(f"{passes:,} passes: memory the worker grows by", grown, "MB", 100, f"{first:.0f} MB at a twentieth")
    yield Row(f"{passes:,} passes: memory of the client's history", heard, "MB", 100)


def measure_many(runner: Runner, seconds: float) -> Iterator[Row]:
    """Pass events per second of each of ten runs at once: of the one that gets fewest, and the longest silence."""
    told: list[list[float]] = [[] for _ in range(AT_ONCE)]
    runs = [runner.start(Program(ENDLESS), visitor=f"10.0.1.{number}/tab") for number in range(AT_ONCE)]
    _await(lambda: all(run.history.passes for run in runs))
    for times, run in zip(told, runs, strict=True):
        _listen(run, times)
    time.sleep(seconds)
    for run in runs:
        run.stop()
    speeds = [len(times) / seconds for times in told]
    silence = max(later - earlier for times in told for earlier, later in itertools.pairwise(times))
    for run in runs:
        run.recording()
    note = f"median {statistics.median(speeds):.3g}, least {min(speeds):.3g} events per s"
    yield Row(f"{AT_ONCE} runs at once: seconds an event, the slowest", 1 / min(speeds), "s", 0.5, note)
    yield Row(f"{AT_ONCE} runs at once: longest silence", silence, "s", note=f"over {seconds:g} s")


def _listen(run: ClientRun, times: list[float]) -> None:
    """Note when each ``pass`` event of a run comes, from now on."""
    hear = run.hear

    def note(event: dict[str, Any]) -> None:
        if event.get("event") == "pass":
            times.append(time.monotonic())
        hear(event)

    run.hear = note


def _await(question: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not question():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _processor_ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_all(is_quick: bool) -> Iterator[Row]:
    """Every row of the table."""
    warm_up("cpu")
    for loop in LOOPS:
        yield from measure_speed(loop, 1 if is_quick else 5, 0.7 if is_quick else 1.0)
    runner = Runner(Limits(training_seconds=600.0, at_once_each=AT_ONCE))
    try:
        runner.run(Program("torch.ones(2, requires_grad=True).sum().backward()\n"))
        yield measure_knob(runner, 10)
        yield from measure_memory(runner, PASSES // 5 if is_quick else PASSES)
        yield from measure_many(runner, 4.0 if is_quick else 20.0)
    finally:
        runner.close()


if __name__ == "__main__":
    chosen = read_options("What training live costs, against plain Python and by the clock of a person who looks on.")
    print_rows(measure_all(chosen.quick), as_json=chosen.json)
