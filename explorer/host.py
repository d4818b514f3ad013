"""The process with torch loaded: forks a fresh worker for every run and every picture.

Spoken to in JSON lines on standard input: {"do": "run" | "draw" | "stop", "id": ...}. Answers on standard
output, one line each: the id, a space, a JSON object with an "event". Started by explorer.runner.
"""

import contextlib
import ctypes
import faulthandler
import json
import os
import re
import selectors
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from explorer import confine, datasets
from explorer.limits import CUT_SHORT, GRACE, WRITING, Limits
from explorer.program import FILENAME
from explorer.turns import Turns
from explorer.worker import Answer, read_request, shut_in, start_process, warm_up

LONG = 1.0
"""A run that goes on for so many seconds gives way to shorter ones: its processor share shrinks."""

MORE_BYTES = 48_000_000
"""A worker that answers so much more than its recording may hold is ended."""

MOST_REQUEST = 12_000_000
"""A request of more bytes is none of ours."""

MOST_ANSWER = 90_000_000
"""Weights of 64 MB are so long in base64; a worker that is asked may write so much more."""

_HUGE = 2 << 20
_COLLAPSE = 25
_STOP_SIGNALS = {"stop": getattr(signal, "SIGUSR2", None), "tell": getattr(signal, "SIGUSR1", None)}
_RAN, _CUT_SHORT = b'{"event": "ran"', b'{"event": "interrupted"'
_PASS, _PAUSED = b'{"event": "pass"', b'{"event": "paused"'
_HELD, _ANSWER = b'{"event": "held"', b'{"event": "answer"'
# What explorer.runner writes last; inside the text of a program every quote has a backslash before it.
_LAST_ID = re.compile(rb'"id": (\d{1,18})\}$')
_PROGRAM_LINE = re.compile(rb'File "' + re.escape(FILENAME).encode() + rb'", line (\d+)')


def main() -> None:
    """Run as ``python -m explorer.host``."""
    answers = start_process()
    warm_up("cpu")
    gather_pages()
    confine.wipe_freed_memory(True)
    walls = confine.find_walls()
    Answer(answers, 0).send({"event": "ready", "walls": walls})
    Host(answers, walls).serve()


def gather_pages() -> None:
    """Have the kernel keep this process's memory in pages of 2 MB, so that a fork copies few entries (Linux 6.1)."""
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        mappings = [line.split(maxsplit=5) for line in file]
    for span, access, _, _, inode, *_ in mappings:
        first, last = (int(address, 16) for address in span.split("-"))
        first, last = -(-first // _HUGE) * _HUGE, last // _HUGE * _HUGE
        if access == "rw-p" and inode == "0" and first < last:
            # A kernel that cannot do it refuses, and forks take as long as they did.
            madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _COLLAPSE)


@dataclass(slots=True)
class Child:
    """A forked worker as its host sees it."""

    pid: int
    orders: int
    output: int
    trace: int
    number: int = 0
    deadline: float = 0.0
    stage: str = "spare"
    gives_way: float = 0.0
    most: int = 0
    limits: Limits = field(default_factory=Limits)
    end: float = 0.0
    paused: float = 0.0
    may_pause: bool = False
    may_stay: bool = False
    asked: int = 0
    heard: float = 0.0
    unsent: bytearray = field(default_factory=bytearray)
    pending: bytearray = field(default_factory=bytearray)
    traced: bytearray = field(default_factory=bytearray)
    received: int = 0


