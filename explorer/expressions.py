"""A formula that a reader types, as one line of Python over a few variables."""

import ast
from collections.abc import Sequence

MOST_CHARACTERS = 500

_PLAIN = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Call, ast.keyword, ast.Attribute, ast.Name, ast.Constant, ast.Load),
    *(ast.Compare, ast.List, ast.Tuple, ast.operator, ast.unaryop, ast.cmpop),
)
_NAMES = ("torch", "math", "abs", "pow")
# Signs of printed formulas -> Python's.
_SIGNS = {"\u2212": "-", "\u00b7": "*", "\u00d7": "*", "\u00f7": "/"}
_SIGNS |= {power: f"**{number}" for number, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


def check_expression(text: str, variables: Sequence[str]) -> tuple[str, set[str]]:
    """The text in one line, and those of the variables that it uses.

    The expression may use numbers, operators, brackets, ``torch`` functions, methods (``x.sin()``) and ``math.pi``.
    Raises ValueError in words for a reader for anything else. It is not evaluated here, and a program made from it is
    checked like any other.
    """
    line = " ".join(text.split())
    names = " and ".join(variables)
    if not line:
        raise ValueError(f"there is no function: type one of {names}, such as x**2 + torch.sin(y)")
    if len(line) > MOST_CHARACTERS:
        raise ValueError(f"the function has {len(line)} characters; at most {MOST_CHARACTERS} can be used")
    for character in line:
        if character in _SIGNS:
            raise ValueError(f"write {_SIGNS[character]} for {character}, as in x**2 - 3 * y")
    try:
        tree = ast.parse(line, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(_explain_syntax(line, error)) from None
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        _check_node(node, variables)
    if not used & set(variables):
        raise ValueError(f"the function does not depend on {' or '.join(variables)}: it is flat, and nothing descends")
    return line, used & set(variables)


def _explain_syntax(line: str, error: Exception) -> str:
    try:
        ast.parse(line)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        message = error.msg if isinstance(error, SyntaxError) else "too deep"
        where = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        return f"Python cannot read the function ({message}{where}); write 2 * x for 2x, and close every bracket"
    return "type the expression alone, without an assignment or a command: x**2 + y**2"


def _check_node(node: ast.AST, variables: Sequence[str]) -> None:
    if not isinstance(node, _PLAIN):
        raise ValueError(
            f"{type(node).__name__} cannot stand in a function here; use numbers, operators and torch functions"
        )
    if isinstance(node, ast.BitXor):
        raise ValueError("^ is not a power in Python: write x**2")
    if isinstance(node, ast.Constant) and type(node.value) not in (int, float):
        raise ValueError(f"{node.value!r} is not a real number")
    if isinstance(node, ast.Name) and node.id not in (*variables, *_NAMES):
        hint = f"the variables are {' and '.join(variables)}"
        if node.id in _FUNCTIONS:
            hint = f"write {_FUNCTIONS[node.id]}"
        raise ValueError(f"{node.id!r} is not known here: {hint}")
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "math"
    ):
        raise ValueError(f"math.{node.func.attr} gives a number without a gradient: write torch.{node.func.attr}")


# Names that people type as in a formula -> what they are called in a program.
_FUNCTIONS = {
    name: f"torch.{name}"
    for name in (
        *(
            "sin",
            "cos",
            "tan",
            "exp",
            "log",
            "log2",
            "log10",
            "sqrt",
            "tanh",
            "sinh",
            "cosh",
            "sigmoid",
            "relu",
            "sign",
        ),
        *("minimum", "maximum", "asin", "acos", "atan", "atan2", "square", "floor", "ceil", "erf", "where", "clamp"),
    )
} | {"pi": "math.pi", "e": "math.e", "ln": "torch.log", "min": "torch.minimum", "max": "torch.maximum"}
