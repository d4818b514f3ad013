"""The layers of a program's network: what each gave in a forward pass that leaves the program as it was, in numbers."""

import contextlib
import io
import math
import random
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explorer.summaries import plain_number

CLASSES = 10
_CHANNELS_FIRST = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm)


class Unanswerable(ValueError):
    """A question that has no answer; the message is a sentence for the reader."""


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode on the device that is given; then modes, buffers and generators are as they were.

    What a forward pass prints is not shown: the program did not call it.
    """
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module, _ in modes
        for name, buffer in module.named_buffers(recurse=False)
    ]
    here, numbers = random.getstate(), np.random.get_state()
    library = torch.get_device_module(device) if device.type in ("cuda", "xpu", "mps") else None
    # The generator of mps is one for all.
    place = () if device.type == "mps" else (device,)
    state, far = torch.get_rng_state(), None if library is None else library.get_rng_state(*place)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            # Autocast keeps casts of weights: one made without gradients would end the training.
            for kind in {"cpu", device.type}:
                if torch.amp.is_autocast_available(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            for module, _ in modes:
                # Module.train, which a program may have written itself, is not called.
                module.training = False
            yield device
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, copy in buffers:
                if getattr(module, name, None) is not buffer:
                    setattr(module, name, buffer)
                # Writing what is there already would make the buffer unfit for a backward that saved it.
                if not torch.equal(buffer, copy):
                    buffer.copy_(copy)
        random.setstate(here)
        np.random.set_state(numbers)
        torch.set_rng_state(state)
        if library is not None:
            library.set_rng_state(far, *place)


def call_model(model: nn.Module, images: Tensor) -> Tensor:
    """The logits (n, 10) of n images."""
    output = run_model(model, images)
    if not isinstance(output, Tensor):
        raise Unanswerable(f"The model returned a {type(output).__name__}; expected a tensor (n, {CLASSES}).")
    if output.shape != (len(images), CLASSES):
        expected = f"({len(images)}, {CLASSES})"
        raise Unanswerable(f"The model's output has the shape {tuple(output.shape)}; expected {expected}.")
    if not output.is_floating_point():
        raise Unanswerable(f"The model's output is {output.dtype}; expected floating point numbers.")
    return output


def run_model(model: nn.Module, images: Tensor) -> Any:
    """What the model returns; Unanswerable with the program's own error where it raises."""
    try:
        return model(images)
    except Exception as error:
        raise Unanswerable(f"The model's forward pass failed: {text_of(error)}") from None


def find_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules with parameters of their own, in order of definition; the parametrizations of one belong to it."""
    named = ((name or "model", module) for name, module in model.named_modules())
    return {name: m for name, m in named if "parametrizations" not in name.split(".") and own_parameters(m)}


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module but not of those inside it, other than its parametrizations."""
    inner = [m for name, m in module.named_children() if name == "parametrizations"]
    return [*module.parameters(recurse=False), *(p for m in inner for p in m.parameters())]


class Forward:
    """What the layers gave in one forward pass, each at its first call.

    ``outputs`` are as the modules returned them. ``activations`` (images, units, places) are what the next layer was
    given, where that has the units of this one's output: after a nonlinearity, be it a module or a function. The last
    layer's, and those of a layer that another follows with other units or the same input, are its output.
    """

    def __init__(self) -> None:
        self.order: list[str] = []
        self.outputs: dict[str, Tensor] = {}
        self.activations: dict[str, Tensor] = {}
        self._given: dict[str, Tensor | None] = {}
        self._last: tuple[str, nn.Module] | None = None
        self._followed: set[str] = set()

    def begin(self, name: str, args: tuple) -> None:
        """A layer is called."""
        given = args[0] if args and isinstance(args[0], Tensor) else None
        last, self._last = self._last, None
        if last is not None and given is not None and last[0] not in self._followed:
            self._followed.add(last[0])
            before = self._given[last[0]]
            if before is None or before.data_ptr() != given.data_ptr():
                self._note_activation(*last, given)
        if name not in self._given:
            self.order.append(name)
            # Held, so that its memory is no other tensor's until the end.
            self._given[name] = given

    def end(self, name: str, module: nn.Module, output: Any) -> None:
        """It returned."""
        first = output[0] if isinstance(output, tuple | list) and output else output
        if isinstance(first, Tensor) and name not in self.outputs:
            # A copy: relu_ and ReLU(inplace=True) write into what the layer returned.
            self.outputs[name] = first.detach().clone()
            units = _by_unit(module, self.outputs[name])
            if units is not None:
                self.activations[name] = units
        if name in self.outputs:
            self._last = name, module

    def _note_activation(self, name: str, module: nn.Module, given: Tensor) -> None:
        output, units = self.outputs[name], self.activations.get(name)
        if units is None or not given.dim() or len(given) != len(output):
            return
        found = None
        if given.dim() == output.dim():
            found = _by_unit(module, given.detach())
        elif given[0].numel() == units.shape[1] or (output.dim() > 3 and not given[0].numel() % units.shape[1]):
            # Flattened, channels first; or unflattened again.
            found = given.detach().reshape(*units.shape[:2], -1)
        if found is not None and found.shape[:2] == units.shape[:2]:
            self.activations[name] = found.clone()


