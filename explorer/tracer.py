"""The Tracer watches one run of a program: which line made each grad_fn, what each backward sent where.

Forward, a TorchFunctionMode notes the range of sequence numbers that each call used; backward, one
post-hook a node notes what the engine sent. The program and its graph are left as they are.
"""

import functools
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from explorer import dot, engine
from explorer.engine import LEAF_SEQUENCE, Walk, find_program_frame, sequence_nr
from explorer.formulas import ELEMENTWISE
from explorer.names import Names
from explorer.program import FILENAME, Loop
from explorer.summaries import Mapper, Summarizer, gradient_norm, plain_number, tell_norm

MOST_NODES = 25_000
"""A graph with more nodes is walked and run, but no gradient of it is kept."""

LOCAL_NODES = 64
"""Nodes are asked for their local derivative only in graphs up to this size."""

FREE_FULL_SECONDS = 0.04
"""Full recording of passes may cost this much before the light record takes over."""

FULL_SHARE = 0.006
"""The share of a long run's time that further full records may take."""

KEPT_FULL = 48
"""So many full passes are kept, evenly spread; the last is kept besides."""

DRAWN_BY_TORCHVIZ = 40
"""At most so many graphs of one run are drawn by torchviz; the others by our own walk in the same form."""

LIGHT_SHARE = 0.008
"""The share of a run's time that light passes may take to be looked at: their leaves and gradient norms."""

STRIDES = (1, 13, 23, 37, 67, 101, 151, 211)
"""Every so manieth light pass is looked at, as the share allows; the others keep their loss alone. No round of a loop
has so many backward passes, so that each of several is looked at in turn."""

SMALL = 8
"""The values and gradients of a leaf of so many elements are kept in light passes as well."""

_REARRANGING = frozenset(
    f"{name}Backward{number}"
    for name in ("T", "Transpose", "Permute", "View", "UnsafeView", "ReshapeAlias", "Unsqueeze", "Squeeze", "Clone")
    for number in range(3)
)
"""These send the elements that they receive, arranged anew: their statistics are known."""

_HOOK_NODES = frozenset({"BackwardHookFunctionBackward"})


@dataclass(slots=True)
class TracedGraph:
    """One walk from the roots of a pass: parallel lists with one entry per node."""

    roots: list[int]
    names: list[str] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    edges: list[tuple[int, int, int, int]] = field(default_factory=list)
    shapes: list[list[int] | None] = field(default_factory=list)
    hooked: set[int] = field(default_factory=set)
    leaves: dict[int, tuple[str | None, dict[str, Any] | None]] = field(default_factory=dict)
    leaf_ids: dict[int, int] = field(default_factory=dict)
    leaf_refs: dict[int, weakref.ref] = field(default_factory=dict)
    saved: dict[int, dict[str, Any]] = field(default_factory=dict)
    attributes: dict[int, dict[str, Any]] = field(default_factory=dict)
    calls: dict[int, tuple] = field(default_factory=dict)
    variables: dict[int, str] = field(default_factory=dict)
    dot: str | None = None
    total: int = 0


