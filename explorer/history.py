"""What every pass of one run gave so far, filled from the run's ``pass`` and ``knob`` events while it goes on."""

import csv
import io
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PER_BUCKET = 4
"""A bucket of a thinned curve keeps its first, last, least and largest point: drawn, the line is the same."""


class Numbers(array):
    """An array, of 8 bytes a number, that equals any sequence of the same numbers."""

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None


@dataclass(slots=True)
class Curve:
    """Numbers by the index of their pass; what is not finite is a float too. A curve only ever grows."""

    x: Sequence[int] = ()
    y: Sequence[float] = ()
    _thinned: "dict[int, _Thinned]" = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.x, self.y = Numbers("q", self.x), Numbers("d", self.y)

    def append(self, index: int, value: float) -> None:
        """Add the number of one later pass."""
        self.x.append(index)
        # A reader in another thread goes by the length of y.
        self.y.append(value)


@dataclass(frozen=True, slots=True)
class KnobEvent:
    """A knob was set to ``value`` before the pass with this index."""

    index: int
    name: str
    value: Any


class History:
    """The curves of one run: the loss of every pass, and of the passes that were looked at what their leaves held.

    ``values`` are those before the update, ``grads`` what then stood in ``.grad``, both of small leaves and number by
    number (``w``, ``v[0]``); ``norms`` are those of whole gradients.
    """

    def __init__(self) -> None:
        self.passes = 0
        self.expected: int | None = None
        self.first_not_finite: int | None = None
        self.loss = Curve()
        self.values: dict[str, Curve] = {}
        self.grads: dict[str, Curve] = {}
        self.norms: dict[str, Curve] = {}
        self.knob_events: list[KnobEvent] = []

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in one event of the run; one that was heard before changes nothing, other kinds are passed over."""
        if event.get("event") == "pass":
            self._hear_pass(event)
        elif event.get("event") == "knob":
            self.knob_events.append(KnobEvent(event["pass"], event["name"], event["value"]))

    def _hear_pass(self, event: Mapping[str, Any]) -> None:
        losses = event.get("losses") or [event.get("loss")]
        for index, loss in enumerate(losses, event["index"] + 1 - len(losses)):
            if index < self.passes:
                continue
            self.passes = index + 1
            number = _read_number(loss)
            if number is None:
                continue
            self.loss.append(index, number)
            if self.first_not_finite is None and not math.isfinite(number):
                self.first_not_finite = index
        self.expected = event.get("expected") or self.expected
        points = event.get("points") or {}
        self.values = _extend(self.values, points.get("values") or {}, points.get("index", ()))
        self.grads = _extend(self.grads, points.get("grads") or {}, points.get("index", ()))
        self.norms = _extend(self.norms, points.get("norms") or {}, points.get("index", ()))

    def to_csv(self) -> str:
        """One row a pass, every number exact; a cell is empty where nothing was looked at.

        A knob's column holds the value in force, from the first pass after it was set. No cell is a formula to
        a spreadsheet: a name of the program never begins a cell.
        """
        columns = {"loss": self.loss}
        columns |= {f"value of {name}": curve for name, curve in self.values.items()}
        columns |= {f"gradient of {name}": curve for name, curve in self.grads.items()}
        columns |= {f"norm of {name}.grad": curve for name, curve in self.norms.items()}
        cells = [dict(zip(curve.x, map(repr, curve.y), strict=False)) for curve in columns.values()]
        knobs = dict.fromkeys((event.name for event in self.knob_events), "")
        events = sorted(self.knob_events, key=lambda event: event.index)[::-1]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["pass", *columns, *(f"knob {name}" for name in knobs)])
        for index in range(self.passes):
            while events and events[-1].index <= index:
                event = events.pop()
                knobs[event.name] = _write_cell(event.value)
            writer.writerow([index, *(column.get(index, "") for column in cells), *knobs.values()])
        return text.getvalue()


def thin(curve: Curve, most: int) -> Curve:
    """The points of ``curve`` worth drawing: all of them, or at most ``most`` where there are more.

    Buckets of 2**k passes each keep their first, last, least and largest point, and one nan, inf and -inf where they
    have any (these come on top of ``most``). While the curve grows, the points of a full bucket stay as they are
    until k grows. Raises ValueError if ``most`` is less than one bucket's.
    """
    if most < PER_BUCKET:
        raise ValueError(f"most is at least {PER_BUCKET}, found {most}")
    count = len(curve.y)
    if count <= most:
        return Curve(curve.x[:count], curve.y[:count])
    stride = 1
    while PER_BUCKET * -(-count // stride) > most:
        stride *= 2
    kept = curve._thinned.get(most)
    if kept is None or kept.stride != stride:
        kept = curve._thinned[most] = _Thinned(stride)
    return kept.follow(curve, count)


@dataclass(slots=True)
class _Thinned:
    """What the full buckets of a curve keep, so that only new points are looked at."""

    stride: int
    seen: int = 0
    x: list[int] = field(default_factory=list)
    y: list[float] = field(default_factory=list)

    def follow(self, curve: Curve, count: int) -> Curve:
        """Close the buckets that are full by now; the points of all, with those of the bucket that is still open."""
        while self.seen + self.stride <= count:
            chosen = _choose(curve.y, self.seen, self.seen + self.stride)
            self.x += [curve.x[position] for position in chosen]
            self.y += [curve.y[position] for position in chosen]
            self.seen += self.stride
        last = _choose(curve.y, self.seen, count)
        return Curve(
            self.x + [curve.x[position] for position in last], self.y + [curve.y[position] for position in last]
        )


def _choose(y: Sequence[float], start: int, stop: int) -> list[int]:
    """The positions of a bucket's first, last, least and largest number, and of the first of each kind not finite."""
    numbers = y[start:stop]
    if len(numbers) <= PER_BUCKET:
        return list(range(start, stop))
    chosen = {0, len(numbers) - 1}
    if math.isfinite(sum(numbers)):
        finite = numbers
    else:
        finite = [number for number in numbers if math.isfinite(number)]
        kinds = {
            repr(number): place for place, number in reversed(list(enumerate(numbers))) if not math.isfinite(number)
        }
        chosen |= set(kinds.values())
    if finite:
        chosen |= {numbers.index(min(finite)), numbers.index(max(finite))}
    return [start + place for place in sorted(chosen)]


def _extend(curves: dict[str, Curve], series: Mapping[str, Iterable[Any]], indices: Sequence[int]) -> dict[str, Curve]:
    """The curves with the new points of each; another dict where there are new names, for readers in other threads."""
    new = {name: Curve() for name in series if name not in curves}
    curves = {**curves, **new} if new else curves
    for name, numbers in series.items():
        curve = curves[name]
        newest = curve.x[-1] if curve.x else -1
        for index, each in zip(indices, numbers, strict=False):
            number = _read_number(each)
            if index > newest and number is not None:
                curve.append(index, number)
    return curves


def _read_number(value: Any) -> float | None:
    """A number of an event: "nan", "inf" and "-inf" are floats, what is no number is None."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _write_cell(value: Any) -> str:
    """A knob's value for a spreadsheet; text that it would take for a formula begins with an apostrophe."""
    text = str(value)
    is_number = isinstance(value, int | float)
    return f"'{text}" if not is_number and text.lstrip()[:1] in tuple("=+-@") else text
