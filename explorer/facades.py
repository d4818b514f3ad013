"""Facades: what stands in a program for a module. Allowed names only, looked up on the real module at each use.

A facade is never a module: a real one reaches ``os`` and ``sys`` within two attributes (``torch.os``).
"""

import contextlib
import copy
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import numbers
import re
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributions
import torch.func
import torch.overrides
import torch.testing
import torch.utils.checkpoint
import torch.utils.data


def words(text: str) -> frozenset[str]:
    """The names in a text; a table of names reads better so than as a list of strings."""
    return frozenset(text.split())


Progress = Callable[[dict[str, Any]], None]

# Names kept out of torch, Tensor, nn, Module, numpy and ndarray alike: reason -> (names, what to do instead).
DENIED: dict[str, tuple[frozenset[str], str]] = {
    reason: (words(names), hint)
    for reason, names, hint in (
        (
            "It reads or writes files, and a program here has none.",
            "load save from_file savez savez_compressed loadtxt savetxt genfromtxt fromfile fromregex memmap tofile "
            "dump dumps DataSource import_ir_module import_ir_module_from_buffer PyTorchFileReader PyTorchFileWriter "
            "get_file_path hub serialization onnx jit package library ops",
            "Delete the line. The numbers of a run stay on the page; state_dict() and load_state_dict() work.",
        ),
        (
            "It compiles or rewrites code, which needs a compiler and hides the graph that is drawn here.",
            "compile compiler while_loop rearrange fx export bmat parse_ir parse_schema parse_type_comment "
            "CompilationUnit f2py linearize",
            "Delete it: the program computes the same numbers without it.",
        ),
        (
            "It starts threads or processes, or sets how many are used; the page does that for every run.",
            "fork wait set_num_threads set_num_interop_threads multiprocessing distributed DataParallel parallel "
            "share_memory share_memory_ prepare_multiprocessing_environment init_num_threads SyncBatchNorm",
            "Delete the line: the program runs in one process, and nothing else changes.",
        ),
        (
            "It works on raw memory, where PyTorch checks nothing.",
            "set_ resize resize_ resize_as resize_as_ resize_as_sparse_ as_strided_ sparse_resize_ as_subclass "
            "sparse_resize_and_clear_ map_ map2_ apply_ module_load from_dlpack to_dlpack frombuffer const_data_ptr "
            "ctypes ctypeslib setflags thread_safe_generator default_generator embedding_renorm_ _make_subclass",
            "Use reshape, view, expand, clone or an element-wise operation.",
        ),
        (
            "It can crash or hang the process on unchecked values.",
            "ctc_loss CTCLoss lcm lcm_ segment_reduce sparse_compressed_tensor sparse_csr_tensor sparse_csc_tensor "
            "sparse_bsr_tensor sparse_bsc_tensor",
            "Leave it out of a program here; plain Python on your own machine runs it.",
        ),
        (
            "It measures or records the process itself, which the page does.",
            "profiler monitor set_warn_always seterrcall source info show_config show_runtime get_include test "
            "autocast_decrement_nesting autocast_increment_nesting set_anomaly_enabled",
            "Delete the line: times and gradients of every pass are on the page.",
        ),
    )
}
# Internals of backends and of quantization; a lesson on autograd calls none of them.
_INTERNAL = tuple(
    words(
        "cudnn_ miopen_ mkldnn_ fbgemm_ quantize q_ fake_quantize fused_moving choose_qparams sym_ native_ int_repr "
        "dequantize is_vulkan batch_norm_ sspaddmm unsafe_ slice_inverse hash_tensor set_autocast init_num _"
    )
)
_CREATION = words("""
    arange as_strided as_tensor asarray bartlett_window blackman_window broadcast_shapes can_cast device dtype empty
    empty_like empty_permuted empty_strided enable_grad eye fill finfo from_numpy full get_default_device
    get_default_dtype get_deterministic_debug_mode get_float32_matmul_precision get_num_threads get_rng_state
    hamming_window hann_window iinfo inference_mode initial_seed is_anomaly_enabled is_grad_enabled
    is_autocast_enabled is_inference_mode_enabled is_storage is_tensor kaiser_window layout linspace logspace
    manual_seed memory_format no_grad normal ones promote_types rand rand_like randint randint_like randn randn_like
    randperm range result_type scalar_tensor seed set_default_device set_default_dtype set_default_tensor_type
    set_deterministic_debug_mode set_float32_matmul_precision set_flush_denormal set_grad_enabled set_printoptions
    set_rng_state sparse_coo_tensor tensor tril_indices triu_indices typename use_deterministic_algorithms vander vmap
    zeros are_deterministic_algorithms_enabled get_autocast_dtype
    Tensor Size Generator FloatTensor DoubleTensor HalfTensor BFloat16Tensor LongTensor IntTensor ShortTensor CharTensor
    ByteTensor BoolTensor OutOfMemoryError autocast e pi inf nan newaxis __version__
""")
# Modules whose names are listed one by one; the others are derived in ``_derive``.
_LISTED = {
    "torch.nn.parameter": "Parameter Buffer UninitializedParameter UninitializedBuffer",
    "torch.nn.utils.rnn": "PackedSequence pack_padded_sequence pad_packed_sequence pad_sequence pack_sequence "
    "unpad_sequence unpack_sequence",
    "torch.nn.utils.parametrizations": "orthogonal spectral_norm weight_norm",
    "torch.nn.utils.parametrize": "register_parametrization remove_parametrizations is_parametrized cached",
    "torch.nn.utils.prune": "l1_unstructured random_unstructured ln_structured random_structured global_unstructured "
    "L1Unstructured RandomUnstructured custom_from_mask identity is_pruned remove",
    "torch.optim.swa_utils": "AveragedModel SWALR update_bn get_ema_multi_avg_fn get_swa_multi_avg_fn",
    "torch.optim.optimizer": "Optimizer",
    "torch.autograd": "Function Variable NestedIOFunction backward grad no_grad enable_grad set_grad_enabled "
    "inference_mode detect_anomaly set_detect_anomaly gradcheck gradgradcheck",
    "torch.autograd.grad_mode": "no_grad enable_grad set_grad_enabled inference_mode",
    "torch.autograd.anomaly_mode": "detect_anomaly set_detect_anomaly",
    "torch.autograd.variable": "Variable",
    "torch.autograd.gradcheck": "gradcheck gradgradcheck",
    "torch.autograd.function": "Function FunctionCtx NestedIOFunction once_differentiable",
    "torch.autograd.functional": "jacobian hessian vjp jvp vhp hvp",
    "torch.autograd.graph": "saved_tensors_hooks save_on_cpu disable_saved_tensors_hooks register_multi_grad_hook "
    "allow_mutation_on_saved_tensors Node GradientEdge get_gradient_edge increment_version",
    "torch.autograd.forward_ad": "dual_level enter_dual_level exit_dual_level make_dual unpack_dual UnpackedDualTensor",
    "torch.utils": "",
    "torch.utils.checkpoint": "checkpoint checkpoint_sequential set_checkpoint_early_stop noop_context_fn",
    "torch.utils.data": "DataLoader Dataset IterableDataset TensorDataset Subset ConcatDataset ChainDataset "
    "StackDataset random_split Sampler RandomSampler SequentialSampler SubsetRandomSampler WeightedRandomSampler "
    "BatchSampler "
    "default_collate default_convert get_worker_info",
    "torch.utils.data.sampler": "Sampler RandomSampler SequentialSampler SubsetRandomSampler WeightedRandomSampler "
    "BatchSampler",
    "torch.cuda": "is_available device_count get_device_name get_device_properties get_device_capability synchronize "
    "current_device set_device device memory_allocated max_memory_allocated memory_reserved max_memory_reserved "
    "reset_peak_memory_stats memory_summary mem_get_info empty_cache manual_seed manual_seed_all seed seed_all "
    "initial_seed get_rng_state set_rng_state Event Stream stream current_stream is_bf16_supported is_initialized init "
    "FloatTensor LongTensor OutOfMemoryError",
    "torch.cuda.amp": "autocast GradScaler custom_fwd custom_bwd",
    "torch.amp": "autocast GradScaler custom_fwd custom_bwd is_autocast_available",
    "torch.amp.autocast_mode": "autocast",
    "torch.mps": "is_available device_count synchronize empty_cache manual_seed seed current_allocated_memory "
    "driver_allocated_memory recommended_max_memory",
    "torch.cpu": "is_available synchronize device_count current_device amp",
    "torch.xpu": "is_available device_count synchronize empty_cache manual_seed manual_seed_all",
    "torch.accelerator": "is_available current_accelerator device_count synchronize current_device_index",
    "torch.backends": "",
    "torch.backends.mps": "is_available is_built is_macos_or_newer",
    "torch.backends.cuda": "is_built matmul",
    "torch.backends.cudnn": "is_available version enabled deterministic benchmark allow_tf32",
    "torch.backends.mkl": "is_available",
    "torch.backends.mkldnn": "is_available",
    "torch.backends.openmp": "is_available",
    "torch.version": "cuda hip debug git_version __version__",
    "torch.random": "fork_rng get_rng_state initial_seed manual_seed seed set_rng_state",
    "torch.sparse": "mm sum softmax log_softmax addmm sampled_addmm",
    "torch.testing": "assert_close assert_allclose make_tensor",
    "numpy.testing": "assert_allclose assert_array_equal assert_equal assert_almost_equal assert_array_almost_equal "
    "assert_array_less",
    "time": "time time_ns perf_counter perf_counter_ns process_time monotonic sleep strftime localtime ctime "
    "asctime gmtime",
    "datetime": "date datetime time timedelta timezone",
    "copy": "copy deepcopy",
    "functools": "reduce partial lru_cache cache cached_property cmp_to_key total_ordering wraps partialmethod",
    "operator": "add sub mul matmul truediv floordiv mod pow neg pos abs lt le eq ne ge gt and_ or_ xor not_ invert "
    "iadd imul getitem setitem delitem contains itemgetter concat countOf indexOf index truth is_ is_not lshift rshift",
    "collections": "OrderedDict defaultdict deque Counter namedtuple ChainMap UserDict UserList abc",
    "dataclasses": "dataclass field fields asdict astuple replace is_dataclass KW_ONLY InitVar "
    "FrozenInstanceError MISSING",
    "enum": "Enum IntEnum Flag IntFlag StrEnum auto unique",
    "abc": "ABC abstractmethod abstractproperty abstractclassmethod abstractstaticmethod",
    "warnings": "filterwarnings simplefilter resetwarnings warn catch_warnings",
    "contextlib": "contextmanager nullcontext suppress closing ContextDecorator ExitStack AbstractContextManager",
    "types": "SimpleNamespace",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits punctuation whitespace printable "
    "hexdigits capwords",
    "re": "findall finditer sub subn split match search fullmatch escape IGNORECASE MULTILINE DOTALL VERBOSE",
    "json": "dumps loads",
    "pprint": "pprint pformat pp",
    "gc": "collect",
    "heapq": "heappush heappop heapify heappushpop heapreplace nlargest nsmallest merge",
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "__future__": "annotations division print_function absolute_import generator_stop unicode_literals",
    "decimal": "Decimal getcontext localcontext ROUND_HALF_UP ROUND_HALF_EVEN ROUND_DOWN",
    "numbers": "Number Real Integral Complex Rational",
}
_DERIVED = """
    torch torch.nn torch.nn.functional torch.nn.init torch.nn.utils torch.nn.modules torch.optim
    torch.optim.lr_scheduler torch.func torch.linalg torch.special torch.fft torch.distributions torch.functional
    numpy numpy.random numpy.linalg numpy.fft math cmath random itertools typing statistics fractions collections.abc
"""
# Their own names, less what runs text, writes files or opens the machine.
_LESS = {
    "random": "SystemRandom",
    # get_args gives the ForwardRef of a text in quotes, which evaluates it; get_origin gives the real type.
    "typing": "get_type_hints ForwardRef evaluate_forward_ref get_overloads get_args get_origin TextIO BinaryIO IO",
    "numpy.random": "BitGenerator SeedSequence MT19937 PCG64 PCG64DXSM Philox SFC64",
    "numpy": "core lib ma rec char strings emath polynomial typing dtypes exceptions recarray record nested_iters "
    "DataSource setbufsize geterrcall source",
    "torch.optim": "swap_in_optimizer_params_and_state",
    "torch.nn.utils": "stateless skip_init",
    "torch.func": "functionalize debug_unwrap",
    "torch.linalg": "LinAlgError_",
}
# What stands for a real object by the policy's rule for names, which is not known here: module -> name -> object.
REPLACED: dict[str, dict[str, Any]] = {"functools": {}}
WRITABLE = {"torch.backends.cudnn": words("enabled deterministic benchmark allow_tf32")}
TQDM = ("tqdm", "tqdm.auto", "tqdm.notebook", "tqdm.std")


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """One module as a program sees it: its allowed names, those of them that are modules too, and replaced ones."""

    name: str
    names: frozenset[str]
    children: dict[str, str]
    replaced: dict[str, Any]
    real: types.ModuleType | None


