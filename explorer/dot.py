"""The DOT text of a graph: torchviz's picture of live nodes under our ids, or our own in the same form.

Every statement is ``id [attribute=value ...]`` or ``tail -> head [...]`` on a line of its own, with ids
``n3`` (a grad_fn), ``n7.variable`` (a leaf's tensor), ``n3.saved.self`` (a saved tensor, one per node and
name) and ``n0.output`` (a root's tensor). Arrows run from leaf to output, as torchviz draws them.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchviz import make_dot

from explorer.draw import escape

MOST_NODES = 400

LEAF_COLOUR, SAVED_COLOUR, OUTPUT_COLOUR, BASE_COLOUR = "lightblue", "orange", "darkolivegreen1", "darkolivegreen3"
HEADER = (
    "digraph {\n"
    "\tnode [align=left fontname=monospace fontsize=10 height=0.2 shape=box style=filled fillcolor=lightgray]\n"
)

_EDGE = re.compile(r"\s*(\d+) -> (\d+)(.*)$", re.DOTALL)
_NODE = re.compile(r"\s*(\d+) \[(.*)\]\s*$", re.DOTALL)


def draw_live(
    outputs: Sequence[torch.Tensor], nodes: Sequence[Any], ids: Sequence[str], names: Mapping[str, torch.Tensor]
) -> str | None:
    """What ``torchviz.make_dot`` draws for ``outputs``, re-keyed to ``ids`` (one per live node).

    None where torchviz cannot: a graph too large for a picture, deeper than Python recurses, or with a
    saved tensor that was freed or changed in place (torchviz reads them all).
    """
    if len(nodes) > MOST_NODES:
        return None
    try:
        with warnings.catch_warnings():
            # distutils' version classes, which torchviz uses, are deprecated.
            warnings.simplefilter("ignore")
            picture = make_dot(tuple(outputs), params=dict(names), show_attrs=True, show_saved=True)
    except (RuntimeError, RecursionError, AttributeError, TypeError):
        return None
    keys = {str(id(node)): name for node, name in zip(nodes, ids, strict=True)}
    for node, name in zip(nodes, ids, strict=True):
        variable = getattr(node, "variable", None)
        if variable is not None and not node.next_functions:
            keys.setdefault(str(id(variable)), f"{name}.variable")
    for output in outputs:
        if output.grad_fn is not None:
            keys[str(id(output))] = f"{keys.get(str(id(output.grad_fn)), 'n')}.output"
    return _rekey(picture.body, keys, frozenset(ids))


def _rekey(body: Sequence[str], keys: dict[str, str], functions: frozenset[str]) -> str:
    """torchviz merges boxes by ``id()``; a saved tensor gets one box for each node and name that saved it."""
    lines, bases, saver = [], 0, None
    for statement in body:
        edge = _EDGE.match(statement)
        if edge:
            tail, head, rest = edge.groups()
            if "dir=none" in rest:
                # show_saved draws fn -> tensor, a custom Function's saved_tensors tensor -> fn; the box follows.
                saver = tail if keys.get(tail) in functions else head
                continue
            for end in (tail, head):
                if end not in keys:
                    keys[end] = f"b{bases}.base"
                    bases += 1
            lines.append(f'\t"{keys[tail]}" -> "{keys[head]}"{" [style=dotted]" if "dotted" in rest else ""}\n')
            continue
        node = _NODE.match(statement)
        if not node:
            continue
        key, attributes = node.groups()
        if saver is not None:
            label = attributes.split('label="', 1)[-1].split("\\n", 1)[0].split("\n", 1)[0].strip()
            box = f"{keys[saver]}.saved.{label or sum(f'{keys[saver]}.saved' in line for line in lines)}"
            lines.append(f'\t"{keys[saver]}" -> "{box}" [dir=none]\n\t"{box}" [{attributes}]\n')
            saver = None
            continue
        if key not in keys:
            keys[key] = f"b{bases}.base"
            bases += 1
        lines.append(f'\t"{keys[key]}" [{attributes}]\n')
    return HEADER + "".join(lines) + "}\n"


def draw_plain(nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]], roots: Sequence[str]) -> str:
    """The same picture from recorded nodes and edges, for graphs that torchviz cannot draw."""
    lines = []
    for node in nodes:
        attributes = "".join(f"\\n{key}: {value}" for key, value in node["attributes"].items())
        lines.append(f'\t"{node["id"]}" [label="{escape(node["name"])}{escape(attributes)}"]\n')
        if node["is_leaf"]:
            label = f"{node['variable'] or ''}\\n {_size(node['shape'])}"
            lines.append(f'\t"{node["id"]}.variable" [label="{escape(label)}" fillcolor={LEAF_COLOUR}]\n')
            lines.append(f'\t"{node["id"]}.variable" -> "{node["id"]}"\n')
        for name, summary in node["saved"].items():
            box = f"{node['id']}.saved.{name}"
            label = f"{name}\\n {_size(summary['shape'])}"
            lines.append(f'\t"{node["id"]}" -> "{box}" [dir=none]\n')
            lines.append(f'\t"{box}" [label="{escape(label)}" fillcolor={SAVED_COLOUR}]\n')
    lines += [f'\t"{edge["target"]}" -> "{edge["source"]}"\n' for edge in edges]
    by_id = {node["id"]: node for node in nodes}
    for root in dict.fromkeys(roots):
        if root in by_id and not by_id[root]["is_leaf"]:
            label = f"{by_id[root]['variable'] or ''}\\n {_size(by_id[root]['shape'])}"
            lines.append(f'\t"{root}" -> "{root}.output"\n')
            lines.append(f'\t"{root}.output" [label="{escape(label)}" fillcolor={OUTPUT_COLOUR}]\n')
    return HEADER + "".join(lines) + "}\n"


def _size(shape: Sequence[int] | None) -> str:
    return "" if shape is None else f"({', '.join(map(str, shape))})"
