// Starts the page and shows what its address names.

const SHOW = { overview: showOverview, list: showList, trace: showTrace, compare: showCompare };
let shownView = "";

async function show() {
  const route = readRoute();
  const before = shownView;
  try {
    if (!list.built) buildList();
    if (!LIST_VIEWS.includes(route.view) && !choice.done) takeChoice({ ...route, unknown: [] });
    if (route.view === "list" && before === "trace") {
      revealRow(current.row);
      list.visited = true;
    }
    for (const view of Object.keys(SHOW)) byId(view).hidden = view !== route.view;
    byId("choice").hidden = !LIST_VIEWS.includes(route.view);
    shownView = route.view;
    document.body.dataset.view = route.view;
    byId("notice").hidden = true;
    if (LIST_VIEWS.includes(route.view)) document.title = byId("title").textContent;
    await SHOW[route.view](route);
    if (before && before !== route.view && route.view !== "list" && !route.step) byId(route.view).querySelector("h1")?.focus({ preventScroll: true });
  } catch (error) {
    complain(error);
  }
}

function complain(error) {
  const { view: asked } = readRoute();
  for (const view of Object.keys(SHOW)) byId(view).hidden = view !== asked || !LIST_VIEWS.includes(asked);
  byId("choice").hidden = !LIST_VIEWS.includes(asked);
  replace(byId("notice"), h("h1", { class: "unseen" }, "Not shown"), error instanceof Error ? error.message : String(error), " ", h("a", { href: "#list" }, "All traces"));
  byId("notice").hidden = false;
  shownView = "notice";
}

// On paper: every row and step (within reason; what is left out is said), all reasoning open.
function beforePrint() {
  for (let part = 0; part < 10; part += 1) byId("trace").querySelector(".gradual")?.click();
  for (const one of byId("trace").querySelectorAll("details.reasoning")) one.open = true;
  if (readRoute().view !== "list") return;
  const rows = list.items.slice(0, 2000).map(itemRow);
  byId("rows").replaceChildren(...rows);
}

async function start() {
  setTheme(savedTheme());
  byId("theme").addEventListener("click", nextTheme);
  byId("keys").addEventListener("click", showHelp);
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", show);
  window.addEventListener("beforeprint", beforePrint);
  window.addEventListener("afterprint", () => drawRows(true));
  if (!window.DecompressionStream) {
    complain(new Error("This browser is too old for this page: it needs Chrome 123, Firefox 120, Safari 17.5 or newer."));
    return;
  }
  await openReport();
  await show();
  if (followed) followOn();
  requestAnimationFrame(() => setTimeout(() => {
    performance.mark("agenttrace-first-view");
    document.body.dataset.ready = "";
  }));
}

start().catch(complain);
