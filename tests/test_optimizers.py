"""The optimizers' rules as PyTorch follows them, the table of a step, and what is said of a loss that runs away."""

import itertools
import math

import pytest
import torch

from explorer.optimizers import (
    OPTIMIZERS,
    UpdateRow,
    check_count,
    check_number,
    check_rate,
    explain_divergence,
    find_optimizer,
    update_rows,
)
from explorer.program import Program
from explorer.regression import Regression, write_program
from explorer.runner import Runner


def step_with(name: str, start: float, grads: list[float], rate: float = 0.1) -> list[float]:
    """Where PyTorch's optimizer goes when these gradients come, beginning with the start."""
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    chosen = OPTIMIZERS[name]
    call = chosen.call or OPTIMIZERS["SGD"].call
    made = eval(call.format(leaves="w", rate="rate"), {"torch": torch, "w": w, "rate": rate, **dict(chosen.knobs)})
    values = [start]
    for grad in grads:
        w.grad = torch.tensor(grad, dtype=torch.float64)
        made.step()
        values.append(w.item())
    return values


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rule_is_what_pytorch_does(name: str) -> None:
    """The text of the rule is evaluated, its definitions after the update first."""
    chosen, grads, lr = OPTIMIZERS[name], [0.5, -2.0, 1.5, 0.25], 0.1
    update, *definitions = chosen.rule.replace("m'", "m_hat").replace("s'", "s_hat").split(", ")
    names = {"w": 0.7, "v": 0.0, "m": 0.0, "s": 0.0, "lr": lr, "sqrt": math.sqrt, **dict(chosen.knobs)}
    found = [0.7]
    for t, grad in enumerate(grads, start=1):
        names |= {"grad": grad, "t": t}
        for definition in definitions:
            target, expression = definition.split(" = ")
            names[target] = eval(expression, names)
        names["w"] = eval(update, names)
        found.append(names["w"])
    assert found == pytest.approx(step_with(name, 0.7, grads), rel=1e-9)


def test_unknown_optimizer_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"no optimizer named 'Lion'.*SGD by hand.*AdamW"):
        find_optimizer("Lion")


@pytest.mark.parametrize("rate", [math.nan, math.inf, 1e31, -0.1, -math.inf, True, None, "0.1"])
def test_rate_that_is_no_rate_is_refused(rate: object) -> None:
    with pytest.raises(ValueError, match="learning rate must"):
        check_rate(rate)


@pytest.mark.parametrize("rate", [0, 0.0, 1e9, 1e-300, 3])
def test_any_other_rate_is_allowed(rate: float) -> None:
    assert check_rate(rate) == rate


@pytest.mark.parametrize("count", [0, -1, 11, 2.0, True, None])
def test_count_outside_of_its_bounds_is_refused(count: object) -> None:
    with pytest.raises(ValueError, match="the number of epochs must"):
        check_count("number of epochs", count, most=10)


def test_number_outside_of_its_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="the momentum must be below 1, got 1"):
        check_number("momentum", 1, least=0, below=1)
    with pytest.raises(ValueError, match=r"the noise must not be below 0, got -0\.5"):
        check_number("noise", -0.5, least=0)


@pytest.mark.parametrize("name", ["SGD", "SGD by hand"])
def test_update_of_sgd_is_written_out(name: str) -> None:
    rows = update_rows(name, 0.1, {"w": 0.0, "b": 2.5}, {"w": -5.4331, "b": 0.25})
    assert rows[0] == UpdateRow("w", 0.0, -5.4331, pytest.approx(0.54331), "0 - 0.1 * (-5.433) = 0.5433")
    assert rows[1].text == "2.5 - 0.1 * 0.25 = 2.475"


def test_update_takes_what_the_run_gave_where_it_is_known() -> None:
    (row,) = update_rows("SGD", 0.1, {"w": 1.0}, {"w": 1.0}, {"w": 0.875})
    assert (row.after, row.text) == (0.875, "1 - 0.1 * 1 = 0.875")


