// Shows ready HTML in the shadow root. It is escaped in Python; the allow-lists here are a second wall.
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
    mark.addEventListener("click", pick);
    mark.addEventListener("keydown", (e) => {
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pick(); }
    });
  }
}
