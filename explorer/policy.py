"""What a program may name: attributes, built-ins and modules, as closed tables that are built once from the real types."""

import builtins
import collections
import contextlib
import dis
import fractions
import functools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy
import torch
import torch.utils.data
from torch.utils.data import dataloader, dataset

from explorer import facades
from explorer.facades import WRITABLE, Progress, is_facade, rooms, why_denied

__all__ = [
    "PREDEFINED",
    "WRITABLE",
    "attribute_names",
    "is_reserved",
    "is_safe_attribute",
    "keep_samplers_on_cpu",
    "program_globals",
    "reserved_names",
    "rooms",
    "warm_up",
    "why_denied",
]

_STORE_ATTR = dis.opmap["STORE_ATTR"]
_SHORT = {
    "torch": "torch",
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "optim": "torch.optim",
    "math": "math",
    "np": "numpy",
}
PREDEFINED: frozenset[str] = frozenset({"__name__", "__builtins__", *_SHORT})
PREDEFINED_MODULES: dict[str, str] = dict(_SHORT)

# Special methods that a class may define and anybody may call by name. Not here: what chooses the class of an object
# (__new__, __class__, __init_subclass__), what copy and pickle call with any name (__reduce__, __setstate__), what
# runs at unforeseen moments (__del__, __getattribute__), what str.format calls (__format__), and __slots__.
DEFINABLE: frozenset[str] = frozenset(
    f"__{name}__"
    for name in """
    init call repr str len getitem setitem delitem contains iter next reversed enter exit bool hash eq ne lt le gt ge
    neg pos abs invert add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor radd rsub rmul
    rmatmul rtruediv rfloordiv rmod rdivmod rpow rlshift rrshift rand ror rxor iadd isub imul imatmul itruediv
    ifloordiv imod ipow ilshift irshift iand ior ixor int float complex index round trunc floor ceil getattr setattr
    delattr post_init copy deepcopy missing length_hint getitems get set delete set_name torch_function match_args
    version author
    """.split()
)
# Read anywhere; they are strings, or (Enum) a read-only view.
READABLE_DUNDERS: frozenset[str] = frozenset({"__name__", "__qualname__", "__doc__", "__version__", "__members__"})
READABLE_PREFIXES = ("_saved_", "_raw_saved_")
_READABLE_PRIVATE = "_version _sequence_nr _parameters _buffers _modules _get_name _fields _replace _asdict _make".split()
# Private names of Tensor and Module that hold nothing dangerous, and that a class of one's own well may use.
_DEFINABLE_PRIVATE = frozenset(
    "_grad _grad_fn _base _values _indices _apply _init_group _step_count _last_lr _size _dtype _to _constants".split()
)

BUILTINS: frozenset[str] = frozenset(
    """
    abs all any ascii bin bool bytearray bytes callable chr classmethod complex dict divmod enumerate filter float
    format frozenset hash hex id int isinstance issubclass iter len list map max min next object oct ord pow print
    property range repr reversed round set slice sorted staticmethod str sum super tuple zip
    NotImplemented Ellipsis KeyboardInterrupt __build_class__ __debug__
    getattr setattr hasattr delattr type __import__
    """.split()
)
# Of the built-in types: reads attributes of what it formats.
_UNSAFE_METHODS = frozenset({"format", "format_map", "mro", "with_traceback"})
# Attributes that exist on instances only, or that no rule below finds.
_EXTRA = """
    weight bias running_mean running_var num_batches_tracked in_proj_weight in_proj_bias weight_ih_l0 weight_hh_l0
    bias_ih_l0 bias_hh_l0 weight_ih_l1 weight_hh_l1 bias_ih_l1 bias_hh_l1 weight_g weight_v weight_orig weight_mask
    saved_tensors needs_input_grad next_functions metadata register_hooks variable name node output_nr
    param_groups defaults state params lr betas momentum primal tangent remove
    missing_keys unexpected_keys total_memory major minor multi_processor_count
    message category filename lineno args value values indices cache_info cache_clear
    info tensors datasets dataset allow_tf32 matmul high low probs logits mT mH
"""


@functools.cache
def attribute_names() -> frozenset[str]:
    """Every attribute name that a program may use on anything: no reachable object does harm by it."""
    denied = frozenset().union(*(names for names, _ in facades.DENIED.values())) | _UNSAFE_METHODS
    found = {name for room in rooms().values() for name in room.names}
    found |= {name for kind in _reachable_types() for name in _names_of(kind)} - denied
    found |= {name for name in dir(_tqdm()) if not name.startswith("_")}
    return frozenset(found | {*_EXTRA.split(), *_READABLE_PRIVATE, "desc", "n", "total", "postfix"})


