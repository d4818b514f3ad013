"""A run tells of every pass as plain Python makes it, and obeys knobs, pause, step and resume between two passes."""

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from processes import await_truth
from torch import nn, optim
from torch.nn import functional as F

from explorer.history import History, KnobEvent
from explorer.limits import Limits
from explorer.program import FILENAME, Program
from explorer.recording import Recording
from explorer.runner import Run, Runner
from explorer.tracer import KEPT_FULL

PATIENCE = 20.0
"""Seconds that a busy machine may take until an order is obeyed."""

ALONE = Limits(threads=1)


def run_plain(source: str) -> dict[str, Any]:
    """The globals that the program leaves in plain Python, on one thread as in a worker with ``ALONE``."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    names = {"torch": torch, "nn": nn, "F": F, "optim": optim, "math": math, "np": np}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        exec(compile(source, FILENAME, "exec"), names)
    finally:
        torch.set_num_threads(threads)
    return names


def run_heard(runner: Runner, source: str, **options: Any) -> tuple[Recording, History]:
    """The Recording of a run that ended well, and what was heard while it went on."""
    run = runner.start(Program(source), **{"limits": ALONE, **options})
    recording = run.recording()
    assert recording.status == "ok", recording.problem
    return recording, run.history


def start_going(runner: Runner, source: str, limits: Limits | None = None) -> Run:
    """A run that has begun to make passes."""
    run = runner.start(Program(source), limits=limits or ALONE)
    assert await_truth(lambda: run.history.passes > 0, PATIENCE), run.plain
    return run


def assert_told(recording: Recording, history: History) -> None:
    """The passes of the Recording, of very many a share, are those that were heard of, the last among them."""
    assert [one.loss for one in recording.passes] == [history.loss.y[one.index] for one in recording.passes]
    assert recording.passes[-1].index == history.passes - 1


def await_event(run: Run, kind: str) -> dict[str, Any]:
    """The next event of this kind."""
    for event in run.events():
        if event["event"] == kind:
            return event
    raise AssertionError(f"the run ended without the event {kind!r}: {run.plain['problem']}")


def texts(numbers: Any) -> list[str]:
    """Numbers by every digit, and nan equal to nan."""
    return [repr(float(number)) for number in numbers]


# -- passes --------------------------------------------------------------------------------------------

FAST = """\
w = torch.tensor(0.5, requires_grad=True)
b = torch.tensor([0.25, -0.5, 1.0], requires_grad=True)
seen, ws, bs, gs, hs = [], [], [], [], []
for i in range(20_000):
    loss = ((w * b - i % 7) ** 2).sum() * 0.1
    ws.append(w.item())
    bs.append(b.tolist())
    loss.backward()
    seen.append(loss.item())
    gs.append(w.grad.item())
    hs.append(torch.linalg.vector_norm(b.grad).item())
    with torch.no_grad():
        w -= 0.01 * w.grad
        b -= 0.01 * b.grad
    w.grad = b.grad = None
"""
LOOPS = {
    "inner loop": """\
w = torch.tensor(3.0, requires_grad=True)
seen = []
for epoch in range(60):
    for batch in range(50):
        loss = (w - batch) ** 2
        loss.backward()
        seen.append(loss.item())
        with torch.no_grad():
            w -= 0.001 * w.grad
        w.grad = None
""",
    "one loop after another": """\
w = torch.tensor(3.0, requires_grad=True)
seen = []
for i in range(1_500):
    loss = w ** 2 + i
    loss.backward()
    seen.append(loss.item())
for i in range(1_500):
    loss = w.sin() + i
    loss.backward()
    seen.append(loss.item())
""",
    "loop that begins again in a while": """\
w = torch.tensor(3.0, requires_grad=True)
seen, epochs = [], 0
while epochs < 40:
    for i in range(60):
        loss = w ** 2 + i
        loss.backward()
        seen.append(loss.item())
    epochs += 1
""",
    "several lines a round": """\
w = torch.tensor(1.0, requires_grad=True)
v = torch.tensor(2.0, requires_grad=True)
seen = []
def pull(tensor, to):
    loss = (tensor - to) ** 2
    loss.backward()
    return loss.item()
for i in range(1_000):
    loss = (w * 2).sin()
    loss.backward()
    seen.append(loss.item())
    (torch.stack([w, v]) ** 2).sum().backward()
    seen.append((w ** 2 + v ** 2).item())
    seen.append(pull(v, i))
    torch.autograd.backward(w * v)
    seen.append((w * v).item())
    w.grad = v.grad = None
