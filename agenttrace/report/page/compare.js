// Two traces side by side, with the place where they part.

const CONTEXT_LINES = 3;
const SHOWN_LINES = 30;
const SHOWN_RUNS = 60;
const SHOWN_COLUMNS = 600;

async function showCompare(route) {
  const rows = comparedRows(route.compare);
  const [left, right] = await Promise.all(rows.map(loadTrace));
  drawCompare(rows, left, right);
  document.title = `Compare – ${byId("title").textContent}`;
  window.scrollTo(0, 0);
}

// The two rows that an address names; one id alone, or twice, is the first and the second trace of that id.
function comparedRows(references) {
  if (references.length > 2 || !references.length) throw new Error(`A comparison is of two traces, and this address names ${count(references.length)}: write #compare=ID,ID.`);
  const [left, right] = references;
  const first = findRow(left);
  if (right !== undefined && right !== left) return [first, findRow(right)];
  const second = byKey.get(`${first.id}@2`);
  if (!second || second === first) throw new Error(`This address names one trace, ${first.key}, and no second one here has its id: write #compare=ID,ID, or mark two in the list.`);
  return [first, second];
}

function drawCompare(rows, left, right) {
  const all = pairs(left, right);
  const first = all.find((pair) => !pair.same);
  replace(byId("compare"),
    h("header", { class: "head" },
      h("p", { class: "way" }, h("a", { href: linkList() }, "All traces"), " / compare"),
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
    h("p", { class: "soft" }, h("bdi", {}, trace.model), " · ", h("bdi", { title: runText(row.runKey) }, row.runKey), " · ", h("code", {}, row.key), " ", copyButton("id of the trace", row.id, "Copy id")),
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

// The lines that differ with some around them, in each its words that differ, and a way to the whole text.
function differenceBlock(part, other) {
  if (!other) return block(part.text, part.kind ?? "prose");
  const mine = part.text.split("\n");
  const theirs = other.text.split("\n");
  const box = h("div", { class: `text ${part.kind ?? "prose"}`, dir: "auto" });
  const runs = lineRuns(mine, theirs);
  const shown = runs.slice(0, SHOWN_RUNS);
  put(box, [
    shown.map((run, at) => (run.same ? equalLines(mine.slice(...run.left), at > 0, at < runs.length - 1) : changedLines(mine.slice(...run.left), theirs.slice(...run.right)))),
    runs.length > shown.length ? h("p", { class: "skipped" }, `… ${plural(runs.length - shown.length, "part")} more`) : null,
    part.text.length > 400 || mine.length > 8 ? fold("Whole text", () => block(part.text, part.kind ?? "prose")) : null,
  ]);
  return box;
}

// Of lines that are equal, those next to what differs before and after them.
function equalLines(lines, after, before) {
  const line = (text) => h("pre", { class: "context" }, clipped([{ text, changed: false }]));
  const head = after ? CONTEXT_LINES : 0;
  const tail = before ? CONTEXT_LINES : 0;
  if (lines.length <= head + tail + 1) return lines.map(line);
  const skipped = h("p", { class: "skipped" }, `… ${plural(lines.length - head - tail, "equal line")}`);
  return [lines.slice(0, head).map(line), skipped, lines.slice(lines.length - tail).map(line)];
}

function changedLines(mine, theirs) {
  if (!mine.length) return h("p", { class: "skipped" }, `(${plural(theirs.length, "line")} missing here)`);
  const lines = segmentLines(wordSegments(mine.join("\n"), theirs.join("\n")));
  return [
    lines.slice(0, SHOWN_LINES).map((segments) => h("pre", { class: "changed" }, clipped(segments))),
    lines.length > SHOWN_LINES ? h("p", { class: "skipped" }, `… ${plural(lines.length - SHOWN_LINES, "different line")} more`) : null,
  ];
}

// The segments of a line; of a long one what lies around its first change.
function clipped(segments) {
  const length = segments.reduce((total, one) => total + one.text.length, 0);
  if (!length) return " ";
  let first = 0;
  for (const one of segments) {
    if (one.changed) break;
    first += one.text.length;
  }
  const start = length > SHOWN_COLUMNS && first < length && first > SHOWN_COLUMNS / 2 ? first - 100 : 0;
  const end = start + SHOWN_COLUMNS;
  let at = 0;
  const shown = segments.map(({ text, changed }) => {
    const part = text.slice(Math.max(0, start - at), Math.max(0, end - at));
    at += text.length;
    return part && (changed ? h("mark", {}, part) : part);
  });
  return [start ? "… " : null, shown.filter(Boolean), length > end ? ` … (${count(length - end)} more)` : null];
}

function metadataTable(left, right) {
  const different = leafDifferences(left.facts.metadata ?? {}, right.facts.metadata ?? {});
  if (!different.length) return h("p", { class: "soft" }, "Their metadata are equal.");
  const cell = (value) => h("td", {}, value === undefined ? DASH : h("bdi", {}, String(typeof value === "string" ? value : JSON.stringify(value)).slice(0, 300)));
  return fold(`Metadata that differ (${different.length})`, () => h("table", { class: "verdicts" },
    h("thead", {}, h("tr", {}, ["Field", "A", "B"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, different.map(([path, mine, theirs]) => h("tr", {}, h("th", { scope: "row" }, path), cell(mine), cell(theirs))))));
}
