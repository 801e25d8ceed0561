"""What the compiled helper is told: what it refuses, that it waits for it, and that there is always one that waits."""

import contextlib
import os
import signal
import sys
import time
from functools import partial

import psutil
import pytest

from agenttrace.sandbox.client import Worker
from agenttrace.sandbox.runner import launch
from agenttrace.sandbox.runner.job import Job
from agenttrace.sandbox.runner.settings import Settings
from tests.sandbox.told import job, run, told

LINUX_ROOT = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux and root: the helper switches to another user"
)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def the_waiting(runner):
    """The helper that waits, as soon as there is one."""

    def found():
        with contextlib.suppress(psutil.Error):
            return [one for one in runner.children() if one.cmdline()[1:2] == ["--job"]]

    until(found)
    (waiting,) = runner.children()
    return waiting


def has_ended(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@LINUX_ROOT
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"uid": 0}, "needs root, and a user"),
        ({"gid": 0}, "needs root, and a user"),
        ({"uid": -1}, "not a number in range: -1"),
        ({"uid": 2**32 - 1}, "not a number in range"),
        ({"limit_ms": "1e3"}, "not a number in range: 1e3"),
        ({"limit_ms": 0}, "not a number in range: 0"),
        ({"limit_ms": 2**63}, "not a number in range"),
        ({"stdout": 1}, "not a number in range: 1"),
        ({"isolation": "some"}, "unknown isolation: some"),
        ({"cwd": None}, "parameters are missing"),
        ({"counters": 2}, "not a number in range: 2"),
        ({"mode": "x"}, "unknown parameter: mode=x"),
    ],
)
def test_wrong_parameters_are_reported(compiled_helper, tmp_path, changed, reason):
    report, ended, _ = run(compiled_helper, "true", tmp_path=tmp_path, **changed)
    assert reason in report["helper_error"]
    assert ended.returncode == 1


WHOLE = job("report=9", "limit_ms=9", "--", "true")


@LINUX_ROOT
@pytest.mark.parametrize(
    "words",
    [WHOLE[:-1], WHOLE[: WHOLE.rindex(b"PATH")], WHOLE[: WHOLE.index(b"--")], b"4\0", b"4", b"x\0y\0", WHOLE + b"A=\0"],
)
def test_a_job_that_is_not_whole_is_none(compiled_helper, words):
    ended = told(compiled_helper, words)
    assert ended.returncode == 1
    assert b"helper_error: job: cut off" in ended.stderr or b"not a number in range" in ended.stderr


@LINUX_ROOT
def test_a_job_too_large_for_any_call_is_refused(compiled_helper):
    ended = told(compiled_helper, job("a" * 2**21))
    assert ended.returncode == 1
    assert b"helper_error: job: no room for it" in ended.stderr


@LINUX_ROOT
def test_what_a_helper_took_before_it_had_a_job_is_said_apart(compiled_helper, tmp_path):
    report, _, _ = run(compiled_helper, "bash", "-c", "i=0; while ((i++ < 99999)); do :; done", tmp_path=tmp_path)
    of_call_ns = 1e9 * (report["rusage"]["utime"] + report["rusage"]["stime"])
    assert 0 < report["ready_cpu_ns"] < of_call_ns / 4


def test_a_helper_that_gets_no_job_ends(compiled_helper):
    ended = told(compiled_helper, b"")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_a_helper_that_dies_before_it_has_its_job_is_collected(compiled_helper):
    settings = Settings()
    settings.helper, settings.helper_path, settings.isolation = "c", str(compiled_helper), "none"
    told = Job()
    told.argv, told.env, told.cwd, told.limit_ms = ["true"], {}, "/", 9000
    told.isolation, told.uid, told.gid, told.fsize_bytes, told.cgroup, told.figures = "none", 0, 0, 0, "", ""
    with launch.Line(settings) as line:
        pid = line.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        with pytest.raises(BrokenPipeError):
            line.start(settings, told)
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@LINUX_ROOT
@pytest.mark.parametrize("helper", ["c"], indirect=True)
def test_a_helper_waits_for_the_next_call_and_another_comes_where_it_died(workplace):
    with workplace.start("--stdio") as process, Worker.over_pipes(process.stdout, process.stdin) as worker:
        runner, waited = psutil.Process(process.pid), set()
        for dies in (False, True, False):
            worker.ping()
            waiting = the_waiting(runner)
            waited.add(waiting.pid)
            if dies:
                waiting.kill()
                until(partial(has_ended, waiting))
            open_before = runner.num_fds()
            report = worker.call("bash", "echo $PPID", limit_ms=9000)
            assert (int(report.stdout.text) == waiting.pid) == (not dies)
            until(lambda: the_waiting(runner) and runner.num_fds() == open_before)  # noqa: B023 - it is called here
        assert len(waited) == 3
        waiting = the_waiting(runner)
        process.kill()
        until(partial(has_ended, waiting))
