"""The sentences of a pass say what the Recording says."""

import pytest

from explorer.narrate import explain_start, explain_step, explain_steps, format_number, format_summary
from explorer.recording import Accumulated, Edge, Graph, Node, Pass, Step, Summary


def scalar(number: object) -> Summary:
    return Summary(shape=[], dtype="torch.float32", values=number)


def vector(*numbers: object) -> Summary:
    return Summary(shape=[len(numbers)], dtype="torch.float32", values=list(numbers))


def one_pass(steps: list[Step], **fields: object) -> Pass:
    plain = {"index": 0, "line": 4, "kind": "backward", "graph": "g0", "roots": ["n0"], "loss": None, "gradient": None}
    return Pass(**{**plain, "retain_graph": False, "create_graph": False, "leaves": [], "steps": steps, **fields})


def leaf(node_id: str, variable: str | None) -> Node:
    return Node(node_id, "AccumulateGrad", True, variable=variable)


# z = x * y with x = 2, y = 3.
PRODUCT = Graph(
    "g0",
    [Node("n0", "MulBackward0", False, line=3, variable="z"), leaf("n1", "x"), leaf("n2", "y")],
    [Edge("n0", 0, "n1", 0), Edge("n0", 1, "n2", 0)],
    "",
)
PRODUCT_PASS = one_pass(
    [
        Step("n0", [scalar(1.0)], [scalar(3.0), scalar(2.0)]),
        Step("n1", [scalar(3.0)], [], Accumulated(None, scalar(3.0))),
        Step("n2", [scalar(2.0)], [], Accumulated(scalar(1.0), scalar(3.0))),
    ]
)


def test_steps_of_a_product() -> None:
    assert explain_start(PRODUCT, PRODUCT_PASS) == "3 steps. The backward pass starts at z with gradient 1."
    assert explain_steps(PRODUCT, PRODUCT_PASS) == [
        "Step 1 of 3: MulBackward0, line 3, receives 1, sends 3 to x and 2 to y",
        "Step 2 of 3: AccumulateGrad adds 3 to x.grad (was None, is now 3)",
        "Step 3 of 3: AccumulateGrad adds 2 to y.grad (was 1, is now 3)",
    ]


def test_one_step_is_that_of_all_steps() -> None:
    steps = explain_steps(PRODUCT, PRODUCT_PASS)
    assert [explain_step(PRODUCT, PRODUCT_PASS, index) for index in range(3)] == steps


def test_start_tells_a_given_gradient() -> None:
    given_vector = one_pass([Step("n0", [vector(1.0, 0.5)], [])], gradient=vector(1.0, 0.5))
    assert explain_start(PRODUCT, given_vector) == "1 step. The backward pass starts at z with gradient [1, 0.5]."


def test_start_tells_a_failed_node_and_a_light_pass() -> None:
    failed = one_pass(PRODUCT_PASS.steps[:1], failed="n1")
    assert explain_start(PRODUCT, failed) == (
        "1 step. The backward pass starts at z with gradient 1. An error ended it at x."
    )
    assert explain_start(PRODUCT, one_pass([], detail="light")) == "The steps of this pass were not kept."


def test_fan_in_tells_the_parts_of_the_sum() -> None:
    """y = h * h + sin(h): h receives 7 + 7 from the product and 0.7539 from the sine, in the engine's order."""
    graph = Graph(
        "g0",
        [
            Node("n0", "AddBackward0", False, line=3, variable="y"),
            Node("n1", "MulBackward0", False, line=3),
            Node("n2", "SinBackward0", False, line=3),
            Node("n3", "TanhBackward0", False, line=2, variable="h"),
        ],
        [
            Edge("n0", 0, "n1", 0),
            Edge("n0", 1, "n2", 0),
            Edge("n1", 0, "n3", 0),
            Edge("n1", 1, "n3", 0),
            Edge("n2", 0, "n3", 0),
        ],
        "",
    )
    steps = [
        Step("n0", [scalar(1.0)], [scalar(1.0), scalar(1.0)]),
        Step("n2", [scalar(1.0)], [scalar(-0.75390225)]),
        Step("n1", [scalar(1.0)], [scalar(7.0), scalar(7.0)]),
        Step("n3", [scalar(13.24609775)], [None]),
    ]
    told = explain_steps(graph, one_pass(steps))
    assert told[1] == "Step 2 of 4: SinBackward0, line 3, receives 1, sends -0.7539 to h"
    assert told[2] == "Step 3 of 4: MulBackward0, line 3, receives 1, sends 7 and 7 to h"
    assert told[3] == "Step 4 of 4: TanhBackward0, line 2, receives 13.25 (-0.7539 + 7 + 7), sends nothing on"


