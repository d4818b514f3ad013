"""Whatever breaks ends in a clear problem for the runs it meets and a working next run, and leaves nothing behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from behind_one_wall import unchecked_runner
from processes import (
    adopting_orphans,
    await_only_child,
    await_truth,
    count_descriptors,
    find_children,
    require_walls,
    resident_bytes,
)

from explorer.host import MOST_REQUEST
from explorer.limits import GRACE, Limits
from explorer.program import Program
from explorer.runner import Run, Runner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells of processes on Linux only")

ROOT = Path(__file__).resolve().parents[1]
SOON = 20.0
"""Seconds in which what must come at all has come, on a machine that does other things too."""

ENDLESS = "import time\nprint('started', flush=True)\nwhile True:\n    time.sleep(0.01)\n"
BUSY = "print('started', flush=True)\nwhile True:\n    pass\n"
SHORT = "x = torch.tensor(2.0, requires_grad=True)\n(x * x).backward()\nprint(x.grad)\n"
LONG = Limits(seconds=60.0)


@pytest.fixture(scope="class")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A Runner that may be damaged; whatever it leaves behind, in files and processes, is found here."""
    folder, before = tmp_path_factory.mktemp("own"), find_children(os.getpid())
    with pytest.MonkeyPatch.context() as patch, adopting_orphans():
        for name in ("TMP", "TEMP", "TMPDIR"):
            patch.setenv(name, str(folder))
        made = Runner(Limits(seconds=20.0))
        made.find_walls()
        # torch makes a folder there when it is imported.
        files = set(folder.rglob("*"))
        yield made
        made.close()
        assert await_truth(lambda: find_children(os.getpid()) <= before), find_children(os.getpid()) - before
    assert set(folder.rglob("*")) == files


def start(runner: Runner, source: str = ENDLESS, *, limits: Limits = LONG, visitor: str = "") -> Run:
    """A run of a program that has printed its first line."""
    run = runner.start(Program(source), limits=limits, visitor=visitor)
    assert await_truth(lambda: run.stdout.endswith("\n") or run.is_done, SOON)
    assert not run.is_done
    return run


def host_of(runner: Runner) -> int:
    """The process that forks."""
    return runner._host.pid


def worker_of(runner: Runner) -> int:
    """The one process that runs a program, once the one before it, whose Recording came a moment ago, is gone."""
    return await_only_child(host_of(runner))


def settle(runner: Runner) -> int:
    """Wait until nothing runs; the one worker that waits for the next program."""
    assert_works(runner)
    before: set[int] = set()
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        # Who ends takes less than this to be gone.
        now = find_children(host_of(runner))
        if len(now) == 1 and now == before:
            return now.pop()
        before = now
        time.sleep(0.3)
    raise AssertionError("the host never came to rest")


def end_of(run: Run) -> tuple[str, str]:
    """How a run ended: its status and the type of its problem, which must be said in words."""
    assert run.wait(SOON), "the run never ended"
    recording = run.recording()
    assert (recording.problem is None) == (recording.status == "ok")
    if recording.problem is None:
        return "ok", ""
    assert recording.problem.message and recording.problem.explanation and recording.problem.hint
    return recording.status, recording.problem.type


def assert_works(runner: Runner) -> None:
    """The next run is none the worse."""
    recording = runner.run(Program(SHORT))
    assert (recording.status, recording.stdout) == ("ok", "tensor(4.)\n")


# -- workers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGFPE])
def test_worker_that_is_killed_costs_its_own_run(runner: Runner, number: signal.Signals) -> None:
    run = start(runner)
    worker = worker_of(runner)
    # faulthandler notes the first one's line; a true crash meets the second one at the same instruction.
    while not run.wait(0.2):
        # Its host may have taken it away already.
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, number)
    assert end_of(run) == ("crash", "Crash")
    assert run.recording().problem.message == f"the process that ran the program ended with signal {int(number)}"
    assert run.recording().stdout == "started\n"
    assert_works(runner)


