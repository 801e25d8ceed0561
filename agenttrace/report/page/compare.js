// Two traces side by side, with the place where they part.

const CONTEXT_LINES = 3;
const SHOWN_LINES = 30;
const SHOWN_COLUMNS = 600;

async function showCompare(route) {
  const rows = route.compare.map((reference) => {
    const row = findRow(reference);
    if (!row) throw new Error(`No trace ${reference} is in this report.`);
    return row;
  });
  const [left, right] = await Promise.all(rows.map(loadTrace));
  drawCompare(rows, left, right);
  document.title = `Compare – ${byId("title").textContent}`;
  window.scrollTo(0, 0);
}

function drawCompare(rows, left, right) {
  const all = pairs(left, right);
  const first = all.find((pair) => !pair.same);
  replace(byId("compare"),
    h("header", { class: "head" },
      h("p", { class: "way" }, h("a", { href: listFragment() }, "All traces"), " / compare"),
      h("h1", { tabindex: "-1" }, "Two traces side by side"),
      verdictOfComparison(first)),
    h("div", { class: "pair titles" }, [[rows[0], left], [rows[1], right]].map(([row, trace], side) => sideTitle(row, trace, side))),
    h("div", { class: "pairs" }, gradually(shownParts(all), (part) => (Array.isArray(part) ? equalRun(part) : differentPair(part, part === first)), "parts")),
    metadataTable(left, right));
}

function verdictOfComparison(first) {
  if (!first) return h("p", { class: "finding same" }, "Equal in everything that was said and done. Times and costs are measured and not compared.");
  let where = first.left && first.right ? placeText(firstDifference(first.left.text, first.right.text)) : `only the ${first.left ? "left" : "right"} trace has it`;
  where = `${first.label}, ${where}`;
  return h("p", { class: "finding" }, "First difference: ", h("b", {}, where), " ", h("button", { type: "button", class: "button", id: "jump", on: { click: jumpToDifference } }, "Go there"));
}

function placeText(place) {
  return `line ${count(place.line)}, character ${count(place.column)}`;
}

function jumpToDifference() {
  const target = byId("first-difference");
  target?.scrollIntoView({ block: "center" });
  target?.focus({ preventScroll: true });
}

function sideTitle(row, trace, side) {
  const figures = [duration(trace.ms), plural(row.steps, "step"), plural(row.calls, "call"), `${count(row.tokens_out)} tokens`, `CPU ${duration(row.cpu_ms)}`, `peak ${size(row.peak)}`];
  return h("div", { class: "side-title" },
    h("h2", {}, h("span", { class: "letter" }, "AB"[side]), h("a", { href: linkTrace(row) }, h("bdi", {}, taskName(row))), " ", outcomeBadge(trace.solved)),
    h("p", { class: "soft" }, h("bdi", {}, trace.model), " · ", report.files[row.file].name, " · ", h("code", {}, row.key)),
    h("p", {}, figures.join(" · ")));
}

// What is shown, in order: equal pairs together, in a list, and each pair that differs.
function shownParts(all) {
  return runsOfPairs(all).flatMap((run) => (run.same ? [run.pairs] : run.pairs));
}

// Pairs in runs of equal and of different ones: what is equal is folded together.
function runsOfPairs(all) {
  const runs = [];
  for (const pair of all) {
    if (runs.at(-1)?.same === pair.same) runs.at(-1).pairs.push(pair);
    else runs.push({ same: pair.same, pairs: [pair] });
  }
  return runs;
}

function equalRun(run) {
  const names = run.length > 2 ? `${run[0].label} to ${run.at(-1).label}` : run.map((pair) => pair.label).join(", ");
  return fold([h("span", { class: "same-mark" }, "= "), `${plural(run.length, "equal part")}: ${names}`], () => run.map((pair) => h("section", { class: "equal" }, h("h3", {}, pair.label), block(pair.left.text, pair.left.kind ?? "prose"))), { class: "equal-run" });
}

