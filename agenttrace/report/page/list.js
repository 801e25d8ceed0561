// The list of traces: filters, and a table that holds only the rows in view, so that its length does not matter.

const COLUMNS = [
  { id: "mark", label: "Compare", hidden: true },
  { id: "outcome", label: "Outcome", sort: "outcome" },
  { id: "task", label: "Task", sort: "task" },
  { id: "prompt", label: "Prompt" },
  { id: "model", label: "Model", sort: "model" },
  { id: "exits", label: "Exit codes" },
  { id: "steps", label: "Steps", sort: "steps", number: true },
  { id: "calls", label: "Calls", sort: "calls", number: true },
  { id: "tokens", label: "Tokens", sort: "tokens", number: true, title: "tokens generated" },
  { id: "time", label: "Time", sort: "time", number: true },
  { id: "cpu", label: "CPU", sort: "cpu", number: true, title: "CPU time of the tool calls" },
  { id: "memory", label: "Memory", sort: "memory", number: true, title: "largest peak of a tool call" },
  { id: "io", label: "Disk", sort: "io", number: true, title: "read and written by the tool calls" },
];
const SPARE_ROWS = 12;
const NEAR_ROWS = 2;

const list = { rows: [], sort: "", current: -1, marked: [], first: 0, last: 0, scrollTop: 0, built: false };

function buildList() {
  const section = byId("list");
  const search = h("input", {
    type: "search", id: "q", placeholder: "Search prompts, reasoning, commands, outputs", spellcheck: "false",
    autocomplete: "off", "aria-label": "Search", on: { input: () => laterFilter(), focus: () => section.classList.add("searching") },
  });
  const selects = Object.entries(FACETS).map(([name, facet]) => facetSelect(name, facet));
  const clear = h("button", { type: "button", class: "quiet", id: "clear", on: { click: clearFilters } }, "Clear");
  const head = COLUMNS.map(headCell);
  put(section, [
    h("h1", { class: "unseen", tabindex: "-1" }, "Traces"),
    h("form", { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } }, search, selects, clear),
    report.files.filter((file) => file.missing).map((file) => h("p", { class: "partial" }, h("b", {}, "PARTIAL"), `: ${file.missing} of `, h("bdi", {}, file.name), " could not be read and is not here.")),
    h("p", { class: "status" }, h("span", { id: "count", role: "status" }), h("span", { id: "totals" })),
    h("div", { class: "scroller", id: "scroller", on: { scroll: () => requestAnimationFrame(drawRows) } },
      h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", { id: "rows" }))),
    h("div", { class: "marked", id: "marked", hidden: true }),
  ]);
  byId("scroller").classList.toggle("one-model", new Set(report.rows.map((row) => row.model)).size < 2);
  byId("rows").addEventListener("click", clickRow);
  window.addEventListener("resize", () => requestAnimationFrame(() => drawRows(true)));
  list.built = true;
}

function facetSelect(name, facet) {
  const values = facetCounts(name);
  const options = values.map(([value, number]) => h("option", { value }, `${facet.shown?.(value) ?? value} (${count(number)})`));
  return h("select", { id: `filter-${name}`, "aria-label": facet.label, hidden: values.length < 2, on: { change: applyFilters } },
    h("option", { value: "" }, facet.label), options);
}

function headCell(column) {
  const attributes = { scope: "col", class: `${column.id} ${column.number ? "number" : ""}`, title: column.title, "data-sort": column.sort };
  if (!column.sort) return h("th", attributes, column.hidden ? h("span", { class: "unseen" }, column.label) : column.label);
  return h("th", attributes, h("button", { type: "button", on: { click: () => sortBy(column) } }, column.label));
}

// The first click puts the largest figures on top, or the first names; the second turns it round, the third ends it.
function sortBy(column) {
  const [first, second] = column.number ? [`-${column.sort}`, column.sort] : [column.sort, `-${column.sort}`];
  list.sort = list.sort === first ? second : list.sort === second ? "" : first;
  applyFilters();
}

function showList(route) {
  if (!list.built) buildList();
  list.sort = route.sort;
  for (const name of FILTERS) byId(name === "q" ? "q" : `filter-${name}`).value = route.filters[name];
  const changed = FILTERS.some((name) => filters[name] !== route.filters[name]) || list.sorted !== list.sort;
  if (changed || !list.filtered) applyFilters();
  byId("scroller").scrollTop = list.scrollTop;
  drawRows(true);
  if (list.current >= 0 && list.visited) focusRow(list.current);
}

let filterTimer = 0;

function laterFilter() {
  clearTimeout(filterTimer);
  filterTimer = setTimeout(applyFilters, 90);
}

function clearFilters() {
  for (const name of FILTERS) byId(name === "q" ? "q" : `filter-${name}`).value = "";
  applyFilters();
  byId("q").focus();
}

