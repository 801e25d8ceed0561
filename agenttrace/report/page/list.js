// The list of traces: a table that holds only the rows in view, so that its length does not matter.

const COLUMNS = [
  { id: "mark", label: "Mark", hidden: true },
  { id: "outcome", sort: "outcome" },
  { id: "task", sort: "task" },
  { id: "prompt" },
  { id: "run", sort: "run" },
  { id: "file", sort: "file" },
  { id: "model", sort: "model" },
  { id: "exits" },
  { id: "steps", sort: "steps", number: true },
  { id: "calls", sort: "calls", number: true },
  { id: "tokens", sort: "tokens", number: true },
  { id: "time", sort: "time", number: true },
  { id: "cpu", sort: "cpu", number: true },
  { id: "memory", sort: "memory", number: true },
  { id: "io", sort: "io", number: true },
];
const SPARE_ROWS = 12;
const NEAR_ROWS = 2;

// `rows` are the traces in their order, `items` what is drawn of them: `{ row }`, or the head of a group.
const list = { rows: [], items: [], sort: "", group: "", open: new Set(), current: -1, marked: [], first: 0, last: 0, scrollTop: 0, built: false };

function buildList() {
  put(byId("list"), [
    h("h1", { class: "unseen", tabindex: "-1" }, "Traces"),
    h("div", { class: "scroller", id: "scroller", on: { scroll: () => requestAnimationFrame(drawRows) } },
      h("table", {}, h("thead", {}, h("tr", {}, COLUMNS.map(headCell))), h("tbody", { id: "rows" }))),
    h("div", { class: "marked", id: "marked", hidden: true }),
  ]);
  byId("rows").addEventListener("click", clickRow);
  window.addEventListener("resize", () => requestAnimationFrame(() => drawRows(true)));
  list.built = true;
}

// A column in which every trace has the same is left out.
function showColumns() {
  const classes = byId("scroller").classList;
  classes.toggle("one-model", report.models < 2);
  classes.toggle("one-run", report.runs.size < 2);
  classes.toggle("one-file", !report.filesTell);
  classes.toggle("wide", report.models > 1 && report.runs.size > 1);
}

function headCell(column) {
  const label = column.label ?? FIGURES[column.id][0];
  const attributes = { scope: "col", class: `${column.id} ${column.number ? "number" : ""}`, title: meaning(column.id), "data-sort": column.sort };
  if (!column.sort) return h("th", attributes, column.hidden ? h("span", { class: "unseen" }, label) : label);
  return h("th", attributes, h("button", { type: "button", on: { click: () => sortBy(column) } }, label));
}

// The first click puts the largest figures on top, or the first names; the second turns it round, the third ends it.
function sortBy(column) {
  const [first, second] = column.number ? [`-${column.sort}`, column.sort] : [column.sort, `-${column.sort}`];
  list.sort = list.sort === first ? second : list.sort === second ? "" : first;
  applyFilters();
}

function showList(route) {
  takeChoice(route);
  byId("scroller").scrollTop = list.scrollTop;
  drawRows(true);
  if (list.current >= 0 && list.visited) focusRow(list.current);
}

