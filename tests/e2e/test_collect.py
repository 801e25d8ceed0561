"""`collect` through the real containers: the bundled model, the real llama-server, the real sandbox."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from agenttrace.campaign.plan import metadata
from agenttrace.host.images import name as image_name
from agenttrace.records import RunSpec, Trace, canonical_json
from agenttrace.serving.cassette import cassette_path
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.tasks.demo import DemoTasks

pytestmark = pytest.mark.docker

TASKS = DemoTasks().tasks()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_task_has_one_whole_record_in_order(finished):
    instance, _ = finished
    traces = list(read_traces(instance.records))
    assert [trace.metadata["task_id"] for trace in traces] == [task.task_id for task in TASKS]
    assert len({trace.trace_id for trace in traces}) == len(traces)


def test_what_was_collected_validates_and_gives_nothing_away(finished):
    from agenttrace.validate import Validation
    from agenttrace.verbs.validate import local_rules

    validation = Validation(finished[0].records, words=local_rules()[0])
    assert list(validation) == []
    assert (validation.records, validation.notes) == (len(TASKS), [])


def test_the_model_solves_the_solvable_and_fails_the_others(finished):
    instance, _ = finished
    by_id = {trace.metadata["task_id"]: trace for trace in read_traces(instance.records)}
    solvable = [task for task in TASKS if task.solvable]
    solved = [task for task in solvable if by_id[task.task_id].outcome.solved]
    assert len(solved) >= 0.9 * len(solvable), [task.name for task in solvable if task not in solved]
    assert not any(by_id[task.task_id].outcome.solved for task in TASKS if not task.solvable)


def test_the_model_reasons_and_calls_tools_by_structure(finished):
    for trace in read_traces(finished[0].records):
        assert all(step.reasoning_content and step.tool_calls for step in trace.llm_steps), trace.metadata["task_name"]
        assert all(step.timings and step.timings.predicted_ms for step in trace.llm_steps)
        spans = {span.call_id: span for span in trace.spans}
        for step in trace.llm_steps:
            for call in step.tool_calls:
                assert spans[call.call_id].parent_span_id == step.step_id


def test_every_tool_call_carries_telemetry_with_its_method(finished):
    ran = [span for trace in read_traces(finished[0].records) for span in trace.spans if span.status == "ok"]
    assert len(ran) >= len(TASKS) - 2
    for span in ran:
        cost = span.telemetry
        assert cost.method == "c-helper"
        assert 0 < cost.wall_ns < 10e9
        assert cost.cpu_user_ns + cost.cpu_system_ns > 0
        assert cost.max_rss_bytes > 1 << 20 > cost.peak_rss_floor_bytes
        assert cost.read_bytes is not None
        assert cost.write_bytes is not None
    peaks = {
        name: [s.telemetry.max_rss_bytes for s in ran if s.tool_name == name] for name in ("bash", "python_interpreter")
    }
    assert max(peaks["bash"]) < min(peaks["python_interpreter"])  # an interpreter is larger than any small shell tool


def test_a_call_that_fails_is_repaired_in_some_trace(finished):
    traces = list(read_traces(finished[0].records))
    repaired = [
        trace for trace in traces if trace.outcome.solved and any(span.exit_code not in {0, -1} for span in trace.spans)
    ]
    assert repaired


def test_metadata_is_the_pure_function_of_run_spec_and_task(finished):
    instance, _ = finished
    spec = read_run_spec(run_spec_path(instance.records))
    for trace, task in zip(read_traces(instance.records), TASKS, strict=True):
        assert canonical_json(trace.metadata) == canonical_json(metadata(spec, task, spec_sha256=spec.digest))
    assert set(spec.images) == {"server", "sandbox", "collector"}


def test_no_host_name_or_user_name_is_in_a_record(finished):
    text = finished[0].records.read_text()
    assert os.uname().nodename not in text or len(os.uname().nodename) < 4
    assert str(Path.home()) + "/" not in text


def test_files_belong_to_the_caller(finished):
    for path in finished[0].folder.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())
    assert sorted(path.name for path in finished[0].folder.iterdir()) == [
        "demo.cassette.zst",
        "demo.jsonl",
        "demo.run.json",
        "demo.server.csv",
    ]


def test_the_closing_table_and_the_next_command_are_shown(finished):
    _, ended = finished
    for part in ("solved of the solvable", "tokens in / out", "in the model", "in tools", "in agenttrace"):
        assert part in ended.stderr
    assert "look at one: scripts/nox -s show -- " in ended.stderr


def test_the_same_command_again_has_nothing_to_do(finished):
    instance, _ = finished
    before = sha256(instance.records)
    ended = instance.collect()
    assert ended.returncode == 0
    assert "nothing to do" in ended.stderr
    assert sha256(instance.records) == before
    assert instance.left() == []


def test_another_command_on_the_same_file_is_refused_and_the_field_named(finished):
    instance, _ = finished
    before = sha256(instance.records)
    ended = instance.collect("--max-steps", "3")
    assert ended.returncode == 2
    assert "agent.max_steps: 3 / 10" in ended.stderr
    assert sha256(instance.records) == before


def test_two_campaigns_give_the_same_trajectories_and_metadata_but_for_what_is_measured(finished, instance):
    assert instance.collect("--run-id", "again").returncode == 0

    def essence(trace: Trace):
        steps = [(step.model_output, step.reasoning_content, step.tool_calls) for step in trace.llm_steps]
        spans = [(s.tool_name, s.tool_input, s.tool_output, s.exit_code) for s in trace.spans]
        kept = {k: v for k, v in trace.metadata.items() if k not in {"run_id", "run_spec_sha256"}}
        return steps, spans, kept, trace.outcome

    first = [essence(trace) for trace in read_traces(finished[0].records)]
    assert [essence(trace) for trace in read_traces(instance.records)] == first


def test_a_killed_collector_loses_and_doubles_nothing(instance):
    process = instance.start()
    instance.wait_for_records(5, process)
    instance.docker("kill", "--signal", "KILL", instance.container("collector"))
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "the collector was killed" in output
    kept = instance.records.read_bytes()
    assert instance.left() == []
    ended = instance.collect()
    assert ended.returncode == 0, ended.stderr
    whole = kept[: kept.rfind(b"\n") + 1]
    assert instance.records.read_bytes().startswith(whole)
    assert [trace.metadata["task_id"] for trace in read_traces(instance.records)] == [task.task_id for task in TASKS]


def test_a_killed_host_process_leaves_no_container_behind(instance, wait):
    process = instance.start()
    instance.wait_for_records(3, process)
    process.kill()
    process.communicate()
    assert wait(lambda: instance.left() == []), instance.left()
    assert instance.collect("-n", str(len(TASKS))).returncode in {0, 2}


def test_ctrl_c_ends_cleanly_with_130(instance):
    process = instance.start()
    instance.wait_for_records(3, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert instance.left() == []
    assert instance.records.read_bytes().endswith(b"\n")
    assert instance.collect().returncode == 0


def test_a_server_that_dies_stops_the_campaign_with_the_reason(instance):
    process = instance.start()
    instance.wait_for_records(3, process)
    instance.docker("kill", instance.container("server"))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 3, output
    assert "does not answer after" in output
    assert "the model server is exited" in output
    records = instance.records.read_bytes()
    assert records.endswith(b"\n")
    assert instance.collect().returncode == 0
    assert instance.records.read_bytes().startswith(records)


def test_a_worker_that_dies_is_replaced_and_the_campaign_goes_on(instance):
    process = instance.start()
    instance.wait_for_records(3, process)
    instance.docker("restart", "--time", "0", instance.container("sandbox"))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert [trace.metadata["task_id"] for trace in read_traces(instance.records)] == [task.task_id for task in TASKS]
    if instance.failures.exists():
        assert {trace.outcome.ended for trace in read_traces(instance.failures)} == {"sandbox_error"}


def test_a_torn_last_line_is_repaired_by_the_same_command(instance):
    assert instance.collect("-n", "3").returncode == 0
    whole = instance.records.read_bytes()
    instance.records.write_bytes(whole[:-500])
    ended = instance.collect("-n", "3")
    assert ended.returncode == 0, ended.stderr
    assert "cut off a torn last line" in ended.stderr
    lines, repaired = whole.splitlines(), instance.records.read_bytes().splitlines()
    assert repaired[:2] == lines[:2]
    assert [trace.metadata["task_id"] for trace in read_traces(instance.records)] == [0, 1, 2]


def replaced(path):
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def cut(path):
    subprocess.run(f": > {shlex.quote(str(path))}", shell=True, check=True)


def written_to(path):
    with path.open("ab") as file:
        file.write(b"no line end")


@pytest.mark.parametrize("change", [replaced, cut, Path.unlink, written_to])
def test_a_record_file_that_is_changed_from_the_host_stops_the_campaign_and_loses_nothing(instance, change):
    process = instance.start("-n", "16", "--workers", "2")
    instance.wait_for_records(4, process)
    change(instance.records)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 5, output
    assert f"{instance.records} " in output
    assert "so the campaign stops" in output
    assert "records: " not in output
    rescue = instance.folder / "demo.rescued.jsonl"
    kept = [path for path in (instance.records, rescue) if path.exists()]
    finished = [trace.trace_id for path in kept for trace in read_traces(path, lambda _: None)]
    assert 4 < len(finished) == len(set(finished)) < 16
    ended = instance.collect("-n", "16", "--workers", "2")
    assert ended.returncode == 0, ended.stderr
    assert "records of demo.rescued.jsonl" in ended.stderr
    traces = list(read_traces(instance.records))
    assert sorted(trace.metadata["task_id"] for trace in traces) == list(range(16))
    assert set(finished) <= {trace.trace_id for trace in traces}
    assert not rescue.exists()


@pytest.mark.parametrize("moment", ["tasks, ", "collector"])
def test_ctrl_c_while_services_start_ends_at_once_and_leaves_nothing(instance, moment):
    process = instance.start()
    if moment == "collector":
        while instance.container("collector") is None:
            assert process.poll() is None
    else:
        while moment not in process.stdout.readline():
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert instance.left() == []


def test_a_folder_that_cannot_be_written_is_named_as_the_user_knows_it(instance):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    instance.folder.chmod(0o500)
    ended = instance.collect("-n", "1")
    assert ended.returncode == 5
    assert str(instance.folder) in ended.stderr


def test_a_second_campaign_of_the_same_checkout_is_refused(instance):
    process = instance.start()
    instance.wait_for_records(1, process)
    ended = instance.collect()
    assert ended.returncode == 2
    assert "another campaign runs from this checkout" in ended.stderr
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


def test_weights_with_other_bytes_are_never_served(instance, volume_shell):
    assert instance.collect("-n", "1").returncode == 0
    volume_shell("for f in /models/*.gguf; do printf x >>$f; done")
    ended = instance.collect("-n", "2", "--run-id", "x")
    assert ended.returncode == 2, ended.stderr
    instance.records.unlink()
    run_spec_path(instance.records).unlink()
    cassette_path(instance.records).unlink()
    volume_shell("for f in /models/*.gguf; do printf x >>$f; done")
    ended = instance.collect("-n", "1")
    assert ended.returncode != 0
    assert "is pinned to" in ended.stderr
    assert "set aside as" in ended.stderr
    assert instance.collect("-n", "1").returncode == 0
    volume_shell("rm -f /models/*.wrong")


def test_workers_side_by_side_do_every_task_once(instance):
    ended = instance.collect("--workers", "3")
    assert ended.returncode == 0, ended.stderr
    ids = [trace.metadata["task_id"] for trace in read_traces(instance.records)]
    assert sorted(ids) == [task.task_id for task in TASKS]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a file system needs Linux and root")
def test_a_full_disk_keeps_what_was_written_and_says_so(instance):
    small = instance.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)], check=True)
    try:
        records = small / "demo.jsonl"
        argv = [sys.executable, "-m", "agenttrace.host", "collect", "--output", str(records)]
        ended = subprocess.run(argv, capture_output=True, text=True, env=instance.env, timeout=120)
        assert ended.returncode == 5, ended.stderr
        assert "No space left on device" in ended.stderr
        kept = list(read_traces(records))
        assert 0 < len(kept) < len(TASKS)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_run_spec_holds_prompts_tools_weights_and_server_arguments(finished):
    spec = msgspec.json.decode(run_spec_path(finished[0].records).read_bytes(), type=RunSpec)
    assert "final_answer" in spec.agent.system_prompt
    assert [tool["function"]["name"] for tool in spec.agent.tools] == ["bash", "python_interpreter", "final_answer"]
    assert len(spec.model.sha256) == 64
    assert "--no-cache-prompt" in spec.serving.args
    assert spec.serving.args[spec.serving.args.index("--parallel") + 1] == "1"


def test_a_server_that_cannot_start_is_told_with_its_own_words(instance):
    """A memory limit far too small: the server dies at once, long before the collector would give up on it."""
    instance.env["AGENTTRACE_SERVER_MEMORY"] = "16m"
    ended = instance.collect("-n", "1")
    assert ended.returncode == 3, ended.stderr
    assert "the model server is exited" in ended.stderr
    assert not instance.records.exists()


def test_a_foreign_container_does_not_stand_in_the_way(instance):
    name = f"{instance.project}-collector"
    instance.docker("create", "--name", name, image_name("collector"))
    try:
        assert instance.collect("-n", "1").returncode == 0
    finally:
        instance.docker("rm", name)


def test_a_network_name_that_is_taken_is_an_error_that_names_it(instance):
    name = f"{instance.project}_inference"
    instance.docker("network", "create", name)
    try:
        ended = instance.collect("-n", "1")
        assert ended.returncode != 0
        assert name in ended.stderr
        assert "Traceback" not in ended.stderr
    finally:
        instance.docker("network", "rm", name)
