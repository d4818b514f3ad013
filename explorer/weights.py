"""The weights of a network as a safetensors file, and back; nothing is ever unpickled."""

import base64
import binascii
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

MOST_BYTES = 64_000_000
"""A larger file is neither made nor read."""

_NAMED = 3
"""So many misfits of a file are named."""


class Misfit(ValueError):
    """Weights that cannot be saved, or a file that does not fit; the message is a sentence for the reader."""


def save_weights(model: torch.nn.Module) -> dict[str, Any]:
    """The ``state_dict`` as a safetensors file: ``data`` in base64, its ``bytes``, and the shapes of its ``tensors``.

    Tensors that share their memory are written once each. Raises Misfit.
    """
    state = _read_state(model)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > MOST_BYTES:
        raise Misfit(f"The weights take {size / 1e6:,.0f} MB; at most {MOST_BYTES / 1e6:.0f} MB can be saved.")
    # A clone shares its memory with nothing, which the format asks for.
    data = save({name: _plain(tensor).clone(memory_format=torch.contiguous_format) for name, tensor in state.items()})
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    return {"data": base64.b64encode(data).decode(), "bytes": len(data), "tensors": shapes}


def load_weights(model: torch.nn.Module, data: Any) -> dict[str, Any]:
    """Put the weights of a safetensors file, in base64, into the model in place: all, or none. Raises Misfit."""
    state = _read_state(model)
    found = _read_file(data)
    _compare(state, found)
    cast = {name: tensor.to(state[name].dtype) for name, tensor in found.items()}
    with torch.no_grad():
        before = {name: tensor.clone() for name, tensor in state.items()}
        try:
            for name, tensor in state.items():
                tensor.copy_(cast[name])
        except BaseException:
            for name, tensor in state.items():
                with contextlib.suppress(RuntimeError):
                    tensor.copy_(before[name])
            raise
    return {"loaded": len(state)}


def _read_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    state = dict(model.state_dict())
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise Misfit(f"{name} in the model's state_dict is no tensor but of type {type(tensor).__name__}.")
        if torch.nn.parameter.is_lazy(tensor):
            raise Misfit(f"{name} is lazy: it has no values before the model's first forward pass.")
        if tensor.layout is not torch.strided or tensor.is_meta:
            raise Misfit(f"{name} holds no plain values: its layout is {tensor.layout}, its device {tensor.device}.")
    if not state:
        raise Misfit("The model has no weights: its state_dict is empty.")
    return state


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().as_subclass(torch.Tensor).cpu().resolve_conj().resolve_neg()


def _read_file(data: Any) -> dict[str, torch.Tensor]:
    if not isinstance(data, str):
        raise Misfit("The file is missing: data must be its bytes in base64.")
    if len(data) > MOST_BYTES * 4 // 3 + 4:
        raise Misfit(f"The file is too large: at most {MOST_BYTES / 1e6:.0f} MB can be loaded.")
    try:
        # torch.frombuffer, inside, wants bytes that can be written; loading them copies them.
        return load(binascii.a2b_base64(data, strict_mode=True))
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError, AssertionError, OverflowError) as error:
        text = f"{type(error).__name__}: {error}"[:300]
        raise Misfit(f"This is no safetensors file that can be read: {text}") from None


def _compare(state: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    """Raise Misfit where names, shapes or kinds of numbers differ; half and double precision fit every float."""
    faults = [f"{name} is missing in it" for name in state if name not in found]
    faults += [f"{name} is not in the model" for name in found if name not in state]
    for name in (name for name in state if name in found):
        here, there = state[name], found[name]
        if here.shape != there.shape:
            faults.append(f"{name} has the shape {_shape(here.shape)} here and {_shape(there.shape)} in the file")
        elif here.dtype != there.dtype and not (here.is_floating_point() and there.is_floating_point()):
            faults.append(f"{name} holds {_kind(here)} here and {_kind(there)} in the file")
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise Misfit(f"The file does not fit the model: {'; '.join(faults[:_NAMED])}{more}. Nothing was loaded.")


def _shape(shape: Iterable[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _kind(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
