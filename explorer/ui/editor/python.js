// Python: splits a program into coloured pieces, line by line.

const KEYWORDS = new Set("False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield".split(" "));
const BUILTINS = new Set("abs all any bool complex dict enumerate filter float int isinstance len list map max min next print range repr reversed round set slice sorted str sum super tuple type zip".split(" "));
const RULES = {
  comment: /#[^\n]*/,
  string: /(?:\b[rbfuRBFU]{1,2})?(?:"""(?:\\[^]|(?!""")[^\\])*(?:"""|\\?$(?![^]))|'''(?:\\[^]|(?!''')[^\\])*(?:'''|\\?$(?![^]))|"(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?)/,
  number: /\b0[xXbBoO][\da-fA-F_]+|(?:\b\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?j?/,
  decorator: /(?<=^[ \t]*)@[\w.]+/,
  word: /[\p{L}_][\p{L}\p{N}_]*/,
};
const TOKEN = new RegExp(Object.entries(RULES).map(([kind, rule]) => `(?<${kind}>${rule.source})`).join("|"), "gmu");

function kindOf(word, before) {
  if (before === "def" || before === "class") return "defined";
  if (KEYWORDS.has(word)) return "keyword";
  return BUILTINS.has(word) && before !== "." ? "builtin" : "";
}

// The replacement fields of an f-string are code again.
function splitString(text) {
  if (!/^[rR]?[fF]/.test(text)) return [["string", text]];
  return text.split(/(\{[^{}\n]*\})/).filter(Boolean).map((part) => [part.startsWith("{") && part.endsWith("}") ? "field" : "string", part]);
}

function splitTokens(text) {
  const pieces = [];
  let end = 0;
  let before = "";
  for (const match of text.matchAll(TOKEN)) {
    const between = text.slice(end, match.index);
    if (between) pieces.push(["", between]);
    if (between.trim()) before = between.trim().at(-1);
    const [kind, token] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    if (kind === "string") pieces.push(...splitString(token));
    else pieces.push([kind === "word" ? kindOf(token, before) : kind, token]);
    before = token;
    end = match.index + token.length;
  }
  if (end < text.length) pieces.push(["", text.slice(end)]);
  return pieces;
}

// One array of [class, text] pieces for each line.
function colourLines(text) {
  const lines = [[]];
  for (const [kind, piece] of splitTokens(text)) {
    piece.split("\n").forEach((part, index) => {
      if (index) lines.push([]);
      if (part) lines.at(-1).push([kind, part]);
    });
  }
  return lines;
}
