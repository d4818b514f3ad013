"""The frame around every page: title, projector switch, styles."""

import gc
from importlib.resources import files

# Streamlit and plotly import it when they first need it: two first visitors at once would find half of it.
import pandas  # noqa: F401
import streamlit as st
from streamlit.navigation.page import StreamlitPage

from explorer.runner import RunnerError
from explorer.ui.session import get_runner, get_walls


@st.cache_resource(show_spinner=False)
def _freeze_heap() -> None:
    """Streamlit collects garbage after every run; what is imported by now need not be looked at again."""
    gc.collect()
    gc.freeze()


def choose_page() -> StreamlitPage:
    """The navigation; returns the page to run."""
    root = files("explorer") / ".." / "pages"
    return st.navigation(
        [
            st.Page(root / "explore.py", title="Explore", default=True),
            st.Page(root / "linear_regression.py", title="Linear regression"),
            st.Page(root / "optimizers.py", title="Optimizers"),
            st.Page(root / "digits.py", title="Digits"),
            st.Page(root / "about.py", title="About"),
        ],
        position="top",
    )


def stand_in_frame() -> None:
    """Every page calls this first.

    Streamlit runs a file of a folder called pages by itself, without app.py, for a link that is the first ever
    opened on a server; once st.navigation was called it does not.
    """
    if not st.session_state.get("is_framed"):
        choose_page()
        st.rerun()


def show_frame(title: str) -> None:
    """Page configuration and what stands above every page."""
    st.session_state["is_framed"] = True
    st.set_page_config(
        page_title=f"{title} - Autograd Explorer", page_icon=str(files("explorer.ui") / "icon.png"), layout="wide"
    )
    _freeze_heap()
    st.html(files("explorer.ui") / "frame.css")
    name, switch = st.columns([6, 1], vertical_alignment="center")
    name.markdown("**Autograd Explorer** :gray[type PyTorch, see its graph, step its backward pass]")
    if switch.toggle("Large type", key="large", help="Bigger letters, for the projector."):
        st.html("<style>html { font-size: 125%; }</style>")


def stop_without_walls() -> None:
    """A server that cannot run programs as it was told to says why and shows nothing else."""
    try:
        limits = get_runner().limits
        missing = [f"{wall}: {why}" for wall, why in get_walls().items() if why]
    except (RunnerError, ValueError) as error:
        st.error(f"This server cannot start. {error}")
        st.stop()
    if limits.is_shared and missing:
        st.error(
            "This server was started as shared (EXPLORER_MODE=shared), and a shared server needs both Landlock and "
            f"seccomp around every program. Missing: {'; '.join(missing)}. Run it on Linux 5.13 or newer with "
            "libseccomp, or start it as local for one person.",
        )
        st.stop()


def show_foot() -> None:
    """Which walls stand, at the foot of every page."""
    missing = [wall for wall, why in get_walls().items() if why]
    said = f"without {' and '.join(missing)} (this system has none)" if missing else "with Landlock and seccomp"
    mode = get_runner().limits.mode
    st.caption(f"Programs run in processes of their own, {said}. Server: {mode}. The About page says more.")
