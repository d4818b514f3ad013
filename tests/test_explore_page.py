"""The Explore page as Streamlit builds it: what it shows for each program, and that it takes text for text."""

import json
import time
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.examples import Example, list_examples
from explorer.ui.session import Session

EXAMPLES = list_examples()
HOSTILE = "<script>alert(1)</script> **bold** [link](http://127.0.0.1) :red[red] $x^2$ `code`"


class Page:
    """The page of one visitor: what a person does, and what they then see."""

    def __init__(self) -> None:
        self.test = AppTest.from_file("../app.py", default_timeout=30).run()
        self.count = 0
        self.check()

    def check(self) -> None:
        """No exception may have reached the page."""
        assert [element.value for element in self.test.exception] == []

    @property
    def session(self) -> Session:
        return self.test.session_state["session"]

    def submit(self, source: str) -> None:
        """Run in the editor, and wait for the end."""
        self.count += 1
        sent = {"source": source, "revision": self.component("editor")["revision"], "count": self.count}
        self.test.session_state["program"] = {"sent": sent}
        self.test.run()
        self.finish()

    def finish(self) -> None:
        """Wait for the end of the run, as the page does by itself in a browser."""
        self.check()
        end = time.monotonic() + 15
        while self.session.is_running:
            assert time.monotonic() < end
            time.sleep(0.05)
            self.test.run()
            self.check()

    def component(self, name: str) -> dict[str, Any]:
        """What the component of that name was given."""
        protos = [element.proto for element in self.test.get("bidi_component")]
        (found,) = [json.loads(proto.json) for proto in protos if proto.component_name == f"explorer.{name}"]
        return found

    @property
    def view(self) -> dict[str, Any]:
        """What the graph shows."""
        return self.component("graph")["view"]

    def table(self, column: str) -> Any:
        """The table with that column."""
        (found,) = [frame.value for frame in self.test.dataframe if column in frame.value.columns]
        return found

    def texts(self) -> list[str]:
        """Everything on the page that Streamlit renders as Markdown."""
        elements = [*self.test.markdown, *self.test.caption, *self.test.error, *self.test.warning, *self.test.info]
        widgets = [*self.test.button, *self.test.text_input, *self.test.toggle, *self.test.slider, *self.test.selectbox]
        return [element.value for element in elements] + [text for w in widgets for text in (w.label, w.help or "")]


@pytest.fixture(scope="module")
def shared_page() -> Page:
    """One visitor for tests that only look at what a program gives."""
    return Page()


def test_first_look_is_a_finished_example(shared_page: Page) -> None:
    page = Page()
    editor, view = page.component("editor"), page.view
    assert editor["source"] == EXAMPLES[0].source
    assert (editor["problem_line"], editor["running"]) == (None, False)
    assert [node["name"] for node in view["graph"]["nodes"]] == [
        "AddBackward0", "MulBackward0", "SigmoidBackward0", "AccumulateGrad",
    ]  # fmt: skip
    assert "SigmoidBackward0" in view["svg"]
    (one,) = view["passes"]
    assert len(one["steps"]) == len(one["sentences"]) == 4
    assert view["message"] is None
    assert "tensor(0.3150)" in [code.value for code in page.test.code]
    assert list(page.table("requires_grad")["name"]) == ["x", "y"]
    assert page.session.count == 1


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.id for example in EXAMPLES])
def test_every_example_can_be_chosen(shared_page: Page, example: Example) -> None:
    shared_page.test.selectbox(key="example").set_value(example.id).run()
    shared_page.finish()
    assert shared_page.component("editor")["source"] == example.source
    recording = shared_page.session.recording
    assert recording.program["source"] == example.source
    assert example.caption in [caption.value for caption in shared_page.test.caption]
    assert (recording.problem is None) == (example.group != "Instructive failures" or example.id == "nan_through_where")
    view = shared_page.view
    assert view["svg"].count("<g id=") > len(view["graph"]["nodes"])
    assert view["passes"] and view["passes"][0]["sentences"]


def test_typed_program_is_run_and_shown(shared_page: Page) -> None:
    source = "a = torch.tensor([1.0, 2.0], requires_grad=True)\nb = (a ** 2).sum()\nb.backward()\nprint('hello')\n"
    shared_page.submit(source)
    assert shared_page.session.recording.program == {"source": source, "device": "cpu", "seed": 0, "knobs": {}}
    assert [node["name"] for node in shared_page.view["graph"]["nodes"]] == [
        "SumBackward0", "PowBackward0", "AccumulateGrad",
    ]  # fmt: skip
    assert "hello" in [code.value for code in shared_page.test.code]
    assert dict(zip(*(shared_page.table("grad")[c] for c in ("name", "grad")), strict=True))["a"] == "[2, 4]"
    (row,) = shared_page.table("loss").to_dict("records")
    assert (row["pass"], row["line"], row["call"], row["loss"], row["steps"]) == (1, 3, "backward()", "5", "3")


