"""Every example runs in plain Python and shows what it says."""

import contextlib
import io
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import examples
from explorer.examples import GALLERY, Example, find_example, list_examples

EXAMPLES = list_examples()
IDS = [example.id for example in EXAMPLES]

sigmoid_of_2 = 1 / (1 + math.exp(-2))
cosh = math.cosh


def sigmoid_chain(x: float, length: int) -> float:
    """d sigmoid(...sigmoid(x)) / dx."""
    slope = 1.0
    for _ in range(length):
        x = 1 / (1 + math.exp(-x))
        slope *= x * (1 - x)
    return slope


def softmax(*scores: float) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


p = softmax(1, 2, 3)
q = softmax(2, 1, 0)

# What holds when an example has ended, by hand and without torch: an expression over its variables, its value.
RESULTS: dict[str, dict[str, Any]] = {
    "first_graph": {"y": 3 * sigmoid_of_2 + 5, "x.grad": 3 * sigmoid_of_2 * (1 - sigmoid_of_2)},
    "two_leaves": {"z": 15, "x.grad": 3, "y.grad": 2 + 2 * 3},
    "chain_rule": {"x.grad": math.exp(math.sin(0.25)) * math.cos(0.25) * 2 * 0.5},
    "vanishing_gradient": {"x.grad": sigmoid_chain(1, 8)},
    "fan_out": {"x.grad": 3 * (6 + 6 + math.cos(6))},
    "micrograd": {
        "round(g.item(), 4)": 24.7041,
        "round(a.grad.item(), 4)": 138.8338,
        "round(b.grad.item(), 4)": 645.5773,
    },
    "vector_gradient": {"x.grad": [2, 4, 6]},
    "softmax_jacobian": {"scores.grad": [-p[1] * p[0], p[1] * (1 - p[1]), -p[1] * p[2]]},
    "broadcasting": {"column.grad": [[30], [30], [30]], "row.grad": [6, 6]},
    "matrix_product": {"A.grad": [[11, 15], [11, 15]], "B.grad": [[4, 4], [6, 6]]},
    "accumulation": {"x.grad": 12},
    "detach": {"x.grad": 4},
    "no_grad": {"w": 2, "w.grad": 4, "after": 1, "after.requires_grad": False},
    "in_place": {"x.grad": [0, 16, 24], "value.grad": 10},
    "linear_regression": {"round(w.item(), 1)": 3, "round(b.item(), 1)": 2, "w.grad": [0]},
    "network": {"net(inputs).round()": [[0], [1], [1], [0]]},
    "cross_entropy": {"scores.grad": [[q[0] - 1, q[1], q[2]]]},
    "convolution": {"kernel.grad.flatten()": [0, 4, 0, 4], "loss": 8},
    "recurrent": {"len(inputs)": 3},
    "attention": {"weights.sum(dim=1)": [1, 1, 1], "list(query.grad.shape)": [3, 4]},
    "custom_function": {"y": [0, 2], "x.grad": [0, 4]},
    "second_derivative": {"slope": 12, "x.grad": 12},
    "newton": {"x": math.sqrt(2)},
    "nan_through_where": {"y": [0, 2], "x.grad[1]": 0.25, "x.grad[0].isnan().item()": True},
}
FAILURES = {"backward_twice": "a second time", "changed_in_place": "modified by an inplace operation"}


def run(example: Example) -> tuple[dict[str, Any], str]:
    """Run it as plain Python does: its variables and what it printed."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example.source, example.id, "exec"), names)
    return names, printed.getvalue()


@pytest.mark.parametrize("name", RESULTS)
def test_example_gives_what_is_known_of_it(name: str) -> None:
    names, printed = run(find_example(name))
    assert printed
    for expression, expected in RESULTS[name].items():
        found = eval(expression, names)
        found = found.detach() if isinstance(found, torch.Tensor) else torch.tensor(found)
        expected = torch.tensor(expected, dtype=found.dtype)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * (name == "linear_regression") + 1e-7)


@pytest.mark.parametrize("name", FAILURES)
def test_failing_example_fails_with_its_error(name: str) -> None:
    with pytest.raises(RuntimeError, match=FAILURES[name]):
        run(find_example(name))
    assert find_example(name).caption.startswith("Fails on purpose")


def test_recurrent_gradient_is_the_sum_over_the_steps() -> None:
    names, _ = run(find_example("recurrent"))
    w, u, h, dw, du = 0.8, 0.5, 0.0, 0.0, 0.0
    for x in (1.0, 0.5, -1.0):
        before = h
        h = math.tanh(w * h + u * x)
        dw, du = (1 - h**2) * (before + w * dw), (1 - h**2) * (x + w * du)
    assert names["w"].grad.item() == pytest.approx(dw, rel=1e-5)
    assert names["u"].grad.item() == pytest.approx(du, rel=1e-5)


def test_every_example_has_a_result() -> None:
    assert RESULTS.keys() | FAILURES.keys() == set(IDS)


def test_gallery_names_every_file_once() -> None:
    folder = Path(examples.__file__).parent
    assert sorted(IDS) == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def test_groups_stay_together_in_their_order() -> None:
    groups = [example.group for example in EXAMPLES]
    assert list(dict.fromkeys(groups)) == list(GALLERY)
    assert sum(before != after for before, after in pairwise(groups)) == len(GALLERY) - 1
    assert len({example.title for example in EXAMPLES}) == len(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_example_is_short_and_captioned(example: Example) -> None:
    assert "\n" not in example.caption
    assert 30 < len(example.caption) < 110
    assert "!" not in example.caption + example.title
    assert example.caption.endswith(".")
    lines = example.source.splitlines()
    assert 3 <= len(lines) <= 25
    assert lines[0] == "import torch"
    assert max(map(len, lines)) <= 90
    assert "backward(" in example.source or "autograd.grad(" in example.source


def test_first_example_is_a_chain_of_five_lines() -> None:
    """No node of it is used twice, and it fits on one look."""
    first = EXAMPLES[0]
    assert first.id == "first_graph"
    assert len([line for line in first.source.splitlines() if line]) == 5
    names, _ = run(first)
    node, chain = names["y"].grad_fn, []
    while node is not None:
        chain.append(type(node).__name__)
        onward = [target for target, _ in node.next_functions if target is not None]
        assert len(onward) <= 1
        node = onward[0] if onward else None
    assert chain == ["AddBackward0", "MulBackward0", "SigmoidBackward0", "AccumulateGrad"]


def test_unknown_example_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        find_example("nothing")


def test_listing_imports_no_torch() -> None:
    code = "import sys; from explorer.examples import list_examples; list_examples(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