@dataclass(slots=True)
class TracedPass:
    """One call of the engine as it was seen; plain but for the code object of its line."""

    index: int
    kind: str
    place: tuple[CodeType, int] | None
    graph: TracedGraph | None
    roots: list[int]
    loss: Any
    gradient: dict[str, Any] | None
    retain_graph: bool
    create_graph: bool
    leaves: list[tuple[str | None, int | None, dict[str, Any] | None, Any, dict[str, Any] | None]]
    events: list[tuple] | None = None
    single: list[tuple[int, int, int] | None] | None = None
    local: dict[int, list] = field(default_factory=dict)
    before: dict[int, Any] = field(default_factory=dict)
    failed: int | None = None
    expected: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether its steps were kept."""
        return self.events is not None


@dataclass(slots=True)
class BarePasses:
    """Passes of one line of which the loss alone was kept: the index of the first of a row, and the losses of all."""

    kind: str
    code: CodeType | None
    lasti: int
    retain_graph: bool
    create_graph: bool
    rows: list[tuple[int, list[Any]]] = field(default_factory=list)

    @property
    def place(self) -> tuple[CodeType, int] | None:
        """Where the program called the engine."""
        return None if self.code is None else (self.code, self.lasti)


class _ForwardCalls(TorchFunctionMode):
    """Notes, for every call that made a grad_fn, where the program stood and what came out."""

    def __init__(self, tracer: "Tracer") -> None:
        super().__init__()
        self._tracer = tracer
        self._note, self._calls, self._modules = tracer.note_call, tracer.calls, tracer.modules
        self._summarize = tracer.teller.summarize

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = sequence_nr()
        output = func(*args, **kwargs) if kwargs else func(*args)
        after = sequence_nr()
        if after == before:
            return output
        frame = sys._getframe(1)
        is_single = after - before == 1 and type(output) is torch.Tensor
        if is_single and not self._modules and frame.f_code.co_filename == FILENAME:
            # The commonest case at once: one node, made by the program's own line.
            self._calls[before] = ((frame.f_code, frame.f_lasti), None, True, self._summarize(output))
            self._tracer.last_made = output
        else:
            self._note(before, after, output, frame)
        return output


class Tracer:
    """Records the passes of the program that runs inside ``with tracer:``; one per run."""

    def __init__(
        self,
        namespace: Mapping[str, Any],
        *,
        ignored: Iterable[str] = (),
        loops: Iterable[Loop] = (),
        reads_saved: bool = True,
        doubts_hooks: bool = False,
        draws: bool = True,
        full: Iterable[int] = (),
        maps: bool = False,
        looks_at_all: bool = False,
        on_pass: Callable[[TracedPass | None], None] | None = None,
    ) -> None:
        """``ignored`` names are not the program's; ``full`` passes are kept in full whatever they cost.

        With ``maps`` the large tensors of full passes are told with a map. With ``looks_at_all`` no light pass keeps
        its loss alone.

        ``on_pass`` hears of a pass when it is over; of passes that keep their loss alone it is called with None, and
        then only once ``tell_at`` has come. ``losses`` holds those of all passes until it is emptied.
        ``reads_saved`` is False where reading a saved tensor would run the program's own unpack hook, and
        ``doubts_hooks`` True where the program hooks nodes, which cannot be seen from outside.
        """
        self.passes: list[TracedPass | BarePasses] = []
        self.count = 0
        self.losses: list[Any] = []
        self.tell_at = 0.0
        self.last_made: torch.Tensor | None = None
        self.calls: dict[int, tuple] = {}
        self.names = Names(namespace, ignored)
        self.summarizer = Summarizer()
        self.teller = Mapper(self.summarizer) if maps else self.summarizer
        self._loops = list(loops)
        self._reads_saved = reads_saved
        self._doubts_hooks = doubts_hooks
        self._draws = draws
        self._wanted = frozenset(full)
        self._looks_at_all = looks_at_all
        self._on_pass = on_pass
        self.modules: list[torch.nn.Module] = []
        self.optimizers: list[tuple[weakref.ref, tuple[CodeType, int], list[set[str]]]] = []
        self.mode = _ForwardCalls(self)
        self.is_full = True
        self.is_inside = False
        self._is_called = False
        self._gives_gradient = False
        self.bare_left = 0
        self._drawn = 0
        self._full_seconds = 0.0
        self._light_seconds = 0.0
        self._last_look = 0
        self._last_count = 0, 0.0
        self._engine_seconds = 0.0
        self._started = 0.0
        self._sites: dict[tuple[int, int], int] = {}
        self._last_to_come: set[tuple[int, int]] = set()
        self._models: dict[tuple[int, int], TracedPass] = {}
        self._full_passes: list[TracedPass] = []
        self._expected: dict[tuple[int, int], int | None] = {}
        self._bare: dict[tuple, BarePasses] = {}
        self._row: list[Any] = []
        self._row_of = BarePasses("", None, -1, False, False)
        self._depth = 1
        self._hooked_leaves: dict[int, weakref.ref] = {}
        self._hooked_nodes: set[int] = set()

    def __enter__(self) -> "Tracer":
        self._started = time.perf_counter()
        self._last_count = 0, self._started
        engine.watch(self)
        engine.push_mode(self.mode)
        return self

    def __exit__(self, *_: object) -> None:
        # A program may have left a mode of its own (torch.device("cpu").__enter__()) on top of ours.
        above = []
        while (mode := engine.get_mode()) is not None:
            engine.pop_mode()
            if mode is self.mode:
                break
            above.append(mode)
        for mode in reversed(above):
            engine.push_mode(mode)
        engine.unwatch(self)
        self._end_row()

    def call_outside(self, function: Callable, gives_gradient: bool, args: tuple, kwargs: dict[str, Any]) -> Any:
        """``function`` run with our mode off, and on again after it only if the next pass is recorded in full."""
        top = engine.get_mode()
        if self._is_called or not (top is None or top is self.mode):
            return function(*args, **kwargs)
        self._gives_gradient = gives_gradient
        if top is not None:
            engine.pop_mode()
        self._is_called = True
        try:
            return function(*args, **kwargs)
        finally:
            self._is_called = False
            if self.is_full:
                engine.push_mode(self.mode)

    def run_engine(self, run: Callable, outputs: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The engine's run, recorded; a backward inside a backward (reentrant checkpointing) is its own affair."""
        if self.is_inside:
            return run(outputs, *args, **kwargs)
        self.is_inside = True
        try:
            if self.bare_left > 0:
                return self._run_bare(outputs, args, kwargs)
            return self._run_backward(run, outputs, args, kwargs)
        finally:
            self.is_inside = False

    def note_hook(self, tensor: torch.Tensor) -> None:
        """The program hooks this tensor: its gradient may be changed on the way."""
        if tensor.grad_fn is None:
            self._hooked_leaves[id(tensor)] = weakref.ref(tensor)
        else:
            self._hooked_nodes.add(engine.sequence_of(tensor.grad_fn))

    def note_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """The program built this optimizer at the line where it stands; note what its groups have from the call."""
        frame = find_program_frame()
        if frame is not None:
            defaults = optimizer.defaults
            filled = [{name for name in defaults if group[name] is defaults[name]} for group in optimizer.param_groups]
            self.optimizers.append((weakref.ref(optimizer), (frame.f_code, frame.f_lasti), filled))

    # -- forward -------------------------------------------------------------------------------------

    def note_call(self, before: int, after: int, output: Any, frame: FrameType) -> None:
        """The nodes numbered ``before`` to ``after`` came from one call, made from ``frame`` outwards."""
        code = frame.f_code
        is_direct = code.co_filename == FILENAME
        while not is_direct and code.co_filename != FILENAME:
            frame = frame.f_back
            if frame is None:
                break
            code = frame.f_code
        place = None if frame is None else (code, frame.f_lasti)
        module = self.modules[-1] if self.modules else None
        calls = self.calls
        if after - before == 1 and type(output) is torch.Tensor:
            calls[before] = (place, module, is_direct, self.teller.summarize(output))
            self.last_made = output
            return
        for number in range(before, after):
            calls.setdefault(number, (place, module, is_direct, None))
        first = output[0] if isinstance(output, tuple | list) and output else output
        if isinstance(first, torch.Tensor) and first.grad_fn is not None:
            number = engine.sequence_of(first.grad_fn)
            self.last_made = first
            if before <= number < after:
                calls[number] = (place, module, is_direct, self.teller.summarize(first))

    # -- backward ------------------------------------------------------------------------------------

    def _run_backward(self, run: Callable, outputs: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        roots = list(engine.find_roots(outputs))
        if not roots or len(roots) < len(outputs):
            # The engine is about to say which output has no grad_fn.
            return run(outputs, *args, **kwargs)
        began = time.perf_counter()
        frame = find_program_frame()
        gradients = args[0] if args else ()
        traced = self._new_pass(outputs[0], frame, args, kwargs)
        if self._gives_gradient and gradients:
            traced.gradient = self.summarizer.summarize(gradients[0])
        was_full = self.is_full
        if was_full and frame is not None:
            self._models[id(frame.f_code), frame.f_lasti] = traced
        inputs = args[3] if len(args) > 3 else ()
        run = functools.partial(run, outputs, *args, **kwargs)
        try:
            if was_full:
                return self._run_full(traced, roots, outputs, inputs, run, frame)
            return self._run_light(traced, roots, inputs, run)
        finally:
            spent = time.perf_counter() - began
            if was_full:
                self._full_seconds += spent
            else:
                self._light_seconds += spent - self._engine_seconds
                self.bare_left = self._count_bare(traced)
            self.is_full = self._decide_full(traced)
            if self.is_full:
                self.bare_left = 0
            if self._on_pass is not None:
                self._on_pass(traced)

    def _run_full(
        self,
        traced: TracedPass,
        roots: list[Any],
        outputs: Any,
        inputs: Any,
        run: Callable[[], Any],
        frame: FrameType | None,
    ) -> Any:
        walk = engine.walk_graph(roots)
        nodes, counts, single = walk.nodes, list(walk.counts), walk.single
        graph = _graph_of(walk)
        traced.roots = graph.roots
        variables = {
            index: node.variable
            for index, node in enumerate(nodes)
            if graph.sequences[index] == LEAF_SEQUENCE and hasattr(node, "variable")
        }
        names = self._name_leaves(graph, variables, frame)
        summarize = self.teller.summarize
        for index, variable in variables.items():
            name = names.get(id(variable))
            graph.leaves[index] = (name, summarize(variable))
            graph.leaf_ids[index] = id(variable)
            graph.leaf_refs[index] = weakref.ref(variable)
        if graph.total > MOST_NODES:
            traced.graph = self._cut(graph)
            try:
                result = run()
                if traced.kind == "grad":
                    self._note_results(traced, graph, variables, inputs, result)
                else:
                    self._finish_leaves(traced, graph, variables, {})
                return result
            finally:
                walk.release()
        self._mark_hooked(graph, variables)
        traced.graph = self._describe(graph, nodes)
        if self._draws and len(nodes) <= LOCAL_NODES and self._reads_saved:
            traced.local = self._ask_local(graph, nodes)
        if self._draws and self._drawn < DRAWN_BY_TORCHVIZ and self._reads_saved:
            self._drawn += 1
            tensors = [output for output in outputs if isinstance(output, torch.Tensor)]
            named = {names[id(tensor)]: tensor for tensor in variables.values() if id(tensor) in names}
            keys = [f"\1{index}\2" for index in range(len(nodes))]
            graph.dot = dot.draw_live(tensors, nodes, keys, named) if len(tensors) == len(outputs) else None
        before = {index: summarize(variable.grad) for index, variable in variables.items()}
        traced.before, traced.single = before, single
        for root in graph.roots:
            counts[root] += 2
        for index in graph.hooked:
            counts[index] += 2
        events: list[tuple] = []
        traced.events = events
        note = events.append
        sent: list[list | None] = [None] * len(nodes)
        kinds = graph.names
        rearranged = self.teller.summarize_rearranged

        def post(index: int, grad_inputs: tuple, grad_outputs: tuple) -> None:
            received = len(grad_outputs) if counts[index] == 1 else [summarize(grad) for grad in grad_outputs]
            if len(grad_inputs) == 2:
                first, second = grad_inputs
                told = summarize(first)
                given = [told, told if second is first else summarize(second)]
            elif len(grad_inputs) != 1:
                given = [summarize(grad) for grad in grad_inputs]
            elif kinds[index] in _REARRANGING and counts[index] == 1:
                source, slot, _ = single[index]
                given = [rearranged(grad_inputs[0], sent[source][slot])]
            else:
                given = [summarize(grad_inputs[0])]
            sent[index] = given
            note((index, given, received, None))

        def post_leaf(index: int, grad_inputs: tuple, grad_outputs: tuple) -> None:
            if counts[index] == 1:
                source, slot, _ = single[index]
                received, came = 1, sent[source][slot]
            else:
                received = [summarize(grad) for grad in grad_outputs]
                came = received[0]
            # What is accumulated to nothing is what came.
            note((index, [], received, came if before[index] is None else summarize(variables[index].grad)))

        unhook = engine.hook_nodes(
            nodes, [functools.partial(post_leaf if i in variables else post, i) for i in range(len(nodes))]
        )
        numbers = sequence_nr()
        try:
            result = run()
        except BaseException:
            traced.failed = engine.find_next(walk, [event[0] for event in events])
            raise
        else:
            if traced.kind == "grad":
                self._note_results(traced, graph, variables, inputs, result)
            return result
        finally:
            unhook()
            if traced.create_graph:
                for number in range(numbers, sequence_nr()):
                    self.calls.setdefault(number, (traced.place, None, False, None))
            if traced.kind == "backward":
                after = {event[0]: event[3] for event in events if event[3] is not None}
                self._finish_leaves(traced, graph, variables, after)
            walk.release()

    def _run_light(self, traced: TracedPass, roots: list[Any], inputs: Any, run: Callable[[], Any]) -> Any:
        """Keep the loss, and the leaves as far as the time allows."""
        is_over = self._light_seconds > LIGHT_SHARE * (time.perf_counter() - self._started)
        if is_over and not self._looks_at_all and self.count - self._last_look < STRIDES[-1]:
            return self._run_timed(run)
        self._last_look = self.count
        model = self._models.get((id(traced.place[0]), traced.place[1])) if traced.place else None
        graph = model.graph if model is not None else None
        variables = [leaf() for leaf in graph.leaf_refs.values()] if graph is not None else [None]
        index_of: dict[int, int] = {}
        if None in variables:
            # The line made no full pass yet, or its leaves are made anew each time.
            variables = list(engine.walk_leaves(roots))
        if graph is not None and len(graph.leaves) == len(variables):
            # The same line with as many leaves: the last full pass of that line tells their names.
            traced.graph, traced.roots = graph, model.roots
            index_of = {id(leaf()): index for index, leaf in graph.leaf_refs.items()}
        summarize = self.summarizer.summarize
        values = [summarize(variable) if variable.numel() <= SMALL else None for variable in variables]
        result = self._run_timed(run)
        gradients = {id(tensor): gradient for tensor, gradient in zip(inputs, result, strict=False)} if inputs else {}
        for variable, value in zip(variables, values, strict=True):
            index = index_of.get(id(variable))
            name = graph.leaves[index][0] if index is not None else None
            gradient = gradients.get(id(variable)) if traced.kind == "grad" else variable.grad
            if value is not None:
                told = summarize(gradient)
                traced.leaves.append((name, index, value, tell_norm(told), told))
            else:
                traced.leaves.append((name, index, None, gradient_norm(gradient), None))
        return result

    def _run_timed(self, run: Callable[[], Any]) -> Any:
        """The engine's own time is none that looking at a pass takes."""
        began = time.perf_counter()
        try:
            return run()
        finally:
            self._engine_seconds = time.perf_counter() - began

    def _count_bare(self, last: TracedPass) -> int:
        """How many passes may now come with nothing but their loss: none that must be recorded in full."""
        if self._looks_at_all:
            return 0
        now = time.perf_counter()
        count, then = self._last_count
        self._last_count = self.count, now
        over = self._light_seconds / LIGHT_SHARE - (now - self._started)
        # So many passes from now the time taken is again what the share allows.
        wanted = over / (now - then) * (self.count - count)
        stride = next((stride for stride in STRIDES if stride >= wanted), STRIDES[-1])
        counts = [(self._sites[site], expected) for site, expected in self._expected.items() if expected]
        upcoming = [expected - 2 - count for count, expected in counts if count < expected]
        upcoming += [index - last.index - 2 for index in self._wanted if index > last.index]
        return min([stride - 1, *upcoming])

    def look_at_pass(self, index: int) -> None:
        """``on_pass`` is to hear of this pass at once."""
        self.bare_left = min(self.bare_left, index - self.count)

    def _new_pass(self, output: Any, frame: FrameType | None, args: tuple, kwargs: dict[str, Any]) -> TracedPass:
        self._end_row()
        traced = TracedPass(
            index=self.count,
            kind="backward" if kwargs.get("accumulate_grad") else "grad",
            place=None if frame is None else (frame.f_code, frame.f_lasti),
            graph=None,
            roots=[],
            loss=_loss_of(output),
            gradient=None,
            retain_graph=bool(args[1]),
            create_graph=bool(args[2]),
            leaves=[],
        )
        self.count += 1
        self.passes.append(traced)
        self.losses.append(traced.loss)
        traced.expected = self._count_site(frame)
        return traced

    def _run_bare(self, outputs: tuple, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run the engine and keep the loss; what is done here is done for every pass of a long loop."""
        try:
            result = engine.run_at_once(outputs, *args, **kwargs)
        except BaseException:
            self._note_failed(outputs, args, kwargs)
            raise
        output = outputs[0]
        loss = output.item() if type(output) is torch.Tensor and not output.dim() else None
        if type(loss) is not float:
            loss = _loss_of(output)
        row_of = self._row_of
        try:
            frame = sys._getframe(self._depth)
        except ValueError:
            # The line before stood further away than the stack is deep now.
            frame = sys._getframe()
        if (
            frame.f_lasti != row_of.lasti
            or frame.f_code is not row_of.code
            or args[1] is not row_of.retain_graph
            or args[2] is not row_of.create_graph
        ):
            self._begin_row(args, kwargs)
        self._row.append(loss)
        self.bare_left -= 1
        if time.perf_counter() > self.tell_at and self._on_pass is not None:
            self._end_row()
            self._on_pass(None)
        return result

    def _note_failed(self, outputs: tuple, args: tuple, kwargs: dict[str, Any]) -> None:
        """The engine raised in a pass that was to keep its loss alone."""
        self.bare_left = 0
        if len(list(engine.find_roots(outputs))) == len(outputs):
            traced = self._new_pass(outputs[0], find_program_frame(), args, kwargs)
            if self._on_pass is not None:
                self._on_pass(traced)

    def _begin_row(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """Bare passes of another line, or with other options, than those before; and how far away that line stands."""
        self._end_row()
        frame = find_program_frame()
        self._depth, above = 0, sys._getframe(1)
        while above is not frame and above is not None:
            self._depth, above = self._depth + 1, above.f_back
        code, lasti = (None, -1) if frame is None else (frame.f_code, frame.f_lasti)
        site = id(code), lasti
        if frame is not None and self._is_new(site):
            # Of a line that makes its first pass nobody knows yet how many it will make.
            self.bare_left = 1
            self._count_site(frame)
            self._sites[site] -= 1
        key = *site, args[1], args[2]
        if key not in self._bare:
            kind = "backward" if kwargs.get("accumulate_grad") else "grad"
            self._bare[key] = BarePasses(kind, code, lasti, args[1], args[2])
            self.passes.append(self._bare[key])
        self._row_of = self._bare[key]

    def _is_new(self, site: tuple[int, int]) -> bool:
        """Whether no pass was made there, or as many as its loops were to make."""
        expected = self._expected.get(site)
        return site not in self._sites or (expected is not None and self._sites[site] >= expected)

    def _end_row(self) -> None:
        """Put the losses of the bare passes made since the last time where they belong."""
        # A signal may end the program on any line: what stands in two places is put there at once.
        row, self._row = self._row, []
        if row:
            bare = self._row_of
            bare.rows.append((self.count, row))
            self.count += len(row)
            self.losses += row
            site = id(bare.code), bare.lasti
            if site in self._sites:
                self._sites[site] += len(row)

    def _describe(self, graph: TracedGraph, nodes: list[Any]) -> TracedGraph:
        """Fill in shapes, saved tensors and attributes, which the engine frees as it runs."""
        summarize, calls, reads_saved = self.teller.summarize, self.calls, self._reads_saved
        named, found, shapes = self.names.grad_fns, graph.calls, graph.shapes
        for index, number in enumerate(graph.sequences):
            if number == LEAF_SEQUENCE:
                shapes.append(None)
                continue
            output = None
            if number in calls:
                call = found[index] = calls[number]
                output = call[3]
            if number in named:
                graph.variables[index] = named[number]
            shapes.append(output["shape"] if output is not None else engine.shape_of(nodes[index]))
            if reads_saved:
                saved, attributes = engine.read_saved(nodes[index], summarize, output)
                if saved:
                    graph.saved[index] = saved
                if attributes:
                    graph.attributes[index] = attributes
        return graph

    def _mark_hooked(self, graph: TracedGraph, variables: dict[int, torch.Tensor]) -> None:
        if self._doubts_hooks:
            graph.hooked.update(range(len(graph.names)))
            return
        if not _HOOK_NODES.isdisjoint(graph.names):
            graph.hooked.update(index for index, name in enumerate(graph.names) if name in _HOOK_NODES)
        if self._hooked_nodes:
            graph.hooked.update(i for i, number in enumerate(graph.sequences) if number in self._hooked_nodes)
        for index, variable in variables.items():
            known = self._hooked_leaves.get(id(variable))
            if known is not None and known() is variable:
                graph.hooked.add(index)

    def _ask_local(self, graph: TracedGraph, nodes: list[Any]) -> dict[int, list]:
        """Call element-wise nodes with ones: what comes back is the local derivative of each input."""
        found = {}
        with torch.no_grad():
            for index, node in enumerate(nodes):
                if graph.names[index] in ELEMENTWISE and index not in graph.hooked:
                    sent = engine.call_with_ones(node)
                    if sent is not None:
                        found[index] = [self.teller.summarize(gradient) for gradient in sent]
        return found

    def _cut(self, graph: TracedGraph) -> TracedGraph:
        """The first nodes of a graph too large to keep, and all that can be told of its size."""
        kept = 2_000
        cut = TracedGraph(roots=graph.roots, total=graph.total)
        cut.names, cut.sequences = graph.names[:kept], graph.sequences[:kept]
        cut.edges = [edge for edge in graph.edges if edge[0] < kept and edge[2] < kept]
        cut.shapes = [None] * len(cut.names)
        cut.leaves = {index: leaf for index, leaf in graph.leaves.items() if index < kept}
        cut.leaf_ids = {index: key for index, key in graph.leaf_ids.items() if index < kept}
        cut.calls = {i: self.calls[n] for i, n in enumerate(cut.sequences) if n in self.calls}
        return cut

    def _finish_leaves(
        self, traced: TracedPass, graph: TracedGraph, variables: dict[int, torch.Tensor], after: dict[int, Any]
    ) -> None:
        for index, variable in variables.items():
            name, value = graph.leaves[index]
            told = after.get(index)
            norm = tell_norm(told) if index in after else gradient_norm(variable.grad)
            traced.leaves.append((name, index, value, norm, told if variable.numel() <= SMALL else None))

    def _note_results(self, traced: TracedPass, graph: TracedGraph, variables: Any, inputs: Any, result: Any) -> None:
        """``autograd.grad`` returns the gradients and runs no AccumulateGrad."""
        by_id = {id(variable): index for index, variable in variables.items()}
        for tensor, gradient in zip(inputs, result, strict=False):
            index = by_id.get(id(tensor))
            if index is not None:
                name, value = graph.leaves[index]
                told = self.summarizer.summarize(gradient) if tensor.numel() <= SMALL else None
                traced.leaves.append((name, index, value, gradient_norm(gradient), told))

    def look_at(self, root: Any, output: torch.Tensor) -> TracedGraph:
        """The graph of a tensor that no backward went through, as it stands after the program."""
        walk = engine.walk_graph([root])
        nodes, graph = walk.nodes, _graph_of(walk)
        names = self.names.find(None)
        named = {}
        for index, node in enumerate(nodes):
            variable = getattr(node, "variable", None) if graph.sequences[index] == LEAF_SEQUENCE else None
            if variable is not None:
                graph.leaves[index] = (names.get(id(variable)), self.summarizer.summarize(variable))
                named[names.get(id(variable), "")] = variable
        if graph.total > MOST_NODES:
            graph = self._cut(graph)
        else:
            self._describe(graph, nodes)
            if self._draws and self._reads_saved and self._drawn < DRAWN_BY_TORCHVIZ:
                self._drawn += 1
                named.pop("", None)
                keys = [f"\1{index}\2" for index in range(len(nodes))]
                graph.dot = dot.draw_live([output], nodes, keys, named)
        walk.release()
        return graph

    def _name_leaves(
        self, graph: TracedGraph, variables: dict[int, torch.Tensor], frame: FrameType | None
    ) -> dict[int, str]:
        names = self.names.find(frame)
        if not all(id(variable) in names for variable in variables.values()):
            calls = (self.calls.get(number) for number in graph.sequences)
            self.names.add_layers(names, dict.fromkeys(call[1] for call in calls if call and call[1] is not None))
        return names

    # -- how much to record --------------------------------------------------------------------------

    def _count_site(self, frame: FrameType | None) -> int | None:
        """Count a pass at its place of the program, anew where the loops around that place began again.

        Returns how many passes that place will make, where that can be told.
        """
        if frame is None:
            return None
        # A code object hashes all that it holds, each time; its id does as well while the tracer keeps the pass.
        site = (id(frame.f_code), frame.f_lasti)
        count = self._sites.get(site, 0) + 1
        expected = self._expected.get(site)
        if site not in self._expected or (expected is not None and count > expected):
            count, expected = 1, _expected_passes(self._loops, frame)
            self._expected[site] = expected
        self._sites[site] = count
        if expected is not None and count == expected - 1:
            self._last_to_come.add(site)
        else:
            self._last_to_come.discard(site)
        return expected

    def tell_progress(self) -> tuple[int, int | None]:
        """How many passes were made of those that the loops will make, where that can be told of every place."""
        totals = list(self._expected.values())
        return sum(self._sites.values()), None if None in totals or not totals else sum(totals)

    def _decide_full(self, last: TracedPass) -> bool:
        """Whether what follows up to the end of the next pass is recorded in full."""
        if last.is_full:
            self._full_passes.append(last)
            self._thin()
        if last.index + 1 in self._wanted or self._last_to_come:
            return True
        elapsed = time.perf_counter() - self._started
        return self._full_seconds < max(FREE_FULL_SECONDS, FULL_SHARE * elapsed)

    def _thin(self) -> None:
        """Keep every second of the full passes of each place once they are too many."""
        if len(self._full_passes) <= KEPT_FULL:
            return
        places: dict[Any, list[TracedPass]] = {}
        for traced in self._full_passes:
            places.setdefault(traced.place and (id(traced.place[0]), traced.place[1]), []).append(traced)
        for full in places.values():
            for position, traced in enumerate(full[1:-1], start=1):
                if position % 2 and traced.index not in self._wanted:
                    traced.events, traced.single, traced.local = None, None, {}
                    traced.graph, traced.roots = full[position - 1].graph, full[position - 1].roots
        self._full_passes = [traced for traced in self._full_passes if traced.is_full]


def _loss_of(output: Any) -> Any:
    if not isinstance(output, torch.Tensor) or output.numel() != 1 or output.is_complex():
        return None
    try:
        return plain_number(float(output.item()))
    except (RuntimeError, NotImplementedError):
        # A functorch wrapper or a meta tensor has no number.
        return None


def _expected_passes(loops: list[Loop], frame: FrameType) -> int | None:
    """How often the loops around the running line go round, where their lengths can be read, else None."""
    if not loops:
        return None
    line, scope = frame.f_lineno, frame.f_code.co_name
    around = [loop for loop in loops if loop.line <= line <= loop.end_line and loop.scope == scope]
    if not around:
        return None
    total = 1
    for loop in around:
        length = loop.count(frame.f_globals | frame.f_locals)
        if length is None:
            return None
        total *= length
    return total


def _graph_of(walk: Walk) -> TracedGraph:
    graph = TracedGraph(roots=walk.roots, names=walk.names, sequences=walk.sequences, edges=walk.edges)
    graph.total = len(walk.nodes)
    return graph
