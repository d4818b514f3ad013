"""What a run is told while it goes on: knobs, pause, step, resume; obeyed between two passes."""

import ast
import contextlib
import gc
import json
import math
import os
import select
import signal
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from explorer.look import Look
from explorer.program import as_kind_of, find_assigned, find_knobs, find_options, is_finite_number
from explorer.summaries import plain_number
from explorer.tracer import TracedPass, Tracer
from explorer.transcript import Positions

INTERVAL = 0.05
"""Seconds between two looks at the orders of a run, and between two of its ``pass`` events."""

REST = 1.0
"""Seconds to wait for the rest of an order of which a part has come."""


class Stopped(BaseException):
    """Raised in the program when its reader stops it."""


class PassLimit(BaseException):
    """Raised in the program when it made more backward passes than are kept."""


class Orders:
    """The orders of a run's reader: JSON lines on a pipe."""

    def __init__(self, descriptor: int, pending: bytes = b"") -> None:
        """``pending`` was read from the pipe already."""
        self._descriptor = descriptor
        self._pending = bytearray(pending)
        self._is_open = True
        self._is_split = False
        self.waiting: deque[dict[str, Any]] = deque()
        self.early: list[Mapping[str, Any]] = []

    def read(self, *, waits: bool = False) -> list[dict[str, Any]]:
        """The orders that came; those that come next where it ``waits`` and none is there."""
        if not self._is_split:
            # What was read at the start may hold whole orders already.
            self._is_split = True
            *lines, self._pending = self._pending.split(b"\n")
            if lines:
                return [json.loads(line) for line in lines]
        while self._is_open and select.select([self._descriptor], [], [], self._patience(waits))[0]:
            data = os.read(self._descriptor, 1 << 16)
            self._is_open = bool(data)
            self._pending += data
            if b"\n" in data:
                *lines, self._pending = self._pending.split(b"\n")
                return [json.loads(line) for line in lines]
        return []

    def _patience(self, waits: bool) -> float | None:
        """Seconds to wait for more: an order longer than the pipe comes in parts, one close behind the other."""
        return None if waits else REST if self._pending else 0.0


class Clock:
    """The time of a run: so much without a pass, so much in all; it stands still in a pause."""

    def __init__(self, seconds: float | None = None, training_seconds: float | None = None) -> None:
        """The time begins now; without ``seconds`` it has no end."""
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + max(seconds, training_seconds or 0.0)
        self.go_on()

    @property
    def is_over(self) -> bool:
        """Whether the time of the whole run is over, not only that without a pass."""
        return self._end is not None and time.monotonic() >= self._end

    def go_on(self) -> None:
        """A pass was made: the time without one begins anew, within that of the whole run."""
        if self._end is not None:
            # Again every 50 ms: a finally block of the program may have swallowed the first.
            left = max(0.001, min(self._seconds, self._end - time.monotonic()))
            signal.setitimer(signal.ITIMER_REAL, left, 0.05)

    def stop(self) -> None:
        """No more."""
        if self._end is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @contextlib.contextmanager
    def interrupt_pause(self) -> Iterator[None]:
        """What is done within a pause may take as long as a run without a pass."""
        if self._end is None:
            yield
            return
        signal.setitimer(signal.ITIMER_REAL, self._seconds, 0.05)
        try:
            yield
        finally:
            self.stop()

    def pause(self, wait: Callable[[], None]) -> None:
        """``wait()`` while no time passes."""
        began = time.monotonic()
        self.stop()
        try:
            wait()
        finally:
            if self._end is not None:
                self._end += time.monotonic() - began
                self.go_on()