def test_fan_in_of_a_leaf_and_of_large_gradients() -> None:
    nodes = [Node("n0", "MulBackward0", False), leaf("n1", "x")]
    graph = Graph("g0", nodes, [Edge("n0", 0, "n1", 0), Edge("n0", 1, "n1", 0)], "")
    small = [
        Step("n0", [scalar(1.0)], [scalar(2.0), scalar(2.0)]),
        Step("n1", [scalar(4.0)], [], Accumulated(None, scalar(4.0))),
    ]
    assert explain_step(graph, one_pass(small), 1).endswith("adds 4 (2 + 2) to x.grad (was None, is now 4)")
    big = Summary(shape=[64, 10], dtype="torch.float32", head=[0.0] * 8, l2=0.3104)
    large = [Step("n0", [big], [big, big]), Step("n1", [big], [], Accumulated(None, big))]
    told = explain_steps(graph, one_pass(large))
    whole = "a (64, 10) gradient, norm 0.3104"
    assert told[0].endswith(f"receives {whole}, sends {whole} and {whole} to x")
    assert "adds a (64, 10) gradient, norm 0.3104 (the sum of 2) to x.grad" in told[1]


def test_missing_gradients_are_told() -> None:
    steps = [Step("n0", [None], [None, scalar(2.0)]), Step("n1", [None], [], None)]
    told = explain_steps(PRODUCT, one_pass(steps))
    assert told[0].endswith("receives no gradient, sends no gradient to x and 2 to y")
    assert told[1].endswith("AccumulateGrad receives no gradient for x.grad")


def test_outputs_of_a_node_are_told_apart() -> None:
    graph = Graph("g0", [Node("n0", "UnbindBackward0", False, line=2)], [], "")
    told = explain_step(graph, one_pass([Step("n0", [scalar(1.0), None, scalar(2.0)], [None])]), 0)
    assert told == "Step 1 of 1: UnbindBackward0, line 2, receives 1 for output 0 and 2 for output 2, sends nothing on"


def test_node_without_a_variable_is_named_by_its_line_where_others_are_called_the_same() -> None:
    nodes = [
        Node("n0", "AddBackward0", False, line=3),
        Node("n1", "MulBackward0", False, line=2),
        Node("n2", "MulBackward0", False, line=1),
    ]
    graph = Graph("g0", nodes, [Edge("n0", 0, "n1", 0), Edge("n0", 1, "n2", 0)], "")
    told = explain_step(graph, one_pass([Step("n0", [scalar(1.0)], [scalar(1.0), scalar(1.0)])]), 0)
    assert told.endswith("sends 1 to MulBackward0 (line 2) and 1 to MulBackward0 (line 1)")


def test_variable_bound_again_is_told_by_line_and_step() -> None:
    nodes = [Node(f"n{i}", "TanhBackward0", False, line=5, variable="h") for i in range(2)]
    graph = Graph("g0", [*nodes, leaf("n2", "x")], [Edge("n0", 0, "n1", 0), Edge("n1", 0, "n2", 0)], "")
    story = one_pass([Step("n0", [scalar(1.0)], [scalar(-0.5)]), Step("n1", [scalar(-0.5)], [scalar(0.25)])])
    assert explain_start(graph, story).endswith("starts at h (line 5, step 1) with gradient 1.")
    assert explain_step(graph, story, 0).endswith("sends -0.5 to h (line 5, step 2)")
    assert explain_step(graph, story, 1).endswith("sends 0.25 to x")


def test_hooked_node_says_that_its_gradient_may_be_changed() -> None:
    graph = Graph("g0", [Node("n0", "MulBackward0", False, hooked=True)], [], "")
    told = explain_step(graph, one_pass([Step("n0", [scalar(6.0)], [])]), 0)
    assert "receives 6 (after the program's own hook)" in told


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (138.83382, "138.8"),
        (0.30999, "0.31"),
        (-0.0, "0"),
        (12345.678, "1.235e+04"),
        (100000.0, "100000"),
        (1e-7, "1e-07"),
        (123456789, "123456789"),
        (True, "True"),
        ("nan", "nan"),
        ("-inf", "-inf"),
        (float("inf"), "inf"),
        ({"re": 1.5, "im": -2.0}, "1.5-2j"),
        ({"re": 0.0, "im": 1.0}, "0+1j"),
        ({"re": "nan", "im": "inf"}, "nan+infj"),
    ],
)
def test_numbers_have_four_significant_digits(number: object, text: str) -> None:
    assert format_number(number) == text


def test_summaries_are_told_whole_or_by_shape_and_norm() -> None:
    assert format_summary(None) == "None"
    assert format_summary(vector(2.0, 4.0, 6.0)) == "[2, 4, 6]"
    assert format_summary(Summary([2, 2], "torch.float32", [[1.0, 2.0], [3.0, "nan"]])) == "[[1, 2], [3, nan]]"
    assert format_summary(vector(*[1.0] * 16)) == "(16,), norm 4"
    assert format_summary(vector(*[1.0] * 15, "nan")) == "(16,), norm nan"