function differentPair(pair, isFirst) {
  const side = (part, other, letter) => h("div", { class: "half", "data-side": letter }, part ? differenceBlock(part, other) : h("p", { class: "soft" }, "(nothing)"));
  return h("section", { class: `different ${isFirst ? "first" : ""}`, id: isFirst ? "first-difference" : null, tabindex: isFirst ? "-1" : null },
    h("h3", {}, pair.label, isFirst ? h("span", { class: "badge bad" }, "first difference") : null),
    h("div", { class: "pair" }, side(pair.left, pair.right, "A"), side(pair.right, pair.left, "B")));
}

// The lines around the difference, the different ones marked, with a way to the whole text.
function differenceBlock(part, other) {
  if (!other) return block(part.text, part.kind ?? "prose");
  const mine = part.text.split("\n");
  const theirs = other.text.split("\n");
  let head = 0;
  while (head < mine.length && head < theirs.length && mine[head] === theirs[head]) head += 1;
  let tail = 0;
  while (tail < mine.length - head && tail < theirs.length - head && mine.at(-1 - tail) === theirs.at(-1 - tail)) tail += 1;
  const column = head < theirs.length - tail ? (firstDifference(mine[head] ?? "", theirs[head])?.column ?? 1) : 1;
  const box = h("div", { class: `text ${part.kind ?? "prose"}`, dir: "auto" });
  const line = (text, kind) => h("pre", { class: kind }, clipped(text, 0) || " ");
  const skipped = (number) => (number > 0 ? h("p", { class: "skipped" }, `… ${plural(number, "equal line")}`) : null);
  const from = Math.max(0, head - CONTEXT_LINES);
  const changed = mine.slice(head, mine.length - tail);
  put(box, [
    skipped(from), mine.slice(from, head).map((text) => line(text, "context")),
    changed.slice(0, SHOWN_LINES).map((text, at) => h("pre", { class: "changed" }, at === 0 ? markedLine(text, column) : clipped(text, 0) || " ")),
    changed.length ? null : h("p", { class: "skipped" }, "(these lines are missing here)"),
    changed.length > SHOWN_LINES ? h("p", { class: "skipped" }, `… ${plural(changed.length - SHOWN_LINES, "different line")} more`) : null,
    mine.slice(mine.length - tail, mine.length - tail + CONTEXT_LINES).map((text) => line(text, "context")),
    skipped(tail - CONTEXT_LINES),
    part.text.length > 400 || mine.length > 8 ? fold("Whole text", () => block(part.text, part.kind ?? "prose")) : null,
  ]);
  return box;
}

function clipped(text, from) {
  const start = from > SHOWN_COLUMNS / 2 ? from - 100 : 0;
  const end = start + SHOWN_COLUMNS;
  return `${start ? "… " : ""}${text.slice(start, end)}${end < text.length ? ` … (${count(text.length - end)} more)` : ""}`;
}

// A line with a mark on the first character that differs; at its end when the other goes on.
function markedLine(text, column) {
  const at = Array.from(text).slice(0, column - 1).join("").length;
  const start = at > SHOWN_COLUMNS / 2 ? at - 100 : 0;
  const char = Array.from(text.slice(at, at + 2))[0] ?? "";
  return [start ? "… " : null, text.slice(start, at), h("mark", { title: "the first character that differs" }, char || " "), clipped(text.slice(at + char.length), 0)];
}

function metadataTable(left, right) {
  const different = leafDifferences(left.facts.metadata ?? {}, right.facts.metadata ?? {});
  if (!different.length) return h("p", { class: "soft" }, "Their metadata are equal.");
  const cell = (value) => h("td", {}, value === undefined ? DASH : h("bdi", {}, String(typeof value === "string" ? value : JSON.stringify(value)).slice(0, 300)));
  return fold(`Metadata that differ (${different.length})`, () => h("table", { class: "verdicts" },
    h("thead", {}, h("tr", {}, ["Field", "A", "B"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, different.map(([path, mine, theirs]) => h("tr", {}, h("th", { scope: "row" }, path), cell(mine), cell(theirs))))));
}
