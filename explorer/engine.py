"""PyTorch's autograd engine as far as it is private: the graph it built, hooks on nodes, its entry points.

The graph is read, never rebuilt. The entry points that ``install`` names are wrapped, once per process; without
a watcher the wrappers pass on what they are given. Everything private of torch that recording relies on is
named here, but for ``_base``, ``_is_view`` and ``_version`` of tensors (explorer.summaries, explorer.names).
"""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch._C._autograd import _get_sequence_nr as sequence_nr
from torch.autograd.function import _HookMixin
from torch.autograd.graph import get_gradient_edge
from torch.overrides import _get_current_function_mode as get_mode
from torch.overrides import _pop_mode as pop_mode
from torch.overrides import _push_mode as push_mode

from explorer.program import FILENAME
from explorer.summaries import plain_number

__all__ = ["get_mode", "pop_mode", "push_mode", "sequence_nr"]

as_plain_tensors = torch._C.DisableTorchFunctionSubclass
"""While it is entered, tensors of the program's own subclasses are read without their ``__torch_function__``."""

run_at_once = torch.autograd.Variable._execution_engine.run_backward
"""The engine without what PyTorch does around it for its own log and for compiled graphs."""

LEAF_SEQUENCE = 2**64 - 1
"""The sequence number of every AccumulateGrad: the engine takes them first."""

_SAVED = "_saved_"


class Watcher(Protocol):
    """What a Tracer is to the doors of this module."""

    is_full: bool
    is_inside: bool
    bare_left: int
    modules: list[torch.nn.Module]

    def call_outside(self, function: Callable, gives_gradient: bool, args: tuple, kwargs: dict[str, Any]) -> Any: ...

    def run_engine(self, engine: Callable, outputs: Any, args: tuple, kwargs: dict[str, Any]) -> Any: ...

    def note_call(self, before: int, after: int, output: Any, frame: FrameType) -> None: ...

    def note_hook(self, tensor: torch.Tensor) -> None: ...

    def note_optimizer(self, optimizer: torch.optim.Optimizer) -> None: ...


@dataclass(slots=True)
class Walk:
    """The nodes reachable from some roots, as parallel lists with one entry a node.

    ``edges`` are ``(source, slot, target, input_nr)`` by index; ``counts`` how many edges reach each node, and
    ``single`` the edge ``(source, slot, input_nr)`` of a node that one edge reaches.
    """

    nodes: list[Any]
    roots: list[int]
    names: list[str]
    sequences: list[int]
    edges: list[tuple[int, int, int, int]]
    counts: list[int]
    single: list[tuple[int, int, int] | None]

    def release(self) -> None:
        """Let go of the nodes root first: a deep graph dropped from its leaf end overflows the C stack."""
        self.nodes.reverse()
        while self.nodes:
            self.nodes.pop()


_active: list[Watcher] = []
_installed: list[str] = []


def watch(watcher: Watcher) -> None:
    """Tell this watcher what passes the doors, until ``unwatch``."""
    install()
    _active.append(watcher)


def unwatch(watcher: Watcher) -> None:
    """Tell it no more."""
    _active.remove(watcher)


