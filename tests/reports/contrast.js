// Every text that stands out too little from what is behind it (WCAG 2.2: 4.5, large letters 3), in shadow roots too.
// arguments[0]: how many of the roots to leave out; the first is the page's own.
const numbers = (colour) => {
  const found = colour.match(/[\d.]+/g).map(Number);
  return found.length > 3 ? found : [...found, 1];
};
const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
const above = (e) => e.parentElement ?? e.getRootNode().host;
const behind = (e) => {
  for (; e; e = above(e)) {
    const colour = numbers(getComputedStyle(e).backgroundColor);
    if (colour[3] > 0.99) return colour;
  }
  return [255, 255, 255, 1];
};
const UNSEEN = ["style", "title", "script", "option"];
const roots = [document.body], faint = [];
for (const e of document.querySelectorAll("*")) if (e.shadowRoot) roots.push(e.shadowRoot);
for (const root of roots.slice(arguments[0])) {
  const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode());) {
    const e = node.parentElement, box = e?.getBoundingClientRect();
    if (!e || !node.data.trim() || !box.width || !box.height || UNSEEN.includes(e.localName)) continue;
    const css = getComputedStyle(e), painted = e.ownerSVGElement ? css.fill : css.color;
    if (painted === "none") continue;  // the rim of a label: the letters are the text on it
    const ink = numbers(painted);
    const [low, high] = [luminance(ink), luminance(behind(e))].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05), size = parseFloat(css.fontSize);
    const enough = size >= 24 || (size >= 18.66 && css.fontWeight >= 700) ? 3 : 4.5;
    if (ink[3] > 0.99 && ratio < enough) faint.push(`${ratio.toFixed(2)}: ${node.data.slice(0, 40)}`);
  }
}
return faint;
