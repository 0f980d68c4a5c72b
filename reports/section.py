"""Shows a section of the report inside the app: HTML in a shadow root, with the report's own style.

Streamlit's own `st.html` drops inline SVG, and its styles would leak into ours and ours into it. What is shown here is
escaped already (`html_parts`, `figures`); the script below keeps an allow-list of elements and attributes all the same.
A click on a mark that carries a key comes back as that key.
"""

from __future__ import annotations

import streamlit as st

from tamis.reports import look

_SCRIPT = """
const TAGS = new Set(("b bdi br caption circle code dd del details div dl dt figcaption figure g h1 h2 h3 header hr " +
  "ins li line main p polyline polygon pre rect path section small span strong summary svg table tbody td text th " +
  "thead title tr ul ol").split(" "));
const BAD = /^(on|href$|src|action|formaction|xlink|style$|srcdoc|data$)/i;
function clean(node) {
  for (const child of [...node.children]) {
    if (!TAGS.has(child.localName)) { child.remove(); continue; }
    for (const a of [...child.attributes]) if (BAD.test(a.name)) child.removeAttribute(a.name);
    clean(child);
  }
}
export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".tamis");
  if (root.shown === data.html) return;
  root.shown = data.html;
  const parsed = new DOMParser().parseFromString(data.html, "text/html");
  clean(parsed.body);
  const style = document.createElement("style");
  style.textContent = data.css + "[data-key]{cursor:pointer}";
  root.replaceChildren(style, ...parsed.body.childNodes);
  for (const mark of root.querySelectorAll("[data-key]")) {
    const pick = () => setTriggerValue("picked", mark.dataset.key);
    mark.setAttribute("tabindex", "0");
    mark.setAttribute("role", "button");
    mark.closest("svg")?.setAttribute("role", "group");  // an image holds nothing that can be pressed
    mark.addEventListener("click", pick);
    mark.addEventListener("keydown", (e) => {
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pick(); }
    });
  }
}
"""

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
    data = {"html": html, "css": look.part_css()}
    result = _component(key=f"section-{key}", data=data, on_picked_change=lambda: None)
    picked = getattr(result, "picked", None)
    return str(picked) if picked else None
