// Small bars, each beside the numbers that it draws: the table around them is their text.

const BAR_WIDTH = 1000;
const BAR_HEIGHT = 14;

// A bar of parts `[kind, value, text, href]`, as long as `whole` where the values add up to it.
function bar(parts, whole, name) {
  const known = parts.filter(([, value]) => value > 0);
  const picture = svg("svg", { class: "chart", viewBox: `0 0 ${BAR_WIDTH} ${BAR_HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${known.map(([, , text]) => text).join(", ") || "nothing"}` },
    svg("rect", { class: "ground", x: 0, y: 0, width: BAR_WIDTH, height: BAR_HEIGHT }));
  let left = 0;
  for (const [kind, value, text, href] of known) {
    const width = whole ? (value / whole) * BAR_WIDTH : 0;
    const shape = svg("rect", { class: `part ${kind}`, x: left, y: 0, width: Math.max(width, 2), height: BAR_HEIGHT }, svg("title", {}, text));
    // The number in the table is the link that a keyboard reaches; the bar repeats it for the mouse.
    if (href) shape.addEventListener("click", () => go(href));
    if (href) shape.classList.add("way");
    picture.append(shape);
    left += width;
  }
  return picture;
}

function key(kind) {
  return h("span", { class: `key ${kind}`, "aria-hidden": "true" });
}

// A table with a caption: `columns` are { name, kind, title, number }, rows are lists of cells, the first one their head.
function chartTable(title, about, columns, rows) {
  const head = columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : column.class, title: column.title }, column.kind ? [key(column.kind), " "] : null, column.name));
  const cells = (row) => row.map((cell, at) => (at === 0 ? h("th", { scope: "row" }, cell) : h("td", { class: columns[at].number ? "number" : columns[at].class }, cell)));
  return h("section", { class: "card" }, h("h2", {}, title), about ? h("p", { class: "soft" }, about) : null,
    h("div", { class: "wide-table" }, h("table", { class: "chart-table", "aria-label": title }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows.map((row) => h("tr", {}, cells(row)))))));
}

// A number that leads to the traces that it counts.
function countLink(number, href, what) {
  if (!number) return h("span", { class: "soft" }, count(number));
  return h("a", { href, "aria-label": `${count(number)} ${what}` }, count(number));
}
