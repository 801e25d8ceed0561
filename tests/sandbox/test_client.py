"""The client against scripted workers that misbehave, and against real ones."""

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.errors import UsageError, WorkerLostError
from agenttrace.sandbox import client
from agenttrace.sandbox.client import Worker, acquire, discover
from agenttrace.sandbox.reports import output
from agenttrace.sandbox.runner import frames

HELLO = {
    "protocol": 1,
    "version": "1.0.0",
    "helper": "python",
    "policy": "shell",
    "isolation": "uid",
    "tool_uid": 20000,
    "tool_gid": 20000,
    "fixtures": {"base": "00"},
    "python": "3.14.0",
    "limits": {"pids": 1, "memory_bytes": None, "cpus": 1.5},
    "environment_digest": None,
    "work": "/testdata",
    "tasks_served": 0,
    "max_tasks": 200,
    "something_newer": True,
}
CALL = {
    "exit_code": 0,
    "signal": None,
    "timed_out": False,
    "oom_killed": False,
    "stdout_b64": "aGk=",
    "stdout_total": 2,
    "stdout_head": 2,
    "stderr_b64": "",
    "stderr_total": 0,
    "stderr_head": 0,
    "telemetry": {},
}


class Scripted:
    """A worker that answers hello and then does as told: `act(connection, request)`."""

    def __init__(self, folder, name="worker-a.sock", act=None, hello=HELLO):
        self.path = Path(folder) / name
        self._act = act
        self._hello = hello
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while request := frames.read(connection.recv):
                        if request["op"] == "hello" and self._hello is not None:
                            connection.sendall(frames.encode({"id": request["id"], "ok": True} | self._hello))
                        elif self._act is not None:
                            self._act(connection, request)
                except OSError:
                    continue

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def scripted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s")
    made = []

    def make(act=None, name="worker-a.sock", hello=HELLO):
        made.append(Scripted(folder, name, act, hello))
        return made[-1].path

    make.folder = folder
    yield make
    for worker in made:
        worker.stop()


def answering(**fields):
    return lambda connection, request: connection.sendall(frames.encode({"id": request["id"], "ok": True} | fields))


def test_a_wall_clock_that_is_set_back_under_a_call_makes_it_no_shorter(scripted, monkeypatch):
    def act(connection, request):
        time.sleep(0.05)
        answering(**CALL)(connection, request)

    clock = SimpleNamespace(monotonic_ns=time.monotonic_ns, monotonic=time.monotonic, sleep=time.sleep)
    with Worker.connect(scripted(act)) as worker:
        told = iter(range(2 * 10**18, 0, -(10**12)))
        clock.time_ns = lambda: next(told)
        monkeypatch.setattr(client, "time", clock)
        report = worker.call("bash", "echo hi", limit_ms=100)
    assert report.start_ns == 2 * 10**18
    assert report.end_ns - report.start_ns >= 50_000_000


def test_a_reply_becomes_a_report(scripted):
    with Worker.connect(scripted(answering(**CALL))) as worker:
        report = worker.call("bash", "echo hi", limit_ms=100)
    assert worker.info.limits.cpus == 1.5
    assert (report.stdout.text, report.stdout.bytes_total, report.status) == ("hi", 2, "ok")
    assert report.start_ns <= report.end_ns
    assert report.telemetry.user_time_s is None


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda connection, _: connection.close(), "connection lost"),
        (lambda connection, _: (connection.sendall(b"\0\0"), connection.close()), "connection lost"),
        (lambda connection, _: connection.sendall(b"\xff\xff\xff\xff"), "not the worker protocol"),
        (lambda connection, _: connection.sendall(b"\0\0\0\2{]"), "not what was expected"),
        (lambda connection, _: connection.sendall(b"\0\0\0\2{}"), "not what was expected"),
        (answering(exit_code="zero"), "not what was expected"),
        (answering(**CALL, id=99), "reply to request 99"),
        (answering(**(CALL | {"stdout_b64": "?"})), "Invalid base64"),
        (
            lambda connection, request: connection.sendall(
                frames.encode({"id": request["id"], "ok": False, "error": {"kind": "helper_lost", "message": "gone"}})
            ),
            "helper_lost.*gone",
        ),
    ],
)
def test_whatever_goes_wrong_is_a_lost_worker(scripted, act, message):
    worker = Worker.connect(scripted(act))
    with pytest.raises(WorkerLostError, match=message):
        worker.call("bash", ":", limit_ms=100)


