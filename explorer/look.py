"""What a page asks of a network while it learns digits: layers, weights, mistakes, one answer; training goes on as if
nothing had been asked."""

import base64
import binascii
import contextlib
import math
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from explorer.layers import (
    CLASSES,
    Forward,
    Unanswerable,
    call_model,
    describe_layer,
    find_layers,
    own_parameters,
    plain_number,
    plain_numbers,
    run_layers,
    tell_change,
    text_of,
    undisturbed,
    watch_layers,
)
from explorer.weights import Misfit, load_weights, save_weights

MOST_NUMBERS = 10_000
CHUNK = 1000
"""So many digits go through the model at once."""

SHOWN_VALUES = 400
"""Of a layer's activations for one digit, the first so many are told."""


class Look:
    """Answers questions about the model in a program's globals, which it leaves as they are.

    ``answer`` never raises for what the page or the program did, and lets through what is no ``Exception``.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        """The globals stay the program's: each answer is of the objects that they name then."""
        self._namespace = namespace
        self._copies: dict[int, tuple[weakref.ref, Tensor]] | None = None
        self._questions = {
            "numbers": self._tell_numbers,
            "layers": self._tell_layers,
            "weights": self._tell_weights,
            "digits": self._tell_digits,
            "predict": self._predict,
            "save": lambda what: save_weights(self._model),
            "load": lambda what: load_weights(self._model, what.get("data")),
        }

    def snapshot(self) -> None:
        """Copy the parameters: the next answer about layers tells how far they moved since."""
        self._copies = None
        with contextlib.suppress(Exception), torch.no_grad():
            self._copies = {id(p): (weakref.ref(p), p.detach().clone()) for p in self._model.parameters()}

    def answer(self, what: Mapping[str, Any]) -> dict[str, Any]:
        """Plain data as JSON holds it, or ``{"problem": a sentence}``."""
        try:
            kind = what.get("kind") if isinstance(what, Mapping) else None
            if not isinstance(kind, str) or kind not in self._questions:
                raise Unanswerable(f"kind must be one of {', '.join(self._questions)}; got {str(kind)[:40]!r}.")
            with torch.inference_mode(False):
                return self._questions[kind](what)
        except (Unanswerable, Misfit) as problem:
            return {"problem": str(problem)}
        except Exception as error:
            return {"problem": f"This could not be read from the program: {text_of(error)}"}

    # -- what the namespace has ----------------------------------------------------------------------

    @property
    def _model(self) -> nn.Module:
        model = self._namespace.get("model")
        if not isinstance(model, nn.Module):
            raise Unanswerable("The program has no nn.Module called model.")
        tensors = [*model.parameters(), *model.buffers()]
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
            raise Unanswerable("The model has lazy layers: they have no weights before its first forward pass.")
        return model

    def _images(self) -> Tensor:
        images = self._namespace.get("test_images")
        if not isinstance(images, Tensor):
            raise Unanswerable("The program has no tensor called test_images.")
        if images.dim() < 2 or not images.numel():
            raise Unanswerable(f"test_images must have the shape (n, 1, side, side), got {tuple(images.shape)}.")
        _side_of(images.shape[1:], "an image of test_images")
        return images

    def _labels(self, count: int) -> Tensor:
        labels = self._namespace.get("test_labels")
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
            raise Unanswerable("The program has no tensor of whole numbers called test_labels.")
        if labels.shape != (count,):
            raise Unanswerable(f"test_labels must have the shape ({count},) of test_images, got {tuple(labels.shape)}.")
        labels = labels.detach().to("cpu", torch.int64)
        if labels.min() < 0 or labels.max() >= CLASSES:
            raise Unanswerable(f"test_labels must be from 0 to 9, got {int(labels.min())} to {int(labels.max())}.")
        return labels

    # -- questions -----------------------------------------------------------------------------------

    def _tell_numbers(self, what: Mapping[str, Any]) -> dict[str, Any]:
        names = what.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Unanswerable("names must be a list of names.")
        found = {}
        for name in names:
            values = self._namespace.get(name)
            if isinstance(values, list | tuple) and all(map(_is_number, values[:MOST_NUMBERS])):
                found[name] = [plain_number(float(value)) for value in values[:MOST_NUMBERS]]
        return {"numbers": found}

    def _tell_layers(self, what: Mapping[str, Any]) -> dict[str, Any]:
        bins, sample = _whole(what, "bins", 40, 1, 1000), _whole(what, "sample", 200, 1, 1000)
        model, told = self._model, {}
        copies, self._copies = self._copies or {}, None
        layers = find_layers(model)
        try:
            forward = run_layers(model, layers, self._images()[:sample])
        except Unanswerable as problem:
            if isinstance(self._namespace.get("test_images"), Tensor):
                raise
            forward = Forward()
            told["note"] = str(problem)
        told["layers"] = [
            {"name": name, **describe_layer(layers[name], forward, name, bins), "update_ratio": ratio}
            for name in [*forward.order, *(name for name in layers if name not in forward.order)]
            for ratio in [tell_change(copies, own_parameters(layers[name]))]
        ]
        return told

    def _tell_weights(self, what: Mapping[str, Any]) -> dict[str, Any]:
        most = _whole(what, "most", 64, 1, 1000)
        model = self._model
        layers, order = find_layers(model), []
        with contextlib.suppress(Unanswerable):
            order = run_layers(model, layers, self._images()[:1]).order
        for name in [*order, *layers]:
            weight = next((p for p in own_parameters(layers[name]) if p.dim() > 1), None)
            if weight is not None:
                return {"layer": name, **_draw_weights(weight.detach(), most, name)}
        raise Unanswerable("The model has no layer with a matrix of weights.")

    def _tell_digits(self, what: Mapping[str, Any]) -> dict[str, Any]:
        most, sample = _whole(what, "most", 48, 1, 1000), _whole(what, "sample", 10_000, 1, 1_000_000)
        cell = what.get("cell")
        if cell is not None and not (isinstance(cell, list | tuple) and len(cell) == 2 and all(map(_is_class, cell))):
            raise Unanswerable(f"cell must be [label, predicted], each from 0 to 9, got {str(cell)[:40]}.")
        model, images = self._model, self._images()
        labels = self._labels(len(images))[:sample]
        images = images.detach()[:sample]
        with undisturbed(model) as device, torch.no_grad():
            logits = torch.cat([call_model(model, chunk.to(device)).detach().cpu() for chunk in images.split(CHUNK)])
        probabilities = _probabilities_of(logits)
        best, predicted = probabilities.max(1)
        confusion = torch.bincount(labels * CLASSES + predicted, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
        is_wrong = predicted != labels
        # Wrong ones come first, the surest of them at the top; right ones begin with the least sure.
        order = torch.where(is_wrong, -best, 1 + best).sort(stable=True).indices
        if cell is not None:
            order = order[(labels[order] == cell[0]) & (predicted[order] == cell[1])]
        low, high = _find_range(images)
        shown = [
            {
                "index": index,
                "label": int(labels[index]),
                "predicted": int(predicted[index]),
                "probability": plain_number(best[index].item()),
                "pixels": _draw_image(images[index], low, high),
            }
            for index in order[:most].tolist()
        ]
        loss = functional.cross_entropy(logits.double(), labels).item()
        return {
            "accuracy": (~is_wrong).sum().item() / len(labels),
            "loss": plain_number(loss),
            "count": len(labels),
            "confusion": confusion.tolist(),
            "shown": shown,
            "side": _side_of(images.shape[1:], "an image"),
            "low": low,
            "high": high,
        }

    def _predict(self, what: Mapping[str, Any]) -> dict[str, Any]:
        model, chosen = self._model, what.get("class")
        if chosen is not None and not _is_class(chosen):
            raise Unanswerable(f"class must be from 0 to 9 or null, got {str(chosen)[:40]}.")
        shape, dtype = (1, 28, 28), None
        if isinstance(self._namespace.get("test_images"), Tensor):
            images = self._images()
            shape, dtype = tuple(images.shape[1:]), images.dtype
        if dtype is None or not dtype.is_floating_point:
            dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        pixels = _read_pixels(what.get("pixels"), math.prod(shape))
        layers = find_layers(model)
        with undisturbed(model) as device, torch.enable_grad():
            image = pixels.to(device, dtype).reshape(1, *shape).requires_grad_()
            with watch_layers(layers) as forward:
                logits = call_model(model, image)
            probabilities = _probabilities_of(logits.detach().cpu())[0]
            predicted = int(probabilities.argmax())
            chosen = predicted if chosen is None else chosen
            gradient = _find_gradient(logits[0, chosen], image)
        finite = None if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
        return {
            "probabilities": plain_numbers(probabilities),
            "predicted": predicted,
            "logits": plain_numbers(logits.detach()[0]),
            "class": chosen,
            "activations": [
                {
                    "layer": name,
                    "count": forward.activations[name].numel(),
                    "values": plain_numbers(forward.activations[name].flatten()[:SHOWN_VALUES]),
                }
                for name in forward.order
                if name in forward.activations
            ],
            "gradient": None if finite is None else _encode(finite),
            "limit": 0.0 if finite is None else finite.abs().max().item(),
        }


def warm_up() -> None:
    """Ask each question once: what is imported or built at the first use is then there."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    images, labels = torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64)
    look = Look({"model": model, "test_images": images, "test_labels": labels})
    look.snapshot()
    for kind in ("numbers", "layers", "weights", "digits"):
        look.answer({"kind": kind})
    look.answer({"kind": "predict", "pixels": _encode(images[0])})
    look.answer({"kind": "load", "data": look.answer({"kind": "save"})["data"]})


def _probabilities_of(logits: Tensor) -> Tensor:
    probabilities = logits.double().softmax(1)
    spoilt = int(probabilities.isnan().any(1).sum())
    if spoilt:
        raise Unanswerable(f"The model's output is not a number (nan) for {spoilt:,} of {len(logits):,} digits.")
    return probabilities


def _find_gradient(logit: Tensor, image: Tensor) -> Tensor | None:
    """d logit / d image on the CPU in float32; None where the output does not depend on the image by a graph."""
    if not logit.requires_grad:
        return None
    try:
        (gradient,) = torch.autograd.grad(logit, image, allow_unused=True)
    except Exception as error:
        raise Unanswerable(f"The model's backward pass failed: {text_of(error)}") from None
    return None if gradient is None else gradient.detach().to("cpu", torch.float32)


def _draw_weights(weight: Tensor, most: int, name: str) -> dict[str, Any]:
    """The weights of each unit as int8, 127 the largest of those shown: rows of a matrix, one channel of kernels."""
    if weight.dim() == 2:
        side = _side_of(weight.shape[1:], f"the input of {name}, the first layer,")
        pictures = weight[:most].reshape(-1, side, side)
    elif weight.dim() == 4:
        pictures = weight[:most, 0]
    else:
        shape = tuple(weight.shape)
        raise Unanswerable(f"The weights of {name}, the first layer, have the shape {shape}, which is no picture.")
    pictures = pictures.to("cpu", torch.float64).nan_to_num(0.0, 0.0, 0.0)
    limit = pictures.abs().max().item() if pictures.numel() else 0.0
    levels = (pictures / (limit or 1.0) * 127).round().to(torch.int8)
    pixels = base64.b64encode(levels.contiguous().numpy().tobytes()).decode()
    return {"count": len(weight), "shape": list(pictures.shape), "limit": limit, "pixels": pixels}


def _find_range(images: Tensor) -> tuple[float, float]:
    """What is drawn as paper and as ink: 0 and 1, or what goes beyond them."""
    low, high = (bound.item() for bound in images.aminmax())
    if not math.isfinite(low) or not math.isfinite(high):
        return 0.0, 1.0
    return min(0.0, float(low)), max(1.0, float(high))


def _draw_image(image: Tensor, low: float, high: float) -> str:
    levels = (image.detach().to("cpu", torch.float64).nan_to_num(0.0) - low) / (high - low) * 255
    return base64.b64encode(levels.round().clamp(0, 255).to(torch.uint8).contiguous().numpy().tobytes()).decode()


def _encode(values: Tensor) -> str:
    return base64.b64encode(values.to(torch.float32).contiguous().numpy().tobytes()).decode()


def _read_pixels(pixels: Any, count: int) -> Tensor:
    expected = f"pixels must be {count:,} finite float32 in base64"
    try:
        values = np.frombuffer(binascii.a2b_base64(pixels, strict_mode=True), "<f4")
    except (TypeError, ValueError) as error:
        raise Unanswerable(f"{expected}: {str(error)[:100]}.") from None
    if len(values) != count or not np.isfinite(values).all():
        found = f"{len(values):,}" if len(values) != count else "some that are not finite"
        raise Unanswerable(f"{expected}, got {found}.")
    return torch.from_numpy(values.astype(np.float32))


def _side_of(shape: tuple[int, ...], owner: str) -> int:
    """The side of the square picture that so many elements are."""
    count = math.prod(shape)
    side = math.isqrt(count)
    if not count or side * side != count or (len(shape) > 1 and tuple(shape[-2:]) != (side, side)):
        raise Unanswerable(f"The shape of {owner} is {tuple(shape)}, which is no square picture.")
    return side


def _whole(what: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = what.get(name)
    value = default if value is None else value
    if type(value) is not int or not least <= value <= most:
        raise Unanswerable(f"{name} must be a whole number from {least} to {most:,}, got {str(value)[:40]}.")
    return value


def _is_class(value: Any) -> bool:
    return type(value) is int and 0 <= value < CLASSES


def _is_number(value: Any) -> bool:
    """Whether it is a real number, be it a tensor of one."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.complexfloating)