def test_worker_that_is_killed_while_it_waits_costs_one_run_at_most(runner: Runner) -> None:
    os.kill(settle(runner), signal.SIGKILL)
    run = runner.start(Program(SHORT))
    assert end_of(run) in (("crash", "Crash"), ("ok", ""))
    assert_works(runner)


def test_worker_that_stands_still_is_ended_at_its_limit(runner: Runner) -> None:
    run = start(runner, limits=Limits(seconds=5.0))
    os.kill(worker_of(runner), signal.SIGSTOP)
    assert end_of(run) == ("limit", "TimeLimit")
    assert_works(runner)


def test_death_of_one_worker_leaves_others_running(runner: Runner) -> None:
    other = start(runner)
    first = find_children(host_of(runner))
    run = start(runner)
    (worker,) = find_children(host_of(runner)) - first
    os.kill(worker, signal.SIGKILL)
    assert end_of(run) == ("crash", "Crash")
    assert not other.is_done
    other.stop()
    assert end_of(other) == ("limit", "Stopped")


LIES = {
    "a pass beyond all numbers": b'{"event": "pass", "index": 100000000000000000000, "loss": 1}',
    "a point beyond all numbers": b'{"event": "pass", "index": 0, "loss": 1, "points": '
    b'{"index": [100000000000000000000], "values": {"w": [1.0]}}}',
    "not JSON": b"nonsense",
    "no event": b"{}",
    "a list": b"[1, 2]",
    "a number": b"5",
    "deep": b"[" * 100_000,
    "not UTF-8": b'{"event": "printed", "text": "\xff\xfe"}',
    "printed without text": b'{"event": "printed"}',
    "printed number": b'{"event": "printed", "text": 5}',
    "problem of another form": b'{"event": "interrupted", "problem": {"type": ["Crash"]}}',
    "no problem": b'{"event": "interrupted", "problem": 5}',
    "no recording": b'{"event": "finished"}',
    "recording of another form": b'{"event": "finished", "recording": [1]}',
    "recording of another schema": b'{"event": "finished", "recording": {"schema": 99}}',
    "walls that do not stand": b'{"event": "ready", "walls": {"landlock": "gone"}}',
}


@pytest.fixture(scope="module")
def unchecked() -> Iterator[Runner]:
    """A Runner whose programs say what they like in their worker's name."""
    with unchecked_runner(Limits(seconds=20.0)) as made:
        require_walls(made)
        yield made


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_worker_that_lies_costs_its_own_run(unchecked: Runner, lie: bytes) -> None:
    other = start(unchecked)
    walls = dict(unchecked.find_walls())
    liar = unchecked.start(Program(f"import os\nos.write(3, {lie!r} + b'\\n')\nos._exit(0)\n"))
    status, kind = end_of(liar)
    assert (status, kind) == ("crash", "Crash")
    assert unchecked.find_walls() == walls
    assert not other.is_done
    other.stop()
    assert end_of(other) == ("limit", "Stopped")
    assert_works(unchecked)


def test_worker_cannot_speak_for_another(unchecked: Runner) -> None:
    other = start(unchecked)
    forged = f'{other.number} {{"event": "printed", "text": "forged"}}'.encode()
    liar = unchecked.start(Program(f"import os\nos.write(3, {forged!r} + b'\\n')\nos._exit(0)\n"))
    assert end_of(liar) == ("crash", "Crash")
    other.stop()
    assert end_of(other) == ("limit", "Stopped")
    assert other.recording().stdout == "started\n"


@pytest.mark.parametrize("descriptors", [(3,), (4,), (5,), (3, 4), (0, 1, 2, 3, 4, 5)], ids=str)
def test_worker_that_closes_its_pipes_is_ended(unchecked: Runner, descriptors: tuple[int, ...]) -> None:
    closes = "import os, contextlib\n" + "".join(
        f"with contextlib.suppress(OSError):\n    os.close({descriptor})\n" for descriptor in descriptors
    )
    began = time.monotonic()
    run = unchecked.start(Program(closes + "while True:\n    pass\n"), limits=Limits(seconds=2.0))
    assert end_of(run)[0] in ("crash", "limit")
    assert time.monotonic() - began < SOON
    assert_works(unchecked)


