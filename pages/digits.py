"""Digits: a network learns to read handwriting, and every number in it is open."""

import streamlit as st

from explorer.ui import digits
from explorer.ui.bench import lay_out_bench, offer_program, show_end
from explorer.ui.frame import stand_in_frame
from explorer.ui.pace import show_controls

stand_in_frame()
lesson = digits.get_lesson()
drive, shown, choices = lay_out_bench()

with choices:
    digits.choose_network(lesson)

digits.set_up(lesson)

with drive:
    st.caption("A network learns to read handwritten digits. Move the learning rate while it trains.")
    show_controls(lesson, key="digits", begin=None if lesson.problem else lesson.begin)
    digits.show_rate(lesson)
    digits.show_notes(lesson)
with shown:
    show_end(lesson)
    digits.show_pictures(lesson)
    digits.show_runs(lesson)
with choices:
    offer_program(digits.read_program(lesson), key="digits")
