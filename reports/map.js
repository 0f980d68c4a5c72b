// The map of rows: up to millions of points in one WebGL2 draw call, without any library.
//
// data: bytes = uint32 length of the header, the header (JSON), padding to 4, then uint16 x,y pairs, then one uint8
// class per point. A lasso comes back as a polygon in the same coordinates (0 to 65535); Python says what lies inside.
const FULL = 65535;

const VERTEX = `#version 300 es
layout(location=0) in vec2 place;
layout(location=1) in float kind;
uniform vec2 scale, shift;
uniform float size;
uniform vec3 colours[32];
uniform float shown[32];
out vec4 colour;
void main() {
  int k = int(kind);
  vec2 p = place * scale + shift;
  gl_Position = shown[k] > 0.5 ? vec4(p, 0.0, 1.0) : vec4(2.0, 2.0, 0.0, 1.0);
  gl_PointSize = size;
  colour = vec4(colours[k], 0.75);
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 colour;
out vec4 pixel;
void main() {
  vec2 d = gl_PointCoord - 0.5;
  if (dot(d, d) > 0.25) discard;
  pixel = vec4(colour.rgb * colour.a, colour.a);
}`;

const STYLE = `
.map{position:relative;height:560px;border:1px solid var(--st-border-color,#8884);border-radius:6px;overflow:hidden;
  touch-action:none;user-select:none}
.map canvas{position:absolute;inset:0;width:100%;height:100%}
.map canvas:focus-visible{outline:3px solid var(--st-primary-color,#1d4ed8);outline-offset:-3px}
.tools{position:absolute;right:8px;top:8px;display:flex;gap:4px}
.tools button,.legend button{font:inherit;font-size:13px;color:var(--st-text-color);cursor:pointer;
  background:var(--st-background-color);border:1px solid var(--st-border-color,#8886);border-radius:5px;padding:3px 9px}
.tools button[aria-pressed=true]{border-color:var(--st-primary-color);color:var(--st-primary-color);font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:4px;margin-top:8px;font:13px var(--st-font,sans-serif)}
.legend button[aria-pressed=false]{opacity:.45;text-decoration:line-through}
.legend i{display:inline-block;width:10px;height:10px;border-radius:50%;margin-right:6px}
.tip{position:absolute;pointer-events:none;background:var(--st-background-color);color:var(--st-text-color);
  border:1px solid var(--st-border-color,#8886);border-radius:5px;padding:2px 8px;font:13px var(--st-font,sans-serif);
  white-space:nowrap;display:none}
.tools,.tip{z-index:2}`;

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// Points by cell of a grid, for finding the nearest one under the pointer.
function gridOf(xy, n) {
  const side = 256, shift = 8, starts = new Uint32Array(side * side + 1), order = new Uint32Array(n);
  const cell = (i) => (xy[2 * i + 1] >> shift) * side + (xy[2 * i] >> shift);
  for (let i = 0; i < n; i++) starts[cell(i) + 1]++;
  for (let c = 0; c < side * side; c++) starts[c + 1] += starts[c];
  const next = starts.slice();
  for (let i = 0; i < n; i++) order[next[cell(i)]++] = i;
  return { side, shift, starts, order };
}

class RowMap {
  constructor(root, send) {
    this.root = root;
    this.send = send;
    this.view = { x: FULL / 2, y: FULL / 2, zoom: 1 };
    this.lassoing = false;
    this.polygon = [];
    this.pointers = new Map();
    root.replaceChildren(element("style", {}, STYLE));
    this.box = element("div", { class: "map" });
    this.canvas = element("canvas", { tabindex: "0", role: "application",
      "aria-label": "Map of rows. Arrow keys move, plus and minus zoom, 0 shows all, L draws a lasso, Escape clears." });
    this.lines = element("canvas", { style: "pointer-events:none" });
    this.lines.style.pointerEvents = "none";
    this.tip = element("div", { class: "tip", role: "status" });
    const tools = element("div", { class: "tools" });
    this.lassoButton = element("button", { "aria-pressed": "false", title: "Draw around rows (or hold Shift)" }, "Lasso");
    this.lassoButton.onclick = () => this.toggleLasso();
    const clear = element("button", { title: "Forget the selection" }, "Clear");
    clear.onclick = () => this.select([]);
    const all = element("button", { title: "Show all rows" }, "Show all");
    all.onclick = () => this.home();
    tools.append(this.lassoButton, clear, all);
    this.box.append(this.canvas, this.lines, tools, this.tip);
    this.legend = element("div", { class: "legend" });
    root.append(this.box, this.legend);
    this.listen();
    this.begin();
    new ResizeObserver(() => this.resize()).observe(this.box);
  }

