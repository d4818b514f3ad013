"""The programs of the digits page are PyTorch's own: the check accepts them, and they do what is said of them."""

import ast
import functools
import itertools
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recorder import run_plain

from explorer.check import check_program
from explorer.network import (
    ACTIVATIONS,
    COMPARISONS,
    DATA,
    INITIALISATIONS,
    KINDS,
    OPTIMIZERS,
    PRESETS,
    Design,
    count_parameters,
    describe,
    estimate_memory,
    write_program,
)
from explorer.program import Program, find_knobs
from explorer.recorder import record_program

CHOICES: dict[str, tuple[Any, ...]] = {
    "data": tuple(DATA),
    "kind": tuple(KINDS),
    "hidden": ((), (400,), (30, 20), (10,) * 8),
    "activation": tuple(ACTIVATIONS),
    "initialisation": tuple(INITIALISATIONS),
    "optimizer": tuple(OPTIMIZERS),
    "dropout": (0.0, 0.2),
    "weight_decay": (0.0, 1e-4),
    "forget_zero_grad": (False, True),
    "device": ("cpu", "cuda:0"),
}
TINY = Design(data="digits", hidden=(16,), train_size=64, batch_size=16, epochs=2)
DEEP = (PRESETS["Depth 6 with Sigmoid"].design, PRESETS["Depth 6 with ReLU"].design)


def run(design: Design, *, seed: int = 0) -> dict[str, Any]:
    """The globals of the program of a design, run by plain Python."""
    _, names, error = run_plain(write_program(design), seed)
    assert error is None, error
    return names


def make_model(design: Design) -> torch.nn.Module:
    """The model of a design as it starts, without any digits."""
    source = write_program(design)
    lines = (line for line in source.splitlines() if "(train=" not in line and not line.startswith("loader"))
    _, names, error = run_plain("\n".join(lines).split("for epoch")[0])
    assert error is None, error
    return names["model"]


def first_gradient(design: Design) -> float:
    """The norm of layer1's weight gradient in the first pass."""
    start = write_program(design).split("for epoch")[0]
    _, names, error = run_plain(
        f"{start}images, labels = next(iter(loader))\ncriterion(model(images), labels).backward()"
    )
    assert error is None, error
    return names["model"].layer1.weight.grad.norm().item()


@functools.cache
def record(design: Design) -> tuple[list[float], list[float], list[float]]:
    """The loss of every pass of a recorded run, and after each epoch the loss and the accuracy it printed."""
    recording = record_program(Program(write_program(design)))
    assert (recording.status, recording.problem) == ("ok", None)
    assert len(recording.passes) == design.passes
    lines = [line.split() for line in recording.stdout.splitlines()]
    assert len(lines) == design.epochs
    losses = [float(line[3].rstrip(",")) for line in lines]
    return [float(one.loss) for one in recording.passes], losses, [float(line[6].rstrip("%")) / 100 for line in lines]


def is_possible(design: dict[str, Any]) -> bool:
    """Dropout has units to drop."""
    return not design.get("dropout") or design.get("kind") == "cnn" or design.get("hidden") != ()


@pytest.mark.parametrize("pair", list(itertools.combinations(CHOICES, 2)), ids="-".join)
def test_every_pair_of_choices_makes_a_program_that_may_run(pair: tuple[str, str]) -> None:
    for values in itertools.product(*(CHOICES[name] for name in pair)):
        chosen = dict(zip(pair, values, strict=True))
        if is_possible(chosen):
            source = write_program(Design(**chosen))
            compile(check_program(Program(source)), "<program>", "exec")
            assert max(map(len, source.splitlines())) <= 120


@pytest.mark.parametrize(
    "design",
    [
        TINY,
        replace(TINY, hidden=(), optimizer="SGD", initialisation="normal 0.01"),
        replace(TINY, hidden=(16, 12), activation="GELU", optimizer="AdamW", dropout=0.3, initialisation="kaiming"),
        replace(TINY, hidden=(8,) * 8, activation="Tanh", optimizer="RMSprop", initialisation="xavier"),
        replace(TINY, kind="cnn", activation="LeakyReLU", optimizer="Momentum", weight_decay=0.01),
        replace(TINY, kind="cnn", hidden=(), dropout=0.5, activation="Sigmoid", initialisation="kaiming"),
        replace(TINY, forget_zero_grad=True, batch_size=9_999, initialisation="zeros"),
    ],
    ids=describe,
)
def test_recorded_program_prints_what_plain_python_prints(design: Design) -> None:
    source = write_program(design)
    printed, names, error = run_plain(source, 3)
    assert error is None
    assert printed.count("\n") == design.epochs
    for kept in ("train_losses", "train_accuracies", "test_losses", "test_accuracies"):
        assert len(names[kept]) == design.epochs
        assert all(map(math.isfinite, names[kept]))
    assert names["model"].training
    recording = record_program(Program(source, seed=3))
    assert (recording.status, recording.problem) == ("ok", None)
    assert recording.stdout == printed
    assert len(recording.passes) == design.passes


