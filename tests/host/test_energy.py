"""Energy by the kernel's counters: trees as powercap has them, and what becomes of the sum."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from agenttrace.analysis.sections import sections
from agenttrace.analysis.summary import report
from agenttrace.analysis.tables import load
from agenttrace.errors import StorageError
from agenttrace.host import energy
from agenttrace.host.energy import EnergyMeter, energy_counters
from agenttrace.store.energy import SessionEnergy, append_energy, begin_energy, energy_joules, energy_path
from agenttrace.store.read import read_traces

DEMO = Path(__file__).parents[2] / "datasets/agenttrace-demo/records"
WRAPS_UJ = 1_000_000


def zone(powercap, number, name, microjoules):
    folder = powercap / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{WRAPS_UJ - 1}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_packages_and_memory_are_added_up_and_wrap(tmp_path):
    package, memory = zone(tmp_path, "0", "package-0", 900_000), zone(tmp_path, "0:1", "dram", 100)
    zone(tmp_path, "0:0", "core", 5)
    zone(tmp_path, "1", "psys", 5)
    counters, unknown = energy_counters(tmp_path)
    assert set(counters) >= {"rapl:package-0", "rapl:dram"}
    assert not {"rapl:core", "rapl:psys"} & set(counters)
    assert "rapl" not in unknown
    mine = {name: one for name, one in counters.items() if name.startswith("rapl")}
    with EnergyMeter(mine, every_s=0.02) as meter:
        for value in (950_000, 20_000, 70_000):  # 0.05 J, then over the end, then 0.05 J
            (tmp_path / "new").write_text(f"{value}\n")
            (tmp_path / "new").replace(package)  # a reader sees one or the other, as of the kernel's file
            while meter._last["rapl:package-0"] != value / 1e6:
                time.sleep(0.01)
        (tmp_path / "new").write_text("500100\n")
        (tmp_path / "new").replace(memory)
    found = meter.session()
    assert found.joules == {"rapl:package-0": pytest.approx(0.17), "rapl:dram": pytest.approx(0.5)}
    assert found.start_utc <= found.end_utc


def test_a_machine_without_counters_says_why(tmp_path):
    counters, unknown = energy_counters(tmp_path / "none")
    assert "no powercap zones" in unknown["rapl"]
    assert set(unknown) | {name.partition(":")[0] for name in counters} == {"rapl", "nvml"}
    assert "another machine" in energy_counters(tmp_path, engine_kernel="5.1-other")[1]["nvml"]
    with EnergyMeter({}, {"rapl": "Permission denied"}) as meter:
        pass
    assert meter.session().joules is None
    assert meter.session().unknown == "no counter (rapl: Permission denied)"


@pytest.mark.parametrize("damage", ["name", "max_energy_range_uj", "energy_uj"])
def test_zones_that_cannot_be_read_are_none(tmp_path, damage):
    (zone(tmp_path, "0", "package-0", 1).parent / damage).write_text("x")
    assert energy_counters(tmp_path)[1]["rapl"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_counters_that_only_root_may_read_are_told_of(tmp_path):
    zone(tmp_path, "0", "package-0", 1).chmod(0)
    assert energy_counters(tmp_path)[1]["rapl"] == "Permission denied"


def test_a_counter_that_vanishes_makes_no_figure(tmp_path):
    file = zone(tmp_path, "0", "package-0", 1)
    mine = {name: one for name, one in energy_counters(tmp_path)[0].items() if name.startswith("rapl")}
    with EnergyMeter(mine, every_s=0.02) as meter:
        assert meter.session().unknown == "it did not come to its end"
        file.unlink()
    found = meter.session()
    assert (found.joules, found.unknown) == (None, "rapl:package-0 could not be read (No such file or directory)")


def test_a_machine_that_slept_makes_no_figure(tmp_path, monkeypatch):
    file = zone(tmp_path, "0", "package-0", 900_000)
    mine = {name: one for name, one in energy_counters(tmp_path)[0].items() if name.startswith("rapl")}
    told = iter([100.0, 130.0, 4000.0])
    monkeypatch.setattr(energy, "_awake_or_not", lambda: next(told))
    with EnergyMeter(mine) as meter:
        meter._look()
        file.write_text("5\n")  # begun anew, as many processors do
    assert meter.session().joules is None
    assert "nobody looked for 3870 s" in meter.session().unknown


NVML = """
class NVMLError(Exception): pass
millijoules = 5000
def nvmlInit():
    if millijoules is None: raise NVMLError("Driver Not Loaded")
