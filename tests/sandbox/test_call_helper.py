"""The compiled helper by itself: what it refuses, how it fails, that its memory is handled correctly."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agenttrace.errors import WorkerLostError
from agenttrace.sandbox.client import Worker
from agenttrace.sandbox.reports import RawCall
from agenttrace.sandbox.runner import launch
from agenttrace.sandbox.runner.settings import Settings
from tests.sandbox.told import UID, job, run, told

SOURCE = Path(__file__).parents[2] / "agenttrace" / "sandbox" / "helper"
LINUX_ROOT = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux and root: the helper switches to another user"
)
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
OPTIONS = """
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0:log_path=%(log)s"; }
const char *__ubsan_default_options(void) { return "print_stacktrace=1:log_path=%(log)s"; }
"""


@pytest.fixture(scope="session")
def sanitized_helper(tmp_path_factory):
    """The helper with sanitizers, and a pattern of the files in which they would report."""
    if shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("sanitized")
    log = folder / "log"
    (folder / "options.c").write_text(OPTIONS % {"log": log})
    path = folder / "call-helper"
    built = subprocess.run(
        ["sh", SOURCE / "build.sh", path, *SANITIZED, folder / "options.c"], capture_output=True, text=True
    )
    if "cannot find" in built.stderr:
        pytest.skip("this compiler has no sanitizer libraries")
    assert built.returncode == 0, built.stderr
    yield path
    assert [file.read_text() for file in folder.glob("log*")] == []


@LINUX_ROOT
def test_a_report_that_nobody_takes_is_told_on_standard_error(compiled_helper, tmp_path):
    _, ended, _ = run(compiled_helper, "true", tmp_path=tmp_path, report=999)
    assert b"call-helper: helper_error: report descriptor: Bad file descriptor" in ended.stderr
    assert subprocess.run([compiled_helper], capture_output=True).returncode == 1
    full = os.open("/dev/full", os.O_WRONLY)
    pairs = [f"report={full}", "stdout=8", "stderr=9", "limit_ms=99", "isolation=uid", f"uid={UID}", f"gid={UID}"]
    pairs += ["fsize_bytes=1", "cwd=/", "cgroup=", "series=0", "counters=0", "basic=0"]
    try:
        ended = told(compiled_helper, job(*pairs, "--", "true"), pass_fds=[full])
    finally:
        os.close(full)
    assert ended.returncode == 1
    assert b"No space left" in ended.stderr or b"spawn_error" in ended.stderr


@LINUX_ROOT
@pytest.mark.parametrize(
    ("command", "changed", "reason"),
    [
        (["nonesuch"], {}, "nonesuch: No such file or directory"),
        (["/nonesuch"], {}, "/nonesuch: No such file or directory"),
        (["/etc/passwd"], {}, "/etc/passwd: Permission denied"),
        (["true"], {"cwd": "/nope"}, "/nope: No such file or directory"),
        (["true"], {"cgroup": "/nope"}, "/nope: No such file or directory"),
        (["true"], {"stdout": 998}, "standard streams: Bad file descriptor"),
        (["true", "x" * 200_000], {}, "true: Argument list too long"),
    ],
)
def test_a_program_that_cannot_start_is_reported(compiled_helper, tmp_path, command, changed, reason):
    report, _, _ = run(compiled_helper, *command, tmp_path=tmp_path, **changed)
    assert report == {"spawn_error": reason}


@pytest.mark.slow
@LINUX_ROOT
@pytest.mark.parametrize("isolation", ["uid", "none"])
def test_the_sanitized_helper_has_nothing_to_report(sanitized_helper, tmp_path, isolation):
    def call(*command, **changed):
        report, ended, out = run(sanitized_helper, *command, tmp_path=tmp_path, isolation=isolation, **changed)
        assert ended.stderr == b""
        return report, out

    for words in (b"", b"4", b"x\0y\0", job("a")[:-1], job("a", "b")[:6], job(variables=()), job("a" * 2**21)):
        assert told(sanitized_helper, words).returncode == (1 if words else 0)
    report, out = call("bash", "-c", "echo hi; exit 3")
    assert (report["status"], out) == (3 << 8, "hi\n")
    report, _ = call("bash", "-c", "for i in $(seq 30); do sleep 66 & done; setsid sleep 67 & sleep 0.2")
    assert (report["leftover_count"], report["leftover_names"]) == (31, ["sleep"] * 16)
    code = "cd $(mktemp -d); for n in {30..1}; do ln -s $BASH n$n; ./n$n -c 'sleep 68; :' & done; sleep 0.5"
    report, _ = call("bash", "-c", code)
    assert report["leftover_count"] >= 30
    assert report["leftover_names"][0] == "n1"
    assert report["leftover_names"] == sorted(report["leftover_names"])
    report, _ = call("bash", "-c", "trap '' TERM; while :; do sleep 60; done", limit_ms=150)
    assert (report["timed_out"], report["status"], report["survivors"]) == (True, 9, False)
    report, _ = call("bash", "-c", "x=$(head -c 3000000 /dev/zero | tr '\\0' y); sleep 0.2; kill -SEGV $$")
    assert report["status"] & 0x7F == 11
    assert report["tree_rss_samples"] >= 1
    assert "spawn_error" in call("nonesuch" * 500)[0]
    assert "helper_error" in call("true", limit_ms="x" * 9000)[0]


@LINUX_ROOT
def test_a_worker_runs_on_the_sanitized_helper(workplace, sanitized_helper):
    workplace.helper = ["--helper", "c", "--helper-path", str(sanitized_helper)]
    with workplace.start("--stdio") as process, Worker.over_pipes(process.stdout, process.stdin) as worker:
        assert worker.info.helper == "c"
        worker.reset("base")
        assert worker.call("bash", "cat docs/read.me; sleep 69 & :", limit_ms=9000).stdout.text == "hello\n"
        assert worker.call("bash", "# " + "x" * 90_000 + "\necho $#", limit_ms=9000).stdout.text == "0\n"
        assert worker.call("python", "1 + 1", limit_ms=20_000).stdout.text == "2\n"
        assert worker.call("bash", "sleep 9", limit_ms=100).status == "timeout"


@LINUX_ROOT
def test_both_helpers_report_the_same_things(workplace, compiled_helper):
    seen = {}
    for name in ("c", "python"):
        workplace.helper = ["--helper", name, "--helper-path", str(compiled_helper)]
        with workplace.start("--stdio") as process, Worker.over_pipes(process.stdout, process.stdin) as worker:
            worker.reset("base")
            seen[name] = worker.call(
                "bash", "echo x > f; cat /etc/passwd > /dev/null; sleep 70 & sleep 0.3", limit_ms=9000
            )
    c, python = seen["c"].telemetry, seen["python"].telemetry
    assert c.leftover_names == python.leftover_names == ("sleep",)
    # The file system's own blocks are counted with the call that dirtied them first: some tens of KiB, more or less.
    for field, tolerance in {"read_chars": 4096, "write_chars": 64, "write_bytes": 131072}.items():
        assert getattr(c, field) == pytest.approx(getattr(python, field), abs=tolerance)
    missing = {name for name in c.__struct_fields__ if getattr(c, name) is None}
    of_the_container = ("cpu_un", "cgroup_", "cfs_", "file_", "anon_", "pressure_", "network_", "processes_started")
    assert [name for name in missing if not name.startswith(of_the_container) and "_pressure_" not in name] == []
    one_only = {name for name in c.__struct_fields__ if getattr(python, name) is None} - missing
    assert one_only == {
        *("tree_rss_peak_bytes", "tree_rss_samples", "tree_rss_mean_bytes", "tree_rss_byte_seconds"),
        *("processes_peak", "runqueue_wait_ns", "blocked_ns"),
    }


@LINUX_ROOT
def test_the_series_stays_short_and_holds_the_peak_whatever_it_joins(compiled_helper, tmp_path):
    code = "import time; time.sleep(0.3); x = bytearray(b'.' * (40 << 20)); time.sleep(0.6); del x; time.sleep(1.3)"
    report, _, _ = run(compiled_helper, "python3", "-c", code, tmp_path=tmp_path, series=1)
    times, sizes = zip(*report["tree_rss_series"], strict=True)
    assert 3 <= len(times) <= 64  # a busy machine is looked at less often
    assert list(times) == sorted(set(times))
    assert max(sizes) == report["tree_rss_kib"] > sizes[-1] + 39 * 1024
    wall_us = report["wall_ns"] / 1000
    assert min(sizes) * wall_us * 0.9 < report["tree_rss_kib_us"] < max(sizes) * wall_us
    assert "tree_rss_series" not in run(compiled_helper, "sleep", "0.2", tmp_path=tmp_path)[0]


@LINUX_ROOT
def test_counters_that_are_asked_for_are_counted_or_say_why_not(compiled_helper, tmp_path):
    report, _, _ = run(compiled_helper, "python3", "-c", "sum(range(10**6))", tmp_path=tmp_path, counters=1)
    if "counters_reason" in report:
        assert report["counters_reason"].startswith("perf_event_open of user_instructions: ")
        assert not report.keys() & {"user_instructions", "cycles"}
    else:
        assert min(report["user_instructions"], report["cycles"]) > 10**6
    assert report["status"] == 0


@LINUX_ROOT
def test_waiting_for_a_processor_is_known_of_all_that_are_seen(compiled_helper, tmp_path):
    spin = "taskset -c 0 python3 -c 'import time\nwhile time.process_time() < 0.4: pass'"
    alone, _, _ = run(compiled_helper, "bash", "-c", spin, tmp_path=tmp_path)
    three, _, _ = run(compiled_helper, "bash", "-c", f"{spin} & {spin} & {spin} & wait", tmp_path=tmp_path)
    assert (alone["processes_peak"], three["processes_peak"]) == (1, 4)
    assert three["runqueue_wait_ns"] > 700e6  # three on one processor wait 0.8 s or more, whatever else goes on
    idle_ns = alone["wall_ns"] - 1e9 * (alone["rusage"]["utime"] + alone["rusage"]["stime"])
    assert alone["runqueue_wait_ns"] < idle_ns + 50e6


@pytest.mark.slow
@LINUX_ROOT
@pytest.mark.parametrize("helper", ["c", "python"], indirect=True)
def test_a_tool_cannot_kill_the_helper_while_it_cleans_up(worker):
    code = "for i in 1 2 3; do setsid bash -c 'while :; do kill -9 $0; done' $PPID & done 2> /dev/null; sleep 0.1"
    for _ in range(20):
        assert worker.call("bash", code, limit_ms=9000).telemetry.leftover_count == 3


@LINUX_ROOT
@pytest.mark.parametrize("helper", ["c"], indirect=True)
def test_a_tool_writes_nothing_below_proc_and_all_else_as_before(shell):
    """It cannot take back that it is the first to die; renaming, and the streams by their names, stay as they are."""
    found = shell(
        "for n in 0 500; do echo $n >/proc/self/oom_score_adj; done; cat /proc/self/oom_score_adj;"
        "mv run.sh docs/deep && ln docs/deep/run.sh . && echo moved >/dev/stdout;"
        "echo x >/dev/null; exec 3<>docs/read.me; echo y >&3; echo z >/proc/self/fd/3; head -c 2 docs/read.me"
    )
    if "denied" not in (found.stderr.text or ""):
        pytest.skip("this kernel has no Landlock (5.19 or newer, with the module switched on)")
    assert found.stdout.text == "1000\nmoved\nz\n"
    assert found.stderr.text.count("Permission denied") == 2


def test_the_helper_is_chosen_by_what_runs(compiled_helper, tmp_path):
    options = Settings()
    options.helper_path = str(compiled_helper)
    assert launch.choose(options) == "c"
    options.helper = "python"
    assert launch.choose(options) == "python"
    for path in (tmp_path / "nonesuch", Path(shutil.which("true")), Path(shutil.which("false")), tmp_path):
        options.helper, options.helper_path = "auto", str(path)
        assert launch.choose(options) == "python"
        options.helper = "c"
        with pytest.raises(ValueError, match="cannot be used"):
            launch.choose(options)


@pytest.mark.parametrize("report", [b"", b"[]", b"{", b"7"])
def test_what_is_no_report_is_an_error(report):
    with pytest.raises(ValueError):
        launch.parse(Settings(), report)


@LINUX_ROOT
def test_a_helper_that_says_something_else_is_lost(workplace, tmp_path):
    fake = workplace.base / "fake"
    fake.write_text(
        '#!/bin/bash\n[ "$1" != --probe ] || { echo agenttrace call-helper 3; exit; }\n'
        'mapfile -d "" job <&"$2"\nfd=${job[2]#report=}\n'
        'eval "echo \'{\\"helper_error\\": \\"no \u00c3\u00a9tat\\"}\' >&$fd"\nexit 1\n'
    )
    fake.chmod(0o700)
    workplace.helper = ["--helper", "auto", "--helper-path", str(fake)]
    with workplace.start("--stdio") as process, Worker.over_pipes(process.stdout, process.stdin) as worker:
        assert worker.info.helper == "c"
        with pytest.raises(WorkerLostError, match=r"helper_lost.*the helper failed: no "):
            worker.call("bash", ":", limit_ms=9000)
        assert process.wait(10) == 3


MUCH_BEFORE = r"""
import os, re, sys

