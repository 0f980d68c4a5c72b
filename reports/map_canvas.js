// The map of a run: points in WebGL2, lasso, hover, legend, keyboard. What Python sends: see map_canvas.py.
const CSS = `
.map{font:14px/1.4 var(--st-font, system-ui, sans-serif);color:var(--st-text-color,#1e293b)}
.bar{display:flex;flex-wrap:wrap;gap:6px;align-items:center;margin:0 0 8px}
.bar span{margin-left:auto}
button{font:inherit;color:inherit;background:none;border:1px solid var(--st-border-color,#94a3b8);border-radius:6px;
  padding:3px 10px;cursor:pointer}
button[aria-pressed=true]{border-color:var(--st-primary-color,#1d4ed8);box-shadow:inset 0 0 0 1px var(--st-primary-color,#1d4ed8)}
.field{position:relative;height:min(62vh,620px);min-height:320px;border:1px solid var(--st-border-color,#94a3b8);border-radius:6px;
  overflow:hidden;touch-action:none}
canvas{position:absolute;inset:0;width:100%;height:100%}
canvas.top{cursor:crosshair}canvas.top.pan{cursor:grab}
canvas:focus-visible,button:focus-visible{outline:3px solid var(--st-primary-color,#1d4ed8);outline-offset:1px}
.tip{position:absolute;pointer-events:none;padding:2px 8px;border-radius:4px;max-width:60%;
  background:var(--st-text-color,#1e293b);color:var(--st-background-color,#fff)}
.legend{display:flex;flex-wrap:wrap;gap:6px;margin:8px 0 0;padding:0;list-style:none}
.legend button{padding:2px 9px;display:flex;gap:7px;align-items:center}
.legend i{width:11px;height:11px;border-radius:50%;flex:none}
.legend [aria-pressed=true]{border-color:var(--st-border-color,#94a3b8);box-shadow:none}
.legend [aria-pressed=false]{opacity:.45;text-decoration:line-through}
`;
const VERTEX = `#version 300 es
in vec2 place; in float kind;
uniform vec2 centre; uniform vec2 scale; uniform float size; uniform vec4 paint[16];
out vec4 colour;
void main() {
  int k = int(kind + 0.5);
  colour = paint[min(k, 15)];
  gl_Position = colour.a > 0.0 ? vec4((place - centre) * scale, 0.0, 1.0) : vec4(9.0, 9.0, 9.0, 1.0);
  gl_PointSize = size;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 colour; out vec4 shown;
void main() {
  vec2 d = gl_PointCoord - 0.5;
  if (dot(d, d) > 0.25) discard;
  shown = vec4(colour.rgb * colour.a, colour.a);
}`;
const CELLS = 256, FULL = 65535;

export default function (component) {
  const { parentElement, data, setStateValue } = component;
  const place = parentElement.querySelector(".place");
  const told = unpack(data);
  // One map for every visit of the page: software draws a million points in most of a second, and the picture of the
  // last visit is still right unless something is told anew.
  const map = (window.tamisMap ??= build());
  if (!map) {
    place.textContent = "This browser has no WebGL2: the picture below shows where rows are many.";
    setStateValue("no_webgl2", true);
    return;
  }
  map.set = setStateValue;
  if (map.stamp !== told.stamp) map.show(told);
  if (map.root.parentNode !== place) {
    map.polygon = told.polygon;
    place.replaceChildren(map.root);
    map.say();
    map.draw();
  }
  return () => { if (map.root.parentNode === place) map.root.remove(); };
}

function unpack(data) {
  const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const from = bytes.byteOffset + 4 + length, to = from + 4 * told.n;
  told.xy = from % 2 ? new Uint16Array(bytes.buffer.slice(from, to)) : new Uint16Array(bytes.buffer, from, 2 * told.n);
  told.kind = new Uint8Array(bytes.buffer, to, told.n);
  return told;
}

