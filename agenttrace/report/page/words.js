// What changed between two texts: lines first, then the words of the lines that changed.

const MOST_EDITS = 300;
const MOST_WORDS = 4000;
const ALIKE = 0.25;
const WORD = /\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu;

// Places of two sequences that belong together, as [left, right] in order: equal ends, then Myers' "An O(ND) difference
// algorithm" (1986) between them, where that takes no more than MOST_EDITS edits.
function matches(left, right) {
  let head = 0;
  while (head < left.length && head < right.length && left[head] === right[head]) head += 1;
  let tail = 0;
  while (tail < left.length - head && tail < right.length - head && left[left.length - 1 - tail] === right[right.length - 1 - tail]) tail += 1;
  const inner = shortestEdit(left.slice(head, left.length - tail), right.slice(head, right.length - tail)) ?? [];
  return [
    ...Array.from({ length: head }, (_, at) => [at, at]),
    ...inner.map(([mine, theirs]) => [mine + head, theirs + head]),
    ...Array.from({ length: tail }, (_, at) => [left.length - tail + at, right.length - tail + at]),
  ];
}

function shortestEdit(left, right) {
  const most = Math.min(left.length + right.length, MOST_EDITS);
  const zero = most + 1;
  const reach = new Int32Array(2 * most + 3);
  const past = [];
  for (let edits = 0; edits <= most; edits += 1) {
    past.push(reach.slice());
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      let x = fromBelow(reach, zero, diagonal, edits) ? reach[zero + diagonal + 1] : reach[zero + diagonal - 1] + 1;
      while (x < left.length && x - diagonal < right.length && left[x] === right[x - diagonal]) x += 1;
      reach[zero + diagonal] = x;
      if (x >= left.length && x - diagonal >= right.length) return walkBack(past, zero, left.length, right.length);
    }
  }
  return null;
}

function fromBelow(reach, zero, diagonal, edits) {
  return diagonal === -edits || (diagonal !== edits && reach[zero + diagonal - 1] < reach[zero + diagonal + 1]);
}

function walkBack(past, zero, endX, endY) {
  const found = [];
  let [x, y] = [endX, endY];
  for (let edits = past.length - 1; edits >= 0; edits -= 1) {
    const before = fromBelow(past[edits], zero, x - y, edits) ? x - y + 1 : x - y - 1;
    const startX = edits ? past[edits][zero + before] : 0;
    const startY = edits ? startX - before : 0;
    while (x > startX && y > startY) found.push([--x, --y]);
    [x, y] = [startX, startY];
  }
  return found.reverse();
}

// Lines of two texts in runs { same, left: [from, to], right: [from, to] }.
function lineRuns(left, right) {
  const runs = [];
  let [x, y] = [0, 0];
  const add = (same, toX, toY) => {
    if (toX > x || toY > y) runs.push({ same, left: [x, toX], right: [y, toY] });
    [x, y] = [toX, toY];
  };
  const pairs = matches(left, right);
  for (let at = 0; at < pairs.length; ) {
    add(false, ...pairs[at]);
    let end = at + 1;
    while (end < pairs.length && pairs[end][0] === pairs[end - 1][0] + 1 && pairs[end][1] === pairs[end - 1][1] + 1) end += 1;
    add(true, pairs[end - 1][0] + 1, pairs[end - 1][1] + 1);
    at = end;
  }
  add(false, left.length, right.length);
  return runs;
}

// A text in segments { text, changed }: its words that the other text does not have in that place.
function wordSegments(mine, theirs) {
  if (!theirs) return [{ text: mine, changed: false }];
  const own = mine.match(WORD) ?? [];
  const other = theirs.match(WORD) ?? [];
  if (own.length > MOST_WORDS || other.length > MOST_WORDS) return endSegments(mine, theirs);
  const kept = new Set(matches(own, other).map(([at]) => at));
  const words = (list) => list.filter((word) => word.trim()).length;
  const common = [...kept].filter((at) => own[at].trim()).length;
  // Texts that have little in common would be all marks: that they differ is seen without.
  if (common < ALIKE * Math.max(words(own), words(other))) return [{ text: mine, changed: false }];
  const segments = [];
  for (const [at, text] of own.entries()) {
    // A blank between two changed words belongs to them.
    const blank = !text.trim() && !text.includes("\n") && at > 0 && !kept.has(at - 1) && at + 1 < own.length && !kept.has(at + 1);
    const changed = !kept.has(at) || blank;
    if (segments.at(-1)?.changed === changed) segments.at(-1).text += text;
    else segments.push({ text, changed });
  }
  return segments;
}

// For texts too long for that: all between the first and the last character that differ.
function endSegments(mine, theirs) {
  const shorter = Math.min(mine.length, theirs.length);
  let head = 0;
  while (head < shorter && mine[head] === theirs[head]) head += 1;
  if (/[\ud800-\udbff]/.test(mine[head - 1] ?? "")) head -= 1;
  let tail = 0;
  while (tail < shorter - head && mine.at(-1 - tail) === theirs.at(-1 - tail)) tail += 1;
  if (/[\udc00-\udfff]/.test(mine[mine.length - tail] ?? "")) tail -= 1;
  return [{ text: mine.slice(0, head), changed: false }, { text: mine.slice(head, mine.length - tail), changed: true }, { text: mine.slice(mine.length - tail), changed: false }].filter((part) => part.text);
}

// Segments cut at the ends of lines: a list of segments for each line.
function segmentLines(segments) {
  const lines = [[]];
  for (const { text, changed } of segments) {
    for (const [at, part] of text.split("\n").entries()) {
      if (at) lines.push([]);
      if (part) lines.at(-1).push({ text: part, changed });
    }
  }
  return lines;
}
