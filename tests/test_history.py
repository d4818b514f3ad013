"""What every pass of a run gave: nothing is lost on the way to the curves, the table and the picture."""

import csv
import io
import math
import random
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.history import Curve, History, thin

numbers = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e308])


def tell_pass(history: History, losses: list, *, last: int | None = None, **more: object) -> None:
    """One ``pass`` event with the losses since the one before."""
    last = history.passes + len(losses) - 1 if last is None else last
    said = [loss if isinstance(loss, str) or loss is None or math.isfinite(loss) else repr(loss) for loss in losses]
    history.hear({"event": "pass", "index": last, "loss": said[-1], "losses": said, "expected": None, **more})


def as_text(values: list[float]) -> list[str]:
    """Numbers that may be nan, to compare."""
    return [repr(value) for value in values]


@given(st.lists(st.lists(numbers, min_size=1, max_size=9), max_size=9))
def test_the_loss_of_every_pass_is_kept(batches: list[list[float]]) -> None:
    history = History()
    for losses in batches:
        tell_pass(history, losses)
    everything = [loss for losses in batches for loss in losses]
    assert history.loss.x == list(range(len(everything)))
    assert as_text(history.loss.y) == as_text(everything)
    assert history.passes == len(everything)
    assert history.first_not_finite == next((i for i, loss in enumerate(everything) if not math.isfinite(loss)), None)


def test_an_event_that_comes_twice_counts_once() -> None:
    history = History()
    points = {"index": [0, 1], "values": {"w": [1.0, 2.0]}, "norms": {}}
    for _ in range(2):
        tell_pass(history, [3.0, 2.0], last=1, points=points)
    tell_pass(history, [3.0, 2.0, 1.0], last=2)
    assert (history.loss.x, history.loss.y) == ([0, 1, 2], [3.0, 2.0, 1.0])
    assert history.values["w"] == Curve([0, 1], [1.0, 2.0])


def test_passes_of_which_nothing_was_heard_are_gaps() -> None:
    history = History()
    tell_pass(history, [1.0])
    tell_pass(history, [None, 0.5], last=9)
    assert history.loss == Curve([0, 9], [1.0, 0.5])
    assert history.passes == 10


def test_leaves_have_points_only_where_they_were_looked_at() -> None:
    history = History()
    points = {
        "index": [0, 2, 3],
        "values": {"w": [1, None, "nan"], "b": ["-inf", 2.0, 3.0]},
        "grads": {"w": [-1.5, None, "-inf"]},
        "norms": {"net.0.weight": [0.5, "inf", None]},
    }
    tell_pass(history, [1.0] * 4, points=points)
    assert as_text(history.values["w"].y) == ["1.0", "nan"]
    assert history.values["w"].x == [0, 3]
    assert history.values["b"] == Curve([0, 2, 3], [-math.inf, 2.0, 3.0])
    assert history.grads == {"w": Curve([0, 3], [-1.5, -math.inf])}
    assert history.norms == {"net.0.weight": Curve([0, 2], [0.5, math.inf])}


def test_what_is_no_number_is_passed_over() -> None:
    history = History()
    tell_pass(history, [1.0], points={"index": [0], "values": {"w": [[1, 2]], "v": ["many"], "u": [10**400]}})
    history.hear({"event": "stdout", "text": "1"})
    assert [curve.y for curve in history.values.values()] == [[], [], []]
    assert history.passes == 1


@given(st.lists(numbers, min_size=1, max_size=400), st.integers(4, 40))
def test_thinning_keeps_least_largest_first_last_and_what_is_not_finite(y: list[float], most: int) -> None:
    curve = Curve(list(range(len(y))), y)
    thinned = thin(curve, most)
    assert thinned.x == sorted(set(thinned.x))
    assert as_text([y[index] for index in thinned.x]) == as_text(thinned.y)
    assert (thinned.x[0], thinned.x[-1]) == (0, len(y) - 1)
    assert {repr(value) for value in y if not math.isfinite(value)} <= set(as_text(thinned.y))
    finite = [value for value in y if math.isfinite(value)]
    if finite:
        assert {min(finite), max(finite)} <= set(thinned.y)
    if len(finite) == len(y):
        assert len(thinned.x) <= most


@given(st.lists(numbers, min_size=9, max_size=300), st.integers(8, 20))
def test_no_spike_of_any_bucket_is_hidden(y: list[float], most: int) -> None:
    thinned = thin(Curve(list(range(len(y))), y), most)
    stride = 1
    while 4 * math.ceil(len(y) / stride) > most and len(y) > most:
        stride *= 2
    for start in range(0, len(y), stride):
        finite = [value for value in y[start : start + stride] if math.isfinite(value)]
        kept = [value for index, value in zip(thinned.x, thinned.y, strict=True) if start <= index < start + stride]
        assert kept
        if finite:
            assert {min(finite), max(finite)} <= set(kept)


