"""Judges the records of a file again inside the collector container, with a sandbox worker for the references."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.campaign.workers import WorkerPool
from agenttrace.errors import UsageError
from agenttrace.show import say
from agenttrace.store.jsonl import RecordLog, write_whole
from agenttrace.store.opening import opened
from agenttrace.store.read import is_compressed, plain_file, read_run_spec, run_spec_path
from agenttrace.tasks import set_name, task_set
from agenttrace.tasks.bench import Bench
from agenttrace.tasks.judging import matching_set, recorded, rejudged

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.records import Verdict
    from agenttrace.tasks.judging import Rejudged


def judge(file: Path, *, sockets: Path, trees: Path | None = None, check: bool = False) -> int:
    """Judge every trace of a file again and return the exit status.

    Args:
        file: the record file; its run spec lies beside it. It is replaced as a whole, or not at all.
        sockets: where sandbox workers listen.
        trees: prepared tasks over checkouts.
        check: only compare: the status is 1 when a verdict or a score differs, and nothing is written. What another
            version of a method decided is told, and is no difference.

    Raises:
        AgentTraceError: the file, its task set, its fixture or a worker cannot be had.
    """
    if check:
        return 1 if any(found.differs for found in _judged(file, sockets, trees)) else 0
    with opened(file) as head:
        if is_compressed(head.peek(4)):
            raise UsageError(
                f"{file} is compressed, and verdicts are written into plain files: unpack it, or use --check"
            )
    with RecordLog(file) as log:  # nobody appends meanwhile
        if log.torn_bytes:
            say(f"cut off a torn last line of {log.torn_bytes} bytes, left by a killed session")
        found = _judged(file, sockets, trees)
        if any(one.before != one.after for one in found):
            write_whole(file, b"".join(one.line for one in found))
    return 0


def _judged(file: Path, sockets: Path, trees: Path | None) -> list[Rejudged]:
    spec = read_run_spec(run_spec_path(file))
    chosen = task_set(set_name(spec.dataset), trees=trees)
    tasks = matching_set(chosen, spec)
    with plain_file(file) as plain:
        lines = [(line, f"{file}, line {number}") for number, line in enumerate(plain, start=1)]
    for line, where in lines:  # a damaged line ends it now, not after an hour of references
        recorded(line, tasks, where)
    pool = WorkerPool(sockets)
    bench = Bench(pool.connect(), spec.sandbox, connect=pool.connect)
    found = [rejudged(line, chosen, tasks, bench, where, sandbox=spec.sandbox) for line, where in lines]
    bench.worker.close()
    for one in found:
        _tell(one)
    left = sum(one.before.changes is None and not isinstance(one.before.patch, str) for one in found)
    sys.stdout.buffer.write(msgspec.json.encode(_found(found)))
    say(
        f"{len(found)} traces judged again, {sum(one.differs for one in found)} differ"
        + _dated([pair for one in found for pair in one.dated])
        + (f"; {left} left as they are: their final state is not recorded" if left else "")
    )
    return found


def _found(judged: list[Rejudged]) -> dict[str, Any]:
    """Return what was found, for programs: verdicts before and after of every trace of which one changed."""
    changed = [one for one in judged if one.before != one.after]
    rows = [
        {
            "trace_id": one.trace_id,
            "task_id": one.task_id,
            "differs": one.differs,
            "before": one.before.verdicts,
            "after": one.after.verdicts,
        }
        for one in changed
    ]
    return {"traces": len(judged), "differ": sum(one.differs for one in judged), "changed": rows}


def _dated(pairs: list[tuple[Verdict, Verdict]]) -> str:
    """Return what to say of verdicts that another version of their method gave; nothing where there are none."""
    if not pairs:
        return ""
    methods = sorted({f"{old.method}, which is {new.method} here" for old, new in pairs})
    changed = sum(old.verdict != new.verdict for old, new in pairs)
    return f"; {len(pairs)} verdicts are by {' and '.join(methods)}: {changed} of these are another now"


def _tell(one: Rejudged) -> None:
    """Say in which verdicts and scores a trace differs from what was recorded."""
    old = {verdict.aspect: verdict for verdict in one.before.verdicts}
    new = {verdict.aspect: verdict for verdict in one.after.verdicts}
    dated = {verdict.aspect for verdict, now in one.dated if verdict.verdict == now.verdict}
    for aspect in dict.fromkeys([*old, *new]):
        if old.get(aspect) != new.get(aspect) and aspect not in dated:
            say(f"task {one.task_id}, {aspect}: {_shown(old.get(aspect))}, now {_shown(new.get(aspect))}")
    if [*one.before.scores.values()] != [*one.after.scores.values()]:
        say(f"task {one.task_id}, scores: {one.before.scores}, now {one.after.scores}")


def _shown(verdict: Verdict | None) -> str:
    if verdict is None:
        return "none"
    reason = f", {verdict.reason}" if verdict.reason else ""
    return f"{verdict.verdict} ({verdict.method}{reason})"
