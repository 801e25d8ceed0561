"""Traces decoded by the descriptors of Perfetto's own package.

Its trace processor is a program that the package downloads when it first runs, so a machine without that way reads the
trace with the package's types, unknown fields refused, and follows the rules of track events: slices of a track nest.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
import pytest

pytest.importorskip("perfetto", reason="scripts/nox -s formats-check installs perfetto")

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from agenttrace.formats.convert import convert, read
from tests.formats.hostile import OLD, OURS, hostile, traces


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
