"""The words for problems and steps: every message is the one that torch gives."""

import math
import string
import subprocess
import sys
import warnings

import numpy
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from explorer import explain
from explorer.explain import explain_problem

LEAF = "x = torch.tensor([1.0, 2.0], requires_grad=True)\n"
NET = (
    "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(3, 2)\n"
)
FUNCTION = "class Double(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n        return 2 * x\n"

# A program that fails, words of its explanation, words of its hint.
FAILURES = [
    ("x = torch.tensor(2.0)\ny = 2 * x\ny.backward()", "y has no grad_fn", "requires_grad=True"),
    (LEAF + "z = x.detach().sum()\nz.backward()", "detach() on line 2", "way from the leaf"),
    (LEAF + "with torch.no_grad():\n    y = x.sum()\ny.backward()", "no_grad() on line 2", ""),
    (LEAF + "x.argmax().backward()", "argmax() on line 2", ""),
    (
        LEAF + "g, = torch.autograd.grad((x**3).sum(), x)\ntorch.autograd.grad(g.sum(), x)",
        "gradient",
        "create_graph=True",
    ),
    (LEAF + "(x**2).sum().backward()\nx.grad.backward()", "This is a gradient", "create_graph=True"),
    (LEAF + "y = 2 * x\ny.backward()", "y has more than one element", "y.sum().backward()"),
    (LEAF + "y = (x * x).sum()\ny.backward()\ny.backward()", "The backward() on line 3 freed", "retain_graph=True"),
    (LEAF + "y = x.sigmoid()\ny.mul_(2)\ny.sum().backward()", "line 3, y.mul_(2)", "y = y.mul(2)"),
    (LEAF + "w = 1 * x\ny = w * w\nw += 1\ny.sum().backward()", "shape [2]) as it was at version 0", "w = w + 1"),
    (LEAF + "w = 1 * x\ny = w * w\nw[0] = 3\ny.sum().backward()", "line 4, w[0] = 3", "clone()"),
    (LEAF + "x += 1", "x += 1 changes a leaf", "torch.no_grad()"),
    (LEAF + "x.zero_()", "x.zero_() changes a leaf", "torch.no_grad()"),
    (LEAF + "x[0] = 1", "x[0] = 1 changes a leaf", "torch.no_grad()"),
    (LEAF + "a, b = (1 * x).split(1)\na.mul_(2)", "one of several views", "clone()"),
    (
        LEAF + "y = 1 * x\nwith torch.no_grad():\n    v = y[:1]\nv.mul_(2)",
        "made inside torch.no_grad()",
        "both outside",
    ),
    (
        LEAF + "w = torch.ones(1, requires_grad=True)\ntorch.autograd.grad(x.sum(), w)",
        "does not depend",
        "allow_unused",
    ),
    (LEAF + "w = torch.ones(1)\ntorch.autograd.grad(x.sum(), w)", "with respect to", "requires_grad=True"),
    (LEAF + "(2 * x).backward(torch.ones(3))", "gradient has shape [3], and the tensor has shape [2]", "each element"),
    (LEAF + "(2 * x).backward([1, 2])", "gradient must be a tensor", "torch.tensor"),
    ("x = torch.tensor(2, requires_grad=True)", "Integers have no derivative", "torch.tensor(2.0)"),
    ("x = torch.tensor([2])\nx.requires_grad_()", "Integers have no derivative", "torch.tensor(2.0)"),
    (LEAF + "y = 2 * x\ny.requires_grad = False", "Only a leaf", "detach()"),
    (LEAF + "torch.unique(x).sum().backward()", "no derivative for _unique2", "detach()"),
    (LEAF + FUNCTION + "Double.apply(x).sum().backward()", "has no backward", "backward(ctx, grad_output)"),
    (
        LEAF
        + FUNCTION
        + "    @staticmethod\n    def backward(ctx, g):\n        return g, g\nDouble.apply(x).sum().backward()",
        "backward(): 2. Inputs of forward(): 1",
        "one gradient for each input",
    ),
    (FUNCTION + "Double()(1)", "not called like an object", "Name.apply(x)"),
    (
        LEAF + "with torch.autograd.detect_anomaly():\n    (torch.sqrt(0 * x) * 0).sum().backward()",
        "SqrtBackward0 is the first node that sent a nan",
        "0 * inf",
    ),
    (LEAF + "import copy\ncopy.deepcopy(2 * x)", "deep-copied", "clone()"),
    (LEAF + "with torch.inference_mode():\n    c = torch.ones(2)\nx * c", "inference_mode", "no_grad"),
    (LEAF + "x.grad = torch.ones(3)", "[3] cannot belong to a tensor of shape [2]", ".grad"),
    (LEAF + "x.grad = 3", ".grad must be a tensor", "None"),
    (
        LEAF + "with torch.no_grad():\n    x -= 0.1 * x.grad",
        "x.grad is None: no backward() has run before line 3",
        "from x",
    ),
    (LEAF + "x.grad.zero_()", "no backward() has run before line 2", "backward()"),
    (LEAF + "with torch.no_grad():\n    x.sub_(x.grad)", "no backward() has run before line 3", "backward()"),
    (LEAF + "print(-x.grad)", "no backward() has run before line 2", "backward()"),
    (LEAF + "x.grad[0]", "no backward() has run before line 2", "backward()"),
    (LEAF + "torch.autograd.grad(x.sum(), x)\nx.grad + 1", "fills no .grad", "backward()"),
    (LEAF + "w = torch.ones(2)\n(w * x).sum().backward()\nw.grad + 1", "w does not require grad", "requires_grad=True"),
    (
        LEAF + "for _ in range(2):\n    (x * x).sum().backward()\n    x = x - 0.1 * x.grad\n",
        "line 4 makes x the result of an operation",
        "x -= inside torch.no_grad()",
    ),
    (
        LEAF + "o = optim.SGD([x], lr=0.1)\nx.sum().backward()\no.zero_grad()\nx.grad * 2",
        "zero_grad() on line 4 set it to None",
        "before the next zero_grad()",
    ),
    (LEAF + "w = 1 * x\nw.sum().backward()\nw.grad + 1", "no backward() reached w as a leaf", "leaf"),
    ("def f(a):\n    a\nf(1) + 1", "is None", "without return"),
    ("def f(a):\n    a\nf(1).shape", "None, which has no shape", "without return"),
    ("A = torch.ones(2, 3)\nA @ A", "A is 2 x 3 and A is 2 x 3, so 3 meets 2", "A.T is 3 x 2 and would fit"),
    ("A = torch.ones(2, 3)\nB = torch.ones(2, 4)\nA @ B", "so 3 meets 2", "A.T is 3 x 2"),
    ("A = torch.ones(2, 3)\nB = torch.ones(4, 5)\nA @ B", "so 3 meets 4", "Print both shapes"),
    ("nn.Linear(3, 2)(torch.ones(4, 5))", "5 meets 3", "takes 3 features and was given 5"),
    ("torch.ones(2, 3) + torch.ones(2)", "At dimension 1 one tensor has size 3, the other 2", "unsqueeze"),
    ("torch.ones(6).view(4, 2)", "The tensor has 6 elements, and [4, 2]", "must be 6"),
    ("torch.ones(2, 3).t().view(6)", "memory", "reshape()"),
    ("torch.cat([torch.ones(2, 3), torch.ones(2, 2)])", "along dimension 0", "dim"),
    ("torch.stack([torch.ones(2), torch.ones(3)])", "one shape", "torch.cat"),
    ("torch.ones(2, 2).expand(3, 3)", "size 2 cannot be expanded to 3", "shapes"),
    ("nn.Conv2d(1, 2, 3)(torch.ones(1, 3, 8, 8))", "takes 1 channels, and the input has 3", "channels"),
    ("nn.Conv2d(1, 2, 3)(torch.ones(8, 8))", "conv2d cannot take", "unsqueeze(0)"),
    ("nn.Conv2d(1, 2, 3)(torch.ones(1, 1, 2, 2))", "kernel is larger", "padding"),
    ("nn.LayerNorm(3)(torch.ones(1, 4))", "normalizes [3], and the input is [1, 4]", "last dimensions"),
    ("nn.LSTM(3, 2)(torch.ones(2, 3, 4, 5))", "do not fit", "Print the shape"),
    ("torch.ones(2) @ torch.ones(3)", "do not fit", "Print the shape"),
    ("F.cross_entropy(torch.ones(3, 2), torch.tensor([0, 1]))", "Predictions: 3. Targets: 2", "each row"),
    ("F.nll_loss(torch.ones(1, 2), torch.tensor([[1]]))", "one class number", "(batch,)"),
    ("F.binary_cross_entropy_with_logits(torch.ones(3, 1), torch.ones(3))", "target has shape [3]", "squeeze()"),
    ("torch.ones(1).add_(torch.ones(2))", "written into", "out-of-place"),
    ("nn.BatchNorm1d(3)(torch.ones(1, 3))", "more than one example", "eval()"),
    ("torch.ones(2, 2) @ torch.ones(2, 2).double()", "One tensor is float, the other double", ".to("),
    ("nn.Linear(2, 2)(torch.ones(1, 2).long())", "One tensor is Long, the other Float", ".to("),
    ("torch.tensor([1, 2]).mean()", "holds integers", ".float()"),
    ("torch.tensor([1, 2]).add_(1.5)", "holds integers", ".float()"),
    ("F.cross_entropy(torch.ones(3, 2), torch.ones(3))", "must be integers", ".long()"),
    ("nn.Embedding(3, 2)(torch.ones(1))", "must be integers", ".long()"),
    ("torch.ones(2) + torch.ones(2, device='meta')", "different devices", ".to(device)"),
    (LEAF + "x.numpy()", "NumPy records no graph", "detach().numpy()"),
    (LEAF + "x.item()", "several elements", "tolist()"),
    (LEAF + "float(x)", "several elements", "tolist()"),
    (LEAF + "if x > 0:\n    pass", "neither true nor false", ".all()"),
    ("F.cross_entropy(torch.ones(3, 2), torch.tensor([0, 1, 2]))", "no class 2", "one column for each class"),
    ("nn.Embedding(3, 2)(torch.tensor([3]))", "num_embeddings", "count from 0"),
    ("torch.ones(3, 2)[:, 2]", "Dimension 1 has size 2, so there is no index 2", "count from 0"),
    ("torch.ones(3)[0, 1]", "more indices than dimensions", "shape"),
    ("torch.ones(3).sum(dim=1)", "no dimension 1. Possible here: [-1, 0]", "dim"),
    ("[1][3]", "fewer elements", "count from 0"),
    ("F.binary_cross_entropy(torch.tensor([2.0]), torch.ones(1))", "probabilities", "with_logits"),
    ("torch.linalg.inv(torch.zeros(2, 2))", "no inverse", "determinant"),
    ("torch.linalg.cholesky(-torch.eye(2))", "positive eigenvalues", "identity"),
    ("torch.tensor([[1, 2], [3]])", "rows of the nested list", "as many"),
    ("torch.tensor('a')", "not text", "numbers"),
    ("torch.ones(-1)", "negative", "0 or more"),
    ("for i in torch.tensor(3):\n    pass", "scalar tensor", "item()"),
    ("a, b = torch.ones(3)", "differ in number", "index"),
    ("torch.empty(10**15)", "more memory", "smaller"),
    ("torch.func.grad(lambda x: 2 * x)(torch.ones(2))", "one number as its result", "jacrev"),
    ("optim.SGD([], lr=0.1)", "nothing to optimize", "nn.ModuleList"),
    (LEAF + "optim.SGD(x, lr=0.1)", "list of tensors", "[x]"),
    (LEAF + "optim.SGD([2 * x], lr=0.1)", "updates leaves", "leaf"),
    (LEAF + "optim.SGD([x], lr=-1)", "does not accept -1", "0 or more"),
    ("optim.lr_scheduler.StepLR(3, 1)", "wraps an optimizer", "optimizer first"),
    (
        LEAF + "o = optim.SGD([x], lr=1)\noptim.lr_scheduler.StepLR(o)",
        "leaves out 'step_size'",
        "Add",
    ),
    (NET.replace("        super().__init__()\n", "") + "Net()", "not set up", "super().__init__()"),
    (NET + "Net()(torch.ones(3))", "no forward()", "forward(self, x)"),
    ("nn.MultiheadAttention(5, 2)", "embed_dim", "num_heads"),
    ("lerning_rate = 1\nlearning_rate", "Nothing is called learning_rate", "Did you mean lerning_rate?"),
    ("print(w)\nw = 1", "w is used before it is given a value, on line 2", "up"),
    ("sigmoid(1)", "no sigmoid of its own", "torch.sigmoid"),
    ("def f():\n    print(a)\n    a = 1\nf()", "before its function", "argument"),
    ("torch.sigmoyd(1)", "torch has no sigmoyd", "Did you mean sigmoid?"),
    (LEAF + "x.backwards()", "Tensor has no backwards", "Did you mean backward?"),
    (LEAF + "x.sum.backward()", "not called", "parentheses"),
    (LEAF + "x.sum().item().backward()", "plain Python float", "Keep the tensor"),
    (LEAF + "x.max(0).sum()", "torch.return_types.max", ".values.sum"),
    ("x = [1.0, 2.0]\nx.backward()", "Python list", "torch.tensor"),
    ("nn.Linear(3)", "leaves out 'out_features'", "Add"),
    (LEAF + "x.backward(retain=True)", "no argument called retain", "spelling"),
    ("def f(a):\n    return a\nf(1, 2)", "takes: 1. Given: 2", "self"),
    ("torch.exp(2)", "argument input must be Tensor, and this is int", "torch.tensor"),
    ("torch.ones(2) + 'a'", "+ does not work between Tensor and str", "tensors or numbers"),
    ("'a' + 1", "joins text", "f-string"),
    ("x = 5\nx()", "of type int, not a function", "operator"),
    ("for i in 3:\n    pass", "type int has no elements", "range"),
    ("import numppy", "no module numppy", "without an import"),
    ("from torch import optin", "torch has no optin", "Check the spelling."),
    ("from torch import reul", "torch has no reul", "Did you mean relu?"),
    ("1 / 0", "divided by zero", "inf or nan"),
    ("def f(n):\n    return f(n + 1)\nf(1)", "called itself", "returns"),
    ("{}['k']", "no such key", "keys"),
    ("assert 1 == 2", "did not hold", "Print"),
    ("raise ValueError('mine')", "Line 1 raised ValueError", "Print"),
    ("x = (1", "bracket ( on this line", "Close it"),
    ("x = 1)", "no partner", "Remove"),
    ("for i in range(3)\n    pass", "colon", "Add :"),
    ("for i in range(3):\npass", "nothing is indented", "Indent"),
    ("x = 1\n  y = 2", "begins no block", "Remove the spaces"),
    ("if 1:\n    x\n  y", "fits none", "same number"),
    ("if 1:\n\tx\n        y", "Tabs", "four spaces"),
    ("x = 'abc", "does not end", "quote"),
    ("f(1 2)", "nothing between them", "comma"),
    ("if x = 1: pass", "gives a value", "=="),
    ("1 = x", "gives a value", "=="),
    ("print 3", "function", "print(...)"),
    ("return 3", "return stands outside a function", "Indent"),
    ("f(a=1, 2)", "without a name", "last"),
    ("x = \u201ca\u201d", "curly quote", "plain"),
    ("y = 3x", "3x is no product", "3 * x"),
    ("x == ", "cannot read", "missing"),
]


