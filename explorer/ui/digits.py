"""The digits page: its choices, the curves of its network, what is inside of it, the paper to draw a digit on."""

import base64
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from html import escape
from typing import Any

import streamlit as st

from explorer import datasets, network_figures, pictures
from explorer.datasets import DataError
from explorer.handwriting import centre_digit, read_ink
from explorer.narrate import format_number
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
    write_program,
)
from explorer.program import Program
from explorer.runner import Run, RunnerError
from explorer.ui.canvas import draw_digit
from explorer.ui.graph import show_graph
from explorer.ui.pace import MOST_WHOLE, PacedTraining, choose_height, start_paced, tell_position
from explorer.ui.plot import show_plot
from explorer.ui.session import Session, list_devices
from explorer.ui.training import draw_curves, show_divergence, show_kept, show_knobs
from explorer.ui.visitors import await_sent, choose_beat, keep_beat

VIEWS = {
    "draw": "Draw a digit",
    "digits": "Test digits",
    "layers": "Layers",
    "weights": "Weights",
    "step": "One step",
}
NUMBERS = ("train_losses", "train_accuracies", "test_losses", "test_accuracies")
EVERY = {"numbers": 1.0, "layers": 1.0, "weights": 1.0, "digits": 4.0, "predict": 0.0}
"""Seconds after which a model in training is asked again; the answers take some hundredths of them."""

MOST_FILE = 8_000_000
"""Bytes of a file of weights that is taken."""

HEIGHT = 300

_NAMES = tuple(one.name for one in fields(Design) if one.name not in ("hidden", "learning_rate", "device"))
_LOOKED_AT = {"mlp": (200, 10_000), "cnn": (50, 1_000)}
"""Test digits for the histograms, and for the confusion matrix: of convolutions fewer, so that training goes on."""

_GUESS = "its guess"
_DATA_NAMES = {"mnist": "MNIST, 28 x 28", "digits": "8 x 8 digits of scikit-learn"}
_KIND_NAMES = {"mlp": "Layers", "cnn": "Convolutional"}


