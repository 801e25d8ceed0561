// One trace: what was asked, how it ended, the timeline, and the conversation step by step.

const PATCH_LINES = 400;
const PATCH_CHARS = 40_000;

const current = { row: null, data: null, step: 0, drawn: 0 };

async function showTrace(route) {
  const row = findRow(route.trace);
  if (!row) throw new Error(`No trace ${route.trace} is in this report.`);
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
  replace(byId("trace"),
    traceHead(row, trace),
    verdictTable(trace),
    timeline(trace, (step, at) => goToStep(step?.n ?? 0, at)),
    h("div", { class: "conversation" },
      setting(run),
      message("task", "Task", block(trace.prompt, "prose")),
      gradually(trace.steps, stepSection, "steps"),
      trace.stray.length ? message("stray", "Calls that no step proposed", gradually(trace.stray, callCard, "calls")) : null,
      ending(trace)),
    facts(row, trace, run));
}

function traceHead(row, trace) {
  const others = report.rows.filter((other) => other !== row && other.dataset === row.dataset && other.task === row.task && row.task !== "");
  const figures = [
    ["Time", duration(trace.ms)], ...(trace.facts.totals?.cost_usd == null ? [] : [["Cost", `${trace.facts.totals.cost_usd.toFixed(4)} USD (${trace.facts.totals.cost_source ?? "given"})`]]), ...(trace.prepare_ms === null ? [] : [["Prepared in", duration(trace.prepare_ms)]]), ["Steps", count(row.steps)], ["Calls", count(row.calls)],
    ["Tokens in / out", `${count(row.tokens_in)} / ${count(row.tokens_out)}`], ["CPU", duration(row.cpu_ms)],
    ["Peak memory", size(row.peak)], ["Disk read / written", `${size(row.read)} / ${size(row.write)}`],
  ];
  return h("header", { class: "head" },
    h("p", { class: "way" }, h("a", { href: listFragment(), id: "back" }, "All traces"), " / ", h("bdi", {}, trace.dataset || report.files[row.file].name)),
    h("h1", { tabindex: "-1" }, outcomeBadge(trace.solved), h("bdi", {}, taskName(row))),
    h("p", { class: "soft" }, h("bdi", {}, trace.model), " · ", instant(trace.time), " · ", h("code", {}, row.key)),
    h("dl", { class: "figures" }, figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    others.length ? h("p", { class: "others" }, "Same task: ", others.slice(0, 8).map((other) => otherLink(row, other)), others.length > 8 ? ` and ${others.length - 8} more` : null) : null);
}

function otherLink(row, other) {
  const near = other.name && other.name !== row.name ? other.name : other.key.slice(0, 13);
  const name = other.model !== row.model ? other.model : other.file !== row.file ? report.files[other.file].name : near;
  return h("a", { class: "chip", href: linkCompare(row, other) }, "compare with ", h("bdi", {}, name));
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

function stepSection(step) {
  const meta = [duration(step.ms), step.tokens_out === null ? null : `${count(step.tokens_in)} → ${count(step.tokens_out)} tokens`, step.counted === null ? null : `${count(step.counted)} counted`, step.finish];
  const quiet = !step.thinks && !step.says && !step.calls.length;
  return h("section", { class: "message step", id: `step-${step.n}`, tabindex: "-1", "data-step": step.n, "aria-label": `Step ${step.n}` },
    h("div", { class: "side" }, h("h2", {}, `Step ${step.n}`), meta.filter(Boolean).map((part) => h("p", { class: "soft" }, part === DASH ? "time not measured" : part))),
    h("div", { class: "body" },
      step.thinks?.trim() ? reasoning(step.thinks) : null,
      step.says?.trim() ? block(step.says, "prose") : null,
      gradually(step.calls, callCard, "calls"),
      step.told ? h("div", { class: "told" }, h("h3", {}, "Answered, as there was no call"), block(step.told, "code")) : null,
      quiet ? h("p", { class: "soft" }, "The reply was empty.") : null));
}

function reasoning(text) {
  const preview = text.trim().slice(0, 140).replaceAll(/\s+/g, " ");
  return fold([h("span", { class: "kind" }, "Reasoning "), h("bdi", { class: "preview" }, preview)], () => block(text.replace(/\n$/, ""), "prose thinks"), { class: "reasoning" });
}

function callCard(call) {
  const bad = trouble(call);
  const what = call.status === "not_executed" ? null : (statusText(call) ?? "no result");
  return h("article", { class: `call ${bad ? "bad" : ""}` },
    h("header", {}, h("b", { class: "tool" }, h("bdi", {}, call.tool)), what ? h("span", { class: `badge ${bad ? "bad" : call.status === null ? "open" : "plain"}` }, what) : null,
      h("span", { class: "cost" }, costChips(call))),
    h("div", { class: "io" }, inputView(call.input),
      call.output === null || echoes(call) ? null : h("div", { class: "result" }, h("h3", {}, "Output"), block(call.output, "code"))),
    Object.entries(call.cut).map(([name, [kept, whole]]) => h("p", { class: "soft cut-note" }, `${name}: ${size(kept)} of ${size(whole)} kept`)));
}

function costChips(call) {
  if (call.status === null || call.status === "not_executed") return null;
  return [duration(call.ms), ...costParts(call.cost)].filter(Boolean).map((part) => h("span", {}, part));
}

// A call that only hands its input over, such as a final answer, has nothing more to show.
function echoes(call) {
  return call.status === "not_executed" && readableInput(call.input) === call.output;
}

// The input as a person reads it: the values of its arguments, or the text when it is no JSON object of texts.
function inputView(input) {
  let given;
  try {
    given = JSON.parse(input);
  } catch {
    return h("div", { class: "input" }, h("h3", {}, "Input, not valid JSON"), block(input, "code"));
  }
  const simple = given && typeof given === "object" && !Array.isArray(given) && Object.values(given).every((value) => typeof value === "string");
  if (!simple || !Object.keys(given).length) return h("div", { class: "input" }, h("h3", {}, "Input"), block(JSON.stringify(given, null, 2), "code"));
  return Object.entries(given).map(([name, value]) => h("div", { class: "input" }, h("h3", {}, name), block(value, "code")));
}

function ending(trace) {
  const ended = trace.ended ? `Ended: ${trace.ended.replaceAll("_", " ")}` : "How it ended is not recorded";
  return message("ending", "End",
    h("p", {}, ended, trace.detail ? ` (${trace.detail})` : null),
    trace.answer === null ? null : h("div", { class: "input" }, h("h3", {}, "Final answer"), block(trace.answer, "prose")),
    trace.patch === null && !trace.patch_note ? null : h("div", { class: "input" }, h("h3", {}, "Patch"), trace.patch === "" ? h("p", { class: "soft" }, "No file was changed.") : trace.patch === null ? null : patchBlock(trace.patch),
      trace.patch_note ? h("p", { class: "soft" }, trace.patch_note) : null));
}

// A diff with its added and removed lines marked; a long one is a plain text, folded.
function patchBlock(text) {
  const lines = text.replace(/\n$/, "").split("\n");
  if (lines.length > PATCH_LINES || text.length > PATCH_CHARS) return block(text, "code");
  const kind = (line) => (/^(\+\+\+|---|diff |index |@@)/.test(line) ? "context" : line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : null);
  return h("div", { class: "text code patch", dir: "auto" }, lines.map((line) => h("pre", { class: kind(line) }, line || " ")));
}

function facts(row, trace, run) {
  const show = (name, value) => (value && Object.keys(value).length ? fold(name, () => block(JSON.stringify(value, null, 2), "code")) : null);
  return h("section", { class: "facts" }, h("h2", {}, "Record"),
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
  list.current = list.rows.indexOf(next);
  go(linkTrace(next));
}

function toggleReasoning() {
  const folds = [...byId("trace").querySelectorAll("details.reasoning")];
  const open = folds.some((one) => !one.open);
  for (const one of folds) one.open = open;
}
