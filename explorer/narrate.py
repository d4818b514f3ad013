"""The steps of a backward pass in sentences, and numbers and tensors as people write them."""

import math
from collections import Counter
from typing import Any

from explorer.recording import Edge, Graph, Node, Pass, Step, Summary

MOST_SHOWN = 6
"""A tensor with more elements is told by its shape and norm."""


def explain_start(graph: Graph, one_pass: Pass) -> str:
    """What stands before the first step: how many steps follow, where the pass starts and with what gradient."""
    return _Story(graph, one_pass).start()


def explain_step(graph: Graph, one_pass: Pass, index: int) -> str:
    """The sentence of one step. Raises IndexError where the pass has no such step."""
    return _Story(graph, one_pass).step(index)


def explain_steps(graph: Graph, one_pass: Pass) -> list[str]:
    """The sentences of all steps, in time linear in their number."""
    story = _Story(graph, one_pass)
    return [story.step(index) for index in range(len(one_pass.steps))]


class _Story:
    """A pass with what its sentences look up: nodes by id, edges by target, steps by node."""

    def __init__(self, graph: Graph, one_pass: Pass):
        self.one_pass = one_pass
        self.nodes = {node.id: node for node in graph.nodes}
        self.turn = {step.node: index for index, step in enumerate(one_pass.steps)}
        self.into: dict[str, list[Edge]] = {}
        self.out_of: dict[str, list[Edge]] = {}
        for edge in graph.edges:
            self.into.setdefault(edge.target, []).append(edge)
            self.out_of.setdefault(edge.source, []).append(edge)
        called = [(node.variable or node.name, node.line) for node in graph.nodes]
        self.called = Counter(called) + Counter(name for name, _ in called)

    def start(self) -> str:
        count = len(self.one_pass.steps)
        if self.one_pass.detail != "full":
            return "The steps of this pass were not kept."
        steps = "1 step" if count == 1 else f"{count} steps"
        roots = join_words([self.name(root) for root in self.one_pass.roots]) if self.one_pass.roots else "its root"
        gradient = "1" if self.one_pass.gradient is None else _tell(self.one_pass.gradient)
        start = f"{steps}. The backward pass starts at {roots} with gradient {gradient}."
        return f"{start} An error ended it at {self.name(self.one_pass.failed)}." if self.one_pass.failed else start

    def step(self, index: int) -> str:
        step = self.one_pass.steps[index]
        node = self.nodes.get(step.node)
        title = f"Step {index + 1} of {len(self.one_pass.steps)}: {node.name if node else step.node}"
        if node and node.is_leaf:
            return f"{title} {self.accumulates(step, node)}"
        line = f", line {node.line}," if node and node.line else ""
        return f"{title}{line} receives {self.receives(step, index)}, {self.sends(step)}"

    def accumulates(self, step: Step, node: Node) -> str:
        target = f"{node.variable}.grad" if node.variable else "the .grad of a leaf"
        received = step.grad_outputs[0] if step.grad_outputs else None
        if received is None:
            return f"receives no gradient for {target}"
        text = f"adds {self.received(step, 0)} to {target}"
        if step.accumulated is None:
            return text
        before, after = step.accumulated.before, step.accumulated.after
        return f"{text} (was {format_summary(before)}, is now {format_summary(after)})"

    def receives(self, step: Step, index: int) -> str:
        given = [output for output, gradient in enumerate(step.grad_outputs) if gradient is not None]
        if not given:
            return "no gradient"
        if len(step.grad_outputs) == 1:
            return self.received(step, 0)
        if len(given) > 4:
            return f"gradients for {len(given)} of its {len(step.grad_outputs)} outputs"
        return join_words([f"{self.received(step, output)} for output {output}" for output in given])

    def received(self, step: Step, output: int) -> str:
        """The gradient of one output, with the parts it is the sum of."""
        gradient = step.grad_outputs[output]
        node = self.nodes.get(step.node)
        text = _tell(gradient)
        if node and node.hooked:
            return f"{text} (after the program's own hook)"
        parts = self.parts(step, output)
        if len(parts) < 2:
            return text
        if len(parts) > MOST_SHOWN or not all(_is_small(part) for part in parts):
            return f"{text} (the sum of {len(parts)})"
        first, *others = map(format_summary, parts)
        return f"{text} ({' + '.join([first, *(f'({part})' if part[0] == '-' else part for part in others)])})"

    def parts(self, step: Step, output: int) -> list[Summary]:
        """What earlier steps sent to this output, in their order, after the gradient that the pass began with."""
        index = self.turn[step.node]
        found = []
        for edge in self.into.get(step.node, ()):
            turn = self.turn.get(edge.source, index)
            sent = self.one_pass.steps[turn].grad_inputs
            if turn < index and edge.input_nr == output and edge.slot < len(sent) and sent[edge.slot] is not None:
                found.append((turn, edge.slot, sent[edge.slot]))
        found.sort(key=lambda entry: entry[:2])
        begun = [self.seed(step)] if found and output == 0 and step.node in self.one_pass.roots else []
        return begun + [part for _, _, part in found]

    def seed(self, step: Step) -> Summary:
        return self.one_pass.gradient or Summary(shape=[], dtype="", values=1)

    def sends(self, step: Step) -> str:
        """Where the gradients went; what goes to the same node is told together."""
        sent: dict[str, list[str]] = {}
        for edge in sorted(self.out_of.get(step.node, ()), key=lambda edge: edge.slot):
            gradient = step.grad_inputs[edge.slot] if edge.slot < len(step.grad_inputs) else None
            sent.setdefault(edge.target, []).append("no gradient" if gradient is None else _tell(gradient))
        if not sent:
            return "sends nothing on"
        told = [f"{join_words(gradients)} to {self.name(target)}" for target, gradients in sent.items()]
        if len(told) > 4:
            told = [*told[:3], f"gradients to {len(told) - 3} more"]
        return f"sends {join_words(told)}"

    def name(self, node_id: str) -> str:
        """A node by its variable, else by its own name; with line and step where others are called the same."""
        node = self.nodes.get(node_id)
        if node is None:
            return node_id
        called = node.variable or node.name
        if self.called[called] == 1 or node.line is None:
            return called
        if self.called[called, node.line] == 1 or node_id not in self.turn:
            return f"{called} (line {node.line})"
        return f"{called} (line {node.line}, step {self.turn[node_id] + 1})"


