"""What axe finds in every view, in both themes, on a desktop and on a phone: nothing."""

from __future__ import annotations

from importlib.resources import files

import pytest

from agenttrace.report import write_report
from bench.synthetic import traces as synthetic
from tests.report.records import checkout_trace, traces, turn, waiting_trace
from tests.report.test_page import show

pytestmark = pytest.mark.slow  # a browser starts
PATCH = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-one\n+two\n"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accessible")
    runs = [trace for n in range(2) for trace in traces(20, run_id=f"run {n}", rollout=n, model=f"model {n}")]
    rollouts = [checkout_trace(n, turn(1, "ls"), turn(2), patch=PATCH, verdict=None) for n in range(8)]
    synthetic.write(folder / "runs.jsonl", runs)
    synthetic.write(folder / "rollouts.jsonl", [*rollouts, waiting_trace()])
    write_report([folder / "runs.jsonl", folder / "rollouts.jsonl"], folder / "report.html")
    one, other = runs[0].trace_id, runs[20].trace_id
    return folder / "report.html", {
        "overview": ("", None),
        "list": ("#list", None),
        "groups": ("#list&group=task", "#expand"),
        "search": ("#list&q=the&outcome=none", None),
        "trace": (f"#trace={one}", None),
        "rollout": (f"#trace={rollouts[0].trace_id}", ".others summary"),
        "waiting": (f"#trace={waiting_trace().trace_id}", None),
        "comparison": (f"#compare={one},{other}", None),
        "nothing": ("#trace=nothing", None),
        "help": ("#list", "#keys"),
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing(chromium, report, theme, size):
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page_file, views = report
    # The page's own policy would let no script of ours in.
    context = chromium.new_context(
        viewport=dict(zip(("width", "height"), SIZES[size], strict=True)), color_scheme=theme, bypass_csp=True
    )
    page = context.new_page()
    page.report = page_file.as_uri()
    found = {}
    for name, (fragment, button) in views.items():
        show(page, fragment)
        if button and page.locator(button).is_visible():
            page.click(button)
        page.evaluate(axe)
        violations = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        found |= {f"{name}: {one['id']}": [node["html"][:200] for node in one["nodes"]] for one in violations}
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], name
    context.close()
    assert found == {}