def why_denied(name: str) -> tuple[str, str]:
    """Why a name of a real module is kept out, and what to do instead."""
    for reason, (names, hint) in DENIED.items():
        if name in names:
            return reason, hint
    if name.startswith(_INTERNAL):
        return "It is an internal of PyTorch.", "Use the public function of the same purpose."
    return "It is not among the names that a program may use here.", "Use another function for it, or leave it out."


@functools.cache
def rooms() -> dict[str, Room]:
    """Every module that a program may import, by dotted name (tqdm too)."""
    names = {name: _allowed(name) for name in [*_LISTED, *_DERIVED.split()] if _real(name) is not None}
    names |= _class_homes(names)
    datasets = "explorer.datasets"
    if importlib.util.find_spec(datasets) is not None:
        names |= {"explorer": frozenset(), datasets: _allowed(datasets)}
    names |= {name: frozenset({"tqdm", "trange"}) for name in TQDM}
    children: dict[str, dict[str, str]] = {name: {} for name in names}
    for name in names:
        parent, _, last = name.rpartition(".")
        # torch.autograd.gradcheck is a module and, as an attribute, the function of the same name.
        if parent and last not in names[parent]:
            children[parent][last] = name
    replaced = _replacements()
    return {
        name: Room(
            name,
            allowed | set(children[name]),
            children[name],
            replaced.get(name, {}),
            None if name in TQDM else _real(name),
        )
        for name, allowed in names.items()
    }


