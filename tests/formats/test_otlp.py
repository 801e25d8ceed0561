"""Exported spans as OpenTelemetry's own code reads them, sent to an HTTP endpoint as an exporter would."""

from __future__ import annotations

import base64
import http.server
import json
import urllib.request

import pytest
from google.protobuf import json_format
from openinference.semconv.trace import OpenInferenceSpanKindValues, SpanAttributes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto_json.collector.trace.v1.trace_service import ExportTraceServiceRequest as JsonRequest

from agenttrace.cli import main
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import otlp
from agenttrace.formats.convert import convert, read
from agenttrace.formats.otlp_protobuf import send
from agenttrace.formats.reading import traces as traces_in
from tests.formats.hostile import OLD, OURS, hostile, spec, traces
from tests.listening import listening


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

    with listening(Handler) as url:
        yield f"{url}/v1/traces", received


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


def test_a_protobuf_file_has_the_same_requests_each_after_its_size(tmp_path):
    convert([OURS], "otlp", tmp_path / "o.jsonl")
    assert convert([OURS], "otlp-protobuf", tmp_path / "o.binpb") == {"o.binpb": 4}
    data, found = (tmp_path / "o.binpb").read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(ExportTraceServiceRequest.FromString(data[4 : 4 + size]))
        data = data[4 + size :]
    assert found == [strict(line) for line in (tmp_path / "o.jsonl").read_bytes().splitlines()]


def test_convert_sends_the_same_to_an_endpoint(tmp_path, receiver, capsys):
    url, received = receiver
    convert([OURS], "otlp", tmp_path / "o.jsonl")
    for endpoint in (url, url.removesuffix("/v1/traces")):
        with pytest.raises(SystemExit) as ended:
            main(["convert", str(OURS), "--to", "otlp", "--endpoint", endpoint])
        assert not ended.value.code
        assert f"{endpoint}: 4 traces, " in capsys.readouterr().out
        assert received == [strict(line) for line in (tmp_path / "o.jsonl").read_bytes().splitlines()]
        received.clear()


class TestSending:
    @pytest.fixture
    def answers(self):
        """An endpoint that gives one answer after another and keeps the headers of what it got."""
        wanted, got = [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                got.append(self.headers)
                status, headers, body = wanted.pop(0) if wanted else (200, {}, b"")
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        with listening(Handler) as url:
            yield url, wanted, got

    def test_headers_are_those_of_the_environment(self, answers, monkeypatch):
        url, _, got = answers
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x, X-Project=p")
        assert send(read(OURS), url)[0] == 4
        assert [(one["Authorization"], one["X-Project"], one["Content-Type"]) for one in got] == [
            ("Bearer x", "p", "application/x-protobuf")
        ] * 4

    def test_what_says_later_is_asked_again(self, answers):
        url, wanted, got = answers
        wanted += [(503, {"Retry-After": "0"}, b""), (429, {"Retry-After": "0"}, b"")]
        assert send(read(OURS), url)[0] == 4
        assert len(got) == 6

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ((401, {"Content-Type": "text/plain"}, b"no key"), "401 Unauthorized no key; 1 traces were taken"),
            ((404, {}, b""), "404 Not Found; 1 traces"),
            (
                (200, {}, ExportTraceServiceResponse(
                    partial_success={"rejected_spans": 3, "error_message": "too old"}
                ).SerializeToString()),
                "3 spans were refused: too old; 1 traces",
            ),
        ],
    )  # fmt: skip
    def test_a_refusal_is_one_message_with_how_far_it_came(self, answers, answer, said):
        url, wanted, _ = answers
        wanted += [(200, {}, b"{}"), answer]
        with pytest.raises(DataError, match=said):
            send(read(OURS), url)

    def test_nobody_there_is_one_message(self):
        with pytest.raises(DataError, match="0 traces were taken"):
            send(read(OURS), "http://127.0.0.1:9")

    @pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://x", "http://", "http://x:99999", "http://[::1"])
    def test_what_is_no_url_is_one_message(self, endpoint):
        with pytest.raises(UsageError, match="expected a URL such as"):
            send(read(OURS), endpoint)

    @pytest.mark.parametrize("given", ["x", "a=b,c", "a=%0A"])
    def test_odd_headers_are_one_message(self, monkeypatch, given):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", given)
        with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_HEADERS: expected"):
            send(read(OURS), "http://127.0.0.1:9")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--to", "otlp"], "-o OUT, or --endpoint URL"),
            (["--to", "otlp", "-o", "x", "--endpoint", "http://x"], "-o OUT, or --endpoint URL"),
            (["--to", "atif", "--endpoint", "http://x"], "expected --to otlp"),
        ],
    )
    def test_options_that_do_not_fit_are_one_message(self, words, said, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["convert", str(OURS), *words])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


