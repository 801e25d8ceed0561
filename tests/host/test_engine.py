"""What the user is told about the engine, with stand-ins for `docker` that answer as real ones did."""

import os
import time
from pathlib import Path

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import engine

VERSION = '{"Server":{"Version":"26.1.5+dfsg1","ApiVersion":"1.45","Os":"linux","Arch":"amd64"}}'
NO_SERVER = '{"Client":{"Version":"28.2.2"},"Server":null}'
INFO = (
    '{"KernelVersion":"6.1","SecurityOptions":["name=seccomp","name=rootless"],"CgroupVersion":"2","CgroupDriver":"systemd",'
    '"NCPU":4,"MemTotal":8000000000,"Driver":"overlayfs","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]],'
    '"OperatingSystem":"Docker Desktop","ClientInfo":{"Plugins":[{"Name":"buildx","Version":"v0.13.1+ds1"},'
    '{"Name":"compose","Version":"2.26.1-4"}]}}'
)
PODMAN_VERSION = (
    '{"Client":{"Version":"28.2.2"},"Server":{"Components":[{"Name":"Podman Engine","Version":"5.4.2"},'
    '{"Name":"Conmon","Version":"conmon version 2.1.12"},{"Name":"OCI Runtime (crun)","Version":"crun version 1.21"}],'
    '"Version":"5.4.2","ApiVersion":"1.41","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"}}'
)


def fake_docker(tmp_path, monkeypatch, **changed):
    """Puts a `docker` alone on the PATH; each argument is the shell code that answers one subcommand."""
    answers = {
        "version": f"echo '{VERSION}'",
        "info": f"echo '{INFO}'",
        **changed,
    }
    cases = "\n".join(f"{name}) {code} ;;" for name, code in answers.items())
    path = tmp_path / "docker"
    path.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\n*) exit 99 ;;\nesac\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)


def test_engine_that_is_all_right(tmp_path, monkeypatch):
    fake_docker(tmp_path, monkeypatch)
    info = engine.check()
    assert (info.version, info.arch) == ("26.1.5+dfsg1", "amd64")
    assert (info.buildx_version, info.compose_version) == ("0.13.1+ds1", "2.26.1-4")
    assert (info.cgroup_version, info.cpus, info.memory_bytes) == (2, 4, 8_000_000_000)
    assert info.rootless
    assert info.docker_desktop
    assert info.containerd_image_store


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"version": f"echo '{NO_SERVER}'; echo 'Cannot connect to the Docker daemon. Is it running?' >&2; exit 1"},
            "its engine does not run",
        ),
        (
            {"version": "echo 'failed to connect to the docker API at unix:///x' >&2; exit 1"},
            "its engine does not run",
        ),
        (
            {"version": f"echo '{NO_SERVER}'; echo 'permission denied while trying to connect' >&2; exit 1"},
            "usermod -aG docker",
        ),
        ({"version": "echo 'no such thing' >&2; exit 1"}, "no such thing"),
        (
            {"version": f"echo '{PODMAN_VERSION}'"},
            "is Podman 5.4.2, on which the kit does not run: in its sandbox",
        ),
        (
            {"version": 'echo \'{"Client":{"APIVersion":"5.4.2"}}\'', "--version": "echo podman version 5.4.2"},
            "is Podman 5.4.2, on which the kit does not run",
        ),
        ({"version": "echo '" + VERSION.replace("linux", "windows") + "'"}, "switch Docker Desktop to Linux"),
        ({"version": "echo '" + VERSION.replace("26.1.5", "20.10.24") + "'"}, "20.10.24+dfsg1; 25 or newer is needed"),
        ({"info": "echo '" + INFO.replace('"buildx"', '"scan"') + "'"}, "`docker buildx` is missing"),
        ({"info": "echo '" + INFO.replace('"compose"', '"scan"') + "'"}, "`docker compose` is missing"),
        ({"info": "echo '" + INFO.replace("2.26.1-4", "v2.17.3") + "'"}, "version 2.17.3; 2.20 or newer is needed"),
    ],
)
def test_each_fault_has_its_own_message(tmp_path, monkeypatch, changed, expected):
    fake_docker(tmp_path, monkeypatch, **changed)
    with pytest.raises(UsageError) as raised:
        engine.check()
    assert expected in str(raised.value)
    assert raised.value.exit_code == 2


def test_an_engine_elsewhere_that_does_not_answer_is_named(tmp_path, monkeypatch):
    fake_docker(tmp_path, monkeypatch, version="echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(UsageError, match=r"no engine answers at tcp://127\.0\.0\.1:1, which DOCKER_HOST names"):
        engine.check()


def test_an_engine_that_cannot_limit_is_refused_for_tool_calls(tmp_path, monkeypatch):
    fake_docker(tmp_path, monkeypatch, info="echo '" + INFO.replace('"NCPU"', '"PidsLimit":false,"NCPU"') + "'")
    with pytest.raises(
        UsageError, match=r"the rootless engine here \(cgroup version 2\) cannot limit a container's processes,"
    ):
        engine.check_strength(engine.check())


def test_a_rootless_engine_under_the_first_cgroups_limits_nothing(tmp_path, monkeypatch):
    info = INFO.replace('"CgroupVersion":"2"', '"CgroupVersion":"1","MemoryLimit":true')
    fake_docker(tmp_path, monkeypatch, info=f"echo '{info}'")
    assert engine.check().unlimited == ("memory", "processes", "processor time")


def test_an_engine_with_every_limit_is_strong(tmp_path, monkeypatch):
    fake_docker(tmp_path, monkeypatch)
    engine.check_strength(engine.check())


def test_no_docker_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="Docker is not installed"):
        engine.check()


def test_engine_that_hangs_is_given_up(tmp_path, monkeypatch):
    fake_docker(tmp_path, monkeypatch, version="exec /bin/sleep 60")
    monkeypatch.setattr(engine, "_CHECK_TIMEOUT_S", 0.2)
    with pytest.raises(UsageError, match="does not answer"):
        engine.check()


def test_run_names_the_program_that_is_missing():
    with pytest.raises(UsageError, match="no-such-program"):
        engine.run(["no-such-program"])


def test_run_says_the_last_line_and_keeps_all_of_it():
    with pytest.raises(engine.CommandError, match="status 3: second") as raised:
        engine.run(["sh", "-c", "echo first; echo second >&2; exit 3"])
    assert raised.value.returncode == 3
    assert raised.value.output == "first\nsecond\n"


def test_run_hands_over_lines_as_they_come():
    lines = []
    ended = engine.run(["sh", "-c", "echo a; echo b >&2"], on_line=lines.append)
    assert lines == ["a", "b"]
    assert ended.stdout == "a\nb\n"


def test_no_child_survives_a_cut_off_run(tmp_path):
    pid_file = tmp_path / "pid"

    def cut_off(_line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(["sh", "-c", f"echo $$ >'{pid_file}'; echo started; exec sleep 60"], on_line=cut_off)
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.docker
def test_the_engine_here():
    try:
        info = engine.check()
    except UsageError as error:
        pytest.skip(str(error))
    assert info.cpus > 0
    assert info.memory_bytes > 2**28
