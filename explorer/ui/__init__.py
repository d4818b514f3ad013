"""The Streamlit side: the only package of the explorer that knows there is a browser."""

from importlib.resources import files
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer


def register_component(package: str, *scripts: str) -> "ComponentRenderer":
    """Register the html, css and scripts that lie in ``package`` as one component named after it.

    The scripts are joined in the given order into one module; the last one has the default export.
    """
    folder, name = files(package), package.rpartition(".")[2]
    return st.components.v2.component(
        f"explorer.{name}",
        html=(folder / f"{name}.html").read_text("utf-8"),
        css=(folder / f"{name}.css").read_text("utf-8"),
        js="\n".join((folder / script).read_text("utf-8") for script in scripts),
    )
