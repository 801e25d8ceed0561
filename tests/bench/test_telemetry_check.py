"""The check of a call's figures and the benchmarks, in real workers; no test here looks at a time."""

import json

import msgspec
import pytest

from agenttrace.errors import UsageError
from agenttrace.host.workers import sandbox_project
from bench.__main__ import main
from bench.sandbox import bench_sandbox, neighbours, telemetry_check
from bench.sandbox.loads import LOADS, Load
from bench.verdict import Near

EXACT = ("SIGCHLD", "64 MiB more memory", "write 16 MiB to tmpfs", "O_DIRECT")


@pytest.mark.docker
@pytest.mark.alone
def test_figures_that_no_load_of_the_machine_can_move_are_right(own_instance, tmp_path, capsys):
    file = tmp_path / "findings.json"
    assert telemetry_check.check(repeats=3, only=EXACT, json_file=file) == 0, capsys.readouterr().out
    told = json.loads(file.read_text())
    helpers = [name for name in told if name.endswith("_helper")]
    assert helpers
    for helper in helpers:
        assert len({finding["load"] for finding in told[helper]}) == len(EXACT)
        assert {finding["verdict"] for finding in told[helper]} == {"within", "flagged"}
    assert told["machine"]["cgroup_version"] in {1, 2}


EXACT_SINCE_1_2 = ("no network", "touch", "reads,", "children one by one")


@pytest.mark.docker
@pytest.mark.alone
def test_the_figures_of_schema_1_2_are_right_or_say_why_there_are_none(own_instance, tmp_path, capsys):
    file = tmp_path / "findings.json"
    assert telemetry_check.check(repeats=1, only=EXACT_SINCE_1_2, json_file=file) == 0, capsys.readouterr().out
    told = json.loads(file.read_text())
    assert {finding["figure"] for finding in told["c_helper"]} >= {
        *("minor_faults", "major_faults", "read_calls", "write_calls", "processes_started", "processes_peak"),
        *("network_bytes", "anon_refaults"),
    }
    assert "not measured by the python helper: processes_peak: " in capsys.readouterr().out


@pytest.mark.docker
@pytest.mark.alone
@pytest.mark.slow
def test_a_call_slowed_by_its_limit_and_one_slowed_by_a_neighbour_are_told_apart(own_instance):
    with sandbox_project("telemetry", ("sandbox",)) as (project, env):
        limited, beside = neighbours.two_calls(project, env)
    cpu = [(one.cost.cpu_user_ns or 0) + (one.cost.cpu_system_ns or 0) for one in (limited, beside)]
    assert cpu[0] == pytest.approx(cpu[1], rel=0.15)
    assert limited.cost.wall_ns == pytest.approx(beside.cost.wall_ns, rel=0.7)
    assert (limited.why.cause, beside.why.cause) == ("limit", "neighbours")
    assert limited.cost.cfs_throttled_ns > 0.3 * limited.cost.wall_ns
    assert beside.cost.cfs_throttled_ns == 0
    assert beside.cost.runqueue_wait_ns > 0.5 * beside.cost.wall_ns


@pytest.mark.docker
@pytest.mark.alone
def test_a_wrong_expectation_and_a_load_that_fails_are_failures(own_instance, tmp_path, capsys):
    (direct,) = (load for load in LOADS if "O_DIRECT" in load.name)
    wrong = msgspec.structs.replace(direct, name="wrong", expected={"read_bytes": Near(16 * 2**20 - 1, 0)})
    broken = Load(name="broken", kind="bash", code="echo no >&2; exit 3", expected={"write_bytes": Near(0, 0)})
    file = tmp_path / "findings.json"
    assert telemetry_check.check(repeats=1, loads=[wrong, broken], json_file=file) == 1
    told = json.loads(file.read_text())
    found = [finding for name in told if name.endswith("_helper") for finding in told[name]]
    assert {(item["load"], item["measured"], item["verdict"], item["note"]) for item in found} == {
        ("wrong", 16 * 2**20, "outside", ""),
        ("broken", None, "outside", "exit code 3: no"),
    }


@pytest.mark.docker
@pytest.mark.alone
def test_the_benchmark_of_resets_and_the_soak_come_to_an_end_and_nothing_grows(own_instance, tmp_path):
    file = tmp_path / "rows.json"
    assert bench_sandbox.run(rounds=1, only=["resets"], soak_calls=40, json_file=file) == 0
    rows = {row["name"]: row for row in json.loads(file.read_text())["rows"]}
    assert "reset, 2,000 files, all deleted" in rows
    assert rows["rm -rf and cp -a, 100 files"]["median"] > 0
    grown = [row for name, row in rows.items() if name.startswith("growth") and row["unit"] == ""]
    assert grown
    assert {row["median"] for row in grown} == {0}


@pytest.mark.parametrize("words", [["telemetry-check", "--only", "no such"], ["bench-sandbox", "--only", "no such"]])
def test_a_name_that_does_not_exist_is_an_error_that_names_those_that_do(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "burn 200 ms" in said or "resets" in said


def test_nothing_is_measured_without_repeats():
    with pytest.raises(UsageError, match="at least one repeat"):
        telemetry_check.check(repeats=0)