def build_facades(on_progress: Progress | None) -> dict[str, Any]:
    """The facade of each room; tqdm's are made anew and tell ``on_progress`` how far a loop is."""
    bar = _tqdm_class(on_progress)
    shown = {"tqdm": bar, "trange": lambda *args, **options: bar(range(*args), **options)}
    return _shared_facades() | _build({name: rooms()[name] for name in TQDM}, shown)


def is_facade(value: Any) -> bool:
    """Whether a value stands for a module."""
    return type(value) in _FACADES


@functools.cache
def _shared_facades() -> dict[str, Any]:
    return _build({name: room for name, room in rooms().items() if name not in TQDM}, {})


def _build(some: dict[str, Room], shown: dict[str, Any]) -> dict[str, Any]:
    facades: dict[str, Any] = {}
    for name, room in sorted(some.items(), key=lambda item: -item[0].count(".")):
        below = {last: facades[child] for last, child in room.children.items()}
        facades[name] = _facade(room, shown | room.replaced | below)
    return facades


_FACADES: set[type] = set()


def _facade(room: Room, fixed: dict[str, Any]) -> Any:
    """The facade of a room; its tables live in closures, where no attribute of a program reaches."""
    real, writable = room.real, WRITABLE.get(room.name, frozenset())

    class Facade:
        __slots__ = ()

        def __getattr__(self, attribute: str) -> Any:
            # ``from x import *`` reads __all__; a string __name__ would send ``from x import y`` to sys.modules.
            if attribute == "__all__":
                return sorted(name for name in room.names if not name.startswith("_"))
            raise AttributeError(f"module {room.name!r} has no attribute {attribute!r}")

        def __setattr__(self, attribute: str, value: Any) -> None:
            if attribute not in writable:
                raise AttributeError(f"module {room.name!r} is read-only here: cannot set {attribute!r}")
            setattr(real, attribute, value)

        def __delattr__(self, attribute: str) -> None:
            raise AttributeError(f"module {room.name!r} is read-only here: cannot delete {attribute!r}")

        def __reduce_ex__(self, protocol: int) -> Any:
            raise TypeError("cannot pickle 'module' object")

        def __repr__(self) -> str:
            return f"<module {room.name!r}>"

    for name in room.names:
        setattr(Facade, name, property(_getter(real, fixed, name)))
    Facade.__name__ = Facade.__qualname__ = "module"
    _FACADES.add(Facade)
    return Facade()


