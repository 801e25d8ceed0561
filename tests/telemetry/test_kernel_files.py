"""Kernel files of several systems as they were recorded or are known to look, and what the sandbox reads from them."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttrace.sandbox.runner import counters

DATA = Path(__file__).parents[1] / "data" / "telemetry"
CGROUPS = sorted((DATA / "cgroup").glob("*.toml"))
IO_FILES = sorted((DATA / "proc-io").glob("*.toml"))


def load(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CGROUPS, ids=lambda path: path.stem)
def test_a_cgroup_is_read_as_its_kernel_meant_it(path, tmp_path, monkeypatch):
    sample = load(path)
    for name, text in sample["files"].items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="ascii")
    monkeypatch.setattr(counters, "CGROUP", str(tmp_path))
    monkeypatch.setattr(counters, "PRESSURE", str(tmp_path / "pressure"))
    gauges = counters.Gauges()
    read = {
        **gauges.read(),
        "pressure_scope": gauges.pressure_scope,
        "memory_peak_bytes": counters._number(counters._v2("memory.peak")),
        **counters.limits(),
    }
    assert read == dict.fromkeys(read) | sample["expected"]


@pytest.mark.parametrize("path", IO_FILES, ids=lambda path: path.stem)
def test_an_io_file_is_read_as_its_kernel_meant_it(path):
    sample = load(path)
    found = counters.pairs(sample["text"])
    assert {name: found[name] for name in sample["expected"]} == sample["expected"]
    assert not found.keys() & (
        {"rchar", "read_bytes", "write_bytes", "cancelled_write_bytes"} - sample["expected"].keys()
    )


@pytest.mark.parametrize("path", [*CGROUPS, *IO_FILES], ids=lambda path: path.stem)
def test_every_sample_says_where_it_comes_from(path):
    assert len(load(path)["origin"]) > 20


def test_there_are_samples_of_both_cgroup_versions_and_of_broken_ones():
    stems = {path.stem for path in CGROUPS}
    assert sum("linuxkit" in stem or "colima" in stem for stem in stems) >= 3
    for version in ("v1", "v2"):
        assert sum(stem.startswith(version) for stem in stems) >= 5
        assert f"{version}-malformed" in stems
    assert len(IO_FILES) >= 5


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.text())
def test_no_text_raises_and_no_count_is_negative(text):
    assert all(value >= 0 for value in counters.pairs(text).values())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.from_regex(r"[a-z_.]{1,12}", fullmatch=True), st.integers(0, 2**64 - 1)),
    st.sampled_from([" ", ": "]),
)
def test_what_a_kernel_writes_is_read_back(values, separator):
    assert counters.pairs("".join(f"{name}{separator}{value}\n" for name, value in values.items())) == values
