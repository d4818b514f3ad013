"""Linear regression: what the learning rate, the optimizer and the loss do to a line that learns."""

import streamlit as st

from explorer.ui import regression, training
from explorer.ui.bench import lay_out_bench, offer_program, show_end
from explorer.ui.frame import stand_in_frame
from explorer.ui.pace import show_controls

stand_in_frame()
study = regression.get_study()
drive, pictures, choices = lay_out_bench()

with drive:
    st.caption("A line `w * x + b` learns from points. Move the learning rate while it trains.")
    controls = st.container()
    below_rate = regression.choose_rate(study)
    said = st.container()
with choices:
    regression.choose_regression(study)

regression.set_up(study)
study.follow()

with controls:
    show_controls(study, key="linreg", begin=study.begin if study.regression else None)
with below_rate:
    sentence = regression.show_rates(study)
with said:
    st.caption(sentence)
    regression.show_notes(study)
with pictures:
    show_end(study)
    regression.show_pictures(study)
    training.show_kept(study, key="linreg-kept")
with choices:
    offer_program(regression.read_program(study), key="linreg")
