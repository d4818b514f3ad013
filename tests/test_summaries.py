"""The maps of large tensors: what each cell shows, which tensors have one, and that only runs that ask pay for them."""

import base64
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from explorer import summaries
from explorer.program import Program
from explorer.recorder import record_plain
from explorer.recording import ABSENT, Recording
from explorer.runner import Runner
from explorer.summaries import MOST_CELLS, MOST_IN_ROW, NOT_FINITE, Mapper, Summarizer, draw_map

NET = """\
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Linear(40, 30)
        self.layer2 = nn.Linear(30, 5)
    def forward(self, x):
        return self.layer2(torch.relu(self.layer1(x)))
net = Net()
images = torch.rand(20, 40)
loss = net(images).pow(2).mean()
loss.backward()
"""


def draw_by_hand(values: np.ndarray) -> tuple[list[list[float]], float, list[list[int]]]:
    """Cells, limit and pixels as the definition has them, entry by entry."""
    flat = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(1, -1)
    rows, columns = flat.shape
    down, across = math.ceil(rows / MOST_CELLS), math.ceil(columns / (MOST_CELLS if values.ndim > 1 else MOST_IN_ROW))
    cells = []
    for top in range(0, rows, down):
        cells.append([])
        for left in range(0, columns, across):
            block = [
                float(flat[row, column])
                for row in range(top, min(top + down, rows))
                for column in range(left, min(left + across, columns))
            ]
            odd = [number for number in block if not math.isfinite(number)]
            cells[-1].append(odd[0] if odd else max(block, key=lambda number: (abs(number), number)))
    finite = [abs(cell) for row in cells for cell in row if math.isfinite(cell)]
    limit = max(finite, default=0.0)

    def pixel(cell: float) -> int:
        return round(cell / (limit or 1.0) * 127) if math.isfinite(cell) else NOT_FINITE

    return cells, limit, [[pixel(cell) for cell in row] for row in cells]


def read_pixels(drawn: dict[str, Any]) -> list[list[int]]:
    return np.frombuffer(base64.b64decode(drawn["pixels"]), "i1").reshape(drawn["shape"]).tolist()


def find_maps(plain: Any) -> list[dict[str, Any]]:
    """Every map anywhere in plain data."""
    if isinstance(plain, list):
        return [found for item in plain for found in find_maps(item)]
    if not isinstance(plain, dict):
        return []
    inner = [found for key, item in plain.items() if key != "map" for found in find_maps(item)]
    return inner + ([plain["map"]] if "map" in plain else [])


def without_maps(plain: Any) -> Any:
    if isinstance(plain, list):
        return [without_maps(item) for item in plain]
    if isinstance(plain, dict):
        return {key: without_maps(item) for key, item in plain.items() if key not in ("map", "timings", "sequence_nr")}
    return plain


