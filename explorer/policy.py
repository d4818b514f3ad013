"""What a program may name: attributes, built-ins and modules, as closed tables built once from the real types."""

import builtins
import collections
import contextlib
import copy
import dataclasses
import dis
import enum
import fractions
import functools
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy
import torch
import torch.optim.swa_utils
import torch.utils.data
from torch.amp import autocast_mode
from torch.distributions import distribution
from torch.distributions import utils as distribution_utils
from torch.nn.modules import container, rnn
from torch.nn.modules import module as nn_module
from torch.nn.utils import _named_member_accessor, parametrizations, parametrize, prune
from torch.utils.data import dataloader, dataset

from explorer import facades
from explorer.facades import WRITABLE, Progress, is_facade, rooms, why_denied, words

__all__ = [
    "BUILTIN_HINTS",
    "DEFINABLE",
    "DUNDER_HINTS",
    "PREDEFINED",
    "PREDEFINED_MODULES",
    "READABLE_DUNDERS",
    "READABLE_PREFIXES",
    "WRITABLE",
    "attribute_names",
    "builtin_names",
    "is_dunder",
    "is_facade",
    "is_reserved",
    "is_safe_attribute",
    "keep_samplers_on_cpu",
    "module_hint",
    "program_globals",
    "reserved_names",
    "rooms",
    "warm_up",
    "why_denied",
    "words",
]

# Library code that takes the names of attributes from a program.
_NAMING_MODULES = (
    *(container, rnn, nn_module, distribution, distribution_utils, prune, parametrize, parametrizations),
    # torch.nn.utils has functions of the same names.
    *(_named_member_accessor, sys.modules["torch.nn.utils.weight_norm"], sys.modules["torch.nn.utils.spectral_norm"]),
)
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
    for name in words("""
    init call repr str len getitem setitem delitem contains iter next reversed enter exit bool hash eq ne lt le gt ge
    neg pos abs invert add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor radd rsub rmul
    rmatmul rtruediv rfloordiv rmod rdivmod rpow rlshift rrshift rand ror rxor iadd isub imul imatmul itruediv
    ifloordiv imod ipow ilshift irshift iand ior ixor int float complex index round trunc floor ceil getattr setattr
    delattr post_init copy deepcopy missing length_hint getitems get set delete set_name torch_function match_args
    version author
    """)
)
# Read anywhere; they are strings, or (Enum) a read-only view.
READABLE_DUNDERS: frozenset[str] = frozenset({"__name__", "__qualname__", "__doc__", "__version__", "__members__"})
READABLE_PREFIXES = ("_saved_", "_raw_saved_")
_READABLE_PRIVATE = words(
    "_version _sequence_nr _parameters _buffers _modules _get_name _fields _replace _asdict _make"
)
# Private names of Tensor and Module that hold nothing dangerous, and that a class of one's own well may use.
_DEFINABLE_PRIVATE = words(
    "_grad _grad_fn _base _values _indices _apply _init_group _step_count _last_lr _size _dtype _to _constants"
)

BUILTINS: frozenset[str] = words("""
    abs all any ascii bin bool bytearray bytes callable chr classmethod complex dict divmod enumerate filter float
    format frozenset hash hex id int isinstance issubclass iter len list map max min next object oct ord pow print
    property range repr reversed round set slice sorted staticmethod str sum super tuple zip
    NotImplemented Ellipsis KeyboardInterrupt __build_class__ __debug__
    getattr setattr hasattr delattr type __import__
    """)
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
    original original0 original1 parametrizations info
    tensors datasets dataset allow_tf32 matmul high low probs logits
    mT mH
