"""A Recording goes to JSON and back without losing or inventing anything."""

import copy
import dataclasses
import json
import math
import pickle
from dataclasses import replace

import pytest

from explorer.recording import (
    ABSENT,
    Accumulated,
    Edge,
    Graph,
    Node,
    Pass,
    PassLeaf,
    Problem,
    Recording,
    Step,
    Summary,
    Variable,
    to_plain,
)

WHOLE = Summary([2], "torch.float32", values=[1.0, "nan"])
LARGE = Summary([100], "torch.float32", head=[0.0] * 8, min=0.0, max="inf", mean="inf", l2="inf", nan=0, inf=1)
MAPPED = replace(LARGE, map={"shape": [1, 2], "limit": 0.5, "pixels": "f4E="})


def make_recording() -> Recording:
    """A Recording in which every field of every class has a value, and once none."""
    place, shape = (2, 4, 2, 9), [2]
    saved, attributes = {"self": LARGE}, {"dim": [1, None]}
    full = Node("n0", "MulBackward0", False, True, *place, "y", "net.fc", shape, WHOLE, saved, attributes, "f")
    leaf = Node("n1", "AccumulateGrad", True)
    edges = [Edge("n0", 0, "n1", 0), Edge("n0", 1, "n1", 0)]
    steps = [
        Step("n0", [WHOLE], [WHOLE, None], None, [WHOLE, None]),
        Step("n1", [MAPPED], [], Accumulated(None, WHOLE)),
    ]
    leaves = [PassLeaf("x", "n1", WHOLE, 2.0), PassLeaf(None, None, None, "nan")]
    return Recording(
        {"source": "x = 1", "device": "cpu", "seed": 0, "knobs": {"lr": 0.5}},
        "error",
        stdout="a\n\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        problem=Problem("RuntimeError", "no", 3, 0, "why", "what"),
        variables=[
            Variable("x", "tensor", "Tensor", [2], "torch.float32", "cpu", True, True, None, WHOLE, None),
            Variable("i", "number", "1"),
        ],
        graphs=[Graph("g0", [full, leaf], edges, "digraph {}", "torchviz", ["n0"], 2), Graph("g1", [], [], "")],
        passes=[
            Pass(0, 3, "backward", "g0", ["n0"], 1.5, WHOLE, True, False, leaves, steps, "full", "n1"),
            Pass(1, None, "grad", None, [], "nan", None, False, True, [], [], "light"),
        ],
        timings={"run_ms": 1.5},
        versions={"torch": "2", "python": "3"},
        knob_events=[{"pass": 0, "name": "lr", "value": 0.5}],
        notes=["note"],
    )


def test_json_round_trip_is_exact() -> None:
    recording = make_recording()
    text = recording.to_json()
    assert "\n" not in text
    assert Recording.from_json(text) == recording
    assert Recording.from_json(text.encode()).to_json() == text


def test_absent_keys_stay_absent_and_null_stays_null() -> None:
    plain = json.loads(make_recording().to_json())
    number, tensor = plain["variables"][1], plain["variables"][0]
    assert set(number) == {"name", "kind", "text"}
    assert tensor["grad"] is None and tensor["grad_fn"] is None
    whole, large = tensor["value"], plain["graphs"][0]["nodes"][0]["saved"]["self"]
    assert set(whole) == {"shape", "dtype", "values"}
    assert set(large) == {"shape", "dtype", "head", "min", "max", "mean", "l2", "nan", "inf"}
    assert set(plain["passes"][0]["steps"][1]["grad_outputs"][0]) == {*large, "map"}
    assert "local" in plain["passes"][0]["steps"][0] and "local" not in plain["passes"][0]["steps"][1]
    assert "module" in plain["graphs"][0]["nodes"][0] and "module" not in plain["graphs"][0]["nodes"][1]

    again = Recording.from_plain(plain)
    assert again.variables[1].value is ABSENT and again.variables[0].grad is None
    assert again.graphs[0].nodes[0].saved["self"].values is ABSENT
    assert again.passes[0].steps[1].local is ABSENT
    assert again.passes[0].steps[0].grad_inputs == [WHOLE, None]
    assert again.passes[0].steps[0].local == [WHOLE, None]


