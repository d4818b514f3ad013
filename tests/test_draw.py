"""From a Recording to pictures and tables: every node and edge is found again, and folding loses none."""

import json
import re
import time
from collections import Counter
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from explorer.dot import draw_plain
from explorer.draw import MOST_LABEL, decorate_dot, escape, format_gradient, format_value, shorten
from explorer.examples import list_examples
from explorer.fold import MOST_GROUPS, MOST_NODES, Fold, fold_graph
from explorer.program import Program
from explorer.recorder import record_program
from explorer.recording import Edge, Graph, Node, Pass, Recording, Step, Summary, Variable, to_plain
from explorer.runner import Runner
from explorer.ui.views import (
    backward_line,
    choose_picture,
    pass_rows,
    shown_passes,
    tell_value,
    variable_rows,
    view_nothing,
    view_picture,
)

SVG = "{http://www.w3.org/2000/svg}"
SHOW = {"saved": False, "attributes": False}
CHAIN = "x = torch.tensor(1.0, requires_grad=True)\ny = x\nfor i in range({n}):\n    y = y.sin() * 1.1\ny.backward()\n"
ENCODER = """\
layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
net = nn.TransformerEncoder(layer, 12)
out = net(torch.randn(2, 5, 16))
loss = (out ** 2).mean()
loss.backward()
"""
RNN = """\
cell = nn.RNNCell(3, 4)
readout = nn.Linear(4, 1)
h = torch.zeros(2, 4)
loss = torch.tensor(0.0)
for t in range(50):
    h = cell(torch.randn(2, 3), h)
    loss = loss + (readout(h) ** 2).mean()
loss.backward()
"""


def record(source: str) -> Recording:
    recording = record_program(Program(source))
    assert recording.problem is None
    return recording


def scalar(value: object) -> Summary:
    return Summary([], "torch.float32", values=value)


# -- decorated DOT -------------------------------------------------------------------------------------


def ids_of(dot: str) -> Counter:
    return Counter(re.findall(r' \[(?:[^"\]]|"(?:[^"\\]|\\.)*")*?\bid="([^"]+)"', dot))


@pytest.mark.parametrize("example", list_examples(), ids=lambda example: example.id)
def test_every_node_and_edge_is_drawn_once_under_its_id(example: object) -> None:
    for graph in record_program(Program(example.source)).graphs:
        found = ids_of(decorate_dot(graph, show_saved=True, show_attributes=True))
        for name in [*(node.id for node in graph.nodes), *(edge.id for edge in graph.edges)]:
            assert found[name] == 1, name
        leaves = {f"{node.id}.variable" for node in graph.nodes if node.is_leaf}
        assert leaves <= set(found)


def test_edge_used_twice_is_drawn_twice(runner: Runner) -> None:
    graph = record("x = torch.tensor(3.0, requires_grad=True)\n(x * x).backward()\n").graphs[0]
    svg = ElementTree.fromstring(runner.draw(decorate_dot(graph)))
    edges = [group.get("id") for group in svg.iter(f"{SVG}g") if group.get("class") == "edge gradient"]
    assert sorted(edges) == ["n0-0", "n0-1"]


def test_saved_tensors_are_drawn_when_asked_for_one_box_for_each_name() -> None:
    graph = record("x = torch.tensor(3.0, requires_grad=True)\ny = x * x\nz = y * y + x ** 2\nz.backward()\n").graphs[0]
    assert ".saved." in graph.dot
    assert ".saved." not in decorate_dot(graph)
    found = {name for name in ids_of(decorate_dot(graph, show_saved=True)) if ".saved." in name and "--" not in name}
    expected = {f"{node.id}.saved.{name}" for node in graph.nodes for name in node.saved}
    assert len(expected) == 5
    assert found == expected


def test_attributes_are_drawn_when_asked_for() -> None:
    graph = record("x = torch.tensor(3.0, requires_grad=True)\ny = x ** 2\ny.backward()\n").graphs[0]
    assert "exponent: 2" not in decorate_dot(graph)
    assert "exponent: 2" in decorate_dot(graph, show_attributes=True)


