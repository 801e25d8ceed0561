"""The policies as data, and what Compose, the Dockerfile and the runner say of them."""

import json
import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import images
from agenttrace.sandbox.policies import FILE, MemoryFileSystem, policies
from agenttrace.sandbox.runner.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def services():
    """Return what docker-compose.yml says when nothing is set; `docker compose` reads it, without an engine."""
    if shutil.which("docker") is None:
        pytest.skip("no `docker compose` to read docker-compose.yml with")
    file = str(ROOT / "docker-compose.yml")
    argv = ["docker", "compose", "--file", file, "--profile", "*", "config", "--format", "json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENTTRACE_")}
    ended = subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["services"]


def size(text):
    number, unit = re.fullmatch(r"(\d+)([kmg]?)", text).groups()
    return int(number) * 1024 ** " kmg".index(unit or " ")


def tmpfs(service):
    mounts = dict(entry.split(":", 1) for entry in service["tmpfs"])
    return {where: dict(part.partition("=")[::2] for part in options.split(",")) for where, options in mounts.items()}


@pytest.mark.parametrize("name", policies())
def test_the_defaults_of_compose_are_the_limits_of_the_policy(services, name):
    policy = policies()[name]
    service, limits = services[policy.service], policy.limits
    assert int(service["mem_limit"]) == int(service["memswap_limit"]) == limits.memory_bytes
    assert service["pids_limit"] == limits.pids
    assert float(service["cpus"]) == limits.cpus
    assert service["ulimits"]["nofile"] == limits.open_files
    assert {
        where: MemoryFileSystem(bytes=size(options["size"]), inodes=int(options["nr_inodes"]))
        for where, options in tmpfs(service).items()
    } == limits.tmpfs
    assert service["sysctls"] == limits.sysctls
    assert service["hostname"] == policy.hostname
    assert {*service["cap_add"]} == {*policy.capabilities}


@pytest.mark.parametrize("name", policies())
def test_what_outlives_the_processes_of_a_call_leaves_room_for_the_reset(services, name):
    """Full file systems, System V memory: the kernel must not have to kill the runner for what no process holds."""
    service, limits = services[policies()[name].service], policies()[name].limits
    kept = sum(one.bytes + one.inodes * 1024 for one in limits.tmpfs.values())
    kept += int(service["sysctls"]["kernel.shmall"]) * 4096
    assert kept < limits.memory_bytes - (64 << 20)
    assert "/dev/shm" in limits.tmpfs


def test_every_writable_folder_of_execution_free_is_mounted_noexec(services):
    service = services["sandbox-execution-free"]
    assert all("noexec" in options for options in tmpfs(service).values())
    volumes = {volume["target"]: volume.get("read_only", False) for volume in service["volumes"]}
    assert volumes == {"/run/agenttrace": False, "/trees": True}  # both closed to the tools' user


def test_who_sees_folders_of_the_user_goes_without_a_label_and_no_other(services):
    """Where SELinux runs; the sandbox and the server, which are given none, keep theirs."""
    for name, service in services.items():
        bound = any(volume["type"] == "bind" for volume in service.get("volumes", ()))
        assert ("label=disable" in service["security_opt"]) is bound, name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_both_services_are_hardened_alike(services):
    shell, free = services["sandbox"], services["sandbox-execution-free"]
    for key in (
        "read_only",
        "cap_drop",
        "cap_add",
        "security_opt",
        "network_mode",
        "ipc",
        "init",
        "user",
        "restart",
        "sysctls",
        "ulimits",
    ):
        assert shell[key] == free[key], key
    assert shell["network_mode"] == "none"
    assert shell["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", policies())
def test_an_image_target_carries_the_policy_with_its_path_and_shell(name):
    policy = policies()[name]
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stage = re.search(rf"^FROM \S+ AS {policy.target}\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", stage[1], re.MULTILINE)[1])
    flags = dict(pairwise(entry))
    assert flags.get("--policy", Settings.policy) == name
    assert flags.get("--path", Settings.path) == ":".join(policy.path)
    assert flags.get("--shell", Settings.shell) == policy.shell
    assert int(flags.get("--fsize-bytes", Settings.fsize_bytes)) == policy.limits.file_bytes


def test_a_campaign_does_not_build_the_image_of_execution_free():
    target = policies()["execution_free"].target
    assert target not in images.TARGETS
    assert target in images.EXTRA_TARGETS


def test_no_interpreter_and_no_shell_is_allowed():
    commands = {*policies()["execution_free"].commands}
    assert not commands & {"bash", "sh", "python3", "python", "perl", "xargs", "patch", "dd", "make", "gcc", "vi"}
    assert policies()["execution_free"].kinds == ("bash",)
    assert len(commands) == len(policies()["execution_free"].commands)


def test_a_file_with_an_unknown_field_is_refused(tmp_path):
    file = tmp_path / "policies.toml"
    file.write_text(FILE.read_text(encoding="utf-8").replace("pids = ", "pid = ", 1), encoding="utf-8")
    with pytest.raises(UsageError, match="pid"):
        policies(file)
