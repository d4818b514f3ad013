// Picture: the SVG that Graphviz made, cleaned; zoom and pan; one state per node and gradient edge.

const SVG = "http://www.w3.org/2000/svg";
const TAGS = new Set(["svg", "g", "path", "polygon", "polyline", "ellipse", "text", "tspan"]);
const ATTRIBUTES = new Set("id class d points x y cx cy rx ry transform text-anchor font-size font-weight stroke-dasharray".split(" "));
const LARGEST = 1.4;
const SMALLEST_TEXT = 9;
const MARGIN = 10;
const BADGE_HEIGHT = 13;

function draw(tag, attributes, text) {
  const drawn = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) drawn.setAttribute(name, value);
  if (text !== undefined) drawn.textContent = text;
  return drawn;
}

// Only shapes, text and their geometry stay: no script, link, style, image or colour of the SVG's own.
function readSvg(text) {
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  if (parsed.localName !== "svg") return null;
  for (const element of [...parsed.querySelectorAll("*")]) {
    if (element.localName === "a") element.replaceWith(...element.childNodes);
    else if (!TAGS.has(element.localName)) element.remove();
  }
  for (const element of [parsed, ...parsed.querySelectorAll("*")]) {
    for (const { name } of [...element.attributes]) if (!ATTRIBUTES.has(name)) element.removeAttribute(name);
  }
  return document.adoptNode(parsed);
}

// Graphviz writes absolute coordinates, so the numbers of a shape are its corners.
function boxOf(group) {
  const shape = group.querySelector("polygon, path, ellipse");
  if (!shape) return null;
  const read = (name) => Number(shape.getAttribute(name));
  if (shape.localName === "ellipse") return { x: read("cx") - read("rx"), y: read("cy") - read("ry"), width: 2 * read("rx"), height: 2 * read("ry") };
  const numbers = (shape.getAttribute("points") ?? shape.getAttribute("d")).match(/-?\d+(\.\d+)?(e-?\d+)?/g).map(Number);
  const xs = numbers.filter((_, index) => index % 2 === 0);
  const ys = numbers.filter((_, index) => index % 2 === 1);
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  return { x, y, width: Math.max(...xs) - x, height: Math.max(...ys) - y };
}

function makeBadge(kind) {
  const badge = draw("g", { class: `badge ${kind}` });
  badge.append(draw("rect", { height: BADGE_HEIGHT, rx: 4 }), draw("text", { "text-anchor": "middle", "font-size": 9 }));
  return badge;
}

function writeBadge(badge, text, x, y, centred) {
  const [box, words] = badge.children;
  const width = text.length * 5.6 + 8;
  const left = centred ? x - width / 2 : x;
  box.setAttribute("width", width);
  box.setAttribute("x", left);
  box.setAttribute("y", y - BADGE_HEIGHT / 2);
  words.setAttribute("x", left + width / 2);
  words.setAttribute("y", y + 3);
  words.textContent = text;
  badge.toggleAttribute("data-empty", !text);
}

class Picture {
  constructor(container, onSelect) {
    this.container = container;
    this.pointers = new Map();
    this.clear();
    this.listen(onSelect);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(container);
  }

  clear() {
    Object.assign(this, { svg: null, view: null, isTouched: false, nodes: new Map(), edges: new Map(), leaves: new Map(), bounds: null, root: null });
    this.container.replaceChildren();
  }

