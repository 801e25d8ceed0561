// The filters and the search, which overview and list share.

const choice = { rows: [], done: false, timer: 0 };

function buildChoice() {
  const section = byId("choice");
  const search = h("input", {
    type: "search", id: "q", placeholder: "Search prompts, reasoning, commands, outputs", spellcheck: "false",
    autocomplete: "off", "aria-label": "Search", on: { input: laterFilter },
  });
  const selects = Object.keys(FACETS).map((name) => h("select", { id: `filter-${name}`, "aria-label": FACETS[name].label, on: { change: applyFilters } }));
  put(section, [
    h("form", { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
      h("nav", { class: "views", "aria-label": "Views" }, h("a", { id: "to-overview" }, "Overview"), h("a", { id: "to-list" }, "Traces")),
      search, h("div", { class: "selects" }, selects), h("button", { type: "button", class: "quiet", id: "clear", on: { click: clearFilters } }, "Clear")),
    h("div", { id: "partial" }),
    h("p", { class: "partial", id: "misnamed", role: "status", hidden: true }),
    h("p", { class: "status" }, h("span", { id: "count", role: "status" }), h("span", { id: "totals" }), h("span", { class: "spacer" }),
      h("label", { class: "of-list" }, "Group by ", h("select", { id: "group", on: { change: changeGroup } })),
      h("button", { type: "button", class: "quiet of-list", id: "expand", on: { click: toggleAllGroups } }, "Expand all"),
      h("label", { class: "of-overview" }, "Per ", h("select", { id: "by", on: { change: changeBy } })),
      exportButton("export", () => choice.rows)),
  ]);
  offerChoices();
}

// Fills the lists of values from the rows there are; what is chosen stays.
function offerChoices() {
  for (const name of Object.keys(FACETS)) fillFacet(name);
  const groups = [["", "nothing"], ["task", "task"], ["run", "run"], ["model", "model"], ["dataset", "data set"]];
  fillSelect(byId("group"), groups.filter(([name]) => !name || name === "task" || several(name)));
  const ways = [["run", "run"], ["model", "model"], ["dataset", "data set"], ["all", "all together"]];
  fillSelect(byId("by"), ways.filter(([name]) => name === "all" || several(name)));
  overview.by = byId("by").value;
  replace(byId("partial"), report.files.filter((file) => file.missing).map((file) => h("p", { class: "partial" }, h("b", {}, "PARTIAL"), `: ${file.missing} of `, h("bdi", {}, file.name), " could not be read and is not here.")));
}

function several(name) {
  const { values } = FACETS[name];
  const first = report.rows.length ? values(report.rows[0])[0] : "";
  return report.rows.some((row) => values(row)[0] !== first);
}

function fillFacet(name) {
  const facet = FACETS[name];
  const values = facetCounts(name);
  const options = values.map(([value, number]) => [value, `${facet.shown?.(value) ?? value} (${count(number)})`]);
  const select = byId(`filter-${name}`);
  fillSelect(select, [["", facet.label], ...options]);
  select.hidden = values.length < 2 || facet.offered?.() === false;
  select.disabled = select.hidden && !select.value;
}

// What is chosen stays; where that is the usual, which stands first, the usual may be another now.
function fillSelect(select, options) {
  const chosen = select.selectedIndex > 0 ? select.value : options[0][0];
  replace(select, options.map(([value, text]) => h("option", { value }, text)));
  select.value = options.some(([value]) => value === chosen) ? chosen : options[0][0];
}

// Takes filters and settings from the address; what names nothing is said, and left out. True where rows were chosen anew.
function takeChoice(route) {
  if (!byId("q")) buildChoice();
  const wrong = route.unknown.map((name) => `There is no filter called ${name}; there are ${FILTERS.join(", ")}.`);
  for (const name of Object.keys(FACETS)) wrong.push(...takeFacet(name, route.filters[name]));
  byId("q").value = route.filters.q;
  wrong.push(...takeSetting("group", route.group, ""), ...takeSetting("by", route.by, byId("by").options[0].value));
  list.group = byId("group").value;
  overview.by = byId("by").value;
  const sort = SORTS[route.sort.replace("-", "")] || !route.sort ? route.sort : "";
  if (sort !== route.sort) wrong.push(`The list cannot be sorted by ${route.sort}; it can be by ${Object.keys(SORTS).join(", ")}.`);
  const changed = FILTERS.some((name) => filters[name] !== byId(name === "q" ? "q" : `filter-${name}`).value) || list.sort !== sort || list.grouped !== list.group;
  list.sort = sort;
  const anew = changed || !choice.done;
  if (anew) applyFilters();
  replace(byId("misnamed"), wrong.join(" "));
  byId("misnamed").hidden = !wrong.length;
  showViews();
  return anew;
}

function takeFacet(name, value) {
  const select = byId(`filter-${name}`);
  select.value = value;
  if (select.value === value) return [];
  if (report.rows.some((row) => FACETS[name].matches(row, value))) {
    select.append(h("option", { value }, value));
    select.value = value;
    return [];
  }
  select.value = "";
  const known = [...select.options].slice(1, 9).map((option) => option.value);
  const rest = select.options.length > 9 ? ", …" : "";
  return [`No trace here has the ${FACETS[name].label.toLowerCase()} “${value}”, so that filter is left out; there ${known.length ? `are: ${known.join(", ")}${rest}` : "is none"}.`];
}

function takeSetting(name, value, usual) {
  const select = byId(name);
  select.value = value || usual;
  if (select.selectedIndex >= 0) return [];
  select.value = usual;
  return [`${name}=${value} is not known here; there are ${[...select.options].map((option) => option.value).filter(Boolean).join(", ")}.`];
}

// The way to the other view, with the filters kept.
function showViews() {
  const { view } = readRoute();
  for (const [name, target] of [["overview", linkOverview()], ["list", linkList()]]) {
    const link = byId(`to-${name}`);
    link.setAttribute("href", target);
    if (view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function laterFilter() {
  clearTimeout(choice.timer);
  choice.timer = setTimeout(applyFilters, 90);
}

function clearFilters() {
  for (const name of FILTERS) byId(name === "q" ? "q" : `filter-${name}`).value = "";
  byId("misnamed").hidden = true;
  applyFilters();
  byId("q").focus();
}

// Finds the rows and shows them; with `keep` what is on the screen stays where it is.
function applyFilters({ keep = false } = {}) {
  clearTimeout(choice.timer);
  for (const name of FILTERS) filters[name] = byId(name === "q" ? "q" : `filter-${name}`).value;
  choice.done = true;
  byId("clear").hidden = FILTERS.every((name) => !filters[name]);
  const { view } = readRoute();
  const target = { list: linkList, overview: linkOverview }[view]?.();
  // An address that names no view stays so until something is chosen.
  if (target && (location.hash.length > 1 || target !== `#${view}`)) note(target);
  showViews();
  const candidates = report.rows.filter(passesFacets);
  cancelSearch();
  if (!filters.q) {
    choose(candidates, true, keep);
    return;
  }
  search(filters.q, candidates, (hits, done, total) => {
    if (keep && done < total) return;
    choose(hits, done === total, keep);
    if (done < total) replace(byId("count"), `${plural(hits.length, "trace")} so far, searched ${count(done)} of ${count(total)}`);
  }).catch(complain);
}

function choose(rows, complete, keep) {
  choice.rows = rows;
  if (complete) {
    const all = rows.length === report.rows.length;
    replace(byId("count"), all ? plural(rows.length, "trace") : `${count(rows.length)} of ${plural(report.rows.length, "trace")}`);
    showTotals(rows);
    const button = byId("export");
    button.title = exportMeaning(rows);
    button.disabled = !rows.length;
  }
  setRows(rows, keep);
  if (complete && readRoute().view === "overview") drawOverview();
}

function showTotals(rows) {
  const judged = rows.filter((row) => row.solved !== null);
  const solved = judged.filter((row) => row.solved).length;
  const part = judged.length ? `${share(solved, judged.length)} solved of ${count(judged.length)} judged` : "none judged";
  const calls = rows.reduce((total, row) => total + row.calls, 0);
  replace(byId("totals"), rows.length ? `${part} · ${plural(calls, "tool call")}` : "");
}
