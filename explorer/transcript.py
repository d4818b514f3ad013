"""The Transcript turns what a Tracer saw into the plain data of a Recording: graphs, passes, variables."""

import ast
import functools
import json
import operator
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from explorer import dot
from explorer.engine import sequence_of
from explorer.formulas import find_formula
from explorer.summaries import plain_number
from explorer.tracer import STRIDES, BarePasses, TracedGraph, TracedPass, Tracer

MOST_BYTES = 16_000_000
"""A Recording whose JSON would be larger keeps fewer full passes."""

MOST_BARE = 20_000
"""So many passes that kept their loss alone are told at most: to write down millions takes longer than there is."""

LOOSE_GRAPHS = 12
"""So many graphs are drawn of tensors that no backward pass went through."""


class Transcript:
    """Written once, after a program has ended; ids run on from graph to graph."""

    def __init__(
        self, tracer: Tracer, positions: "Positions", items: Sequence[tuple[str, Any]], *, draws: bool
    ) -> None:
        """``items`` are the globals of the program by name; ``draws`` False leaves the DOT texts out."""
        self._tracer = tracer
        self._positions = positions
        self._items = items
        self._draws = draws
        self._next_id = 0
        self._ids: dict[int, list[str]] = {}
        self._by_sequence: dict[int, str] = {}
        self._graphs: list[dict[str, Any]] = []
        self._graph_ids: dict[int, str] = {}
        self._same: dict[tuple, TracedGraph] = {}
        self._kept: list[TracedGraph] = []
        bare = sum(len(row) for one in tracer.passes if isinstance(one, BarePasses) for _, row in one.rows)
        self._stride = next((stride for stride in STRIDES if bare <= stride * MOST_BARE), STRIDES[-1])

    @property
    def notes(self) -> list[str]:
        """What was left out."""
        if self._stride == 1:
            return []
        return [f"Of the passes that kept their loss alone one in {self._stride} is told; the live curve had them all."]

    def to_plain(self) -> dict[str, Any]:
        """``variables``, ``graphs`` and ``passes`` of the Recording."""
        passes = [plain for one in self._tracer.passes for plain in self._plain_passes(one)]
        passes.sort(key=operator.itemgetter("index"))
        self._add_loose_graphs()
        variables = list(self._plain_variables())
        self._name_globals(variables)
        if self._draws:
            for graph in self._graphs:
                if not graph["dot"]:
                    graph["dot"] = dot.draw_plain(graph["nodes"], graph["edges"], graph["roots"])
        return {"variables": variables, "graphs": self._graphs, "passes": passes}

    def _plain_passes(self, traced: TracedPass | BarePasses) -> list[dict[str, Any]]:
        if isinstance(traced, TracedPass):
            return [self._plain_pass(traced)]
        position = self._positions.of(*traced.place) if traced.place else None
        told = {
            "line": position[0] if position else None,
            "kind": traced.kind,
            "graph": None,
            "gradient": None,
            "retain_graph": traced.retain_graph,
            "create_graph": traced.create_graph,
            "detail": "light",
            "failed": None,
        }
        bare = [(index, loss) for first, losses in traced.rows for index, loss in enumerate(losses, first)]
        return [
            {"index": index, "loss": plain_number(loss), "roots": [], "leaves": [], "steps": [], **told}
            for index, loss in bare[:: self._stride]
        ]

    def _plain_pass(self, traced: TracedPass) -> dict[str, Any]:
        graph, ids = traced.graph, []
        if graph is not None and (traced.is_full or id(graph) in self._graph_ids or graph.total > len(graph.names)):
            roots = tuple(graph.sequences[root] for root in graph.roots)
            graph = self._same.setdefault((graph.total, *roots, *graph.leaf_ids.values()), graph)
            ids = self._add_graph(graph)
        is_shown = bool(ids)
        position = self._positions.of(*traced.place) if traced.place else None
        leaves = [
            {
                "variable": name,
                "node": ids[i] if is_shown and i is not None and i < len(ids) else None,
                "value": value,
                "grad_norm": norm,
                "grad": gradient,
            }
            for name, i, value, norm, gradient in traced.leaves
        ]
        return {
            "index": traced.index,
            "line": position[0] if position else None,
            "kind": traced.kind,
            "graph": self._graph_ids[id(graph)] if is_shown else None,
            "roots": [ids[root] for root in traced.roots if is_shown and root < len(ids)],
            "loss": traced.loss,
            "gradient": traced.gradient,
            "retain_graph": traced.retain_graph,
            "create_graph": traced.create_graph,
            "leaves": leaves,
            "steps": self._plain_steps(traced, ids) if traced.is_full and is_shown else [],
            "detail": "full" if traced.is_full else "light",
            "failed": ids[traced.failed] if traced.failed is not None and is_shown else None,
        }

    def _plain_steps(self, traced: TracedPass, ids: list[str]) -> list[dict[str, Any]]:
        """The events as steps; where one edge alone reaches a node, what came along it is what the node received."""
        sent: dict[int, list] = {}
        single = traced.single or []
        names = traced.graph.names if traced.graph else []
        steps = []
        for index, grad_inputs, received, after in traced.events or ():
            sent[index] = grad_inputs
            if isinstance(received, int):
                source, slot, input_nr = single[index]
                outputs = [None] * received
                outputs[input_nr] = sent[source][slot]
                received = outputs
            accumulated = None
            if names[index] == "AccumulateGrad":
                accumulated = {"before": traced.before.get(index), "after": after}
            step = {
                "node": ids[index],
                "grad_outputs": received,
                "grad_inputs": grad_inputs,
                "accumulated": accumulated,
            }
            if index in traced.local:
                step["local"] = traced.local[index]
            steps.append(step)
        return steps

    def _add_graph(self, graph: TracedGraph) -> list[str]:
        """Give the graph's nodes their ids, once, and keep its plain form; returns the ids."""
        if id(graph) in self._graph_ids:
            return self._ids[id(graph)]
        # Known by its id() from here on, so it must live.
        self._kept.append(graph)
        base = self._next_id
        ids = [f"n{base + index}" for index in range(len(graph.names))]
        self._next_id += len(ids)
        graph_id = f"g{len(self._graphs)}"
        self._graph_ids[id(graph)], self._ids[id(graph)] = graph_id, ids
        for sequence, name in zip(graph.sequences, ids, strict=True):
            self._by_sequence[sequence] = name
        text = graph.dot or ""
        for index, name in enumerate(ids if text else ()):
            text = text.replace(f"\1{index}\2", name)
        self._graphs.append(
            {
                "id": graph_id,
                "nodes": self._plain_nodes(graph, ids),
                "edges": [
                    {"source": ids[source], "slot": slot, "target": ids[target], "input_nr": input_nr}
                    for source, slot, target, input_nr in graph.edges
                ],
                "dot": text,
                "dot_by": "torchviz" if text else "explorer",
                "roots": [ids[root] for root in graph.roots if root < len(ids)],
                "total_nodes": graph.total,
            }
        )
        return ids

    def _plain_nodes(self, graph: TracedGraph, ids: list[str]) -> list[dict[str, Any]]:
        nodes = []
        places, assigned = self._positions.of, self._positions.assigned
        # A call into a library makes many nodes at one place; the last made of them is what gets the name.
        last: dict[Any, int] = {}
        for index, call in graph.calls.items():
            if call[0] is not None and not call[2]:
                key = (id(call[0][0]), call[0][1])
                if key not in last or graph.sequences[index] > graph.sequences[last[key]]:
                    last[key] = index
        calls, saved, attributes, shapes = graph.calls, graph.saved, graph.attributes, graph.shapes
        hooked, leaves, module_names = graph.hooked, graph.leaves, self._tracer.names.modules
        for index, (node_id, name) in enumerate(zip(ids, graph.names, strict=True)):
            is_leaf = name == "AccumulateGrad"
            node: dict[str, Any] = {
                "id": node_id,
                "name": name,
                "is_leaf": is_leaf,
                "hooked": index in hooked,
                "line": None,
                "variable": None,
                "shape": None,
                "output": None,
                "saved": saved.get(index, {}),
                "attributes": attributes.get(index, {}),
                "formula": formula_of(name),
            }
            nodes.append(node)
            if is_leaf:
                node["variable"], node["output"] = leaves.get(index, (None, None))
                if node["output"]:
                    node["shape"] = node["output"]["shape"]
                continue
            node["shape"] = shapes[index]
            node["sequence_nr"] = graph.sequences[index]
            call = calls.get(index)
            if call is None:
                continue
            place, module, is_direct, node["output"] = call
            if module is not None:
                node["module"] = module_names.get(id(module)) or type(module).__name__
            position = places(*place) if place else None
            if position is not None:
                node["line"], node["column"], node["end_line"], node["end_column"] = position
                if is_direct or last.get((id(place[0]), place[1])) == index:
                    node["variable"] = assigned.get(position)
            if node["variable"] is None:
                node["variable"] = graph.variables.get(index)
        return nodes

    def _add_loose_graphs(self) -> None:
        """The graphs of tensors that no pass went through, the last made first."""
        loose = []
        for _, value in self._items:
            if isinstance(value, torch.Tensor) and value.requires_grad and not value.is_leaf:
                node = _live_grad_fn(value)
                if node is not None and sequence_of(node) not in self._by_sequence:
                    loose.append((sequence_of(node), node, value))
        last = self._tracer.last_made
        if not loose and not self._tracer.passes and last is not None and last.requires_grad:
            # No variable holds the end of a graph, as in print(model(x)): the last tensor that was made tells of it.
            node = _live_grad_fn(last)
            if node is not None:
                loose.append((sequence_of(node), node, last))
        loose.sort(key=lambda entry: entry[0], reverse=True)
        for sequence, node, value in loose[:LOOSE_GRAPHS]:
            if sequence not in self._by_sequence:
                self._add_graph(self._tracer.look_at(node, value))

    def _plain_variables(self) -> Iterator[dict[str, Any]]:
        summarize = self._tracer.summarizer.summarize
        for name, value in self._items:
            try:
                if isinstance(value, torch.Tensor):
                    variable = self._plain_tensor(name, value, summarize)
                else:
                    kind, text = describe_value(value)
                    variable = {"name": name, "kind": kind, "text": text}
            except Exception:
                # Parameters of a lazy module have no shape yet; a class of the program may answer anything.
                variable = {"name": name, "kind": "object", "text": type(value).__name__}
            yield variable

    def _plain_tensor(self, name: str, tensor: torch.Tensor, summarize: Callable) -> dict[str, Any]:
        node = _live_grad_fn(tensor) if tensor.requires_grad and not tensor.is_leaf else None
        # Reading .grad of another tensor would print a warning into the reader's program.
        grad = tensor.grad if tensor.is_leaf or tensor.retains_grad else None
        return {
            "name": name,
            "kind": "tensor",
            "text": type(tensor).__name__,
            "shape": [int(size) for size in tensor.shape],
            "dtype": str(tensor.dtype),
            "device": str(tensor.device),
            "requires_grad": tensor.requires_grad,
            "is_leaf": tensor.is_leaf,
            "grad_fn": None if node is None else self._by_sequence.get(sequence_of(node)),
            "value": summarize(tensor),
            "grad": summarize(grad),
        }

    def _name_globals(self, variables: list[dict[str, Any]]) -> None:
        """A node whose statement gave it no name has that of the global that holds its tensor."""
        names = {variable["grad_fn"]: variable["name"] for variable in variables if variable.get("grad_fn")}
        for graph in self._graphs:
            for node in graph["nodes"]:
                if node["variable"] is None and node["id"] in names:
                    node["variable"] = names[node["id"]]


