// Inspector: Summaries as text, and the panel about one node or edge at one step.

function make(tag, props, ...children) {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// As explorer.explain.format_number writes it: "%.4g", and whole numbers below a million with all their digits.
function formatNumber(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  if (value && typeof value === "object") return formatNumber(value.re) + (value.im < 0 ? "" : "+") + formatNumber(value.im) + "j";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const [digits, exponent] = value.toExponential(3).split("e");
  if (exponent >= -4 && exponent < 4) return String(Number(value.toPrecision(4)));
  return `${Number(digits)}e${exponent.replace(/(\d+)/, (power) => power.padStart(2, "0"))}`;
}

function exactNumber(value) {
  return value && typeof value === "object" ? `${value.re}+${value.im}j` : String(value);
}

function countElements(summary) {
  return summary.shape.reduce((product, size) => product * size, 1);
}

function flatten(summary) {
  return [summary.values ?? summary.head].flat(Infinity);
}

function magnitude(value) {
  return value && typeof value === "object" ? Math.hypot(value.re, value.im) : Math.abs(Number(value));
}

function norm(summary) {
  return summary.l2 ?? Math.hypot(...flatten(summary).map((value) => ({ inf: Infinity, "-inf": Infinity })[value] ?? magnitude(value)));
}

// A gradient on one short line, for an edge of the picture.
function shortText(summary) {
  if (!summary) return "none";
  const count = countElements(summary);
  if (count === 0) return "empty";
  if ("values" in summary && count === 1) return formatNumber(flatten(summary)[0]);
  if ("values" in summary && summary.shape.length === 1 && count <= 3) return `[${flatten(summary).map(formatNumber).join(", ")}]`;
  return `norm ${formatNumber(norm(summary))}`;
}

function shapeText(summary) {
  const comma = summary.shape.length === 1 ? "," : "";
  return `(${summary.shape.join(", ")}${comma}) ${summary.dtype.replace("torch.", "")}`;
}

function tint(value, largest, strength) {
  const share = largest ? Math.min(1, Math.abs(Number(value)) / largest) : 0;
  return `color-mix(in srgb, var(${value < 0 ? "--negative" : "--positive"}) ${Math.round(share * strength)}%, var(--back))`;
}

// Rows of the last dimension, numbers up to 16 elements and coloured cells above.
function showGrid(summary, values) {
  const columns = summary.shape.at(-1) ?? 1;
  // A column, or a long row, would not fit: it is laid out like text.
  const wrapped = columns === 1 ? 5 : summary.shape.length === 1 ? 16 : columns;
  const isMap = values.length > 16;
  const finite = values.map(Number).filter(Number.isFinite).map(Math.abs);
  const largest = Math.max(0, ...finite);
  const grid = make("span", { className: isMap ? "grid map" : "grid" });
  grid.style.setProperty("--columns", wrapped);
  values.forEach((value, index) => {
    const place = summary.shape.length === 1 ? `[${index}]` : `[${Math.floor(index / columns)}, ${index % columns}]`;
    const cell = make("span", { className: "cell", title: `${place} ${exactNumber(value)}` }, isMap ? "" : formatNumber(value));
    if (Number.isFinite(Number(value))) cell.style.background = tint(value, largest, isMap ? 90 : 45);
    else if (isMap) cell.classList.add("odd");
    grid.append(cell);
  });
  if (!isMap) return grid;
  const scale = make("span", { className: "scale", title: "colour scale" }, formatNumber(-largest), make("i"), formatNumber(largest));
  return make("span", { className: "mapped" }, grid, scale);
}

function showValues(summary) {
  const values = flatten(summary);
  if (!("values" in summary)) {
    const facts = ["min", "max", "mean", "l2"].map((name) => `${name} ${formatNumber(summary[name])}`);
    if (summary.nan) facts.push(`nan ${summary.nan}`);
    if (summary.inf) facts.push(`inf ${summary.inf}`);
    const head = `[${values.map(formatNumber).join(", ")}, ...]`;
    const told = () => make("span", { className: "facts", title: values.map(exactNumber).join(", ") }, facts.join("  "), make("br"), head);
    return showMap(summary, facts) ?? told();
  }
  if (values.length === 0) return make("span", {}, "empty");
  if (summary.shape.length === 0) return make("span", { title: exactNumber(values[0]) }, formatNumber(values[0]));
  if (summary.shape.length === 1 && values.length <= 16) {
    return make("span", { title: values.map(exactNumber).join(", ") }, `[${values.map(formatNumber).join(", ")}]`);
  }
  return showGrid(summary, values);
}

function showSummary(summary, absent = "none") {
  if (!summary) return make("span", { className: "absent" }, absent);
  return make("span", { className: "value" }, showValues(summary), make("small", {}, shapeText(summary)));
}

// Summaries with signs between them; the shape is written once where it is everywhere the same.
function showEquation(...parts) {
  const summaries = parts.filter((part) => part && typeof part !== "string");
  const shapes = [...new Set(summaries.map(shapeText))];
  const shown = parts.map((part) => (typeof part === "string" ? make("b", {}, part) : part ? make("span", {}, showValues(part)) : showSummary(null)));
  return make("span", { className: "equation" }, ...shown, make("small", {}, shapes.join(" ")));
}

// What one pass says about nodes and edges at one step; step k has seen the first k nodes run.
class Moment {
  constructor(graph, pass, step) {
    Object.assign(this, { graph, pass, step });
  }
  stepOf(id) {
    const index = this.pass ? this.pass.order.get(id) : undefined;
    return index !== undefined && index <= this.step ? this.pass.steps[index - 1] : null;
  }
  absence(id) {
    return this.pass?.order.has(id) ? "not yet" : "not part of this pass";
  }
  name(id) {
    const node = this.graph.byId.get(id);
    if (!node) return id;
    const name = node.module ? `${node.module}: ${node.name}` : node.name;
    return node.variable ? `${name} (${node.variable})` : name;
  }
}

function row(rows, label, ...content) {
  rows.append(make("dt", {}, label), make("dd", {}, ...content));
}

function showReceived(rows, moment, node) {
  const step = moment.stepOf(node.id);
  const coming = moment.graph.edges.filter((edge) => edge.target === node.id && moment.pass?.order.has(edge.source));
  const outputs = step ? step.grad_outputs : [...new Set([0, ...coming.map((edge) => edge.input_nr)])].map(() => null);
  outputs.forEach((gradient, number) => {
    const parts = coming.filter((edge) => edge.input_nr === number);
    const content = [];
    if (parts.length > 1) {
      for (const edge of parts) {
        const from = moment.stepOf(edge.source);
        const value = showSummary(from?.grad_inputs[edge.slot], from ? "none" : "not yet");
        content.push(make("span", { className: "part" }, value, ` from ${moment.name(edge.source)}`));
      }
      content.push(make("span", { className: "part sum" }, make("b", {}, "sum "), showSummary(gradient, step ? "none" : moment.absence(node.id))));
    } else {
      content.push(showSummary(gradient, step ? "none" : moment.absence(node.id)));
      if (parts.length === 1) content.push(` from ${moment.name(parts[0].source)}`);
      else if (moment.graph.roots.includes(node.id) && step) content.push(" where backward starts");
    }
    row(rows, outputs.length > 1 ? `receives (output ${number})` : "receives", ...content);
  });
}

function showSent(rows, moment, node) {
  const step = moment.stepOf(node.id);
  const leaving = moment.graph.edges.filter((edge) => edge.source === node.id);
  for (const edge of leaving) {
    const sent = step?.grad_inputs[edge.slot];
    const local = step?.local?.[edge.slot];
    const value = sent && local ? showEquation(step.grad_outputs[0], "\u00d7", local, "=", sent) : showSummary(sent, step ? "none" : moment.absence(node.id));
    row(rows, leaving.length > 1 ? `sends (slot ${edge.slot})` : "sends", value, ` to ${moment.name(edge.target)}`, local ? make("small", {}, "received \u00d7 local derivative = sent") : null);
  }
}

function showNode(panel, moment, node, source) {
  const rows = make("dl");
  const index = moment.pass?.order.get(node.id);
  panel.append(make("h4", {}, node.name, index ? make("small", {}, `step ${index} of ${moment.pass.steps.length}`) : null));
  if (node.formula) row(rows, "rule", make("code", {}, node.formula));
  if (node.line && source) row(rows, `line ${node.line}`, make("code", {}, source[node.line - 1]?.trim() ?? ""));
  else if (node.line) row(rows, "line", String(node.line));
  if (node.module) row(rows, "module", make("code", {}, node.module));
  showReceived(rows, moment, node);
  showSent(rows, moment, node);
  const step = moment.stepOf(node.id);
  if (node.is_leaf) {
    const change = step?.accumulated;
    if (change) row(rows, `${node.variable ?? ""}.grad`, showEquation(change.before, "\u2192", change.after));
    else if (!step) row(rows, `${node.variable ?? ""}.grad`, showSummary(null, moment.absence(node.id)));
  }
  row(rows, node.variable ?? "output", node.output ? showSummary(node.output) : make("span", { className: "absent" }, node.shape ? `not kept, shape (${node.shape.join(", ")})` : "not kept"));
  for (const [name, summary] of Object.entries(node.saved ?? {})) row(rows, `saved ${name}`, showSummary(summary));
  for (const [name, value] of Object.entries(node.attributes ?? {})) row(rows, name, make("code", {}, typeof value === "string" ? value : JSON.stringify(value)));
  if (node.hooked) row(rows, "hooks", "the program's own hooks may change this gradient");
  panel.append(rows);
}

function showEdge(panel, moment, edge) {
  const step = moment.stepOf(edge.source);
  const rows = make("dl");
  panel.append(make("h4", {}, "gradient on an edge"));
  row(rows, "from", `${moment.name(edge.source)}, slot ${edge.slot}`);
  row(rows, "to", `${moment.name(edge.target)}, output ${edge.input_nr}`);
  row(rows, "gradient", showSummary(step?.grad_inputs[edge.slot], step ? "none" : moment.absence(edge.source)));
  panel.append(rows);
}

function fillInspector(panel, moment, selected, source) {
  const scroll = panel.dataset.shown === String(selected) ? panel.scrollTop : 0;
  panel.replaceChildren();
  const edge = moment.graph.edges.find((candidate) => candidate.id === selected);
  const active = moment.step ? moment.pass.steps[moment.step - 1].node : null;
  const node = moment.graph.byId.get(selected ?? active);
  if (edge) showEdge(panel, moment, edge);
  else if (node) showNode(panel, moment, node, source);
  else panel.append(make("p", { className: "hint" }, moment.pass?.steps.length ? "Press next to start the backward pass, or click a node or an edge to see its numbers." : "Click a node of the graph to see its values here."));
  panel.dataset.shown = String(selected);
  if (scroll) panel.scrollTop = scroll;
}
