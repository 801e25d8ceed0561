// A step of the conversation: what the model thought, said and called, and what came back; and how it all ended.

const FENCED = /```[^\n`]*\n([^]*?)\n?```/g;
const OBSERVATION = "Observation:";

function stepSection(step, prefix) {
  const meta = [duration(step.ms), step.tokens_out === null ? null : `${count(step.tokens_in)} → ${count(step.tokens_out)} tokens`, step.counted === null ? null : `${count(step.counted)} counted`, ...requestParts(step).map(([part, ms]) => `${part} ${duration(ms)}`), step.finish];
  const quiet = !step.thinks && !step.says && !step.calls.length;
  const says = ownWords(step);
  return h("section", { class: "message step", id: `step-${step.n}`, tabindex: "-1", "data-step": step.n, "aria-label": `Step ${step.n}` },
    h("div", { class: "side" }, h("h2", {}, `Step ${step.n}`), meta.filter(Boolean).map((part) => h("p", { class: "soft" }, part === DASH ? "time not measured" : part))),
    h("div", { class: "body" },
      step.thinks?.trim() ? reasoning(step.thinks) : null,
      says ? block(says, "prose") : null,
      gradually(step.calls, (call) => callCard(call, prefix), "calls"),
      step.told ? h("div", { class: "told" }, h("h3", {}, "Answered, as there was no call"), block(step.told, "code")) : null,
      quiet ? h("p", { class: "soft" }, "The reply was empty.") : null));
}

function reasoning(text) {
  const preview = text.trim().slice(0, 140).replaceAll(/\s+/g, " ");
  return fold([h("span", { class: "kind" }, "Reasoning "), h("bdi", { class: "preview" }, preview)], () => block(text.replace(/\n$/, ""), "prose thinks"), { class: "reasoning" });
}

// What a reply says beside its calls: a fenced command stands in the box of its call, and not here again.
function ownWords(step) {
  const commands = new Set(step.calls.map((call) => readableInput(call.input).trim()));
  return (step.says ?? "").replace(FENCED, (whole, inside) => (commands.has(inside.trim()) ? "" : whole)).trim();
}

// Some agents hand every output over behind the same word: what all outputs of a trace begin with is not shown.
function commonPrefix(trace) {
  const outputs = [...trace.steps.flatMap((step) => step.calls), ...trace.stray].map((call) => call.output).filter((output) => output !== null);
  return outputs.length && outputs.every((output) => output.startsWith(OBSERVATION)) ? OBSERVATION : "";
}

function titled(name, button) {
  return h("div", { class: "titled" }, h("h3", {}, name), button || null);
}

function outputText(call, prefix) {
  return prefix ? call.output.slice(prefix.length).replace(/^ /, "") : call.output;
}

function callCard(call, prefix) {
  const bad = trouble(call);
  const what = call.status === "not_executed" ? null : (statusText(call) ?? "no result");
  return h("article", { class: `call ${bad ? "bad" : ""}` },
    h("header", {}, h("b", { class: "tool" }, h("bdi", {}, call.tool)), what ? h("span", { class: `badge ${bad ? "bad" : call.status === null ? "open" : "plain"}` }, what) : null,
      h("span", { class: "cost" }, costChips(call))),
    h("div", { class: "io" }, inputView(call.input),
      call.output === null || echoes(call) ? null : resultView(outputText(call, prefix))),
    Object.entries(call.cut).map(([name, [kept, whole]]) => h("p", { class: "soft cut-note" }, `${name}: ${size(kept)} of ${size(whole)} kept`)));
}

function resultView(text) {
  return h("div", { class: "result" }, titled("Output", text && copyButton("output", text)), codeOrDiff(text));
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
  return Object.entries(given).map(([name, value]) => h("div", { class: "input" }, titled(name, copyButton(name, value)), block(value, "code")));
}

function ending(trace) {
  const ended = trace.ended ? `Ended: ${trace.ended.replaceAll("_", " ")}` : "How it ended is not recorded";
  return message("ending", "End",
    h("p", {}, ended, trace.detail ? ` (${trace.detail})` : null),
    trace.answer === null ? null : h("div", { class: "input" }, titled("Final answer", copyButton("final answer", trace.answer)), block(trace.answer, "prose")),
    trace.patch === null && !trace.patch_note ? null : h("div", { class: "input" }, titled("Patch", trace.patch && copyButton("patch", trace.patch)), trace.patch === "" ? h("p", { class: "soft" }, "No file was changed.") : trace.patch === null ? null : patchBlock(trace.patch),
      trace.patch_note ? h("p", { class: "soft" }, trace.patch_note) : null));
}