if sys.argv[1] == "--probe":
    os.execv(REAL, sys.argv)
with open(int(sys.argv[2]), "rb") as file:
    job = file.read()
report = int(re.search(rb"\0report=(\d+)", job)[1])
answer = os.dup(report)
(ours, theirs), (jobs, teller) = os.pipe(), os.pipe()
os.dup2(theirs, report)
os.set_inheritable(jobs, True)
helper = os.posix_spawn(REAL, [REAL, "--job", str(jobs)], {})
os.write(teller, job)
for fd in (teller, theirs, report):
    os.close(fd)
with open(ours, "rb") as said, open(answer, "wb") as file:
    file.write(re.sub(rb'("ready_cpu_ns":)\d+', rb"\g<1>1000000000000", said.read()))
os.waitpid(helper, 0)
"""


@LINUX_ROOT
def test_what_a_helper_took_before_the_call_is_not_the_runners(workplace, compiled_helper):
    fake = workplace.base / "fake"
    fake.write_text(f"#!{sys.executable} -IS\nREAL = {str(compiled_helper)!r}\n{MUCH_BEFORE}")
    fake.chmod(0o700)
    workplace.helper = ["--helper", "c", "--helper-path", str(fake)]
    with workplace.start("--stdio") as process, Worker.over_pipes(process.stdout, process.stdin) as worker:
        raw = worker._request({"op": "call", "kind": "bash", "code": ":", "limit_ms": 9000}, RawCall, timeout_s=30)
        assert -1_000_000_000_000 <= raw.telemetry["runner_cpu_ns"] < -900_000_000_000


def test_the_same_compiler_gives_the_same_bytes_anywhere(compiled_helper, tmp_path):
    elsewhere = shutil.copytree(SOURCE, tmp_path / "elsewhere" / "helper")
    again = tmp_path / "again"
    subprocess.run(["sh", elsewhere / "build.sh", again], check=True, cwd="/")
    assert again.read_bytes() == compiled_helper.read_bytes()


STILL = """
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    if (strstr(path, "/schedstat") != NULL)
        path = "%(schedstat)s";
    return __real_open(path, flags, 0);
}
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    va_list given;
    va_start(given, number);
    long a = va_arg(given, long), b = va_arg(given, long), c = va_arg(given, long), d = va_arg(given, long);
    va_end(given);
    return number == SYS_perf_event_open ? __real_open("%(perf)s", O_RDONLY) : __real_syscall(number, a, b, c, d);
}
"""
"""A kernel of other words: what it says of waiting, and of every hardware counter."""


@LINUX_ROOT
@pytest.mark.parametrize(
    ("schedstat", "counter", "waited", "counted"),
    [
        ("0 0 0\n", (0, 5, 5), False, "user_instructions counted nothing"),  # delayacct is off; a counter stands still
        ("0 0 0\n", (0, 0, 0), False, "user_instructions counted nothing"),
        ("5 0 1\n", (7, 9, 3), True, "user_instructions shared its counter with others"),
        ("5 3 1\n", (7, 9, 9), True, None),
    ],
)
def test_a_kernel_that_counts_nothing_is_unknown_and_not_zero(
    compiled_helper, tmp_path, schedstat, counter, waited, counted
):
    (tmp_path / "schedstat").write_text(schedstat)
    (tmp_path / "perf").write_bytes(b"".join(one.to_bytes(8, sys.byteorder) for one in counter))
    kernel = STILL % {"schedstat": tmp_path / "schedstat", "perf": tmp_path / "perf"}
    (tmp_path / "kernel.c").write_text(kernel)
    wrapped = ("-O1", tmp_path / "kernel.c", "-Wl,--wrap=open,--wrap=syscall")
    subprocess.run(["sh", SOURCE / "build.sh", tmp_path / "helper", *wrapped], check=True)
    report, _, _ = run(tmp_path / "helper", "true", tmp_path=tmp_path, counters=1)
    assert ("runqueue_wait_ns" in report) is waited
    assert report.get("counters_reason") == counted
    assert ("user_instructions" in report) is (counted is None)


@LINUX_ROOT
def test_process_numbers_that_began_anew_are_unknown_also_when_they_are_beyond_the_first(compiled_helper, tmp_path):
    alone = tmp_path / "alone"
    alone.write_text(f'#!/bin/sh\nexec unshare --pid --fork --mount-proc {compiled_helper} "$@"\n')
    alone.chmod(0o755)
    if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("no unshare here")
    many = "for i in {1..%d}; do /bin/true; done; sleep 0.2"
    once, _, _ = run(alone, "bash", "-c", many % 50, tmp_path=tmp_path, isolation="none")
    assert once["processes_started"] == 51  # bash becomes the last one
    code = f"{many % 100}; echo 9 > /proc/sys/kernel/ns_last_pid; {many % 20}"
    again, _, _ = run(alone, "bash", "-c", code, tmp_path=tmp_path, isolation="none")
    assert again["status"] == 0
    assert "processes_started" not in again
