"""Answers about a network are those of plain torch, training goes on as if nobody asked, bad input is a sentence."""

import base64
import json
import math
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from explorer import datasets, weights
from explorer.look import Look

QUESTIONS = ("numbers", "layers", "weights", "digits", "predict", "save", "load")


class Functional(nn.Module):
    """A small network for 8x8 digits that calls relu and pooling as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.hidden = nn.Linear(54, 20)
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.out(self.dropout(torch.relu(self.hidden(x.flatten(1)))))


class Raising(nn.Module):
    """What its forward pass does is given to it."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(64, 10), act

    def forward(self, x: Tensor) -> Any:
        return self.act(self.layer(x.flatten(1)))


def raises(error: BaseException) -> Any:
    """A function that raises it."""

    def act(_: Any) -> None:
        raise error

    return act


def make_digits(count: int = 60, side: int = 8) -> tuple[Tensor, Tensor]:
    """Made images (count, 1, side, side) and labels."""
    made = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, side, side, generator=made)
    return images, torch.randint(0, 10, (count,), generator=made)


def make_namespace(model: nn.Module | None = None, count: int = 60) -> dict[str, Any]:
    """The globals of a program of the page."""
    torch.manual_seed(0)
    images, labels = make_digits(count)
    model = model or Functional()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01) if list(model.parameters()) else None
    return {"model": model, "optimizer": optimizer, "test_images": images, "test_labels": labels}


def encode(pixels: Any) -> str:
    """Pixels as the page sends them."""
    return base64.b64encode(np.asarray(pixels, np.float32).tobytes()).decode()


def read(text: str, kind: type) -> np.ndarray:
    """Numbers as an answer holds them."""
    return np.frombuffer(base64.b64decode(text), kind)


def ask(namespace: dict[str, Any], kind: str, **options: Any) -> dict[str, Any]:
    """The answer, which must be JSON and no problem."""
    told = Look(namespace).answer({"kind": kind, **options})
    assert "problem" not in told, told
    return json.loads(json.dumps(told, allow_nan=False))


def problem_of(namespace: dict[str, Any], kind: str, **options: Any) -> str:
    """The sentence of a question that has no answer."""
    told = Look(namespace).answer({"kind": kind, **options})
    assert list(told) == ["problem"], told
    return told["problem"]


def question_of(kind: str) -> dict[str, Any]:
    """A good question of each kind about 8x8 digits, but for ``load``."""
    return {"kind": kind, "names": ["train_losses"], "pixels": encode(make_digits(1)[0])}


# -- answers --------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_lists_and_others_are_left_out() -> None:
    namespace = {"a": [1.5, math.nan, math.inf, -math.inf], "b": "text", "c": [[1.0]], "d": list(range(20_000))}
    namespace |= {"e": [torch.tensor(2.0), np.float32(3), 4], "f": []}
    told = ask(namespace, "numbers", names=[*namespace, "absent"])["numbers"]
    assert told == {"a": [1.5, "nan", "inf", "-inf"], "d": list(range(10_000)), "e": [2.0, 3.0, 4.0], "f": []}


def test_histograms_are_those_of_torch() -> None:
    namespace = make_namespace()
    model, images = namespace["model"], namespace["test_images"]
    F.cross_entropy(model(images), namespace["test_labels"]).backward()
    layers = {layer["name"]: layer for layer in ask(namespace, "layers", bins=17, sample=30)["layers"]}
    assert list(layers) == ["conv", "norm", "hidden", "out"]
    model.eval()
    with torch.no_grad():
        output = model.conv(images[:30])
    row = torch.cat([p.detach().flatten() for p in model.hidden.parameters()]).double()
    gradient = torch.cat([p.grad.flatten() for p in model.hidden.parameters()]).double()
    for told, values in (
        (layers["hidden"]["weights"], row),
        (layers["hidden"]["gradients"], gradient),
        (layers["conv"]["activations"], output.flatten().double()),
    ):
        counts, edges = torch.histogram(values, 17)
        assert told["counts"] == counts.long().tolist()
        assert [told["low"], told["high"]] == pytest.approx([edges[0].item(), edges[-1].item()])
        assert [told["mean"], told["std"]] == pytest.approx([values.mean().item(), values.std(correction=0).item()])
        assert told["nan"] == told["inf"] == 0
    assert layers["hidden"]["weight_norm"] == pytest.approx(row.norm().item())
    assert layers["hidden"]["grad_norm"] == pytest.approx(gradient.norm().item())
    assert layers["hidden"]["parameters"] == 54 * 20 + 20
    assert [layer["units"] for layer in layers.values()] == [6, 6, 20, 10]