def test_same_program_is_not_run_again_when_the_page_is_drawn_again(shared_page: Page) -> None:
    shared_page.submit("x = torch.tensor(1.0, requires_grad=True)\nx.exp().backward()\n")
    count = shared_page.session.count
    shared_page.test.run()
    for is_large in (True, False):
        shared_page.test.session_state["large"] = is_large
        shared_page.test.run()
        shared_page.check()
        assert shared_page.component("editor")["large"] is shared_page.view["large"] is is_large
    assert shared_page.session.count == count


def test_program_that_fails_keeps_its_text_and_says_what_to_do(shared_page: Page) -> None:
    source = "x = torch.tensor([1.0, 2.0], requires_grad=True)\ny = x * 2\ny.backward()\n"
    shared_page.submit(source)
    editor = shared_page.component("editor")
    assert editor["source"] == source
    assert editor["problem_line"] == 3
    message = "grad can be implicitly created only for scalar outputs"
    assert editor["problem_message"] == f"RuntimeError: {message}"
    assert message in [code.value for code in shared_page.test.code]
    assert any("RuntimeError" in text.value and "line 3" in text.value for text in shared_page.test.markdown)
    problem = shared_page.session.recording.problem
    assert {problem.explanation, f"What to do: {problem.hint}"} <= {text.value for text in shared_page.test.text}
    assert [node["name"] for node in shared_page.view["graph"]["nodes"]] == ["MulBackward0", "AccumulateGrad"]


def test_program_that_never_ends_is_shown_while_it_runs_and_can_be_stopped() -> None:
    page = Page()
    source = "print('begun')\nwhile True:\n    pass\n"
    sent = {"source": source, "revision": page.component("editor")["revision"], "count": 1}
    page.test.session_state["program"] = {"sent": sent}
    page.test.run()
    page.check()
    assert page.session.is_running and page.component("editor")["running"]
    (progress,) = page.test.get("progress")
    assert "of at most" in progress.proto.text
    page.test.session_state["program"] = {"sent": sent, "stop": 1}
    page.test.run()
    page.check()
    assert not page.session.is_running
    assert page.session.recording.problem.type == "Stopped"
    assert "begun" in [code.value for code in page.test.code]
    assert page.component("editor")["source"] == source
    assert not page.component("editor")["running"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "before it made a graph"),
        ("x = 1\n", "nothing was computed from a tensor that requires a gradient"),
        ("x = (1,\n", "before it made a graph"),
        ("import os\n", "before it made a graph"),
        ("raise ValueError('no')\n", "before it made a graph"),
    ],
)
def test_page_without_a_graph_says_why(shared_page: Page, source: str, said: str) -> None:
    shared_page.submit(source)
    assert said in shared_page.view["message"]
    assert shared_page.component("editor")["source"] == source


def test_program_without_backward_is_offered_one(shared_page: Page) -> None:
    shared_page.submit("x = torch.tensor(2.0, requires_grad=True)\ny = x ** 3")
    assert [node["name"] for node in shared_page.view["graph"]["nodes"]] == ["PowBackward0", "AccumulateGrad"]
    assert shared_page.view["passes"] == []
    assert not [field for field in shared_page.test.text_input if field.key == "gradient"]
    shared_page.test.button(key="run-backward").click().run()
    shared_page.finish()
    source = "x = torch.tensor(2.0, requires_grad=True)\ny = x ** 3\ny.backward()\n"
    assert shared_page.component("editor")["source"] == source
    assert len(shared_page.view["passes"][0]["steps"]) == 2
    assert not [button for button in shared_page.test.button if button.key == "run-backward"]


def test_gradient_of_a_vector_can_be_chosen(shared_page: Page) -> None:
    shared_page.submit("x = torch.tensor([1.0, 2.0], requires_grad=True)\ny = x ** 2\n")
    field = shared_page.test.text_input(key="gradient")
    assert field.value == "torch.ones_like(y)"
    field.set_value("torch.tensor([1.0, 10.0])").run()
    shared_page.test.button(key="run-backward").click().run()
    shared_page.finish()
    assert shared_page.session.recording.passes[0].gradient.values == [1.0, 10.0]
    assert shared_page.session.recording.variables[0].grad.values == [2.0, 40.0]


LOOP = """\
w = torch.tensor(1.0, requires_grad=True)
for step in range(8):
    loss = (w - 3) ** 2
    loss.backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
    w.grad = None
"""


def test_several_passes_have_a_slider_and_a_curve(shared_page: Page) -> None:
    shared_page.submit(LOOP)
    slider = shared_page.test.slider(key="pass")
    assert (slider.min, slider.max, slider.value) == (1, 8, 1)
    assert len(shared_page.table("loss")) == 8
    (curve,) = shared_page.component("plot")["streams"].values()
    losses = [one.loss for one in shared_page.session.recording.passes]
    assert (curve["x"], curve["y"]) == (list(range(1, 9)), losses)
    before = shared_page.view["id"]
    slider.set_value(5).run()
    shared_page.check()
    assert shared_page.session.shown_pass == 4
    assert shared_page.view["id"] != before
    losses = [one.loss for one in shared_page.session.recording.passes]
    assert [one["loss"] for one in shared_page.view["passes"]] == [losses[4]]
    # The next program starts at its first pass.
    shared_page.submit(LOOP.replace("8", "3"))
    assert shared_page.test.slider(key="pass").value == 1
    assert shared_page.session.shown_pass == 0


