// Figures as people read them; what was not measured is a dash, never a zero.

const DASH = "–";
const group = new Intl.NumberFormat("en");

function count(value) {
  return value === null || value === undefined ? DASH : group.format(value);
}

function digits(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function duration(ms) {
  if (ms === null || ms === undefined) return DASH;
  if (ms === 0) return "0 ms";
  if (ms < 1000) return `${digits(ms)} ms`;
  if (ms < 120_000) return `${digits(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

function size(bytes) {
  if (bytes === null || bytes === undefined) return DASH;
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${digits(value)} ${units[unit]}`;
}

function share(part, whole) {
  return whole ? `${((100 * part) / whole).toFixed(1)} %` : DASH;
}

function percentOf(part) {
  return `${part > 0 && part < 0.01 ? "<1" : Math.round(100 * part)} %`;
}

function money(usd) {
  if (usd === null || usd === undefined) return DASH;
  return `${usd.toFixed(usd < 10 ? 4 : 2)} USD`;
}

// A time stamp without its fraction of a second.
function instant(text) {
  return text.replace("T", " ").replace(/\.\d+/, "").replace("+00:00", " UTC");
}

function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

function sum(left, right) {
  return left === null && right === null ? null : (left ?? 0) + (right ?? 0);
}

const OUTCOMES = {
  solved: { glyph: "✓", label: "solved", class: "good" },
  failed: { glyph: "✗", label: "not solved", class: "bad" },
  unknown: { glyph: "?", label: "unknown", class: "open" },
};

function outcomeOf(solved) {
  return solved === true ? "solved" : solved === false ? "failed" : "unknown";
}

function outcomeBadge(solved) {
  const outcome = OUTCOMES[outcomeOf(solved)];
  return h("span", { class: `badge ${outcome.class}` }, h("span", { "aria-hidden": "true" }, outcome.glyph), " ", outcome.label);
}
