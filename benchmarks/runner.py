"""What a classroom can share: the runner alone, 20 at once, after a kill, for 30 students, and the page for 30 clients.

Run as ``python benchmarks/runner.py [--quick] [--json]``; Linux only, for it reads memory in /proc. A time is from
the request to the result in hand, in a client that shares the cores with all that it asks for. Where Landlock and
seccomp stand, the runner is a shared server's. Memory is resident; what two processes share counts in both.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from clients import SETTINGS, measure_clients
from report import MOST_SECONDS, Row, late_row, median_row, print_rows, read_options

from explorer.draw import decorate_dot
from explorer.examples import list_examples
from explorer.limits import Limits
from explorer.program import Program
from explorer.runner import Run, Runner

AT_ONCE = 20
STUDENTS = 30
EVERY_SECONDS = 5.0
"""How often a student runs a program."""

# Names and functions change from run to run, as they do in a classroom.
SMALL = """\
x = torch.tensor(2.0, requires_grad=True)
y{number} = 3 * torch.{function}(x) + 5
y{number}.backward()
"""
FUNCTIONS = ("sigmoid", "tanh", "sin", "exp")
ENDLESS = "while True:\n    pass\n"
# One call that neither returns nor looks at signals.
NATIVE_HANG = "x = torch.eye(2)\ny = torch.linalg.matrix_power(x, -(2**63))\n"
# A saved index is changed behind autograd's back, and backward writes far outside its memory.
NATIVE_CRASH = """\
index = torch.tensor([1, 2, 3])
w = torch.randn(5, 3, requires_grad=True)
y = F.embedding_bag(index, w, torch.tensor([0, 2]))
index.data.fill_(10**7)
y.sum().backward()
"""
HOSTILE = (
    ENDLESS,
    "kept = []\nwhile True:\n    kept.append(torch.ones(2**22))\n",
    NATIVE_CRASH,
    "while True:\n    print('x' * 1_000)\n",
    "def call(n):\n    return call(n + 1) + 1\ncall(0)\n",
)
"""What the one hostile student runs in turn: for ever, out of memory, out of bounds, without end, too deep."""

_numbers = itertools.count(1)


def next_program() -> Program:
    """A three-line program that was not run before."""
    number = next(_numbers)
    return Program(SMALL.format(number=number, function=FUNCTIONS[number % len(FUNCTIONS)]))


def time_run(runner: Runner, program: Program, *, visitor: str = "", status: str = "ok") -> float | None:
    """Milliseconds of one run; None where it did not end as it should."""
    began = time.perf_counter()
    run = runner.start(program, visitor=visitor)
    is_done = run.wait(MOST_SECONDS)
    taken = 1000 * (time.perf_counter() - began)
    return taken if is_done and run.plain["status"] == status else None


def run_together(runner: Runner) -> list[float | None]:
    """Milliseconds of each of 20 visitors' runs that begin in the same moment."""
    gate = threading.Barrier(AT_ONCE)

    def run(number: int) -> float | None:
        gate.wait()
        return time_run(runner, next_program(), visitor=f"10.0.0.{number}/tab")

    with ThreadPoolExecutor(AT_ONCE) as people:
        return list(people.map(run, range(AT_ONCE)))


