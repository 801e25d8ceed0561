// Rows of one task, run, model or data set under one head, which says how many were solved.

const GROUPS = {
  task: { key: taskKey, name: (row) => taskMain(row), soft: (row) => (taskMain(row) === row.task ? row.dataset : taskPlace(row)) },
  run: { key: (row) => row.runKey, name: (row) => row.runKey, soft: () => "" },
  model: { key: (row) => row.model, name: (row) => row.model, soft: () => "" },
  dataset: { key: (row) => row.dataset, name: (row) => row.dataset || "no data set", soft: () => "" },
};

// What the list draws: rows, or with a grouping heads, each followed by its rows where it is open.
function groupedItems(rows) {
  const grouping = GROUPS[list.group];
  if (!grouping) return rows.map((row) => ({ row }));
  const groups = new Map();
  for (const row of rows) {
    const key = grouping.key(row);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return [...groups].flatMap(([key, own]) => {
    const head = { group: key, rows: own };
    return list.open.has(key) ? [head, ...own.map((row) => ({ row }))] : [head];
  });
}

function groupRow(item, at) {
  const grouping = GROUPS[list.group];
  const [first] = item.rows;
  const open = list.open.has(item.group);
  const name = grouping.name(first);
  const cell = (id, ...content) => h("td", { class: id }, content);
  const figure = (id, label, value, show) => h("td", { class: `${id} number`, "data-label": label, title: "median" }, show(value));
  const middleOf = (pick) => median(item.rows.map(pick));
  const toggle = h("button", { type: "button", class: "toggle", "aria-expanded": String(open), on: { click: (event) => { event.stopPropagation(); toggleGroup(item.group); } } },
    h("span", { class: "sign", "aria-hidden": "true" }, open ? "▾" : "▸"), middle(name));
  return h("tr", { "data-at": at, "aria-rowindex": at + 2, class: `group ${at === list.current ? "current" : ""}` },
    cell("mark"),
    cell("outcome", solvedBadge(item.rows)),
    h("td", { class: "task", title: name }, h("div", {}, toggle, h("bdi", { class: "soft" }, [grouping.soft(first), plural(item.rows.length, "rollout", list.group === "task" ? "rollouts" : "traces")].filter(Boolean).join(" · ")))),
    h("td", { class: "prompt" }, h("bdi", {}, list.group === "task" ? first.prompt : "")),
    cell("run", one(item.rows, (row) => report.runs.get(row.runKey).short, "runs")), cell("file", one(item.rows, fileName, "files")), cell("model", one(item.rows, (row) => row.model, "models")),
    cell("exits"),
    figure("steps", "steps", middleOf((row) => row.steps), rounded), figure("calls", "calls", middleOf((row) => row.calls), rounded),
    figure("tokens", "tokens", middleOf((row) => row.tokens_out), rounded), figure("time", "time", middleOf((row) => row.ms), duration),
    figure("cpu", "CPU", middleOf((row) => row.cpu_ms), duration), figure("memory", "peak", middleOf((row) => row.peak), (value) => size(value && Math.round(value))),
    figure("io", "disk", middleOf((row) => sum(row.read, row.write)), (value) => size(value && Math.round(value))));
}

function rounded(value) {
  return value === null ? DASH : group.format(Number(value.toFixed(1)));
}

function one(rows, pick, many) {
  const values = new Set(rows.map(pick));
  return values.size === 1 ? middle([...values][0]) : `${count(values.size)} ${many}`;
}

function solvedBadge(rows) {
  const judged = rows.filter((row) => row.solved !== null);
  const solved = judged.filter((row) => row.solved).length;
  if (!judged.length) return h("span", { class: "badge plain" }, "not judged");
  const kind = solved === judged.length ? "good" : solved ? "open" : "bad";
  const rest = rows.length - judged.length;
  return h("span", { class: `badge ${kind}`, title: rest ? `${count(rest)} more not judged` : null }, `${count(solved)} of ${count(judged.length)} solved`);
}

function changeGroup() {
  list.group = byId("group").value;
  list.open.clear();
  applyFilters();
}

function groupByTask() {
  byId("group").value = list.group === "task" ? "" : "task";
  changeGroup();
}

function toggleGroup(key, open = !list.open.has(key)) {
  if (open) list.open.add(key);
  else list.open.delete(key);
  regroup(key);
}

function toggleAllGroups() {
  if (!GROUPS[list.group]) return;
  const keys = list.items.filter((item) => item.group !== undefined).map((item) => item.group);
  if (keys.every((key) => list.open.has(key))) list.open.clear();
  else for (const key of keys) list.open.add(key);
  regroup(list.items[list.current]?.group);
}

// Draws the groups anew; the head `key` has the focus if something of the list had it.
function regroup(key) {
  const inside = byId("rows").contains(document.activeElement);
  list.items = groupedItems(list.rows);
  const at = list.items.findIndex((item) => item.group === key);
  list.current = at;
  showGroupButton();
  drawRows(true);
  if (inside && at >= 0) focusRow(at);
}

function showGroupButton() {
  const heads = list.items.filter((item) => item.group !== undefined);
  byId("expand").hidden = !heads.length;
  replace(byId("expand"), heads.length && heads.every((item) => list.open.has(item.group)) ? "Collapse all" : "Expand all");
}

// Arrow keys: right opens a group or goes to its first row, left closes it or goes to its head.
function groupKey(open) {
  const item = list.items[list.current];
  if (!item) return;
  if (item.group !== undefined) {
    if (list.open.has(item.group) !== open) toggleGroup(item.group, open);
    else if (open) moveInList(1);
    return;
  }
  if (open || !GROUPS[list.group]) return;
  focusRow(list.items.findIndex((other) => other.group === GROUPS[list.group].key(item.row)));
}
