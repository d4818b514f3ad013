"""A trained model stays to be asked, answers as plain torch would, and goes when its limits say so; a confined program
has the digits of this machine."""

import base64
import gzip
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHARED
from processes import await_truth, find_children, require_walls, resident_bytes
from torch import nn, optim

from explorer import datasets
from explorer.limits import Limits
from explorer.look import Look
from explorer.network import Design, write_program
from explorer.program import FILENAME, Program
from explorer.runner import GONE, MOST_QUESTION, Run, Runner

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells of processes on Linux only")

SOON = 20.0
"""Seconds in which what must come at all has come, on a machine that does other things too."""

AT_ONCE = 5.0
"""Seconds that nobody takes who need not wait for a time to be over."""

ALONE = Limits(threads=1)
SHORT = "x = torch.tensor(2.0, requires_grad=True)\n(x * x).backward()\nprint(x.grad)\n"

DIGITS = """\
from torch import nn, optim
test_images, test_labels = torch.rand(50, 1, 8, 8), torch.randint(0, 10, (50,))
"""
NETWORK = """\
layers = nn.Linear(64, 20), nn.ReLU(), nn.BatchNorm1d(20), nn.Dropout(0.3), nn.Linear(20, 10)
model = nn.Sequential(nn.Flatten(), *layers)
"""
LOOP = """\
optimizer = optim.Adam(model.parameters(), lr=0.01)
train_losses = []
for step in range({passes}):
    loss = nn.functional.cross_entropy(model(test_images), test_labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    train_losses.append(loss.item())
    {more}
print(f"{{loss.item():.6f}}")
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
"""
ENDLESS = """\
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(64, 10), 0
    def forward(self, x):
        self.calls += 1
        while not self.training:
            pass
        return self.layer(x.flatten(1))
model = Network()
"""
UNTRAINED = DIGITS + NETWORK
PIXELS = base64.b64encode(np.linspace(0, 1, 64, dtype=np.float32).tobytes()).decode()
PREDICT = {"kind": "predict", "pixels": PIXELS}
QUESTIONS = (
    PREDICT,
    {"kind": "layers"},
    {"kind": "weights"},
    {"kind": "digits"},
    {"kind": "numbers", "names": ["train_losses"]},
    {"kind": "save"},
)


def write_loop(passes: int, more: str = "pass", network: str = NETWORK) -> str:
    """A program that trains."""
    return DIGITS + network + LOOP.format(passes=passes, more=more)


def run_plain(source: str, seed: int = 0, **names: Any) -> dict[str, Any]:
    """The globals that a program leaves in plain Python, on one thread."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names = {"torch": torch, "nn": nn, "optim": optim, "print": lambda *_: None, **names}
    try:
        exec(compile(source, FILENAME, "exec"), names)
    finally:
        torch.set_num_threads(threads)
    return names


def answer_plain(names: dict[str, Any], what: dict[str, Any]) -> dict[str, Any]:
    """What explorer.look says of them in this process, as JSON holds it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return json.loads(json.dumps(Look(names).answer(what)))
    finally:
        torch.set_num_threads(threads)


