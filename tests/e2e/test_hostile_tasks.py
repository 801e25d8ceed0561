"""Whole campaigns through the real containers whose model does to its worker what it can: each task has its record."""

from __future__ import annotations

import json

import pytest

from agenttrace.store.read import read_traces
from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1800)]

SWARM = """
import os, time
try:
    open("/proc/self/oom_score_adj", "w").write("0")
except OSError as error:
    print(error)
for _ in range(235):
    if os.fork() == 0:
        held = b"x" * (6 << 20)
        time.sleep(20)
        os._exit(0)
time.sleep(20)
"""
FILES = """
import os
os.chdir(FOLDER)
made = 0
try:
    while made < 1_000_000:
        os.close(os.open(f"f{made}", os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as error:
    print(error)
print("made", made)
"""
LINKS = """
import os, time
start, made = time.monotonic(), 0
os.mkdir(f"many{START}")
os.chdir(f"many{START}")
while made < 500_000 and time.monotonic() - start < 27:
    open(f"{made}", "x").close()
    for number in range(made + 1, made + 50_000):
        os.link(f"{made}", f"{number}")
    made += 50_000
print("made", made)
"""
CALLS = (
    [SWARM],
    [FILES.replace("FOLDER", repr(folder)) for folder in ("/tmp", "/var/tmp", "/dev/shm")],
    [LINKS.replace("START", str(number)) for number in range(4)],
)


PARTS: dict[str, int] = {}


def script(messages):
    """Play one part a task: it makes its calls, then answers; the tasks are told apart by what they ask."""
    part = PARTS.setdefault(messages[1]["content"], len(PARTS))
    calls, done = CALLS[part % len(CALLS)], sum(message["role"] == "tool" for message in messages)
    if part >= len(CALLS) or done == len(calls):
        return says(calls=[("final_answer", json.dumps({"answer": "20"}))])
    return says(calls=[("python_interpreter", json.dumps({"code": calls[done]}))])


def test_a_swarm_a_million_files_and_two_million_links_each_end_their_own_call_alone(instance):
    with ScriptedServer(script, address=("0.0.0.0", 0)) as server:
        url = server.base_url.replace("127.0.0.1", "localhost")
        arguments = ("collect", "scripted/hostile-1B", "--dataset", "demo", "-n", 4, "--base-url", url)
        ended = instance.run(*arguments, "--output", instance.records, within_s=1500)
    traces = list(read_traces(instance.records))
    assert ended.returncode == 0, ended.stderr
    assert [trace.outcome.ended for trace in traces] == ["final_answer"] * 4
    assert not instance.failures.exists()
    swarm, files, links, after = traces
    assert [span.status for span in swarm.spans] == ["oom", "not_executed"]
    assert all("No space left on device" in span.stdout.text for span in files.spans[:-1])
    assert {span.status for span in links.spans} <= {"ok", "timeout", "not_executed"}
    assert after.prepare_ms > 0
    assert [one.rule for one in Validation(instance.records)] == []
    assert "given up (infrastructure)" in ended.stderr
