"""Known answers: every figure of a report against a computation in plain Python over the JSON itself."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from msgspec.structs import replace
from scipy import stats

from agenttrace.analysis.findings import Share
from agenttrace.analysis.render import share as shown
from agenttrace.analysis.runs import figures
from agenttrace.analysis.sections import sections
from agenttrace.analysis.summary import report
from agenttrace.analysis.tables import load

COMMANDS = {"/usr/bin/du": "du", "LC_ALL=C": "sort"}


@pytest.fixture(scope="module")
def found(thousand):
    return report(load([thousand]), by="model")


@pytest.fixture(scope="module", params=[0, 1])
def pair(request, found, rows):
    """A group of the report and its rows."""
    group = found.groups[request.param]
    return group, [row for row in rows if row["model"] == group.name]


def p95(values):
    return statistics.quantiles(values, n=20, method="inclusive")[18]


def same(distribution, values):
    known = [value for value in values if value is not None]
    assert distribution.n == len(known)
    assert distribution.missing == len(values) - len(known)
    if not known:
        assert distribution.total is None
        return
    mine = (
        distribution.total,
        distribution.min,
        distribution.median,
        distribution.mean,
        distribution.p95,
        distribution.max,
    )
    assert mine == pytest.approx(
        (sum(known), min(known), statistics.median(known), statistics.fmean(known), p95(known), max(known))
    )


def whole(values):
    values = list(values)
    return None if None in values else sum(values)


def ran(span):
    return span["status"] != "not_executed"


def counted(counts):
    return {one.name: one.count for one in counts}


def test_outcomes(pair):
    group, rows = pair
    solved = [row["outcome"]["solved"] for row in rows]
    assert (group.traces, group.tasks, group.repeated) == (700, 700, 0)
    assert group.datasets == ("mbpp", "nl2bash")
    assert (group.solved.count, group.solved.n, group.ungraded) == (
        solved.count(True),
        700 - solved.count(None),
        solved.count(None),
    )
    low, high = stats.binomtest(group.solved.count, group.solved.n).proportion_ci(method="wilson")
    assert (group.solved.low, group.solved.high) == pytest.approx((low, high))
    assert counted(group.ended) == Counter(row["outcome"]["ended"] for row in rows)
    verdicts = Counter((one["aspect"], one["verdict"]) for row in rows for one in row["outcome"]["verdicts"])
    for one in group.aspects:
        assert (one.passed, one.failed, one.not_gradable) == tuple(
            verdicts[one.aspect, word] for word in ("passed", "failed", "not_gradable")
        )
    tokens = [
        (
            whole(s["input_tokens"] for s in row["llm_steps"]),
            whole(s["output_tokens"] for s in row["llm_steps"]),
            row["outcome"]["solved"],
        )
        for row in rows
    ]
    judged = [(i + o, s) for i, o, s in tokens if i is not None and o is not None and s is not None]
    assert group.tokens_per_solved == pytest.approx(sum(t for t, _ in judged) / sum(s for _, s in judged))


def test_time_is_measured_not_subtracted(pair):
    group, rows = pair
    total = [row["total_duration_ms"] for row in rows]
    model = [sum(step["duration_ms"] for step in row["llm_steps"]) for row in rows]
    tools = [sum(span["duration_ms"] for span in row["spans"]) for row in rows]
    rest = [t - m - s for t, m, s in zip(total, model, tools, strict=True)]
    assert group.timed == 700
    for part, values in zip(group.time, (model, tools, rest), strict=True):
        same(part.ms, values)
        same(part.percent, [100 * v / t for v, t in zip(values, total, strict=True)])
        assert part.of_total == pytest.approx(sum(values) / sum(total))
    for figure, values in zip(
        group.durations,
        (
            total,
            [step["duration_ms"] for row in rows for step in row["llm_steps"]],
            [span["duration_ms"] for row in rows for span in row["spans"] if ran(span)],
        ),
        strict=True,
    ):
        same(figure.values, values)


def test_tokens(pair):
    group, rows = pair
    steps = [step for row in rows for step in row["llm_steps"]]
    timings = [step["timings"] or {} for step in steps]
    expected = (
        [whole(step["input_tokens"] for step in row["llm_steps"]) for row in rows],
        [whole(step["output_tokens"] for step in row["llm_steps"]) for row in rows],
        [step["input_tokens"] for step in steps],
        [step["output_tokens"] for step in steps],
        [None] * len(steps),
        [t.get("prompt_n") and 1000 * t["prompt_n"] / t["prompt_ms"] for t in timings],
        [t.get("predicted_n") and 1000 * t["predicted_n"] / t["predicted_ms"] for t in timings],
    )
    for figure, values in zip(group.tokens, expected, strict=True):
        same(figure.values, values)


def cost(one, spans):
    assert one.calls == len(spans)
    done = [span for span in spans if ran(span)]
    codes = [span["exit_code"] for span in done if span["status"] != "lost"]
    assert (one.executed, one.failed.n, one.failed.count) == (len(done), len(codes), sum(code != 0 for code in codes))
    costs = [span["telemetry"] for span in done]
    same(one.duration_ms, [span["duration_ms"] for span in done])
    same(one.cpu_ms, [t["user_time_s"] and 1000 * (t["user_time_s"] + t["system_time_s"]) for t in costs])
    same(one.peak_bytes, [t["max_rss_bytes"] for t in costs])
    same(one.read_bytes, [t["read_bytes"] for t in costs])
    same(one.write_bytes, [t["write_bytes"] for t in costs])


def test_cost_per_tool_and_per_command(pair):
    group, rows = pair
    tools, commands = defaultdict(list), defaultdict(list)
    for span in (span for row in rows for span in row["spans"]):
        tools[span["tool_name"]].append(span)
        if span["tool_name"] == "bash":
            word = json.loads(span["tool_input"])["command"].split()[0]
            commands[COMMANDS.get(word, word)].append(span)
    for listed, expected in ((group.tools, tools), (group.commands, commands)):
        assert {one.name for one in listed} == set(expected)
        assert [one.calls for one in listed] == sorted((len(spans) for spans in expected.values()), reverse=True)
        for one in listed:
            cost(one, expected[one.name])
    assert group.other_commands == 0


def test_exit_codes_statuses_and_rates(pair):
    group, rows = pair
    spans = [span for row in rows for span in row["spans"]]
    codes = Counter(str(s["exit_code"]) if s["status"] != "lost" else None for s in spans if ran(s))
    assert counted(group.exit_codes) == codes
    assert counted(group.statuses) == Counter(span["status"] for span in spans)
    steps = [step for row in rows for step in row["llm_steps"]]
    rates = dict(group.rates)
    known = sum(count for code, count in codes.items() if code is not None)
    for name, count, n in (
        (
            "traces with a final_answer call",
            sum(any(s["tool_name"] == "final_answer" for s in row["spans"]) for row in rows),
            700,
        ),
        ("traces without any tool call", sum(not row["spans"] for row in rows), 700),
        ("steps without a tool call", sum(not step["tool_calls"] for step in steps), len(steps)),
        ("calls that ran, with exit code 0", codes["0"], known),
        ("calls that were not executed (final_answer included)", sum(not ran(s) for s in spans), len(spans)),
        ("calls that hit the time limit", sum(s["status"] == "timeout" for s in spans), len(spans)),
        ("calls killed for memory", sum(s["status"] == "oom" for s in spans), len(spans)),
    ):
        share = rates.pop(name)
        assert (share.count, share.n) == (count, n), name
        assert (share.low is None) == (not name.startswith("traces")), name  # steps of a trace resemble each other
        assert ("(" in shown(share)) == name.startswith("traces"), name
    assert not rates


def test_what_goes_together(pair):
    group, rows = pair
    total = [row["total_duration_ms"] for row in rows]
    out = [whole(step["output_tokens"] for step in row["llm_steps"]) for row in rows]
    kept = [(o, t) for o, t in zip(out, total, strict=True) if o is not None]
    first = group.associations[0].estimate
    assert (first.n, first.value) == (len(kept), pytest.approx(stats.spearmanr(kept).statistic))
    by_steps = next(one.estimate for one in group.associations if one.question == "steps of solved against unsolved")
    high = [len(row["llm_steps"]) for row in rows if row["outcome"]["solved"] is True]
    low = [len(row["llm_steps"]) for row in rows if row["outcome"]["solved"] is False]
    u = stats.mannwhitneyu(high, low).statistic
    assert by_steps.value == pytest.approx(2 * u / (len(high) * len(low)) - 1)
    assert by_steps.low < by_steps.value < by_steps.high


def test_two_models_on_the_same_tasks(found, rows):
    (one,) = found.comparisons
    key = lambda row: (row["metadata"]["dataset_name"], row["metadata"]["task_id"])  # noqa: E731
    a = {key(row): row for row in rows if row["model"] == one.a}
    b = {key(row): row for row in rows if row["model"] == one.b}
    graded = [
        (a[k]["outcome"]["solved"], b[k]["outcome"]["solved"])
        for k in a
        if None not in (a[k]["outcome"]["solved"], b[k]["outcome"]["solved"])
    ]
    counts = Counter(graded)
    assert one.shared == 700
    found = {row.name: row for row in one.rows}
    passed, alone = found["passed, of those judged"], found["tasks passed by that one alone"]
    assert (alone.one, alone.other) == (counts[True, False], counts[False, True])
    assert alone.method == f"McNemar, exact: p = {stats.binomtest(alone.one, alone.one + alone.other).pvalue:.2g}"
    assert passed.one == pytest.approx((counts[True, True] + counts[True, False]) / len(graded))
    assert passed.difference == pytest.approx((alone.other - alone.one) / len(graded))
    assert passed.low < passed.difference < passed.high
    assert passed.method == f"bootstrap, same {len(graded)} tasks"
    for name, value in (
        ("seconds (mean)", lambda r: r["total_duration_ms"] / 1000), ("turns (mean)", lambda r: len(r["llm_steps"])),
    ):  # fmt: skip
        differences = [value(b[k]) - value(a[k]) for k in a]
        row = found[name]
        assert row.method == "bootstrap, same 700 tasks"
        assert row.difference == pytest.approx(statistics.mean(differences))
        half = 1.96 * statistics.stdev(differences) / 700**0.5
        assert (row.low, row.high) == pytest.approx(
            (row.difference - half, row.difference + half), rel=0.2, abs=half / 4
        )


def test_the_same_input_gives_the_same_report(found, thousand):
    assert report(load([thousand]), by="model") == found


def test_records_of_the_release_have_no_model_time_no_memory_and_no_outcome(released):
    (group,) = report(load([released])).groups
    assert group.timed == 0
    assert (group.solved.n, group.solved.share, group.ungraded) == (0, None, 1)
    assert [(one.name, one.count) for one in group.ended] == [("final_answer", 1)]
    bash = next(one for one in group.tools if one.name == "bash")
    assert (bash.calls, bash.executed) == (2, 1)
    assert (bash.duration_ms.n, bash.cpu_ms.n, bash.peak_bytes.n, bash.read_bytes.n) == (1, 0, 0, 0)
    assert any("0.3.0 records" in text for text in group.warnings)


def test_infrastructure_failures_never_count_as_the_models(few):
    lines = [json.loads(line) for line in few.read_bytes().splitlines()]
    for line in lines[:3]:
        line["outcome"] |= {"ended": "sandbox_error", "solved": False}
    few.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (group,) = report(load([few])).groups
    rest = [line["outcome"]["solved"] for line in lines[3:]]
    assert group.infrastructure == 3
    assert (group.solved.n, group.solved.count) == (17 - rest.count(None), rest.count(True))


def test_what_was_given_up_stands_beside_the_solved_rate(tmp_path):
    records = Path(__file__).parents[2] / "datasets" / "agenttrace-demo" / "records"
    for path in records.iterdir():
        shutil.copy(path, tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    file.with_suffix(".failures.jsonl").write_bytes(lines[-1])
    (group,) = report(load([file])).groups
    assert (group.coverage.given_up, group.coverage.planned) == (1, len(lines))
    shown = [row for section in sections(report(load([file]))) for row in section.rows]
    assert ("given up, of those planned", f"1 of {len(lines)}") in [tuple(row) for row in shown]
    assert figures(file, diversity=False)[0].statistics().coverage == group.coverage


def test_few_pairs_are_called_too_few(tmp_path):
    from bench.synthetic.traces import Campaign, traces, write

    files = [tmp_path / f"{name}.jsonl" for name in "ab"]
    for path, model in zip(files, ("m1", "m2"), strict=True):
        write(path, traces(Campaign(model=model, tasks=4)))
    (one,) = report(load(files)).comparisons
    assert any("n is too small: 4 shared tasks" in note for note in one.notes)
    assert all((row.low, row.high) == (None, None) for row in one.rows)


def test_files_without_a_shared_task_are_not_compared(tmp_path):
    from bench.synthetic.traces import Campaign, traces, write

    files = [tmp_path / f"{name}.jsonl" for name in "ab"]
    for path, dataset in zip(files, ("mbpp", "nl2bash"), strict=True):
        write(path, traces(Campaign(dataset=dataset, tasks=12)))
    (one,) = report(load(files)).comparisons
    assert (one.shared, one.rows) == (0, ())
    assert any("no task in common" in note for note in one.notes)


def test_several_attempts_per_task_are_summed_up_and_mcnemar_does_not_apply(tmp_path):
    from bench.synthetic.traces import Campaign, traces, write

    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write(a, [row for rollout in range(3) for row in traces(Campaign(model="m1", tasks=30, rollout=rollout))])
    write(b, traces(Campaign(model="m2", tasks=30)))
    (one,) = report(load([a, b])).comparisons
    assert one.shared == 30
    found = {row.name: row for row in one.rows}
    assert "tasks passed by that one alone" not in found
    assert found["turns (mean)"].method == "bootstrap, same 30 tasks"


def test_of_calls_that_another_format_tells_of_nobody_knows_whether_memory_ended_them():
    path = Path(__file__).parents[1] / "data" / "foreign" / "codex.jsonl"
    (group,) = report(load([path])).groups
    assert group.statuses[0].count == 3
    assert dict(group.rates)["calls killed for memory"] == Share(count=0, n=0)


def test_a_share_that_is_nothing_or_all_on_both_sides_has_no_interval(tmp_path):
    from bench.synthetic.traces import Campaign, traces, write

    files = [tmp_path / f"{name}.jsonl" for name in "ab"]
    for path in files:
        made = traces(Campaign(model=path.stem, tasks=40))
        write(path, [replace(row, outcome=replace(row.outcome, solved=False)) for row in made])
    (one,) = report(load(files)).comparisons
    rows = {row.name: row for row in one.rows}
    passed = rows["passed, of those judged"]
    assert (passed.one, passed.other, passed.difference) == (0.0, 0.0, 0.0)
    assert (passed.low, passed.high) == (None, None)
    assert "every draw is the same" in passed.method
    assert rows["turns (mean)"].low is not None


@pytest.mark.parametrize(("dataset", "said"), [("demo", "a test of the machine"), ("nl2bash", "a floor")])
def test_what_a_demo_model_is_there_for_depends_on_whether_it_knows_the_tasks(tmp_path, dataset, said):
    from bench.synthetic.traces import Campaign, traces, write

    made = traces(Campaign(dataset=dataset, tasks=3))
    write(tmp_path / "a.jsonl", [replace(row, metadata=row.metadata | {"demo": True}) for row in made])
    (group,) = report(load([tmp_path / "a.jsonl"])).groups
    assert [said in note for note in group.warnings if "demo model" in note] == [True]
