// The timeline: what the model did, what the tools did and what that cost, in lanes over one axis.

const LANES = [
  { id: "model", label: "Model", height: 24 },
  { id: "tools", label: "Tools", height: 24 },
  { id: "cpu", label: "CPU", height: 32, unit: (value) => `to ${digits(value)} cores` },
  { id: "waits", label: "Waiting", height: 32, unit: (value) => `to ${percentOf(value)}` },
  { id: "memory", label: "Memory", height: 32, unit: (value) => `to ${size(value)}` },
  { id: "io", label: "Disk", height: 32, unit: (value) => `to ${size(value)}` },
];
const GAP = 6;
const AXIS = 22;
const MIN_WIDTH = 2;
const MOST_BARS = 3000;

// The lanes as a figure; `open(step, call)` is called when a bar is chosen.
function timeline(trace, open) {
  const all = timelineBars(trace);
  const bars = all.slice(0, MOST_BARS);
  const whole = trace.axis === "shared" && bars.length === all.length ? (trace.ms ?? 0) : 0;
  const end = bars.reduce((latest, bar) => Math.max(latest, bar.end), Math.max(whole, 1e-6));
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const canvas = h("div", { class: "canvas" });
  const legend = h("ul", { class: "legend" });
  const state = { bars, end, zoom: 1, open, canvas, readout, legend, tops: laneTops(bars) };
  const part = all.length > bars.length ? `The first ${count(bars.length)} of ${count(all.length)} bars. ` : "";
  const hint = `${part}Point at a bar, or use the arrow keys; Enter goes to the step.`;
  const say = (text) => replace(readout, text ?? hint);
  state.say = say;
  say();
  const zoom = (factor) => {
    state.zoom = Math.min(256, Math.max(1, state.zoom * factor));
    drawTimeline(state);
  };
  const buttons = h("span", { class: "zoom" },
    h("button", { type: "button", class: "quiet", "aria-label": "Zoom out", on: { click: () => zoom(0.5) } }, "−"),
    h("button", { type: "button", class: "quiet", "aria-label": "Zoom in", on: { click: () => zoom(2) } }, "+"));
  const labels = LANES.map((lane) => laneLabel(lane, state, trace));
  const figure = h("figure", { class: "timeline", id: "timeline" },
    h("figcaption", {}, h("h2", {}, "Timeline"), buttons),
    h("div", { class: "lanes" }, h("div", { class: "labels" }, labels), canvas),
    // Below the lanes: however long its text is, they stay where the pointer is.
    legend, readout);
  state.figure = figure;
  new ResizeObserver(() => drawTimeline(state)).observe(canvas);
  return figure;
}

// Every bar with its step, times and figures. A generation or call without times has no bar.
function timelineBars(trace) {
  const bars = [];
  for (const step of trace.steps) {
    if (step.start !== null) bars.push({ lane: "model", start: step.start, end: step.end, step });
    for (const [at, call] of step.calls.entries()) addCall(bars, call, step, at);
  }
  for (const call of trace.stray) addCall(bars, call, null, 0);
  return bars.sort((left, right) => left.start - right.start);
}

function addCall(bars, call, step, at) {
  if (call.start === null) return;
  // What was measured together with the collector is not this call's cost.
  const cost = call.cost?.method === "foreign" ? null : call.cost;
  const cores = cost?.cpu_ms !== null && cost && call.ms ? cost.cpu_ms / call.ms : null;
  bars.push({ lane: "tools", start: call.start, end: call.end, step, at, call, cost, cores });
}

// The largest value per lane, which fills its height; null when nothing was measured.
function laneTops(bars) {
  const most = (pick) => {
    const known = bars.filter((bar) => bar.cost).map(pick).filter((value) => value !== null && value !== undefined);
    return known.length ? known.reduce((most, value) => Math.max(most, value)) : null;
  };
  return {
    cpu: most((bar) => bar.cores),
    waits: most((bar) => (bar.cost.waits ? waitedShare(bar.call, bar.cost.waits) : null)),
    memory: most((bar) => memoryTop(bar.cost)),
    io: most((bar) => (bar.cost.read === null ? null : Math.max(bar.cost.read, bar.cost.write ?? 0))),
  };
}

