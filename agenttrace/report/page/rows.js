// What a row is called: its task, its run, its file.

const TAIL = 7;
const LONG = 13;
const STAMP = /\d{4}(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/;
const ROLLOUT = /^rollout \d+$/;

// Gives every row the key of its run. The same run id in several files (a replay, a copy) makes a run of each.
function nameRuns() {
  const filesOf = new Map();
  for (const row of report.rows) {
    if (!filesOf.has(row.run)) filesOf.set(row.run, new Set());
    filesOf.get(row.run).add(row.file);
  }
  const runs = new Map();
  for (const row of report.rows) {
    const file = report.files[row.file].name;
    const key = !row.run ? file : filesOf.get(row.run).size > 1 ? `${row.run} in ${file}` : row.run;
    row.runKey = key;
    if (!runs.has(key)) runs.set(key, { key, id: row.run, files: new Set(), models: new Set(), start: "" });
    const run = runs.get(key);
    run.files.add(file);
    run.models.add(row.model);
    if (row.time && (!run.start || row.time < run.start)) run.start = row.time;
  }
  report.runs = runs;
  shortenRuns([...runs.values()]);
  report.models = new Set(report.rows.map((row) => row.model)).size;
  // Which rollout a row is says something where its run has several of its task.
  const rollouts = new Map();
  for (const row of report.rows) {
    row.series = `${row.runKey}\u0000${taskKey(row)}`;
    rollouts.set(row.series, (rollouts.get(row.series) ?? 0) + 1);
  }
  for (const row of report.rows) row.repeated = rollouts.get(row.series) > 1;
  // A file beside a run says nothing new where each run is one file and each file one run.
  const pairs = new Set(report.rows.map((row) => `${row.file} ${row.runKey}`)).size;
  report.filesTell = report.files.length > 1 && (pairs > runs.size || pairs > report.files.length);
  for (const row of report.rows) row.text ??= `${row.key} ${taskName(row)} ${row.runKey} ${row.model} ${row.prompt}`.toLowerCase();
}

// Where each run has the second of its begin in its id, that tells them apart in the least room.
function shortenRuns(runs) {
  const stamps = runs.map((run) => STAMP.exec(run.key)?.slice(1));
  const short = stamps.map((stamp, at) => (stamp ? `${stamp[0]}-${stamp[1]} ${stamp.slice(2).join(":")}` : runs[at].key));
  const times = new Map();
  for (const name of short) times.set(name, (times.get(name) ?? 0) + 1);
  for (const [at, run] of runs.entries()) run.short = times.get(short[at]) === 1 ? short[at] : run.key;
}

function runShort(key) {
  return middle(report.runs.get(key).short);
}

function runText(key) {
  const run = report.runs.get(key);
  return [`Run ${key}`, [...run.models].join(", "), run.start ? instant(run.start) : null, [...run.files].join(", ")].filter(Boolean).join("\n");
}

// The name that tells a task from the others of its data set.
function taskMain(row) {
  return (ROLLOUT.test(row.name) ? null : row.name) || row.task || row.name || row.id.slice(0, 12);
}

// What stands behind it: data set and number of a task with a name, and which rollout it is.
function taskSoft(row) {
  const place = taskMain(row) === row.task ? null : taskPlace(row);
  return [place, rolloutName(row)].filter(Boolean).join(" · ");
}

function rolloutName(row) {
  return row.attempt !== null && row.repeated ? `rollout ${row.attempt}` : null;
}

function taskPlace(row) {
  return [row.dataset, row.task].filter(Boolean).join("/");
}

function taskName(row) {
  const name = ROLLOUT.test(row.name) ? null : row.name;
  return [taskPlace(row), name, rolloutName(row)].filter(Boolean).join(" ") || row.id;
}

// Rows of one task are those of one data set and task id; a row without a task is one by itself.
function taskKey(row) {
  return row.task === "" ? `\u0000${row.key}` : JSON.stringify([row.dataset, row.task]);
}

function sameTask(row) {
  return row.task === "" ? [] : report.rows.filter((other) => other !== row && other.task === row.task && other.dataset === row.dataset);
}

// Text that loses its middle, not its end, where there is no room for all of it.
function middle(text) {
  const chars = Array.from(text);
  if (chars.length < LONG) return h("bdi", { class: "middle" }, h("span", {}, text));
  return h("bdi", { class: "middle" }, h("span", {}, chars.slice(0, -TAIL).join("")), h("span", { class: "tail" }, chars.slice(-TAIL).join("")));
}

function median(values) {
  const known = values.filter((value) => value !== null && value !== undefined).sort((left, right) => left - right);
  if (!known.length) return null;
  const half = known.length >> 1;
  return known.length % 2 ? known[half] : (known[half - 1] + known[half]) / 2;
}

function totalOf(values) {
  return values.reduce((total, value) => sum(total, value ?? null), null);
}
