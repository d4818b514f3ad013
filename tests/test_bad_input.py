"""Whatever is typed gives a Recording: in time, in strict JSON, with line and hint; and the next run works."""

import json
import time

import pytest

from explorer.limits import Limits
from explorer.program import Program
from explorer.recording import Recording
from explorer.runner import Runner

LIMITS = Limits(seconds=1.0, training_seconds=1.0, memory_mb=512)
# A program that uses up its time is as endless in half a second.
SHORT = Limits(seconds=0.4, training_seconds=0.4, memory_mb=512)


@pytest.fixture(scope="module", autouse=True)
def warm(runner: Runner) -> None:
    """What a run takes is not what its host takes to start."""
    assert runner.run(Program("x = 1")).status == "ok"


def record(runner: Runner, source: str, limits: Limits = LIMITS) -> Recording:
    """The Recording of ``source``: in time, in strict JSON, and with the next run none the worse."""
    began = time.monotonic()
    run = runner.start(Program(source), limits=limits)
    assert run.wait(limits.seconds + 2.0), "no Recording two seconds after the limit"
    assert time.monotonic() - began < limits.seconds + 1.0
    text = json.dumps(run.plain, allow_nan=False)
    assert Recording.from_json(text) == run.recording()
    assert text.encode("ascii")
    assert run.plain["program"]["source"] == source.replace("\ud800", "?")
    problem = run.recording().problem
    assert (problem is None) == (run.recording().status == "ok")
    if problem is not None:
        assert problem.type and problem.explanation and problem.hint
    after = runner.run(Program("x = torch.tensor(3.0, requires_grad=True)\n(x * x).backward()\n"))
    assert after.variables[0].grad.values == 6.0
    return run.recording()


# name: source, status, type of the problem, line
PROBLEMS: dict[str, tuple[str, str, str, int | None]] = {
    "nothing": ("", "refused", "EmptyProgram", None),
    "blanks": (" \n\t\n", "refused", "EmptyProgram", None),
    "comments": ("# one\n# two\n", "refused", "EmptyProgram", None),
    "syntax": ("x = 1\ny = (2,\n", "error", "SyntaxError", 2),
    "no Python": ("Please draw me a graph", "error", "SyntaxError", 1),
    "null byte": ("x = 1\n\0", "error", "SyntaxError", 2),
    "lone surrogate": ("x = 1\ny = '\ud800'\n", "error", "SyntaxError", 2),
    "no-break space": ("x = 1\ny =\u00a02\n", "error", "SyntaxError", 2),
    "mixed indentation": ("if True:\n\tx = 1\n        y = 2\n", "error", "SyntaxError", 3),
    "long line": ("x = '" + "a" * 100_000 + "'\n", "refused", "Refused", None),
    "long comment": ("x = 1  #" + "a" * 100_000 + "\n", "refused", "Refused", None),
    "many statements": ("x = 1\n" * 6_000, "refused", "Refused", None),
    "name": ("x = 1\neval('x')\n", "refused", "Refused", 2),
    "module": ("x = 1\nimport os\n", "refused", "Refused", 2),
    "exit": ("x = 1\nexit()\n", "refused", "Refused", 2),
    "SystemExit": ("x = 1\nraise SystemExit(3)\n", "refused", "Refused", 2),
    "recursion": ("def f(n):\n    return f(n + 1)\n\nf(0)\n", "error", "RecursionError", 2),
    "unknown": ("x = 1\nprint(y)\n", "error", "NameError", 2),
    "assertion": ("x = 1\nassert x == 2\n", "error", "AssertionError", 2),
    "interrupt": ("x = 1\nraise KeyboardInterrupt\n", "error", "KeyboardInterrupt", 2),
    "no exception": ("x = 1\nraise 5\n", "error", "TypeError", 2),
    "int leaf": ("x = torch.tensor([1, 2], requires_grad=True)\n", "error", "RuntimeError", 1),
    "bool leaf": ("x = torch.tensor(True)\nx.backward()\n", "error", "RuntimeError", 2),
    "complex loss": ("x = torch.tensor(1 + 2j, requires_grad=True)\n(x * x).backward()\n", "error", "RuntimeError", 2),
    "gradient of nothing": ("x = torch.ones(2)\ntorch.autograd.grad(x.sum(), x)\n", "error", "RuntimeError", 2),
    "big integer": ("x = 10**5000\nprint(x)\n", "error", "ValueError", 2),
    "bad hook": (
        "x = torch.ones(1, requires_grad=True)\nx.register_hook(lambda g: 'no')\n(x * 2).backward()\n",
        "error", "TypeError", 3,
    ),
    "raising backward": (
        "class Twice(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n        return x * 2\n"
        "    @staticmethod\n    def backward(ctx, grad):\n        return 1 / 0\n"
        "x = torch.ones(1, requires_grad=True)\nTwice.apply(x).backward()\n",
        "error", "ZeroDivisionError", 7,
    ),
    "raising repr": (
        "class A:\n    def __repr__(self):\n        raise ValueError('no')\n\nprint(A())\n", "error", "ValueError", 3,
    ),
    "group": ("raise ExceptionGroup('several', [ValueError(1), KeyError(2)])\n", "error", "ExceptionGroup", 1),
    "misuse of print": ("print(1, sep=5)\n", "error", "TypeError", 1),
    "words of a limit": ("raise ValueError('the oven is out of memory')\n", "error", "ValueError", 1),
    "10 GB": ("x = 1\ny = torch.zeros(10 * 2**30 // 4)\n", "limit", "MemoryLimit", 2),
    "petabytes": ("x = 1\ny = torch.zeros(2**40, 2**10)\n", "limit", "MemoryLimit", 2),
    "long text": ("x = 'a' * 2**28\nx += x\n", "limit", "MemoryLimit", 2),
}  # fmt: skip


