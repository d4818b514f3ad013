"""What is refused: with the line, the reason and what to do instead."""

import contextlib
import time

import pytest

from explorer.check import Refused, check_program
from explorer.program import Program


def refusal(source: str, **options):
    """The problem that refuses a program."""
    with pytest.raises(Refused) as caught:
        check_program(Program(source, **options))
    return caught.value.problem


REFUSALS = [
    ("x = 1\nimport matplotlib.pyplot as plt\nplt.plot([1])", 2, "loss curve", "matplotlib"),
    ("import torchvision", 1, "torch.rand", "torchvision"),
    ("from torchviz import make_dot", 1, "draws the graph", "torchviz"),
    ("from sklearn.datasets import make_moons", 1, "torch or numpy", "sklearn"),
    ("import os", 1, "no files", "os"),
    ("import sys", 1, "Delete", "sys"),
    ("import requests", 1, "no network", "requests"),
    ("from torch.utils.tensorboard import SummaryWriter", 1, "records every pass", "tensorboard"),
    ("import troch", 1, "import torch", "Did you mean: 'torch'"),
    ("import pandas as pd", 1, "torch or numpy", "pandas"),
    ("x = torch.ones(1)\ny = x.shap", 2, ".shape", "Did you mean: 'shape'"),
    ("x = torch.sigmod(torch.ones(1))", 1, "sigmoid", "module 'torch' has no attribute 'sigmod'"),
    ("loss = F.mse_los(1, 2)", 1, "mse_loss", "mse_los"),
    ("m = nn.Linaer(1, 1)", 1, "Linear", "Linaer"),
    ("from torch.nn import Linaer", 1, "Linear", "Linaer"),
    ("m = nn.Linear(1, 1)\ntorch.save(m.state_dict(), 'm.pt')", 2, "Delete the line", "torch.save"),
    ("torch.load('m.pt')", 1, "Delete the line", "torch.load"),
    ("m = torch.compile(nn.Linear(1, 1))", 1, "same numbers", "torch.compile"),
    ("torch.set_num_threads(4)", 1, "one process", "set_num_threads"),
    ("nn.DataParallel(nn.Linear(1, 1))", 1, "one process", "DataParallel"),
    ("np.loadtxt('x.csv')", 1, "Delete", "numpy.loadtxt"),
    ("torch.relu = 3", 1, "own version", "cannot be assigned"),
    ("torch.ones(2).resize_(3)", 1, "reshape", "resize_"),
    ("open('x')", 1, "no files", "'open'"),
    ("x = input()", 1, "name = 3", "'input'"),
    ("eval('1')", 1, "expression", "'eval'"),
    ("exit()", 1, "break", "'exit'"),
    ("print(globals())", 1, "variables", "'globals'"),
    ("breakpoint()", 1, "Step through", "'breakpoint'"),
    ("try:\n    pass\nexcept:\n    pass", 3, "except Exception:", "bare"),
    ("async def f():\n    pass", 1, "def", "async"),
    ("class A(metaclass=type):\n    pass", 1, "ABC", "metaclass"),
    ("class A:\n    def __del__(self):\n        pass", 2, "method of your own", "__del__"),
    ("class A:\n    __slots__ = ('x',)", 2, "saves memory", "__slots__"),
    ("print(().__class__)", 1, "type(x)", "__class__"),
    ("print((lambda: 0).__globals__)", 1, "public way", "__globals__"),
    ("s = '{}'\nprint(s.format(1))", 2, 'f"', "format"),
    ("print('{0.grad}'.format(1))", 1, 'f"', "format"),
    ("match 1:\n    case int(real=r):\n        pass", 2, "isinstance", "class patterns"),
    ("from . import x", 1, "into the program", "relative"),
    ("g = (i for i in [])\ng.gi_frame", 2, "another name", "gi_frame"),
    ("class G:\n    gi_frame = 1", 2, "another name", "gi_frame"),
    ("@print\ndef f():\n    pass", 1, "line of its own", "print"),
    ("def f(__builtins__):\n    pass", 1, "built-in functions", "__builtins__"),
    ("object.__setattr__(f, '__code__', 1)", 1, "setattr(", "__setattr__"),
    ("class A:\n    def f(self):\n        super().__setattr__('__class__', int)", 3, "setattr(", "__setattr__"),
    ("x = torch.ones(1)\nx.__setattr__('grad', None)", 2, "setattr(", "__setattr__"),
]