def test_the_watchdog_ends_a_call_that_hangs(scripted, monkeypatch):
    monkeypatch.setattr(client, "WATCHDOG_S", 0.3)
    worker = Worker.connect(scripted(lambda _connection, _request: None))
    start = time.monotonic()
    with pytest.raises(WorkerLostError, match=r"call on worker .* no reply within 1\.0 s"):
        worker.call("bash", ":", limit_ms=200)
    assert 0.9 < time.monotonic() - start < 2


def test_a_reply_that_trickles_cannot_outlast_the_watchdog(scripted, monkeypatch):
    monkeypatch.setattr(client, "WATCHDOG_S", 0.1)

    def trickle(connection, _request):
        connection.sendall(b"\0\0\1\0")
        for _ in range(40):
            connection.sendall(b" ")
            time.sleep(0.05)

    worker = Worker.connect(scripted(trickle))
    start = time.monotonic()
    with pytest.raises(WorkerLostError, match="no reply"):
        worker.call("bash", ":", limit_ms=100)
    assert time.monotonic() - start < 1.5


def test_a_reset_may_take_long_as_long_as_the_worker_says_that_it_works(scripted, monkeypatch):
    monkeypatch.setattr(client, "CONTROL_S", 0.4)
    report = {"digest": "d", "restored": 0, "removed": 1, "wall_ns": 1, "recycle_after": False, "tasks_served": 1}

    def works_on(connection, request):
        for _ in range(4 if request["op"] == "reset" else 1):
            time.sleep(0.2)
            connection.sendall(frames.WORKING)
        answering(**(report | CALL))(connection, request)

    worker = Worker.connect(scripted(works_on))
    assert worker.reset("x").removed == 1
    with pytest.raises(WorkerLostError, match="not what was expected"):
        worker.call("bash", ":", limit_ms=100)  # a call has a limit, whatever the worker says


def test_a_refusal_is_a_usage_error_and_the_worker_stays(scripted):
    replies = iter([{"ok": False, "error": {"kind": "bad_request", "message": "no fixture 'x'"}}, {"ok": True}])
    worker = Worker.connect(
        scripted(lambda connection, request: connection.sendall(frames.encode({"id": request["id"]} | next(replies))))
    )
    with pytest.raises(UsageError, match="no fixture 'x'"):
        worker.reset("x")
    worker.ping()
    worker.close()


def test_another_protocol_is_a_clear_error(scripted):
    path = scripted(
        lambda connection, request: connection.sendall(
            frames.encode({"id": request["id"], "ok": False, "error": {"kind": "protocol", "message": "speaks 2"}})
        ),
        hello=None,
    )
    with pytest.raises(WorkerLostError, match="speaks 2"):
        Worker.connect(path)


def test_acquire_passes_over_stale_and_busy_sockets(scripted, monkeypatch):
    monkeypatch.setattr(client.Worker.connect.__func__, "__kwdefaults__", {"timeout_s": 0.2})
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(scripted.folder / "worker-0.sock"))
    (scripted.folder / "worker-1.sock").write_text("not a socket")
    scripted(lambda _c, _r: None, name="worker-2.sock", hello=None)
    good = {scripted(answering(), name="worker-3.sock"), scripted(answering(), name="worker-4.sock")}
    workers = acquire(scripted.folder, count=2, timeout_s=5)
    assert {worker.path for worker in workers} == good
    for worker in workers:
        worker.ping()
        worker.close()


def test_acquire_waits_for_workers_that_start_later(scripted):
    timer = threading.Timer(0.5, scripted, args=(answering(),))
    timer.start()
    with acquire(scripted.folder, count=1, timeout_s=10)[0] as worker:
        worker.ping()
    timer.join()


def test_acquire_says_what_to_look_at(scripted, tmp_path):
    with pytest.raises(
        WorkerLostError, match=r"0 of 1 .* no other worker-\*\.sock in .* log of the sandbox containers"
    ):
        acquire(tmp_path / "nowhere", count=1, timeout_s=0.2)
    (scripted.folder / "worker-1.sock").write_text("not a socket")
    scripted(answering(), name="worker-2.sock")
    with pytest.raises(WorkerLostError, match=r"1 of 2 .* worker-1\.sock: no worker behind"):
        acquire(scripted.folder, count=2, timeout_s=0.2)