def fail(source: str) -> tuple[str, str]:
    """Run the program as plain Python and explain the exception that ends it."""
    names = {"torch": torch, "nn": nn, "F": F, "optim": optim, "math": math, "np": numpy}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(source, "<program>", "exec"), names)
    except Exception as error:
        line, trace = getattr(error, "lineno", None), error.__traceback__
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == "<program>" else line
            trace = trace.tb_next
        return explain_problem(type(error).__name__, str(error), line=line, source=source)
    raise AssertionError(f"the program does not fail: {source}")


@pytest.mark.parametrize(("source", "explanation", "hint"), FAILURES, ids=[source[-40:] for source, _, _ in FAILURES])
def test_failure_is_explained(source: str, explanation: str, hint: str) -> None:
    found = fail(source)
    assert explanation in found[0]
    assert hint in found[1]
    for words in found:
        assert words[-1] in ".?"
        assert "!" not in words
        assert len(words) < 320


@pytest.mark.parametrize("kind", ["TimeLimit", "MemoryLimit", "OutputLimit", "Crash", "Refused"])
def test_limits_are_explained_by_their_type(kind: str) -> None:
    explanation, hint = explain_problem(kind, "'NoneType' object has no attribute 'x'", line=None, source="")
    assert explanation.startswith("The p")
    assert hint.endswith(".")