class Host:
    """Forks a worker for every request, passes on what it says, and ends it when its time is over.

    While nothing runs, one worker waits forked, so that the next request need not wait for a fork.
    """

    def __init__(self, answers: BinaryIO, walls: dict[str, str]) -> None:
        self._answers = answers
        self._walls = walls
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, Child] = {}
        self._spare: Child | None = None
        self._turns = Turns()
        self._pictures: deque[dict[str, Any]] = deque()
        self._input = bytearray()
        self._is_too_long = False

    def serve(self) -> None:
        """Serve until standard input ends; then end every worker."""
        os.set_blocking(0, False)
        self._selector.register(0, selectors.EVENT_READ, None)
        # A signal that comes before a worker has its handlers must not end it.
        for number in filter(None, _STOP_SIGNALS.values()):
            signal.signal(number, signal.SIG_IGN)
        is_open = True
        while is_open:
            if self._spare is None and all(child.stage == "held" for child in self._children.values()):
                self._spare = self._fork()
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    is_open = self._read_requests()
                elif self._children.get(key.data[0].number) is not key.data[0]:
                    # Its other pipe, ready in the same moment, has ended it.
                    continue
                elif key.events == selectors.EVENT_WRITE:
                    self._pass_on(key.data[0])
                else:
                    self._read_child(*key.data)
            self._end_overdue()
        for child in [*self._children.values(), *filter(None, [self._spare])]:
            self._kill(child)

    def _patience(self) -> float | None:
        if not self._children:
            return None
        next_ = min(min(child.deadline, child.gives_way) for child in self._children.values())
        return max(0.0, next_ - time.monotonic())

    def _read_requests(self) -> bool:
        data = os.read(0, 1 << 20)
        self._input += data
        if b"\n" in data:
            *lines, self._input = self._input.split(b"\n")
            for line in lines:
                self._read_request(line)
        if len(self._input) > MOST_REQUEST:
            # Its end will tell whose it is.
            self._input, self._is_too_long = self._input[-100:], True
        return bool(data)

    def _read_request(self, line: bytes) -> None:
        """Do what one line asks; a run or a picture that has an id gets its end in any case."""
        is_too_long, self._is_too_long = self._is_too_long or len(line) > MOST_REQUEST, False
        number = 0
        try:
            if is_too_long:
                found = _LAST_ID.search(line)
                number = int(found[1]) if found else 0
                raise ValueError(f"a request of more than {MOST_REQUEST} bytes is not read")
            request = json.loads(line)
            if type(request["id"]) is not int or request["id"] < 1:
                raise ValueError(f"{request['id']!r:.50} is no id")
            if request["do"] in ("run", "draw"):
                number = request["id"]
            self._take(request)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"{type(error).__name__}: {error}"[:300]
            if number and not self._is_known(number):
                self._refuse(number, "confused", message)
            else:
                self._say(0, {"event": "confused", "message": message})

    def _is_known(self, number: int) -> bool:
        """Whether a request with this id runs or waits."""
        waits = self._turns.is_waiting(number) or any(request["id"] == number for request in self._pictures)
        return waits or number in self._children

    def _take(self, request: dict[str, Any]) -> None:
        """Do what one line asks. Raises what a line that is none of ours makes it raise."""
        number, wanted = request["id"], request["do"]
        if wanted == "stop":
            self._stop(number, at_once=bool(request.get("release")))
            return
        if wanted == "tell":
            self._tell(number, request["order"])
            return
        limits = Limits(**request.get("limits", {}))
        if self._is_known(number):
            raise ValueError(f"{number} is the id of another request")
        if wanted == "run" and type(request.get("visitor", "")) is not str:
            raise TypeError("a visitor is a text")
        if wanted == "run":
            missing = [f"{wall}: {why}" for wall, why in self._walls.items() if why]
            if limits.is_shared and missing:
                self._refuse(number, "walls", "; ".join(missing))
                return
            place = self._turns.ask(request)
            if place.outed is not None:
                self._refuse(place.outed, "busy", "others want to run who have fewer runs waiting")
            if place.starts:
                self._start(request)
            elif place.refused:
                self._refuse(number, "busy", place.refused)
            else:
                self._say(number, {"event": "waiting", "ahead": place.ahead})
        elif wanted == "draw":
            if sum(child.stage == "drawing" for child in self._children.values()) < limits.at_once:
                self._start(request)
            elif len(self._pictures) < limits.queue:
                self._pictures.append(request)
            else:
                self._refuse(number, "busy", f"{len(self._pictures)} pictures are waiting already")
        else:
            raise ValueError(f"cannot do {wanted!r}")

    def _refuse(self, number: int, how: str, why: str) -> None:
        self._say(number, {"event": "ended", "how": how, "line": None, "status": None, "trace": why})

    def _start(self, request: dict[str, Any]) -> None:
        if request.get("data") and datasets.prepare() and self._spare is not None:
            # It was forked before the data were there.
            self._forget(self._spare)
            self._spare = None
        child, self._spare = self._spare or self._fork(), None
        order = memoryview(json.dumps(request).encode() + b"\n")
        # Should the waiting worker have died, its end is told like that of any other.
        with contextlib.suppress(BrokenPipeError):
            while order:
                order = order[os.write(child.orders, order) :]
        os.set_blocking(child.orders, False)
        is_run, now = request["do"] == "run", time.monotonic()
        limits = child.limits = Limits(**request.get("limits", {}))
        child.may_stay = bool(request.get("hold"))
        seconds = limits.seconds if is_run else limits.layout_seconds
        child.number = request["id"]
        child.deadline = now + seconds + (GRACE if is_run else 0.0)
        child.end = now + max(limits.seconds, limits.training_seconds)
        child.gives_way = now + LONG if is_run else float("inf")
        child.most = limits.recording_mb * 1_000_000 + MORE_BYTES
        child.stage = "running" if is_run else "drawing"
        self._children[child.number] = child
        for descriptor in (child.output, child.trace):
            self._selector.register(descriptor, selectors.EVENT_READ, (child, descriptor))

    def _fork(self) -> Child:
        """A worker that waits for its request."""
        orders, ours = os.pipe()
        output, theirs = os.pipe()
        trace, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become_worker(orders, theirs, told)
        for descriptor in (orders, theirs, told):
            os.close(descriptor)
        for descriptor in (output, trace):
            os.set_blocking(descriptor, False)
        return Child(pid, ours, output, trace)

    def _become_worker(self, orders: int, output: int, trace: int) -> None:
        """The child's whole life; it never returns."""
        import fcntl  # not on Windows, where nothing is forked

        status = 1
        try:
            confine.die_with_parent()
            os.setsid()
            # First out of the way of the numbers that they are to have.
            kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in (output, trace, orders)]
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            for descriptor, number in zip(kept, (3, 4, 5), strict=True):
                os.dup2(descriptor, number)
            confine.close_descriptors((3, 4, 5))
            faulthandler.enable(4, all_threads=False)
            faulthandler.register(_STOP_SIGNALS["tell"], 4, all_threads=False)
            os.environ.clear()
            request, rest = read_request(5)
            datasets.shut()
            if request:
                shut_in(request, self._walls)
                stream = os.fdopen(3, "wb", buffering=0)
                Answer(stream, request["id"], numbered=False).give(request, (5, rest))
            status = 0
        except BaseException as error:
            os.write(4, f"{type(error).__name__}: {error}".encode()[:2000])
        finally:
            os._exit(status)

    def _read_child(self, child: Child, descriptor: int) -> None:
        try:
            data = os.read(descriptor, 1 << 20)
        except OSError:
            data = b""
        if descriptor == child.trace:
            child.traced += data[: 20_000 - len(child.traced)]
            if not data:
                self._selector.unregister(descriptor)
            return
        child.received += len(data)
        if child.received > child.most + (MOST_ANSWER if child.asked else 0):
            self._end(child, "output")
            return
        if data:
            child.pending += data
            if b"\n" not in data:
                return
            *lines, rest = child.pending.split(b"\n")
            child.pending = bytearray(rest)
            for line in lines:
                if line.startswith((_RAN, _CUT_SHORT)) and child.stage in ("running", "stopping", "time", "stop"):
                    # The program has ended; what it did is being written down.
                    is_whole = line.startswith(_RAN) and child.stage == "running"
                    child.stage, child.deadline = "writing", time.monotonic() + (WRITING if is_whole else CUT_SHORT)
                elif line.startswith(_HELD) and child.may_stay and child.stage == "writing":
                    self._hold(child)
                elif line.startswith(_ANSWER) and child.asked:
                    child.asked -= 1
                    child.received -= len(line) + 1
                    if child.stage == "held":
                        self._keep(child)
                elif line.startswith(_PAUSED) and child.stage == "running" and child.may_pause and not child.paused:
                    child.paused = time.monotonic()
                    child.deadline = child.paused + child.limits.pause_seconds
                elif line.startswith(_PASS) and child.stage == "running" and not child.paused:
                    # A loop that goes on: its time without a pass begins anew, within that of the whole run.
                    child.deadline = min(time.monotonic() + child.limits.seconds, child.end) + GRACE
                self._answers.write(b"%d %s\n" % (child.number, line))
            return
        self._selector.unregister(descriptor)
        self._end(child, "itself")

    def _hold(self, child: Child) -> None:
        """A run that has ended stays to be asked; its turn is over, and of too many the one heard of first goes."""
        child.stage, child.may_stay = "held", False
        self._keep(child)
        self._turns.end(child.number)
        held = [other for other in self._children.values() if other.stage == "held"]
        if len(held) > child.limits.held_at_once:
            self._end(min(held, key=lambda other: other.heard), "released")
        self._start_waiting()

    def _keep(self, child: Child) -> None:
        """Something was heard of a held model: its time begins anew, that of an answer where one is still owed."""
        child.heard = time.monotonic()
        child.deadline = child.heard + (child.limits.seconds if child.asked else child.limits.held_seconds)
        if not child.asked:
            # It has no turn: until it is asked it takes no processor, whatever its program does meanwhile.
            os.kill(child.pid, signal.SIGSTOP)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.gives_way <= now:
                child.gives_way = float("inf")
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, child.pid, 10)
                self._turns.go_on_long(child.number)
                self._start_waiting()
            if child.deadline > now:
                continue
            if child.paused and child.stage == "running":
                self._stop(child.number)
            elif child.stage in ("running", "stopping"):
                # It did not stop when asked. faulthandler tells the line even from inside a native call.
                child.stage = "time" if child.stage == "running" else "stop"
                child.deadline = now + 0.1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, _STOP_SIGNALS["tell"])
            else:
                self._end(child, "time" if child.stage == "drawing" else child.stage)

    def _stop(self, number: int, *, at_once: bool = False) -> None:
        """Let a run end and write down what it did; ``at_once`` nobody wants to know that any more."""
        if self._turns.withdraw(number):
            self._refuse(number, "stop", "")
        child = self._children.get(number)
        if child is not None and (at_once or child.stage == "held"):
            self._end(child, "stop")
        elif child is not None and child.stage == "writing":
            child.deadline = min(child.deadline, time.monotonic() + CUT_SHORT)
        elif child is not None and child.stage == "running":
            child.stage, child.deadline = "stopping", time.monotonic() + GRACE
            os.kill(child.pid, _STOP_SIGNALS["stop"])

    def _tell(self, number: int, order: dict[str, Any]) -> None:
        """Pass an order on to a run that goes on; its time stands still from when it says that it stands."""
        child = self._children.get(number)
        asks = order["do"] == "ask"
        # What a worker is asked while it writes down its run is answered when that is done.
        if child is None or not (child.stage in ("running", "held") or (asks and child.may_stay)):
            return
        if len(child.unsent) >= MOST_REQUEST:
            return
        if asks:
            child.asked += 1
            if child.stage == "held" and child.asked == 1:
                child.deadline = time.monotonic() + child.limits.seconds
                os.kill(child.pid, signal.SIGCONT)
        if order["do"] == "pause":
            child.may_pause = True
        elif order["do"] == "step" and child.paused:
            child.deadline = time.monotonic() + child.limits.pause_seconds
        elif order["do"] == "resume":
            child.may_pause = False
            if child.paused:
                now = time.monotonic()
                child.end += now - child.paused
                child.paused, child.deadline = 0.0, min(now + child.limits.seconds, child.end) + GRACE
        child.unsent += json.dumps(order).encode() + b"\n"
        self._pass_on(child)

    def _pass_on(self, child: Child) -> None:
        """Give a run what its pipe takes; the rest when it takes more."""
        try:
            while child.unsent:
                del child.unsent[: os.write(child.orders, child.unsent)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # One that has just ended hears no more.
            child.unsent.clear()
        is_awaited = child.orders in self._selector.get_map()
        if child.unsent and not is_awaited:
            self._selector.register(child.orders, selectors.EVENT_WRITE, (child, child.orders))
        elif is_awaited and not child.unsent:
            self._selector.unregister(child.orders)

    def _end(self, child: Child, how: str) -> None:
        """Reap the worker and say how it ended, with the line that it was at where that is known."""
        # One that closed its output has ended, or else tries to live on; to end what has ended changes nothing.
        status = self._kill(child)
        with contextlib.suppress(OSError):
            child.traced += os.read(child.trace, 20_000)
        for descriptor in (child.output, child.trace, child.orders):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(descriptor)
            os.close(descriptor)
        del self._children[child.number]
        line = _PROGRAM_LINE.search(bytes(child.traced))
        ended = {"event": "ended", "how": how, "line": int(line[1]) if line else None, "status": status}
        self._say(child.number, ended | {"trace": child.traced.decode("utf-8", "replace")[:2000]})
        self._turns.end(child.number)
        self._start_waiting()
        if child.stage == "drawing" and self._pictures:
            self._start(self._pictures.popleft())

    def _forget(self, spare: Child) -> None:
        self._kill(spare)
        for descriptor in (spare.orders, spare.output, spare.trace):
            os.close(descriptor)

    def _start_waiting(self) -> None:
        while (request := self._turns.take_next()) is not None:
            self._start(request)

    def _kill(self, child: Child) -> int:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        return _wait(child.pid)

    def _say(self, number: int, event: dict[str, Any]) -> None:
        Answer(self._answers, number).send(event)


def _wait(pid: int) -> int:
    """A worker's exit status, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main()
