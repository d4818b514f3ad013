"""Autograd Explorer: ``streamlit run app.py``."""

from explorer.ui.frame import choose_page, show_foot, show_frame, stop_without_walls
from explorer.ui.visitors import await_sent

page = choose_page()
show_frame(page.title)
stop_without_walls()
page.run()
show_foot()
await_sent(is_page=True)
