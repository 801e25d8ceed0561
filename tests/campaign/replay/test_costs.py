"""What the same call costs in every replay: how far each figure differs, and why one is not there."""

from __future__ import annotations

import msgspec
import pytest

from agenttrace.campaign.replay.costs import FIGURES, Costs, FigureSpread, table
from agenttrace.campaign.replay.run import Replay
from agenttrace.records import Telemetry
from agenttrace.records.trace import NO_PROCESS
from agenttrace.store.read import read_traces

WHOLE = Telemetry(
    user_time_s=0.0, system_time_s=0.0, max_rss_bytes=100, read_bytes=0, write_bytes=0, method="c-helper",
    wall_ns=1000, cpu_user_ns=30, cpu_system_ns=70, read_chars=7,
)  # fmt: skip


@pytest.fixture
def trace(recorded):
    return next(read_traces(recorded))


def spreads(trace, *replays):
    """What comes of replays that each give a telemetry for every call of a trace."""
    costs = Costs()
    for made in replays:
        spans = [msgspec.structs.replace(trace.spans[0], telemetry=one) for one in made]
        costs.add(msgspec.structs.replace(trace, spans=tuple(spans)))
    return {one.figure: one for one in costs.spreads()}


def but(**fields):
    return msgspec.structs.replace(WHOLE, **fields)


def test_the_spread_is_from_the_smallest_to_the_largest_in_per_cent_of_it(trace):
    found = spreads(trace, [WHOLE, WHOLE], [but(wall_ns=750), WHOLE], [but(wall_ns=900), but(wall_ns=999)])
    assert found["wall_ns"] == FigureSpread(
        figure="wall_ns", calls=2, equal=0, half_percent=0.1, most_percent=25.0, largest_percent=25.0
    )
    assert (found["read_chars"].equal, found["read_chars"].largest_percent) == (2, 0.0)
    assert (found["read_bytes"].equal, found["read_bytes"].largest_percent) == (2, 0.0)  # 0 in all of them


def test_cpu_time_is_the_sum_whose_split_is_noise(trace):
    found = spreads(trace, [WHOLE], [but(cpu_user_ns=70, cpu_system_ns=30)])
    assert (found["cpu_ns"].equal, found["cpu_ns"].calls) == (1, 1)
    assert "cpu_user_ns" not in found


def test_a_figure_that_one_replay_lacks_is_not_compared(trace):
    found = spreads(trace, [WHOLE], [but(read_chars=None)])
    assert (found["read_chars"].calls, found["read_chars"].half_percent) == (0, None)
    assert "no call has it in every replay" in found["read_chars"].reason
    assert found["wall_ns"].calls == 1


def test_counters_say_why_there_are_none(trace):
    assert "AGENTTRACE_FIGURES=cpu_counters" in spreads(trace, [WHOLE], [WHOLE])["user_instructions"].reason
    asked = but(user_instructions=None, cycles=None, counters_reason="No such file or directory")
    found = spreads(trace, [asked], [asked])
    assert found["user_instructions"].reason == found["cycles"].reason == "No such file or directory"
    counted = [[but(user_instructions=100_000, cycles=90)], [but(user_instructions=100_100, cycles=100)]]
    found = spreads(trace, *counted)
    assert (found["user_instructions"].largest_percent, found["cycles"].largest_percent) == (0.1, 10.0)


def test_what_started_no_process_has_no_cost_that_could_differ(trace):
    found = spreads(trace, [NO_PROCESS], [NO_PROCESS])
    assert {one.calls for one in found.values()} == {0}
    assert {one.reason for one in found.values()} == {"no call started a process"}


def test_a_table_has_every_figure_and_null_where_there_is_none(trace):
    head, *lines = table(spreads(trace, [WHOLE], [but(wall_ns=500)]).values())
    assert "95 % within" in head
    assert [line.split()[0] for line in lines] == [*FIGURES]
    by = {line.split()[0]: line for line in lines}
    assert by["wall_ns"].split()[1:] == ["1", "0", "50.00", "%", "50.00", "%", "50.00", "%"]
    assert by["cycles"].split()[1] == "null"


def test_replays_of_real_calls_are_compared(recorded, make_sandbox, display):
    found = Replay(recorded).run(make_sandbox().connect, display, workers=1, repeats=4)
    costs = {one.figure: one for one in found.costs}
    assert [*costs] == [*FIGURES]
    assert costs["wall_ns"].calls == costs["cpu_ns"].calls == 6  # two commands in each of three traces
    assert costs["wall_ns"].equal < 6
    assert costs["write_chars"].largest_percent <= costs["wall_ns"].largest_percent
    assert costs["user_instructions"].reason
    assert Replay(recorded).run(make_sandbox().connect, display, workers=1, repeats=1).costs == ()
