"""Whole campaigns through the real containers against a server of all kinds of odd replies, with the real pauses."""

from __future__ import annotations

import json

import pytest

from agenttrace.store.read import read_traces
from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation
from tests.odd_replies import draw

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
VERBS = {
    "collect": (
        ("-n", 25, "--rollouts", 8, "--dataset", "demo"),
        says(calls=[("bash", json.dumps({"command": "ls"}))]),
        says(calls=[("final_answer", json.dumps({"answer": "20"}))]),
    ),
    "rollouts": (("--rollouts", 25), says("```bash\nls\n```"), says(f"```bash\n{SUBMIT}\n```")),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", VERBS)
def test_every_task_gets_a_record_that_shows_what_was_odd(instance, verb):
    arguments, first, last = VERBS[verb]
    drawn, served, turns = draw(11), [], iter(range(1_000_000))

    def script(messages):
        if next(turns) % 3 < 2:
            return last if len(messages) > 2 else first
        served.append(next(drawn))
        return served[-1].reply

    with ScriptedServer(script, address=("0.0.0.0", 0), remember=False) as server:
        url = server.base_url.replace("127.0.0.1", "localhost")
        more = ("--base-url", url, "--workers", 4, "--output", instance.records)
        ended = instance.run(verb, "scripted/odd-1B", *arguments, *more)
    assert ended.returncode == 0, ended.stderr
    records = list(read_traces(instance.records))
    assert len({trace.trace_id for trace in records}) == len(records) == 200
    kept = instance.records.read_text() + (instance.failures.read_text() if instance.failures.exists() else "")
    assert [one for one in served if one.mark and one.mark.removeprefix("odd") not in kept] == []
    assert "requests sent again" in ended.stderr
    assert list(Validation(instance.records)) == []
