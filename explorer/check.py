"""Program -> the checked syntax tree that may run, or the one Problem that refuses it: line, reason and what to do.

The rule is a closed world: a kind of syntax that is not listed is refused, and so is an attribute name that neither
``policy`` allows nor the program itself defines. This keeps honest programs in a room where nothing breaks; the wall
against dishonest ones is the worker's process.
"""

import ast
import builtins
import difflib
import re
import string
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import NoReturn

from explorer import policy
from explorer.program import FILENAME, Program, set_knobs
from explorer.recording import Problem

MAX_BYTES = 64 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 100
_TOO_LONG = ("It is too long for one page.", "Use a loop for what repeats, or split the program.")
_UNREADABLE = re.compile("[\0\ud800-\udfff]")


class Refused(Exception):
    """A program that does not run; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def check_program(program: Program) -> ast.Module:
    """The tree of a program that may run, its knobs written in.

    Raises Refused, whose problem is of type "Refused", "SyntaxError", "EmptyProgram" or "KnobError".
    """
    tree = _parse(program.source)
    nodes = _measure(tree)
    _Validator(nodes).validate()
    _compile(tree)
    try:
        return set_knobs(tree, program.knobs)
    except ValueError as error:
        hint = "Choose a knob that the program has, and a number for it."
        raise Refused(Problem("KnobError", str(error), explanation="A knob could not be set.", hint=hint)) from None


def _parse(source: str) -> ast.Module:
    if len(source.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        _refuse(f"the program is longer than {MAX_BYTES // 1024} kB", None, *_TOO_LONG)
    if bad := _UNREADABLE.search(source):
        message = "source code string cannot contain null bytes" if bad[0] == "\0" else "surrogates not allowed"
        line, explanation = source.count("\n", 0, bad.start()) + 1, "The text holds a character that no program can."
        hint = "Delete the invisible character, or type the line again."
        raise Refused(Problem("SyntaxError", message, line, 0, explanation, hint))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, FILENAME)
    except SyntaxError as error:
        raise Refused(_syntax_problem(error, source)) from None
    except (RecursionError, MemoryError):
        _refuse_depth(None)
    if not tree.body:
        hint = "Type a line, for example: x = torch.tensor(2.0, requires_grad=True)"
        raise Refused(
            Problem("EmptyProgram", "the program is empty", explanation="There is nothing to run.", hint=hint)
        )
    return tree


def _compile(tree: ast.Module) -> None:
    """Find what only the compiler knows: ``return`` outside of a function, ``nonlocal`` at top level."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(tree, FILENAME, "exec")
    except SyntaxError as error:
        raise Refused(_syntax_problem(error, "")) from None
    except (RecursionError, MemoryError, ValueError):
        _refuse_depth(None)


def _measure(tree: ast.Module) -> list[ast.AST]:
    """All nodes of a tree that is neither too large nor too deep."""
    nodes: list[ast.AST] = []
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            _refuse_depth(node)
        nodes.append(node)
        if len(nodes) > MAX_NODES:
            _refuse(f"the program has more than {MAX_NODES} parts", None, *_TOO_LONG)
        waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
    return nodes


def _refuse_depth(node: ast.AST | None) -> NoReturn:
    hint = "Give the inner parts names on lines of their own, or use a loop."
    _refuse("the program is nested too deeply", node, f"Brackets or blocks stand more than {MAX_DEPTH} deep.", hint)


def _refuse(message: str, node: ast.AST | None, explanation: str, hint: str) -> NoReturn:
    raise Refused(_problem(message, node, explanation, hint))


def _problem(message: str, node: ast.AST | None, explanation: str, hint: str) -> Problem:
    return Problem(
        "Refused", message, getattr(node, "lineno", None), getattr(node, "col_offset", None), explanation, hint
    )


