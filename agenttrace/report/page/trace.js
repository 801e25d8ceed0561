// One trace: what was asked, how it ended, the timeline, the conversation, and what the record says of itself.

const current = { row: null, data: null, step: 0, drawn: 0 };

async function showTrace(route) {
  const row = findRow(route.trace);
  if (current.row !== row) {
    const mine = ++current.drawn;
    const data = await loadTrace(row);
    if (mine !== current.drawn) return;
    Object.assign(current, { row, data, step: 0 });
    drawTrace(row, data);
    window.scrollTo(0, 0);
    const first = highlight(byId("trace"), filters.q);
    if (first && !route.step) first.startContainer.parentElement.scrollIntoView({ block: "center" });
  }
  document.title = `${taskName(row)} – ${byId("title").textContent}`;
  if (route.step) goToStep(Number(route.step));
}

function drawTrace(row, trace) {
  const run = report.files[row.file].run;
  trace.prefix = commonPrefix(trace);
  replace(byId("trace"),
    traceHead(row, trace),
    verdictTable(trace),
    timeline(trace, (step, at) => goToStep(step?.n ?? 0, at)),
    h("div", { class: "conversation" },
      setting(run),
      message("task", "Task", rendered(trace.prompt)),
      gradually(trace.steps, (step) => stepSection(step, trace.prefix), "steps"),
      trace.stray.length ? message("stray", "Calls that no step proposed", gradually(trace.stray, (call) => callCard(call, trace.prefix), "calls")) : null,
      ending(trace)),
    facts(row, trace, run));
}

function traceHead(row, trace) {
  const figures = [
    ["Time", duration(trace.ms), "time"], ...(row.cost === null ? [] : [["Cost", `${money(row.cost)} (${trace.facts.totals.cost_source ?? "given"})`, "cost"]]), ...(trace.prepare_ms === null ? [] : [["Prepared in", duration(trace.prepare_ms)]]),
    ["Steps", count(row.steps), "steps"], ["Calls", count(row.calls), "calls"], ["Tokens in / out", `${count(row.tokens_in)} / ${count(row.tokens_out)}`, "tokensIn"],
    ["CPU", duration(row.cpu_ms), "cpu"], ["Peak memory", size(row.peak), "memory"], ["Disk read / written", `${size(row.read)} / ${size(row.write)}`, "io"],
  ];
  return h("header", { class: "head" },
    h("p", { class: "way" }, h("a", { href: linkList(), id: "back" }, "All traces"), " / ", h("a", { href: linkList({ run: row.runKey }), title: runText(row.runKey) }, h("bdi", {}, row.runKey))),
    h("h1", { tabindex: "-1" }, outcomeBadge(trace.solved), h("bdi", {}, taskMain(row)), h("bdi", { class: "soft" }, taskSoft(row) || taskPlace(row))),
    h("p", { class: "soft" }, h("bdi", {}, trace.model), " · ", instant(trace.time), " · ", h("code", {}, row.key), " ", copyButton("id of the trace", row.id, "Copy id"), copyButton("JSON of the record", () => loadLine(row), "Copy JSON")),
    h("dl", { class: "figures" }, figures.map(([name, value, id]) => h("div", { title: meaning(id) }, h("dt", {}, name), h("dd", {}, value)))),
    sameTaskPart(row));
}

function verdictTable(trace) {
  if (!trace.verdicts.length) return null;
  const line = (verdict) => h("tr", { class: verdict.verdict },
    h("th", { scope: "row" }, verdict.aspect), h("td", {}, verdict.verdict.replaceAll("_", " ")),
    h("td", {}, verdict.reason ? block(verdict.reason, "prose") : null), h("td", { class: "soft" }, verdict.method));
  return h("table", { class: "verdicts judged" }, h("thead", {}, h("tr", {}, ["Aspect", "Verdict", "Reason", "Method"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, trace.verdicts.map(line)));
}

function message(kind, name, ...content) {
  return h("section", { class: `message ${kind}` }, h("h2", {}, name), h("div", { class: "body" }, content));
}

function setting(run) {
  const agent = run.agent;
  const prompt = agent?.system_prompt ?? agent?.system_template;
  if (!prompt) return null;
  const tools = Array.isArray(agent.tools) ? agent.tools : null;
  return message("setting", "System", fold(`System prompt${tools ? ` and ${plural(tools.length, "tool")}` : ""}`, () => [
    block(String(prompt)), tools ? block(JSON.stringify(tools, null, 2), "code") : null]));
}

function facts(row, trace, run) {
  const show = (name, value) => (value && Object.keys(value).length ? fold(name, () => block(JSON.stringify(value, null, 2), "code")) : null);
  return h("section", { class: "facts" }, h("div", { class: "titled" }, h("h2", {}, "Record"), copyButton("JSON of the record", () => loadLine(row), "Copy JSON")),
    h("p", { class: "soft" }, `${report.files[row.file].name}, ${trace.format}${trace.axis === "shared" ? "" : "; its generations have no times, so the timeline shows the calls alone, from the first one on"}`),
    show("Repository", trace.facts.repository), show("Metadata", trace.facts.metadata), show("Environment", trace.facts.environment), show("Scores", trace.facts.scores), show("Totals", trace.facts.totals), show("Run spec", run));
}

function goToStep(number, call) {
  const step = shownStep(number);
  if (!step) return;
  current.step = number;
  for (const other of byId("trace").querySelectorAll(".step.here")) other.classList.remove("here");
  step.classList.add("here");
  markStep(byId("timeline"), number);
  const target = call === undefined ? step : (step.querySelectorAll(".call")[call] ?? step);
  target.scrollIntoView({ block: call === undefined ? "start" : "nearest" });
  step.focus({ preventScroll: true });
  note(linkTrace(current.row, String(number)));
}

// The section of a step, which is not on the page yet when many steps stand before it.
function shownStep(number) {
  const known = current.data.steps.some((step) => step.n === number);
  let more = byId("trace").querySelector(":scope > .conversation > .more");
  while (known && more && !byId(`step-${number}`)) {
    more.click();
    more = byId("trace").querySelector(":scope > .conversation > .more");
  }
  return byId(`step-${number}`);
}

function moveStep(by) {
  const numbers = current.data.steps.map((step) => step.n);
  const at = numbers.indexOf(current.step);
  goToStep(numbers[Math.min(numbers.length - 1, Math.max(0, at + by))]);
}

function moveTrace(by) {
  const rows = list.rows.includes(current.row) ? list.rows : report.rows;
  const next = rows[rows.indexOf(current.row) + by];
  if (!next) return;
  revealRow(next);
  go(linkTrace(next));
}

function toggleReasoning() {
  const folds = [...byId("trace").querySelectorAll("details.reasoning")];
  const open = folds.some((one) => !one.open);
  for (const one of folds) one.open = open;
}
