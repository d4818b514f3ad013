"""Live plots: plotly figures of which the browser is sent only what is new; plotly.js is the installed one."""

import html
import math
import secrets
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import streamlit as st

OVERLAP = 5
"""A message repeats what changed in so many before it: the browser may skip some when it is busy."""

_FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "explorer.plot",
    html=(_FOLDER / "plot.html").read_text("utf-8"),
    css=(_FOLDER / "plot.css").read_text("utf-8"),
    js=(_FOLDER / "plot.js").read_text("utf-8"),
    # plotly puts its styles into the document's head, where a shadow root does not see them.
    isolate_styles=False,
)


@dataclass(frozen=True, slots=True)
class Click:
    """A point that was clicked: the number of its trace, where it lies, and its place in the trace."""

    trace: int
    x: Any
    y: Any
    point: Any


def show_plot(
    figure: Mapping[str, Any],
    *,
    key: str,
    streams: Mapping[int, tuple[Sequence[Any], Sequence[Any]]] | None = None,
    traces: Mapping[int, Mapping[str, Any]] | None = None,
    growing: Sequence[int] = (),
    marks: Sequence[tuple[float, str]] = (),
    height: int = 320,
    testid: str = "live-plot",
) -> Click | None:
    """Show ``figure`` ({"data", "layout"}), ``height`` pixels high; returns the point that was just clicked.

    ``streams`` are the whole x and y so far of the traces that grow, by the number of the trace: only their new ends
    are sent. ``traces`` are the attributes of a few small traces that change as a whole; of those in ``growing`` the
    x, y and z are streams too. ``marks`` are thin vertical lines at x with a short text. Zoom, camera and hidden traces
    outlive everything but another layout.uirevision.
    """
    columns = {number: dict(zip("xyz", each, strict=False)) for number, each in (streams or {}).items()}
    moved = {number: dict(trace) for number, trace in (traces or {}).items()}
    for number in growing:
        columns[number] = {name: moved[number].pop(name) for name in "xyz" if name in moved[number]}
    addresses = _serve_files()
    told = st.session_state.setdefault(f"{key}-told", _Told())
    told.tell(
        {"figure": told.write_figure(figure), "traces": _plain(moved), "marks": _plain_marks(marks)},
        {str(number): _plain(each) for number, each in columns.items()},
    )
    result = _mount(
        key=key,
        # Held from the first moment: what is below does not move when the scripts have come.
        height=height,
        data={"key": key, "height": height, "testid": testid, **addresses, **told.message},
        on_clicked_change=lambda: None,
        on_behind_change=told.forget,
    )
    clicked = result.get("clicked")
    # A run that is cut short by the next one leaves its triggers to it, though it may have answered them.
    if not clicked or clicked["id"] == told.clicked:
        return None
    told.clicked = clicked["id"]
    return Click(clicked["trace"], clicked["x"], clicked["y"], clicked["point"])


@st.cache_resource(show_spinner=False)
def _serve_files() -> dict[str, str]:
    """Have Streamlit serve chart.js and plotly's own script from where they are installed; their addresses."""
    scripts = {"chart": _FOLDER / "chart.js"}
    found = find_spec("plotly")
    if found is not None and found.submodule_search_locations:
        scripts["plotly"] = Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    if "plotly" not in scripts or not scripts["plotly"].is_file():
        raise FileNotFoundError("plotly.min.js is not in the installed plotly: pip install --force-reinstall plotly")
    addresses = {}
    for name, script in scripts.items():
        # A component of the first kind is a folder that Streamlit serves; nothing of it is mounted.
        folder = st.components.v1.declare_component(name, path=script.parent)
        tag = version("plotly") if name == "plotly" else f"{script.stat().st_mtime:.0f}"
        addresses[name] = f"component/{folder.name}/{script.name}?v={tag}"
    return addresses


@dataclass
class _Stream:
    """One growing trace as last told, and from which point on it changed at each of the last versions."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    changes: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=OVERLAP))


@dataclass
class _Told:
    """What the browser was told of one plot, in versions; a message tells what changed in the last few of them."""

    token: str = ""
    version: int = 0
    clicked: float | None = None
    written: tuple[Mapping[str, Any], dict[str, Any]] | None = None
    parts: dict[str, tuple[int, Any]] = field(default_factory=dict)
    streams: dict[str, _Stream] = field(default_factory=dict)
    message: dict[str, Any] = field(default_factory=dict)

    def write_figure(self, figure: Mapping[str, Any]) -> dict[str, Any]:
        """The figure as JSON, written once for one that stays the same object: live parts draw ten times a second."""
        if self.written is None or self.written[0] is not figure:
            self.written = figure, _plain_figure(figure)
        return self.written[1]

    def forget(self) -> None:
        """Tell everything again: the browser lacks too much."""
        self.token, self.version = "", 0
        self.parts.clear()
        self.streams.clear()

    def tell(self, parts: dict[str, Any], streams: dict[str, dict[str, list[Any]]]) -> None:
        """Make the message that brings the browser from any of the last versions to these parts and streams."""
        self.token = self.token or secrets.token_hex(4)
        following = self.version + 1
        changed = {name for name, part in parts.items() if name not in self.parts or self.parts[name][1] != part}
        self.parts |= {name: (following, parts[name]) for name in changed}
        is_new = bool(changed) or self.streams.keys() != streams.keys()
        self.streams = {number: self.streams.get(number) or _Stream() for number in streams}
        for number, columns in streams.items():
            stream = self.streams[number]
            shared = min((_count_shared(stream.columns.get(name, []), new) for name, new in columns.items()), default=0)
            longest = max(map(len, (*stream.columns.values(), *columns.values())), default=0)
            if shared < longest or not stream.changes:
                stream.columns = columns
                stream.changes.append((following, shared))
                is_new = True
        if is_new:
            self.version = following
            self.message = self._write_message()

    def _write_message(self) -> dict[str, Any]:
        base = max(0, self.version - OVERLAP)
        tails = {}
        for number, stream in self.streams.items():
            starts = [start for version, start in stream.changes if version > base]
            if starts:
                start = min(starts)
                tails[number] = {"from": start, **{name: each[start:] for name, each in stream.columns.items()}}
        return {
            "token": self.token,
            "version": self.version,
            "base": base,
            "growing": list(self.streams),
            "streams": tails,
            **{name: part for name, (version, part) in self.parts.items() if version > base},
        }


def _count_shared(old: list[Any], new: list[Any]) -> int:
    """How many numbers two lists share from their start."""
    count = min(len(old), len(new))
    if old[:count] == new[:count]:
        return count
    return bisect_left(range(count + 1), True, key=lambda length: old[:length] != new[:length]) - 1


def _plain_figure(figure: Mapping[str, Any]) -> dict[str, Any]:
    """The figure as JSON; plotly reads markup in the names of traces, and a program chose those."""
    data = [
        {**trace, "name": html.escape(str(trace["name"]), quote=False)} if trace.get("name") else trace
        for trace in _plain(figure.get("data", ()))
    ]
    layout = {name: part for name, part in _plain(figure.get("layout", {})).items() if name != "template"}
    return {"data": data, "layout": layout}


def _plain_marks(marks: Sequence[tuple[float, str]]) -> list[list[Any]]:
    return [[x, html.escape(text, quote=False)] for x, text in marks]


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and dicts that JSON can hold; what is not finite is None: a gap."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        if all(type(part) is int or (type(part) is float and math.isfinite(part)) for part in value):
            return list(value)
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Arrays and their numbers know their plain form.
    return _plain(value.tolist()) if hasattr(value, "tolist") else value
