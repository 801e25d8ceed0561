"""A report that is followed: what is written comes once, what is replaced is read anew, and only its page may ask."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

import msgspec
import pytest

from agenttrace.errors import UsageError
from agenttrace.report import follow as follow_module
from agenttrace.report.follow import Followed
from agenttrace.report.serve import serving
from tests.report.records import SCRIPTS, hostile_trace, traces


def line(trace):
    return msgspec.json.encode(trace) + b"\n"


def rows_of(followed, generation="", start=0, files=""):
    found = json.loads(followed.answer(generation, start, files))
    return found, found["rows"]


@pytest.fixture
def said():
    return []


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture
def followed(path, said):
    with Followed(lambda: [path], said.append) as followed:
        yield followed


def entries(followed, number):
    text = gzip.decompress(followed.chunk(followed.generation, number)).decode()
    lines = text.split("\n")
    return list(zip(lines[::2], lines[1::2], strict=False))


def test_what_cannot_be_opened_is_told_once(followed, path, said):
    os.mkfifo(path)
    followed.look()
    followed.look()
    assert said == [f"cannot read {path}: it is a pipe or a device; write what it gives into a file first"]


def test_lines_come_in_once_and_only_whole_ones(followed, path, said):
    followed.look()
    assert followed.traces == 0
    first, second, third = traces(3)
    path.write_bytes(line(first) + line(second)[:100])
    followed.look()
    assert followed.traces == 1
    with path.open("ab") as file:
        file.write(line(second)[100:] + b"\n" + line(third))
    followed.look()
    followed.look()
    told, rows = rows_of(followed)
    assert [row[0] for row in rows] == [first.trace_id, second.trace_id, third.trace_id]
    assert told["files"][0]["name"] == "run.jsonl"
    assert not told["more"]
    assert rows_of(followed, told["generation"], 2, told["version"])[1] == rows[2:]
    assert "files" not in rows_of(followed, told["generation"], 2, told["version"])[0]
    assert [record.encode() + b"\n" for _, record in entries(followed, 0)] == [line(t) for t in (first, second, third)]
    assert said == []


def test_a_first_line_that_is_not_whole_yet_is_waited_for(followed, path, said):
    trace = traces(1)[0]
    for part in (line(trace)[:1], line(trace)[:-1]):
        path.write_bytes(part)
        followed.look()
        assert (followed.traces, said) == (0, [])
    path.write_bytes(line(trace))
    followed.look()
    assert followed.traces == 1


@pytest.mark.parametrize("change", ["another file", "shorter", "other bytes", "gone"])
def test_a_file_that_was_replaced_is_read_anew(followed, path, change):
    first, second, third = traces(3)
    path.write_bytes(line(first) + line(second))
    followed.look()
    generation = followed.generation
    if change == "another file":
        path.with_name("new").write_bytes(line(third) + line(first) + line(second))
        path.with_name("new").replace(path)
    elif change == "shorter":
        path.write_bytes(line(second))
    elif change == "other bytes":
        path.write_bytes(line(third) + line(first) + line(second))
    else:
        path.unlink()
    followed.look()
    told, rows = rows_of(followed, generation, 1)
    expected = [] if change == "gone" else [second] if change == "shorter" else [third, first, second]
    assert told["generation"] != generation
    assert [row[0] for row in rows] == [trace.trace_id for trace in expected]
    assert followed.chunk(generation, 0) is None


def test_a_bad_line_is_said_once_and_the_page_is_partial(followed, path, said):
    path.write_bytes(line(traces(1)[0]) + b"{}\n")
    followed.look()
    path.write_bytes(path.read_bytes() + line(traces(2)[1]))
    followed.look()
    assert followed.traces == 2
    assert len(said) == 1
    assert said[0].startswith(f"{path}, line 2: an object of no known format")
    assert rows_of(followed)[0]["files"][0]["missing"] == "1 line"


def test_what_is_no_file_of_traces_is_said(followed, path, said):
    path.write_text("this is\nno record\n")
    followed.look()
    followed.look()
    assert len(said) == 1
    assert "this looks like text" in said[0] or "not a trace record" in said[0] or "not JSON" in said[0]


def test_files_that_come_later_and_of_other_kinds_are_followed(tmp_path, said):
    packed = tmp_path / "packed.jsonl.gz"
    with Followed(lambda: sorted(tmp_path.iterdir()), said.append) as followed:
        followed.look()
        packed.write_bytes(gzip.compress(line(traces(1)[0])))
        (tmp_path / "talk.json").write_text(json.dumps({"messages": [{"role": "user", "content": SCRIPTS}]}))
        followed.look()
        assert followed.traces == 2
        packed.write_bytes(gzip.compress(b"".join(map(line, traces(4)))))
        followed.look()
        assert followed.traces == 5
        told, _ = rows_of(followed)
    assert {entry["name"]: entry["converted"] for entry in told["files"]} == {
        "packed.jsonl.gz": False,
        "talk.json": True,
    }


def test_many_traces_come_in_parts_and_memory_holds_one_chunk(followed, path, monkeypatch):
    monkeypatch.setattr(follow_module, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(follow_module, "CHUNK_BYTES", 60_000)
    many = traces(60)
    path.write_bytes(b"".join(map(line, many)))
    followed.look()
    found, rows = rows_of(followed)
    while found["more"]:
        found, more = rows_of(followed, followed.generation, len(rows))
        rows += more
    assert [row[0] for row in rows] == [trace.trace_id for trace in many]
    fields = rows_of(followed)[0]["fields"]
    chunk, place = fields.index("chunk"), fields.index("place")
    assert rows[-1][chunk] > 3
    for row in rows:
        assert json.loads(entries(followed, row[chunk])[row[place]][0])["id"] == row[0]
    assert len(followed._open) < 30
    assert followed.chunk(followed.generation, rows[-1][chunk] + 2) is None


def asked(address, path, host=None):
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_only_who_knows_the_address_gets_an_answer(followed, path):
    path.write_bytes(line(hostile_trace()))
    followed.look()
    with serving(followed, SCRIPTS) as address:
        parts = urlsplit(address)
        assert parts.hostname == "127.0.0.1"
        assert len(parts.path) > 30
        answer, body = asked(address, parts.path)
        assert answer.status == 200
        assert b"connect-src 'self'" in body
        assert b"<script>window.hacked" not in body
        for name in ("", "/", "/wrong/", "/wrong/rows", parts.path[:-2] + "/", f"{parts.path}../../etc/passwd"):
            assert (asked(address, name or "/")[0].status, asked(address, name or "/")[1]) == (404, b"")
        for host in ("attacker.example", f"attacker.example:{parts.port}", "127.0.0.1.attacker.example"):
            assert asked(address, parts.path, host)[0].status == 404
        for host in (f"localhost:{parts.port}", "localhost:4000", "127.0.0.1"):
            assert asked(address, parts.path, host)[0].status == 200
        for query in ("chunk?generation=x&number=0", "chunk", "rows?from=-1x", f"rows?from={9**30}", "other"):
            assert asked(address, f"{parts.path}{query}")[0].status in {200, 404}
        answer, body = asked(address, f"{parts.path}rows?from=0")
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Access-Control-Allow-Origin"] is None
        assert answer.headers["Cache-Control"] == "no-store"
        assert len(json.loads(body)["rows"]) == 1
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
            connection.request(method, parts.path)
            assert connection.getresponse().status == 501
            connection.close()


def test_a_port_that_is_taken_is_one_message(followed):
    with (
        serving(followed, "t") as address,
        pytest.raises(UsageError, match=r"--port \d+: cannot listen there: "),
        serving(followed, "t", port=urlsplit(address).port),
    ):
        pass


def test_the_command_serves_until_ctrl_c(tmp_path):
    command = [sys.executable, "-m", "agenttrace", "report", "--watch", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline()
            address = re.fullmatch(r"following .*, no traces so far: (http://127\.0\.0\.1:\d+/\S+/)\n", said)[1]
            (tmp_path / "run.jsonl").write_bytes(line(traces(1)[0]))
            deadline = time.monotonic() + 30
            while not json.loads(asked(address, f"{urlsplit(address).path}rows?from=0")[1])["rows"]:
                assert time.monotonic() < deadline, "the trace never came"
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == [tmp_path / "run.jsonl"]