def told_by(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without the words of its way."""
    return {name: value for name, value in answer.items() if name not in ("event", "id", "pass")}


class Timed:
    """What a call gave, and how many seconds it took."""

    def __init__(self, act: Callable[[], Any]) -> None:
        began = time.monotonic()
        self.value = act()
        self.seconds = time.monotonic() - began


def workers_of(runner: Runner) -> set[int]:
    """The processes below the host: those that run or are held, and the one that waits for the next program."""
    return find_children(runner._host.pid)


def settle(runner: Runner) -> int:
    """Wait until nothing runs and nothing is held; the one worker that waits, which the next run gets."""
    assert runner.run(Program(SHORT)).stdout == "tensor(4.)\n"
    found: set[int] = set()
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        # Who ends takes less than this to be gone.
        before, found = found, workers_of(runner)
        if len(found) == 1 and found == before:
            return found.pop()
        time.sleep(0.1)
    raise AssertionError("the host never came to rest")


@pytest.fixture
def hold(runner: Runner) -> Iterator[Callable[..., Run]]:
    """Start a program whose model is held; after the test none is."""
    runs: list[Run] = []

    def start(source: str, *, on: Runner = runner, waits: bool = True, **options: Any) -> Run:
        seed = options.pop("seed", 0)
        run = on.start(Program(source, seed=seed), **{"limits": ALONE, "hold": True, **options})
        runs.append(run)
        if waits:
            assert run.wait(SOON)
            assert await_truth(lambda: run.is_held, SOON), run.plain["problem"]
        return run

    yield start
    for run in runs:
        # One that goes on is held when it was stopped.
        run.stop()
        assert run.wait(SOON)
        assert await_truth(lambda run=run: run.stop() or not (run.is_held or run._may_be_held), SOON)


def await_passes(run: Run, passes: int = 1) -> None:
    assert await_truth(lambda: run.history.passes >= passes or run.is_done, SOON)
    assert run.history.passes >= passes, run.plain["problem"]


# -- answers -------------------------------------------------------------------------------------------


def test_held_model_says_after_the_end_what_plain_torch_says(hold: Callable[..., Run]) -> None:
    source = write_loop(40)
    run, names = hold(source), run_plain(source)
    assert run.recording().status == "ok"
    model = names["model"].eval()
    with torch.no_grad():
        expected = model(torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)).softmax(1)[0]
    assert run.ask(PREDICT)["probabilities"] == pytest.approx(expected.tolist(), abs=1e-6)
    model.train()
    for what in QUESTIONS:
        answer = run.ask(what)
        assert answer["pass"] is None
        assert told_by(answer) == answer_plain(names, what), what


def test_answers_during_a_run_change_nothing_of_it(runner: Runner, hold: Callable[..., Run]) -> None:
    source = write_loop(200, "time.sleep(0.005)").replace("from torch", "import time\nfrom torch", 1)
    asked = hold(source, keep=("weights",), waits=False)
    await_passes(asked)
    passes: list[int | None] = []
    while not asked.is_done:
        for what in QUESTIONS:
            answer = asked.ask(what, seconds=SOON)
            assert "problem" not in answer, answer
            passes.append(answer["pass"])
    told = [number for number in passes if number is not None]
    assert len(set(told)) > 5 and told == sorted(told)
    quiet = runner.start(Program(source), limits=ALONE, keep=("weights",))
    first, second = asked.recording(), quiet.recording()
    assert first.status == second.status == "ok"
    assert first.kept == second.kept and first.kept["weights"]
    assert asked.history.loss == quiet.history.loss and len(quiet.history.loss.y) == 200
    assert first.stdout == second.stdout
    # Ids count the nodes of the passes that time allowed to keep in full.
    first, second = ([replace(one, grad_fn=None) for one in each.variables] for each in (first, second))
    assert first == second and "model" in [one.name for one in first]


def test_paused_run_answers_and_stands(hold: Callable[..., Run]) -> None:
    source = write_loop(100_000)
    run = hold(source, waits=False)
    # One that stands in its very first pass has made no step that a plain program could make too.
    await_passes(run, 2)
    run.pause()
    assert await_truth(lambda: run.is_paused, SOON)
    answers = [run.ask(what) for what in QUESTIONS]
    passes = run.history.passes
    assert [answer["pass"] for answer in answers] == [passes - 1] * len(QUESTIONS)
    # It stands in backward(): the forward pass was made, its step was not.
    losses = answers[4]["numbers"]["train_losses"]
    assert losses == list(run.history.loss.y)[:-1]
    again = answer_plain(run_plain(write_loop(passes - 1) + "model(test_images)\n"), PREDICT)
    assert answers[0]["probabilities"] == again["probabilities"]
    assert run.is_paused and run.history.passes == passes


def test_update_ratio_is_that_of_one_step_in_plain_torch(hold: Callable[..., Run]) -> None:
    run = hold(write_loop(100_000), waits=False)
    await_passes(run)
    answers = [run.ask({"kind": "layers"}, seconds=SOON) for _ in range(3)]
    run.stop()
    last = max(answer["pass"] for answer in answers)
    states: list[list[torch.Tensor]] = []

    def note() -> None:
        states.append([p.detach().clone() for p in names["model"].parameters()])

    source = write_loop(last + 1).replace("    optimizer.zero_grad()", "    note(model)\n    optimizer.zero_grad()")
    names = {}
    run_plain(source, note=lambda model: (names.update(model=model), note()))
    for answer in answers:
        index = answer["pass"]
        for number, layer in enumerate(answer["layers"]):
            before, after = (
                torch.cat([p.double().flatten() for p in states[at][2 * number : 2 * number + 2]])
                for at in (index - 1, index)
            )
            expected = ((after - before).norm() / before.norm()).item()
            assert layer["update_ratio"] == pytest.approx(expected, rel=1e-9)
            assert layer["weight_norm"] == pytest.approx(after.norm().item(), rel=1e-9)


def test_question_that_comes_with_the_end_is_answered_after_it(hold: Callable[..., Run]) -> None:
    source = write_loop(2, "time.sleep(0.4)").replace("from torch", "import time\nfrom torch", 1)
    run = hold(source, waits=False)
    await_passes(run)
    time.sleep(0.2)
    # It is read in the second pass and waits for one more, which never comes.
    answer = run.ask({"kind": "layers"}, seconds=SOON)
    assert "problem" not in answer and answer["pass"] is None
    assert told_by(run.ask({"kind": "layers"})) == told_by(answer)


def test_question_right_after_the_recording_is_answered(hold: Callable[..., Run]) -> None:
    for _ in range(5):
        run = hold(UNTRAINED, waits=False)
        run.recording()
        assert "predicted" in run.ask(PREDICT, seconds=SOON)
        run.stop()


# -- how long ------------------------------------------------------------------------------------------


@linux
def test_stop_ends_a_held_model_at_once(runner: Runner, hold: Callable[..., Run]) -> None:
    worker = settle(runner)
    run = hold(UNTRAINED)
    assert worker in workers_of(runner)
    plain = run.plain
    run.stop()
    assert await_truth(lambda: not run.is_held, AT_ONCE)
    asked = Timed(lambda: run.ask(PREDICT))
    assert asked.value == {"problem": GONE} and asked.seconds < AT_ONCE
    assert await_truth(lambda: worker not in workers_of(runner), AT_ONCE)
    assert run.plain is plain and run.recording().status == "ok"


@linux
def test_held_model_goes_when_nobody_asked_it_for_long(runner: Runner, hold: Callable[..., Run]) -> None:
    worker = settle(runner)
    run = hold(UNTRAINED, limits=Limits(threads=1, held_seconds=4.0))
    for _ in range(3):
        time.sleep(2.0)
        assert "predicted" in run.ask(PREDICT), "each question gives it its time anew"
    assert await_truth(lambda: not run.is_held, SOON)
    asked = Timed(lambda: run.ask(PREDICT))
    assert asked.value == {"problem": GONE} and asked.seconds < AT_ONCE
    assert await_truth(lambda: worker not in workers_of(runner), AT_ONCE)


@linux
def test_of_too_many_the_one_heard_of_longest_ago_goes(runner: Runner, hold: Callable[..., Run]) -> None:
    settle(runner)
    limits = Limits(threads=1, held_at_once=2, seconds=3.0)
    first, second = hold(UNTRAINED, limits=limits), hold(UNTRAINED, limits=limits)
    assert "predicted" in first.ask(PREDICT)
    third = hold(UNTRAINED, limits=limits)
    assert await_truth(lambda: not second.is_held, AT_ONCE)
    assert second.ask(PREDICT) == {"problem": GONE}
    assert all("predicted" in run.ask(PREDICT) for run in (first, third))
    assert await_truth(lambda: len(workers_of(runner)) == 3, AT_ONCE), "two that are held, one that waits"


@linux
def test_model_that_answers_is_not_the_one_that_goes(runner: Runner, hold: Callable[..., Run]) -> None:
    settle(runner)
    limits = Limits(threads=1, held_at_once=2, seconds=30.0)
    slow = ENDLESS.replace("        while not self.training:\n            pass\n", "        time.sleep(1.5)\n")
    quiet, busy = hold(UNTRAINED, limits=limits), hold("import time\n" + DIGITS + slow, limits=limits)
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(busy.ask(PREDICT, seconds=SOON)))
    thread.start()
    time.sleep(0.3)
    hold(UNTRAINED, limits=limits)
    thread.join(SOON)
    assert "predicted" in answers[0]
    assert not quiet.is_held


@linux
def test_held_models_take_no_turn_from_others(runner: Runner, hold: Callable[..., Run]) -> None:
    settle(runner)
    limits = Limits(threads=1, at_once=1, training_at_once=1, at_once_each=1, queue=1)
    held = [hold(UNTRAINED, limits=limits, visitor="a/1") for _ in range(3)]
    assert runner.run(Program(SHORT), limits=limits, visitor="a/1").status == "ok"
    assert runner.run(Program(SHORT), limits=limits, visitor="b/1").status == "ok"
    assert await_truth(lambda: len(workers_of(runner)) == 4, SOON), "the next program need not wait for a fork"
    assert all("predicted" in run.ask(PREDICT) for run in held)


@linux
def test_run_that_is_not_held_leaves_no_process(runner: Runner) -> None:
    worker = settle(runner)
    run = runner.start(Program(UNTRAINED), limits=ALONE)
    assert run.recording().status == "ok"
    assert await_truth(lambda: worker not in workers_of(runner), AT_ONCE)
    assert not run.is_held
    assert run.ask(PREDICT) == {"problem": GONE}
    assert {"event": "finished"}.items() <= list(run.events())[-1].items()


# -- what ends otherwise -------------------------------------------------------------------------------


@linux
def test_forward_without_end_is_ended_in_time_however_often_it_is_asked(
    runner: Runner, hold: Callable[..., Run]
) -> None:
    worker = settle(runner)
    run = hold(DIGITS + ENDLESS, limits=Limits(threads=1, seconds=4.0))
    assert "problem" in run.ask(PREDICT, seconds=0.5)
    assert run.is_held
    asked = Timed(lambda: [run.ask(PREDICT, seconds=0.6) for _ in range(3)] + [run.ask(PREDICT, seconds=SOON)])
    assert asked.value[-1] == {"problem": GONE} and asked.seconds < 4.0 + AT_ONCE
    assert not run.is_held
    assert await_truth(lambda: worker not in workers_of(runner), AT_ONCE)


@pytest.mark.parametrize("is_paused", [False, True], ids=["goes on", "paused"])
def test_forward_without_end_in_a_run_ends_the_run_at_its_limit(hold: Callable[..., Run], is_paused: bool) -> None:
    run = hold(write_loop(10**6, network=ENDLESS), limits=Limits(threads=1, seconds=4.0), waits=False)
    await_passes(run)
    if is_paused:
        run.pause()
        assert await_truth(lambda: run.is_paused, SOON)
    asked = Timed(lambda: run.ask(PREDICT, seconds=SOON))
    assert asked.value["problem"] and asked.seconds < 4.0 + AT_ONCE
    assert run.wait(AT_ONCE)
    assert run.recording().status == "limit"
    assert [one.loss for one in run.recording().passes] == run.history.loss.y


ENDINGS = {
    "raises": ("raise ValueError('no')\n", "error", True),
    "takes too long": ("while True:\n    pass\n", "limit", True),
    "has no model": ("del model\n", "ok", False),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_model_of_what_ran_is_held_where_there_is_one(hold: Callable[..., Run], ending: str) -> None:
    last, status, has_model = ENDINGS[ending]
    run = hold(UNTRAINED + last, limits=Limits(threads=1, seconds=3.0 if ending == "takes too long" else 20.0))
    assert run.recording().status == status
    answer = run.ask(PREDICT)
    assert ("predicted" in answer) == has_model and ("problem" in answer) != has_model


def test_run_that_its_reader_stops_is_held(hold: Callable[..., Run]) -> None:
    run = hold(write_loop(10**6), waits=False)
    await_passes(run)
    run.stop()
    assert run.wait(SOON)
    assert await_truth(lambda: run.is_held, SOON)
    assert run.recording().problem.type == "Stopped"
    losses = run.ask({"kind": "numbers", "names": ["train_losses"]})["numbers"]["train_losses"]
    assert losses == list(run.history.loss.y)[: len(losses)] and len(losses) >= run.history.passes - 1
    run.stop()
    assert await_truth(lambda: not run.is_held, AT_ONCE)


@pytest.mark.parametrize("source", ["import os\n", "model = (\n"], ids=["refused", "no Python"])
def test_program_that_never_ran_is_not_held(hold: Callable[..., Run], source: str) -> None:
    run = hold(source, waits=False)
    assert run.wait(SOON)
    asked = Timed(lambda: run.ask(PREDICT))
    assert asked.value == {"problem": GONE} and asked.seconds < AT_ONCE
    assert not run.is_held


@pytest.mark.parametrize("is_held", [True, False], ids=["held", "running"])
def test_model_that_ends_its_program_when_asked_ends_that_answer_alone(hold: Callable[..., Run], is_held: bool) -> None:
    network = ENDLESS.replace(
        "while not self.training:\n            pass", "if not self.training:\n            raise KeyboardInterrupt"
    )
    run = hold(DIGITS + network) if is_held else hold(write_loop(10**6, network=network), waits=False)
    if not is_held:
        await_passes(run)
    for _ in range(2):
        assert run.ask(PREDICT, seconds=SOON)["problem"]
    assert run.is_done == run.is_held == is_held
    assert "numbers" in run.ask({"kind": "numbers", "names": []}, seconds=SOON)


@linux
def test_five_hundred_questions_fill_neither_the_host_nor_what_a_worker_may_write(
    runner: Runner, hold: Callable[..., Run]
) -> None:
    settle(runner)
    large = "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1000), nn.ReLU(), nn.Linear(1000, 10))\n"
    run = hold(DIGITS + large, limits=Limits(threads=1, recording_mb=1))
    length = sum(len(run.ask({"kind": "save"})["data"]) for _ in range(20))
    host = runner._host.pid
    before = resident_bytes(host)
    length += sum(len(run.ask({"kind": "save"})["data"]) for _ in range(480))
    assert length > 150_000_000
    assert run.is_held
    assert resident_bytes(host) - before < 5_000_000
    assert not run._answers


@linux
def test_worker_that_is_killed_while_it_answers_gives_a_problem_at_once(
    runner: Runner, hold: Callable[..., Run]
) -> None:
    worker = settle(runner)
    run = hold(DIGITS + ENDLESS)
    killer = threading.Timer(0.3, os.kill, (worker, signal.SIGKILL))
    killer.start()
    asked = Timed(lambda: run.ask(PREDICT, seconds=SOON))
    assert asked.value == {"problem": GONE} and asked.seconds < AT_ONCE
    assert not run.is_held
    assert runner.run(Program(SHORT)).status == "ok"


@pytest.mark.parametrize(
    "number",
    [None, 0, -1, 1, 999, 10**400, True, 1.0, float("nan"), "1", [], [1], {}, {"id": 1}],
    ids=lambda number: str(number)[:12],
)
def test_answer_that_nobody_asked_for_changes_nothing(hold: Callable[..., Run], number: Any) -> None:
    run = hold(UNTRAINED)
    plain, stdout = run.plain, run.stdout
    for event in ({"event": "answer", "id": number, "probabilities": [1.0]}, {"event": "answer"}, {"id": number}, {}):
        run.hear(event)
    assert (run.plain, run.stdout, run.is_held) == (plain, stdout, True)
    assert run.ask({"kind": "numbers", "names": []})["numbers"] == {}


# -- files of weights ----------------------------------------------------------------------------------


def test_weights_that_come_back_give_the_same_answers(hold: Callable[..., Run]) -> None:
    trained, other = hold(write_loop(30)), hold(UNTRAINED, seed=5)
    expected = told_by(trained.ask(PREDICT))
    assert told_by(other.ask(PREDICT)) != expected
    saved = trained.ask({"kind": "save"})
    assert saved["tensors"]["1.weight"] == [20, 64]
    assert "problem" not in other.ask({"kind": "load", "data": saved["data"]})
    assert told_by(other.ask(PREDICT)) == expected


LARGE = """\
layers = nn.Linear(64, 1350), nn.ReLU(), nn.Linear(1350, 1200), nn.Linear(1200, 10)
model = nn.Sequential(nn.Flatten(), *layers)
"""


@pytest.mark.parametrize("when", ["held", "paused", "training"])
def test_file_of_seven_megabytes_passes(hold: Callable[..., Run], when: str) -> None:
    source = DIGITS + LARGE
    run = hold(write_loop(10**6, network=LARGE) if when != "held" else source, waits=when == "held", seed=3)
    if when != "held":
        await_passes(run)
    if when == "paused":
        run.pause()
        assert await_truth(lambda: run.is_paused, SOON)
    saved = hold(source, seed=4).ask({"kind": "save"}, seconds=SOON)
    assert saved["bytes"] > 6_800_000
    loaded = Timed(lambda: run.ask({"kind": "load", "data": saved["data"]}, seconds=SOON))
    assert loaded.value["loaded"] == 6
    assert loaded.seconds < AT_ONCE
    if when != "training":
        assert run.ask({"kind": "save"}, seconds=SOON)["data"] == saved["data"]


def test_what_is_no_file_of_its_weights_is_a_problem_and_the_model_still_answers(hold: Callable[..., Run]) -> None:
    run = hold(UNTRAINED)
    before = told_by(run.ask(PREDICT))
    other = hold(DIGITS + "model = nn.Linear(3, 4)\n").ask({"kind": "save"})["data"]
    for data in ("", "AAAA", "no base64!", None, 5, ["a"], base64.b64encode(os.urandom(10_000)).decode(), other):
        assert run.ask({"kind": "load", "data": data})["problem"]
    too_long = Timed(lambda: run.ask({"kind": "load", "data": "A" * MOST_QUESTION}))
    assert "too large" in too_long.value["problem"] and too_long.seconds < AT_ONCE
    assert run.is_held
    assert told_by(run.ask(PREDICT)) == before


@linux
def test_weights_of_fifty_megabytes_are_saved(hold: Callable[..., Run]) -> None:
    run = hold(DIGITS + "model = nn.Linear(1000, 13_000)\n")
    saved = run.ask({"kind": "save"}, seconds=SOON)
    assert saved["bytes"] > 52_000_000
    assert run.is_held


# -- without fork, and without a host ------------------------------------------------------------------


def test_spawned_worker_answers_and_is_held() -> None:
    runner = Runner(Limits(threads=1, seconds=2.0, held_at_once=1), forks=False)
    try:
        runner.warm_up()
        names = run_plain(source := write_loop(1500, "time.sleep(0.002)"), time=time)
        run = runner.start(Program("import time\n" + source), hold=True)
        await_passes(run)
        assert run.ask({"kind": "numbers", "names": []}, seconds=SOON)["pass"] is not None
        assert run.wait(SOON)
        assert told_by(run.ask(PREDICT, seconds=SOON)) == answer_plain(names, PREDICT)
        endless = runner.start(Program(DIGITS + ENDLESS), hold=True)
        assert endless.wait(2 * SOON)
        asked = Timed(lambda: endless.ask(PREDICT, seconds=SOON))
        assert asked.value == {"problem": GONE} and asked.seconds < 2.0 + 1.0 + AT_ONCE
        assert await_truth(lambda: not run.is_held, AT_ONCE), "one is held at once"
        assert run.ask(PREDICT) == {"problem": GONE}
    finally:
        runner.close()


# -- data ----------------------------------------------------------------------------------------------

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = datasets.FILES
COUNT = "from explorer.datasets import mnist\nimages, labels = mnist()\nprint(tuple(images.shape), int(labels.sum()))\n"
CHECKSUM = """\
from explorer.datasets import mnist
for train in (True, False):
    images, labels = mnist(train)
    pixels = (images * 255).round().to(torch.int64).flatten()
    print(len(labels), (pixels * (torch.arange(len(pixels)) % 8191)).sum().item())
    print((labels * (torch.arange(len(labels)) % 8191)).sum().item())
"""


def write_mnist(folder: Path, count: int) -> None:
    """So many digits to train and to test, made up."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in datasets.FILES:
        shape = (count, 28, 28) if "images" in name else (count,)
        header = np.array([2051 if "images" in name else 2049, *shape], ">u4").tobytes()
        content = header + (np.arange(np.prod(shape)) % 10).astype(np.uint8).tobytes()
        (folder / name).write_bytes(gzip.compress(content, 1))


def checksum_plain(folder: Path) -> str:
    """What CHECKSUM prints, read from the files byte by byte."""
    lines = []
    for images, labels in ((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)):
        pixels = np.frombuffer(gzip.decompress((folder / images).read_bytes())[16:], np.uint8).astype(np.int64)
        truth = np.frombuffer(gzip.decompress((folder / labels).read_bytes())[8:], np.uint8).astype(np.int64)
        sums = [int((values * (np.arange(len(values)) % 8191)).sum()) for values in (pixels, truth)]
        lines += [f"{len(truth)} {sums[0]}", f"{sums[1]}"]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runner, Path]]:
    """A Runner on a machine without MNIST, and its cache."""
    cache = tmp_path_factory.mktemp("bare") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPLORER_CACHE", str(cache))
        patch.delenv("EXPLORER_DATA", raising=False)
        made = Runner(Limits(threads=1))
        made.find_walls()
        yield made, cache
    made.close()


