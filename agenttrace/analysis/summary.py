"""Computes a report from the three tables: what happened, what it cost, what goes together."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from agenttrace.analysis.compare import compare_groups
from agenttrace.analysis.findings import Aspect, Association, Cost, Count, Figure, Group, Report, TimePart
from agenttrace.analysis.slow import causes
from agenttrace.analysis.statistics import distribution, share, share_of_parts, spearman, superiority
from agenttrace.formats.agenttrace_0_3 import NAME as RELEASED_FORMAT
from agenttrace.formats.commands import KINDS
from agenttrace.records import INFRASTRUCTURE_ENDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from agenttrace.analysis.findings import Share, SlowCause
    from agenttrace.analysis.tables import Source, Tables
    from agenttrace.store.coverage import Coverage

By = Literal["file", "model", "dataset", "run_id"]
_TRAINED_ON = ("demo", "bundled")
"""Names of the task sets that the bundled demo models were trained on."""
UNKNOWN = "(not recorded)"
MEASURED = ("c-helper", "python-helper")
"""Methods whose figures belong to one call. Those of AgentTrace 0.3.0 do not: its peak memory is that of the whole
life of the collector, its CPU time includes the collector's, its I/O counts blocks."""
MOST = 20
"""Commands that a report lists."""


def report(tables: Tables, by: By = "file") -> Report:
    """Return all findings, one group per value of `by` in the order of first appearance, the first compared with each.

    Seconds for a few thousand traces; nothing is random but resampling, whose seed is fixed.
    """
    parts = grouped(tables, by)
    names = list(parts)
    sources = {source.file: source for source in tables.sources}
    return Report(
        by=by,
        partial=tables.partial,
        sources=tuple(tables.sources),
        groups=tuple(_group(name, sources, *part) for name, part in parts.items()),
        comparisons=tuple(compare_groups(names[0], parts[names[0]][0], name, parts[name][0]) for name in names[1:]),
    )


def grouped(tables: Tables, by: By) -> dict[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]:
    """Return runs (with totals), steps and spans of each group, in the order of first appearance."""
    names = tables.runs[by].astype("object").fillna(UNKNOWN).astype(str)
    found = {}
    for name in dict.fromkeys(names):
        runs = _with_totals(tables.runs[names == name])
        steps, spans = (table[table["run"].isin(runs["run"])] for table in (tables.steps, tables.spans))
        found[name] = (runs, steps, spans)
    return found


