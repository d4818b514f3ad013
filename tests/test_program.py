"""What a program's text says without running it: its knobs, and how often its loops go round."""

import ast
from types import SimpleNamespace

import pytest

from explorer.program import Program, find_knobs, find_loops, find_options, set_knobs, write_knobs


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
        ("opt = optim.SGD([w], 0.1)", {"lr": 0.1}),
        ("lr = 0.5\nopt = optim.SGD([w], 0.1)", {}),
        ("lr = 0.5\nopt = optim.SGD([w], lr)", {"lr": 0.5}),
        ("s = optim.lr_scheduler.StepLR(opt, 10, gamma=0.5)", {}),
        ("x = torch.tensor(2.0, requires_grad=True)", {"x": 2.0}),
        ("x = torch.tensor(-2.5, requires_grad=True)", {"x": -2.5}),
        ("x = torch.tensor(2.0)\ny = torch.tensor(2.0, requires_grad=False)", {}),
        ("x = torch.tensor([2.0], requires_grad=True)\ny = torch.tensor(2, requires_grad=True)", {}),
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


@pytest.mark.parametrize(
    ("source", "live"),
    [
        ("rate = 0.1\nfor i in range(3):\n    w = w - rate * g", {"rate"}),
        ("steps = 3\nrate = 0.1\nfor i in range(steps):\n    w = w - rate * g", {"rate"}),
        ("steps = 3\nfor epoch in range(9):\n    for i in range(steps):\n        pass", {"steps"}),
        ("go = 1\nwhile go:\n    pass", {"go"}),
        ("rate = 0.1\ndef step(w):\n    return w - rate * g", {"rate"}),
        ("rate = 0.1\nstep = lambda w: w - rate * g", {"rate"}),
        ("hidden = 3\nclass Net(nn.Module):\n    def __init__(self):\n        self.l = nn.Linear(1, hidden)", set()),
        ("hidden = 3\nmodel = nn.Linear(1, hidden)\nfor i in range(3):\n    model(x)", set()),
        ("rate = 0.1\nopt = optim.SGD(ps, lr=rate)", {"rate"}),
        ("rate = 0.1\nopt = optim.SGD(ps, rate, momentum=0.9)", {"rate", "momentum"}),
        ("rate = 0.1\nopt = optim.SGD(ps, lr=2 * rate)", set()),
        ("i = 3\nfor i in range(2):\n    pass", set()),
        ("x = torch.tensor(2.0, requires_grad=True)\nfor i in range(3):\n    (x * x).backward()", set()),
    ],
)
def test_knob_is_live_where_it_is_read_as_the_run_goes_on(source: str, live: set) -> None:
    assert {name for name, knob in find_knobs(ast.parse(source)).items() if knob.is_live} == live


def test_a_parameter_of_a_function_is_another_number_than_the_knob_of_its_name() -> None:
    source = (
        "lr = 0.1\nepochs = 5\nscale = 2.0\ncount = 0\n"
        "def train(lr, epochs):\n    global count\n    for i in range(epochs):\n        step = lr * scale * count\n"
        "train(lr, epochs)\n"
    )
    assert {name for name, knob in find_knobs(ast.parse(source)).items() if knob.is_live} == {"scale", "count"}
    source = "lr = 0.1\ndef make(lr):\n    return optim.SGD([w], lr=lr)\nmake(0.5)\no = optim.SGD([w], lr=lr)\n"
    assert find_options(ast.parse(source)) == {(3, 11): {}, (5, 4): {"lr": "lr"}}


def test_a_number_too_large_for_a_float_is_no_knob() -> None:
    assert find_knobs(ast.parse(f"a = 1{'0' * 400}\nb = 1e999\nc = 2\n")).keys() == {"c"}


def test_start_value_of_a_leaf_is_told_from_other_numbers() -> None:
    knobs = find_knobs(ast.parse("rate = 2.0\nx = torch.tensor(2.0, requires_grad=True)\n"))
    assert {name: knob.is_start for name, knob in knobs.items()} == {"rate": False, "x": True}


def test_options_of_each_optimizer_name_the_knobs_that_they_are_built_from() -> None:
    source = (
        "a = optim.SGD(ps, lr=rate, momentum=0.9)\nb = torch.optim.Adam(ps, rate)\n"
        "def build():\n    return optim.AdamW(\n        ps, 0.1, weight_decay=decay, betas=(0.9, 0.99), eps=f(1))\n"
    )
    assert find_options(ast.parse(source)) == {
        (1, 4): {"lr": "rate", "momentum": "momentum"},
        (2, 4): {"lr": "rate"},
        (4, 11): {"lr": "lr", "weight_decay": "decay"},
    }


@pytest.mark.parametrize(
    ("source", "knobs", "expected"),
    [
        ("rate = 0.5  # slow", {"rate": 0.25}, "rate = 0.25  # slow"),
        ("rate = 0.5", {"rate": -0.25}, "rate = -0.25"),
        ("rate = -0.5\n", {"rate": 2}, "rate = 2.0\n"),
        ("steps = - 5", {"steps": -7.0}, "steps = -7"),
        ("steps = 1_000", {"steps": 20}, "steps = 20"),
        ("steps = 3", {"steps": 2.5}, "steps = 2.5"),
        ("s = 'größe 学'; rate = 0.5; t = 'é'", {"rate": 1e-05}, "s = 'größe 学'; rate = 1e-05; t = 'é'"),
        ("a = 1; b = 2; c = 3", {"c": 300, "a": 10}, "a = 10; b = 2; c = 300"),
        ("a = 1\r\nb = 2\r\n", {"b": 5}, "a = 1\r\nb = 5\r\n"),
        ("a = '\x0c\x1c\u2028'\nb = 2\n", {"b": 5}, "a = '\x0c\x1c\u2028'\nb = 5\n"),
        ("o = optim.SGD(p, 0.1, momentum=0.9)", {"lr": 3, "momentum": 0}, "o = optim.SGD(p, 3.0, momentum=0.0)"),
        (
            "o = optim.SGD(\n    p,\n    lr=0.1,\n    momentum=0.9)",
            {"momentum": 0.5, "lr": 1.5},
            "o = optim.SGD(\n    p,\n    lr=1.5,\n    momentum=0.5)",
        ),
        ("x = torch.tensor(2.0, requires_grad=True)", {"x": -3}, "x = torch.tensor(-3.0, requires_grad=True)"),
        ("a = 1", {}, "a = 1"),
    ],
)
def test_knobs_are_written_where_their_literals_stand(source: str, knobs: dict, expected: str) -> None:
    written = write_knobs(source, knobs)
    assert written == expected
    known = {**knobs_of(source), **knobs}
    assert knobs_of(written) == known


def test_text_is_not_written_with_what_is_no_knob_or_no_number() -> None:
    with pytest.raises(ValueError, match="'speed'; its knobs: rate"):
        write_knobs("rate = 1", {"speed": 2})
    with pytest.raises(ValueError, match="finite"):
        write_knobs("rate = 1", {"rate": float("nan")})
    with pytest.raises(SyntaxError):
        write_knobs("rate = ", {"rate": 1})


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "1", None, [1], 10**400])
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
