"""Random allowed calls with random hostile arguments: the run ends in time with a Recording, and the next one works."""

import functools
import inspect
import json
import os
import time
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer import policy
from explorer.limits import GRACE, WRITING, Limits
from explorer.program import Program
from explorer.runner import Runner

LIMITS = Limits(seconds=0.5, training_seconds=0.5, memory_mb=512)
LATENESS = GRACE + WRITING + 5.0
"""Seconds after its time is over that a Recording may come at the latest, with other work on the machine."""

ENOUGH = 25.0
"""Seconds after which no further program is made up."""


def words(text: str) -> list[str]:
    """The words of a text in their order."""
    return text.split()


ROOMS = {
    "torch": "torch",
    "F": "torch.nn.functional",
    "torch.linalg": "torch.linalg",
    "torch.special": "torch.special",
    "torch.fft": "torch.fft",
    "nn.init": "torch.nn.init",
    "torch.autograd": "torch.autograd",
    "torch.func": "torch.func",
}

BEFORE = """\
import warnings
warnings.simplefilter("ignore")
x = torch.rand(2, 3, requires_grad=True)
y = torch.rand(3, 3, requires_grad=True)
z = x @ y
def ask(call):
    try:
        answer = call()
        print(type(answer).__name__)
        return answer
    except Exception as error:
        print(type(error).__name__)
"""

NUMBERS = words("0 1 -1 2 7 2**31 2**62 -2**63 2**63 10**30 0.0 -0.5 1e308 1e-320 float('nan') float('-inf') 1j True")
TENSORS = """\
x
y
z
z.grad_fn
torch.empty(0)
torch.rand(0, 5)
torch.tensor(3)
torch.tensor(2.0, requires_grad=True)
torch.tensor(float('nan'))
torch.ones(2, 3, dtype=torch.int64)
torch.tensor([2**62, -2**63])
torch.tensor([-1, 5, 2**40])
torch.tensor([True, False, True])
torch.ones(2, 3, dtype=torch.complex64)
torch.ones(2, 3).bfloat16()
torch.ones(2, 3, dtype=torch.uint8)
torch.ones(1).expand(2**40)
torch.full((3, 3), float('inf'))
torch.zeros(3, 3)
torch.rand(1, 3, 8, 8, requires_grad=True)
torch.rand(2, 2, 2, 2, 2, 2, 2)
torch.ones(2, 3, device='meta')
torch.eye(3).to_sparse()
torch.ones(2, 3).t()
""".splitlines()
OTHERS = """\
None
''
'mean'
'nonsense'
()
[]
[0]
[-1, 5]
(1, 2, 3)
(2**62,)
(2**40, 2**40)
[[1, 2], [3]]
[x, None]
(x, y)
{}
{'a': x}
range(3)
slice(None)
...
torch.float64
torch.int8
torch.device('meta')
torch.Size([2, 3])
torch.Generator()
lambda *t: t
F.relu
nn.Linear(3, 2)
nn.ReLU
x.shape
""".splitlines()
SIZES = words("0 1 2 3 -1 -2 7 64 (1,) (2,2) (0,3) (3,-1) [2,0] 2**31 2**62 -2**63 (2**62,) (2**40,2**40) (1,1,1)")
# Parts of the names of parameters.
SIZE_NAMES = words("""
    dim axis size stride pad dilat kernel num len offset diagonal section chunk shift start end step repeat shape group
    bins feature channel factor hidden layer rank order upper lower base perm correction
""")
NUMBER_NAMES = words("eps alpha beta lr value momentum weight_decay negative_slope threshold tol")