class Control:
    """Tells of the passes of a run, and does between them what its reader asks."""

    def __init__(
        self,
        tree: ast.Module,
        namespace: dict[str, Any],
        positions: Positions,
        *,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        orders: Orders | None = None,
        replays: Iterable[Mapping[str, Any]] = (),
        most_passes: int | None = None,
        until: int | None = None,
    ) -> None:
        """``replays`` are the ``knob_events`` of an earlier run, which happen again at the same passes.

        After ``until`` passes the run is stopped; one that makes more than ``most_passes`` ends with PassLimit.
        """
        self.knob_events: list[dict[str, Any]] = []
        self.tracer: Tracer | None = None
        self.clock = Clock()
        # A leaf is made before any pass; another start value is another run.
        self._values = {name: knob.value for name, knob in find_knobs(tree).items() if not knob.is_start}
        self._options = find_options(tree)
        # A number that only an optimizer is given is no global, whatever else in the program has its name.
        self._assigned = find_assigned(tree)
        self._namespace = namespace
        self._positions = positions
        self._on_event = on_event
        self._orders = orders
        self._replays: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for event in replays:
            self._replays[event["pass"]].append(event)
        self._most_passes, self._until = most_passes, until
        self._is_paused = False
        # Of the orders themselves, so that what is asked at the very end is answered after it.
        self._waiting = deque() if orders is None else orders.waiting
        self._points: list[tuple[int, list]] = []
        self._look = Look(namespace)
        self._follows_layers = False
        self._asked_early = [] if orders is None else orders.early

    def after_pass(self, traced: TracedPass | None) -> None:
        """The last pass is over; ``traced`` where more of it was kept than its loss, as ``Tracer`` says."""
        tracer = self.tracer
        index = tracer.count - 1
        if traced is not None and traced.leaves:
            self._points.append((index, traced.leaves))
        if self._replays:
            self._replay(index)
        if self._until is not None:
            if tracer.count >= self._until:
                self.tell()
                raise Stopped
            tracer.look_at_pass(self._until - 1)
        if time.perf_counter() < tracer.tell_at:
            return
        self.clock.go_on()
        self.tell()
        while self._asked_early:
            self._answer(self._asked_early.pop(), index)
        if self._most_passes is not None and tracer.count > self._most_passes:
            raise PassLimit
        if self._orders is not None:
            self._obey(index)
        # A run that stands, or makes one pass, tells of each.
        tracer.tell_at = 0.0 if self._is_paused or self._asked_early else time.perf_counter() + INTERVAL

    def _replay(self, index: int) -> None:
        for before_pass in sorted(self._replays):
            if before_pass > index + 1:
                self.tracer.look_at_pass(before_pass - 1)
                break
            for event in self._replays.pop(before_pass):
                self._set_knob(event["name"], event["value"], index + 1)

    def tell(self) -> None:
        """Tell what was not told yet."""
        losses, points = self.tracer.losses, self._points
        if not losses:
            return
        self.tracer.losses, self._points = [], []
        if self._on_event is None:
            return
        index = self.tracer.count - 1
        done, expected = self.tracer.tell_progress()
        last = points[-1] if points else (index, [])
        leaves = [
            {"variable": name, "value": value, "grad_norm": norm, "grad": gradient}
            for name, _, value, norm, gradient in (last[1] if last[0] == index else ())
        ]
        self._on_event(
            {
                "event": "pass",
                "index": index,
                "loss": plain_number(losses[-1]),
                "leaves": leaves,
                "expected": expected if expected is not None and done == index + 1 else self._guess(index, expected),
                "losses": losses if _are_finite(losses) else [plain_number(loss) for loss in losses],
                "points": _columns(points),
            }
        )

    def _guess(self, index: int, expected: int | None) -> int | None:
        # A loop that began again counts from its own start; the total is then not known.
        return expected if expected is not None and expected > index else None

    def _obey(self, index: int) -> None:
        self._read_orders()
        while self._waiting and not self._is_paused:
            self._do(self._waiting.popleft(), index)
        if self._is_paused:
            self._say({"event": "paused", "pass": index})
            self.clock.pause(lambda: self._wait(index))

    def _wait(self, index: int) -> None:
        """Until the reader lets the run go on, or make one pass."""
        while self._is_paused:
            if not self._waiting:
                self._read_orders(waits=True)
            if not self._waiting:
                # Nobody is there any more who could.
                self._is_paused = False
            elif self._do(self._waiting.popleft(), index):
                return
        self._say({"event": "resumed"})

    def _read_orders(self, *, waits: bool = False) -> None:
        """Put what came into the queue; a knob that is moved on and on counts where it comes to rest."""
        for order in self._orders.read(waits=waits):
            last = self._waiting[-1] if self._waiting else {}
            if order.get("do") == last.get("do") == "knob" and order.get("name") == last.get("name"):
                self._waiting.pop()
            self._waiting.append(order)

    def _do(self, order: Mapping[str, Any], index: int) -> bool:
        """Whether the order was to make one pass."""
        kind = order.get("do")
        if kind == "knob":
            self._set_knob(order.get("name"), order.get("value"), index + 1)
        elif kind in ("pause", "resume"):
            self._is_paused = kind == "pause"
        elif kind == "ask" and _asks(order, "layers") and not self._is_paused:
            # How far a step moves the weights is seen one pass later.
            self._look.snapshot()
            self._asked_early.append(order)
        elif kind == "ask":
            self._follows_layers = self._follows_layers or _asks(order, "layers")
            self._answer(order, index)
        elif kind == "step" and self._follows_layers:
            self._look.snapshot()
        return kind == "step"

    def _answer(self, order: Mapping[str, Any], index: int) -> None:
        with self.clock.interrupt_pause() if self._is_paused else contextlib.nullcontext():
            _give_answer(self._look, order, index, self._say)

    def _set_knob(self, name: Any, value: Any, before_pass: int) -> None:
        if type(name) is not str or name not in self._values or not is_finite_number(value):
            self._say({"event": "refused", "name": str(name)[:100], "value": str(value)[:100]})
            return
        old = self._values[name]
        value = self._values[name] = as_kind_of(old, value)
        if name in self._assigned and type(self._namespace.get(name)) in (int, float):
            self._namespace[name] = value
        for reference, place, filled in self.tracer.optimizers:
            optimizer, position = reference(), self._positions.of(*place)
            options = self._options.get(position[:2], {}) if position and optimizer is not None else {}
            for option in (option for option, knob in options.items() if knob == name):
                for group, from_default in zip(optimizer.param_groups, filled, strict=False):
                    if option in from_default:
                        _set_option(group, option, old, value)
                if option == "lr":
                    _tell_schedulers(optimizer, old, value)
        event = {"pass": before_pass, "name": name, "value": value}
        self.knob_events.append(event)
        self._say({"event": "knob", **event})

    def _say(self, event: dict[str, Any]) -> None:
        if self._on_event is not None:
            self._on_event(event)


