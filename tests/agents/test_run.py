"""What a run keeps of its own clocks."""

from __future__ import annotations

import time
from types import SimpleNamespace

from agenttrace.agents import run
from agenttrace.agents.run import RunLog
from agenttrace.serving.model import UnparsableReplyError


def test_a_wall_clock_that_is_set_back_under_a_reply_nobody_can_read_makes_it_no_shorter(monkeypatch):
    told = iter(range(2 * 10**18, 0, -(10**12)))
    clock = SimpleNamespace(monotonic_ns=time.monotonic_ns, time_ns=lambda: next(told))
    monkeypatch.setattr(run, "time", clock)

    def complete():
        raise UnparsableReplyError("broken")

    reply = RunLog("t", lambda _: None).asked(complete)
    assert (reply.start_ns, reply.end_ns - reply.start_ns) == (2 * 10**18, reply.elapsed_ns)
