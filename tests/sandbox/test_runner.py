"""Real tool processes under a real runner: what they get, what they leave, what they cost, how they misbehave."""

import re
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.parametrize("helper", ["c", "python"], indirect=True)

MIB = 2**20


def own_processes(shell):
    """Names of the processes of the tools' user while this call runs."""
    code = 'for p in /proc/[0-9]*; do grep -q "^Uid:.$UID" $p/status && cat $p/comm; done 2>/dev/null'
    names = shell(code).stdout.text.split()
    assert "bash" in names
    return names


def test_a_command_runs_in_the_work_tree_with_its_streams_and_status(shell, helper):
    report = shell("pwd -P; ls; echo oops >&2; exit 3")
    assert report.stdout.text.splitlines()[1:] == ["dangling", "docs", "link", "run.sh", "secret"]
    assert report.stderr.text == "oops\n"
    assert (report.exit_code, report.signal, report.status) == (3, None, "ok")
    assert report.telemetry.method == f"{helper}-helper"
    assert 0 < report.telemetry.wall_ns <= report.end_ns - report.start_ns + 10**6


def test_the_environment_is_exactly_the_documented_one(shell):
    lines = shell("env -u _ -u SHLVL -u PWD -u OLDPWD").stdout.text.splitlines()
    names = {"HOME", "LANG", "LC_ALL", "LOGNAME", "PAGER", "PATH", "PYTHONHASHSEED", "SHELL", "TERM", "TZ", "USER"}
    values = dict(line.split("=", 1) for line in lines)
    assert values.keys() == names
    assert values["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert (values["LANG"], values["TZ"], values["USER"]) == ("C.UTF-8", "UTC", "agent")
    assert shell("umask; cat; echo end").stdout.text == "0022\nend\n"
    assert shell("ls /proc/self/fd").stdout.text.split() == ["0", "1", "2", "3"]  # 3 is the listing itself


def test_a_tool_is_never_root_and_cannot_become_it(shell):
    text = shell("id -u; id -G; grep -E 'Cap(Eff|Prm|Inh|Amb)|NoNewPrivs|Groups' /proc/self/status").stdout.text
    uid, groups, *status = text.splitlines()
    assert int(uid) > 0
    assert groups == uid
    values = dict(line.split(":") for line in status)
    assert {int(values[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert values["NoNewPrivs"].strip() == "1"
    assert values["Groups"].strip() == ""


@pytest.mark.parametrize(
    "code",
    ["nonesuch", 'echo "unbalanced', "echo 1\nfor\n", "echo $0 $#", "cd /nope", "", "\n\n", "(exit 7)", "ls |\n nope"],
)
def test_messages_are_those_of_bash_dash_c(shell, code):
    expected = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    report = shell(code)
    assert (report.stdout.text, report.exit_code) == (expected.stdout, expected.returncode)
    assert report.stderr.text == expected.stderr


def test_a_missing_command_is_127(shell):
    assert shell("nonesuch").exit_code == 127


def test_code_longer_than_an_argument_runs_from_a_file(shell):
    report = shell("# " + "x" * MIB + "\necho $0 $#; exit 5")
    assert (report.stdout.text, report.exit_code) == ("bash 0\n", 5)
    report = shell("echo 'it''s'\n" + ": " + "y" * 200_000 + "\nnonesuch")
    assert report.stderr.text.startswith("bash: ")
    assert report.exit_code == 127


def test_code_with_a_nul_byte_runs_without_it(shell):
    report = shell("echo a\0b")
    assert report.stdout.text == "ab\n"
    assert "null byte" in report.stderr.text


def test_python_code_runs_like_a_cell(worker):
    report = worker.call("python", "import sys\nprint(__name__, sys.path[0] == '', sys.argv)\n40 + 2", limit_ms=9000)
    assert report.stdout.text == "__main__ True ['']\n42\n"
    report = worker.call("python", "def f():\n    return 1 / 0\n\nf()", limit_ms=9000)
    assert report.exit_code == 1
    assert report.stderr.text.startswith('Traceback (most recent call last):\n  File "<python_interpreter>", line 4')
    assert "interpret.py" not in report.stderr.text
    assert "ZeroDivisionError" in report.stderr.text
    report = worker.call("python", "x = (1,\nprint(", limit_ms=9000)
    assert report.stderr.text.startswith('  File "<python_interpreter>", line ')
    assert worker.call("python", "raise SystemExit(4)", limit_ms=9000).exit_code == 4
    assert worker.call("python", "input()", limit_ms=9000).stderr.text.endswith("EOFError: EOF when reading a line\n")
    assert worker.call("python", "open('m.py', 'w').write('v = 7')\nimport m\nm.v", limit_ms=9000).stdout.text == "7\n"
    assert worker.call("python", "#" * MIB + "\n'long'", limit_ms=9000).stdout.text == "'long'\n"


@pytest.mark.parametrize(("number", "name"), [(15, "TERM"), (9, "KILL"), (11, "SEGV"), (13, "PIPE")])
def test_a_signal_is_told_from_an_exit_code(shell, number, name):
    report = shell(f"kill -{name} $$")
    assert (report.exit_code, report.signal, report.status) == (128 + number, number, "ok")


def test_broken_pipes_end_quietly(shell):
    assert shell("yes | head -1; echo ${PIPESTATUS[0]}").stdout.text == "y\n141\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "latest_s"),
    [
        ("sleep 60", 0.9),
        ("trap '' TERM; while :; do sleep 60; done", 1.4),
        ("kill -STOP $$", 1.4),
        ("trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 60' & setsid sleep 60 & wait", 1.4),
    ],
)
def test_a_timeout_ends_everything(shell, code, latest_s):
    report = shell(code, 500)
    assert report.status == "timeout"
    assert report.signal in {9, 15}
    assert 0.5 <= report.telemetry.wall_ns / 1e9 < latest_s + 0.2
    assert "sleep" not in own_processes(shell)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("sleep 61 & sleep 0.3", "sleep"),
        ("nohup sleep 61 > /dev/null 2>&1 & sleep 0.3", "sleep"),
        ("setsid sleep 61 & sleep 0.3", "sleep"),
        ("(sleep 61 & ) & wait; sleep 0.3", "sleep"),
        ("sh -c 'sleep 61 & exit'; sleep 0.3; exit 0", "sleep"),
    ],
)
def test_leftovers_do_not_delay_the_call_are_counted_and_killed(shell, code, name):
    report = shell(code)
    assert report.telemetry.wall_ns < 2e9
    assert (report.telemetry.leftover_count, report.telemetry.leftover_names) == (1, (name,))
    assert "sleep" not in own_processes(shell)


def test_output_far_beyond_memory_keeps_both_ends(shell):
    report = shell("echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last", 60_000, keep_bytes=4096)
    assert report.stdout.bytes_total == 100_000_000 + len("first\n\nlast\n")
    assert report.stdout.bytes_kept == 4096
    assert report.stdout.text.startswith("first\nxxx")
    assert report.stdout.text.endswith("xxx\nlast\n")
    assert f"\n[... {report.stdout.bytes_total - 4096} bytes left out ...]\n" in report.stdout.text


def test_an_endless_writer_is_stopped_and_the_runner_stays_small(process, shell):
    report = shell("yes & yes >&2; wait", 1000)
    assert report.status == "timeout"
    assert min(report.stdout.bytes_total, report.stderr.bytes_total) > MIB
    assert report.telemetry.peak_rss_floor_bytes < 20 * MIB
    status = Path(f"/proc/{process.pid}/status").read_text()
    if "python" in status:  # a client of the engine says nothing about the runner
        assert int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) < 32 * 1024


