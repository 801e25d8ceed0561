"""The page in a real Chromium, opened from the disk: a reader clicks and types through it, and nothing hostile runs."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager

import pytest

from agenttrace.report import write_report
from bench.synthetic import traces as synthetic
from tests.report.records import LONG_LINE, changed, hostile_trace, released_row, traces, unmeasured

pytestmark = pytest.mark.slow  # a browser starts
DASH = "\N{EN DASH}"
WITNESS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Many traces of two models with a hostile one, some of the same ids again (one different), a row of 0.3.0."""
    folder = tmp_path_factory.mktemp("report")
    first = [
        *traces(400, model="small"),
        *traces(400, model="large"),
        unmeasured(changed(traces(1)[0], trace_id="lost-1")),
        hostile_trace(),
    ]
    again = traces(3, model="small")
    span = again[1].spans[0]
    other = changed(span, tool_output=span.tool_output + "\nand one more line", start_ns=span.start_ns + 5)
    again[1] = changed(again[1], spans=(other, *again[1].spans[1:]), total_duration_ms=1.0)
    synthetic.write(folder / "first.jsonl", first)
    synthetic.write(folder / "again.jsonl", again)
    (folder / "released.jsonl").write_text(json.dumps(released_row()) + "\n")
    return folder


def written(sources, name, **settings):
    files = [sources / name for name in ("first.jsonl", "again.jsonl", "released.jsonl")]
    return sources / name, write_report(files, sources / name, **settings)


@pytest.fixture(scope="module")
def report(sources):
    output, done = written(sources, "report.html")
    assert done.sidecars == 0
    return output


@pytest.fixture(scope="module")
def large_report(sources):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agenttrace.report.pack.SIDECAR_BYTES", 30_000)
        output, done = written(sources, "large.html", page_bytes=10_000)
    assert done.sidecars > 6
    return output