function applyFilters() {
  clearTimeout(filterTimer);
  for (const name of FILTERS) filters[name] = byId(name === "q" ? "q" : `filter-${name}`).value;
  list.filtered = true;
  list.sorted = list.sort;
  byId("clear").hidden = FILTERS.every((name) => !filters[name]);
  for (const cell of document.querySelectorAll("#list th[data-sort]")) {
    const on = list.sort.replace("-", "") === cell.dataset.sort;
    if (on) cell.setAttribute("aria-sort", list.sort.startsWith("-") ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  if (readRoute().view === "list") note(listFragment());
  const candidates = report.rows.filter(passesFacets);
  cancelSearch();
  if (!filters.q) {
    setRows(candidates, true);
    return;
  }
  search(filters.q, candidates, (hits, done, total) => {
    setRows(hits, done === total);
    if (done < total) replace(byId("count"), `${plural(hits.length, "trace")} so far, searched ${count(done)} of ${count(total)}`);
  }).catch(complain);
}

function listFragment() {
  return fragment({ ...filters, sort: list.sort });
}

function setRows(rows, complete) {
  const kept = list.rows[list.current];
  list.rows = sorted(rows, list.sort);
  list.current = kept ? list.rows.indexOf(kept) : -1;
  if (complete) {
    const all = rows.length === report.rows.length;
    replace(byId("count"), all ? plural(rows.length, "trace") : `${count(rows.length)} of ${plural(report.rows.length, "trace")}`);
    showTotals(rows);
  }
  list.scrollTop = byId("scroller").scrollTop = 0;
  drawRows(true);
}

function showTotals(rows) {
  const judged = rows.filter((row) => row.solved !== null);
  const solved = judged.filter((row) => row.solved).length;
  const share = judged.length ? `${((100 * solved) / judged.length).toFixed(1)} % solved of ${count(judged.length)} judged` : "none judged";
  const calls = rows.reduce((total, row) => total + row.calls, 0);
  replace(byId("totals"), rows.length ? ` · ${share} · ${plural(calls, "tool call")}` : "");
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
  const enough = (list.first === 0 || top - NEAR_ROWS >= list.first) && (list.last === list.rows.length || bottom + NEAR_ROWS <= list.last);
  if (anew !== true && enough) return;
  const first = Math.max(0, Math.min(list.rows.length, top) - SPARE_ROWS);
  const last = Math.min(list.rows.length, bottom + SPARE_ROWS);
  const body = byId("rows");
  const kept = new Map();
  if (anew !== true) for (const row of body.querySelectorAll("tr[data-at]")) kept.set(Number(row.dataset.at), row);
  const focused = body.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.at : null;
  const drawn = [];
  for (let at = first; at < last; at += 1) drawn.push(kept.get(at) ?? listRow(list.rows[at], at));
  body.replaceChildren(spacer(first * height), ...drawn, spacer((list.rows.length - last) * height));
  if (!list.rows.length) body.append(h("tr", {}, h("td", { class: "none", colspan: COLUMNS.length }, "No trace passes these filters.")));
  body.closest("table").setAttribute("aria-rowcount", list.rows.length + 1);
  list.first = first;
  list.last = last;
  if (focused) body.querySelector(`tr[data-at="${focused}"] a`)?.focus({ preventScroll: true });
}

function spacer(height) {
  const row = h("tr", { class: "spacer", "aria-hidden": "true" });
  row.style.height = `${height}px`;
  return row;
}

function listRow(row, at) {
  const marked = list.marked.includes(row);
  const trouble = [...row.troubles, ...row.exits.filter((code) => code !== 0)];
  const name = row.name || row.prompt;
  const cell = (id, ...content) => h("td", { class: id }, content);
  const figure = (id, label, content) => h("td", { class: `${id} number`, "data-label": label }, content);
  return h("tr", { "data-at": at, "aria-rowindex": at + 2, class: at === list.current ? "current" : null },
    cell("mark", h("input", { type: "checkbox", checked: marked, "aria-label": `Compare ${taskName(row)}`, tabindex: "-1" })),
    cell("outcome", outcomeBadge(row.solved)),
    cell("task", h("div", {}, h("a", { href: linkTrace(row) }, [row.dataset, row.task].filter(Boolean).join("/") || row.id.slice(0, 12)), row.name ? h("bdi", {}, row.name) : null)),
    h("td", { class: "prompt" }, h("bdi", {}, row.prompt || name)),
    cell("model", h("bdi", {}, row.model)),
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

function clickRow(event) {
  const at = event.target.closest("tr[data-at]")?.dataset.at;
  if (at === undefined) return;
  list.current = Number(at);
  if (event.target.closest("td.mark")) {
    toggleMark(list.rows[list.current]);
  } else if (!event.target.closest("a") && !String(getSelection())) {
    go(linkTrace(list.rows[list.current]));
  }
}

// Marks a trace for comparison; of three, the two marked last stay.
function toggleMark(row) {
  list.marked = list.marked.includes(row) ? list.marked.filter((other) => other !== row) : [...list.marked, row].slice(-2);
  showMarked();
  drawRows(true);
}

function showMarked() {
  const bar = byId("marked");
  const [left, right] = list.marked;
  bar.hidden = !left;
  if (!left) return;
  const clear = h("button", { type: "button", class: "quiet", on: { click: () => { list.marked = []; showMarked(); drawRows(true); } } }, "Clear");
  const what = right
    ? h("a", { class: "button", href: linkCompare(left, right) }, "Compare")
    : h("span", { class: "soft" }, "mark a second trace to compare");
  replace(bar, h("span", { class: "names" }, left && taskName(left), right && [" and ", taskName(right)]), what, clear);
}

function moveInList(by) {
  if (!list.rows.length) return;
  focusRow(Math.min(list.rows.length - 1, Math.max(0, list.current + by)));
}

function focusRow(at) {
  list.current = at;
  const scroller = byId("scroller");
  const height = rowHeight();
  const room = scroller.clientHeight - scroller.querySelector("thead").offsetHeight;
  if (at * height < scroller.scrollTop) scroller.scrollTop = at * height;
  else if ((at + 1) * height > scroller.scrollTop + room) scroller.scrollTop = (at + 1) * height - room;
  drawRows(true);
  byId("rows").querySelector(`tr[data-at="${at}"] a`)?.focus({ preventScroll: true });
}
