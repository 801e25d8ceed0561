"""Spans sent to a real collector: rotel takes them by OTLP/HTTP, as JSON and protobuf, and hands them on by itself."""

from __future__ import annotations

import gzip
import http.server
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("rotel", reason="scripts/nox -s formats-check installs rotel, a collector")

import rotel
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agenttrace.formats import otlp
from agenttrace.formats.convert import convert, read
from agenttrace.formats.otlp_protobuf import send
from tests.formats.hostile import OURS, hostile, traces
from tests.listening import listening

WITHIN_S = 60


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def behind():
    """What a backend behind the collector gets: the spans of its protobuf requests."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                received.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with listening(Handler) as url:
        yield url, received


@pytest.fixture
def collector(behind, tmp_path):
    """A collector that runs; ends with the test."""
    port = free_port()
    words = [Path(rotel.__file__).parent / "rotel-agent", "start", "--exporter", "otlp"]
    words += ["--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}"]
    words += ["--otlp-exporter-endpoint", behind[0], "--otlp-exporter-protocol", "http"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        )
    until = time.monotonic() + WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(WITHIN_S)


def arrived(received, wanted):
    until = time.monotonic() + WITHIN_S
    while len(received) < wanted and time.monotonic() < until:
        time.sleep(0.05)
    return received


def plain(span):
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


def operations(records):
    """How many spans of each operation records make, and their tokens."""
    steps = [step for trace in records for step in trace.llm_steps]
    counts = {
        "invoke_agent": len(records), "chat": len(steps), "execute_tool": sum(len(one.spans) for one in records)
    }  # fmt: skip
    return counts, sum((one.input_tokens or 0) + (one.output_tokens or 0) for one in steps)


def test_a_collector_takes_every_span_as_protobuf(collector, behind, records):
    every = [*traces(), hostile()]
    assert send(read(records), collector)[0] == 5
    counts, tokens = operations(every)
    found = arrived(behind[1], sum(counts.values()))
    said = [plain(span) for span in found]
    assert Counter(one["gen_ai.operation.name"] for one in said) == counts
    usage = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    assert sum(one.get(name, 0) for one in said for name in usage) == tokens
    assert {span.trace_id.hex() for span in found} == {otlp.trace_id_of(trace) for trace in every}
    (first,) = (one for one in said if one.get("agenttrace.span_id") == traces()[0].spans[0].span_id)
    assert first["agenttrace.telemetry.max_rss_bytes"] == traces()[0].spans[0].telemetry.max_rss_bytes


def test_the_same_from_the_command_line(collector, behind):
    words = [sys.executable, "-m", "agenttrace", "convert", OURS, "--to", "otlp", "--endpoint", collector]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    counts, _ = operations(traces())
    assert len(arrived(behind[1], sum(counts.values()))) == sum(counts.values())


def test_what_stands_in_the_file_of_json_is_taken_too(collector, behind, records, tmp_path):
    convert([records], "otlp", tmp_path / "o.jsonl")
    for line in (tmp_path / "o.jsonl").read_bytes().splitlines():
        request = urllib.request.Request(f"{collector}/v1/traces", line, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
    counts, _ = operations([*traces(), hostile()])
    assert len(arrived(behind[1], sum(counts.values()))) == sum(counts.values())
