// What the page shows is in the fragment of its address, so that every view can be linked to:
// #trace=ID&step=3, #compare=ID,ID, and the list's filters (q, dataset, model, outcome, tool, exit, sort).

const FILTERS = ["q", "dataset", "model", "outcome", "tool", "exit"];

function readRoute() {
  const given = new URLSearchParams(location.hash.slice(1));
  const route = { view: "list", sort: given.get("sort") ?? "", filters: {} };
  for (const name of FILTERS) route.filters[name] = given.get(name) ?? "";
  if (given.has("trace")) {
    route.view = "trace";
    route.trace = given.get("trace");
    route.step = given.get("step");
  } else if (given.has("compare")) {
    route.view = "compare";
    const [left, right] = given.get("compare").split(",");
    // The same id twice, or once: the first and the second trace of that id.
    route.compare = [left, right === undefined || right === left ? `${left}@2` : right];
  }
  return route;
}

function fragment(parts) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(parts)) if (value) given.set(name, value);
  // Ids read better with their own commas and at signs, which a fragment may hold.
  return `#${given.toString().replaceAll("%2C", ",").replaceAll("%40", "@")}`;
}

function linkTrace(row, step) {
  return fragment({ trace: row.key, step });
}

function linkCompare(left, right) {
  return fragment({ compare: `${left.key},${right.key}` });
}

function go(target) {
  location.hash = target;
}

// Changes the address without a new entry in the history and without showing anything anew.
function note(target) {
  history.replaceState(null, "", target);
}