@pytest.mark.parametrize("inplace", [True, False])
def test_dead_units_are_those_that_a_module_or_a_function_leaves_zero(inplace: bool) -> None:
    functional = Functional()
    layers = [functional.conv, functional.norm, nn.ReLU(inplace), nn.MaxPool2d(2), nn.Flatten()]
    modules = nn.Sequential(*layers, functional.hidden, nn.ReLU(inplace), functional.dropout, functional.out)
    with torch.no_grad():
        functional.norm.bias[[1, 4]] = -100
        functional.hidden.bias[:7] = -100
    functional.eval()
    channels = F.relu(functional.norm(functional.conv(make_digits()[0])))
    hidden = torch.relu(functional.hidden(F.max_pool2d(channels, 2).flatten(1)))
    dead = [int((channels == 0).all(3).all(2).all(0).sum()), int((hidden == 0).all(0).sum())]
    assert dead[0] >= 2 and dead[1] >= 7
    for model in (functional, modules):
        told = ask(make_namespace(model.train()), "layers")["layers"]
        assert [layer["dead"] for layer in told] == [0, *dead, 0]
        assert told[1]["activations"]["low"] == told[2]["activations"]["low"] == 0


def test_a_layer_beside_another_is_not_taken_for_what_follows_it() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            return self.out(torch.relu(self.a(x) + self.b(x)))

    namespace = make_namespace(Parallel())
    namespace["test_images"][:] = 0
    assert ask(namespace, "layers")["layers"][0]["dead"] == 0


def test_layers_come_in_order_of_the_forward_pass_and_those_not_called_last() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.second, self.first = nn.Linear(2, 2), nn.Linear(5, 10), nn.Linear(64, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x.flatten(1)))

    namespace = make_namespace(Turned())
    told = ask(namespace, "layers")["layers"]
    assert [layer["name"] for layer in told] == ["first", "second", "unused"]
    assert told[2]["units"] is None and "activations" not in told[2] and "gradients" not in told[0]
    assert ask(namespace, "weights")["layer"] == "first"
    del namespace["test_images"]
    told = ask(namespace, "layers")
    assert [layer["name"] for layer in told["layers"]] == ["unused", "second", "first"]
    assert told["note"] == "The program has no tensor called test_images."


def test_parameters_of_the_model_itself_and_parametrized_ones_are_told() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(64, 10))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.w

    assert [layer["name"] for layer in ask(make_namespace(Own()), "layers")["layers"]] == ["model"]
    model = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)))
    (layer,) = ask(make_namespace(model), "layers")["layers"]
    assert (layer["name"], layer["parameters"], layer["units"]) == ("1", 64 * 10 + 10 + 10, 10)


def test_update_ratio_is_told_once_after_a_snapshot() -> None:
    namespace = make_namespace()
    model, look = namespace["model"], Look(namespace)
    before = [p.detach().clone() for p in model.hidden.parameters()]
    look.snapshot()
    F.cross_entropy(model(namespace["test_images"]), namespace["test_labels"]).backward()
    namespace["optimizer"].step()
    pairs = list(zip(model.hidden.parameters(), before, strict=True))
    moved, norm = (
        math.sqrt(sum(t.double().pow(2).sum().item() for t in ts)) for ts in ([p - b for p, b in pairs], before)
    )
    assert look.answer({"kind": "layers"})["layers"][2]["update_ratio"] == pytest.approx(moved / norm, rel=1e-5)
    assert {layer["update_ratio"] for layer in look.answer({"kind": "layers"})["layers"]} == {None}
    look.snapshot()
    namespace["model"] = Functional()
    assert {layer["update_ratio"] for layer in look.answer({"kind": "layers"})["layers"]} == {None}
    Look({}).snapshot()


