"""Pages of traces over checkouts and of traces without end, in a real Chromium."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from agenttrace.report import write_report
from bench.synthetic import traces as synthetic
from tests.report.records import SCRIPTS, changed, checkout_trace, traces, turn
from tests.report.test_page import show, watched

pytestmark = pytest.mark.slow  # a browser starts
PATCH = """diff --git a/calc.py b/calc.py
--- a/calc.py
+++ b/calc.py
@@ -1,2 +1,2 @@
 def add(a, b):
-    return a - b
+    return a + b  # <script>window.hacked=1</script>
"""
MANY = 3000


@pytest.fixture
def opened(chromium, tmp_path):
    """Open the report of lines as a watched page."""

    def page(*records, spec=None):
        path = tmp_path / "records.jsonl"
        path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
        if spec:
            path.with_suffix(".run.json").write_text(json.dumps(spec))
        write_report([path], tmp_path / "report.html")
        return watched(chromium, tmp_path / "report.html")

    return page


def test_a_rollout_is_read_as_it_went(opened):
    quiet = turn(2, answered=f"Give exactly one command. {SCRIPTS}")
    first = checkout_trace(0, turn(1, "grep -n add calc.py"), quiet, patch=PATCH, final_answer=PATCH)
    second = checkout_trace(1, turn(1, "ls"), ended="max_steps", patch="", final_answer="as I said")
    third = checkout_trace(2, ended="sandbox_error", patch=None, patch_note="the sandbox was lost")
    spec = {"agent": {"system_template": "You work in a shell."}}
    with opened(first, second, third, spec=spec) as page:
        show(page, f"#trace={first.trace_id}")
        text = page.inner_text("#trace")
        assert "not valid JSON" not in text
        assert page.locator(".call .input h3").all_inner_texts() == ["command"]
        assert f"Give exactly one command. {SCRIPTS}" in page.inner_text(".told")
        assert page.locator(".patch .added").all_inner_texts() == [PATCH.splitlines()[-1]]
        assert page.locator(".patch .removed").count() == 1
        assert "Final answer" not in text
        assert "101 counted" in page.inner_text("#step-1 .side")
        assert "Prepared in\n2.50 s" in page.inner_text(".figures")
        page.click(".facts summary:has-text('Repository')")
        page.locator(".facts", has_text="octo/cat").wait_for()
        chips = [text.replace("\n", "") for text in page.locator(".others .chip").all_text_contents()]
        assert chips == [
            "compare with ✓rollout 1 · 1.23 s, solved",
            "compare with ✓rollout 2 · 1.23 s, solved",
        ]
        page.click(".setting summary")
        page.locator(".setting", has_text="You work in a shell.").wait_for()
        show(page, f"#trace={second.trace_id}")
        assert "No file was changed." in page.inner_text(".ending")
        assert "as I said" in page.inner_text(".ending")
        show(page, f"#trace={third.trace_id}")
        assert "the sandbox was lost" in page.inner_text(".ending")
        show(page, f"#compare={first.trace_id},{second.trace_id}")
        assert "Patch" in page.locator(".different h3").all_inner_texts()
        show(page)
        page.fill("#q", "window.hacked=1")
        page.locator("#count").filter(has_text="1 of 3").wait_for()


def endless():
    """A trace of thousands of steps, with thousands of calls in the first and as many that no step proposed."""
    trace = traces(1)[0]
    start, call = trace.spans[0].start_ns, trace.llm_steps[0].tool_calls[0]
    steps = [changed(trace.llm_steps[0], step_number=n, tool_calls=None) for n in range(1, MANY + 1)]
    steps[0] = changed(steps[0], tool_calls=tuple(changed(call, call_id=f"c{n}") for n in range(MANY)))
    ids = [*(f"c{n}" for n in range(MANY)), *(None for _ in range(MANY))]
    spans = (
        changed(
            trace.spans[0],
            call_id=one,
            parent_span_id=trace.spans[0].parent_span_id if one else None,
            start_ns=start + n * 10**6,
            end_ns=start + n * 10**6 + 9,
            exit_code=n % 2,
        )
        for n, one in enumerate(ids)
    )
    return changed(trace, llm_steps=tuple(steps), spans=tuple(spans))


def test_a_trace_without_end_is_shown_in_parts_and_every_part_can_be_reached(opened):
    trace = endless()
    other = changed(trace, trace_id="other", spans=tuple(changed(span, tool_output="x") for span in trace.spans))
    with opened(trace, other) as page:
        show(page, f"#trace={trace.trace_id}&step=450")
        assert page.locator("section.step.here").get_attribute("id") == "step-450"
        assert page.locator("section.step").count() == 600
        assert page.locator("article.call").count() == 400
        assert page.locator("#timeline .bar").count() == 3000
        assert "The first 3,000 of 9,000 bars." in page.inner_text(".readout")
        page.locator("#step-1 .more").last.click()
        assert page.locator("#step-1 article.call").count() == 400
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("article.call").count() > 1000
        page.emulate_media(media="print")
        assert re.fullmatch(r"Show 200 more of [\d,]+ (steps|calls)", page.locator(".gradual").first.inner_text())
        assert page.locator(".gradual").first.is_visible()
        page.emulate_media(media="screen")
        show(page, f"#compare={trace.trace_id},other")
        assert page.locator("#first-difference").count() == 1
        assert page.locator(".different").count() <= 200


def test_a_partial_page_says_what_it_lacks(chromium, tmp_path):
    path = tmp_path / f"{SCRIPTS[:8]}.jsonl".replace("/", "")
    path.write_bytes(msgspec.json.encode(traces(1)[0]) + b"\nx\n")
    seen = []
    write_report([path], tmp_path / "report.html", on_problem=seen.append)
    assert [problem.line for problem in seen] == [2]
    with watched(chromium, tmp_path / "report.html") as page:
        show(page)
        assert page.inner_text(".partial") == f"PARTIAL: 1 line of {path.name} could not be read and is not here."


def test_a_call_that_failed_differs_not_by_colour_alone(opened):
    trace = next(trace for trace in traces(60) if any(span.exit_code > 0 for span in trace.spans))
    with opened(trace) as page:
        show(page, f"#trace={trace.trace_id}")
        bad = sum(
            span.status != "not_executed" and (span.exit_code != 0 or span.status != "ok") for span in trace.spans
        )
        assert 0 < bad == page.locator("#timeline .bar.bad .gap").count() == page.locator("#timeline .gap").count()


@pytest.fixture
def in_data_files(tmp_path):
    """A report whose traces lie in data files beside it."""
    synthetic.write(tmp_path / "many.jsonl", traces(60))
    write_report([tmp_path / "many.jsonl"], tmp_path / "many.html", page_bytes=10_000)
    return tmp_path / "many.html"


def test_a_missing_data_file_is_named(chromium, in_data_files):
    for path in in_data_files.with_suffix(".data").iterdir():
        path.unlink()
    page = chromium.new_page()
    page.goto(f"{in_data_files.as_uri()}#list")
    page.locator("#rows a").first.click()
    page.locator("#notice").filter(has_text="the folder many.data must lie beside this page").wait_for()
    page.close()


def test_a_data_file_of_another_report_is_refused(chromium, in_data_files):
    for path in in_data_files.with_suffix(".data").iterdir():
        path.write_text(re.sub(r'"[0-9a-f]{16}"', '"0123456789abcdef"', path.read_text(), count=1))
    page = chromium.new_page()
    page.goto(f"{in_data_files.as_uri()}#list")
    page.locator("#rows a").first.click()
    page.locator("#notice").filter(has_text="belongs to another report").wait_for()
    page.close()
