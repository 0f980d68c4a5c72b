"""Shows a section of the report inside the app: HTML in a shadow root, with the report's own style.

Streamlit's own `st.html` drops inline SVG, and its styles would leak into ours and ours into it. What is shown here is
escaped already (`html_parts`, `figures`); `section.js` keeps an allow-list of elements and attributes all the same.
A click on a mark that carries a key comes back as that key.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from tamis.reports import look

_SCRIPT = (Path(__file__).parent / "section.js").read_text(encoding="utf-8")
_component = st.components.v2.component("tamis_section", html='<div class="tamis"></div>', js=_SCRIPT)


def section(html: str, key: str, *, clickable: bool = False) -> str | None:
    """Show ready HTML.

    Args:
        html: made by `html_parts` or `figures`: every foreign text in it is escaped.
        key: a name that is unique on the page; without one Streamlit would take changed data for another widget.
        clickable: whether marks with a key can be picked.

    Returns:
        The key of the mark that was clicked in this very rerun, else None.
    """
    if not html:
        return None
    if not clickable:
        html = html.replace(" data-key=", " data-name=")
    data = {"html": html, "css": look.part_css(dark())}
    result = _component(key=f"section-{key}", data=data, on_picked_change=lambda: None)
    picked = getattr(result, "picked", None)
    return str(picked) if picked else None


def dark() -> bool:
    """Whether the reader sees the dark theme."""
    return getattr(st.context.theme, "type", None) == "dark"
