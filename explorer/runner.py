"""The Runner starts programs in processes of their own and hears what they say; it imports no torch."""

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.explain import explain_problem
from explorer.history import History
from explorer.limits import CUT_SHORT, GRACE, WRITING, Limits
from explorer.program import Program
from explorer.recording import SCHEMA, Problem, Recording

MOST_EVENTS = 2_000
"""So many pass events wait for somebody who reads them."""

START_SECONDS = 120.0
"""A worker process that is not ready after this never will be."""

MOST_QUESTION = 11_000_000
"""A question of more bytes, such as a file of weights, is not asked: the host would not read it."""

GONE = "The trained model is not kept any more: press Train again."

LATE = "the picture took too long to lay out"

_PAUSED_TOO_LONG = (
    "Nobody let the paused run go on, so the server ended it. What it did until then is kept.",
    "Start it again, and let it go on within that time. Who runs the server can raise EXPLORER_PAUSE_SECONDS.",
)


class RunnerError(Exception):
    """The worker process could not be started, or ended while it was needed."""


class WallsError(RunnerError):
    """A shared server was asked for where programs cannot be shut in, or for a device where they cannot."""


class LayoutError(RunnerError):
    """Graphviz made no picture of a graph: too large for its time, or not DOT."""


class Run:
    """One run of one program, as far as it has come."""

    def __init__(self, runner: "Runner", number: int, program: Program, limits: Limits, *, hold: bool = False) -> None:
        self.program = program
        self.limits = limits
        self.number = number
        self.started = time.monotonic()
        self.stdout = ""
        self.history = History()
        self.is_paused = False
        self.progress: dict[str, Any] | None = None
        self.plain: dict[str, Any] | None = None
        self.is_waiting = False
        self.is_held = False
        self._may_be_held = hold
        self._owed_since: float | None = None
        self._heard = self.started
        self._asking = threading.Lock()
        self._asked = 0
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._runner = runner
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._done = threading.Event()
        self._interrupted: dict[str, Any] | None = None
        self._stood = 0.0
        self._paused: float | None = None
        self._told_to_stop: float | None = None
        self._has_run: float | None = None
        self._is_interrupted = False
        self._early_knobs: dict[str, float] = {}

    def begin(self) -> None:
        """A worker is there: the clock starts."""
        self.started = self._heard = time.monotonic()

    @property
    def running_seconds(self) -> float:
        """Seconds since the start, without those in which the run stood paused."""
        # Read once: another thread hears of the next pass meanwhile.
        paused, now = self._paused, time.monotonic()
        return now - self.started - self._stood - (now - paused if paused is not None else 0.0)

    @property
    def deadline(self) -> float:
        """When a worker without a host, which ends its own run in time, must have ended it."""
        limits = self.limits
        if self.is_held:
            owed = self._owed_since
            return self._heard + limits.held_seconds if owed is None else owed + limits.seconds + 1.0
        if self._has_run is not None:
            return self._has_run + (WRITING if self._interrupted is None else CUT_SHORT)
        if self._told_to_stop is not None:
            return self._told_to_stop + GRACE
        if self.is_paused:
            return self._heard + limits.pause_seconds
        longest = max(limits.seconds, limits.training_seconds) + limits.pause_seconds
        return min(self._heard + limits.seconds, self.started + longest) + 1.0

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
        """Every event as it comes, ending with ``finished``; the numbers of passes are in the history alone."""
        while True:
            event = self._events.get()
            yield event
            if event["event"] == "finished":
                return

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to end, and has not yet."""
        return self._told_to_stop is not None and not self.is_done

    @property
    def has_run(self) -> bool:
        """Whether its program has ended, though what it did may still be being written down."""
        return self._has_run is not None or self.is_done

    def stop(self) -> None:
        """End the run now; what was recorded is kept where the program lets go within half a second."""
        self._told_to_stop = self._told_to_stop or time.monotonic()
        self._runner.stop(self)

    def release(self) -> None:
        """End a run, and what is held of it, at once: nobody wants what it did any more."""
        self._told_to_stop = self._told_to_stop or time.monotonic()
        self._runner.stop(self, release=True)

    def interrupt(self, process: "_Process") -> bool:
        """Tell a spawned worker to stop, once: a second signal would meet it while it writes down what it did."""
        with self._asking:
            is_told, self._is_interrupted = self._is_interrupted, True
        return is_told or process.interrupt()

    def set_knob(self, name: str, value: float) -> None:
        """Give a number of the program a new value before its next pass; before its first while it waits its turn."""
        if self.is_waiting:
            self._early_knobs[name] = value
        else:
            self._runner.tell(self, {"do": "knob", "name": name, "value": value})

    def pause(self) -> None:
        """Let the program stand after the pass that it makes."""
        self._runner.tell(self, {"do": "pause"})

    def step(self) -> None:
        """Let a program that stands make one pass."""
        self._runner.tell(self, {"do": "step"})

    def resume(self) -> None:
        """Let a program that stands go on."""
        self._runner.tell(self, {"do": "resume"})

    def ask(self, what: Mapping[str, Any], *, seconds: float = 5.0) -> dict[str, Any]:
        """What explorer.look says of the program as it now stands; {"problem": ...} where no answer comes in time."""
        answer: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._asking:
            self._asked += 1
            number = self._asked
            self._answers[number] = answer
        try:
            if self.is_done and not (self.is_held or self._may_be_held):
                return {"problem": GONE}
            order = {"do": "ask", "id": number, "what": dict(what)}
            if (size := len(json.dumps(order))) > MOST_QUESTION:
                limit = f"at most {MOST_QUESTION / 1e6:.0f} MB can be sent to the program"
                return {"problem": f"This is too large, {size / 1e6:.0f} MB as text: {limit}."}
            self._owed_since = self._owed_since or time.monotonic()
            self._runner.tell(self, order)
            return answer.get(timeout=seconds)
        except queue.Empty:
            return {"problem": f"The program gave no answer within {seconds:g} s: it is in the midst of a long step."}
        finally:
            self._answers.pop(number, None)

    def hear(self, event: dict[str, Any]) -> None:
        """Take in one event of the worker."""
        kind = event.get("event")
        if kind == "held":
            self.is_held, self._may_be_held = True, False
            self._owed_since = self._owed_since and time.monotonic()
        elif kind == "answer":
            self._owed_since = time.monotonic() if len(self._answers) > 1 else None
            if type(event.get("id")) is int and (asked := self._answers.get(event["id"])) is not None:
                asked.put(event)
        elif kind == "ended":
            self.is_held = self._may_be_held = False
            for waiting in list(self._answers.values()):
                waiting.put({"problem": GONE})
        if kind in ("held", "answer"):
            self._heard = time.monotonic()
            return
        if self.is_done:
            return
        if kind in ("ran", "interrupted"):
            self._has_run = self._has_run or time.monotonic()
        if kind == "ran":
            return
        if kind == "started":
            self.is_waiting = False
            for name, value in list(self._early_knobs.items()):
                self.set_knob(name, value)
        elif kind == "waiting":
            self.is_waiting = True
        elif kind == "printed":
            self.stdout += event["text"]
        elif kind in ("pass", "knob"):
            self.history.hear(event)
            self._heard = time.monotonic()
        elif kind in ("paused", "resumed"):
            self._hear_pause(kind == "paused")
        elif kind == "progress":
            self.progress = event
        elif kind == "interrupted":
            self._interrupted = asdict(Problem(**event["problem"]))
        elif kind == "finished":
            if event["recording"]["schema"] != SCHEMA:
                raise ValueError("a recording of another schema")
            self._explain_pause(event["recording"])
            self.plain = event["recording"]
        elif kind == "ended":
            self.plain = self._recording_of_end(event)
            self._explain_pause(self.plain)
            event = {"event": "finished", "recording": self.plain}
        if kind == "pass":
            # The history has every number; most runs have nobody who reads their events.
            event = {name: event[name] for name in ("event", "index", "loss", "leaves")}
        if kind != "pass" or self._events.qsize() < MOST_EVENTS:
            self._events.put(event)
        if self.plain is not None:
            self._done.set()

    def _hear_pause(self, is_paused: bool) -> None:
        self._heard = time.monotonic()
        if self._paused is not None:
            self._stood, self._paused = self._stood + self._heard - self._paused, None
        if is_paused:
            self._paused = self._heard
        self.is_paused = is_paused

    def _explain_pause(self, plain: dict[str, Any]) -> None:
        """A run that stood paused and that nobody stopped was ended for it."""
        problem = plain["problem"]
        if problem is None or not self.is_paused or self._told_to_stop is not None:
            return
        if problem["type"] in ("Stopped", "TimeLimit"):
            message = f"the run stood paused for more than {self.limits.pause_seconds:g} s, and the server ended it"
            explanation, hint = _PAUSED_TOO_LONG
            plain["problem"] = asdict(Problem("PauseLimit", message, problem["line"], None, explanation, hint))

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
        elif how == "busy":
            problem = self._problem("Busy", str(event.get("trace")), event)
        elif how == "walls":
            problem = self._problem("NoWalls", str(event.get("trace")), event)
        elif how == "confused":
            problem = self._problem("Refused", str(event.get("trace")), event)
        elif how == "output":
            problem = self._problem("OutputLimit", "the recording grew past what can be kept", event)
        elif status == -24:
            problem = self._problem("TimeLimit", "the program used up its processor time", event)
        elif status == 1 and event.get("trace"):
            problem = self._problem("Crash", f"the recorder failed: {event['trace'].strip()[-1000:]}", event)
        else:
            named = f"signal {-status}" if isinstance(status, int) and status < 0 else f"status {status}"
            problem = self._problem("Crash", f"the process that ran the program ended with {named}", event)
        status = {"Crash": "crash", "Refused": "refused"}.get(str(problem["type"]), "limit")
        plain = {"schema": SCHEMA, "program": self.program.to_plain(), "status": status}
        plain |= {"stdout": self.stdout, "stdout_truncated": False, "problem": problem, "variables": [], "graphs": []}
        return plain | {"passes": [], "timings": {}, "versions": {}, "knob_events": [], "notes": [], "kept": {}}

    def _problem(self, kind: str, message: str, event: dict[str, Any]) -> dict[str, Any]:
        line = event.get("line")
        explanation, hint = explain_problem(kind, message, line=line, source=self.program.source)
        return asdict(Problem(kind, message, line, None, explanation, hint))


class _Picture:
    """A layout that was asked for."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.deadline = 0.0
        self.svg: str | None = None
        self.message = ""
        self.done = threading.Event()

    def begin(self) -> None:
        self.deadline = time.monotonic() + self.limits.layout_seconds

    def hear(self, event: dict[str, Any]) -> None:
        if event.get("event") == "drawn":
            self.svg = event["svg"]
        elif event.get("event") == "ended":
            is_late = event.get("how") == "time"
            self.message = LATE if is_late else str(event.get("trace") or "Graphviz failed").strip().splitlines()[-1]
        if self.svg is not None or self.message:
            self.done.set()