function build() {
  const make = (name, attributes = {}, text = "") => {
    const e = document.createElement(name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    e.textContent = text;
    return e;
  };
  const style = make("style", {}, CSS), bar = make("div", { class: "bar" }), field = make("div", { class: "field" });
  const below = make("canvas", { "aria-hidden": "true" });
  const top = make("canvas", { class: "top", tabindex: "0", role: "application", "aria-roledescription": "map" });
  const tip = make("div", { class: "tip", hidden: "" }), legend = make("ul", { class: "legend", "aria-label": "legend" });
  const status = make("span", { role: "status", "aria-live": "polite" });
  const gl = below.getContext("webgl2", { antialias: false, premultipliedAlpha: true, preserveDrawingBuffer: true });
  if (!gl) return null;
  field.append(below, top, tip);
  const root = make("div", { class: "map" });
  root.append(style, bar, field, legend);
  const pen = top.getContext("2d");
  const map = { root, say, draw, set: () => {}, stamp: null, told: null, hidden: new Set(), polygon: [] };
  const view = { x: 0.5, y: 0.5, zoom: 1 };
  let panning = false, queued = false, painted = "", program, buffers, cells;

  const button = (text, act, title) => {
    const b = make("button", { type: "button", title }, text);
    b.addEventListener("click", act);
    bar.append(b);
    return b;
  };
  const lasso = button("Lasso", () => mode(false), "Draw around rows");
  const pan = button("Move", () => mode(true), "Drag the map; Shift and drag does it too");
  button("+", () => zoom(1.5), "Closer (key +)");
  button("−", () => zoom(1 / 1.5), "Further (key −)");
  button("Whole map", reset, "Key 0");
  button("Select what is in view", () => choose(frame()), "Key a");
  button("Clear", () => choose([]), "Key Escape");
  bar.append(status);
  mode(false);

  function mode(move) {
    panning = move;
    lasso.setAttribute("aria-pressed", String(!move));
    pan.setAttribute("aria-pressed", String(move));
    top.classList.toggle("pan", move);
  }
  const unit = () => 0.95 * Math.min(field.clientWidth, field.clientHeight) * view.zoom;
  const toScreen = ([x, y]) => [
    field.clientWidth / 2 + (x / FULL - view.x) * unit(), field.clientHeight / 2 - (y / FULL - view.y) * unit()];
  const toData = (px, py) => [
    (view.x + (px - field.clientWidth / 2) / unit()) * FULL, (view.y - (py - field.clientHeight / 2) / unit()) * FULL];
  const frame = () => [[0, 0], [1, 0], [1, 1], [0, 1]].map(([a, b]) => toData(a * field.clientWidth, b * field.clientHeight));
  function reset() { Object.assign(view, { x: 0.5, y: 0.5, zoom: 1 }); draw(); }
  function zoom(by, at) {
    const [px, py] = at ?? [field.clientWidth / 2, field.clientHeight / 2];
    const before = toData(px, py);
    view.zoom = Math.min(400, Math.max(0.5, view.zoom * by));
    const after = toData(px, py);
    view.x += (before[0] - after[0]) / FULL;
    view.y += (before[1] - after[1]) / FULL;
    draw();
  }
  function choose(polygon) {
    map.polygon = polygon;
    map.set("polygon", polygon.map(([x, y]) => [Math.round(x), Math.round(y)]));
    say();
    draw();
  }
  function say() {
    status.textContent = `${map.told.n.toLocaleString("en")} rows` + (map.polygon.length ? ", a region is selected" : "");
  }

  function load() {
    const shader = (kind, text) => { const s = gl.createShader(kind); gl.shaderSource(s, text); gl.compileShader(s); return s; };
    program = gl.createProgram();
    gl.attachShader(program, shader(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, shader(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    buffers = [gl.createBuffer(), gl.createBuffer()];
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }
  // The first class is drawn over all others: its points come last, so that every point is drawn once.
  function ordered() {
    const { xy, kind, n } = map.told, kinds = new Uint8Array(n), places = new Uint32Array(n);
    const from = new Uint32Array(xy.byteOffset % 4 ? xy.slice().buffer : xy.buffer, xy.byteOffset % 4 ? 0 : xy.byteOffset, n);
    let at = 0, last = n - map.told.counts[0];
    for (let i = 0; i < n; i++) { const to = kind[i] ? at++ : last++; places[to] = from[i]; kinds[to] = kind[i]; }
    return [new Uint16Array(places.buffer), kinds];
  }
  function fill() {
    const [places, kinds] = ordered();
    gl.useProgram(program);
    [["place", places, 2, gl.UNSIGNED_SHORT, true], ["kind", kinds, 1, gl.UNSIGNED_BYTE, false]]
      .forEach(([name, values, width, type, normal], i) => {
        const at = gl.getAttribLocation(program, name);
        gl.bindBuffer(gl.ARRAY_BUFFER, buffers[i]);
        gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
        gl.enableVertexAttribArray(at);
        gl.vertexAttribPointer(at, width, type, normal, 0, 0);
      });
  }
  // Which points lie in which cell of a grid, so that hovering looks at a few points and not at a million.
  function index() {
    const { xy, n } = map.told, start = new Uint32Array(CELLS * CELLS + 1), points = new Uint32Array(n);
    const cell = (i) => (xy[2 * i + 1] >> 8) * CELLS + (xy[2 * i] >> 8);
    for (let i = 0; i < n; i++) start[cell(i) + 1]++;
    for (let c = 0; c < CELLS * CELLS; c++) start[c + 1] += start[c];
    const next = start.slice();
    for (let i = 0; i < n; i++) points[next[cell(i)]++] = i;
    cells = { start, points };
  }
  function nearest(px, py) {
    cells ?? index();
    const { xy, kind } = map.told, [x, y] = toData(px, py), reach = (9 / unit()) * FULL;
    const low = (v) => Math.max(0, Math.floor((v - reach) / 256)), high = (v) => Math.min(CELLS - 1, Math.floor((v + reach) / 256));
    let best = -1, least = reach * reach;
    for (let row = low(y); row <= high(y); row++)
      for (let k = cells.start[row * CELLS + low(x)]; k < cells.start[row * CELLS + high(x) + 1]; k++) {
        const i = cells.points[k], d = (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
        if (d < least && !map.hidden.has(kind[i])) { least = d; best = i; }
      }
    return best;
  }

  function draw() {
    if (queued || !map.told) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; paint(); });
  }
  function paint() {
    const ratio = window.devicePixelRatio || 1, w = field.clientWidth, h = field.clientHeight;
    if (!w || !h) return;  // not on the page now
    for (const c of [below, top])
      if (c.width !== Math.round(w * ratio) || c.height !== Math.round(h * ratio))
        [c.width, c.height] = [Math.round(w * ratio), Math.round(h * ratio)];
    outline(map.polygon.map(toScreen), true, ratio);
    const look = JSON.stringify([w, h, ratio, view, [...map.hidden], map.stamp]);
    if (look === painted) return;  // a lasso alone moves no point
    painted = look;
    const { n, colours } = map.told, dense = Math.log10(Math.max(n, 10));
    const size = Math.max(1.6, (11.5 - 1.6 * dense) * Math.min(3, view.zoom ** 0.35)) * ratio;
    const alpha = Math.min(0.9, Math.max(0.25, 1.35 - 0.15 * dense + 0.1 * Math.log2(view.zoom)));
    gl.viewport(0, 0, below.width, below.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const at = (name) => gl.getUniformLocation(program, name), paints = new Float32Array(64);
    colours.slice(0, 16).forEach((c, i) => {
      const rgb = [1, 3, 5].map((p) => parseInt(c.slice(p, p + 2), 16) / 255);
      paints.set([...rgb, map.hidden.has(i) ? 0 : alpha], 4 * i);
    });
    gl.uniform2f(at("centre"), view.x, view.y);
    gl.uniform2f(at("scale"), (2 * unit()) / w, (2 * unit()) / h);
    gl.uniform1f(at("size"), size);
    gl.uniform4fv(at("paint"), paints);
    gl.drawArrays(gl.POINTS, 0, n);
    root.dataset.drawn = map.stamp;
  }
  function outline(corners, closed, ratio = window.devicePixelRatio || 1) {
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, field.clientWidth, field.clientHeight);
    if (corners.length < 2) return;
    pen.beginPath();
    corners.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    if (closed) pen.closePath();
    const ink = getComputedStyle(root).color;
    pen.strokeStyle = pen.fillStyle = ink;
    pen.lineWidth = 2;
    pen.setLineDash([6, 4]);
    pen.stroke();
    pen.globalAlpha = 0.08;
    if (closed) pen.fill();
    pen.globalAlpha = 1;
  }

  const fingers = new Map();
  let trail = null, moved = 0, spread = 0;
  const where = (e) => { const r = field.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; };
  top.addEventListener("pointerdown", (e) => {
    top.focus({ preventScroll: true });
    top.setPointerCapture(e.pointerId);
    fingers.set(e.pointerId, where(e));
    trail = fingers.size > 1 || panning || e.shiftKey || e.button === 1 ? null : [where(e)];
    moved = 0;
    spread = 0;
  });
  top.addEventListener("pointermove", (e) => {
    const now = where(e), before = fingers.get(e.pointerId);
    if (!before) return hover(now);
    fingers.set(e.pointerId, now);
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (fingers.size > 1) {
      const [a, b] = [...fingers.values()], apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (spread) zoom(apart / spread, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
      spread = apart;
    } else if (trail) {
      trail.push(now);
      outline(trail, false);
    } else {
      view.x -= (now[0] - before[0]) / unit();
      view.y += (now[1] - before[1]) / unit();
      draw();
    }
  });
  for (const end of ["pointerup", "pointercancel"])
    top.addEventListener(end, (e) => {
      fingers.delete(e.pointerId);
      const drawn = trail;
      trail = null;
      if (end === "pointercancel") return draw();
      if (moved < 4) {
        const i = nearest(...where(e));
        if (i >= 0) map.set("point", i);
        return draw();
      }
      if (drawn && drawn.length > 2) {
        const every = Math.ceil(drawn.length / 120);
        choose(drawn.filter((_, i) => i % every === 0).map(([x, y]) => toData(x, y)));
      }
    });
  top.addEventListener("pointerleave", () => { tip.hidden = true; });
  function hover([px, py]) {
    const i = map.told ? nearest(px, py) : -1;
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.textContent = `${map.told.names[map.told.kind[i]]} · click for the row`;
    tip.style.left = `${Math.min(px + 12, field.clientWidth - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.max(2, py - 30)}px`;
  }
  // A map that takes every turn of the wheel cannot be scrolled past: it does so only once it has been clicked.
  top.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && root.getRootNode().activeElement !== top) return;
    e.preventDefault();
    zoom(Math.exp(-e.deltaY / 400), where(e));
  }, { passive: false });
  const step = (dx, dy) => { view.x += (dx * 0.1) / view.zoom; view.y += (dy * 0.1) / view.zoom; draw(); };
  const keys = {
    ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, 1), ArrowDown: () => step(0, -1),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: reset, a: () => choose(frame()), Escape: () => choose([]),
  };
  top.addEventListener("keydown", (e) => {
    if (!keys[e.key] || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    keys[e.key]();
  });
  below.addEventListener("webglcontextlost", (e) => e.preventDefault());
  below.addEventListener("webglcontextrestored", () => { load(); fill(); painted = ""; draw(); });
  const watcher = new ResizeObserver(draw);
  watcher.observe(field);
  load();

  map.show = (told) => {
    const [now, before] = [told.stamp, map.stamp ?? ""].map((stamp) => stamp.split("-")[0]);
    if (now !== before) Object.assign(view, { x: 0.5, y: 0.5, zoom: 1 });  // other rows; other colours move nothing
    Object.assign(map, { told, stamp: told.stamp, polygon: told.polygon });
    delete root.dataset.drawn;
    map.hidden.clear();
    cells = null;
    fill();
    top.setAttribute("aria-label", `Map of ${told.n} rows. Arrow keys move, + and - zoom, 0 shows the whole map, ` +
      "a selects what is in view, Escape clears the selection.");
    legend.replaceChildren(...told.names.map((name, i) => {
      const b = make("button", { type: "button", "aria-pressed": "true", title: "Show or hide" });
      const dot = make("i");
      dot.style.background = told.colours[i];
      b.append(dot, make("span", {}, `${name} ${told.counts[i].toLocaleString("en")}`));
      b.addEventListener("click", () => {
        const gone = !map.hidden.delete(i) && !!map.hidden.add(i);
        b.setAttribute("aria-pressed", String(!gone));
        draw();
      });
      const item = make("li");
      item.append(b);
      return item;
    }));
    say();
    draw();
  };
  return map;
}
