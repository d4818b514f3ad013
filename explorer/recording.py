"""A Recording: everything one run of a program showed, as plain data without a live tensor.

The dataclasses mirror the JSON of ``python -m explorer record`` field by field; docs/recording.md
describes them. Nothing here imports torch, so pages, plots and tests can read a Recording anywhere.
"""

import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

SCHEMA = 1


class _Absent:
    """Marks a key that the JSON does not have, where None would be a value."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of a tensor: all of it up to 64 elements, else its head and its statistics.

    ``values`` is what ``Tensor.tolist()`` gives (a bare number for 0-dim), with non-finite numbers as
    the strings "nan", "inf" and "-inf" and complex ones as {"re", "im"}. Exactly one of ``values`` and
    ``head`` (the first 8 elements) is present. Statistics run over the finite and non-finite alike, as
    torch computes them; ``nan`` and ``inf`` count those elements. In runs that ask for it ``map`` is a
    picture of a large tensor: {"shape": [rows, columns], "limit", "pixels"}, as explorer.summaries.draw_map says.
    """

    shape: list[int]
    dtype: str
    values: Any = ABSENT
    head: Any = ABSENT
    min: Any = ABSENT
    max: Any = ABSENT
    mean: Any = ABSENT
    l2: Any = ABSENT
    nan: Any = ABSENT
    inf: Any = ABSENT
    map: Any = ABSENT

    @property
    def is_whole(self) -> bool:
        """Whether every element was kept."""
        return self.values is not ABSENT

    @property
    def norm(self) -> float | str:
        """The 2-norm, told or worked out from the values."""
        return norm_of(self.values) if self.is_whole else self.l2


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a run did not end well: the true message, where, and what to do about it."""

    type: str
    message: str
    line: int | None = None
    column: int | None = None
    explanation: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """One global of the program when it ended (also when it ended in an error)."""

    name: str
    kind: str
    text: str = ""
    shape: list[int] = ABSENT
    dtype: str = ABSENT
    device: str = ABSENT
    requires_grad: bool = ABSENT
    is_leaf: bool = ABSENT
    grad_fn: str | None = ABSENT
    value: Summary | None = ABSENT
    grad: Summary | None = ABSENT


@dataclass(frozen=True, slots=True)
class Node:
    """One ``grad_fn`` of a graph. ``shape`` is that of its first output, from its metadata."""

    id: str
    name: str
    is_leaf: bool
    hooked: bool = False
    line: int | None = None
    column: int = ABSENT
    end_line: int = ABSENT
    end_column: int = ABSENT
    variable: str | None = None
    module: str = ABSENT
    shape: list[int] | None = None
    output: Summary | None = None
    saved: dict[str, Summary] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    formula: str | None = None
    sequence_nr: int = ABSENT


@dataclass(frozen=True, slots=True)
class Edge:
    """``source.next_functions[slot] == (target, input_nr)``: the gradient's way from source to target."""

    source: str
    slot: int
    target: str
    input_nr: int

    @property
    def id(self) -> str:
        """The edge's name in pictures."""
        return f"{self.source}-{self.slot}"


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes reachable from the roots. ``total_nodes`` exceeds ``len(nodes)`` where it was cut."""

    id: str
    nodes: list[Node]
    edges: list[Edge]
    dot: str
    dot_by: str = "explorer"
    roots: list[str] = field(default_factory=list)
    total_nodes: int = 0


@dataclass(frozen=True, slots=True)
class Accumulated:
    """A leaf's ``.grad`` before and after one ``AccumulateGrad``."""

    before: Summary | None
    after: Summary | None


@dataclass(frozen=True, slots=True)
class Step:
    """One node's turn in the engine: what it received, what it sent along each ``next_functions`` slot.

    ``local`` holds, per slot, the derivative of an element-wise (or scalar) node's output with respect
    to that input, asked of the node itself; absent where that has no such plain form.
    """

    node: str
    grad_outputs: list[Summary | None]
    grad_inputs: list[Summary | None]
    accumulated: Accumulated | None = None
    local: list[Summary | None] = ABSENT


