// Canvas: strokes of a pen on square paper; the component's entry.

// Lengths are hundredths of the paper's side.
const PEN = 9;
const NEAREST = 0.5;
// In the picture the pen is so wide for each hundredth from one end of the drawing to the other: digits of every size
// then have the mean ink of MNIST.
const WEIGHT = 0.15;
const THINNEST = 5;
// The side of the picture that is sent, and the least time between two of them, in milliseconds.
const SIDE = 56;
const PAUSE = 60;

// By key: a drawing outlives reruns and remounts.
const drawings = new Map();

const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
const scratch = canvas.getContext("2d", { willReadFrequently: true });
scratch.scale(SIDE / 100, SIDE / 100);
Object.assign(scratch, { lineCap: "round", lineJoin: "round" });

// A stroke as the d of an SVG path: a curve through the middles between its points.
function trace([[x, y], ...rest]) {
  // A canvas draws no line without a length, not even its round ends.
  if (!rest.length) return `M${x} ${y}h0.01`;
  const curves = rest.slice(0, -1).map(([x, y], index) => `Q${x} ${y} ${(x + rest[index + 1][0]) / 2} ${(y + rest[index + 1][1]) / 2}`);
  return `M${x} ${y}${curves.join("")}L${rest.at(-1).join(" ")}`;
}

// How far the strokes reach on the paper along x (0) or y (1).
function measure(strokes, axis) {
  let [low, high] = [100, 0];
  for (const point of strokes.flat()) {
    const place = Math.min(Math.max(point[axis], 0), 100);
    [low, high] = [Math.min(low, place), Math.max(high, place)];
  }
  return high - low;
}

// The drawing in base64, row by row: 0 is paper, 255 is ink.
function takePicture(strokes) {
  scratch.clearRect(0, 0, 100, 100);
  scratch.lineWidth = Math.max(WEIGHT * measure(strokes, 0), WEIGHT * measure(strokes, 1), THINNEST);
  scratch.stroke(new Path2D(strokes.map(trace).join("")));
  const { data } = scratch.getImageData(0, 0, SIDE, SIDE);
  return btoa(String.fromCharCode(...data.filter((_, index) => index % 4 === 3)));
}

class Drawing {
  constructor() {
    this.strokes = [];
    this.pointer = null;
    this.sent = null;
    this.count = 0;
    this.sentAt = 0;
  }

  mount(root, data, setStateValue) {
    this.setStateValue = setStateValue;
    root.style.setProperty("--side", `${data.height}px`);
    if (root === this.root) return;
    this.root = root;
    const find = (selector) => root.querySelector(selector);
    [this.paper, this.path, this.undoButton, this.clearButton] = [".paper", "path", "[data-testid=canvas-undo]", "[data-testid=canvas-clear]"].map(find);
    this.path.setAttribute("stroke-width", PEN);
    this.listen();
    this.render();
    // The server forgot the picture of a canvas that was away.
    this.sent = null;
    this.tell();
  }

  listen() {
    const { root, paper } = this;
    paper.addEventListener("pointerdown", (event) => this.begin(event));
    paper.addEventListener("pointermove", (event) => this.move(event));
    for (const type of ["pointerup", "pointercancel"]) paper.addEventListener(type, (event) => this.end(event));
    paper.addEventListener("contextmenu", (event) => event.preventDefault());
    root.addEventListener("keydown", (event) => this.press(event));
    this.undoButton.addEventListener("click", () => this.undo());
    this.clearButton.addEventListener("click", () => this.clear());
  }

  begin(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    this.pointer = event.pointerId;
    this.paper.setPointerCapture(event.pointerId);
    this.strokes.push([this.locate(event)]);
    this.change();
  }

  move(event) {
    if (event.pointerId !== this.pointer) return;
    // A remount in the middle of a stroke lets go of the pointer.
    if (!event.buttons) return this.end(event);
    if (!this.paper.hasPointerCapture(event.pointerId)) this.paper.setPointerCapture(event.pointerId);
    // The browser gathers what a fast pen did into one event for each frame; not every browser tells of it.
    const gathered = event.getCoalescedEvents?.() ?? [];
    const stroke = this.strokes.at(-1);
    for (const each of gathered.length ? gathered : [event]) {
      const [x, y] = this.locate(each);
      const [lastX, lastY] = stroke.at(-1);
      if (Math.hypot(x - lastX, y - lastY) >= NEAREST) stroke.push([x, y]);
    }
    this.change();
  }

  end(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.tell();
  }

  locate({ clientX, clientY }) {
    const { left, top, width, height } = this.path.ownerSVGElement.getBoundingClientRect();
    return [((clientX - left) / width) * 100, ((clientY - top) / height) * 100].map((part) => Math.round(part * 100) / 100);
  }

  press(event) {
    const isUndo = (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z";
    const isClear = ["Delete", "Backspace", "Escape"].includes(event.key);
    if (!this.strokes.length || !(isUndo || isClear)) return;
    if (isUndo) this.undo();
    else this.clear();
    event.preventDefault();
    event.stopPropagation();
  }

  undo() {
    this.keep(this.strokes.slice(0, -1));
  }

  clear() {
    this.keep([]);
  }

  keep(strokes) {
    this.strokes = strokes;
    this.pointer = null;
    this.render();
    this.tell();
  }

  change() {
    this.render();
    this.timer ??= setTimeout(() => this.tell(), this.sentAt + PAUSE - performance.now());
  }

  render() {
    const isEmpty = !this.strokes.length;
    this.path.setAttribute("d", this.strokes.map(trace).join(""));
    this.paper.dataset.strokes = this.strokes.length;
    for (const button of [this.undoButton, this.clearButton]) button.setAttribute("aria-disabled", isEmpty);
  }

  tell() {
    clearTimeout(this.timer);
    this.timer = null;
    const pixels = this.strokes.length ? takePicture(this.strokes) : null;
    if (pixels === this.sent || !this.root.isConnected) return;
    this.sent = pixels;
    this.sentAt = performance.now();
    this.setStateValue("ink", pixels && { id: ++this.count, side: SIDE, pixels });
  }
}

export default function drawDigit({ data, parentElement, setStateValue }) {
  if (!drawings.has(data.key)) drawings.set(data.key, new Drawing());
  drawings.get(data.key).mount(parentElement.querySelector(".explorer-canvas"), data, setStateValue);
}
