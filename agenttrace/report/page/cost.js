// What a generation or a call took, in words: for the timeline, for who cannot see it, and for the conversation.

// How a call ended, in a word or two; null when nothing of that is recorded.
function statusText(call) {
  if (call.status === null) return null;
  if (call.status === "not_executed") return "not executed";
  const ended = call.exit === null ? "exit unknown" : `exit ${call.exit}`;
  return call.status === "ok" ? ended : `${call.status}, ${ended}`;
}

function trouble(call) {
  return Boolean(call?.status && call.status !== "not_executed" && (call.exit || call.status !== "ok"));
}

function barText(bar) {
  if (!bar.call) {
    return [`Step ${bar.step.n}: model, ${duration(bar.step.ms)}`, ...requestText(bar.step), `${count(bar.step.tokens_out)} tokens`].join(", ");
  }
  return [`${bar.step ? `Step ${bar.step.n}: ` : ""}${bar.call.tool}`, costText(bar.call), ...aroundText(bar.call, bar.cost)].filter(Boolean).join(", ");
}

// The parts of a generation that the server says, by the names of its trade.
function requestParts(step) {
  return [["queue", step.queue_ms], ["prefill", step.prompt_ms], ["decode", step.decode_ms]].filter(([, ms]) => ms > 0);
}

const PART_TEXT = { queue: "waiting in the server's queue", prefill: "reading the prompt", decode: "generating" };

function requestText(step) {
  const rest = unnamed(step);
  const parts = requestParts(step).map(([part, ms], at) => `${duration(ms)} ${at ? "" : "of it "}${PART_TEXT[part]}`);
  return rest >= LEAST_WAIT_MS ? [...parts, `${duration(rest)} neither`] : parts;
}

// What a request took beyond what the server says: connection, template, a queue that it does not name; null where a part is not known.
function unnamed(step) {
  if (step.ms === null || step.prompt_ms === null || step.decode_ms === null) return null;
  return Math.max(0, step.ms - (step.queue_ms ?? 0) - step.prompt_ms - step.decode_ms);
}

// What is known of the waiting around a call, where it is not the call's own, or that nothing is.
function aroundText(call, cost) {
  if (!cost || cost.method === "no-process" || (cost.cpu_ms === null && cost.peak === null)) return [];
  const around = Object.entries(cost.waits?.machine ?? {}).filter(([, ms]) => ms >= LEAST_WAIT_MS).map(([kind, ms]) => `${duration(ms)} for ${WAITED_FOR[kind]}`);
  return [
    waitedShare(call, cost.waits) === null ? "waiting not measured" : null,
    around.length ? `meanwhile something on the machine waited ${around.join(", ")}` : null,
  ];
}

const WAITED_FOR = { processor: "a processor", memory: "memory", disk: "a disk" };

function waitText(waits) {
  const found = toldWaits(waits).map(([kind, ms]) => (kind === "throttled" ? `throttled ${duration(ms)}` : `waited ${duration(ms)} for ${WAITED_FOR[kind]}`));
  if (waits?.cause === "limit") found.push("slow by its limit");
  if (waits?.cause === "neighbours") found.push("slow by its neighbours");
  return found;
}

function costText(call) {
  if (call.status === null) return "no result recorded";
  if (call.status === "not_executed") return "no process";
  return [call.status === "ok" ? null : call.status, call.exit === null ? null : `exit ${call.exit}`, duration(call.ms), ...costParts(call.cost)].filter(Boolean).join(", ");
}

function costParts(cost) {
  if (!cost || (cost.cpu_ms === null && cost.peak === null)) return ["cost not measured"];
  if (cost.method === "foreign") return [`with the collecting process: CPU ${duration(cost.cpu_ms)}, peak of its whole life ${size(cost.peak)}`];
  const hidden = cost.floor !== null && cost.peak !== null && cost.peak <= cost.floor ? "at most " : "";
  return [
    `CPU ${duration(cost.cpu_ms)}`, `peak ${hidden}${size(cost.peak)}`, cost.tree_peak > cost.peak ? `whole tree to ${size(cost.tree_peak)}` : null, cost.mean === null ? null : `mean ${size(cost.mean)}`, `read ${size(cost.read)}`, `wrote ${size(cost.write)}`,
    cost.leftovers ? `${plural(cost.leftovers, "process", "processes")} left running, killed` : null,
    ...waitText(cost.waits),
  ];
}
