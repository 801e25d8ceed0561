// Where two traces part: the same in everything that is said and done, whatever it cost and however long it took.

// A trace as parts with names, in order; parts of two traces belong together when their keys are equal.
function parts(trace) {
  const prefix = commonPrefix(trace);
  const found = [{ key: "0 task", label: "Task", text: trace.prompt, rank: [0, 0] }];
  for (const [at, step] of trace.steps.entries()) {
    const name = `Step ${at + 1}`;
    let rank = 0;
    // `text` is what is shown, `exact` what is compared: a command stands in its call, and not in the reply as well.
    const add = (what, text, kind, exact = text) => {
      if (text !== null) found.push({ key: `${at + 1} ${what}`, label: `${name} · ${what}`, text: String(text), exact: String(exact), kind, step: step.n, rank: [at + 1, rank] });
      rank += 1;
    };
    add("reasoning", step.thinks);
    add("reply", step.says === null ? null : ownWords(step), "prose", step.says);
    for (const [number, call] of step.calls.entries()) {
      const which = step.calls.length > 1 ? ` ${number + 1}` : "";
      add(`call${which}`, `${call.tool}\n${pretty(call.input)}`, "code");
      add(`exit${which}`, statusText(call));
      add(`output${which}`, call.output === null ? null : outputText(call, prefix), "code", call.output);
    }
    add("answered", step.told, "code");
  }
  const end = Number.MAX_SAFE_INTEGER;
  found.push({ key: "end", label: "End", text: [trace.ended ?? "not recorded", trace.detail].filter(Boolean).join(": "), rank: [end, 0] });
  found.push({ key: "answer", label: "Final answer", text: trace.answer ?? "(none)", rank: [end, 1] });
  if (trace.patch !== null || trace.patch_note) {
    found.push({ key: "patch", label: "Patch", text: [trace.patch, trace.patch_note].filter(Boolean).join("\n") || "(no change)", kind: "code", rank: [end, 2] });
  }
  const verdicts = trace.verdicts.map((verdict) => `${verdict.aspect}: ${verdict.verdict}${verdict.reason ? ` (${verdict.reason})` : ""}`);
  found.push({ key: "verdicts", label: "Verdicts", text: verdicts.join("\n") || "(none)", rank: [end, 3] });
  return found;
}

function pretty(input) {
  return readableInput(input);
}

// Pairs of parts in order, each with `same`; a part that only one trace has is paired with null.
function pairs(left, right) {
  const mine = new Map(parts(left).map((part) => [part.key, part]));
  const theirs = new Map(parts(right).map((part) => [part.key, part]));
  const keys = [...new Set([...mine.keys(), ...theirs.keys()])];
  return keys
    .map((key) => ({ left: mine.get(key) ?? null, right: theirs.get(key) ?? null }))
    .map((pair) => ({ ...pair, same: exactText(pair.left) === exactText(pair.right), label: (pair.left ?? pair.right).label, rank: (pair.left ?? pair.right).rank }))
    // Where only what is not shown differs, all is shown.
    .map((pair) => (!pair.same && pair.left && pair.left.text === pair.right?.text ? { ...pair, left: { ...pair.left, text: pair.left.exact }, right: { ...pair.right, text: pair.right.exact } } : pair))
    .sort((one, other) => one.rank[0] - other.rank[0] || one.rank[1] - other.rank[1]);
}

function exactText(part) {
  return part?.exact ?? part?.text;
}

// The first place where two texts differ, counted from 1; null when they are equal.
function firstDifference(left, right) {
  if (left === right) return null;
  let at = 0;
  const shorter = Math.min(left.length, right.length);
  while (at < shorter && left[at] === right[at]) at += 1;
  // Not in the middle of a character.
  if (at > 0 && /[\ud800-\udbff]/.test(left[at - 1])) at -= 1;
  // Where one text ends and the other goes on with a new line, that line is the first that differs.
  if (at === shorter && (left[at] ?? right[at]) === "\n") return { line: lineNumber(left, at) + 1, column: 1 };
  const start = at === 0 ? 0 : left.lastIndexOf("\n", at - 1) + 1;
  return { line: lineNumber(left, at), column: Array.from(left.slice(start, at)).length + 1 };
}

function lineNumber(text, at) {
  let line = 1;
  for (let next = text.indexOf("\n"); next !== -1 && next < at; next = text.indexOf("\n", next + 1)) line += 1;
  return line;
}

// Leaves in which two JSON values differ, as [path, left, right].
function leafDifferences(left, right, path = "") {
  const object = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (!object(left) || !object(right)) return JSON.stringify(left) === JSON.stringify(right) ? [] : [[path, left, right]];
  return [...new Set([...Object.keys(left), ...Object.keys(right)])].flatMap((key) => leafDifferences(left[key], right[key], path ? `${path}.${key}` : key));
}
