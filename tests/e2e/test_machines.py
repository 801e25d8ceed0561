"""The same tasks on two machines that differ in all that a record must not know; and an endpoint of somebody else."""

from __future__ import annotations

import os
import subprocess
import uuid

import msgspec
import pytest

from agenttrace.campaign.options import Options
from agenttrace.host import campaign, compose, engine, guard, images
from agenttrace.host.images import name as image_name
from agenttrace.records import canonical_json
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path

pytestmark = pytest.mark.docker

MACHINES = {
    "alpha": {"user": "1234:2345", "cpus": "0.5", "environment": {"TZ": "Asia/Tokyo", "LANG": "C"}},
    "beta": {"user": "0:0", "cpus": "2", "environment": {"TZ": "America/Lima", "USER": "eve"}},
}


@pytest.fixture
def collected(instance, monkeypatch):
    """Collect the same tasks in two collector containers; yields the two record files."""
    if os.geteuid() != 0:
        pytest.skip("files of another user need root")
    monkeypatch.setenv("AGENTTRACE_INSTANCE", instance.name)
    monkeypatch.setenv("AGENTTRACE_MODELS_VOLUME", instance.env["AGENTTRACE_MODELS_VOLUME"])
    options = Options(count=4, rollouts=2, run_id="same", output="r.jsonl")
    request = campaign.Request(options=(options,), folder=instance.folder)
    project = compose.project_name()
    at = guard.Engine(sdk=compose.client(), project=project, info=engine.check(), built=images.build())
    variables = campaign.variables(request, at) | campaign.server_variables(request)
    env = {**compose.clean_environment(), **variables}
    services = compose.Services(project, variables)
    services.ask("fetcher", "fetch", options.model)
    services.up("server", "sandbox")
    files = []
    for name, machine in MACHINES.items():  # JSON is YAML
        folder = instance.folder / name
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        override = instance.folder / f"{name}.yml"
        override.write_bytes(msgspec.json.encode({"services": {"collector": {"hostname": name, **machine}}}))
        text = msgspec.json.encode((options,)).decode()
        run = (
            "--file",
            str(override),
            "run",
            "--rm",
            "--no-deps",
            "--no-TTY",
            "collector",
            "collect",
            "--options",
            text,
        )
        engine.run(compose.argv(project, *run), env={**env, "AGENTTRACE_DATASETS": str(folder)})
        files.append(folder / "r.jsonl")
    yield files
    compose.sweep(compose.client(), project)


def test_metadata_is_the_same_bytes_on_machines_that_differ_in_name_user_zone_and_processors(collected):
    first, second = (list(read_traces(path)) for path in collected)
    assert len(first) == 8
    assert [canonical_json(trace.metadata) for trace in first] == [canonical_json(trace.metadata) for trace in second]
    assert [trace.trace_id for trace in first] == [trace.trace_id for trace in second]
    assert run_spec_path(collected[0]).read_bytes() == run_spec_path(collected[1]).read_bytes()
    assert collected[0].stat().st_uid == 1234
    text = b"".join(path.read_bytes() for path in collected)
    for secret in (b"alpha", b"beta", b"Tokyo", b"Lima", b'eve"'):
        assert secret not in text


@pytest.fixture
def endpoint():
    """A llama-server with the bundled model and a key, as somebody else may run it on this machine; yields its port."""
    name = f"agenttrace-endpoint-{uuid.uuid4().hex[:8]}"
    weights = compose.ROOT / "agenttrace" / "models" / "bundled"
    argv = ["docker", "run", "--detach", "--rm", "--name", name, "--publish", "8080", "--volume", f"{weights}:/m:ro"]
    server = ["--model", "/m/agenttrace-demo.gguf", "--ctx-size", "16384", "--parallel", "1", "--threads", "1"]
    image = image_name("server")
    subprocess.run(
        [*argv, image, *server, "--jinja", "--offline", "--api-key", "sk-e2e"], check=True, capture_output=True
    )
    shown = subprocess.run(["docker", "port", name, "8080"], check=True, capture_output=True, text=True).stdout
    yield shown.splitlines()[0].rpartition(":")[2]
    subprocess.run(["docker", "rm", "--force", name], capture_output=True)


def test_an_endpoint_is_checked_and_used_and_its_key_stays_out_of_everything(instance, endpoint):
    url = f"http://localhost:{endpoint}/v1"
    refused = instance.collect("-n", "2", "--base-url", url)
    assert refused.returncode == 3
    assert "a key is needed" in refused.stderr
    assert not instance.records.exists()
    instance.env["OPENAI_API_KEY"] = "sk-e2e"
    other = instance.collect("-n", "2", "--base-url", url, "--context", "8192")
    assert other.returncode == 2
    assert "context_length: the server has 16384, the run spec names 8192" in other.stderr
    ended = instance.collect("-n", "2", "--base-url", url)
    assert ended.returncode == 0, ended.stderr
    traces = list(read_traces(instance.records))
    assert len(traces) == 2
    assert set(traces[0].environment["server_checks"].values()) == {"as pinned"}
    spec = read_run_spec(run_spec_path(instance.records))
    assert spec.serving.engine == "external"
    said = refused.stderr + other.stderr + ended.stderr + ended.stdout
    everything = said.encode() + b"".join(path.read_bytes() for path in instance.folder.iterdir())
    assert b"sk-e2e" not in everything
    assert b"localhost" not in b"".join(path.read_bytes() for path in instance.folder.iterdir())


def test_several_sets_share_a_stamp_and_a_second_run_finds_both(task_files, instance):
    def run():
        argv = [
            a
            for a in instance.argv("--dataset", "demo", "mbpp", "-n", "1")
            if a not in {"--output", str(instance.records)}
        ]
        return subprocess.run(argv, capture_output=True, text=True, cwd=compose.ROOT, env=instance.env, timeout=180)

    def files():  # of other tests' runs there may be folders
        return {path for path in (compose.ROOT / "datasets").iterdir() if path.is_file()}

    before = files()
    try:
        ended = run()
        assert ended.returncode == 0, ended.stderr
        made = sorted(path.name for path in files() - before if path.suffix == ".jsonl")
        assert [name.split("_")[0] for name in made] == ["demo", "mbpp"]
        assert len({name.rpartition("_")[2] for name in made}) == 1
        again = run()
        assert again.stderr.count("nothing to do") == 2
    finally:
        for path in files() - before:
            path.unlink()
