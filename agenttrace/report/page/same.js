// The other traces of a task: a few as chips, all of them as a table.

const CHIPS = 6;

function sameTaskPart(row) {
  const others = sameTask(row);
  if (!others.length) return null;
  const badge = solvedBadge([row, ...others]);
  const all = others.length > CHIPS
    ? fold(`All ${count(others.length)} others`, () => h("div", { class: "wide-table" }, h("table", { class: "chart-table same" },
      h("thead", {}, h("tr", {}, ["Outcome", "Trace", "Run", "Model", "Steps", "Time", ""].map((name) => h("th", { scope: "col" }, name || h("span", { class: "unseen" }, "Compare"))))),
      h("tbody", {}, gradually(others, (other) => sameRow(row, other), "traces")))))
    : null;
  const list = linkList({ ...Object.fromEntries(FILTERS.map((name) => [name, ""])), dataset: several("dataset") ? row.dataset : "", q: "", group: "task" });
  return h("section", { class: "others", "aria-label": "Same task" },
    h("p", {}, "Same task: ", badge, " ", others.slice(0, CHIPS).map((other) => chip(row, other)), others.length > CHIPS ? ` and ${count(others.length - CHIPS)} more, below` : null, " ", h("a", { href: list }, "all tasks")),
    all);
}

// What tells one trace of a task from the others.
function distinction(row, other) {
  const found = [];
  if (other.runKey !== row.runKey) found.push(report.runs.get(other.runKey).short);
  if (other.model !== row.model) found.push(other.model);
  if (rolloutName(other)) found.push(rolloutName(other));
  return found.length ? found : [other.key.slice(0, 13)];
}

function chip(row, other) {
  const outcome = OUTCOMES[outcomeOf(other.solved)];
  const what = distinction(row, other);
  return h("a", { class: `chip ${outcome.class}`, href: linkCompare(row, other), title: `${runText(other.runKey)}\n${other.key}`, },
    h("span", { class: "unseen" }, "compare with "), h("span", { class: "glyph", "aria-hidden": "true" }, outcome.glyph),
    what.map((part, at) => [at ? " · " : null, part === rolloutName(other) ? part : middle(part)]), ` · ${duration(other.ms)}`, h("span", { class: "unseen" }, `, ${outcome.label}`));
}

function sameRow(row, other) {
  return h("tr", {}, h("td", {}, outcomeBadge(other.solved)), h("td", {}, h("a", { href: linkTrace(other) }, rolloutName(other) ?? other.key.slice(0, 13))),
    h("td", { title: runText(other.runKey) }, runShort(other.runKey)), h("td", {}, h("bdi", {}, other.model)), h("td", { class: "number" }, count(other.steps)), h("td", { class: "number" }, duration(other.ms)),
    h("td", {}, h("a", { href: linkCompare(row, other), "aria-label": `compare with ${distinction(row, other).join(", ")}` }, "compare")));
}
