"""Prints one trace as a transcript that a person can read, with the cost of each call."""

from __future__ import annotations

import io
import os
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agenttrace.records import LLMStep, Outcome, Span, Telemetry, ToolCall, Trace

    ProposedCall = tuple[ToolCall | None, Span | None]

_MIB = 1 << 20
_TOLD_NS = 1_000_000
_KEEP = {"\n", "\t"}
_PATCH_LINES = 100
_NAMED = 8


def pick(traces: Iterable[Trace], wanted: str | None) -> Trace:
    """Return the trace whose id starts with `wanted`, or that `wanted` is a name of; else the first.

    Names are task id and task name, alone or as a transcript and the progress of a campaign have them.

    Raises:
        UsageError: none or several match.
    """
    if wanted is None:
        for trace in traces:
            return trace
        raise UsageError("the file holds no record yet")
    names: dict[str, None] = {}
    found = []
    for trace in traces:
        if _matches(trace, wanted):
            found.append(trace)
        names[str(trace.metadata.get("task_name"))] = None
    if len(found) != 1:
        ids = ", ".join([trace.trace_id for trace in found[:_NAMED]] + ["..."] * (len(found) > _NAMED))
        if found:
            raise UsageError(f"{len(found)} traces match {wanted!r} ({ids}); give the start of one's trace id")
        none = f"no trace matches {wanted!r}{did_you_mean(wanted, names)}"
        raise UsageError(f"{none}; give a task id, a task name or the start of a trace id")
    return found[0]


def _matches(trace: Trace, wanted: str) -> bool:
    meta = trace.metadata
    names = {str(meta.get("task_id")), meta.get("task_name"), _task(meta), _title(meta)}
    return wanted in names or (len(wanted) >= 4 and trace.trace_id.startswith(wanted))  # noqa: PLR2004


def _task(meta: dict[str, Any]) -> str:
    """Return what a task is called where those of several sets are."""
    return "/".join(str(meta[key]) for key in ("dataset_name", "task_id") if meta.get(key) is not None)


def _title(meta: dict[str, Any]) -> str:
    """Return that and the task's name, or which of its rollouts this is."""
    task, name = _task(meta), attempt_name(meta)
    return " ".join(filter(None, [task, *([name] if name != task else [])]))


def transcript(trace: Trace) -> Iterator[tuple[str, str]]:
    """Yield (style, line) pairs in which every control character, whoever wrote it, is made visible."""
    for style, line in _lines(trace):
        yield style, printable(line)


def _lines(trace: Trace) -> Iterator[tuple[str, str]]:
    meta = trace.metadata
    yield "bold", f"{_title(meta)}  {trace.trace_id}".lstrip()
    prepared = f", prepared in {trace.prepare_ms / 1000:.3f} s" if trace.prepare_ms else ""
    took = "duration unknown" if trace.total_duration_ms is None else f"{trace.total_duration_ms / 1000:.3f} s"
    cost = f", {trace.totals.cost_usd:.4f} USD" if trace.totals and trace.totals.cost_usd is not None else ""
    yield "dim", f"{trace.model}, {trace.timestamp_utc or 'time unknown'}, {took}{prepared}{cost}"
    if "repo" in meta:
        at = f" at {meta['base_commit']}" if meta.get("base_commit") else ""
        yield "dim", f"{meta['repo']}{at}" + (f", {meta['language']}" if meta.get("language") else "")
    yield "", ""
    yield from _block("bold cyan", "task", trace.prompt)
    steps, stray = joined(trace)
    for step, calls in steps:
        yield from _step(step, calls)
    for span in stray:
        yield from _block("bold cyan", f"{span.tool_name}, proposed nowhere", span.tool_input)
        yield from _block("", "result", span.tool_output)
    yield from _end(trace.outcome)


def attempt_name(metadata: dict[str, Any]) -> str:
    """Return the name of a trace's task; where that is its id, which of its rollouts this is."""
    name, index = metadata.get("task_name"), metadata.get("rollout_index")
    if name and name == metadata.get("task_id") and index is not None:
        return f"rollout {index}"
    return "" if name is None else str(name)


