"""The files for clusters: they name images, options, rights and limits that there are."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from agenttrace.cluster.on_ray import RESOURCE
from agenttrace.host import images
from agenttrace.sandbox.policies import policies
from agenttrace.sandbox.runner import settings
from agenttrace.sandbox.runner.enclose import STEP
from tests.documents.test_commands import check

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
OURS = {f"agenttrace-{target}" for target in images.ALL_TARGETS} | {"agenttrace-cluster"}
"""Images that the kit builds, and the one of deploy/Dockerfile."""


def text(name):
    return (DEPLOY / name).read_text(encoding="utf-8")


def pods():
    """Return the specification of every pod in the manifests, by file."""
    found = []
    for path in sorted(DEPLOY.glob("*.yaml")):
        specs = _specs(yaml.safe_load(path.read_text(encoding="utf-8")))
        found += [pytest.param(spec, id=f"{path.name}-{number}") for number, spec in enumerate(specs)]
    return found


def _specs(part):
    if isinstance(part, dict):
        if "containers" in part:
            yield part
        for below in part.values():
            yield from _specs(below)
    elif isinstance(part, list):
        for below in part:
            yield from _specs(below)


def workers(pod):
    return [one for one in pod.get("initContainers", ()) if "sandbox" in one["image"]]


WITH_WORKERS = [pod for pod in pods() if workers(pod.values[0])]


@pytest.mark.parametrize("name", [path.name for path in sorted(DEPLOY.iterdir()) if path.is_file()])
def test_each_file_says_what_of_it_was_run(name):
    if name.endswith(".dockerignore"):
        return
    head = " ".join(line.removeprefix("#").strip() for line in text(name).splitlines()[:25] if line.startswith("#"))
    assert re.search(r"[Nn]ot (run|built) by us", head)


@pytest.mark.parametrize("name", [path.name for path in sorted(DEPLOY.iterdir()) if path.is_file()])
def test_images_are_ours(name):
    named = set(re.findall(r"(?:REGISTRY/|[ `])(agenttrace-[a-z-]+):[\d.]+", text(name)))
    assert named <= OURS
    assert named or not name.startswith("shards.")


def test_pods_with_workers_are_found():
    assert len(WITH_WORKERS) == len([*DEPLOY.glob("*.yaml")])


@pytest.mark.parametrize("pod", WITH_WORKERS)
def test_workers_of_a_pod_have_rights_and_limits_of_their_policy(pod):
    assert pod["automountServiceAccountToken"] is False
    assert not pod.get("shareProcessNamespace")
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["securityContext"]["supplementalGroups"] == [settings.Settings.socket_gid]
    by_target = {policy.target: policy for policy in policies().values()}
    for one in workers(pod):
        policy = by_target[re.search(r"agenttrace-([a-z-]+):", one["image"])[1]]
        assert one["restartPolicy"] == "Always"
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert one["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert {*one["securityContext"]["capabilities"]["add"]} == {*policy.capabilities, *STEP}
        memory, cpus = one["resources"]["limits"]["memory"], one["resources"]["limits"]["cpu"]
        assert int(memory.removesuffix("Gi")) << 30 == policy.limits.memory_bytes
        assert float(cpus) == policy.limits.cpus
        assert settings.parse(one["args"]).enclose
        mounts = {mount["mountPath"]: mount["name"] for mount in one["volumeMounts"]}
        assert mounts["/run/agenttrace"] == "sockets"
        assert ("/testdata" in mounts) is ("/testdata" not in policy.limits.tmpfs)
    work = [m["name"] for one in workers(pod) for m in one["volumeMounts"] if m["mountPath"] == "/testdata"]
    assert len(work) == len({*work})
    assert {m["name"] for one in [*workers(pod), *pod["containers"]] for m in one["volumeMounts"]} <= {
        volume["name"] for volume in pod["volumes"]
    }


@pytest.mark.parametrize("pod", pods())
def test_commands_of_a_pod_are_ours(pod):
    for one in pod["containers"]:
        if "agenttrace-cluster" in one["image"] and "args" in one:
            words = [word.replace("$(JOB_COMPLETION_INDEX)", "0") for word in one["args"]]
            check(["agenttrace", *words])
            assert one["args"][-1] == f"--workers={len(workers(pod))}"


def test_the_run_over_ray_is_a_command_of_ours_with_as_many_workers_as_ray_counts():
    job = yaml.safe_load(text("run.kuberay.yaml"))["spec"]
    check(shlex.split(job["entrypoint"]))
    for group in job["rayClusterSpec"]["workerGroupSpecs"]:
        counted = json.loads(json.loads(group["rayStartParams"]["resources"]))
        assert counted == {RESOURCE: len(workers(group["template"]["spec"]))}
    assert job["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert job["rayClusterSpec"]["rayVersion"] == pins("cluster.txt")["ray"]


def pins(name):
    return dict(re.findall(r"^([a-z0-9-]+)==([\w.]+)", (ROOT / "requirements" / name).read_text("utf-8"), re.MULTILINE))


def test_the_image_has_the_dashboard_that_kuberay_hands_jobs_to_and_else_the_versions_of_the_tests():
    (name,) = re.findall(r"^COPY requirements/(\S+) ", text("Dockerfile"), re.MULTILINE)
    assert {*pins("cluster.txt").items()} <= {*pins(name).items()}
    dashboard = Path(importlib.util.find_spec("ray").origin).with_name("dashboard") / "optional_deps.py"
    asked = {*re.findall(r"^(?:import|from) (\w+)", dashboard.read_text("utf-8"), re.MULTILINE)}
    packages = {"grpc": "grpcio", "opentelemetry": "opentelemetry-exporter-prometheus"}
    assert {packages.get(one, one.replace("_", "-")) for one in asked} <= {*pins(name)}


@pytest.mark.parametrize(("told", "ends"), [(True, 0), (False, 7)])
def test_the_script_ends_as_its_shard_does_also_where_it_is_told_to_end_meanwhile(tmp_path, told, ends):
    said = tmp_path / "said"
    works = f"[ $3 = 1007 ] || exit 9; touch {tmp_path}/begun; " + ("sleep 30 & wait" if told else "exit 7")
    for name, does in {
        "podman": f'echo "$@" >> {said}',
        "agenttrace": f"trap 'sleep 0.2; kill $!; exit {ends}' TERM; {works}",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "7", "FIRST": "1000"}
    with subprocess.Popen(["bash", str(DEPLOY / "shards.slurm.sh")], env=env) as script:
        while told and not (tmp_path / "begun").exists():
            time.sleep(0.05)
        if told:
            script.terminate()
    assert script.returncode == ends
    assert "rm --force --ignore --volumes" in said.read_text()


def test_commands_of_the_script_are_ours():
    subprocess.run(["bash", "-n", str(DEPLOY / "shards.slurm.sh")], check=True)
    joined = text("shards.slurm.sh").replace("\\\n", " ")
    found = [line for line in joined.splitlines() if line.startswith("agenttrace ")]
    assert found
    for line in found:
        words = [re.sub(r"^\$\w+$", "1", word) for word in shlex.split(line.rstrip("& "))]
        check(words)
    (run,) = (shlex.split(line) for line in joined.splitlines() if line.strip().startswith("podman run"))
    policy = policies()["shell"]
    rights = [name for word, after in pairwise(run) if word == "--cap-add" for name in after.split(",")]
    assert {*rights} == {*policy.capabilities, *STEP}
    asked = dict(pairwise(run))
    assert int(asked["--memory"].removesuffix("g")) << 30 == policy.limits.memory_bytes
    assert asked["--memory"] == asked["--memory-swap"]
    assert (float(asked["--cpus"]), int(asked["--pids-limit"])) == (policy.limits.cpus, policy.limits.pids)
    assert settings.parse([word for word in run if word == "--enclose"]).enclose
    assert asked["--network"] == "none"


def test_the_workers_of_a_machine_are_those_of_compose():
    laid_over = yaml.safe_load(text("workers.compose.yml"))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert {*laid_over} == {"volumes"}
    assert {*laid_over["volumes"]} <= {*compose["volumes"]}
    words = next(line for line in text("workers.compose.yml").splitlines() if "agenttrace cluster" in line)
    check(shlex.split(words.removeprefix("#").replace(" URL ", " http://h/v1 ")))