def test_worker_that_writes_without_end_is_ended(unchecked: Runner) -> None:
    run = unchecked.start(Program("import os\nwhile True:\n    os.write(3, b'a' * 65536)\n"))
    assert end_of(run) == ("limit", "OutputLimit")
    assert_works(unchecked)


# -- the host ------------------------------------------------------------------------------------------


class TestHostOfItsOwn:
    """What is done to a host that nobody else uses."""

    def test_host_that_is_killed_ends_every_run_of_its_own(self, own: Runner) -> None:
        few = Limits(seconds=60.0, at_once_each=2)
        running = [start(own, limits=few, visitor="v/1") for _ in range(2)]
        waiting = [own.start(Program(ENDLESS), limits=few, visitor="v/1") for _ in range(4)]
        assert await_truth(lambda: all(run.is_waiting for run in waiting), SOON)
        workers = find_children(host_of(own))
        assert len(workers) == 2
        os.kill(host_of(own), signal.SIGKILL)
        assert [end_of(run) for run in running + waiting] == [("crash", "Crash")] * 6
        assert all(run.recording().stdout == "started\n" for run in running)
        assert await_truth(lambda: not workers & find_children(os.getpid()), SOON), "a worker outlived its host"
        assert_works(own)

    def test_host_that_is_killed_between_runs_is_replaced(self, own: Runner) -> None:
        assert_works(own)
        before = host_of(own)
        os.kill(before, signal.SIGKILL)
        assert await_truth(lambda: not own._host.is_alive, SOON)
        assert_works(own)
        assert host_of(own) != before
        assert "<svg" in own.draw("digraph { a -> b }")

    def test_host_that_dies_of_a_run_that_is_just_asked_for_ends_it(self, own: Runner) -> None:
        os.kill(host_of(own), signal.SIGKILL)
        runs = [own.start(Program(SHORT)) for _ in range(3)]
        assert {end_of(run) for run in runs} <= {("crash", "Crash"), ("ok", "")}
        assert await_truth(lambda: not own._host.is_alive or end_of(own.start(Program(SHORT))) == ("ok", ""), SOON)
        assert_works(own)

    def test_thousand_runs_leave_neither_memory_nor_descriptors_nor_processes(self, own: Runner) -> None:
        sources = (SHORT, "print(1)\n", "raise ValueError('no')\n", "import os\n")

        def run_many(count: int) -> None:
            for first in range(0, count, 20):
                runs = [own.start(Program(sources[number % 4])) for number in range(first, first + 20)]
                assert all(run.wait(SOON) for run in runs)

        def measure() -> tuple[int, int, int, int]:
            here, host = os.getpid(), host_of(own)
            settle(own)
            return count_descriptors(here), count_descriptors(host), resident_bytes(here), resident_bytes(host)

        run_many(100)
        before = measure()
        run_many(1000)
        after = measure()
        assert after[:2] == before[:2]
        assert sum(after[2:]) < 1.05 * sum(before[2:])
        assert await_truth(lambda: not own._host.listeners, SOON)
        assert_works(own)


# -- the queue -----------------------------------------------------------------------------------------


@pytest.fixture
def idle(runner: Runner) -> Runner:
    """A Runner of which nothing runs: one worker waits for the next program."""
    settle(runner)
    return runner


def test_flood_of_one_visitor_is_refused_with_a_clear_problem_and_others_finish(idle: Runner) -> None:
    runner = idle
    limits = Limits(seconds=20.0, at_once=3, at_once_each=2, queue=50, queue_each=3)
    flood = [runner.start(Program(ENDLESS), limits=limits, visitor="a/1") for _ in range(9)]
    refused = flood[5:]
    assert [end_of(run) for run in refused] == [("limit", "Busy")] * 4
    assert refused[0].recording().problem.message == "3 of your runs are waiting already"
    others = [runner.start(Program(SHORT), limits=limits, visitor=f"{name}/1") for name in "bcd"]
    assert [end_of(run) for run in others] == [("ok", "")] * 3
    assert not any(run.is_done for run in flood[:5])
    for run in flood[:5]:
        run.stop()
    assert [end_of(run) for run in flood[:5]] == [("limit", "Stopped")] * 5
    assert_works(runner)


