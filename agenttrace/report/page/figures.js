// What the figures mean: the tooltips of headings, and the list in the help. The fields are described in docs/report.md.

const FIGURES = {
  outcome: ["Outcome", "What the judge of the task found: solved, not solved; unknown where nothing was judged, or could not be."],
  task: ["Task", "Name of the task, its data set and number behind it; which rollout, where a task was run more than once."],
  prompt: ["Prompt", "The start of what was asked; of an issue over a checkout, the start of the issue."],
  run: ["Run", "The campaign that a trace is of, by the id in its record; by its file where a record names none."],
  file: ["File", "The record file that a trace stands in."],
  model: ["Model", "The name of the model in the record."],
  exits: ["Exit", "Exit codes of the calls that ran, other than 0, and timeout, oom or lost for calls cut off."],
  steps: ["Steps", "Generations of the model."],
  calls: ["Calls", "Tool calls that the model proposed."],
  tokens: ["Tokens", "Tokens generated, over all steps."],
  tokensIn: ["Tokens read", "Tokens of the prompts, over all steps: a context counts again in every step."],
  time: ["Time", "Wall time from the start of the run to its end, without the making of its tree."],
  modelTime: ["Model", "Wall time of the generations, from request to reply."],
  toolTime: ["Tools", "Wall time of the tool calls. Calls side by side count each."],
  restTime: ["Rest", "Time that is neither: harness and transport. Zero where calls ran side by side."],
  cpu: ["CPU", "User and system time of the processes of the tool calls, not of the model."],
  memory: ["Memory", "Largest resident set of a process of a tool call."],
  io: ["Disk", "Bytes that the tool calls read from the block layer and dirtied in the page cache of disk-backed files."],
  request: ["Queue, prefill, decode", "Parts of a generation as the model server says them: waiting for its turn, reading the prompt, generating."],
  waits: ["Waiting", "Time in which a call could not run: throttled by its own limit, or without a processor, memory or a disk."],
  cost: ["Cost", "What the requests cost in US dollars: as the record says, or by a table of prices, which a trace names."],
  failed: ["Failed", "Calls that ran and ended with an exit code other than 0, or were cut off."],
};

function meaning(id) {
  return FIGURES[id]?.[1];
}

function figureList() {
  return h("dl", { class: "meanings" }, Object.values(FIGURES).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
}
