"""Which base was chosen, between what, and why."""

import streamlit as st

from tamis.reports import choose_parts, page_state
from tamis.reports.section import section
from tamis.reports.visible_text import visible

found = page_state.titled("Base model")
choosing = found.view.choosing
if choosing is None:
    page_state.nothing("No base was chosen in this run. The command that does, from the recipe:", found.view)
    st.code("tamis choose recipe.yaml", language="bash")
    st.stop()
section(choose_parts.choosing(choosing, titled=False), "choosing")
if choosing.recipe:
    st.caption("The recipe with this base filled in:")
    st.code(f"tamis run {visible(choosing.recipe, 500)} --run {page_state.quoted(found.run.path)}", language="bash")
