"""About: what stands between a program and this machine, and what a program may take."""

import streamlit as st

from explorer.ui import panels
from explorer.ui.frame import stand_in_frame
from explorer.ui.session import get_runner, get_walls

stand_in_frame()
runner = get_runner()

st.subheader("What happens to a program")
st.markdown(
    "Every program runs in a process of its own that is made for it and ends with it. It is checked first, then shut "
    "in, and what comes back is plain text. An endless loop, a huge tensor or a crash costs that one run."
)
panels.show_walls(get_walls(), shared=runner.limits.is_shared)

st.subheader("What a program may take")
st.caption("Whoever runs this server sets these in its environment.")
panels.show_limits(runner.limits)

st.subheader("Versions")
panels.show_versions()
