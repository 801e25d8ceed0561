"""Records that were made up for the jobs of a plan, with the replies that they came of, and attempts that log them."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from agenttrace.cluster.parts import ShardLog
from agenttrace.records import Outcome, Trace
from agenttrace.serving.cassette import Exchange


def trace(plan, job, *, ended="final_answer", by=""):
    """Return the record of a job; `by` is measured."""
    return Trace(
        trace_id=plan.trace_id(job), timestamp_utc="2026-11-02T00:00:00.000000+00:00", prompt=plan.prompt(job),
        model=plan.spec.model.name, spans=(), llm_steps=(), total_duration_ms=1.0, metadata=plan.metadata(job),
        environment={"by": by}, outcome=Outcome(ended=ended),
    )  # fmt: skip


def turns(plan, job, by=""):
    """Return the one request and reply of a job."""
    reply = {"content": f"{job.task_id}/{job.rollout} {by}", "finish_reason": "stop"}
    system = {"role": "system", "content": "Be short."}
    asked = (system, {"role": "user", "content": plan.prompt(job)})
    return (Exchange(fixed={"model": plan.spec.model.name, "seed": 1}, messages=asked, kind="reply", result=reply),)


class Attempt:
    """One attempt at a shard: opens its log, and makes what it is asked to.

    Args:
        by: told in every record and reply.
    """

    def __init__(self, run, plan, shard, folder, *, by="", facts=None, **options):
        self.plan, self.by = plan, by
        self._open = contextlib.ExitStack()
        scratch = Path(self._open.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        planned = [plan.trace_id(job) for job in plan.jobs()]
        self.log = ShardLog(run, shard, planned, scratch=scratch, facts=facts or {"sandbox": ["a"]}, **options)

    def make(self, most=None):
        """Make records that are not there, so many at most, and return how many."""
        count = 0
        for job in self.plan.jobs():
            if self.plan.trace_id(job) not in self.log.ids and (most is None or count < most):
                self.log.tapes.append(self.plan.trace_id(job), turns(self.plan, job, self.by))
                self.log.append(self.plan.trace_id(job), trace(self.plan, job, by=self.by))
                count += 1
        return count

    def __enter__(self):
        self.log.__enter__()
        return self

    def __exit__(self, *error):
        with self._open:
            self.log.__exit__(*error)