def test_program_without_its_data_is_told_at_its_line_what_to_do(bare: tuple[Runner, Path]) -> None:
    runner, cache = bare
    recording = runner.run(Program("x = 1\n" + COUNT))
    assert (recording.status, recording.problem.type, recording.problem.line) == ("error", "NoData", 3)
    assert str(cache) in recording.problem.message
    assert "python -m explorer.datasets" in recording.problem.message
    assert "EXPLORER_DATA" in recording.problem.message


def test_data_that_appear_later_are_found_by_the_next_run(bare: tuple[Runner, Path]) -> None:
    runner, cache = bare
    assert runner.run(Program(COUNT)).problem.type == "NoData"
    for count in (20, 30):
        write_mnist(cache, count)
        recording = runner.run(Program(COUNT))
        assert recording.stdout == f"({count}, 1, 28, 28) {4.5 * count:.0f}\n", recording.problem
    for file in cache.iterdir():
        file.unlink()
    assert runner.run(Program(COUNT)).problem.type == "NoData"


def test_program_that_names_no_data_costs_no_look_at_files(bare: tuple[Runner, Path]) -> None:
    runner, cache = bare
    write_mnist(cache, 20)
    # A look at them would set it aside.
    (cache / TEST_LABELS).write_bytes(b"nonsense")
    assert runner.run(Program(SHORT)).status == "ok"
    assert (cache / TEST_LABELS).exists()
    recording = runner.run(Program(COUNT))
    assert (recording.status, recording.problem.type, recording.problem.line) == ("error", "DataError", 2)
    assert not (cache / TEST_LABELS).exists()