def test_a_worker_held_by_this_process_is_not_asked_again(scripted):
    scripted(answering(), name="worker-1.sock")
    scripted(answering(), name="worker-2.sock")
    first, second = acquire(scripted.folder, count=2, timeout_s=5)
    first.close()
    (fresh,) = acquire(scripted.folder, count=1, timeout_s=5, held={second.path})
    assert fresh.path == first.path
    with pytest.raises(WorkerLostError, match="closed"):
        first.ping()
    second.ping()
    with pytest.raises(WorkerLostError, match="0 of 1"):
        acquire(scripted.folder, count=1, timeout_s=0.1, held={fresh.path, second.path})
    for worker in (fresh, second):
        worker.close()


def test_a_reset_that_was_begun_comes_before_anything_else(worker, shell):
    shell("rm -r docs; seq 2000 | xargs touch")
    worker.begin_reset("base")
    with pytest.raises(UsageError, match=r"call on worker .* finish the reset first"):
        shell("ls")
    assert worker.finish_reset().digest == worker.info.fixtures["base"]
    assert shell("ls -A | wc -l").stdout.text == "5\n"
    worker.begin_reset("nonesuch")
    with pytest.raises(UsageError, match="no fixture"):
        worker.finish_reset()
    assert shell("cat docs/read.me").stdout.text == "hello\n"


def test_who_leaves_during_a_reset_leaves_a_worker_for_the_next(workplace):
    with workplace.start() as process:
        try:
            (first,) = acquire(workplace.sockets, count=1, timeout_s=20)
            first.reset("base")
            first.call("bash", "rm -r docs; seq 3000 | xargs touch", limit_ms=9000)
            first.begin_reset("base")
            first.close()
            (second,) = acquire(workplace.sockets, count=1, timeout_s=20)
            assert second.info.tasks_served == 2
            assert second.call("bash", "ls -A | wc -l; cat docs/read.me", limit_ms=9000).stdout.text == "5\nhello\n"
            second.close()
        finally:
            process.kill()


def test_real_workers_are_found_used_and_replaced(workplace):
    with workplace.start() as one, workplace.start("--tool-uid", str(workplace.uid + 1)) as two:
        try:
            first, second = acquire(workplace.sockets, count=2, timeout_s=20)
            assert len(discover(workplace.sockets)) == 2
            first.reset("base")
            assert first.call("bash", "cat docs/read.me", limit_ms=5000).stdout.text == "hello\n"
            (one if first.path in _paths_of(one) else two).kill()
            with pytest.raises(WorkerLostError):
                first.ping(), first.ping()
            with pytest.raises(WorkerLostError, match="0 of 1"):
                acquire(workplace.sockets, count=1, timeout_s=0.2, held={second.path})
            second.ping()
            second.close()
        finally:
            one.kill()
            two.kill()


def _paths_of(process):
    """Sockets that `process` listens on, by the inode numbers of its descriptors."""
    links = [fd.readlink() for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
    inodes = {str(link)[8:-1] for link in links if str(link).startswith("socket:[")}
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    # The socket was bound under an early name that holds the same random part.
    names = {Path(line[7]).name.lstrip(".") for line in lines if len(line) > 7 and line[6] in inodes}
    return {
        path
        for folder in {Path(line[7]).parent for line in lines if len(line) > 7}
        for path in discover(folder)
        if path.name[len("worker-") : -len(".sock")] in names
    }


def test_the_cut_is_marked_and_counted():
    whole = output(b"abc", b"", 3)
    assert (whole.text, whole.bytes_kept, whole.bytes_total, whole.encoding) == ("abc", 3, 3, "utf-8")
    cut = output(b"ab\n", b"yz", 100)
    assert (cut.text, cut.bytes_kept) == ("ab\n[... 95 bytes left out ...]\nyz", 5)
    assert output(b"", b"", 9).text == "[... 9 bytes left out ...]\n"
    euro = "€".encode()
    broken = output(b"x" + euro[:2], euro[1:] + b"y", 100)
    assert (broken.text, broken.bytes_kept, broken.encoding) == ("x\n[... 98 bytes left out ...]\ny", 2, "utf-8")
    assert output(b"\xff", b"z", 100).encoding == "backslashreplace"


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_output_never_raises_and_counts_right(data, keep):
    head, tail = data[: keep // 2], data[len(data) - (keep - keep // 2) :] if keep < len(data) else data[keep // 2 :]
    result = output(head, tail, len(data))
    assert result.bytes_total == len(data)
    assert result.bytes_kept <= len(data)
    if len(head) + len(tail) >= len(data):
        assert result.text == data.decode("utf-8", "backslashreplace")
    assert (result.encoding == "utf-8") or "\\x" in result.text
