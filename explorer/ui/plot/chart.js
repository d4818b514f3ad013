// Chart: keeps what the messages of one plot said so far, and draws it with plotly.

// Okabe and Ito's colours, told apart by every kind of colour vision; those that fade on the background come last.
const COLOURS = {
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6b6b"],
  dark: ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#f0e442", "#a8a8a8"],
};
const CONFIG = {
  displaylogo: false,
  // Plotly would offer to upload the chart to its cloud.
  showSendToCloud: false,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "pan2d", "zoom2d", "tableRotation", "resetCameraLastSave3d", "orbitRotation", "pan3d", "zoom3d"],
};

const NARROW = 420;

const charts = new WeakMap();
// What was said, by token: it outlives a remount.
const kept = new Map();
let plotly = null;

function loadPlotly(address) {
  // The server names no time for which the file is good; its address has the version, so any copy will do.
  plotly ??= fetch(new URL(address, document.baseURI), { cache: "force-cache" })
    .then((answer) => {
      if (!answer.ok) throw new Error(`plotly.js was not found (${answer.status}).`);
      return answer.blob();
    })
    .then((blob) => new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = URL.createObjectURL(blob);
      script.onload = () => (window.Plotly ? resolve(window.Plotly) : script.onerror());
      script.onerror = () => reject(new Error("plotly.js could not be read."));
      document.head.append(script);
    }))
    .catch((error) => {
      plotly = null;
      throw error;
    });
  return plotly;
}

function readTheme(root) {
  const style = getComputedStyle(root);
  const [text, back] = [style.color, style.backgroundColor].map((colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number));
  const isDark = back[0] * 0.299 + back[1] * 0.587 + back[2] * 0.114 < 128;
  const shade = (share) => `rgb(${text.map((part, index) => Math.round(part * share + back[index] * (1 - share))).join(",")})`;
  const [font, size] = [style.fontFamily, parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.78];
  return { isDark, shade, font, size, key: [style.color, style.backgroundColor, font, size].join() };
}

function makeTemplate({ isDark, shade, font, size }) {
  // Powers of ten: 1e-8 as "10n" is no number to a reader.
  const axis = { automargin: true, exponentformat: "power", gridcolor: shade(0.12), linecolor: shade(0.35), zerolinecolor: shade(0.3), tickcolor: shade(0.35), title: { standoff: 8 } };
  const solid = { ...axis, backgroundcolor: shade(0.03), showbackground: true };
  const colorbar = { outlinewidth: 0, thickness: 12 };
  const scaled = [{ colorscale: "Viridis", colorbar }];
  return {
    layout: {
      font: { family: font, size, color: shade(0.85) },
      colorway: COLOURS[isDark ? "dark" : "light"],
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 8, r: 12, t: 28, b: 8 },
      xaxis: { ...axis, exponentformat: "none", separatethousands: true },
      yaxis: axis,
      scene: { xaxis: solid, yaxis: solid, zaxis: solid, bgcolor: "rgba(0,0,0,0)" },
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
      hoverlabel: { bgcolor: shade(0.06), bordercolor: shade(0.35), font: { family: font, color: shade(1) } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: shade(0.45), activecolor: shade(0.9) },
      // A finger that drags over a chart scrolls the page.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    },
    data: { surface: scaled, contour: scaled, heatmap: [{ ...scaled[0], textfont: { color: shade(1) } }] },
  };
}

function findSpan(streams) {
  let [low, high] = [Infinity, -Infinity];
  for (const { x } of Object.values(streams)) {
    if (x?.length) [low, high] = [Math.min(low, x[0]), Math.max(high, x[x.length - 1])];
  }
  return Math.max(1, high - low);
}

function drawMarks(marks, { shade, size }, width, span) {
  const shapes = marks.map(([x]) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { width: 1, dash: "dot", color: shade(0.6) } }));
  // A text that would run into the next mark is left out.
  const fits = ([x, text], index) => index === marks.length - 1 || ((marks[index + 1][0] - x) / span) * width > text.length * size * 0.6 + 8;
  // Beside its line, on the side where there is room.
  const isLate = (x) => x > marks[0][0] + span / 2;
  const annotations = marks.filter(fits).map(([x, text]) => ({
    x, text, y: 1, yref: "paper", yanchor: "top", xanchor: isLate(x) ? "right" : "left", xshift: isLate(x) ? -3 : 3, showarrow: false, font: { size: size * 0.9, color: shade(0.75) },
  }));
  return { shapes, annotations };
}

