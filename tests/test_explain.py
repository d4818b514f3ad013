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
from explorer.explain import (
    explain_problem,
    explain_start,
    explain_step,
    explain_steps,
    format_number,
    format_summary,
)
from explorer.recording import Accumulated, Edge, Graph, Node, Pass, Step, Summary

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


def scalar(number: object) -> Summary:
    return Summary(shape=[], dtype="torch.float32", values=number)


def vector(*numbers: object) -> Summary:
    return Summary(shape=[len(numbers)], dtype="torch.float32", values=list(numbers))


def one_pass(steps: list[Step], **fields: object) -> Pass:
    plain = {"index": 0, "line": 4, "kind": "backward", "graph": "g0", "roots": ["n0"], "loss": None, "gradient": None}
    return Pass(**{**plain, "retain_graph": False, "create_graph": False, "leaves": [], "steps": steps, **fields})


def leaf(node_id: str, variable: str | None) -> Node:
    return Node(node_id, "AccumulateGrad", True, variable=variable)


# z = x * y with x = 2, y = 3.
PRODUCT = Graph(
    "g0",
    [Node("n0", "MulBackward0", False, line=3, variable="z"), leaf("n1", "x"), leaf("n2", "y")],
    [Edge("n0", 0, "n1", 0), Edge("n0", 1, "n2", 0)],
    "",
)
PRODUCT_PASS = one_pass(
    [
        Step("n0", [scalar(1.0)], [scalar(3.0), scalar(2.0)]),
        Step("n1", [scalar(3.0)], [], Accumulated(None, scalar(3.0))),
        Step("n2", [scalar(2.0)], [], Accumulated(scalar(1.0), scalar(3.0))),
    ]
)


def test_steps_of_a_product() -> None:
    assert explain_start(PRODUCT, PRODUCT_PASS) == "3 steps. The backward pass starts at z with gradient 1."
    assert explain_steps(PRODUCT, PRODUCT_PASS) == [
        "Step 1 of 3: MulBackward0, line 3, receives 1, sends 3 to x and 2 to y",
        "Step 2 of 3: AccumulateGrad adds 3 to x.grad (was None, is now 3)",
        "Step 3 of 3: AccumulateGrad adds 2 to y.grad (was 1, is now 3)",
    ]


def test_one_step_is_that_of_all_steps() -> None:
    steps = explain_steps(PRODUCT, PRODUCT_PASS)
    assert [explain_step(PRODUCT, PRODUCT_PASS, index) for index in range(3)] == steps


def test_start_tells_a_given_gradient() -> None:
    given_vector = one_pass([Step("n0", [vector(1.0, 0.5)], [])], gradient=vector(1.0, 0.5))
    assert explain_start(PRODUCT, given_vector) == "1 step. The backward pass starts at z with gradient [1, 0.5]."


def test_start_tells_a_failed_node_and_a_light_pass() -> None:
    failed = one_pass(PRODUCT_PASS.steps[:1], failed="n1")
    assert explain_start(PRODUCT, failed) == (
        "1 step. The backward pass starts at z with gradient 1. An error ended it at x."
    )
    assert explain_start(PRODUCT, one_pass([], detail="light")) == "The steps of this pass were not kept."


def test_fan_in_tells_the_parts_of_the_sum() -> None:
    """y = h * h + sin(h): h receives 7 + 7 from the product and 0.7539 from the sine, in the engine's order."""
    graph = Graph(
        "g0",
        [
            Node("n0", "AddBackward0", False, line=3, variable="y"),
            Node("n1", "MulBackward0", False, line=3),
            Node("n2", "SinBackward0", False, line=3),
            Node("n3", "TanhBackward0", False, line=2, variable="h"),
        ],
        [
            Edge("n0", 0, "n1", 0),
            Edge("n0", 1, "n2", 0),
            Edge("n1", 0, "n3", 0),
            Edge("n1", 1, "n3", 0),
            Edge("n2", 0, "n3", 0),
        ],
        "",
    )
    steps = [
        Step("n0", [scalar(1.0)], [scalar(1.0), scalar(1.0)]),
        Step("n2", [scalar(1.0)], [scalar(-0.75390225)]),
        Step("n1", [scalar(1.0)], [scalar(7.0), scalar(7.0)]),
        Step("n3", [scalar(13.24609775)], [None]),
    ]
    told = explain_steps(graph, one_pass(steps))
    assert told[1] == "Step 2 of 4: SinBackward0, line 3, receives 1, sends -0.7539 to h"
    assert told[2] == "Step 3 of 4: MulBackward0, line 3, receives 1, sends 7 and 7 to h"
    assert told[3] == "Step 4 of 4: TanhBackward0, line 2, receives 13.25 (-0.7539 + 7 + 7), sends nothing on"