def test_program_on_another_device_moves_what_takes_part() -> None:
    _, names, error = run_plain(write_program(replace(TINY, device="cuda")).replace('"cuda"', '"meta"'))
    # What has no values cannot tell a loss, but by then the model and a batch have met there.
    assert "meta" in str(error)
    assert {names[name].device.type for name in ("images", "labels", "loss")} == {"meta"}
    assert {parameter.device.type for parameter in names["model"].parameters()} == {"meta"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("hidden", [(), (400,), (30, 20), (7,) * 8])
def test_parameters_are_those_of_the_model(data: str, kind: str, hidden: tuple[int, ...]) -> None:
    design = Design(data=data, kind=kind, hidden=hidden)
    model = make_model(design)
    assert count_parameters(design) == sum(parameter.numel() for parameter in model.parameters())
    names = [name for name, _ in model.named_children()]
    convolutions = [f"conv{number}" for number in range(1, len(KINDS[kind]) + 1)]
    assert names == convolutions + [f"layer{number}" for number in range(1, len(hidden) + 2)]
    assert design.sizes == (model.layer1.in_features, *hidden, 10)


def test_description_is_the_sizes() -> None:
    assert describe(Design()) == "784-400-10"
    assert describe(Design(data="digits", hidden=())) == "64-10"
    assert describe(Design(kind="cnn", hidden=(64,))) == "conv 8-16, 784-64-10"
    assert count_parameters(Design()) == 318_010


@pytest.mark.parametrize(
    ("name", "spread"), [("kaiming", math.sqrt(2 / 784)), ("xavier", math.sqrt(2 / 1184)), ("normal 0.01", 0.01)]
)
def test_initialisation_has_its_spread_and_no_biases(name: str, spread: float) -> None:
    layer = make_model(Design(initialisation=name)).layer1
    assert layer.weight.std().item() == pytest.approx(spread, rel=0.02)
    assert not layer.bias.any()


def test_program_holds_only_what_is_used() -> None:
    plain = write_program(Design())
    for unused in ("dropout", "initialise", "device", "weight_decay", "split", "functional"):
        assert unused not in plain
    assert "optim.Adam(model.parameters(), lr=learning_rate)" in plain
    assert "size=10_000" in plain
    assert "size" not in write_program(Design(data="digits")).replace("batch_size", "")
    assert "functional" not in write_program(Design(hidden=(), activation="GELU"))
    assert "AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)" in write_program(Design(optimizer="AdamW"))
    forgotten = write_program(Design(forget_zero_grad=True))
    assert "zero_grad" not in "\n".join(line.partition("#")[0] for line in forgotten.splitlines())


def test_rate_batch_and_epochs_are_knobs() -> None:
    knobs = find_knobs(ast.parse(write_program(Design())))
    assert {name: knob.value for name, knob in knobs.items()} == {
        "learning_rate": 0.001,
        "batch_size": 100,
        "epochs": 5,
    }
    assert knobs["learning_rate"].is_live


def test_batch_and_size_above_the_data_are_all_of_them() -> None:
    design = Design(data="digits", batch_size=5_000, epochs=3)
    assert (design.count, design.passes) == (1_437, 3)
    assert "batch_size = 1437\n" in write_program(design)
    assert write_program(Design(train_size=200, batch_size=200)) == write_program(
        Design(train_size=200, batch_size=999)
    )
    assert Design(train_size=250, batch_size=100, epochs=2).passes == 6


def test_large_networks_are_evaluated_in_parts() -> None:
    for design in (Design(kind="cnn"), Design(hidden=(2_000,), train_size=60_000)):
        assert "images.split(1_000)" in write_program(design)
    assert "split" not in write_program(Design())
    assert estimate_memory(Design(hidden=(2_000,) * 8, train_size=60_000)) < 1_500


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"data": "cifar"}, "there is no data named 'cifar'; choose one of mnist, digits"),
        ({"kind": "rnn"}, "there is no kind of network named 'rnn'; choose one of mlp, cnn"),
        ({"activation": "relu"}, "no activation named 'relu'; choose one of ReLU, Sigmoid"),
        ({"initialisation": "ones"}, "no initialisation named 'ones'; choose one of default, kaiming"),
        ({"optimizer": "Lion"}, "no optimizer named 'Lion'; choose one of SGD, Momentum"),
        ({"device": 'cpu"; import os #'}, "no device named"),
        ({"hidden": (0,)}, "hidden layer 1 has no units: give it 1 to 2,000, or take it out"),
        ({"hidden": (30, -5)}, "number of units of hidden layer 2 must lie between 1 and 2,000, got -5"),
        ({"hidden": (10**9,)}, "must lie between 1 and 2,000, got 1,000,000,000"),
        ({"hidden": (2.5,)}, "must be a whole number, got 2.5"),
        ({"hidden": (10,) * 9}, "at most 8 hidden layers, got 9: take some out"),
        ({"learning_rate": math.nan}, "learning rate must be a finite number, got nan: type a number such as 0.1"),
        ({"learning_rate": math.inf}, "learning rate must be a finite number, got inf"),
        ({"learning_rate": 0}, "learning rate must be above 0, got 0: no step would move a weight; try 0.001"),
        ({"learning_rate": -0.1}, "learning rate must not be negative, got -0.1: such a step climbs the loss"),
        ({"batch_size": 0}, "batch size must lie between 1 and 60,000, got 0"),
        ({"epochs": 0}, "number of epochs must lie between 1 and 100, got 0"),
        ({"epochs": 101}, "number of epochs must lie between 1 and 100, got 101"),
        ({"train_size": 0}, "number of digits to train must lie between 1 and 60,000, got 0"),
        ({"train_size": 70_000}, "number of digits to train must lie between 1 and 60,000, got 70,000"),
        ({"dropout": 1}, "dropout must be below 1, got 1: it would drop every unit; try 0.2"),
        ({"dropout": -0.1}, "dropout must not be below 0"),
        ({"dropout": 0.2, "hidden": ()}, "dropout needs a hidden layer whose units it drops: add one, or set"),
        ({"weight_decay": -1.0}, "weight decay must not be below 0"),
        ({"weight_decay": math.nan}, "weight decay must be a finite number"),
        ({"weight_decay": 1.0}, "weight decay must be below 1, got 1"),
        (
            {"hidden": (2_000,) * 8, "batch_size": 60_000, "train_size": 60_000},
            "choose a smaller batch size or smaller",
        ),
    ],
)
def test_bad_choice_is_refused_in_plain_words(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Design(**choice)
    assert message in str(caught.value)


def test_server_can_write_programs_without_torch() -> None:
    code = "import explorer.network as n, sys; n.write_program(n.Design()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[1])


def test_seed_design_tells_94_of_100_digits(shared_mnist: Path) -> None:
    passes, losses, accuracies = record(PRESETS["784-400-10 and Adam"].design)
    assert passes[0] == pytest.approx(math.log(10), abs=0.1)
    assert losses == sorted(losses, reverse=True)
    assert accuracies[-1] >= 0.94


def test_learning_rates_are_too_small_good_and_too_large(shared_mnist: Path) -> None:
    designs = [design for _, design in COMPARISONS["Learning rate: 0.00001 / 0.001 / 0.3"]]
    assert designs == [
        PRESETS[f"Learning rate {name}"].design for name in ("far too small", "that suits", "far too large")
    ]
    (_, small, _), (_, good, good_accuracies), (large_passes, large, large_accuracies) = map(record, designs)
    assert small == sorted(small, reverse=True)
    assert 2 < small[-1] < math.log(10)
    assert good[-1] < 0.3
    assert max(large_passes) > 100
    assert large[-1] > 3 * good[-1]
    assert large_accuracies[-1] < good_accuracies[-1] - 0.15


def test_sigmoids_six_deep_let_gradients_vanish(shared_mnist: Path) -> None:
    assert tuple(design for _, design in COMPARISONS["Depth 6: Sigmoid / ReLU"]) == DEEP
    assert replace(DEEP[0], activation="ReLU") == DEEP[1]
    sigmoid, relu = map(first_gradient, DEEP)
    assert 100 * sigmoid < relu
    (_, still, _), (_, losses, accuracies) = map(record, DEEP)
    assert min(still) > 2.25
    assert losses[-1] < 0.5
    assert accuracies[-1] > 0.85


def test_forgotten_zero_grad_stays_far_behind(shared_mnist: Path) -> None:
    (_, good), (_, bad) = COMPARISONS["zero_grad: with / without"]
    assert bad == replace(good, forget_zero_grad=True) == PRESETS["zero_grad forgotten"].design
    (_, losses, accuracies), (_, bad_losses, bad_accuracies) = record(good), record(bad)
    assert bad_losses[-1] > 2 * losses[-1]
    assert max(bad_accuracies) < accuracies[-1] - 0.1


def test_all_zero_start_learns_no_weight(shared_mnist: Path) -> None:
    (_, good), (_, zeros) = COMPARISONS["Initialisation: default / zeros"]
    assert zeros == replace(good, initialisation="zeros") == PRESETS["All weights start at zero"].design
    names = run(zeros)
    for layer in (names["model"].layer1, names["model"].layer2):
        assert not layer.weight.any()
    assert names["model"].layer2.bias.any()
    assert names["test_losses"] == pytest.approx([math.log(10)] * zeros.epochs, abs=0.01)


def test_softmax_regression_tells_90_of_100_digits(shared_mnist: Path) -> None:
    names = run(PRESETS["Softmax regression"].design)
    assert names["test_accuracies"][-1] == pytest.approx(0.90, abs=0.02)


def test_convolutions_beat_more_parameters(shared_mnist: Path) -> None:
    convolutions, layers = PRESETS["Convolutional network"].design, PRESETS["Learning rate that suits"].design
    assert (count_parameters(convolutions), count_parameters(layers)) == (9_098, 318_010)
    assert convolutions.train_size == layers.train_size == 5_000
    _, _, accuracies = record(layers)
    assert run(convolutions)["test_accuracies"][-1] > accuracies[-1] + 0.02
