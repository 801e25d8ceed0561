"""The spans of `otlp` as protobuf: a file as the collector's file exporter writes it, or sent to a collector.

Sources: opentelemetry-proto, `ExportTraceServiceRequest`; OTLP 1.x, sections OTLP/HTTP and its retries; the file
exporter's format `proto`: each request after its size in bytes, four of them, most significant first.
"""

from __future__ import annotations

import base64
import os
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from agenttrace.errors import DataError, UsageError
from agenttrace.formats import otlp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agenttrace.formats import Sourced

HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
"""Environment variables that headers are taken from, as every exporter does: the first that is set."""
_AGAIN = frozenset({429, 502, 503, 504})
_TRIES = 5
_LONGEST_WAIT_S = 30.0
_ID = ("traceId", "spanId", "parentSpanId")


def write(records: Iterable[Sourced], output: Path) -> dict[str, int]:
    """Write a request each of the records into a file and return how many.

    Raises:
        DataError: a record cannot be written.
    """
    rows = 0
    with output.open("wb") as file:
        for record in records:
            body = request(record)
            file.write(len(body).to_bytes(4, "big") + body)
            rows += 1
    return {output.name: rows}


def request(record: Sourced) -> bytes:
    """Return a record as a serialized export request.

    Raises:
        DataError: it cannot be one; the message names it and says why.
        UsageError: protobuf is not installed.
    """
    from agenttrace.formats.convert import value_of  # noqa: PLC0415 - imports this table of formats

    try:
        from google.protobuf.json_format import ParseDict, ParseError  # noqa: PLC0415 - of an extra
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
            ExportTraceServiceRequest,
        )
    except ImportError as error:
        raise UsageError(f"OTLP as protobuf needs the package opentelemetry-proto ({error})") from None
    value = value_of(otlp, record)
    for resource in value["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                # OTLP/JSON has ids in hex, protobuf's own JSON bytes in base64.
                span.update({name: base64.b64encode(bytes.fromhex(span[name])).decode() for name in _ID})
    try:
        return bytes(ParseDict(value, ExportTraceServiceRequest()).SerializeToString())
    except (ParseError, UnicodeError) as error:
        raise DataError(f"{record.source}, trace {record.trace.trace_id[:60]!r} cannot be written: {error}") from error


def send(records: Iterable[Sourced], endpoint: str) -> tuple[int, int]:
    """Send every record to an OTLP/HTTP endpoint, one request each, and return how many traces and bytes.

    Args:
        records: in the order in which they are sent; sending twice gives the same spans.
        endpoint: its URL; one without a path stands for its `/v1/traces`. Headers come from `HEADERS`.

    Raises:
        UsageError: it is no URL of HTTP, or headers are not `NAME=VALUE,...`.
        DataError: it cannot be reached or refuses what it is sent; the message says how many traces it has taken.
    """
    import httpx2  # noqa: PLC0415 - heavy

    url, headers = address(endpoint), {"Content-Type": "application/x-protobuf", **headers_given()}
    traces = size = 0
    with httpx2.Client(headers=headers, timeout=60.0) as client:
        for record in records:
            body = request(record)
            try:
                answer = _answer(client, url, body)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise DataError(
                    f"{endpoint}: {str(error) or type(error).__name__}; {traces} traces were taken"
                ) from error
            _check(answer, endpoint, traces)
            traces, size = traces + 1, size + len(body)
    return traces, size


def address(endpoint: str) -> str:
    """Return where spans are sent to; raises `UsageError` when it is no URL of HTTP."""
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--endpoint {endpoint}: expected a URL such as http://localhost:4318")
    return endpoint if parts.path not in {"", "/"} else parts._replace(path="/v1/traces").geturl()


def headers_given() -> dict[str, str]:
    """Return the headers that the environment has; raises `UsageError` when they are none."""
    name = next((one for one in HEADERS if os.environ.get(one)), HEADERS[-1])
    found = {}
    for pair in filter(None, map(str.strip, os.environ.get(name, "").split(","))):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip().isascii() or not unquote(value).isprintable():
            raise UsageError(f"{name}: expected NAME=VALUE,NAME=VALUE, values percent-encoded")
        found[key.strip()] = unquote(value.strip())
    return found


def _answer(client: Any, url: str, body: bytes) -> Any:  # noqa: ANN401 - httpx2's own
    """Return the answer, asked for again where OTLP says that it may be."""
    wait = 0.5
    for _ in range(_TRIES - 1):
        answer = client.post(url, content=body)
        if answer.status_code not in _AGAIN:
            return answer
        told = answer.headers.get("Retry-After", "")
        time.sleep(min(float(told) if told.isdigit() else wait, _LONGEST_WAIT_S))
        wait *= 2
    return client.post(url, content=body)


def _check(answer: Any, endpoint: str, traces: int) -> None:  # noqa: ANN401 - as above
    """Refuse an answer that does not say that everything was taken."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - of an extra
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse  # noqa: PLC0415

    said = f"{endpoint}: {answer.status_code} {answer.reason_phrase}"
    if answer.status_code != HTTPStatus.OK:
        text = answer.text if answer.headers.get("Content-Type", "").startswith(("text/", "application/json")) else ""
        raise DataError(f"{said} {' '.join(text.split())[:200]}; {traces} traces were taken".replace(" ;", ";"))
    try:
        partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    except DecodeError:  # JSON, or nothing that says otherwise
        return
    if partial.rejected_spans:
        why = " ".join(partial.error_message.split())[:200]
        raise DataError(f"{endpoint}: {partial.rejected_spans} spans were refused: {why}; {traces} traces were taken")