def test_numbers_that_are_not_finite_are_told_as_such() -> None:
    namespace = make_namespace()
    with torch.no_grad():
        namespace["model"].out.weight[0, :3] = torch.tensor([math.nan, math.inf, -math.inf])
    told = ask(namespace, "layers")["layers"][-1]
    assert (told["weights"]["nan"], told["weights"]["inf"], told["weight_norm"]) == (1, 2, "nan")
    assert sum(told["weights"]["counts"]) == 207
    assert problem_of(namespace, "digits") == "The model's output is not a number (nan) for 60 of 60 digits."
    assert "nan" in problem_of(namespace, "predict", pixels=encode(namespace["test_images"][0]))
    with torch.no_grad():
        for parameter in namespace["model"].out.parameters():
            parameter.fill_(math.nan)
    told = ask(namespace, "layers")["layers"][-1]["weights"]
    assert (told["low"], told["mean"], sum(told["counts"])) == (None, None, 0)


def test_weights_are_pictures_of_the_first_units_in_order() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    told = ask(make_namespace(model), "weights", most=5)
    assert (told["layer"], told["count"], told["shape"]) == ("1", 12, [5, 8, 8])
    expected = model[1].weight.detach()[:5]
    assert told["limit"] == pytest.approx(expected.abs().max().item())
    pixels = read(told["pixels"], np.int8).reshape(5, 64)
    assert np.abs(pixels / 127 * told["limit"] - expected.numpy()).max() <= told["limit"] / 127 / 2 * 1.001
    model = Functional()
    told = ask(make_namespace(model), "weights")
    assert (told["layer"], told["shape"]) == ("conv", [6, 3, 3])
    with torch.no_grad():
        model.conv.weight.zero_()
    told = ask(make_namespace(model), "weights")
    assert told["limit"] == 0 and not read(told["pixels"], np.int8).any()
    model = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (32, 2)), nn.Linear(2, 2), nn.Flatten(), nn.Linear(64, 10))
    assert "no square picture" in problem_of(make_namespace(model), "weights")
    assert "no layer with a matrix" in problem_of(make_namespace(nn.BatchNorm2d(1)), "weights")