def test_update_without_a_gradient_is_the_rule() -> None:
    (row,) = update_rows("SGD", 0.1, {"w": 1.0}, {})
    assert row == UpdateRow("w", 1.0, None, None, "w - lr * grad")


def test_update_that_is_not_finite_is_written_too() -> None:
    (row,) = update_rows("SGD", 0.1, {"w": "-inf"}, {"w": "nan"})
    assert row.text == "-inf - 0.1 * nan = nan"
    (row,) = update_rows("Adam", 0.1, {"w": "nan"}, {"w": "nan"}, {"w": "nan"})
    assert row.text == OPTIMIZERS["Adam"].rule


@pytest.mark.parametrize("name", [name for name, one in OPTIMIZERS.items() if one.rule != "w - lr * grad"])
def test_update_of_another_optimizer_says_the_step_it_took(name: str) -> None:
    value, after = step_with(name, 2.0, [0.5])
    (row,) = update_rows(name, 0.1, {"w": value}, {"w": 0.5}, {"w": after})
    step, _, meaning = row.text.partition(", where ")
    left, right = step.split(" = ")
    assert eval(left) == pytest.approx(after, rel=1e-3)
    assert float(right) == pytest.approx(after, rel=1e-3)
    assert meaning
    assert update_rows(name, 0.1, {"w": value}, {"w": 0.5})[0].text == OPTIMIZERS[name].rule


@pytest.mark.parametrize("name", ["SGD by hand", "Adam"])
def test_table_of_a_real_pass_leads_to_the_next(runner: Runner, name: str) -> None:
    source = write_program(Regression(optimizer=name, epochs=3, forget_zero_grad=True))
    run = runner.start(Program(source), looks_at_all=True)
    run.wait()
    history = run.history
    steps = [
        tuple({name: curves[name].y[index] for name in "wb"} for curves in (history.values, history.grads))
        for index in range(3)
    ]
    for (values, grads), (after, _) in itertools.pairwise(steps):
        assert values.keys() == grads.keys() == {"w", "b"}
        for row in update_rows(name, 0.1, values, grads, after):
            if name == "SGD by hand":
                assert row.value - 0.1 * row.grad == pytest.approx(row.after, rel=1e-5)
            left, right = row.text.partition(", where ")[0].split(" = ")
            assert eval(left) == pytest.approx(float(right), rel=2e-3)


def test_divergence_names_pass_rate_and_bound() -> None:
    said = explain_divergence([1.0, 30.0, "inf", "nan"], 0.5, critical=0.31)
    assert said == "The loss became inf at pass 3: the learning rate 0.5 is above 2/L = 0.31, so every step overshoots."


def test_divergence_below_the_bound_and_without_one_blames_no_bound() -> None:
    assert explain_divergence([math.nan], 0.1, critical=0.3) == (
        "The loss became nan at pass 1 with the learning rate 0.1. Try a smaller one."
    )
    assert "Try a smaller one" in (explain_divergence([1.0, None, "-inf"], 0.1) or "")
    assert "-inf at pass 3" in (explain_divergence([1.0, None, "-inf"], 0.1) or "")


def test_loss_that_grows_a_thousandfold_diverges_before_it_is_inf() -> None:
    said = explain_divergence([2.0, 50.0, 3e7], 0.5, critical=0.31)
    assert said is not None
    assert said.startswith("The loss grew from 2 to 3e+07 by pass 3: the learning rate 0.5 is above")


@pytest.mark.parametrize("losses", [[], [None], [1.0], [1.0, 0.5, 0.2], [1.0, 900.0, 2.0], [500.0, 1.0]])
def test_nothing_is_said_of_a_loss_that_stays(losses: list[float]) -> None:
    assert explain_divergence(losses, 0.5, critical=0.31) is None


def test_a_rate_above_the_critical_one_is_said_as_soon_as_the_loss_grows() -> None:
    said = explain_divergence([2.0, 1.0, 3.0], 0.5, critical=0.31)
    assert said.startswith(
        "The loss grows from pass to pass, to 3 at pass 3: the learning rate 0.5 is above 2/L = 0.31"
    )
    assert explain_divergence([2.0, 1.0, 3.0], 0.3, critical=0.31) is None