// Puts rows on the list; with `keep` the rows on the screen stay where they are.
function setRows(rows, keep) {
  const kept = list.items[list.current];
  const anchor = keep ? anchorItem() : null;
  list.rows = sorted(rows, list.sort);
  list.grouped = list.group;
  list.items = groupedItems(list.rows);
  list.current = kept ? placeOf(kept) : -1;
  for (const cell of document.querySelectorAll("#list th[data-sort]")) {
    const on = list.sort.replace("-", "") === cell.dataset.sort;
    if (on) cell.setAttribute("aria-sort", list.sort.startsWith("-") ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  showColumns();
  showGroupButton();
  if (!keep) list.scrollTop = byId("scroller").scrollTop = 0;
  drawRows(true);
  if (!anchor || byId("list").hidden) return;
  const at = placeOf(anchor.item);
  if (at >= 0) byId("scroller").scrollTop = at * list.height + anchor.within;
  drawRows(true);
}

function placeOf(item) {
  return list.items.findIndex((other) => (item.row ? other.row?.key === item.row.key : other.group !== undefined && other.group === item.group));
}

function anchorItem() {
  if (!list.scrollTop || !list.height) return null;
  const at = Math.floor(list.scrollTop / list.height);
  return list.items[at] ? { item: list.items[at], within: list.scrollTop - at * list.height } : null;
}

function rowHeight() {
  return Number.parseFloat(getComputedStyle(byId("scroller")).getPropertyValue("--row-height"));
}

// Draws the rows in view between two empty rows that are as high as everything above and below.
function drawRows(anew = false) {
  const scroller = byId("scroller");
  if (!scroller || byId("list").hidden) return;
  list.scrollTop = scroller.scrollTop;
  const height = anew === true || !list.height ? (list.height = rowHeight()) : list.height;
  const top = Math.floor(list.scrollTop / height);
  const bottom = Math.ceil((list.scrollTop + scroller.clientHeight) / height);
  // Nothing to do while the rows drawn last reach beyond the window on both sides.
  const enough = (list.first === 0 || top - NEAR_ROWS >= list.first) && (list.last === list.items.length || bottom + NEAR_ROWS <= list.last);
  if (anew !== true && enough) return;
  const first = Math.max(0, Math.min(list.items.length, top) - SPARE_ROWS);
  const last = Math.min(list.items.length, bottom + SPARE_ROWS);
  const body = byId("rows");
  const kept = new Map();
  if (anew !== true) for (const row of body.querySelectorAll("tr[data-at]")) kept.set(Number(row.dataset.at), row);
  const focused = body.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.at : null;
  const drawn = [];
  for (let at = first; at < last; at += 1) drawn.push(kept.get(at) ?? itemRow(list.items[at], at));
  body.replaceChildren(spacer(first * height), ...drawn, spacer((list.items.length - last) * height));
  if (!list.items.length) body.append(h("tr", {}, h("td", { class: "none", colspan: COLUMNS.length }, report.rows.length ? "No trace passes these filters." : "No trace yet.")));
  body.closest("table").setAttribute("aria-rowcount", list.items.length + 1);
  list.first = first;
  list.last = last;
  if (focused) body.querySelector(`tr[data-at="${focused}"] :is(a, .toggle)`)?.focus({ preventScroll: true });
}

function spacer(height) {
  const row = h("tr", { class: "spacer", "aria-hidden": "true" });
  row.style.height = `${height}px`;
  return row;
}

function itemRow(item, at) {
  return item.row ? listRow(item.row, at) : groupRow(item, at);
}

function listRow(row, at) {
  const marked = list.marked.includes(row);
  const trouble = [...row.troubles, ...row.exits.filter((code) => code !== 0)];
  const name = taskName(row);
  const cell = (id, ...content) => h("td", { class: id }, content);
  const figure = (id, label, content) => h("td", { class: `${id} number`, "data-label": label }, content);
  return h("tr", { "data-at": at, "aria-rowindex": at + 2, class: at === list.current ? "current" : null },
    cell("mark", h("input", { type: "checkbox", checked: marked, "aria-label": `Mark ${name}`, tabindex: "-1" })),
    cell("outcome", outcomeBadge(row.solved)),
    h("td", { class: `task ${list.group ? "inner" : ""}`, title: `${name}\n${row.key}` }, h("div", {}, h("a", { href: linkTrace(row), "aria-label": name }, middle(taskMain(row))), h("bdi", { class: "soft" }, taskSoft(row)))),
    promptCell(row),
    h("td", { class: "run", title: runText(row.runKey) }, runShort(row.runKey)),
    h("td", { class: "file", title: fileName(row) }, middle(fileName(row))),
    h("td", { class: "model", title: row.model }, middle(row.model)),
    cell("exits", trouble.length ? h("span", { class: "warn" }, trouble.join(", ")) : row.exits.length ? "0" : DASH),
    figure("steps", "steps", count(row.steps)),
    figure("calls", "calls", count(row.calls)),
    figure("tokens", "tokens", count(row.tokens_out)),
    figure("time", "time", duration(row.ms)),
    figure("cpu", "CPU", duration(row.cpu_ms)),
    figure("memory", "peak", size(row.peak)),
    figure("io", "disk", size(sum(row.read, row.write))),
  );
}

// What was asked; while something is searched for, where that stands in the trace.
function promptCell(row) {
  const cell = h("td", { class: "prompt", title: row.prompt }, h("bdi", {}, row.prompt));
  const query = filters.q;
  if (query) {
    snippetOf(row, query).then((found) => {
      if (found && query === filters.q) replace(cell, h("span", { class: "kind", title: found.where }, `${found.where.split(", ").at(-1)}: `), h("bdi", {}, found.before, h("mark", { class: "hit" }, found.hit), found.after));
    }, () => null);
  }
  return cell;
}

function clickRow(event) {
  const at = event.target.closest("tr[data-at]")?.dataset.at;
  if (at === undefined) return;
  list.current = Number(at);
  const item = list.items[list.current];
  if (item.group !== undefined) {
    toggleGroup(item.group);
  } else if (event.target.closest("td.mark")) {
    toggleMark(item.row);
  } else if (!event.target.closest("a") && !String(getSelection())) {
    go(linkTrace(item.row));
  }
}

function openCurrent() {
  const item = list.items[list.current];
  if (item?.row) go(linkTrace(item.row));
  else if (item) toggleGroup(item.group);
}

// Makes a row the current one; where its group is closed, that opens.
function revealRow(row) {
  if (GROUPS[list.group] && list.rows.includes(row)) {
    list.open.add(GROUPS[list.group].key(row));
    list.items = groupedItems(list.rows);
  }
  list.current = placeOf({ row });
}

function moveInList(by) {
  if (!list.items.length) return;
  focusRow(Math.min(list.items.length - 1, Math.max(0, list.current + by)));
}

function focusRow(at) {
  list.current = at;
  const scroller = byId("scroller");
  const height = rowHeight();
  const room = scroller.clientHeight - scroller.querySelector("thead").offsetHeight;
  if (at * height < scroller.scrollTop) scroller.scrollTop = at * height;
  else if ((at + 1) * height > scroller.scrollTop + room) scroller.scrollTop = (at + 1) * height - room;
  drawRows(true);
  byId("rows").querySelector(`tr[data-at="${at}"] :is(a, .toggle)`)?.focus({ preventScroll: true });
}