# Messages of other torch versions and of devices that are not here.
ELSEWHERE = {"expected scalar type", "same device", "CUDA"}


def test_every_pattern_explains_some_failure() -> None:
    told = {fail(source)[0] for source, _, _ in FAILURES}
    for pattern, (explanation, _) in explain._MESSAGES + explain._SYNTAX:
        literal = max((text for text, *_ in string.Formatter().parse(explanation)), key=len)
        is_elsewhere = any(part in pattern for part in ELSEWHERE)
        assert is_elsewhere or any(literal in words for words in told), pattern


def test_unknown_error_gets_an_honest_explanation() -> None:
    explanation, hint = explain_problem("OddError", "never seen", line=3, source="a\nb\nc")
    assert explanation == "Line 3 raised OddError, and nothing caught it."
    assert hint == "Print the values that the line works with."


@given(st.sampled_from([source for source, _, _ in FAILURES]), st.text(max_size=80), st.integers(-1, 20) | st.none())
@settings(max_examples=200, deadline=None)
def test_explaining_never_raises(source: str, text: str, line: int | None) -> None:
    for message in ("'NoneType' object has no attribute 'x'", "name 'w' is not defined", text):
        explanation, _ = explain_problem("TypeError", message, line=line, source=source + text)
        assert explanation


def test_very_long_expression_is_explained() -> None:
    source = "y = " + " + ".join(["x.grad"] * 3000)
    assert explain_problem("TypeError", "'NoneType' and 'float'", line=1, source=source)[0]


def test_explain_imports_no_torch() -> None:
    code = "import sys, explorer.explain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
