"""Runs a checked program in this process and records it: Program in, Recording out."""

import ast
import contextlib
import io
import random
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from explorer import confine, policy
from explorer.check import Refused, check_program
from explorer.control import Clock, Control, Orders, PassLimit, Stopped
from explorer.engine import as_plain_tensors, find_program_frame
from explorer.explain import explain_problem
from explorer.program import FILENAME, Program, find_loops
from explorer.recording import SCHEMA, Problem, Recording
from explorer.summaries import plain_number
from explorer.tracer import Tracer
from explorer.transcript import Positions, Transcript

MOST_MESSAGE = 4_000
MOST_KEPT = 100_000
MOST_VARIABLES = 400
MOST_NOTES = 20

_UNPACKING = {
    "saved_tensors_hooks",
    "save_on_cpu",
    "checkpoint",
    "checkpoint_sequential",
    "disable_saved_tensors_hooks",
}
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")


class TimeLimit(BaseException):
    """Raised in the program when its time is over; a BaseException so that ``except Exception`` lets it through."""


def record_program(program: Program, **options: Any) -> Recording:
    """Check and run ``program`` here, now, and return what was seen; options as for ``record_plain``."""
    return Recording.from_plain(record_plain(program, **options))


def record_plain(
    program: Program,
    *,
    time_limit: float | None = None,
    training_limit: float | None = None,
    full: Iterable[int] = (),
    keep: Iterable[str] = (),
    replays: Iterable[Mapping[str, Any]] = (),
    until: int | None = None,
    most_passes: int | None = None,
    draws: bool = True,
    maps: bool = False,
    looks_at_all: bool = False,
    most_output: int = 64_000,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    orders: Orders | None = None,
    on_globals: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """``record_program`` as the JSON-shaped dict of the contract, which is what a worker sends.

    A program that fails gives a Recording with a problem: nothing is raised for it.

    ``time_limit`` is in seconds of wall time without a backward pass, ``training_limit`` in all for a program
    that makes some; they need the main thread. Passes in ``full`` are recorded in full. Tensors named in ``keep`` are
    kept whole. ``replays`` are the knob events of an earlier run, to happen again. After ``until``
    passes the run is stopped; it may make ``most_passes``. ``draws`` False leaves the DOT texts
    out; with ``maps`` the large tensors of full passes have a map; with ``looks_at_all`` leaves and gradient norms
    are told of every pass. Of printed text ``most_output`` characters are kept. ``orders`` come from the reader while
    it runs.
    ``on_globals`` is given the program's globals when it has ended.
    """
    began = time.perf_counter()
    try:
        tree = check_program(program)
        torch.device(program.device)
    except Refused as refusal:
        return _fail_early(program, refusal.problem, {"check_ms": _milliseconds(began)})
    except RuntimeError as error:
        explanation = "The program was to run on a device that PyTorch does not know."
        problem = Problem("DeviceError", str(error), None, None, explanation, "Choose cpu, cuda, cuda:0 or mps.")
        return _fail_early(program, problem, {"check_ms": _milliseconds(began)})
    code = compile(tree, FILENAME, "exec")
    timings = {"check_ms": _milliseconds(began)}
    output = Output(on_event, most=most_output)
    namespace = policy.program_globals(on_progress=_forward_progress(on_event))
    positions = Positions(tree)
    control = Control(
        tree,
        namespace,
        positions,
        on_event=on_event,
        orders=orders,
        replays=replays,
        until=until,
        most_passes=most_passes,
    )
    run = Run(
        program, tree, namespace, positions, control, full=full, draws=draws, maps=maps, looks_at_all=looks_at_all
    )
    began = time.perf_counter()
    with _seeded(program), contextlib.redirect_stdout(output), _noted_warnings(run.notes):
        problem = run.execute(code, time_limit, training_limit)
    control.tell()
    timings["run_ms"] = _milliseconds(began)
    confine.release_reserve()
    output.flush()
    if on_event is not None and not run.is_limited:
        on_event({"event": "ran"})
    elif on_event is not None:
        # Should writing it all down take too long as well, this much is known.
        on_event({"event": "interrupted", "problem": plain_problem(problem)})
    began = time.perf_counter()
    with as_plain_tensors():
        plain = run.to_plain(problem)
        plain["kept"] = keep_whole(namespace, keep)
    plain["stdout"], plain["stdout_truncated"] = output.text(), output.truncated
    timings["plain_ms"] = _milliseconds(began)
    plain["timings"] = timings
    if on_globals is not None:
        on_globals(namespace)
    return plain


class Output(io.TextIOBase):
    """Standard output of a program: keeps the beginning, tells a listener as it grows."""

    def __init__(
        self,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        *,
        interval: float = 0.05,
        most: int = 64_000,
    ) -> None:
        self._most = most
        self._parts: list[str] = []
        self._length = 0
        self._pending = 0
        self._on_event = on_event
        self._interval = interval
        self._told = time.perf_counter() - interval
        # What was told last was the beginning of a line.
        self._is_inside_line = False
        self.truncated = False

    def writable(self) -> bool:
        """Text can be written."""
        return True

    def write(self, text: str) -> int:
        """Keep what still fits; say how long the text was, as every stream does."""
        room = self._most - self._length
        if len(text) > room:
            self.truncated = True
        if room > 0 and text:
            self._parts.append(text[:room])
            self._length += min(len(text), room)
        if self._on_event is not None:
            # print() writes its line break by itself, and one event tells both; what was told last may be all that a
            # crash leaves, so that the rest of a line is told at once.
            waited, ends = time.perf_counter() - self._told, text.endswith("\n")
            is_late = waited > self._interval if ends else waited > 4 * self._interval and self._has_waiting
            if is_late or (ends and self._is_inside_line):
                self.flush()
        return len(text)

    @property
    def _has_waiting(self) -> bool:
        """Whether something stood before what was written last, and was not told."""
        return self._pending < len(self._parts) - 1

    def flush(self) -> None:
        """Tell the listener what came since the last time."""
        if self._on_event is not None and self._pending < len(self._parts):
            text = "".join(self._parts[self._pending :])
            self._pending = len(self._parts)
            self._told, self._is_inside_line = time.perf_counter(), not text.endswith("\n")
            self._on_event({"event": "printed", "text": text})

    def text(self) -> str:
        """What was kept."""
        return "".join(self._parts)


class Run:
    """One execution: the namespace it runs in, what the tracer saw, and their plain form."""

    def __init__(
        self,
        program: Program,
        tree: ast.Module,
        namespace: dict[str, Any],
        positions: Positions,
        control: Control,
        *,
        full: Iterable[int] = (),
        draws: bool = True,
        maps: bool = False,
        looks_at_all: bool = False,
    ) -> None:
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        self.notes: list[str] = []
        self.is_limited = False
        self._program = program
        self._namespace = namespace
        self._positions = positions
        self._control = control
        self._draws = draws
        self._reads_saved = not names & _UNPACKING
        self._tracer = Tracer(
            namespace,
            ignored=policy.PREDEFINED,
            loops=find_loops(tree),
            reads_saved=self._reads_saved,
            doubts_hooks="register_prehook" in names or ("register_hook" in names and "grad_fn" in names),
            draws=draws,
            full=full,
            maps=maps,
            looks_at_all=looks_at_all,
            on_pass=control.after_pass,
        )
        control.tracer = self._tracer

    def execute(
        self, code: types.CodeType, time_limit: float | None, training_limit: float | None = None
    ) -> Problem | None:
        """Run the program; the Problem that ended it, or None."""
        try:
            with self._tracer, _limited(time_limit, training_limit, self._control):
                exec(code, self._namespace)
        except TimeLimit as error:
            self.is_limited = True
            message = f"the program ran for more than {time_limit:g} s"
            if self._tracer.count > 1 and training_limit is not None:
                is_over = self._control.clock.is_over
                message = f"the program trained for more than {training_limit:g} s" if is_over else message
                message += "" if is_over else " without a backward pass"
            return self._problem("TimeLimit", message, error)
        except PassLimit as error:
            self.is_limited = True
            return self._problem("PassLimit", f"the program made {self._tracer.count:,} backward passes", error)
        except Stopped as error:
            self.is_limited = True
            return self._problem("Stopped", "the run was stopped", error)
        except BaseException as error:
            message = _text_of(error)
            self.is_limited = isinstance(error, MemoryError) or (
                isinstance(error, RuntimeError) and any(words in message for words in _OUT_OF_MEMORY)
            )
            return self._problem("MemoryLimit" if self.is_limited else _exactly(type(error).__name__), message, error)
        return None

    def _problem(self, kind: str, message: str, error: BaseException) -> Problem:
        line = column = None
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == FILENAME:
                line = trace.tb_lineno
                position = self._positions.of(trace.tb_frame.f_code, trace.tb_lasti)
                column = position[1] if position else None
            trace = trace.tb_next
        explanation, hint = explain_problem(kind, message, line=line, source=self._program.source)
        return Problem(kind, message[:MOST_MESSAGE], line, column, explanation, hint)

    def to_plain(self, problem: Problem | None) -> dict[str, Any]:
        """The Recording as plain data, but for what was printed."""
        items = [
            (name, value)
            for name, value in list(self._namespace.items())[: MOST_VARIABLES + len(policy.PREDEFINED)]
            if name not in policy.PREDEFINED and not name.startswith("__") and not policy.is_facade(value)
        ]
        status = "ok" if problem is None else "limit" if self.is_limited else "error"
        transcript = Transcript(self._tracer, self._positions, items, draws=self._draws)
        return {
            "schema": SCHEMA,
            "program": self._program.to_plain(),
            "status": status,
            "stdout": "",
            "stdout_truncated": False,
            "problem": plain_problem(problem),
            **transcript.to_plain(),
            "timings": {},
            "versions": versions(),
            "knob_events": self._control.knob_events,
            "notes": self.notes + transcript.notes,
            "kept": {},
        }


def keep_whole(namespace: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The whole values of these tensors, nested as ``tolist`` nests them; one of too many elements is left out."""
    found = {}
    for name in names:
        tensor = namespace.get(name)
        if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided and tensor.numel() <= MOST_KEPT:
            found[name] = plain_number(tensor.detach().tolist())
    return found


def plain_problem(problem: Problem | None) -> dict[str, Any] | None:
    """A Problem as plain data."""
    if problem is None:
        return None
    return {name: getattr(problem, name) for name in ("type", "message", "line", "column", "explanation", "hint")}


def versions() -> dict[str, str]:
    """The versions that a Recording was made with."""
    return {"torch": torch.__version__, "python": sys.version.split()[0]}


def fail_plain(program: Program, status: str, problem: Problem, **known: Any) -> dict[str, Any]:
    """The plain Recording of a run of which nothing but its problem (and what is ``known``) came back."""
    empty: dict[str, Any] = {"schema": SCHEMA, "program": program.to_plain(), "status": status, "stdout": ""}
    empty |= {"stdout_truncated": False, "problem": plain_problem(problem), "variables": [], "graphs": []}
    return (
        empty
        | {"passes": [], "timings": {}, "versions": versions(), "knob_events": [], "notes": [], "kept": {}}
        | known
    )


def _fail_early(program: Program, problem: Problem, timings: dict[str, float]) -> dict[str, Any]:
    status = "error" if problem.type == "SyntaxError" else "refused"
    return fail_plain(program, status, problem, timings=timings)


def _text_of(error: BaseException) -> str:
    try:
        return _exactly(str(error))[:MOST_MESSAGE]
    except BaseException as second:
        return f"(its message could not be read: {_exactly(type(second).__name__)})"


def _exactly(text: str) -> str:
    """A text without the methods of a subclass that a program may have made."""
    return str.__str__(text)


def _milliseconds(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)


def _forward_progress(on_event: Callable[[dict[str, Any]], None] | None) -> Callable[[dict], None] | None:
    return None if on_event is None else lambda progress: on_event({"event": "progress", **progress})


@contextlib.contextmanager
def _seeded(program: Program) -> Iterator[None]:
    """Seeds of torch, random and NumPy, and the default device where it is not the CPU."""
    if torch.accelerator.is_available():
        torch.manual_seed(program.seed)
    else:
        # The other asks every kind of accelerator, which takes longer than a small program.
        torch.default_generator.manual_seed(program.seed)
    random.seed(program.seed)
    np.random.seed(program.seed % 2**32)
    if program.device == "cpu":
        yield
        return
    policy.keep_samplers_on_cpu()
    torch.set_default_device(program.device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def _noted_warnings(notes: list[str]) -> Iterator[None]:
    """Warnings of the program become notes instead of lines in the server's log."""

    def note(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        if len(notes) < MOST_NOTES:
            # Seen from C++, the caller is whatever Python frame is innermost, often our own.
            frame = find_program_frame()
            where = f"line {frame.f_lineno}: " if frame is not None else ""
            notes.append(f"{where}{category.__name__}: {str(message)[:500]}")

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = note
        yield


def _limited(
    seconds: float | None, training_seconds: float | None, control: Control
) -> contextlib.AbstractContextManager:
    """Raise TimeLimit in the program when its time is over, Stopped when asked; signals reach the main thread alone."""
    is_main = threading.current_thread() is threading.main_thread()
    if seconds is None or not is_main or not hasattr(signal, "SIGALRM"):
        return contextlib.nullcontext()
    return _interrupted_after(seconds, training_seconds, control)


@contextlib.contextmanager
def _interrupted_after(seconds: float, training_seconds: float | None, control: Control) -> Iterator[None]:

    def end(*_: Any) -> None:
        raise TimeLimit

    def stop(*_: Any) -> None:
        raise Stopped

    previous = signal.signal(signal.SIGALRM, end), signal.signal(signal.SIGUSR2, stop)
    control.clock = Clock(seconds, training_seconds)
    try:
        yield
    finally:
        control.clock.stop()
        signal.signal(signal.SIGALRM, previous[0])
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
