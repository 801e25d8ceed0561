"""Whole campaigns through the real containers whose model does to its worker what it can: each task has its record."""

from __future__ import annotations

import json

import pytest

from agenttrace.store.read import read_traces
from agenttrace.testing import ScriptedServer, says
from agenttrace.validate import Validation

pytestmark = [pytest.mark.docker, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(1800)]

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
BASH_SWARM = """
echo 0 >/proc/self/oom_score_adj
exec 3< <(sleep 20)
for ((i = 0; i < 235; i++)); do { printf -v x %012000000d 0; read -r -u 3; } & done 2>/dev/null
wait
"""
BASH_FILES = """
for d in /tmp /testdata; do
    n=0
    while : >$d/f$n; do n=$((n + 1)); done
    echo "$d held $n"
done
"""
SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


def python(code):
    return says(calls=[("python_interpreter", json.dumps({"code": code}))])


def bash(code):
    return says(f"```bash\n{code.strip()}\n```")


def playing(parts, end):
    """Return a script: each task, told apart by what it asks, makes the calls of one of the parts; then it ends."""
    tasks = {}

    def script(messages):
        part = tasks.setdefault(messages[1]["content"], len(tasks))
        calls, done = parts[part] if part < len(parts) else (), len(messages) // 2 - 1
        return calls[done] if done < len(calls) else end

    return script


def campaign(instance, script, verb, *arguments):
    with ScriptedServer(script, address=("0.0.0.0", 0)) as server:
        url = server.base_url.replace("127.0.0.1", "localhost")
        more = ("--base-url", url, "--output", instance.records)
        ended = instance.run(verb, "scripted/hostile-1B", *arguments, *more, within_s=1500)
    assert ended.returncode == 0, ended.stderr
    assert not instance.failures.exists()
    assert [one.rule for one in Validation(instance.records)] == []
    assert "given up (infrastructure)" in ended.stderr
    return list(read_traces(instance.records))


def test_a_swarm_a_million_files_and_two_million_links_each_end_their_own_call_alone(instance):
    parts = (
        [python(SWARM)],
        [python(FILES.replace("FOLDER", repr(folder))) for folder in ("/tmp", "/var/tmp", "/dev/shm")],
        [python(LINKS.replace("START", str(number))) for number in range(4)],
    )
    end = says(calls=[("final_answer", json.dumps({"answer": "20"}))])
    traces = campaign(instance, playing(parts, end), "collect", "--dataset", "demo", "-n", 4)
    assert [trace.outcome.ended for trace in traces] == ["final_answer"] * 4
    swarm, files, links, after = traces
    assert [span.status for span in swarm.spans] == ["oom", "not_executed"]
    assert all("No space left on device" in span.stdout.text for span in files.spans[:-1])
    assert {span.status for span in links.spans} <= {"ok", "timeout", "not_executed"}
    assert after.prepare_ms > 0


def test_nor_does_any_of_it_end_a_task_over_a_checkout(instance):
    parts = ([bash(BASH_SWARM)], [bash(BASH_FILES)])
    traces = campaign(instance, playing(parts, bash(SUBMIT)), "rollouts", "--rollouts", 1, "--sampler", "greedy")
    assert {trace.outcome.ended for trace in traces} == {"final_answer"}
    by_status = [[span.status for span in trace.spans] for trace in traces]
    assert by_status[:3] == [["oom", "ok"], ["ok", "ok"], ["ok"]]
    assert traces[1].spans[0].stderr.text.count("No space left on device") == 2