class Positions:
    """Where in the text an instruction stands, and which name a statement gives to a value."""

    def __init__(self, tree: ast.Module) -> None:
        self._codes: dict[types.CodeType, list] = {}
        self._found: dict[tuple[int, int], tuple[int, int, int, int] | None] = {}
        self.assigned: dict[tuple[int, int, int, int], str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value is not None:
                targets, value = [node.target], node.value if not isinstance(node, ast.AugAssign) else node
            else:
                continue
            name = ast.unparse(targets[0]).strip("(), ")
            self.assigned[(value.lineno, value.col_offset, value.end_lineno, value.end_col_offset)] = name

    def of(self, code: types.CodeType, lasti: int) -> tuple[int, int, int, int] | None:
        """(line, column, end line, end column) of an instruction; columns count bytes of UTF-8, as in ``ast``."""
        # A code object hashes all it holds, each time; its id does as well, for self._codes keeps it.
        key = (id(code), lasti)
        if key in self._found:
            return self._found[key]
        if code not in self._codes:
            self._codes[code] = list(code.co_positions())
        line, end_line, column, end_column = self._codes[code][lasti // 2]
        found = None if None in (line, end_line, column, end_column) else (line, column, end_line, end_column)
        self._found[key] = found
        return found


formula_of = functools.cache(find_formula)


def fit_json(plain: dict[str, Any], most: int = MOST_BYTES) -> str:
    """A plain Recording as JSON of at most ``most`` bytes.

    What is told least goes first: the leaves of light passes, steps of full passes, every second light pass
    (passes keep their index), graphs, then what was printed and the variables; a note says so.
    """
    text = _to_json(plain)
    if _count_bytes(text) <= most:
        return text
    plain["notes"].append("The recording was larger than can be kept: some passes are kept in part or not at all.")
    for one in plain["passes"]:
        if not one["steps"]:
            one["leaves"] = []
    while _count_bytes(text := _to_json(plain)) > most:
        full = [one for one in plain["passes"] if one["steps"]]
        light = [one for one in plain["passes"] if not one["steps"]]
        if len(full) > 2:
            for one in full[1:-1:2] or full[1:-1]:
                one.update(steps=[], detail="light", leaves=[])
            _keep_graphs(plain, {one["graph"] for one in plain["passes"] if one["steps"]})
        elif len(light) > 1_000:
            dropped = {one["index"] for one in light[1::2]}
            plain["passes"] = [one for one in plain["passes"] if one["index"] not in dropped]
        elif full:
            full[-1].update(steps=[], detail="light", leaves=[])
        elif plain["graphs"]:
            _keep_graphs(plain, {graph["id"] for graph in plain["graphs"][: len(plain["graphs"]) // 2]})
        else:
            plain["stdout"], plain["stdout_truncated"] = plain["stdout"][: len(plain["stdout"]) // 2], True
            plain["variables"] = plain["variables"][: len(plain["variables"]) // 2]
            plain["passes"] = plain["passes"][: len(plain["passes"]) // 2]
    return text


def _count_bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _to_json(plain: dict[str, Any]) -> str:
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def _keep_graphs(plain: dict[str, Any], needed: set[str]) -> None:
    plain["graphs"] = [graph for graph in plain["graphs"] if graph["id"] in needed]
    known = {node["id"] for graph in plain["graphs"] for node in graph["nodes"]}
    for one in plain["passes"]:
        if one["graph"] not in needed:
            one.update(graph=None, roots=[], leaves=[{**leaf, "node": None} for leaf in one["leaves"]], failed=None)
    for variable in plain["variables"]:
        if variable.get("grad_fn") not in known and "grad_fn" in variable:
            variable["grad_fn"] = None


def describe_value(value: Any) -> tuple[str, str]:
    """The kind of a variable and a short text, made without running any code of the program's classes."""
    kind = type(value)
    if value is None or kind is bool:
        return ("none" if value is None else "bool"), str(value)
    if kind in (int, float, complex):
        return "number", _short(value)
    if kind is str:
        return "text", repr(value[:200])
    if kind is range:
        return "range", _short(value)
    if kind in (list, tuple, dict, set):
        inner = value.values() if kind is dict else value
        is_plain = len(value) <= 16 and all(type(item) in (int, float, bool, str, type(None)) for item in inner)
        return kind.__name__, _short(value) if is_plain else f"{len(value)} items"
    if isinstance(value, torch.nn.Module):
        return "module", f"{kind.__name__}{_tell_parameters(value)}"
    if isinstance(value, torch.optim.Optimizer):
        return "optimizer", f"{kind.__name__}, lr {', '.join(_short(group.get('lr')) for group in value.param_groups)}"
    if kind is np.ndarray:
        return "array", f"shape {value.shape}, {value.dtype}"
    if isinstance(value, torch.device | torch.dtype | torch.Size):
        return kind.__name__.lower(), str(value)
    if isinstance(value, type):
        return "class", value.__name__
    if callable(value) and hasattr(value, "__name__"):
        return "function", str(value.__name__)
    return "object", kind.__name__


def _tell_parameters(module: torch.nn.Module) -> str:
    try:
        return f", {sum(map(torch.Tensor.numel, module.parameters())):,} parameters"
    except Exception:
        # A lazy module that has seen no input yet, or an __init__ without super().__init__().
        return ""


def _short(value: Any) -> str:
    try:
        return repr(value)[:200]
    except ValueError:
        # An int of more than 4300 digits has no decimal text.
        return f"an integer of {value.bit_length()} bits" if type(value) is int else f"{len(value)} items"


def _live_grad_fn(tensor: torch.Tensor) -> Any:
    try:
        return tensor.grad_fn
    except RuntimeError:
        # A view that was changed in place where that is not allowed has no grad_fn any more.
        return None