def test_fan_in_of_a_leaf_and_of_large_gradients() -> None:
    nodes = [Node("n0", "MulBackward0", False), leaf("n1", "x")]
    graph = Graph("g0", nodes, [Edge("n0", 0, "n1", 0), Edge("n0", 1, "n1", 0)], "")
    small = [
        Step("n0", [scalar(1.0)], [scalar(2.0), scalar(2.0)]),
        Step("n1", [scalar(4.0)], [], Accumulated(None, scalar(4.0))),
    ]
    assert explain_step(graph, one_pass(small), 1).endswith("adds 4 (2 + 2) to x.grad (was None, is now 4)")
    big = Summary(shape=[64, 10], dtype="torch.float32", head=[0.0] * 8, l2=0.3104)
    large = [Step("n0", [big], [big, big]), Step("n1", [big], [], Accumulated(None, big))]
    told = explain_steps(graph, one_pass(large))
    whole = "a (64, 10) gradient, norm 0.3104"
    assert told[0].endswith(f"receives {whole}, sends {whole} and {whole} to x")
    assert "adds a (64, 10) gradient, norm 0.3104 (the sum of 2) to x.grad" in told[1]


def test_missing_gradients_are_told() -> None:
    steps = [Step("n0", [None], [None, scalar(2.0)]), Step("n1", [None], [], None)]
    told = explain_steps(PRODUCT, one_pass(steps))
    assert told[0].endswith("receives no gradient, sends no gradient to x and 2 to y")
    assert told[1].endswith("AccumulateGrad receives no gradient for x.grad")


def test_outputs_of_a_node_are_told_apart() -> None:
    graph = Graph("g0", [Node("n0", "UnbindBackward0", False, line=2)], [], "")
    told = explain_step(graph, one_pass([Step("n0", [scalar(1.0), None, scalar(2.0)], [None])]), 0)
    assert told == "Step 1 of 1: UnbindBackward0, line 2, receives 1 for output 0 and 2 for output 2, sends nothing on"


def test_node_without_a_variable_is_named_by_its_line_where_others_are_called_the_same() -> None:
    nodes = [
        Node("n0", "AddBackward0", False, line=3),
        Node("n1", "MulBackward0", False, line=2),
        Node("n2", "MulBackward0", False, line=1),
    ]
    graph = Graph("g0", nodes, [Edge("n0", 0, "n1", 0), Edge("n0", 1, "n2", 0)], "")
    told = explain_step(graph, one_pass([Step("n0", [scalar(1.0)], [scalar(1.0), scalar(1.0)])]), 0)
    assert told.endswith("sends 1 to MulBackward0 (line 2) and 1 to MulBackward0 (line 1)")


def test_variable_bound_again_is_told_by_line_and_step() -> None:
    nodes = [Node(f"n{i}", "TanhBackward0", False, line=5, variable="h") for i in range(2)]
    graph = Graph("g0", [*nodes, leaf("n2", "x")], [Edge("n0", 0, "n1", 0), Edge("n1", 0, "n2", 0)], "")
    story = one_pass([Step("n0", [scalar(1.0)], [scalar(-0.5)]), Step("n1", [scalar(-0.5)], [scalar(0.25)])])
    assert explain_start(graph, story).endswith("starts at h (line 5, step 1) with gradient 1.")
    assert explain_step(graph, story, 0).endswith("sends -0.5 to h (line 5, step 2)")
    assert explain_step(graph, story, 1).endswith("sends 0.25 to x")


def test_hooked_node_says_that_its_gradient_may_be_changed() -> None:
    graph = Graph("g0", [Node("n0", "MulBackward0", False, hooked=True)], [], "")
    told = explain_step(graph, one_pass([Step("n0", [scalar(6.0)], [])]), 0)
    assert "receives 6 (after the program's own hook)" in told


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (138.83382, "138.8"),
        (0.30999, "0.31"),
        (-0.0, "0"),
        (12345.678, "1.235e+04"),
        (100000.0, "100000"),
        (1e-7, "1e-07"),
        (123456789, "123456789"),
        (True, "True"),
        ("nan", "nan"),
        ("-inf", "-inf"),
        (float("inf"), "inf"),
        ({"re": 1.5, "im": -2.0}, "1.5-2j"),
        ({"re": 0.0, "im": 1.0}, "0+1j"),
        ({"re": "nan", "im": "inf"}, "nan+infj"),
    ],
)
def test_numbers_have_four_significant_digits(number: object, text: str) -> None:
    assert format_number(number) == text


def test_summaries_are_told_whole_or_by_shape_and_norm() -> None:
    assert format_summary(None) == "None"
    assert format_summary(vector(2.0, 4.0, 6.0)) == "[2, 4, 6]"
    assert format_summary(Summary([2, 2], "torch.float32", [[1.0, 2.0], [3.0, "nan"]])) == "[[1, 2], [3, nan]]"
    assert format_summary(vector(*[1.0] * 16)) == "(16,), norm 4"
    assert format_summary(vector(*[1.0] * 15, "nan")) == "(16,), norm nan"


def test_explain_imports_no_torch() -> None:
    code = "import sys, explorer.explain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
