"""How few rows are enough: the curve, the recommended size, the sentences."""

import streamlit as st

from tamis.reports import page_state, study_html
from tamis.reports.section import section

found = page_state.titled("Study")
view = found.view
if not view.studies:
    page_state.nothing("No study has been made of this run yet. These make one, the first within minutes:", view)
    st.code("tamis study RECIPE --proxy\ntamis study RECIPE", language="bash")
    st.stop()
names = [study.judged_by for study in view.studies]
chosen = names[0]
if len(names) > 1:
    asked = st.segmented_control("Judged by", names, default=names[0], key="judged", bind="query-params", required=True)
    chosen = asked or names[0]
study = next(s for s in view.studies if s.judged_by == chosen)
section(study_html.study(study), f"study-{names.index(chosen)}")
