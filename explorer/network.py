"""A network that recognises handwritten digits as a reader sets it up, and the program that a teacher would write."""

import itertools
import re
from dataclasses import dataclass, replace

from explorer.optimizers import check_count, check_number, check_rate

DATA: dict[str, tuple[int, int, int]] = {"mnist": (28, 60_000, 10_000), "digits": (8, 1_437, 360)}
"""The side of an image, the digits to train and those to test, by the name of the function that gives them."""

KINDS: dict[str, tuple[int, ...]] = {"mlp": (), "cnn": (8, 16)}
"""The channels of the convolutions before the layers; each keeps the side, and the pooling after it halves it."""

ACTIVATIONS: dict[str, str] = {
    "ReLU": "torch.relu",
    "Sigmoid": "torch.sigmoid",
    "Tanh": "torch.tanh",
    "GELU": "F.gelu",
    "LeakyReLU": "F.leaky_relu",
}

INITIALISATIONS: dict[str, str] = {
    "default": "",
    "kaiming": "nn.init.kaiming_normal_(layer.weight)",
    "xavier": "nn.init.xavier_normal_(layer.weight)",
    "normal 0.01": "nn.init.normal_(layer.weight, std=0.01)",
    "zeros": "nn.init.zeros_(layer.weight)",
}
"""How the program writes the start of a layer's weights; the biases are zeros beside each but PyTorch's default."""

OPTIMIZERS: dict[str, str] = {
    "SGD": "optim.SGD(model.parameters(), lr=learning_rate{options})",
    "Momentum": "optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9{options})",
    "Adam": "optim.Adam(model.parameters(), lr=learning_rate{options})",
    "AdamW": "optim.AdamW(model.parameters(), lr=learning_rate{options})",
    "RMSprop": "optim.RMSprop(model.parameters(), lr=learning_rate{options})",
}

CLASSES = 10
MOST_LAYERS = 8
MOST_UNITS = 2_000
MOST_DIGITS = 60_000
MOST_EPOCHS = 100
MOST_MEGABYTES = 1_500
"""What a design may need by ``estimate_memory``; a worker has 2,048 for the program in all."""

_KERNEL = 3
_PART = 1_000
_WHOLE_EVALUATION = 25_000_000
"""Numbers of one layer for all digits, 100 MB, from which on they are evaluated in parts."""


