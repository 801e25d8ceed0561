"""Several runs in one page: told apart, filtered, grouped by task, looked over, taken out; in a real Chromium."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from agenttrace.report import write_report
from bench.synthetic import traces as synthetic
from tests.report.records import SCRIPTS, changed, hostile_trace, released_row, traces, unmeasured
from tests.report.test_page import show, shown_count, wait_count, watched

pytestmark = pytest.mark.slow  # a browser starts
TASKS = 20
CUT = """
    of => [...document.querySelectorAll(of)].filter(one => one.scrollWidth > one.clientWidth)
        .map(one => one.textContent)
"""


def runs():
    """Three runs, the last one with three rollouts a task; the first names its issue as prompts over a checkout do."""
    first = traces(TASKS, run_id="first-run-of-all", dataset="nl2bash")
    second = traces(TASKS, run_id="second", dataset="nl2bash", skill=0.9)
    third = [trace for n in range(3) for trace in traces(10, run_id="third", dataset="nl2bash", rollout=n, skill=0.7)]
    first[0] = changed(
        first[0], prompt="Repository: a/b, at commit 12.\n\n## Issue\n\nNames with spaces break\n\nmv fails."
    )
    return first, second, third


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, records in zip(("first", "second", "third"), runs(), strict=True):
        synthetic.write(folder / f"{name}.jsonl", records)
    return [folder / f"{name}.jsonl" for name in ("first", "second", "third")]


@pytest.fixture(scope="module")
def report(files):
    write_report(files, files[0].with_name("report.html"))
    return files[0].with_name("report.html")


@pytest.fixture
def page(chromium, report):
    with watched(chromium, report) as page:
        yield page


def cells(page, column):
    return page.locator(f"#rows tr[data-at] td.{column}").all_inner_texts()


def table(page, title):
    """The cells of a table of the overview, by the name in the head of their row."""
    rows = page.locator(f'table[aria-label="{title}"] tbody tr').all()
    return {row.locator("th a").text_content(): row.locator("td").all_inner_texts() for row in rows}


def test_runs_are_a_column_and_a_filter(page):
    show(page)
    assert shown_count(page) == 2 * TASKS + 30
    assert page.locator("#rows td.run").first.text_content() == "first-run-of-all"
    page.select_option("#filter-run", "second")
    wait_count(page, TASKS)
    title = page.locator("#rows td.run").first.get_attribute("title")
    assert title.startswith("Run second\nsynthetic-small\n2026-01-05 09:00")
    assert title.endswith("second.jsonl")
    assert not page.locator("#filter-file").is_visible()  # each run is one file
    show(page, "#list&run=third")
    assert shown_count(page) == 30
    assert cells(page, "task")[0].endswith("rollout 0")
    show(page, "#list&run=second")
    assert "rollout" not in cells(page, "task")[0]


def test_one_run_in_two_files_is_told_apart_by_its_file(chromium, files, tmp_path):
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(files[0].read_bytes())
    write_report([files[0], copy], tmp_path / "twice.html")
    with watched(chromium, tmp_path / "twice.html") as page:
        show(page)
        page.select_option("#filter-run", "first-run-of-all in copy.jsonl")
        wait_count(page, TASKS)


def test_tasks_are_grouped_with_how_many_rollouts_solved_them(page):
    third = runs()[2]
    show(page, "#list&run=third&group=task")
    heads = page.locator("#rows tr.group")
    assert heads.count() == page.locator("#rows tr[data-at]").count() == 10
    first = third[0].metadata["task_id"]
    solved = sum(bool(one.outcome.solved) for one in third if one.metadata["task_id"] == first)
    judged = sum(one.outcome.solved is not None for one in third if one.metadata["task_id"] == first)
    assert cells(page, "outcome")[0] == f"{solved} of {judged} solved"
    toggle = heads.first.locator("button.toggle")
    assert toggle.get_attribute("aria-expanded") == "false"
    toggle.click()
    assert heads.first.locator("button.toggle").get_attribute("aria-expanded") == "true"
    assert page.locator("#rows tr[data-at]").count() == 13
    page.click("#expand")
    assert page.get_attribute("#list table", "aria-rowcount") == "41"
    page.click("#expand")
    assert page.locator("#rows tr[data-at]").count() == 10


def test_groups_are_opened_and_closed_with_the_keyboard(page):
    show(page, "#list&run=third")
    page.keyboard.press("s")
    assert page.locator("#rows tr.group").count() == 10
    assert "group=task" in page.url
    page.keyboard.press("j")
    page.keyboard.press("ArrowRight")
    assert page.locator("#rows tr[data-at]").count() == 13
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#rows tr.current.group").count() == 0
    page.keyboard.press("ArrowLeft")
    assert page.locator("#rows tr.current.group").count() == 1
    page.keyboard.press("ArrowLeft")
    assert page.locator("#rows tr[data-at]").count() == 10
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator("#trace h1").wait_for()
    page.keyboard.press("Escape")
    page.locator("#rows tr.current").wait_for()
    assert page.locator("#rows tr[data-at]").count() == 13


def test_the_overview_comes_first_and_counts_what_the_records_hold(page):
    show(page, "")
    assert page.locator("#overview").is_visible()
    outcomes = table(page, "Outcomes")
    for name, records in zip(("first-run-of-all", "second", "third"), runs(), strict=True):
        solved = sum(trace.outcome.solved is True for trace in records)
        failed = sum(trace.outcome.solved is False for trace in records)
        assert outcomes[name][1:3] == [str(solved), str(failed)]
        assert outcomes[name][-1] == f"{100 * solved / (solved + failed):.1f} %"
    calls = sum(span.tool_name == "bash" for trace in runs()[1] for span in trace.spans)
    tools = page.locator('table[aria-label="What the tools cost"] tbody tr', has_text="second")
    assert tools.first.locator("td").nth(2).inner_text() == str(calls)
    steps = [[step.output_tokens for step in trace.llm_steps] for trace in runs()[2]]
    tokens = sum(sum(known) for known in steps if None not in known)  # of some steps they say nothing of all
    assert table(page, "Tokens")["third"][2] == f"{tokens:,}"
    assert list(table(page, "Tasks, by the rollouts that solved them")) == ["first-run-of-all", "second", "third"]


def test_figures_are_shown_whole_however_long_a_run_and_its_name_are(chromium, tmp_path):
    record = changed(traces(1)[0], model="m" * 90, metadata={**traces(1)[0].metadata, "run_id": "r" * 90})
    step = changed(record.llm_steps[0], input_tokens=300_000, output_tokens=300, tool_calls=())
    long = changed(record, llm_steps=(step,) * 4000, spans=(changed(record.spans[0], call_id=None),) * 4000)
    synthetic.write(tmp_path / "n.jsonl", [long, traces(1)[0], unmeasured(changed(traces(1)[0], trace_id="other"))])
    write_report([tmp_path / "n.jsonl"], tmp_path / "n.html")
    with watched(chromium, tmp_path / "n.html") as page:
        show(page, "#overview")
        assert page.evaluate(CUT, ".wide-table") == []
        show(page, "#list")
        page.locator("#rows td.tokens").first.wait_for()
        assert "4,000" in "".join(cells(page, "steps"))
        assert page.evaluate(CUT, "#rows td.number") == []


def test_the_time_split_adds_up_to_the_whole(page):
    show(page, "")
    for row in table(page, "Where the time went").values():
        assert sum(float(part.removesuffix(" %")) for part in row[1:4]) == pytest.approx(100, abs=0.2)
    parts = page.locator('table[aria-label="Where the time went"] svg').first.get_attribute("aria-label")
    assert re.match(r"first-run-of-all: model [\d.]+ %, .+ s, tools [\d.]+ %", parts)


def test_a_number_of_the_overview_leads_to_its_traces(page):
    show(page, "")
    link = page.locator('table[aria-label="Outcomes"] a[aria-label$="not solved of second"]')
    number = int(link.inner_text())
    link.click()
    page.locator("#list").wait_for()
    wait_count(page, number)
    assert page.input_value("#filter-run") == "second"
    page.go_back()
    page.locator("#overview .card").first.wait_for()
    page.locator('table[aria-label="Outcomes"] svg .bad').first.click()
    page.locator("#list").wait_for()
    assert page.input_value("#filter-run") == "first-run-of-all"
    assert page.input_value("#filter-outcome") == "failed"


def test_the_overview_is_of_what_the_filters_leave(page):
    show(page, "#overview&run=second")
    assert list(table(page, "Outcomes")) == ["second"]
    page.fill("#q", "no text of a trace is this")
    page.locator("#overview", has_text="No trace passes these filters.").wait_for()
    page.click("#clear")
    page.locator("#overview .card").first.wait_for()
    page.select_option("#by", "all")
    assert list(table(page, "Outcomes")) == ["all"]


def test_verdicts_of_an_aspect_are_a_filter(page):
    records = [trace for part in runs() for trace in part]
    aspect = records[0].outcome.verdicts[0].aspect
    failed = sum(any(v.aspect == aspect and v.verdict == "failed" for v in t.outcome.verdicts) for t in records)
    show(page)
    page.select_option("#filter-verdict", f"{aspect}: failed")
    wait_count(page, failed)


def test_what_an_address_names_wrong_is_said(page):
    show(page, "#list&outcome=bogus&modle=x&sort=-nothing")
    said = page.inner_text("#misnamed")
    assert "No trace here has the outcome “bogus”, so that filter is left out; there are: " in said
    assert "There is no filter called modle" in said
    assert "cannot be sorted by -nothing" in said
    assert shown_count(page) == 2 * TASKS + 30
    one = runs()[0][1].trace_id
    show(page, f"#compare={one}")
    assert "names one trace" in page.inner_text("#notice")
    assert "#compare=ID,ID" in page.inner_text("#notice")
    show(page, "#trace=nowhere")
    assert "No trace nowhere" in page.inner_text("#notice")


def test_the_issue_is_the_prompt_and_headings_are_headings(page):
    show(page)
    assert cells(page, "prompt")[0] == "Names with spaces break \N{EN DASH} mv fails."
    show(page, f"#trace={runs()[0][0].trace_id}")
    assert page.locator(".task .heading").all_inner_texts() == ["Issue"]
    assert "## " not in page.inner_text(".task")


def test_a_search_says_where_its_text_stands(page):
    trace = runs()[1][3]
    needle = trace.spans[0].tool_output.split("\n")[0][:30].strip() or trace.spans[0].tool_output.strip()[:30]
    show(page, "#list&run=second")
    page.fill("#q", needle.upper())
    page.locator("#rows td.prompt mark.hit").first.wait_for()
    assert needle.lower() in page.locator("#rows mark.hit").first.inner_text().lower()
    assert ":" in page.locator("#rows td.prompt .kind").first.inner_text()


def test_the_others_of_a_task_are_all_within_reach(page):
    first = runs()[2][0]
    every = [t for part in runs() for t in part]
    others = [t for t in every if t.metadata["task_id"] == first.metadata["task_id"] and t.trace_id != first.trace_id]
    show(page, f"#trace={first.trace_id}")
    chips = page.locator(".others .chip")
    assert chips.count() == len(others) == 4
    assert "rollout 1" in page.inner_text(".others")
    text = page.locator(".others .chip").nth(1).text_content()
    assert re.fullmatch(r"compare with [✓✗?]second · [\d.]+ s, (solved|not solved|unknown)", text)
    chips.first.click()
    page.locator("#compare h1").wait_for()


def test_of_many_others_a_table_has_every_one(chromium, tmp_path):
    records = [trace for n in range(12) for trace in traces(1, run_id="many", rollout=n)]
    synthetic.write(tmp_path / "many.jsonl", records)
    write_report([tmp_path / "many.jsonl"], tmp_path / "many.html")
    with watched(chromium, tmp_path / "many.html") as page:
        show(page, f"#trace={records[4].trace_id}")
        page.click(".others summary")
        page.wait_for_selector(".same tbody tr")  # filled by an event of its own, after the click
        assert page.locator(".same tbody tr").count() == 11
        page.locator(".same tbody a").first.click()
        page.wait_for_url(re.compile(records[0].trace_id))


def test_a_selection_is_exported_as_it_stands_in_its_file(page, files):
    show(page, "#list&run=second&outcome=solved")
    with page.expect_download() as download:
        page.click("#export")
    exported = download.value.path().read_bytes()
    wanted = [line for line in files[1].read_bytes().splitlines(keepends=True) if json.loads(line)["outcome"]["solved"]]
    assert exported == b"".join(wanted)
    assert "byte for byte" in page.get_attribute("#export", "title")
    show(page)
    for row in (0, 2, 3):
        page.locator("#rows td.mark input").nth(row).click()
    assert "3 traces marked" in page.inner_text("#marked")
    with page.expect_download() as download:
        page.click("#export-marked")
    lines = files[0].read_bytes().splitlines(keepends=True)
    assert download.value.path().read_bytes() == lines[0] + lines[2] + lines[3]


def test_an_export_says_what_stands_in_place_of_other_formats(chromium, tmp_path):
    nasty = tmp_path / "nasty.jsonl"
    nasty.write_bytes(msgspec.json.encode(hostile_trace()) + b"\r\n" + json.dumps(released_row()).encode() + b"\n")
    talk = [{"role": "user", "content": SCRIPTS}, {"role": "assistant", "content": "done"}]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"messages": talk}))
    write_report([nasty, other], tmp_path / "mixed.html")
    with watched(chromium, tmp_path / "mixed.html") as page:
        show(page)
        with page.expect_download() as download:
            page.click("#export")
        exported = download.value.path().read_bytes()
        assert exported.startswith(nasty.read_bytes())
        assert json.loads(exported.splitlines()[-1])["metadata"] is not None
        assert "other.json, which are of another format" in page.get_attribute("#export", "title")


def test_copies_are_what_is_shown(chromium, report):
    trace = runs()[1][2]
    with watched(chromium, report) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        show(page, f"#trace={trace.trace_id}")
        clipboard = "navigator.clipboard.readText()"
        page.click("button[aria-label='Copy id of the trace']")
        page.locator("#said", has_text="Copied").wait_for()
        assert page.evaluate(clipboard) == trace.trace_id
        page.locator("article.call button.copy").first.click()
        page.wait_for_function(f"{clipboard}.then((text) => text !== '{trace.trace_id}')")
        first = next(iter(json.loads(trace.spans[0].tool_input).values()))
        assert page.evaluate(clipboard) == first
        page.locator("button[aria-label='Copy JSON of the record']").first.click()
        page.wait_for_function(f"{clipboard}.then((text) => text.startsWith('{{'))")
        assert json.loads(page.evaluate(clipboard))["trace_id"] == trace.trace_id


def nasty_rollouts():
    """Two rollouts of a task in which run, aspect, tool and task try to run, and whose outputs are a diff."""
    one = hostile_trace()
    diff = f"--- a\n+++ b\n@@ -1 +1 @@\n-{SCRIPTS}\n+other {SCRIPTS}\n"
    verdict = changed(one.outcome.verdicts[0], aspect=SCRIPTS, reason=SCRIPTS)
    outcome = changed(one.outcome, verdicts=(verdict,))
    meta = {**one.metadata, "run_id": SCRIPTS, "rollout_index": 0}
    one = changed(
        one, outcome=outcome, metadata=meta, prompt=f"# {SCRIPTS}\n\n```\n{SCRIPTS}\n```\n\n## Issue\n{SCRIPTS}"
    )
    span = changed(one.spans[0], tool_output=diff)
    other = changed(
        one, trace_id="other", spans=(span, *one.spans[1:]), metadata={**meta, "rollout_index": 1, "run_id": "b"}
    )
    return one, other


@pytest.mark.parametrize(
    "fragment",
    [
        *("", "#overview&by=model", "#list", "#list&group=task", "#list&group=run", "#list&q=onerror"),
        *("#trace=other", "#compare=ONE,other", f"#trace={SCRIPTS}", f"#compare={SCRIPTS}"),
        *(
            f"#list&outcome={SCRIPTS}",
            f"#list&{SCRIPTS}=1",
            f"#list&sort={SCRIPTS}&group={SCRIPTS}",
            f"#list&q={SCRIPTS}",
        ),
    ],
)
def test_nothing_hostile_runs_in_any_view(chromium, tmp_path, fragment):
    path = tmp_path / "<img src=x onerror='window.hacked=1'>.jsonl"
    records = nasty_rollouts()
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    write_report([path], tmp_path / "nasty.html", title=SCRIPTS)
    with watched(chromium, tmp_path / "nasty.html") as page:
        show(page, fragment.replace("ONE", records[0].trace_id))
        assert page.locator("main script, main img").count() == 0
        for button in page.locator("button.toggle, details > summary, #expand").all():
            if button.is_visible():
                button.click()
        assert page.locator("main script, main img").count() == 0
        assert "hacked" in page.inner_text("main")


def test_a_diff_in_an_output_is_coloured_and_a_command_stands_once(chromium, tmp_path):
    other = nasty_rollouts()[1]
    says = f"I run it.\n```bash\n{next(iter(json.loads(traces(1)[0].spans[0].tool_input).values()))}\n```"
    plain = traces(1)[0]
    steps = (changed(plain.llm_steps[0], model_output=says), *plain.llm_steps[1:])
    spans = tuple(changed(span, tool_output=f"Observation: {span.tool_output}") for span in plain.spans)
    plain = changed(plain, trace_id="plain", llm_steps=steps, spans=spans)
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in (other, plain)))
    write_report([path], tmp_path / "r.html")
    with watched(chromium, tmp_path / "r.html") as page:
        show(page, "#trace=other")
        assert page.locator("article.call .patch .added").all_inner_texts() == [f"+other {SCRIPTS}"]
        show(page, "#trace=plain")
        assert "I run it." in page.inner_text("#step-1")
        assert "```" not in page.inner_text("#step-1")
        assert "Observation" not in page.inner_text("#trace")


def test_words_that_changed_are_marked(chromium, tmp_path):
    one = traces(1)[0]
    lines = "\n".join(f"line {n} of the output" for n in range(40))
    change = lines.replace("line 7 of", "row 7 of").replace("line 30 of the output", "line 30 of the long output")
    spans = [(changed(one.spans[0], tool_output=text), *one.spans[1:]) for text in (lines, change)]
    path = tmp_path / "r.jsonl"
    synthetic.write(path, [changed(one, trace_id=f"t-{n}", spans=spans[n]) for n in range(2)])
    write_report([path], tmp_path / "r.html")
    with watched(chromium, tmp_path / "r.html") as page:
        show(page, "#compare=t-0,t-1")
        assert page.locator(".half[data-side=A] mark").all_inner_texts() == ["line"]
        assert [text.strip() for text in page.locator(".half[data-side=B] mark").all_inner_texts()] == ["row", "long"]
        assert page.locator(".half[data-side=A] .changed").count() == 2
        assert "equal lines" in page.inner_text(".half[data-side=A]")