def nvmlDeviceGetCount(): return 1 if millijoules else 0
def nvmlDeviceGetHandleByIndex(number): return number
def nvmlDeviceGetTotalEnergyConsumption(device): return millijoules
"""
"""What of nvidia-ml-py is used, on a machine without a device."""


@pytest.fixture
def nvml(tmp_path, monkeypatch):
    (tmp_path / "pynvml.py").write_text(NVML)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    yield importlib.import_module("pynvml")
    sys.modules.pop("pynvml")


def test_devices_are_added_up_in_joules(nvml, tmp_path):
    counters, unknown = energy_counters(tmp_path / "none")
    assert set(counters) == {"nvml:0"}
    assert set(unknown) == {"rapl"}
    with EnergyMeter(counters) as meter:
        nvml.millijoules = 7500
    assert meter.session().joules == {"nvml:0": 2.5}


def test_a_driver_that_began_anew_makes_no_figure_and_none_that_the_file_cannot_hold(nvml, tmp_path):
    with EnergyMeter(energy_counters(tmp_path / "none")[0]) as meter:
        nvml.millijoules = 10
    found = meter.session()
    assert (found.joules, found.unknown) == (None, "nvml:0 began anew")
    append_energy(tmp_path / "run.jsonl", session({"nvml:0": 1.0}))
    append_energy(tmp_path / "run.jsonl", found)
    append_energy(tmp_path / "run.jsonl", session({"nvml:0": 2.0}))
    kept = msgspec.json.decode(energy_path(tmp_path / "run.jsonl").read_bytes())["sessions"]
    assert [one["joules"] for one in kept] == [{"nvml:0": 1.0}, None, {"nvml:0": 2.0}]


def test_a_driver_that_is_not_there_or_shows_no_device_is_told_of(nvml, tmp_path):
    for there, said in ((None, "NVML: Driver Not Loaded"), (0, "NVML shows no device")):
        nvml.millijoules = there
        assert energy_counters(tmp_path)[1]["nvml"] == said


def session(joules):
    return SessionEnergy(start_utc="2026-11-02T00:00:00+00:00", end_utc="2026-11-02T00:01:00+00:00", joules=joules)


BEGUN = SessionEnergy(start_utc="2026-11-02T00:00:00+00:00", end_utc=None, joules=None, unknown="not ended")


def test_sessions_are_added_up_and_none_is_unknown(tmp_path):
    records = tmp_path / "run.jsonl"
    assert energy_joules(records) is None
    append_energy(records, BEGUN)
    begin_energy(records, BEGUN, measures=False)
    begin_energy(tmp_path / "no" / "run.jsonl", BEGUN, measures=True)
    assert not energy_path(records).exists()
    append_energy(records, session({"rapl:package-0": 1.5, "nvml:0": 0.0}))
    begin_energy(records, BEGUN, measures=True)
    assert energy_joules(records) is None
    append_energy(records, session({"rapl:package-0": 2.0, "nvml:0": 4.0}))  # in the place of its beginning
    assert energy_joules(records) == 7.5
    assert energy_joules(tmp_path / "run.jsonl.zst") == 7.5


@pytest.mark.parametrize("missing", ["killed", "no counter", "another counter", "before the first", "damaged"])
def test_a_session_that_nobody_measured_makes_the_sum_unknown_and_not_smaller(tmp_path, missing):
    records = tmp_path / "run.jsonl"
    if missing == "before the first":
        records.write_text("{}\n")
    if missing == "damaged":
        energy_path(records).write_text("{")
    begin_energy(records, BEGUN, measures=True)
    append_energy(records, session({"rapl:package-0": 1.0}))
    assert energy_joules(records) == (None if missing in {"before the first", "damaged"} else 1.0)
    later = {"start_utc": "2026-11-03T00:00:00+00:00"}
    if missing == "killed":
        begin_energy(records, msgspec.structs.replace(BEGUN, **later), measures=True)
    elif missing == "no counter":
        begin_energy(records, msgspec.structs.replace(BEGUN, **later), measures=False)
        append_energy(records, msgspec.structs.replace(BEGUN, **later, end_utc="later", unknown="no counter"))
    last = {"nvml:0": 1.0} if missing == "another counter" else {"rapl:package-0": 1.0}
    append_energy(records, msgspec.structs.replace(session(last), start_utc="2026-11-04T00:00:00+00:00"))
    assert energy_joules(records) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"sessions": 5}', "[" * 9000, '{"sessions": []}',
             '{"sessions": [{"start_utc": "", "end_utc": "", "joules": {"x": -1}}]}',
             '{"sessions": [{"start_utc": "", "end_utc": "", "joules": {"x": 1e300}}]}'],
)  # fmt: skip
def test_a_file_that_is_none_is_no_figure(tmp_path, text):
    energy_path(tmp_path / "run.jsonl").write_text(text)
    assert energy_joules(tmp_path / "run.jsonl") is None


def test_where_it_cannot_be_written_is_told_of(tmp_path):
    with pytest.raises(StorageError):
        append_energy(tmp_path / "no" / "run.jsonl", session({}))


def test_an_analysis_tells_the_energy_per_solved_task_failures_included(tmp_path):
    records = tmp_path / "run.jsonl"
    records.write_bytes((DEMO / "agenttrace-demo.jsonl").read_bytes())
    solved = sum(trace.outcome.solved is True for trace in read_traces(records))
    append_energy(records, session({"rapl:package-0": 1000.0}))
    (group,) = report(load([records])).groups
    assert (group.energy_j, group.energy_per_solved_j) == (1000.0, 1000.0 / solved)
    text = "\n".join(f"{row}" for section in sections(report(load([records]))) for row in section.rows)
    assert "energy per solved trace, failures included" in text
    assert [one.energy_j for one in report(load([records]), by="dataset").groups] == [1000.0]
    for kept, said in ((None, "none was solved"), (1, "at most 1,000 J: 31 have no verdict")):
        rows = [json.loads(line) for line in records.read_text().splitlines()]
        for number, row in enumerate(rows):
            row["outcome"]["solved"] = True if kept is not None and number < kept else None
        records.write_text("".join(json.dumps(row) + "\n" for row in rows))
        told = [row for section in sections(report(load([records]))) for row in section.rows]
        assert ("energy per solved trace, failures included", said) in told