def test_writing_into_the_data_changes_nothing_for_the_next_run(bare: tuple[Runner, Path]) -> None:
    runner, cache = bare
    write_mnist(cache, 20)
    before = runner.run(Program(CHECKSUM)).stdout
    assert before == checksum_plain(cache)
    spoils = COUNT + "images.fill_(0.5)\nlabels.zero_()\nmnist()[0].mul_(0)\nprint(int(mnist()[1].sum()))\n"
    assert runner.run(Program(spoils)).stdout == "(20, 1, 28, 28) 90\n90\n"
    assert runner.run(Program(CHECKSUM)).stdout == before


HIDDEN = [
    "import explorer.runner",
    "import explorer.host",
    "from explorer import runner",
    "from explorer.runner import Runner",
    "from explorer.datasets import download",
    "from explorer.datasets import os",
    "from explorer.datasets import NoData",
    "from explorer.datasets import _look",
    "from explorer import datasets\ndatasets.download()",
    "from explorer import datasets\ndatasets._look()",
    "from explorer import datasets\ndatasets.os",
    "from explorer import datasets\ndatasets.prepare()",
    "from explorer import datasets\ndatasets.shut()",
    "from explorer import datasets\ndatasets.cache_folder()",
    "from explorer import datasets\ndatasets.mnist = None",
    "from explorer import datasets\ndatasets.mnist.__globals__",
    "import explorer.datasets\nexplorer.datasets.np",
    "import explorer.datasets as d\nd.__dict__",
]