@given(st.lists(numbers, max_size=300), st.lists(st.integers(1, 40), max_size=20))
def test_thinning_while_a_curve_grows_is_thinning_it_at_once(y: list[float], lengths: list[int]) -> None:
    curve, count = Curve(), 0
    for length in lengths:
        for index in range(count, min(count + length, len(y))):
            curve.append(index, y[index])
        count = len(curve.y)
        thinned = thin(curve, 16)
        at_once = thin(Curve(list(range(count)), y[:count]), 16)
        assert (thinned.x, as_text(thinned.y)) == (at_once.x, as_text(at_once.y))


def test_drawn_points_stay_until_the_stride_doubles() -> None:
    curve, before, moved = Curve(), Curve(), []
    chance = random.Random(0)
    for index in range(20_000):
        curve.append(index, chance.random())
        if index % 10 == 0:
            now = thin(curve, 400)
            # The last bucket is open: it may choose anew.
            closed = max(0, len(before.x) - 4)
            if now.x[:closed] != before.x[:closed]:
                moved.append(index)
            before = now
    assert moved == [400 * 2**doubling for doubling in range(6)]


def test_a_short_curve_is_drawn_whole() -> None:
    curve = Curve([0, 1, 5], [1.0, 2.0, 3.0])
    assert thin(curve, 4) == curve
    assert thin(Curve(), 4) == Curve()
    with pytest.raises(ValueError, match="at least 4"):
        thin(curve, 3)


def fill(history: History) -> None:
    tell_pass(history, [2.0, math.nan, None, 0.1 + 0.2])
    points = {"index": [1, 3], "values": {"w": [1 / 3, "inf"]}, "grads": {"w": [-0.1, None]}}
    points |= {"norms": {'=cmd|"x",1': [None, 5e-324]}}
    tell_pass(history, [1.0], points=points)
    history.hear({"event": "knob", "pass": 1, "name": "lr", "value": 0.1})
    history.hear({"event": "knob", "pass": 1, "name": "lr", "value": 0.2})
    history.hear({"event": "knob", "pass": 3, "name": "mode", "value": "=HYPERLINK(1)"})
    history.hear({"event": "knob", "pass": 9, "name": "lr", "value": 5})


def test_the_table_has_a_row_for_each_pass_and_cells_only_for_what_was_seen() -> None:
    history = History()
    fill(history)
    table = list(csv.reader(io.StringIO(history.to_csv(), newline="")))
    assert table == [
        ["pass", "loss", "value of w", "gradient of w", 'norm of =cmd|"x",1.grad', "knob lr", "knob mode"],
        ["0", "2.0", "", "", "", "", ""],
        ["1", "nan", repr(1 / 3), "-0.1", "", "0.2", ""],
        ["2", "", "", "", "", "0.2", ""],
        ["3", "0.30000000000000004", "inf", "", "5e-324", "0.2", "'=HYPERLINK(1)"],
        ["4", "1.0", "", "", "", "0.2", "'=HYPERLINK(1)"],
    ]


@given(st.lists(st.none() | numbers, max_size=20), st.text(), st.text())
def test_the_table_parses_back_exactly_and_holds_no_formula(losses: list, name: str, value: str) -> None:
    history = History()
    if losses:
        series = {name: [2.0 for _ in losses]}
        points = {"index": list(range(len(losses))), "values": series, "grads": series, "norms": series}
        tell_pass(history, losses, points=points)
    history.hear({"event": "knob", "pass": 0, "name": name, "value": value})
    header, *rows = csv.reader(io.StringIO(history.to_csv(), newline=""))
    assert [row[0] for row in rows] == [str(index) for index in range(len(losses))]
    assert [row[1] for row in rows] == ["" if loss is None else repr(loss) for loss in losses]
    assert header[-1] == f"knob {name}"
    texts = [*header, *(row[-1] for row in rows)]
    assert not [text for text in texts if text.lstrip()[:1] in tuple("=+-@")]


def test_a_pass_costs_few_bytes() -> None:
    """16 are its index and its loss; lists of numbers took 68."""
    history, before = History(), 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for first in range(0, 20_000, 100):
            tell_pass(history, [math.sin(index) for index in range(first, first + 100)])
        assert (tracemalloc.get_traced_memory()[0] - before) / 20_000 < 24
    finally:
        tracemalloc.stop()


def test_a_hundred_thousand_passes_stay_fast() -> None:
    history, began = History(), time.process_time()
    for first in range(0, 100_000, 100):
        losses = [math.sin(index) for index in range(first, first + 100)]
        points = {"index": [first], "values": {"w": [1.0]}, "norms": {"w": [2.0]}}
        tell_pass(history, losses, points=points)
        thin(history.loss, 2_000)
    assert time.process_time() - began < 5
    assert history.to_csv().count("\n") == 100_001
