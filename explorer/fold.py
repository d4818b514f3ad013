"""Graphs too large for a picture, folded by loop iteration, module and source line into graphs that are not."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from itertools import product

from explorer.narrate import format_summary
from explorer.recording import Edge, Graph, Node, Pass, Step

MOST_NODES = 130
"""A graph with more nodes is folded before it is drawn."""

MOST_GROUPS = 60

BLOCKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""So many iterations of a loop may share a box."""

FEW_GROUPS = 12
"""Fewer boxes than this leave room to show the iterations of loops."""


@dataclass(frozen=True, slots=True)
class Fold:
    """A folded graph, which node went into which group, and what the groups are."""

    graph: Graph
    group_of: dict[str, str]
    crossings: dict[tuple[str, int], tuple[str, str]]
    """The edges that alone lead from one group to another, by source node and slot."""
    kind: str

    def fold_pass(self, one: Pass) -> Pass:
        """The pass over groups: steps in a row inside one group are one step, with what left the group."""
        steps: list[Step] = []
        slots = {(edge.source, edge.target): edge.slot for edge in self.graph.edges}
        width = Counter(edge.source for edge in self.graph.edges)
        for step in one.steps:
            group = self.group_of.get(step.node)
            if group is None:
                continue
            if not steps or steps[-1].node != group:
                steps.append(Step(group, [], [None] * width[group]))
            for slot, gradient in enumerate(step.grad_inputs):
                crossing = self.crossings.get((step.node, slot))
                if crossing is not None:
                    steps[-1].grad_inputs[slots[crossing]] = gradient
        roots = list(dict.fromkeys(self.group_of[root] for root in one.roots if root in self.group_of))
        leaves = [replace(leaf, node=self.group_of.get(leaf.node or "")) for leaf in one.leaves]
        failed = self.group_of.get(one.failed or "")
        return replace(one, steps=steps, roots=roots, leaves=leaves, failed=failed)

    def explain_pass(self, one: Pass) -> list[str]:
        """A sentence for each step of a folded pass."""
        nodes = {node.id: node for node in self.graph.nodes}
        told = []
        for index, step in enumerate(one.steps, start=1):
            node = nodes[step.node]
            sent = [gradient for gradient in step.grad_inputs if gradient is not None]
            sends = f", sends {', '.join(map(format_summary, sent[:3]))}" if sent else ""
            told.append(f"Step {index} of {len(one.steps)}: {node.name} ({node.attributes['holds']}){sends}")
        return told