class _Process:
    """One process of ours, explorer.host or explorer.worker, and the thread that listens to it."""

    def __init__(self, *arguments: str) -> None:
        package = str(Path(__file__).resolve().parent.parent)
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = "1"
        self.listeners: dict[int, Any] = {}
        self.ready = threading.Event()
        self.walls: dict[str, str] = {}
        self.last_words = ""
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
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

    def await_ready(self) -> None:
        """Wait until it has loaded torch. Raises RunnerError where it never does."""
        if not self.ready.wait(START_SECONDS) or not self.is_alive:
            # The last line is the reason; above it a library may have warned, or a trace begins.
            words = self.last_words.strip().splitlines()[-1:] or ["no reason given"]
            raise RunnerError(f"the worker process did not start: {words[0][-500:]}")

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

    def interrupt(self) -> bool:
        """Tell the program of a worker to stop; whether this system knows such a word."""
        if not hasattr(signal, "SIGUSR2"):
            return False
        self._process.send_signal(signal.SIGUSR2)
        return True

    def end(self) -> None:
        """End it now; to close what an order is still being written to would wait for one that reads no more."""
        self._process.kill()
        self.close()

    def _listen(self) -> None:
        with self._process.stdout as answers:
            for line in answers:
                prefix, _, text = line.partition(b" ")
                number = int(prefix) if prefix.isdigit() else 0
                # A worker whose program broke out of its check may say anything: it costs its own run.
                try:
                    self._take(number, json.loads(text))
                except Exception:
                    # Whatever it made go wrong: this thread hears for all visitors.
                    listener = self.listeners.pop(number, None)
                    if listener is not None:
                        listener.hear({"event": "ended", "how": "itself", "status": None})
        self._process.wait()
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        self.ready.set()
        for number in list(self.listeners):
            self.listeners.pop(number).hear({"event": "ended", "how": "itself", "status": self._process.returncode})

    def _take(self, number: int, event: dict[str, Any]) -> None:
        """Pass on one event. Raises what an event that is none of ours makes it raise."""
        listener = self.listeners.get(number)
        if number == 0 and event["event"] == "ready":
            self.walls = event["walls"]
            self.ready.set()
        elif listener is not None:
            listener.hear(event)
            if event["event"] == "ended":
                self.listeners.pop(number, None)

    def _overhear(self) -> None:
        with self._process.stderr as errors:
            for line in errors:
                self.last_words = (self.last_words + line.decode("utf-8", "replace"))[-4000:]


