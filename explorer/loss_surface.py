"""The loss of a line y = w * x + b over all w and b: surface, gradient, curvature, best line, critical rate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.optimizers import find_optimizer
from explorer.regression import Regression

Range = tuple[float, float]
Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True, slots=True)
class Surface:
    """Values on a grid: ``values[i, j]`` belongs to ``w[j]`` and ``b[i]``, as plotly wants it; all float64."""

    w: np.ndarray
    b: np.ndarray
    values: np.ndarray


def loss_surface(
    x: Vector, y: Vector, *, loss: str = "MSE", w_range: Range, b_range: Range, steps: int = 60
) -> Surface:
    """The loss of all points over a grid of ``steps`` times ``steps`` lines.

    With r = w * x + b - y, MSE is ``mean(r**2)``, L1 ``mean(|r|)`` and Huber ``mean(r**2 / 2 if |r| <= 1 else
    |r| - 1/2)``: ``mse_loss``, ``l1_loss`` and ``huber_loss`` of torch.nn.functional with their defaults. Raises
    ValueError for another name.
    """
    x, y = _columns(x, y)
    w, b = np.linspace(*w_range, steps), np.linspace(*b_range, steps)
    lines = w[:, None] * x - y
    rows = [_mean_loss(lines + height, loss) for height in b]
    return Surface(w, b, np.array(rows))


def loss_at(x: Vector, y: Vector, w: Vector | float, b: Vector | float, *, loss: str = "MSE") -> np.ndarray:
    """The loss of all points at each of the lines (w, b); inf where it overflows, nan where the line is."""
    x, y = _columns(x, y)
    with np.errstate(over="ignore", invalid="ignore"):
        return _mean_loss(np.multiply.outer(np.asarray(w, float), x) + np.asarray(b, float)[..., None] - y, loss)


def loss_gradient(x: Vector, y: Vector, w: float, b: float, *, loss: str = "MSE") -> tuple[float, float]:
    """(d loss / d w, d loss / d b) over all points: what a full-batch ``backward()`` sends."""
    x, y = _columns(x, y)
    with np.errstate(over="ignore", invalid="ignore"):
        slope = _slope(w * x + b - y, loss)
        return float(np.mean(slope * x)), float(np.mean(slope))


def hessian(x: Vector) -> np.ndarray:
    """The second derivatives of the MSE at any w and b, whatever y: 2/n * [[sum x**2, sum x], [sum x, n]]."""
    x = np.asarray(x, float)
    return 2 * np.array([[np.mean(x * x), np.mean(x)], [np.mean(x), 1.0]])


def best_line(x: Vector, y: Vector, *, loss: str = "MSE") -> tuple[float, float]:
    """The (w, b) of the lowest loss; where the points do not determine it, the one nearest to (0, 0).

    MSE by least squares. L1 and Huber by least squares with weights ``slope(r) / r`` again and again (Holland and
    Welsch, Robust regression using iteratively reweighted least-squares, 1977), L1 to about 1e-4 of the spread of y.
    """
    x, y = _columns(x, y)
    design = np.column_stack([x, np.ones_like(x)])
    line = np.linalg.lstsq(design, y, rcond=None)[0]
    if loss == "MSE":
        return float(line[0]), float(line[1])
    floor = 1e-6 * (float(np.ptp(y)) or 1.0)
    for _ in range(200):
        residual = np.abs(design @ line - y)
        root = np.sqrt(np.abs(_slope(np.maximum(residual, floor), loss)) / np.maximum(residual, floor))
        line, before = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0], line
        if np.allclose(line, before, rtol=1e-10, atol=1e-12):
            break
    return float(line[0]), float(line[1])


def choose_ranges(
    start: tuple[float, float], best: tuple[float, float], path: Iterable[tuple[float, float]] = ()
) -> tuple[Range, Range]:
    """Ranges of w and b around the best line that show the start and the near part of the path.

    A path that runs away is left outside: what is further from the best line than three times the start does not count.
    """
    distance = np.abs(np.subtract(start, best))
    reach = np.maximum(distance, 0.5 * distance.max())
    reach = np.maximum(reach, max(0.5, 0.1 * float(np.abs(best).max())))
    points = np.array([*path, start], dtype=float).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    offsets = np.abs(points - np.array(best))
    near = offsets[(offsets <= 3 * reach).all(axis=1)]
    reach = 1.25 * np.maximum(reach, near.max(axis=0, initial=0.0))
    (w, b), (over_w, over_b) = best, reach.tolist()
    return (w - over_w, w + over_w), (b - over_b, b + over_b)


@dataclass(frozen=True, slots=True)
class CriticalRate:
    """The learning rate above which the loss runs away; None where there is none.

    ``formula`` is "2/L" or like it, L the largest eigenvalue of the Hessian; ``sentence`` says what holds and when.
    ``is_exact`` is False where the rate is only a guide.
    """

    rate: float | None
    formula: str
    is_exact: bool
    sentence: str


def critical_rate(regression: Regression, x: Vector) -> CriticalRate:
    """The critical learning rate of this very problem, from its own x.

    Full-batch gradient descent on the MSE converges below 2/L and diverges above (Goh, Why momentum really works,
    Distill 2017, https://distill.pub/2017/momentum); with momentum the bound is 2 (1 + momentum) / L. Nesterov's, as
    PyTorch steps it, is where a root of z**2 - (1 + m) s z + m s, s = 1 - lr L, leaves the unit circle:
    2 (1 + m) / ((1 + 2 m) L). Gradients that are never zeroed add up as those of a momentum of 1 do.
    """
    kind, momentum = regression.optimizer, regression.momentum
    if find_optimizer(kind).is_adaptive:
        return _no_rate(f"{kind} divides by the size of its gradients: a large rate makes it jump about, not run away.")
    if regression.loss == "L1":
        return _no_rate("The gradient of L1 has one size everywhere: a large rate makes it jump about, not run away.")
    if regression.forget_zero_grad and kind in ("Momentum", "Nesterov"):
        return _no_rate("Gradients that are never zeroed, and momentum besides: every rate runs away in the end.")
    factor, formula = 2.0, "2/L"
    if regression.forget_zero_grad:
        factor, formula = 4.0, "4/L"
    elif kind == "Momentum":
        factor, formula = 2 * (1 + momentum), "2(1 + momentum)/L"
    elif kind == "Nesterov":
        factor, formula = 2 * (1 + momentum) / (1 + 2 * momentum), "2(1 + momentum)/((1 + 2 momentum)L)"
    largest = float(np.linalg.eigvalsh(hessian(x))[-1])
    if regression.loss == "Huber":
        # Its curvature is at most half of the MSE's: r**2 / 2 where r is small, straight where it is large.
        sentence = f"Above {formula} Huber may swing for ever, but its gradient is bounded: it does not run away."
        return CriticalRate(factor / (largest / 2), formula, False, sentence)
    if not regression.is_full_batch:
        sentence = f"{formula} is exact for the full batch; minibatches, whose curvature varies, may diverge below it."
    elif regression.forget_zero_grad:
        sentence = f"Without zero_grad the loss swings for ever below {formula}, and diverges above: exact for the MSE."
    else:
        sentence = f"Below {formula} the loss converges, above it diverges: exact for the MSE of the full batch."
    return CriticalRate(factor / largest, formula, regression.is_full_batch, sentence)


def _no_rate(sentence: str) -> CriticalRate:
    return CriticalRate(None, "", True, sentence)


def _columns(x: Vector, y: Vector) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, float).reshape(-1), np.asarray(y, float).reshape(-1)
    if len(x) != len(y) or not len(x):
        raise ValueError(f"x and y must be as long as each other and not empty, got {len(x)} and {len(y)}")
    return x, y


def _mean_loss(residual: np.ndarray, loss: str) -> np.ndarray:
    """The mean over the last axis."""
    size = np.abs(residual)
    if loss == "MSE":
        each = size * size
    elif loss == "L1":
        each = size
    elif loss == "Huber":
        each = np.where(size <= 1, 0.5 * size * size, size - 0.5)
    else:
        raise ValueError(f"there is no loss named {loss!r}")
    return each.mean(axis=-1)


def _slope(residual: np.ndarray, loss: str) -> np.ndarray:
    """d loss / d residual of each point."""
    if loss == "MSE":
        return 2 * residual
    if loss == "L1":
        return np.sign(residual)
    if loss == "Huber":
        return np.clip(residual, -1, 1)
    raise ValueError(f"there is no loss named {loss!r}")
