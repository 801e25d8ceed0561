"""Judges a shell task against its reference command: exit status, standard output and final state, never blended.

The reference runs in a pristine tree of its own, under the same clock, after the run it judges. What a run did is its
last `bash` call and the tree it left. An aspect that two runs of the reference need not agree on is `not_gradable`,
with the reason that the policy table gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from agenttrace.records import Output, Record, Span, StateChange, Verdict
from agenttrace.tasks.bench import UNRECORDED, judged, named

if TYPE_CHECKING:
    from agenttrace.sandbox.reports import CallReport
    from agenttrace.tasks import Finished
    from agenttrace.tasks.bench import Bench

EXIT_METHOD = "reference-exit-status-v1"
STDOUT_METHOD = "reference-stdout-v2"
SORTED_METHOD = "reference-stdout-sorted-lines-v2"
STATE_METHOD = "reference-state-v1"
LIMIT_MS = 15_000

Grade = Literal["exact", "sorted"]


class GradingPolicy(Record, frozen=True, kw_only=True):
    """How one task is graded.

    Attributes:
        origin: file system and record number in the source files, such as `2.42`.
        effect: what the reference does: `R` reads, `W` writes under the roots, `X` writes elsewhere, `I` means to
            change something and changes nothing, `S` changes the shell's folder only.
        flags: what its result depends on; the letters are explained in the table.
        stdout: `sorted` where the order of lines follows the order in which a folder lists its entries.
        skip: per aspect (`exit_status`, `stdout`, `state`) the reason why it is not gradable.
        content_ignored: paths of which existence and type count, the content does not.
    """

    origin: str
    effect: Literal["R", "W", "X", "I", "S"]
    flags: str = ""
    stdout: Grade = "exact"
    skip: dict[str, str] = msgspec.field(default_factory=dict)
    content_ignored: tuple[str, ...] = ()


class Observed(Record, frozen=True, kw_only=True):
    """What a command did; `exit_status` is `None` when there was no command."""

    exit_status: int | None
    status: str = "ok"
    stdout: Output | None = None
    stderr: Output | None = None
    changes: tuple[StateChange, ...] | None = None

    @property
    def text(self) -> str:
        """Both streams, the standard output first."""
        if self.status == "timeout":
            return "Command timed out"
        return "".join(stream.text or "" for stream in (self.stdout, self.stderr) if stream is not None)

    @property
    def cut(self) -> bool:
        """Whether `text` lacks some of what was written."""
        streams = [stream for stream in (self.stdout, self.stderr) if stream is not None]
        return self.status != "timeout" and any(stream.bytes_kept < stream.bytes_total for stream in streams)


def run_gold(bench: Bench, command: str) -> Observed:
    """Return what the reference does in a pristine tree."""
    bench.before()
    bench.pristine()
    report = bench.call("bash", command, limit_ms=LIMIT_MS)
    return observed(report, bench.changes())


def observed(call: CallReport | Span, changes: tuple[StateChange, ...] | None) -> Observed:
    """Return a call, and the tree after it, in the judge's form."""
    return Observed(
        exit_status=call.exit_code,
        status=call.status,
        stdout=call.stdout,
        stderr=call.stderr,
        changes=changes,
    )


def last_call(finished: Finished) -> Observed:
    """Return what a run did: its last `bash` call that was carried out, and the tree at its end."""
    for span in reversed(finished.spans):
        if span.tool_name == "bash" and span.status not in {"not_executed", "lost"}:
            return observed(span, finished.outcome.changes)
    return Observed(exit_status=None, changes=finished.outcome.changes)


def verdicts(policy: GradingPolicy, run: Observed, gold: Observed) -> tuple[Verdict, ...]:
    """Return the verdicts `exit_status`, `stdout` and `state` of a run against its reference."""
    stdout_method = SORTED_METHOD if policy.stdout == "sorted" else STDOUT_METHOD
    found = (
        judged("exit_status", EXIT_METHOD, _exit_problem(run, gold)),
        judged("stdout", stdout_method, _stdout_problem(policy, run, gold)),
        judged("state", STATE_METHOD, _state_problem(policy, run, gold)),
    )
    return tuple(_unless_skipped(verdict, policy, gold) for verdict in found)


def _unless_skipped(verdict: Verdict, policy: GradingPolicy, gold: Observed) -> Verdict:
    reasons = {**policy.skip}
    if gold.status != "ok":
        reasons = dict.fromkeys(("exit_status", "stdout", "state"), f"the reference did not end ({gold.status})")
    elif verdict.aspect == "stdout" and gold.stdout is not None and gold.stdout.bytes_kept < gold.stdout.bytes_total:
        reasons.setdefault("stdout", f"the reference wrote {gold.stdout.bytes_total} bytes, more than are compared")
    elif verdict.aspect == "state" and gold.changes is None:
        reasons.setdefault("state", "the reference changed more than is compared")
    if verdict.aspect not in reasons:
        return verdict
    return msgspec.structs.replace(verdict, verdict="not_gradable", reason=reasons[verdict.aspect])


def _exit_problem(run: Observed, gold: Observed) -> str | None:
    if run.exit_status is None:
        return "no bash call was carried out"
    if run.status != "ok":
        return f"the last bash call was stopped ({run.status})"
    if run.exit_status != gold.exit_status:
        return f"exit status {run.exit_status}, the reference's is {gold.exit_status}"
    return None


def _stdout_problem(policy: GradingPolicy, run: Observed, gold: Observed) -> str | None:
    if run.stdout is None or gold.stdout is None:
        return "no bash call was carried out"
    if run.stdout.bytes_kept < run.stdout.bytes_total:
        return f"{run.stdout.bytes_total} bytes, the reference wrote {gold.stdout.bytes_total}"
    if run.stdout.encoding != gold.stdout.encoding:
        return "one of the two is not valid UTF-8"
    lines = [(stream.text or "").split("\n") for stream in (run.stdout, gold.stdout)]
    if policy.stdout == "sorted":
        lines = [sorted(found) for found in lines]
    if lines[0] == lines[1]:
        return None
    if len(lines[0]) != len(lines[1]):
        return f"{len(lines[0]) - 1} lines, the reference wrote {len(lines[1]) - 1}"
    number = next(n for n, (left, right) in enumerate(zip(*lines, strict=True), 1) if left != right)
    return f"line {number}{' after sorting' if policy.stdout == 'sorted' else ''} differs from the reference's"


def _state_problem(policy: GradingPolicy, run: Observed, gold: Observed) -> str | None:
    if run.changes is None:
        return UNRECORDED
    ours, theirs = (_facts(policy, changes) for changes in (run.changes, gold.changes or ()))
    wrong = [path for path in sorted({*ours, *theirs}) if ours.get(path) != theirs.get(path)]
    return f"other than the reference left it: {named(wrong)}" if wrong else None


def _facts(policy: GradingPolicy, changes: tuple[StateChange, ...]) -> dict[str, StateChange]:
    return {
        change.path: msgspec.structs.replace(change, size=None, sha256=None)
        if change.path in policy.content_ignored
        else change
        for change in changes
    }
