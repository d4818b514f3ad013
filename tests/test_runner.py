"""A program gets a process of its own: what it breaks, fills or never ends costs its own run and nothing else."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import pytest
from processes import await_only_child, await_truth, find_children

from explorer.limits import Limits
from explorer.program import Program
from explorer.recording import Recording
from explorer.runner import LATE, LayoutError, Runner

ROOT = Path(__file__).resolve().parents[1]
SHORT = Limits(seconds=0.5, memory_mb=512)
ENOUGH = Limits(seconds=20.0, memory_mb=512)
SVG = "{http://www.w3.org/2000/svg}"
LATENESS = 10.0
"""Seconds after its time is over that a run's Recording may come at the latest."""

ENDLESS = "import time\nprint('started', flush=True)\nwhile True:\n    time.sleep(0.01)\n"
THREE_LINES = "x = torch.tensor(2.0, requires_grad=True)\ny = 3 * torch.sigmoid(x) + 5\ny.backward()\n"
# A saved index is changed behind autograd's back, and backward writes far outside its memory.
NATIVE_CRASH = """\
index = torch.tensor([1, 2, 3])
w = torch.randn(5, 3, requires_grad=True)
y = F.embedding_bag(index, w, torch.tensor([0, 2]))
index.data.fill_(10**7)
y.sum().backward()
"""
# One call that neither returns nor looks at signals.
NATIVE_HANG = "x = torch.eye(2)\ny = torch.linalg.matrix_power(x, -(2**63))\n"


@pytest.fixture(scope="module", autouse=True)
def warm(runner: Runner) -> None:
    """What a run takes is not what its host takes to start."""
    assert_runs(runner)


def run_timed(runner: Runner, source: str, limits: Limits = SHORT) -> Recording:
    """The Recording of ``source``, which must come within the limit and the allowed lateness."""
    began = time.monotonic()
    recording = runner.run(Program(source), limits=limits)
    assert time.monotonic() - began < limits.seconds + LATENESS
    return recording


def assert_runs(runner: Runner) -> None:
    """The next run is none the worse."""
    recording = runner.run(Program(THREE_LINES))
    assert recording.status == "ok"
    assert recording.variables[0].grad.values == pytest.approx(0.31498, abs=1e-5)


def await_start(run: object) -> None:
    """Return when the run's first line was printed."""
    for event in run.events():
        if event["event"] == "printed":
            return
    raise AssertionError("the run ended before it printed")


def kinds_of(events: Iterable[dict]) -> list[str]:
    """The kinds of events in their order; one text may be printed in pieces."""
    return [kind for kind, _ in groupby(event["event"] for event in events)]


# -- limits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("x = 1\nwhile True:\n    pass\n", (2, 3)),
        ("x = 1\nwhile True:\n    try:\n        x += 1\n    except Exception:\n        pass\n", (2, 3, 4)),
        ("try:\n    while True:\n        pass\nfinally:\n    while True:\n        pass\n", (5, 6)),
        ("x = torch.ones(1, requires_grad=True)\ndef hook(g):\n    while True:\n        pass\n"
         "x.register_hook(hook)\n(x * 2).backward()\n", (3, 4)),
        ("import time\nx = 1\ntime.sleep(60)\n", (3,)),
    ],
    ids=["loop", "caught", "finally", "hook", "sleep"],
)  # fmt: skip
def test_endless_program_ends_at_its_limit_and_tells_its_line(runner: Runner, source: str, line: tuple) -> None:
    recording = run_timed(runner, source)
    assert (recording.status, recording.problem.type) == ("limit", "TimeLimit")
    assert recording.problem.line in line
    assert recording.problem.message == "the program ran for more than 0.5 s"
    assert recording.problem.explanation and recording.problem.hint
    assert_runs(runner)


def test_what_a_program_did_before_its_limit_is_kept(runner: Runner) -> None:
    recording = run_timed(runner, f"print('before')\n{THREE_LINES}while True:\n    pass\n", Limits(seconds=2.0))
    assert recording.stdout == "before\n"
    assert recording.variables[0].grad.values == pytest.approx(0.31498, abs=1e-5)
    assert len(recording.passes[0].steps) == len(recording.graphs[0].nodes) == 4


