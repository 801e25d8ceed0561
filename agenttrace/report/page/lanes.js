// What stands in the lanes of the timeline for one generation or call, and what it means.

const GAP_OF_BAD = 6;
const WAIT_KINDS = ["throttled", "processor", "memory", "disk"];
const LEAST_WAIT_MS = 1;

function laneHeight(id) {
  return LANES.find((lane) => lane.id === id).height;
}

// Queue, prefill and decode in their order; what is none of them comes last, as nobody says where it was.
function modelShapes(step, { left, width, tops, x }) {
  const across = { y: tops.model, height: laneHeight("model"), rx: 2 };
  const shapes = [svg("rect", { class: step.decode_ms === null ? "whole" : "whole decode", x: left, width, ...across })];
  let at = left;
  const part = (kind, ms) => {
    const wide = Math.min(left + width - at, x(Math.max(0, ms ?? 0)));
    if (wide > 1 && kind) shapes.push(svg("rect", { class: kind, x: at, width: wide, ...across }));
    at += wide;
  };
  part("queue", step.queue_ms);
  part("prefill", step.prompt_ms);
  if (unnamed(step) === null) return shapes;
  part(null, step.decode_ms);
  part("unnamed", unnamed(step));
  return shapes;
}

function callShapes(bar, place) {
  const { left, width, tops } = place;
  const shapes = [svg("rect", { class: "whole", x: left, y: tops.tools, width, height: laneHeight("tools"), rx: 2 })];
  // Not by colour alone: a bar that failed has a gap.
  if (trouble(bar.call)) shapes.push(svg("rect", { class: "gap", x: left, y: tops.tools + (laneHeight("tools") - GAP_OF_BAD) / 2, width, height: GAP_OF_BAD }));
  const cost = bar.cost;
  if (!cost || cost.method === "no-process") return shapes;
  const disk = { ...place, width: width / 2 };
  return [
    ...shapes, column("cpu", bar.cores, "cpu", place), waitShapes(bar.call, cost.waits, place), memoryShapes(cost, place),
    // Reads and writes side by side in the width of the call.
    column("io", cost.read, "read", disk), column("io", cost.write, "write", { ...disk, left: left + disk.width }),
  ];
}

function column(lane, value, kind, place) {
  if (value === null || value === undefined) return missing(lane, place);
  const { left, width } = place;
  const y = level(lane, value, place);
  return svg("rect", { class: kind, x: left, y, width, height: place.tops[lane] + laneHeight(lane) - y });
}

function missing(lane, { left, width, tops }) {
  const y = tops[lane] + laneHeight(lane);
  return svg("line", { class: "missing", x1: left, x2: left + width, y1: y, y2: y });
}

// Where a value ends in its lane, which its largest value fills; what is more than 0 is seen.
function level(lane, value, { tops, most }) {
  const room = laneHeight(lane);
  return tops[lane] + room - (most[lane] ? Math.max(value ? 1 : 0, Math.min(1, value / most[lane]) * room) : 0);
}

// What kept a call from running, one upon the other; the full height is all of its time. Not by colour alone: stripes.
function waitShapes(call, waits, place) {
  if (waitedShare(call, waits) === null) return missing("waits", place);
  const room = laneHeight("waits");
  let y = place.tops.waits + room;
  return toldWaits(waits).map(([kind, ms]) => {
    const tall = Math.min(y - place.tops.waits, Math.max(1, (call.ms ? ms / call.ms : 0) * room));
    y -= tall;
    return waitShape(kind, { x: place.left, y, width: place.width, height: tall });
  });
}

function waitShape(kind, { x, y, width, height }) {
  if (kind === "throttled") return svg("rect", { class: "throttled", x, y, width, height });
  const middle = x + width / 2;
  return svg("line", { class: `stripes for-${kind}`, x1: middle, x2: middle, y1: y + height, y2: y, "stroke-width": width });
}

function toldWaits(waits) {
  return WAIT_KINDS.map((kind) => [kind, waits?.[kind] ?? 0]).filter(([, ms]) => ms >= LEAST_WAIT_MS);
}

// The part of its time that a call waited, at most all; null where neither throttling nor waiting was measured.
function waitedShare(call, waits) {
  if (!waits || (waits.throttled === null && waits.processor === null)) return null;
  const waited = toldWaits(waits).reduce((total, [, ms]) => total + ms, 0);
  return call.ms ? Math.min(1, waited / call.ms) : 0;
}

// Over time where that is recorded; else a bar to the peak. The mean, where it is known, is a line across either.
function memoryShapes(cost, place) {
  const { left, width, tops, x } = place;
  const peak = memoryTop(cost);
  if (peak === null) return missing("memory", place);
  const across = (kind, value) => svg("line", { class: kind, x1: left, x2: left + width, y1: level("memory", value, place), y2: level("memory", value, place) });
  const mean = cost.mean === null ? null : across("mean", cost.mean);
  if (!cost.series) return [column("memory", peak, "memory", place), mean];
  const bottom = tops.memory + laneHeight("memory");
  const points = cost.series.map(([ms, bytes]) => [left + Math.min(width, x(ms)), level("memory", bytes, place)]);
  // Before the first sample and after the last, the tree is taken to be as it was then.
  const line = [[left, points[0][1]], ...points, [left + width, points.at(-1)[1]]].map((point) => point.join(" ")).join("L");
  return [svg("path", { class: "memory series", d: `M${left} ${bottom}L${line}L${left + width} ${bottom}Z` }), across("peak", peak), mean];
}

// The most memory of a call: its largest process, or all of them together where that was seen to be more.
function memoryTop(cost) {
  return cost.peak === null ? cost.tree_peak : Math.max(cost.peak, cost.tree_peak ?? 0);
}

const SWATCH = { x: 0, y: 0, width: 14, height: 10 };
const LEGEND = [
  ["queue", "queue of the server"], ["prefill", "prefill: reading the prompt"], ["decode", "decode: generating"], ["unnamed", "rest of the request"],
  ["throttled", "throttled by its limit"], ["for-processor", "waiting for a processor"], ["for-memory", "waiting for memory"], ["for-disk", "waiting for a disk"],
  ["series", "memory over time"], ["mean", "mean memory"],
];

// What of it there is in a picture, with its meaning.
function legendOf(picture) {
  return LEGEND.filter(([kind]) => picture.querySelector(`.${kind}`)).map(([kind, text]) => h("li", {}, svg("svg", { width: SWATCH.width, height: SWATCH.height, "aria-hidden": "true" }, swatch(kind)), text));
}

function swatch(kind) {
  if (kind.startsWith("for-")) return waitShape(kind.slice(4), SWATCH);
  if (kind === "mean") return svg("line", { class: "mean", x1: 0, x2: SWATCH.width, y1: 5, y2: 5 });
  return svg("rect", { class: kind === "series" ? "memory" : kind, ...SWATCH });
}
