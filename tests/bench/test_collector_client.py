"""The client in a collector's container: what becomes of its answers, and of its end."""

import contextlib
import subprocess
import sys
import tempfile

import pytest

from agenttrace.errors import WorkerLostError
from bench.sandbox import calls, collector_client

ANSWERS = """
import json, sys
print(json.dumps({"python": "/work", "c": "/work"}), flush=True)
for line in sys.stdin:
    helper, what, *given = json.loads(line)
    if what == "ping":
        sys.exit("no such worker")
    print(json.dumps([2.5] if what == "reset" else [1.5] * given[0]), flush=True)
"""


@pytest.fixture
def exits():
    with contextlib.ExitStack() as stack:
        yield stack


def client(code, stack):
    errors = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed by the stack
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
    )
    stack.callback(collector_client._stop, process, "none")
    return collector_client.Client(process, errors)


def test_a_turn_gives_the_samples_and_an_end_says_why(exits):
    found = client(ANSWERS, exits)
    assert found.helpers == ["c", "python"]
    assert found.turn("c", "call", 3) == [1.5, 1.5, 1.5]
    assert found.reset("c", "small", "rm -r src") == 2.5
    with pytest.raises(WorkerLostError, match="no such worker"):
        found.turn("c", "ping", 1)


def test_a_client_that_does_not_start_says_why(exits):
    with pytest.raises(WorkerLostError, match="no python here"):
        client("import sys; sys.exit('no python here')", exits)


def test_the_target_is_for_the_call_over_the_socket():
    sides = {"host": 1, "container": 1.5, "exec": 60, "ping": 0.1, "pipe ping": 0.3, "c": 2.25, "pipe c": 9, "basic": 2}
    rows = calls._overhead_rows({name: [float(value)] for name, value in sides.items()}, ["c"], desktop=False)
    judged = {row.name: (row.median, row.verdict) for row in rows if row.target is not None}
    assert judged == {
        "… over subprocess.run, c helper": (0.75, "met"),
        "… as a share of subprocess.run, c helper": (0.5, "met"),
        "ping from a collector": (0.1, "met"),
    }
    assert sum("pipes" in row.name for row in rows) == 2
    hours = {row.name: row.median for row in rows if row.unit == "h"}
    assert hours["per 10⁶ rollouts of 150 calls: hours added by c helper"] == pytest.approx(31.25)  # 0.75 ms a call