def _tell(summary: Summary) -> str:
    """A gradient in a sentence: its numbers, or its shape and norm."""
    return (
        format_summary(summary)
        if _is_small(summary) and (len(summary.shape) < 2 or math.prod(summary.shape) == 1)
        else f"a {_shape(summary)} gradient, norm {format_number(summary.norm)}"
    )


def _is_small(summary: Summary) -> bool:
    return summary.is_whole and math.prod(summary.shape) <= MOST_SHOWN


def _shape(summary: Summary) -> str:
    return str(tuple(summary.shape))


def format_summary(summary: Summary | None) -> str:
    """A tensor in short: its numbers up to 6 elements, else its shape and norm; "None" for None."""
    if summary is None:
        return "None"
    return (
        _format_values(summary.values)
        if _is_small(summary)
        else f"{_shape(summary)}, norm {format_number(summary.norm)}"
    )


def _format_values(values: Any) -> str:
    return f"[{', '.join(map(_format_values, values))}]" if isinstance(values, list) else format_number(values)


def format_number(number: Any) -> str:
    """A number of a Summary with 4 significant digits; whole numbers below a million exactly."""
    if isinstance(number, str | bool | int):
        return str(number)
    if isinstance(number, dict):
        imaginary = format_number(number["im"])
        sign = "" if imaginary.startswith("-") else "+"
        return f"{format_number(number['re'])}{sign}{imaginary}j"
    if float(number).is_integer() and abs(number) < 1e6:
        return str(int(number))
    return f"{number:.4g}"


def join_words(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
