"""Tensors into plain data: whole up to 64 elements, else a head and statistics, and where asked for a map."""

import base64
import math
import weakref
from collections.abc import Callable
from typing import Any

import torch

from explorer.recording import norm_of

WHOLE = 64
HEAD = 8

MOST_CELLS = 32
"""A map has at most so many rows, and as many columns."""

MOST_IN_ROW = 64
"""Of a tensor of one dimension the map is one row of at most so many cells."""

NOT_FINITE = -128
"""The pixel of a cell with a nan or an infinity in it."""

MOST_MAPPED = 8_000_000
"""A tensor of more elements has no map."""

MOST_MAPS = 2_000
"""Of one run so many maps are made."""


class _Names(dict):
    """The text of each dtype, made once: ``str(dtype)`` costs as much as reading a scalar."""

    def __missing__(self, dtype: torch.dtype) -> str:
        self[dtype] = str(dtype)
        return self[dtype]


_DTYPES = _Names()
_TENSORS = (torch.Tensor, torch.nn.Parameter)
_STATISTICS = ("min", "max", "mean", "l2", "nan", "inf")


class Summarizer:
    """Makes summaries; the statistics of a large tensor are computed once per version of its memory.

    A tensor may change in place between two looks, so what is remembered is keyed by the live tensor
    (its statistics by the base that it is a view of) and its ``_version``.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[weakref.ref, int, dict[str, Any]]] = {}
        self._measured: dict[int, tuple[weakref.ref, int, dict[str, Any]]] = {}

    def summarize(self, tensor: Any) -> dict[str, Any] | None:
        """The Summary of ``tensor`` as plain data, or None for None and for tensors that hold no readable values.

        Never raises for a tensor: a hook that raised would stop the program's own backward.
        """
        if tensor is None:
            return None
        if type(tensor) not in _TENSORS and isinstance(tensor, torch.Tensor):
            # A subclass may tell of itself what it likes.
            with torch._C.DisableTorchFunctionSubclass():
                tensor = tensor.as_subclass(torch.Tensor)
        try:
            if tensor.numel() <= WHOLE:
                values = tensor.tolist()
                kind = type(values)
                if kind is float:
                    values = values if values - values == 0.0 else _number(values)
                    return {"shape": [], "dtype": _DTYPES[tensor.dtype], "values": values}
                if kind is list or kind is complex:
                    values = _to_plain(values)
                return {"shape": list(tensor.shape), "dtype": _DTYPES[tensor.dtype], "values": values}
            if tensor.layout is not torch.strided:
                return self.summarize(tensor.detach().to_dense())
            return self._summarize_large(tensor)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError):
            return self._summarize_odd(tensor)

    def _summarize_odd(self, tensor: Any) -> dict[str, Any] | None:
        """Sparse tensors are read densely; meta tensors, functorch wrappers and nested ones hold nothing to read."""
        if not isinstance(tensor, torch.Tensor) or tensor.layout in (torch.strided, torch.jagged):
            return None
        try:
            return self.summarize(tensor.detach().to_dense())
        except (RuntimeError, NotImplementedError, TypeError):
            return None

    def summarize_rearranged(self, tensor: Any, source: dict[str, Any] | None) -> dict[str, Any] | None:
        """The Summary of a tensor that holds the elements of the one ``source`` tells of, in another arrangement."""
        if tensor is None or source is None or "head" not in source or tensor.numel() != math.prod(source["shape"]):
            return self.summarize(tensor)
        return {**source, "shape": list(tensor.shape), "head": _head(tensor.detach())}

    def _summarize_large(self, tensor: torch.Tensor) -> dict[str, Any]:
        # Inference tensors keep no version; nothing about them is remembered.
        version = None if tensor.is_inference() else tensor._version
        known = self._seen.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == version:
            return known[2]
        values = tensor.detach()
        summary = {"shape": list(tensor.shape), "dtype": _DTYPES[tensor.dtype], "head": _head(values)}
        owner = tensor._base if tensor._is_view() and _holds_all_of(tensor, tensor._base) else tensor
        known = self._measured.get(id(owner))
        if known is not None and known[0]() is owner and known[1] == version:
            summary |= known[2]
        else:
            found = measure(values) if 0 not in values.stride() else _measure_expanded(values)
            summary |= found
            if version is not None:
                self._measured[id(owner)] = (weakref.ref(owner), version, found)
        if version is not None:
            self._seen[id(tensor)] = (weakref.ref(tensor), version, summary)
        return summary


class Mapper(Summarizer):
    """Makes summaries that have a map besides, and remembers what ``plain`` remembers."""

    def __init__(self, plain: Summarizer) -> None:
        self._seen, self._measured = plain._seen, plain._measured
        self._mapped: dict[int, tuple[weakref.ref, int, dict[str, Any]]] = {}
        self._left = MOST_MAPS

    def summarize_rearranged(self, tensor: Any, source: dict[str, Any] | None) -> dict[str, Any] | None:
        """The Summary of a tensor; its map shows how its elements are arranged."""
        return self.summarize(tensor)

    def _summarize_large(self, tensor: torch.Tensor) -> dict[str, Any]:
        summary = super()._summarize_large(tensor)
        version = None if tensor.is_inference() else tensor._version
        known = self._mapped.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == version:
            return summary | known[2]
        if not self._left:
            return summary
        drawn = draw_map(tensor.detach())
        found = {} if drawn is None else {"map": drawn}
        self._left -= len(found)
        if version is not None:
            self._mapped[id(tensor)] = (weakref.ref(tensor), version, found)
        return summary | found


def draw_map(values: torch.Tensor) -> dict[str, Any] | None:
    """A detached tensor of at least one dimension as a picture of at most 32 x 32 cells; None for one too large.

    The last dimension runs across, all others together down. A cell covers a block of neighbours and holds the one of
    largest magnitude (of -a and a the positive one): a mean would hide a single large entry among many small ones,
    and let those of both signs cancel. Its pixel is value / limit * 127, limit being the largest magnitude of all
    finite cells; -128 marks a cell in which something is nan or infinite. Complex numbers are drawn by absolute value.
    """
    if values.numel() > MOST_MAPPED:
        return None
    try:
        if values.dtype is not torch.float32 and values.dtype is not torch.float64:
            values = _measurable(values)
        low = high = values.reshape(-1, values.shape[-1])
        for dim, most in ((1, MOST_CELLS if values.dim() > 1 else MOST_IN_ROW), (0, MOST_CELLS)):
            size = -(-high.shape[dim] // most)
            if size > 1:
                low, high = _fold(low, dim, size, torch.amin), _fold(high, dim, size, torch.amax)
        cells = torch.where(high >= -low, high, low).cpu().double()
    except (RuntimeError, NotImplementedError, TypeError):
        # No memory for a copy, or a dtype that cannot be compared.
        return None
    is_finite = cells.isfinite()
    limit = cells.abs()[is_finite].max().item() if is_finite.any() else 0.0
    pixels = (cells / (limit or 1.0) * 127).round()
    pixels[~is_finite] = NOT_FINITE
    data = base64.b64encode(pixels.to(torch.int8).numpy().tobytes()).decode()
    return {"shape": list(cells.shape), "limit": limit, "pixels": data}


def _fold(values: torch.Tensor, dim: int, size: int, reduce: Callable) -> torch.Tensor:
    """``reduce`` over each ``size`` neighbours along a dimension; the last of the blocks may be smaller."""
    cells = reduce(values.unfold(dim, size, size), -1)
    rest = values.shape[dim] % size
    if not rest:
        return cells
    return torch.cat((cells, reduce(values.narrow(dim, -rest, rest), dim, keepdim=True)), dim)


def _holds_all_of(view: torch.Tensor, base: torch.Tensor) -> bool:
    """Whether a view is its base in another arrangement: a transpose or reshape, no slice, cast or expansion."""
    same = view.numel() == base.numel() and view.dtype == base.dtype
    return same and 0 not in view.stride() and not view.is_neg()


def measure(values: torch.Tensor) -> dict[str, Any]:
    """min, max, mean and 2-norm of a detached tensor with at least one element, and how many are nan and inf.

    Complex numbers are measured by their absolute value, half precision in float32.
    """
    if values.dtype is not torch.float32 and values.dtype is not torch.float64:
        values = _measurable(values)
    # aminmax is one call instead of two, but several times slower on a transposed tensor.
    least, most = torch.aminmax(values) if values.is_contiguous() else (values.amin(), values.amax())
    total, norm = values.sum(), torch.linalg.vector_norm(values)
    if values.device.type == "cpu":
        numbers = least.item(), most.item(), total.item() / values.numel(), norm.item()
        if numbers[3] - numbers[3] == 0.0:
            return dict(zip(_STATISTICS, (*numbers, 0, 0), strict=True))
    else:
        # One transfer instead of four.
        numbers = tuple(torch.stack((least, most, total / values.numel(), norm)).tolist())
    nan = inf = 0
    if not all(map(math.isfinite, numbers)):
        nan, inf = int(values.isnan().sum()), int(values.isinf().sum())
    low, high, mean, l2 = map(_number, numbers)
    return dict(zip(_STATISTICS, (low, high, mean, l2, nan, inf), strict=True))


def _measure_expanded(values: torch.Tensor) -> dict[str, Any]:
    """``measure`` of a tensor that repeats its memory (``expand``), without reading the repetitions."""
    once = values
    for dim, stride in enumerate(values.stride()):
        if stride == 0:
            once = once.narrow(dim, 0, 1)
    found = measure(once)
    times = values.numel() // once.numel()
    l2 = found["l2"] if isinstance(found["l2"], str) else _number(found["l2"] * math.sqrt(times))
    return found | {"l2": l2, "nan": found["nan"] * times, "inf": found["inf"] * times}


def _measurable(values: torch.Tensor) -> torch.Tensor:
    if values.dtype.is_complex:
        return values.abs()
    return values.float() if values.dtype.is_floating_point else values.double()


def gradient_norm(gradient: torch.Tensor | None) -> Any:
    """The 2-norm of a gradient as a plain number, or None."""
    if gradient is None:
        return None
    dense = gradient.coalesce().values() if gradient.layout is torch.sparse_coo else gradient
    return _number(torch.linalg.vector_norm(dense.detach()).item()) if dense.numel() else 0.0


def tell_norm(summary: dict[str, Any] | None) -> Any:
    """The 2-norm that a plain Summary tells, without touching a tensor again."""
    if summary is None:
        return None
    return summary["l2"] if "l2" in summary else norm_of(summary["values"])


def plain_number(number: Any) -> Any:
    """A Python number as JSON can hold it."""
    return _to_plain(number)


def _head(flat: torch.Tensor) -> list[Any]:
    if flat.is_contiguous():
        return _to_plain(flat.as_strided((HEAD,), (1,)).tolist())
    # reshape(-1) would copy a transposed tensor whole; its first rows hold its first elements.
    while flat.dim() > 1 and flat[0].numel() >= HEAD:
        flat = flat[0]
    if flat.dim() > 1:
        flat = flat[:HEAD].reshape(-1)
    return _to_plain(flat[:HEAD].tolist())


def _number(number: float) -> Any:
    if math.isfinite(number):
        return number
    return "nan" if number != number else ("inf" if number > 0 else "-inf")


def _to_plain(values: Any) -> Any:
    kind = type(values)
    if kind is float:
        return values if values - values == 0.0 else _number(values)
    if kind is list:
        if values and type(values[0]) is float:
            total = sum(values)
            if total - total == 0.0:
                return values
        return [_to_plain(value) for value in values]
    if kind is complex:
        return {"re": _number(values.real), "im": _number(values.imag)}
    return values
