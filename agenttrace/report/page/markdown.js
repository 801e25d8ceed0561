// A prompt as its writer meant it (headings, fenced code), and diffs with their lines coloured.

const PATCH_LINES = 400;
const PATCH_CHARS = 40_000;
const MOST_PARTS = 400;
const FENCE = /^(`{3,}|~{3,})[^`\n]*$/;
const DIFF = /^(diff --git |--- [^\n]*\n\+\+\+ |@@ -\d+)/m;

// Headings become headings and fences code; all else stays as it was written. Long texts are left as one, to be folded.
function rendered(text) {
  const lines = text.split("\n");
  if (text.length > PATCH_CHARS || !lines.some((line) => /^#{1,6} |^(```|~~~)/.test(line))) return block(text, "prose");
  const found = [];
  let plain = [];
  const close = () => {
    const part = plain.join("\n").trim();
    if (part) found.push(block(part, "prose"));
    plain = [];
  };
  for (let at = 0; at < lines.length && found.length < MOST_PARTS; at += 1) {
    const fence = FENCE.exec(lines[at]);
    const end = fence ? lines.findIndex((line, place) => place > at && line.trim() === fence[1]) : -1;
    const heading = /^#{1,6} +(.*\S)/.exec(lines[at]);
    if (end > at) {
      close();
      found.push(block(lines.slice(at + 1, end).join("\n"), "code"));
      at = end;
    } else if (heading) {
      close();
      found.push(h("h3", { class: "heading" }, heading[1]));
    } else plain.push(lines[at]);
  }
  close();
  return h("div", { class: "rendered" }, found.length < MOST_PARTS ? found : block(text, "prose"));
}

function isDiff(text) {
  return DIFF.test(text.slice(0, PATCH_CHARS)) && /^@@ -\d+/m.test(text);
}

// A text of code; where it is a diff, its added and removed lines are marked. A long one is a plain text, folded.
function codeOrDiff(text) {
  return isDiff(text) ? patchBlock(text) : block(text, "code");
}

function patchBlock(text) {
  const lines = text.replace(/\n$/, "").split("\n");
  if (lines.length > PATCH_LINES || text.length > PATCH_CHARS) return block(text, "code");
  const kind = (line) => (/^(\+\+\+|---|diff |index |@@)/.test(line) ? "context" : line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : null);
  return h("div", { class: "text code patch", dir: "auto" }, lines.map((line) => h("pre", { class: kind(line) }, line || " ")));
}