  load(text, graph, view) {
    this.clear();
    this.svg = readSvg(text);
    if (!this.svg) return;
    const layer = this.svg.querySelector("g.graph") ?? this.svg;
    const [shiftX, shiftY] = (/translate\(([-\d.]+)[ ,]+([-\d.]+)\)/.exec(layer.getAttribute("transform")) ?? [0, 0, 0]).slice(1).map(Number);
    // Graphviz scales a drawing to its `size`; ours is scaled by the reader, so only the shift stays.
    layer.setAttribute("transform", `translate(${shiftX} ${shiftY})`);
    const shifted = (box) => box && { ...box, x: box.x + shiftX, y: box.y + shiftY };
    const groups = new Map([...layer.querySelectorAll("g[id]")].map((group) => [group.id, group]));
    this.ring = draw("rect", { class: "ring", rx: 5 });
    layer.prepend(this.ring);
    const boxes = [];
    for (const [id, group] of groups) if (group.classList.contains("node")) boxes.push(shifted(boxOf(group)));
    for (const node of graph.nodes) {
      const group = groups.get(node.id);
      if (!group) continue;
      group.dataset.nodeId = node.id;
      const box = boxOf(group);
      const badge = makeBadge("order");
      group.append(badge);
      this.nodes.set(node.id, { group, badge, box, place: shifted(box) });
      const leaf = node.is_leaf && (groups.get(`${node.id}.variable`) ?? group);
      if (leaf) {
        const grad = makeBadge("grad");
        leaf.append(grad);
        this.leaves.set(node.id, { badge: grad, box: boxOf(leaf) });
      }
      for (const [own, part] of groups) if (own === node.id || own.startsWith(`${node.id}.`)) part.dataset.selects = node.id;
    }
    for (const edge of graph.edges) {
      const group = groups.get(edge.id);
      const path = group?.querySelector("path");
      if (path) this.edges.set(edge.id, this.prepareEdge(group, path, edge.id));
    }
    const found = boxes.filter(Boolean);
    const left = Math.min(...found.map((box) => box.x));
    const top = Math.min(...found.map((box) => box.y)) - BADGE_HEIGHT / 2;
    this.bounds = { x: left, y: top, width: Math.max(...found.map((box) => box.x + box.width)) - left, height: Math.max(...found.map((box) => box.y + box.height)) - top };
    this.root = this.nodes.get(graph.roots[0])?.place ?? this.bounds;
    this.textSize = Number(layer.querySelector(".node text")?.getAttribute("font-size")) || 14;
    this.container.append(this.svg);
    this.view = view;
    this.isTouched = Boolean(view);
    this.resize();
  }

  prepareEdge(group, path, id) {
    Object.assign(group.dataset, { edgeId: id, selects: id });
    const length = path.getTotalLength();
    const middle = path.getPointAtLength(length / 2);
    const before = path.getPointAtLength(length / 2 - 1);
    const angle = (Math.atan2(before.y - middle.y, before.x - middle.x) * 180) / Math.PI;
    // Graphviz draws the path from the leaf side on; the gradient runs back along it.
    const chevron = draw("path", { class: "chevron", d: "M-5-5L5 0-5 5-2 0z", transform: `translate(${middle.x} ${middle.y}) rotate(${angle})` });
    const hit = draw("path", { class: "hit", d: path.getAttribute("d") });
    const [label = draw("text", { x: middle.x + 8, y: middle.y + 3, "font-size": 9 }), ...others] = group.querySelectorAll("text");
    for (const other of others) other.remove();
    // The label in the DOT only holds the place; the number starts where it started.
    if (label.getAttribute("text-anchor") === "middle") {
      const width = label.textContent.length * 0.6 * Number(label.getAttribute("font-size"));
      label.setAttribute("x", Number(label.getAttribute("x")) - width / 2 + 6);
      label.removeAttribute("text-anchor");
    }
    label.textContent = "";
    path.after(hit);
    group.append(chevron, label);
    return { group, path, label };
  }