def joined(trace: Trace) -> tuple[list[tuple[LLMStep, list[ProposedCall]]], list[Span]]:
    """Return the steps, each with the calls that it proposed and their spans, and the spans that no step proposed.

    A call takes the first span of its id that is left: nothing keeps a foreign record from giving one id twice. A span
    without an id, which only a foreign record has, stands after the calls of its step, as one of them.
    """
    waiting: dict[str | None, deque[Span]] = {}
    for span in trace.spans:
        waiting.setdefault(span.call_id, deque()).append(span)

    def span_of(call: ToolCall) -> Span | None:
        found = waiting.get(call.call_id)
        return found.popleft() if found else None

    unnamed: dict[str | None, list[ProposedCall]] = {step.step_id: [] for step in trace.llm_steps}
    for span in (without_id := waiting.pop(None, ())):
        unnamed.get(span.parent_span_id, []).append((None, span))
    waiting[None] = deque(span for span in without_id if span.parent_span_id not in unnamed)
    steps = [
        (step, [*((call, span_of(call)) for call in step.tool_calls or ()), *unnamed.pop(step.step_id, ())])
        for step in trace.llm_steps
    ]
    left = {id(span) for spans in waiting.values() for span in spans}
    return steps, [span for span in trace.spans if id(span) in left]


def _end(outcome: Outcome) -> Iterator[tuple[str, str]]:
    yield "", ""
    yield "bold", f"ended: {outcome.ended}" + (f" ({outcome.detail})" if outcome.detail else "")
    if outcome.repeating_steps:
        what = "1 reply" if outcome.repeating_steps == 1 else f"{outcome.repeating_steps} replies"
        yield "dim", f"  {what} ended in a repetition"
    for verdict in outcome.verdicts:
        style = {"passed": "green", "failed": "red"}.get(verdict.verdict, "yellow")
        reason = f": {verdict.reason}" if verdict.reason else ""
        yield style, f"  {verdict.aspect}: {verdict.verdict}{reason}"
    if outcome.patch:
        lines = outcome.patch.removesuffix("\n").split("\n")
        yield from _block("", "patch", "\n".join(lines[:_PATCH_LINES]))
        if len(lines) > _PATCH_LINES:
            yield "dim", f"    {len(lines) - _PATCH_LINES} more lines"
    elif outcome.patch == "":
        yield "dim", "  no file was changed"
    if outcome.patch_note:
        yield "dim", f"  {outcome.patch_note}"


def _step(step: LLMStep, calls: list[ProposedCall]) -> Iterator[tuple[str, str]]:
    tokens = f"{step.input_tokens} -> {step.output_tokens} tokens" if step.output_tokens is not None else "no count"
    yield "", ""
    if step.counted_tokens:
        tokens += f" ({step.counted_tokens} counted)"
    took = "duration unknown" if step.duration_ms is None else f"{step.duration_ms:.1f} ms"
    yield "bold", f"step {step.step_number}  {took}, {tokens}, {step.finish_reason or 'end unknown'}"
    for failure in step.failed_tries or ():
        yield "yellow", f"    no reply: {failure}"
    if step.reasoning_content:
        yield from _block("italic dim", "thinks", step.reasoning_content.rstrip("\n"))
    if step.model_output:
        yield from _block("", "says", step.model_output)
    for call, span in calls:
        if call is not None and span is None:
            yield from _block("yellow", f"proposes {call.name}", call.arguments)
        if span is None:
            continue
        yield from _block("bold cyan", span.tool_name, span.tool_input)
        yield from _block("", "result", span.tool_output)
        yield "dim", f"    {_cost(span)}"
    for ignored in step.ignored_calls or ():
        yield from _block("yellow", "calls, which this agent does not read", ignored)
    if step.answered:
        yield from _block("yellow", "answered", step.answered)


