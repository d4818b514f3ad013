"""What a program's text says without running it: its knobs, and how often its loops go round."""

import ast
from types import SimpleNamespace

import pytest

from explorer.program import Program, find_knobs, find_loops, set_knobs


def knobs_of(source: str) -> dict[str, int | float]:
    return {name: knob.value for name, knob in find_knobs(ast.parse(source)).items()}


@pytest.mark.parametrize(
    ("source", "knobs"),
    [
        ("rate = 0.03", {"rate": 0.03}),
        ("steps = 10", {"steps": 10}),
        ("shift = -2.5", {"shift": -2.5}),
        ("rate: float = 0.5", {"rate": 0.5}),
        ("rate: float", {}),
        ("w = 1e-3\nb = 1_000", {"w": 0.001, "b": 1000}),
        ("flag = True\nname = 'a'\nz = 2j\nnothing = None", {}),
        ("a = b = 1", {}),
        ("a, b = 1, 2", {}),
        ("x.rate = 1\nx[0] = 2", {}),
        ("rate = 0.1 * 2", {}),
        ("rate = +1", {}),
        ("rate += 1", {}),
        ("if True:\n    rate = 1", {}),
        ("def f(rate=1):\n    inner = 2", {}),
        ("rate = 1\nrate = 2", {}),
        ("opt = optim.SGD([w], lr=0.1)", {"lr": 0.1}),
        ("opt = torch.optim.Adam([w], lr=0.1, weight_decay=0.01)", {"lr": 0.1, "weight_decay": 0.01}),
        ("def make():\n    return optim.SGD(ps, lr=-0.5, nesterov=True, betas=(0.9, 0.99))", {"lr": -0.5}),
        ("lr = 0.1\nopt = optim.SGD([w], lr=lr)", {"lr": 0.1}),
        ("lr = 0.1\nopt = optim.SGD([w], lr=0.2)", {}),
        ("a = optim.SGD([w], lr=0.1)\nb = optim.SGD([v], lr=0.2)", {}),
        ("opt = SGD([w], lr=0.1)\nf(lr=0.1)", {}),
    ],
)
def test_number_literals_are_knobs(source: str, knobs: dict) -> None:
    found = knobs_of(source)
    assert found == knobs
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in knobs.items()}


def test_knob_says_where_its_literal_stands() -> None:
    source = "x = 1.0\nrate = -0.25  # slow\nopt = torch.optim.SGD([x], lr=0.5)\n"
    lines = source.splitlines()
    texts = {}
    for knob in find_knobs(ast.parse(source)).values():
        texts[knob.name] = lines[knob.line - 1][knob.column : knob.end_column]
    assert texts == {"x": "1.0", "rate": "-0.25", "lr": "0.5"}


def run_with(source: str, knobs: dict) -> dict:
    tree = set_knobs(ast.parse(source), knobs)
    names: dict = {}
    exec(compile(tree, "<program>", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        ("rate = 0.5", 0.25, 0.25),
        ("rate = 0.5", -0.25, -0.25),
        ("rate = 0.5", 2, 2),
        ("rate = -0.5", -2.0, -2.0),
        ("rate = -0.5", 2.0, 2.0),
        ("rate = -0.5", 0.0, 0.0),
        ("rate: float = 0.5", 0.75, 0.75),
        ("rate = 3", 4.0, 4),
        ("rate = 3", 4.5, 4.5),
        ("rate = -3", -4.0, -4),
    ],
)
def test_knob_value_takes_the_place_of_its_literal(source: str, value: float, expected: float) -> None:
    found = run_with(source, {"rate": value})["rate"]
    assert found == expected
    # range(steps) needs an int where the program had one.
    assert type(found) is int or "3" not in source or value == 4.5


def test_optimizer_keyword_is_set_by_its_name() -> None:
    source = "lr = 5\nopt = torch.optim.SGD([lr], lr=-0.1, momentum=0.9)\nother = f(momentum=0.9)"
    torch = SimpleNamespace(optim=SimpleNamespace(SGD=lambda params, **options: options))
    tree = set_knobs(ast.parse(source), {"momentum": 0.5})
    names: dict = {"torch": torch, "f": lambda **options: options}
    exec(compile(tree, "<program>", "exec"), names)
    assert names["opt"] == {"lr": -0.1, "momentum": 0.5}
    assert names["other"] == {"momentum": 0.9}


def test_setting_knobs_moves_no_line_and_no_column() -> None:
    source = "rate = 0.5\nx = rate * 2\nopt = optim.SGD([x], lr=0.1)\n"
    before, after = ast.parse(source), set_knobs(ast.parse(source), {"rate": 123456.789, "lr": 7})
    places = [[(n.lineno, n.col_offset) for n in ast.walk(tree) if hasattr(n, "lineno")] for tree in (before, after)]
    assert places[0] == places[1]


def test_unknown_knob_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'speed'; its knobs: rate, steps"):
        set_knobs(ast.parse("steps = 1\nrate = 2"), {"speed": 1})
    with pytest.raises(ValueError, match="none"):
        set_knobs(ast.parse("x = y"), {"x": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "1", None, [1]])
def test_knob_that_is_no_finite_number_is_an_error(value: object) -> None:
    with pytest.raises(ValueError, match="finite"):
        set_knobs(ast.parse("rate = 1"), {"rate": value})


def counts_of(source: str, **names: object) -> list[int | None]:
    return [loop.count(names) for loop in find_loops(ast.parse(source))]


@pytest.mark.parametrize(
    ("iterable", "count"),
    [
        ("range(7)", 7),
        ("range(2, 7)", 5),
        ("range(0, 7, 3)", 3),
        ("range(0, 7, step)", None),
        ("range(n)", 5),
        ("range(n * 2 + 1 - n)", 6),
        ("range(0, n, 0)", None),
        ("range(unknown)", None),
        ("range(half)", None),
        ("range(3, 1)", 0),
        ("enumerate(xs)", 3),
        ("enumerate(range(n), 1)", 5),
        ("list(reversed(xs))", 3),
        ("tqdm(range(n))", 5),
        ("trange(n)", 5),
        ("xs", 3),
        ("{'a': 1}", None),
        ("d", 2),
        ("text", None),
        ("number", None),
        ("zip(xs, xs)", None),
        ("f(n)", None),
        ("xs[0]", None),
    ],
)
def test_loop_counts_what_can_be_read(iterable: str, count: int | None) -> None:
    names = {"n": 5, "half": 0.5, "xs": [1, 2, 3], "d": {1: 1, 2: 2}, "text": "abc", "number": 3}
    assert counts_of(f"for i in {iterable}:\n    pass", **names) == [count]


def test_loops_are_found_outer_before_inner_with_lines_and_scope() -> None:
    source = (
        "for a in range(2):\n    for b in range(3):\n        pass\n"
        "def train():\n    for c in range(4):\n        pass\n"
        "class A:\n    def run(self):\n        for d in xs:\n            pass\nwhile True:\n    pass\n[e for e in xs]\n"
    )
    found = [(loop.line, loop.end_line, loop.scope) for loop in find_loops(ast.parse(source))]
    assert found == [(1, 3, "<module>"), (2, 3, "<module>"), (5, 6, "train"), (9, 10, "run")]


def test_plain_program_holds_no_reference_to_its_knobs() -> None:
    knobs = {"rate": 0.5}
    plain = Program("x = 1", "cpu", 3, knobs).to_plain()
    knobs["rate"] = 1.0
    assert plain == {"source": "x = 1", "device": "cpu", "seed": 3, "knobs": {"rate": 0.5}}
