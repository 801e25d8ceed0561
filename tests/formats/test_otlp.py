"""Exported spans as OpenTelemetry's own code reads them, sent to an HTTP endpoint as an exporter would."""

from __future__ import annotations

import base64
import http.server
import json
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from google.protobuf import json_format
from openinference.semconv.trace import OpenInferenceSpanKindValues, SpanAttributes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto_json.collector.trace.v1.trace_service import ExportTraceServiceRequest as JsonRequest

from agenttrace.formats import otlp
from agenttrace.formats.convert import convert
from tests.formats.hostile import OURS, hostile, spec, traces

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"


def strict(body):
    """Parse with OpenTelemetry's protobuf types, unknown fields refused; OTLP/JSON has hex ids, protobuf base64."""
    value = json.loads(body)
    for resource in value["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    return json_format.ParseDict(value, ExportTraceServiceRequest(), ignore_unknown_fields=False)


def spans_of(request):
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def plain(span):
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


@pytest.fixture
def receiver():
    """An OTLP/HTTP endpoint that answers as the protocol says: 200 and a response message, or 400."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            readers = {"application/json": strict, "application/x-protobuf": ExportTraceServiceRequest.FromString}
            read = readers.get(self.headers["Content-Type"])
            good = self.path == "/v1/traces" and read is not None
            if good:
                received.append(read(body))
            self.send_response(200 if good else 400)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_line_is_a_request_that_a_receiver_takes(tmp_path, receiver):
    url, received = receiver
    convert([OURS], "otlp", tmp_path / "o.jsonl")
    for line in (tmp_path / "o.jsonl").read_bytes().splitlines():
        request = urllib.request.Request(url, line, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
    assert [len(spans_of(request)) for request in received] == [
        1 + len(trace.llm_steps) + len(trace.spans) for trace in traces()
    ]


def test_the_documented_script_sends_the_same_as_protobuf(tmp_path, receiver):
    url, received = receiver
    convert([OURS], "otlp", tmp_path / "o.jsonl")
    text = DOCUMENT.read_text(encoding="utf-8")
    (script,) = [
        block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "ExportTraceService" in block
    ]
    (tmp_path / "send.py").write_text(script, encoding="utf-8")
    subprocess.run([sys.executable, tmp_path / "send.py", tmp_path / "o.jsonl", url], check=True, timeout=60)
    assert received == [strict(line) for line in (tmp_path / "o.jsonl").read_bytes().splitlines()]


def test_spans_have_the_times_the_parents_and_the_costs_of_the_record():
    trace = traces()[0]
    root, *rest = spans_of(strict(json.dumps(otlp.from_trace(trace, spec()))))
    names = [span.name.split(" ")[0] for span in rest]
    assert (root.name.split(" ")[0], names) == ("invoke_agent", ["chat", "execute_tool", "chat", "execute_tool"])
    chat, call = rest[0], rest[1]
    assert (call.start_time_unix_nano, call.end_time_unix_nano) == (trace.spans[0].start_ns, trace.spans[0].end_ns)
    assert (chat.parent_span_id, call.parent_span_id) == (root.span_id, chat.span_id)
    assert root.start_time_unix_nano <= min(span.start_time_unix_nano for span in rest)
    assert root.end_time_unix_nano >= max(span.end_time_unix_nano for span in rest)
    cost = plain(call)
    assert cost["agenttrace.telemetry.max_rss_bytes"] == trace.spans[0].telemetry.max_rss_bytes
    assert cost["process.exit.code"] == 0
    assert "agenttrace.telemetry.tree_rss_peak_bytes" not in cost  # not measured is no attribute, never 0
    assert {event.name for event in root.events} == {"gen_ai.evaluation.result"}


def test_attributes_have_the_names_of_openinference():
    known = {value for name, value in vars(SpanAttributes).items() if name.isupper()}
    root, chat, call, *_ = spans_of(strict(json.dumps(otlp.from_trace(traces()[0], spec()))))
    kinds = [plain(span)[SpanAttributes.OPENINFERENCE_SPAN_KIND] for span in (root, chat, call)]
    expected = (OpenInferenceSpanKindValues.AGENT, OpenInferenceSpanKindValues.LLM, OpenInferenceSpanKindValues.TOOL)
    assert kinds == [kind.value for kind in expected]
    assert plain(chat)[SpanAttributes.LLM_TOKEN_COUNT_TOTAL] == 359
    assert plain(call)[SpanAttributes.OUTPUT_VALUE] == traces()[0].spans[0].tool_output
    others = {name for span in (root, chat, call) for name in plain(span)} - known
    nested = (f"{SpanAttributes.LLM_INPUT_MESSAGES}.", f"{SpanAttributes.LLM_OUTPUT_MESSAGES}.0.message.")
    others = {name for name in others if not name.startswith(("gen_ai.", "agenttrace.", *nested))}
    assert others == {"process.exit.code"}


def test_history_is_not_repeated():
    bodies = [plain(span)["gen_ai.input.messages"] for span in spans_of(
        strict(json.dumps(otlp.from_trace(traces()[1], spec())))) if span.name.startswith("chat")]  # fmt: skip
    assert sum(traces()[1].prompt in body for body in bodies) == 1
    assert sum("logs/2023/jan.log" in body for body in bodies) == 1


def test_hostile_records_and_records_without_times_are_taken_by_both_readers():
    body = json.dumps(otlp.from_trace(hostile(), spec()))
    spans = spans_of(strict(body))
    assert len({span.span_id for span in spans}) == len(spans) == 1 + 2 + 9
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano for span in spans)
    assert {plain(span)["agenttrace.time"] for span in spans} == {"laid out"}
    other = JsonRequest.from_json(body).resource_spans[0].scope_spans[0].spans
    assert [span.span_id for span in other] == [span.span_id for span in spans]
