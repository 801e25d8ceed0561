// The keyboard. Keys with Ctrl, Alt or Meta stay the browser's, and so do all keys while text is typed.

const KEYS = [
  { view: "list", keys: ["j", "ArrowDown"], shown: "j ↓", text: "next trace", run: () => moveInList(1) },
  { view: "list", keys: ["k", "ArrowUp"], shown: "k ↑", text: "previous trace", run: () => moveInList(-1) },
  { view: "list", keys: ["PageDown"], shown: "PgDn", text: "a page down", run: () => moveInList(pageRows()) },
  { view: "list", keys: ["PageUp"], shown: "PgUp", text: "a page up", run: () => moveInList(-pageRows()) },
  { view: "list", keys: ["Home", "g"], shown: "g Home", text: "first trace", run: () => moveInList(-Infinity) },
  { view: "list", keys: ["End", "G"], shown: "G End", text: "last trace", run: () => moveInList(Infinity) },
  { view: "list", keys: ["Enter", "o"], shown: "Enter", text: "open the trace, or the group", run: () => openCurrent() },
  { view: "list", keys: ["c"], shown: "c", text: "mark the trace; with two marked, C compares", run: () => list.items[list.current]?.row && toggleMark(list.items[list.current].row) },
  { view: "list", keys: ["ArrowRight", "ArrowLeft"], shown: "← →", text: "close or open a group", run: (key) => groupKey(key === "ArrowRight") },
  { view: "list", keys: ["s"], shown: "s", text: "group by task, or no longer", run: () => groupByTask() },
  { view: "list", keys: ["e"], shown: "e", text: "open or close all groups", run: () => toggleAllGroups() },
  { view: "list", keys: ["C"], run: () => list.marked.length === 2 && go(linkCompare(...list.marked)) },
  { view: "list", keys: ["x"], shown: "x", text: "clear search and filters", run: () => clearFilters() },
  { view: "overview", keys: ["x"], run: () => clearFilters() },
  { view: "trace", keys: ["j"], shown: "j", text: "next step", run: () => moveStep(1) },
  { view: "trace", keys: ["k"], shown: "k", text: "previous step", run: () => moveStep(-1) },
  { view: "trace", keys: ["n"], shown: "n", text: "next trace", run: () => moveTrace(1) },
  { view: "trace", keys: ["p"], shown: "p", text: "previous trace", run: () => moveTrace(-1) },
  { view: "trace", keys: ["r"], shown: "r", text: "open or fold all reasoning", run: () => toggleReasoning() },
  { view: "trace", keys: ["l"], shown: "l", text: "to the timeline; arrow keys move on it", run: () => document.querySelector("#timeline .bar[tabindex='0']")?.focus() },
  { view: "compare", keys: ["f"], shown: "f", text: "to the first difference", run: () => jumpToDifference() },
  { view: "", keys: ["/"], shown: "/", text: "search", run: () => toSearch() },
  { view: "", keys: ["Escape", "u"], shown: "Esc u", text: "back to the list", run: () => ["trace", "compare"].includes(readRoute().view) && go(linkList()) },
  { view: "", keys: ["v"], shown: "v", text: "overview, or the list", run: () => go(readRoute().view === "overview" ? linkList() : linkOverview()) },
  { view: "", keys: ["t"], shown: "t", text: "theme: as the system, light, dark", run: () => nextTheme() },
  { view: "", keys: ["?"], shown: "?", text: "these keys", run: () => showHelp() },
];
const VIEWS = { list: "In the list", trace: "In a trace", compare: "In a comparison", "": "Everywhere" };

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || byId("help").open) return;
  const typing = event.target.closest?.("input[type=search], select, textarea");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    else if (event.key === "ArrowDown" && typing.id === "q") moveInList(1);
    else return;
    event.preventDefault();
    return;
  }
  // Enter and blanks belong to the button, link or fold that has the focus.
  if (event.key === "Enter" && event.target.closest?.("button, a, summary, input")) return;
  const { view } = readRoute();
  const entry = KEYS.find((candidate) => candidate.keys.includes(event.key) && (candidate.view === view || candidate.view === ""));
  if (!entry) return;
  event.preventDefault();
  entry.run(event.key);
}

function pageRows() {
  return Math.max(1, Math.floor(byId("scroller").clientHeight / rowHeight()) - 2);
}

function toSearch() {
  if (LIST_VIEWS.includes(readRoute().view)) byId("q").select();
  else {
    go(linkList());
    setTimeout(() => byId("q").select(), 50);
  }
}

function showHelp() {
  const part = (view) => h("section", {}, h("h3", {}, VIEWS[view]), h("dl", {}, KEYS.filter((key) => key.view === view && key.text).map((key) =>
    h("div", {}, h("dt", {}, key.shown.split(" ").map((name) => h("kbd", {}, name))), h("dd", {}, key.text)))));
  replace(byId("help"),
    h("h2", { id: "help-title" }, "Keys"), h("div", { class: "columns" }, Object.keys(VIEWS).map(part)),
    h("p", { class: "soft" }, "Search finds the exact text, upper and lower case alike, in prompts, reasoning, commands and outputs. A dash is a figure that was not measured."),
    fold("What the figures mean", figureList),
    h("form", { method: "dialog" }, h("button", { class: "button", autofocus: true }, "Close")));
  byId("help").showModal();
}

const THEMES = ["system", "light", "dark"];

function nextTheme() {
  setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % THEMES.length]);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  replace(byId("theme"), `Theme: ${theme}`);
  try {
    localStorage.setItem("agenttrace-theme", theme);
  } catch {
    // A browser that keeps nothing for pages from a disk: the choice holds until the page is closed.
  }
}

function savedTheme() {
  try {
    const saved = localStorage.getItem("agenttrace-theme");
    return THEMES.includes(saved) ? saved : "system";
  } catch {
    return "system";
  }
}