def test_digits_are_counted_and_ordered_as_loops_do() -> None:
    namespace = make_namespace(count=1300)
    model, images, labels = (namespace[name] for name in ("model", "test_images", "test_labels"))
    told = ask(namespace, "digits", most=1000)
    with torch.no_grad():
        logits = model.eval()(images).double()
    probabilities = logits.softmax(1)
    confusion = [[0] * 10 for _ in range(10)]
    rows = []
    for index, (row, label) in enumerate(zip(probabilities.tolist(), labels.tolist(), strict=True)):
        predicted = row.index(max(row))
        confusion[label][predicted] += 1
        rows.append((predicted == label, max(row) if predicted == label else -max(row), index, label, predicted))
    rows.sort()
    assert told["confusion"] == confusion
    assert told["count"] == 1300 and told["side"] == 8
    assert told["accuracy"] == sum(confusion[i][i] for i in range(10)) / 1300
    assert told["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    wrong = [row for row in rows if not row[0]]
    shown = told["shown"]
    assert len(shown) == 1000
    for picture, (is_right, signed, *_) in zip(shown, rows, strict=False):
        assert picture["probability"] == pytest.approx(abs(signed), abs=1e-6)
        assert (picture["label"] == picture["predicted"]) == is_right
    assert len(wrong) > 500
    first = shown[0]
    expected = (images[first["index"], 0] * 255).round().to(torch.uint8).flatten().numpy()
    assert (read(first["pixels"], np.uint8) == expected).all()
    label, predicted = first["label"], first["predicted"]
    cell = ask(namespace, "digits", cell=[label, predicted], most=7)["shown"]
    assert {(picture["label"], picture["predicted"]) for picture in cell} == {(label, predicted)}
    assert len(cell) == min(7, confusion[label][predicted])
    right = [row[1] for row in rows if row[0]]
    told = ask(namespace, "digits", sample=50)
    assert told["count"] == sum(map(sum, told["confusion"])) == 50
    assert right == sorted(right)


def test_images_of_another_range_and_shape_are_drawn_from_paper_to_ink() -> None:
    namespace = make_namespace(nn.Linear(64, 10))
    namespace["test_images"] = namespace["test_images"].flatten(1) * 4 - 1
    told = ask(namespace, "digits", most=60)
    assert told["low"] == pytest.approx(-1, abs=0.01) and told["high"] == pytest.approx(3, abs=0.01)
    pixels = np.concatenate([read(picture["pixels"], np.uint8) for picture in told["shown"]])
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert len(ask(namespace, "predict", pixels=encode(np.zeros(64)))["probabilities"]) == 10


def test_a_prediction_and_its_gradient_are_those_of_torch() -> None:
    namespace = make_namespace()
    model, image = namespace["model"], namespace["test_images"][:1].clone().requires_grad_()
    model.eval()
    logits = model(image)
    for chosen in (None, 3):
        told = ask(namespace, "predict", pixels=encode(image.detach()), **{"class": chosen})
        index = int(logits.argmax()) if chosen is None else chosen
        assert told["logits"] == pytest.approx(logits[0].tolist())
        assert told["probabilities"] == pytest.approx(logits[0].softmax(0).tolist())
        assert (told["predicted"], told["class"]) == (int(logits.argmax()), index)
        (gradient,) = torch.autograd.grad(logits[0, index], image, retain_graph=True)
        assert (read(told["gradient"], np.float32) == gradient.flatten().numpy()).all()
        assert told["limit"] == gradient.abs().max().item()
    values = {layer["layer"]: layer["values"] for layer in told["activations"]}
    assert list(values) == ["conv", "norm", "hidden", "out"]
    assert len(values["conv"]) == 6 * 36 and len(values["norm"]) == 54
    pooled = F.max_pool2d(F.relu(model.norm(model.conv(image))), 2)
    assert values["hidden"] == pytest.approx(torch.relu(model.hidden(pooled.flatten(1)))[0].tolist())
    assert values["out"] == pytest.approx(told["logits"])


def test_without_test_images_a_digit_has_28_rows() -> None:
    namespace = {"model": nn.Sequential(nn.Flatten(), nn.Linear(784, 10))}
    assert len(read(ask(namespace, "predict", pixels=encode(np.ones(784)))["gradient"], np.float32)) == 784


def test_an_output_without_a_graph_has_no_gradient() -> None:
    told = ask(make_namespace(Raising(Tensor.detach)), "predict", pixels=encode(np.ones(64)))
    assert told["gradient"] is None and len(told["logits"]) == 10


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_every_question_is_answered_for_other_precisions(dtype: torch.dtype) -> None:
    namespace = make_namespace(Functional().to(dtype))
    namespace["test_images"] = namespace["test_images"].to(dtype)
    for kind in QUESTIONS[:-1]:
        ask(namespace, **question_of(kind))


# -- files ----------------------------------------------------------------------------------------


def save_bytes(tensors: dict[str, Tensor]) -> str:
    """A safetensors file in base64."""
    return base64.b64encode(safetensors.torch.save(tensors)).decode()


def copy_state(model: nn.Module) -> dict[str, Tensor]:
    """What can be compared later."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def are_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_saved_weights_are_loaded_in_place_bit_for_bit() -> None:
    namespace = make_namespace()
    model = namespace["model"]
    parameters, expected = list(model.parameters()), copy_state(model)
    told = ask(namespace, "save")
    file = base64.b64decode(told["data"])
    assert told["bytes"] == len(file)
    assert told["tensors"] == {name: list(tensor.shape) for name, tensor in expected.items()}
    assert are_equal(safetensors.torch.load(file), expected)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(1)
    with torch.no_grad():
        assert ask(namespace, "load", data=told["data"]) == {"loaded": len(expected)}
    assert are_equal(model.state_dict(), expected)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(p.requires_grad for p in model.parameters())


def test_tensors_that_share_memory_or_are_views_are_saved() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    model[1].weight = model[0].weight
    model[0].bias = nn.Parameter(torch.arange(20.0)[::2])
    model.register_buffer("empty", torch.zeros(0, 3))
    expected, told = copy_state(model), ask({"model": model}, "save")
    with torch.no_grad():
        model[0].weight.zero_()
    assert ask({"model": model}, "load", data=told["data"])["loaded"] == 5
    assert are_equal(model.state_dict(), expected)


def test_a_file_that_does_not_fit_is_told_and_nothing_is_loaded() -> None:
    namespace = make_namespace()
    model = namespace["model"]
    before = copy_state(model)
    good = {name: tensor + 1 for name, tensor in before.items()}
    less = {name: tensor for name, tensor in good.items() if name != "out.bias"}
    turned = good | {"hidden.weight": good["hidden.weight"].T.contiguous()}
    whole = good | {"out.bias": torch.ones(10, dtype=torch.int64)}
    for tensors, words in (
        (less, "out.bias is missing in it"),
        (good | {"more": torch.ones(1)}, "more is not in the model"),
        (turned, "hidden.weight has the shape (20, 54) here and (54, 20) in the file"),
        (whole, "out.bias holds float32 here and int64 in the file"),
        (good | {"norm.num_batches_tracked": torch.tensor(1.0)}, "holds int64 here and float32 in the file"),
        (
            {"x": torch.ones(1)},
            "conv.weight is missing in it; conv.bias is missing in it; norm.weight is missing in it",
        ),
        ({}, "more. Nothing was loaded."),
    ):
        assert words in problem_of(namespace, "load", data=save_bytes(tensors))
        assert are_equal(model.state_dict(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_precision_are_cast(dtype: torch.dtype) -> None:
    model = nn.Linear(2, 2)
    file = save_bytes({"weight": torch.full((2, 2), 0.1, dtype=dtype), "bias": torch.zeros(2)})
    ask({"model": model}, "load", data=file)
    assert torch.equal(model.weight.detach(), torch.full((2, 2), 0.1, dtype=dtype).float())


def test_a_load_that_fails_in_the_middle_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 2)
    before, file = copy_state(model), save_bytes({"weight": torch.ones(2, 2), "bias": torch.ones(2)})
    copy = Tensor.copy_
    calls: list[Any] = []

    def copy_once(tensor: Tensor, source: Tensor) -> Tensor:
        calls.append(tensor)
        if len(calls) == 2:
            raise TimeIsUp
        return copy(tensor, source)

    monkeypatch.setattr(Tensor, "copy_", copy_once)
    with pytest.raises(TimeIsUp):
        Look({"model": model}).answer({"kind": "load", "data": file})
    monkeypatch.undo()
    assert are_equal(model.state_dict(), before)


def test_garbage_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = make_namespace(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    before = copy_state(namespace["model"])
    file = base64.b64decode(ask(namespace, "save")["data"])
    chance = random.Random(0)
    header = b'{"1.weight":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}'
    bad = [b"", b"\0", file[:7], file[:40], file[:-1], file + b"\0", struct.pack("<Q", 2**63) + file[8:]]
    bad += [struct.pack("<Q", len(header)) + header + b"\0" * 4, b"\x80\x04K\x01.", chance.randbytes(1000)]
    bad += [file[:8] + chance.randbytes(60) + file[68:] for _ in range(50)]
    for data in bad:
        text = problem_of(namespace, "load", data=base64.b64encode(data).decode())
        assert text.startswith("This is no safetensors file"), text
    for data in (None, 3, "é", "abc", "a b=", [1], {"a": 1}):
        assert "file" in problem_of(namespace, "load", data=data)
    monkeypatch.setattr(weights, "MOST_BYTES", 2000)
    assert "too large" in problem_of(namespace, "load", data="A" * 3000)
    assert "can be saved" in problem_of(namespace, "save")
    assert are_equal(namespace["model"].state_dict(), before)


def test_weights_that_are_no_plain_tensors_are_not_saved() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"a": 1}

    assert "_extra_state" in problem_of({"model": Extra(2, 2)}, "save")
    assert "no plain values" in problem_of({"model": nn.Linear(2, 2, device="meta")}, "save")
    assert "lazy" in problem_of({"model": nn.LazyLinear(2)}, "save")
    assert "no weights" in problem_of({"model": nn.ReLU()}, "save")


# -- nothing is changed ---------------------------------------------------------------------------


def train(asks: Any) -> tuple[dict[str, Tensor], list[float]]:
    """Three epochs with dropout, BatchNorm, shuffling and a scheduler; ``asks(look)`` after each pass."""
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    images, labels = make_digits(96)
    model = Functional()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses: list[float] = []
    look = Look({"model": model, "test_images": images, "test_labels": labels, "train_losses": losses})
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), 32, shuffle=True)
    for _ in range(3):
        model.train()
        for batch, target in loader:
            noise = 1 + 0.01 * random.random() * np.random.rand()
            loss = F.cross_entropy(model(batch * noise), target)
            optimizer.zero_grad()
            loss.backward()
            asks(look)
            optimizer.step()
            asks(look)
            losses.append(loss.item())
    return copy_state(model), losses


def ask_everything(look: Look) -> None:
    """Each question once; the weights are loaded as they are."""
    look.snapshot()
    for kind in QUESTIONS[:-1]:
        told = look.answer(question_of(kind))
        assert "problem" not in told, told
    assert look.answer({"kind": "load", "data": told["data"]})["loaded"] == 11


def test_training_with_questions_after_every_pass_gives_the_same_weights_bit_for_bit() -> None:
    alone, asked = train(lambda look: None), train(ask_everything)
    assert are_equal(alone[0], asked[0])
    assert alone[1] == asked[1]


def test_questions_leave_modes_gradients_flags_hooks_and_generators_as_they_are() -> None:
    namespace = make_namespace()
    model = namespace["model"]
    F.cross_entropy(model(namespace["test_images"]), namespace["test_labels"]).backward()
    model.norm.eval()
    model.conv.weight.requires_grad_(False)

    def state() -> tuple:
        modules = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
        tensors = [(p.requires_grad, p._version, p.grad._version) for p in model.parameters()]
        tensors += [(b._version, b.tolist()) for b in model.buffers()]
        grads = [p.grad.tolist() for p in model.parameters()]
        chance = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
        return modules, tensors, grads, chance, torch.is_grad_enabled(), torch.get_default_device()

    before = state()
    for kind in QUESTIONS[:-1]:
        ask(namespace, **question_of(kind))
        assert state() == before


def test_a_forward_pass_that_draws_counts_and_prints_leaves_no_trace(capsys: pytest.CaptureFixture) -> None:
    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.register_buffer("count", torch.zeros(1))
            self.register_buffer("last", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            print(x.shape, random.random(), np.random.rand())
            self.count += 1
            self.last = torch.rand(1)
            torch.set_grad_enabled(False)
            return self.layer(x.flatten(1) + torch.rand(64))

    namespace = make_namespace(Restless())
    buffers = list(namespace["model"].buffers())
    before = torch.get_rng_state(), random.getstate()
    for kind in ("layers", "digits", "predict"):
        ask(namespace, **question_of(kind))
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert all(a is b and not a.any() for a, b in zip(buffers, namespace["model"].buffers(), strict=True))
    assert torch.is_grad_enabled()
    assert not capsys.readouterr().out


def test_questions_are_answered_the_same_under_every_mode() -> None:
    namespace, questions = make_namespace(), [question_of(kind) for kind in QUESTIONS[:-1]]

    def answers() -> list[Any]:
        return [ask(namespace, **question) for question in questions]

    expected = answers()

    with torch.no_grad():
        assert answers() == expected
    with torch.inference_mode():
        assert answers() == expected
    with torch.device("meta"):
        assert answers() == expected
        assert ask(namespace, "load", data=expected[-1]["data"])["loaded"] == 11
    with torch.autocast("cpu", torch.bfloat16):
        assert answers() == expected
        # Nothing was kept that would cut the weights off from the loss.
        namespace["model"](namespace["test_images"]).sum().backward()
    assert namespace["model"].out.weight.grad is not None


def test_questions_are_answered_inside_a_backward_pass() -> None:
    namespace = make_namespace()
    expected = [ask(namespace, **question_of(kind)) for kind in QUESTIONS[:-1]]
    x = torch.ones(2, requires_grad=True)
    found: list[Any] = []
    y = x * 2
    y.register_hook(lambda _: found.extend(ask(namespace, **question_of(kind)) for kind in QUESTIONS[:-1]))
    y.sum().backward()
    assert found == expected
    assert x.grad.tolist() == [2, 2]
    assert all(p.grad is None for p in namespace["model"].parameters())


# -- bad input ------------------------------------------------------------------------------------


class TimeIsUp(BaseException):
    """What a time limit is to a program."""


def test_what_is_missing_is_named() -> None:
    for kind in QUESTIONS[1:]:
        for namespace in ({}, {"model": 3}, {"model": nn.Linear}):
            told = problem_of(namespace, kind, pixels=encode(np.ones(784)))
            assert told == "The program has no nn.Module called model."
    namespace = make_namespace()
    for name, value, words in (
        ("test_images", None, "The program has no tensor called test_images."),
        ("test_labels", None, "The program has no tensor of whole numbers called test_labels."),
        ("test_labels", torch.rand(60), "The program has no tensor of whole numbers called test_labels."),
        ("test_labels", torch.zeros(59, dtype=torch.int64), "must have the shape (60,) of test_images, got (59,)"),
        ("test_labels", torch.full((60,), 12), "must be from 0 to 9, got 12 to 12"),
        ("test_images", torch.rand(60), "must have the shape (n, 1, side, side), got (60,)"),
        ("test_images", torch.rand(0, 1, 8, 8), "got (0, 1, 8, 8)"),
        ("test_images", torch.rand(60, 1, 8, 7), "no square picture"),
    ):
        assert words in problem_of(namespace | {name: value}, "digits")


@pytest.mark.parametrize("kind", ["layers", "digits", "predict"])
def test_a_forward_pass_that_fails_is_told_with_its_own_error(kind: str) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise ValueError

    for error, words in (
        (RuntimeError("shapes cannot be multiplied" + "!" * 1000), "RuntimeError: shapes cannot be multiplied!!"),
        (Silent(), "Silent: (its message could not be read)"),
        (StopIteration(), "failed: StopIteration"),
        (RecursionError("deep"), "RecursionError: deep"),
    ):
        namespace = make_namespace(Raising(raises(error)))
        told = problem_of(namespace, **question_of(kind))
        assert told.startswith("The model's forward pass failed: ") and words in told and len(told) < 400
        assert all(m.training and not m._forward_hooks for m in namespace["model"].modules())


@pytest.mark.parametrize("kind", ["digits", "predict"])
def test_an_output_that_is_no_ten_numbers_a_digit_is_told(kind: str) -> None:
    for act, words in (
        (lambda x: (x, x), "returned a tuple"),
        (lambda x: None, "returned a NoneType"),
        (lambda x: x[:, :5], ", 5); expected ("),
        (lambda x: x.sum(), "has the shape ()"),
        (lambda x: x.argmax(1, keepdim=True).expand(-1, 10), "is torch.int64"),
        (lambda x: x * math.nan, "not a number (nan)"),
    ):
        assert words in problem_of(make_namespace(Raising(act)), **question_of(kind))


def test_infinite_logits_are_honest_numbers() -> None:
    def act(x: Tensor) -> Tensor:
        return torch.where(torch.arange(10) == 2, x, -math.inf)

    told = ask(make_namespace(Raising(act)), **question_of("predict"))
    assert told["predicted"] == 2 and told["logits"][0] == "-inf" and told["probabilities"][2] == 1
    assert ask(make_namespace(Raising(act)), "digits")["loss"] == "inf"


def test_what_ends_a_program_passes_through_and_leaves_the_model_as_it_was() -> None:
    for kind in ("layers", "digits", "predict", "weights"):
        namespace = make_namespace(Raising(raises(TimeIsUp())))
        with pytest.raises(TimeIsUp):
            Look(namespace).answer(question_of(kind))
        assert all(m.training and not m._forward_hooks for m in namespace["model"].modules())
        assert torch.is_grad_enabled()


def test_lazy_layers_are_not_made_by_a_question() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    namespace = {"model": model, "test_images": make_digits()[0], "test_labels": make_digits()[1]}
    for kind in QUESTIONS[1:]:
        assert "lazy" in problem_of(namespace, **question_of(kind))
    Look(namespace).snapshot()
    assert nn.parameter.is_lazy(model[1].weight)


def test_bad_questions_are_told() -> None:
    namespace = make_namespace()
    look = Look(namespace)
    for what in (None, 3, [], {}, {"kind": None}, {"kind": []}, {"kind": "x" * 1000}, {"kind": "snapshot"}):
        assert "kind must be one of" in look.answer(what)["problem"]
    for kind, option, values in (
        ("numbers", "names", [None, "a", [1], [["a"]]]),
        ("layers", "bins", [0, -1, 1001, 2.5, "40", True, [1]]),
        ("layers", "sample", [0, 1001, "a"]),
        ("weights", "most", [0, 1001]),
        ("digits", "most", [0, 1001]),
        ("digits", "sample", [0, 10**7]),
        ("digits", "cell", [3, [1], [1, 10], [1, "2"], [-1, 2], [1, 2, 3], [True, 1]]),
        ("predict", "class", [10, -1, 1.0, "1", True, [1]]),
        ("predict", "pixels", [None, 3, "", "é", "abc", "AAAA", [0.0] * 64]),
        ("predict", "pixels", [encode(np.ones(65)), encode(np.ones(63)), encode([math.nan] * 64)]),
        ("predict", "pixels", [encode([math.inf] * 64)]),
    ):
        for value in values:
            told = look.answer({**question_of(kind), option: value})
            assert list(told) == ["problem"] and option in told["problem"], (kind, option, value, told)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OPTIONS = ("names", "bins", "sample", "most", "cell", "pixels", "class", "data")


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(QUESTIONS), options=st.dictionaries(st.sampled_from(OPTIONS), JSON))
def test_no_question_raises(kind: str, options: dict[str, Any]) -> None:
    told = Look(NAMESPACE).answer({"kind": kind, **options})
    json.dumps(told, allow_nan=False)


NAMESPACE = make_namespace(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(QUESTIONS), model=JSON, images=JSON, labels=JSON)
def test_no_namespace_makes_it_raise(kind: str, model: Any, images: Any, labels: Any) -> None:
    for namespace in (
        {"model": model, "test_images": images, "test_labels": labels, "train_losses": images},
        {"model": nn.Linear(2, 2), "test_images": images, "test_labels": labels},
    ):
        json.dumps(Look(namespace).answer(question_of(kind)), allow_nan=False)


# -- real digits, and a worker --------------------------------------------------------------------


def test_real_digits_are_told_as_torch_tells_them(shared_mnist: Path) -> None:
    train_images, train_labels = datasets.mnist(size=2000)
    images, labels = datasets.mnist(False, size=3000)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.Adam(model.parameters())
    for start in range(0, 2000, 50):
        optimizer.zero_grad()
        F.cross_entropy(model(train_images[start : start + 50]), train_labels[start : start + 50]).backward()
        optimizer.step()
    namespace = {"model": model, "test_images": images, "test_labels": labels}
    told = ask(namespace, "digits")
    with torch.no_grad():
        logits = model(images)
    assert told["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert told["accuracy"] > 0.7
    assert told["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert (told["low"], told["high"], told["side"]) == (0, 1, 28)
    shown = told["shown"][0]
    assert (read(shown["pixels"], np.uint8) == (images[shown["index"]] * 255).round().flatten().numpy()).all()
    told = ask(namespace, "predict", pixels=encode(images[0]))
    assert told["predicted"] == int(logits[0].argmax())


def test_after_the_warm_up_no_question_imports_or_opens_anything() -> None:
    code = """
import base64, sys
import torch
from torch import nn
from explorer.look import Look, warm_up

warm_up()
# What the program itself uses is there.
model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(72, 10))
images = torch.rand(20, 1, 8, 8)
model(images).sum().backward()
look = Look({"model": model, "test_images": images, "test_labels": torch.arange(20) % 10, "losses": [1.0]})
pixels = base64.b64encode(images[0].numpy().tobytes()).decode()
before, opened = set(sys.modules), []
sys.addaudithook(lambda event, args: opened.append(args) if event in ("open", "import") else None)
look.snapshot()
for kind in ("numbers", "layers", "weights", "digits", "predict", "save"):
    told = look.answer({"kind": kind, "names": ["losses"], "pixels": pixels})
    assert "problem" not in told, told
assert "loaded" in look.answer({"kind": "load", "data": told["data"]})
assert "problem" in look.answer({"kind": "load", "data": "AAAA"})
print(sorted(set(sys.modules) - before), opened)
"""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] []"