class Chart {
  constructor(root) {
    this.root = root;
    this.node = root.querySelector(".drawing");
    this.note = root.querySelector(".note");
    this.pause = 0;
    this.ended = 0;
    this.observer = new ResizeObserver(() => this.schedule());
    this.observer.observe(root);
    this.onRelease = () => {
      this.isPressed = false;
      this.schedule();
    };
    // Where a mouse is down on it, the chart stands still: a click or a zoom is of what was seen.
    root.addEventListener("pointerdown", () => (this.isPressed = true), true);
    for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, this.onRelease);
  }

  hear(data, setTriggerValue) {
    Object.assign(this, { latest: data, setTriggerValue });
    if (!kept.has(data.token)) kept.set(data.token, { version: 0, figure: null, traces: {}, marks: [], streams: {} });
    this.said = kept.get(data.token);
    for (const [token, said] of kept) if (said.key === data.key && said !== this.said) kept.delete(token);
    this.said.key = data.key;
    if (this.isBehind(data)) this.ask();
    else if (data.version > this.said.version) this.takeIn(data);
    if (!this.said.figure) return;
    loadPlotly(data.plotly).then(
      (found) => {
        this.plotly = found;
        this.schedule();
      },
      (error) => this.tell(`The chart cannot be drawn. ${error.message}`),
    );
  }

  isBehind(data) {
    const { version, streams } = this.said;
    if (version >= data.version) return false;
    const isShort = ([number, tail]) => tail.from > (streams[number]?.x?.length ?? 0);
    return version < data.base || Object.entries(data.streams).some(isShort);
  }

  ask() {
    if (this.timer || this.isLeft) return;
    this.setTriggerValue("behind", { token: this.latest.token, version: this.said.version });
    this.timer = setTimeout(() => {
      this.timer = null;
      if (this.isBehind(this.latest)) this.ask();
    }, 1000);
  }

  takeIn(data) {
    const { said } = this;
    said.version = data.version;
    for (const part of ["figure", "traces", "marks"]) if (part in data) said[part] = data[part];
    const streams = {};
    for (const number of data.growing) {
      const before = said.streams[number] ?? {};
      const { from, ...tails } = data.streams[number] ?? {};
      // Lists are new when they differ: plotly compares them by identity.
      const join = ([name, tail]) => [name, (before[name] ?? []).slice(0, from).concat(tail)];
      streams[number] = number in data.streams ? Object.fromEntries(Object.entries(tails).map(join)) : before;
    }
    said.streams = streams;
  }

  schedule() {
    this.isWanted = true;
    if (this.isBusy || !this.plotly || !this.said?.figure) return;
    this.isBusy = true;
    // A slow browser draws less often and stays at hand.
    const early = this.ended + this.pause - performance.now();
    setTimeout(() => requestAnimationFrame(() => this.draw()), Math.max(0, early));
  }

  async draw() {
    const width = this.root.clientWidth;
    // Its width, or the button's release, schedules again.
    if (width && !this.isPressed && !this.isLeft) {
      const began = performance.now();
      this.isWanted = false;
      const theme = readTheme(this.root);
      // Streamlit calls a component whenever something near it changes: most times this chart is as it should be.
      const look = [this.latest.token, this.said.version, width, this.latest.height, theme.key].join();
      if (look !== this.drawn) this.drawn = (await this.redraw(width, theme)) ? look : null;
      this.ended = performance.now();
      this.pause = 0.5 * (this.ended - began);
    } else this.isWanted = false;
    this.isBusy = false;
    if (this.isWanted) this.schedule();
  }

  async redraw(width, theme) {
    const { version } = this.said;
    try {
      const { data, layout } = this.compose(width, theme);
      const isFirst = !this.node.on;
      // On a narrow chart its buttons would lie over the legend.
      await this.plotly.react(this.node, data, layout, { ...CONFIG, displayModeBar: width < NARROW ? false : "hover" });
      if (isFirst) this.node.on("plotly_click", ({ points: [point] }) => this.click(point));
      this.root.dataset.version = version;
      this.tell("");
      return true;
    } catch (error) {
      this.tell(`The chart cannot be drawn. ${error.message}`);
      // What it left half made would spoil the next drawing.
      this.plotly.purge(this.node);
      return false;
    }
  }

  compose(width, theme) {
    const { figure, traces, marks, streams } = this.said;
    const data = figure.data.map((trace, number) => ({ ...trace, ...traces[number], ...streams[number] }));
    const drawn = drawMarks(marks, theme, width, findSpan(streams));
    const layout = structuredClone(figure.layout);
    Object.assign(layout, {
      template: makeTemplate(theme),
      width,
      height: this.latest.height,
      uirevision: layout.uirevision ?? "kept",
      shapes: [...(layout.shapes ?? []), ...drawn.shapes],
      annotations: [...(layout.annotations ?? []), ...drawn.annotations],
    });
    // A range that was zoomed to means nothing on an axis of another type.
    for (const axis of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      layout[axis].uirevision ??= `${layout.uirevision} ${layout[axis].type ?? ""}`;
    }
    const title = (axis) => layout[axis]?.title?.text ?? layout[axis]?.title;
    this.root.setAttribute("aria-label", [title("yaxis"), title("xaxis")].filter(Boolean).join(" by ") || "Chart");
    return { data, layout };
  }

  click({ curveNumber, x, y, pointNumber }) {
    this.setTriggerValue("clicked", { id: Math.random(), trace: curveNumber, x, y, point: pointNumber });
  }

  tell(text) {
    Object.assign(this.note, { textContent: text, hidden: !text });
  }

  leave() {
    this.isLeft = true;
    clearTimeout(this.timer);
    this.observer.disconnect();
    for (const name of ["pointerup", "pointercancel"]) window.removeEventListener(name, this.onRelease);
    this.plotly?.purge(this.node);
  }
}

export function show(root, data, setTriggerValue) {
  if (!charts.has(root)) charts.set(root, new Chart(root));
  charts.get(root).hear(data, setTriggerValue);
}

export function leave(root) {
  // Streamlit also says so of a call that a newer one overtook, while the plot stays: what counts is the page.
  setTimeout(() => {
    if (root.isConnected || !charts.has(root)) return;
    charts.get(root).leave();
    charts.delete(root);
  }, 1000);
}
