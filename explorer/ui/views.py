"""What the graph component and the tables are given: plain data made from a Recording."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from explorer.draw import decorate_dot, format_value
from explorer.fold import MOST_NODES, Fold, fold_graph
from explorer.narrate import explain_start, explain_steps, format_number, format_summary
from explorer.recording import ABSENT, Graph, Pass, Recording, Summary, Variable, to_plain


@dataclass(frozen=True, slots=True)
class Picture:
    """A graph to show, the passes that went through it, and what is to be said above it."""

    graph: Graph
    passes: list[Pass]
    fold: Fold | None
    message: str | None

    def dot(self, *, saved: bool, attributes: bool) -> str:
        """The DOT text to lay out."""
        if self.fold is not None:
            return decorate_dot(self.graph, self.passes)
        return decorate_dot(self.graph, self.passes, show_saved=saved, show_attributes=attributes)


def choose_picture(recording: Recording, pass_index: int | None) -> Picture | None:
    """The graph of a pass, or of the last tensor with a grad_fn where there is no pass; None where there is none."""
    one = next((one for one in recording.passes if one.index == pass_index), None)
    graph = recording.graph(one.graph) if one is not None else None
    if graph is None:
        if not recording.graphs:
            return None
        graph, one = recording.graphs[-1] if one is not None else recording.graphs[0], None
    together = [one] if one is not None else []
    cut = graph.total_nodes > len(graph.nodes)
    if len(graph.nodes) <= MOST_NODES:
        return Picture(graph, together, None, None)
    fold = fold_graph(graph)
    message = f"{graph.total_nodes:,} nodes, folded by {fold.kind} into {len(fold.graph.nodes)} boxes."
    if cut:
        message = (
            f"{graph.total_nodes:,} nodes are more than can be kept. "
            f"The {len(graph.nodes):,} nearest the root, folded by {fold.kind}."
        )
    return Picture(fold.graph, [fold.fold_pass(other) for other in together], fold, message)


def view_picture(
    picture: Picture,
    svg: str | None,
    *,
    dot: str,
    source: str,
    run_id: str,
    show: dict[str, bool],
    large: bool,
    stale: bool = False,
    message: str | None = None,
) -> dict[str, Any]:
    """The ``view`` that explorer.ui.graph.show_graph draws."""
    shape = "|".join(f"{node.name}" for node in picture.graph.nodes)
    shape += "|".join(f"{edge.source}>{edge.target}" for edge in picture.graph.edges)
    texts = [message, picture.message]
    return {
        "id": run_id,
        "signature": hashlib.sha1(shape.encode(), usedforsecurity=False).hexdigest()[:16],
        "svg": svg,
        "graph": to_plain(replace(picture.graph, dot="")),
        "passes": [] if stale else [_view_pass(picture, one) for one in picture.passes],
        "message": " ".join(text for text in texts if text) or None,
        "show": show,
        "playing": False,
        "large": large,
        "folded": picture.fold is not None,
        "maps": any(map(_has_map, picture.passes)),
        "stale": stale,
        "dot": dot,
        "source": source,
    }


def view_nothing(message: str, *, run_id: str, show: dict[str, bool], large: bool) -> dict[str, Any]:
    """A view without a picture that says why."""
    empty = {"id": "none", "nodes": [], "edges": [], "roots": []}
    view: dict[str, Any] = {"id": run_id, "signature": "", "svg": None, "graph": empty, "passes": [], "dot": ""}
    return view | {"message": message, "show": show, "playing": False, "large": large}


def _has_map(one: Pass) -> bool:
    sent = (gradient for step in one.steps for gradient in step.grad_inputs)
    return any(gradient is not None and gradient.map is not ABSENT for gradient in sent)


def _view_pass(picture: Picture, one: Pass) -> dict[str, Any]:
    if picture.fold is not None:
        sentences = picture.fold.explain_pass(one)
        start = f"{len(sentences)} steps through {len(picture.graph.nodes)} boxes, each of several nodes."
    else:
        sentences, start = explain_steps(picture.graph, one), explain_start(picture.graph, one)
    return to_plain(one) | {"sentences": sentences, "start": start, "failed": one.failed}


def variable_rows(recording: Recording) -> list[dict[str, str]]:
    """The table of variables, every cell a text."""
    nodes = {node.id: node.name for graph in recording.graphs for node in graph.nodes}
    return [_variable_row(variable, nodes) for variable in recording.variables]


def _variable_row(variable: Variable, nodes: dict[str, str]) -> dict[str, str]:
    if variable.kind != "tensor":
        empty = dict.fromkeys(("shape", "dtype", "device", "requires_grad", "is_leaf", "grad", "grad_fn"), "")
        return {"name": variable.name, "value": variable.text or variable.kind, "kind": variable.kind} | empty
    return {
        "name": variable.name,
        "value": tell_value(variable.value),
        "kind": variable.text or "Tensor",
        "shape": str(tuple(variable.shape)),
        "dtype": variable.dtype.removeprefix("torch."),
        "device": variable.device,
        "requires_grad": "yes" if variable.requires_grad else "no",
        "is_leaf": "yes" if variable.is_leaf else "no",
        "grad": tell_value(variable.grad) if variable.grad else "None",
        "grad_fn": nodes.get(variable.grad_fn or "", "") or "",
    }


def tell_value(summary: Summary | None) -> str:
    """A tensor for a table cell: its numbers where they are few, else its range and norm."""
    if summary is None:
        return "not readable"
    if summary.is_whole and (not summary.shape or max(summary.shape) <= 8):
        return format_summary(summary) if summary.shape else format_number(summary.values)
    if summary.is_whole:
        return format_value(summary)
    return f"{format_number(summary.min)} to {format_number(summary.max)}, mean {format_number(summary.mean)}"


def pass_rows(recording: Recording) -> list[dict[str, Any]]:
    """The table of passes."""
    return [
        {
            "pass": one.index + 1,
            "line": one.line,
            "call": "backward()" if one.kind == "backward" else "autograd.grad()",
            "loss": "" if one.loss is None else format_number(one.loss),
            "steps": str(len(one.steps)) if one.steps else "light record",
            "gradient norms": ", ".join(
                f"{leaf.variable or 'leaf'} {format_number(leaf.grad_norm)}"
                for leaf in one.leaves[:4]
                if leaf.grad_norm is not None
            ),
        }
        for one in recording.passes
    ]


def backward_line(recording: Recording) -> tuple[str, bool] | None:
    """The tensor that a backward could start from, and whether it is a scalar; None where there is none."""
    if recording.passes:
        return None
    last = None
    order = {node.id: index for graph in recording.graphs[:1] for index, node in enumerate(graph.nodes)}
    for variable in recording.variables:
        if variable.kind == "tensor" and variable.grad_fn in order and (last is None or order[variable.grad_fn] == 0):
            last = variable
    if last is None or not last.name.isidentifier():
        return None
    count = 1
    for size in last.shape:
        count *= size
    return last.name, count == 1


def shown_passes(recording: Recording) -> list[int]:
    """The indexes of passes that can be shown at once, without another run."""
    return [one.index for one in recording.passes if one.steps]
