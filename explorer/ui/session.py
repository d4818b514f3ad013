"""What one visitor is doing: the program in the editor, the run that goes on, the last one that ended."""

import platform
import secrets
from dataclasses import dataclass, field

import streamlit as st

from explorer.examples import Example, list_examples
from explorer.program import Program
from explorer.recording import Recording
from explorer.runner import RunnerError
from explorer.ui.training import Training, get_runner, list_knobs
from explorer.ui.views import Picture, choose_picture, view_nothing, view_picture


@st.cache_resource(show_spinner="Starting PyTorch")
def get_walls() -> dict[str, str]:
    """What stands between a program and this machine: "" for a wall that stands, else why it does not.

    Raises RunnerError where no worker process can be had; that is not remembered.
    """
    return get_runner().find_walls()


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
    limits = get_runner().limits
    if limits.is_shared and not limits.accelerators:
        open_ = [name for name in available if name != "cpu"]
        missing |= dict.fromkeys(open_, "not on a shared server: no walls stand around programs there")
        available = ["cpu"]
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


SHORT = 2_000
"""Of a run of fewer milliseconds there was nothing to watch; its graph is shown."""


@dataclass
class Session(Training):
    """The state of the Explore page; one per browser session."""

    example: Example = field(default_factory=lambda: list_examples()[0])
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    revision: int = 0
    source: str = ""
    pictured: Recording | None = None
    shown_pass: int = 0
    asked: tuple = ()
    looked: int = -1
    was_short: bool = False
    show: dict[str, bool] = field(default_factory=lambda: {"saved": False, "attributes": False})

    def begin(self, source: str, device: str, seed: int) -> None:
        """Run what is in the editor, with the knobs where the reader put them as long as they are its knobs."""
        known = list_knobs(source)
        before = self.list_knobs()
        # A knob whose number was typed anew says what its reader wants now.
        self.knobs = {
            name: value
            for name, value in self.knobs.items()
            if name in known and name in before and known[name].value == before[name].value
        }
        self.source = source
        self.shown_pass = 0
        st.session_state["pass"] = 1
        self.start(Program(source, device, seed, dict(self.knobs)))

    def restart(self) -> None:
        """Run the same program again, with the knobs as they are now."""
        program = self.program
        self.shown_pass = 0
        st.session_state["pass"] = 1
        self.start(Program(program.source, program.device, program.seed, dict(self.knobs)))

    def record_pass(self, index: int) -> None:
        """Run the same again, knobs moved where they were moved, and record this pass in full."""
        program, events = self.program, list(self.recording.knob_events) if self.recording else []
        knobs = dict(self.recording.program["knobs"]) if self.recording else dict(self.knobs)
        # One that was stopped would go on and on.
        until = self.history.passes if self.recording and self.recording.status == "limit" else None
        # It is not run to be watched.
        self.looked = self.count
        self.start(
            Program(program.source, program.device, program.seed, knobs), full=[index], replays=events, until=until
        )

    def take(self) -> bool:
        """Take over the Recording of a run that has ended, and picture it where there is something to see."""
        is_taken = super().take()
        self.was_short = is_taken and self.recording.timings.get("run_ms", 0.0) < SHORT
        if is_taken and (self.recording.graphs or self.recording.problem is None):
            self.pictured = self.recording
        return is_taken

    def replace_program(self, source: str) -> None:
        """Put another program into the editor."""
        self.source = source
        self.revision += 1

    def picture(self) -> Picture | None:
        """What there is to draw of the last Recording."""
        return choose_picture(self.pictured, self.shown_pass) if self.pictured else None

    def view(self, picture: Picture | None, *, large: bool) -> dict:
        """The view of the graph component, laid out."""
        run_id = f"{self.count}.{self.shown_pass}"
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
            return "This program makes no graph: nothing was computed from a tensor that requires a gradient."
        return "The program ended before it made a graph. The message beside it says why."


def get_session() -> Session:
    """The Session of this visitor."""
    if "session" not in st.session_state:
        st.session_state["session"] = Session()
    return st.session_state["session"]