def test_pass_that_was_not_kept_in_full_is_run_again(shared_page: Page) -> None:
    shared_page.submit(LOOP.replace("8", "300"))
    recording = shared_page.session.recording
    light = next(one.index for one in recording.passes if not one.steps)
    shared_page.test.slider(key="pass").set_value(light + 1).run()
    shared_page.finish()
    again = shared_page.session.recording
    assert again is not recording
    assert [one.loss for one in again.passes] == [one.loss for one in recording.passes]
    assert again.passes[light].steps
    assert shared_page.view["passes"][0]["index"] == light
    assert shared_page.test.slider(key="pass").value == light + 1


def test_seed_changes_what_random_numbers_give(shared_page: Page) -> None:
    shared_page.submit("x = torch.rand(1, requires_grad=True)\nx.backward()\nprint(x.item())\n")
    printed = [shared_page.session.recording.stdout]
    for seed in (1, 0):
        shared_page.test.number_input(key="seed").set_value(seed).run()
        shared_page.finish()
        printed.append(shared_page.session.recording.stdout)
        assert shared_page.session.recording.program["seed"] == seed
    assert printed[0] == printed[2] != printed[1]


def test_devices_of_this_machine_can_be_chosen(shared_page: Page) -> None:
    device = shared_page.test.selectbox(key="device")
    assert device.options[0] == device.value == "cpu"
    for missing in ("cuda", "mps"):
        assert any(option.startswith(missing) for option in device.options) or f"{missing}: " in device.help


def test_large_graph_is_folded_and_says_so(shared_page: Page) -> None:
    shared_page.submit(
        "x = torch.tensor(1.0, requires_grad=True)\ny = x\nfor i in range(500):\n"
        "    y = torch.sin(y) + 0.1\ny.backward()\n"
    )
    view = shared_page.view
    assert view["message"].startswith("1,001 nodes, folded by ")
    assert len(view["graph"]["nodes"]) <= 70
    assert "<svg" in view["svg"]
    assert view["passes"][0]["sentences"]


# -- text stays text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        f"print({HOSTILE!r})\n",
        f"x = torch.tensor(1.0, requires_grad=True)\nprint({HOSTILE!r})\nx.backward()\nraise ValueError({HOSTILE!r})\n",
        f"text = {HOSTILE!r}\n",
        f"ws = {{{HOSTILE!r}: torch.ones(1, requires_grad=True)}}\nws[{HOSTILE!r}].sum().backward()\n",
        f"x = torch.ones(1, requires_grad=True)\ny = x * 2  # {HOSTILE}\n",
        f"'''{HOSTILE}'''\nx = torch.ones(1, requires_grad=True)\n(x * 2).backward()\n",
        "class Tag(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n"
        f"        ctx.note = {HOSTILE!r}\n        return x * 2\n    @staticmethod\n    def backward(ctx, g):\n"
        f"        raise ValueError({HOSTILE!r})\nx = torch.ones(1, requires_grad=True)\nTag.apply(x).backward()\n",
    ],
    ids=["printed", "message", "value", "name", "comment", "docstring", "function"],
)
def test_no_text_of_a_program_is_taken_for_markup(shared_page: Page, source: str) -> None:
    shared_page.submit(source)
    for text in shared_page.texts():
        assert "script" not in text and "alert" not in text and "**bold**" not in text, text
    svg = shared_page.view["svg"] or ""
    assert "<script" not in svg and "href" not in svg
    if "print" in source:
        assert HOSTILE in [code.value for code in shared_page.test.code]
    if "raise" in source:
        assert HOSTILE in [code.value for code in shared_page.test.code]


def test_name_of_a_leaf_is_escaped_in_the_picture(shared_page: Page) -> None:
    shared_page.submit("p = {'<b>&\"': torch.tensor(2.0, requires_grad=True)}\n(p['<b>&\"'] * 3).backward()\n")
    assert shared_page.view["graph"]["nodes"][-1]["variable"] == "p['<b>&\"']"
    assert "&lt;b&gt;&amp;" in shared_page.view["svg"]
    assert "<b>" not in shared_page.view["svg"]


@pytest.mark.parametrize(
    "source", ["_y_ = torch.ones(2, requires_grad=True) * 2\n", "class _E_(Exception): pass\nraise _E_\n"]
)
def test_underscores_of_a_name_are_no_emphasis(shared_page: Page, source: str) -> None:
    shared_page.submit(source)
    for text in shared_page.texts():
        assert "_y_" not in text and "_E_" not in text