@contextmanager
def watched(chromium, report):
    """Open a page that must make no request but of its own files, break no rule of its policy and say no error."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(WITNESS)
    page = context.new_page()
    requests, problems = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type in {"error", "warning"} else None)
    page.report = report.as_uri()
    yield page
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("window.violations") == []
    assert problems == []
    own = re.compile(re.escape(page.report) + r"|" + re.escape(page.report.removesuffix(".html")) + r"\.data/\d{3}\.js")
    assert [url for url in requests if not own.fullmatch(url.partition("#")[0])] == []
    context.close()


@pytest.fixture
def page(chromium, report):
    with watched(chromium, report) as page:
        yield page


@pytest.fixture
def large_page(chromium, large_report):
    with watched(chromium, large_report) as page:
        yield page


def show(page, fragment="#list"):
    page.goto("about:blank")
    page.goto(page.report + fragment)
    page.wait_for_selector("body[data-ready]", state="attached")


def shown_count(page):
    return int(re.match(r"[\d,]+", page.inner_text("#count"))[0].replace(",", ""))


def wait_count(page, number):
    page.locator("#count").filter(has_text=re.compile(rf"^{number:,}\b(?!.*searched)")).wait_for()


def key_of(page, row=0):
    return page.locator("#rows tr[data-at]").nth(row).locator("a").get_attribute("href").removeprefix("#trace=")


def test_the_list_is_long_and_the_table_is_not(page):
    show(page)
    assert shown_count(page) == 806
    assert page.locator("#rows tr[data-at]").count() < 80
    page.evaluate("document.querySelector('#scroller').scrollTop = 1e9")
    page.locator("#rows tr[data-at='805']").wait_for()
    assert page.locator("#rows tr[data-at]").count() < 80


def test_filters_narrow_the_list_and_stand_in_the_address(page):
    show(page)
    page.select_option("#filter-model", "small")
    wait_count(page, 403)
    page.select_option("#filter-outcome", "solved")
    solved = shown_count(page)
    assert 0 < solved < 403
    assert all("solved" in text for text in page.locator("#rows td.outcome").all_inner_texts())
    page.select_option("#filter-exit", "not 0")
    assert shown_count(page) < solved
    show(page, "#model=small&outcome=solved")
    assert shown_count(page) == solved
    page.click("#clear")
    wait_count(page, 806)
    page.select_option("#filter-tool", "final_answer")
    assert 0 < shown_count(page) < 806


def test_search_reads_outputs_that_the_list_does_not_show(page):
    show(page)
    page.fill("#q", "AND ONE MORE line")
    wait_count(page, 1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#trace h1").wait_for()
    assert key_of_address(page).endswith("@2")
    assert "and one more line" in page.inner_text("#trace")
    show(page, "#q=nowhere to be found")
    page.locator("#rows .none").wait_for()
    wait_count(page, 0)


def key_of_address(page):
    return re.search(r"#trace=([^&]+)", page.url)[1]


def test_sorting_puts_what_was_not_measured_last(page):
    show(page)
    page.click("th.memory button")
    assert page.get_attribute("th.memory", "aria-sort") == "descending"
    page.evaluate("document.querySelector('#scroller').scrollTop = 1e9")
    page.locator("#rows tr[data-at='805']").wait_for()
    assert page.locator("#rows tr[data-at='805'] td.memory").inner_text() == DASH
    page.evaluate("document.querySelector('#scroller').scrollTop = 0")
    page.click("th.memory button")
    assert page.get_attribute("th.memory", "aria-sort") == "ascending"
    assert page.locator("#rows tr[data-at='0'] td.memory").inner_text() != DASH


def test_a_trace_shows_the_conversation_with_reasoning_folded(page, sources):
    trace = next(trace for trace in traces(400, model="small") if trace.llm_steps[0].reasoning_content)
    show(page, f"#trace={trace.trace_id}")
    assert page.locator("section.step").count() == len(trace.llm_steps)
    assert page.locator("article.call").count() == sum(len(step.tool_calls or ()) for step in trace.llm_steps)
    fold = page.locator("details.reasoning").first
    assert fold.get_attribute("open") is None
    page.keyboard.press("r")
    assert fold.get_attribute("open") is not None
    assert trace.outcome.verdicts[0].aspect in page.inner_text("table.verdicts")


def test_what_was_not_measured_says_so(page):
    show(page, "#trace=lost-1")
    assert "cost not measured" in page.inner_text("#trace")
    for lane in ("cpu", "waits", "memory"):
        assert page.locator(f".lane-label.{lane} span").inner_text() == "not measured"
    show(page, "#trace=075a0e63")
    assert page.locator(".lane-label.model span").inner_text() == "not measured"
    assert page.locator(".lane-label.memory span").inner_text() == "not measured"
    assert page.locator(".lane-label.waits span").inner_text() == "not measured"
    assert "with the collecting process: CPU 750 ms, peak of its whole life 7 B" in page.inner_text("article.call")
    assert "How it ended is not recorded" in page.inner_text("#trace")
    assert "AgentTrace 0.3.0" in page.inner_text(".facts")


def test_links_name_a_trace_and_a_step(page):
    trace = next(trace for trace in traces(400, model="small") if len(trace.llm_steps) > 3)
    show(page, f"#trace={trace.trace_id[:13]}&step=3")
    assert page.locator("section.step.here").get_attribute("id") == "step-3"
    assert page.locator("#timeline .bar.here").count() >= 1


def test_two_traces_of_one_id_part_at_the_line_that_was_added(page):
    trace = traces(3, model="small")[1]
    show(page, f"#compare={trace.trace_id},{trace.trace_id}")
    finding = page.inner_text(".finding")
    lines = trace.spans[0].tool_output.count("\n") + 2
    assert "Step 1 · output" in finding
    assert f"line {lines}, character 1 " in finding + " "
    first = page.locator("#first-difference")
    assert "and one more line" in first.inner_text()
    assert first.locator(".changed").inner_text() == "and one more line"
    assert page.locator(".different").count() == 1
    page.keyboard.press("f")
    assert first.evaluate("element => element === document.activeElement")
    equal = traces(3, model="small")[0]
    show(page, f"#compare={equal.trace_id}")
    assert "Equal in everything" in page.inner_text(".finding")


def test_marked_traces_are_compared(page):
    show(page)
    page.keyboard.press("j")
    page.keyboard.press("c")
    page.keyboard.press("j")
    page.keyboard.press("c")
    assert page.locator("#rows input:checked").count() == 2
    page.click("#marked .button")
    page.locator("#compare h1").wait_for()
    assert page.locator(".side-title").count() == 2
    page.go_back()
    page.locator("#rows tr.current").wait_for()


def test_the_keyboard_alone_is_enough(page):
    show(page)
    page.keyboard.press("?")
    assert page.locator("dialog[open] kbd").count() > 20
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expected = key_of(page, 1)
    page.keyboard.press("Enter")
    page.locator("#trace h1").wait_for()
    assert key_of_address(page) == expected
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("n")
    page.wait_for_url(re.compile(rf"#trace=(?!{expected})"))
    page.keyboard.press("Escape")
    page.locator("#rows tr.current").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "A"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("jjj?")
    assert page.locator("dialog[open]").count() == 0


def test_the_theme_follows_the_system_until_one_is_chosen(page):
    page.emulate_media(color_scheme="dark")
    show(page)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.keyboard.press("t")
    light = page.evaluate(background)
    assert dark != light
    page.emulate_media(color_scheme="light")
    page.keyboard.press("t")
    assert page.evaluate(background) == dark
    page.keyboard.press("t")
    assert page.evaluate(background) == light


def test_hostile_text_is_shown_as_text(page):
    show(page, f"#trace={hostile_trace().trace_id}")
    text = page.inner_text("#trace")
    assert "<script>window.hacked=1</script>" in text
    for symbol in ("␀", "␛[31m", "⟨202E⟩", "⟨200B⟩", "⟨E0041⟩", "␍"):
        assert symbol in text
    assert "\u202e" not in text
    assert page.locator("#trace script, #trace img").count() == 0
    page.keyboard.press("r")
    page.keyboard.press("Escape")
    page.locator("#rows").wait_for()
    page.fill("#q", "onerror")
    wait_count(page, 1)
    assert "⟨202E⟩" in page.inner_text("#rows")


def test_a_line_of_megabytes_is_folded_until_asked_for(page):
    show(page, f"#trace={hostile_trace().trace_id}")
    more = page.locator("article.call .result .more").first
    assert re.search(r"Show all \(1,\d{3},\d{3} more characters", more.inner_text())
    assert page.evaluate("document.querySelector('#trace').textContent.length") < 60_000
    more.click()
    whole = page.locator("article.call .result .text").first
    assert whole.evaluate("element => element.textContent").count("x") >= len(LONG_LINE) - 20
    assert "the end of it" in whole.evaluate("element => element.textContent")
    assert (
        page.locator("article.call .result pre").evaluate_all(
            "all => Math.max(...all.map((one) => one.textContent.length))"
        )
        <= 16_000
    )


def test_an_address_that_names_nothing_says_so(page):
    show(page)
    page.goto(page.report + "#trace=none-such")
    page.locator("#notice").filter(has_text="No trace none-such").wait_for()
    page.locator("#notice a").click()
    page.locator("#rows tr[data-at]").first.wait_for()
    assert page.locator("#notice").is_hidden()


def test_a_phone_sees_everything_within_its_width(page):
    page.set_viewport_size({"width": 390, "height": 844})
    show(page)
    for fragment in (
        "",
        "#list",
        "#list&group=task",
        f"#trace={key_of(page)}",
        f"#compare={key_of(page)},{key_of(page, 1)}",
    ):
        page.goto(page.report + fragment)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_printing_opens_what_is_folded(page):
    show(page, f"#trace={traces(400, model='small')[0].trace_id}")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.reasoning:not([open])").count() == 0
    page.emulate_media(media="print")
    assert page.locator(".topbar").is_hidden()


def test_a_set_in_data_files_reads_the_same(large_page):
    page = large_page
    trace = traces(3, model="small")[1]
    show(page)
    assert shown_count(page) == 806
    page.fill("#q", "and one more line")
    wait_count(page, 1)
    show(page, f"#trace={hostile_trace().trace_id}")
    assert "<script>window.hacked=1</script>" in page.inner_text("#trace")
    show(page, f"#compare={trace.trace_id}")
    assert "Step 1 · output" in page.inner_text(".finding")


def test_the_policy_stops_what_a_mistake_would_let_through(chromium, report):
    page = chromium.new_page()
    page.add_init_script(WITNESS)
    page.goto(report.as_uri())
    page.wait_for_selector("body[data-ready]", state="attached")
    attempts = {
        "document.body.innerHTML = '<b>markup</b>'": "require-trusted-types-for",
        "document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:9/x'}))": "img-src",
        "fetch('http://127.0.0.1:9/x').catch(() => null)": "connect-src",
    }
    for attempt, rule in attempts.items():
        page.evaluate(f"() => {{ try {{ {attempt}; }} catch {{}} }}")
        page.wait_for_timeout(50)
        assert rule in page.evaluate("window.violations"), attempt
    page.close()