  // One change of attribute per node and edge that differs from the step before.
  show(moment) {
    const active = moment.step ? moment.pass.steps[moment.step - 1].node : null;
    const total = moment.pass?.steps.length ?? 0;
    const stateOf = (id) => (moment.stepOf(id) ? (id === active ? "active" : "done") : "idle");
    for (const [id, node] of this.nodes) {
      const state = stateOf(id);
      const failed = String(moment.pass?.failed === id && moment.step === total);
      if (node.group.dataset.failed !== failed) node.group.dataset.failed = failed;
      if (node.group.dataset.state === state) continue;
      node.group.dataset.state = state;
      const order = moment.pass?.order.get(id);
      writeBadge(node.badge, state === "idle" ? "" : state === "active" ? `step ${order}` : String(order), node.box.x - 6, node.box.y - 4, false);
    }
    this.svg.querySelectorAll(".pulse").forEach((pulse) => pulse.remove());
    for (const edge of moment.graph.edges) {
      const drawn = this.edges.get(edge.id);
      if (!drawn) continue;
      const state = stateOf(edge.source);
      const gradient = state === "idle" ? null : moment.stepOf(edge.source).grad_inputs[edge.slot];
      // Between folded boxes a gradient that is not kept is not one that is None.
      const text = state === "idle" || (this.isFolded && !gradient) ? "" : shortText(gradient);
      if (drawn.label.textContent !== text) drawn.label.textContent = text;
      if (drawn.group.dataset.state !== state) drawn.group.dataset.state = state;
      if (state === "active" && gradient) drawn.path.after(draw("path", { class: "pulse", d: drawn.path.getAttribute("d"), pathLength: 100 }));
    }
    for (const [id, { badge, box }] of this.leaves) {
      const node = moment.graph.byId.get(id);
      const planned = moment.pass?.steps[moment.pass.order.get(id) - 1]?.accumulated;
      const grad = moment.stepOf(id) ? planned?.after : planned?.before;
      const value = grad ? shortText(grad) : "";
      const text = value && `${node.variable ?? ""}.grad ${value.startsWith("norm") ? "" : "= "}${value}`;
      writeBadge(badge, text, box.x + box.width / 2, box.y - 4, true);
    }
    const box = this.nodes.get(active)?.box;
    this.ring.toggleAttribute("data-shown", Boolean(box));
    if (box) {
      for (const [name, value] of Object.entries({ x: box.x - 4, y: box.y - 4, width: box.width + 8, height: box.height + 8 })) this.ring.setAttribute(name, value);
      this.reveal(this.nodes.get(active).place);
    }
  }

  mark(selected, line, graph) {
    for (const group of this.svg.querySelectorAll("[data-selected]")) group.removeAttribute("data-selected");
    (this.nodes.get(selected) ?? this.edges.get(selected))?.group.setAttribute("data-selected", "");
    for (const node of graph.nodes) this.nodes.get(node.id)?.group.toggleAttribute("data-line-active", Boolean(line) && node.line === line);
  }

  get largest() {
    return LARGEST * this.typeScale;
  }

  get typeScale() {
    return this.container.closest("[data-large]") ? 1.35 : 1;
  }

  resize() {
    // Asked for here only: reading it in a step would make the browser lay out the page at once.
    this.size = { width: this.container.clientWidth, height: this.container.clientHeight };
    if (!this.svg || !this.size.width) return;
    if (this.isTouched) this.apply();
    else this.fit(Math.min(1, (SMALLEST_TEXT * this.typeScale) / this.textSize));
  }

  fit(smallest) {
    const { width, height } = this.size;
    const whole = Math.min((width - 2 * MARGIN) / this.bounds.width, (height - 2 * MARGIN) / this.bounds.height);
    const scale = Math.max(smallest, Math.min(this.largest, whole));
    const place = (start, extent, room, wanted) => {
      if (extent * scale <= room - 2 * MARGIN) return start + extent / 2;
      const reach = (room / 2 - MARGIN) / scale;
      return Math.min(start + extent - reach, Math.max(start + reach, wanted));
    };
    const x = place(this.bounds.x, this.bounds.width, width, this.root.x + this.root.width / 2);
    const y = place(this.bounds.y, this.bounds.height, height, this.root.y + this.root.height / 2);
    this.view = { x, y, scale };
    this.apply();
  }

  fitWhole() {
    if (!this.svg) return;
    this.isTouched = true;
    this.fit(0);
  }

  apply() {
    const { width, height } = this.size;
    const { x, y, scale } = this.view;
    this.svg.setAttribute("viewBox", `${x - width / 2 / scale} ${y - height / 2 / scale} ${width / scale} ${height / scale}`);
  }

