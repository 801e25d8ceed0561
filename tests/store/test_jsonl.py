"""What a record file promises: whole or absent, one writer, nothing rewritten."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.records import Record
from agenttrace.store.jsonl import RecordLog, known_ids, write_whole


class Row(Record, frozen=True, kw_only=True):
    trace_id: str
    text: str = ""


def test_records_are_there_after_reopening(tmp_path):
    path = tmp_path / "a.jsonl"
    with RecordLog(path) as log:
        log.append("1", Row(trace_id="1"))
        log.append("2", Row(trace_id="2", text="line\nbreak"))
    with RecordLog(path) as log:
        assert [len(log.ids), "1" in log.ids, "2" in log.ids] == [2, True, True]
        assert log.torn_bytes == 0
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("tail", [b'{"trace_id": "3', b"x" * 200_000, b"\x00"])
def test_a_torn_last_line_is_cut_off_and_counted(tmp_path, tail):
    path = tmp_path / "a.jsonl"
    with RecordLog(path) as log:
        log.append("1", Row(trace_id="1"))
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    with RecordLog(path) as log:
        assert log.torn_bytes == len(tail)
        assert [len(log.ids), "1" in log.ids] == [1, True]
    assert path.read_bytes() == whole


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"trace')
    with RecordLog(path) as log:
        assert not log.ids
    assert path.read_bytes() == b""


def test_a_whole_line_that_is_no_record_is_named_and_left_alone(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"trace_id": "1"}\nnonsense\n')
    with pytest.raises(DataError, match="line 2"):
        RecordLog(path)
    assert path.read_bytes() == b'{"trace_id": "1"}\nnonsense\n'
    path.write_bytes(b"")
    RecordLog(path).close()  # the lock was released


@pytest.mark.parametrize("line", [b'{"trace_id": "\xff"}', b'{"trace_id": "1"}'], ids=["not UTF-8", "twice"])
def test_a_line_that_cannot_be_is_named(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"trace_id": "1"}\n' + line + b"\n")
    with pytest.raises(DataError, match="line 2"):
        RecordLog(path)


def test_attempts_that_failed_may_have_the_same_id(tmp_path):
    with RecordLog(tmp_path / "f.jsonl", unique=False) as log:
        log.append("1", Row(trace_id="1"))
        log.append("1", Row(trace_id="1"))
    with RecordLog(tmp_path / "f.jsonl", unique=False) as log:
        assert [len(log.ids), "1" in log.ids] == [1, True]


def test_a_torn_last_line_does_not_count_as_done(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"trace_id": "1"}\n{"trace_id": "2"}')
    ids = known_ids(path)
    assert [len(ids), "1" in ids, "2" in ids] == [1, True, False]


def test_a_second_writer_is_refused_while_the_first_is_open(tmp_path):
    path = tmp_path / "a.jsonl"
    with RecordLog(path), pytest.raises(UsageError, match="another campaign"):
        RecordLog(path)
    RecordLog(path).close()


def test_a_full_disk_is_an_error_that_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    with RecordLog(path) as log:
        log.append("1", Row(trace_id="1"))
        before = path.read_bytes()
        real = os.write

        def write_a_little_then_fail(descriptor, data):
            if len(data) > 40:
                return real(descriptor, data[:40])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", write_a_little_then_fail)
        with pytest.raises(StorageError, match="No space left on device; all 1 earlier records are kept"):
            log.append("2", Row(trace_id="2", text="x" * 60))
        monkeypatch.undo()
        assert path.read_bytes() == before
        log.append("2", Row(trace_id="2"))
    with RecordLog(path) as log:
        assert [len(log.ids), "1" in log.ids, "2" in log.ids] == [2, True, True]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a file system needs Linux and root")
def test_a_really_full_file_system_loses_nothing(tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from agenttrace.errors import StorageError
        from agenttrace.records import Record
        from agenttrace.store.jsonl import RecordLog
        class Row(Record, frozen=True, kw_only=True):
            trace_id: str
            text: str
        path = Path(sys.argv[1]) / "a.jsonl"
        with RecordLog(path) as log:
            try:
                for number in range(10_000):
                    log.append(str(number), Row(trace_id=str(number), text="x" * 5000))
            except StorageError as error:
                print(error)
        with RecordLog(path) as log:
            print(log.torn_bytes, len(log.ids) == number, path.read_bytes().endswith(b"\\n"))
        """
    )
    folder, python = shlex.quote(str(tmp_path)), shlex.quote(sys.executable)
    command = f"mount -t tmpfs -o size=256k tmpfs {folder} && exec {python} -c '{script}' {folder}"
    ended = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, cwd=Path.cwd())
    if "mount" in ended.stderr or "unshare" in ended.stderr:
        pytest.skip(f"cannot mount here: {ended.stderr.strip()}")
    assert "No space left on device" in ended.stdout, ended.stderr
    assert ended.stdout.splitlines()[-1] == "0 True True"


def test_kill_at_any_instant_leaves_every_acknowledged_record_and_no_torn_one(tmp_path):
    path = tmp_path / "a.jsonl"
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from agenttrace.records import Record
        from agenttrace.store.jsonl import RecordLog
        class Row(Record, frozen=True, kw_only=True):
            trace_id: str
            text: str
        with RecordLog(Path(sys.argv[1])) as log:
            number = len(log.ids)
            while True:
                log.append(str(number), Row(trace_id=str(number), text="x" * 20_000))
                print(number, flush=True)
                number += 1
        """
    )
    acknowledged = -1
    for round_ in range(5):
        child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        time.sleep(0.01 * round_)
        child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        acknowledged = max([acknowledged, *map(int, lines)])
        with RecordLog(path) as log:
            assert all(str(number) in log.ids for number in range(len(log.ids)))
            assert len(log.ids) > acknowledged


def test_write_whole_replaces_or_leaves(tmp_path, monkeypatch):
    path = tmp_path / "spec.json"
    write_whole(path, b"one")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StorageError, match="No space left"):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
    assert [item.name for item in tmp_path.iterdir()] == ["spec.json"]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        RecordLog(tmp_path / "missing" / "a.jsonl")
