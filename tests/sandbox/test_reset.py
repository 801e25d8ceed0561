"""Between tasks nothing of the last one is left, whatever it did."""

import os
import shutil
from pathlib import Path

import pytest

from agenttrace.errors import UsageError, WorkerLostError
from agenttrace.sandbox.client import Worker
from agenttrace.sandbox.runner import tree

pytestmark = pytest.mark.parametrize("helper", ["c", "python"], indirect=True)


def state(worker):
    return [(e.path, e.type, e.mode, e.size, e.sha256, e.target, e.mtime_ns) for e in worker.manifest()]


def test_the_tree_is_the_fixture_to_the_nanosecond(workplace, worker):
    pristine, _ = tree.listing(str(workplace.fixtures / "base"))
    assert state(worker) == [tuple(entry.values()) for entry in pristine]
    assert worker.info.fixtures["base"] == tree.digest(pristine) == worker.reset("base").digest
    root, fixture = workplace.work.stat(), (workplace.fixtures / "base").stat()
    assert (root.st_mtime_ns, root.st_mode, root.st_uid) == (fixture.st_mtime_ns, fixture.st_mode, workplace.uid)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        "echo x >> docs/read.me",
        "printf HELLO > docs/read.me; touch -d @1000000000.000000123 docs/read.me",
        "rm -rf docs run.sh link",
        "rm -rf ./* .[!.]*",
        "chmod 777 secret; chmod 000 docs",
        "chmod 000 .",
        "ln secret other",
        "mv docs elsewhere; mkdir docs; cp elsewhere/read.me docs; touch -d @1000000000 docs",
        "rm link; mkdir link; touch link/x",
        "rm -r docs; ln -s /etc docs",
        "mkfifo p; mkdir -p a/b/c/d; chmod 000 a/b; touch $'bad\\xff name\\n'",
        "touch docs/deep; touch .",
        "for i in $(seq 300); do mkdir dddddddddddddddddddddddd; cd dddddddddddddddddddddddd; done 2>/dev/null; :",
    ],
)
def test_any_damage_is_undone(worker, shell, damage):
    before = state(worker)
    shell(damage)
    report = worker.reset("base")
    assert state(worker) == before
    assert report.digest == worker.info.fixtures["base"]
    assert shell("cat docs/read.me && ls -A | wc -l").stdout.text == "hello\n5\n"


def test_attributes_of_files_and_folders_are_removed(workplace, worker):
    code = "import os\nfor name in ('docs', 'run.sh', '.'): os.setxattr(name, 'user.left', b'behind')"
    report = worker.call("python", code, limit_ms=9000)
    if "not supported" in report.stderr.text:
        pytest.skip("the file system has no user attributes")
    assert os.listxattr(workplace.work / "docs") == ["user.left"]
    worker.reset("base")
    assert [os.listxattr(workplace.work / name) for name in ("docs", "run.sh", ".")] == [[], [], []]


FLAGS = """
import fcntl, os, struct
for name in (".", "docs", "run.sh"):
    fd = os.open(name, os.O_RDONLY)
    def flags():
        return struct.unpack("l", fcntl.ioctl(fd, 0x80086601, bytes(8)))[0]
    def extended():
        return bytearray(fcntl.ioctl(fd, 0x801C581F, bytes(28)))
    for bit in range(32) if SET else ():
        for change in (
            lambda: fcntl.ioctl(fd, 0x40086602, struct.pack("l", flags() | 1 << bit)),
            lambda: fcntl.ioctl(fd, 0x401C5820, struct.pack("I", struct.unpack("I", extended()[:4])[0] | 1 << bit)
                                + extended()[4:]),
        ):
            try:
                change()
            except OSError:
                pass
    print(name, hex(flags()), extended()[:8].hex())
    os.close(fd)
"""


def test_flags_of_files_and_folders_are_removed(worker, shell):
    def flags(*, change):
        return worker.call("python", FLAGS.replace("SET", str(change)), limit_ms=9000)

    before = flags(change=False)
    if before.exit_code:
        pytest.skip(f"the file system has no attribute flags: {before.stderr.text[-80:]}")
    changed = flags(change=True).stdout.text
    assert all(new != old for new, old in zip(changed.splitlines(), before.stdout.text.splitlines(), strict=True))
    shell("rm docs/read.me")
    worker.reset("base")
    assert flags(change=False).stdout.text == before.stdout.text


@pytest.mark.slow
def test_a_folder_that_grew_is_made_anew(worker, shell):
    before = shell("stat -c %s docs; ls -A docs").stdout.text
    shell("cd docs && seq 3000 | xargs touch && seq 3000 | xargs rm")
    worker.reset("base")
    assert shell("stat -c %s docs; ls -A docs").stdout.text == before


def test_an_untouched_tree_is_not_copied_again(worker, shell):
    shell("cat docs/read.me; ls -R")
    report = worker.reset("base")
    assert (report.restored, report.removed) == (0, 0)
    shell("echo x > docs/new; echo y > run.sh")
    report = worker.reset("base")
    assert (report.restored, report.removed) == (1, 2)


def test_fixtures_can_change_between_tasks(worker):
    before = state(worker)
    worker.reset("empty")
    assert state(worker) == []
    worker.reset("base")
    assert state(worker) == before


def test_an_unknown_fixture_is_refused_and_the_worker_lives(worker):
    for name in ("nonesuch", "../base", "", ".", "a\0b"):
        with pytest.raises(UsageError, match="no fixture"):
            worker.reset(name)
    worker.ping()


def test_temporary_folders_and_shared_memory_are_wiped(workplace, worker, shell):
    if shutil.which("ipcmk") is None:
        pytest.skip("needs ipcmk (util-linux)")
    shell(f"cd {workplace.wiped}; mkdir -p a/b; touch a/.c; chmod 000 a; ipcmk -M 64; ipcmk -S 1; ipcmk -Q")
    shared = shell("cat /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg").stdout.text
    uid = str(workplace.uid)
    assert shared.count(f" {uid} ") >= 3
    worker.reset("base")
    assert list(workplace.wiped.iterdir()) == []
    assert f" {uid} " not in shell("cat /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg").stdout.text


def test_only_named_folders_are_wiped(workplace, worker, shell):
    report = shell("f=$(mktemp) && echo $f")
    kept = Path(report.stdout.text.strip())
    worker.reset("base")
    assert kept.exists()
    kept.unlink()


def test_the_fixture_and_the_runner_are_out_of_reach(workplace, shell):
    assert shell(f"ls {workplace.fixtures}").exit_code != 0
    assert shell("touch /proc/$PPID/oom_score_adj && echo 5 > /proc/$PPID/oom_score_adj").exit_code != 0
    assert shell("cat /proc/$PPID/environ").exit_code != 0


@pytest.mark.parametrize("how", ["gone", "altered"])
def test_a_reset_that_cannot_be_verified_ends_the_worker(workplace, how):
    source = workplace.fixtures / "base" / "run.sh"
    with workplace.start("--stdio") as process:
        worker = Worker.over_pipes(process.stdout, process.stdin)
        worker.reset("base")
        if how == "gone":
            source.unlink()
        else:
            times = source.stat()
            source.write_text("echo no!\n")
            os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
        worker.call("bash", "rm run.sh", limit_ms=5000)
        with pytest.raises(WorkerLostError, match=r"reset_failed.*run\.sh"):
            worker.reset("base")
        assert process.wait(10) == 3