  zoom(factor, clientX, clientY) {
    if (!this.view) return;
    this.isTouched = true;
    const frame = this.container.getBoundingClientRect();
    const fromX = clientX === undefined ? 0 : clientX - frame.left - frame.width / 2;
    const fromY = clientY === undefined ? 0 : clientY - frame.top - frame.height / 2;
    const scale = Math.min(6, Math.max(0.05, this.view.scale * factor));
    this.view.x += fromX / this.view.scale - fromX / scale;
    this.view.y += fromY / this.view.scale - fromY / scale;
    this.view.scale = scale;
    this.apply();
  }

  pan(byX, byY) {
    this.isTouched = true;
    this.view.x -= byX / this.view.scale;
    this.view.y -= byY / this.view.scale;
    this.apply();
  }

  // Pan just far enough that a box lies inside the frame.
  reveal(box) {
    if (!this.view || !this.size.width) return;
    const gap = 34;
    const offset = (start, extent, centre, room) => {
      const reach = room / 2 / this.view.scale - Math.min(gap, room / 8);
      const low = start - (centre - reach);
      const high = start + extent - (centre + reach);
      return low < 0 ? low : high > 0 ? Math.min(high, low) : 0;
    };
    const moveX = offset(box.x, box.width, this.view.x, this.size.width);
    const moveY = offset(box.y, box.height, this.view.y, this.size.height);
    if (!moveX && !moveY) return;
    this.view.x += moveX;
    this.view.y += moveY;
    this.apply();
  }

  listen(onSelect) {
    const { container, pointers } = this;
    let travelled = 0;
    let spread = 0;
    container.addEventListener("pointerdown", (event) => {
      if (!this.svg || event.button !== 0) return;
      pointers.set(event.pointerId, event);
      if (pointers.size === 1) travelled = 0;
      spread = 0;
    });
    container.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last || !this.svg) return;
      const [moveX, moveY] = [event.clientX - last.clientX, event.clientY - last.clientY];
      travelled += Math.hypot(moveX, moveY);
      if (travelled < 4) return;
      if (!container.hasPointerCapture(event.pointerId)) container.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      this.pan(moveX / pointers.size, moveY / pointers.size);
      if (pointers.size !== 2) return;
      const [one, two] = pointers.values();
      const distance = Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY);
      if (spread) this.zoom(distance / spread, (one.clientX + two.clientX) / 2, (one.clientY + two.clientY) / 2);
      spread = distance;
    });
    for (const end of ["pointerup", "pointercancel"]) container.addEventListener(end, (event) => pointers.delete(event.pointerId));
    container.addEventListener("click", (event) => {
      if (travelled < 4) onSelect(event.target.closest("[data-selects]")?.dataset.selects ?? null);
      travelled = 0;
    });
    container.addEventListener("wheel", (event) => {
      const hasFocus = container.getRootNode().activeElement === container;
      if (!this.svg || !(event.ctrlKey || event.metaKey || hasFocus)) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX, event.clientY);
    }, { passive: false });
  }

  // The picture as it stands, with its colours written into it, so that it needs no style sheet.
  exportSvg() {
    const copy = this.svg.cloneNode(true);
    const drawn = [this.svg, ...this.svg.querySelectorAll("*")];
    const written = [copy, ...copy.querySelectorAll("*")];
    drawn.forEach((element, index) => {
      const style = getComputedStyle(element);
      if (style.display === "none" || style.visibility === "hidden") written[index].dataset.drop = "";
      for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family", "font-weight"]) written[index].setAttribute(name, style.getPropertyValue(name));
    });
    copy.querySelectorAll("[data-drop], .hit, .pulse").forEach((element) => element.remove());
    const { x, y, width, height } = this.bounds;
    const frame = [x - MARGIN, y - MARGIN, width + 2 * MARGIN, height + 2 * MARGIN];
    copy.setAttribute("viewBox", frame.join(" "));
    copy.setAttribute("width", frame[2]);
    copy.setAttribute("height", frame[3]);
    const back = getComputedStyle(this.container).backgroundColor;
    copy.prepend(draw("rect", { x: frame[0], y: frame[1], width: frame[2], height: frame[3], fill: back }));
    return new XMLSerializer().serializeToString(copy);
  }
}