@pytest.mark.parametrize(("source", "status", "kind", "line"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_problem_has_its_type_and_line(runner: Runner, source: str, status: str, kind: str, line: int | None) -> None:
    recording = record(runner, source)
    assert (recording.status, recording.problem.type, recording.problem.line) == (status, kind, line)


ENDLESS = {
    "loop": "x = 1\nwhile True:\n    x = 1 - x\n",
    "print": "x = 1\nwhile True:\n    print(x)\n",
    "print one line": "x = 1\nwhile True:\n    print(x, end='')\n",
    "training": "x = torch.ones(1, requires_grad=True)\nwhile True:\n    (x * x).backward()\n",
    "generator": "x = 1\nfor x in iter(int, 1):\n    x = 1\n",
    "message": "class E(Exception):\n    def __str__(self):\n        while True:\n            pass\n\nraise E\n",
    "allocating": "x = 1\nwhile True:\n    torch.ones(1000, 1000).sum()\n",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())
def test_endless_program_ends_in_time_with_its_line(runner: Runner, source: str) -> None:
    recording = record(runner, source, SHORT)
    assert (recording.status, recording.problem.type) == ("limit", "TimeLimit")
    assert recording.problem.line in (2, 3, 4)
    assert recording.stdout_truncated == ("print" in source)


# name: source, the variables that are left, and of some of them the field and its value
FINE: dict[str, tuple[str, dict[str, dict]]] = {
    "nan and inf": (
        "x = torch.tensor([float('nan'), float('inf'), -float('inf')], requires_grad=True)\ny = (x * x).sum()\n"
        "y.backward()\nf, g = float('nan'), [float('inf')]\nw = torch.full((100,), float('nan'))\n",
        {"x": {"values": ["nan", "inf", "-inf"]}, "y": {"values": "nan"}, "w": {"min": "nan", "nan": 100}},
    ),
    "zero size": (
        "x = torch.zeros(0, 3, requires_grad=True)\ny = (x * 2).sum()\ny.backward()\nz = torch.zeros(2, 0)\n",
        {"x": {"shape": [0, 3], "values": []}, "y": {"values": 0.0}, "z": {"values": [[], []]}},
    ),
    "complex": (
        "x = torch.tensor(1 + 2j, requires_grad=True)\n(x * x.conj()).real.backward()\n"
        "y = torch.ones(100, dtype=torch.complex64).conj()\n",
        {"x": {"values": {"re": 1.0, "im": 2.0}}, "y": {"mean": 1.0}},
    ),
    "bool and int": (
        "b = torch.tensor([True, False])\ni = torch.tensor([2**62, -(2**63)])\n"
        "u = torch.ones(100, dtype=torch.uint8)\n",
        {"b": {"values": [True, False]}, "i": {"values": [2**62, -(2**63)]}, "u": {"l2": 10.0}},
    ),
    "every dtype": (
        "names = 'float16 bfloat16 float64 int8 uint16 uint32 uint64 complex32 complex128 float8_e4m3fn'.split()\n"
        "small = {name: torch.ones(3).to(getattr(torch, name)) for name in names}\n"
        "h = torch.ones(100, dtype=torch.bfloat16)\nk = torch.ones(100).to(torch.float8_e5m2)\n"
        "m = torch.ones(3, dtype=torch.complex32)\n",
        {"h": {"mean": 1.0, "dtype": "torch.bfloat16"}},
    ),
    "sparse": (
        "e = nn.Embedding(5, 2, sparse=True)\ne(torch.tensor([1, 1, 3])).sum().backward()\nx = e.weight\n"
        "c = torch.eye(3).to_sparse()\nr = torch.eye(20).to_sparse_csr()\n",
        {"c": {"values": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]}, "r": {"shape": [20, 20]}},
    ),
    "letters of the world": (
        "é = torch.tensor(2.0, requires_grad=True)\nλ = é * 3\n変数 = λ + 1\n変数.backward()\n"
        "print('日本 \U0001f600')\n",
        {"é": {"values": 2.0}, "λ": {"values": 6.0}, "変数": {"values": 7.0}},
    ),
    "surrogate made here": ("x = chr(0xD800)\nprint(x, 'after')\n", {"x": {}}),
    "tabs and carriage returns": ("if True:\r\n\tx = torch.ones(1)\r\ny = x + 1\r\n", {"y": {"values": [2.0]}}),
    "form feed": ("x = torch.tensor(1.0)\n\f\ny = x\n", {"x": {}, "y": {}}),
    "open generator": (
        "def count():\n    try:\n        while True:\n            yield 1\n    finally:\n        print('closed')\n"
        "it = count()\nx = next(it)\n",
        {"count": {}, "it": {}, "x": {}},
    ),
    "raising repr": (
        "class A:\n    def __repr__(self):\n        raise ValueError('no')\n    __str__ = __repr__\n"
        "a = A()\nb = [a]\nc = {'a': a}\n",
        {"A": {}, "a": {}, "b": {}, "c": {}},
    ),
    "raising getattr": (
        "class A:\n    def __call__(self):\n        pass\n    def __getattr__(self, name):\n"
        "        raise ValueError(name)\na = A()\n",
        {"A": {}, "a": {}},
    ),
    "raising key": (
        "class K:\n    def __repr__(self):\n        raise ValueError('k')\nx = torch.ones(1, requires_grad=True)\n"
        "d = {K(): x, 10**5000: x, 'a': 1}\nx.backward()\n",
        {"K": {}, "x": {}, "d": {}},
    ),
    "tensor subclass": (
        "class T(torch.Tensor):\n    pass\nt = T([1.0, 2.0])\ns = t + 1\n",
        {"T": {}, "t": {"values": [1.0, 2.0]}, "s": {"values": [2.0, 3.0]}},
    ),
    "raising tensor subclass": (
        "class T(torch.Tensor):\n    @classmethod\n"
        "    def __torch_function__(cls, func, types, args=(), kwargs=None):\n        raise KeyError('no')\n"
        "    @property\n    def grad(self):\n        raise KeyError('no')\n"
        "t = T([1.0, 2.0])\nx = torch.ones(1, requires_grad=True)\nx.backward()\n",
        {"T": {}, "t": {}, "x": {}},
    ),
    "no super().__init__()": (
        "class Net(nn.Module):\n    def __init__(self):\n        pass\nnet = Net()\n"
        "x = torch.ones(1, requires_grad=True)\nx.backward()\n",
        {"Net": {}, "net": {}, "x": {}},
    ),
    "lazy module": (
        "net = nn.Sequential(nn.LazyLinear(3))\nw = net[0].weight\n"
        "x = torch.ones(1, requires_grad=True)\nx.backward()\n",
        {"net": {}, "w": {}, "x": {}},
    ),
    "raising module": (
        "class Net(nn.Module):\n    def named_modules(self, *args, **more):\n        raise ValueError('no')\n"
        "    named_parameters = parameters = named_modules\nnet = Net()\n"
        "x = torch.ones(1, requires_grad=True)\nx.backward()\n",
        {"Net": {}, "net": {}, "x": {}},
    ),
    "broken optimizer": (
        "w = torch.ones(1, requires_grad=True)\na = optim.SGD([w], lr=0.1)\nb = optim.SGD([w], lr=torch.tensor(0.1))\n"
        "a.param_groups = [5]\n",
        {"w": {}, "a": {}, "b": {}},
    ),
    "endless range": ("r = range(10**100)\nn = [10**5000]\nm = 10**5000\n", {"r": {}, "n": {}, "m": {}}),
    "lists in lists": ("a = []\na.append(a)\nb = []\nfor i in range(100_000):\n    b = [b]\n", {"a": {}, "b": {}}),
    "numbers whose squares are too large": (
        "x = torch.full((2,), 1e200, dtype=torch.float64, requires_grad=True)\nfor i in range(200):\n"
        "    x.grad = None\n    (x * x).sum().backward()\n"
        "c = torch.tensor([1e200 + 1j], dtype=torch.complex128, requires_grad=True)\n"
        "(c * c.conj()).real.sum().backward()\n",
        {"x": {"values": [1e200, 1e200]}},
    ),
    "complex nan": (
        "x = torch.tensor([complex('nan'), 1j], requires_grad=True)\n(x * x.conj()).real.sum().backward()\n",
        {"x": {"values": [{"re": "nan", "im": 0.0}, {"re": 0.0, "im": 1.0}]}},
    ),
    "without storage": (
        "x = torch.ones(3, device='meta')\nwith torch.inference_mode():\n    y = torch.ones(100)\n"
        "def f(v):\n    global inner\n    inner = v\n    return v * v\nz = torch.func.grad(f)(torch.tensor(2.0))\n",
        {"x": {}, "y": {"mean": 1.0}, "f": {}, "inner": {}, "z": {"values": 4.0}},
    ),
    "own names for ours": ("torch = 5\nnn = print = math = None\nx = 1\n", {"x": {}}),
    "everything deleted": ("x = 1\ndel x, torch, nn\n", {}),
}  # fmt: skip


@pytest.mark.parametrize(("source", "variables"), FINE.values(), ids=FINE.keys())
def test_odd_program_runs_as_in_plain_python(runner: Runner, source: str, variables: dict[str, dict]) -> None:
    recording = record(runner, source)
    assert recording.problem is None
    found = {variable.name: variable for variable in recording.variables}
    assert set(variables) <= set(found)
    for name, fields in variables.items():
        assert found[name].kind
        for field, value in fields.items():
            assert getattr(found[name].value, field) == value


def test_printed_list_of_a_million_is_cut(runner: Runner) -> None:
    recording = record(runner, "print(list(range(10**6)))\nx = 1\n")
    assert recording.stdout.startswith("[0, 1, 2,")
    assert recording.stdout_truncated and len(recording.stdout) == 64_000
    assert recording.variables[0].text == "1"


def test_lone_surrogate_is_printed_as_a_question_mark(runner: Runner) -> None:
    recording = record(runner, "print(chr(0xD800), 'after')\nraise ValueError(chr(0xDFFF))\n")
    assert recording.stdout == "? after\n"
    assert recording.problem.message == "?"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no')", "(its message could not be read: ValueError)"),
        ("return 5", "(its message could not be read: TypeError)"),
        ("return 'a' * 10**6", "a" * 4_000),
        ("return '<b>&\\n\\x1b[31m'", "<b>&\n\x1b[31m"),
    ],
)
def test_message_of_an_exception_is_read_with_care(runner: Runner, body: str, message: str) -> None:
    recording = record(runner, f"class E(Exception):\n    def __str__(self):\n        {body}\n\nraise E\n")
    assert (recording.status, recording.problem.type, recording.problem.line) == ("error", "E", 5)
    assert recording.problem.message == message


