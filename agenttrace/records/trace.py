"""The data model of a trace, schema 1.2.0.

A record file is JSON Lines: one `Trace` a line. The eight top-level keys of AgentTrace 0.3.0 (`trace_id`,
`timestamp_utc`, `prompt`, `model`, `spans`, `llm_steps`, `total_duration_ms`, `metadata`) keep their place and meaning;
`environment` and `outcome` are new. All structures are immutable. `None` means "not measured" or "does not apply";
0 means zero. `MEASURED` marks what is taken from clocks and counters; every other field is the same in every replay.

Fields of 1.1.0 and 1.2.0 are absent (`UNSET`) where a record has no use for them or is older than they are, so a trace
of an earlier version reads and writes as it is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.records.base import MEASURED, Record
from agenttrace.records.generation import LLMStep

Later = Annotated[int | UnsetType | None, MEASURED]
"""A figure that records of earlier versions have not."""


class Telemetry(Record, frozen=True, kw_only=True):
    """What one tool call cost: its whole process tree and nothing else.

    The first five fields are those of AgentTrace 0.3.0. Sources: `getrusage(RUSAGE_CHILDREN)` and `/proc/self/io` of
    the helper process that forked the call and reaped all of its descendants.

    Attributes:
        user_time_s: CPU time in user mode, seconds. The split user/system is tick-scaled: noise below about 50 ms.
        system_time_s: CPU time in the kernel, seconds.
        max_rss_bytes: resident set of the largest single process (not the sum), bytes.
        read_bytes: bytes fetched from the block layer; 0 when the page cache had them.
        write_bytes: bytes dirtied in the page cache of disk-backed files (4 KiB granularity); 0 on tmpfs.
        method: how the figures were taken: `c-helper`, `python-helper`, `no-process` when the call started no process
            (its cost is then exactly zero), `not-measured` when there are none (the worker was lost with them, or the
            record was read from a format without any), or `foreign` when another collector measured them, by the rules
            of its own format.
        wall_ns: monotonic time from before the fork to the exit of the main process.
        cleanup_ns: monotonic time from that exit until every leftover was dead and reaped.
        cpu_user_ns: as `user_time_s`, nanoseconds.
        cpu_system_ns: as `system_time_s`, nanoseconds.
        cpu_unattributed_ns: container CPU counter minus what the helper and the runner account for; above 20 ms it
            flags work that escaped the accounting (children reaped by the kernel because SIGCHLD was ignored).
        peak_rss_floor_bytes: a peak below this cannot be seen: the forking process's own size.
        cancelled_write_bytes: dirtied bytes that were truncated or unlinked before they reached a disk.
        read_chars: bytes passed to read-like calls, pipes and terminals included.
        write_chars: bytes passed to write-like calls, pipes and terminals included.
        leftover_count: processes still alive when the main one ended; they were killed.
        leftover_names: their command names, at most 16, sorted.
        tree_rss_peak_bytes: largest sum of the resident sets of all living processes of the call, sampled every 20 ms
            by the C helper; shared pages count once per process. `None` for calls shorter than 100 ms.
        tree_rss_samples: how many samples that is the largest of.
        cgroup_memory_peak_bytes: largest memory of the whole tree, page cache and kernel memory included: `memory.peak`
            of the call's own cgroup. `None` unless the sandbox may make cgroups (v2, mounted writable).
        minor_faults: page faults that took no reading (since 1.2.0, as all that follow).
        major_faults: page faults that waited for a disk.
        voluntary_switches: times a process gave up its processor to wait for something.
        involuntary_switches: times a processor was taken from a process that could have gone on.
        read_calls: read-like system calls.
        write_calls: write-like system calls.
        cfs_periods: periods of the container's CPU limit in which something ran.
        cfs_throttled_periods: of these, how many ended with the limit used up.
        cfs_throttled_ns: time for which the limit kept the container from running, added up over processors.
        cpu_pressure_ns: time in which at least one process waited for a processor; whose is in `pressure_scope`.
        memory_pressure_ns: time in which at least one process waited for memory.
        memory_pressure_full_ns: time in which all that were not idle waited for memory.
        io_pressure_ns: time in which at least one process waited for a disk.
        io_pressure_full_ns: time in which all that were not idle waited for a disk.
        pressure_scope: `container` (the call's own, by cgroup v2) or `machine`, everybody's, where there is no other.
        file_refaults: pages of files that were read again soon after memory had run short of them.
        anon_refaults: pages of processes that were swapped in again likewise.
        tree_rss_mean_bytes: mean over `wall_ns` of the sum that `tree_rss_peak_bytes` is the largest of.
        tree_rss_byte_seconds: its area: that mean times seconds.
        tree_rss_series: that sum over time, where it was asked for: at most 64 points of milliseconds since the start
            and bytes, each the most since the point before it.
        processes_started: processes and threads that the call started, its main process among them.
        processes_peak: most processes that were alive at a sample.
        runqueue_wait_ns: time for which processes could run and had no processor, throttling included where the kernel
            counts it so. At least that: of processes that ended unseen between samples nothing is known.
        blocked_ns: time for which nothing could run: wall minus CPU minus `runqueue_wait_ns`. `None` where processes
            ran side by side and that is less than 0.
        network_bytes: sent and received. 0 by construction: a sandbox has no network. `None` where it was not so.
        user_instructions: instructions in user mode (`instructions:u`), where they were asked for.
        cycles: processor cycles in user mode and kernel, likewise.
        counters_reason: why there are no such two, where they were asked for.
    """

    user_time_s: Annotated[float | None, MEASURED]
    system_time_s: Annotated[float | None, MEASURED]
    max_rss_bytes: Annotated[int | None, MEASURED]
    read_bytes: Annotated[int | None, MEASURED]
    write_bytes: Annotated[int | None, MEASURED]
    method: Literal["c-helper", "python-helper", "no-process", "not-measured", "foreign"]
    wall_ns: Annotated[int | None, MEASURED] = None
    cleanup_ns: Annotated[int | None, MEASURED] = None
    cpu_user_ns: Annotated[int | None, MEASURED] = None
    cpu_system_ns: Annotated[int | None, MEASURED] = None
    cpu_unattributed_ns: Annotated[int | None, MEASURED] = None
    peak_rss_floor_bytes: Annotated[int | None, MEASURED] = None
    cancelled_write_bytes: Annotated[int | None, MEASURED] = None
    read_chars: Annotated[int | None, MEASURED] = None
    write_chars: Annotated[int | None, MEASURED] = None
    leftover_count: Annotated[int | None, MEASURED] = None
    leftover_names: Annotated[tuple[str, ...], MEASURED] = ()
    tree_rss_peak_bytes: Annotated[int | None, MEASURED] = None
    tree_rss_samples: Annotated[int | None, MEASURED] = None
    cgroup_memory_peak_bytes: Annotated[int | None, MEASURED] = None
    minor_faults: Later = UNSET
    major_faults: Later = UNSET
    voluntary_switches: Later = UNSET
    involuntary_switches: Later = UNSET
    read_calls: Later = UNSET
    write_calls: Later = UNSET
    cfs_periods: Later = UNSET
    cfs_throttled_periods: Later = UNSET
    cfs_throttled_ns: Later = UNSET
    cpu_pressure_ns: Later = UNSET
    memory_pressure_ns: Later = UNSET
    memory_pressure_full_ns: Later = UNSET
    io_pressure_ns: Later = UNSET
    io_pressure_full_ns: Later = UNSET
    pressure_scope: Annotated[Literal["container", "machine"] | UnsetType | None, MEASURED] = UNSET
    file_refaults: Later = UNSET
    anon_refaults: Later = UNSET
    tree_rss_mean_bytes: Later = UNSET
    tree_rss_byte_seconds: Later = UNSET
    tree_rss_series: Annotated[tuple[tuple[int, ...], ...] | UnsetType | None, MEASURED] = UNSET
    processes_started: Later = UNSET
    processes_peak: Later = UNSET
    runqueue_wait_ns: Later = UNSET
    blocked_ns: Later = UNSET
    network_bytes: Later = UNSET
    user_instructions: Later = UNSET
    cycles: Later = UNSET
    counters_reason: Annotated[str | UnsetType | None, MEASURED] = UNSET


NO_PROCESS = Telemetry(
    user_time_s=0.0,
    system_time_s=0.0,
    max_rss_bytes=0,
    read_bytes=0,
    write_bytes=0,
    method="no-process",
)
"""Telemetry of a call that starts no process, such as `final_answer`: exactly zero."""


NOT_MEASURED = Telemetry(
    user_time_s=None,
    system_time_s=None,
    max_rss_bytes=None,
    read_bytes=None,
    write_bytes=None,
    method="not-measured",
)
"""Telemetry of a call of which it is not known what it cost."""


class Output(Record, frozen=True, kw_only=True):
    r"""One output stream of a call, honest about its bytes.

    Attributes:
        text: what was kept, decoded; `None` in records read from a format that has it in `tool_output` alone.
        bytes_total: bytes the call wrote to the stream.
        bytes_kept: bytes that `text` was decoded from; the middle was cut when this is less than `bytes_total`.
        encoding: `utf-8` when the kept bytes are valid UTF-8, else `backslashreplace` (each bad byte as `\\xNN`).
    """

    text: str | None
    bytes_total: int
    bytes_kept: int
    encoding: Literal["utf-8", "backslashreplace"] = "utf-8"


SpanStatus = Literal["ok", "timeout", "oom", "lost", "not_executed"]


class Span(Record, frozen=True, kw_only=True):
    """One tool call as it was carried out.

    Attributes:
        span_id: UUIDv5 of the trace id and `call_id`.
        type: always `TOOL`.
        tool_name: the name the model used, also when no such tool exists.
        tool_input: the arguments as JSON text (canonical: sorted keys, no blanks).
        tool_output: the text that went back to the model.
        start_ns: wall clock at the start, nanoseconds since the Unix epoch; `None` only in records read from a format
            that does not say.
        end_ns: wall clock at the end, same axis; `None` as above.
        duration_ms: `Telemetry.wall_ns` / 1e6 where a process ran; else the collector's own time; `None` only in
            records read from a format that does not say (since 1.1.0).
        telemetry: what the call cost.
        exit_code: exit status of the main process; 128 + signal when a signal ended it; -1 when nothing was
            executed; `None` as above.
        parent_span_id: `step_id` of the model generation that proposed the call; `None` only in records read from a
            format without that link, for a call that no generation can be found for.
        call_id: joins the span to `ToolCall.call_id`; `None` as above.
        status: `ok` (ran to its end, whatever the exit code), `timeout`, `oom` (killed for memory), `lost` (the worker
            died under it), `not_executed` (unknown tool, malformed arguments, `final_answer`).
        signal: number of the signal that ended the main process.
        stdout: what the call wrote to its standard output.
        stderr: what the call wrote to its standard error.
        cut_chars: characters of the output that `tool_output` leaves out of its middle (since 1.1.0).
    """

    span_id: str
    type: Literal["TOOL"]
    tool_name: str
    tool_input: str
    tool_output: str
    start_ns: Annotated[int | None, MEASURED]
    end_ns: Annotated[int | None, MEASURED]
    duration_ms: Annotated[float | None, MEASURED]
    telemetry: Telemetry
    exit_code: int | None
    parent_span_id: str | None
    call_id: str | None
    status: SpanStatus
    signal: int | None = None
    stdout: Output | None = None
    stderr: Output | None = None
    cut_chars: int | UnsetType | None = UNSET


class Verdict(Record, frozen=True, kw_only=True):
    """One aspect of a task, judged.

    Attributes:
        aspect: what was judged, such as `answer` or `state`.
        verdict: `passed`, `failed` or `not_gradable`.
        method: the rule that decided, with its version.
        reason: why it failed or cannot be graded.
    """

    aspect: str
    verdict: Literal["passed", "failed", "not_gradable"]
    method: str
    reason: str | None = None


def solved(verdicts: tuple[Verdict, ...]) -> bool | None:
    """Return whether every aspect passed; `None` (unknown) when none failed but not all could be graded."""
    found = {verdict.verdict for verdict in verdicts}
    if "failed" in found:
        return False
    return True if found == {"passed"} else None


class StateChange(Record, frozen=True, kw_only=True):
    """One path in which the tree after a run differs from the pristine one; what does not apply is `None`.

    Attributes:
        path: relative to the tree's root.
        type: what it is now; `absent` when it is gone.
        mode: permission bits as four octal digits, of files and folders.
        size: bytes of a file.
        sha256: of a file's content; `None` for files beyond the hashing limit.
        target: of a symbolic link.
    """

    path: str
    type: Literal["file", "dir", "symlink", "other", "absent"]
    mode: str | None = None
    size: int | None = None
    sha256: str | None = None
    target: str | None = None


Ended = Literal[
    "final_answer",
    "max_steps",
    "token_budget",
    "format_error",
    "model_error",
    "sandbox_lost",
    "sandbox_error",
    "internal_error",
    "unknown",
]
EndClass = Literal["model", "budget", "infrastructure"]
END_CLASSES: dict[str, EndClass] = {
    "final_answer": "model",
    "format_error": "model",
    "sandbox_lost": "model",
    "max_steps": "budget",
    "token_budget": "budget",
    "model_error": "infrastructure",
    "sandbox_error": "infrastructure",
    "internal_error": "infrastructure",
}
"""What ended a run: what the model did, a limit of the run spec, or the machines; of `unknown`, nothing is known."""
INFRASTRUCTURE_ENDS: frozenset[str] = frozenset(end for end, kind in END_CLASSES.items() if kind == "infrastructure")
"""Ends that another attempt can differ in: the attempt is recorded apart and the task is run again."""


class Outcome(Record, frozen=True, kw_only=True):
    """How a run ended and whether the task was solved.

    Attributes:
        ended: the stop rule that fired; `sandbox_lost` when the sandbox worker died under the model's calls in
            every attempt; `unknown` only in records read from a format that does not say.
        detail: one sentence on it, where there is more to say.
        final_answer: the answer given, if any; `None` beside `final_answer` where a submission could not be recorded as
            it was printed: `detail` says why.
        verdicts: one per judged aspect.
        solved: every aspect passed; `None` when none failed but not all could be graded.
        scores: figures of other graders, under their own names; they do not count in `solved`.
        changes: how the tree after the run differs from the pristine one: what a judge needs to judge again. `None`
            when it was not observed, or when more changed than a record holds.
        patch: `git diff` of a checkout's final tree against the pristine one, made by the kit; `None` when it could not
            be made (since 1.1.0).
        patch_note: why there is no patch, or what it leaves out (since 1.1.0).
        repeating_steps: replies that end in one short text again and again (since 1.2.0); absent where there are none,
            and in older records.
    """

    ended: Ended
    detail: str | None = None
    final_answer: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    solved: bool | None = None
    scores: dict[str, float] = msgspec.field(default_factory=dict)
    changes: tuple[StateChange, ...] | None = None
    patch: str | UnsetType | None = UNSET
    patch_note: str | UnsetType | None = UNSET
    repeating_steps: Annotated[int | UnsetType, MEASURED] = UNSET


class Totals(Record, frozen=True, kw_only=True):
    """What another format says of a whole run and of none of its steps; `None` where it says nothing.

    Attributes:
        input_tokens: prompt tokens of all requests; a context counts again in each.
        output_tokens: generated tokens.
        cached_tokens: prompt tokens that the server had in its cache, of all requests.
        cost_usd: what the requests cost, US dollars, by the prices of whoever recorded it.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None


class Trace(Record, frozen=True, kw_only=True):
    """One task, run once: a line of a record file.

    Attributes:
        trace_id: UUIDv5 of (run id, dataset, task id, rollout index): the same task of a run always has the same id.
        timestamp_utc: start of the run, ISO 8601 with microseconds and offset; `None` only in records read from a
            format that does not say (since 1.1.0).
        prompt: the task's text as the model got it.
        model: name of the model.
        spans: tool calls in order.
        llm_steps: model generations in order.
        total_duration_ms: monotonic time of the run, reset of the task tree and judging excluded; `None` as above.
        metadata: a pure function of (run spec, task): no clock, host or measurement in it.
        environment: what was observed of the host, the engine and the server; `host_load` and `server_load` are what
            this task ran under (docs/collect.md).
        outcome: how it ended.
        prepare_ms: monotonic time that was waited for the task's tree (since 1.1.0).
        totals: figures of the whole run that a format has which it was read from (since 1.1.0).
    """

    trace_id: str
    timestamp_utc: Annotated[str | None, MEASURED]
    prompt: str
    model: str
    spans: tuple[Span, ...]
    llm_steps: tuple[LLMStep, ...]
    total_duration_ms: Annotated[float | None, MEASURED]
    metadata: dict[str, Any]
    environment: Annotated[dict[str, Any], MEASURED]
    outcome: Outcome
    prepare_ms: Annotated[float | UnsetType | None, MEASURED] = UNSET
    totals: Totals | UnsetType | None = UNSET
