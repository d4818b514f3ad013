"""The process with torch loaded: forks a fresh worker for every run, or is one itself (``--once``).

Spoken to in JSON lines on standard input: {"do": "run" | "draw" | "stop", "id": ...}. Answers on standard
output, one line each: the id, a space, a JSON object with an "event". Started by explorer.runner.
"""

import argparse
import contextlib
import faulthandler
import gc
import json
import os
import re
import selectors
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from explorer import confine
from explorer.confine import Limits
from explorer.program import FILENAME, Program

GRACE = 0.6
"""Seconds between the soft stop of a program and its end."""

WRITING = 30.0
"""Seconds that a worker may take to write down what a program did that ended in time."""

MOST_BYTES = 64_000_000
"""A worker that answers more than this is ended."""

_WARM_UP = """
import numpy as np
x = torch.tensor(2.0, requires_grad=True)
y = 3 * torch.sigmoid(x) + 5
y.backward()
print(x.grad, y, torch.rand(2, 3), np.ones(2))
net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
optimizer = optim.Adam(net.parameters(), lr=0.01)
for step in range(2):
    loss = F.cross_entropy(net(torch.randn(5, 4)), torch.tensor([0, 1, 0, 1, 1]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"{loss.item():.4f}")
"""

_STOP_SIGNALS = {"stop": getattr(signal, "SIGUSR2", None), "tell": getattr(signal, "SIGUSR1", None)}
_RAN = b'{"event": "ran"'
_PROGRAM_LINE = re.compile(rb'File "' + re.escape(FILENAME).encode() + rb'", line (\d+)')


def main() -> None:
    """Run as ``python -m explorer.worker``."""
    options = argparse.ArgumentParser(prog="python -m explorer.worker")
    options.add_argument("--once", action="store_true", help="run one program in this very process, then end")
    options.add_argument("--device", default="cpu")
    chosen = options.parse_args()
    confine.deepen_stack()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_STACKSIZE", "8M")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    warm_up(chosen.device)
    answers.write(b'0 {"event": "ready"}\n')
    if chosen.once:
        request = json.loads(sys.stdin.buffer.readline() or b"{}")
        if request:
            # An accelerator's driver reserves address space without end, so memory is left alone there.
            confine.limit_resources(
                Limits(**request["limits"]), draws=request["do"] == "draw", memory=chosen.device == "cpu"
            )
            Answer(answers, request["id"]).give(request)
        os._exit(0)
    Host(answers).serve()


def warm_up(device: str) -> None:
    """Do once what every run would wait for: imports, tables, the first optimizer, the first backward."""
    import pygraphviz  # noqa: F401
    import torch

    from explorer import policy
    from explorer.recorder import record_plain

    # A process that ran a parallel op before it forked would leave its children hanging in the next one.
    torch.set_num_threads(1)
    policy.warm_up()
    for _ in range(3):
        record_plain(Program(_WARM_UP))
    if device != "cpu":
        torch.ones(1, device=device).sum().item()
    gc.collect()
    gc.freeze()


class Answer:
    """One request's way back: numbered JSON lines, written whole."""

    def __init__(self, stream: BinaryIO, number: int, *, numbered: bool = True) -> None:
        self._stream = stream
        self._prefix = f"{number} ".encode() if numbered else b""

    def send(self, event: dict[str, Any]) -> None:
        """Write one event."""
        self.send_text(json.dumps(event, ensure_ascii=False, allow_nan=False))

    def send_text(self, text: str) -> None:
        """Write one event that is JSON already."""
        data = memoryview(self._prefix + text.encode("utf-8", "replace") + b"\n")
        while data:
            data = data[self._stream.write(data) or 0 :]

    def give(self, request: dict[str, Any]) -> None:
        """Do what was asked, in this process."""
        if request["do"] == "draw":
            self.send({"event": "drawn", "svg": lay_out(request["dot"])})
        else:
            self._run(request)

    def _run(self, request: dict[str, Any]) -> None:
        import torch

        from explorer.recorder import record_plain
        from explorer.transcript import fit_json

        limits = Limits(**request["limits"])
        program = Program(**request["program"])
        torch.set_num_threads(limits.count_threads())
        gc.set_threshold(50_000, 20, 100)
        self.send({"event": "started"})
        plain = record_plain(program, time_limit=limits.seconds, full=request.get("full", ()), on_event=self.send)
        self.send_text('{"event": "finished", "recording": ' + fit_json(plain) + "}")


def lay_out(text: str) -> str:
    """DOT text as SVG, by Graphviz. Raises ValueError for text that is not DOT."""
    import pygraphviz

    return pygraphviz.AGraph(string=text).draw(format="svg", prog="dot").decode()


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
    pending: bytearray = field(default_factory=bytearray)
    traced: bytearray = field(default_factory=bytearray)
    received: int = 0


