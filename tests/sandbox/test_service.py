"""The runner's manners: odd frames, clients that vanish, signals, its socket, its own end."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from agenttrace.errors import UsageError, WorkerLostError
from agenttrace.sandbox.client import Worker, discover
from agenttrace.sandbox.runner import frames, processes, settings


def exchange(process, data):
    process.stdin.write(data)
    return frames.read(process.stdout.read)


def processes_named(name, uid):
    return [pid for pid, found in processes.of_user(uid) if found == name]


def wait_for(condition, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@pytest.fixture
def listening(workplace):
    """A runner on a socket; its path once it is there."""
    with workplace.start("--max-tasks", "2") as process:
        wait_for(lambda: discover(workplace.sockets))
        yield process, discover(workplace.sockets)[0]
        process.kill()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff", "over the limit"),
        (b"\0\0\0\2[]", "not an object"),
        (b"\0\0\0\1{", "not JSON"),
        (b"\0\0\0\2\xff\xfe", "not JSON"),
        (b"\0\0\0\0", "not JSON"),
        (len(b"[" * 200_000).to_bytes(4, "big") + b"[" * 200_000, "not JSON"),
    ],
)
def test_a_malformed_frame_gets_an_answer_and_the_end(process, data, reason):
    reply = exchange(process, data)
    assert (reply["ok"], reply["error"]["kind"]) == (False, "bad_frame")
    assert reason in reply["error"]["message"]
    assert process.stdout.read(1) == b""
    assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"op": "fly"}, "bad_request"),
        ({}, "bad_request"),
        ({"op": "hello", "protocol": 99}, "protocol"),
        ({"op": "hello"}, "protocol"),
        ({"op": "reset"}, "bad_request"),
        ({"op": "reset", "fixture": 5}, "bad_request"),
        ({"op": "call", "kind": "perl", "code": "", "limit_ms": 1}, "bad_request"),
        ({"op": "call", "kind": "bash", "code": 1, "limit_ms": 1}, "bad_request"),
        ({"op": "call", "kind": "bash", "code": "", "limit_ms": 0}, "bad_request"),
        ({"op": "call", "kind": "bash", "code": "", "limit_ms": True}, "bad_request"),
        ({"op": "call", "kind": "bash", "code": "", "limit_ms": 9, "keep_bytes": -1}, "bad_request"),
    ],
)
def test_a_wrong_request_is_refused_and_the_worker_lives(process, request_, kind):
    reply = exchange(process, frames.encode({"id": 7} | request_))
    assert (reply["id"], reply["ok"], reply["error"]["kind"]) == (7, False, kind)
    assert exchange(process, frames.encode({"id": 8, "op": "ping"})) == {"id": 8, "ok": True}


def test_the_end_of_stdin_is_the_end_of_the_runner(process):
    process.stdin.close()
    assert process.wait(10) == 0


def test_unknown_flags_are_named():
    with pytest.raises(ValueError, match="--nope"):
        settings.parse(["--nope", "1"])
    with pytest.raises(ValueError, match="whole number"):
        settings.parse(["--tool-uid", "root"])
    with pytest.raises(ValueError, match="needs a value"):
        settings.parse(["--work"])
    with pytest.raises(ValueError, match="not available"):
        settings.parse(["--helper", "rust"])
    assert settings.parse([]).helper == "auto"
    parsed = settings.parse(["--stdio", "--wipe", "/a", "--wipe", "/b", "--tool-uid", "7"])
    assert (parsed.stdio, parsed.wipe, parsed.tool_uid) == (True, ("/a", "/b"), 7)


def test_the_socket_is_for_its_group_only(workplace, listening):
    _, path = listening
    folder, info = workplace.sockets.stat(), path.stat()
    assert (folder.st_uid, folder.st_gid, stat.S_IMODE(folder.st_mode)) == (0, 20999, 0o750)
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (0, 20999, 0o660)
    with Worker.connect(path) as worker:
        worker.reset("base")
        assert worker.call("bash", f"ls {workplace.sockets}", limit_ms=5000).exit_code != 0


def test_sockets_of_dead_workers_are_cleared_and_live_ones_kept(workplace, listening):
    _, path = listening
    dead = workplace.sockets / "worker-dead.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(dead))
    with workplace.start() as second:
        wait_for(lambda: len(discover(workplace.sockets)) == 2 and not dead.exists())
        assert path in discover(workplace.sockets)
        second.terminate()
        assert second.wait(10) == 0
    assert discover(workplace.sockets) == [path]


def test_the_next_client_is_served_after_the_last_went(listening):
    _, path = listening
    for _ in range(3):
        with Worker.connect(path) as worker:
            worker.ping()


@pytest.mark.parametrize("helper", ["c", "python"], indirect=True)
def test_a_client_that_vanishes_stops_its_call(workplace, listening):
    _, path = listening
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(frames.encode({"id": 1, "op": "call", "kind": "bash", "code": "sleep 77", "limit_ms": 60_000}))
        wait_for(lambda: processes_named("sleep", workplace.uid))
    wait_for(lambda: not processes_named("sleep", workplace.uid))
    with Worker.connect(path) as worker:
        worker.ping()


def test_a_worn_worker_says_so_and_goes_with_its_client(workplace, listening):
    process, path = listening
    with Worker.connect(path) as worker:
        assert worker.info.max_tasks == 2
        assert not worker.reset("base").recycle_after
        assert worker.reset("base").recycle_after
        assert worker.call("bash", "echo last", limit_ms=5000).stdout.text == "last\n"
    assert process.wait(10) == 0
    assert discover(workplace.sockets) == []


@pytest.mark.parametrize("helper", ["c", "python"], indirect=True)
@pytest.mark.parametrize("busy", [False, True])
def test_sigterm_ends_it_at_once_with_all_tools(workplace, listening, busy):
    process, path = listening
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        if busy:
            code = "trap '' TERM; setsid sleep 78; :"
            client.sendall(frames.encode({"id": 1, "op": "call", "kind": "bash", "code": code, "limit_ms": 60_000}))
            wait_for(lambda: processes_named("sleep", workplace.uid))
        start = time.monotonic()
        process.terminate()
        assert process.wait(10) == 0
        assert time.monotonic() - start < 2
    wait_for(lambda: processes.of_user(workplace.uid) == [])  # the helper is that user for a moment while it kills
    assert not path.exists()


@pytest.mark.parametrize("helper", ["c", "python"], indirect=True)
def test_a_lost_helper_is_reported_and_ends_the_worker(workplace, listening):
    process, path = listening
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(frames.encode({"id": 1, "op": "call", "kind": "bash", "code": "sleep 79", "limit_ms": 60_000}))
        wait_for(lambda: processes_named("sleep", workplace.uid))
        helpers = [
            pid for pid, _ in processes.descendants(process.pid) if pid not in processes_named("sleep", workplace.uid)
        ]
        os.kill(min(helpers), signal.SIGKILL)
        reply = frames.read(client.recv)
    assert reply["error"]["kind"] == "helper_lost"
    assert "without a report (wait status 9)" in reply["error"]["message"]
    assert process.wait(10) == 3
    wait_for(lambda: processes.of_user(workplace.uid) == [])


def test_killing_everything_is_refused_for_root_and_for_oneself():
    for uid in (0, os.getuid()):
        with pytest.raises(processes.KillRefusedError):
            processes.kill_user(uid)
    with pytest.raises(processes.KillRefusedError):
        processes._checked(os.getuid() + 1)


ALONE = """
import os, subprocess
from agenttrace.sandbox.runner import processes
print(processes.kill_user(20123), processes.end_user(20123))
other = subprocess.Popen(["sleep", "60"])
print(processes.end_user(20123), other.poll())
tools = [subprocess.Popen(["sleep", "60"], user=20123) for _ in range(2)]
print(processes.kill_user(20123), tools[0].wait())
tools.append(subprocess.Popen(["sleep", "60"], user=20123))
print(processes.end_user(20123), processes.of_user(20123), other.poll())
other.kill()
other.wait()
for tool in tools:
    tool.wait()