def test_labels_tell_name_value_and_line() -> None:
    graph = record("x = torch.tensor(3.0, requires_grad=True)\ny = x ** 2\ny.backward()\n").graphs[0]
    dot = decorate_dot(graph)
    assert 'label="PowBackward0\\ny = 9, line 2"' in dot
    assert 'id="n1.variable" class=leaf label="x = 3"' in dot
    assert 'id="n1" class=accumulate label="AccumulateGrad"' in dot
    assert 'id="n0.output" class=output label="y = 9"' in dot


def test_labels_name_the_layer_and_of_a_long_path_its_end() -> None:
    source = "net = nn.Sequential(nn.Linear(9, 8), nn.ReLU())\nnet(torch.ones(10, 9)).sum().backward()\n"
    dot = decorate_dot(record(source).graphs[0])
    assert 'label="net.0: AddmmBackward0\\n(10, 8), line 2"' in dot
    assert 'label="net.1: ReluBackward0\\n(10, 8), line 2"' in dot
    assert 'label="SumBackward0' in dot
    names = [
        Node("n0", "AddmmBackward0", False, module="encoder.layers.11.linear2"),
        Node("n1", "NativeLayerNormBackward0WithALongName", False, module="net.norm"),
    ]
    nodes = [to_plain(node) for node in names]
    dot = decorate_dot(Graph("g0", names, [], draw_plain(nodes, [], [])))
    assert 'label="\N{HORIZONTAL ELLIPSIS}layers.11.linear2: AddmmBackward0"' in dot
    assert 'label="NativeLayerNormBackward0WithALongName"' in dot


def test_edge_keeps_room_for_the_widest_gradient_of_the_passes() -> None:
    graph = Graph(
        "g0",
        [Node("n0", "SinBackward0", False), Node("n1", "AccumulateGrad", True)],
        [Edge("n0", 0, "n1", 0)],
        '\t"n1" -> "n0"\n',
    )
    passes = [
        Pass(i, 1, "backward", "g0", ["n0"], 0.0, None, False, False, [], [Step("n0", [None], [scalar(value)])])
        for i, value in enumerate([1.0, -0.123456, 2.0])
    ]
    assert 'id="n0-0" class=gradient label="-0.1235"' in decorate_dot(graph, passes)


HOSTILE = ['a"b', "back\\slash", "<b>&amp;", "]; n9 [label=x", "\\N \\G \\E", "\u65e5\u672c \U0001f600", "{a|b}", "'"]


def test_any_name_is_drawn_as_its_own_text(runner: Runner) -> None:
    nodes = [Node(f"n{i}", "AccumulateGrad", True, variable=name) for i, name in enumerate(HOSTILE)]
    dot = "".join(f'\t"{node.id}.variable" [label=""]\n' for node in nodes)
    svg = ElementTree.fromstring(runner.draw(decorate_dot(Graph("g0", nodes, [], dot))))
    shown = {}
    for group in svg.iter(f"{SVG}g"):
        if group.get("class") == "node leaf":
            shown[group.get("id")] = " ".join(text.text for text in group.iter(f"{SVG}text"))
    assert [shown[f"n{i}.variable"] for i in range(len(HOSTILE))] == HOSTILE
    assert len(shown) == len(HOSTILE)


def test_escape_leaves_no_quote_and_no_escape_of_graphviz_open() -> None:
    assert escape('say "\\N"') == 'say \\"\\\\N\\"'
    assert escape("one\ntwo") == escape("one\\ntwo") == "one\\ntwo"


def test_long_text_is_cut_to_a_line() -> None:
    assert shorten("a  b\n c") == "a b c"
    assert len(shorten("x" * 100)) == MOST_LABEL
    assert shorten("x" * 100).endswith("\N{HORIZONTAL ELLIPSIS}")
    assert shorten("x" * MOST_LABEL) == "x" * MOST_LABEL


@pytest.mark.parametrize(
    ("summary", "value", "gradient"),
    [
        (scalar(0.123456), "0.1235", "0.1235"),
        (scalar("nan"), "nan", "nan"),
        (scalar({"re": 1.0, "im": -2.0}), "1-2j", "1-2j"),
        (scalar(True), "True", "True"),
        (Summary([2], "torch.float32", values=[1.0, 2.5]), "[1, 2.5]", "[1, 2.5]"),
        (Summary([9], "torch.float32", values=[1.0] * 9), "(9)", "norm 3"),
        (Summary([0], "torch.float32", values=[]), "(0)", "(0)"),
        (Summary([10, 10], "torch.float32", head=[1.0] * 8, l2="inf"), "(10, 10)", "norm inf"),
    ],
)
def test_values_and_gradients_are_told_in_a_few_characters(summary: Summary, value: str, gradient: str) -> None:
    assert (format_value(summary), format_gradient(summary)) == (value, gradient)


