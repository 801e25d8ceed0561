// The overview: what came of the traces, where their time and tokens went and what the tools cost.

const overview = { by: "" };
const MOST_SETS = 12;

function showOverview(route) {
  if (!takeChoice(route)) drawOverview();
}

function changeBy() {
  overview.by = byId("by").value;
  note(linkOverview());
  showViews();
  drawOverview();
}

// The traces in sets, one row of each table: by run, model or data set, or all together.
function sets() {
  const facet = FACETS[overview.by];
  if (!facet) return [{ name: "all", rows: choice.rows, link: {} }];
  const found = new Map();
  for (const row of choice.rows) {
    const [value] = facet.values(row);
    if (!found.has(value)) found.set(value, []);
    found.get(value).push(row);
  }
  return [...found].map(([value, rows]) => ({ name: value || "not named", rows, link: { [overview.by]: value } }));
}

function drawOverview() {
  const focused = byId("overview").contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const all = sets();
  const shown = all.slice(0, MOST_SETS);
  const rest = all.length - shown.length;
  replace(byId("overview"),
    h("h1", { class: "unseen", tabindex: "-1" }, "Overview"),
    choice.rows.length ? totalsList() : h("p", {}, "No trace passes these filters."),
    rest > 0 ? h("p", { class: "soft" }, `The first ${count(MOST_SETS)} of ${count(all.length)} are shown one by one; choose another “per”, or filter.`) : null,
    choice.rows.length ? h("div", { class: "cards" }, outcomeTable(shown), timeTable(shown), tokenTable(shown), taskTable(shown), endTable(shown), verdictsTable(), toolTable(shown)) : null);
  if (focused) [...byId("overview").querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
}

function totalsList() {
  const { rows } = choice;
  const judged = rows.filter((row) => row.solved !== null);
  const solved = judged.filter((row) => row.solved).length;
  const cost = totalOf(rows.map((row) => row.cost));
  const tasks = new Set(rows.map(taskKey)).size;
  const figures = [
    ["Traces", count(rows.length)], ["Tasks", count(tasks)], ...(report.runs.size > 1 ? [["Runs", count(new Set(rows.map((row) => row.runKey)).size)]] : []),
    ["Solved", judged.length ? `${count(solved)} of ${count(judged.length)} (${share(solved, judged.length)})` : "none judged"],
    ["Steps", count(totalOf(rows.map((row) => row.steps)))], ["Calls", count(totalOf(rows.map((row) => row.calls)))],
    ["Tokens in / out", `${count(totalOf(rows.map((row) => row.tokens_in)))} / ${count(totalOf(rows.map((row) => row.tokens_out)))}`],
    ["Time, added up", duration(totalOf(rows.map((row) => row.ms)))], ...(cost === null ? [] : [["Cost", money(cost)]]),
  ];
  return h("dl", { class: "figures" }, figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function setShort(set) {
  return overview.by === "run" ? runShort(set.name) : middle(set.name);
}

function setName(set) {
  const name = h("a", { href: linkList(set.link), title: overview.by === "run" ? runText(set.name) : null, "aria-label": `${set.name}: its traces` }, setShort(set));
  const run = overview.by === "run" ? report.runs.get(set.name) : null;
  return [name, run ? h("span", { class: "soft under" }, [run.start && run.short === run.key ? instant(run.start).slice(0, 19) : null, report.models > 1 ? [...run.models].join(", ") : null].filter(Boolean).join(" · ")) : null];
}

function setColumn() {
  const name = { run: "Run", model: "Model", dataset: "Data set" }[overview.by] ?? "Traces";
  return { name, title: meaning(overview.by), class: "set" };
}

function outcomeTable(shown) {
  const kinds = Object.keys(OUTCOMES).filter((kind) => choice.rows.some((row) => outcomeOf(row.solved) === kind));
  const columns = [setColumn(), { name: h("span", { class: "unseen" }, "Bar"), class: "bar-cell" }, ...kinds.map((kind) => ({ name: OUTCOMES[kind].label, kind: OUTCOMES[kind].class, number: true })), { name: "Share", title: "solved of those that were judged", number: true }];
  const rows = shown.map((set) => {
    const number = (kind) => set.rows.filter((row) => outcomeOf(row.solved) === kind).length;
    const link = (kind) => linkList({ ...set.link, outcome: kind });
    const judged = number("solved") + number("failed");
    return [setName(set),
      bar(kinds.map((kind) => [OUTCOMES[kind].class, number(kind), `${count(number(kind))} ${OUTCOMES[kind].label}`, link(kind)]), set.rows.length, set.name),
      ...kinds.map((kind) => countLink(number(kind), link(kind), `${OUTCOMES[kind].label} of ${set.name}`)), share(number("solved"), judged)];
  });
  return chartTable("Outcomes", null, columns, rows);
}

// Time of the traces of which every part is known.
function timeTable(shown) {
  const timed = (row) => row.ms !== null && row.model_ms !== null && row.tools_ms !== null;
  const known = choice.rows.filter(timed).length;
  if (!known) return chartTable("Where the time went", "No trace here has the times of its generations and calls.", [setColumn()], []);
  const rows = shown.map((set) => {
    const own = set.rows.filter(timed);
    const model = totalOf(own.map((row) => row.model_ms)) ?? 0;
    const tools = totalOf(own.map((row) => row.tools_ms)) ?? 0;
    const rest = totalOf(own.map((row) => Math.max(0, row.ms - row.model_ms - row.tools_ms))) ?? 0;
    const whole = model + tools + rest;
    const part = (name, value) => `${name} ${share(value, whole)}, ${duration(value)}`;
    return [setName(set), bar([["model", model, part("model", model)], ["tools", tools, part("tools", tools)], ["rest", rest, part("rest", rest)]], whole, set.name),
      share(model, whole), share(tools, whole), share(rest, whole), duration(median(set.rows.map((row) => row.ms)))];
  });
  const columns = [setColumn(), { name: h("span", { class: "unseen" }, "Bar"), class: "bar-cell" },
    { name: "model", kind: "model", title: meaning("modelTime"), number: true }, { name: "tools", kind: "tools", title: meaning("toolTime"), number: true },
    { name: "rest", kind: "rest", title: meaning("restTime"), number: true }, { name: "median run", title: `Median over the traces. ${meaning("time")}`, number: true }];
  return chartTable("Where the time went", known < choice.rows.length ? `Of ${count(known)} of ${plural(choice.rows.length, "trace")}: of the others a part was not measured.` : null, columns, rows);
}

function tokenTable(shown) {
  const totals = shown.map((set) => ({ set, read: totalOf(set.rows.map((row) => row.tokens_in)), made: totalOf(set.rows.map((row) => row.tokens_out)), cost: totalOf(set.rows.map((row) => row.cost)) }));
  const most = Math.max(...totals.map((one) => (one.read ?? 0) + (one.made ?? 0)));
  const costs = totals.some((one) => one.cost !== null);
  const rows = totals.map(({ set, read, made, cost }) => [setName(set),
    bar([["read", read, `${count(read)} read`], ["made", made, `${count(made)} generated`]], most, set.name),
    count(read), count(made), made === null ? DASH : rounded(made / set.rows.length), ...(costs ? [money(cost)] : [])]);
  const columns = [setColumn(), { name: h("span", { class: "unseen" }, "Bar"), class: "bar-cell" },
    { name: "read", kind: "read", title: meaning("tokensIn"), number: true }, { name: "generated", kind: "made", title: meaning("tokens"), number: true },
    { name: "per trace", title: "Tokens generated per trace, mean", number: true }, ...(costs ? [{ name: "cost", title: meaning("cost"), number: true }] : [])];
  return chartTable(costs ? "Tokens and cost" : "Tokens", null, columns, rows);
}

// What the calls of each tool cost, in each set.
function toolTable(shown) {
  const names = [...new Set(choice.rows.flatMap((row) => row.tools))].sort();
  if (!names.length) return null;
  const found = names.slice(0, MOST_SETS).flatMap((name) => shown.map((set) => ({ name, set, ...toolCost(name, set.rows) }))).filter((one) => one.calls);
  const most = Math.max(...found.map((one) => one.ms ?? 0));
  const alone = shown.length === 1;
  const rows = found.map((one, at) => {
    const link = { ...one.set.link, tool: one.name };
    return [[found[at - 1]?.name === one.name ? h("span", { class: "unseen" }, one.name) : h("a", { href: linkList({ tool: one.name }), "aria-label": `${one.name}: its traces` }, h("bdi", {}, one.name))],
      ...(alone ? [] : [setShort(one.set)]),
      bar([["tools", one.ms, `${duration(one.ms)}`, linkList(link)]], most, `${one.name}, ${one.set.name}`),
      count(one.calls), one.bad ? h("span", { class: "warn" }, count(one.bad)) : "0",
      duration(one.ms), duration(one.ms === null ? null : one.ms / one.calls), duration(one.cpu), size(one.peak)];
  });
  const columns = [{ name: "Tool" }, ...(alone ? [] : [setColumn()]), { name: h("span", { class: "unseen" }, "Bar"), class: "bar-cell" },
    { name: "calls", title: meaning("calls"), number: true }, { name: "failed", title: meaning("failed"), number: true }, { name: "time", kind: "tools", title: meaning("toolTime"), number: true },
    { name: "per call", title: "Mean wall time of a call", number: true }, { name: "CPU", title: meaning("cpu"), number: true }, { name: "peak", title: meaning("memory"), number: true }];
  return h("div", { class: "whole" }, chartTable("What the tools cost", names.length > MOST_SETS ? `The first ${MOST_SETS} of ${plural(names.length, "tool")}.` : null, columns, rows));
}

function toolCost(name, rows) {
  const own = rows.flatMap((row) => row.by_tool.filter((cost) => cost[0] === name));
  const peaks = own.map((cost) => cost[5]).filter((value) => value !== null);
  return {
    calls: own.reduce((total, cost) => total + cost[1], 0), bad: own.reduce((total, cost) => total + cost[2], 0),
    ms: totalOf(own.map((cost) => cost[3])), cpu: totalOf(own.map((cost) => cost[4])), peak: peaks.length ? Math.max(...peaks) : null,
  };
}

function endTable(shown) {
  const ends = [...new Set(choice.rows.map((row) => row.ended))].filter(Boolean).sort();
  if (!ends.length) return null;
  const columns = [setColumn(), ...ends.map((end) => ({ name: end.replaceAll("_", " "), number: true }))];
  const cell = (set, end) => countLink(set.rows.filter((row) => row.ended === end).length, linkList({ ...set.link, outcome: `ended: ${end}` }), `ended: ${end.replaceAll("_", " ")}, of ${set.name}`);
  return chartTable("How they ended", null, columns, shown.map((set) => [setName(set), ...ends.map((end) => cell(set, end))]));
}

const VERDICT_KINDS = { passed: "good", failed: "bad", not_gradable: "open" };

function verdictsTable() {
  const found = new Map();
  for (const row of choice.rows) {
    for (const [aspect, verdict] of row.verdicts) {
      if (!found.has(aspect)) found.set(aspect, new Map());
      found.get(aspect).set(verdict, (found.get(aspect).get(verdict) ?? 0) + 1);
    }
  }
  if (!found.size) return null;
  const kinds = Object.keys(VERDICT_KINDS).filter((kind) => [...found.values()].some((counts) => counts.has(kind)));
  const columns = [{ name: "Aspect", class: "set" }, { name: h("span", { class: "unseen" }, "Bar"), class: "bar-cell" }, ...kinds.map((kind) => ({ name: kind.replaceAll("_", " "), kind: VERDICT_KINDS[kind], number: true }))];
  const rows = [...found].sort().map(([aspect, counts]) => {
    const link = (kind) => linkList({ verdict: verdictText([aspect, kind]) });
    const number = (kind) => counts.get(kind) ?? 0;
    const whole = kinds.reduce((total, kind) => total + number(kind), 0);
    return [h("bdi", {}, aspect), bar(kinds.map((kind) => [VERDICT_KINDS[kind], number(kind), `${count(number(kind))} ${kind}`, link(kind)]), whole, aspect),
      ...kinds.map((kind) => countLink(number(kind), link(kind), `${kind.replaceAll("_", " ")} on ${aspect}`))];
  });
  return chartTable("Verdicts", null, columns, rows);
}

// Of tasks that were run several times: in how many of their runs they were solved.
function taskTable(shown) {
  const groups = shown.map((set) => {
    const tasks = new Map();
    for (const row of set.rows) {
      if (row.solved === null) continue;
      const [runs, solved] = tasks.get(taskKey(row)) ?? [0, 0];
      tasks.set(taskKey(row), [runs + 1, solved + Number(row.solved)]);
    }
    return { set, tasks: [...tasks.values()] };
  });
  if (!groups.some(({ tasks }) => tasks.some(([runs]) => runs > 1))) return null;
  const kinds = [["good", "in all", (runs, solved) => solved === runs], ["open", "in some", (runs, solved) => solved > 0 && solved < runs], ["bad", "in none", (runs, solved) => solved === 0]];
  const columns = [setColumn(), { name: h("span", { class: "unseen" }, "Bar"), class: "bar-cell" }, ...kinds.map(([kind, name]) => ({ name, kind, number: true }))];
  const rows = groups.map(({ set, tasks }) => {
    const numbers = kinds.map(([, , holds]) => tasks.filter(([runs, solved]) => holds(runs, solved)).length);
    return [h("a", { href: linkList({ ...set.link, group: "task" }), "aria-label": `${set.name}: its tasks`, title: overview.by === "run" ? runText(set.name) : null }, setShort(set)),
      bar(kinds.map(([kind, name], at) => [kind, numbers[at], `${count(numbers[at])} solved ${name}`]), tasks.length, set.name), ...numbers.map(count)];
  });
  return chartTable("Tasks, by the rollouts that solved them", null, columns, rows);
}
