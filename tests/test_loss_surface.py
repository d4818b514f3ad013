"""Loss, gradient, curvature and critical rate against torch and against real runs."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from explorer.loss_surface import (
    best_line,
    choose_ranges,
    critical_rate,
    hessian,
    loss_at,
    loss_gradient,
    loss_surface,
)
from explorer.program import Program
from explorer.regression import LOSSES, Regression, write_program
from explorer.runner import Runner

TORCH = {
    "MSE": torch.nn.functional.mse_loss,
    "L1": torch.nn.functional.l1_loss,
    "Huber": torch.nn.functional.huber_loss,
}
RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=40)
Y = 3 * X + 2 + RANDOM.normal(size=40)


def torch_loss(loss: str, x: Any, y: Any, w: Any, b: Any) -> torch.Tensor:
    """PyTorch's own loss of the line, in float64."""
    x, y = (torch.as_tensor(column, dtype=torch.float64) for column in (x, y))
    return TORCH[loss](w * x + b, y)


@pytest.mark.parametrize("loss", LOSSES)
def test_surface_is_the_loss_of_torch_at_every_point(loss: str) -> None:
    surface = loss_surface(X, Y, loss=loss, w_range=(-1, 5), b_range=(0, 4), steps=7)
    assert surface.values.shape == (7, 7)
    for row, b in enumerate(surface.b):
        for column, w in enumerate(surface.w):
            assert surface.values[row, column] == pytest.approx(torch_loss(loss, X, Y, w, b).item(), rel=1e-12)
    assert loss_at(X, Y, surface.w, surface.b, loss=loss) == pytest.approx(np.diag(surface.values))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("w", "b"), [(0.0, 0.0), (2.9, 2.2), (-4.0, 10.0)])
def test_gradient_is_that_of_autograd(loss: str, w: float, b: float) -> None:
    leaves = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (w, b)]
    torch_loss(loss, X, Y, *leaves).backward()
    assert loss_gradient(X, Y, w, b, loss=loss) == pytest.approx([leaf.grad.item() for leaf in leaves], rel=1e-12)


