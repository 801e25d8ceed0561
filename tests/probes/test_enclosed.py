"""The sandbox where Compose does not start it: a container that shares network and mounts, as those of a pod do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import images
from agenttrace.host.workers import SandboxContainer, sandbox_project
from agenttrace.probes import report
from agenttrace.sandbox import strength
from agenttrace.sandbox.client import acquire
from agenttrace.sandbox.policies import policies
from agenttrace.sandbox.runner.enclose import STEP
from agenttrace.sandbox.strength import refuse_short, shortfalls
from agenttrace.testing import ScriptedServer, says

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("engine")]

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
PLAIN = {
    "execution_free": {
        *("network-interfaces", "network-dev-tcp", "network-dev-udp", "network-listeners"),
        *("native-script", "native-elf", "native-elf-loader", "native-preload", "native-builtin", "native-mounts"),
    },
    "shell": {"network-interfaces", "network-dev-tcp", "network-dev-udp", "network-udp", "network-listeners"},
}
"""Probes that get through in such a container when nothing is done about it, among others."""


def docker(*words, check=True):
    return subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, check=check)


class Pod:
    """Containers that share network, System V objects and folders, as a kubelet has them started."""

    def __init__(self, base: Path, stack: ExitStack) -> None:
        self.name = f"agenttrace-pod-{uuid.uuid4().hex[:8]}"
        self.sockets = base / "sockets"
        self._stack = stack
        token = base / "token"
        for folder in (self.sockets, token):
            folder.mkdir()
        (token / "token").write_text("secret of the pod\n")
        (base / "log").write_text("")
        (base / "log").chmod(0o666)
        shared = [f"{self.sockets}:/run/agenttrace", f"{token}:{TOKEN}:ro", f"{base / 'log'}:/dev/termination-log"]
        self._shared = [word for volume in shared for word in ("--volume", volume)]
        server = ["--entrypoint", "python3", images.name("sandbox"), "-m", "http.server", "8000"]
        self._run("--name", self.name, "--ipc", "shareable", "--hostname", "pod-7", *server)

    def _run(self, *words) -> str:
        made = docker("run", "--detach", *words).stdout.strip()
        self._stack.callback(docker, "rm", "--force", "--volumes", made)
        return made

    def words(self, policy, *, rights=STEP, more=(), places=("/testdata", "/tmp", "/var/tmp", "/run/call")):
        """Return the words of `docker run` for a worker, without its command."""
        chosen = policies()[policy]
        volumes = [word for place in places for word in ("--volume", place)]
        rights = [word for one in (*chosen.capabilities, *rights) for word in ("--cap-add", one)]
        memory = str(chosen.limits.memory_bytes)
        return [
            "--network", f"container:{self.name}", "--ipc", f"container:{self.name}", "--read-only", "--user", "0:0",
            "--cap-drop", "ALL", *rights, "--memory", memory, "--memory-swap", memory, "--cpus", "1",
            "--env", "KUBERNETES_SERVICE_HOST=10.96.0.1", "--env", "POD_TOKEN=secret", *self._shared, *volumes, *more,
            images.name(chosen.target),
        ]  # fmt: skip

    def worker(self, policy, *flags, **options) -> str:
        """Start a worker that comes back when it ends."""
        return self._run("--restart", "always", *self.words(policy, **options), *flags)


@pytest.fixture(scope="module")
def built(engine):
    images.build(targets=["sandbox", "sandbox-execution-free"])


@pytest.fixture
def pod(built):
    with ExitStack() as stack:
        base = Path(tempfile.mkdtemp(prefix="agenttrace-pod-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        yield Pod(base, stack)


@pytest.mark.parametrize("policy", policies())
def test_an_enclosed_worker_holds_what_one_of_compose_holds(pod, policy):
    pod.worker(policy, "--enclose")
    outcome = report.probe_sockets(pod.sockets)
    bad = [result for result in outcome.results if result.verdict not in {"held", "not applicable"}]
    assert not bad, bad
    assert outcome.shortfalls == ()
    assert sum(result.verdict == "held" for result in outcome.results) >= 60


@pytest.mark.parametrize("policy", policies())
def test_one_that_is_not_lets_through_what_the_page_names(pod, policy):
    pod.worker(policy, rights=())
    outcome = report.probe_sockets(pod.sockets, policy=policy, named="^(network|native)-")
    assert {result.name for result in outcome.results if result.verdict == "GOT THROUGH"} >= PLAIN[policy]
    assert outcome.exit_code == 1
    assert any("network interfaces" in one for one in outcome.shortfalls)


def test_nothing_of_the_pod_is_left_in_an_enclosed_worker(pod):
    pod.worker("shell", "--enclose")
    (worker,) = acquire(pod.sockets, count=1, timeout_s=60)
    with worker:
        worker.reset("demo")
        call = worker.call("bash", f"ls -d {TOKEN} /run/secrets /dev/termination-log; env; uname -n; ls /proc/sysvipc "
                           "| wc -l; cat /etc/resolv.conf /proc/1/environ; getent hosts localhost; ulimit -c -n -u; "
                           "grep -c . /proc/net/dev; grep ' / ' /proc/mounts", limit_ms=10_000)  # fmt: skip
    said = call.stdout.text + call.stderr.text
    for gone in ("secret", "KUBERNETES", "POD_TOKEN", "pod-7"):
        assert gone not in said.replace(f"{TOKEN}'", "").replace("/run/secrets'", ""), said
    assert said.count("No such file or directory") == 3
    assert "\nsandbox\n" in said
    assert "localhost" in said
    assert "/proc/1/environ: Permission denied" in said


def test_what_started_it_can_be_seen_from_its_own_words(pod):
    with sandbox_project("confined", ("sandbox", "sandbox-execution-free")) as (project, env):
        for policy in policies():
            container = SandboxContainer(project, env, service=policies()[policy].service)
            try:
                assert shortfalls(container.worker.info) == []
                refuse_short(container.worker.info, policy)
            finally:
                container.close()
    pod.worker("shell", rights=())
    (worker,) = acquire(pod.sockets, count=1, timeout_s=60)
    with worker, pytest.raises(UsageError, match=r"weaker than docker-compose.yml .* network interfaces .* --enclose"):
        refuse_short(worker.info, "shell")
    with pytest.raises(UsageError, match="have the policy shell, the tasks need execution_free"):
        refuse_short(worker.info, "execution_free")


@pytest.mark.parametrize(
    ("flag", "options", "said"),
    [
        ("--enclose", {"rights": ("SYS_ADMIN", "SETPCAP")}, "cannot be enclosed: it lacks the capabilities NET_ADMIN"),
        ("--enclose", {"more": ["--init"]}, "must be its first process"),
        ("--enclose", {"more": ["--pid", "container:POD"]}, "must be its first process"),
        ("--enclose", {"more": ["--security-opt", "seccomp=unconfined"]}, "set seccompProfile RuntimeDefault"),
        ("--enclose", {"places": ("/tmp",)}, "nothing is mounted on /testdata (--work)"),
        ("--enclose", {"more": ["--memory", "512m", "--memory-swap", "512m"]}, "its limit of memory is 536870912"),
        ("--confined", {"rights": ()}, "is not confined: it has the network interfaces eth0"),
    ],
)
def test_a_container_that_falls_short_does_not_serve(pod, flag, options, said):
    options = {key: [word.replace("POD", pod.name) for word in value] for key, value in options.items()}
    ended = docker("run", "--rm", *pod.words("shell", **options), flag, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not list(pod.sockets.iterdir())


def test_the_battery_behind_a_socket_is_a_command(pod, tmp_path):
    pod.worker("execution_free", "--enclose")
    words = [
        sys.executable,
        "-m",
        "agenttrace",
        "probe-sandbox",
        "--socket",
        str(pod.sockets),
        "-k",
        "native-(elf|mounts)",
    ]
    ended = subprocess.run([*words, "--json", str(tmp_path / "o.json")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "execution_free: 3 probes: 3 held, 0 GOT THROUGH" in ended.stdout
    found = json.loads((tmp_path / "o.json").read_text())
    assert {one["verdict"] for one in found["results"]} == {"held"}
    assert (found["engine_version"], found["shortfalls"]) == (None, [])
    ended = subprocess.run([*words, "--policy", "shell"], capture_output=True, text=True)
    assert (ended.returncode, "the worker's policy is execution_free" in ended.stderr) == (2, True)


def shard(sockets, store, *more):
    """Make the first shard of a run with the workers there, as a user does."""
    with ScriptedServer(lambda _: says("done")) as server:
        words = ["cluster", "shard", "0", "scripted/model-1B", "--dataset", "demo", "--run-id", "r1", "--store", store]
        words += ["--sockets", sockets, "--base-url", server.base_url, *more]
        env = {name: value for name, value in os.environ.items() if name != strength.ANY}
        argv = [sys.executable, "-m", "agenttrace", *map(str, words)]
        return subprocess.run(argv, capture_output=True, text=True, env=env)


def test_a_shard_is_not_made_with_a_weak_worker(pod, tmp_path):
    pod.worker("shell", rights=())
    acquire(pod.sockets, count=1, timeout_s=60)[0].close()
    time.sleep(0.1)
    ended = shard(pod.sockets, tmp_path / "store")
    assert ended.returncode == 2, ended.stderr
    assert "a sandbox worker here is weaker than docker-compose.yml makes it" in ended.stderr
    assert not list((tmp_path / "store").rglob("*.zst"))


def test_workers_of_compose_with_sockets_in_a_folder_make_a_shard(built, tmp_path):
    base = Path(tempfile.mkdtemp(prefix="agenttrace-workers-", dir="/var/tmp"))
    laid_over = (ROOT / "deploy" / "workers.compose.yml").read_text(encoding="utf-8")
    for folder in ("/run/agenttrace", "/trees"):
        (base / Path(folder).name).mkdir()
        laid_over = laid_over.replace(f"device: {folder}", f"device: {base / Path(folder).name}")
    (base / "workers.compose.yml").write_text(laid_over, encoding="utf-8")
    files = ["--file", ROOT / "docker-compose.yml", "--file", base / "workers.compose.yml"]
    compose = ["docker", "compose", "--project-name", f"agenttrace-{base.name.rpartition('-')[2].lower()}", *files]
    env = {**os.environ, "AGENTTRACE_SANDBOX_IMAGE": images.name("sandbox")}
    try:
        up = [*compose, "up", "--detach", "--no-deps", "--scale", "sandbox=2", "sandbox"]
        started = subprocess.run(up, env=env, capture_output=True, text=True)
        assert started.returncode == 0, started.stderr
        ended = shard(base / "agenttrace", tmp_path / "store", "-n", "2", "--workers", "2")
    finally:
        subprocess.run([*compose, "down", "--volumes"], env=env, capture_output=True)
        shutil.rmtree(base)
    assert ended.returncode == 0, ended.stderr
    assert "shard 0: done, 2 records made here" in ended.stderr