print(processes.kill_user(20123))
"""


def test_the_kernel_says_whether_there_was_anything_to_kill():
    argv = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", ALONE]
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if "unshare:" in ended.stderr:
        pytest.skip(f"no process namespace of its own: {ended.stderr.strip()}")
    assert ended.stdout.splitlines() == ["False 0", "0 None", "True -9", "0 [] None", "False"], ended.stderr


def test_code_that_cannot_be_placed_is_a_refusal_not_the_end(workplace, process):
    assert exchange(process, frames.encode({"id": 1, "op": "reset", "fixture": "base"}))["ok"]
    workplace.calls.rmdir()
    call = {"op": "call", "code": "1", "limit_ms": 9000}
    reply = exchange(process, frames.encode(call | {"id": 2, "kind": "python"}))
    assert reply["error"]["kind"] == "spawn"
    assert exchange(process, frames.encode(call | {"id": 3, "kind": "bash"}))["ok"]


def test_execution_free_refuses_python(workplace):
    with (
        workplace.start("--stdio", "--policy", "execution_free") as process,
        Worker.over_pipes(process.stdout, process.stdin) as worker,
    ):
        assert worker.info.policy == "execution_free"
        with pytest.raises(UsageError, match="no Python tool"):
            worker.call("python", "1", limit_ms=1000)
        worker.ping()


@pytest.mark.parametrize("helper", ["c", "python"], indirect=True)
def test_without_root_it_says_so_and_still_cleans_up(workplace):
    for folder in (workplace.work, workplace.calls):
        os.chown(folder, 65534, 65534)
    if "--helper-path" in workplace.helper:
        workplace.helper[-1] = shutil.copy(workplace.helper[-1], workplace.base)
    workplace.fixtures.chmod(0o755)
    os.chown(workplace.fixtures / "base" / "secret", 65534, 65534)
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux)")
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *workplace.command("--stdio")]
    with (
        subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        Worker.over_pipes(process.stdout, process.stdin) as worker,
    ):
        assert worker.info.isolation == "none"
        worker.reset("base")
        report = worker.call("bash", "setsid sleep 80 & sleep 81 & sleep 0.3; id -u", limit_ms=9000)
        assert report.stdout.text == "65534\n"
        assert report.telemetry.leftover_count == 2
        assert "sleep" not in {name for _, name in processes.descendants(process.pid)}
        worker.call("bash", "rm -rf docs; mkdir -p x/y; chmod 0 x; chmod 0 .", limit_ms=9000)
        assert worker.reset("base").digest == worker.info.fixtures["base"]


def test_missing_folders_and_odd_fixtures_are_named_at_the_start(workplace):
    os.mkfifo(workplace.fixtures / "base" / "pipe")
    ended = subprocess.run(workplace.command("--stdio"), capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert "pipe, neither file, folder nor link" in ended.stderr
    workplace.calls.rmdir()
    ended = subprocess.run(workplace.command("--stdio"), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--call-dir) is not a folder" in ended.stderr


def test_code_does_not_outlive_its_call(workplace, process):
    with Worker.over_pipes(process.stdout, process.stdin) as worker:
        report = worker.call("python", f"import os; os.listdir({str(workplace.calls)!r})", limit_ms=9000)
        assert report.stdout.text == "['code']\n"
        report = worker.call("bash", f"ls {workplace.calls}; touch {workplace.calls}/mine", limit_ms=9000)
        assert (report.stdout.text, report.exit_code) == ("", 1)


def test_frames_survive_any_split():
    data = frames.encode({"id": 1, "text": "é\0" * 1000})
    position = 0

    def drip(count):
        nonlocal position
        chunk = data[position : position + min(count, 3)]
        position += len(chunk)
        return chunk

    assert frames.read(drip) == {"id": 1, "text": "é\0" * 1000}
    assert frames.read(drip) is None
    assert json.loads(data[4:])["id"] == 1


def test_a_worker_that_is_gone_is_a_clear_error(listening):
    process, path = listening
    worker = Worker.connect(path)
    process.kill()
    process.wait()
    with pytest.raises(WorkerLostError, match="connection lost"):
        worker.ping()
    with pytest.raises(WorkerLostError, match="closed"):
        worker.ping()