def test_graph_too_large_for_torchviz_is_drawn_by_our_own_walk() -> None:
    graph = record(CHAIN.format(n=250)).graphs[0]
    assert (graph.dot_by, len(graph.nodes)) == ("explorer", 501)
    found = ids_of(decorate_dot(graph))
    assert {node.id for node in graph.nodes} | {edge.id for edge in graph.edges} <= set(found)


# -- folding -------------------------------------------------------------------------------------------


def assert_fold_is_exact(graph: Graph, fold: Fold) -> None:
    """Each node is in one box but for leaves of several, and the boxes are connected exactly as what is in them."""
    boxes = {box.id: box for box in fold.graph.nodes}
    leaves = {node.id for node in graph.nodes if node.is_leaf}
    users = {leaf: {fold.group_of[e.source] for e in graph.edges if e.target == leaf} for leaf in leaves}
    shared = {leaf for leaf, using in users.items() if len(using) > 1}
    assert set(fold.group_of) == {node.id for node in graph.nodes} - shared
    assert set(fold.group_of.values()) == set(boxes)
    for name, count in Counter(fold.group_of.values()).items():
        assert boxes[name].attributes["nodes"] == count
    pairs = {(fold.group_of[e.source], fold.group_of[e.target]) for e in graph.edges if e.target not in shared}
    assert sorted((e.source, e.target) for e in fold.graph.edges) == sorted(p for p in pairs if p[0] != p[1])
    assert len({e.id for e in fold.graph.edges}) == len(fold.graph.edges)
    assert fold.graph.roots == list(dict.fromkeys(fold.group_of[root] for root in graph.roots))
    assert not set(boxes) & {node.id for node in graph.nodes}


def assert_folded_pass_follows(one: Pass, fold: Fold) -> None:
    """The steps of the folded pass are those of the pass, those in a row in one box taken together."""
    groups = [fold.group_of[step.node] for step in one.steps if step.node in fold.group_of]
    expected = [group for i, group in enumerate(groups) if i == 0 or group != groups[i - 1]]
    folded = fold.fold_pass(one)
    assert [step.node for step in folded.steps] == expected
    assert len(fold.explain_pass(folded)) == len(expected)
    sent = {(step.node, slot): g for step in one.steps for slot, g in enumerate(step.grad_inputs)}
    edges = {(edge.source, edge.target): edge.slot for edge in fold.graph.edges}
    for (node, slot), pair in fold.crossings.items():
        carried = [s.grad_inputs[edges[pair]] for s in folded.steps if s.node == pair[0]]
        assert sent.get((node, slot)) in carried
    assert (folded.loss, folded.index, len(folded.leaves)) == (one.loss, one.index, len(one.leaves))


@pytest.mark.parametrize("source", [ENCODER, CHAIN.format(n=500), RNN], ids=["encoder", "loop", "rnn"])
def test_folding_loses_no_node_no_edge_and_no_step(source: str) -> None:
    recording = record(source)
    (graph,), (one,) = recording.graphs, recording.passes
    assert len(graph.nodes) > MOST_NODES
    fold = fold_graph(graph)
    assert 1 < len(fold.graph.nodes) <= MOST_GROUPS
    assert_fold_is_exact(graph, fold)
    assert_folded_pass_follows(one, fold)


def test_encoder_is_folded_by_its_layers() -> None:
    graph = record(ENCODER).graphs[0]
    fold = fold_graph(graph)
    assert "module" in fold.kind
    for number in range(12):
        path = f"net.layers.{number}"
        assert any(box.module == path or box.module.startswith(f"{path}.") for box in fold.graph.nodes if box.module)
    for node in graph.nodes:
        if node.module and not node.is_leaf:
            box = next(b for b in fold.graph.nodes if b.id == fold.group_of[node.id])
            assert node.module.split(".")[:3] == (box.module or "").split(".")[:3]