def _getter(real: Any, fixed: dict[str, Any], name: str) -> Callable[[Any], Any]:
    """What looks a name up afresh; a function, for a partial would show the module that it reads."""
    if name in fixed:
        value = fixed[name]
        return lambda _: value
    return lambda _: getattr(real, name)


class _TypeOfTypes(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, type)

    def __repr__(cls) -> str:
        return "<class 'type'>"


class Type(metaclass=_TypeOfTypes):
    """``type`` with one argument; it never gives a metaclass, which would make classes of any content."""

    def __new__(cls, value: Any, /, *more: Any) -> Any:
        if more:
            raise TypeError("type() takes 1 argument here; write a class statement")
        kind = types.ModuleType if is_facade(value) else type(value)
        return Type if issubclass(kind, type) else kind

    def __init_subclass__(cls) -> None:
        raise TypeError("type 'type' is not an acceptable base type here")

    def __class_getitem__(cls, item: Any) -> Any:
        # Not type[item]: to call that is to call type.
        return types.GenericAlias(cls, item)


Type.__name__ = Type.__qualname__ = "type"
Type.__module__ = "builtins"


def _real(name: str) -> types.ModuleType | None:
    """The real module, imported if need be; None where this Python or this torch has none of that name."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _allowed(name: str) -> frozenset[str]:
    real = _real(name)
    denied = frozenset().union(*(names for names, _ in DENIED.values())) if name[:5] in ("torch", "numpy") else set()
    wanted = _LISTED[name].split() if name in _LISTED else _derive(name, real)
    less = _LESS.get(name, "").split()
    wanted = {key for key in wanted if key == "__version__" or key[0] != "_"}
    found = {key for key in wanted if key not in denied and key not in less and hasattr(real, key)}
    return frozenset(key for key in found if not isinstance(getattr(real, key), types.ModuleType))


def _public(real: Any) -> set[str]:
    """A module's public names that are not modules."""
    return {key for key in dir(real) if key[0] != "_" and not isinstance(getattr(real, key), types.ModuleType)}