function laneLabel(lane, state, trace) {
  let note = null;
  if (lane.unit) note = state.tops[lane.id] === null ? "not measured" : state.tops[lane.id] === 0 ? "none" : lane.unit(state.tops[lane.id]);
  if (lane.id === "model" && trace.axis !== "shared") note = "not measured";
  const label = h("div", { class: `lane-label ${lane.id}` }, h("b", {}, lane.label), note ? h("span", {}, note) : null);
  label.style.height = `${lane.height + GAP}px`;
  return label;
}

function drawTimeline(state) {
  const width = Math.max(240, Math.floor(state.canvas.clientWidth * state.zoom)) - 2;
  if (width === state.width) return;
  state.width = width;
  const height = LANES.reduce((total, lane) => total + lane.height + GAP, 0) + AXIS;
  const x = (ms) => (ms / state.end) * (width - 2 * MIN_WIDTH);
  const picture = svg("svg", { width, height, role: "group", "aria-label": "Timeline of model and tools" });
  let top = 0;
  const tops = {};
  for (const lane of LANES) {
    tops[lane.id] = top;
    put(picture, [svg("rect", { class: "lane", x: 0, y: top, width, height: lane.height })]);
    top += lane.height + GAP;
  }
  put(picture, [ticks(state.end, width, top)]);
  state.nodes = state.bars.map((bar, number) => drawBar(bar, number, state, tops, x));
  put(picture, [state.nodes]);
  state.canvas.replaceChildren(picture);
  replace(state.legend, legendOf(picture));
  markStep(state.figure, state.figure.dataset.here);
}

function drawBar(bar, number, state, tops, x) {
  const left = x(bar.start);
  const width = Math.max(MIN_WIDTH, x(bar.end) - left);
  const text = barText(bar);
  const place = { left, width, tops, x, most: state.tops };
  const shapes = bar.lane === "model" ? modelShapes(bar.step, place) : callShapes(bar, place);
  const say = () => state.say(text);
  const choose = () => state.open(bar.step, bar.at);
  return svg("g", {
    class: `bar ${bar.lane} ${trouble(bar.call) ? "bad" : ""}`, role: "button", tabindex: number === 0 ? "0" : "-1", "aria-label": text,
    "data-step": bar.step?.n,
    on: { pointerenter: say, focus: say, pointerleave: () => state.say(), click: choose, keydown: (event) => moveOnTimeline(event, number, state, choose) },
  }, shapes);
}

function moveOnTimeline(event, number, state, choose) {
  const moves = { ArrowLeft: number - 1, ArrowRight: number + 1, Home: 0, End: state.nodes.length - 1 };
  if (event.key === "Enter" || event.key === " ") choose();
  else if (event.key in moves) {
    const next = state.nodes[moves[event.key]];
    if (next) {
      state.nodes[number].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    }
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

function ticks(end, width, top) {
  const wanted = end / Math.max(2, width / 110);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= wanted);
  const found = [];
  for (let number = 0; number * step <= end; number += 1) {
    const x = (number * step * (width - 2 * MIN_WIDTH)) / end;
    const last = x > width - 40;
    found.push(svg("line", { class: "tick", x1: x, x2: x, y1: 0, y2: top + 2 }));
    found.push(svg("text", { class: "tick", x: Math.min(x, width), y: top + 15, "text-anchor": number === 0 ? "start" : last ? "end" : "middle" }, tickText(number * step, end)));
  }
  return found;
}

function tickText(ms, end) {
  const number = (value) => String(Number(value.toPrecision(6)));
  if (end < 2000) return `${number(ms)} ms`;
  return end < 300_000 ? `${number(ms / 1000)} s` : `${number(ms / 60_000)} min`;
}

// Shows which step the reader is at; a timeline that is drawn later, or again, shows it too.
function markStep(figure, step) {
  if (!figure || step === undefined) return;
  figure.dataset.here = step;
  for (const bar of figure.querySelectorAll(".bar")) bar.classList.toggle("here", bar.dataset.step === String(step));
}