# Python's message -> what it means and what to do; the first that matches counts.
_SYNTAX_HINTS = (
    ("was never closed", "A bracket is open to the end of the program.", "Close it with its partner: ) ] or }."),
    ("unmatched", "A bracket is closed that was never opened.", "Delete it, or open it earlier."),
    ("does not match", "A bracket is closed by one of another kind.", "Pair ( with ), [ with ] and { with }."),
    ("expected ':'", "A line that begins a block ends with a colon.", "Add : at the end of the line."),
    (
        "expected an indented block",
        "A line that ends with : needs a block below it.",
        "Indent the next line by 4 spaces.",
    ),
    ("unindent does not match", "The line fits no block above it.", "Use 4 spaces for each level, everywhere."),
    ("unexpected indent", "The line starts further to the right than the one above.", "Remove the spaces before it."),
    ("inconsistent use of tabs", "Tabs and spaces are mixed.", "Use spaces only."),
    ("unterminated", "A text in quotes has no end.", "Add the missing quote."),
    ("Missing parentheses in call", "print is a function.", "Write print(...)."),
    ("Maybe you meant '=='", "One = assigns, two compare.", "Write == to compare."),
    ("invalid decimal literal", "A name cannot begin with a digit.", "Begin it with a letter."),
    ("forgot a comma", "Two values stand side by side.", "Put a comma or an operator between them."),
    ("outside function", "It only has a meaning inside of a function.", "Put it into a function, or delete it."),
    ("outside loop", "It only has a meaning inside of a loop.", "Put it into a loop, or delete it."),
    ("for integer string conversion", "The number has too many digits.", "Write it as a power, for example 10**100."),
    ("too many", "Brackets or blocks are nested too deeply.", "Give the inner parts names on lines of their own."),
)


def _syntax_problem(error: SyntaxError, source: str) -> Problem:
    line, column = error.lineno or 1, max((error.offset or 1) - 1, 0)
    lines = source.splitlines()
    text = lines[line - 1].lstrip() if line <= len(lines) else ""
    message = error.msg or "invalid syntax"
    if text.startswith(("!", "%")):
        explanation, hint = (
            "It is a command of a notebook, not Python.",
            "Delete the line; what is needed is installed.",
        )
    elif text.startswith(">>>"):
        explanation, hint = "It is the prompt of an interactive Python.", "Delete the >>> at the start of the lines."
    else:
        found = [rest for part, *rest in _SYNTAX_HINTS if part in message]
        default = [
            "Python cannot read this line.",
            "Look at it and at the one above: brackets, commas, quotes, colons.",
        ]
        explanation, hint = found[0] if found else default
    return Problem("SyntaxError", message, line, column, explanation, hint)


_PLAIN = {
    getattr(ast, name)
    for name in policy.words("""
    Module Expr Assign AugAssign AnnAssign Delete Return Pass Break Continue If For While With withitem Raise Try Assert
    Global Nonlocal FunctionDef Lambda arguments arg ClassDef Import ImportFrom alias ExceptHandler keyword
    Yield YieldFrom Name Constant Tuple List Set Dict ListComp SetComp DictComp GeneratorExp comprehension
    Attribute Subscript Slice Starred Call BinOp UnaryOp BoolOp Compare IfExp NamedExpr JoinedStr FormattedValue
    Load Store Del Match match_case MatchValue MatchSingleton MatchSequence MatchMapping MatchStar MatchAs MatchOr
    """)
} | {kind for family in (ast.operator, ast.unaryop, ast.boolop, ast.cmpop) for kind in family.__subclasses__()}
_UNKNOWN_SYNTAX = {
    "AsyncFunctionDef": ("async functions", "Write a plain function: def instead of async def."),
    "AsyncFor": ("async loops", "Write a plain for loop."),
    "AsyncWith": ("async with", "Write a plain with block."),
    "Await": ("await", "Call the function without await."),
    "MatchClass": ("class patterns", "Test with isinstance(...) and read the attributes yourself."),
    "TryStar": ("except*", "Write a plain except."),
}
_DECORATING_BUILTINS = frozenset({"property", "staticmethod", "classmethod"})
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


