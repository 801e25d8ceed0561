// What the page shows is in the fragment of its address, so that every view can be linked to: #trace=ID&step=3,
// #compare=ID,ID, #overview and #list, both with filters; nothing is the overview, and the list where there is one trace.

const FILTERS = ["q", "run", "file", "dataset", "model", "outcome", "verdict", "tool", "exit"];
const SETTINGS = ["sort", "group", "by"];
const LIST_VIEWS = ["list", "overview"];

function readRoute() {
  const given = new URLSearchParams(location.hash.slice(1));
  const keys = [...given.keys()];
  const first = keys.length || report.rows.length < 2 ? "list" : "overview";
  const route = { view: given.has("overview") ? "overview" : given.has("list") ? "list" : first, filters: {}, unknown: [] };
  for (const name of FILTERS) route.filters[name] = given.get(name) ?? "";
  for (const name of SETTINGS) route[name] = given.get(name) ?? "";
  if (given.has("trace")) {
    route.view = "trace";
    route.trace = given.get("trace");
    route.step = given.get("step");
  } else if (given.has("compare")) {
    route.view = "compare";
    route.compare = given.get("compare").split(",").filter(Boolean);
  } else {
    route.unknown = keys.filter((key) => key && ![...FILTERS, ...SETTINGS, ...LIST_VIEWS].includes(key));
  }
  return route;
}

function fragment(parts, view = "") {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(parts)) if (value) given.set(name, value);
  // Ids read better with their own commas and at signs, which a fragment may hold.
  const rest = given.toString().replaceAll("%2C", ",").replaceAll("%40", "@");
  return `#${[view, rest].filter(Boolean).join("&")}`;
}

function linkTrace(row, step) {
  return fragment({ trace: row.key, step });
}

function linkCompare(left, right) {
  return fragment({ compare: `${left.key},${right.key}` });
}

// The list with the filters that hold now and some others.
function linkList(changes = {}) {
  return fragment({ ...filters, sort: list.sort, group: list.group, ...changes }, "list");
}

function linkOverview(changes = {}) {
  const by = overview.by === byId("by").options[0].value ? "" : overview.by;
  return fragment({ ...filters, by, ...changes }, "overview");
}

function go(target) {
  location.hash = target;
}

// Changes the address without a new entry in the history and without showing anything anew.
function note(target) {
  history.replaceState(null, "", target);
}
