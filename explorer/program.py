"""A Program: its text, device, seed and knobs, and what the text says without running it."""

import ast
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

FILENAME = "<program>"


@dataclass(frozen=True, slots=True)
class Program:
    """A short PyTorch program to be run: ``device`` is where its tensors are made unless it says so itself.

    ``knobs`` replaces number literals of the text (see ``find_knobs``) by name.
    """

    source: str
    device: str = "cpu"
    seed: int = 0
    knobs: Mapping[str, float] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """The Program as it stands in a Recording."""
        return {"source": self.source, "device": self.device, "seed": self.seed, "knobs": dict(self.knobs)}


@dataclass(frozen=True, slots=True)
class Knob:
    """A number literal that a page may move: ``name = 0.03`` at top level, or ``lr=0.03`` given to an optimizer."""

    name: str
    value: int | float
    line: int
    column: int
    end_column: int


def find_knobs(tree: ast.Module) -> dict[str, Knob]:
    """The knobs of a parsed program by name; a name assigned twice at top level is no knob."""
    found: dict[str, Knob] = {}
    again: set[str] = set()
    for name, literal in _knob_literals(tree):
        if name in found:
            again.add(name)
        found[name] = Knob(
            name, _number(literal), literal.lineno, literal.col_offset, literal.end_col_offset or literal.col_offset
        )
    return {name: knob for name, knob in found.items() if name not in again}


def set_knobs(tree: ast.Module, knobs: Mapping[str, float]) -> ast.Module:
    """Write knob values into the literals of ``tree``, in place; line and column of every node stay.

    Raises ValueError for a name that is no knob of the program and for a value that is not a finite number.
    """
    known = find_knobs(tree)
    for name, value in knobs.items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ValueError(f"the program has no knob named {name!r}; its knobs: {names}")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"knob {name} must be a finite number, got {value!r}")
    for name, literal in _knob_literals(tree):
        if name in knobs and name in known:
            constant = literal.operand if isinstance(literal, ast.UnaryOp) else literal
            positive = not isinstance(literal, ast.UnaryOp)
            value = knobs[name] if positive else -knobs[name]
            constant.value = int(value) if isinstance(known[name].value, int) and float(value).is_integer() else value
    return tree


def _number(literal: ast.expr) -> int | float:
    return -literal.operand.value if isinstance(literal, ast.UnaryOp) else literal.value


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _knob_literals(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target = statement.target
        else:
            continue
        if isinstance(target, ast.Name) and _is_number(statement.value):
            yield target.id, statement.value
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _is_optimizer(call.func):
            yield from ((word.arg, word.value) for word in call.keywords if word.arg and _is_number(word.value))


def _is_optimizer(function: ast.expr) -> bool:
    """``optim.SGD``, ``torch.optim.Adam`` and the like."""
    return isinstance(function, ast.Attribute) and (
        (isinstance(function.value, ast.Name) and function.value.id == "optim")
        or (isinstance(function.value, ast.Attribute) and function.value.attr == "optim")
    )


@dataclass(frozen=True, slots=True)
class Loop:
    """A ``for`` of the program: the lines it spans, the function it stands in, what it goes over."""

    line: int
    end_line: int
    scope: str
    iterable: ast.expr

    def count(self, names: Mapping[str, Any]) -> int | None:
        """How often it goes round with these values of the names, where that can be read without running it."""
        iterable = self.iterable
        while _called(iterable) in ("enumerate", "tqdm", "trange", "list", "reversed") and iterable.args:
            if _called(iterable) == "trange":
                return _whole(iterable.args[0], names)
            iterable = iterable.args[0]
        if _called(iterable) == "range":
            bounds = [_whole(argument, names) for argument in iterable.args]
            if not bounds or None in bounds or len(bounds) > 3 or bounds[2:] == [0]:
                return None
            return len(range(*bounds))
        if isinstance(iterable, ast.Name):
            found = names.get(iterable.id)
            is_known = isinstance(found, list | tuple | range | dict) or type(found).__module__.startswith(
                "torch.utils"
            )
            return len(found) if is_known and hasattr(found, "__len__") else None
        return None


def find_loops(tree: ast.Module) -> list[Loop]:
    """Every ``for`` of the program, outer before inner."""
    found: list[Loop] = []
    stack: list[tuple[ast.AST, str]] = [(tree, "<module>")]
    while stack:
        node, scope = stack.pop()
        if isinstance(node, ast.For):
            found.append(Loop(node.lineno, node.end_lineno or node.lineno, scope, node.iter))
        inner = node.name if isinstance(node, ast.FunctionDef) else scope
        stack.extend((child, inner) for child in ast.iter_child_nodes(node))
    return sorted(found, key=lambda loop: loop.line)


def _called(node: ast.expr) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _whole(node: ast.expr, names: Mapping[str, Any]) -> int | None:
    """The integer that a simple expression of numbers and names stands for."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.Name):
        value = names.get(node.id)
        return value if type(value) is int else None
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = _whole(node.left, names), _whole(node.right, names)
        return None if left is None or right is None else _ARITHMETIC[type(node.op)](left, right)
    return None


_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
