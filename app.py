"""Autograd Explorer: ``streamlit run app.py``."""

import streamlit as st

from explorer.ui.frame import show_frame

page = st.navigation([st.Page("pages/explore.py", title="Explore", default=True)], position="top")
show_frame(page.title)
page.run()