  begin() {
    const gl = this.canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true, alpha: true });
    this.gl = gl;
    if (!gl) { this.send("state", "without", true); return; }
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.at = Object.fromEntries(["scale", "shift", "size", "colours", "shown"].map(
      (name) => [name, gl.getUniformLocation(program, name)]));
    if (this.header) this.upload();
  }

  take(bytes) {
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const length = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    if (this.header && header.hash === this.header.hash) return;
    const moved = !this.header || header.places !== this.header.places;
    this.header = header;
    const start = Math.ceil((4 + length) / 4) * 4;
    this.xy = new Uint16Array(buffer, start, 2 * header.n);
    this.kinds = new Uint8Array(buffer, start + 4 * header.n, header.n);
    this.hidden = new Set();
    if (moved) { this.grid = null; this.polygon = header.polygon || []; }
    this.drawLegend();
    if (this.gl) this.upload();
  }

  upload() {
    const gl = this.gl;
    for (const [slot, data, size, type] of [[0, this.xy, 2, gl.UNSIGNED_SHORT], [1, this.kinds, 1, gl.UNSIGNED_BYTE]]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(slot);
      gl.vertexAttribPointer(slot, size, type, false, 0, 0);
    }
    const rgb = new Float32Array(96);
    this.header.colours.forEach((c, i) => [1, 3, 5].forEach((at, j) => { rgb[3 * i + j] = parseInt(c.slice(at, at + 2), 16) / 255; }));
    gl.uniform3fv(this.at.colours, rgb);
    this.resize();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1, { clientWidth: w, clientHeight: h } = this.box;
    for (const canvas of [this.canvas, this.lines]) { canvas.width = w * ratio; canvas.height = h * ratio; }
    this.width = w; this.height = h; this.ratio = ratio;
    this.draw();
  }

  // pixels for one unit of the data; the whole square fits at zoom 1
  unit() { return (0.94 * Math.min(this.width, this.height) / FULL) * this.view.zoom; }
  toScreen(x, y) { const u = this.unit(); return [this.width / 2 + (x - this.view.x) * u, this.height / 2 - (y - this.view.y) * u]; }
  toData(px, py) { const u = this.unit(); return [this.view.x + (px - this.width / 2) / u, this.view.y - (py - this.height / 2) / u]; }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.paint(); });
  }

  paint() {
    const gl = this.gl, u = this.unit();
    this.paintLines();
    if (!gl || !this.header || gl.isContextLost()) return;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const sx = (2 * u) / this.width, sy = (2 * u) / this.height;
    gl.uniform2f(this.at.scale, sx, sy);
    gl.uniform2f(this.at.shift, -this.view.x * sx, -this.view.y * sy);
    const size = Math.min(10, Math.max(1.5, 260 / Math.sqrt(this.header.n)) * Math.sqrt(this.view.zoom));
    gl.uniform1f(this.at.size, size * this.ratio);
    gl.uniform1fv(this.at.shown, Float32Array.from({ length: 32 }, (_, i) => (this.hidden.has(i) ? 0 : 1)));
    gl.drawArrays(gl.POINTS, 0, this.header.n);
    this.canvas.dataset.drawn = this.header.hash;
  }

  paintLines() {
    const pen = this.lines.getContext("2d");
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    if (this.polygon.length < 2) return;
    const colour = getComputedStyle(this.box).getPropertyValue("--st-primary-color") || "#1d4ed8";
    pen.beginPath();
    this.polygon.forEach(([x, y], i) => { const [px, py] = this.toScreen(x, y); i ? pen.lineTo(px, py) : pen.moveTo(px, py); });
    pen.closePath();
    pen.globalAlpha = 0.1; pen.fillStyle = colour; pen.fill();
    pen.globalAlpha = 1; pen.lineWidth = 2; pen.strokeStyle = colour; pen.stroke();
  }

  drawLegend() {
    this.legend.replaceChildren(...this.header.names.map((name, i) => {
      const button = element("button", { "aria-pressed": "true", title: "Show or hide" });
      const dot = element("i");
      dot.style.background = this.header.colours[i];
      button.append(dot, `${name} ${this.header.counts[i].toLocaleString("en")}`);
      button.onclick = () => {
        this.hidden.has(i) ? this.hidden.delete(i) : this.hidden.add(i);
        button.setAttribute("aria-pressed", String(!this.hidden.has(i)));
        this.draw();
      };
      return button;
    }));
  }

  listen() {
    const c = this.canvas;
    c.addEventListener("pointerdown", (e) => this.down(e));
    c.addEventListener("pointermove", (e) => this.move(e));
    for (const end of ["pointerup", "pointercancel"]) c.addEventListener(end, (e) => this.up(e));
    c.addEventListener("pointerleave", () => { this.tip.style.display = "none"; });
    c.addEventListener("wheel", (e) => { e.preventDefault(); this.zoomAt(e.offsetX, e.offsetY, Math.exp(-e.deltaY / 400)); }, { passive: false });
    c.addEventListener("keydown", (e) => this.key(e));
    c.addEventListener("webglcontextlost", (e) => e.preventDefault());
    c.addEventListener("webglcontextrestored", () => this.begin());
  }

  down(e) {
    this.canvas.setPointerCapture(e.pointerId);
    this.pointers.set(e.pointerId, [e.offsetX, e.offsetY]);
    this.start = [e.offsetX, e.offsetY];
    this.drawing = this.pointers.size === 1 && (this.lassoing || e.shiftKey);
    if (this.drawing) this.polygon = [this.toData(e.offsetX, e.offsetY)];
  }

  move(e) {
    const before = this.pointers.get(e.pointerId);
    if (!before) { this.hover(e.offsetX, e.offsetY); return; }
    const now = [e.offsetX, e.offsetY];
    if (this.drawing) {
      const [lx, ly] = this.toScreen(...this.polygon[this.polygon.length - 1]);
      if (Math.hypot(now[0] - lx, now[1] - ly) > 4) this.polygon.push(this.toData(...now));
    } else if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== e.pointerId)[1];
      const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
      const is = Math.hypot(now[0] - other[0], now[1] - other[1]);
      if (was > 0) this.zoomAt((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, is / was);
    } else {
      const u = this.unit();
      this.view.x -= (now[0] - before[0]) / u;
      this.view.y += (now[1] - before[1]) / u;
    }
    this.pointers.set(e.pointerId, now);
    this.draw();
  }

  up(e) {
    if (!this.pointers.delete(e.pointerId)) return;
    const still = Math.hypot(e.offsetX - this.start[0], e.offsetY - this.start[1]) < 4;
    if (this.drawing) { this.drawing = false; this.select(this.polygon.length > 2 ? this.polygon : []); }
    else if (still) { const i = this.nearest(e.offsetX, e.offsetY); if (i >= 0) this.send("trigger", "row", i); }
  }

  hover(px, py) {
    const i = this.nearest(px, py);
    this.tip.style.display = i < 0 ? "none" : "block";
    if (i < 0) return;
    this.tip.textContent = `${this.header.names[this.kinds[i]]} (click for the row)`;
    const right = px > this.width - 220;
    this.tip.style.left = `${right ? px - 12 : px + 12}px`;
    this.tip.style.transform = right ? "translateX(-100%)" : "";
    this.tip.style.top = `${Math.min(py + 12, this.height - 30)}px`;
  }

  // index of the visible point within 8 pixels, or -1
  nearest(px, py) {
    if (!this.header) return -1;
    this.grid = this.grid || gridOf(this.xy, this.header.n);
    const { side, shift, starts, order } = this.grid, [x, y] = this.toData(px, py), reach = 8 / this.unit();
    const clamp = (v) => Math.max(0, Math.min(side - 1, v >> shift));
    let best = -1, least = reach * reach;
    for (let row = clamp(y - reach); row <= clamp(y + reach); row++)
      for (let at = starts[row * side + clamp(x - reach)]; at < starts[row * side + clamp(x + reach) + 1]; at++) {
        const i = order[at], dx = this.xy[2 * i] - x, dy = this.xy[2 * i + 1] - y, d = dx * dx + dy * dy;
        if (d < least && !this.hidden.has(this.kinds[i])) { least = d; best = i; }
      }
    return best;
  }

  zoomAt(px, py, by) {
    const [x, y] = this.toData(px, py);
    this.view.zoom = Math.max(0.5, Math.min(400, this.view.zoom * by));
    const [nx, ny] = this.toData(px, py);
    this.view.x += x - nx; this.view.y += y - ny;
    this.draw();
  }

  home() { this.view = { x: FULL / 2, y: FULL / 2, zoom: 1 }; this.draw(); }

  toggleLasso() {
    this.lassoing = !this.lassoing;
    this.lassoButton.setAttribute("aria-pressed", String(this.lassoing));
    this.canvas.style.cursor = this.lassoing ? "crosshair" : "";
  }

  select(polygon) {
    // at most 200 corners: more add nothing that can be seen, and every corner costs a pass over the points
    const every = Math.max(1, Math.ceil(polygon.length / 200));
    this.polygon = polygon.filter((_, i) => i % every === 0).map(([x, y]) => [Math.round(x), Math.round(y)]);
    this.send("state", "polygon", this.polygon);
    this.draw();
  }

  key(e) {
    const step = 60 / this.unit();
    const does = {
      ArrowLeft: () => { this.view.x -= step; }, ArrowRight: () => { this.view.x += step; },
      ArrowUp: () => { this.view.y += step; }, ArrowDown: () => { this.view.y -= step; },
      "+": () => this.zoomAt(this.width / 2, this.height / 2, 1.3), "=": () => this.zoomAt(this.width / 2, this.height / 2, 1.3),
      "-": () => this.zoomAt(this.width / 2, this.height / 2, 1 / 1.3), 0: () => this.home(),
      l: () => this.toggleLasso(), L: () => this.toggleLasso(), Escape: () => this.select([]),
    }[e.key];
    if (!does || e.ctrlKey || e.metaKey) return;
    e.preventDefault();
    does();
    this.draw();
  }
}

export default function (component) {
  const { parentElement, data, setStateValue, setTriggerValue } = component;
  const root = parentElement.querySelector(".tamis-map");
  root.send = (how, name, value) => (how === "state" ? setStateValue : setTriggerValue)(name, value);
  root.map = root.map || new RowMap(root, (...what) => root.send(...what));
  root.map.take(data);
}
