// The traces: an index of short rows, and chunks that are unpacked when something of them is needed.

const KEPT_CHUNKS = 24;
const KEPT_SIDECARS = 4;

let report = { rows: [], files: [], folder: "", sidecars: [], chunkCount: 0 };
const byKey = new Map();
const chunkCache = new Map();
const sidecarCache = new Map();
const sidecarWaiting = new Map();

async function unpack(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// Reads the index. A row's key is its trace id; from the second trace of that id on, `ID@2`, `ID@3`, ...
async function openReport() {
  const index = await unpack(byId("index").textContent);
  const seen = new Map();
  report = { ...index, chunkCount: 0 };
  report.rows = index.rows.map((values, number) => {
    const row = Object.fromEntries(index.fields.map((field, at) => [field, values[at]]));
    const times = (seen.get(row.id) ?? 0) + 1;
    seen.set(row.id, times);
    row.key = times === 1 ? row.id : `${row.id}@${times}`;
    row.number = number;
    row.text = `${row.key} ${taskName(row)} ${row.model} ${row.prompt}`.toLowerCase();
    byKey.set(row.key, row);
    report.chunkCount = Math.max(report.chunkCount, row.chunk + 1);
    return row;
  });
}

// The row that a reference names: a key, or the start of exactly one.
function findRow(reference) {
  const row = byKey.get(reference);
  if (row || reference.length < 4) return row;
  const found = report.rows.filter((candidate) => candidate.key.startsWith(reference));
  return found.length === 1 ? found[0] : undefined;
}

async function loadTrace(row) {
  return (await loadChunk(row.chunk))[row.place];
}

function loadChunk(number) {
  return remembered(chunkCache, KEPT_CHUNKS, number, async () => unpack(await packedChunk(number)));
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
