"""The Runner starts programs in processes of their own and hears what they say; it imports no torch."""

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.confine import Limits
from explorer.explain import explain_problem
from explorer.program import Program
from explorer.recording import SCHEMA, Problem, Recording

START_SECONDS = 120.0
"""A worker process that is not ready after this never will be."""


LATE = "the picture took too long to lay out"


class RunnerError(Exception):
    """The worker process could not be started, or ended while it was needed."""


class LayoutError(RunnerError):
    """Graphviz made no picture of a graph: too large for its time, or not DOT."""


class Run:
    """One run of one program, as far as it has come."""

    def __init__(self, runner: "Runner", number: int, program: Program, limits: Limits) -> None:
        self.program = program
        self.limits = limits
        self.number = number
        self.started = time.monotonic()
        self.stdout = ""
        self.passes: list[dict[str, Any]] = []
        self.progress: dict[str, Any] | None = None
        self.plain: dict[str, Any] | None = None
        self.is_waiting = False
        self._runner = runner
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._done = threading.Event()
        self._interrupted: dict[str, Any] | None = None

    @property
    def is_done(self) -> bool:
        """Whether a Recording is there."""
        return self._done.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, at most ``seconds``; whether it has come."""
        return self._done.wait(seconds)

    def recording(self) -> Recording:
        """The Recording; waits for it."""
        self._done.wait()
        return Recording.from_plain(self.plain)

    def events(self) -> Iterator[dict[str, Any]]:
        """Every event as it comes, ending with ``finished``."""
        while True:
            event = self._events.get()
            yield event
            if event["event"] == "finished":
                return

    def stop(self) -> None:
        """End the run now; what was recorded is kept where the program lets go within half a second."""
        self._runner.stop(self)

    def hear(self, event: dict[str, Any]) -> None:
        """Take in one event of the worker."""
        kind = event.get("event")
        if self.is_done or kind == "ran":
            return
        if kind == "started":
            self.is_waiting = False
        elif kind == "waiting":
            self.is_waiting = True
        elif kind == "printed":
            self.stdout += event["text"]
        elif kind == "pass":
            self.passes.append(event)
        elif kind == "progress":
            self.progress = event
        elif kind == "interrupted":
            self._interrupted = event["problem"]
        elif kind == "finished":
            self.plain = event["recording"]
        elif kind == "ended":
            self.plain = self._recording_of_end(event)
            event = {"event": "finished", "recording": self.plain}
        self._events.put(event)
        if self.plain is not None:
            self._done.set()

    def _recording_of_end(self, event: dict[str, Any]) -> dict[str, Any]:
        """The worker ended without a Recording: what is known is its end, its line and what it printed."""
        how, status = event.get("how"), event.get("status")
        if self._interrupted is not None:
            problem = self._interrupted
        elif how == "time":
            problem = self._problem("TimeLimit", f"the program ran for more than {self.limits.seconds:g} s", event)
        elif how == "stop":
            problem = self._problem("Stopped", "the run was stopped", event)
        elif how == "writing":
            problem = self._problem("OutputLimit", "what the program did took too long to write down", event)
        elif how == "output":
            problem = self._problem("OutputLimit", "the recording grew past what can be kept", event)
        elif status == -24:
            problem = self._problem("TimeLimit", "the program used up its processor time", event)
        elif status == 1 and event.get("trace"):
            problem = self._problem("Crash", f"the recorder failed: {event['trace'].strip()[-1000:]}", event)
        else:
            named = f"signal {-status}" if isinstance(status, int) and status < 0 else f"status {status}"
            problem = self._problem("Crash", f"the process that ran the program ended with {named}", event)
        crashed = problem["type"] == "Crash"
        plain = {"schema": SCHEMA, "program": self.program.to_plain(), "status": "crash" if crashed else "limit"}
        plain |= {"stdout": self.stdout, "stdout_truncated": False, "problem": problem, "variables": [], "graphs": []}
        return plain | {"passes": [], "timings": {}, "versions": {}, "knob_events": [], "notes": []}

    def _problem(self, kind: str, message: str, event: dict[str, Any]) -> dict[str, Any]:
        line = event.get("line")
        explanation, hint = explain_problem(kind, message, line=line, source=self.program.source)
        return asdict(Problem(kind, message, line, None, explanation, hint))


class _Picture:
    """A layout that was asked for."""

    def __init__(self) -> None:
        self.svg: str | None = None
        self.message = ""
        self.done = threading.Event()

    def hear(self, event: dict[str, Any]) -> None:
        if event.get("event") == "drawn":
            self.svg = event["svg"]
        elif event.get("event") == "ended":
            is_late = event.get("how") == "time"
            self.message = LATE if is_late else event.get("trace") or "Graphviz failed"
        if self.svg is not None or self.message:
            self.done.set()


class _Process:
    """One ``python -m explorer.worker`` and the thread that listens to it."""

    def __init__(self, *arguments: str) -> None:
        package = str(Path(__file__).resolve().parent.parent)
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = "1"
        self.listeners: dict[int, Any] = {}
        self.ready = threading.Event()
        self.last_words = ""
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "explorer.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        for target in (self._listen, self._overhear):
            threading.Thread(target=target, daemon=True, name=f"explorer-{target.__name__.strip('_')}").start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        with self._process.stdout as answers:
            for line in answers:
                number, _, text = line.partition(b" ")
                try:
                    event = json.loads(text)
                    listener = self.listeners.get(int(number))
                except ValueError:
                    continue
                if event.get("event") == "ready":
                    self.ready.set()
                elif listener is not None:
                    if event.get("event") == "ended":
                        self.listeners.pop(int(number), None)
                    listener.hear(event)
        self._process.wait()
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        self.ready.set()
        for number in list(self.listeners):
            self.listeners.pop(number).hear({"event": "ended", "how": "itself", "status": self._process.returncode})

    def _overhear(self) -> None:
        with self._process.stderr as errors:
            for line in errors:
                self.last_words = (self.last_words + line.decode("utf-8", "replace"))[-4000:]


_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "SYSTEMROOT", "TEMP", "TMP", "CUDA_VISIBLE_DEVICES", "EXPLORER_DATA")


class Runner:
    """Keeps one process with torch loaded; every run gets a fresh fork of it.

    Where a process cannot be forked (CUDA, MPS, Windows) a spawned one waits warm, runs one program and
    is replaced while it runs.
    """

    def __init__(self, limits: Limits | None = None, *, forks: bool | None = None) -> None:
        self.limits = limits or Limits.from_environment()
        self._forks = hasattr(os, "fork") and sys.platform != "darwin" if forks is None else forks
        self._lock = threading.Lock()
        self._host: _Process | None = None
        self._spare: dict[str, _Process] = {}
        self._used: list[_Process] = []
        self._count = 0
        atexit.register(self.close)

    def warm_up(self) -> None:
        """Start the process that forks, without waiting for it."""
        with self._lock:
            self._process_for("cpu", keep=True)

    def start(self, program: Program, *, limits: Limits | None = None, full: Iterable[int] = ()) -> Run:
        """Start a program. Raises RunnerError where no worker process can be had."""
        limits = limits or self.limits
        with self._lock:
            self._count += 1
            run = Run(self, self._count, program, limits)
        request = {"do": "run", "program": program.to_plain(), "limits": asdict(limits), "full": list(full)}
        self._ask(request, run, program.device, limits.seconds + 1.0)
        return run

    def run(self, program: Program, **options: Any) -> Recording:
        """Start a program and wait for its Recording."""
        return self.start(program, **options).recording()

    def draw(self, dot: str) -> str:
        """DOT text laid out as SVG. Raises LayoutError where that fails or takes too long."""
        picture = _Picture()
        seconds = self.limits.layout_seconds
        self._ask({"do": "draw", "dot": dot, "limits": asdict(self.limits)}, picture, "cpu", seconds)
        if not picture.done.wait(seconds + 5.0) or picture.svg is None:
            raise LayoutError(picture.message or LATE)
        return picture.svg

    def stop(self, run: Run) -> None:
        """End a run; nothing happens to one that has ended."""
        if self._forks and run.program.device == "cpu":
            if self._host is not None:
                self._host.send({"do": "stop", "id": run.number})
            return
        for process in self._used:
            if run.number in process.listeners:
                process.listeners.pop(run.number).hear({"event": "ended", "how": "stop", "line": None})
                process.close()

    def close(self) -> None:
        """End every process of this Runner."""
        with self._lock:
            processes = [process for process in (self._host, *self._spare.values(), *self._used) if process]
            self._host, self._spare, self._used = None, {}, []
        for process in processes:
            process.close()

    def _ask(self, request: dict[str, Any], listener: Any, device: str, seconds: float) -> None:
        with self._lock:
            if isinstance(listener, Run):
                number = listener.number
            else:
                self._count += 1
                number = self._count
            process = self._process_for(device)
        if not process.ready.wait(START_SECONDS) or not process.is_alive:
            raise RunnerError(
                f"the worker process did not start: {process.last_words.strip()[-500:] or 'no reason given'}"
            )
        process.listeners[number] = listener
        process.send({**request, "id": number})
        if not process.is_alive and process.listeners.pop(number, None) is listener:
            # It ended before it could hear the request, and its last words were read before this was listening.
            listener.hear({"event": "ended", "how": "itself", "status": -1, "line": None})
        if process is not self._host:
            threading.Thread(target=self._watch, args=(process, number, seconds), daemon=True).start()

    def _process_for(self, device: str, *, keep: bool = False) -> _Process:
        if self._forks and device == "cpu":
            if self._host is None or not self._host.is_alive:
                self._host = _Process()
            return self._host
        spare = self._spare.pop(device, None)
        process = spare if spare is not None and spare.is_alive else _Process("--once", "--device", device)
        if keep:
            self._spare[device] = process
            return process
        self._used = [used for used in self._used if used.is_alive] + [process]
        self._spare[device] = _Process("--once", "--device", device)
        return process

    def _watch(self, process: _Process, number: int, seconds: float) -> None:
        """The clock of a spawned worker, which has no host to end it."""
        deadline = time.monotonic() + seconds
        while process.is_alive and number in process.listeners and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.is_alive:
            listener = process.listeners.pop(number, None)
            if listener is not None:
                listener.hear({"event": "ended", "how": "time", "line": None})
            process.close()
