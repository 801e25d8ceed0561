"""A row of AgentTrace 0.3.0 is the same to everyone: conversion, tables and report take and refuse the same."""

from __future__ import annotations

import json

import msgspec
import pytest

from agenttrace.analysis import tables
from agenttrace.errors import DataError
from agenttrace.formats import convert
from agenttrace.report.sources import read_views
from tests.formats.hostile import RELEASED


def as_tables(path):
    found = tables.load([path])
    if found.partial:
        raise DataError(str(found.sources[0].problems[0]))
    return found


READERS = {
    "convert": lambda path: list(convert.read(path)),
    "tables": as_tables,
    "report": lambda path: list(read_views(path)),
}


@pytest.fixture
def row():
    return json.loads(RELEASED.read_text(encoding="utf-8"))


def stored(tmp_path, row, separators=(", ", ": ")):
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps(row, separators=separators) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda r: r.pop("timestamp_utc"), "timestamp_utc"),
        (lambda r: r["spans"][0].pop("span_id"), "span_id"),
        (lambda r: r["spans"][0].update(exit_code="0"), "exit_code"),
        (lambda r: r["spans"][0].update(start_ns="soon"), "start_ns"),
        (lambda r: r["spans"][0].update(duration_ms=-1), "duration_ms"),
        (lambda r: r["spans"][0]["telemetry"].update(max_rss_bytes=2**64), "max_rss_bytes"),
        (lambda r: r["llm_steps"][0].update(input_tokens=2**62), "input_tokens"),
        (lambda r: r["llm_steps"][0].pop("step_id"), "step_id"),
        (lambda r: r["llm_steps"][-1].update(tool_calls=[{"arguments": {}}]), "name"),
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_what_is_no_row_by_the_name_of_its_field(tmp_path, row, reader, change, field):
    READERS[reader](stored(tmp_path, row))
    change(row)
    with pytest.raises(DataError, match=f"(?s)line 1.*0\\.3\\.0.*{field}"):
        READERS[reader](stored(tmp_path, row))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : ")])
def test_every_reader_takes_unknown_keys_any_spacing_and_what_has_a_default(tmp_path, row, reader, separators):
    row["new"] = row["spans"][0]["new"] = row["llm_steps"][0]["new"] = {"outcome": None}
    for name in ("telemetry", "start_ns", "end_ns", "exit_code"):
        del row["spans"][0][name]
    del row["total_duration_ms"]
    READERS[reader](stored(tmp_path, row, separators))


def test_report_and_conversion_say_the_same(tmp_path, row):
    path = stored(tmp_path, row)
    again = tmp_path / "new.jsonl"
    again.write_bytes(b"".join(msgspec.json.encode(found.trace) + b"\n" for found in convert.read(path)))
    (old, new) = (shown.view for file in (path, again) for shown in read_views(file))
    for mine, theirs in zip(old.calls, new.calls, strict=True):
        for name in ("tool", "input", "output", "status", "exit", "ms", "cost"):
            assert getattr(mine, name) == getattr(theirs, name), name
    assert [[call.tool for call in step.calls] for step in old.steps] == [
        [call.tool for call in step.calls] for step in new.steps
    ]
    starts = [span["start_ns"] for span in row["spans"]]
    assert [call.start for call in old.calls] == [(start - min(starts)) / 1e6 for start in starts]
    assert {call.start for call in new.calls} == {None}
