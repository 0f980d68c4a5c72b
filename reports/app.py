"""The app: the pages of a run, over the same view-models as the HTML report.

tamis report RUN --serve
"""

from pathlib import Path

import streamlit as st

from tamis.reports import page_state

HERE = Path(__file__).parent
st.set_page_config(page_title="Tamis", page_icon="🥁", layout="wide")

# Pages are files: AppTest finds only those. The address of a page is the name of its file.
PAGES = {
    "overview": "Overview",
    "compare": "Compare",
    "examples": "Examples",
    "slices": "Slices",
    "curation": "Curation",
    "review": "Review",
    "diff": "Diff",
    "map": "Map",
    "choose": "Base model",
    "training": "Training",
    "monitor": "Monitor",
    "study": "Study",
    "runs": "Runs",
    "method": "Method",
}

page = st.navigation(
    [
        st.Page(HERE / "views" / f"{name}.py", title=title, url_path=name, default=name == "overview")
        for name, title in PAGES.items()
    ],
    expanded=True,  # else four of them hide behind "View 4 more"
)
# Streamlit leaves a third of a laptop's screen empty; tables with intervals need it.
st.html(
    "<style>.stMainBlockContainer{padding:2.6rem 2rem 4rem;max-width:1320px}"
    ".stMain h1{font-size:1.9rem;padding:.2rem 0 .6rem}.stMain h3{font-size:1.2rem;padding:.8rem 0 .2rem}</style>"
)
page_state.sidebar()
page.run()
