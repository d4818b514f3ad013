"""A linear regression as a reader sets it up, and the program that a teacher would write for it."""

import textwrap
from dataclasses import dataclass, replace
from typing import Any

from explorer.optimizers import Optimizer, check_count, check_number, check_rate, find_optimizer
from explorer.points import LARGEST, MOST_POINTS, make_points

MOST_EPOCHS = 100_000

LOSSES: dict[str, str] = {
    "MSE": "(({prediction} - {y}) ** 2).mean()",
    "L1": "({prediction} - {y}).abs().mean()",
    "Huber": "torch.nn.functional.huber_loss({prediction}, {y})",
}
"""The loss as the program writes it; Huber's ``delta`` is PyTorch's 1."""


@dataclass(frozen=True, slots=True)
class Regression:
    """Every choice of the page. ``own_points`` (pairs of x and y) replaces the made ones where it is not empty.

    Made points are ``y = true_w * x + true_b + noise * randn`` with x from a normal distribution. ``batch_size`` None,
    or not below the number of points, is the full batch. Raises ValueError in words for a reader: zero epochs, a rate
    that is nan, negative or infinite, an unknown name. A rate of 1e9 diverges and one of 0 stands still: no errors.
    """

    points: int = 100
    noise: float = 0.5
    true_w: float = 3.0
    true_b: float = 2.0
    data_seed: int = 42
    own_points: tuple[tuple[float, float], ...] = ()
    start_w: float = 0.0
    start_b: float = 0.0
    learning_rate: float = 0.1
    epochs: int = 100
    batch_size: int | None = None
    optimizer: str = "SGD by hand"
    loss: str = "MSE"
    momentum: float = 0.9
    weight_decay: float = 0.01
    forget_zero_grad: bool = False

    def __post_init__(self) -> None:
        if self.own_points:
            make_points(list(self.own_points))
        check_count("number of points", self.points, most=MOST_POINTS)
        check_number("noise", self.noise, least=0)
        check_count("seed of the data", self.data_seed, least=0, most=2**32 - 1)
        for what, value in (
            ("true w", self.true_w),
            ("true b", self.true_b),
            ("start value of w", self.start_w),
            ("start value of b", self.start_b),
        ):
            check_number(what, value, least=-LARGEST, below=LARGEST)
        check_rate(self.learning_rate)
        check_count("number of epochs", self.epochs, most=MOST_EPOCHS)
        if self.batch_size is not None:
            check_count("batch size", self.batch_size, most=MOST_POINTS)
        chosen = find_optimizer(self.optimizer)
        if self.loss not in LOSSES:
            raise ValueError(f"there is no loss named {self.loss!r}; choose one of {', '.join(LOSSES)}")
        check_number("momentum", self.momentum, least=0, below=1)
        check_number("weight decay", self.weight_decay, least=0)
        if chosen.id == "nesterov" and self.momentum == 0:
            raise ValueError("Nesterov needs a momentum above 0: raise it, or choose SGD")

    @property
    def count(self) -> int:
        """The number of points."""
        return len(self.own_points) or self.points

    @property
    def is_full_batch(self) -> bool:
        """Whether every pass sees every point."""
        return self.batch_size is None or self.batch_size >= self.count

    @property
    def passes(self) -> int:
        """The number of passes of a whole run."""
        return self.epochs * (1 if self.is_full_batch else -(-self.count // self.batch_size))


_SEED = Regression(learning_rate=0.01, start_w=0.3931549)
PRESETS: dict[str, Regression] = {
    "100 noisy points, b starts at 0": _SEED,
    "Learn y = 3x + 2 with noise": replace(_SEED, start_b=-0.21477956),
}
"""The two regressions of the seeds; the start values are what ``torch.randn(1)`` gave there after the points."""


def write_program(regression: Regression) -> str:
    """The program of these choices: plain PyTorch, the same text for the same choices.

    Its leaves are ``w`` and ``b``, its points ``x`` and ``y`` (1-dim, float32), its knobs ``learning_rate``,
    ``epochs``, the start values of the leaves and, where they count, ``batch_size``, ``momentum``, ``weight_decay``,
    ``points`` and ``noise``.
    """
    optimizer = find_optimizer(regression.optimizer)
    blocks = [
        "import torch",
        _write_points(regression),
        "\n".join(_write_setup(regression, optimizer)),
        "\n".join(_write_loop(regression, optimizer)),
    ]
    return "\n\n".join(blocks) + "\n"


def _write_points(regression: Regression) -> str:
    if regression.own_points:
        pairs = zip("xy", zip(*regression.own_points, strict=True), strict=True)
        lines = [_write_column(name, column) for name, column in pairs]
        if not regression.is_full_batch:
            lines = [f"torch.manual_seed({regression.data_seed})", *lines, "points = len(x)"]
        return "\n".join(lines)
    line = f"{_short(regression.true_w)} * x"
    if regression.true_b:
        line += f" {'-' if regression.true_b < 0 else '+'} {_short(abs(regression.true_b))}"
    lines = [
        f"torch.manual_seed({regression.data_seed})",
        f"points = {regression.points}",
        f"noise = {_number(regression.noise)}",
        "x = torch.randn(points)",
        f"y = {line} + noise * torch.randn(points)",
    ]
    return "\n".join(lines)


def _write_column(name: str, column: tuple[float, ...]) -> str:
    """``x = torch.tensor([1.0, 2.0])``, broken into lines where it is long."""
    numbers = ", ".join(map(_number, column))
    line = f"{name} = torch.tensor([{numbers}])"
    if len(line) <= 88:
        return line
    wrapped = textwrap.fill(numbers, 84, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return f"{name} = torch.tensor([\n{wrapped},\n])"


def _write_setup(regression: Regression, optimizer: Optimizer) -> list[str]:
    lines = [
        f"w = torch.tensor({_number(regression.start_w)}, requires_grad=True)",
        f"b = torch.tensor({_number(regression.start_b)}, requires_grad=True)",
        f"learning_rate = {_number(regression.learning_rate)}",
        f"epochs = {regression.epochs}",
    ]
    if not regression.is_full_batch:
        lines.append(f"batch_size = {regression.batch_size}")
    lines += [f"{name} = {_number(getattr(regression, name))}" for name, _ in optimizer.knobs]
    if optimizer.call is not None:
        lines.append(f"optimizer = {optimizer.call.format(leaves='w, b', rate='learning_rate')}")
    return lines


def _write_loop(regression: Regression, optimizer: Optimizer) -> list[str]:
    x, y = ("x", "y") if regression.is_full_batch else ("x[batch]", "y[batch]")
    loss = LOSSES[regression.loss].format(prediction=f"w * {x} + b", y=y)
    body = [f"loss = {loss}"]
    if optimizer.call is None:
        body += ["loss.backward()", "with torch.no_grad():", "    w -= learning_rate * w.grad"]
        body.append("    b -= learning_rate * b.grad")
        if regression.forget_zero_grad:
            body.append("# w.grad.zero_() and b.grad.zero_() are forgotten: the gradients add up")
        else:
            body += ["w.grad.zero_()", "b.grad.zero_()"]
    else:
        forgotten = "# optimizer.zero_grad() is forgotten: the gradients add up"
        body += [forgotten if regression.forget_zero_grad else "optimizer.zero_grad()"]
        body += ["loss.backward()", "optimizer.step()"]
    if not regression.is_full_batch:
        batches = ["for first in range(0, points, batch_size):", "    batch = order[first : first + batch_size]"]
        body = ["order = torch.randperm(points)", *batches, *(f"    {line}" for line in body)]
    end = 'print(f"w = {w.item():.4f}, b = {b.item():.4f}, loss = {loss.item():.4f}")'
    return ["for epoch in range(epochs):", *(f"    {line}" for line in body), end]


def _number(value: Any) -> str:
    """A float literal with as many digits as float32 tells apart: 0.03, 3.0, 1e-05."""
    return repr(float(f"{value:.9g}"))


def _short(value: float) -> str:
    """A number as one writes it in a formula: 3, 0.5."""
    return repr(int(value)) if float(value).is_integer() and abs(value) < 1e6 else _number(value)
