"""The gallery: short programs, each of which shows one thing."""

import ast
import functools
from dataclasses import dataclass
from importlib import resources

GALLERY: dict[str, dict[str, str]] = {
    "First steps": {
        "first_graph": "One short chain",
        "two_leaves": "Two leaves",
    },
    "Chain rule": {
        "chain_rule": "Three links",
        "vanishing_gradient": "A vanishing gradient",
    },
    "Fan-out": {
        "fan_out": "Used three times",
        "micrograd": "The micrograd expression",
    },
    "Vectors and gradient=": {
        "vector_gradient": "A vector's backward()",
        "softmax_jacobian": "A row of the softmax Jacobian",
    },
    "Matrices": {
        "broadcasting": "Broadcasting",
        "matrix_product": "Matrix product",
    },
    "Accumulation": {
        "accumulation": "Gradients add up",
    },
    "detach and no_grad": {
        "detach": "detach() cuts the graph",
        "no_grad": "An update inside no_grad()",
    },
    "In-place": {
        "in_place": "Writing into a slice",
    },
    "Regression by hand": {
        "linear_regression": "Linear regression",
    },
    "Networks": {
        "network": "A small network",
        "cross_entropy": "Cross entropy",
    },
    "Convolution": {
        "convolution": "One kernel, many places",
    },
    "Recurrence": {
        "recurrent": "Back through time",
    },
    "Attention": {
        "attention": "Attention in three lines",
    },
    "Your own Function": {
        "custom_function": "Straight-through rounding",
    },
    "Second derivatives": {
        "second_derivative": "The derivative of a derivative",
        "newton": "Newton's method",
    },
    "Instructive failures": {
        "backward_twice": "backward() twice",
        "changed_in_place": "A saved tensor changed",
        "nan_through_where": "NaN through where()",
    },
}
"""Group, then file name without its ending, then title; the order is that of the page."""


@dataclass(frozen=True, slots=True)
class Example:
    """One program of the gallery; ``source`` is its file without the docstring, which is the ``caption``."""

    id: str
    group: str
    title: str
    caption: str
    source: str


@functools.cache
def _read_examples() -> tuple[Example, ...]:
    return tuple(
        Example(name, group, title, *_read_program(name))
        for group, titles in GALLERY.items()
        for name, title in titles.items()
    )


def _read_program(name: str) -> tuple[str, str]:
    """The caption and the source of a file."""
    text = resources.files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.parse(text).body[0]
    source = "".join(text.splitlines(keepends=True)[docstring.end_lineno :])
    return ast.literal_eval(docstring.value), source.lstrip("\n")


def list_examples() -> list[Example]:
    """All examples in the order of the gallery; the first is the one that the page opens with."""
    return list(_read_examples())


def find_example(id: str) -> Example:
    """The example of that id. Raises KeyError for an unknown one."""
    for example in _read_examples():
        if example.id == id:
            return example
    raise KeyError(id)