def test_output_that_is_not_text_survives(shell):
    report = shell("printf 'a\\xff\\0b'")
    assert (report.stdout.text, report.stdout.encoding) == ("a\\xff\0b", "backslashreplace")
    assert shell("printf 'h\\xc3\\xa9'").stdout.encoding == "utf-8"


def test_closed_streams_and_no_terminal(shell):
    report = shell("exec >&- 2>&-; cat < /dev/tty; exit 9")
    assert (report.exit_code, report.stdout.bytes_total) == (9, 0)


def test_a_tool_cannot_kill_what_is_not_its_own(shell):
    report = shell("sleep 62 & kill -9 -1; echo alive; kill -9 1 $PPID; echo $?")
    assert report.stdout.text == "alive\n1\n"
    assert "not permitted" in report.stderr.text
    assert shell("echo still here").stdout.text == "still here\n"


def test_many_processes_are_gone_at_once(shell):
    report = shell("for i in $(seq 60); do (trap '' TERM; sleep 63) & done; exit 0", 20_000)
    assert report.telemetry.leftover_count >= 60
    assert len(report.telemetry.leftover_names) == 16
    assert report.telemetry.cleanup_ns < 2e9
    assert "sleep" not in own_processes(shell)


def test_orphans_are_reaped_during_the_call(worker):
    code = (
        "import os, time\n"
        "for _ in range(50):\n"
        "    if os.fork() == 0:\n"
        "        os.fork() and os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "time.sleep(0.3)\n"
        "import re\n"
        "zombies = 0\n"
        "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "    try: text = open(f'/proc/{pid}/status').read()\n"
        "    except OSError: continue\n"
        "    zombies += 'State:\\tZ' in text and f'Uid:\\t{os.getuid()}' in text\n"
        "zombies"
    )
    assert worker.call("python", code, limit_ms=20_000).stdout.text == "0\n"