@pytest.mark.parametrize(
    "source", [NATIVE_HANG, "x = 1\ny = 2 ** (10 ** 9) // 3 ** (10 ** 8)\n"], ids=["torch", "integer"]
)
def test_call_that_cannot_be_interrupted_is_ended_with_its_line(runner: Runner, source: str) -> None:
    recording = run_timed(runner, source, Limits(seconds=0.5))
    assert (recording.status, recording.problem.type, recording.problem.line) == ("limit", "TimeLimit", 2)
    assert_runs(runner)


@pytest.mark.parametrize(
    "source",
    ["x = 1\ny = torch.zeros(10 * 2**30 // 4)\n", "x = []\nwhile True:\n    x.append([0] * 10**6)\n"],
    ids=["tensor", "list"],
)
def test_memory_past_its_limit_ends_the_program_at_its_line(runner: Runner, source: str) -> None:
    recording = run_timed(runner, source, Limits(seconds=5.0, memory_mb=256))
    assert (recording.status, recording.problem.type) == ("limit", "MemoryLimit")
    assert recording.problem.line == (2 if "zeros" in source else 3)
    assert [variable.name for variable in recording.variables] == ["x"]
    assert_runs(runner)


def test_native_crash_costs_its_own_run_and_tells_its_line(runner: Runner) -> None:
    recording = run_timed(runner, NATIVE_CRASH, ENOUGH)
    assert (recording.status, recording.problem.type, recording.problem.line) == ("crash", "Crash", 5)
    assert recording.problem.explanation and recording.problem.hint
    assert_runs(runner)


def test_what_was_printed_before_a_native_crash_is_kept(runner: Runner) -> None:
    assert run_timed(runner, "print('before')\n" + NATIVE_CRASH, ENOUGH).stdout == "before\n"


def test_large_recording_arrives_about_as_fast_as_it_is_made(runner: Runner) -> None:
    source = "x = torch.ones(1, requires_grad=True)\ny = x\nfor i in range(15_000):\n    y = y * 1.0\ny.backward()\n"
    began = time.monotonic()
    recording = runner.run(Program(source), limits=Limits(seconds=20.0))
    spent = time.monotonic() - began
    assert len(recording.passes[0].steps) == 15_001
    assert spent < 4 * sum(recording.timings.values()) / 1000 + 1.0


def test_printing_without_end_fills_what_is_kept_and_no_more(runner: Runner) -> None:
    recording = run_timed(runner, "while True:\n    print('0123456789')\n")
    assert recording.stdout_truncated
    assert recording.stdout.startswith("0123456789\n0123456789\n")
    assert len(recording.stdout) == 64_000
    assert_runs(runner)


def test_one_text_of_ten_million_characters_is_cut(runner: Runner) -> None:
    recording = run_timed(runner, "print('a' * 10**7)\nprint('b')\n", Limits(seconds=5.0))
    assert (recording.status, recording.stdout_truncated, recording.stdout) == ("ok", True, "a" * 64_000)


# -- events and stop -----------------------------------------------------------------------------------


def test_events_arrive_in_order(runner: Runner) -> None:
    run = runner.start(Program(f"print('one', flush=True)\n{THREE_LINES}print('two')\n"))
    events = list(run.events())
    assert kinds_of(events) == ["started", "printed", "pass", "printed", "finished"]
    assert "".join(event["text"] for event in events if event["event"] == "printed") == "one\ntwo\n"
    (one,) = [event for event in events if event["event"] == "pass"]
    assert (one["index"], one["loss"]) == (0, pytest.approx(7.64239))
    assert events[-1]["recording"] == run.recording().to_plain()
    assert run.stdout == run.recording().stdout


def test_stop_ends_a_run_and_keeps_what_was_seen(runner: Runner) -> None:
    run = runner.start(Program(THREE_LINES + ENDLESS))
    await_start(run)
    began = time.monotonic()
    run.stop()
    recording = run.recording()
    assert time.monotonic() - began < LATENESS
    assert (recording.status, recording.problem.type) == ("limit", "Stopped")
    assert recording.problem.line in (5, 6, 7)
    assert recording.stdout == "started\n"
    assert len(recording.passes[0].steps) == 4
    run.stop()
    assert_runs(runner)