@dataclass(frozen=True, slots=True)
class PassLeaf:
    """A leaf that a pass reached: its value when the pass began, the 2-norm of its gradient after it.

    Of a small leaf the gradient itself is there as well.
    """

    variable: str | None
    node: str | None
    value: Summary | None
    grad_norm: Any = None
    grad: Summary | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """One call of the engine: a ``backward()`` or an ``autograd.grad()``."""

    index: int
    line: int | None
    kind: str
    graph: str | None
    roots: list[str]
    loss: Any
    gradient: Summary | None
    retain_graph: bool
    create_graph: bool
    leaves: list[PassLeaf]
    steps: list[Step]
    detail: str = "full"
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """One run of one program."""

    program: dict[str, Any]
    status: str
    stdout: str = ""
    stdout_truncated: bool = False
    problem: Problem | None = None
    variables: list[Variable] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    knob_events: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Recording":
        """Build a Recording from parsed JSON. Raises ValueError for another schema."""
        if plain.get("schema") != SCHEMA:
            raise ValueError(f"a Recording of schema {plain.get('schema')!r}, expected {SCHEMA}")
        return _build(cls, plain)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Recording":
        """Read what ``to_json`` wrote."""
        return cls.from_plain(json.loads(text))

    def to_plain(self) -> dict[str, Any]:
        """The Recording as dicts, lists, strings, numbers, bools and None."""
        return to_plain(self)

    def to_json(self) -> str:
        """The Recording as one line of strict JSON."""
        return json.dumps(self.to_plain(), allow_nan=False, ensure_ascii=False)

    def graph(self, graph_id: str | None) -> Graph | None:
        """The graph of that id, or None."""
        return next((graph for graph in self.graphs if graph.id == graph_id), None)


def norm_of(values: Any) -> float | str:
    """The 2-norm of numbers as a Summary keeps them, nested as ``tolist`` nests them."""
    numbers = list(_flatten(values))
    if any(isinstance(number, str) for number in numbers):
        return "nan" if "nan" in numbers else "inf"
    # hypot, for the square of 1e200 is too large for a float.
    norm = math.hypot(*numbers)
    return norm if math.isfinite(norm) else "inf"


def _flatten(values: Any) -> Iterator[Any]:
    if isinstance(values, list):
        for value in values:
            yield from _flatten(value)
    elif isinstance(values, dict):
        yield from (values["re"], values["im"])
    else:
        yield values


def _nested(hint: Any) -> tuple[type | None, str]:
    """The dataclass inside a type hint and how it is wrapped: "one", "list" or "dict"."""
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is list:
        return _nested(arguments[0])[0], "list"
    if origin is dict:
        return _nested(arguments[1])[0], "dict"
    if origin in (typing.Union, types.UnionType):
        for argument in arguments:
            found, shape = _nested(argument)
            if found:
                return found, shape
        return None, "one"
    return (hint, "one") if hasattr(hint, "__dataclass_fields__") else (None, "one")


_PLAN: dict[type, dict[str, tuple[type | None, str]]] = {}


def _plan(cls: type) -> dict[str, tuple[type | None, str]]:
    if cls not in _PLAN:
        hints = typing.get_type_hints(cls)
        _PLAN[cls] = {entry.name: _nested(hints[entry.name]) for entry in fields(cls)}
    return _PLAN[cls]


def _build(cls: type, plain: Mapping[str, Any]) -> Any:
    """A dataclass of ``cls`` from its plain form; keys of later schemas are left out."""
    values = {}
    for name, (nested, shape) in _plan(cls).items():
        if name not in plain:
            continue
        value = plain[name]
        if nested is not None and value is not None:
            if shape == "list":
                value = [None if item is None else _build(nested, item) for item in value]
            elif shape == "dict":
                value = {key: _build(nested, item) for key, item in value.items()}
            else:
                value = _build(nested, value)
        values[name] = value
    return cls(**values)


def to_plain(value: Any) -> Any:
    """A dataclass of this module (or a list or dict of them) in its JSON form."""
    if hasattr(value, "__dataclass_fields__"):
        pairs = ((name, getattr(value, name)) for name in _plan(type(value)))
        return {name: to_plain(item) for name, item in pairs if item is not ABSENT}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value