@pytest.mark.parametrize("source", HIDDEN, ids=lambda source: source.rpartition("\n")[2])
def test_programs_see_only_the_two_functions(bare: tuple[Runner, Path], source: str) -> None:
    recording = bare[0].run(Program(source))
    assert (recording.status, recording.problem.type) == ("refused", "Refused")


@pytest.mark.parametrize("name", ["os", "download", "_look", "runner", "prepare", "_loaded"])
def test_names_put_together_find_no_more(bare: tuple[Runner, Path], name: str) -> None:
    source = f"import explorer.datasets\nfrom explorer import datasets\nname = {name[:2]!r} + {name[2:]!r}\n"
    for module in ("explorer", "datasets", "explorer.datasets"):
        recording = bare[0].run(Program(f"{source}print(getattr({module}, name))\n"))
        assert recording.status in ("error", "refused") and not recording.stdout


@linux
def test_host_that_is_killed_takes_what_it_held_and_the_next_run_works(bare: tuple[Runner, Path]) -> None:
    runner, _ = bare
    run = runner.start(Program(UNTRAINED), hold=True)
    assert run.wait(SOON) and "predicted" in run.ask(PREDICT)
    os.kill(runner._host.pid, signal.SIGKILL)
    assert await_truth(lambda: not run.is_held, SOON)
    asked = Timed(lambda: run.ask(PREDICT))
    assert asked.value == {"problem": GONE} and asked.seconds < AT_ONCE
    assert runner.run(Program(SHORT)).status == "ok"
    assert run.ask(PREDICT) == {"problem": GONE}
    assert run.recording().status == "ok"


