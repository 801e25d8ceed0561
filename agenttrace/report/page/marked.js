// Marked traces: two are compared, any number is exported.

const MOST_NAMED = 3;

function toggleMark(row) {
  list.marked = list.marked.includes(row) ? list.marked.filter((other) => other !== row) : [...list.marked, row];
  showMarked();
  drawRows(true);
}

function showMarked() {
  const bar = byId("marked");
  bar.hidden = !list.marked.length;
  if (bar.hidden) return;
  const clear = () => {
    list.marked = [];
    showMarked();
    drawRows(true);
  };
  const names = list.marked.slice(0, MOST_NAMED).map(taskName);
  const rest = list.marked.length - names.length;
  const what = list.marked.length === 2
    ? h("a", { class: "button", href: linkCompare(...list.marked) }, "Compare")
    : h("span", { class: "soft" }, "mark two to compare");
  const out = exportButton("export-marked", () => list.marked);
  out.title = exportMeaning(list.marked);
  replace(bar, h("span", { class: "names" }, `${plural(list.marked.length, "trace")} marked: ${names.join(", ")}${rest > 0 ? ` and ${count(rest)} more` : ""}`),
    what, out, h("button", { type: "button", class: "quiet", on: { click: clear } }, "Clear"));
}
