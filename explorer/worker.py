"""What a worker process does: confines itself, runs one program or lays out one picture, answers in JSON lines.

Most workers are forks of explorer.host. Where nothing can be forked (CUDA, MPS, Windows), ``python -m explorer.worker``
is a worker started beforehand, with torch loaded, that waits for its one request on standard input.
"""

import argparse
import gc
import json
import os
import signal
import sys
from typing import Any, BinaryIO

from explorer import confine, datasets
from explorer.limits import Limits
from explorer.program import Program

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


def main() -> None:
    """Run one request in this very process, then end."""
    options = argparse.ArgumentParser(prog="python -m explorer.worker")
    options.add_argument("--device", default="cpu")
    chosen = options.parse_args()
    answers = start_process()
    if hasattr(signal, "SIGUSR2"):
        # A stop that comes before the program has its handler must not end this process as if it had crashed.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        warm_up(chosen.device)
    except (RuntimeError, AssertionError) as error:
        # PyTorch names every backend that it has; the first line says which it lacks.
        why = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0][:120]
        sys.exit(f"PyTorch cannot use {chosen.device} on this machine ({why}). Choose cpu.")
    walls = confine.find_walls() if chosen.device == "cpu" else no_walls_for(chosen.device)
    Answer(answers, 0).send({"event": "ready", "walls": walls})
    request, rest = read_request(0)
    if request:
        if request.get("data"):
            datasets.prepare()
        datasets.shut()
        # An accelerator's driver reserves address space without end, so memory is left alone there.
        shut_in(request, walls, memory=chosen.device == "cpu")
        # A pipe cannot be asked there whether something has come.
        orders = None if sys.platform == "win32" else (0, rest)
        Answer(answers, request["id"]).give(request, orders)
    os._exit(0)


def read_request(descriptor: int) -> tuple[dict[str, Any], bytes]:
    """The request of a worker, {} where none comes, and what was said to its run already."""
    data = b""
    while b"\n" not in data:
        more = os.read(descriptor, 1 << 20)
        if not more:
            break
        data += more
    line, _, rest = data.partition(b"\n")
    return json.loads(line or b"{}"), rest


def no_walls_for(device: str) -> dict[str, str]:
    """Why a worker on an accelerator has no walls."""
    return dict.fromkeys(("landlock", "seccomp"), f"the driver of {device} needs its own files and calls")


def start_process() -> BinaryIO:
    """What comes before everything else in a process of ours; returns where its answers go."""
    confine.deepen_stack()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_STACKSIZE", "8M")
    # Threads that wait by spinning made a training loop 15 to 50 times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return answers


def warm_up(device: str) -> None:
    """Do once what every run would wait for: imports, tables, fonts, the first optimizer, the first backward."""
    import torch

    from explorer import layout, look, policy
    from explorer.recorder import record_plain

    # A process that ran a parallel op before it forked would leave its children hanging in the next one.
    torch.set_num_threads(1)
    policy.warm_up()
    layout.warm_up()
    look.warm_up()
    confine.load_walls()
    for _ in range(3):
        record_plain(Program(_WARM_UP))
    if device != "cpu":
        torch.ones(1, device=device).sum().item()
    gc.collect()
    gc.freeze()


def shut_in(request: dict[str, Any], walls: dict[str, str], *, memory: bool = True) -> None:
    """Raise every wall that this system has around this process, for what was asked of it."""
    confine.wipe_freed_memory(False)
    limits, draws = Limits(**request.get("limits", {})), request["do"] == "draw"
    confine.limit_resources(limits, draws=draws, memory=memory)
    standing = [wall for wall, missing in walls.items() if not missing]
    confine.raise_walls(standing, draws=draws, threads=limits.count_threads() > 1)


class Answer:
    """One request's way back: JSON lines, written whole; numbered where several requests share the way."""

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

    def give(self, request: dict[str, Any], orders: tuple[int, bytes] | None = None) -> None:
        """Do what was asked, in this process.

        What is said to a run meanwhile comes from ``orders``: a descriptor, and what was read from it already.
        """
        if request["do"] == "draw":
            from explorer.layout import lay_out

            self.send({"event": "drawn", "svg": lay_out(request["dot"])})
        else:
            self._run(request, orders)

    def _run(self, request: dict[str, Any], orders: tuple[int, bytes] | None) -> None:
        import torch

        from explorer.control import Orders, answer_orders
        from explorer.recorder import record_plain
        from explorer.transcript import fit_json

        limits = Limits(**request.get("limits", {}))
        program = Program(**request["program"])
        orders = None if orders is None else Orders(*orders)
        ended: list[dict[str, Any]] = []
        torch.set_num_threads(limits.count_threads())
        gc.set_threshold(50_000, 20, 100)
        self.send({"event": "started"})
        plain = record_plain(
            program,
            time_limit=limits.seconds,
            training_limit=limits.training_seconds,
            full=request.get("full", ()),
            keep=request.get("keep", ()),
            replays=request.get("replays", ()),
            until=request.get("until"),
            maps=request.get("maps", False),
            looks_at_all=request.get("looks_at_all", False),
            most_passes=limits.training_passes,
            most_output=limits.output_kb * 1000,
            on_event=self.send,
            orders=orders,
            on_globals=ended.append,
        )
        text = fit_json(plain, limits.recording_mb * 1_000_000)
        self.send_text('{"event": "finished", "recording": ' + text + "}")
        if request.get("hold") and ended and orders is not None:
            self.send({"event": "held"})
            answer_orders(ended[0], orders, self.send)


if __name__ == "__main__":
    main()
