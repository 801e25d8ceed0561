"""Raw samples with known results, and what holds for every sample."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttrace.records import Telemetry
from agenttrace.telemetry.normalise import telemetry

DATA = Path(__file__).parents[1] / "data" / "telemetry"
CASES = sorted(path for path in DATA.glob("*.json") if not path.name.endswith(".expected.json"))

numbers = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3)
anything = numbers | st.lists(numbers, max_size=3) | st.dictionaries(st.text(max_size=3), numbers, max_size=3)
counters = st.dictionaries(
    st.sampled_from(["utime", "stime", "maxrss", "nvcsw", "rchar", "syscr", "read_bytes", "cpu_ns", "cfs_periods"]),
    numbers,
)
samples = st.fixed_dictionaries(
    {},
    optional={
        "source": st.sampled_from(["python-helper", "c-helper"]) | anything,
        "platform": st.sampled_from(["linux", "darwin"]) | anything,
        "rusage": counters | anything,
        "io_before": counters | anything,
        "io_after": counters | anything,
        "gauges_before": counters | anything,
        "gauges_after": counters | anything,
        "tree_rss_series": st.lists(st.lists(numbers, max_size=3), max_size=70) | anything,
        "leftover_names": st.lists(st.text(max_size=5) | numbers, max_size=40) | anything,
        **dict.fromkeys(
            (
                *("wall_ns", "cleanup_ns", "floor_kib", "runner_cpu_ns", "tree_rss_kib_us", "pressure_scope"),
                *("leftover_count", "tree_rss_kib", "tree_rss_samples", "cgroup_memory_peak_bytes"),
                *("processes_started", "processes_peak", "runqueue_wait_ns", "network_bytes"),
                *("user_instructions", "cycles", "counters_reason"),
            ),
            anything,
        ),
    },
)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden_samples(path):
    expected = json.loads(path.with_name(f"{path.stem}.expected.json").read_text())
    assert json.loads(msgspec.json.encode(telemetry(json.loads(path.read_text())))) == expected


def test_there_are_golden_samples():
    assert len(CASES) >= 15


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_golden_sample_says_where_it_comes_from(path):
    assert len(json.loads(path.read_text())["origin"]) > 20


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(samples)
def test_no_sample_raises_and_no_figure_is_negative(sample):
    result = telemetry(sample)
    for value in msgspec.to_builtins(result).values():
        if isinstance(value, int | float):
            assert 0 <= value < 2**80
    assert len(result.leftover_names) <= 16
    for point in result.tree_rss_series or ():
        assert len(point) == 2
        assert min(point) >= 0
    msgspec.json.encode(result)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_delta_is_the_difference_or_nothing(before, after):
    result = telemetry({"io_before": {"write_bytes": before}, "io_after": {"write_bytes": after}})
    assert result.write_bytes == (after - before if after >= before else None)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.integers(0, 2**40))
def test_peak_memory_is_bytes_on_both_systems(value):
    linux = telemetry({"platform": "linux", "rusage": {"maxrss": value}}).max_rss_bytes
    darwin = telemetry({"platform": "darwin", "rusage": {"maxrss": value}}).max_rss_bytes
    assert (linux, darwin) == (1024 * value, value)
    assert telemetry({"platform": "plan9", "rusage": {"maxrss": value}}).max_rss_bytes is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.floats(0, 10**6))
def test_seconds_and_nanoseconds_agree(seconds):
    result = telemetry({"rusage": {"utime": seconds, "stime": 0}})
    assert result.cpu_user_ns == round(seconds * 1e9)
    assert result.user_time_s == seconds
    assert result.cpu_system_ns == 0


def test_what_nobody_asked_for_is_absent_and_what_could_not_be_counted_says_why():
    written = msgspec.json.decode(msgspec.json.encode(telemetry({})))
    assert not written.keys() & {"tree_rss_series", "user_instructions", "cycles", "counters_reason"}
    refused = telemetry({"counters_reason": "Operation not permitted", "tree_rss_series": [[20, 4]]})
    assert (refused.user_instructions, refused.cycles, refused.counters_reason) == (
        None,
        None,
        "Operation not permitted",
    )
    assert refused.tree_rss_series == ((20, 4096),)
    assert telemetry({"tree_rss_series": [[1, 1]] * 65}).tree_rss_series is None


def test_time_that_is_blocked_is_the_rest_and_unknown_where_processes_ran_side_by_side():
    sample = {"wall_ns": 10**9, "rusage": {"utime": 0.3, "stime": 0.1}, "runqueue_wait_ns": 5 * 10**8}
    assert telemetry(sample).blocked_ns == 10**8
    assert telemetry(sample | {"runqueue_wait_ns": 602 * 10**6}).blocked_ns == 0
    assert telemetry(sample | {"runqueue_wait_ns": 7 * 10**8}).blocked_ns is None
    assert telemetry(sample | {"runqueue_wait_ns": None}).blocked_ns is None


def test_the_page_on_telemetry_has_every_figure():
    page = (DATA.parents[2] / "docs" / "telemetry.md").read_text(encoding="utf-8")
    fields = page.partition("## Fields\n")[2].partition("\n## ")[0]
    assert [name for name in Telemetry.__struct_fields__ if f"`{name}`" not in fields] == []


@pytest.mark.parametrize(
    ("refused", "started"), [((3, 3), 60), ((3, 53), 10), ((None, None), 60), ((0, 61), None), ((5, 4), None)]
)
def test_a_fork_that_was_refused_is_no_process_although_it_took_a_number(refused, started):
    before, after = ({} if count is None else {"refused_forks": count} for count in refused)
    sample = {"processes_started": 60, "gauges_before": before, "gauges_after": after}
    assert telemetry(sample).processes_started == started
    assert telemetry(sample | {"processes_started": None}).processes_started is None