class _Validator:
    """One program's nodes against the policy; collects every problem, so that the first line counts."""

    def __init__(self, nodes: list[ast.AST]) -> None:
        self.nodes = nodes
        self.problems: list[Problem] = []
        self.bound: set[str] = set()
        self.own_classes: set[str] = set()
        self.defined: set[str] = set()
        self.prefixes: tuple[str, ...] = ()
        self.imported: dict[str, str] = dict(policy.PREDEFINED_MODULES)
        self.called: dict[int, ast.Call] = {}
        self.class_names: set[int] = set()

    def validate(self) -> None:
        """Raises Refused with the first problem in the text."""
        self._collect()
        for node in self.nodes:
            kind = type(node)
            if kind not in _PLAIN:
                name, hint = _UNKNOWN_SYNTAX.get(kind.__name__, (f"{kind.__name__}", "Write it in another way."))
                self._add(f"{name} cannot be used here", node, "This part of Python is not available here.", hint)
                continue
            check = _CHECKS.get(kind)
            if check is not None:
                check(self, node)
        if self.problems:
            raise Refused(min(self.problems, key=lambda problem: (problem.line or 0, problem.column or 0)))

    def _add(self, message: str, node: ast.AST, explanation: str, hint: str) -> None:
        self.problems.append(_problem(message, node, explanation, hint))

    def _collect(self) -> None:
        """What the program binds, defines and imports, and where a special attribute stands in a safe form."""
        bind, prefixes, imports, classes = self.bound.add, [], [], set()
        for node in self.nodes:
            match node:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                    bind(name)
                case ast.arg(arg=name):
                    bind(name)
                case ast.FunctionDef(name=name):
                    bind(name)
                case ast.ClassDef(name=name):
                    classes.add(name)
                case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    bind(name)
                case ast.MatchMapping(rest=str(name)):
                    bind(name)
                case ast.Attribute(attr=name, ctx=ast.Store()):
                    self.defined.add(name)
                case ast.keyword(arg=str(name)):
                    self.defined.add(name)
                case ast.Constant(value=str(text)) if len(text) < 200:
                    # setattr(self, "w", ...), register_buffer("mask", ...), namedtuple("Batch", "x y")
                    self.defined.update(_IDENTIFIER.findall(text))
                case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]) if text.isidentifier():
                    prefixes.append(text)
                case ast.Call(func=function):
                    self.called[id(function)] = node
                case ast.Import() | ast.ImportFrom():
                    imports.append(node)
            if isinstance(node, ast.Attribute) and node.attr in ("__name__", "__qualname__"):
                self.class_names.add(id(node.value))
        self.defined |= self.bound | classes
        self.prefixes = tuple(prefixes)
        for node in imports:
            self._bind_import(node)
        self.own_classes = classes - self.bound - self.imported.keys()
        self.bound |= classes
        for name in self.bound:
            self.imported.pop(name, None)

    def _bind_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                name = alias.asname or alias.name.partition(".")[0]
                module = alias.name if alias.asname else name
            else:
                name, module = alias.asname or alias.name, f"{node.module}.{alias.name}"
            if module in policy.rooms() and self.imported.get(name, module) == module:
                self.imported[name] = module
            else:
                self.bound.add(name)

    def _module_of(self, node: ast.expr) -> str | None:
        """The dotted name of the module that an expression surely is."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id)
        if isinstance(node, ast.Attribute) and (parent := self._module_of(node.value)):
            return policy.rooms()[parent].children.get(node.attr)
        return None

    def _check_attribute(self, node: ast.Attribute) -> None:
        name = node.attr
        module = self._module_of(node.value)
        if module is not None:
            self._check_member(module, name, node)
        elif policy.is_dunder(name):
            self._check_dunder(node)
        elif name in ("format", "format_map"):
            self._check_format(node)
        elif name in policy.attribute_names() or name.startswith(policy.READABLE_PREFIXES):
            return
        elif policy.is_reserved(name):
            explanation, hint = policy.why_denied(name) if not name.startswith("_") else _INSIDE
            if (explanation, hint) == policy.why_denied(""):
                explanation, hint = _INSIDE
            self._add(f"the attribute {name!r} cannot be used here", node, explanation, hint)
        elif name not in self.defined and not (self.prefixes and name.startswith(self.prefixes)):
            close = _did_you_mean(name, policy.attribute_names() | self.defined)
            explanation = "Nothing in PyTorch or in this program has an attribute of this name that may be used here."
            hint = f"Write .{close} if that is what you mean." if close else "Look at the spelling, or define it first."
            self._add(f"unknown attribute {name!r}{_suggest(close)}", node, explanation, hint)

    def _check_member(self, module: str, name: str, node: ast.Attribute | ast.ImportFrom) -> None:
        room = policy.rooms()[module]
        if name not in room.names:
            if room.real is not None and name in vars(room.real) and not policy.is_dunder(name):
                explanation, hint = policy.why_denied(name)
                self._add(f"{module}.{name} cannot be used here", node, explanation, hint)
                return
            close = _did_you_mean(name, room.names)
            hint = f"Write {close} if that is what you mean." if close else "Look the name up in the documentation."
            message = f"module {module!r} has no attribute {name!r}{_suggest(close)}"
            self._add(message, node, "The module has nothing of this name.", hint)
        elif isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) and name not in policy.WRITABLE.get(
            module, ()
        ):
            hint = "Give your own version a name of its own."
            self._add(f"{module}.{name} cannot be assigned", node, "Modules are read-only here.", hint)

    def _check_dunder(self, node: ast.Attribute) -> None:
        name = node.attr
        if isinstance(node.ctx, ast.Load):
            if name in policy.READABLE_DUNDERS or (name == "__class__" and id(node) in self.class_names):
                return
            if name in policy.DEFINABLE and id(node) in self.called and name not in _BY_RUN_TIME_NAME:
                return
            if (
                name in _BY_RUN_TIME_NAME
                and id(node) in self.called
                and self._is_own_name(node.value, self.called[id(node)], name)
            ):
                return
        hint = policy.DUNDER_HINTS.get(name, "Use the public way: type(x).__name__, len(x), str(x), getattr(x, name).")
        self._add(f"the attribute {name!r} cannot be used here", node, _INSIDE[0], hint)

    def _is_own_name(self, receiver: ast.expr, call: ast.Call, method: str) -> bool:
        """Whether ``super().__setattr__(name, value)`` or ``object.__setattr__(self, "name", value)`` does no harm.

        A name that is only known at run time must be of an attribute of an instance of the program's own class: the
        number of arguments and the class tell, for ``super(int, int).__setattr__(anything, name, value)`` is more.
        """
        match receiver, call.args:
            case ast.Call(func=ast.Name(id="super")), _ if "super" in self.bound:
                return False
            case ast.Call(func=ast.Name(id="super")), [ast.Constant(value=str(name)), *_]:
                return policy.is_safe_attribute(name)
            case ast.Call(func=ast.Name(id="super"), args=[] | [ast.Name(), _] as of), [*names]:
                count = 2 if method == "__setattr__" else 1
                is_whole = not call.keywords and not any(isinstance(argument, ast.Starred) for argument in names)
                return is_whole and len(names) == count and (not of or of[0].id in self.own_classes)
            case ast.Name(id="object"), [_, ast.Constant(value=str(name)), *_] if "object" not in self.bound:
                return policy.is_safe_attribute(name)
        return False

    def _check_format(self, node: ast.Attribute) -> None:
        text = node.value.value if isinstance(node.value, ast.Constant) else None
        if node.attr != "format" or not isinstance(text, str) or id(node) not in self.called or not _is_simple(text):
            explanation = "format is only available on a text in quotes with plain fields, as in '{:.2f}'.format(loss)."
            self._add(
                f"this use of {node.attr!r} is not available here", node, explanation, 'Write f"{loss:.2f}" instead.'
            )

    def _check_name(self, node: ast.Name) -> None:
        name = node.id
        if policy.is_dunder(name):
            if name not in policy.DEFINABLE and not (name == "__name__" and isinstance(node.ctx, ast.Load)):
                self._refuse_dunder_name(name, node)
        elif name not in self.bound and hasattr(builtins, name) and name not in policy.builtin_names():
            hint = policy.BUILTIN_HINTS.get(name, "Leave it out of a program here.")
            self._add(f"{name!r} cannot be used here", node, "This built-in is not available to a program here.", hint)

    def _refuse_dunder_name(self, name: str, node: ast.AST) -> None:
        hint = policy.BUILTIN_HINTS.get(name) or policy.DUNDER_HINTS.get(
            name, "Choose a name without two underscores on both sides."
        )
        self._add(
            f"the name {name!r} cannot be used here", node, "Python keeps this name for its own inner workings.", hint
        )

    def _check_bound(self, names: Iterable[str | None], node: ast.AST) -> None:
        for name in names:
            if name and policy.is_dunder(name) and name not in policy.DEFINABLE:
                self._refuse_dunder_name(name, node)

    def _check_function(self, node: ast.FunctionDef) -> None:
        self._check_bound([node.name], node)
        self._check_decorators(node.decorator_list)

    def _check_class(self, node: ast.ClassDef) -> None:
        self._check_bound([node.name], node)
        self._check_decorators(node.decorator_list)
        for keyword in node.keywords:
            explanation = "A class here is made by its bases alone."
            hint = "Write class Shape(ABC): for an abstract class; leave other keywords out."
            self._add(f"the class keyword {keyword.arg!r} cannot be used here", keyword, explanation, hint)
        for statement in node.body:
            match statement:
                case ast.FunctionDef(name=name):
                    names = [name]
                case ast.Assign(targets=targets):
                    names = [target.id for target in targets if isinstance(target, ast.Name)]
                case ast.AnnAssign(target=ast.Name(id=name)):
                    names = [name]
                case _:
                    continue
            for name in names:
                if policy.is_reserved(name) and not policy.is_dunder(name):
                    self._add(f"the name {name!r} cannot be used in a class here", statement, *_INSIDE)

    def _check_decorators(self, decorators: list[ast.expr]) -> None:
        for decorator in decorators:
            if not isinstance(decorator, ast.Name) or decorator.id in self.bound | _DECORATING_BUILTINS:
                continue
            if decorator.id in policy.builtin_names():
                hint = "Call the function on a line of its own."
                self._add(
                    f"{decorator.id!r} cannot be a decorator here",
                    decorator,
                    "It would replace what it decorates.",
                    hint,
                )

    def _check_handler(self, node: ast.ExceptHandler) -> None:
        self._check_bound([node.name], node)
        if node.type is None:
            explanation = "A bare except also catches the signal that stops a program."
            self._add("bare 'except:' cannot be used here", node, explanation, "Write except Exception: instead.")

    def _check_import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check_bound([alias.asname], node)
            self._check_module(alias.name, node)

    def _check_import_from(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            explanation, hint = (
                "A program here is one file; there is nothing beside it.",
                "Put the code into the program.",
            )
            self._add("relative imports cannot be used here", node, explanation, hint)
        elif self._check_module(node.module, node):
            for alias in node.names:
                self._check_bound([alias.asname], node)
                if alias.name != "*":
                    self._check_member(node.module, alias.name, node)

    def _check_module(self, name: str, node: ast.AST) -> bool:
        if name in policy.rooms():
            return True
        top, _, rest = name.partition(".")
        hint = policy.module_hint(name)
        if top in policy.rooms():
            explanation, denied_hint = policy.why_denied(rest.split(".")[0])
            self._add(f"the module {name!r} cannot be imported here", node, explanation, hint or denied_hint)
        elif hint or name in sys.stdlib_module_names:
            explanation = "Programs here use PyTorch, NumPy and the plain parts of Python's library."
            self._add(f"the module {name!r} cannot be imported here", node, explanation, hint or "Leave it out.")
        else:
            close = _did_you_mean(name, policy.rooms())
            hint = (
                f"Write import {close} if that is what you mean."
                if close
                else "Leave it out: only PyTorch and NumPy are here."
            )
            self._add(f"No module named {name!r}{_suggest(close)}", node, "There is no module of this name here.", hint)
        return False


_INSIDE = (
    "It belongs to the inner workings of Python or PyTorch, which a program here does not touch.",
    "If it is your own attribute, give it another name.",
)
# They take the attribute's name when the program runs.
_BY_RUN_TIME_NAME = frozenset({"__getattr__", "__setattr__", "__delattr__"})


def _is_simple(text: str) -> bool:
    """Whether every field of a format string is a plain name or number, without attributes and indices."""
    try:
        fields = [(field, spec or "") for _, field, spec, _ in string.Formatter().parse(text) if field is not None]
    except ValueError:
        # Python's own error at run time is clearer than ours.
        return True
    return all(re.fullmatch(r"\w*", field) and _is_simple(spec) for field, spec in fields)


def _did_you_mean(name: str, known: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(name, [word for word in known if word[:1] != "_" or name[:1] == "_"], 1, 0.72)
    return close[0] if close else None


def _suggest(close: str | None) -> str:
    return f". Did you mean: {close!r}?" if close else ""


_CHECKS: dict[type[ast.AST], Callable[[_Validator, ast.AST], None]] = {
    ast.Attribute: _Validator._check_attribute,
    ast.Name: _Validator._check_name,
    ast.FunctionDef: _Validator._check_function,
    ast.ClassDef: _Validator._check_class,
    ast.ExceptHandler: _Validator._check_handler,
    ast.Import: _Validator._check_import,
    ast.ImportFrom: _Validator._check_import_from,
    ast.arg: lambda self, node: self._check_bound([node.arg], node),
    ast.keyword: lambda self, node: self._check_bound([node.arg], node.value),
    ast.Global: lambda self, node: self._check_bound(node.names, node),
    ast.Nonlocal: lambda self, node: self._check_bound(node.names, node),
    ast.MatchAs: lambda self, node: self._check_bound([node.name], node),
    ast.MatchStar: lambda self, node: self._check_bound([node.name], node),
    ast.MatchMapping: lambda self, node: self._check_bound([node.rest], node),
}
