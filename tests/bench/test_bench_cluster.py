"""What `bench-cluster` makes of what it sees, and the plans that it makes up."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
import zstandard

from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.errors import AgentTraceError, UsageError
from bench.__main__ import main
from bench.campaigns import bench_cluster, cluster_bed, cluster_plan


def test_the_help_names_every_part(capsys):
    with pytest.raises(UsageError) as refused:
        bench_cluster.run(only=["none"], rounds=1, per_node=1)
    with pytest.raises(SystemExit):
        main(["bench-cluster", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert [one for one in str(refused.value).partition("one of ")[2].split(", ") if one not in told] == []


def test_slots_that_are_always_taken_are_busy_and_gaps_count():
    always = [(float(at), at + 1.0) for at in range(40) for _ in range(2)]
    assert bench_cluster.busy(always, 2) == 1.0
    assert bench_cluster.busy(always, 4) == 0.5
    gaps = [(float(at), at + 0.75) for at in range(40)]
    assert bench_cluster.busy(gaps, 1) == pytest.approx(0.75, abs=0.01)
    late = [(at + 100.0, at + 101.0) for at in range(40)]  # how long it took to begin does not matter
    assert bench_cluster.busy(late, 1) == 1.0


@pytest.fixture
def file(tmp_path, trace_line):
    def write(name, *lines, run_spec=b"{}"):
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(b"".join(lines))
        path.with_suffix(".run.json").write_bytes(run_spec)
        return path

    return write


def figures(here, there):
    return [(one.median, one.verdict) for one in bench_cluster.compared(here, there)]


def test_records_that_differ_are_counted_and_named_but_for_what_is_measured(file, trace_line, capsys):
    a, b = trace_line("a"), trace_line("b")
    measured = a.replace(b'"total_duration_ms":0.0', b'"total_duration_ms":9.5')
    assert measured != a
    assert figures(file("h", a, b), file("t", b, measured)) == [(2, ""), (0, "met"), (0, "met"), (0, "met")]
    other = b.replace(b'"prompt":""', b'"prompt":"x"')
    assert figures(file("h", a, b), file("t", a, other)) == [(2, ""), (0, "met"), (1, "missed"), (0, "met")]
    assert 'b: prompt: "" / "x"' in capsys.readouterr().err


def test_records_of_one_side_and_other_run_specs_are_counted(file, trace_line):
    here, there = file("h", trace_line("a")), file("t", trace_line("b"), run_spec=b"{ }")
    assert figures(here, there) == [(0, ""), (2, "missed"), (0, "met"), (1, "missed")]


@pytest.mark.parametrize("make", [cluster_plan.own, cluster_plan.stored, cluster_plan.in_one_file])
def test_made_up_tasks_are_a_plan(make, tmp_path):
    objects = {}
    words = make(tmp_path, objects, 3)
    if (prepared := objects.get("runs/planned/prepared.json.zst")) is not None:
        (tmp_path / "prepared.json").write_bytes(zstandard.decompress(prepared))
        assert len(objects) == 4
    options = Options(dataset=words[1], rollouts=30_727, external=True, model="m", run_id="r", output="o.jsonl")
    plan = make_plan(options, images={}, folder=tmp_path, now=datetime(2026, 11, 30, tzinfo=UTC), trees=tmp_path)
    assert plan.spec.dataset.count * plan.spec.dataset.rollouts == 92_181


def test_both_plans_are_of_as_many_shards():
    for tasks, rollouts in (cluster_plan.OWN, cluster_plan.CHECKOUTS):
        assert tasks * rollouts == 12_290_800


def test_the_memory_of_a_program_is_not_that_of_what_started_it():
    held = bytearray(os.urandom(1 << 20) * 400)
    with cluster_bed.Program("agenttrace", "--version") as program:
        used = program.wait()
    assert 5 << 20 < used.peak_bytes < len(held) // 2


def test_a_program_that_fails_is_told_with_what_it_said():
    with cluster_bed.Program("agenttrace", "nonsense") as program, pytest.raises(AgentTraceError, match="nonsense"):
        program.wait()
