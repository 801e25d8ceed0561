// Taking something out of the page: to the clipboard, or as a file.

function copyButton(what, text, label = "Copy") {
  const take = async (event) => {
    const button = event.currentTarget;
    try {
      await toClipboard(typeof text === "function" ? await text() : text);
      said(button, "Copied");
    } catch {
      said(button, "Not copied: the browser refuses");
    }
  };
  return h("button", { type: "button", class: "copy", "aria-label": `Copy ${what}`, title: `Copy ${what}`, on: { click: take } }, label);
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("refused");
  }
}

// Shows on the button, and says to who hears the page, what came of it.
function said(button, text) {
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  replace(button, text);
  announce(text);
  setTimeout(() => replace(button, before), 1500);
}

function announce(text) {
  replace(byId("said"), text);
}

// The records of rows as a JSON Lines file: each line as it stands in its record file.
async function exportRows(rows, button) {
  const parts = [];
  for (const row of rows) parts.push(await loadLine(row), "\n");
  const address = URL.createObjectURL(new Blob(parts, { type: "application/jsonl" }));
  h("a", { href: address, download: "selection.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  said(button, `${plural(rows.length, "record")} exported`);
}

// What an export of rows holds, for its tooltip.
function exportMeaning(rows) {
  const converted = new Set(rows.filter((row) => report.files[row.file].converted).map((row) => report.files[row.file].name));
  const lines = "the lines of the record files, byte for byte";
  if (!converted.size) return `selection.jsonl: ${lines}`;
  return `selection.jsonl: ${lines}; of ${[...converted].join(", ")}, which are of another format, what \`convert --to agenttrace-1.0\` writes`;
}

function exportButton(id, rows) {
  const take = (event) => exportRows(rows(), event.currentTarget).catch(complain);
  return h("button", { type: "button", class: "quiet", id, on: { click: take } }, "Export JSONL");
}
