"""What one visitor is doing: the program in the editor, the run that goes on, the last one that ended."""

import platform
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import streamlit as st

from explorer.confine import Limits
from explorer.examples import Example, list_examples
from explorer.program import Program
from explorer.recording import Recording
from explorer.runner import Run, Runner, RunnerError
from explorer.ui.views import Picture, choose_picture, view_nothing, view_picture

PATIENCE = 0.4
"""Seconds that a page waits for a run before it shows that one is going on."""


@st.cache_resource(show_spinner=False)
def get_runner() -> Runner:
    """The server's one Runner."""
    runner = Runner(Limits.from_environment())
    runner.warm_up()
    return runner


@st.cache_resource(show_spinner="Starting PyTorch")
def list_devices() -> dict[str, str]:
    """The devices that programs may be made on, and for those that this machine lacks, why.

    Raises RunnerError where no program could be run to find out; that is not remembered.
    """
    recording = get_runner().run(Program(_DEVICES_PROGRAM))
    if recording.status != "ok":
        raise RunnerError(f"the devices could not be listed: {recording.problem.message}")
    available = recording.stdout.split()
    missing = {}
    if not any(name.startswith("cuda") for name in available):
        missing["cuda"] = "no CUDA device, or a PyTorch built without CUDA"
    if "mps" not in available:
        is_mac = platform.system() == "Darwin"
        missing["mps"] = "no Metal device" if is_mac else "Metal (mps) exists on Apple computers only"
    return dict.fromkeys(available, "") | missing


_DEVICES_PROGRAM = """\
print("cpu")
for i in range(torch.cuda.device_count()):
    print(f"cuda:{i}")
if torch.backends.mps.is_available():
    print("mps")
"""


@st.cache_data(max_entries=256, show_spinner=False)
def lay_out(dot: str) -> str:
    """DOT text as SVG. Raises LayoutError where there is no picture; that is not remembered."""
    return get_runner().draw(dot)


@dataclass
class Session:
    """The state of the Explore page; one per browser session."""

    example: Example = field(default_factory=lambda: list_examples()[0])
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    revision: int = 0
    source: str = ""
    run: Run | None = None
    recording: Recording | None = None
    pictured: Recording | None = None
    run_count: int = 0
    shown_pass: int = 0
    asked: tuple = ()
    failure: str = ""
    show: dict[str, bool] = field(default_factory=lambda: {"saved": False, "attributes": False})

    @property
    def is_running(self) -> bool:
        """Whether a run goes on."""
        return self.run is not None

    def start(self, source: str, device: str, seed: int, *, full: Sequence[int] = ()) -> None:
        """End the run that goes on, if any, and start this one; a short one is over when this returns."""
        if self.run is not None:
            # What the other run recorded so far is not wanted any more.
            self.run.stop()
            self.run = None
        self.source = source
        self.failure = ""
        try:
            self.run = get_runner().start(Program(source, device, seed), full=full)
        except RunnerError as error:
            self.failure = str(error)
            return
        self.run.wait(PATIENCE)
        self.take()

    def take(self) -> bool:
        """Take over the Recording of a run that has ended; whether one has."""
        if self.run is None or not self.run.is_done:
            return False
        self.recording = self.run.recording()
        self.run_count += 1
        if self.recording.graphs or self.recording.problem is None:
            self.pictured = self.recording
        self.run = None
        return True

    def stop(self) -> None:
        """Stop the run that goes on and keep what it recorded."""
        if self.run is not None:
            self.run.stop()
            self.run.wait(1.5)
            self.take()
            self.run = None

    def replace_program(self, source: str) -> None:
        """Put another program into the editor."""
        self.source = source
        self.revision += 1

    def picture(self) -> Picture | None:
        """What there is to draw of the last Recording."""
        return choose_picture(self.pictured, self.shown_pass) if self.pictured else None

    def view(self, picture: Picture | None, *, large: bool) -> dict:
        """The view of the graph component, laid out."""
        run_id = f"{self.run_count}.{self.shown_pass}"
        if picture is None:
            return view_nothing(self._why_nothing(), run_id=run_id, show=self.show, large=large)
        svg, message, dot = None, "", picture.dot(**self.show)
        try:
            svg = lay_out(dot)
        except RunnerError as error:
            message = f"There is no picture: {error}."
        is_stale = self.pictured is not self.recording
        if svg is not None and is_stale:
            message = "From an earlier run: this program ended before it made a graph."
        source = self.pictured.program["source"]
        return view_picture(
            picture,
            svg,
            dot=dot,
            source=source,
            run_id=run_id,
            show=self.show,
            large=large,
            stale=is_stale,
            message=message or None,
        )

    def _why_nothing(self) -> str:
        if self.recording is None:
            return "The graph appears here when the program has run."
        if self.recording.status == "ok":
            return "This program makes no graph: no tensor requires a gradient. Try requires_grad=True."
        return "The program ended before it made a graph. The message beside it says why."


def get_session() -> Session:
    """The Session of this visitor."""
    if "session" not in st.session_state:
        st.session_state["session"] = Session()
    return st.session_state["session"]
