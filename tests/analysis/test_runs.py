"""Figures of rollouts against numbers computed by hand or published; intervals against scipy and their sources."""

from __future__ import annotations

import math
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats

from agenttrace.analysis import statistics as intervals
from agenttrace.analysis.compare import compare_runs
from agenttrace.analysis.render import as_markdown, as_text
from agenttrace.analysis.runs import figures, pass_at, tally
from agenttrace.analysis.sections import compared_section, statistics_sections
from agenttrace.errors import DataError
from agenttrace.formats.columns import run_columns
from agenttrace.formats.commands import KINDS, patch_size
from agenttrace.formats.entries import entry
from agenttrace.records import Timings, Verdict, rollout_1_0

DATA = Path(__file__).parents[1] / "data" / "records"
MADE = msgspec.json.decode((DATA / "1.0.0/rollouts.jsonl").read_bytes().splitlines()[0], type=rollout_1_0.Rollout)


def changed(rollout, **fields):
    return msgspec.structs.replace(rollout, **fields)


def turn(number, command, *, prompt, output, printed=1, code=0, status="ok", evaluated=None):
    made = next(turn for turn in MADE.turns if turn.execution is not None)
    execution = changed(
        made.execution, command=command or "", exit_code=code, status=status, stdout_bytes=printed, stderr_bytes=0
    )
    timings = Timings(prompt_n=evaluated, prompt_ms=1.0, predicted_n=output, predicted_ms=1.0) if evaluated else None
    return changed(
        made, turn=number, execution=None if command is None else execution, input_tokens=prompt, output_tokens=output,
        timings=timings,
    )  # fmt: skip


def rollout(task, index, *turns, stop="submitted", patch="", passed=None, **fields):
    verdict = "not_gradable" if passed is None else "passed" if passed else "failed"
    given = {
        "instance_id": task, "rollout_index": index, "turns": turns, "stop": stop, "patch": patch,
        "verdicts": (Verdict(aspect="patch", verdict=verdict, method="m"),), "repo": "o/r", "language": "go",
        "timestamp_utc": "2026-01-01T00:00:10.000000+00:00", "duration_ms": 5_000.0, "prepare_ms": 1_000.0,
    }  # fmt: skip
    return rollout_1_0.decode(msgspec.json.encode(changed(MADE, **{**given, **fields})))


PATCH = (
    "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,2 @@\n same\n--- a comment of SQL\n-old\n+new\n"
    "diff --git a/y b/y\nnew file mode 100644\n--- /dev/null\n+++ b/y\n@@ -0,0 +1 @@\n+++ plus\n"
)


def row(trace):
    """The row of a trace in the runs table."""
    return {name: values[0] for name, values in run_columns([entry(0, "", trace)]).items()}


def statistics_text(found, diversity=None):
    return as_markdown(statistics_sections(found, diversity))


def test_one_rollout_in_numbers():
    made = (
        rollout(
            "t", 0,
            turn(1, "grep x", prompt=100, output=10, evaluated=100),
            turn(2, "  python3 -c 1", prompt=150, output=20, code=127, evaluated=40),
            turn(3, "# only a comment", prompt=190, output=5, printed=0, evaluated=20),
            turn(4, None, prompt=200, output=1, evaluated=5),
            turn(5, "yes", prompt=210, output=4, status="timeout", code=137, evaluated=6),
            patch=PATCH,
        )
    )  # fmt: skip
    found = row(made)
    assert {kind: found[f"{kind}_turns"] for kind in KINDS} == dict.fromkeys(KINDS, 1)
    assert tally([made]).words == dict.fromkeys(("grep", "python3", "#", "yes"), 1)
    assert (found["output_tokens"], found["input_tokens"]) == (40, 850)
    assert (found["evaluated_tokens"], found["conversation_tokens"]) == (171, 214)
    assert (found["patch_files"], found["patch_lines"]) == (2, 4)
    assert tally([made]).statistics().wall_s == pytest.approx(6.0)
    assert found["solved"] is None