def _derive(name: str, real: Any) -> Iterable[str]:
    if name in ("torch", "torch.nn.functional", "torch.linalg", "torch.special", "torch.fft", "torch.functional"):
        known = {function for group in torch.overrides.get_overridable_functions().values() for function in group}
        found = {key for key in _public(real) if _is_in(getattr(real, key), known)}
        found |= {f"{key}_" for key in found}
        extra = {
            "torch": _CREATION,
            "torch.nn.functional": ["hardsigmoid", "hardswish", "sigmoid", "tanh", "upsample"],
            "torch.fft": ["fftfreq", "rfftfreq"],
            "torch.linalg": ["LinAlgError"],
        }
        constants = (torch.dtype, torch.layout, torch.memory_format)
        found |= {key for key in _public(real) if isinstance(getattr(real, key), constants)}
        # Orthogonal polynomials of a huge degree cannot be interrupted.
        return {key for key in found if not key.startswith(_INTERNAL) and "polynomial" not in key} | {
            *extra.get(name, [])
        }
    if name == "torch.nn":
        own = {*torch.nn.modules.__all__, "Parameter", "Buffer", "UninitializedParameter", "UninitializedBuffer"}
        return own
    if name == "torch.nn.init":
        return {key for key in _public(real) if getattr(getattr(real, key), "__module__", "") == name}
    if name == "numpy":
        return {*real.__all__, "__version__"}
    return getattr(real, "__all__", None) or _public(real)