KINDS = {
    "gen_ai.operation.name": "string", "gen_ai.provider.name": "string", "gen_ai.agent.name": "string",
    "gen_ai.request.model": "string", "gen_ai.conversation.id": "string", "gen_ai.request.temperature": "double",
    "gen_ai.request.seed": "int", "gen_ai.request.top_p": "double", "gen_ai.request.top_k": "int",
    "gen_ai.request.max_tokens": "int", "gen_ai.response.finish_reasons": "array",
    "gen_ai.usage.input_tokens": "int", "gen_ai.usage.output_tokens": "int",
    "gen_ai.usage.cache_read.input_tokens": "int", "gen_ai.usage.reasoning.output_tokens": "int",
    "gen_ai.tool.name": "string", "gen_ai.tool.type": "string",
    "gen_ai.tool.call.id": "string", "process.exit.code": "int", "error.type": "string",
    "gen_ai.evaluation.name": "string", "gen_ai.evaluation.score.label": "string",
    "gen_ai.evaluation.explanation": "string",
    # Of any kind; as text where a structure is not supported.
    "gen_ai.input.messages": "string", "gen_ai.output.messages": "string", "gen_ai.system_instructions": "string",
    "gen_ai.tool.definitions": "string", "gen_ai.tool.call.arguments": "string", "gen_ai.tool.call.result": "string",
}  # fmt: skip
"""Attribute → its type in the registries of semantic-conventions-genai 0.1.0 and semantic-conventions 1.45."""
REMOVED = {"invoke_agent": {"gen_ai.provider.name", "gen_ai.agent.id", "gen_ai.agent.version"}}
"""Operation → what 0.1.0 took off its spans (`docs/gen-ai/non-normative/migration.md`)."""


def test_attributes_have_the_names_and_types_of_opentelemetry():
    from opentelemetry.semconv._incubating.attributes import error_attributes, gen_ai_attributes, process_attributes

    modules = (error_attributes, gen_ai_attributes, process_attributes)
    registry = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    seen = set()
    for trace in (*traces(), hostile(), *(record.trace for record in read(OLD))):
        root, *rest = spans_of(strict(json.dumps(otlp.from_trace(trace, spec()))))
        assert root.name == "invoke_agent agenttrace"
        for span in (root, *rest):
            operation = plain(span)["gen_ai.operation.name"]
            pairs = [*span.attributes, *(one for event in span.events for one in event.attributes)]
            kinds = {one.key: one.value.WhichOneof("value").removesuffix("_value") for one in pairs}
            ours = {key: kind for key, kind in kinds.items() if key.startswith(("gen_ai.", "process.", "error."))}
            assert {key: KINDS[key] for key in ours} == ours
            assert not set(ours) & REMOVED.get(operation, set())
            seen |= set(ours)
            if "gen_ai.output.messages" in ours:
                (said,) = json.loads(plain(span)["gen_ai.output.messages"])
                assert set(said) == {"role", "parts"}
    assert seen <= registry
    assert seen >= set(KINDS) - {"error.type"}


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


TRACE = "5b8aa5a2d2c872e8321cf37308d69df2"


def printed(number, parent, **facts):
    """A span as the SDK's console exporter prints it."""
    return {
        "name": "x",
        "context": {"trace_id": f"0x{TRACE}", "span_id": f"0x{number:016x}", "trace_state": "[]"},
        "kind": "SpanKind.INTERNAL",
        "parent_id": f"0x{parent:016x}" if parent else None,
        "start_time": f"2026-11-20T10:00:0{number}.000000Z",
        "end_time": f"2026-11-20T10:00:0{number}.500000Z",
        "status": {"status_code": "UNSET"},
        "attributes": facts,
        "events": [],
        "links": [],
        "resource": {"attributes": {}, "schema_url": ""},
    }


def request_and_call(*, outer=True):
    """Spans of one request, which a framework and the client below it both tell of, and of its call."""
    call = {"type": "tool_call", "id": "c1", "name": "bash", "arguments": {"command": "ls"}}
    asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    said = {
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Count files"}]}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [call]}]),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
    }
    result = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.id": "c1", "gen_ai.tool.call.result": "3"}
    return [
        printed(1, 0, **{"gen_ai.operation.name": "invoke_agent"}),
        printed(2, 1, **asked, **(said if outer else {})),
        printed(3, 2, **asked, **said),
        printed(4, 1, **result),
    ]


@pytest.mark.parametrize("form", ["lines", "printed", "printed without a line between"])
def test_spans_of_a_console_exporter_are_read_whether_on_a_line_or_laid_out(tmp_path, form):
    indent, between = {"lines": (None, "\n"), "printed": (4, "\n"), "printed without a line between": (2, "")}[form]
    file = tmp_path / "spans.json"
    file.write_text(between.join(json.dumps(span, indent=indent) for span in request_and_call()) + "\n")
    (trace,) = [one for _, one in traces_in(file)]
    (step,), (span,) = trace.llm_steps, trace.spans
    assert (step.input_tokens, step.output_tokens, step.duration_ms) == (10, 5, 500.0)
    assert (span.tool_output, span.duration_ms, trace.model) == ("3", 500.0, "m")
    assert trace.timestamp_utc.startswith("2026-11-20T10:00:01")


@pytest.mark.parametrize("outer", [True, False])
def test_a_request_that_two_instrumentations_tell_of_counts_once(tmp_path, outer):
    file = tmp_path / "spans.jsonl"
    file.write_text("".join(json.dumps(span) + "\n" for span in request_and_call(outer=outer)))
    (trace,) = [one for _, one in traces_in(file)]
    (step,) = trace.llm_steps
    assert (step.input_tokens, step.output_tokens, len(trace.spans)) == (10, 5, 1)


def test_spans_that_are_each_others_parents_end(tmp_path):
    spans = request_and_call()
    spans[1]["parent_id"] = spans[2]["context"]["span_id"]
    file = tmp_path / "spans.jsonl"
    file.write_text("".join(json.dumps(span) + "\n" for span in spans))
    assert len(list(traces_in(file))) == 1


def test_a_printed_span_that_is_cut_off_is_named(tmp_path):
    file = tmp_path / "spans.json"
    file.write_text("\n".join(json.dumps(span, indent=4) for span in request_and_call())[:-40])
    with pytest.raises(UsageError, match=r"spans\.json: not JSON, or cut off"):
        list(traces_in(file))