def fill(runner: Runner, visitor: str) -> tuple[Run, Run]:
    """Two endless runs beside which no third may start, however long they go on; three may wait."""
    limits = Limits(seconds=60.0, at_once=1, training_at_once=1, queue=3)
    first = start(runner, limits=limits, visitor=visitor)
    # It may start when the first has become a long one.
    return first, start(runner, limits=limits, visitor="1/1")


def test_full_queue_is_a_clear_problem_and_those_in_it_finish(idle: Runner) -> None:
    runner = idle
    first, blocker = fill(runner, "0/1")
    limits = first.limits
    waiting = [runner.start(Program(SHORT), limits=limits, visitor=f"{name}/1") for name in "abc"]
    late = runner.start(Program(SHORT), limits=limits, visitor="late/1")
    assert end_of(late) == ("limit", "Busy")
    assert late.recording().problem.message == "3 runs are waiting already"
    for run in (first, blocker):
        run.stop()
    assert [end_of(run) for run in (first, blocker, *waiting)] == [*[("limit", "Stopped")] * 2, *[("ok", "")] * 3]


def test_newcomer_gets_the_place_of_who_fills_the_queue(idle: Runner) -> None:
    runner = idle
    first, blocker = fill(runner, "a/1")
    limits = first.limits
    flood = [runner.start(Program(SHORT), limits=limits, visitor="a/1") for _ in range(3)]
    late = runner.start(Program(SHORT), limits=limits, visitor="b/1")
    assert end_of(flood[-1]) == ("limit", "Busy")
    for run in (first, blocker):
        run.stop()
    assert [end_of(run) for run in (first, blocker, late, *flood[:2])] == [
        *[("limit", "Stopped")] * 2,
        *[("ok", "")] * 3,
    ]
    assert flood[-1].recording().problem.message == "others want to run who have fewer runs waiting"


def test_visitor_waits_for_one_run_of_a_flood_at_most(idle: Runner) -> None:
    runner = idle
    limits = Limits(seconds=60.0, at_once=2)
    flood = [runner.start(Program(BUSY), limits=limits, visitor="a/1") for _ in range(6)]
    late = runner.start(Program(SHORT), limits=limits, visitor="b/1")
    flood[0].stop()
    assert end_of(late) == ("ok", "")
    assert [run.plain["problem"] for run in flood[1:] if run.is_done] == [], "it waited for another one"
    for run in flood:
        run.stop()
    assert {end_of(run) for run in flood} == {("limit", "Stopped")}


# -- stop ----------------------------------------------------------------------------------------------


def test_stop_before_the_start_ends_a_run_before_it_prints(runner: Runner) -> None:
    run = runner.start(Program("import time\ntime.sleep(30)\n" + ENDLESS), limits=LONG)
    run.stop()
    assert end_of(run) == ("limit", "Stopped")
    assert run.recording().stdout == ""
    assert_works(runner)


def test_stop_twice_and_after_the_end_changes_nothing(runner: Runner) -> None:
    run = start(runner)
    run.stop()
    run.stop()
    assert end_of(run) == ("limit", "Stopped")
    plain = run.plain
    run.stop()
    assert_works(runner)
    assert run.plain is plain