@dataclass
class Lesson(PacedTraining):
    """What one visitor does on the page: the design as it is set up, its run, and what its model was last asked."""

    design: Design | None = None
    problem: str = ""
    speed: str = "all"
    trained: Run | None = None
    wants: bool = True
    ratios: dict[str, Any] = field(default_factory=dict)
    answers: dict[tuple, tuple[float, Any, dict[str, Any]]] = field(default_factory=dict)
    said: str = ""
    file: bytes = b""
    loaded: str = ""
    step: Session = field(default_factory=Session)
    stepped: Program | None = None

    def start(self, program: Program, **options: Any) -> None:
        """Start a program whose model is kept for the page's questions; the one before it is given up."""
        before = self.trained
        if before is not None:
            before.release()
        super().start(program, hold=True, **options)
        self.trained, self.answers, self.ratios, self.file = self.run, {}, {}, b""

    def begin(self, is_held: bool = False) -> None:
        """Run the program of the design from its start."""
        if self.design is None:
            return
        self.design = self.asked = replace(self.design, learning_rate=self.rate)
        program = self.write()

        def start() -> Run | None:
            self.start(program, patience=0, looks_at_all=self.design.passes <= MOST_WHOLE // 8)
            return self.run

        self.knobs = {}
        self.pace = start_paced(start, self._rate, is_held=is_held)

    def write(self) -> Program:
        """The program of the design as it stands."""
        design = replace(self.design, learning_rate=self.rate)
        return Program(write_program(design), design.device, self.choices[_key("seed")])

    @property
    def rate(self) -> float:
        """The learning rate where the reader put it."""
        return self.knobs.get("learning_rate", self.design.learning_rate)

    def restart(self) -> None:
        """Begin anew with the learning rate as it now is."""
        self.wants = True

    @property
    def is_changed(self) -> bool:
        """Whether the controls describe another network than the one that was trained."""
        if self.asked is None or self.design is None:
            return False
        return replace(self.design, learning_rate=1.0) != replace(self.asked, learning_rate=1.0)

    @property
    def is_preset(self) -> bool:
        """Whether the controls still describe the network for class that was chosen, of whichever digits."""
        preset = PRESETS[self.choices[_key("preset")]].design
        return self.design is not None and preset == replace(
            self.design, data=preset.data, device=preset.device, learning_rate=self.rate
        )

    def look(self, kind: str, **what: Any) -> dict[str, Any]:
        """What the model of the last run says; the last answer while it is fresh, or while no other comes."""
        key = (kind, *sorted((name, str(value)) for name, value in what.items()))
        stamp = (self.count, self.history.passes if not self.is_running else None, self.loaded)
        asked, then, answer = self.answers.get(key, (0.0, None, {}))
        is_fresh = time.monotonic() - asked < EVERY[kind] if self.is_running else then == stamp
        if answer and is_fresh:
            return answer
        if self.trained is None:
            return {"problem": "There is no trained network yet: press Train."}
        if self.trained.is_waiting:
            return {"problem": "The run waits for its turn: others train on this server."}
        found = self.trained.ask({"kind": kind, **what}, seconds=2.0 if self.is_running else 8.0)
        if "problem" in found and answer and self.is_running:
            return answer
        if kind == "predict":
            # Of all that was drawn the last is enough.
            self.answers = {known: answer for known, answer in self.answers.items() if known[0] != kind}
        self.answers[key] = (time.monotonic(), stamp, found)
        return found

    def why_not(self, name: str, value: float) -> str:
        """Why the network cannot learn at this rate; "" where it can."""
        try:
            replace(self.design, **{name: value})
        except ValueError as error:
            return _sentence(error)
        return ""

    def make_step(self) -> None:
        """Record the first pass of the design in full, for the stepper."""
        program = self.write()
        if self.stepped != program:
            self.stepped = program
            self.step.start(program, full=[0], until=1, maps=True)


def get_lesson() -> Lesson:
    """The Lesson of this visitor."""
    if "lesson" not in st.session_state:
        name, preset = next(iter(PRESETS.items()))
        lesson = st.session_state["lesson"] = Lesson(choices={_key("preset"): name, _key("seed"): 0})
        lesson.choices |= _defaults(preset.design) | {_key("view"): "draw"}
        if not datasets.is_there():
            lesson.choices[_key("data")] = "digits"
        lesson.said = _tell_preset(name)
    return st.session_state["lesson"]


def _tell_preset(name: str) -> str:
    """What is to be seen in a network for class; its numbers are of MNIST."""
    return PRESETS[name].sentence if datasets.is_there() else f"On MNIST: {PRESETS[name].sentence}"


def _sentence(error: ValueError) -> str:
    return f"{str(error)[:1].upper()}{str(error)[1:]}."


def _key(name: str) -> str:
    return f"digits-{name}"


def _defaults(design: Design) -> dict[str, Any]:
    found = {_key(name): getattr(design, name) for name in _NAMES}
    return found | {_key("hidden"): ", ".join(map(str, design.hidden)), _key("device"): design.device}


# -- choices -------------------------------------------------------------------------------------------


def _take_preset(lesson: Lesson) -> None:
    preset = PRESETS[st.session_state[_key("preset")]]
    for key, value in _defaults(preset.design).items():
        lesson.put(key, value)
    if not datasets.is_there():
        lesson.put(_key("data"), "digits")
    lesson.said, lesson.knobs = (
        _tell_preset(st.session_state[_key("preset")]),
        {"learning_rate": preset.design.learning_rate},
    )
    lesson.wants = True


def choose_network(lesson: Lesson) -> None:
    """The digits, the network and how it learns."""

    def key(name: str) -> str:
        return lesson.held(_key(name))

    def number(place: Any, label: str, name: str, **options: Any) -> None:
        lesson.ask_number(place, label, _key(name), **options)

    st.selectbox(
        "Network for class",
        list(PRESETS),
        key=key("preset"),
        on_change=_take_preset,
        args=(lesson,),
        help="Sets every control below and trains at once.",
    )
    _choose_data(lesson)
    left, right = st.columns(2)
    left.selectbox(
        "Network", list(KINDS), key=key("kind"), format_func=_KIND_NAMES.__getitem__, help="What it is made of."
    )
    right.text_input(
        "Hidden units",
        key=key("hidden"),
        placeholder="none: softmax regression",
        help="Units of each hidden layer, as 400 or 100, 50. Empty: softmax regression.",
    )
    left.selectbox("Activation", list(ACTIVATIONS), key=key("activation"), help="What follows each hidden layer.")
    right.selectbox(
        "Initialisation", list(INITIALISATIONS), key=key("initialisation"), help="The weights before pass 1."
    )
    left.selectbox("Optimizer", list(OPTIMIZERS), key=key("optimizer"), help="What is done with the gradient.")
    number(right, "Batch size", "batch_size", step=50, help="Digits in a pass.")
    number(left, "Epochs", "epochs", step=1, help="How often the loop sees all digits.")
    number(right, "Digits to train", "train_size", step=1000, help="The first so many of the data.")
    with st.expander("More"):
        left, right = st.columns(2)
        number(
            left, "Dropout", "dropout", step=0.1, format="%.3g", help="Share of the hidden units left out in a pass."
        )
        number(right, "Weight decay", "weight_decay", step=0.001, format="%.4g", help="Pulls every weight to zero.")
        number(left, "Seed", "seed", step=1, help="The same seed trains the same network.")
        right.selectbox("Device", _list_devices(), key=key("device"), help="Where the network learns.")
        st.toggle(
            "Forget zero_grad",
            key=key("forget_zero_grad"),
            help="Leaves out the line that empties .grad: every backward() adds to what is there.",
        )
    lesson.remember()


def _list_devices() -> list[str]:
    """The devices that this machine has."""
    try:
        return [name for name, missing in list_devices().items() if not missing]
    except RunnerError:
        return ["cpu"]


def _choose_data(lesson: Lesson) -> None:
    is_there = datasets.is_there()
    st.selectbox(
        "Digits",
        list(DATA),
        key=lesson.held(_key("data")),
        format_func=lambda name: _DATA_NAMES[name] + ("" if name != "mnist" or is_there else ", not on this machine"),
        help="Real digits of many people's hands.",
    )
    if is_there:
        st.caption(f"{datasets.tell_source()}.")
        return
    st.info(
        "MNIST is not on this server, so the network learns from the 1,797 digits of 8 x 8 pixels that come with "
        "scikit-learn."
    )
    if st.button("Download MNIST (11.6 MB)", key=_key("download"), help="From its public mirrors; checked, kept."):
        bar = st.progress(0.0, text="Asking the mirrors")

        def tell(done: int, total: int) -> None:
            bar.progress(min(1.0, done / total), text=f"{done / 1e6:.1f} of {total / 1e6:.1f} MB")

        try:
            datasets.download(tell)
        except DataError as error:
            bar.empty()
            st.error(str(error))
        else:
            lesson.put(_key("data"), "mnist")
            lesson.wants = True
            st.rerun()


def set_up(lesson: Lesson) -> None:
    """Make the design of the controls; where there is none ``problem`` says why, and the last one stays."""
    chosen = {name: lesson.choices[_key(name)] for name in (*_NAMES, "device")}
    rate = lesson.knobs.get("learning_rate") or (lesson.design.learning_rate if lesson.design else 0.0)
    rate = rate or PRESETS[lesson.choices[_key("preset")]].design.learning_rate
    try:
        lesson.design = Design(**chosen, hidden=_read_hidden(lesson.choices[_key("hidden")]), learning_rate=rate)
        _check_data(lesson.design)
        lesson.problem = ""
    except ValueError as error:
        lesson.problem = _sentence(error)
    wants, lesson.wants = lesson.wants or lesson.misses_a_knob, False
    if wants and not lesson.problem:
        lesson.begin()


def _check_data(design: Design) -> None:
    """Raise ValueError where this server has not so many digits."""
    if design.data != "mnist":
        return
    if not datasets.is_there():
        raise ValueError("MNIST is not on this server: download it, or choose the 8 x 8 digits")
    count = datasets.count_train()
    if count and design.train_size > count:
        raise ValueError(f"this server has {count:,} digits to train, got {design.train_size:,}: choose fewer")


def _read_hidden(text: str) -> tuple[int, ...]:
    """The units of "400" or "100, 50". Raises ValueError for anything else."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"-?[0-9]{1,12}", part) for part in parts):
        raise ValueError(f"the hidden units are whole numbers such as 400 or 100, 50; got {text[:40]!r}")
    return tuple(map(int, parts))


def show_rate(lesson: Lesson) -> None:
    """The learning rate, which acts on the run that goes on."""
    show_knobs(lesson, restart=lesson.restart, names=["learning_rate"])
    if lesson.wants:
        st.rerun()


def show_notes(lesson: Lesson) -> None:
    """What the network is, what a preset shows, what is wrong with the controls."""
    if lesson.problem:
        st.error(lesson.problem)
    if lesson.refused:
        st.error(lesson.refused)
    if lesson.failure:
        st.error(lesson.failure)
    if lesson.said and lesson.is_preset:
        st.info(lesson.said)
    if lesson.design is not None:
        told = f"**{describe(lesson.design)}**, {count_parameters(lesson.design):,} parameters."
        st.caption(told + (" The controls have changed: press Train." if lesson.is_changed else ""))


def compare(lesson: Lesson) -> None:
    """Runs for class, side by side."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    name = row.selectbox("Compare", list(COMPARISONS), key=lesson.held(_key("compare")), help="Each is run and kept.")
    if row.button("Run all", key=_key("compare-run"), help="One run for each; their curves are drawn together."):
        seed, is_there = lesson.choices[_key("seed")], datasets.is_there()
        programs = []
        for label, design in COMPARISONS[name]:
            design = design if is_there else replace(design, data="digits")
            programs.append((label, Program(write_program(design), design.device, seed)))
        lesson.kept = []
        lesson.begin_comparison(programs)
        st.rerun()


# -- pictures ------------------------------------------------------------------------------------------


def show_pictures(lesson: Lesson) -> None:
    """The curves, then the view that was chosen, all live."""
    is_live = lesson.is_running or bool(lesson.swept)
    st.fragment(_show_curves, run_every=choose_beat() if is_live else None)(lesson)
    show_divergence(lesson)
    chosen = st.segmented_control(
        "Look inside",
        list(VIEWS),
        required=True,
        key=lesson.held(_key("view")),
        format_func=VIEWS.__getitem__,
        label_visibility="collapsed",
    )
    # A browser that lost the control for a moment tells that nothing is chosen.
    view = chosen or lesson.choices[_key("view")] or "draw"
    with st.container(key=_key("view-of")):
        if view == "draw":
            st.fragment(_show_paper, run_every=0.5 if lesson.is_running else None)(lesson)
        elif view == "step":
            _show_step(lesson)
        else:
            st.fragment(_SHOWN[view], run_every=1.0 if lesson.is_running else None)(lesson)


def _show_curves(lesson: Lesson) -> None:
    is_live = lesson.is_running or bool(lesson.swept)
    if is_live:
        keep_beat(_key("curves"))
    if lesson.take() or (lesson.swept and not lesson.advance_sweep()):
        st.rerun()
    with st.container(key="position"):
        share, text = tell_position(lesson)
        numbers = lesson.look("numbers", names=list(NUMBERS)).get("numbers", {})
        reached = numbers.get("test_accuracies")
        if reached:
            text += f". Test accuracy **{_percent(reached[-1])}** after epoch {len(reached)}"
        st.progress(share, text=text)
    left, right = st.columns([3, 2], gap="small")
    kept = sum(run.is_shown for run in lesson.kept) + len(lesson.swept)
    with left:
        draw_curves(lesson, key=_key("curves"), height=choose_height(HEIGHT) - 50 + 20 * kept)
    with right:
        show_plot(
            network_figures.plot_epochs(numbers, (lesson.asked or lesson.design).epochs),
            key=_key("epochs-plot"),
            testid="epochs-chart",
            height=choose_height(HEIGHT),
        )
    if is_live:
        await_sent()


def _explain(answer: Mapping[str, Any]) -> bool:
    """Say why there is nothing to show; whether that is so."""
    if "problem" in answer:
        st.info(answer["problem"])
    return "problem" in answer


def _image(address: str, told: str, width: str) -> str:
    return (
        f'<img src="{address}" alt="{escape(told)}" style="width:{width};max-width:100%;image-rendering:pixelated;'
        'border-radius:2px">'
    )


def _percent(share: Any, places: str = "1") -> str:
    """A share in percent; one that is not finite comes as a text."""
    return f"{share:.{places}%}" if isinstance(share, int | float) else str(share)


def _side(lesson: Lesson) -> int:
    return DATA[(lesson.asked or lesson.design).data][0]


def _show_paper(lesson: Lesson) -> None:
    """Paper on the left; what the network makes of the digit on the right."""
    paper, guess, inside = st.columns([5, 5, 5], gap="medium")
    with paper:
        ink = draw_digit(key=_key("ink"), height=choose_height(HEIGHT) - 20)
    side = _side(lesson)
    digit = centre_digit(read_ink(ink.pixels), side=side) if ink is not None else None
    answer: dict[str, Any] = {}
    if digit is not None:
        about = st.session_state.get(_key("about"), _GUESS)
        chosen = None if about == _GUESS else int(about)
        answer = lesson.look("predict", pixels=pictures.pack(digit, "<f4"), **{"class": chosen})
    with guess:
        # First of all that follows: it is what a reader who draws looks at.
        st.html(network_figures.write_probabilities(answer.get("probabilities", ()), choose_height(HEIGHT) - 20))
    with inside:
        st.selectbox(
            "Gradient of the score of",
            [_GUESS, *map(str, range(10))],
            key=_key("about"),
            help="The class whose score is differentiated with respect to every pixel.",
        )
    with paper, st.container(key=_key("said")):
        if digit is None:
            st.caption("Draw a digit: the network says what it reads, also while it trains.")
        elif not _explain(answer):
            share = _percent(answer["probabilities"][answer["predicted"]])
            st.markdown(f"It reads a **{int(answer['predicted'])}** (probability {share}).")
    with inside:
        if answer and "problem" not in answer:
            gradient = [[0.0] * side] * side
            if answer["gradient"] is not None:
                gradient = pictures.unpack(answer["gradient"], "<f4", (side, side))
            seen = pictures.write_address(pictures.paint_ink(digit * 255))
            st.html(
                '<div style="display:flex;gap:0.75rem;flex-wrap:wrap;font-size:0.8rem">'
                f"<figure style='margin:0;width:45%'>{_image(seen, 'the digit as the network sees it', '100%')}"
                f"<figcaption>what it sees, {side} x {side}</figcaption></figure>"
                f"<figure style='margin:0;width:45%'>"
                f"{_image(pictures.write_address(pictures.paint_signed(gradient)), 'gradient of every pixel', '100%')}"
                f"<figcaption>gradient of the score of {int(answer['class'])}: "
                "blue, more ink there raises it</figcaption></figure></div>"
                + "".join(_show_units(one) for one in answer["activations"][:-1])
            )
        else:
            st.caption("Here: the digit as the network sees it, the gradient of every pixel, the activations.")
    await_sent()


def _show_units(layer: Mapping[str, Any]) -> str:
    """The activations of a layer as a strip of squares."""
    values = [value if isinstance(value, int | float) else 0.0 for value in layer["values"]]
    address = pictures.write_address(pictures.tile_numbers(values, columns=50))
    count = layer["count"]
    told = f"{count:,} activations" + (f", the first {len(values)} of them" if len(values) < count else "")
    image = _image(address, "activations", "100%")
    return f"<div style='font-size:0.8rem;margin-top:0.5rem'>{escape(str(layer['layer']))}: {told}<br>{image}</div>"


def _show_test_digits(lesson: Lesson) -> None:
    """The confusion matrix, and test digits with what the network says, wrong ones first."""
    cell = st.session_state.get(_key("cell"))
    sample = _LOOKED_AT[lesson.asked.kind if lesson.asked else "mlp"][1]
    answer = lesson.look("digits", most=48, cell=cell, sample=sample)
    if _explain(answer):
        return
    left, right = st.columns([2, 3], gap="medium")
    with left:
        clicked = show_plot(
            network_figures.plot_confusion(answer["confusion"]),
            key=_key("confusion"),
            testid="confusion-chart",
            height=choose_height(HEIGHT) + 60,
        )
        if clicked is not None:
            st.session_state[_key("cell")] = [int(clicked.y), int(clicked.x)]
            st.rerun(scope="fragment")
    with right:
        row = st.container(horizontal=True, vertical_alignment="center")
        if cell:
            row.markdown(f"Digits that are a **{cell[0]}** and are read as a **{cell[1]}**")
            if row.button("All digits", key=_key("all-digits"), type="tertiary"):
                st.session_state[_key("cell")] = None
                st.rerun(scope="fragment")
        else:
            share = _percent(answer["accuracy"])
            row.markdown(f"**{share}** of {answer['count']:,} test digits are read right. Wrong ones first.")
        st.html(_tell_digits(answer))


def _tell_digits(answer: Mapping[str, Any]) -> str:
    if not answer["shown"]:
        return "<p>There are none.</p>"
    parts, side = [], answer["side"]
    for one in answer["shown"]:
        picture = pictures.paint_ink(pictures.unpack(one["pixels"], "u1", (side, side)))
        is_right = one["label"] == one["predicted"]
        told = _percent(one["probability"], "0")
        said = f"{one['label']} ✓ {told}" if is_right else f"{one['label']} read as {one['predicted']}, {told}"
        parts.append(
            f'<figure style="margin:0;width:4.2rem;font-size:0.7rem;line-height:1.2">'
            f"{_image(pictures.write_address(picture), said, '3.5rem')}"
            f"<figcaption>{'' if is_right else '✗ '}{escape(said)}</figcaption></figure>"
        )
    return f'<div data-testid="digits" style="display:flex;flex-wrap:wrap;gap:0.5rem">{"".join(parts)}</div>'


def _show_layers(lesson: Lesson) -> None:
    """Norms and ratios of every layer, and histograms of what is in it."""
    sample = _LOOKED_AT[lesson.asked.kind if lesson.asked else "mlp"][0]
    answer = lesson.look("layers", bins=40, sample=sample)
    if _explain(answer):
        return
    if answer.get("note"):
        st.caption(answer["note"])
    ratios = {one["name"]: one.get("update_ratio") for one in answer["layers"]}
    lesson.ratios |= {name: ratio for name, ratio in ratios.items() if ratio is not None}
    lines = [
        "| layer | parameters | norm of weights | norm of gradient | update / weights | dead units |",
        "|---|" + "---:|" * 5,
    ]
    for layer in answer["layers"]:
        dead = f"{layer['dead']:,} of {layer['units']:,}" if layer.get("dead") is not None else ""
        cells = [f"`{layer['name']}`", f"{layer['parameters']:,}"]
        cells += [_tell(layer.get(name)) for name in ("weight_norm", "grad_norm")]
        cells.append(_tell(lesson.ratios.get(layer["name"])))
        lines.append(f"| {' | '.join([*cells, dead])} |")
    st.markdown("\n".join(lines))
    show_plot(
        network_figures.plot_layers(answer["layers"]),
        key=_key("layers"),
        testid="layers-chart",
        height=choose_height(HEIGHT),
    )
    st.caption(
        "Update / weights is how far one step moves a layer, for its size: about 0.001 is usual. It is measured while "
        f"the network trains. A unit is dead where it is zero for all of {sample} test digits."
    )


def _tell(value: Any) -> str:
    return "" if value is None else format_number(value) if isinstance(value, int | float) else str(value)


def _show_weights(lesson: Lesson) -> None:
    """The weights of the first layer as pictures; the whole of them as a file."""
    answer = lesson.look("weights", most=96)
    if _explain(answer):
        return
    count, height, width = answer["shape"]
    values = pictures.unpack(answer["pixels"], "i1", (count, height, width))
    sheet = pictures.tile(pictures.paint_signed(values, 127.0), columns=16)
    st.markdown(
        f"Weights of `{answer['layer']}`: {count} of {answer['count']:,} units, each as a picture of its pixels. "
        f"Blue is positive, orange negative; the full colour is {format_number(answer['limit'])}."
    )
    image = _image(pictures.write_address(sheet), "weights of the first layer", "100%")
    st.html(f'<div data-testid="weights">{image}</div>')
    _offer_file(lesson)


def _offer_file(lesson: Lesson) -> None:
    """The weights as a safetensors file, to take along and to bring back."""
    left, right = st.columns(2, gap="medium")
    with left:
        if st.button(
            "Prepare a file of the weights", key=_key("save"), help="As safetensors; read it with safetensors.torch."
        ):
            answer = lesson.trained.ask({"kind": "save"}) if lesson.trained else {"problem": "Press Train first."}
            if not _explain(answer):
                lesson.file = base64.b64decode(answer["data"])
                if len(lesson.file) > MOST_FILE:
                    st.caption(f"Files of more than {MOST_FILE / 1e6:.0f} MB cannot be brought back here.")
        if lesson.file:
            st.download_button(
                f"Download weights.safetensors ({len(lesson.file) / 1e6:.1f} MB)",
                lesson.file,
                "weights.safetensors",
                key=_key("file"),
                on_click="ignore",
            )
    with right:
        brought = st.file_uploader(
            "Bring weights back",
            type=["safetensors"],
            key=_key("upload"),
            help="A file from here, for the same layers.",
        )
        if brought is not None and brought.file_id != st.session_state.get(_key("brought")):
            st.session_state[_key("brought")] = brought.file_id
            data = brought.getvalue()
            if len(data) > MOST_FILE:
                answer = {"problem": f"The file has {len(data):,} bytes; at most {MOST_FILE:,} are taken."}
            elif lesson.trained is None:
                answer = {"problem": "Train a network first; the weights go into it."}
            else:
                answer = lesson.trained.ask({"kind": "load", "data": base64.b64encode(data).decode()})
            lesson.loaded = brought.file_id if "problem" not in answer else ""
            st.session_state[_key("load")] = answer
        answer = st.session_state.get(_key("load"))
        if brought is not None and answer is not None and not _explain(answer):
            st.success(f"{answer['loaded']} tensors were loaded; every view shows them now.")


def _show_step(lesson: Lesson) -> None:
    """One training step of the real model in the stepper."""
    lesson.make_step()
    if lesson.step.is_running:
        st.fragment(_await_step, run_every=0.2)(lesson)
        return
    picture = lesson.step.picture()
    st.caption("The first pass of this program: one batch, every grad_fn. Step through its backward, or click a node.")
    is_large = st.session_state.get("large", False)
    shown = show_graph(
        lesson.step.view(picture, large=is_large), key=_key("graph"), height=640 if is_large else 520, pair=_key("none")
    )
    if shown.show != lesson.step.show:
        lesson.step.show = shown.show
        st.rerun()


def _await_step(lesson: Lesson) -> None:
    st.caption("The program runs to the end of its first pass.")
    if lesson.step.take():
        st.rerun()


_SHOWN = {"digits": _show_test_digits, "layers": _show_layers, "weights": _show_weights}


def read_program(lesson: Lesson) -> str:
    """The program of the controls as they stand."""
    return lesson.write().source if lesson.design is not None else ""


def show_runs(lesson: Lesson) -> None:
    """The runs that are kept, and those for class."""
    show_kept(lesson, key=_key("kept"))
    compare(lesson)