@functools.cache
def callables() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """What a program may call, as it writes it: the names of the parameters that it must and that it may give."""
    known = torch.overrides.get_testing_overrides()
    rooms = policy.rooms()
    found = {}
    for short, full in ROOMS.items():
        for name in rooms[full].names:
            function = getattr(rooms[full].real, name, None)
            if callable(function):
                found[f"{short}.{name}"] = _parameters(known.get(function, function))
    for name in policy.attribute_names():
        method = getattr(torch.Tensor, name, None)
        if callable(method):
            must, may = _parameters(known.get(method, method))
            found.update({f"{value}.{name}": (must[1:], may) for value in ("x", "z", "torch.arange(6).view(2, 3)")})
    for name in rooms["torch.nn"].names:
        module = getattr(rooms["torch.nn"].real, name, None)
        if isinstance(module, type):
            found[f"nn.{name}"] = _parameters(module)
    return dict(sorted(found.items()))


def _parameters(function: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        found = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return ("input",), ()
    named = [one for one in found if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    must = tuple(one.name for one in named if one.default is one.empty)
    return must, tuple(one.name for one in named if one.default is not one.empty)


ANYTHING = st.sampled_from(TENSORS) | st.sampled_from(NUMBERS) | st.sampled_from(OTHERS)


@st.composite
def arguments(draw: st.DrawFn, name: str) -> str:
    """Something for a parameter: mostly of the kind that its name asks for, however large or empty."""
    if draw(st.integers(0, 7)) == 0:
        return draw(ANYTHING)
    if name in ("n", "k", "p", "q", "N", "M", "d") or any(part in name for part in SIZE_NAMES):
        return draw(st.sampled_from(SIZES))
    if "dtype" in name:
        return draw(st.sampled_from(["torch.float64", "torch.int8", "torch.bool", "torch.complex64"]))
    if name in NUMBER_NAMES:
        return draw(st.sampled_from(NUMBERS))
    if name.startswith("func") or name in ("f", "closure", "callable", "hook"):
        return draw(st.sampled_from(["lambda *t: t[0]", "lambda t: t.sum()", "F.relu", "ask"]))
    return draw(st.sampled_from(TENSORS))


@st.composite
def programs(draw: st.DrawFn) -> str:
    """A short program of allowed calls; some of their results are used again, and some differentiated."""
    lines = []
    for number in range(draw(st.integers(1, 8))):
        name = draw(st.sampled_from(list(callables())))
        must, may = callables()[name]
        given = [draw(arguments(parameter)) for parameter in must]
        chosen = draw(st.lists(st.sampled_from(may), max_size=2, unique=True)) if may else []
        given += [f"{parameter}={draw(arguments(parameter))}" for parameter in chosen]
        call = f"{name}({', '.join(given)})"
        if name.startswith("nn.") and not name.startswith("nn.init"):
            call += f"({draw(st.sampled_from(TENSORS))})"
        lines.append(f"r{number} = ask(lambda: {call})")
        if draw(st.booleans()):
            lines.append(f"ask(lambda: r{number}.sum().backward())")
        if draw(st.integers(0, 3)) == 0:
            lines.append(f"x = r{number}")
    return BEFORE + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def began() -> float:
    """When the first program was made up."""
    return time.monotonic()


@settings(
    derandomize=bool(os.environ.get("CI")),
    max_examples=120,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example, HealthCheck.data_too_large],
)
@given(source=programs())
def test_no_call_harms_more_than_its_own_run(runner: Runner, began: float, source: str) -> None:
    if time.monotonic() - began > ENOUGH:
        return
    run = runner.start(Program(source), limits=LIMITS)
    assert run.wait(LIMITS.seconds + LATENESS), "no Recording came"
    recording = run.recording()
    assert recording.status in ("ok", "error", "limit", "crash")
    if recording.problem is not None:
        assert "the recorder failed" not in recording.problem.message
        assert recording.problem.explanation and recording.problem.hint
    json.loads(recording.to_json(), parse_constant=pytest.fail)
    after = runner.run(Program("print(torch.ones(2).sum())\n"))
    assert (after.status, after.stdout) == ("ok", "tensor(2.)\n")


def test_calls_are_made_up_of_everything_that_is_allowed() -> None:
    assert len(callables()) > 2000
    assert {"torch.einsum", "F.conv2d", "torch.linalg.svd", "x.index_add_", "nn.Conv3d"} <= set(callables())
    assert callables()["F.conv2d"][0] == ("input", "weight")