@pytest.mark.parametrize("ending", ["Stopped", "TimeLimit"])
def test_what_an_ended_program_did_is_kept_however_long_it_takes_to_write_down(runner: Runner, ending: str) -> None:
    # What is told of a module asks for its parameters, which takes a while here.
    slow = (
        "import time\nclass Slow(nn.Module):\n    def parameters(self, *given, **options):\n"
        f"        time.sleep({2 * GRACE})\n        return iter(())\nslow = Slow()\nlast = 5\n"
    )
    run = start(runner, slow + BUSY, limits=Limits(seconds=3.0))
    if ending == "Stopped":
        run.stop()
        run.stop()
    recording = run.recording()
    assert (recording.status, recording.problem.type) == ("limit", ending)
    assert recording.timings["plain_ms"] >= 2 * 1000 * GRACE
    assert [one.name for one in recording.variables][-2:] == ["slow", "last"]
    assert_works(runner)


def test_what_nobody_wants_any_more_is_ended_at_once(runner: Runner) -> None:
    run = start(
        runner,
        "import time\ntry:\n    print('started', flush=True)\n    time.sleep(60)\nfinally:\n    time.sleep(60)\n",
    )
    run.release()
    assert end_of(run) == ("limit", "Stopped")
    # One that was asked to end, and did not, is asked for its line first.
    assert run.recording().problem.line is None
    assert_works(runner)


def test_stop_of_a_run_that_has_ended_does_not_reach_the_next(runner: Runner) -> None:
    for _ in range(5):
        done, next_ = runner.start(Program(SHORT)), runner.start(Program(SHORT))
        assert done.wait(SOON)
        done.stop()
        assert end_of(next_) == ("ok", "")


def test_stop_of_a_program_that_swallows_it_ends_it_all_the_same(runner: Runner) -> None:
    run = start(runner, "print('started', flush=True)\nwhile True:\n    try:\n        while True:\n            pass\n"
                        "    finally:\n        continue\n")  # fmt: skip
    run.stop()
    assert end_of(run) == ("limit", "Stopped")
    assert_works(runner)


# -- size ----------------------------------------------------------------------------------------------


def test_recording_past_its_size_keeps_less_and_is_whole(runner: Runner) -> None:
    source = "w = torch.ones(60, requires_grad=True)\nfor i in range(600):\n    (w.sin() * i).sum().backward()\n"
    run = runner.start(Program(source), limits=Limits(seconds=20.0, recording_mb=1))
    assert end_of(run) == ("ok", "")
    assert len(run.recording().to_json().encode()) <= 1_000_000
    assert len(run.recording().passes) == 600
    assert_works(runner)


def test_variables_past_the_size_of_a_recording_end_in_a_recording(runner: Runner) -> None:
    source = "for i in range(20_000):\n    x = torch.ones(60, requires_grad=True).sin()\nkept = ['a' * 10**6] * 50\n"
    run = runner.start(Program(source), limits=Limits(seconds=20.0, recording_mb=1))
    assert end_of(run)[0] in ("ok", "limit")
    assert_works(runner)


def test_output_without_end_is_cut_and_the_run_ends_at_its_limit(runner: Runner) -> None:
    run = runner.start(Program("while True:\n    print('x' * 1000)\n"), limits=Limits(seconds=1.0, output_kb=8))
    assert end_of(run) == ("limit", "TimeLimit")
    assert (len(run.recording().stdout), run.recording().stdout_truncated) == (8000, True)
    assert len(run.stdout) == 8000
    assert_works(runner)