"""

# What to do instead of a built-in, a special name and a module that a program may not use.
BUILTIN_HINTS = {
    "open": "A program here has no files. Make the values in the program.",
    "input": "Nobody can answer while it runs. Assign the value instead: name = 3.",
    "eval": "Write the expression itself.",
    "exec": "Write the code itself.",
    "compile": "Write the code itself.",
    "globals": "Use the names of your variables; the page lists them all.",
    "locals": "Use the names of your variables; the page lists them all.",
    "vars": "Name the attributes that you want to see, for example print(x.grad).",
    "dir": "Look the names up in PyTorch's documentation.",
    "help": "Look it up in PyTorch's documentation.",
    "exit": "Delete it: the program ends after its last line. In a loop, use break.",
    "quit": "Delete it: the program ends after its last line. In a loop, use break.",
    "breakpoint": "Step through the graph on the page, or print values.",
    "__import__": "Write import at the top of the program.",
    "memoryview": "Use a tensor or a list.",
    "SystemExit": "Use break or return, or raise a RuntimeError.",
    "BaseException": "Use Exception.",
    "GeneratorExit": "Use Exception.",
}
DUNDER_HINTS = {
    "__class__": "Use type(x), or x.__class__.__name__ for the name.",
    "__dict__": "Name the attributes that you want to see, or use state_dict() of a module.",
    "__new__": "Put the set-up into __init__.",
    "__slots__": "Leave it out: it only saves memory.",
    "__del__": "Leave it out, or call a method of your own.",
    "__format__": "Define __str__ or __repr__.",
    "__builtins__": "Use the built-in functions by their names.",
    "__file__": "Delete it: a program here has no file.",
    "__setattr__": "Use setattr(x, name, value), or super().__setattr__(name, value).",
    "__getattr__": "Use getattr(x, name), or super().__getattr__(name).",
}
_DATA = (
    "Make tensors in the program: torch.rand(64, 784) and torch.randint(0, 10, (64,)) stand in for a batch of digits."
)
_MODULE_HINTS = (
    (
        "matplotlib seaborn plotly pylab bokeh altair",
        "The page draws the loss curve and the graph itself. Delete the plotting lines and print the numbers you need.",
    ),
    ("torchviz graphviz pydot netron torchview", "The page draws the graph itself. Delete the lines that use it."),
    ("torchvision torchaudio torchtext datasets keras", _DATA),
    ("sklearn scipy pandas statsmodels", f"Do it with torch or numpy. {_DATA}"),
    ("tensorboard tensorboardX wandb mlflow comet_ml", "The page records every pass. Delete the lines that use it."),
    ("torchinfo torchsummary", "Use print(model) and p.numel() of its parameters."),
    ("PIL cv2 imageio skimage", f"Images come as tensors here. {_DATA}"),
    (
        "transformers lightning pytorch_lightning ignite fastai timm einops jax tensorflow torch_geometric",
        "Only PyTorch and NumPy are here. Write the layer or the loop with torch.nn.",
    ),
    ("requests urllib http socket", f"A program here has no network. {_DATA}"),
    ("argparse click", "Assign the numbers at the top of the program."),
    ("logging loguru", "Use print(...)."),
    (
        "subprocess multiprocessing threading asyncio concurrent joblib",
        "A program here is one process and one thread. Call the function itself.",
    ),
    (
        "os pathlib shutil glob io tempfile pickle gzip csv",
        "A program here has no files. Delete the lines that use it.",
    ),
    (
        "sys platform inspect ctypes importlib builtins traceback signal weakref",
        "It reaches the machine below the program. Delete the lines that use it.",
    ),
    ("IPython", "It belongs to notebooks. Use print(...)."),
    ("timeit", "Use time.perf_counter() before and after."),
)
_HINT_OF_MODULE = {name: hint for names, hint in _MODULE_HINTS for name in words(names)}


@functools.cache
def attribute_names() -> frozenset[str]:
    """Every attribute name that a program may use on anything: no reachable object does harm by it."""
    denied = frozenset().union(*(names for names, _ in facades.DENIED.values())) | _UNSAFE_METHODS
    found = {name for room in rooms().values() for name in room.names}
    found |= {name for kind in _reachable_types() for name in _names_of(kind)} - denied
    found |= {name for name in dir(_tqdm()) if not name.startswith("_")}
    return frozenset(found | words(_EXTRA) | _READABLE_PRIVATE | words("desc n total postfix"))


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
    # Enum._convert_ makes members of what a module holds; ForwardRef._evaluate evaluates text.
    names |= {name for kind in (enum.EnumType, typing.ForwardRef) for name in dir(kind) if name.startswith("_")}
    # Standard modules that the real modules hold: the way out of torch, were a real one ever reached.
    held = {key for room in rooms().values() for key, value in vars(room.real or types).items() if _is_module(value)}
    standard = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    names |= (held & standard) - {*rooms(), "queue", "signal", "keyword"}
    allowed = attribute_names() | _DEFINABLE_PRIVATE
    return frozenset(name for name in names - allowed if not name.startswith("__"))


def module_hint(name: str) -> str:
    """What to do instead of a module that is not here; empty where nothing is known."""
    top, _, rest = name.partition(".")
    return _HINT_OF_MODULE.get(top) or _HINT_OF_MODULE.get(rest.rpartition(".")[2], "")


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
    guard_libraries()
    modules = facades.build_facades(on_progress)
    closed = {**_closed_builtins(), "__import__": functools.partial(_import, modules)}
    ready = {short: modules[name] for short, name in _SHORT.items()}
    return {"__name__": "__main__", "__builtins__": closed, **ready}


def warm_up() -> None:
    """Build all tables, and do once what makes torch import more of itself: later a worker may open no file."""
    reserved_names()
    program_globals()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weight = torch.zeros(1, requires_grad=True)
        # The first optimizer imports torch._dynamo, about a second.
        torch.optim.SGD([weight], lr=0.1)
        next(iter(torch.utils.data.DataLoader([0])))
        repr((weight**2).grad_fn._saved_self)
        with torch.autograd.forward_ad.dual_level():
            torch.autograd.forward_ad.make_dual(torch.ones(1), torch.ones(1)) ** 2


@functools.cache
def guard_libraries() -> None:
    """Hold library code to the rule of the check where it takes attribute names, or a foreign ``self``, from a program.

    Once per process; for a program that does neither everything stays as it is.
    """
    for module in _NAMING_MODULES:
        # A module's own global comes before the built-in.
        vars(module).update(getattr=_getattr_inside, setattr=_setattr)
    # It looks for a backend by name, which a subclass or a foreign self could choose, and keeps the module.
    vars(autocast_mode).update(getattr=_refuse_backend)
    for kind in (*vars(torch.optim.lr_scheduler).values(), torch.optim.swa_utils.SWALR):
        if isinstance(kind, type) and "state_dict" in vars(kind):
            kind.state_dict = _without_inner(kind.state_dict)
    dataloader._MultiProcessingDataLoaderIter = _refuse_workers
    # A class that a program made may have it set anything of anything.
    vars(copy).update(setattr=_set_plain)
    dataclasses.Field = _Field
    enum.EnumType._create_ = _with_plain_names(enum.EnumType._create_)


def _without_inner(state_dict: Callable[[Any], dict]) -> Callable[[Any], dict]:
    """Leave out what is no attribute of an instance: called on a class, or with one as a lambda, it tells all of it."""

    @functools.wraps(state_dict)
    def wrapped(self: Any) -> dict[str, Any]:
        state = _safe_items(state_dict(self))
        if "lr_lambdas" in state:
            state["lr_lambdas"] = [kept and _safe_items(kept) for kept in state["lr_lambdas"]]
        if type(state.get("_scale_fn_custom")) is dict:
            state["_scale_fn_custom"] = _safe_items(state["_scale_fn_custom"])
        return state

    return wrapped


def _safe_items(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if type(name) is str and is_safe_attribute(name)}


def _refuse_backend(*_: Any) -> None:
    raise RuntimeError("this backend is not available here")


def _refuse_workers(*_: Any) -> None:
    raise RuntimeError("a program here is one process: leave num_workers at 0")


_field_name = dataclasses.Field.name


class _Field(dataclasses.Field):
    """A field whose name is one: dataclass() writes it into source text."""

    __slots__ = ()

    def _set_name(self, name: Any) -> None:
        # A special one would make what the class has by that name its default, and methods that read it of anything;
        # __hash__, which anybody may call, is a field in torch itself.
        is_plain = type(name) is str and name.isidentifier() and (name == "__hash__" or not is_dunder(name))
        if name is not None and not is_plain:
            raise TypeError(f"Field names must be valid identifiers: {name!r}")
        _field_name.__set__(self, name)

    name = property(_field_name.__get__, _set_name)


_Field.__name__ = _Field.__qualname__ = "Field"
_Field.__module__ = "dataclasses"


def _with_plain_names(create: Callable[..., type]) -> Callable[..., type]:
    """``EnumType._create_`` (``Enum("Colour", "RED GREEN")``) where a member has no name that is special to Python."""

    @functools.wraps(create)
    def wrapped(cls: type, class_name: str, names: Any, **options: Any) -> type:
        # Plain copies, which are the same at the second look.
        if isinstance(names, str):
            names = str.split(str.replace(names, ",", " "))
        items = names.items() if isinstance(names, Mapping) else names or ()
        names = [item if isinstance(item, str) else tuple(item) for item in items]
        for name in (item if isinstance(item, str) else item[0] for item in names):
            if type(name) is not str or is_dunder(name):
                raise ValueError(f"{name!r} cannot be the name of a member here")
        if options.get("module") is None:
            # The real one would take it from one frame less.
            options["module"] = sys._getframe(2).f_globals.get("__name__")
        return create(cls, class_name, names, **options)

    return wrapped


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
    # a statement has a tuple or None; it takes the module from sys.modules and looks at nothing that we return.
    if type(fromlist) is list:
        builtins.__import__(name, _globals, _locals, fromlist, level)
        return None
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
    own = {"getattr": _getattr, "setattr": _setattr, "hasattr": _hasattr, "delattr": _delattr, "type": facades.Type}
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


def _getattr_inside(value: Any, name: Any, /, *default: Any) -> Any:
    """For library code, which asks a method for its function."""
    return getattr(value, name if name == "__func__" and type(name) is str else _checked(name), *default)


def _set_plain(value: Any, name: Any, new: Any, /) -> None:
    if type(name) is not str or is_dunder(name):
        raise AttributeError(f"{name!r} is not available here")
    setattr(value, name, new)


def _setattr(value: Any, name: Any, new: Any, /) -> None:
    setattr(value, _checked(name), new)


def _delattr(value: Any, name: Any, /) -> None:
    delattr(value, _checked(name))


def _hasattr(value: Any, name: Any, /) -> bool:
    # Only says yes or no, so __len__ and the like may be asked for.
    return hasattr(value, name if type(name) is str and name in DEFINABLE else _checked(name))


class _CachedProperty:
    """``functools.cached_property`` in instances, under names of attributes.

    The real one reads the ``__dict__`` of whatever it is bound to, a class too, under any name that is put into it.
    """

    __class_getitem__ = classmethod(types.GenericAlias)

    def __init__(self, func: Callable[[Any], Any]) -> None:
        self.func, self.attrname, self.__doc__ = func, None, func.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        if self.attrname is None:
            self.attrname = name
        elif name != self.attrname:
            message = "Cannot assign the same cached_property to two different names"
            raise TypeError(f"{message} ({self.attrname!r} and {name!r}).")

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        name, held = _checked(self.attrname), vars(instance)
        if type(held) is not dict:
            raise TypeError(
                f"No '__dict__' attribute on {type(instance).__name__!r} instance to cache {name!r} property."
            )
        if name not in held:
            held[name] = self.func(instance)
        return held[name]


_CachedProperty.__name__ = _CachedProperty.__qualname__ = "cached_property"
_CachedProperty.__module__ = "functools"
facades.REPLACED["functools"]["cached_property"] = _CachedProperty
