"""What slowed a call: by known figures, by rules that hold for all, and added up over a table."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.analysis import tables
from agenttrace.analysis.render import as_text
from agenttrace.analysis.sections import sections
from agenttrace.analysis.slow import CAUSES, slow_figures, why_slow
from agenttrace.analysis.summary import report
from agenttrace.store.read import read_traces

S = 10**9
HALF = {"wall_ns": S, "cpu_ns": S // 2}
CASES = {
    "busy all the time": ({"wall_ns": S, "cpu_ns": S, "throttled_ns": 0, "waited_ns": 0}, "itself", 0, 0),
    "asleep": ({**HALF, "throttled_ns": 0, "waited_ns": 10**7}, "itself", 0, 10**7),
    "throttled": ({**HALF, "throttled_ns": S // 2, "waited_ns": S // 2}, "limit", S // 2, 0),
    "throttled, by a kernel that does not count it as waiting": (
        {**HALF, "throttled_ns": S // 2, "waited_ns": 0}, "limit", S // 2, 0,
    ),
    "neighbours": ({**HALF, "throttled_ns": 0, "waited_ns": S // 2}, "neighbours", 0, S // 2),
    "both, neighbours more": (
        {**HALF, "throttled_ns": S // 10, "waited_ns": S // 2}, "neighbours", S // 10, S * 2 // 5,
    ),
    "four processes on one entitled processor wait for each other": (
        {"wall_ns": S, "cpu_ns": S, "throttled_ns": 0, "waited_ns": 3 * S}, "itself", 0, 0,
    ),
    "two of two entitled processors": (
        {"wall_ns": S, "cpu_ns": S, "throttled_ns": 0, "waited_ns": S, "cpus": 2.0}, "neighbours", 0, S,
    ),
    "more processors than there are": (
        {**HALF, "throttled_ns": 0, "waited_ns": 3 * S, "cpus": 1e308}, "neighbours", 0, S,
    ),
    "out of memory, nearly": (
        {**HALF, "throttled_ns": 0, "waited_ns": 0, "memory_stalled_ns": S * 2 // 5}, "limit", S * 2 // 5, 0,
    ),
    "throttled on two processors: a period of 100 ms has 50 ms on both, then none on both": (
        {"wall_ns": S, "cpu_ns": S, "throttled_ns": S, "waited_ns": S}, "limit", S // 2, 0,
    ),
    "throttled on four": (
        {"wall_ns": S, "cpu_ns": S, "throttled_ns": 3 * S, "waited_ns": None}, "limit", S * 3 // 4, 0,
    ),
    "too short to say": (
        {"wall_ns": 8 * 10**6, "cpu_ns": 4 * 10**6, "throttled_ns": 0, "waited_ns": 4 * 10**6}, "itself", 0, 4 * 10**6,
    ),
    "waiting unknown": ({**HALF, "throttled_ns": 0, "waited_ns": None}, "unknown", 0, 0),
    "throttling unknown": ({**HALF, "throttled_ns": None, "waited_ns": S // 2}, "unknown", 0, 0),
    "nothing known": ({"wall_ns": None, "cpu_ns": None, "throttled_ns": None, "waited_ns": None}, "unknown", 0, 0),
}  # fmt: skip
figures = st.none() | st.integers(0, 10**12)


@pytest.mark.parametrize("name", CASES)
def test_the_cause_of_known_figures(name):
    given_, *expected = CASES[name]
    assert list(why_slow(**given_)) == expected


@given(figures, figures, figures, figures, figures, st.floats(0.01, 64))
def test_no_cause_takes_more_than_the_call(wall, cpu, throttled, waited, stalled, cpus):
    found = why_slow(
        wall_ns=wall, cpu_ns=cpu, throttled_ns=throttled, waited_ns=waited, memory_stalled_ns=stalled, cpus=cpus
    )
    assert found.cause in CAUSES
    assert 0 <= min(found.limit_ns, found.neighbours_ns) <= max(found.limit_ns, found.neighbours_ns) <= (wall or 0)
    if found.cause == "limit":
        assert found.limit_ns >= wall / 10
    if found.cause == "neighbours":
        assert found.neighbours_ns > found.limit_ns


def executed_spans(path):
    spans = [span for trace in read_traces(path) for span in trace.spans]
    return [span for span in spans if span.telemetry.method == "c-helper"]


def test_calls_are_counted_by_cause_and_those_of_earlier_versions_are_unknown(few, tmp_path):
    rows = [json.loads(line) for line in few.read_bytes().splitlines()]
    calls = [span["telemetry"] for row in rows for span in row["spans"] if span["status"] == "ok"]
    calls = [one for one in calls if one["method"] == "c-helper"]
    for number, one in enumerate(calls):
        one |= {"wall_ns": S, "cpu_user_ns": S // 2, "cpu_system_ns": 0, "cfs_throttled_ns": 0, "runqueue_wait_ns": 0}
        match number % 4:
            case 1:
                one |= {"cfs_throttled_ns": S // 4, "runqueue_wait_ns": S // 4}
            case 2:  # as of a machine with cgroup v2 and a kernel that does not count the waiting of each process
                one |= {"runqueue_wait_ns": None, "cpu_pressure_ns": S // 4, "pressure_scope": "container"}
            case 3:  # as above, but the pressure is everybody's
                one |= {"runqueue_wait_ns": None, "cpu_pressure_ns": S // 4, "pressure_scope": "machine"}
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (group,) = report(tables.load([path])).groups
    found = {one.cause: one for one in group.slow}
    per = [len(calls[number::4]) for number in range(4)]
    others = sum(one.calls for one in group.slow) - len(calls)  # timeouts and the like, as they were made
    assert found["limit"].calls == per[1]
    assert found["limit"].limit_ms == pytest.approx(per[1] * 250)
    assert found["neighbours"].calls == per[2]
    assert found["neighbours"].neighbours_ms == pytest.approx(per[2] * 250)
    assert found["unknown"].calls == per[3]
    assert found["itself"].calls == per[0] + others
    each = [why_slow(**slow_figures(t.telemetry, None)).cause for t in executed_spans(path)]
    assert {cause: each.count(cause) for cause in CAUSES} == {one.cause: one.calls for one in group.slow}
    text = as_text(sections(report(tables.load([path]))))
    assert "Was this call slow by itself, by its limit, or by its neighbours?" in text
    for row in rows:
        for span in row["spans"]:
            for name in ("cfs_throttled_ns", "runqueue_wait_ns"):
                span["telemetry"].pop(name, None)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (group,) = report(tables.load([path])).groups
    assert {one.cause: one.share for one in group.slow} == {cause: float(cause == "unknown") for cause in CAUSES}
    (last,) = (one for one in group.slow if one.cause == "unknown")
    assert (last.limit_ms, last.neighbours_ms) == (None, None)
    lines = as_text(sections(report(tables.load([path])))).splitlines()
    assert [line.count("not measured") for line in lines if line.startswith("unknown")] == [2]