def test_a_time_without_offset_is_utc_in_every_time_zone(monkeypatch):
    with_offset = row(rollout("t", 0))
    try:
        for zone in ("Asia/Tokyo", "America/New_York"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert row(rollout("t", 0, timestamp_utc="2026-01-01T00:00:10")) == with_offset
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_total_of_some_rollouts_says_so_and_is_compared_with_nothing():
    known, unknown = turn(1, "ls", prompt=9, output=3), turn(1, "ls", prompt=9, output=None)
    whole = tally(rollout("t", index, known) for index in range(2))
    part = tally(rollout("t", index, one) for index, one in enumerate((known, unknown)))
    assert "| generated | 6, 3, 3 |" in statistics_text(whole.statistics())
    assert "| generated | 3, 3, 3, of the 1 rollouts that report it |" in statistics_text(part.statistics())
    totals = {row.name: (row.one, row.other, row.difference) for row in compare_runs(whole, part)}
    assert totals["tokens, generated (total)"] == (6, None, None)


def test_a_count_that_a_turn_lacks_is_not_known():
    found = row(rollout("t", 0, turn(1, "ls", prompt=None, output=3), turn(2, "ls", prompt=9, output=3)))
    assert (found["input_tokens"], found["conversation_tokens"], found["output_tokens"]) == (None, 12, 6)
    with pytest.raises(DataError, match="is no ISO 8601 time"):
        tally([rollout("t", 0, timestamp_utc="yesterday")]).statistics()


def test_patches_are_counted_by_their_hunks():
    assert patch_size("") == (0, 0)
    assert patch_size("diff --git a/b b/b\nBinary files differ\n") == (1, 0)
    assert patch_size("diff --git a/b b/b\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n") == (1, 2)


def run_of(counts, per_task=2):
    """Rollouts of tasks: how many of each were submitted and passed."""
    made = []
    for task, good in enumerate(counts):
        for index in range(per_task):
            ok = index < good
            made.append(
                rollout(
                    f"t{task}", index, turn(1, "ls", prompt=10, output=10 * (task + 1)),
                    stop="submitted" if ok else "turns", passed=ok,
                )
            )  # fmt: skip
    return tally(made)


def test_a_run_in_figures():
    found = run_of([2, 1, 0]).statistics()
    assert (found.rollouts, found.tasks, found.repos, found.languages) == (6, 3, 1, {"go": 6})
    assert found.stops == {"final_answer": 3, "max_steps": 3}
    assert found.exit_statuses == {"Submitted": 3, "incomplete": 3}
    tokens = found.tokens["generated"]
    assert (tokens.n, tokens.total, tokens.mean, tokens.median, tokens.min, tokens.max) == (6, 120, 20, 20, 10, 30)
    assert (found.tokens["prompts evaluated"].n, found.tokens["prompts evaluated"].missing) == (0, 6)
    assert found.first_words == (("ls", 6),)
    assert (found.passed, found.graded, found.patched) == (3, 6, 0)
    # by task: 2/2, 1/2, 0/2 -> pass@1 = (1 + .5 + 0)/3; pass@2 = (1 + 1 + 0)/3
    assert found.pass_at == {1: pytest.approx(0.5), 2: pytest.approx(2 / 3)}
    assert found.submitted_at == found.pass_at
    assert found.wall_s == pytest.approx(6.0)


def test_no_pass_at_k_where_something_was_not_judged():
    made = [rollout("t", 0, passed=True), rollout("t", 1)]
    found = tally(made).statistics()
    assert (found.pass_at, found.graded) == ({}, 1)


def test_pass_at_k_is_the_mean_over_all_choices_of_k():
    # 10 tries of which 3 passed: 1 - (7*6*5)/(10*9*8) of the choices of three hold one that passed
    assert pass_at({"t": [3, 10]})[3] == pytest.approx(1 - 210 / 720)
    assert pass_at({"t": [3, 10], "u": [0, 4]}) == {
        1: pytest.approx(0.15), 2: pytest.approx((1 - 42 / 90) / 2), 3: pytest.approx((1 - 210 / 720) / 2),
    }  # fmt: skip
    assert pass_at({}) == {}


@pytest.mark.parametrize(("part", "whole"), [(0, 10), (1, 29), (15, 148), (81, 263), (29, 29)])
def test_wilson_is_scipys(part, whole):
    theirs = stats.binomtest(part, whole).proportion_ci(0.95, method="wilson")
    assert intervals.wilson(part, whole) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "published"),
    [
        # Newcombe 1998, table II, method 10: p1 - p2, so ours is the interval of the second minus the first, turned
        ((48, 80), (56, 70), (0.0524, 0.3339)),
        ((3, 10), (9, 10), (0.1705, 0.8090)),
        ((2, 7), (6, 7), (0.0582, 0.8062)),
        ((0, 29), (5, 56), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.2775, 0.1611)),
        ((0, 10), (10, 10), (0.6075, 1.0)),
    ],
)
def test_newcombe_gives_the_published_intervals(one, other, published):
    assert intervals.newcombe(one, other) == pytest.approx(published, abs=5e-5)


