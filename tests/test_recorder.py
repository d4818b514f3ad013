"""What is recorded of a program is what PyTorch did, and recording changes nothing of it."""

import contextlib
import io
import math
import random
import re
import time

import numpy as np
import pytest
import torch
from conftest import seed_programs
from torch import nn, optim
from torch.nn import functional as F

from explorer.examples import list_examples
from explorer.program import FILENAME, Program
from explorer.recorder import Output, record_program
from explorer.recording import Graph, Pass, Recording, Summary


def record(source: str, **options: object) -> Recording:
    return record_program(Program(source), **options)


def run_plain(source: str, seed: int = 0) -> tuple[str, dict, BaseException | None]:
    """The program in plain Python: what it printed, its globals, the exception that ended it."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    names = {"__name__": "__main__", "torch": torch, "nn": nn, "F": F, "optim": optim, "math": math, "np": np}
    output = io.StringIO()
    error = None
    with contextlib.redirect_stdout(output):
        try:
            exec(compile(source, FILENAME, "exec"), names)
        except Exception as raised:
            error = raised
    return output.getvalue(), names, error


def assert_summary_is(summary: Summary | None, tensor: torch.Tensor | None) -> None:
    """Bit for bit where all values were kept, else their statistics."""
    if tensor is None:
        assert summary is None
        return
    tensor = tensor.detach()
    assert summary.shape == list(tensor.shape)
    assert summary.dtype == str(tensor.dtype)
    if summary.is_whole:
        assert plain_values(summary.values) == plain_values(tensor.tolist())
    else:
        assert summary.l2 == pytest.approx(torch.linalg.vector_norm(tensor.double()).item(), rel=1e-4)
        assert summary.head == tensor.reshape(-1)[:8].tolist()


def plain_values(values: object) -> object:
    """Values with nan equal to nan."""
    if isinstance(values, list):
        return [plain_values(value) for value in values]
    if isinstance(values, complex):
        return {"re": values.real, "im": values.imag}
    if isinstance(values, float) and not math.isfinite(values):
        return "nan" if values != values else ("inf" if values > 0 else "-inf")
    return values


def node_of(graph: Graph, *, name: str | None = None, variable: str | None = None):
    found = [
        n for n in graph.nodes if (name is None or n.name == name) and (variable is None or n.variable == variable)
    ]
    assert len(found) == 1, [(n.id, n.name, n.variable) for n in graph.nodes]
    return found[0]


def step_of(one: Pass, node_id: str):
    return next(step for step in one.steps if step.node == node_id)


ALL_PROGRAMS = [pytest.param(e.source, id=e.id) for e in list_examples()] + [
    pytest.param(p.values[0]["code"] if p.values[0] else None, id=p.id or "seeds", marks=p.marks)
    for p in seed_programs()
]


@pytest.mark.parametrize("source", ALL_PROGRAMS)
def test_a_recorded_program_does_what_plain_python_does(source: str) -> None:
    printed, names, error = run_plain(source)
    recording = record(source)
    timed = re.compile(r"\d+\.\d+ seconds")
    assert timed.sub("", recording.stdout) == timed.sub("", printed)
    if error is None:
        assert recording.problem is None
    else:
        assert recording.problem.type == type(error).__name__
        assert recording.problem.message == str(error)
        trace, line = error.__traceback__, None
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == FILENAME else line
            trace = trace.tb_next
        assert recording.problem.line == line
    kept = {variable.name: variable for variable in recording.variables if variable.kind == "tensor"}
    plain = {name: value for name, value in names.items() if isinstance(value, torch.Tensor)}
    assert set(kept) == set(plain)
    for name, tensor in plain.items():
        assert_summary_is(kept[name].value, tensor)
        if tensor.is_leaf:
            assert_summary_is(kept[name].grad, tensor.grad)


@pytest.mark.parametrize("source", ALL_PROGRAMS)
def test_what_a_node_receives_is_the_sum_of_what_its_edges_carry(source: str) -> None:
    recording = record(source)
    for one in recording.passes:
        if not one.steps:
            continue
        graph = recording.graph(one.graph)
        received = {step.node: step for step in one.steps}
        for node in graph.nodes:
            edges = [edge for edge in graph.edges if edge.target == node.id and edge.source in received]
            if node.id not in received or node.hooked or not edges or node.id in one.roots:
                continue
            for number in {edge.input_nr for edge in edges}:
                parts = [received[e.source].grad_inputs[e.slot] for e in edges if e.input_nr == number]
                total = received[node.id].grad_outputs[number]
                if total is None or not total.is_whole or None in parts or "nan" in str(total.values):
                    continue
                summed = sum(torch.tensor(part.values, dtype=torch.float64) for part in parts)
                torch.testing.assert_close(
                    summed, torch.tensor(total.values, dtype=torch.float64), rtol=1e-4, atol=1e-6
                )


@pytest.mark.parametrize("source", ALL_PROGRAMS)
def test_json_round_trip_is_exact(source: str) -> None:
    recording = record(source)
    assert Recording.from_json(recording.to_json()) == recording


def test_the_three_line_program_is_told_number_by_number() -> None:
    recording = record("x = torch.tensor(2.0, requires_grad=True)\ny = 3 * torch.sigmoid(x) + 5\ny.backward()\n")
    (graph,), (one,) = recording.graphs, recording.passes
    names = [node.name for node in graph.nodes]
    assert names == ["AddBackward0", "MulBackward0", "SigmoidBackward0", "AccumulateGrad"]
    assert [node.line for node in graph.nodes] == [2, 2, 2, None]
    assert [node.variable for node in graph.nodes] == ["y", None, None, "x"]
    s = torch.sigmoid(torch.tensor(2.0)).item()
    assert graph.nodes[2].output.values == s
    assert graph.nodes[2].saved["result"].values == s
    assert one.loss == pytest.approx(3 * s + 5)
    assert [step.node for step in one.steps] == [node.id for node in graph.nodes]
    assert one.steps[1].grad_inputs[0].values == 3.0
    assert one.steps[1].local[0].values == 3.0
    assert one.steps[2].grad_inputs[0].values == pytest.approx(3 * s * (1 - s), rel=1e-6)
    assert one.steps[3].accumulated.before is None
    assert one.steps[3].accumulated.after.values == one.steps[2].grad_inputs[0].values


def test_torchviz_draws_the_same_nodes_and_edges() -> None:
    recording = record(
        "a = torch.tensor(3.0, requires_grad=True)\nb = a * a\nc = (b + torch.sin(b)) * a\nc.backward()\n"
    )
    (graph,) = recording.graphs
    assert graph.dot_by == "torchviz"
    statements = re.findall(r'^\t"([^"]+)"(?: -> "([^"]+)")?', graph.dot, re.MULTILINE)
    drawn = {tail for tail, head in statements if not head and "." not in tail}
    assert drawn == {node.id for node in graph.nodes}
    edges = sorted((tail, head) for tail, head in statements if head and "." not in tail + head)
    assert edges == sorted((edge.target, edge.source) for edge in graph.edges)


def test_our_own_walk_draws_what_torchviz_draws() -> None:
    from explorer.dot import draw_plain
    from explorer.recording import to_plain

    (graph,) = record("x = torch.rand(3, requires_grad=True)\ny = (x.exp() * x).sum()\ny.backward()\n").graphs
    ours = draw_plain(to_plain(graph.nodes), to_plain(graph.edges), graph.roots)
    ids = re.compile(r'^\t("[^"]+"(?: -> "[^"]+")?)', re.MULTILINE)
    assert set(ids.findall(ours)) == set(ids.findall(graph.dot))


def test_fan_in_keeps_each_contribution_and_their_sum() -> None:
    recording = record("x = torch.tensor(7.0, requires_grad=True)\nh = x * 1\ny = h * h + torch.sin(h)\ny.backward()\n")
    (graph,), (one,) = recording.graphs, recording.passes
    h = node_of(graph, variable="h")
    edges = [edge for edge in graph.edges if edge.target == h.id]
    contributions = [step_of(one, edge.source).grad_inputs[edge.slot].values for edge in edges]
    assert sorted(contributions) == pytest.approx(sorted([7.0, 7.0, math.cos(7.0)]), rel=1e-6)
    assert step_of(one, h.id).grad_outputs[0].values == pytest.approx(14 + math.cos(7.0), rel=1e-6)


def test_leaf_used_twice_has_two_edges() -> None:
    (graph,) = record("x = torch.tensor(3.0, requires_grad=True)\n(x * x).backward()\n").graphs
    leaf = node_of(graph, variable="x")
    assert [(edge.slot, edge.target) for edge in graph.edges] == [(0, leaf.id), (1, leaf.id)]


def test_slot_is_the_index_in_next_functions_where_an_input_needs_no_gradient() -> None:
    (graph,) = record("x = torch.tensor(3.0, requires_grad=True)\ny = torch.tensor(2.0) * x\ny.backward()\n").graphs
    assert [edge.slot for edge in graph.edges] == [1]


def test_steps_follow_engine_order() -> None:
    source = (
        "x = torch.tensor(0.5, requires_grad=True)\nts = [x]\nfor i in range(40):\n"
        "    ts.append(torch.tanh(ts[(i * 7) % len(ts)] + ts[-1]))\nsum(ts[-3:]).backward()\n"
    )
    recording = record(source)
    (graph,), (one,) = recording.graphs, recording.passes
    waiting = {node.id: 0 for node in graph.nodes}
    for edge in graph.edges:
        waiting[edge.target] += 1
    for step in one.steps:
        assert waiting[step.node] == 0, "a node ran before all that it waits for"
        for edge in graph.edges:
            if edge.source == step.node:
                waiting[edge.target] -= 1
    assert len(one.steps) == len(graph.nodes)


def test_several_backward_calls_are_several_passes() -> None:
    recording = record(
        "x = torch.tensor(2.0, requires_grad=True)\ny1 = x ** 2\ny1.backward()\ny2 = x ** 3\ny2.backward()\n"
        "x.grad.zero_()\ny3 = x ** 3\ny3.backward()\n"
    )
    accumulated = [one.steps[-1].accumulated for one in recording.passes]
    assert [(a.before and a.before.values, a.after.values) for a in accumulated] == [
        (None, 4.0),
        (4.0, 16.0),
        (0.0, 12.0),
    ]
    assert [one.line for one in recording.passes] == [3, 5, 8]
    assert len({node.id for graph in recording.graphs for node in graph.nodes}) == 6


def test_a_graph_walked_twice_is_one_graph() -> None:
    recording = record(
        "x = torch.tensor(2.0, requires_grad=True)\ny = x ** 3\ny.backward(retain_graph=True)\ny.backward()\n"
    )
    assert len(recording.graphs) == 1
    assert [one.graph for one in recording.passes] == ["g0", "g0"]
    assert [one.retain_graph for one in recording.passes] == [True, False]
    assert recording.passes[1].steps[-1].accumulated.after.values == 24.0


def test_autograd_grad_is_a_pass_without_accumulation() -> None:
    recording = record(
        "x = torch.tensor(3.0, requires_grad=True)\ny = x ** 2\n(g,) = torch.autograd.grad(y, x, create_graph=True)\n"
        "(h,) = torch.autograd.grad(g, x)\n"
    )
    first, second = recording.passes
    assert (first.kind, first.create_graph, second.kind) == ("grad", True, "grad")
    assert all(step.accumulated is None for one in recording.passes for step in one.steps)
    assert first.leaves[0].grad_norm == 6.0
    assert second.leaves[0].grad_norm == 2.0
    assert {node.line for node in recording.graph(second.graph).nodes if not node.is_leaf} <= {2, 3}


def test_gradient_argument_is_recorded_and_the_implicit_one_is_not() -> None:
    recording = record(
        "x = torch.tensor([1.0, 2.0], requires_grad=True)\n"
        "(x ** 2).backward(torch.tensor([1.0, 0.5]))\nx.sum().backward()\n"
    )
    assert recording.passes[0].gradient.values == [1.0, 0.5]
    assert recording.passes[1].gradient is None


def test_inputs_argument_leaves_other_nodes_unrun() -> None:
    recording = record(
        "a = torch.tensor(1.0, requires_grad=True)\nb = torch.tensor(2.0, requires_grad=True)\n"
        "c = a * 3\nd = c * b\nd.backward(inputs=[b])\n"
    )
    (graph,), (one,) = recording.graphs, recording.passes
    ran = {step.node for step in one.steps}
    assert node_of(graph, variable="b").id in ran
    assert node_of(graph, variable="a").id not in ran


def test_a_program_without_backward_has_a_graph_and_no_pass() -> None:
    recording = record(
        "x = torch.tensor(2.0, requires_grad=True)\n"
        "y = torch.tensor(3.0, requires_grad=True)\nz = x * y + y ** 2\nprint(z)\n"
    )
    assert recording.passes == []
    (graph,) = recording.graphs
    z = next(variable for variable in recording.variables if variable.name == "z")
    assert node_of(graph, name="AddBackward0").id == z.grad_fn == graph.roots[0]


def test_the_graph_up_to_an_error_is_drawn() -> None:
    recording = record("x = torch.tensor(2.0, requires_grad=True)\ny = x ** 2\nz = y.detach() * 3\nz.backward()\n")
    assert recording.status == "error"
    assert recording.problem.line == 4
    assert [node.name for node in recording.graphs[0].nodes] == ["PowBackward0", "AccumulateGrad"]


def test_a_backward_that_fails_tells_the_node_and_keeps_the_steps_before() -> None:
    recording = record(
        "x = torch.tensor(1.0, requires_grad=True)\ny = torch.exp(x)\nz = y * 2\ny.add_(1)\nz.backward()\n"
    )
    (one,) = recording.passes
    graph = recording.graph(one.graph)
    names = {node.id: node.name for node in graph.nodes}
    assert recording.problem.type == "RuntimeError"
    assert names[one.failed] == "ExpBackward0"
    assert [names[step.node] for step in one.steps] == ["MulBackward0"]


def test_a_tensor_hook_that_rescales_is_marked() -> None:
    recording = record(
        "x = torch.tensor(1.0, requires_grad=True)\n"
        "y = x * 2\ny.register_hook(lambda g: g * 10)\nz = y * 3\nz.backward()\n"
    )
    (graph,), (one,) = recording.graphs, recording.passes
    y = node_of(graph, variable="y")
    assert y.hooked and not node_of(graph, variable="z").hooked
    assert step_of(one, node_of(graph, variable="z").id).grad_inputs[0].values == 3.0
    assert step_of(one, y.id).grad_outputs[0].values == 30.0
    assert recording.variables[0].grad.values == 60.0


def test_hooks_on_nodes_are_doubted() -> None:
    recording = record(
        "x = torch.tensor(1.0, requires_grad=True)\n"
        "y = x * 2\ny.grad_fn.register_prehook(lambda g: (g[0] * 5,))\ny.backward()\n"
    )
    assert all(node.hooked for node in recording.graphs[0].nodes)
    assert recording.variables[0].grad.values == 10.0


def test_custom_function_is_a_node_on_its_line() -> None:
    source = (
        "class Cube(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n"
        "        ctx.save_for_backward(x)\n        return x ** 3\n    @staticmethod\n    def backward(ctx, grad):\n"
        "        (x,) = ctx.saved_tensors\n        return 3 * x ** 2 * grad\n"
        "x = torch.tensor(2.0, requires_grad=True)\ny = Cube.apply(x)\ny.backward()\n"
    )
    recording = record(source)
    node = node_of(recording.graphs[0], name="CubeBackward")
    assert (node.line, node.variable, node.output.values) == (11, "y", 8.0)
    assert recording.variables[-2].grad.values == 12.0


def test_module_parameters_and_layers_have_their_names() -> None:
    source = (
        "class Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.fc = nn.Linear(3, 2)\n"
        "        self.act = nn.Tanh()\n    def forward(self, x):\n        h = self.fc(x)\n        return self.act(h)\n"
        "net = Net()\nout = net(torch.ones(1, 3))\nout.sum().backward()\n"
    )
    graph = record(source).graphs[0]
    assert {node.variable for node in graph.nodes if node.is_leaf} == {"net.fc.weight", "net.fc.bias"}
    assert node_of(graph, name="AddmmBackward0").module == "net.fc"
    assert node_of(graph, name="AddmmBackward0").line == 7
    assert node_of(graph, name="AddmmBackward0").variable == "h"


def test_leaves_in_lists_dicts_and_objects_have_names() -> None:
    source = (
        "class Neuron:\n    def __init__(self):\n        self.w = torch.ones(2, requires_grad=True)\n"
        "ws = [torch.ones(2, requires_grad=True)]\np = {'b': torch.ones(2, requires_grad=True)}\nn = Neuron()\n"
        "(ws[0] * p['b'] * n.w).sum().backward()\n"
    )
    graph = record(source).graphs[0]
    assert {node.variable for node in graph.nodes if node.is_leaf} == {"ws[0]", "p['b']", "n.w"}


def test_the_name_of_a_statement_goes_to_the_node_whose_tensor_it_names() -> None:
    source = (
        "x = torch.ones(2, requires_grad=True)\nfor i in range(3):\n    x2 = (x * i).sum()\nx2 += 1\nx2.backward()\n"
    )
    graph = record(source).graphs[0]
    assert node_of(graph, name="AddBackward0").variable == "x2"
    assert node_of(graph, name="SumBackward0").variable == "x2"
    assert node_of(graph, name="MulBackward0").variable is None


@pytest.mark.parametrize(
    "loss",
    [
        "(x * w + x ** 2).sum()",
        "torch.sigmoid(x * w).prod()",
        "((x / w).tanh() - x.exp()).pow(2).mean()",
        "(x @ w).sin()",
    ],
)
def test_recorded_edges_agree_with_finite_differences(loss: str) -> None:
    """The gradient that reaches a leaf, edge by edge, against a central difference of the whole program."""
    values = {"x": [0.3, -0.7, 1.1], "w": [0.9, 0.4, -1.3]}
    lines = [f"{name} = torch.tensor({v}, dtype=torch.float64, requires_grad=True)" for name, v in values.items()]
    recording = record("\n".join([*lines, f"loss = {loss}", "loss.backward()"]))
    (graph,), (one,) = recording.graphs, recording.passes

    def evaluate(changed: dict) -> float:
        tensors = {name: torch.tensor(v, dtype=torch.float64) for name, v in changed.items()}
        return eval(loss, {"torch": torch, **tensors}).item()

    for name, start in values.items():
        leaf = node_of(graph, variable=name)
        edges = [edge for edge in graph.edges if edge.target == leaf.id]
        carried = [step_of(one, edge.source).grad_inputs[edge.slot].values for edge in edges]
        total = [sum(parts) for parts in zip(*carried, strict=True)]
        for index in range(len(start)):
            h = 1e-6
            up, down = dict(values), dict(values)
            up[name] = [v + h * (i == index) for i, v in enumerate(start)]
            down[name] = [v - h * (i == index) for i, v in enumerate(start)]
            assert total[index] == pytest.approx((evaluate(up) - evaluate(down)) / (2 * h), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(
    "op", ["torch.sigmoid(x)", "x.exp()", "x * 3", "x ** 2", "torch.tanh(x)", "x / 2", "torch.relu(x)"]
)
def test_received_times_local_is_sent(op: str) -> None:
    recording = record(
        f"x = torch.tensor([0.5, -1.5], requires_grad=True)\ny = {op}\ny.backward(torch.tensor([2.0, 7.0]))\n"
    )
    step = recording.passes[0].steps[0]
    (slot,) = [index for index, local in enumerate(step.local) if local is not None]
    products = [r * d for r, d in zip(step.grad_outputs[0].values, step.local[slot].values, strict=True)]
    assert products == pytest.approx(step.grad_inputs[slot].values, rel=1e-6)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = torch.tensor(float('nan'), requires_grad=True)\n(x * x).backward()", "nan"),
        ("x = torch.tensor(float('inf'), requires_grad=True)\n(x * x).backward()", "inf"),
        ("x = torch.tensor(1 + 2j, requires_grad=True)\n(x * x.conj()).real.backward()", {"re": 2.0, "im": 4.0}),
        ("x = torch.zeros(0, 3, requires_grad=True)\nx.sum().backward()", []),
    ],
)
def test_odd_numbers_stay_strict_json(source: str, expected: object) -> None:
    recording = record(source)
    assert recording.problem is None
    assert recording.variables[0].grad.values == expected
    assert Recording.from_json(recording.to_json()) == recording


def test_sparse_gradients_are_readable() -> None:
    recording = record("e = nn.Embedding(5, 2, sparse=True)\ne(torch.tensor([1, 1, 3])).sum().backward()\n")
    assert recording.problem is None
    assert recording.passes[0].steps[-1].accumulated.after.values[1] == [2.0, 2.0]


def test_large_tensors_keep_statistics_and_a_head() -> None:
    recording = record(
        "torch.manual_seed(1)\nw = torch.randn(30, 40).t().requires_grad_()\n(w ** 2).sum().backward()\n"
    )
    torch.manual_seed(1)
    w = torch.randn(30, 40).t()
    grad = recording.variables[0].grad
    assert grad.head == (2 * w).reshape(-1)[:8].tolist()
    assert grad.min == (2 * w).min().item()
    assert grad.mean == pytest.approx((2 * w).mean().item(), rel=1e-3)


def test_statistics_follow_a_change_in_place() -> None:
    recording = record(
        "w = torch.ones(100, requires_grad=True)\n(w * 2).sum().backward()\nwith torch.no_grad():\n    w -= 0.5\n"
        "w.grad = None\n(w * w).sum().backward()\n",
        full=[0, 1],
    )
    leaves = [next(n for n in graph.nodes if n.is_leaf) for graph in recording.graphs]
    assert [leaf.output.max for leaf in leaves] == [1.0, 0.5]
    assert recording.passes[1].steps[-1].accumulated.after.max == 1.0


def test_eval_fast_paths_give_the_same_bits() -> None:
    source = (
        "torch.manual_seed(0)\nlayer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()\n"
        "with torch.no_grad():\n    out = layer(torch.randn(2, 5, 8))\n"
        "print(out.sum().item(), out.flatten()[:3].tolist())\n"
    )
    assert record(source).stdout == run_plain(source)[0]


def test_unpack_hooks_of_the_program_run_no_more_often_than_in_plain_python() -> None:
    source = (
        "from torch.autograd.graph import saved_tensors_hooks\nx = torch.ones(3, requires_grad=True)\n"
        "with saved_tensors_hooks(lambda t: (print('pack'), t)[1], lambda t: (print('unpack'), t)[1]):\n    y = x * x\n"
        "y.sum().backward()\n"
    )
    assert record(source).stdout == run_plain(source)[0]


def test_checkpointed_programs_are_recorded() -> None:
    for reentrant in (True, False):
        source = (
            "from torch.utils.checkpoint import checkpoint\nx = torch.ones(3, requires_grad=True)\n"
            f"y = checkpoint(lambda t: (t.sin() * t).exp(), x, use_reentrant={reentrant})\ny.sum().backward()\n"
            "print(x.grad)\n"
        )
        recording = record(source)
        assert recording.problem is None
        assert recording.stdout == run_plain(source)[0]
        assert len(recording.passes) == 1


def test_a_loop_keeps_every_loss_and_the_first_and_last_pass_in_full() -> None:
    recording = record(
        "w = torch.tensor(5.0, requires_grad=True)\nlosses = []\nfor step in range(300):\n    loss = w ** 2\n"
        "    loss.backward()\n    losses.append(loss.item())\n    with torch.no_grad():\n        w -= 0.01 * w.grad\n"
        "    w.grad = None\n"
    )
    _, names, _ = run_plain(recording.program["source"])
    assert [one.loss for one in recording.passes] == names["losses"]
    assert recording.passes[0].steps and recording.passes[-1].steps
    full = [one for one in recording.passes if one.steps]
    assert len(full) <= 60
    assert all(one.detail == ("full" if one.steps else "light") for one in recording.passes)


def test_a_pass_that_is_asked_for_is_recorded_in_full() -> None:
    source = (
        "w = torch.tensor(5.0, requires_grad=True)\nfor step in range(200):\n    loss = w ** 2\n    loss.backward()\n"
        "    with torch.no_grad():\n        w -= 0.01 * w.grad\n    w.grad = None\n"
    )
    recording = record(source, full=[131])
    assert recording.passes[131].steps[0].grad_outputs[0].values == 1.0
    assert recording.passes[131].loss == record(source).passes[131].loss


def test_ten_thousand_operations_in_a_row_are_recorded_in_full() -> None:
    recording = record(
        "x = torch.tensor(1.0, requires_grad=True)\ny = x\nfor i in range(10_000):\n    y = y * 1.0001\ny.backward()\n",
        draws=False,
    )
    assert len(recording.passes[0].steps) == 10_001
    assert recording.variables[0].grad.values == pytest.approx(math.exp(1), rel=1e-2)


def test_a_knob_replaces_its_literal() -> None:
    source = "rate = 0.5\nx = torch.tensor(1.0, requires_grad=True)\n(rate * x).backward()\n"
    recording = record_program(Program(source, knobs={"rate": 0.25}))
    assert next(v for v in recording.variables if v.name == "x").grad.values == 0.25
    refused = record_program(Program(source, knobs={"speed": 1}))
    assert refused.status == "refused" and "rate" in refused.problem.message


def test_warnings_become_notes() -> None:
    recording = record("x = torch.tensor(1.0, requires_grad=True)\ny = x * 2\nz = y.grad\n")
    assert any("line 3" in note and "non-leaf" in note for note in recording.notes)


def test_the_recording_holds_no_live_tensor() -> None:
    recording = record("x = torch.ones(3, requires_grad=True)\n(x * 2).sum().backward()\n")
    plain = recording.to_plain()

    def walk(value: object) -> None:
        assert value is None or isinstance(value, str | int | float | bool | list | dict), type(value)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(item)

    walk(plain)


def test_a_node_that_was_recorded_can_be_hooked_by_the_program_afterwards() -> None:
    source = (
        "x = torch.tensor(2.0, requires_grad=True)\ny = x ** 2\ny.backward(retain_graph=True)\n"
        "handle = y.grad_fn.register_hook(lambda sent, received: (sent[0] * 10,))\ny.backward(retain_graph=True)\n"
        "handle.remove()\ny.backward()\nprint(x.grad)\n"
    )
    recording = record(source)
    assert recording.problem is None
    assert recording.stdout == run_plain(source)[0] == "tensor(48.)\n"


def test_a_module_may_take_any_keyword() -> None:
    source = (
        "class Net(nn.Module):\n    def forward(self, x, module=1, cls=2):\n        return x * module * cls\n"
        "print(Net()(torch.ones(1), module=3, cls=5))\n"
    )
    assert record(source).stdout == "tensor([15.])\n"


@pytest.mark.parametrize("call", ["torch.autograd.backward([])", "torch.autograd.grad([], [x], allow_unused=True)"])
def test_a_backward_of_nothing_does_what_plain_python_does(call: str) -> None:
    source = f"x = torch.ones(1, requires_grad=True)\nprint({call})\n"
    printed, _, error = run_plain(source)
    recording = record(source)
    assert recording.stdout == printed
    assert (recording.problem and recording.problem.message) == (error and str(error))


def test_each_tensor_with_a_graph_of_its_own_has_it_drawn() -> None:
    recording = record("x = torch.ones(2, requires_grad=True)\nu = x * 2\nv = x.exp()\nw = x.sin()\n")
    assert len(recording.graphs) == 3
    names = {node.id: node.name for graph in recording.graphs for node in graph.nodes}
    made = {variable.name: names[variable.grad_fn] for variable in recording.variables if variable.grad_fn}
    assert made == {"u": "MulBackward0", "v": "ExpBackward0", "w": "SinBackward0"}


def test_a_light_pass_shows_the_graph_of_its_own_line_and_each_line_ends_in_full() -> None:
    recording = record(
        "a = torch.tensor(1.0, requires_grad=True)\nb = torch.tensor(1.0, requires_grad=True)\n"
        "for i in range(400):\n    (a * 2).sin().backward()\n    (b * 3).exp().backward()\n"
    )
    for one in recording.passes:
        graph = recording.graph(one.graph)
        if graph is not None:
            assert {leaf.variable for leaf in one.leaves} <= {"a" if one.line == 4 else "b"}
            assert graph.nodes[0].name == ("SinBackward0" if one.line == 4 else "ExpBackward0")
    assert recording.passes[-1].steps and recording.passes[-2].steps


def test_leaves_made_anew_keep_their_names_apart() -> None:
    source = (
        "w = torch.tensor(1.0, requires_grad=True)\nb = torch.tensor(50.0, requires_grad=True)\nfor i in range(3000):\n"
        "    (w * b).backward()\n    w = (w * 1.0).detach().requires_grad_()\n"
        "    b = (b * 1.0).detach().requires_grad_()\n"
    )
    values = {(leaf.variable, leaf.value.values) for one in record(source).passes for leaf in one.leaves}
    assert values <= {("w", 1.0), ("b", 50.0), (None, 1.0), (None, 50.0)}


def test_light_passes_of_autograd_grad_tell_the_norm_of_what_was_returned() -> None:
    source = "x = torch.tensor(3.0, requires_grad=True)\nfor i in range(2000):\n    torch.autograd.grad(x ** 2, x)\n"
    norms = {leaf.grad_norm for one in record(source).passes for leaf in one.leaves}
    assert norms == {6.0}


def test_a_graph_that_no_variable_holds_is_drawn() -> None:
    recording = record("m = nn.Linear(3, 1)\nprint(m(torch.ones(2, 3)).shape)\n")
    assert [node.name for node in recording.graphs[0].nodes if not node.is_leaf] == ["AddmmBackward0", "TBackward0"]


def test_a_large_recording_keeps_its_first_and_last_pass_and_the_index_of_each() -> None:
    import json

    from explorer.recorder import record_plain
    from explorer.transcript import fit_json

    source = (
        "w = torch.tensor(5.0, requires_grad=True)\nfor i in range(3000):\n    (w ** 2).backward()\n    w.grad = None\n"
    )
    plain = record_plain(Program(source))
    text = fit_json(plain, most=400_000)
    kept = json.loads(text)
    assert len(text.encode()) <= 400_000
    assert kept["passes"][0]["steps"] and kept["passes"][-1]["steps"]
    assert kept["passes"][-1]["index"] == 2999
    assert kept["graphs"] and "larger than can be kept" in kept["notes"][-1]


def test_of_a_very_long_loop_the_full_passes_and_a_share_of_the_others_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("explorer.transcript.MOST_BARE", 500)
    source = (
        "w = torch.tensor(5.0, requires_grad=True)\nseen = []\nfor i in range(6000):\n    loss = (w - i % 5) ** 2\n"
        "    loss.backward()\n    seen.append(loss.item())\n    w.grad = None\n"
    )
    _, names, _ = run_plain(source)
    recording = record(source)
    assert len(recording.passes) < 2_000
    assert all(one.loss == names["seen"][one.index] for one in recording.passes)
    assert recording.passes[0].steps and recording.passes[-1].steps and recording.passes[-1].index == 5_999
    assert any("one in " in note for note in recording.notes)


def test_after_so_many_passes_a_run_is_stopped_and_no_later() -> None:
    source = "w = torch.tensor(5.0, requires_grad=True)\nfor i in range(100_000):\n    (w ** 2).backward()\n"
    for until in (1, 2, 50, 700):
        recording = record_program(Program(source), until=until, full=[until - 1])
        assert recording.problem.type == "Stopped"
        assert recording.passes[-1].index == until - 1 and recording.passes[-1].steps


def test_a_line_that_was_told_in_part_is_told_to_its_end_at_once() -> None:
    told = []
    output = Output(lambda event: told.append(event["text"]), interval=0.01)
    time.sleep(0.05)
    # As print("before") writes it on a slow machine: what a crash would leave is the whole line.
    output.write("before")
    output.write("\n")
    assert told == ["before\n"]
    time.sleep(0.05)
    output.write("1 ")
    output.write("2")
    assert told[1:] == ["1 2"]
    output.write("\n")
    assert told[2:] == ["\n"]