def cheapest(worker, code):
    """Return the telemetry of the cheapest of four calls: where others use the machine, the same work costs more."""
    calls = [worker.call("python", code, limit_ms=20_000).telemetry for _ in range(4)]
    return min(calls, key=lambda telemetry: telemetry.cpu_user_ns + telemetry.cpu_system_ns)


def test_cpu_of_a_known_load(worker):
    telemetry = cheapest(worker, "import time\nt = time.process_time\nwhile t() < 0.2: pass")
    assert telemetry.cpu_user_ns + telemetry.cpu_system_ns == pytest.approx(200e6, rel=0.1, abs=15e6)


@pytest.mark.slow
def test_cpu_of_a_daemon_that_ends_during_the_call_counts(worker):
    burn = "import time; t = time.process_time\nwhile t() < 0.2: pass"
    daemon = f"if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: exec({burn!r})\n    os._exit(0)\n"
    code = f"import os, time\n{daemon}os.wait(); time.sleep(1.5)"
    telemetry = cheapest(worker, code)
    assert telemetry.leftover_count == 0
    assert 190e6 < telemetry.cpu_user_ns + telemetry.cpu_system_ns < 330e6


def test_memory_of_a_known_load(worker):
    code = "data = bytearray({})\nfor i in range(0, len(data), 4096): data[i] = 1"
    small, large = (
        worker.call("python", code.format(size), limit_ms=20_000).telemetry.max_rss_bytes
        for size in (32 * MIB, 96 * MIB)
    )
    assert large - small == pytest.approx(64 * MIB, abs=MIB)


def test_disk_writes_of_a_known_load(shell):
    code = "dd if=/dev/zero of=big bs=1M count=16 conv=fsync 2>/dev/null; stat -f -c %T ."
    report = shell(code)
    if "tmpfs" in report.stdout.text:
        pytest.skip("the work tree is on tmpfs, where nothing is written to a disk")
    assert 16 * MIB <= report.telemetry.write_bytes <= 16 * MIB + 128 * 1024
    assert report.telemetry.write_chars == pytest.approx(16 * MIB, abs=4096)


def test_a_quiet_call_has_little_of_everything(shell, helper):
    telemetry = shell(":").telemetry
    assert telemetry.write_bytes <= 64 * 1024
    assert telemetry.write_chars < 100
    assert telemetry.cpu_user_ns + telemetry.cpu_system_ns < 100e6
    if helper == "c":
        assert telemetry.peak_rss_floor_bytes < 1.5 * MIB
        assert 2.5 * MIB < telemetry.max_rss_bytes < 5 * MIB  # bash itself
    else:
        assert telemetry.max_rss_bytes < 20 * MIB
        assert abs(telemetry.max_rss_bytes - telemetry.peak_rss_floor_bytes) < 256 * 1024  # bash itself is smaller
    assert telemetry.leftover_count == 0