class Host:
    """Forks a worker for every request, passes on what it says, and ends it when its time is over.

    While nothing runs, one worker waits forked, so that the next request need not wait for a fork.
    """

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, Child] = {}
        self._spare: Child | None = None
        self._waiting: list[dict[str, Any]] = []
        self._input = bytearray()

    def serve(self) -> None:
        """Serve until standard input ends; then end every worker."""
        os.set_blocking(0, False)
        self._selector.register(0, selectors.EVENT_READ, None)
        # A signal that comes before a worker has its handlers must not end it.
        for number in filter(None, _STOP_SIGNALS.values()):
            signal.signal(number, signal.SIG_IGN)
        is_open = True
        while is_open:
            if self._spare is None and not self._children:
                self._spare = self._fork()
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    is_open = self._read_requests()
                elif self._children.get(key.data[0].number) is key.data[0]:
                    # Its other pipe, ready in the same moment, may have ended it.
                    self._read_child(*key.data)
            self._end_overdue()
        for child in [*self._children.values(), *filter(None, [self._spare])]:
            self._kill(child)

    def _patience(self) -> float | None:
        if not self._children:
            return None
        return max(0.0, min(child.deadline for child in self._children.values()) - time.monotonic())

    def _read_requests(self) -> bool:
        data = os.read(0, 1 << 20)
        self._input += data
        *lines, rest = self._input.split(b"\n")
        self._input = bytearray(rest)
        for line in lines:
            try:
                request = json.loads(line)
                number, wanted = int(request["id"]), request["do"]
                if wanted not in ("run", "draw", "stop"):
                    raise ValueError(f"cannot do {wanted!r}")
            except (ValueError, KeyError, TypeError) as error:
                self._say(0, {"event": "confused", "message": f"{type(error).__name__}: {error}"[:300]})
                continue
            if wanted == "stop":
                self._stop(number)
            elif wanted == "run" and self._count_runs() >= request["limits"]["at_once"]:
                self._waiting.append(request)
                self._say(number, {"event": "waiting", "ahead": len(self._waiting)})
            else:
                self._start(request)
        return bool(data)

    def _count_runs(self) -> int:
        return sum(child.stage != "drawing" for child in self._children.values())

    def _start(self, request: dict[str, Any]) -> None:
        child, self._spare = self._spare or self._fork(), None
        order = memoryview(json.dumps(request).encode() + b"\n")
        # Should the waiting worker have died, its end is told like that of any other.
        with contextlib.suppress(BrokenPipeError):
            while order:
                order = order[os.write(child.orders, order) :]
        os.close(child.orders)
        is_run = request["do"] == "run"
        seconds = request["limits"]["seconds" if is_run else "layout_seconds"]
        child.number = request["id"]
        child.deadline = time.monotonic() + seconds + (GRACE if is_run else 0.0)
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
            os.closerange(6, 256)
            faulthandler.enable(4, all_threads=False)
            faulthandler.register(_STOP_SIGNALS["tell"], 4, all_threads=False)
            os.environ.clear()
            with os.fdopen(5, "rb") as line:
                request = json.loads(line.readline() or b"{}")
            if request:
                confine.limit_resources(Limits(**request["limits"]), draws=request["do"] == "draw")
                stream = os.fdopen(3, "wb", buffering=0)
                Answer(stream, request["id"], numbered=False).give(request)
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
        if child.received > MOST_BYTES:
            self._end(child, "output")
            return
        if data:
            child.pending += data
            if b"\n" not in data:
                return
            *lines, rest = child.pending.split(b"\n")
            child.pending = bytearray(rest)
            for line in lines:
                if line.startswith(_RAN) and child.stage == "running":
                    # The program kept its time; what it did is being written down.
                    child.stage, child.deadline = "writing", time.monotonic() + WRITING
                self._answers.write(b"%d %s\n" % (child.number, line))
            return
        self._selector.unregister(descriptor)
        self._end(child, "itself")

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.deadline > now:
                continue
            if child.stage in ("running", "stopping"):
                # It did not stop when asked. faulthandler tells the line even from inside a native call.
                child.stage = "time" if child.stage == "running" else "stop"
                child.deadline = now + 0.1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, _STOP_SIGNALS["tell"])
            else:
                self._end(child, "time" if child.stage == "drawing" else child.stage)

    def _stop(self, number: int) -> None:
        waiting = [request for request in self._waiting if request["id"] != number]
        if len(waiting) < len(self._waiting):
            self._waiting = waiting
            self._say(number, {"event": "ended", "how": "stop", "line": None})
        child = self._children.get(number)
        if child is not None and child.stage == "writing":
            self._end(child, "stop")
        elif child is not None and child.stage == "running":
            child.stage, child.deadline = "stopping", time.monotonic() + GRACE
            os.kill(child.pid, _STOP_SIGNALS["stop"])

    def _end(self, child: Child, how: str) -> None:
        """Reap the worker and say how it ended, with the line that it was at where that is known."""
        status = self._kill(child) if how != "itself" else _wait(child.pid)
        with contextlib.suppress(OSError):
            child.traced += os.read(child.trace, 20_000)
        for descriptor in (child.output, child.trace):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(descriptor)
            os.close(descriptor)
        del self._children[child.number]
        line = _PROGRAM_LINE.search(bytes(child.traced))
        ended = {"event": "ended", "how": how, "line": int(line[1]) if line else None, "status": status}
        self._say(child.number, ended | {"trace": child.traced.decode("utf-8", "replace")[:2000]})
        if self._waiting and self._count_runs() < self._waiting[0]["limits"]["at_once"]:
            self._start(self._waiting.pop(0))

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
