"""The optimizers that a page offers: how a program writes each, and its update in words and numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.narrate import format_number


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One choice: the call that makes it, its knobs beside the rate with PyTorch's usual values, its rule.

    ``call`` has the fields {leaves} and {rate}; it is None for the update written by hand. ``rule`` is the update of
    a leaf w as PyTorch's documentation of the class gives it (https://docs.pytorch.org/docs/stable/optim.html),
    with the defaults of what is no knob.
    """

    name: str
    id: str
    call: str | None
    rule: str
    knobs: tuple[tuple[str, float], ...] = ()
    is_adaptive: bool = False


_ADAM = (
    "w - lr * m' / (sqrt(s') + 1e-8), m = 0.9 * m + 0.1 * grad, s = 0.999 * s + 0.001 * grad**2, "
    "m' = m / (1 - 0.9**t), s' = s / (1 - 0.999**t)"
)
_MOMENTUM = (("momentum", 0.9),)

OPTIMIZERS: dict[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("SGD by hand", "sgd", None, "w - lr * grad"),
        Optimizer("SGD", "sgd", "torch.optim.SGD([{leaves}], lr={rate})", "w - lr * grad"),
        Optimizer(
            "Momentum",
            "momentum",
            "torch.optim.SGD([{leaves}], lr={rate}, momentum=momentum)",
            "w - lr * v, v = momentum * v + grad",
            _MOMENTUM,
        ),
        Optimizer(
            "Nesterov",
            "nesterov",
            "torch.optim.SGD([{leaves}], lr={rate}, momentum=momentum, nesterov=True)",
            "w - lr * (grad + momentum * v), v = momentum * v + grad",
            _MOMENTUM,
        ),
        Optimizer(
            "RMSprop",
            "rmsprop",
            "torch.optim.RMSprop([{leaves}], lr={rate})",
            "w - lr * grad / (sqrt(s) + 1e-8), s = 0.99 * s + 0.01 * grad**2",
            is_adaptive=True,
        ),
        Optimizer("Adam", "adam", "torch.optim.Adam([{leaves}], lr={rate})", _ADAM, is_adaptive=True),
        Optimizer(
            "AdamW",
            "adamw",
            "torch.optim.AdamW([{leaves}], lr={rate}, weight_decay=weight_decay)",
            f"(1 - lr * weight_decay) * {_ADAM}",
            (("weight_decay", 0.01),),
            is_adaptive=True,
        ),
    )
}
"""By the name that a page shows, in its order."""

_SIZED = {
    "RMSprop": "the gradient over the root of its mean square",
    "Adam": "the mean gradient over the root of the mean square",
    "AdamW": "the mean gradient over the root of the mean square, after w has shrunk by lr * weight_decay",
}


def find_optimizer(name: str) -> Optimizer:
    """The optimizer of that name. Raises ValueError for an unknown one."""
    if name not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer named {name!r}; choose one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def check_number(what: str, value: Any, *, least: float | None = None, below: float | None = None) -> float:
    """``value`` as a float. Raises ValueError in words for a reader for what is no finite number in [least, below)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the {what} must be a finite number, got {value!r}: type a number such as 0.1")
    if least is not None and value < least:
        raise ValueError(f"the {what} must not be below {least:g}, got {value:g}")
    if below is not None and value >= below:
        raise ValueError(f"the {what} must be below {below:g}, got {value:g}")
    return float(value)


def check_count(what: str, value: Any, *, least: int = 1, most: int) -> int:
    """``value`` as an int. Raises ValueError, in words for a reader, where it is no whole number in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"the {what} must be a whole number, got {value!r}")
    if not least <= value <= most:
        raise ValueError(f"the {what} must lie between {least:,} and {most:,}, got {value:,}")
    return value


LARGEST_RATE = 1e30


def check_rate(rate: Any) -> float:
    """A learning rate as a float: nan, negative ones and those above ``LARGEST_RATE`` raise ValueError.

    0 is allowed (nothing moves) and so is 1e9 (it diverges, which is a lesson).
    """
    if isinstance(rate, int | float) and rate < 0:
        raise ValueError(f"the learning rate must not be negative, got {rate:g}: such a step climbs the loss")
    number = check_number("learning rate", rate)
    if number > LARGEST_RATE:
        raise ValueError(f"the learning rate must be at most {LARGEST_RATE:g}, got {rate:g}: float32 ends near 3e38")
    return number


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """One line of the table of a step; numbers are plain floats, or None where the run did not tell them."""

    leaf: str
    value: float | None
    grad: float | None
    after: float | None
    text: str