def test_loop_is_folded_by_its_iterations() -> None:
    fold = fold_graph(record(CHAIN.format(n=500)).graphs[0])
    spans = sorted(
        (int(first), int(last or first))
        for first, last in re.findall(
            r"iterations? (\d+)(?: to (\d+))?", "\n".join(f"{box.name};" for box in fold.graph.nodes)
        )
    )
    assert spans[0][0] == 1 and spans[-1][1] == 500
    assert all(before[1] + 1 == after[0] for before, after in pairwise(spans))
    assert all(box.line == 4 for box in fold.graph.nodes if "iteration" in box.name)


def test_thousand_operations_are_folded_and_laid_out_within_a_second(runner: Runner) -> None:
    recording = record(CHAIN.format(n=500))
    runner.draw("digraph { warm }")
    began = time.perf_counter()
    picture = choose_picture(recording, 0)
    svg = runner.draw(picture.dot(**SHOW))
    assert time.perf_counter() - began < 1.0
    groups = {group.get("id") for group in ElementTree.fromstring(svg).iter(f"{SVG}g")}
    assert {node.id for node in picture.graph.nodes} | {edge.id for edge in picture.graph.edges} <= groups


def test_any_graph_is_folded_to_at_most_as_many_boxes() -> None:
    """Lines, modules and iterations without any order, down to one box."""
    count = 400
    nodes = [
        Node(f"n{i}", f"Op{i % 7}Backward0", False, line=i if i % 5 else None, module=f"m.{i % 90}.{i % 3}", column=0)
        for i in range(count)
    ]
    edges = [Edge(f"n{i}", 0, f"n{i + 1}", 0) for i in range(count - 1)]
    graph = Graph("g0", nodes, edges, "", roots=["n0"], total_nodes=count)
    for most in (1, 2, 10, 60, 400):
        fold = fold_graph(graph, most)
        assert_fold_is_exact(graph, fold)
        assert len(fold.graph.nodes) <= max(most, 2)


def test_graph_that_was_cut_is_shown_with_its_true_size(runner: Runner) -> None:
    recording = record(CHAIN.format(n=15_000))
    picture = choose_picture(recording, 0)
    assert picture.message.startswith("30,001 nodes are more than can be kept. The 2,000 nearest the root, folded by ")
    assert "<svg" in runner.draw(picture.dot(**SHOW))


# -- views ---------------------------------------------------------------------------------------------


def view_of(source: str, **show: bool) -> dict:
    recording = record(source)
    view = view_picture(
        choose_picture(recording, 0),
        "<svg/>",
        dot=recording.graphs[0].dot,
        source=source,
        run_id="1",
        show=SHOW | show,
        large=False,
    )
    json.dumps(view, allow_nan=False)
    return view


def test_view_is_strict_json_with_a_sentence_for_each_step() -> None:
    view = view_of("x = torch.tensor([float('nan'), float('inf')], requires_grad=True)\n(x * x).sum().backward()\n")
    (one,) = view["passes"]
    assert len(one["sentences"]) == len(one["steps"]) == 3
    assert one["start"]
    assert view["svg"] == "<svg/>" and view["message"] is None


def test_view_of_a_folded_graph_has_a_sentence_for_each_step_too() -> None:
    view = view_of(CHAIN.format(n=100))
    (one,) = view["passes"]
    assert "201 nodes, folded by" in view["message"]
    assert len(one["sentences"]) == len(one["steps"]) > 1
    assert {step["node"] for step in one["steps"]} <= {node["id"] for node in view["graph"]["nodes"]}


def test_signature_tells_structures_apart_and_values_not() -> None:
    first, second = (view_of(f"x = torch.tensor({v}, requires_grad=True)\n(x * x).backward()\n") for v in (1.0, 2.0))
    other = view_of("x = torch.tensor(1.0, requires_grad=True)\n(x * 2).backward()\n")
    assert first["signature"] == second["signature"] != other["signature"]


def test_view_of_nothing_says_why() -> None:
    view = view_nothing("no graph", run_id="1", show=SHOW, large=True)
    json.dumps(view, allow_nan=False)
    keys = set(view_of("x = torch.tensor(1.0, requires_grad=True)\nx.exp().backward()\n"))
    assert keys - set(view) <= {"source", "folded", "stale", "maps"}
    assert (view["message"], view["svg"], view["graph"]["nodes"], view["large"]) == ("no graph", None, [], True)