def measure_speed(runner: Runner, times: int) -> Iterator[Row]:
    """From the request to the result, one at a time and 20 together, and one picture laid out."""

    def pause_and_run() -> float | None:
        time.sleep(0.1)
        return time_run(runner, next_program())

    alone = [pause_and_run() for _ in range(times)]
    yield median_row("request to result, alone", alone, 20, "a pause before each")
    yield late_row("request to result, alone, 95th percentile", alone)
    yield median_row("request to result, one after another", [time_run(runner, next_program()) for _ in range(times)])
    run_together(runner)
    together = [time_ for _ in range(max(3, times // 4)) for time_ in run_together(runner)]
    yield median_row(f"{AT_ONCE} at once", together)
    yield late_row(f"{AT_ONCE} at once, 95th percentile", together, 250)
    yield Row(f"{AT_ONCE} at once, lost", sum(time_ is None for time_ in together), "runs", 0)
    recording = runner.run(next_program())
    dot = decorate_dot(recording.graphs[0], recording.passes)
    yield median_row("one small picture laid out", [_time_draw(runner, dot) for _ in range(times)])


def _time_draw(runner: Runner, dot: str) -> float:
    began = time.perf_counter()
    runner.draw(dot)
    return 1000 * (time.perf_counter() - began)


def measure_recovery(runner: Runner, times: int) -> Iterator[Row]:
    """The next run's time after one that ended badly; the runner starts it as soon as it has told of the end."""
    short = replace(runner.limits, seconds=0.3)

    def after(source: str, status: str, *, stops: bool = False) -> list[float | None]:
        found = []
        for _ in range(times):
            run = runner.start(Program(source), limits=short)
            if stops:
                time.sleep(0.1)
                run.stop()
            if not run.wait(MOST_SECONDS) or run.plain["status"] != status:
                raise RuntimeError(f"a run that should end with {status} did not: {source}")
            found.append(time_run(runner, next_program()))
        return found

    yield median_row("the next run after a time limit", after(ENDLESS, "limit"), 50)
    yield median_row("the next run after a stop", after(ENDLESS, "limit", stops=True), 50)
    yield median_row("the next run after a kill inside a native call", after(NATIVE_HANG, "limit"), 50)
    yield median_row("the next run after a native crash", after(NATIVE_CRASH, "crash"), 50)


def find_children(pid: int | str = "self") -> list[int]:
    """The processes that this one, or another, started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]


def read_memory(pid: int | str, *names: str) -> float:
    """MB of a process by these lines of its smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.partition(":")[0] in names) / 1024


def measure_memory(host: int) -> Iterator[Row]:
    """What the worker that waits has for itself, beside its host."""
    time.sleep(0.5)
    for spare in find_children(host):
        own = read_memory(spare, "Private_Clean", "Private_Dirty")
        yield Row("memory of the waiting worker that is its own", own, "MB", note="USS")
    yield Row("memory of its host", read_memory(host, "Rss"), "MB", note="resident")


@dataclass(slots=True)
class Student:
    """One who runs a program every five seconds and waits for it."""

    number: int
    visitor: str
    taken: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def study(self, runner: Runner, begins: float, ends: float, expected: dict[str, str]) -> None:
        """Run examples of the gallery until the lesson ends; each must end as it does alone."""
        sources = list(expected)
        for turn in itertools.count():
            due = begins + EVERY_SECONDS * (turn + self.number / STUDENTS)
            if due > ends:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            source = sources[(self.number + turn) % len(sources)]
            began = time.perf_counter()
            run = runner.start(Program(source), visitor=self.visitor)
            is_done = run.wait(MOST_SECONDS)
            self.taken.append(1000 * (time.perf_counter() - began))
            if not is_done or run.plain["status"] != expected[source]:
                problem = (run.plain or {}).get("problem") or {"message": "no result"}
                self.failures.append(problem["message"])


def disturb(runner: Runner, begins: float, ends: float) -> list[Run]:
    """The hostile student, who waits for nothing; their runs."""
    runs = []
    for turn, source in enumerate(itertools.cycle(HOSTILE)):
        due = begins + EVERY_SECONDS * turn
        if due > ends:
            return runs
        time.sleep(max(0.0, due - time.monotonic()))
        runs.append(runner.start(Program(source), visitor="10.0.1.0/tab"))


def measure_students(runner: Runner, host: int, seconds: float) -> Iterator[Row]:
    """A lesson of 30, of whom one is hostile."""
    expected = {example.source: runner.run(Program(example.source)).status for example in list_examples()}
    before = {"host": read_memory(host, "Rss"), "client": read_memory("self", "Rss")}
    students = [Student(number, f"10.0.1.{number}/tab") for number in range(1, STUDENTS)]
    begins = time.monotonic() + 0.2
    ends = begins + seconds
    with ThreadPoolExecutor(STUDENTS) as lesson:
        hostile = lesson.submit(disturb, runner, begins, ends)
        for done in [lesson.submit(student.study, runner, begins, ends, expected) for student in students]:
            done.result()
    over = time.monotonic() - begins
    for run in hostile.result():
        run.stop()
        run.wait(MOST_SECONDS)
    time.sleep(0.5)
    taken = [time_ for student in students for time_ in student.taken]
    failures = [failure for student in students for failure in student.failures]
    asked = len(students) / EVERY_SECONDS
    lesson_note = f"of {asked:.3g} asked for, over {over:.0f} s"
    yield Row(f"{STUDENTS} students, one hostile: honest runs", len(taken) / over, "per s", note=lesson_note)
    yield median_row(f"{STUDENTS} students: request to result", taken, note="examples of the gallery")
    yield late_row(f"{STUDENTS} students: request to result, 95th percentile", taken)
    why = "; ".join(sorted(set(failures)))[:200] or f"{len(hostile.result())} hostile runs beside them"
    yield Row(f"{STUDENTS} students: failures of the honest", len(failures), "runs", 0, why)
    for name, pid in (("host", host), ("client", "self")):
        now = read_memory(pid, "Rss")
        yield Row(f"{STUDENTS} students: {name} at the end", now, "MB", note=f"{before[name]:.0f} MB at the start")


def measure_runner(is_quick: bool) -> Iterator[Row]:
    """The rows of the runner by itself."""
    limits = Limits.from_environment()
    runner = Runner(limits)
    if not any(runner.find_walls().values()):
        runner.limits = replace(limits, mode="shared")
    try:
        (host,) = find_children()
        time_run(runner, next_program())
        yield from measure_speed(runner, 12 if is_quick else 40)
        yield from measure_recovery(runner, 3 if is_quick else 10)
        yield from measure_memory(host)
        yield from measure_students(runner, host, 20.0 if is_quick else 120.0)
    finally:
        runner.close()


def measure_all(is_quick: bool) -> Iterator[Row]:
    """Every row of the table."""
    yield from measure_runner(is_quick)
    if is_quick:
        yield from measure_clients(list(SETTINGS)[:1], rounds=1, seconds=2.0)
    else:
        yield from measure_clients(list(SETTINGS), rounds=2, seconds=8.0)


if __name__ == "__main__":
    chosen = read_options("What a classroom can share: the runner, and the page, under load.")
    print_rows(measure_all(chosen.quick), as_json=chosen.json)