def install() -> None:
    """Put a doorkeeper before each entry of the engine, once per process; without a watcher they only pass on.

    Replacing a method of ``Tensor`` or ``Module`` costs more than a small program takes, so it is not undone.
    """
    if _installed:
        return
    engine = torch.autograd.graph._engine_run_backward

    def run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not _active:
            return engine(outputs, *args, **kwargs)
        return _active[-1].run_engine(engine, outputs, args, kwargs)

    _replace(torch.autograd.graph, "_engine_run_backward", run_backward)
    _replace(torch.autograd, "_engine_run_backward", run_backward)
    _replace(torch.Tensor, "backward", _outside(torch.Tensor.backward, 1, "gradient"))
    _replace(torch.autograd, "backward", _outside(torch.autograd.backward, 1, "grad_tensors"))
    _replace(torch.autograd, "grad", _outside(torch.autograd.grad, 2, "grad_outputs"))
    _replace(torch.overrides, "has_torch_function", _has_torch_function)

    _replace(_HookMixin, "_register_hook", staticmethod(_register_hook))
    register = torch.Tensor.register_hook

    def register_hook(tensor: torch.Tensor, hook: Callable) -> Any:
        handle = register(tensor, hook)
        if _active:
            _active[-1].note_hook(tensor)
        return handle

    _replace(torch.Tensor, "register_hook", register_hook)
    apply = torch.autograd.Function.apply.__func__

    def noted_apply(cls: type, /, *args: Any, **kwargs: Any) -> Any:
        before = sequence_nr()
        output = apply(cls, *args, **kwargs)
        # Function.apply passes by every mode, so it is watched by itself.
        if _active and _active[-1].is_full and not _active[-1].is_inside and sequence_nr() != before:
            _active[-1].note_call(before, sequence_nr(), output, sys._getframe(1))
        return output

    _replace(torch.autograd.Function, "apply", classmethod(noted_apply))
    initialize = torch.optim.Optimizer.__init__

    def noted_init(optimizer: torch.optim.Optimizer, /, *args: Any, **kwargs: Any) -> None:
        initialize(optimizer, *args, **kwargs)
        if _active:
            _active[-1].note_optimizer(optimizer)

    _replace(torch.optim.Optimizer, "__init__", noted_init)
    call = torch.nn.Module.__call__

    def noted_call(module: torch.nn.Module, /, *args: Any, **kwargs: Any) -> Any:
        if not _active:
            return call(module, *args, **kwargs)
        stack = _active[-1].modules
        stack.append(module)
        try:
            return call(module, *args, **kwargs)
        finally:
            stack.pop()

    _replace(torch.nn.Module, "__call__", noted_call)


def _replace(owner: Any, name: str, value: Any) -> None:
    _installed.append(name)
    setattr(owner, name, value)


def _outside(function: Callable, position: int, gradient: str) -> Callable:
    """``function`` through ``Watcher.call_outside``; whether it was given a gradient the engine cannot tell."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _active or _active[-1].bare_left > 0:
            return function(*args, **kwargs)
        given = args[position] if len(args) > position else kwargs.get(gradient)
        return _active[-1].call_outside(function, given is not None, args, kwargs)

    return call


def walk_graph(roots: Sequence[Any]) -> Walk:
    """All nodes reachable from ``roots`` in depth-first order, slot 0 first, without recursion."""
    index_of: dict[Any, int] = {}
    nodes: list[Any] = []
    functions: list[tuple] = []
    names, sequences = [], []
    stack = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node in index_of:
            continue
        index_of[node] = len(nodes)
        nodes.append(node)
        name = type(node).__name__
        names.append(node.name().rpartition("::")[2] if name == "CppFunction" else name)
        sequences.append(node._sequence_nr())
        following = node.next_functions
        functions.append(following)
        if len(following) == 1:
            target = following[0][0]
            if target is not None:
                stack.append(target)
        else:
            stack.extend(target for target, _ in reversed(following) if target is not None)
    counts = [0] * len(nodes)
    single: list[tuple[int, int, int] | None] = [None] * len(nodes)
    edges = []
    for source, following in enumerate(functions):
        for slot, (target, input_nr) in enumerate(following):
            if target is not None:
                number = index_of[target]
                edges.append((source, slot, number, input_nr))
                counts[number] += 1
                single[number] = (source, slot, input_nr)
    return Walk(nodes, [index_of[node] for node in roots], names, sequences, edges, counts, single)


class _Table(dict):
    """The hooks of a node; the program's own handles keep weak references to it, which a plain dict has not."""


_tables: list[tuple[dict, int]] | None = None


def _register_hook(table: dict | None, hook: Callable) -> tuple[dict, Any]:
    """``_HookMixin._register_hook``; between the two lines of ``hook_nodes`` a cheaper one.

    The standard one makes an ordered dict and a handle for each node, which costs as much as the rest of
    hooking it; a plain dict that we empty ourselves does as well.
    """
    if _tables is None:
        return _standard_register_hook(table, hook)
    table = _Table() if table is None else table
    table[id(hook)] = hook
    _tables.append((table, id(hook)))
    return table, None


_standard_register_hook = _HookMixin._register_hook


def hook_nodes(nodes: Iterable[Any], hooks: Iterable[Callable]) -> Callable[[], None]:
    """Register one post-hook a node; returns what takes them all away again."""
    global _tables
    tables = _tables = []
    try:
        for node, hook in zip(nodes, hooks, strict=True):
            node.register_hook(hook)
    finally:
        _tables = None

    def unhook() -> None:
        for table, key in tables:
            table.pop(key, None)

    return unhook