def test_every_field_of_the_contract_is_in_the_json() -> None:
    plain = make_recording().to_plain()
    assert {"schema", "program", "status", "stdout", "stdout_truncated", "problem", "variables", "graphs"} <= set(plain)
    assert {"passes", "timings", "versions", "knob_events"} <= set(plain)
    assert set(plain["problem"]) == {"type", "message", "line", "column", "explanation", "hint"}
    assert {"id", "nodes", "edges", "dot"} <= set(plain["graphs"][0])
    assert {"id", "hooked", "name", "line", "variable", "is_leaf", "output", "saved", "formula"} <= set(
        plain["graphs"][0]["nodes"][1]
    )
    assert set(plain["graphs"][0]["edges"][0]) == {"source", "slot", "target", "input_nr"}
    assert {"index", "line", "kind", "graph", "roots", "loss", "gradient", "retain_graph", "create_graph"} <= set(
        plain["passes"][0]
    )
    assert {"variable", "node", "value", "grad_norm", "grad"} == set(plain["passes"][0]["leaves"][0])
    assert set(plain["passes"][0]["steps"][1]) == {"node", "grad_outputs", "grad_inputs", "accumulated"}
    assert plain["passes"][0]["steps"][1]["accumulated"] == {"before": None, "after": to_plain(WHOLE)}


def test_another_schema_is_refused() -> None:
    plain = make_recording().to_plain()
    for schema in (2, None, "1"):
        with pytest.raises(ValueError, match="schema"):
            Recording.from_plain({**plain, "schema": schema})
    with pytest.raises(ValueError, match="schema"):
        Recording.from_plain({})


def test_keys_of_later_versions_are_left_out() -> None:
    plain = make_recording().to_plain()
    plain["colour"] = "blue"
    plain["graphs"][0]["nodes"][0]["weight"] = 3
    assert Recording.from_plain(plain) == make_recording()


def test_missing_keys_have_their_defaults() -> None:
    bare = Recording.from_plain({"schema": 1, "program": {}, "status": "ok"})
    assert (bare.variables, bare.graphs, bare.passes, bare.problem, bare.stdout) == ([], [], [], None, "")


def test_numbers_that_json_cannot_hold_are_not_written() -> None:
    recording = dataclasses.replace(make_recording(), timings={"run_ms": math.nan})
    with pytest.raises(ValueError, match="JSON"):
        recording.to_json()


def test_recordings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_recording().status = "ok"


def test_absent_is_one_false_value_whatever_is_done_to_it() -> None:
    assert not ABSENT
    assert copy.deepcopy(WHOLE).head is ABSENT
    assert pickle.loads(pickle.dumps(ABSENT)) is ABSENT
    assert repr(ABSENT) == "ABSENT"


@pytest.mark.parametrize(
    ("values", "norm"),
    [
        (3.0, 3.0),
        (-3, 3.0),
        ([], 0.0),
        ([3.0, 4.0], 5.0),
        ([[3.0], [-4.0]], 5.0),
        ([True, False, True, True, True], 2.0),
        ({"re": 3.0, "im": -4.0}, 5.0),
        ([{"re": 3.0, "im": 0.0}, {"re": 0.0, "im": 4.0}], 5.0),
        ([1.0, "nan", "inf"], "nan"),
        ([1.0, "-inf"], "inf"),
        ({"re": "nan", "im": 0.0}, "nan"),
        ([3e200, 4e200], pytest.approx(5e200)),
        ([1.7e308, 1.7e308], "inf"),
    ],
)
def test_norm_is_worked_out_from_the_values(values: object, norm: object) -> None:
    assert Summary([], "torch.float64", values=values).norm == norm


def test_norm_of_a_large_tensor_is_told() -> None:
    assert not LARGE.is_whole
    assert LARGE.norm == "inf"
    assert dataclasses.replace(LARGE, l2=2.5).norm == 2.5


def test_edges_are_named_by_source_and_slot() -> None:
    recording = make_recording()
    assert [edge.id for edge in recording.graphs[0].edges] == ["n0-0", "n0-1"]


def test_graph_is_found_by_its_id() -> None:
    recording = make_recording()
    assert recording.graph("g1") is recording.graphs[1]
    assert recording.graph("g2") is None
    assert recording.graph(None) is None