def fold_graph(graph: Graph, most: int = MOST_GROUPS) -> Fold:
    """Fold with the finest of these that gives at most ``most`` boxes: module, line, blocks of iterations or lines.

    A loop whose body is a few lines becomes boxes of several iterations each, so that its course is seen.
    """
    iterations = _count_iterations(graph)
    depth = max((node.module.count(".") + 1 for node in graph.nodes if node.module), default=0)

    def key_of(parts: int, block: int) -> Callable[[Node], Hashable]:
        def key(node: Node) -> Hashable:
            module = ".".join(node.module.split(".")[:parts]) if node.module and parts else ""
            return node.line, module, iterations[node.id] // block if block else 0

        return key

    for parts in range(depth, -1, -1):
        fold = _fold_by(graph, key_of(parts, 0), iterations, "module and line" if parts else "line")
        count = len(fold.graph.nodes)
        if count > most:
            continue
        loops = max(iterations.values(), default=0) + 1
        for block, coarser in product(BLOCKS, range(parts, -1, -1)):
            if count > FEW_GROUPS or block >= loops:
                break
            if len({key_of(coarser, block)(node) for node in graph.nodes if not node.is_leaf}) <= most:
                kind = "module, line and iteration" if coarser else "line and iteration"
                return _fold_by(graph, key_of(coarser, block), iterations, kind)
        return fold
    block = max((node.line or 0) for node in graph.nodes) // max(1, most // 2) + 1
    return _fold_by(graph, lambda node: (node.line or 0) // block, iterations, f"blocks of {block} lines")


def _count_iterations(graph: Graph) -> dict[str, int]:
    """The how manieth time the same place of the text made a node, in the order in which they were made."""
    seen: Counter[Hashable] = Counter()
    counted = {}
    for node in sorted(graph.nodes, key=lambda node: node.sequence_nr or 0):
        place = (node.line, node.column, node.end_column, node.name, node.module)
        counted[node.id] = seen[place]
        seen[place] += 1
    return counted


def _fold_by(graph: Graph, key: Callable[[Node], Hashable], iterations: dict[str, int], kind: str) -> Fold:
    groups: dict[Hashable, list[Node]] = defaultdict(list)
    consumer = {edge.target: edge.source for edge in reversed(graph.edges)}
    nodes = {node.id: node for node in graph.nodes}
    keys: dict[str, Hashable] = {}
    for node in graph.nodes:
        if not node.is_leaf:
            keys[node.id] = key(_first_with_line(node, graph, nodes, consumer) if node.line is None else node)
            groups[keys[node.id]].append(node)
    users: dict[str, set[Hashable]] = defaultdict(set)
    for edge in graph.edges:
        if nodes[edge.target].is_leaf:
            users[edge.target].add(keys[edge.source])
    for leaf, using in users.items():
        # A leaf goes with the one box that uses it. Shared by several it is left out: that is what makes a
        # picture unreadable.
        if len(using) == 1:
            groups[next(iter(using))].append(nodes[leaf])
    if not groups:
        groups = {key(node): [node] for node in graph.nodes}
    prefix = graph.nodes[0].id if graph.nodes else "n"
    ids = {group: f"{prefix}g{index}" for index, group in enumerate(groups)}
    group_of = {node.id: ids[group] for group, members in groups.items() for node in members}
    folded = [
        _group_node(ids[group], members, iterations, tells_iterations="iteration" in kind)
        for group, members in groups.items()
    ]
    pairs: dict[tuple[str, str], list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        if edge.source in group_of and edge.target in group_of:
            pairs[group_of[edge.source], group_of[edge.target]].append(edge)
    crossings = {
        (together[0].source, together[0].slot): pair
        for pair, together in pairs.items()
        if pair[0] != pair[1] and len(together) == 1
    }
    slots: Counter[str] = Counter()
    edges = []
    for source, target in pairs:
        if source != target:
            edges.append(Edge(source, slots[source], target, 0))
            slots[source] += 1
    roots = list(dict.fromkeys(group_of[root] for root in graph.roots if root in group_of))
    lines = [f'\t"{node.id}" [label=""]\n' for node in folded]
    lines += [f'\t"{edge.target}" -> "{edge.source}"\n' for edge in edges]
    dot = "digraph {\n" + "".join(lines) + "}\n"
    return Fold(Graph(graph.id, folded, edges, dot, "explorer", roots, graph.total_nodes), group_of, crossings, kind)


def _first_with_line(node: Node, graph: Graph, nodes: dict[str, Node], consumer: dict[str, str]) -> Node:
    for _ in range(50):
        if node.line is not None or node.id not in consumer:
            break
        node = nodes[consumer[node.id]]
    return node


def _group_node(key: str, members: list[Node], iterations: dict[str, int], *, tells_iterations: bool) -> Node:
    ops = [node for node in members if not node.is_leaf] or members
    names = Counter(node.name for node in ops).most_common(2)
    holds = ", ".join(f"{count} {name}" if count > 1 else name for name, count in names)
    rest = len(ops) - sum(count for _, count in names)
    modules = {node.module for node in ops if node.module}
    module = _common(modules) if modules else None
    line = ops[0].line
    turns = sorted({iterations[node.id] for node in ops})
    title = module or (f"line {line}" if line else ops[0].name)
    if turns[-1] > 0 and (not module or tells_iterations):
        title += f", iterations {turns[0] + 1} to {turns[-1] + 1}" if len(turns) > 1 else f", iteration {turns[0] + 1}"
    attributes = {"holds": holds + (f" and {rest} more" if rest else ""), "nodes": len(members)}
    node = Node(key, title, False, line=line, attributes=attributes)
    return replace(node, module=module) if module else node


def _common(paths: set[str]) -> str:
    """What module paths share: ``encoder.layers.0`` of its ``linear1`` and ``norm2``."""
    parts = [path.split(".") for path in paths]
    shared = []
    for together in zip(*parts, strict=False):
        if len(set(together)) > 1:
            break
        shared.append(together[0])
    return ".".join(shared) or min(paths)
