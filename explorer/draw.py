"""Graph.dot decorated for people: names, lines, values and places for gradients; the result is DOT again.

The structure is torchviz's (or our own in its form, see explorer.dot); labels, ids and classes are set
here, so that the page finds every node and edge of the SVG again. Colours are the page's business.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence

from explorer.narrate import format_number, format_summary
from explorer.recording import Graph, Node, Pass, Summary

MOST_LABEL = 34
"""Characters on a line of a label; longer ones end in an ellipsis."""

HEADER = """digraph {
\tgraph [bgcolor=transparent nodesep=0.3 ranksep=0.42 pad=0.15 splines=true]
\tnode [shape=box style=filled fillcolor=white fontname=monospace fontsize=12 height=0.3 margin="0.14,0.07"]
\tedge [fontname=monospace fontsize=11 arrowsize=0.7]
"""

MOST_LABELLED = 60
"""In larger graphs no room is kept for the gradients: labels on edges are what makes dot slow."""

HASTE = "\tgraph [splines=line nslimit=1 nslimit1=1]\n"

_STATEMENT = re.compile(r'^\t"([^"]+)"(?: -> "([^"]+)")?', re.MULTILINE)


def decorate_dot(
    graph: Graph, passes: Sequence[Pass] = (), *, show_saved: bool = False, show_attributes: bool = False
) -> str:
    """The DOT text to lay out: ids ``n3``, ``n3.variable``, ``n3.saved.self``, ``n0.output`` and edges ``n0-1``."""
    nodes = {node.id: node for node in graph.nodes}
    is_large = len(graph.nodes) > MOST_LABELLED
    slots = defaultdict(list)
    for edge in graph.edges:
        slots[edge.target, edge.source].append(edge)
    labels = {} if is_large else _gradient_labels(passes)
    lines = []
    for tail, head in _STATEMENT.findall(graph.dot):
        if ".saved." in tail or ".saved." in head:
            if show_saved:
                lines.append(_saved_statement(tail, head, nodes))
        elif head:
            edges = slots.get((tail, head))
            if edges:
                edge = edges.pop(0)
                text = labels.get(edge.id, "")
                lines.append(f'\t"{tail}" -> "{head}" [id="{edge.id}" class=gradient label="{escape(text)}"]\n')
            else:
                lines.append(f'\t"{tail}" -> "{head}" [class=plain id="{tail}--{head}"]\n')
        else:
            lines.append(_node_statement(tail, nodes, show_attributes))
    return HEADER + (HASTE if is_large else "") + "".join(lines) + "}\n"


def escape(text: str) -> str:
    """Any text for the inside of a double-quoted DOT string; ``\\n`` stays a line break, nothing else is special."""
    # Graphviz reads character references such as &lt; in labels.
    text = text.replace("&", "&amp;").replace("\\n", "\n").replace("\\", "\\\\")
    return text.replace('"', '\\"').replace("\n", "\\n")


def _node_statement(key: str, nodes: dict[str, Node], show_attributes: bool) -> str:
    name, _, part = key.partition(".")
    node = nodes.get(name)
    if node is None:
        return f'\t"{key}" [id="{key}" class=base label="base tensor"]\n'
    if part == "variable":
        return f'\t"{key}" [id="{key}" class=leaf label="{escape(_tensor_label(node))}"]\n'
    if part == "output":
        return f'\t"{key}" [id="{key}" class=output label="{escape(_tensor_label(node))}"]\n'
    kind = "accumulate" if node.is_leaf else "op"
    return f'\t"{key}" [id="{key}" class={kind} label="{escape(_op_label(node, show_attributes))}"]\n'


def _saved_statement(tail: str, head: str, nodes: dict[str, Node]) -> str:
    if head:
        return f'\t"{tail}" -> "{head}" [class=saved id="{tail}--{head}" dir=none style=dashed]\n'
    name, _, slot = tail.partition(".saved.")
    summary = nodes[name].saved.get(slot) if name in nodes else None
    label = f"saved {slot}" + (f"\n{shorten(format_value(summary))}" if summary else "")
    return f'\t"{tail}" [id="{tail}" class=saved label="{escape(label)}"]\n'


def _op_label(node: Node, show_attributes: bool) -> str:
    where = f"line {node.line}" if node.line else ""
    if node.is_leaf:
        return node.name
    if "holds" in node.attributes:
        return f"{shorten(node.name)}\n{shorten(node.attributes['holds'])}"
    shown = [_title(node)]
    # A node that several names were given outputs of shows the shape of the first.
    value = node.output and (format_value(node.output) if "," not in (node.variable or "") else _size(node.shape))
    if not value and node.shape:
        value = _size(node.shape)
    if node.variable and value:
        value = (
            f"{node.variable} = {value}" if node.output and not value.startswith("(") else f"{node.variable} {value}"
        )
    shown.append(", ".join(part for part in (shorten(value or node.variable or ""), where) if part))
    if show_attributes:
        shown += [shorten(f"{key}: {_plain(value)}") for key, value in node.attributes.items()]
    return "\n".join(line for line in shown if line)


def _title(node: Node) -> str:
    """A node's name after that of the layer that made it, of which the end is kept where it is long."""
    parts = node.module.split(".") if node.module else []
    for start in range(len(parts)):
        path = ("\N{HORIZONTAL ELLIPSIS}" if start else "") + ".".join(parts[start:])
        if len(title := f"{path}: {node.name}") <= MOST_LABEL:
            return title
    return node.name


def _tensor_label(node: Node) -> str:
    name = node.variable or ("leaf" if node.is_leaf else "")
    if node.output is None:
        return shorten(f"{name} {_size(node.shape)}" if node.shape else name or node.name)
    value = format_value(node.output)
    if not name:
        return shorten(value)
    return shorten(f"{name} {value}" if value.startswith("(") else f"{name} = {value}")


def format_value(summary: Summary) -> str:
    """A tensor in a few characters: its number, its few numbers, or its shape."""
    if summary.is_whole and summary.shape == []:
        return format_number(summary.values)
    if summary.is_whole and math.prod(summary.shape) <= 4 and 0 not in summary.shape:
        return format_summary(summary)
    return _size(summary.shape)


def format_gradient(summary: Summary) -> str:
    """A gradient on an edge: its number, its few numbers, or its norm."""
    if summary.is_whole and (summary.shape == [] or (len(summary.shape) == 1 and summary.shape[0] <= 3)):
        return format_value(summary)
    return f"norm {format_number(summary.norm)}"


def shorten(text: str, most: int = MOST_LABEL) -> str:
    """``text`` on one line of at most ``most`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _gradient_labels(passes: Sequence[Pass]) -> dict[str, str]:
    """The widest text that each edge shows in any pass; the layout keeps room for it."""
    labels: dict[str, str] = {}
    for one in passes:
        for step in one.steps:
            for slot, gradient in enumerate(step.grad_inputs):
                if gradient is not None:
                    key = f"{step.node}-{slot}"
                    labels[key] = max(labels.get(key, ""), format_gradient(gradient), key=len)
    return labels


def _plain(value: object) -> str:
    return format_number(value) if isinstance(value, int | float | dict) else str(value)


def _size(shape: Sequence[int] | None) -> str:
    return f"({', '.join(map(str, shape or ()))})"