def test_work_that_hides_from_its_parent_is_flagged_where_the_container_counts(worker):
    code = (
        "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n    while time.process_time() < 0.2: pass\n    os._exit(0)\ntime.sleep(0.8)"
    )
    telemetry = worker.call("python", code, limit_ms=20_000).telemetry
    if telemetry.cpu_unattributed_ns is None:
        pytest.skip("this runner has no cgroup of its own")
    assert telemetry.cpu_unattributed_ns > 150e6
    assert worker.call("python", "pass", limit_ms=9000).telemetry.cpu_unattributed_ns < 20e6


def test_running_out_of_memory_is_told_from_being_killed(worker):
    if worker.info.limits.memory_bytes is None:
        pytest.skip("this runner has no memory limit")
    report = worker.call(
        "python", "x = bytearray(3 * 2**30)\nfor i in range(0, len(x), 4096): x[i] = 1", limit_ms=60_000
    )
    assert (report.status, report.signal) == ("oom", 9)
    assert worker.call("bash", "kill -9 $$", limit_ms=9000).status == "ok"
    assert worker.reset("base").recycle_after


def test_a_fork_bomb_is_ended(worker, shell):
    if worker.info.limits.pids is None:
        pytest.skip("this runner has no limit on processes")
    report = shell("f() { f | f & }; f; sleep 60", 1000)
    assert report.status == "timeout"
    assert shell("echo fine").stdout.text == "fine\n"


def test_line_numbers_in_messages(shell):
    assert re.search(r"line 2: cd: /nope", shell("true\ncd /nope").stderr.text)


def test_a_call_costs_little(shell):
    times = []
    for _ in range(30):
        start = time.perf_counter()
        shell(":")
        times.append(time.perf_counter() - start)
    assert sorted(times)[5] < 0.1


def test_a_call_that_is_killed_ends_with_its_main_process(shell):
    report = shell("trap '' TERM; while :; do sleep 60; done", 200)
    assert (report.status, report.signal) == ("timeout", 9)
    assert 0.69 < report.telemetry.wall_ns / 1e9 < 1.0
    assert report.telemetry.wall_ns + report.telemetry.cleanup_ns <= report.end_ns - report.start_ns + 10**6


def test_memory_of_a_whole_tree_is_sampled(shell, helper):
    code = "python3 -c 'import time; x = bytearray(32 << 20); time.sleep(0.4)'"
    telemetry = shell(f"{code} & {code} & wait").telemetry
    if helper == "python":
        assert (telemetry.tree_rss_peak_bytes, telemetry.tree_rss_samples) == (None, None)
        return
    assert telemetry.tree_rss_samples >= 5
    assert 64 * MIB < telemetry.tree_rss_peak_bytes < 2 * telemetry.max_rss_bytes + 8 * MIB
    telemetry = shell("sleep 0.05").telemetry
    short = telemetry.wall_ns < 10**8  # not on every busy machine
    assert ((telemetry.tree_rss_peak_bytes, telemetry.tree_rss_samples) == (None, None)) is short


def test_odd_names_of_leftovers_are_told(worker):
    code = (
        "import ctypes, os, time\nif os.fork() == 0:\n"
        "    ctypes.CDLL(None).prctl(15, 'h\u00e9 \"\\\\\\n'.encode() + b'\\xff', 0, 0, 0)\n    time.sleep(64)\n"
        "time.sleep(0.3)"
    )
    names = worker.call("python", code, limit_ms=20_000).telemetry.leftover_names
    assert names == ('h\u00e9 "\\\\\\n\\xff',)


def test_output_can_be_written_through_the_device_names(worker):
    report = worker.call(
        "bash", "echo out >/dev/stdout; echo err >/dev/stderr; echo more >/proc/self/fd/1", limit_ms=5000
    )
    assert report.exit_code == 0
    assert report.stdout.text == "out\nmore\n"
    assert report.stderr.text == "err\n"