_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "SYSTEMROOT", "TEMP", "TMP", "CUDA_VISIBLE_DEVICES")
_PASSED_ON += ("EXPLORER_DATA", "EXPLORER_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA")


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

    def start(
        self,
        program: Program,
        *,
        limits: Limits | None = None,
        full: Iterable[int] = (),
        keep: Iterable[str] = (),
        replays: Iterable[Mapping[str, Any]] = (),
        until: int | None = None,
        maps: bool = False,
        looks_at_all: bool = False,
        hold: bool = False,
        visitor: str = "",
    ) -> Run:
        """Start a program, for a ``visitor`` "address/tab" whose runs take turns with those of others.

        Passes in ``full`` are recorded in full, tensors named in ``keep`` kept whole, and ``replays`` are the
        ``knob_events`` of an earlier run, which happen again. After ``until`` passes the run is stopped.
        With ``maps`` the large tensors of full passes are told with a map (explorer.summaries.draw_map), with
        ``looks_at_all`` leaves and gradient norms of every pass, whatever that costs.
        With ``hold`` the worker stays after the end and can be asked, until ``Run.release`` or its time is over.
        Raises RunnerError where no worker process can be had, WallsError where it would stand open.
        """
        limits = limits or self.limits
        with self._lock:
            self._count += 1
            run = Run(self, self._count, program, limits, hold=hold)
        request = {"do": "run", "program": program.to_plain(), "limits": asdict(limits), "full": list(full)}
        request |= {
            "keep": list(keep),
            "replays": list(replays),
            "until": until,
            "visitor": visitor,
            "hold": hold,
            "maps": maps,
            "looks_at_all": looks_at_all,
        }
        request["data"] = "explorer" in program.source
        self._ask(request, run, program.device)
        return run

    def find_walls(self) -> dict[str, str]:
        """What stands between a program and this machine: "" for a wall that stands, else why it does not.

        Raises RunnerError where no worker process can be had.
        """
        with self._lock:
            process = self._process_for("cpu", keep=True)
        process.await_ready()
        return process.walls

    def run(self, program: Program, **options: Any) -> Recording:
        """Start a program and wait for its Recording."""
        return self.start(program, **options).recording()

    def draw(self, dot: str) -> str:
        """DOT text laid out as SVG. Raises LayoutError where that fails or takes too long."""
        picture = _Picture(self.limits)
        seconds = self.limits.layout_seconds
        self._ask({"do": "draw", "dot": dot, "limits": asdict(self.limits)}, picture, "cpu")
        if not picture.done.wait(seconds + 5.0) or picture.svg is None:
            raise LayoutError(picture.message or LATE)
        return picture.svg

    def stop(self, run: Run, *, release: bool = False) -> None:
        """End a run, or what is held of one that has ended; with ``release`` at once, without its Recording."""
        if self._forks and run.program.device == "cpu":
            if self._host is not None:
                self._host.send({"do": "stop", "id": run.number, "release": release})
            return
        for process in self._used:
            if run.number not in process.listeners or not (release or run.is_held or not run.interrupt(process)):
                continue
            if (listener := process.listeners.pop(run.number, None)) is not None:
                listener.hear({"event": "ended", "how": "stop", "line": None})
            process.end()

    def tell(self, run: Run, order: dict[str, Any]) -> None:
        """Say something to a run that goes on; nothing happens to one that has ended."""
        if self._forks and run.program.device == "cpu":
            if self._host is not None:
                self._host.send({"do": "tell", "id": run.number, "order": order})
            return
        for process in self._used:
            if run.number in process.listeners:
                process.send(order)

    def close(self) -> None:
        """End every process of this Runner."""
        with self._lock:
            processes = [process for process in (self._host, *self._spare.values(), *self._used) if process]
            self._host, self._spare, self._used = None, {}, []
        for process in processes:
            process.close()

    def _ask(self, request: dict[str, Any], listener: Any, device: str) -> None:
        with self._lock:
            if isinstance(listener, Run):
                number = listener.number
            else:
                self._count += 1
                number = self._count
            if device != "cpu" and self.limits.is_shared and not self.limits.accelerators:
                raise WallsError(
                    f"no walls stand around programs on {device}; a shared server runs them if EXPLORER_ACCELERATORS=1"
                )
            process = self._process_for(device)
        process.await_ready()
        missing = "; ".join(f"{wall}: {why}" for wall, why in process.walls.items() if why)
        if missing and self.limits.is_shared and device == "cpu":
            raise WallsError(f"a shared server needs Landlock and seccomp, and this machine lacks them: {missing}")
        listener.begin()
        process.listeners[number] = listener
        process.send({**request, "id": number})
        if not process.is_alive and process.listeners.pop(number, None) is listener:
            # It ended before it could hear the request, and its last words were read before this was listening.
            listener.hear({"event": "ended", "how": "itself", "status": -1, "line": None})
        if process is not self._host:
            threading.Thread(target=self._watch, args=(process, number, listener), daemon=True).start()

    def _process_for(self, device: str, *, keep: bool = False) -> _Process:
        if self._forks and device == "cpu":
            if self._host is None or not self._host.is_alive:
                self._host = _Process("explorer.host")
            return self._host
        spare = self._spare.pop(device, None)
        process = spare if spare is not None and spare.is_alive else _Process("explorer.worker", "--device", device)
        if keep:
            self._spare[device] = process
            return process
        self._used = [used for used in self._used if used.is_alive] + [process]
        self._spare[device] = _Process("explorer.worker", "--device", device)
        return process

    def _is_one_too_many(self, run: Run) -> bool:
        """Whether too many spawned workers are held and this one was heard of longest ago."""
        listeners = [listener for process in self._used for listener in list(process.listeners.values())]
        held = [one for one in listeners if isinstance(one, Run) and one.is_held]
        return run.is_held and len(held) > run.limits.held_at_once and min(held, key=lambda one: one._heard) is run

    def _watch(self, process: _Process, number: int, listener: Any) -> None:
        """The clock of a spawned worker, which has no host to end it."""
        while process.is_alive and number in process.listeners and time.monotonic() < listener.deadline:
            if isinstance(listener, Run) and self._is_one_too_many(listener):
                break
            time.sleep(0.02)
        if process.is_alive:
            if process.listeners.pop(number, None) is not None:
                was_stopped = isinstance(listener, Run) and listener.is_stopping
                listener.hear({"event": "ended", "how": "stop" if was_stopped else "time", "line": None})
            process.end()
