"""The digits page as Streamlit builds it: what it trains, what it shows of it, and what it says to odd input."""

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from explorer import datasets
from explorer.network import COMPARISONS, PRESETS
from explorer.program import Program
from explorer.ui.canvas import SIDE
from explorer.ui.digits import VIEWS, Lesson
from explorer.ui.session import list_devices

SHORT = {"train_size": 200, "epochs": 1, "batch_size": 100, "hidden": "16"}


@pytest.fixture(autouse=True)
def no_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that never downloaded MNIST."""
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path))
    monkeypatch.delenv("EXPLORER_DATA", raising=False)


class Page:
    """The page of one visitor: what a person does, and what they then see."""

    def __init__(self, **controls: Any) -> None:
        self.test = AppTest.from_file("../app.py", default_timeout=60).run()
        self.test.switch_page("pages/digits.py").run()
        self.finish()
        for name, value in (SHORT | controls).items():
            self.test.session_state[f"digits-{name}"] = value
        self.press("digits-begin")

    @property
    def lesson(self) -> Lesson:
        return self.test.session_state["lesson"]

    @property
    def program(self) -> str:
        """The program that is shown."""
        (shown,) = [code.value for code in self.test.code if code.language == "python"]
        return shown

    @property
    def told(self) -> str:
        """Everything that is written on the page."""
        elements = [*self.test.markdown, *self.test.caption, *self.test.info, *self.test.error, *self.test.success]
        return "\n".join(element.value for element in elements)

    @property
    def errors(self) -> list[str]:
        return [error.value for error in self.test.error]

    def run(self) -> None:
        self.test.run()
        assert [element.value for element in self.test.exception] == []

    def finish(self) -> None:
        """Wait for the end of the run, as the page does by itself in a browser."""
        end = time.monotonic() + 60
        while self.lesson.is_running or self.lesson.swept or self.lesson.sweep or self.lesson.step.is_running:
            assert time.monotonic() < end
            time.sleep(0.05)
            self.run()

    def press(self, key: str) -> None:
        self.test.button(key=key).click()
        self.run()
        self.finish()

    def set(self, name: str, value: Any) -> None:
        self.test.session_state[f"digits-{name}"] = value
        self.run()

    def view(self, name: str) -> None:
        self.test.session_state["digits-view"] = name
        self.run()
        self.finish()


@pytest.fixture(scope="module")
def page() -> Page:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPLORER_CACHE", "/nowhere")
        patch.delenv("EXPLORER_DATA", raising=False)
        return Page()


def test_the_first_visit_trains_at_once() -> None:
    test = AppTest.from_file("../app.py", default_timeout=60).run()
    test.switch_page("pages/digits.py").run()
    assert test.session_state["lesson"].trained is not None
    assert not test.exception


def test_without_mnist_it_trains_on_the_small_digits_and_says_so(page: Page) -> None:
    assert "from explorer.datasets import digits" in page.program
    assert "MNIST is not on this server" in page.told
    assert page.test.button(key="digits-download")


def test_the_shown_program_is_the_one_that_ran(page: Page) -> None:
    assert page.lesson.program.source.rstrip() == page.program.rstrip()
    assert page.lesson.recording.status == "ok"
    assert page.lesson.history.passes == 2


def test_the_accuracy_that_is_told_is_the_program_s(page: Page) -> None:
    page.view("draw")
    printed = page.lesson.recording.stdout.split("test accuracy ")[1].strip()
    progress = page.test.get("progress")[0].proto.text
    assert f"Test accuracy **{printed}**" in progress


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_opens(page: Page, view: str) -> None:
    page.view(view)
    assert page.errors == []
    assert {
        "draw": "Draw a digit: the network says what it reads",
        "digits": "of 360 test digits are read right",
        "layers": "| `layer1` | 1,040 |",
        "weights": "16 of 16 units",
        "step": "one batch, every grad_fn",
    }[view] in page.told


def test_the_step_is_the_first_pass_of_the_real_model(page: Page) -> None:
    page.view("step")
    recording = page.lesson.step.recording
    assert len(recording.passes) == 1 and recording.passes[0].detail == "full"
    sent = [gradient for step in recording.passes[0].steps for gradient in step.grad_inputs if gradient]
    assert all(bool(gradient.map) is not gradient.is_whole for gradient in sent) and any(g.map for g in sent)
    assert {node.variable for node in recording.graphs[0].nodes if node.is_leaf} == {
        f"model.layer{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")
    }


def test_a_drawn_digit_is_read(page: Page) -> None:
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[10:46, 26:31] = 255
    ink = {"id": 1, "side": SIDE, "pixels": base64.b64encode(picture.tobytes()).decode()}
    page.test.session_state["digits-ink"] = {"ink": ink}
    page.view("draw")
    answer = next(answer for key, (_, _, answer) in page.lesson.answers.items() if key[0] == "predict")
    assert f"It reads a **{answer['predicted']}**" in page.told
    assert sum(answer["probabilities"]) == pytest.approx(1)
    page.test.session_state["digits-ink"] = None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("hidden", "0", "no units"),
        ("hidden", "1000000000", "hidden layer 1"),
        ("hidden", "four hundred", "whole numbers such as 400"),
        ("hidden", "-5", "hidden layer 1"),
        ("epochs", 0, "number of epochs"),
        ("dropout", 1.0, "dropout must be below 1"),
        ("weight_decay", -1.0, "weight decay"),
    ],
)
def test_a_bad_control_is_explained_and_the_last_network_stays(page: Page, name: str, value: Any, said: str) -> None:
    before, passes = page.test.session_state[f"digits-{name}"], page.lesson.history.passes
    program = page.program
    page.set(name, value)
    assert len(page.errors) == 1 and said in page.errors[0]
    assert page.program == program and page.lesson.history.passes == passes
    page.set(name, before)
    assert page.errors == []


def test_a_changed_control_asks_for_train(page: Page) -> None:
    page.set("hidden", "20")
    assert "The controls have changed: press Train" in page.told
    assert "nn.Linear(8 * 8, 20)" in page.program
    page.set("hidden", "16")
    assert "press Train." not in page.told


def test_a_batch_larger_than_the_data_is_all_of_it(page: Page) -> None:
    page.set("batch_size", 5_000)
    assert page.errors == [] and "batch_size = 200" in page.program
    page.set("batch_size", 100)


def test_a_moved_learning_rate_trains_again_and_is_written_into_the_program() -> None:
    page = Page()
    page.test.session_state["knob-learning_rate-number"] = 0.5
    number = page.test.number_input(key="knob-learning_rate-number")
    number.set_value(0.05)
    page.run()
    page.finish()
    assert "learning_rate = 0.05" in page.lesson.program.source
    assert page.lesson.history.passes == 2


def test_train_pressed_twice_trains_once_more_and_keeps_no_second_model() -> None:
    page = Page()
    first = page.lesson.trained
    page.press("digits-begin")
    page.press("digits-begin")
    assert page.lesson.trained is not first
    end = time.monotonic() + 5
    while first.is_held and time.monotonic() < end:
        time.sleep(0.05)
    assert not first.is_held and page.lesson.trained.is_held


def test_a_preset_sets_the_controls_and_says_what_is_to_be_seen() -> None:
    page = Page()
    name = "All weights start at zero"
    page.test.selectbox(key="digits-preset").select(name)
    page.run()
    page.finish()
    assert "nn.init.zeros_(layer.weight)" in page.program
    assert PRESETS[name].sentence in page.told
    assert abs(page.lesson.history.loss.y[-1] - 2.303) < 0.05


def test_a_comparison_keeps_each_of_its_runs_under_its_name() -> None:
    page = Page()
    name = "Initialisation: default / zeros"
    assert name in COMPARISONS
    page.test.session_state["digits-compare"] = name
    page.press("digits-compare-run")
    assert [run.name for run in page.lesson.kept] == [label for label, _ in COMPARISONS[name]]
    assert all(run.history.passes for run in page.lesson.kept)


def test_weights_come_back_from_their_file() -> None:
    page = Page()
    page.view("weights")
    page.press("digits-save")
    assert page.lesson.file[8:9] == b"{"
    file, before = page.lesson.file, page.lesson.look("digits", most=1, cell=None)
    page.test.session_state["digits-initialisation"] = "zeros"
    page.press("digits-begin")
    page.view("weights")
    assert page.lesson.look("digits", most=1, cell=None)["confusion"] != before["confusion"]
    page.test.file_uploader(key="digits-upload").upload("weights.safetensors", file, "application/octet-stream")
    page.run()
    assert "4 tensors were loaded" in page.told
    assert page.lesson.look("digits", most=1, cell=None)["confusion"] == before["confusion"]


@pytest.mark.parametrize(
    ("data", "said"), [(b"junk", "safetensors"), (b"x" * 8_000_001, "at most 8,000,000 are taken")]
)
def test_a_file_that_is_no_weights_is_explained(page: Page, data: bytes, said: str) -> None:
    page.view("weights")
    page.test.file_uploader(key="digits-upload").upload("weights.safetensors", data, "application/octet-stream")
    page.run()
    assert said in page.told


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page()
    monkeypatch.setattr(datasets, "MIRRORS", ("http://127.0.0.1:9/",))
    page.test.button(key="digits-download").click()
    page.run()
    assert len(page.errors) == 1 and "set EXPLORER_DATA" in page.errors[0]


def test_only_devices_that_are_there_can_be_chosen(page: Page) -> None:
    assert page.test.selectbox(key="digits-device").options[0] == "cpu"
    assert set(page.test.selectbox(key="digits-device").options) <= {
        name for name, why in list_devices().items() if not why
    }


@pytest.mark.parametrize("rate", [-1.0, 0.0])
def test_a_rate_at_which_nothing_can_learn_is_refused_and_the_old_one_stays(page: Page, rate: float) -> None:
    passes = page.lesson.history.passes
    page.test.number_input(key="knob-learning_rate-number").set_value(rate)
    page.run()
    page.run()
    assert any("learning rate must" in error for error in page.errors)
    assert page.test.number_input(key="knob-learning_rate-number").value == page.lesson.rate == 0.001
    assert page.lesson.history.passes == passes
    page.test.number_input(key="knob-learning_rate-number").set_value(0.002)
    page.run()
    page.finish()
    page.test.number_input(key="knob-learning_rate-number").set_value(0.001)
    page.run()
    page.finish()
    assert page.errors == []


def test_mnist_that_is_not_there_cannot_be_trained_on(page: Page) -> None:
    page.set("data", "mnist")
    assert any("MNIST is not on this server" in error for error in page.errors)
    assert page.test.button(key="digits-begin").disabled
    page.set("data", "digits")
    assert page.errors == [] and not page.test.button(key="digits-begin").disabled


def test_what_is_to_be_seen_is_told_of_mnist_and_of_no_other_network(page: Page) -> None:
    said, usual = "On MNIST: One hidden layer", next(iter(PRESETS.values())).design
    assert said not in page.told
    for name in SHORT:
        page.set(name, "400" if name == "hidden" else getattr(usual, name))
    assert said in page.told
    for name, value in SHORT.items():
        page.set(name, value)
    assert said not in page.told


def test_of_many_trainings_one_model_is_held() -> None:
    page = Page()
    page.set("epochs", 100)
    models = []
    for _ in range(4):
        page.test.button(key="digits-begin").click()
        page.run()
        models.append(page.lesson.trained)
    # One that is stopped before its first pass has no model yet.
    end = time.monotonic() + 20
    while not models[-1].history.passes and time.monotonic() < end:
        time.sleep(0.05)
    page.test.button(key="digits-stop").click()
    page.run()
    end = time.monotonic() + 10
    while sum(model.is_held for model in models) != 1 and time.monotonic() < end:
        time.sleep(0.05)
    assert [model.is_held for model in models] == [False, False, False, True]


def test_an_old_error_does_not_stand_over_a_newer_run() -> None:
    page = Page()
    source = page.lesson.program.source
    page.lesson.start(Program(source.replace("size=200", "size=10**6")))
    page.finish()
    page.run()
    assert any("size must be from 1" in code.value for code in page.test.code)
    page.press("digits-begin")
    assert not any("size must be from 1" in code.value for code in page.test.code)
