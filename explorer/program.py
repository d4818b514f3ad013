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
    """A number literal that a page may move.

    That is ``name = 0.03`` at top level, ``lr=0.03`` given to an optimizer, and the 2.0 of a leaf
    ``x = torch.tensor(2.0, requires_grad=True)``, which is then called ``x`` and ``is_start``. A knob that ``is_live``
    changes a run that goes on; any other number is read before the loop, so that moving it starts the run again.
    Columns count bytes of UTF-8.
    """

    name: str
    value: int | float
    line: int
    column: int
    end_column: int
    is_live: bool = False
    is_start: bool = False


def find_knobs(tree: ast.Module) -> dict[str, Knob]:
    """The knobs of a parsed program by name; a name assigned twice at top level is no knob."""
    found: dict[str, Knob] = {}
    again: set[str] = set()
    live = _names_read_while_it_runs(tree) | {knob for given in find_options(tree).values() for knob in given.values()}
    for name, literal, is_start in _knob_literals(tree):
        if name in found:
            again.add(name)
        end = literal.end_col_offset or literal.col_offset
        place = (literal.lineno, literal.col_offset, end)
        found[name] = Knob(name, _number(literal), *place, name in live and not is_start, is_start)
    return {name: knob for name, knob in found.items() if name not in again}


def find_options(tree: ast.AST) -> dict[tuple[int, int], dict[str, str]]:
    """What each optimizer is built from: line and column of the call, then knob by name of the option.

    ``optim.SGD(params, lr=learning_rate)`` gives {"lr": "learning_rate"}, ``lr=0.1`` {"lr": "lr"}.
    """
    found = {}
    stack: list[tuple[ast.AST, frozenset[str]]] = [(tree, frozenset())]
    while stack:
        node, own = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            own = own | _own_names(node)
        if isinstance(node, ast.Call) and _is_optimizer(node.func):
            given = [("lr", node.args[1])] if len(node.args) > 1 else []
            given += [(word.arg, word.value) for word in node.keywords if word.arg]
            found[node.lineno, node.col_offset] = {
                option: value.id if isinstance(value, ast.Name) else option
                for option, value in given
                if (isinstance(value, ast.Name) and value.id not in own) or _is_number(value)
            }
        stack.extend((child, own) for child in ast.iter_child_nodes(node))
    return found


def find_assigned(tree: ast.Module) -> set[str]:
    """The names that are assigned at top level."""
    found: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            found |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found.add(statement.target.id)
    return found


def write_knobs(source: str, knobs: Mapping[str, float]) -> str:
    """The text with the values of these knobs written into it.

    Raises SyntaxError for a text that is not Python, ValueError as ``set_knobs``.
    """
    tree = ast.parse(source)
    known = find_knobs(tree)
    set_knobs(tree, knobs)
    lines = source.encode().splitlines(keepends=True)
    for name in sorted(knobs, key=lambda name: (known[name].line, known[name].column), reverse=True):
        knob = known[name]
        text = repr(as_kind_of(knob.value, knobs[name])).encode()
        line = lines[knob.line - 1]
        lines[knob.line - 1] = line[: knob.column] + text + line[knob.end_column :]
    return b"".join(lines).decode()


def set_knobs(tree: ast.Module, knobs: Mapping[str, float]) -> ast.Module:
    """Write knob values into the literals of ``tree``, in place; line and column of every node stay.

    Raises ValueError for a name that is no knob of the program and for a value that is not a finite number.
    """
    known = find_knobs(tree)
    for name, value in knobs.items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ValueError(f"the program has no knob named {name!r}; its knobs: {names}")
        if not is_finite_number(value):
            raise ValueError(f"knob {name} must be a finite number, got {value!r}")
    for name, literal, _ in _knob_literals(tree):
        if name in knobs and name in known:
            constant = literal.operand if isinstance(literal, ast.UnaryOp) else literal
            value = knobs[name] if constant is literal else -knobs[name]
            constant.value = as_kind_of(known[name].value, value)
    return tree


def as_kind_of(known: int | float, value: float) -> int | float:
    """A whole number stays one where the text had one; 2 instead of 2.0 would make another dtype."""
    return int(value) if isinstance(known, int) and float(value).is_integer() else float(value)


def is_finite_number(value: Any) -> bool:
    """Whether a knob can be set to it; an int too large for a float is none."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def _number(literal: ast.expr) -> int | float:
    return -literal.operand.value if isinstance(literal, ast.UnaryOp) else literal.value


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) in (int, float) and is_finite_number(node.value)


def _knob_literals(tree: ast.Module) -> Iterator[tuple[str, ast.expr, bool]]:
    """Name, literal, and whether it is the start value of a leaf."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if isinstance(target, ast.Name):
            if _is_number(value):
                yield target.id, value, False
            elif (start := _start_of_leaf(value)) is not None:
                yield target.id, start, True
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _is_optimizer(call.func):
            if len(call.args) > 1 and _is_number(call.args[1]):
                yield "lr", call.args[1], False
            yield from ((word.arg, word.value, False) for word in call.keywords if word.arg and _is_number(word.value))


def _start_of_leaf(value: ast.expr) -> ast.expr | None:
    """The number in ``torch.tensor(2.0, requires_grad=True)``."""
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "tensor"):
        return None
    is_leaf = any(
        word.arg == "requires_grad" and isinstance(word.value, ast.Constant) and word.value.value is True
        for word in value.keywords
    )
    is_float = len(value.args) == 1 and _is_number(value.args[0]) and isinstance(_number(value.args[0]), float)
    return value.args[0] if is_leaf and is_float else None


def _names_read_while_it_runs(tree: ast.Module) -> set[str]:
    """Names that a loop or a function reads each time it goes round."""
    found: set[str] = set()
    stack: list[tuple[ast.AST, bool, frozenset[str]]] = [(tree, False, frozenset())]
    while stack:
        node, is_again, own = stack.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and is_again and node.id not in own:
            found.add(node.id)
        again: list[ast.AST] = []
        if isinstance(node, ast.For):
            again = node.body
        elif isinstance(node, ast.While):
            again = [node.test, *node.body]
        elif isinstance(node, ast.FunctionDef | ast.Lambda):
            # A parameter or a local name of the same name is another number.
            own = own | _own_names(node)
            if not isinstance(node, ast.FunctionDef) or node.name != "__init__":
                again = node.body if isinstance(node, ast.FunctionDef) else [node.body]
        repeated = set(map(id, again))
        stack.extend((child, is_again or id(child) in repeated, own) for child in ast.iter_child_nodes(node))
    return found


def _own_names(function: ast.FunctionDef | ast.Lambda) -> set[str]:
    """The parameters of a function and the names that it assigns, but for those that it calls global."""
    nodes = list(ast.walk(function))
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return own - {name for node in nodes if isinstance(node, ast.Global) for name in node.names}


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
