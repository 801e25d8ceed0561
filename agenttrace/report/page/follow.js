// A report that is followed: the page asks the command that serves it for traces that came since.

const followed = document.documentElement.hasAttribute("data-followed");
const ASK_MS = 1000;
const MOST_FAILURES = 5;

const following = { generation: "", version: "", failures: 0 };

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer;
}

// The rows after those that the page has, all of them; where the files were replaced, those of the new ones from the first.
async function askRows() {
  const told = {};
  const rows = [];
  let from = report.rows.length;
  let anew = false;
  for (let found = { more: true }; found.more; from += found.rows.length) {
    const query = new URLSearchParams({ generation: following.generation, from, files: following.version });
    found = await (await ask(`rows?${query}`)).json();
    if (found.generation !== following.generation) {
      [rows.length, from, anew] = [0, 0, true];
      following.generation = found.generation;
    }
    following.version = found.version ?? following.version;
    Object.assign(told, found);
    rows.push(...found.rows);
  }
  return { ...told, rows, anew };
}

async function askChunk(number) {
  try {
    return await (await ask(`chunk?generation=${following.generation}&number=${number}`)).text();
  } catch {
    throw new Error("This trace cannot be loaded: the command that serves this page has ended, or its files were replaced.");
  }
}

function followOn() {
  byId("live").hidden = false;
  sayLive();
  const again = async () => {
    try {
      takeNew(await askRows());
      following.failures = 0;
    } catch {
      following.failures += 1;
    }
    sayLive();
    if (following.failures < MOST_FAILURES) setTimeout(again, ASK_MS);
  };
  setTimeout(again, ASK_MS);
}

function sayLive() {
  const ended = following.failures >= MOST_FAILURES;
  byId("live").classList.toggle("ended", ended);
  const text = ended ? "No longer followed: the command has ended" : `Following, ${plural(report.rows.length, "trace")}`;
  if (byId("live").textContent !== text) replace(byId("live"), text);
}

// New rows go into the list, the filters and the overview; what is read, chosen and marked stays.
function takeNew(found) {
  if (found.anew) {
    const marked = list.marked.map((row) => row.key);
    forgetRows();
    report.files = found.files;
    addRows(found.rows);
    list.marked = marked.map((key) => byKey.get(key)).filter(Boolean);
    current.row = null;
  } else {
    if (!found.rows.length && !found.files) return;
    report.files = found.files ?? report.files;
    report.fields = found.fields ?? report.fields;
    // The last chunk may have grown since it was unpacked.
    for (const chunk of new Set([report.chunkCount - 1, ...found.rows.map((values) => values[report.fields.indexOf("chunk")])])) {
      chunkCache.delete(chunk);
      chunkTexts.delete(chunk);
    }
    addRows(found.rows);
  }
  offerChoices();
  applyFilters({ keep: true });
  showMarked();
  // Where the address names no view, that is the overview as soon as there is something to look over.
  if (location.hash.length < 2 && LIST_VIEWS.includes(shownView) && shownView !== readRoute().view) show();
}
