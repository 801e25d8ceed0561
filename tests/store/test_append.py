"""A file that another program changes while it is appended to: nothing goes where nobody finds it."""

from __future__ import annotations

import errno
import os
import re

import msgspec
import pytest

from agenttrace.errors import AgentTraceError, StorageError
from agenttrace.records import Record
from agenttrace.store import append
from agenttrace.store.append import ChangedFileError, rescued_path
from agenttrace.store.jsonl import RecordLog


class Row(Record, frozen=True, kw_only=True):
    trace_id: str
    text: str = ""


def replace(path):
    """Do what `sed -i`, most editors, rsync and cloud folders do."""
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def replace_late(path):
    """Put a copy in the place that lacks the last record."""
    copy = path.with_name("copy")
    copy.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    copy.replace(path)


def cut(path):
    path.write_bytes(b"")


def save_over(path):
    """Do what an editor does that keeps the file and writes what it had read earlier."""
    first = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(first + b"a line of somebody\n")


def write_to(path):
    with path.open("ab") as file:
        file.write(b"text without an end")


CHANGES = {
    replace: "was replaced by another file",
    replace_late: "was replaced by another file",
    os.unlink: "was removed",
    cut: "was cut to 0 of ",
    save_over: "was cut to ",
    write_to: r"got 19 bytes of another program \(`truncate -s \d+` takes them off again\)",
}


def ids(*paths):
    """Return the ids that a reader finds, one by one."""
    found = []
    for path in paths:
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                found.append(msgspec.json.decode(line, type=Row).trace_id)
            except msgspec.MsgspecError:
                continue
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.jsonl"


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_never_written_again_and_no_record_is_lost_or_doubled(path, change):
    with RecordLog(path) as log:
        log.append("0", Row(trace_id="0"))
    log = RecordLog(path)  # a later session: some records are not of its own
    for number in "123":
        log.append(number, Row(trace_id=number))
    change(path)
    there = path.read_bytes() if path.exists() else None
    with pytest.raises(ChangedFileError, match=f"a.jsonl {CHANGES[change]}.*a.rescued.jsonl") as told:
        log.append("4", Row(trace_id="4"))
    with pytest.raises(ChangedFileError):  # another worker's, that was running still
        log.append("5", Row(trace_id="5"))
    log.close()
    assert (path.read_bytes() if path.exists() else None) == there
    kept = ids(path, rescued_path(path))
    gone = change is cut  # of an earlier session, and on no disk any more
    assert sorted(kept) == list("12345" if gone else "012345")
    assert ("1 earlier records are on no disk any more" in str(told.value)) is gone
    assert told.value.exit_code == 5


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_the_last_record_is_seen_at_the_end(path, change):
    def session():
        with RecordLog(path) as log:
            for number in "012":
                log.append(number, Row(trace_id=number))
            change(path)

    with pytest.raises(ChangedFileError, match=CHANGES[change]):
        session()
    assert sorted(ids(path, rescued_path(path))) == list("012")


def test_an_error_that_ends_the_session_is_told_beside_the_change(path):
    def session(error):
        with RecordLog(path) as log:
            log.append("0", Row(trace_id="0"))
            path.unlink()
            raise error

    with pytest.raises(ChangedFileError, match=r"(?s)the server is gone\n.*was removed"):
        session(AgentTraceError("the server is gone"))
    rescued_path(path).unlink()
    with pytest.raises(ChangedFileError, match=r"^[^\n]*was removed"):
        session(KeyboardInterrupt())


def session(path, *changes):
    """Append two records, with these changes before the second."""
    with RecordLog(path) as log:
        log.append("a", Row(trace_id="a"))
        for change in changes:
            change(path)
        log.append("b", Row(trace_id="b"))


@pytest.fixture
def once(monkeypatch):
    """Return a function that makes the next piece that is made durable raise an error."""

    def prepare(error):
        def raising(_):
            monkeypatch.undo()
            raise error

        def change(_):
            monkeypatch.setattr(append, "sync_folder", lambda _: None)
            monkeypatch.setattr(os, "fsync", raising)

        return change

    return prepare


def test_an_interrupt_while_a_piece_is_made_durable_is_no_change_of_the_file(path, once):
    with pytest.raises(KeyboardInterrupt):
        session(path, once(KeyboardInterrupt()))
    assert ids(path) == ["a"]
    assert not rescued_path(path).exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "no room")], ids=["interrupt", "no room"])
def test_a_rescue_that_did_not_get_to_its_end_is_made_anew(path, once, error):
    with pytest.raises(ChangedFileError, match="was removed"):
        session(path, os.unlink, once(error))
    assert ids(rescued_path(path)) == ["a"]


def test_who_appends_nothing_may_have_the_file_replaced(path):
    with RecordLog(path) as log:
        log.append("0", Row(trace_id="0"))
    with RecordLog(path):
        replace(path)
    assert not rescued_path(path).exists()


def test_a_folder_that_is_gone_is_told_as_what_it_is(tmp_path):
    path = tmp_path / "folder" / "a.jsonl"
    path.parent.mkdir()
    log = RecordLog(path)
    log.append("0", Row(trace_id="0"))
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(StorageError, match=r"was removed .*cannot be kept in .*a\.rescued\.jsonl: cannot open"):
        log.append("1", Row(trace_id="1"))
    log.close()


def test_only_so_much_is_held_in_memory(path, monkeypatch):
    monkeypatch.setattr(append, "KEPT_BYTES", 200)
    monkeypatch.setattr(append, "BLOCK_BYTES", 300)
    log = RecordLog(path)
    for number in range(50):
        log.append(str(number), Row(trace_id=str(number), text="x" * 20))
    cut(path)
    with pytest.raises(ChangedFileError, match=r"(\d+) earlier records") as told:
        log.append("new", Row(trace_id="new"))
    log.close()
    left = ids(rescued_path(path))
    assert 1 < len(left) < 50
    assert left == [str(number) for number in range(50 - len(left) + 1, 50)] + ["new"]
    assert int(re.search(r"(\d+) earlier", str(told.value))[1]) == 51 - len(left)


def test_what_an_editor_saves_over_comes_back_as_it_was_after_it_was_compressed(path):
    lines = [b'{"trace_id":"%d", "text":"%b"}\r' % (number, b"words " * (number % 300)) for number in range(400)]
    log = RecordLog(path)
    for number, line in enumerate(lines):
        log.append(str(number), msgspec.Raw(line))
    cut(path)
    with pytest.raises(ChangedFileError):
        log.check()
    log.close()
    assert sum(map(len, lines)) > append.BLOCK_BYTES
    assert rescued_path(path).read_bytes() == b"".join(line + b"\n" for line in lines)


def test_the_second_attempt_at_a_trace_is_another_line(path):
    log = RecordLog(path, unique=False)
    log.append("0", Row(trace_id="0", text="first"))
    log.append("0", Row(trace_id="0", text="second"))
    path.unlink()
    with pytest.raises(ChangedFileError):
        log.check()
    log.close()
    assert rescued_path(path).read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("name", "rescue"),
    [
        ("a.jsonl", "a.rescued.jsonl"),
        ("a.b.failures.jsonl", "a.b.rescued.failures.jsonl"),
        ("a.cassette.zst", "a.rescued.cassette.zst"),
    ],
)
def test_a_rescue_has_a_name_of_its_own_and_the_ending_of_its_file(tmp_path, name, rescue):
    assert rescued_path(tmp_path / name) == tmp_path / rescue