@functools.cache
def reserved_names() -> frozenset[str]:
    """Names of runtime objects that no program may use or define as an attribute: frames, code, raw memory, modules."""
    kinds = [
        *(value for value in vars(types).values() if isinstance(value, type)),
        *(torch.UntypedStorage, torch.TypedStorage, numpy.random.BitGenerator, AttributeError, type),
        *(torch.Tensor, torch.nn.Module(), torch.optim.Optimizer, torch.autograd.Function, numpy.ndarray),
        torch.autograd.graph.Node,
    ]
    names = {name for kind in kinds for name in dir(kind)} | _UNSAFE_METHODS
    # Standard modules that the real modules hold: the way out of torch, were a real one ever reached.
    held = {key for room in rooms().values() for key, value in vars(room.real or types).items() if _is_module(value)}
    standard = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    names |= (held & standard) - {*rooms(), "queue", "signal", "keyword"}
    allowed = attribute_names() | _DEFINABLE_PRIVATE
    return frozenset(name for name in names - allowed if not name.startswith("__"))


def is_dunder(name: str) -> bool:
    """Whether a name is special to Python."""
    return name.startswith("__") and name.endswith("__")


def is_reserved(name: str) -> bool:
    """Whether no program may use the name as an attribute, even where it defines it."""
    return name in reserved_names() or (is_dunder(name) and name not in DEFINABLE)


def is_safe_attribute(name: str) -> bool:
    """The rule for a name that is known only when the program runs (``getattr``)."""
    return name in attribute_names() or name in READABLE_DUNDERS or not (is_reserved(name) or is_dunder(name))


def program_globals(on_progress: Progress | None = None) -> dict[str, Any]:
    """Fresh globals for one run: the closed built-ins and the modules that are there without an import.

    ``on_progress`` is told how far a tqdm loop is, as {n, total, description, postfix}.
    """
    modules = facades.build_facades(on_progress)
    closed = {**_closed_builtins(), "__import__": functools.partial(_import, modules)}
    ready = {short: modules[name] for short, name in _SHORT.items()}
    return {"__name__": "__main__", "__builtins__": closed, **ready}


def warm_up() -> None:
    """Build all tables, and the first optimizer (it imports torch._dynamo, about a second)."""
    weight = torch.zeros(1, requires_grad=True)
    torch.optim.SGD([weight], lr=0.1)
    reserved_names()
    program_globals()


def keep_samplers_on_cpu() -> None:
    """Make shuffling draw on the CPU while the default device is another one; for a single-use process only.

    Samplers pair ``torch.randperm`` on the default device with a CPU generator, which fails elsewhere.
    """

    def drawn_on_cpu(draw: Any) -> Any:
        @functools.wraps(draw)
        def wrapped(self: Any, *args: Any, **options: Any) -> Any:
            with torch.device("cpu"):
                drawn = draw(self, *args, **options)
                # A generator runs later, outside of this block: empty it here.
                return iter(list(drawn)) if isinstance(drawn, types.GeneratorType) else drawn

        return wrapped

    for sampler in ("RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler"):
        kind = getattr(torch.utils.data, sampler)
        kind.__iter__ = drawn_on_cpu(kind.__iter__)
    # Every loop over a loader draws one seed first, used or not.
    loader = dataloader._BaseDataLoaderIter
    loader.__init__ = drawn_on_cpu(loader.__init__)
    split = drawn_on_cpu(dataset.random_split)
    torch.utils.data.random_split = dataset.random_split = split


def _import(
    modules: dict[str, Any], name: str, _globals: Any = None, _locals: Any = None, fromlist: Any = (), level: int = 0
) -> Any:
    # C code of torch and NumPy imports through the caller's __import__ too (PyImport_Import), with an empty list where
    # a statement has a tuple or None; it keeps the real module to itself.
    if type(fromlist) is list:
        return builtins.__import__(name, _globals, _locals, fromlist, level)
    if level or name not in modules:
        raise ModuleNotFoundError(f"No module named {name!r} here", name=str(name))
    return modules[name] if fromlist else modules[name.partition(".")[0]]


