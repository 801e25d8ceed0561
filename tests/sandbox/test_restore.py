"""The reset's own check: what it looks at again, and that it finds what a faulty repair leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.sandbox.runner import apart, libc, restore, tree
from agenttrace.sandbox.runner.errors import FatalError

FOLDERS = 30


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A tree of 30 folders with two files, a link and an empty folder each."""
    base = tmp_path_factory.mktemp("restore")
    for number in range(FOLDERS):
        folder = base / "fixtures" / "wide" / f"d{number:02}"
        (folder / "empty").mkdir(parents=True)
        (folder / "a").write_text("a")
        (folder / "b").write_text("b")
        (folder / "link").symlink_to("a")
    (base / "work").mkdir()
    return restore.WorkTree(str(base / "work"), str(base / "fixtures"), None)


def pristine(work):
    return tree.digest(tree.listing(work.root)[0]) == work.digests()["wide"]


def test_only_folders_in_which_something_happened_are_listed_again(work, monkeypatch):
    listed = []
    scandir = os.scandir
    work.reset("wide", lambda: None)
    work.settle()
    (Path(work.root) / "d07" / "a").write_text("more")
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    work.reset("wide", lambda: None)
    monkeypatch.undo()
    assert sorted(listed) == sorted(
        [
            *(f"{work.root}/{path}" for path in ("", "d07")),  # the check
            f"{work.root}/",
            *(f"{work.root}/d{number:02}{below}" for number in range(FOLDERS) for below in ("", "/empty")),
        ]
    )
    assert pristine(work)


@pytest.mark.parametrize(
    ("stage", "fault", "says"),
    [
        ("_refill", lambda folder: (folder / "left").touch(), "'d03/left' is extra"),
        ("_refill", lambda folder: (folder / "b").unlink(), "1 paths are missing in 'd03'"),
        ("_refill", lambda folder: (folder / "b").chmod(0o600), "'d03/b' changed during the reset"),
        ("_refill", lambda folder: (folder / "b").rename(folder / "a"), "'d03/a' changed during the reset"),
        ("_copy", lambda folder: (folder / "a").write_text("z"), "'d03/a' differs from the fixture"),
        ("_mend_folders", lambda folder: folder.touch(), "'d03' changed during the reset"),
    ],
    ids=["extra", "missing", "changed", "replaced", "wrong copy", "time"],
)
def test_a_faulty_repair_is_found(work, monkeypatch, stage, fault, says):
    work.reset("wide", lambda: None)
    work.settle()
    folder = Path(work.root) / "d03"
    (folder / "a").unlink()
    right = getattr(restore.WorkTree, stage)

    def faulty(*arguments):
        done = right(*arguments)
        fault(folder)
        return done

    monkeypatch.setattr(restore.WorkTree, stage, faulty)
    with pytest.raises(FatalError, match=says):
        work.reset("wide", lambda: None)
    monkeypatch.undo()
    work.fixture = None
    work.reset("wide", lambda: None)
    assert pristine(work)


def rewrite_and_hide(folder):
    """Other bytes of the same length, with the old time stamp: only the ctime tells."""
    info = (folder / "a").stat()
    (folder / "a").write_text("z")
    os.utime(folder / "a", ns=(info.st_atime_ns, info.st_mtime_ns))


def swap(folder):
    (folder / "a").rename(folder / "tmp")
    (folder / "b").rename(folder / "a")
    (folder / "tmp").rename(folder / "b")


def replace_file(folder):
    (folder / "a").unlink()
    (folder / "a" / "deep").mkdir(parents=True)


def replace_folder(folder):
    (folder / "empty").rmdir()
    (folder / "empty").touch()


DAMAGE = {
    "hidden": rewrite_and_hide,
    "swapped": swap,
    "second name": lambda folder: (folder.parent / f"second-{folder.name}").hardlink_to(folder / "a"),
    "moved": lambda folder: folder.rename(f"{folder}-moved"),
    "removed": shutil.rmtree,
    "new": lambda folder: (folder / "new").touch(),
    "mode": lambda folder: folder.chmod(0o555),
    "time of a link": lambda folder: os.utime(folder / "link", ns=(1, 1), follow_symlinks=False),
    "folder for a file": replace_file,
    "file for a folder": replace_folder,
    "into the empty folder": lambda folder: shutil.copy(folder / "b", folder / "empty" / "b"),
}


@pytest.fixture(scope="module")
def always_apart():
    """Every file system puts new folders where there is room, and how many are made apart may be chosen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libc, "spread", lambda _: True)
        patch.setattr(apart, "MANY", 1)
        yield


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(0, FOLDERS - 1), st.sampled_from(sorted(DAMAGE)), max_size=8), st.sampled_from([1, 99])
)
def test_whatever_was_done_where_the_whole_tree_is_the_fixture_again(work, always_apart, damage, many):
    apart.MANY = many
    work.reset("wide", lambda: None)
    work.settle()
    for number, kind in damage.items():
        DAMAGE[kind](Path(work.root) / f"d{number:02}")
    if set(damage.values()) - {"second name", "time of a link"}:
        assert not pristine(work)
    work.reset("wide", lambda: None)
    assert pristine(work)


def test_what_is_made_apart_needs_a_name_that_no_path_has(always_apart, tmp_path):
    for name in ("0/1", "1/0"):
        (tmp_path / "fixtures" / "f" / name).mkdir(parents=True)
        (tmp_path / "fixtures" / "f" / name / "2").write_text(name)
    (tmp_path / "work").mkdir()
    made = restore.WorkTree(str(tmp_path / "work"), str(tmp_path / "fixtures"), None)
    made.reset("f", lambda: None)
    assert tree.digest(tree.listing(made.root)[0]) == made.digests()["f"]


def test_where_the_file_system_has_no_such_flag_it_is_asked_once(work, monkeypatch):
    asked = []
    monkeypatch.setattr(libc, "spread", lambda fd: bool(asked.append(fd)))
    monkeypatch.setattr(apart, "MANY", 1)
    for _ in range(2):
        work.fixture = None
        work.reset("wide", lambda: None)
        assert pristine(work)
    assert len(asked) == 1
    work._apart_helps = True


KILLED = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from agenttrace.sandbox.runner import libc, restore
libc.spread = lambda _: True
work, calls, dies_at = restore.WorkTree(*sys.argv[2:4], None), 0, int(sys.argv[4])

def counted(right):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return right(*arguments, **named)
    return call

for name in ("mkdir", "rename", "unlink", "rmdir", "symlink", "utime", "chmod"):
    setattr(os, name, counted(getattr(os, name)))
work.reset("wide", lambda: None)
print(calls)
"""


def test_a_reset_that_was_killed_anywhere_is_made_good_by_the_next_worker(work):
    def end(dies_at):
        argv = [
            sys.executable,
            "-c",
            KILLED,
            str(Path(__file__).parents[2]),
            work.root,
            work._fixtures_dir,
            str(dies_at),
        ]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    whole = end(0)
    count = int(whole.stdout)
    left = set()
    for dies_at in range(1, count, count // 12):
        assert end(dies_at).returncode == -signal.SIGKILL
        left.add(pristine(work))
        fresh = restore.WorkTree(work.root, work._fixtures_dir, None)
        fresh.reset("wide", lambda: None)
        assert pristine(fresh)
    assert False in left
    work.fixture = None