def test_message_that_is_a_tensor_is_its_text(runner: Runner) -> None:
    assert record(runner, "raise ValueError(torch.ones(2))").problem.message == "tensor([1., 1.])"


def test_of_five_thousand_globals_the_first_are_kept(runner: Runner) -> None:
    names = ",".join(f"a{i}" for i in range(5000))
    recording = record(runner, f"{names} = range(5000)\n")
    assert [(v.name, v.text) for v in recording.variables[:400]] == [(f"a{i}", str(i)) for i in range(400)]
    assert len(recording.variables) < 500


def test_reading_a_variable_runs_no_code_of_its_class(runner: Runner) -> None:
    source = (
        "class Loud:\n    def __repr__(self):\n        print('repr')\n        return 'loud'\n"
        "    __str__ = __len__ = __iter__ = __hash__ = __eq__ = __repr__\n"
        "class Text(str):\n    def __getitem__(self, index):\n        print('getitem')\n        return 'a'\n"
        "class Items(list):\n    def __iter__(self):\n        print('iter')\n        return iter(())\n"
        "a, b, c, d = Loud(), Text('x'), Items([1]), {1: Loud()}\n"
        "x = torch.ones(1, requires_grad=True)\nx.backward()\n"
    )
    recording = record(runner, source)
    assert recording.stdout == ""
    assert [v.name for v in recording.variables] == ["Loud", "Text", "Items", "a", "b", "c", "d", "x"]


def test_exception_named_like_a_limit_is_an_error(runner: Runner) -> None:
    recording = record(runner, "class TimeLimit(Exception):\n    pass\n\nraise TimeLimit('mine')\n")
    assert (recording.status, recording.problem.message) == ("error", "mine")


def test_expanded_tensor_costs_what_its_memory_is(runner: Runner) -> None:
    recording = record(runner, "x = torch.ones(1).expand(10**11)\n")
    assert recording.status == "ok"
    assert recording.variables[0].value.mean == 1.0


def test_tolist_of_a_tensor_subclass_is_not_believed(runner: Runner) -> None:
    recording = record(
        runner, "class T(torch.Tensor):\n    def tolist(self):\n        return [{1, 2}]\n\nt = T([1.0])\n"
    )
    assert recording.status == "ok"
