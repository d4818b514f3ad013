// Map: the cells of a large tensor, painted on a small canvas; blue is positive, white zero, orange negative.

const POSITIVE = [0, 114, 178];
const NEGATIVE = [213, 94, 0];
const NOT_FINITE = [80, 80, 80];
const WIDEST = 128;
const LARGEST_CELL = 12;
const LINE_HEIGHT = 14;

// The signed bytes of a map, -128 where something is not finite; null for what is none.
function readMap(map) {
  const [rows, columns] = map?.shape ?? [];
  try {
    const cells = Int8Array.from(atob(map.pixels), (letter) => letter.charCodeAt(0));
    return cells.length && cells.length === rows * columns ? { rows, columns, cells } : null;
  } catch {
    return null;
  }
}

function paintMap({ rows, columns, cells }, describes) {
  const canvas = make("canvas", { width: columns, height: rows, title: describes });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", describes);
  const side = Math.max(1, Math.min(LARGEST_CELL, Math.floor(WIDEST / Math.max(rows, columns))));
  canvas.style.setProperty("--across", columns * side);
  canvas.style.setProperty("--down", rows === 1 ? LINE_HEIGHT : rows * side);
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  cells.forEach((cell, index) => {
    const full = cell === -128 ? NOT_FINITE : cell < 0 ? NEGATIVE : POSITIVE;
    const share = cell === -128 ? 1 : Math.abs(cell) / 127;
    image.data.set([...full.map((part) => Math.round(255 + (part - 255) * share)), 255], 4 * index);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

// The map of a Summary with its facts beside and its caption below, or null where it has none.
function showMap(summary, facts) {
  const read = readMap(summary.map);
  if (!read) return null;
  const { rows, columns } = read;
  const odd = read.cells.filter((cell) => cell === -128).length;
  const shape = `(${summary.shape.join(", ")}${summary.shape.length === 1 ? "," : ""})`;
  const stands = rows * columns === countElements(summary) ? "each cell is one entry" : "each cell is the entry of largest magnitude of its block";
  const colours = `blue positive, white zero, orange negative${odd ? `, grey where nan or infinite (${odd})` : ""}`;
  const oddly = odd ? make("small", {}, make("i", { className: "not-finite" }), `${odd} ${odd === 1 ? "cell" : "cells"} with nan or inf`) : null;
  return make(
    "span", { className: "heat" },
    paintMap(read, `Heat map of ${shape}: ${stands}, ${colours}`),
    make("span", { className: "facts" }, facts.join("\n")),
    make("small", {}, `${rows} x ${columns} cells of ${shape}, full colour ${formatNumber(summary.map.limit)}`),
    oddly,
  );
}