def test_picture_is_that_of_the_pass_and_without_one_of_the_last_graph() -> None:
    recording = record(
        "x = torch.tensor(1.0, requires_grad=True)\nx.sin().backward()\nx.cos().backward()\nloose = x.tanh()\n"
    )
    names = [choose_picture(recording, index).graph.nodes[0].name for index in (0, 1)]
    assert names == ["SinBackward0", "CosBackward0"]
    assert choose_picture(recording, 0).passes == [recording.passes[0]]
    loose = record("x = torch.tensor(1.0, requires_grad=True)\ny = x.sin()\nz = y.cos()\n")
    assert choose_picture(loose, 0).graph.nodes[0].name == "CosBackward0"
    assert choose_picture(loose, 0).passes == []
    assert choose_picture(record("x = 1"), None) is None


def test_a_picture_shows_the_one_pass_that_was_chosen() -> None:
    source = "x = torch.tensor(2.0, requires_grad=True)\ny = x ** 3\ny.backward(retain_graph=True)\ny.backward()\n"
    assert [one.index for one in choose_picture(record(source), 1).passes] == [1]


def test_rows_of_variables_are_texts() -> None:
    recording = record(
        "x = torch.tensor([1.0, 2.0], requires_grad=True)\ny = (x ** 2).sum()\ny.backward()\nn = 3\n"
        "big = torch.zeros(10, 10)\nnet = nn.Linear(2, 1)\ni = torch.tensor([True])\n"
    )
    rows = {row["name"]: row for row in variable_rows(recording)}
    assert all(isinstance(cell, str) for row in rows.values() for cell in row.values())
    assert len({tuple(row) and frozenset(row) for row in rows.values()}) == 1
    x, y = rows["x"], rows["y"]
    assert (x["value"], x["shape"], x["dtype"], x["grad"]) == ("[1, 2]", "(2,)", "float32", "[2, 4]")
    assert (x["requires_grad"], x["is_leaf"], x["grad_fn"]) == ("yes", "yes", "")
    assert (y["value"], y["is_leaf"], y["grad_fn"], y["grad"]) == ("5", "no", "SumBackward0", "None")
    assert rows["big"]["value"] == "0 to 0, mean 0"
    assert rows["n"]["value"] == "3" and rows["net"]["kind"] == "module"


def test_table_cell_of_what_cannot_be_read_says_so() -> None:
    assert tell_value(None) == "not readable"
    meta = Variable("m", "tensor", "Tensor", [2], "torch.float32", "meta", False, True, None, None, None)
    (row,) = variable_rows(Recording({}, "ok", variables=[meta]))
    assert (row["value"], row["device"]) == ("not readable", "meta")


def test_rows_of_passes_tell_call_loss_and_norms() -> None:
    recording = record(
        "x = torch.tensor(2.0, requires_grad=True)\ny = x ** 2\ny.backward()\n"
        "torch.autograd.grad((x * torch.ones(2)).sum(), x)\n(x * torch.ones(2)).backward(torch.ones(2))\n"
    )
    rows = pass_rows(recording)
    assert [(row["pass"], row["line"], row["call"], row["loss"]) for row in rows] == [
        (1, 3, "backward()", "4"),
        (2, 4, "autograd.grad()", "4"),
        (3, 5, "backward()", ""),
    ]
    assert rows[0]["gradient norms"] == "x 4"
    assert shown_passes(recording) == [0, 1, 2]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = torch.tensor(2.0, requires_grad=True)\ny = x * 2\n", ("y", True)),
        ("x = torch.ones(3, requires_grad=True)\ny = x * 2\n", ("y", False)),
        ("x = torch.ones(3, requires_grad=True)\ny = x * 2\nz = y.sum()\n", ("z", True)),
        ("x = torch.ones(1, 1, requires_grad=True)\ny = x * 2\n", ("y", True)),
        ("x = torch.ones(0, requires_grad=True)\ny = x * 2\n", ("y", False)),
        ("x = torch.ones(1, requires_grad=True)\ny = x * 2\nz = y * 3\ndel z\n", ("y", True)),
        ("x = torch.ones(1, requires_grad=True)\nys = [x * 2]\n", None),
        ("x = torch.ones(1, requires_grad=True)\nx.backward()\ny = x * 2\n", None),
        ("x = torch.ones(1, requires_grad=True)\n", None),
        ("x = 1\n", None),
    ],
)
def test_tensor_that_a_backward_could_start_from_is_found(source: str, found: tuple | None) -> None:
    assert backward_line(record(source)) == found
