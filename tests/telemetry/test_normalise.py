"""Raw samples with known results, and what holds for every sample."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttrace.telemetry.normalise import telemetry

DATA = Path(__file__).parents[1] / "data" / "telemetry"
CASES = sorted(path for path in DATA.glob("*.json") if not path.name.endswith(".expected.json"))

numbers = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3)
anything = numbers | st.lists(numbers, max_size=3) | st.dictionaries(st.text(max_size=3), numbers, max_size=3)
counters = st.dictionaries(
    st.sampled_from(["utime", "stime", "maxrss", "rchar", "wchar", "read_bytes", "write_bytes"]), numbers
)
samples = st.fixed_dictionaries(
    {},
    optional={
        "source": st.sampled_from(["python-helper", "c-helper"]) | anything,
        "platform": st.sampled_from(["linux", "darwin"]) | anything,
        "rusage": counters | anything,
        "io_before": counters | anything,
        "io_after": counters | anything,
        "leftover_names": st.lists(st.text(max_size=5) | numbers, max_size=40) | anything,
        **dict.fromkeys(
            (
                *("wall_ns", "cleanup_ns", "floor_kib", "cgroup_cpu_ns_delta", "runner_cpu_ns"),
                *("leftover_count", "tree_rss_kib", "tree_rss_samples", "cgroup_memory_peak_bytes"),
            ),
            anything,
        ),
    },
)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden_samples(path):
    expected = json.loads(path.with_name(f"{path.stem}.expected.json").read_text())
    assert msgspec.to_builtins(telemetry(json.loads(path.read_text()))) == expected | {
        "leftover_names": tuple(expected["leftover_names"])
    }


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