def test_stop_ends_a_call_that_cannot_be_interrupted(runner: Runner) -> None:
    run = runner.start(Program(NATIVE_HANG.replace("\n", "\nprint('started', flush=True)\n", 1)))
    await_start(run)
    time.sleep(0.5)
    began = time.monotonic()
    run.stop()
    recording = run.recording()
    assert time.monotonic() - began < 1.0 + LATENESS
    assert (recording.status, recording.problem.type, recording.problem.line) == ("limit", "Stopped", 3)
    assert recording.stdout == "started\n"


# -- many runs -----------------------------------------------------------------------------------------


def test_runs_at_once_do_not_mix(runner: Runner) -> None:
    runs = [runner.start(Program(f"x = torch.tensor({i}.0)\nprint(x * x)\n", seed=i)) for i in range(32)]
    for index, run in enumerate(runs):
        assert run.recording().stdout == f"tensor({index * index}.)\n"
        assert run.recording().program["seed"] == index


def test_more_runs_than_may_go_at_once_wait_and_finish(runner: Runner) -> None:
    limits = Limits(seconds=5.0, at_once=2)
    runs = [runner.start(Program("import time\ntime.sleep(0.1)\nprint(1)\n"), limits=limits) for _ in range(5)]
    waited = 0
    for run in runs:
        kinds = kinds_of(run.events())
        waited += kinds[0] == "waiting"
        assert kinds[-3:] == ["started", "printed", "finished"]
        assert run.recording().status == "ok" and not run.is_waiting
    assert waited >= 3


def test_run_that_waits_can_be_stopped(runner: Runner) -> None:
    limits = Limits(seconds=60.0, at_once_each=1)
    first, second = (runner.start(Program(ENDLESS), limits=limits, visitor="v/1") for _ in range(2))
    await_start(first)
    assert await_truth(lambda: second.is_waiting, LATENESS)
    second.stop()
    assert second.recording().problem.type == "Stopped"
    assert second.recording().problem.line is None
    assert not first.is_done
    first.stop()
    assert first.recording().problem.type == "Stopped"


# -- the host ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def others() -> set[int]:
    """The processes that were there before the Runner that may be damaged."""
    return find_children(os.getpid())


@pytest.fixture(scope="module")
def own(others: set[int]) -> Iterator[Runner]:
    """A Runner that may be damaged."""
    made = Runner(Limits(seconds=20.0, layout_seconds=2.0))
    yield made
    made.close()


def test_picture_that_takes_too_long_is_a_layout_error(own: Runner) -> None:
    edges = "".join(f"{i * 7919 % 3001} -> {i * 104729 % 3001}\n" for i in range(9000))
    assert_runs(own)
    began = time.monotonic()
    with pytest.raises(LayoutError, match=LATE):
        own.draw(f"digraph {{\n{edges}}}\n")
    assert time.monotonic() - began < 2.0 + LATENESS
    assert "<svg" in own.draw("digraph { a -> b }")


def test_run_whose_host_dies_gets_a_problem_and_the_next_run_works(own: Runner, others: set[int]) -> None:
    run = own.start(Program(ENDLESS), limits=Limits(seconds=60.0))
    await_start(run)
    (host,) = find_children(os.getpid()) - others
    worker = await_only_child(host)
    os.kill(host, signal.SIGKILL)
    assert run.wait(LATENESS)
    assert (run.recording().status, run.recording().problem.type) == ("crash", "Crash")
    assert run.recording().stdout == "started\n"
    assert await_truth(lambda: not Path(f"/proc/{worker}").exists(), LATENESS), "the worker outlived its host"
    assert_runs(own)

    # Closing it leaves nothing behind either, not even what still runs.
    (host,) = find_children(os.getpid()) - others
    run = own.start(Program(ENDLESS), limits=Limits(seconds=60.0))
    await_start(run)
    worker = await_only_child(host)
    own.close()
    assert find_children(os.getpid()) <= others
    assert await_truth(lambda: not Path(f"/proc/{worker}").exists(), LATENESS), "the worker outlived the runner"
    assert run.recording().problem is not None
    own.close()


