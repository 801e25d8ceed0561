// Shows text that anyone may have written: what is invisible is made visible, what is huge is folded.

// Control characters but tab and line feed, marks that change the direction of text or have no width, tags, and halves
// of a character.
const HIDDEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e" +
    "\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}\\p{Cs}]+",
  "gu",
);
const MANY_HIDDEN = 400;
const FOLD_LINES = 24;
const FOLD_CHARS = 3000;
const PIECE_LINES = 200;
const PIECE_CHARS = 16000;
const MORE_CHARS = 4_000_000;

function symbol(char) {
  const code = char.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `⟨${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

function symbols(run) {
  return Array.from(run, symbol).join("");
}

// Text as a node in which every hidden character is a marked symbol; too many of them are symbols without a mark.
function revealed(text) {
  const found = text.match(HIDDEN);
  if (!found) return document.createTextNode(text);
  if (found.length > MANY_HIDDEN) return document.createTextNode(text.replace(HIDDEN, symbols));
  const fragment = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > end) fragment.append(text.slice(end, match.index));
    const mark = document.createElement("span");
    mark.className = "hidden-char";
    mark.title = Array.from(match[0].slice(0, 20), codeName).join(" ");
    mark.textContent = symbols(match[0]);
    fragment.append(mark);
    end = match.index + match[0].length;
  }
  if (end < text.length) fragment.append(text.slice(end));
  return fragment;
}

function codeName(char) {
  return `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

// Where to cut: after `lines` lines or `chars` characters from `start`, whichever comes first.
function cutAt(text, start, lines, chars) {
  let end = start;
  for (let line = 0; line < lines; line += 1) {
    const next = text.indexOf("\n", end);
    if (next === -1 || next - start >= chars) return Math.min(text.length, start + chars);
    end = next + 1;
  }
  return end;
}

// A block of text; beyond the first lines it is folded, with a button to show the rest.
function block(text, kind = "") {
  const box = h("div", { class: `text ${kind}`, dir: "auto" });
  if (text === "") {
    put(box, [h("pre", { class: "nothing" }, "(empty)")]);
    return box;
  }
  let shown = cutAt(text, 0, FOLD_LINES, FOLD_CHARS);
  if (text.length - shown < 400 && lineCount(text, shown) < 6) shown = text.length;
  put(box, [pieces(text, 0, shown)]);
  if (shown < text.length) box.append(moreButton(box, text, shown));
  return box;
}

function moreButton(box, text, shown) {
  const rest = text.length - shown;
  const all = rest <= MORE_CHARS;
  const amount = `${count(rest)} more characters, ${count(lineCount(text, shown))} lines`;
  const show = (event) => {
    const end = all ? text.length : shown + MORE_CHARS;
    event.currentTarget.remove();
    put(box, [pieces(text, shown, end)]);
    if (end < text.length) box.append(moreButton(box, text, end));
    else box.append(lessButton(box, text));
  };
  return h("button", { type: "button", class: "more", on: { click: show } }, `Show ${all ? "all" : "more"} (${amount})`);
}

function lessButton(box, text) {
  const fold = () => {
    const top = box.getBoundingClientRect().top;
    box.replaceWith(block(text, box.className.replace("text", "").trim()));
    if (top < 0) window.scrollBy(0, top - 80);
  };
  return h("button", { type: "button", class: "more", on: { click: fold } }, "Fold");
}

function lineCount(text, start) {
  let lines = start < text.length ? 1 : 0;
  for (let at = text.indexOf("\n", start); at !== -1 && at < text.length - 1; at = text.indexOf("\n", at + 1)) lines += 1;
  return lines;
}

// Pieces that the browser lays out only when they come into view: a line of a megabyte becomes many short ones.
function pieces(text, start, end) {
  const found = [];
  for (let at = start; at < end; ) {
    const next = Math.min(end, cutAt(text, at, PIECE_LINES, PIECE_CHARS));
    const whole = text[next - 1] === "\n";
    found.push(h("pre", { class: next < end && !whole ? "cut" : null }, text.slice(at, whole ? next - 1 : next) || " "));
    at = next;
  }
  return found;
}

// A fold whose content is made when it is first opened.
function fold(summary, make, options = {}) {
  const details = h("details", { class: options.class }, h("summary", {}, summary));
  const open = () => {
    if (details.open && details.childElementCount === 1) put(details, [make()]);
  };
  details.addEventListener("toggle", open);
  if (options.open) {
    details.open = true;
    open();
  }
  return details;
}