def test_rollouts_of_a_task_that_agree_are_worth_one():
    alike = {f"t{at}": [5.0 * (at % 2), 5] for at in range(20)}
    assert intervals.effective(alike) == pytest.approx(19)  # 20 tasks, one degree of freedom
    spread = {f"t{at}": [2.0, 4] for at in range(20)}
    assert intervals.effective(spread) == 80
    assert intervals.effective({f"t{at}": [float(at % 2), 1] for at in range(20)}) == 20
    assert intervals.effective({"a": [0.0, 10], "b": [0.0, 10]}) == 2


def test_the_bootstrap_is_repeatable_pairs_same_tasks_and_covers_the_normal_interval():
    one = {f"t{at}": [float(at % 7), 1] for at in range(200)}
    other = {name: [cell[0] + 1.0, 1] for name, cell in one.items()}
    unpaired = {f"u{name}": cell for name, cell in other.items()}
    pairs = [(one, other), (one, unpaired), ({"t": [1.0, 1]}, one)]
    paired, apart, alone = intervals.bootstrap_differences(pairs)
    assert paired == pytest.approx((1.0, 1.0))  # every pair differs by exactly one
    assert alone is None
    assert intervals.bootstrap_differences(pairs[1:2]) == [apart]
    assert intervals.bootstrap_differences(pairs[1:2], seed=1) != [apart]
    assert intervals.bootstrap_differences(pairs, least=201) == [None] * 3
    error = math.sqrt(2 * stats.tvar([cell[0] for cell in one.values()]) / 200)
    assert apart == pytest.approx((1 - 1.96 * error, 1 + 1.96 * error), abs=0.06)


def test_the_bootstrap_gives_the_intervals_of_scipy():
    one = {f"t{at}": [float(at % 7), 1 + at % 3] for at in range(40)}
    other = {f"t{at}": [float(at % 5), 2] for at in range(40)}
    first, second = (np.array([sums[task] for task in sorted(sums)]) for sums in (one, other))

    def difference(places, axis=-1):
        sums = [cells[places].sum(axis=-2) for cells in (first, second)]
        return sums[1][..., 0] / sums[1][..., 1] - sums[0][..., 0] / sums[0][..., 1]

    theirs = stats.bootstrap(
        (np.arange(40),), difference, n_resamples=2_000, vectorized=True, method="percentile", rng=0
    ).confidence_interval
    assert intervals.bootstrap_differences([(one, other)]) == [pytest.approx((theirs.low, theirs.high))]