def answer_orders(namespace: dict[str, Any], orders: Orders, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Answer what is asked of a program that has ended, until nobody is there who could ask."""
    look, asked = Look(namespace), [*orders.early, *orders.waiting]
    while asked := asked or orders.read(waits=True):
        for order in asked:
            if order.get("do") == "ask":
                _give_answer(look, order, None, on_event)
        asked = []


def _give_answer(
    look: Look, order: Mapping[str, Any], index: int | None, on_event: Callable[[dict[str, Any]], None]
) -> None:
    """Say one answer to each question, whatever ends it."""
    told = {"problem": "The program was ended while it answered."}
    try:
        told = look.answer(order.get("what"))
    except KeyboardInterrupt:
        # The model's own: nobody presses keys here.
        told = {"problem": "The model's forward pass ended its program: KeyboardInterrupt."}
    finally:
        on_event({"event": "answer", "id": order.get("id"), "pass": index, **told})


def _asks(order: Mapping[str, Any], kind: str) -> bool:
    what = order.get("what")
    return isinstance(what, dict) and what.get("kind") == kind


def _set_option(group: dict[str, Any], option: str, old: float, value: float) -> None:
    """Give a param group the new value; what a scheduler made of the old one keeps its share of it."""
    now = group.get(option)
    if type(now) not in (int, float):
        return
    group[option] = value if now == old or not old else now / old * value
    if option == "lr" and "initial_lr" in group:
        group["initial_lr"] = value


def _tell_schedulers(optimizer: torch.optim.Optimizer, old: float, value: float) -> None:
    """Those of closed form compute every rate from the first one."""
    for scheduler in gc.get_objects():
        if issubclass(type(scheduler), LRScheduler) and vars(scheduler).get("optimizer") is optimizer:
            rates = vars(scheduler).get("base_lrs", ())
            scheduler.base_lrs = [value if rate == old else rate for rate in rates]


def _columns(points: list[tuple[int, list]]) -> dict[str, Any]:
    """Values, gradients and gradient norms by name, one entry a pass that was looked at."""
    columns: dict[str, dict[str, list]] = {"values": {}, "grads": {}, "norms": {}}
    for row, (_, leaves) in enumerate(points):
        for name, _, value, norm, gradient in leaves:
            if name is None:
                continue
            _put(columns["norms"], name, row, norm)
            for kind, summary in (("values", value), ("grads", gradient)):
                if summary is not None and "values" in summary:
                    for part, number in _name_parts(name, summary["values"]):
                        _put(columns[kind], part, row, number)
    for column in (column for kind in columns.values() for column in kind.values()):
        column.extend([None] * (len(points) - len(column)))
    return {"index": [index for index, _ in points], **columns}


def _put(columns: dict[str, list], name: str, row: int, number: Any) -> None:
    column = columns.setdefault(name, [])
    # Two layers of a class that no variable holds share their names: the first is told.
    if len(column) <= row:
        column.extend([None] * (row - len(column)))
        column.append(number)


def _name_parts(name: str, values: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(values, list):
        for index, value in enumerate(values):
            yield from _name_parts(f"{name}[{index}]", value)
    elif not isinstance(values, dict):
        yield name, values


def _are_finite(losses: list[Any]) -> bool:
    """Whether they are all finite numbers; False as well where their sum is not."""
    try:
        return math.isfinite(sum(losses))
    except (TypeError, OverflowError):
        return False
