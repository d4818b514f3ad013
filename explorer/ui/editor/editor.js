// Editor: a textarea over a coloured copy of its text; the component's entry.

const mounted = new WeakMap();
const unstored = new Map();
const INDENT = "    ";

function make(tag, props, ...children) {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children);
  return made;
}

// The draft of this tab: {revision, text, isEdited, count, before}. Storage may be forbidden.
function loadDraft(key) {
  try {
    return JSON.parse(sessionStorage.getItem(`explorer:${key}`));
  } catch {
    return unstored.get(key);
  }
}

function saveDraft(key, draft) {
  try {
    sessionStorage.setItem(`explorer:${key}`, JSON.stringify(draft));
  } catch {
    unstored.set(key, draft);
  }
}

class Editor {
  constructor(parent) {
    this.root = parent.querySelector(".explorer-editor");
    const find = (selector) => this.root.querySelector(selector);
    [this.frame, this.gutter, this.copy, this.area, this.names] = [".frame", ".gutter", "pre", "textarea", ".names"].map(find);
    [this.runButton, this.stopButton, this.backButton] = [".run", '[data-testid="stop"]', ".link"].map(find);
    this.linked = null;
    this.listen();
  }

  listen() {
    const { area } = this;
    area.addEventListener("input", (event) => {
      this.draft.isEdited = true;
      this.keep();
      this.suggest(event.data);
      this.followCaret();
    });
    // Streamlit's own one-letter shortcuts listen on the document and cannot see into a shadow root.
    for (const type of ["keydown", "keypress", "keyup"]) area.addEventListener(type, (event) => event.stopPropagation());
    area.addEventListener("keydown", (event) => this.press(event));
    area.addEventListener("keyup", () => this.followCaret());
    for (const type of ["keyup", "click", "focus", "input"]) area.addEventListener(type, () => this.tellLine());
    area.addEventListener("blur", () => this.closeNames());
    this.frame.addEventListener("scroll", () => this.isChoosing && this.suggest(null));
    this.onScroll = () => this.closeNames();
    document.addEventListener("scroll", this.onScroll, true);
    this.names.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const index = [...this.names.children].indexOf(event.target);
      if (index >= 0) this.accept(index);
    });
    this.runButton.addEventListener("click", () => this.run());
    this.stopButton.addEventListener("click", () => this.setTriggerValue("stop", Date.now()));
    this.backButton.addEventListener("click", () => this.bringBack());
    if (/Mac|iPhone|iPad/.test(navigator.platform)) this.runButton.querySelector("kbd").textContent = "\u2318 Enter";
    this.onLine = ({ detail }) => {
      if (detail.key !== this.data.pair || detail.source !== "graph") return;
      this.linked = detail.line;
      this.render();
      this.showLine(detail.line);
    };
    window.addEventListener("explorer:line", this.onLine);
  }

  update({ data, setStateValue, setTriggerValue }) {
    const isFirst = !this.data;
    Object.assign(this, { data, setStateValue, setTriggerValue });
    this.draft ??= loadDraft(data.key);
    // A reload of the tab begins another session, whose server knows nothing of what was typed: the draft goes on.
    if (isFirst && this.draft && this.draft.session !== data.session) this.draft.revision = data.revision;
    if (this.draft?.revision !== data.revision) {
      const { text, isEdited, count = 0, before } = this.draft ?? {};
      this.draft = { session: data.session, revision: data.revision, text: data.source, isEdited: false, count, before: isEdited && text !== data.source ? text : before };
      this.sent = data.source;
      this.setText(data.source);
    } else if (isFirst) {
      this.sent = data.source;
      this.setText(this.draft.text);
      if (this.draft.text !== data.source) this.run();
    }
    this.draft.session = data.session;
    this.root.toggleAttribute("data-large", data.large);
    this.stopButton.disabled = !data.running;
    this.keep();
  }

  get lines() {
    return this.area.value.split("\n");
  }

  setText(text) {
    this.area.value = text;
    this.linked = null;
    this.closeNames();
  }

  keep() {
    this.draft.text = this.area.value;
    saveDraft(this.data.key, this.draft);
    this.backButton.hidden = this.draft.before === undefined;
    this.root.toggleAttribute("data-edited", this.area.value !== this.sent);
    this.render();
  }

  run() {
    this.closeNames();
    this.sent = this.area.value;
    this.draft.count += 1;
    this.keep();
    this.setStateValue("sent", { source: this.sent, revision: this.data.revision, count: this.draft.count });
  }

  bringBack() {
    const { before } = this.draft;
    delete this.draft.before;
    this.area.focus();
    this.area.select();
    this.write(before);
    this.run();
  }

  // A line number of the last run still means this line while nothing up to it was changed.
  isCurrent(line) {
    return this.lines.slice(0, line).join("\n") === this.sent.split("\n").slice(0, line).join("\n");
  }

  render() {
    const { problem_line: problem, problem_message: message } = this.data;
    const lines = colourLines(this.area.value);
    while (this.copy.children.length > lines.length) [this.copy, this.gutter].forEach((column) => column.lastChild.remove());
    lines.forEach((pieces, index) => {
      const line = index + 1;
      const hasProblem = line === problem && this.isCurrent(line);
      const isLinked = line === this.linked && this.isCurrent(line);
      const state = JSON.stringify([pieces, hasProblem && message, isLinked]);
      if (this.copy.children.length <= index) {
        this.copy.append(make("div"));
        this.gutter.append(make("div", { textContent: line }));
      }
      const [row, number] = [this.copy.children[index], this.gutter.children[index]];
      if (row.state === state) return;
      row.state = state;
      row.replaceChildren(...pieces.map(([kind, text]) => (kind ? make("span", { className: kind }, text) : text)));
      row.classList.toggle("problem", hasProblem);
      row.classList.toggle("linked", isLinked);
      number.classList.toggle("problem", hasProblem);
      number.title = hasProblem ? message ?? "" : "";
      if (hasProblem && message) row.append(make("span", { className: "note", textContent: message.split("\n")[0] }));
    });
  }

  showLine(line) {
    const row = this.copy.children[line - 1];
    if (!row) return;
    const [top, bottom] = [row.offsetTop, row.offsetTop + row.offsetHeight];
    if (top < this.frame.scrollTop || bottom > this.frame.scrollTop + this.frame.clientHeight) this.frame.scrollTop = top - this.frame.clientHeight / 3;
  }

  // The textarea is as large as its text, so the browser does not scroll the frame around it by itself.
  followCaret() {
    const { area, frame } = this;
    const caret = area.selectionDirection === "backward" ? area.selectionStart : area.selectionEnd;
    if (caret === this.caret) return;
    this.caret = caret;
    const before = area.value.slice(0, caret).split("\n");
    const row = this.copy.children[before.length - 1];
    const x = before.at(-1).length * this.letterWidth;
    const room = frame.clientWidth - this.gutter.offsetWidth - 3 * this.letterWidth;
    const bottom = row.offsetTop + 2 * row.offsetHeight;
    frame.scrollTop = Math.min(row.offsetTop - row.offsetHeight, Math.max(frame.scrollTop, bottom - frame.clientHeight));
    frame.scrollLeft = x < room ? 0 : Math.min(x, Math.max(frame.scrollLeft, x - room));
  }

  tellLine() {
    const line = this.area.value.slice(0, this.area.selectionStart).split("\n").length;
    const current = this.isCurrent(line) ? line : null;
    if (current === this.told) return;
    this.told = current;
    window.dispatchEvent(new CustomEvent("explorer:line", { detail: { key: this.data.pair, line: current, source: "editor" } }));
  }

  // insertText keeps the browser's own undo; assigning to value would clear it.
  write(text) {
    if (text) document.execCommand("insertText", false, text);
    else document.execCommand("delete");
  }

  press(event) {
    if (event.isComposing) return;
    const hasControl = event.ctrlKey || event.metaKey;
    const wasLeaving = this.isLeaving;
    this.isLeaving = event.key === "Escape" && !this.isChoosing;
    if (hasControl && event.key === "Enter") this.run();
    else if (event.ctrlKey && event.key === " ") this.suggest(" ");
    else if (hasControl && event.key === "/") this.changeLines((lines) => this.toggleComments(lines));
    else if (hasControl || event.altKey) return;
    else if (this.isChoosing && this.choose(event.key)) this.isLeaving = false;
    else if (event.key === "Tab" && !wasLeaving) this.indent(event.shiftKey);
    else if (event.key === "Enter" && !event.shiftKey) this.write(`\n${this.nextIndent()}`);
    else return;
    event.preventDefault();
  }

  nextIndent() {
    const line = this.area.value.slice(0, this.area.selectionStart).split("\n").at(-1);
    const isOpening = line.replace(/#.*/, "").trimEnd().endsWith(":");
    return line.match(/^[ \t]*/)[0] + (isOpening ? INDENT : "");
  }

  indent(isBack) {
    const { area } = this;
    const column = area.selectionStart - (area.value.lastIndexOf("\n", area.selectionStart - 1) + 1);
    if (isBack) this.changeLines((lines) => lines.map((line) => line.replace(/^ {1,4}/, "")));
    else if (area.selectionStart === area.selectionEnd) this.write(" ".repeat(4 - (column % 4)));
    else this.changeLines((lines) => lines.map((line) => (line ? INDENT + line : line)));
  }

  toggleComments(lines) {
    const written = lines.filter((line) => line.trim());
    if (written.every((line) => /^\s*#/.test(line))) return lines.map((line) => line.replace(/^(\s*)# ?/, "$1"));
    const column = Math.min(...written.map((line) => line.search(/\S/)));
    return lines.map((line) => (line.trim() ? `${line.slice(0, column)}# ${line.slice(column)}` : line));
  }

  // Rewrites the lines that the selection touches and selects them again.
  changeLines(change) {
    const { area } = this;
    const { value, selectionStart: from, selectionEnd: to } = area;
    const start = value.lastIndexOf("\n", from - 1) + 1;
    const last = to > from && value[to - 1] === "\n" ? to - 1 : to;
    const end = value.indexOf("\n", last) < 0 ? value.length : value.indexOf("\n", last);
    const text = value.slice(start, end);
    const changed = change(text.split("\n")).join("\n");
    if (changed === text) return;
    area.setSelectionRange(start, end);
    this.write(changed);
    const fromEnd = value.length - to;
    if (from === to) area.setSelectionRange(Math.max(start, area.value.length - fromEnd), Math.max(start, area.value.length - fromEnd));
    else area.setSelectionRange(start, start + changed.length);
  }

  get isChoosing() {
    return this.names.matches(":popover-open");
  }

  // Names that go on from the caret: after a dot at once, elsewhere on Ctrl+Space.
  suggest(typed) {
    const before = this.area.value.slice(0, this.area.selectionStart);
    const path = before.match(/[\p{L}_][\p{L}\p{N}_.]*$|\.[\p{L}\p{N}_]*$/u)?.[0] ?? "";
    if (typed !== " " && typed !== "." && !(this.isChoosing && path)) return this.closeNames();
    const dot = path.lastIndexOf(".");
    const start = path.slice(dot + 1);
    const words = dot < 0 ? this.area.value.match(/[\p{L}_][\p{L}\p{N}_]{2,}/gu) ?? [] : [];
    const prefix = path.slice(0, dot + 1);
    const isKnown = this.data.completions.some((name) => name.startsWith(prefix));
    const offered = new Set();
    for (const name of [...this.data.completions, ...words]) {
      const cut = name.lastIndexOf(".") + 1;
      const owner = name.slice(0, cut);
      const fits = dot < 0 ? cut === 0 : owner === (isKnown ? prefix : ".");
      if (fits && name.slice(cut).startsWith(start) && name.slice(cut) !== start) offered.add(name.slice(cut));
    }
    if (!offered.size) return this.closeNames();
    this.start = start;
    this.names.replaceChildren(...[...offered].sort().slice(0, 60).map((name) => make("div", { role: "option", textContent: name })));
    this.chosen = 0;
    this.markChosen();
    this.placeNames(before.split("\n"), start);
  }

  placeNames(before, start) {
    const row = this.copy.children[before.length - 1];
    const box = row.getBoundingClientRect();
    if (!this.isChoosing) this.names.showPopover();
    const left = box.left + parseFloat(getComputedStyle(row).paddingLeft) + (before.at(-1).length - start.length) * this.letterWidth;
    const isLow = box.bottom + this.names.offsetHeight > innerHeight;
    this.names.style.left = `${Math.min(left, innerWidth - this.names.offsetWidth)}px`;
    this.names.style.top = `${isLow ? box.top - this.names.offsetHeight : box.bottom}px`;
  }

  get letterWidth() {
    const probe = make("span", { textContent: "0".repeat(100) });
    this.copy.firstChild.append(probe);
    const width = probe.getBoundingClientRect().width / 100;
    probe.remove();
    return width;
  }

  choose(key) {
    const count = this.names.children.length;
    if (key === "ArrowDown" || key === "ArrowUp") this.chosen = (this.chosen + (key === "ArrowDown" ? 1 : count - 1)) % count;
    else if (key === "Enter" || key === "Tab") return this.accept(this.chosen);
    else if (key === "Escape") return this.closeNames() ?? true;
    else return false;
    this.markChosen();
    return true;
  }

  markChosen() {
    [...this.names.children].forEach((name, index) => name.setAttribute("aria-selected", index === this.chosen));
    this.names.children[this.chosen].scrollIntoView({ block: "nearest" });
  }

  accept(index) {
    const rest = this.names.children[index].textContent.slice(this.start.length);
    this.closeNames();
    this.write(rest);
    return true;
  }

  closeNames() {
    if (this.isChoosing) this.names.hidePopover();
  }

  dispose() {
    document.removeEventListener("scroll", this.onScroll, true);
    window.removeEventListener("explorer:line", this.onLine);
  }
}

export default function editProgram(component) {
  const { parentElement } = component;
  let editor = mounted.get(parentElement);
  if (!editor) mounted.set(parentElement, (editor = new Editor(parentElement)));
  editor.update(component);
  return () => {
    mounted.delete(parentElement);
    editor.dispose();
  };
}