def _reachable_types() -> Iterator[Any]:
    """The types whose instances a program meets, and one instance where attributes come with it."""
    yield from (str, bytes, bytearray, list, dict, set, frozenset, tuple, int, float, complex, bool, slice, range)
    yield from (property, types.SimpleNamespace, BaseException, StopIteration, ImportError, NameError)
    yield from (collections.deque, collections.Counter, collections.defaultdict, collections.OrderedDict)
    yield from (collections.ChainMap, fractions.Fraction, functools.partial, contextlib.ExitStack, contextlib.suppress)
    yield from (torch.Tensor, torch.nn.Parameter, torch.Size, torch.device, torch.Generator, torch.dtype)
    yield from (torch.finfo(torch.float32), torch.iinfo(torch.int64), torch.autograd.graph.Node)
    yield from (torch.autograd.function.FunctionCtx, torch.autograd.function.BackwardCFunction, torch.autograd.Function)
    yield from (numpy.ndarray, numpy.matrix, numpy.generic, numpy.float64, numpy.int64, numpy.dtype, numpy.ufunc)
    yield from (numpy.poly1d, numpy.random.Generator, numpy.random.RandomState, numpy.finfo(float), numpy.iinfo(int))
    yield from (torch.nn.utils.rnn.PackedSequence, torch.utils.hooks.RemovableHandle, torch.amp.GradScaler)
    yield from (torch.autograd.graph.GradientEdge, torch.autograd.forward_ad.UnpackedDualTensor)
    yield ((torch.ones(1, requires_grad=True) * 2).sum()).grad_fn
    yield from (value for value in vars(torch.return_types).values() if isinstance(value, type))
    yield (i for i in ())
    for room in rooms().values():
        for name in room.names:
            value = getattr(room.real, name, None)
            if isinstance(value, type) and not issubclass(value, BaseException | type):
                yield value


def _names_of(kind: Any) -> set[str]:
    """Public names of a type: its own, annotated ones, and those that its methods store on ``self``."""
    names = {*dir(kind)}.union(*(_stored_names(parent) for parent in getattr(kind, "__mro__", ())))
    hidden = ("_", "gi_", "cr_", "ag_", "f_", "tb_", "co_")
    return {name for name in names if not name.startswith(hidden)}


@functools.cache
def _stored_names(kind: type) -> frozenset[str]:
    names = {*vars(kind).get("__annotations__", ())}
    for method in vars(kind).values():
        if isinstance(method, types.FunctionType):
            code = method.__code__
            steps = zip(code.co_code[::2], code.co_code[1::2], strict=True)
            names |= {code.co_names[argument] for operation, argument in steps if operation == _STORE_ATTR}
    return frozenset(names)


def _is_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType)


def _tqdm() -> Any:
    return facades.build_facades(None)["tqdm"].tqdm(())


@functools.cache
def _closed_builtins() -> dict[str, Any]:
    exceptions = {
        name: value
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
    }
    own = {"getattr": _getattr, "setattr": _setattr, "hasattr": _hasattr, "delattr": _delattr, "type": _Type}
    real = {name: getattr(builtins, name) for name in BUILTINS if name != "__import__"}
    return {**exceptions, **real, **own}


@functools.cache
def builtin_names() -> frozenset[str]:
    """The built-ins of a program: functions, types and exceptions."""
    return frozenset(_closed_builtins()) | {"__import__"}


def _checked(name: Any) -> str:
    # Exactly str: a subclass could be equal to one name here and to another one later.
    if type(name) is not str:
        raise TypeError(f"attribute name must be string, not {type(name).__name__!r}")
    if not is_safe_attribute(name):
        raise AttributeError(f"{name!r} is not available here")
    return name


def _getattr(value: Any, name: Any, /, *default: Any) -> Any:
    return getattr(value, _checked(name), *default)


def _setattr(value: Any, name: Any, new: Any, /) -> None:
    setattr(value, _checked(name), new)


def _delattr(value: Any, name: Any, /) -> None:
    delattr(value, _checked(name))


def _hasattr(value: Any, name: Any, /) -> bool:
    # Only says yes or no, so __len__ and the like may be asked for.
    return hasattr(value, name if type(name) is str and name in DEFINABLE else _checked(name))


class _TypeOfTypes(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, type)

    def __repr__(cls) -> str:
        return "<class 'type'>"


class _Type(metaclass=_TypeOfTypes):
    """``type`` with one argument; it never gives a metaclass, which would make classes of any content."""

    def __new__(cls, value: Any, /) -> Any:
        kind = types.ModuleType if is_facade(value) else type(value)
        return _Type if issubclass(kind, type) else kind

    def __init_subclass__(cls) -> None:
        raise TypeError("type 'type' is not an acceptable base type here")

    def __class_getitem__(cls, item: Any) -> Any:
        return type[item]


_Type.__name__ = _Type.__qualname__ = "type"
_Type.__module__ = "builtins"