""",
    "autograd.grad": """\
x = torch.tensor(0.3, requires_grad=True)
seen = []
for i in range(3_000):
    y = (x * 3).sin() + i % 5
    (g,) = torch.autograd.grad(y, x)
    seen.append(y.item())
    x = (x - 0.01 * g).detach().requires_grad_()
""",
    "second derivatives": """\
x = torch.tensor(0.3, requires_grad=True)
seen = []
for i in range(1_000):
    y = (x * (i % 3 + 1)).sin()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (h,) = torch.autograd.grad(g, x)
    seen += [y.item(), g.item()]
""",
    "retain_graph that changes": """\
w = torch.tensor(1.0, requires_grad=True)
seen = []
for i in range(1_000):
    loss = (w * i).cos()
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=i % 2 == 0)
    seen += [loss.item()] * 2
""",
    "leaves made anew": """\
w = torch.tensor(5.0, requires_grad=True)
seen = []
for i in range(3_000):
    loss = (w - 1) ** 2
    loss.backward()
    seen.append(loss.item())
    w = (w - 0.001 * w.grad).detach().requires_grad_()
""",
    "exceptions": """\
w = torch.tensor(0.1, requires_grad=True)
v = torch.tensor(0.1, requires_grad=True)
def refuse(gradient):
    raise ValueError("no gradient today")
v.register_hook(refuse)
seen, failures = [], 0
for i in range(3_000):
    y = w.exp()
    loss = y * (i % 11)
    if i % 10 == 7:
        y.add_(1)
    if i % 50 == 31:
        loss = v * i
    try:
        seen.append(loss.item())
        loss.backward()
        if i % 70 == 3:
            torch.ones(2).sum().backward()
    except (RuntimeError, ValueError):
        failures += 1
    w.grad = None
""",
    "hooks that call backward": """\
w = torch.tensor(1.0, requires_grad=True)
v = torch.tensor(2.0, requires_grad=True)
def go_back(gradient):
    with torch.enable_grad():
        (v * v).backward()
w.register_hook(go_back)
seen = []
for i in range(2_000):
    loss = w * i
    loss.backward()
    seen.append(loss.item())
""",
    "LBFGS": """\