def _is_in(value: Any, known: set[Any]) -> bool:
    try:
        return value in known
    except TypeError:
        return False


def _class_homes(names: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """The modules that allowed classes live in, as in ``from torch.distributions.normal import Normal``."""
    homes: dict[str, set[str]] = {}
    for room in ("torch.nn", "torch.optim", "torch.utils.data", "torch.distributions"):
        for key in names[room]:
            home = getattr(getattr(_real(room), key), "__module__", "")
            parts = home.split(".")
            if home.startswith("torch.") and home not in names and not any(part.startswith("_") for part in parts):
                homes.setdefault(home, set()).add(key)
    return {home: frozenset(keys) for home, keys in homes.items() if home.rpartition(".")[0] in names}


@functools.cache
def _replacements() -> dict[str, dict[str, Any]]:
    """What a program gets in place of a real object, by module and name."""
    signature = inspect.signature(torch.utils.data.DataLoader)

    class DataLoader(torch.utils.data.DataLoader):
        # Workers would be processes of a process that may start none. The batches of 0 workers are the same ones in
        # the same order as of n (the sampler draws in this process), so a program prints what plain Python prints;
        # an error would only make people delete an argument.
        def __init__(self, *args: Any, **options: Any) -> None:
            given = signature.bind(*args, **options).arguments
            if isinstance(given.get("num_workers"), numbers.Integral) and given["num_workers"] > 0:
                for key in (
                    "num_workers",
                    "prefetch_factor",
                    "persistent_workers",
                    "multiprocessing_context",
                    "timeout",
                ):
                    given.pop(key, None)
            super().__init__(**given)

    DataLoader.__module__, DataLoader.__qualname__ = "torch.utils.data.dataloader", "DataLoader"

    @contextlib.contextmanager
    def catch_warnings(**options: Any) -> Iterator[Any]:
        # The real one keeps the module warnings in an attribute.
        with warnings.catch_warnings(**options) as caught:
            yield caught

    def wraps(wrapped: Any) -> Callable[[Any], Any]:
        # The real one copies attributes of any name that it is given, also when what it returned is called, and the
        # __dict__ of a class into whatever answers for one.
        def decorate(wrapper: Any) -> Any:
            if type(wrapper) is not types.FunctionType:
                raise TypeError(f"wraps() decorates functions here, not {type(wrapper).__name__!r}")
            return functools.update_wrapper(wrapper, wrapped)

        return decorate

    def copy_shallow(x: Any) -> Any:
        # The real one makes a bound method anew by getattr(its object, the name of its function).
        return types.MethodType(x.__func__, x.__self__) if isinstance(x, types.MethodType) else copy.copy(x)

    copy_shallow.__name__ = copy_shallow.__qualname__ = "copy"

    def fields(class_or_instance: Any) -> tuple[Any, ...]:
        # The class's own ones, renamed, would be source text of a class that is derived from it.
        return tuple(copy.copy(field) for field in dataclasses.fields(class_or_instance))

    def set_default_tensor_type(t: Any) -> None:
        # The real one imports the module of any dotted name.
        is_name = type(t) is str and re.fullmatch(r"torch\.(cuda\.)?[A-Z]\w*Tensor", t)
        if not is_name and type(t) not in (type, type(torch.FloatTensor)):
            raise TypeError(f"invalid type object: {t!r} is no tensor type")
        torch.set_default_tensor_type(t)

    @functools.wraps(torch.utils.checkpoint.checkpoint)
    def checkpoint(*args: Any, **options: Any) -> Any:
        # To name the C++ frames of an error message it would start addr2line.
        options.pop("debug", None)
        return torch.utils.checkpoint.checkpoint(*args, **options)

    def sparse_coo_tensor(*args: Any, **options: Any) -> torch.Tensor:
        # Unchecked indices write outside the tensor in to_dense().
        return torch.sparse_coo_tensor(*args, **options | {"check_invariants": True})

    return {
        "torch": {"sparse_coo_tensor": sparse_coo_tensor, "set_default_tensor_type": set_default_tensor_type},
        "torch.utils.data": {"DataLoader": DataLoader},
        "torch.utils.data.dataloader": {"DataLoader": DataLoader},
        "warnings": {"catch_warnings": catch_warnings},
        "functools": {"wraps": wraps, **REPLACED["functools"]},
        "copy": {"copy": copy_shallow},
        "dataclasses": {"fields": fields},
        "torch.utils.checkpoint": {"checkpoint": checkpoint},
        "typing": {"Type": Type},
    }


def _tqdm_class(on_progress: Progress | None) -> type:
    """A tqdm that draws nothing and tells ``on_progress`` {n, total, description, postfix} up to 20 times a second."""

    class tqdm:
        def __init__(self, iterable: Any = None, desc: str | None = None, total: int | None = None, **options: Any):
            if total is None and hasattr(iterable, "__len__"):
                total = len(iterable)
            self.iterable, self.total, self.n = iterable, total, options.get("initial", 0)
            self.desc, self.postfix, self.last_print_t = desc or "", "", 0.0
            self.disable = bool(options.get("disable"))
            self._tell(always=True)

        def _tell(self, always: bool = False) -> None:
            now = time.perf_counter()
            if on_progress is not None and not self.disable and (always or now - self.last_print_t >= 0.05):
                self.last_print_t = now
                told = {"n": self.n, "total": self.total, "description": str(self.desc)[:200]}
                told["postfix"] = str(self.postfix)[:200]
                on_progress(told)

        def __iter__(self) -> Iterator[Any]:
            for item in self.iterable:
                yield item
                self.n += 1
                self._tell()
            self._tell(always=True)

        def __len__(self) -> int:
            return self.total if self.iterable is None else len(self.iterable)

        def __enter__(self) -> "tqdm":
            return self

        def __exit__(self, *exception: Any) -> None:
            self.close()

        def update(self, n: float = 1) -> None:
            self.n += n
            self._tell()

        def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
            self.desc = str(desc or "")
            self._tell()

        set_description_str = set_description

        def set_postfix(self, ordered_dict: Any = None, refresh: bool = True, **values: Any) -> None:
            self.postfix = ", ".join(f"{key}={value}" for key, value in {**(ordered_dict or {}), **values}.items())
            self._tell()

        def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
            self.postfix = str(s)
            self._tell()

        def close(self) -> None:
            self._tell(always=True)

        refresh = clear = display = close

        def reset(self, total: int | None = None) -> None:
            self.n, self.total = 0, self.total if total is None else total

        @staticmethod
        def write(s: str, file: Any = None, end: str = "\n") -> None:
            print(s, file=file, end=end)

    tqdm.__module__, tqdm.__qualname__ = "tqdm", "tqdm"
    return tqdm