@pytest.mark.parametrize(("source", "line", "hint", "message"), REFUSALS)
def test_refusal_names_line_reason_and_what_to_do(source, line, hint, message):
    problem = refusal(source)
    assert (problem.type, problem.line) == ("Refused", line)
    assert message in problem.message and hint in problem.hint
    assert problem.explanation and "!" not in problem.explanation + problem.hint + problem.message


SYNTAX = [
    ("x = (1,\ny = 2", 1, "never closed", "Close it"),
    ("if True\n    x = 1", 1, "expected ':'", "Add :"),
    ("def f():\nreturn 1", 2, "indented block", "4 spaces"),
    ("x = 'a", 1, "unterminated", "quote"),
    ("print 'a'", 1, "Missing parentheses", "print(...)"),
    ("!pip install torch", 1, "invalid syntax", "Delete the line"),
    ("x = 1\n%matplotlib inline", 2, "invalid syntax", "Delete the line"),
    (">>> x = 1", 1, "invalid syntax", ">>>"),
    ("return 1", 1, "outside function", "function"),
    ("x = 1\nbreak", 2, "outside loop", "loop"),
    ("def f():\n    nonlocal x", 2, "no binding", "Look"),
    ("x = 1\0", 1, "null bytes", "invisible"),
    ("x = 1\ny = '\ud800'", 2, "", "invisible"),
]


@pytest.mark.parametrize(("source", "line", "message", "hint"), SYNTAX)
def test_text_that_does_not_parse_is_a_syntax_error_with_its_line(source, line, message, hint):
    problem = refusal(source)
    assert (problem.type, problem.line) == ("SyntaxError", line)
    assert message in problem.message and hint in problem.hint
    assert problem.column is not None and problem.column >= 0 and problem.explanation


@pytest.mark.parametrize("source", ["", "\n\n", "# only a comment\n", "   \n"])
def test_empty_program_has_a_type_of_its_own(source):
    assert refusal(source).type == "EmptyProgram"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n" * 11_000, "64 kB"),
        ("x = [" + "1," * 20_000 + "]", "parts"),
        ("x = " + "-" * 200 + "1", "deeply"),
        ("x = " + "(" * 150 + "1" + ")" * 150, None),
        ("x = " + "not " * 9_000 + "1", "deeply"),
        ("x = " + "1 + " * 5_000 + "1", "deeply"),
        ("x = " + "f(" * 300 + ")" * 300, None),
        ("x = " + "[" * 5_000, None),
    ],
)
def test_program_that_is_too_long_or_too_deep_is_refused(source, message):
    if message is None:
        with contextlib.suppress(Refused):
            check_program(Program(source))
    else:
        assert message in refusal(source).message


def test_first_problem_in_the_text_is_reported():
    assert refusal("class A:\n    x = y.shap\n    def f(self):\n        open('x')\nimport os").line == 2


def test_identifiers_are_compared_as_python_normalises_them():
    assert refusal("torch.\N{FULLWIDTH LATIN SMALL LETTER O}s").line == 1
    assert refusal("\N{FULLWIDTH LATIN SMALL LETTER E}val('1')").line == 1


def test_knobs_are_written_into_the_tree():
    tree = check_program(Program("lr = 0.1\nx = lr", knobs={"lr": 0.5}))
    assert tree.body[0].value.value == 0.5


def test_unknown_knob_is_a_knob_error():
    problem = refusal("lr = 0.1", knobs={"speed": 1.0})
    assert problem.type == "KnobError" and "speed" in problem.message


def test_names_that_the_program_defines_may_be_attributes():
    for source in ("class A:\n    zork = 1\nA().zork", "x.zork = 1", "ns = make(zork=1)\nns.zork", "f('zork').zork"):
        check_program(Program(source))
    assert "zork" in refusal("x.zork").message


def test_thirty_lines_are_checked_within_five_milliseconds():
    step = "loss = ((model(x) - y) ** 2).mean()\nloss.backward()\noptimizer.step()\n"
    source = (
        "class Net(nn.Module):\n    fc = None\n    def forward(self, x):\n        return F.relu(self.fc(x))\n"
        + 9 * step
    )
    check_program(Program(source))
    spent = []
    for _ in range(20):
        start = time.perf_counter()
        check_program(Program(source))
        spent.append(time.perf_counter() - start)
    assert sorted(spent)[5] < 0.005