def _by_unit(module: nn.Module, values: Tensor) -> Tensor | None:
    """(images, units, places): the units are channels, and features where there is a sequence of them."""
    if values.dim() < 2:
        return None
    if values.dim() == 3 and not isinstance(module, _CHANNELS_FIRST):
        values = values.movedim(2, 1)
    return values.flatten(2) if values.dim() > 2 else values.unsqueeze(2)


@contextlib.contextmanager
def watch_layers(layers: Mapping[str, nn.Module]) -> Iterator[Forward]:
    """Note what the layers give while it is entered."""
    forward, handles = Forward(), []
    try:
        for name, module in layers.items():
            handles.append(module.register_forward_pre_hook(lambda _, args, name=name: forward.begin(name, args)))
            handles.append(
                module.register_forward_hook(lambda module, _, output, name=name: forward.end(name, module, output))
            )
        yield forward
    finally:
        for handle in handles:
            handle.remove()


def run_layers(model: nn.Module, layers: Mapping[str, nn.Module], images: Tensor) -> Forward:
    """What the layers give for these images, in evaluation mode and without gradients."""
    with undisturbed(model) as device, torch.no_grad(), watch_layers(layers) as forward:
        run_model(model, images.detach().to(device))
    return forward


def describe_layer(module: nn.Module, forward: Forward, name: str, bins: int) -> dict[str, Any]:
    """Histograms, norms and dead units; a unit is dead that is zero in every place for every image.

    ``gradients`` and ``activations`` are left out where there are none; the numbers of them are then None.
    """
    parameters = own_parameters(module)
    weights = _join(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    told = {"parameters": weights.numel(), "weights": _histogram(weights, bins), "weight_norm": _norm(weights)}
    told |= {"grad_norm": None, "units": None, "dead": None}
    if gradients:
        joined = _join(gradients)
        told |= {"gradients": _histogram(joined, bins), "grad_norm": _norm(joined)}
    if name in forward.activations:
        units = forward.activations[name]
        told["activations"] = _histogram(_join([units]), bins)
        told |= {"units": units.shape[1], "dead": int((units == 0).all(2).all(0).sum())}
    return told


def tell_change(copies: Mapping[int, tuple[weakref.ref, Tensor]], parameters: list[nn.Parameter]) -> Any:
    """||now - then|| / ||then|| of a layer; None where there is no copy of it, or where it was zero."""
    known = [copies.get(id(p)) for p in parameters]
    pairs = [(p, k[1]) for p, k in zip(parameters, known, strict=True) if k and k[0]() is p and k[1].shape == p.shape]
    if len(pairs) < len(parameters):
        return None
    then = _join([copy for _, copy in pairs])
    norm = torch.linalg.vector_norm(then).item()
    return plain_number(torch.linalg.vector_norm(_join(parameters) - then).item() / norm) if norm else None


def _join(tensors: list[Tensor]) -> Tensor:
    """All their elements in one row, in double precision on the CPU."""
    rows = []
    for tensor in tensors:
        tensor = tensor.detach()
        tensor = tensor if tensor.layout is torch.strided else tensor.to_dense()
        tensor = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        rows.append(tensor.reshape(-1).to("cpu", torch.float64))
    return torch.cat(rows)


def _histogram(values: Tensor, bins: int) -> dict[str, Any]:
    """Counts of equal bins from the least to the largest finite value, and the mean and standard deviation of these."""
    # Where the sum is finite, so is each; choosing those that are costs more than the histogram.
    is_finite = math.isfinite(values.sum().item())
    nan, finite = (0, values) if is_finite else (int(values.isnan().sum()), values[values.isfinite()])
    told = {"counts": [0] * bins, "low": None, "high": None, "mean": None, "std": None, "nan": nan}
    told["inf"] = values.numel() - nan - finite.numel()
    if finite.numel():
        low, high = (bound.item() for bound in finite.aminmax())
        if low == high:
            # So wide that the bounds differ, however large the number.
            low, high = low - max(0.5, abs(low) / 1e6), high + max(0.5, abs(high) / 1e6)
        told["counts"] = finite.histc(bins, low, high).long().tolist()
        told |= {"low": low, "high": high, "mean": plain_number(finite.mean().item())}
        told["std"] = plain_number(finite.std(correction=0).item())
    return told


def plain_numbers(values: Tensor) -> list[float | str]:
    """The numbers of a tensor with one axis, as JSON can hold them."""
    return [plain_number(value) for value in values.tolist()]


def _norm(values: Tensor) -> float | str:
    return plain_number(torch.linalg.vector_norm(values).item())


def text_of(error: Exception) -> str:
    """Type and message of an error that a program may have made itself."""
    try:
        text = str(error)[:300]
    except Exception:
        text = "(its message could not be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