SHAPES = [(65,), (64 * 3 + 1,), (1000,), (9, 8), (32, 32), (33, 33), (400, 78), (7, 100), (100, 1), (1, 100)]
SHAPES += [(3, 4, 5, 6), (2, 40, 3), (1, 1, 65)]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_cell_is_the_largest_of_its_block(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    cells, limit, pixels = draw_by_hand(values.numpy())
    drawn = draw_map(values)
    assert drawn["shape"] == [len(cells), len(cells[0])]
    assert drawn["limit"] == pytest.approx(limit)
    assert read_pixels(drawn) == pixels
    assert drawn["limit"] == values.abs().max()


@pytest.mark.parametrize("size", [65, 127, 128, 129, 999, 10_000, 100_001])
def test_no_map_is_larger_than_its_bounds(size: int) -> None:
    rows, columns = draw_map(torch.ones(size, 3))["shape"]
    assert rows <= MOST_CELLS and columns == 3
    assert draw_map(torch.ones(3, size))["shape"] == [3, rows]
    row = draw_map(torch.ones(size))
    assert row["shape"][0] == 1 and row["shape"][1] <= MOST_IN_ROW
    assert len(draw_map(torch.ones(size, 70))["pixels"]) <= 4 * math.ceil(MOST_CELLS**2 / 3)


def test_one_entry_among_a_million_is_seen() -> None:
    values = torch.zeros(1000, 1000)
    values[777, 333] = -1e-9
    pixels = np.array(read_pixels(draw_map(values)))
    assert pixels[777 // 32, 333 // 32] == -127 and np.count_nonzero(pixels) == 1


def test_of_two_opposite_numbers_the_positive_one_is_shown() -> None:
    values = torch.tensor([-1.0, 1.0] * 500).reshape(10, 100)
    assert set(itertools.chain(*read_pixels(draw_map(values)))) == {127}


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_cell_with_a_number_that_is_not_finite_is_marked(odd: float) -> None:
    values = torch.ones(100, 100)
    values[50, 99], values[0, 0] = odd, 2.0
    cells, limit, pixels = draw_by_hand(values.numpy())
    drawn = draw_map(values)
    assert read_pixels(drawn) == pixels and drawn["limit"] == limit == 2.0
    assert read_pixels(drawn)[50 // 4][99 // 4] == NOT_FINITE
    assert sum(row.count(NOT_FINITE) for row in pixels) == 1
    assert len(cells) == 25


def test_where_nothing_is_finite_every_cell_is_marked() -> None:
    drawn = draw_map(torch.full((10, 10), math.nan))
    assert drawn["limit"] == 0.0 and set(itertools.chain(*read_pixels(drawn))) == {NOT_FINITE}
    json.dumps(drawn, allow_nan=False)


def test_zeros_have_a_map_of_zeros() -> None:
    drawn = draw_map(torch.zeros(10, 10))
    assert drawn["limit"] == 0.0 and set(itertools.chain(*read_pixels(drawn))) == {0}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_every_kind_of_number_is_drawn(dtype: torch.dtype) -> None:
    values = (torch.arange(1000).reshape(20, 50) % 97).to(dtype)
    assert read_pixels(draw_map(values)) == draw_by_hand(values.double().numpy())[2]


def test_complex_numbers_are_drawn_by_absolute_value() -> None:
    values = torch.complex(torch.randn(40, 40), torch.randn(40, 40))
    assert read_pixels(draw_map(values)) == draw_by_hand(values.abs().numpy())[2]


@pytest.mark.parametrize(
    "arrange",
    [
        torch.t,
        lambda values: values[::3, ::2],
        lambda values: values.reshape(4, 10, 70).permute(2, 0, 1),
        lambda values: values[:1].expand(500, 70),
        lambda values: values[:, :1].expand(40, 500),
    ],
)
def test_views_are_drawn_as_their_copies_are(arrange: Any) -> None:
    view = arrange(torch.randn(40, 70))
    assert draw_map(view) == draw_map(view.clone(memory_format=torch.contiguous_format))


def test_a_tensor_past_the_limit_has_no_map() -> None:
    assert draw_map(torch.zeros(1).expand(summaries.MOST_MAPPED // 10, 11)) is None


def test_large_summaries_have_a_map_and_small_ones_none() -> None:
    mapper = Mapper(Summarizer())
    for tensor in (torch.tensor(1.0), torch.ones(64), torch.ones(8, 8), torch.ones(0, 100)):
        assert "map" not in mapper.summarize(tensor)
    large = mapper.summarize(torch.ones(65))
    assert large["map"] == draw_map(torch.ones(65)) and large["head"] == [1.0] * 8
    assert "map" not in Summarizer().summarize(torch.ones(65))


def test_a_map_follows_a_change_in_place() -> None:
    mapper, values = Mapper(Summarizer()), torch.zeros(10, 10)
    assert mapper.summarize(values)["map"]["limit"] == 0.0
    values[3, 4] = 5.0
    assert mapper.summarize(values)["map"]["limit"] == 5.0


def test_a_rearranged_tensor_has_the_map_of_its_own_shape() -> None:
    mapper, values = Mapper(Summarizer()), torch.randn(10, 20)
    told = mapper.summarize_rearranged(values.t(), mapper.summarize(values))
    assert told["map"] == draw_map(values.t()) and told["map"]["shape"] == [20, 10]


def test_sparse_gradients_have_a_map() -> None:
    sparse = torch.sparse_coo_tensor(torch.tensor([[3], [4]]), torch.tensor([2.0]), (10, 20), check_invariants=True)
    assert Mapper(Summarizer()).summarize(sparse)["map"] == draw_map(sparse.to_dense())


def test_a_run_makes_so_many_maps_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "MOST_MAPS", 3)
    mapper, kept = Mapper(Summarizer()), [torch.ones(10, 10) for _ in range(5)]
    assert ["map" in mapper.summarize(tensor) for tensor in kept] == [True] * 3 + [False] * 2
    assert "map" in mapper.summarize(kept[0])


def test_a_pass_told_with_maps_shows_every_large_gradient_as_it_is() -> None:
    recording = Recording.from_plain(record_plain(Program(NET), maps=True))
    (one,) = recording.passes
    nodes = {node.id: node for node in recording.graphs[0].nodes}
    space = {"torch": torch, "nn": torch.nn}
    exec(NET, space)
    for step in one.steps:
        node = nodes[step.node]
        for summary in [*step.grad_outputs, *step.grad_inputs, *node.saved.values(), node.output]:
            assert summary is None or (summary.map is ABSENT) == (math.prod(summary.shape) <= 64)
        if node.variable == "net.layer1.weight":
            assert step.accumulated.after.map == draw_map(space["net"].layer1.weight.grad)
            assert step.grad_outputs[0].map == step.accumulated.after.map
    assert any(node.variable == "net.layer1.weight" for node in nodes.values())
    assert Recording.from_json(recording.to_json()) == recording


def test_a_run_that_does_not_ask_has_no_map_and_is_else_the_same() -> None:
    plain, mapped = record_plain(Program(NET)), record_plain(Program(NET), maps=True)
    assert find_maps(plain) == [] and find_maps(mapped) != []
    assert without_maps(plain) == without_maps(mapped)


def test_only_passes_in_full_are_told_with_maps() -> None:
    loop = "w = torch.randn(20, 20, requires_grad=True)\ndata = torch.randn(5000, 20)\nfor i in range(200):\n"
    loop += "    w.grad = None\n    loss = (data[:50] @ w).pow(2).mean()\n    loss.backward()\n"
    plain = record_plain(Program(loop), maps=True)
    light = [one for one in plain["passes"] if not one["steps"]]
    assert light and find_maps(light) == [] and find_maps(plain["variables"]) == []
    assert all(find_maps(one["steps"]) for one in plain["passes"] if one["steps"])


def test_a_run_of_the_runner_can_ask_for_maps(runner: Runner) -> None:
    asked, other = runner.run(Program(NET), maps=True), runner.run(Program(NET))
    assert any(gradient.map for step in asked.passes[0].steps for gradient in step.grad_inputs if gradient)
    assert find_maps(other.to_plain()) == []
