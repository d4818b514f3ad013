// Graph: the stepper around the picture and the inspector; the component's entry.

const mounted = new WeakMap();
// Step, pass, zoom and selection by component key: they outlive a remount of the page.
const kept = new Map();

function indexGraph(graph) {
  const edges = (graph?.edges ?? []).map((edge) => ({ ...edge, id: `${edge.source}-${edge.slot}` }));
  const nodes = graph?.nodes ?? [];
  return { nodes, edges, roots: graph?.roots ?? [], byId: new Map(nodes.map((node) => [node.id, node])) };
}

function indexPass(pass) {
  return { ...pass, order: new Map(pass.steps.map((step, index) => [step.node, index + 1])) };
}

function saveFile(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

class GraphPanel {
  constructor(root) {
    this.root = root.querySelector(".explorer-graph");
    this.find = (selector) => this.root.querySelector(selector);
    this.byTest = (name) => this.find(`[data-testid="${name}"]`);
    this.inspector = this.find(".inspector");
    this.picture = new Picture(this.find(".picture"), (id) => this.select(id));
    this.line = null;
    this.timer = null;
    this.listen();
  }

  listen() {
    const on = (name, type, act) => this.byTest(name).addEventListener(type, act);
    on("step-first", "click", () => this.go(0));
    on("step-prev", "click", () => this.go(this.memory.step - 1));
    on("step-play", "click", () => this.play(!this.timer));
    on("step-next", "click", () => this.go(this.memory.step + 1));
    on("step-last", "click", () => this.go(this.last));
    on("step-slider", "input", (event) => this.go(Number(event.target.value)));
    on("step-speed", "change", () => this.timer && this.play(true));
    on("step-pass", "change", (event) => this.choosePass(Number(event.target.value)));
    on("download-svg", "click", () => this.picture.svg && saveFile("graph.svg", "image/svg+xml", this.picture.exportSvg()));
    on("download-dot", "click", () => saveFile("graph.dot", "text/vnd.graphviz", this.data.view.dot ?? this.data.view.graph?.dot ?? ""));
    this.find('[data-zoom="in"]').addEventListener("click", () => this.picture.zoom(1.25));
    this.find('[data-zoom="out"]').addEventListener("click", () => this.picture.zoom(0.8));
    this.find('[data-zoom="fit"]').addEventListener("click", () => this.picture.fitWhole());
    for (const box of this.root.querySelectorAll("[data-show]")) {
      box.addEventListener("change", () => {
        const boxes = [...this.root.querySelectorAll("[data-show]")];
        this.setStateValue("show", Object.fromEntries(boxes.map((each) => [each.dataset.show, each.checked])));
      });
    }
    this.root.addEventListener("keydown", (event) => this.press(event));
    // On arrival nothing has the focus; the arrows step then too, while up and down still scroll the page.
    this.onKey = (event) => {
      if (document.activeElement === document.body && /^Arrow(Left|Right)$|^ $/.test(event.key)) this.press(event);
    };
    window.addEventListener("keydown", this.onKey);
    this.onLine = ({ detail }) => {
      if (detail.key !== this.data.pair || detail.source !== "editor") return;
      this.line = detail.line;
      this.mark();
    };
    window.addEventListener("explorer:line", this.onLine);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, .inspector")) return;
    if (event.key === " " && event.target.closest?.("button")) return;
    const step = this.memory.step;
    const moves = { ArrowRight: step + 1, ArrowDown: step + 1, ArrowLeft: step - 1, ArrowUp: step - 1, Home: 0, End: this.last };
    if (event.key in moves) this.go(moves[event.key]);
    else if (event.key === " ") this.play(!this.timer);
    else if (event.key === "Escape") this.select(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  update(data, setStateValue) {
    const { view } = data;
    this.keepView();
    const isNew = this.data?.view.id !== view.id;
    const hadSvg = this.data?.view.svg;
    Object.assign(this, { data, setStateValue, graph: indexGraph(view.graph), passes: view.passes.map(indexPass), source: view.source?.split("\n") });
    const before = kept.get(data.key);
    this.memory = before?.signature === view.signature ? before : { signature: view.signature, step: 0, pass: 0, selected: null, view: null };
    kept.set(data.key, this.memory);
    if (isNew) this.play(false);
    this.root.toggleAttribute("data-large", Boolean(view.large));
    this.root.toggleAttribute("data-still", view.motion === false);
    this.root.toggleAttribute("data-maps", Boolean(view.maps));
    this.root.toggleAttribute("data-stale", Boolean(view.stale));
    this.picture.isFolded = Boolean(view.folded);
    for (const box of this.root.querySelectorAll("[data-show]")) box.disabled = Boolean(view.folded);
    this.root.style.setProperty("--height", `${data.height}px`);
    for (const box of this.root.querySelectorAll("[data-show]")) box.checked = Boolean(view.show?.[box.dataset.show]);
    if (!view.svg) this.picture.clear();
    else if (view.svg !== hadSvg || before !== this.memory || !this.picture.svg) {
      this.picture.load(view.svg, this.graph, this.memory.view);
    }
    const message = view.message ?? (this.picture.svg ? null : "No graph yet. Run a program that computes with a tensor whose requires_grad is True.");
    Object.assign(this.find(".message"), { hidden: !message, textContent: message ?? "" });
    this.root.toggleAttribute("data-empty", !this.picture.svg);
    this.fillPasses();
    this.choosePass(Math.min(this.memory.pass, Math.max(0, this.passes.length - 1)));
    if (isNew && view.playing) this.play(true);
  }

  keepView() {
    if (this.memory) this.memory.view = this.picture.isTouched ? this.picture.view : null;
  }

  fillPasses() {
    const choice = this.byTest("step-pass");
    choice.replaceChildren(...this.passes.map((pass, index) => make("option", { value: index }, `${pass.index + 1}: line ${pass.line ?? "?"}${typeof pass.loss === "number" ? `, loss ${formatNumber(pass.loss)}` : ""}`)));
    this.find(".pass").hidden = this.passes.length < 2;
  }

  choosePass(index) {
    this.memory.pass = index;
    this.pass = this.passes[index];
    this.last = this.pass?.steps.length ?? 0;
    this.byTest("step-pass").value = index;
    this.byTest("step-slider").max = this.last;
    for (const control of this.root.querySelectorAll(".bar button, .bar input")) control.disabled = !this.last;
    this.memory.step = Math.min(this.memory.step, this.last);
    this.render();
  }

  go(step) {
    const wanted = Math.max(0, Math.min(this.last, step));
    if (wanted === this.memory.step) return;
    this.memory.step = wanted;
    // The inspector goes with the step, unless something is clicked at this one.
    this.memory.selected = null;
    this.render();
    this.tellLine(wanted ? this.pass.steps[wanted - 1].node : null);
  }

  play(isOn) {
    clearInterval(this.timer);
    this.timer = null;
    if (isOn && this.last) {
      if (this.memory.step === this.last) this.go(0);
      this.timer = setInterval(() => {
        this.go(this.memory.step + 1);
        if (this.memory.step === this.last) this.play(false);
      }, Number(this.byTest("step-speed").value));
    }
    this.root.toggleAttribute("data-playing", Boolean(this.timer));
    this.byTest("step-play").setAttribute("aria-label", this.timer ? "Pause" : "Play");
  }

  select(id) {
    this.memory.selected = id;
    this.render();
    if (id) this.tellLine(this.graph.byId.has(id) ? id : id.slice(0, id.lastIndexOf("-")));
  }

  tellLine(id) {
    const line = this.graph.byId.get(id)?.line ?? null;
    window.dispatchEvent(new CustomEvent("explorer:line", { detail: { key: this.data.pair, line, source: "graph" } }));
  }

  mark() {
    if (this.picture.svg) this.picture.mark(this.memory.selected, this.line, this.graph);
  }

  render() {
    const { step, selected } = this.memory;
    const moment = new Moment(this.graph, this.pass, step);
    fillInspector(this.inspector, moment, selected, this.source);
    if (this.picture.svg) this.picture.show(moment);
    this.mark();
    this.byTest("step-slider").value = step;
    this.find(".count").textContent = `${step} / ${this.last}`;
    const words = step ? this.pass.sentences[step - 1] : this.pass?.start;
    Object.assign(this.byTest("step-sentence"), { textContent: words ?? "", title: words ?? "" });
  }

  dispose() {
    this.keepView();
    this.play(false);
    this.picture.observer.disconnect();
    window.removeEventListener("explorer:line", this.onLine);
    window.removeEventListener("keydown", this.onKey);
  }
}

export default function showGraph({ data, parentElement, setStateValue }) {
  let panel = mounted.get(parentElement);
  if (!panel) mounted.set(parentElement, (panel = new GraphPanel(parentElement)));
  panel.update(data, setStateValue);
  return () => {
    mounted.delete(parentElement);
    panel.dispose();
  };
}