@pytest.fixture(scope="module")
def real() -> Iterator[tuple[Runner, Path]]:
    """A Runner that has the real digits."""
    folder = SHARED / "mnist"
    if not folder.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} must be there in CI")
        pytest.skip("the real digits are not part of the repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPLORER_DATA", str(folder))
        made = Runner(Limits(threads=1))
        made.find_walls()
        yield made, folder
    made.close()


def test_confined_program_has_the_real_digits(real: tuple[Runner, Path]) -> None:
    runner, folder = real
    require_walls(runner)
    recording = runner.run(Program(CHECKSUM))
    assert recording.stdout == checksum_plain(folder), recording.problem


def test_network_of_the_page_learns_the_real_digits_and_is_held(real: tuple[Runner, Path]) -> None:
    runner, _ = real
    run = runner.start(Program(write_program(Design(train_size=2_000, epochs=1, hidden=(50,)))), hold=True)
    assert run.wait(2 * SOON) and run.recording().status == "ok", run.plain["problem"]
    answer = run.ask({"kind": "digits", "most": 3})
    assert answer["accuracy"] > 0.7 and answer["count"] == 10_000 and len(answer["shown"]) == 3
    assert run.ask({"kind": "layers"})["layers"][0]["name"] == "layer1"
    run.stop()
