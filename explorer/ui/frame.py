"""The frame around every page: title, projector switch, styles."""

import gc
from importlib.resources import files

import streamlit as st


@st.cache_resource(show_spinner=False)
def _freeze_heap() -> None:
    """Streamlit collects garbage after every run; what is imported by now need not be looked at again."""
    gc.collect()
    gc.freeze()


def show_frame(title: str) -> None:
    """Page configuration and what stands above every page."""
    st.set_page_config(
        page_title=f"{title} - Autograd Explorer", page_icon=str(files("explorer.ui") / "icon.png"), layout="wide"
    )
    _freeze_heap()
    st.html(files("explorer.ui") / "frame.css")
    name, switch = st.columns([6, 1], vertical_alignment="center")
    name.markdown("**Autograd Explorer** :gray[type PyTorch, see its graph, step its backward pass]")
    if switch.toggle("Large type", key="large", help="Bigger letters, for the projector."):
        st.html("<style>html { font-size: 125%; }</style>")