def test_hessian_is_that_of_autograd() -> None:
    point = torch.tensor([0.3, -1.0], dtype=torch.float64)
    found = torch.autograd.functional.hessian(lambda wb: torch_loss("MSE", X, Y, wb[0], wb[1]), point)
    assert hessian(X) == pytest.approx(found.numpy(), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_best_line_has_no_lower_neighbour(loss: str) -> None:
    w, b = best_line(X, Y, loss=loss)
    lowest = float(loss_at(X, Y, w, b, loss=loss))
    around = [(w + dw, b + db) for dw in (-1e-3, 0, 1e-3) for db in (-1e-3, 0, 1e-3)]
    assert all(float(loss_at(X, Y, *line, loss=loss)) >= lowest - 1e-6 for line in around)
    if loss != "L1":
        assert loss_gradient(X, Y, w, b, loss=loss) == pytest.approx((0, 0), abs=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
def test_degenerate_points_have_a_best_line_all_the_same(loss: str) -> None:
    w, b = best_line([2.0], [6.0], loss=loss)
    assert 2 * w + b == pytest.approx(6.0, abs=1e-4)
    w, b = best_line([2.0, 2.0, 2.0], [1.0, 3.0, 5.0], loss=loss)
    assert 2 * w + b == pytest.approx(3.0, abs=1e-3)
    assert best_line([0.0, 1.0], [4.0, 4.0], loss=loss) == pytest.approx((0, 4), abs=1e-6)


def test_unlike_or_no_columns_and_an_unknown_loss_are_refused() -> None:
    with pytest.raises(ValueError, match="as long as each other"):
        loss_at([1.0], [1.0, 2.0], 0.0, 0.0)
    with pytest.raises(ValueError, match="not empty"):
        best_line([], [])
    with pytest.raises(ValueError, match="no loss named 'BCE'"):
        loss_surface(X, Y, loss="BCE", w_range=(0, 1), b_range=(0, 1))
    with pytest.raises(ValueError, match="no loss named 'BCE'"):
        loss_gradient(X, Y, 0.0, 0.0, loss="BCE")


def test_line_that_is_not_finite_has_no_finite_loss() -> None:
    assert loss_at(X, Y, 1e200, 0.0) == math.inf
    assert math.isnan(float(loss_at(X, Y, math.nan, 0.0)))
    assert all(map(math.isnan, loss_gradient(X, Y, math.nan, 0.0)))


def test_ranges_hold_start_best_and_the_near_path() -> None:
    path = [(0.0, 0.0), (6.5, 1.0), (1e30, 5.0), (math.nan, math.inf)]
    (w_low, w_high), (b_low, b_high) = choose_ranges((0.0, 0.0), (3.0, 2.0), path)
    assert w_low < 0 < 3 < 6.5 < w_high < 20
    assert b_low < 0 < 2 < b_high < 20
    for low, high in choose_ranges((3.0, 2.0), (3.0, 2.0)):
        assert high - low >= 1
    for low, high in choose_ranges((0.0, 0.0), (1e6, 1e-6)):
        assert low < 0 < high


def losses_of(runner: Runner, regression: Regression) -> list[float]:
    """The losses of a real run."""
    recording = runner.run(Program(write_program(regression)))
    assert recording.status == "ok"
    return [float(one.loss) for one in recording.passes]


def xs_of(regression: Regression) -> list[float]:
    torch.manual_seed(regression.data_seed)
    return torch.randn(regression.points).tolist()


@pytest.mark.parametrize(
    "choice",
    [
        {"optimizer": "SGD by hand"},
        {"optimizer": "SGD", "points": 7},
        {"optimizer": "Momentum"},
        {"optimizer": "Momentum", "momentum": 0.5},
        {"optimizer": "Nesterov"},
        {"optimizer": "Nesterov", "momentum": 0.3, "points": 1},
        {"optimizer": "SGD", "forget_zero_grad": True},
    ],
)
def test_real_runs_diverge_above_the_critical_rate_and_not_below(runner: Runner, choice: dict[str, Any]) -> None:
    regression = Regression(epochs=400, **choice)
    critical = critical_rate(regression, xs_of(regression))
    assert critical.is_exact
    assert critical.rate is not None
    below, above = (
        losses_of(runner, Regression(epochs=400, learning_rate=critical.rate * factor, **choice))
        for factor in (0.97, 1.03)
    )
    assert not above[-1] < 1e3 * above[0]
    if regression.forget_zero_grad:
        # It swings for ever, the wider the nearer the rate is to the critical one.
        assert 1e-3 < max(below[-50:]) / max(below[:50]) < 2
    else:
        assert below[-1] < below[0]


@pytest.mark.parametrize("optimizer", ["Momentum", "Nesterov"])
def test_forgotten_zero_grad_with_momentum_runs_away_at_every_rate(runner: Runner, optimizer: str) -> None:
    regression = Regression(optimizer=optimizer, forget_zero_grad=True, learning_rate=0.01, epochs=2000)
    critical = critical_rate(regression, xs_of(regression))
    assert critical.rate is None
    assert "every rate" in critical.sentence
    losses = losses_of(runner, regression)
    assert not losses[-1] < 1e3 * losses[0]


@pytest.mark.parametrize("optimizer", ["RMSprop", "Adam", "AdamW"])
def test_adaptive_optimizers_have_no_critical_rate(optimizer: str) -> None:
    assert critical_rate(Regression(optimizer=optimizer), X).rate is None


def test_l1_has_none_and_huber_a_guide_that_does_not_run_away(runner: Runner) -> None:
    assert critical_rate(Regression(loss="L1"), X).rate is None
    regression = Regression(loss="Huber")
    critical = critical_rate(regression, xs_of(regression))
    assert not critical.is_exact
    below = losses_of(runner, Regression(loss="Huber", learning_rate=0.97 * critical.rate, epochs=300))
    above = losses_of(runner, Regression(loss="Huber", learning_rate=20 * critical.rate, epochs=300))
    assert below[-1] < 0.2 < above[0] < 1e3
    assert all(map(math.isfinite, above))


def test_minibatches_make_it_a_guide() -> None:
    critical = critical_rate(Regression(batch_size=5), X)
    assert not critical.is_exact
    assert critical.rate == critical_rate(Regression(), X).rate
    assert "minibatches" in critical.sentence


@pytest.mark.parametrize("x", [[0.0], [2.0], [3.0, 3.0, 3.0]])
def test_degenerate_points_have_a_critical_rate(x: list[float]) -> None:
    critical = critical_rate(Regression(), x)
    assert critical.rate == pytest.approx(1 / (x[0] ** 2 + 1))
    assert critical.formula == "2/L"