def update_rows(
    optimizer: str,
    learning_rate: float,
    values: Mapping[str, Any],
    grads: Mapping[str, Any],
    after: Mapping[str, Any] | None = None,
) -> list[UpdateRow]:
    """The update of every leaf in ``values``, written out in numbers of 4 significant digits.

    ``values`` and ``after`` are the leaves before and after the step, ``grads`` what stood in ``.grad`` when it was
    taken: numbers, or "nan", "inf", "-inf" as a Recording has them. For SGD the text is the whole sum,
    ``0 - 0.1 * (-5.43) = 0.543``, and ``after`` is worked out where it is not given; for another optimizer it is the
    step that was really taken, and where that comes from. Raises ValueError for an unknown optimizer.
    """
    chosen = find_optimizer(optimizer)
    rows = []
    for leaf, told in values.items():
        value, grad, next_value = _float(told), _float(grads.get(leaf)), _float((after or {}).get(leaf))
        if chosen.rule == "w - lr * grad":
            if value is not None and grad is not None and next_value is None:
                next_value = value - learning_rate * grad
            text = f"{_number(value)} - {_number(learning_rate)} * {_in_brackets(grad)} = {_number(next_value)}"
            if value is None or grad is None:
                text = chosen.rule
        else:
            text = _describe_step(chosen, learning_rate, value, grad, next_value)
        rows.append(UpdateRow(leaf, value, grad, next_value, text))
    return rows


def _describe_step(
    optimizer: Optimizer, rate: float, value: float | None, grad: float | None, after: float | None
) -> str:
    """``0.5 - 0.1 * 0.8 = 0.42, where 0.8 is v``."""
    known = [number for number in (value, grad, after) if number is not None]
    if value is None or after is None or not rate or not all(map(math.isfinite, known)):
        return optimizer.rule
    moved = (value - after) / rate
    step = f"{_number(value)} - {_number(rate)} * {_in_brackets(moved)} = {_number(after)}"
    if optimizer.id == "momentum":
        return f"{step}, where {_number(moved)} is v = momentum * v + grad"
    if optimizer.id == "nesterov":
        return f"{step}, where {_number(moved)} is grad + momentum * v"
    return f"{step}, where {_number(moved)} is {_SIZED[optimizer.name]}"


def _float(number: Any) -> float | None:
    """A number of a Recording, whose non-finite ones are strings."""
    return None if number is None else float(number)


def _number(number: float | None) -> str:
    return "?" if number is None else format_number(number) if math.isfinite(number) else str(number)


def _in_brackets(number: float | None) -> str:
    text = _number(number)
    return f"({text})" if text.startswith("-") else text


RUNAWAY = 1e3
"""A loss that has grown by this factor is running away."""


def find_runaway(losses: Sequence[float]) -> int | None:
    """The first pass whose loss is that of a run which runs away, or None."""
    bound = RUNAWAY * max(abs(losses[0]), 1e-12) if len(losses) else 0.0
    return next((index for index, loss in enumerate(losses) if not loss <= bound or not math.isfinite(loss)), None)


def explain_divergence(
    losses: Sequence[Any], learning_rate: float, *, critical: float | None = None, formula: str = "2/L"
) -> str | None:
    """What is to be said of a loss that runs away, or None where it does not.

    ``losses`` are those of the passes in their order: numbers, None, or "nan", "inf", "-inf"; passes are counted from 1
    in the sentence. ``critical`` is the largest stable rate and ``formula`` how it is found (see
    ``explorer.loss_surface.critical_rate``).
    """
    numbers = [(index, float(loss)) for index, loss in enumerate(losses) if loss is not None]
    if not numbers:
        return None
    first = numbers[0][1]
    lost = next(((index, loss) for index, loss in numbers if not math.isfinite(loss)), None)
    if lost is not None:
        said = f"The loss became {lost[1]} at pass {lost[0] + 1}"
    elif numbers[-1][1] > RUNAWAY * max(abs(first), 1e-12):
        index, loss = numbers[-1]
        said = f"The loss grew from {format_number(first)} to {format_number(loss)} by pass {index + 1}"
    elif critical is not None and learning_rate > critical and len(numbers) > 1 and numbers[-1][1] > numbers[-2][1]:
        index, loss = numbers[-1]
        said = f"The loss grows from pass to pass, to {format_number(loss)} at pass {index + 1}"
    else:
        return None
    rate = format_number(learning_rate)
    if critical is not None and learning_rate > critical:
        bound = f"{formula} = {format_number(critical)}"
        return f"{said}: the learning rate {rate} is above {bound}, so every step overshoots."
    return f"{said} with the learning rate {rate}. Try a smaller one."