def test_host_answers_in_json_lines_and_survives_what_is_none() -> None:
    host = subprocess.Popen(
        [sys.executable, "-m", "explorer.host"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    limits = {"seconds": 5.0, "memory_mb": 512, "threads": 1, "at_once": 8, "layout_seconds": 5.0}
    program = Program("print(1, float('nan'))\nx = torch.tensor(float('inf'))\n").to_plain()
    request = {"do": "run", "id": 7, "program": program, "limits": limits, "full": []}
    lines = [b"not JSON\n", b'{"do": "explode", "id": 1}\n', b'{"do": "stop", "id": 99}\n']
    with host:
        host.stdin.write(b"".join([*lines, json.dumps(request).encode(), b"\n"]))
        host.stdin.flush()
        events = []
        while not events or events[-1][1]["event"] != "ended":
            number, _, text = host.stdout.readline().partition(b" ")
            events.append((int(number), json.loads(text, parse_constant=pytest.fail)))
        host.stdin.close()
        assert host.wait(5) == 0
    kinds = [(number, event["event"]) for number, event in events]
    assert kinds[:3] == [(0, "ready"), (0, "confused"), (0, "confused")]
    assert kinds[3:] == [(7, kind) for kind in ("started", "printed", "ran", "finished", "ended")]
    assert events[-2][1]["recording"]["variables"][0]["value"]["values"] == "inf"


# -- pictures ------------------------------------------------------------------------------------------


def test_picture_carries_our_ids(runner: Runner) -> None:
    dot = 'digraph {\n"n0" [id="n0" label="a <b> & c"]\n"n1" [id="n1"]\n"n1" -> "n0" [id="n0-0"]\n}\n'
    svg = runner.draw(dot)
    groups = {group.get("id"): "".join(group.itertext()) for group in ElementTree.fromstring(svg).iter(f"{SVG}g")}
    assert {"n0", "n1", "n0-0"} <= set(groups)
    assert "a <b> & c" in groups["n0"]
    assert runner.draw(dot) == svg


@pytest.mark.parametrize("dot", ["digraph {", "", "nonsense", 'digraph { a [label="open'])
def test_text_that_is_not_dot_is_a_layout_error(runner: Runner, dot: str) -> None:
    with pytest.raises(LayoutError, match=r"\w"):
        runner.draw(dot)
    assert "<svg" in runner.draw("digraph { a -> b }")


# -- without fork --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spawning() -> Iterator[Runner]:
    """A Runner of spawned workers, as for CUDA and on Windows."""
    made = Runner(Limits(seconds=20.0), forks=False)
    made.warm_up()
    yield made
    made.close()


def test_spawned_worker_runs_a_program(spawning: Runner) -> None:
    run = spawning.start(Program(f"print('one', flush=True)\n{THREE_LINES}print(x.grad)\n"))
    assert kinds_of(run.events()) == ["started", "printed", "pass", "printed", "finished"]
    assert run.recording().stdout == "one\ntensor(0.3150)\n"
    assert run.recording().status == "ok"


def test_spawned_worker_ends_an_endless_program_at_its_line(spawning: Runner) -> None:
    run = spawning.start(Program("print('before')\nwhile True:\n    pass\n"), limits=Limits(seconds=0.5))
    assert next(run.events())["event"] == "started"
    began = time.monotonic()
    recording = run.recording()
    assert time.monotonic() - began < 0.5 + LATENESS
    assert (recording.status, recording.problem.type) == ("limit", "TimeLimit")
    assert recording.problem.line in (2, 3)
    assert recording.stdout == "before\n"


def test_spawned_worker_that_is_stopped_keeps_what_was_seen(spawning: Runner) -> None:
    run = spawning.start(Program(THREE_LINES + ENDLESS), limits=Limits(seconds=60.0))
    await_start(run)
    run.stop()
    assert run.wait(LATENESS)
    recording = run.recording()
    assert (recording.status, recording.problem.type) == ("limit", "Stopped")
    assert recording.problem.line in (5, 6, 7)
    assert recording.stdout == "started\n"
    assert len(recording.passes[0].steps) == 4


def test_spawned_worker_that_does_not_hear_of_a_stop_is_ended(spawning: Runner) -> None:
    run = spawning.start(
        Program(NATIVE_HANG.replace("\n", "\nprint('started', flush=True)\n", 1)), limits=Limits(seconds=60.0)
    )
    await_start(run)
    time.sleep(0.5)
    run.stop()
    assert run.wait(1.0 + LATENESS)
    assert (run.recording().status, run.recording().problem.type) == ("limit", "Stopped")
    assert run.recording().stdout == "started\n"