@dataclass(frozen=True, slots=True)
class Design:
    """Every choice of the page; ``hidden`` empty is softmax regression.

    A ``train_size`` or ``batch_size`` above what the data have is all of them. Raises ValueError in words for a reader:
    a layer of no units, a rate that is nan, infinite, negative or 0, a dropout of 1, an unknown name, a network and a
    batch that do not fit the memory.
    """

    data: str = "mnist"
    kind: str = "mlp"
    hidden: tuple[int, ...] = (400,)
    activation: str = "ReLU"
    initialisation: str = "default"
    optimizer: str = "Adam"
    learning_rate: float = 0.001
    batch_size: int = 100
    epochs: int = 5
    train_size: int = 10_000
    dropout: float = 0.0
    weight_decay: float = 0.0
    forget_zero_grad: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        for what, name, known in (
            ("data", self.data, DATA),
            ("kind of network", self.kind, KINDS),
            ("activation", self.activation, ACTIVATIONS),
            ("initialisation", self.initialisation, INITIALISATIONS),
            ("optimizer", self.optimizer, OPTIMIZERS),
        ):
            if name not in known:
                raise ValueError(f"there is no {what} named {name!r}; choose one of {', '.join(known)}")
        if not re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d{1,3})?", self.device):
            raise ValueError(f"there is no device named {self.device!r}; choose one such as cpu, cuda or cuda:1")
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if len(self.hidden) > MOST_LAYERS:
            raise ValueError(
                f"a network has at most {MOST_LAYERS} hidden layers, got {len(self.hidden)}: take some out"
            )
        for number, units in enumerate(self.hidden, start=1):
            if units == 0:
                raise ValueError(f"hidden layer {number} has no units: give it 1 to {MOST_UNITS:,}, or take it out")
            check_count(f"number of units of hidden layer {number}", units, most=MOST_UNITS)
        if check_rate(self.learning_rate) == 0:
            raise ValueError("the learning rate must be above 0, got 0: no step would move a weight; try 0.001")
        check_count("batch size", self.batch_size, most=MOST_DIGITS)
        check_count("number of epochs", self.epochs, most=MOST_EPOCHS)
        check_count("number of digits to train", self.train_size, most=MOST_DIGITS)
        if check_number("dropout", self.dropout, least=0) >= 1:
            raise ValueError(f"the dropout must be below 1, got {self.dropout:g}: it would drop every unit; try 0.2")
        if self.dropout and self.kind == "mlp" and not self.hidden:
            raise ValueError("dropout needs a hidden layer whose units it drops: add one, or set the dropout to 0")
        check_number("weight decay", self.weight_decay, least=0, below=1)
        needed = estimate_memory(self)
        if needed > MOST_MEGABYTES:
            raise ValueError(
                f"this design needs about {needed:,} MB of memory and may have {MOST_MEGABYTES:,}: "
                "choose a smaller batch size or smaller layers"
            )

    @property
    def count(self) -> int:
        """The number of digits to train."""
        return min(self.train_size, DATA[self.data][1])

    @property
    def passes(self) -> int:
        """The number of passes of a whole run."""
        return self.epochs * -(-self.count // self.batch_size)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes around the layers, from their input to the classes: (784, 400, 10)."""
        channels, side = KINDS[self.kind], _last_side(self)
        return (side**2 * (channels[-1] if channels else 1), *self.hidden, CLASSES)


def describe(design: Design) -> str:
    """The network in short: 784-400-10, or conv 16-32, 1568-64-10."""
    sizes = "-".join(map(str, design.sizes))
    channels = "-".join(map(str, KINDS[design.kind]))
    return f"conv {channels}, {sizes}" if channels else sizes


def count_parameters(design: Design) -> int:
    """Weights and biases: n * m + m for a layer from n to m, n * m * 9 + m for a convolution."""
    channels = (1, *KINDS[design.kind])
    convolutions = sum(n * m * _KERNEL**2 + m for n, m in itertools.pairwise(channels))
    return convolutions + sum(n * m + m for n, m in itertools.pairwise(design.sizes))


def estimate_memory(design: Design) -> int:
    """About how many MB a run takes: digits, parameters with gradient and two moments, what a batch keeps for backward.

    A batch keeps the input of each layer, activation and pooling, and the pooling its indices, which are int64; two
    gradients of the widest come on top.
    """
    side, _, tests = DATA[design.data]
    kept = side**2 + 2 * sum(design.sizes) + 2 * _find_widest(design)
    for channels in KINDS[design.kind]:
        kept += channels * side**2
        side //= 2
        kept += 4 * channels * side**2
    digits = 2 * (design.count + tests) * DATA[design.data][0] ** 2
    numbers = digits + 4 * count_parameters(design) + min(design.batch_size, design.count) * kept
    return round(4 * numbers / 1e6)


def _find_widest(design: Design) -> int:
    """The most numbers that one digit is on its way."""
    side, first = DATA[design.data][0], KINDS[design.kind][:1]
    return max((CLASSES, *design.hidden, *(channels * side**2 for channels in first)))


def _last_side(design: Design) -> int:
    return DATA[design.data][0] // 2 ** len(KINDS[design.kind])


def write_program(design: Design) -> str:
    """The program of these choices: plain PyTorch, the same text for the same choices.

    Its layers are ``conv1``, ``conv2`` and ``layer1``, ``layer2``, ... of ``model``; its knobs are ``learning_rate``,
    ``batch_size`` and ``epochs``; an epoch appends to ``train_losses``, ``train_accuracies``, ``test_losses`` and
    ``test_accuracies``. The digits are on the CPU; what another device takes part in is moved there.
    """
    blocks = [
        "\n".join(_write_imports(design)),
        "\n".join(_write_numbers(design)),
        "\n".join(_write_digits(design)),
        "\n".join(_write_network(design)),
        "\n".join(_write_setup(design)),
        "\n".join(_write_evaluate(design)),
        "\n".join(_write_loop(design)),
    ]
    return "\n\n".join(blocks) + "\n"


def _write_imports(design: Design) -> list[str]:
    lines = ["import torch", "from torch import nn, optim"]
    is_activated = bool(design.hidden or KINDS[design.kind])
    if KINDS[design.kind] or (is_activated and ACTIVATIONS[design.activation].startswith("F.")):
        lines.append("from torch.nn import functional as F")
    lines.append("from torch.utils.data import DataLoader, TensorDataset")
    return [*lines, "", f"from explorer.datasets import {design.data}"]


def _write_numbers(design: Design) -> list[str]:
    return [
        f"learning_rate = {_number(design.learning_rate)}",
        f"batch_size = {min(design.batch_size, design.count)}",
        f"epochs = {design.epochs}",
        *([] if design.device == "cpu" else [f'device = "{design.device}"']),
    ]


def _write_digits(design: Design) -> list[str]:
    # Of MNIST a folder may hold fewer than all: the size is told, so that a lack of digits is too.
    is_all = design.data == "digits" and design.count == DATA["digits"][1]
    size = "" if is_all else f", size={design.count:_}"
    return [
        f"train_images, train_labels = {design.data}(train=True{size})",
        f"test_images, test_labels = {design.data}(train=False)",
        "loader = DataLoader(TensorDataset(train_images, train_labels), batch_size=batch_size, shuffle=True)",
    ]


def _write_network(design: Design) -> list[str]:
    channels, sizes, side = (1, *KINDS[design.kind]), design.sizes, _last_side(design)
    activation = ACTIVATIONS[design.activation]
    layers, forward = [], []
    for number, (n, m) in enumerate(itertools.pairwise(channels), start=1):
        layers.append(f"self.conv{number} = nn.Conv2d({n}, {m}, kernel_size={_KERNEL}, padding=1)")
        forward.append(f"x = {activation}(F.max_pool2d(self.conv{number}(x), 2))")
    forward.append("x = x.flatten(start_dim=1)")
    if design.dropout and not design.hidden:
        forward.append("x = self.dropout(x)")
    for number, (n, m) in enumerate(itertools.pairwise(sizes), start=1):
        inputs = n if number > 1 else f"{side} * {side}" if channels[-1] == 1 else f"{channels[-1]} * {side} * {side}"
        layers.append(f"self.layer{number} = nn.Linear({inputs}, {m})")
        if number < len(sizes) - 1:
            units = f"{activation}(self.layer{number}(x))"
            forward.append(f"x = self.dropout({units})" if design.dropout else f"x = {units}")
    forward.append(f"return self.layer{len(sizes) - 1}(x)")
    if design.dropout:
        layers.append(f"self.dropout = nn.Dropout({_number(design.dropout)})")
    return [
        "class Network(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        *(f"        {line}" for line in layers),
        "",
        "    def forward(self, x):",
        *(f"        {line}" for line in forward),
    ]


def _write_setup(design: Design) -> list[str]:
    lines = []
    start = INITIALISATIONS[design.initialisation]
    if start:
        kinds = "nn.Linear | nn.Conv2d" if KINDS[design.kind] else "nn.Linear"
        lines += ["def initialise(layer):", f"    if isinstance(layer, {kinds}):", f"        {start}"]
        lines += ["        nn.init.zeros_(layer.bias)", ""]
    lines.append("model = Network()" if design.device == "cpu" else "model = Network().to(device)")
    if start:
        lines.append("model.apply(initialise)")
    # Without a word AdamW decays by 0.01.
    is_decaying = design.weight_decay or design.optimizer == "AdamW"
    options = f", weight_decay={_number(design.weight_decay)}" if is_decaying else ""
    lines.append("criterion = nn.CrossEntropyLoss()")
    lines.append(f"optimizer = {OPTIMIZERS[design.optimizer].format(options=options)}")
    return [*lines, "train_losses, train_accuracies, test_losses, test_accuracies = [], [], [], []"]


def _write_evaluate(design: Design) -> list[str]:
    is_large = _find_widest(design) * max(design.count, DATA[design.data][2]) > _WHOLE_EVALUATION
    scores = f"torch.cat([model(part) for part in images.split({_PART:_})])" if is_large else "model(images)"
    return [
        "def evaluate(images, labels):",
        *([] if design.device == "cpu" else ["    images, labels = images.to(device), labels.to(device)"]),
        "    model.eval()",
        "    with torch.no_grad():",
        f"        scores = {scores}",
        "    model.train()",
        "    accuracy = (scores.argmax(dim=1) == labels).float().mean()",
        "    return criterion(scores, labels).item(), accuracy.item()",
    ]


def _write_loop(design: Design) -> list[str]:
    forgotten = "# optimizer.zero_grad() is forgotten: the gradients add up"
    return [
        "for epoch in range(epochs):",
        "    for images, labels in loader:",
        *([] if design.device == "cpu" else ["        images, labels = images.to(device), labels.to(device)"]),
        f"        {forgotten if design.forget_zero_grad else 'optimizer.zero_grad()'}",
        "        loss = criterion(model(images), labels)",
        "        loss.backward()",
        "        optimizer.step()",
        "    train_loss, train_accuracy = evaluate(train_images, train_labels)",
        "    test_loss, test_accuracy = evaluate(test_images, test_labels)",
        "    train_losses.append(train_loss)",
        "    train_accuracies.append(train_accuracy)",
        "    test_losses.append(test_loss)",
        "    test_accuracies.append(test_accuracy)",
        '    print(f"epoch {epoch + 1}: loss {train_loss:.4f}, test accuracy {test_accuracy:.1%}")',
    ]


def _number(value: float) -> str:
    """A float literal with as many digits as float32 tells apart: 0.001, 1e-05."""
    return repr(float(f"{value:.9g}"))


@dataclass(frozen=True, slots=True)
class Preset:
    """A design for class, and one sentence on what is to be seen in it."""

    design: Design
    sentence: str


_SEED = Design()
_SHORT = replace(_SEED, train_size=5_000, epochs=3)
_DEEP = replace(_SHORT, hidden=(100,) * 6, initialisation="kaiming", optimizer="Momentum", learning_rate=0.01)

PRESETS: dict[str, Preset] = {
    "784-400-10 and Adam": Preset(
        _SEED, "One hidden layer tells about 94 of 100 digits that it has never seen, after 500 passes."
    ),
    "Learning rate far too small": Preset(
        replace(_SHORT, learning_rate=1e-5),
        "The loss falls, but so slowly that three epochs hardly leave log(10) = 2.303.",
    ),
    "Learning rate that suits": Preset(
        replace(_SHORT, learning_rate=1e-3),
        "The loss falls fast at first, then ever more slowly: below 0.3 in three epochs.",
    ),
    "Learning rate far too large": Preset(
        replace(_SHORT, learning_rate=0.3),
        "The first steps throw the loss above 100, and three epochs later it is still far above that of 0.001.",
    ),
    "Depth 6 with Sigmoid": Preset(
        replace(_DEEP, activation="Sigmoid"),
        "Gradients vanish: each Sigmoid leaves a quarter of them at most, layer1 gets almost none, nothing is learned.",
    ),
    "Depth 6 with ReLU": Preset(
        _DEEP, "The gradient of layer1 is more than 100 times that of the Sigmoid network, and the same depth learns."
    ),
    "zero_grad forgotten": Preset(
        replace(_SHORT, forget_zero_grad=True),
        "Each step follows the sum of all gradients so far, old ones too: accuracy swings and stays far behind.",
    ),
    "All weights start at zero": Preset(
        replace(_SHORT, initialisation="zeros"),
        "Every weight gets the gradient zero: only the last biases move, and the loss stays at log(10) = 2.303.",
    ),
    "Softmax regression": Preset(
        replace(_SEED, hidden=()),
        "No hidden layer: ten weighted sums of the pixels already tell about 90 of 100 digits.",
    ),
    "Convolutional network": Preset(
        replace(_SHORT, kind="cnn", hidden=(), learning_rate=0.003, batch_size=50),
        "With 9,098 parameters instead of 318,010 it beats the network of layers on the same 5,000 digits.",
    ),
}
"""By the name that a page shows, in its order; the sentences hold for the seed 0."""

COMPARISONS: dict[str, tuple[tuple[str, Design], ...]] = {
    "Learning rate: 0.00001 / 0.001 / 0.3": (
        ("learning_rate 0.00001", PRESETS["Learning rate far too small"].design),
        ("learning_rate 0.001", PRESETS["Learning rate that suits"].design),
        ("learning_rate 0.3", PRESETS["Learning rate far too large"].design),
    ),
    "Depth 6: Sigmoid / ReLU": (
        ("Sigmoid", PRESETS["Depth 6 with Sigmoid"].design),
        ("ReLU", PRESETS["Depth 6 with ReLU"].design),
    ),
    "zero_grad: with / without": (
        ("with zero_grad", _SHORT),
        ("without zero_grad", PRESETS["zero_grad forgotten"].design),
    ),
    "Initialisation: default / zeros": (
        ("default initialisation", _SHORT),
        ("weights of zero", PRESETS["All weights start at zero"].design),
    ),
}
"""Designs that differ in one choice, each with a short label, to run side by side."""