def _cost(span: Span) -> str:
    if span.telemetry.method == "no-process":
        return f"[{span.status}, no process]"
    took = "" if span.duration_ms is None else f"{span.duration_ms:.1f} ms"
    parts = (span.status, took, _figures(span.telemetry), span.telemetry.method)
    return f"[{', '.join(part for part in parts if part)}]"


def _figures(telemetry: Telemetry) -> str:
    parts = []
    if telemetry.cpu_user_ns is not None and telemetry.cpu_system_ns is not None:
        parts.append(f"CPU {(telemetry.cpu_user_ns + telemetry.cpu_system_ns) / 1e6:.1f} ms")
    if telemetry.max_rss_bytes is not None:
        hidden = telemetry.max_rss_bytes <= (telemetry.peak_rss_floor_bytes or 0)
        parts.append(f"peak {'at most ' if hidden else ''}{telemetry.max_rss_bytes / _MIB:.1f} MiB")
    if telemetry.read_bytes is not None and telemetry.write_bytes is not None:
        parts.append(f"disk read {telemetry.read_bytes} B, write {telemetry.write_bytes} B")
    throttled_ns = telemetry.cfs_throttled_ns or 0  # of 0 and of what is not known nothing is said
    if throttled_ns >= _TOLD_NS:
        parts.append(f"throttled {throttled_ns / 1e6:.0f} ms")
    if (waited_ns := (telemetry.runqueue_wait_ns or 0) - throttled_ns) >= _TOLD_NS:
        known = isinstance(telemetry.cfs_throttled_ns, int)
        parts.append(f"waited {waited_ns / 1e6:.0f} ms for a processor{'' if known else ' or its limit'}")
    if telemetry.leftover_count:
        parts.append(f"{telemetry.leftover_count} left running and killed ({', '.join(telemetry.leftover_names)})")
    return ", ".join(parts)


def _block(style: str, title: str, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n")):
        yield style, f"  {title if number == 0 else '':>10} | {line}"


def printable(text: str) -> str:
    """Return the text with control and format characters escaped, so that a terminal only ever shows it."""
    return "".join(
        char if char in _KEEP or char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


QUIET = "AGENTTRACE_QUIET"
"""Set where nothing but results and errors is printed; containers of the kit are given it, too."""


def is_plain() -> bool:
    """Return whether a terminal gets no escape codes: the user set `NO_COLOR`, or `TERM` says that it knows none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM", "").lower() in {"dumb", "unknown"}


class _Hushed:
    quiet = False
    results = False


def hush(*, quiet: bool, results: bool) -> None:
    """Print what goes on (`say`) no more, or lines of results (`tell`), such as where JSON takes their place."""
    _Hushed.quiet, _Hushed.results = quiet, results


def is_quiet() -> bool:
    """Return whether nothing but results and errors is printed."""
    return _Hushed.quiet or bool(os.environ.get(QUIET))


def agrees(question: str) -> bool:
    """Ask a person at a terminal something that is answered with yes or no; who cannot be asked does not agree."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}


def say(text: str) -> None:
    """Print one line of what goes on on standard error, with nothing in it that could drive a terminal."""
    if not is_quiet():
        complain(text)


def complain(text: str) -> None:
    """Print one line of what is wrong on standard error, likewise, whoever wants it quiet."""
    print(f"agenttrace: {printable(text)}", file=sys.stderr, flush=True)  # noqa: T201 - for people


def tell(text: str) -> None:
    """Print one line of a result on standard output, likewise."""
    if not _Hushed.results:
        sys.stdout.write(f"{printable(text)}\n")


def counted(number: int, what: str) -> str:
    """Return a number with what it counts: `no findings`, `1 finding`, `2 findings`."""
    return f"{number or 'no'} {what}{'s' * (number != 1)}"


def have_streams() -> None:
    """Let what was closed by who started this (`>&-`) lead nowhere: a file opened next would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the process ends


def escape_what_no_terminal_here_shows() -> None:
    """Let standard output escape the letters that its encoding lacks (a locale without UTF-8) instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