def test_the_table_has_differences_and_intervals():
    rows = {row.name: row for row in compare_runs(run_of([2, 1, 0]), run_of([2, 2, 2, 2]))}
    assert (rows["Submitted"].one, rows["Submitted"].other, rows["Submitted"].difference) == (0.5, 1.0, 0.5)
    assert rows["Submitted"].low < 0.5 < rows["Submitted"].high <= 1
    assert rows["tokens, generated (mean)"].difference == pytest.approx(5.0)
    assert rows["tokens, generated (total)"].difference == pytest.approx(80)
    assert rows["tokens, prompts evaluated (mean)"].one is None
    text = as_markdown([compared_section(("8K|x", "32K"), (6, 8), rows.values())])
    assert text.splitlines()[0] == r"|  | 8K\|x | 32K | difference | 95 % interval | by |"
    assert "| Submitted | 50.0 % | 100.0 % | +50.0 |" in text
    assert {line.count("|") - line.count("\\|") for line in text.splitlines()} == {7}


def test_hostile_words_stay_in_their_cell():
    made = [rollout("t", 0, turn(1, "x\x1b[2J`| y", prompt=1, output=1), language="<b>|")]
    text = statistics_text(tally(made).statistics())
    assert r"| x\\x1b\[2J | 1 (100.0 %) |" in text
    assert "<b>" not in text
    plain = as_text(statistics_sections(tally(made).statistics()))
    assert r"x\x1b[2J " in plain
    assert "\x1b" not in plain


@pytest.mark.parametrize("name", ["1.0.0/rollouts.jsonl", "1.0.0/rollouts-compacted.jsonl.zst"])
def test_kept_rollout_files_give_the_figures_that_they_gave(name):
    found, diversity = figures(DATA / name)
    found = found.statistics()
    assert (found.rollouts, found.tasks, found.languages) == (6, 3, {"shell": 4, "go": 2})
    assert found.observations == {"useful": 26, "empty": 6}
    assert dict(found.first_words) == {"git": 7, "sed": 7, "echo": 6, "cat": 5, "ls": 4, "nl": 3}
    assert (found.tokens["generated"].total, found.tokens["prompts billed"].total) == (864, 10_981)
    assert (found.patched, found.patch_lines.total, found.passed, found.graded) == (6, 10, 4, 6)
    assert found.pass_at == {1: pytest.approx(4 / 6), 2: 1.0}
    assert (diversity.upstream_unique, diversity.corpus_components, diversity.within_components) == (3, 3, 3)
    assert diversity.upstream_mean_similarity == pytest.approx(0.397, abs=5e-4)


def test_traces_of_another_agent_have_the_figures_that_apply_to_them():
    found, diversity = figures(DATA / "demo.jsonl")
    stats_of = found.statistics()
    assert (stats_of.rollouts, stats_of.tasks, stats_of.repos, stats_of.graded) == (4, 4, 0, 4)
    assert (stats_of.observations, stats_of.patched, stats_of.patch_lines.n) == ({}, None, 0)
    assert (diversity.rollouts, diversity.corpus_components) == (4, 4)
    text = statistics_text(stats_of, diversity)
    assert "observation" not in text
    assert "patch" not in text
    assert "| grep |" in text
    other, _ = figures(DATA / "1.0.0/rollouts.jsonl", diversity=False)
    rows = {row.name: row for row in compare_runs(found, other)}
    assert (rows["with a patch"].one, rows["with a patch"].other) == (None, 1.0)
    assert (rows["turns that gave: useful"].one, rows["turns that gave: useful"].other) == (None, 26 / 32)


@pytest.mark.parametrize(("cached", "evaluated"), [(0, 5), (5, 0), (6, None), (None, None)])
def test_more_from_the_cache_than_the_prompt_has_is_no_figure(cached, evaluated):
    trace = rollout_1_0.as_trace(MADE)
    step = changed(trace.llm_steps[0], input_tokens=5, timings=Timings(cached_n=cached))
    (found,) = run_columns([entry(0, "", changed(trace, llm_steps=(step,)))])["evaluated_tokens"]
    assert found == evaluated
