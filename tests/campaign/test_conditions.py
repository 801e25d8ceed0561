"""What a task ran under: read from the kernel's own files, from a server's own page, never an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from agenttrace.analysis.tables import load
from agenttrace.campaign.conditions import Conditions, HostLoad, during, host_load
from agenttrace.campaign.server_load import SERVER_LOAD, Sample, ServerLoad, read_metrics
from agenttrace.testing import ScriptedServer, answers

DEMO = Path(__file__).parents[2] / "datasets/agenttrace-demo/records/agenttrace-demo.jsonl"
LLAMA_CPP = """# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 3
llamacpp:prompt_tokens_total 1234
"""
VLLM = """vllm:num_requests_running{engine="0",model_name="m \\"}"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0"} 7.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
"""
SGLANG = """sglang:num_running_reqs{model_name="m"} 4.0 1700000000
sglang:num_queue_reqs{model_name="m"} 5.0
sglang:token_usage{model_name="m"} 0.5
"""
NOTHING = Sample(None, None, None)


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        (LLAMA_CPP, Sample(1.0, 3.0, None)),
        (VLLM, Sample(5.0, 7.0, 0.5)),
        (SGLANG, Sample(4.0, 5.0, 0.5)),
        ("<html>", Sample(None, None, None)),
        ("vllm:num_requests_running NaN\nvllm:num_requests_waiting -1\n", Sample(None, None, None)),
        ("vllm:kv_cache_usage_perc 1e300\n", Sample(None, None, None)),
        ("vllm:num_requests_running{" * 10_000, Sample(None, None, None)),
        ('vllm:num_requests_running{e="0"} 5.0 # {trace_id="x"} 0.67 1.6e9\nvllm:num_requests_waiting 2 # {a="b"} 9\n',
         Sample(5.0, 2.0, None)),
        (VLLM.replace("2.0", "NaN"), Sample(None, 7.0, 0.5)),  # of two engines one says nothing: no sum
        (VLLM.replace("0.75", "+Inf"), Sample(5.0, 7.0, None)),
        ("vllm:num_requests_running 1.2.3\nvllm:num_requests_waiting e\nsglang:num_queue_reqs -\n", NOTHING),
        ("vllm:num_requests_running 1e999\nsglang:token_usage 5e-1\r\n", Sample(None, None, 0.5)),
        (f"vllm:num_requests_running{{a=\"{'x' * 10_000_000}\"}} 3\n", Sample(3.0, None, None)),
    ],
)  # fmt: skip
def test_gauges_of_three_servers_are_read(text, sample):
    assert read_metrics(text) == sample


def until(true):
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_is_followed_into_a_file_and_a_task_has_its_mean_and_peak(tmp_path):
    path = tmp_path / f"run{SERVER_LOAD}"
    with ScriptedServer([]) as server:
        server.pages["/metrics"] = answers(VLLM.encode())
        with ServerLoad(server.base_url, path, every_s=0.02) as load:
            until(lambda: load.taken >= 2)
            server.pages["/metrics"] = answers(VLLM.replace("} 7.0", "} 9.0").encode())
            taken = load.taken + 1  # one may be under way
            until(lambda: load.taken >= taken + 2)
            busy = load.since(taken)
    assert busy["samples"] >= 2
    assert busy["waiting"] == {"mean": 9.0, "max": 9.0}
    assert busy["kv_used"] == {"mean": 0.5, "max": 0.5}
    head, first, *more = path.read_text().splitlines()
    assert head == "session_utc,seconds,running,waiting,kv_used"
    assert first.split(",")[2:] == ["5", "7", "0.5"]
    assert len(more) >= 4


def test_another_session_goes_on_in_the_file(tmp_path):
    path = tmp_path / f"run{SERVER_LOAD}"
    with ScriptedServer([]) as server:
        server.pages["/metrics"] = answers(LLAMA_CPP.encode())
        for _ in range(2):
            with ServerLoad(server.base_url, path, every_s=0.02) as load:
                until(lambda load=load: load.taken)
    rows = path.read_text().splitlines()
    assert sum(row.startswith("session_utc") for row in rows) == 1
    assert rows[1].endswith(",1,3,")


@pytest.mark.parametrize(
    "page",
    [{"_status": 404}, {"_status": 501}, answers(b"\xff" * 100), answers(b"no_gauge 1\n"), answers(b"#" * 3_000_000)],
)
def test_a_server_without_metrics_is_asked_once_and_the_record_says_so(tmp_path, page):
    path = tmp_path / f"run{SERVER_LOAD}"
    with ScriptedServer([]) as server:
        server.pages["/metrics"] = page
        with ServerLoad(server.base_url, path, every_s=0.02) as load:
            load._thread.join(20)
            assert not load._thread.is_alive()
            found = load.since(0)
    assert found["samples"] == 0
    assert "/metrics has no gauge" in found["unknown"]
    assert not path.exists()


def test_a_server_that_is_gone_and_a_folder_that_cannot_be_written_end_nothing(tmp_path):
    with ScriptedServer([]) as server:
        url = server.base_url
        server.pages["/metrics"] = answers(LLAMA_CPP.encode())
        with ServerLoad(url, tmp_path / "no" / "such.csv", every_s=0.02) as load:
            load._thread.join(20)
        assert "could not be written" in load.since(0)["unknown"]
    with ServerLoad(url, tmp_path / "x.csv", every_s=0.02) as load:
        time.sleep(0.1)
        assert load._thread.is_alive()
        assert "did not answer" in load.since(0)["unknown"]


def test_a_server_that_no_longer_answers_has_no_load_from_before(tmp_path):
    with ScriptedServer([]) as server:
        server.pages["/metrics"] = answers(LLAMA_CPP.encode())
        with ServerLoad(server.base_url, tmp_path / "x.csv", every_s=0.02) as load:
            until(lambda: load.taken)
            assert load.since(load.taken + 1)["running"] == {"mean": 1.0, "max": 1.0}  # it is the latest
            server.pages["/metrics"] = {"_status": 503}
            until(lambda: "HTTP 503" in (load.missing or ""))
            load._held[-1] = (time.monotonic() - 10, load._held[-1][1])
            found = load.since(load.taken)
    assert found["samples"] == 0
    assert set(found) == {"samples", "unknown"}
    assert "HTTP 503" in found["unknown"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's files")
def test_this_machine_tells_its_load():
    found = host_load()
    assert found.load_1m >= 0
    assert found.memory_available_bytes > 1 << 20
    assert found.steal_ms >= 0
    assert {name for name in ("governor", "cpu_stalled_ms") if getattr(found, name) is None} <= set(found.unknown)


@pytest.mark.skipif(sys.platform != "linux" or host_load().cpu_stalled_ms is None, reason="pressure stall information")
def test_a_busy_neighbour_shows_in_what_a_task_ran_under():
    spin = [sys.executable, "-c", "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass"]
    conditions = Conditions()
    before = conditions.before()
    time.sleep(0.2)
    idle = conditions.since(before)["host_load"]["cpu_stalled_ms"]
    before = conditions.before()
    for one in [subprocess.Popen(spin) for _ in range(4 + 2 * (os.cpu_count() or 1))]:
        one.wait()
    assert conditions.since(before)["host_load"]["cpu_stalled_ms"] > max(200, idle)


def test_files_are_read_as_the_kernel_writes_them(tmp_path):
    proc, sys_ = tmp_path / "proc", tmp_path / "sys"
    (proc / "pressure").mkdir(parents=True)
    (sys_ / "devices/system/cpu/cpu0/cpufreq").mkdir(parents=True)
    (proc / "loadavg").write_text("0.52 0.58 0.59 2/345 6789\n")
    (proc / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable:    2048 kB\n")
    (proc / "stat").write_text("cpu  1 2 3 4 5 6 7 250 0 0\ncpu0 1 2 3 4 5 6 7 9 0 0\n")
    (proc / "pressure/cpu").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=5500\n")
    (proc / "pressure/memory").write_text("some avg10=0.00 total=1000\nfull avg10=0.00 total=250\n")
    (sys_ / "devices/system/cpu/cpu0/cpufreq/scaling_governor").write_text("powersave\n")
    found = host_load(proc, sys_)
    assert found == HostLoad(
        load_1m=0.52, memory_available_bytes=2 << 20, governor="powersave", steal_ms=2500.0, cpu_stalled_ms=5.5,
        memory_stalled_ms=1.0, memory_stalled_full_ms=0.25,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "x", "some total=\n", "some total=x", "cpu\n", "\0" * 50])
def test_what_is_not_there_or_nonsense_is_unknown(tmp_path, text):
    for name in ("loadavg", "meminfo", "stat", "pressure/cpu", "pressure/memory"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = host_load(tmp_path, tmp_path)
    assert (found.load_1m, found.steal_ms, found.cpu_stalled_ms, found.memory_stalled_ms) == (None,) * 4
    assert set(found.unknown) == {name for name in HostLoad.__struct_fields__ if getattr(found, name) is None}
    nothing = host_load(tmp_path / "no", tmp_path / "no")
    assert set(nothing.unknown) == {
        "load_1m", "memory_available_bytes", "governor", "steal_ms", "cpu_stalled_ms", "memory_stalled_ms",
        "memory_stalled_full_ms",
    }  # fmt: skip
    assert during(nothing, nothing)["unknown"] == nothing.unknown
    whole = HostLoad(**dict.fromkeys(set(HostLoad.__struct_fields__) - {"unknown"}, 1.0))
    assert during(nothing, whole)["unknown"] == nothing.unknown  # it was not known before
    assert "unknown" not in during(whole, whole)


def test_a_counter_that_went_back_is_unknown_and_says_so():
    before = HostLoad(**dict.fromkeys(set(HostLoad.__struct_fields__) - {"unknown"}, 5.0))
    found = during(before, msgspec.structs.replace(before, steal_ms=4.0))
    assert (found["steal_ms"], found["cpu_stalled_ms"]) == (None, 0.0)
    assert found["unknown"] == {"steal_ms": "it was less afterwards"}


LOADS = [
    (
        {"host_load": {"load_1m": [0.5, 2.0], "steal_ms": 3.5}, "server_load": {"waiting": {"mean": 2.5, "max": 4}}},
        (0.5, 3.5, 2.5),
    ),
    ({"host_load": {"load_1m": None, "steal_ms": -1}, "server_load": {"waiting": {"mean": "x"}}}, (None, None, None)),
    ({"host_load": "x", "server_load": [1]}, (None, None, None)),
    ({"host_load": {"load_1m": [], "steal_ms": {}}, "server_load": {"waiting": 7}}, (None, None, None)),
    ({}, (None, None, None)),
]


def test_the_runs_table_has_it_whatever_stands_in_a_record(tmp_path):
    row = json.loads(DEMO.read_text().splitlines()[0])
    lines = [json.dumps({**row, "environment": {**row["environment"], **under}}) + "\n" for under, _ in LOADS]
    (tmp_path / "run.jsonl").write_text("".join(lines))
    tables = load([tmp_path / "run.jsonl"])
    assert not tables.partial
    columns = (tables.runs[name] for name in ("load_1m", "steal_ms", "server_waiting"))
    found = [tuple(None if value != value else value for value in row) for row in zip(*columns, strict=True)]  # noqa: PLR0124
    assert found == [expected for _, expected in LOADS]