def _with_totals(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with `tokens` (in and out, unknown if one is) and `solved` unknown where the machine failed."""
    failed = runs["ended"].isin(INFRASTRUCTURE_ENDS)
    return runs.assign(
        tokens=runs["input_tokens"] + runs["output_tokens"], solved=runs["solved"].mask(failed), broken=failed
    )


def _group(
    name: str, sources: Mapping[str, Source], runs: pd.DataFrame, steps: pd.DataFrame, spans: pd.DataFrame
) -> Group:
    graded = runs["solved"].dropna()
    measured = timed(runs)
    commands = costs(spans, "command")
    files = runs["file"].unique()
    energy, solved = _energy(runs, [sources[file] for file in files]), int(graded.sum())
    return Group(
        name=name,
        traces=len(runs),
        tasks=runs["task"].nunique() + int(runs["task"].isna().sum()),
        repeated=int(runs["trace_id"].duplicated().sum()),
        models=_names(runs["model"]),
        datasets=_names(runs["dataset"]),
        schemas=_names(runs["schema_version"]),
        warnings=_warnings(runs, steps, spans),
        solved=share(solved, len(graded)),
        coverage=_coverage(sources[file].coverage for file in files),
        ungraded=int((runs["solved"].isna() & ~runs["broken"]).sum()),
        infrastructure=int(runs["broken"].sum()),
        tokens_per_solved=_per_solved(runs),
        energy_j=energy,
        energy_per_solved_j=energy / solved if energy is not None and solved else None,
        cost_usd=distribution(runs["cost_usd"]),
        cost_sources=_counts(runs["cost_source"].dropna()),
        ended=_counts(runs["ended"]),
        aspects=_aspects(runs["verdicts_json"]),
        timed=len(measured),
        time=_time(measured),
        durations=_durations(runs, steps, spans),
        tokens=_tokens(runs, steps),
        server=_server(steps),
        rates=_rates(runs, steps, spans),
        tools=costs(spans, "tool_name"),
        commands=commands[:MOST],
        other_commands=sum(cost.calls for cost in commands[MOST:]),
        exit_codes=_counts(exit_codes(spans)),
        statuses=_counts(spans["status"]),
        slow=_slow(runs, spans),
        associations=_associations(runs),
    )


def _slow(runs: pd.DataFrame, spans: pd.DataFrame) -> tuple[SlowCause, ...]:
    measured = spans[executed(spans) & spans["method"].isin(MEASURED)]
    return causes(measured, runs.set_index("run")["sandbox_cpus"])


def _coverage(parts: Iterable[Coverage | None]) -> Coverage | None:
    known = list(parts)
    whole = [one for one in known if one is not None]
    return reduce(add, whole) if known and len(whole) == len(known) else None


def _energy(runs: pd.DataFrame, sources: Sequence[Source]) -> float | None:
    """Return what files consumed, all of whose traces are here."""
    whole = sum(source.rows for source in sources) == len(runs)
    known = [source.energy_j for source in sources if source.energy_j is not None]
    return sum(known) if whole and known and len(known) == len(sources) else None


def _names(column: pd.Series) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column.astype("object").fillna(UNKNOWN).astype(str)))


def _counts(column: pd.Series) -> tuple[Count, ...]:
    """Count the values, most frequent first, then by value; what was not recorded comes last."""
    found = column.astype("object").value_counts(dropna=True)
    rows = sorted(((str(value), int(count)) for value, count in found.items()), key=lambda row: (-row[1], row[0]))
    missing = int(column.isna().sum())
    every: list[tuple[str | None, int]] = [*rows, *([(None, missing)] if missing else [])]
    return tuple(Count(name=value, count=count, share=count / len(column)) for value, count in every)


def _per_solved(runs: pd.DataFrame) -> float | None:
    """Tokens of all judged traces whose count is known, per solved one among them."""
    known = runs[runs["tokens"].notna() & runs["solved"].notna()]
    solved = int(known["solved"].sum())
    return float(known["tokens"].sum()) / solved if solved else None


def _aspects(verdicts: pd.Series) -> tuple[Aspect, ...]:
    found: Counter[tuple[str, str]] = Counter()
    for text in verdicts.dropna():
        found.update((one["aspect"], one["verdict"]) for one in msgspec.json.decode(text))
    return tuple(
        Aspect(
            aspect=aspect,
            passed=found[aspect, "passed"],
            failed=found[aspect, "failed"],
            not_gradable=found[aspect, "not_gradable"],
        )
        for aspect in dict.fromkeys(aspect for aspect, _ in found)
    )


def timed(runs: pd.DataFrame) -> pd.DataFrame:
    """Traces with a duration for every step and span: only they can be split by measurement."""
    return runs[runs["llm_ms"].notna() & runs["tool_ms"].notna() & (runs["total_duration_ms"] > 0)]


def _time(runs: pd.DataFrame) -> tuple[TimePart, ...]:
    total = runs["total_duration_ms"]
    parts = {
        "model": runs["llm_ms"],
        "tools": runs["tool_ms"],
        "rest (harness, transport)": (total - runs["llm_ms"] - runs["tool_ms"]).clip(lower=0),
    }
    whole = float(total.sum())
    return tuple(
        TimePart(
            part=part,
            ms=distribution(values),
            percent=distribution(100 * values / total),
            of_total=float(values.sum()) / whole if whole else None,
        )
        for part, values in parts.items()
    )


def _durations(runs: pd.DataFrame, steps: pd.DataFrame, spans: pd.DataFrame) -> tuple[Figure, ...]:
    return (
        Figure(name="trace", unit="ms", values=distribution(runs["total_duration_ms"])),
        Figure(name="model step", unit="ms", values=distribution(steps["duration_ms"])),
        Figure(name="tool call", unit="ms", values=distribution(spans[executed(spans)]["duration_ms"])),
    )


def _tokens(runs: pd.DataFrame, steps: pd.DataFrame) -> tuple[Figure, ...]:
    def speed(count: str, ms: str) -> pd.Series[float]:
        time = steps[ms].where(steps[ms] > 0)
        return steps[count].astype("Float64") / time * 1000

    return (
        Figure(name="input per trace", unit="tokens", values=distribution(runs["input_tokens"])),
        Figure(name="output per trace", unit="tokens", values=distribution(runs["output_tokens"])),
        Figure(name="input per step", unit="tokens", values=distribution(steps["input_tokens"])),
        Figure(name="output per step", unit="tokens", values=distribution(steps["output_tokens"])),
        Figure(name="from the prompt cache per step", unit="tokens", values=distribution(steps["cached_n"])),
        Figure(name="prompt speed", unit="tokens/s", values=distribution(speed("prompt_n", "prompt_ms"))),
        Figure(name="generation speed", unit="tokens/s", values=distribution(speed("predicted_n", "predicted_ms"))),
    )


def _server(steps: pd.DataFrame) -> tuple[Figure, ...]:
    """Return the parts of a request as servers name them: llama.cpp prefill and decode, vLLM all, SGLang the queue."""
    prefill = steps["prompt_ms"].fillna(steps["first_token_ms"])
    both = prefill + steps["predicted_ms"]
    parts = {
        ("queue", "ms"): steps["queue_ms"],
        ("prefill: start of the work to first token", "ms"): prefill,
        ("queue and prefill: time to first token", "ms"): steps["queue_ms"] + steps["first_token_ms"],
        ("decode: first token to last", "ms"): steps["predicted_ms"],
        ("rest of the request: transport, template, unnamed queue", "ms"): (
            steps["duration_ms"] - both - steps["queue_ms"].fillna(0.0)
        ),
        ("decode, % of prefill and decode", "%"): 100 * steps["predicted_ms"] / both.where(both > 0),
        ("between two tokens", "ms"): steps["mean_itl_ms"],
        ("reasoning", "tokens"): steps["reasoning_n"],
    }
    found = {named: distribution(values) for named, values in parts.items()}
    return tuple(Figure(name=name, unit=unit, values=one) for (name, unit), one in found.items() if one.n)


def _rates(runs: pd.DataFrame, steps: pd.DataFrame, spans: pd.DataFrame) -> tuple[tuple[str, Share], ...]:
    codes, statuses = exit_codes(spans).dropna(), spans["status"].dropna()
    answered = spans[spans["tool_name"] == "final_answer"]["run"].nunique()
    return (
        ("traces with a final_answer call", share(int(answered), len(runs))),
        ("traces without any tool call", share(int((runs["span_count"] == 0).sum()), len(runs))),
        ("steps without a tool call", share_of_parts(int((steps["tool_call_count"] == 0).sum()), len(steps))),
        ("calls that ran, with exit code 0", share_of_parts(int((codes == 0).sum()), len(codes))),
        (
            "calls that were not executed (final_answer included)",
            share_of_parts(int((~executed(spans)).sum()), len(spans)),
        ),
        ("calls that hit the time limit", share_of_parts(int((statuses == "timeout").sum()), len(statuses))),
        (
            "calls killed for memory",
            share_of_parts(int((statuses == "oom").sum()), int(_told_of_memory(runs, spans).sum())),
        ),
        *_attempts(runs),
    )


def _told_of_memory(runs: pd.DataFrame, spans: pd.DataFrame) -> pd.Series[bool]:
    """Return of which calls it is known whether they were killed for memory: other formats do not say it."""
    foreign = spans["run"].isin(runs["run"][runs["imported_from"].notna()]) & ~spans["method"].isin(MEASURED)
    return (spans["status"].notna() & ~foreign) | (spans["status"] == "oom").fillna(value=False)


def _attempts(runs: pd.DataFrame) -> Iterator[tuple[str, Share]]:
    """Yield the rates of attempts at changing a checkout, where there are any."""
    turns = int(runs["step_count"].where(runs["useful_turns"].notna()).sum())
    if turns:
        for kind in KINDS:
            yield f"turns that gave: {kind.replace('_', ' ')}", share_of_parts(int(runs[f"{kind}_turns"].sum()), turns)
    patches = runs["patch_files"].dropna()
    if len(patches):
        yield "traces with a patch", share(int((patches > 0).sum()), len(patches))


def _associations(runs: pd.DataFrame) -> tuple[Association, ...]:
    solved = runs["solved"]
    monotone = (
        ("output tokens with trace duration", runs["output_tokens"], runs["total_duration_ms"]),
        ("output tokens with model time", runs["output_tokens"], runs["llm_ms"]),
        ("steps with trace duration", runs["step_count"], runs["total_duration_ms"]),
        ("tool calls with tool time", runs["span_count"], runs["tool_ms"]),
    )
    against = (
        ("steps of solved against unsolved", runs["step_count"]),
        ("tokens (in and out) of solved against unsolved", runs["tokens"]),
        ("duration of solved against unsolved", runs["total_duration_ms"]),
        ("tool time of solved against unsolved", runs["tool_ms"]),
    )
    return (
        *(Association(question=text, method="spearman", estimate=spearman(x, y)) for text, x, y in monotone),
        *(
            Association(question=text, method="cliffs-delta", estimate=superiority(values, solved))
            for text, values in against
        ),
    )


def _of_demo(demo: pd.DataFrame) -> Iterator[str]:
    """Yield what records of a bundled demo model are there for."""
    if len(demo) and bool(demo["dataset"].isin(_TRAINED_ON).all()):
        yield "records of the bundled demo model are a test of the machine, never a result"
    elif len(demo):
        yield (
            "the bundled demo model was not trained on these tasks and knows nothing of them: its records are no "
            "result but a floor, what runs cost that solve nothing"
        )


def _warnings(runs: pd.DataFrame, steps: pd.DataFrame, spans: pd.DataFrame) -> tuple[str, ...]:
    found = [*_of_demo(runs[runs["demo"].fillna(value=False).astype(bool)])]
    if bool(runs["synthetic"].fillna(value=False).any()):
        found.append("synthetic records: made, not measured")
    if (runs["imported_from"] == RELEASED_FORMAT).any():
        found.append(
            "0.3.0 records: no verdict, no time per model step; CPU, memory and I/O per call are not measured (theirs "
            "include the collector's own; the tables keep them under method foreign)"
        )
    if runs["trace_id"].duplicated().any():
        found.append("some trace ids occur more than once: those traces count more than once")
    attempts, tasks = int(runs["task"].notna().sum()), runs["task"].nunique()
    if attempts > tasks:
        of = "one task" if tasks == 1 else f"{tasks} tasks"
        found.append(
            f"{attempts} attempts at {of}: intervals take them as independent; where they agree, they are too narrow"
        )
    unknown = int(steps["output_tokens"].isna().sum())
    if unknown:
        found.append(f"{unknown} of {len(steps)} steps have no token count: their traces have no token total")
    unmeasured = spans[spans["method"] == "not-measured"]
    lost = int((unmeasured["status"] == "lost").sum())
    if lost:
        found.append(f"{lost} of {len(spans)} calls were not measured: their worker was lost")
    if len(unmeasured) > lost:
        found.append(f"{len(unmeasured) - lost} of {len(spans)} calls were not measured: read from another format")
    over = timed(runs)
    beyond = int(np.sum((over["llm_ms"] + over["tool_ms"]) > over["total_duration_ms"]))
    if beyond:
        found.append(f"in {beyond} traces model and tool time are more than the whole: calls ran at the same time")
    return tuple(found)


def executed(spans: pd.DataFrame) -> pd.Series[bool]:
    """Return which calls ran: not refused, not `final_answer`, whatever became of them."""
    known = spans["status"].notna()
    ran = (spans["status"] != "not_executed") & (spans["method"] != "no-process")
    released = (spans["tool_name"] != "final_answer") & (spans["exit_code"].fillna(0) != -1)
    return ran.where(known, released).astype(bool)


def exit_codes(spans: pd.DataFrame) -> pd.Series[int]:
    """Return the exit codes of calls that ran, unknown where the worker was lost under the call, or nobody measured."""
    ran = spans[executed(spans)]
    unsaid = (ran["method"] == "not-measured") & (ran["exit_code"] == -1)  # as formats of others were read once
    return ran["exit_code"].mask(((ran["status"] == "lost") | unsaid).fillna(value=False).astype(bool))


def costs(spans: pd.DataFrame, column: str) -> tuple[Cost, ...]:
    """Return the cost of each value of a column, most calls first, then by name."""
    found = [_cost(str(name), part) for name, part in spans.groupby(column, observed=True)]
    return tuple(sorted(found, key=lambda cost: (-cost.calls, cost.name)))


def _cost(name: str, spans: pd.DataFrame) -> Cost:
    ran = spans[executed(spans)]
    own = ran.assign(
        **{
            column: ran[column].where(ran["method"].isin(MEASURED))
            for column in ("cpu_ms", "max_rss_bytes", "read_bytes", "write_bytes")
        }
    )
    codes = exit_codes(spans).dropna()
    return Cost(
        name=name,
        calls=len(spans),
        executed=len(ran),
        failed=share(int((codes != 0).sum()), len(codes)),
        duration_ms=distribution(ran["duration_ms"]),
        cpu_ms=distribution(own["cpu_ms"]),
        peak_bytes=distribution(own["max_rss_bytes"]),
        read_bytes=distribution(own["read_bytes"]),
        write_bytes=distribution(own["write_bytes"]),
    )
