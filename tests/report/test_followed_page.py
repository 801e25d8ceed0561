"""The page of a report that is followed, in a real Chromium: what comes is shown, what is read stays where it is."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager

import msgspec
import pytest

from agenttrace.report.follow import Followed
from agenttrace.report.serve import serving
from tests.report.records import SCRIPTS, changed, hostile_trace, traces
from tests.report.test_page import WITNESS, wait_count

pytestmark = pytest.mark.slow  # a browser starts
MANY = traces(120)
AT_TOP = """(() => {
    const box = document.querySelector("#scroller").getBoundingClientRect();
    return document.elementFromPoint(box.x + 200, box.y + 60).closest("tr").querySelector("a").href;
})()"""


def line(trace):
    return msgspec.json.encode(trace) + b"\n"


def add(path, *records):
    with path.open("ab") as file:
        file.write(b"".join(map(line, records)))


@contextmanager
def following(chromium, path):
    """A page that is served, and looked at again and again; it asks its own server and nothing else."""
    ended = threading.Event()
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(WITNESS)
    page = context.new_page()
    requests, problems = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    with Followed(lambda: [path], problems.append) as followed:

        def look():
            while not ended.wait(0.05):
                followed.look()

        followed.look()
        thread = threading.Thread(target=look)
        thread.start()
        try:
            with serving(followed, f"a & b {SCRIPTS}") as page.report:
                yield page
                assert page.evaluate("window.hacked") is None
                assert page.evaluate("window.violations") == []
        finally:
            ended.set()
            thread.join()
            context.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(page.report)] == []


def show(page, fragment=""):
    page.goto("about:blank")
    page.goto(page.report + fragment)
    page.wait_for_selector("body[data-ready]", state="attached")


def test_traces_appear_as_they_are_written(chromium, tmp_path):
    path = tmp_path / "run.jsonl"
    with following(chromium, path) as page:
        show(page)
        assert page.inner_text("#rows .none") == "No trace yet."
        add(path, hostile_trace(), MANY[0])
        page.locator("#overview .card").first.wait_for()
        assert page.inner_text("#live") == "Following, 2 traces"
        show(page, "#list")
        wait_count(page, 2)
        page.locator("#rows a").nth(1).click()
        page.locator("#trace h1").wait_for()
        assert MANY[0].trace_id in page.inner_text("#trace")
        # In the chunk that the page has unpacked already.
        add(path, MANY[1])
        page.locator("#live", has_text="3 traces").wait_for()
        page.goto(f"{page.report}#trace={MANY[1].trace_id}")
        page.locator("#trace", has_text=MANY[1].trace_id).wait_for()


def test_place_filters_and_marks_stay(chromium, tmp_path):
    path = tmp_path / "run.jsonl"
    add(path, *MANY[:100])
    with following(chromium, path) as page:
        show(page, "#list&sort=-time")
        wait_count(page, 100)
        page.locator("#rows td.mark input").first.click()
        page.evaluate("document.querySelector('#scroller').scrollTop = 36 * 30 + 11")
        page.wait_for_timeout(100)
        before = page.evaluate(AT_TOP)
        longest = max(trace.total_duration_ms for trace in MANY)
        add(path, *(changed(trace, total_duration_ms=longest + 9) for trace in MANY[100:]))
        wait_count(page, 120)
        assert page.evaluate(AT_TOP) == before
        assert "1 trace marked" in page.inner_text("#marked")
        show(page, "#list&outcome=solved")
        solved = int(page.inner_text("#count").split()[0])
        page.fill("#q", "the")
        add(
            path, changed(MANY[0], trace_id="one-more", prompt="the one", outcome=changed(MANY[0].outcome, solved=True))
        )
        page.locator("#count", has_text="of 121 traces").wait_for()
        page.fill("#q", "")
        wait_count(page, solved + 1)
        assert page.input_value("#filter-outcome") == "solved"


def test_a_file_that_is_replaced_is_shown_anew(chromium, tmp_path):
    path = tmp_path / "run.jsonl"
    add(path, *MANY[:5])
    with following(chromium, path) as page:
        show(page, "#list")
        wait_count(page, 5)
        (tmp_path / "new").write_bytes(line(MANY[7]) + line(MANY[8]))
        (tmp_path / "new").replace(path)
        wait_count(page, 2)
        page.locator("#rows a").first.click()
        page.locator("#trace", has_text=MANY[7].trace_id).wait_for()


def test_an_end_of_the_command_is_said_and_what_was_read_stays(chromium, tmp_path):
    path = tmp_path / "run.jsonl"
    add(path, *MANY[:3])
    context = chromium.new_context()
    page = context.new_page()
    with Followed(lambda: [path], print) as followed:
        followed.look()
        with serving(followed, "t") as address:
            page.goto(f"{address}#list")
            page.locator("#rows a").nth(2).wait_for()
            page.locator("#rows a").first.click()
            page.locator("#trace h1").wait_for()
            page.go_back()
    page.locator("#live", has_text="the command has ended").wait_for()
    page.locator("#rows a").first.click()
    page.locator("#trace h1").wait_for()
    assert re.search(MANY[0].trace_id, page.inner_text("#trace"))
    context.close()