def test_program_too_long_for_a_request_is_refused(runner: Runner) -> None:
    run = runner.start(Program("x = '" + '"id": 3}' * (MOST_REQUEST // 8) + "'\n"))
    assert end_of(run) == ("refused", "Refused")
    assert f"more than {MOST_REQUEST} bytes" in run.recording().problem.message
    assert_works(runner)


# -- what is said to the host --------------------------------------------------------------------------


class Line:
    """A host that is spoken to by hand."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "explorer.host"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.hear()[1]["event"] == "ready"

    def say(self, data: bytes) -> None:
        """Write bytes as they are."""
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def ask(self, **request: Any) -> None:
        """Write a request."""
        self.say(json.dumps(request).encode() + b"\n")

    def run(self, number: int, **more: Any) -> None:
        """Ask for a run of a short program."""
        self.ask(**{"do": "run", "program": Program(SHORT).to_plain(), "limits": {}, "id": number, **more})

    def hear(self) -> tuple[int, dict[str, Any]]:
        """The next answer."""
        data = b""
        while not data.endswith(b"\n"):
            more = self.process.stdout.read(1) if not data else self.process.stdout.readline()
            assert more, "the host has ended"
            data += more
        number, _, text = data.partition(b" ")
        return int(number), json.loads(text)

    def hear_end(self, wanted: int) -> dict[str, Any]:
        """The end of a request; nothing else may be heard of any other."""
        while True:
            number, event = self.hear()
            assert number == wanted, (number, event)
            if event["event"] == "ended":
                return event

    def assert_works(self, number: int) -> None:
        """The next run is none the worse."""
        self.run(number)
        ended = self.hear_end(number)
        assert (ended["how"], ended["status"]) == ("itself", 0)

    def close(self) -> int:
        """Close its input; its exit status."""
        self.process.stdin.close()
        try:
            return self.process.wait(SOON)
        finally:
            self.process.kill()
            self.process.stdout.close()


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """One host for everything that is said to it: it must survive it all, and leave no child."""
    made = Line()
    yield made
    assert await_truth(lambda: len(find_children(made.process.pid)) == 1, SOON)
    assert made.close() == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\n", b"null\n", b"5\n", b"[]\n", b'"run"\n', b"{}\n", b"{\n", b'{"do": "run"}\n', b'{"id": 5}\n',
        b'{"do": "explode", "id": 5}\n', b'{"do": ["run"], "id": 5}\n', b'{"do": "run", "id": "5"}\n',
        b'{"do": "run", "id": 1e400}\n', b'{"do": "run", "id": null}\n', b'{"do": "run", "id": 0}\n',
        b'{"do": "run", "id": true}\n', b'{"do": "run", "id": -3}\n', b'{"do": "run", "id": NaN}\n',
        b'{"do": "run", "id": ' + b"9" * 5000 + b"}\n", b"[" * 100_000 + b"\n", b"\xff\xfe\x00\x80\n",
        bytes(range(11, 256)) * 50 + b"\n", b"a" * (MOST_REQUEST + 2_000_000) + b"\n",
    ],
    ids=lambda data: ascii(data[:24]),
)  # fmt: skip
def test_line_that_is_no_request_confuses_the_host_and_no_more(line: Line, data: bytes) -> None:
    line.say(data)
    number, event = line.hear()
    assert (number, event["event"]) == (0, "confused")
    assert event["message"]
    line.assert_works(6)


@pytest.mark.parametrize("wanted", ["run", "draw"])
@pytest.mark.parametrize(
    "more",
    [
        {"limits": 5},
        {"limits": [1]},
        {"limits": {"nonsense": 5}},
        {"limits": {"seconds": "soon"}},
        {"limits": {"seconds": float("nan")}},
        {"limits": {"seconds": -1}},
        {"limits": {"seconds": 10**400}},
        {"limits": {"layout_seconds": None}},
        {"limits": {"at_once": 0}},
        {"limits": {"mode": "open"}},
    ],
    ids=lambda more: str(more)[:40],
)
def test_request_of_the_wrong_form_gets_its_end(line: Line, wanted: str, more: dict[str, Any]) -> None:
    line.ask(**{"do": wanted, "id": 7, "program": Program(SHORT).to_plain(), "dot": "digraph {}", **more})
    ended = line.hear_end(7)
    assert (ended["how"], ended["line"]) == ("confused", None)
    assert ended["trace"]
    line.assert_works(8)


@pytest.mark.parametrize(
    "more",
    [
        {"visitor": 5},
        {"visitor": ["a"]},
        {"program": None},
        {"program": []},
        {"program": {}},
        {"program": {"source": 5}},
        {"program": {"source": "x = 1", "seed": "a"}},
        {"program": {"source": "x = 1", "device": 5}},
        {"program": {"source": "x = 1", "knobs": [1]}},
        {"full": 5},
        {"limits": {"memory_mb": 900_000_000}},
    ],
    ids=lambda more: str(more)[:40],
)
def test_run_of_the_wrong_form_gets_its_end(line: Line, more: dict[str, Any]) -> None:
    line.run(9, **more)
    assert line.hear_end(9)["how"] in ("itself", "confused")
    line.assert_works(10)


def test_request_too_long_gets_its_end(line: Line) -> None:
    for length in (MOST_REQUEST + 1, 2 * MOST_REQUEST + 70_000):
        line.run(11, program={"source": "a" * length}, id=11)
        # The id comes last, as explorer.runner writes it.
        assert line.hear()[1]["event"] in ("ended", "confused")
    line.ask(do="run", program={"source": "a" * MOST_REQUEST}, id=12)
    assert line.hear_end(12)["how"] == "confused"
    line.assert_works(13)


def test_id_that_is_taken_is_not_given_twice(line: Line) -> None:
    line.run(14, program=Program(ENDLESS).to_plain())
    while line.hear()[1]["event"] != "printed":
        pass
    line.run(14)
    while line.hear()[0]:
        pass
    line.ask(do="stop", id=14)
    line.hear_end(14)
    line.assert_works(14)


def test_stop_of_what_nobody_knows_says_nothing(line: Line) -> None:
    for number in (999, 10**30):
        line.ask(do="stop", id=number)
    line.assert_works(15)


def test_requests_in_pieces_and_several_at_once_are_read(line: Line) -> None:
    request = {"do": "run", "program": Program(SHORT).to_plain(), "limits": {}}
    for byte in json.dumps({**request, "id": 16}).encode() + b"\n":
        line.say(bytes([byte]))
    line.hear_end(16)
    line.say(b"".join(json.dumps({**request, "id": number}).encode() + b"\n" for number in range(17, 23)))
    ended = set()
    while len(ended) < 6:
        number, event = line.hear()
        if event["event"] == "ended":
            ended.add(number)
    assert ended == set(range(17, 23))


# -- the client ----------------------------------------------------------------------------------------

CLIENT = """
import sys
from explorer.limits import Limits
from explorer.program import Program
from explorer.runner import Runner
runner = Runner()
limits = Limits(seconds=60.0, at_once_each=2)
runs = [runner.start(Program(source), limits=limits, visitor="v/1") for source in sys.argv[1:] * 2]
while not (runs[0].stdout and runs[1].stdout):
    runs[0].wait(0.01)
print(runner._host.pid, flush=True)
runs[0].wait()
"""


def test_client_that_is_killed_leaves_no_process() -> None:
    command = [sys.executable, "-c", CLIENT, ENDLESS, BUSY]
    with adopting_orphans():
        before = find_children(os.getpid())
        client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with client:
            host = int(client.stdout.readline())
            workers = find_children(host)
            assert len(workers) == 2
            client.kill()
        assert await_truth(lambda: find_children(os.getpid()) <= before, SOON), "a process outlived its client"
        assert not {host, *workers} & find_children(os.getpid())


def test_client_that_closes_its_line_ends_what_runs_and_what_waits() -> None:
    line = Line()
    limits = asdict(Limits(seconds=60.0, at_once_each=1))
    for number in (1, 2):
        line.run(number, program=Program(BUSY).to_plain(), limits=limits, visitor="v/1")
    while line.hear()[1]["event"] != "printed":
        pass
    worker = await_only_child(line.process.pid)
    assert line.close() == 0
    assert await_truth(lambda: not Path(f"/proc/{worker}").exists(), SOON)


def test_client_that_reads_nothing_more_ends_what_runs() -> None:
    line = Line()
    line.run(1, program=Program("while True:\n    print('x' * 1000)\n").to_plain(), limits=asdict(LONG))
    assert await_truth(lambda: bool(find_children(line.process.pid)), SOON)
    workers = find_children(line.process.pid)
    line.process.stdout.close()
    line.process.stdin.close()
    line.process.wait(SOON)
    assert await_truth(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), SOON)
