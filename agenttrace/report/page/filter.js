// Which rows are looked at, and in which order.

const MOST_CHOICES = 300;
const filters = Object.fromEntries(FILTERS.map((name) => [name, ""]));

const FACETS = {
  run: { label: "Run", values: (row) => [row.runKey], matches: (row, value) => row.runKey === value },
  file: { label: "File", values: (row) => [fileName(row)], matches: (row, value) => fileName(row) === value, offered: () => report.filesTell },
  dataset: { label: "Data set", values: (row) => [row.dataset], matches: (row, value) => row.dataset === value },
  model: { label: "Model", values: (row) => [row.model], matches: (row, value) => row.model === value },
  outcome: {
    label: "Outcome",
    values: (row) => [outcomeOf(row.solved), row.ended ? `ended: ${row.ended}` : null],
    matches: (row, value) => outcomeOf(row.solved) === value || `ended: ${row.ended}` === value,
    shown: (value) => OUTCOMES[value]?.label ?? value,
  },
  verdict: {
    label: "Verdict",
    values: (row) => row.verdicts.map(verdictText),
    matches: (row, value) => row.verdicts.some((verdict) => verdictText(verdict) === value),
  },
  tool: { label: "Tool", values: (row) => row.tools, matches: (row, value) => row.tools.includes(value) },
  exit: {
    label: "Exit code",
    values: (row) => [...row.exits.map(String), ...row.troubles, row.exits.some((code) => code !== 0) ? "not 0" : null],
    matches: (row, value) =>
      value === "not 0" ? row.exits.some((code) => code !== 0) : row.troubles.includes(value) || row.exits.map(String).includes(value),
    order: (left, right) => (Number(left) || 0) - (Number(right) || 0),
  },
};

function fileName(row) {
  return report.files[row.file].name;
}

function verdictText([aspect, verdict]) {
  return `${aspect}: ${verdict.replaceAll("_", " ")}`;
}

// Values of a facet with the number of traces that have them.
function facetCounts(name) {
  const counts = new Map();
  for (const row of report.rows) {
    for (const value of new Set(FACETS[name].values(row))) {
      if (value) counts.set(value, (counts.get(value) ?? 0) + 1);
    }
  }
  // Names can be anything: of thousands, the most frequent ones can be chosen, the others searched for.
  const most = [...counts].sort((left, right) => right[1] - left[1]).slice(0, MOST_CHOICES);
  const order = FACETS[name].order ?? (() => 0);
  return most.sort(([left], [right]) => order(left, right) || left.localeCompare(right, "en", { numeric: true }));
}

function passesFacets(row) {
  return Object.entries(FACETS).every(([name, facet]) => !filters[name] || facet.matches(row, filters[name]));
}

const SORTS = {
  outcome: (row) => ({ solved: 0, failed: 1, unknown: 2 })[outcomeOf(row.solved)],
  task: (row) => taskMain(row),
  run: (row) => row.runKey,
  file: fileName,
  model: (row) => row.model,
  steps: (row) => row.steps,
  calls: (row) => row.calls,
  tokens: (row) => row.tokens_out,
  time: (row) => row.ms,
  cpu: (row) => row.cpu_ms,
  memory: (row) => row.peak,
  io: (row) => sum(row.read, row.write),
};

// Rows in the order of `sort` (`-` in front: the largest first); what was not measured comes last either way.
function sorted(rows, sort) {
  const value = SORTS[sort.replace("-", "")];
  if (!value) return rows;
  const sign = sort.startsWith("-") ? -1 : 1;
  const known = (key) => key !== null && key !== undefined;
  return rows
    .map((row) => ({ row, key: value(row) }))
    .sort((left, right) => {
      if (!known(left.key) || !known(right.key)) return Number(known(right.key)) - Number(known(left.key));
      const order = typeof left.key === "string" ? left.key.localeCompare(right.key, "en", { numeric: true }) : left.key - right.key;
      return sign * order || left.row.number - right.row.number;
    })
    .map(({ row }) => row);
}
