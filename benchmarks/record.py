"""What recording costs: a program recorded to plain data against the same program run plainly, side by side.

Run as ``python benchmarks/record.py [--quick] [--json]``; POSIX only.

The recorder puts its doorkeepers before PyTorch's entry points once per process, and TorchLens wraps all of
torch, so each technique has a process of its own, forked from this one before anything ran in it. They work
in lock step: one sample each, in turn, never two at once. A sample is the median of a few runs, with the
garbage collector off; a ratio is one sample over the plain sample of the same round; a row shows the median
of its ratios. Both sides execute the same code object over the same kind of globals (the program's facades and
prepared objects). Timed is ``Run.execute`` and ``Run.to_plain``: not the check, the fork, JSON, pictures, or what
only pictures ask for.
"""

import ast
import gc
import importlib.util
import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

import torch
from report import Row, print_rows, read_options, spread
from torch import nn
from torchviz import make_dot

from explorer import policy
from explorer.program import FILENAME, Program
from explorer.recorder import Run
from explorer.runner import Runner

SAMPLE_SECONDS = 0.03
"""A sample repeats a short program for about so long."""

FEWEST_ROUNDS = 5
OPERATIONS = 100_000

BACKWARD = "loss = F.cross_entropy(model(inputs), labels)\nloss.backward()\n"
THREE_LINES = "x = torch.tensor(2.0, requires_grad=True)\ny = 3 * torch.sigmoid(x) + 5\ny.backward()\n"
CHAIN = """\
x = torch.tensor(0.5, requires_grad=True)
y = x
for _ in range({operations} // 2):
    y = torch.sin(y) * 1.1
y.backward()
"""
DAG = """\
values = [torch.tensor(0.1 * i, requires_grad=True) for i in range(1, 9)]
for kind, left, right in picks:
    if kind == 0:
        values.append(values[left] * values[right])
    elif kind == 1:
        values.append(values[left] + values[right])
    else:
        values.append(torch.tanh(values[left]))
y = torch.stack(values).sum()
y.backward()
"""
REGRESSION = """\
x = torch.linspace(-1, 1, 64)
t = 3 * x - 2
w = torch.zeros((), requires_grad=True)
b = torch.zeros((), requires_grad=True)
learning_rate = 0.1
for step in range(steps):
    if step == steps // 2:
        marks.append(clock())
    loss = ((w * x + b - t) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= learning_rate * w.grad
        b -= learning_rate * b.grad
    w.grad = b.grad = None
marks.append(clock())
"""
DIGITS = """\
optimizer = optim.SGD(model.parameters(), lr=0.1)
for step in range(steps):
    if step == steps // 2:
        marks.append(clock())
    optimizer.zero_grad()
    loss = F.cross_entropy(model(inputs), labels)
    loss.backward()
    optimizer.step()
marks.append(clock())
"""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a way around them."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """ReLU(F(x) + shortcut(x))."""
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(inner + self.shortcut(x))


def build_resnet(width: int = 32) -> nn.Module:
    """ResNet-18 for 32x32 images: a 3x3 stem, four stages of two BasicBlocks, one linear layer."""
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    blocks = [
        BasicBlock(inside if first else outside, outside, stride if first else 1)
        for inside, outside, stride in zip(widths, widths[1:], (1, 2, 2, 2), strict=False)
        for first in (True, False)
    ]
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def _prepare_mlp() -> dict[str, Any]:
    model = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 10))
    return {"model": model, "inputs": torch.randn(64, 784), "labels": torch.randint(0, 10, (64,))}


def _prepare_resnet() -> dict[str, Any]:
    return {"model": build_resnet(), "inputs": torch.randn(8, 3, 32, 32), "labels": torch.randint(0, 10, (8,))}


class Classifier(nn.Module):
    """A 12-layer transformer encoder of width 256, mean over the sequence, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.head = nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, length, 256) to (batch, 10)."""
        return self.head(self.encoder(x).mean(1))


def _prepare_transformer() -> dict[str, Any]:
    return {"model": Classifier(), "inputs": torch.randn(4, 32, 256), "labels": torch.randint(0, 10, (4,))}


def _prepare_dag() -> dict[str, Any]:
    """1,300 picks of an operation and of two earlier values, near ones more often."""
    picks = []
    for count in range(8, 8 + 1300):
        back = 1 + (torch.rand(2) ** 3 * min(count, 200)).long().clamp(max=count - 1)
        picks.append((int(torch.randint(0, 3, ())), count - int(back[0]), count - int(back[1])))
    return {"picks": picks}


@dataclass(frozen=True, slots=True)
class Workload:
    """A program, the objects that its globals hold beforehand, and the ratio that recording may cost."""

    name: str
    source: str
    prepare: Callable[[], dict[str, Any]]
    target: float | None
    has_peers: bool = True


WORKLOADS = {
    one.name: one
    for one in (
        Workload("three lines", THREE_LINES, dict, 3.0),
        Workload("MLP 784-400-10, batch 64", BACKWARD, _prepare_mlp, 1.8),
        Workload("ResNet-18, width 32, batch 8", BACKWARD, _prepare_resnet, 1.4),
        Workload("transformer encoder 12 x 256", BACKWARD, _prepare_transformer, 1.5),
        Workload("chain of 1,000", CHAIN.format(operations=1_000), dict, 3.0),
        Workload("chain of 10,000", CHAIN.format(operations=10_000), dict, 3.0, has_peers=False),
        Workload("random DAG", DAG, _prepare_dag, 3.0),
    )
}
LOOPS = {
    one.name: one
    for one in (
        Workload("regression loop", REGRESSION, dict, 1.1),
        Workload("MLP loop, batch 64", DIGITS, _prepare_mlp, 1.1),
    )
}


class Bench:
    """A workload made ready in this process: its objects, its code, fresh globals for each run."""

    def __init__(self, workload: Workload, steps: int = 0) -> None:
        torch.manual_seed(0)
        self.marks: list[float] = []
        self._prepared = workload.prepare()
        if steps:
            self._prepared |= {"steps": steps, "marks": self.marks, "clock": time.perf_counter}
        self._program = Program(workload.source)
        self._tree = ast.parse(workload.source)
        self._code = compile(self._tree, FILENAME, "exec")

    def fresh_globals(self) -> dict[str, Any]:
        """What a run starts from: the facades, the prepared objects, no gradients."""
        torch.manual_seed(0)
        self.marks.clear()
        if "model" in self._prepared:
            self._prepared["model"].zero_grad()
        return policy.program_globals() | self._prepared

    def time_plain(self) -> float:
        """Seconds of the program itself."""
        namespace, code = self.fresh_globals(), self._code
        began = time.perf_counter()
        exec(code, namespace)
        return time.perf_counter() - began

    def time_recorded(self) -> float:
        """Seconds of the program with its full recording as plain data. Raises RuntimeError if that is not one."""
        run, code = self._start(), self._code
        began = time.perf_counter()
        plain = run.to_plain(run.execute(code, None))
        seconds = time.perf_counter() - began
        if plain["status"] != "ok" or not plain["passes"][0]["steps"]:
            raise RuntimeError(f"not recorded in full: {plain['problem']}")
        return seconds

    def count_nodes(self) -> int:
        """How many nodes the graph of the program has."""
        run = self._start()
        return run.to_plain(run.execute(self._code, None))["graphs"][0]["total_nodes"]

    def time_torchviz(self) -> float:
        """Seconds of the program with ``make_dot`` of its root just before ``backward()``."""
        forward, root, backward = self._split()
        namespace = self.fresh_globals()
        began = time.perf_counter()
        exec(forward, namespace)
        make_dot(namespace[root])
        exec(backward, namespace)
        return time.perf_counter() - began

    def time_torchlens(self) -> float:
        """Seconds of the program inside a module that TorchLens traces, with its gradients."""
        import torchlens
        from torchlens.options import CaptureOptions

        forward, root, _ = self._split()
        # The facades hold functions of torch as they were before TorchLens wrapped them.
        real = {"torch": torch, "nn": nn, "F": nn.functional}
        namespace = self.fresh_globals() | real
        inputs = namespace.pop("inputs", torch.zeros(1))

        class Traced(nn.Module):
            model = namespace.get("model")

            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                namespace["inputs"] = inputs
                exec(forward, namespace)
                return namespace[root]

        traced = Traced()
        began = time.perf_counter()
        log = torchlens.trace(traced, inputs, capture=CaptureOptions(save_grads=True))
        log.log_backward(namespace[root])
        return time.perf_counter() - began

    def _start(self) -> Run:
        return Run(self._program, self._tree, self.fresh_globals(), draws=False)

    def _split(self) -> tuple[CodeType, str, CodeType]:
        """The program up to its last line, the name that this line calls ``backward()`` of, and the line."""
        *before, last = self._tree.body
        forward = compile(ast.Module(before, []), FILENAME, "exec")
        return forward, ast.unparse(last.value.func.value), compile(ast.Module([last], []), FILENAME, "exec")


class Twin:
    """A forked process that times what it is asked to, one request at a time."""

    def __init__(self) -> None:
        self._pipe, other = multiprocessing.Pipe()
        # Not multiprocessing.Process: TorchLens refuses to trace in one.
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._pipe.close()
                _serve(other)
            finally:
                os._exit(0)
        other.close()

    def ask(self, act: str, workload: Workload, *arguments: Any) -> Any:
        """What ``act`` returned there. Raises RuntimeError with its message if it raised."""
        self._pipe.send((act, workload.name, *arguments))
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the process crashed") from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        os.waitpid(self._pid, 0)


def _serve(pipe: Any) -> None:
    warnings.simplefilter("ignore")
    benches: dict[tuple, Bench] = {}
    acts = {"nodes": Bench.count_nodes, "sample": _sample, "halves": _time_halves, "peak": _measure_peak}
    # Twins forked later hold the other end open too, so the end is told, not seen.
    for act, name, *arguments in iter(pipe.recv, None):
        if act == "ready":
            benches.clear()
            benches[name] = Bench({**WORKLOADS, **LOOPS}[name], *arguments)
            gc.collect()
            gc.freeze()
            pipe.send(0.0)
            continue
        try:
            pipe.send(acts[act](benches[name], *arguments))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {str(error)[:80]}")


def _sample(bench: Bench, technique: str, repeats: int) -> float:
    """The median time of ``repeats`` runs."""
    time_run = getattr(bench, f"time_{technique}")
    gc.collect()
    gc.disable()
    try:
        return statistics.median(time_run() for _ in range(repeats))
    finally:
        gc.enable()


def _time_halves(bench: Bench, technique: str) -> tuple[float, float]:
    """Seconds of one run of a loop, and of its second half."""
    seconds = _sample(bench, technique, 1)
    return seconds, bench.marks[1] - bench.marks[0]


def _measure_peak(bench: Bench, technique: str) -> float:
    """MB by which resident memory rose above what it was before one run, at its highest."""
    gc.collect()
    before = _read_status("VmRSS")
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    getattr(bench, f"time_{technique}")()
    return (_read_status("VmHWM") - before) / 1024


def _read_status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


def measure_full(twins: dict[str, Twin], workload: Workload, seconds: float) -> Iterator[Row]:
    """Rounds of all techniques for about ``seconds`` in all: the row of our own, then those of the peers."""
    reasons = {}
    for technique in ("torchviz", "torchlens"):
        if technique not in twins:
            is_there = importlib.util.find_spec("torchlens") is not None
            reasons[technique] = "not run with --quick" if is_there else "not run: TorchLens is not installed"
        elif not workload.has_peers and technique == "torchlens":
            reasons[technique] = "not run: it would take minutes"
    samples: dict[str, list[float]] = {technique: [] for technique in twins}
    spent = dict.fromkeys(twins, 0.0)
    for technique, twin in twins.items():
        if technique in reasons:
            continue
        twin.ask("ready", workload)
        try:
            for _ in range(3):
                took = twin.ask("sample", workload, technique, 1)
        except RuntimeError as error:
            reasons[technique] = f"not run: {error}"
        if technique == "plain":
            repeats = max(1, min(300, int(SAMPLE_SECONDS / took)))
    nodes = twins["recorded"].ask("nodes", workload)
    ratios: dict[str, list[float]] = {technique: [] for technique in twins}
    began = time.perf_counter()
    while len(samples["plain"]) < FEWEST_ROUNDS or time.perf_counter() - began < seconds:
        for technique, twin in twins.items():
            is_peer = technique not in ("plain", "recorded")
            if technique in reasons or (is_peer and spent[technique] > seconds / 4 and len(ratios[technique]) > 2):
                continue
            asked = time.perf_counter()
            few = 1 if technique == "torchlens" else repeats
            samples[technique].append(twin.ask("sample", workload, technique, few))
            spent[technique] += time.perf_counter() - asked
            ratios[technique].append(samples[technique][-1] / samples["plain"][-1])
    plain = statistics.median(samples["plain"])
    note = f"{nodes:,} nodes, plain {plain * 1000:.3g} ms, {len(ratios['recorded'])} rounds"
    ours = ratios["recorded"]
    yield Row(
        f"{workload.name}: recorded / plain", statistics.median(ours), "ratio", workload.target, _note(note, ours)
    )
    for technique in ("torchviz", "torchlens"):
        name = f"{workload.name}: {technique} / plain"
        if technique in reasons:
            yield Row(name, None, "ratio", note=reasons[technique])
        else:
            yield Row(name, statistics.median(ratios[technique]), "ratio", note=_note("", ratios[technique]))


def _note(note: str, ratios: list[float]) -> str:
    return ", ".join(part for part in (note, spread(ratios)) if part)


def measure_memory(workload: Workload) -> Row:
    """How much higher resident memory peaks with the recorder; each side in a process that ran nothing before."""
    name = f"{workload.name}: extra peak memory"
    peaks = {}
    for technique in ("plain", "recorded"):
        twin = Twin()
        try:
            twin.ask("ready", workload)
            peaks[technique] = twin.ask("peak", workload, technique)
        except RuntimeError as error:
            return Row(name, None, "MB", note=f"not measured: {error}")
        finally:
            twin.close()
    return Row(name, peaks["recorded"] - peaks["plain"], "MB", note=f"plain {peaks['plain']:.3g} MB")


def measure_light(twins: dict[str, Twin], workload: Workload, steps: int, rounds: int) -> Iterator[Row]:
    """A long training loop with the recorder, and its second half alone, where only the light record is kept."""
    for technique in ("plain", "recorded"):
        twins[technique].ask("ready", workload, steps)
    whole, half = [], []
    for _ in range(rounds):
        plain = twins["plain"].ask("halves", workload, "plain")
        recorded = twins["recorded"].ask("halves", workload, "recorded")
        whole.append(recorded[0] / plain[0])
        half.append(recorded[1] / plain[1])
    note = f"{steps:,} steps, plain {plain[0]:.3g} s, {rounds} rounds"
    name = f"{workload.name}: light recording / plain"
    yield Row(name, statistics.median(whole), "ratio", workload.target, _note(note, whole))
    yield Row(f"{name}, second half", statistics.median(half), "ratio", note=_note("", half))


def measure_many(operations: int = OPERATIONS) -> Iterator[Row]:
    """A program far too deep for an ordinary stack, in the worker and under the limits that a visitor gets."""
    runner = Runner()
    try:
        runner.run(Program(THREE_LINES))
        began = time.perf_counter()
        recording = runner.run(Program(CHAIN.format(operations=operations)))
        seconds = time.perf_counter() - began
    finally:
        runner.close()
    total = recording.graphs[0].total_nodes if recording.graphs else 0
    is_lost = recording.status != "ok" or total < operations
    why = recording.problem.message if recording.problem else f"{total:,} nodes"
    yield Row(f"{operations:,} operations in a worker: lost", float(is_lost), "runs", 0.0, f"{recording.status}, {why}")
    yield Row(f"{operations:,} operations in a worker: time", seconds, "s", note="check, run, record, JSON")


def measure_all(is_quick: bool) -> Iterator[Row]:
    """Every row of the table."""
    torch.set_num_threads(1)
    policy.warm_up()
    techniques = ["plain", "recorded", "torchviz"]
    if not is_quick and importlib.util.find_spec("torchlens") is not None:
        techniques.append("torchlens")
    twins = {technique: Twin() for technique in techniques}
    for workload in WORKLOADS.values():
        yield from measure_full(twins, workload, 1.5 if is_quick else 15.0)
    yield from measure_light(twins, LOOPS["regression loop"], 10_000 if is_quick else 40_000, 3 if is_quick else 7)
    yield from measure_light(twins, LOOPS["MLP loop, batch 64"], 500 if is_quick else 3_000, 3 if is_quick else 7)
    for twin in twins.values():
        twin.close()
    for workload in WORKLOADS.values():
        yield measure_memory(workload)
    yield from measure_many()


if __name__ == "__main__":
    chosen = read_options("What recording costs, against the plain run of the same program.")
    print_rows(measure_all(chosen.quick), as_json=chosen.json)
