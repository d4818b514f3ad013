"""Optimizers: several of them race down one landscape."""

import streamlit as st

from explorer.ui import race
from explorer.ui.bench import lay_out_bench, offer_program, show_end
from explorer.ui.frame import stand_in_frame
from explorer.ui.pace import show_controls

stand_in_frame()
contest = race.get_contest()
drive, pictures, choices = lay_out_bench()

with drive:
    st.caption("Optimizers race from one start down one landscape. Click into the map for another start.")
    controls, said = st.container(), st.container()
with choices:
    race.choose_race(contest)

contest.follow()

with controls:
    show_controls(contest, key="race", begin=contest.begin if contest.race else None, verb="Race", unit="step")
with said:
    race.show_notes(contest)
with pictures:
    show_end(contest)
    race.show_pictures(contest)
with choices:
    offer_program(contest.race.program if contest.race else "", key="race")
