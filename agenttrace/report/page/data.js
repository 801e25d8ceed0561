// The traces: an index of short rows, and chunks that are unpacked when something of them is needed.

const KEPT_CHUNKS = 32;
const KEPT_SIDECARS = 4;

let report = { rows: [], files: [], fields: [], folder: "", sidecars: [], chunkCount: 0 };
const byKey = new Map();
const timesSeen = new Map();
const chunkCache = new Map();
const sidecarCache = new Map();
const sidecarWaiting = new Map();

async function unpack(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function openReport() {
  const index = followed ? await askRows() : JSON.parse(await unpack(byId("index").textContent));
  report = { ...report, ...index, rows: [] };
  addRows(index.rows);
}

// Takes rows in. A row's key is its trace id; from the second trace of that id on, `ID@2`, `ID@3`, ...
function addRows(found) {
  for (const values of found) {
    const row = Object.fromEntries(report.fields.map((field, at) => [field, values[at]]));
    const times = (timesSeen.get(row.id) ?? 0) + 1;
    timesSeen.set(row.id, times);
    row.key = times === 1 ? row.id : `${row.id}@${times}`;
    row.number = report.rows.length;
    row.tools = row.by_tool.map(([name]) => name);
    byKey.set(row.key, row);
    report.chunkCount = Math.max(report.chunkCount, row.chunk + 1);
    report.rows.push(row);
  }
  nameRuns();
}

function forgetRows() {
  report.rows = [];
  report.chunkCount = 0;
  for (const kept of [byKey, timesSeen, chunkCache, chunkTexts]) kept.clear();
}

// The row that a reference names: a key, or the start of exactly one.
function findRow(reference) {
  const row = byKey.get(reference);
  if (row) return row;
  const found = reference.length < 4 ? [] : report.rows.filter((candidate) => candidate.key.startsWith(reference));
  if (found.length > 1) throw new Error(`${count(found.length)} traces begin with ${reference}: give more of the id.`);
  if (!found.length) throw new Error(`No trace ${reference} is in this report.`);
  return found[0];
}

async function loadTrace(row) {
  const entry = await loadEntry(row);
  entry.trace ??= JSON.parse(entry.view);
  return entry.trace;
}

// The record of a trace: the line as it stands in its file, or as `convert` writes it where the file is of another format.
async function loadLine(row) {
  return (await loadEntry(row)).line;
}

async function loadEntry(row) {
  const entry = (await remembered(chunkCache, KEPT_CHUNKS, row.chunk, () => unpackedChunk(row.chunk)))[row.place];
  if (!entry) throw new Error("The data of this trace is not complete. Write the report again.");
  return entry;
}

// A chunk is lines: a view as JSON, then its record.
async function unpackedChunk(number) {
  const lines = (followed ? await askChunk(number) : await unpack(await packedChunk(number))).split("\n");
  return Array.from({ length: lines.length >> 1 }, (_, at) => ({ view: lines[2 * at], line: lines[2 * at + 1] }));
}

// The value of a key, made once; only the values used last are kept, and no failure is.
function remembered(cache, limit, key, make) {
  const value = cache.get(key) ?? make();
  cache.delete(key);
  cache.set(key, value);
  if (cache.size > limit) cache.delete(cache.keys().next().value);
  value.catch(() => cache.delete(key));
  return value;
}

async function packedChunk(number) {
  if (report.sidecars.length) {
    const file = report.sidecars.findLastIndex((sidecar) => sidecar.first <= number);
    return (await loadSidecar(file))[number - report.sidecars[file].first];
  }
  if (!byId(`chunk-${number}`) && document.readyState === "loading") {
    await new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
  }
  const element = byId(`chunk-${number}`);
  if (!element) throw new Error("This page is cut off: its data is not complete. Write the report again.");
  return element.textContent;
}

// A page that was opened from a disk may not fetch, but it may load scripts: a data file is a call of this function.
window.agenttraceReport = (number, digest, chunks) => sidecarWaiting.get(number)?.({ digest, chunks });

function loadSidecar(number) {
  return remembered(sidecarCache, KEPT_SIDECARS, number, async () => {
    const name = `${report.folder}/${String(number).padStart(3, "0")}.js`;
    const { digest, chunks } = await new Promise((resolve, reject) => {
      const script = document.createElement("script");
      sidecarWaiting.set(number, resolve);
      script.addEventListener("error", () => {
        reject(new Error(`${name} cannot be loaded: the folder ${report.folder} must lie beside this page.`));
      });
      script.addEventListener("load", () => script.remove());
      script.src = sidecarAddress(name);
      document.head.append(script);
    });
    if (digest !== report.sidecars[number].digest) {
      throw new Error(`${name} belongs to another report: write the report again.`);
    }
    return chunks;
  });
}

let addresses = null;

function sidecarAddress(name) {
  const safe = (text) => {
    if (!/^[^/]+\.data\/\d{3,}\.js$/.test(text)) throw new TypeError("not a data file");
    return text.split("/").map(encodeURIComponent).join("/");
  };
  if (!window.trustedTypes) return safe(name);
  addresses ??= window.trustedTypes.createPolicy("agenttrace-data", { createScriptURL: safe });
  return addresses.createScriptURL(name);
}