w = torch.tensor([-1.2, 1.0], requires_grad=True)
optimizer = optim.LBFGS([w], lr=0.05, max_iter=5)
seen = []
def closure():
    optimizer.zero_grad()
    loss = (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
    loss.backward()
    seen.append(loss.item())
    return loss
for i in range(300):
    optimizer.step(closure)
""",
    "divergence": """\
w = torch.tensor(3.0, requires_grad=True)
seen = []
for i in range(2_000):
    loss = w ** 2
    loss.backward()
    seen.append(loss.item())
    with torch.no_grad():
        w -= 1.2 * w.grad
    w.grad = None
""",
    "one element": """\
w = torch.ones(1, dtype=torch.float64, requires_grad=True)
seen = []
for i in range(2_000):
    loss = (w * i) / 3
    loss.backward()
    seen.append(loss.item())
""",
    "doubles, a DataLoader and a module": """\
from torch.utils.data import DataLoader, TensorDataset
torch.set_default_dtype(torch.float64)
data = DataLoader(TensorDataset(torch.randn(60, 3), torch.randn(60, 1)), batch_size=7, shuffle=True)
model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = optim.Adam(model.parameters(), lr=0.01)
seen = []
for epoch in range(60):
    for x, y in data:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
torch.set_default_dtype(torch.float32)
""",
}


def test_every_loss_of_a_fast_loop_is_that_of_plain_python(runner: Runner) -> None:
    recording, history = run_heard(runner, FAST)
    plain = run_plain(FAST)
    assert history.loss.x == list(range(20_000))
    assert history.loss.y == plain["seen"]
    assert [one.loss for one in recording.passes] == plain["seen"]
    assert [one.index for one in recording.passes] == history.loss.x
    assert history.expected == 20_000
    assert recording.passes[0].steps and recording.passes[-1].steps

    # Leaves are looked at now and then, from beginning to end; what is told of them is true.
    assert set(history.values) == {"w", "b[0]", "b[1]", "b[2]"}
    looked = history.values["w"].x
    assert 100 < len(looked) < 20_000
    assert looked[0] == 0 and looked[-1] == 19_999
    assert max(later - earlier for earlier, later in itertools.pairwise(looked)) <= 3_000
    assert history.values["w"].y == [plain["ws"][index] for index in looked]
    assert history.values["b[1]"].y == [plain["bs"][index][1] for index in looked]
    assert history.norms["w"].x == history.norms["b"].x == looked
    assert history.norms["w"].y == pytest.approx([abs(plain["gs"][index]) for index in looked], rel=1e-6)
    assert history.norms["b"].y == pytest.approx([plain["hs"][index] for index in looked], rel=1e-6)


def test_knob_that_is_moved_while_its_run_waits_is_set_before_the_loop_goes_on(runner: Runner) -> None:
    limits = Limits(threads=1, at_once=1, seconds=30.0)
    first = runner.start(Program("import time\nprint('there', flush=True)\ntime.sleep(20)\n"), limits=limits)
    assert await_truth(lambda: bool(first.stdout), PATIENCE)
    source = (
        "import time\nlr = 0.1\nw = torch.tensor(1.0, requires_grad=True)\n"
        "for i in range(40):\n    (w * lr).backward()\n    time.sleep(0.01)\nprint(lr)\n"
    )
    second = runner.start(Program(source), limits=limits)
    assert await_truth(lambda: second.is_waiting, PATIENCE)
    second.set_knob("lr", 0.5)
    first.release()
    recording = second.recording()
    assert recording.stdout == "0.5\n"
    assert [(event["name"], event["value"]) for event in recording.knob_events] == [("lr", 0.5)]


def test_events_that_nobody_reads_take_no_room(runner: Runner) -> None:
    run = runner.start(Program(FAST), limits=ALONE)
    run.wait()
    told = [event for event in run.events() if event["event"] == "pass"]
    assert told and all(set(event) == {"event", "index", "loss", "leaves"} for event in told)
    assert run.history.passes == 20_000


def test_number_of_an_optimizer_leaves_a_loop_variable_of_its_name_alone(runner: Runner) -> None:
    source = (
        "w = torch.tensor(1.0, requires_grad=True)\noptimizer = optim.SGD([w], lr=0.5)\nseen = []\n"
        "for lr in [3.0] * 10**6:\n    optimizer.zero_grad()\n    (w * lr).backward()\n    seen.append(lr)\n"
        "    if optimizer.param_groups[0]['lr'] != 0.5:\n        break\n"
    )
    run = start_going(runner, source)
    run.set_knob("lr", 0.25)
    recording = run.recording()
    assert recording.status == "ok"
    assert next(one for one in recording.variables if one.name == "lr").text == "3.0"


def test_every_pass_is_looked_at_where_that_is_asked_for(runner: Runner) -> None:
    source = FAST.replace("20_000", "1_500")
    recording, history = run_heard(runner, source, looks_at_all=True)
    plain = run_plain(source)
    assert history.values["w"].x == history.norms["b"].x == list(range(1_500))
    assert history.values["w"].y == plain["ws"]
    assert history.norms["b"].y == pytest.approx(plain["hs"], rel=1e-6)
    # What is looked at is not kept in full.
    assert sum(bool(one.steps) for one in recording.passes) <= KEPT_FULL + 1


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in LOOPS.items()])
def test_every_loss_is_that_of_plain_python(runner: Runner, source: str) -> None:
    recording, history = run_heard(runner, source)
    seen = run_plain(source)["seen"]
    assert history.passes == len(seen) == len(recording.passes)
    assert history.loss.x == list(range(len(seen)))
    assert texts(history.loss.y) == texts(seen)
    assert texts(one.loss for one in recording.passes) == texts(seen)


def test_each_pass_keeps_its_own_line_and_options(runner: Runner) -> None:
    recording, _ = run_heard(runner, LOOPS["several lines a round"])
    assert [one.line for one in recording.passes] == [10, 12, 6, 15] * 1_000
    recording, _ = run_heard(runner, LOOPS["retain_graph that changes"])
    assert [one.retain_graph for one in recording.passes] == [True, True, True, False] * 500
    recording, _ = run_heard(runner, LOOPS["second derivatives"])
    assert [(one.kind, one.create_graph) for one in recording.passes] == [("grad", True), ("grad", False)] * 1_000


def test_each_line_of_a_round_is_looked_at_in_turn(runner: Runner) -> None:
    recording, _ = run_heard(runner, LOOPS["several lines a round"])
    for line in (6, 10, 12, 15):
        later = [one for one in recording.passes[600:] if one.line == line]
        assert any(one.leaves for one in later), f"line {line} was looked at no more"


def test_passes_without_a_number_leave_no_point_in_the_curve(runner: Runner) -> None:
    source = (
        "w = torch.ones(3, requires_grad=True)\nfor i in range(900):\n    (w * i).backward(torch.ones(3))\n"
        "    (w * i).sum().backward()\n"
    )
    recording, history = run_heard(runner, source)
    assert [one.loss for one in recording.passes] == [loss for i in range(900) for loss in (None, 3.0 * i)]
    assert history.passes == 1_800
    assert history.loss.x == list(range(1, 1_800, 2))


def test_parameters_of_modules_are_told_by_their_names(runner: Runner) -> None:
    source = (
        "model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))\n"
        "optimizer = optim.SGD(model.parameters(), lr=0.05)\nx, y = torch.randn(20, 3), torch.randn(20, 1)\n"
        "norms = {name: [] for name, _ in model.named_parameters()}\nbias = []\nfor i in range(2000):\n"
        "    optimizer.zero_grad()\n    loss = F.mse_loss(model(x), y)\n    loss.backward()\n"
        "    bias.append(model[2].bias.item())\n    for name, p in model.named_parameters():\n"
        "        norms[name].append(torch.linalg.vector_norm(p.grad).item())\n    optimizer.step()\n"
    )
    _, history = run_heard(runner, source)
    plain = run_plain(source)
    assert set(history.norms) == {f"model.{name}" for name in plain["norms"]}
    for name, norms in plain["norms"].items():
        curve = history.norms[f"model.{name}"]
        assert curve.y == pytest.approx([norms[index] for index in curve.x], rel=1e-4)
    curve = history.values["model.2.bias[0]"]
    assert curve.y == pytest.approx([plain["bias"][index] for index in curve.x], rel=1e-4)


def test_layers_that_share_a_name_do_not_mix_their_curves(runner: Runner) -> None:
    source = (
        "def build():\n    return [nn.Linear(1, 1, bias=False) for _ in range(2)]\n"
        "layers = {(1, 2): build()}\nfor i in range(60):\n    x = torch.ones(1, 1)\n"
        "    for layer in layers[1, 2]:\n        x = layer(x)\n    x.sum().backward()\n"
    )
    _, history = run_heard(runner, source)
    for curve in (*history.values.values(), *history.norms.values()):
        assert curve.x == sorted(set(curve.x))
        assert len(curve.y) == len(curve.x) <= 60


# -- knobs ---------------------------------------------------------------------------------------------

KNOB = """\
import time
rate = 0.5
steps = 3
go = 1
w = torch.tensor(1.0, requires_grad=True)
used = []
while go:
    loss = rate * w
    used.append((rate, steps))
    loss.backward()
    w.grad = None
    time.sleep(0.001)
used = torch.tensor(used, dtype=torch.float64)
"""
"""Its loss is its rate; it ends when the knob ``go`` is 0."""


def finish(run: Run, name: str = "used") -> list[Any]:
    """Let a loop like the one above end, and give what it kept."""
    run.set_knob("go", 0)
    recording = run.recording()
    assert recording.status == "ok", recording.problem
    return recording.kept[name]


def test_knob_moved_in_mid_run_is_applied_before_the_next_pass(runner: Runner) -> None:
    run = runner.start(Program(KNOB), keep=("used",))
    assert await_truth(lambda: run.history.passes > 200, PATIENCE)
    run.set_knob("rate", 0.25)
    first = await_event(run, "knob")
    assert (first["name"], first["value"]) == ("rate", 0.25)
    run.set_knob("steps", 7)
    second = await_event(run, "knob")
    # A whole number stays one.
    assert (second["name"], second["value"], type(second["value"])) == ("steps", 7, int)
    used = finish(run)
    assert [rate for rate, _ in used] == run.history.loss.y
    assert all(rate == (0.5 if index < first["pass"] else 0.25) for index, (rate, _) in enumerate(used))
    assert all(steps == (3 if index < second["pass"] else 7) for index, (_, steps) in enumerate(used))
    events = run.recording().knob_events
    assert [(event["pass"], event["name"], event["value"]) for event in events] == [
        (first["pass"], "rate", 0.25),
        (second["pass"], "steps", 7),
        (len(used), "go", 0),
    ]
    assert run.history.knob_events == [KnobEvent(event["pass"], event["name"], event["value"]) for event in events]


def rates_of(runner: Runner, source: str, *moves: tuple[int, str, float], **knobs: float) -> Any:
    """What the program kept as ``rates``, with these knobs moved before these passes."""
    replays = [{"pass": before, "name": name, "value": value} for before, name, value in moves]
    recording = runner.run(Program(source, knobs=knobs), replays=replays, keep=("rates",))
    assert recording.status == "ok", recording.problem
    assert [(event["pass"], event["name"], event["value"]) for event in recording.knob_events] == list(moves)
    return recording.kept["rates"]


TWO = """\
fast = 0.125
slow = 0.125
u = torch.tensor(1.0, requires_grad=True)
v = torch.tensor(1.0, requires_grad=True)
a = optim.SGD([u], lr=fast)
b = torch.optim.Adam([{"params": [v]}], slow)
rates = []
for i in range(200):
    rates.append((a.param_groups[0]["lr"], b.param_groups[0]["lr"]))
    (u * v).backward()
    a.step(); b.step()
rates = torch.tensor(rates, dtype=torch.float64)
"""


def test_knob_moves_exactly_the_optimizers_that_were_built_from_it(runner: Runner) -> None:
    assert rates_of(runner, TWO, (90, "fast", 0.5)) == [[0.125, 0.125]] * 90 + [[0.5, 0.125]] * 110
    moved = rates_of(runner, TWO, (90, "slow", 0.5), (150, "slow", 0.25))
    assert moved == [[0.125, 0.125]] * 90 + [[0.125, 0.5]] * 60 + [[0.125, 0.25]] * 50


OPTIMIZER = """\
u = torch.tensor(1.0, requires_grad=True)
v = torch.tensor(1.0, requires_grad=True)
{build}
rates = []
for i in range(150):
    group = optimizer.param_groups[{group}]
    rates.append(group["{option}"])
    optimizer.zero_grad()
    (u * v).backward()
    optimizer.step()
rates = torch.tensor(rates, dtype=torch.float64)
"""


@pytest.mark.parametrize(
    ("build", "group", "option", "knob"),
    [
        ("optimizer = optim.SGD([u, v], lr=0.5)", 0, "lr", "lr"),
        ("optimizer = optim.SGD([u, v], 0.5)", 0, "lr", "lr"),
        ("rate = 0.5\noptimizer = optim.RMSprop([u, v], rate)", 0, "lr", "rate"),
        ("optimizer = optim.SGD([u, v], lr=0.001, momentum=0.5)", 0, "momentum", "momentum"),
        ("m = 0.5\noptimizer = torch.optim.SGD(\n    [u, v],\n    lr=0.001,\n    momentum=m,\n)", 0, "momentum", "m"),
        ("rate = 0.5\ndef build(ps):\n    return optim.AdamW(ps, lr=rate)\noptimizer = build([u, v])", 0, "lr", "rate"),
        ("optimizer = optim.SGD([{'params': [u], 'lr': 0.25}, {'params': [v]}], lr=0.5)", 1, "lr", "lr"),
    ],
    ids=["literal", "positional literal", "positional", "momentum", "over lines", "in a function", "group"],
)
def test_number_given_to_an_optimizer_moves_its_option(
    runner: Runner, build: str, group: int, option: str, knob: str
) -> None:
    source = OPTIMIZER.format(build=build, group=group, option=option)
    assert rates_of(runner, source, (70, knob, 0.125)) == [0.5] * 70 + [0.125] * 80


def test_param_group_with_a_rate_of_its_own_keeps_it(runner: Runner) -> None:
    build = "optimizer = optim.SGD([{'params': [u], 'lr': 0.25}, {'params': [v]}], lr=0.5)"
    source = OPTIMIZER.format(build=build, group=0, option="lr")
    assert rates_of(runner, source, (70, "lr", 0.125)) == [0.25] * 150


SCHEDULED = """\
rate = 0.1
w = torch.tensor(1.0, requires_grad=True)
optimizer = optim.SGD([w], lr=rate)
scheduler = optim.lr_scheduler.{scheduler}
rates = []
for i in range(120):
    rates.append(optimizer.param_groups[0]["lr"])
    optimizer.zero_grad()
    (w ** 2).backward()
    optimizer.step()
    scheduler.step({told})
rates = torch.tensor(rates, dtype=torch.float64)
"""


@pytest.mark.parametrize(
    "scheduler",
    [
        "StepLR(optimizer, 10, gamma=0.7)",
        "LambdaLR(optimizer, lambda step: 0.97 ** step)",
        "CosineAnnealingLR(optimizer, 120)",
        "ExponentialLR(optimizer, 0.98)",
        "MultiStepLR(optimizer, [20, 90], gamma=0.5)",
        "LinearLR(optimizer, 0.3, 1.0, total_iters=80)",
        "ReduceLROnPlateau(optimizer, factor=0.9, patience=7)",
    ],
)
def test_scheduler_keeps_its_share_of_a_rate_that_is_moved(runner: Runner, scheduler: str) -> None:
    told = "1.0" if "Plateau" in scheduler else ""
    source = SCHEDULED.format(scheduler=scheduler, told=told)
    moved = rates_of(runner, source, (55, "rate", 0.4), (90, "rate", 0.02))
    slow, fast, slowest = (rates_of(runner, source, rate=rate) for rate in (0.1, 0.4, 0.02))
    assert moved == pytest.approx(slow[:55] + fast[55:90] + slowest[90:], rel=1e-6)


def test_rerun_with_the_knob_events_of_a_run_is_bit_identical(runner: Runner) -> None:
    source = (
        "rate = 0.05\ngo = 1\nx = torch.randn(30)\nw = torch.tensor(2.0, requires_grad=True)\n"
        "optimizer = optim.SGD([w], lr=rate, momentum=0.5)\nwhile go:\n    optimizer.zero_grad()\n"
        "    loss = ((w * x - 3 * x) ** 2).mean() + 0.01 * torch.randn(())\n    loss.backward()\n    optimizer.step()\n"
    )
    run = start_going(runner, source)
    for name, value in (("rate", 0.01), ("momentum", 0.9), ("rate", 0.2), ("rate", 0.02), ("go", 0)):
        run.set_knob(name, value)
        await_event(run, "knob")
    first = run.recording()
    again = runner.start(Program(source), replays=first.knob_events)
    second = again.recording()
    assert first.status == second.status == "ok"
    assert len(first.knob_events) == 5
    assert second.knob_events == first.knob_events
    assert again.history.loss == run.history.loss
    assert_told(first, run.history)
    assert_told(second, again.history)
    assert again.history.knob_events == run.history.knob_events


def test_what_is_no_knob_and_no_number_is_refused_and_changes_nothing(runner: Runner) -> None:
    run = runner.start(Program(KNOB), keep=("used",))
    assert await_truth(lambda: run.history.passes > 0, PATIENCE)
    wrong: list[tuple[Any, Any]] = [("nothing", 1.0), ("w", 1.0), ("used", 2), (3, 1.0), (["rate"], 1.0), (None, 1)]
    wrong += [("rate", value) for value in (math.nan, math.inf, -math.inf, "0.1", None, [1], {}, 10**400)]
    for name, value in wrong:
        run.set_knob(name, value)
        event = await_event(run, "refused")
        assert event["name"] == str(name)
    run._runner.tell(run, {"do": "knob"})
    await_event(run, "refused")
    run._runner.tell(run, {"do": "dance", "name": "rate"})
    used = finish(run)
    assert set(map(tuple, used)) == {(0.5, 3.0)}
    assert [event["name"] for event in run.recording().knob_events] == ["go"]
    assert [event.name for event in run.history.knob_events] == ["go"]


def test_knob_that_comes_to_rest_after_a_thousand_moves_has_its_last_value(runner: Runner) -> None:
    source = KNOB.replace("    w.grad = None\n", "    w.grad = None\n    if len(used) == 3:\n        time.sleep(0.7)\n")
    run = runner.start(Program(source), keep=("used",))
    assert await_truth(lambda: run.history.passes > 0, PATIENCE)
    # More than a pipe holds, while the program reads nothing of it.
    for number in range(2_000):
        run.set_knob("rate", 1.0 + number / 4096)
    last = 1.0 + 1_999 / 4096
    assert await_truth(lambda: run.history.loss.y[-1] == last, PATIENCE)
    used = finish(run)
    assert used[-1][0] == last
    rates = [rate for rate, _ in used]
    assert rates == run.history.loss.y
    assert rates[1:] == sorted(rates[1:]) or rates[0] == 0.5
    assert run.recording().knob_events[-2]["value"] == last


def test_orders_to_a_run_that_has_ended_or_never_was_do_nothing(runner: Runner) -> None:
    run = runner.start(Program("x = torch.ones(1, requires_grad=True)\nx.sum().backward()\n"))
    recording = run.recording()
    unknown = Run(runner, 10**6, run.program, run.limits)
    for one in (run, unknown):
        one.set_knob("rate", 1.0)
        one.pause()
        one.step()
        one.resume()
        one.stop()
    assert runner.run(Program("print(1)")).stdout == "1\n"
    assert run.recording() == recording
    assert not run.is_paused and not unknown.is_done


# -- pause, step, resume, stop -------------------------------------------------------------------------


def await_pause(run: Run) -> int:
    """How many passes were made by a run that stands still."""

    def stands() -> bool:
        passes = run.history.passes
        time.sleep(0.15)
        return run.is_paused and run.history.passes == passes

    assert await_truth(stands, PATIENCE)
    return run.history.passes


def await_passes(run: Run, passes: int) -> None:
    assert await_truth(lambda: run.history.passes >= passes, PATIENCE)


def test_paused_run_stands_until_it_is_told_to_go_on(runner: Runner) -> None:
    run = start_going(runner, KNOB)
    run.pause()
    passes = await_pause(run)
    run.pause()
    assert await_pause(run) == passes
    run.step()
    await_passes(run, passes + 1)
    assert await_pause(run) == passes + 1
    for _ in range(3):
        run.step()
    await_passes(run, passes + 4)
    assert await_pause(run) == passes + 4
    run.resume()
    await_passes(run, passes + 50)
    assert not run.is_paused
    run.resume()
    run.step()
    before = run.history.passes
    await_passes(run, before + 50)
    assert not run.is_paused
    run.stop()
    run.stop()
    recording = run.recording()
    assert (recording.status, recording.problem.type) == ("limit", "Stopped")
    assert_told(recording, run.history)
    run.stop()


def test_orders_that_come_together_are_obeyed_in_turn(runner: Runner) -> None:
    run = start_going(runner, KNOB)
    run.pause()
    passes = await_pause(run)
    for order in (run.step, run.step, run.resume):
        order()
    await_passes(run, passes + 50)
    assert not run.is_paused
    run.pause()
    run.step()
    run.set_knob("rate", 0.75)
    run.step()
    # It may take a while to obey, in which it stands still too.
    assert await_truth(lambda: list(run.history.loss.y[-2:]) == [0.5, 0.75], PATIENCE)
    await_pause(run)
    assert list(run.history.loss.y[-2:]) == [0.5, 0.75]
    assert run.history.knob_events == [KnobEvent(run.history.passes - 1, "rate", 0.75)]
    run.resume()
    run.set_knob("go", 0)
    assert run.recording().status == "ok"


def test_knob_moved_in_a_pause_is_there_in_the_next_step(runner: Runner) -> None:
    run = start_going(runner, KNOB)
    run.pause()
    passes = await_pause(run)
    run.set_knob("rate", 0.125)
    assert await_event(run, "knob")["pass"] == passes
    assert run.history.passes == passes
    run.step()
    await_passes(run, passes + 1)
    assert list(run.history.loss.y[passes - 1 :]) == [0.5, 0.125]
    run.stop()
    assert run.recording().knob_events == [{"pass": passes, "name": "rate", "value": 0.125}]


def test_run_that_is_stopped_in_its_pause_keeps_what_was_recorded(runner: Runner) -> None:
    run = start_going(runner, "print('begun', flush=True)\n" + KNOB)
    run.pause()
    passes = await_pause(run)
    run.stop()
    recording = run.recording()
    assert (recording.status, recording.problem.type) == ("limit", "Stopped")
    assert [one.loss for one in recording.passes] == run.history.loss.y == [0.5] * passes
    assert recording.passes[0].steps and recording.graphs
    assert recording.stdout == "begun\n"


def test_pause_does_not_use_up_the_time_of_a_run(runner: Runner) -> None:
    run = start_going(runner, KNOB, Limits(seconds=4.0, training_seconds=5.0))
    run.pause()
    passes = await_pause(run)
    time.sleep(5.2)
    assert not run.is_done and run.is_paused
    run.resume()
    await_passes(run, passes + 10)
    run.set_knob("go", 0)
    assert run.recording().status == "ok"


def test_run_that_stands_too_long_ends_and_keeps_its_record(runner: Runner) -> None:
    run = start_going(runner, KNOB, Limits(seconds=5.0, pause_seconds=0.5))
    began = time.monotonic()
    run.pause()
    recording = run.recording()
    assert 0.5 <= time.monotonic() - began < PATIENCE
    assert (recording.status, recording.problem.type) == ("limit", "PauseLimit")
    assert_told(recording, run.history)
    assert recording.passes[0].steps


@pytest.mark.parametrize(
    "source",
    ["print('on', flush=True)\nwhile True:\n    pass\n",
     "print('on', flush=True)\nx = torch.eye(2)\ny = torch.linalg.matrix_power(x, -(2**63))\n"],
    ids=["Python", "native"],
)  # fmt: skip
def test_pause_gives_no_time_to_a_program_that_makes_no_pass(runner: Runner, source: str) -> None:
    run = runner.start(Program(source), limits=Limits(seconds=0.5, pause_seconds=100.0))
    await_event(run, "printed")
    run.pause()
    assert run.wait(10.0)
    assert run.recording().problem.type == "TimeLimit"


# -- time ----------------------------------------------------------------------------------------------


def test_loop_that_goes_on_may_take_longer_than_one_that_stalls(runner: Runner) -> None:
    limits = Limits(seconds=2.0, training_seconds=30.0)
    loop = (
        "import time\nw = torch.tensor(1.0, requires_grad=True)\nfor i in range(60):\n"
        "    (w * i).backward()\n    time.sleep(0.05)\n"
    )
    began = time.monotonic()
    recording = runner.run(Program(loop), limits=limits)
    assert recording.status == "ok" and len(recording.passes) == 60
    assert time.monotonic() - began > 2.5

    recording = runner.run(Program(loop + "while True:\n    pass\n"), limits=limits)
    assert (recording.status, recording.problem.type) == ("limit", "TimeLimit")
    assert recording.problem.message == "the program ran for more than 2 s without a backward pass"
    assert recording.problem.line in (6, 7)
    assert len(recording.passes) == 60


def test_loop_that_goes_on_for_ever_ends_with_its_training_time(runner: Runner) -> None:
    run = runner.start(Program(KNOB), limits=Limits(seconds=2.0, training_seconds=3.0))
    recording = run.recording()
    assert (recording.status, recording.problem.type) == ("limit", "TimeLimit")
    assert recording.problem.message == "the program trained for more than 3 s"
    assert_told(recording, run.history)
    assert run.history.passes > 10


# -- what is kept --------------------------------------------------------------------------------------


def test_kept_tensors_are_whole_with_what_is_not_finite_as_text(runner: Runner) -> None:
    source = (
        "surface = torch.tensor([[1.5, float('nan')], [float('inf'), -float('inf')]])\n"
        "many = torch.arange(1000)\nlarge = torch.zeros(400, 400)\nnumber = 3\nw = torch.ones(2, requires_grad=True)\n"
    )
    names = ("surface", "many", "large", "number", "w", "nothing")
    recording = runner.run(Program(source), keep=names)
    assert recording.kept == {
        "surface": [[1.5, "nan"], ["inf", "-inf"]],
        "many": list(range(1000)),
        "w": [1.0, 1.0],
    }
    assert runner.run(Program(source)).kept == {}


# -- without fork --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spawning() -> Iterator[Runner]:
    """A Runner of spawned workers, as for CUDA and on Windows."""
    made = Runner(Limits(seconds=3.0), forks=False)
    made.warm_up()
    yield made
    made.close()


def test_spawned_run_obeys_its_knobs_and_stands_in_its_pause(spawning: Runner) -> None:
    run = spawning.start(Program(KNOB), keep=("used",))
    await_passes(run, 100)
    run.set_knob("rate", 0.25)
    event = await_event(run, "knob")
    run.set_knob("nothing", 1.0)
    await_event(run, "refused")
    run.pause()
    passes = await_pause(run)
    run.step()
    run.step()
    await_passes(run, passes + 2)
    assert await_pause(run) == passes + 2
    # Longer than a program may take without a pass.
    time.sleep(4.0)
    run.resume()
    await_passes(run, passes + 50)
    for number in range(1_000):
        run.set_knob("rate", 1.0 + number / 4096)
    last = 1.0 + 999 / 4096
    assert await_truth(lambda: run.history.loss.y[-1] == last, PATIENCE)
    used = finish(run)
    assert [rate for rate, _ in used] == run.history.loss.y
    assert all(rate == 0.5 for rate, _ in used[: event["pass"]]) and used[event["pass"]][0] == 0.25


def test_spawned_run_that_hangs_ends_though_orders_fill_its_pipe(spawning: Runner) -> None:
    run = spawning.start(Program("import time\nprint('on', flush=True)\ntime.sleep(600)\n"))
    await_event(run, "printed")
    told = run_within(10.0, lambda: [run.set_knob("rate", number) for number in range(5_000)])
    assert run.wait(10.0)
    assert run.recording().problem.type == "TimeLimit"
    assert told()


def run_within(seconds: float, act: Callable[[], Any]) -> Callable[[], bool]:
    """Do it in a thread; the answer is whether it was over in time."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()

    def is_over() -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    return is_over
