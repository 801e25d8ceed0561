"""`replay`, `determinism` and `reproduce` through the real containers, on few tasks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import msgspec
import pytest

from agenttrace.host.images import TARGETS
from agenttrace.host.images import name as image_name
from agenttrace.serving.cassette import Cassette, CassetteLog, cassette_path
from agenttrace.store.ids import IdIndex
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.testing import ScriptedServer
from tests.batches import Batches

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]


def host(instance, *arguments, prefix=(), umask=-1, **more):
    return subprocess.run(
        [*prefix, sys.executable, "-m", "agenttrace.host", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**instance.env, **more},
        timeout=280,
        umask=umask,
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, request):
    """One campaign with a cassette, killed once on its way."""
    instance = request.getfixturevalue("make_instance")(tmp_path_factory.mktemp("recorded"))
    process = instance.start("-n", "6")
    instance.wait_for_records(2, process)
    instance.docker("kill", "--signal", "KILL", instance.container("collector"))
    process.communicate(timeout=60)
    ended = instance.collect("-n", "6")
    assert ended.returncode == 0, ended.stderr
    return instance


@pytest.fixture
def copy(recorded, tmp_path):
    for path in recorded.folder.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / recorded.records.name


def test_a_campaign_that_was_killed_and_resumed_replays_to_the_same_bytes(recorded, tmp_path):
    found = tmp_path / "found.json"
    ended = host(recorded, "replay", str(recorded.records), "--workers", "2", "--json", str(found))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(found.read_text())["costs"] == []
    assert "6 of 6 traces replayed, 6 byte-identical but for the measured fields" in ended.stderr
    body = json.loads(found.read_text())
    assert body["passed"] is True
    assert body["findings"] == []
    assert recorded.left() == []


def test_replays_of_a_call_tell_which_of_its_costs_can_be_reproduced(recorded, tmp_path):
    found = tmp_path / "found.json"
    more = {"AGENTTRACE_FIGURES": "cpu_counters"}
    ended = host(recorded, "replay", str(recorded.records), "--repeat", "3", "--json", str(found), **more)
    assert ended.returncode == 0, ended.stderr
    costs = {one["figure"]: one for one in json.loads(found.read_text())["costs"]}
    calls = sum(span.telemetry.method == "c-helper" for trace in read_traces(recorded.records) for span in trace.spans)
    assert costs["wall_ns"]["calls"] == costs["minor_faults"]["calls"] == calls
    counted = costs["user_instructions"]
    assert (counted["calls"] == calls) != bool(counted["reason"])  # a machine has counters, or says why it has none
    assert "95 % within" in ended.stderr


def test_a_flipped_byte_in_the_cassette_is_found_and_named(recorded, copy):
    tape = cassette_path(copy)
    data = bytearray(tape.read_bytes())
    data[-40] ^= 4
    tape.write_bytes(data)
    ended = host(recorded, "replay", str(copy))
    assert ended.returncode == 1
    assert "are damaged" in ended.stderr
    assert list(read_traces(copy))[-1].trace_id in ended.stderr
    assert "5 byte-identical" in ended.stderr


@pytest.fixture(scope="module")
def changed_sandbox(recorded):
    """Make a sandbox image in which one file was changed; returns the tag of the set of images."""
    tags = []

    def make(command):
        tag = f"changed-{uuid.uuid4().hex[:8]}"
        tags.append(tag)
        for target in TARGETS:
            recorded.docker("tag", image_name(target), f"agenttrace-{target}:{tag}")
        dockerfile = f"FROM {image_name('sandbox')}\nRUN {command}\n"
        subprocess.run(
            ["docker", "build", "--quiet", "--network", "none", "--tag", f"agenttrace-sandbox:{tag}", "-"],
            input=dockerfile, text=True, check=True, capture_output=True,
        )  # fmt: skip
        return tag

    yield make
    for tag in tags:
        names = [f"agenttrace-{target}:{tag}" for target in TARGETS]
        subprocess.run(["docker", "image", "rm", *names], capture_output=True)


def test_a_changed_fixture_file_is_found_and_named(recorded, changed_sandbox):
    tag = changed_sandbox(
        "cd /opt/agenttrace/fixtures/demo && echo one more >>$(find . -name '*.csv' | sort | head -1)"
    )
    ended = host(recorded, "replay", str(recorded.records), AGENTTRACE_IMAGE_TAG=tag)
    assert ended.returncode == 1
    assert "inputs, fixture file " in ended.stderr
    assert ".csv" in ended.stderr
    assert "sandbox.fixture_version" in ended.stderr


def test_a_changed_tool_is_found_and_named_with_the_span_that_used_it(recorded, changed_sandbox):
    used = next(trace.spans[0].tool_input for trace in read_traces(recorded.records))
    tool = "wc" if "wc" in used else json.loads(used)["command"].split()[0]
    path = f"/usr/bin/{tool}"
    tag = changed_sandbox(f"mv {path} {path}.real && printf '#!/bin/sh\\necho 4711\\n' >{path} && chmod 755 {path}")
    ended = host(recorded, "replay", str(recorded.records), AGENTTRACE_IMAGE_TAG=tag)
    assert ended.returncode == 1
    assert "span 1 (bash), tool_output" in ended.stderr
    assert "4711" in ended.stderr


def test_live_runs_are_equal_and_the_check_can_fail(recorded, tmp_path):
    report = tmp_path / "report.json"
    same = host(recorded, "determinism", "-n", "2", "--repeat", "2", "--json", str(report))
    assert same.returncode == 0, same.stdout + same.stderr
    assert "2 of 2 tasks equal in all 2 runs" in same.stdout
    assert {task["verdict"] for task in json.loads(report.read_text())["tasks"]} == {"equal"}
    hot = ("--temperature", "1.5", "--vary-seed")
    other = host(recorded, "determinism", "-n", "2", "--repeat", "2", *hot, "--json", str(report))
    assert other.returncode == 1, other.stdout + other.stderr
    body = json.loads(report.read_text())
    first = next(task["divergence"] for task in body["tasks"] if task["verdict"] == "other reply")
    assert first["where"] == "step 1"
    assert first["token"] is not None
    assert first["first"] != first["other"]
    assert "sampler.seed" in body["inputs"][0]
    folder = Path(other.stderr.rpartition("the records of all runs: ")[2].strip())
    assert folder.is_dir()
    shutil.rmtree(folder)


def test_cache_and_slots_are_reported(recorded):
    wide = ("--profile", "throughput", "--concurrency", "1,4")
    ended = host(recorded, "determinism", "-n", "4", "--repeat", "1", *wide)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "timings." in ended.stdout
    assert "4 tasks at a time: " in ended.stdout
    shutil.rmtree(ended.stderr.rpartition("the records of all runs: ")[2].strip())


@pytest.mark.parametrize("invariant", [True, False])
def test_an_endpoint_that_is_batch_invariant_is_told_from_one_that_is_not(recorded, invariant, tmp_path):
    report = tmp_path / "report.json"
    with ScriptedServer(Batches(invariant=invariant, each_s=0.3), address=("0.0.0.0", 0)) as server:
        url = server.base_url.replace("127.0.0.1", "localhost")
        asked = ("--sampler", "greedy", "--base-url", url, "-n", "4", "--repeat", "1", "--concurrency", "1,4")
        ended = host(recorded, "determinism", "scripted/model-1B", *asked, "--json", str(report))
    body = json.loads(report.read_text())
    assert (ended.returncode, body["passed"]) == (0 if invariant else 1, invariant), ended.stderr
    assert {one["verdict"] for one in body["tasks"]} <= ({"equal"} if invariant else {"equal", "other reply"})
    one, four = body["times"]
    assert (one["workers"], four["workers"]) == (1, 4)
    assert four["seconds"] < one["seconds"]
    if not invariant:
        shutil.rmtree(ended.stderr.rpartition("the records of all runs: ")[2].strip())


def test_another_file_is_compared_against(recorded, copy):
    text = copy.read_text()
    copy.write_text(text.replace('"final_answer":"', '"final_answer":"not '))
    ended = host(recorded, "determinism", "--against", str(copy))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "outcome.final_answer" in ended.stdout
    shutil.rmtree(ended.stderr.rpartition("the records of all runs: ")[2].strip())


ELSEWHERE = {
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "tr_TR.UTF-8",
    "TZ": "Pacific/Kiritimati",
    "USER": "nobody-else",
    "HOME": "/",
}


def test_metadata_is_made_again_under_another_name_locale_time_zone_and_umask(recorded, instance):
    other_host = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh") if os.geteuid() == 0 else ()
    ended = host(recorded, "reproduce", str(recorded.records), prefix=other_host, umask=0o077, **ELSEWHERE)
    assert ended.returncode == 0, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("metadata: ")]
    assert line.startswith("metadata: 6 of 6 rows identical, sha256 ")
    run_id = next(read_traces(recorded.records)).metadata["run_id"]
    again = subprocess.run(
        [*other_host, *instance.argv("-n", "6", "--run-id", run_id)],
        capture_output=True, text=True, env={**instance.env, **ELSEWHERE, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        umask=0o077, timeout=180,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    rows = [[json.loads(text) for text in one.records.read_text().splitlines()] for one in (recorded, instance)]
    assert [json.dumps(row["metadata"]) for row in rows[1]] == [json.dumps(row["metadata"]) for row in rows[0]]
    assert [(row["trace_id"], row["prompt"]) for row in rows[1]] == [
        (row["trace_id"], row["prompt"]) for row in rows[0]
    ]


def changed_spec(records, change):
    beside = run_spec_path(records)
    body = json.loads(beside.read_text())
    change(body)
    beside.write_text(json.dumps(body))


def test_another_prompt_or_fixture_than_in_the_run_spec_is_refused_and_named(recorded, copy):
    def change(body):
        body["agent"]["system_prompt"] += " Now."
        body["sandbox"]["fixture_version"] = "0" * 64

    changed_spec(copy, change)
    ended = host(recorded, "reproduce", str(copy))
    assert ended.returncode == 2, ended.stderr
    assert "agent.system_prompt" in ended.stderr
    assert "the fixture (sandbox.fixture_version)" in ended.stderr
    assert "traces replayed" not in ended.stderr


def collected_with_other_images(records):
    """Rewrite a campaign as it had come from images of other digests and another version of the kit."""
    spec = read_run_spec(run_spec_path(records))
    images = dict.fromkeys(spec.images, "0" * 64)
    other = msgspec.structs.replace(spec, images=images, collector_version="0.0.1")
    run_spec_path(records).write_bytes(msgspec.json.encode(other))
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    for row in rows:
        row["metadata"].update(images=images, collector_version="0.0.1", run_spec_sha256=other.digest)
    records.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    path = cassette_path(records)
    old = Cassette(path.rename(path.with_suffix(".old")))
    with CassetteLog(path, run_spec_sha256=other.digest, recorded=IdIndex()) as log:
        log.note(old.facts)
        for row in rows:
            log.append(row["trace_id"], old.turns(row["trace_id"]))


def test_other_images_are_a_note_to_a_replay_and_refused_for_a_live_run(recorded, copy):
    collected_with_other_images(copy)
    ended = host(recorded, "reproduce", str(copy))
    assert ended.returncode == 0, ended.stderr
    for target in ("server", "sandbox", "collector"):
        assert f"(images.{target})" in ended.stderr
    assert ended.stderr.count("note: other input than in the run spec: ") == 4
    assert "6 byte-identical" in ended.stderr
    assert "metadata: 6 of 6 rows identical" in ended.stderr
    ended = host(recorded, "reproduce", str(copy), "--live")
    assert ended.returncode == 2, ended.stderr
    assert "the image of the model server (images.server)" in ended.stderr


def test_a_live_reproduction_is_compared_with_the_release(recorded):
    ended = host(recorded, "reproduce", str(recorded.records), "--live")
    assert ended.returncode == 0, ended.stderr
    assert "live: 6 of 6 traces byte-identical but for the measured fields" in ended.stderr
    shutil.rmtree(ended.stderr.strip().rpartition("; ")[2])