def walk_leaves(roots: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The leaf tensors reachable from ``roots``, without looking at anything else."""
    seen = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        following = node.next_functions
        if not following:
            variable = getattr(node, "variable", None)
            if variable is not None:
                yield variable
        else:
            stack.extend(target for target, _ in following if target is not None)


def find_roots(outputs: Any) -> Iterator[Any]:
    """The node that each output of a backward call starts from; nothing for one that requires no gradient."""
    for output in outputs:
        if isinstance(output, torch.Tensor):
            if output.grad_fn is not None:
                yield output.grad_fn
            elif output.requires_grad:
                yield get_gradient_edge(output).node
        else:
            yield output.node


def shape_of(node: Any) -> list[int] | None:
    """The shape of a node's first output, as its metadata tells it."""
    try:
        return [int(size) for size in node._input_metadata[0].shape]
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        # Python Functions before their first output, and nested tensors, have no plain metadata.
        return None


_TENSORS = (torch.Tensor, torch.nn.Parameter)
_RESULTS = ("result", "output")
_SAVED_NAMES: dict[type, list[tuple[str, str]]] = {}


def read_saved(node: Any, summarize: Callable, output: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors and the other values that a node saved for its backward, by the names PyTorch gives them."""
    kind = type(node)
    names = _SAVED_NAMES.get(kind)
    if names is None:
        names = [(name, name.removeprefix(_SAVED)) for name in dir(kind) if name.startswith(_SAVED)]
        if not names and hasattr(kind, "saved_tensors"):
            names = [("saved_tensors", "")]
        _SAVED_NAMES[kind] = names
    saved, attributes = {}, {}
    for name, short in names:
        try:
            value = getattr(node, name)
        except (RuntimeError, AttributeError):
            # Freed by an earlier backward, or changed in place since: the engine's own error will tell.
            continue
        if value is None:
            continue
        if type(value) in _TENSORS:
            if short in _RESULTS and output is not None and not value._version and list(value.shape) == output["shape"]:
                # A node that saved its own output saved what the forward call returned.
                saved[short] = output
                continue
            summary = summarize(value)
            if summary is not None:
                saved[short] = summary
        elif isinstance(value, tuple) and any(isinstance(item, torch.Tensor) for item in value):
            for index, item in enumerate(value):
                summary = summarize(item)
                if summary is not None:
                    saved[f"{short}[{index}]"] = summary
        elif isinstance(value, bool | int | float | complex | str):
            attributes[short] = plain_number(value)
        else:
            attributes[short] = str(value)[:80]
    return saved, attributes


def call_with_ones(node: Any) -> tuple | None:
    """What a node sends when it receives ones: for an element-wise one, its local derivatives. None where it cannot.

    Calling a node runs its formula and no hook, and frees nothing.
    """
    try:
        data = node._input_metadata[0]
        sent = node(torch.ones(tuple(data.shape), dtype=data.dtype, device=data.device))
    except (RuntimeError, TypeError, AttributeError, IndexError):
        # Freed or changed in place: the engine will say so itself in a moment.
        return None
    return sent if isinstance(sent, tuple) else (sent,)


def sequence_of(node: Any) -> int:
    """The number that the engine orders a node by."""
    return node._sequence_nr()


def find_next(walk: Walk, done: Iterable[int]) -> int | None:
    """The node that the engine turned to next: of those ready, leaves first, then the latest made."""
    finished = set(done)
    waiting = list(walk.counts)
    for source, _, target, _ in walk.edges:
        if source in finished:
            waiting[target] -= 1
    ready = [index for index in range(len(walk.names)) if index not in finished and not waiting[index]]
    return max(ready, key=lambda index: walk.sequences[index], default=None)


def find_program_frame() -> FrameType | None:
    """The innermost running frame of the program, or None."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != FILENAME:
        frame = frame.f_back
    return frame


def _has_torch_function(arguments: Iterable[Any]) -> bool:
    """``torch.overrides.has_torch_function`` blind to our mode, which must not switch off fast paths."""
    return any(
        type(argument) not in (torch.Tensor, torch.nn.Parameter) and hasattr(argument, "__torch_function__")
        for argument in arguments
    )
