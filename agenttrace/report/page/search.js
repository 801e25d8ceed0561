// Searches everything that was said, called and put out. Texts are unpacked once and kept in lower case, within a bound.

const KEPT_TEXT = 300_000_000;
const SLICE_MS = 12;

const chunkTexts = new Map();
let keptText = 0;
let searchNumber = 0;

// The texts of a trace with where each stands, in the order in which they are read.
function* textsOfTrace(trace) {
  yield ["prompt", trace.prompt];
  for (const step of trace.steps) {
    yield [`step ${step.n}, reasoning`, step.thinks];
    yield [`step ${step.n}`, step.says];
    yield [`step ${step.n}, answered`, step.told];
    for (const call of step.calls) yield* textsOfCall(call, `step ${step.n}, `);
  }
  for (const call of trace.stray) yield* textsOfCall(call, "");
  yield ["answer", trace.answer];
  yield ["end", trace.detail];
  yield ["patch", trace.patch];
  yield ["patch", trace.patch_note];
  for (const verdict of trace.verdicts) yield [`verdict on ${verdict.aspect}`, verdict.reason];
}

function* textsOfCall(call, where) {
  yield [`${where}tool`, call.tool];
  yield [`${where}command`, readableInput(call.input)];
  yield [`${where}output`, call.output];
}

function searchText(trace) {
  return Array.from(textsOfTrace(trace), ([, text]) => text).filter(Boolean).join("\n").toLowerCase();
}

const BEFORE_HIT = 12;
const AFTER_HIT = 120;

// The first place of a text in a trace with what stands around it; null where only its name or model holds it.
async function snippetOf(row, query) {
  const needle = query.toLowerCase();
  for (const [where, text] of textsOfTrace(await loadTrace(row))) {
    const at = text ? text.toLowerCase().indexOf(needle) : -1;
    if (at === -1) continue;
    const start = Math.max(0, at - BEFORE_HIT);
    const folded = (part) => part.replaceAll(/\s+/g, " ");
    return {
      where, hit: folded(text.slice(at, at + query.length)),
      before: `${start ? "…" : ""}${folded(text.slice(start, at))}`, after: folded(text.slice(at + query.length, at + query.length + AFTER_HIT)),
    };
  }
  return null;
}

// What a person reads of an input: without the escapes of JSON, where it is JSON.
function readableInput(input) {
  try {
    const value = JSON.parse(input);
    return Object.values(value).every((part) => typeof part === "string") ? Object.values(value).join("\n") : input;
  } catch {
    return input;
  }
}

async function textsOf(chunk) {
  const kept = chunkTexts.get(chunk);
  if (kept) return kept;
  // Past the chunk cache: a search goes through all of them and would only empty it.
  const texts = (await unpackedChunk(chunk)).map((entry) => searchText(JSON.parse(entry.view)));
  const length = texts.reduce((total, text) => total + text.length, 0);
  if (keptText + length <= KEPT_TEXT) {
    chunkTexts.set(chunk, texts);
    keptText += length;
  }
  return texts;
}

// Finds the rows that hold a text. `found(rows, done, total)` is called now and then, at the end with done = total; a
// newer search ends this one.
async function search(query, candidates, found) {
  const mine = ++searchNumber;
  const needle = query.toLowerCase();
  const hits = [];
  const groups = grouped(candidates);
  let done = 0;
  let pause = performance.now() + SLICE_MS;
  let reported = performance.now();
  for (const [chunk, rows] of groups) {
    const texts = chunkTexts.get(chunk) ?? (await textsOf(chunk));
    if (mine !== searchNumber) return;
    for (const row of rows) if (row.text.includes(needle) || texts[row.place].includes(needle)) hits.push(row);
    done += rows.length;
    if (performance.now() > pause) {
      if (performance.now() - reported > 150) {
        found(hits, done, candidates.length);
        reported = performance.now();
      }
      await new Promise((resolve) => setTimeout(resolve));
      if (mine !== searchNumber) return;
      pause = performance.now() + SLICE_MS;
    }
  }
  found(hits, candidates.length, candidates.length);
}

function grouped(rows) {
  const groups = new Map();
  for (const row of rows) {
    if (groups.has(row.chunk)) groups.get(row.chunk).push(row);
    else groups.set(row.chunk, [row]);
  }
  return groups;
}

function cancelSearch() {
  searchNumber += 1;
}

// Marks what was searched for in the elements on the screen, without touching them, where the browser can.
function highlight(root, query) {
  if (!window.CSS?.highlights) return null;
  CSS.highlights.delete("found");
  if (!query) return null;
  const needle = query.toLowerCase();
  const ranges = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node && ranges.length < 2000; node = walker.nextNode()) {
    const text = node.data.toLowerCase();
    if (text.length !== node.data.length) continue;
    for (let at = text.indexOf(needle); at !== -1 && ranges.length < 2000; at = text.indexOf(needle, at + needle.length)) {
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + needle.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
  return ranges[0] ?? null;
}
