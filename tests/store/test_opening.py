"""What is no regular file is refused by whoever opens records, run specs or cassettes, at once and by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from agenttrace.errors import DataError, UsageError
from agenttrace.formats.convert import read
from agenttrace.serving.cassette import Cassette
from agenttrace.store import opening
from agenttrace.store.append import AppendOnly
from agenttrace.store.compact import Compacted, compact
from agenttrace.store.jsonl import known_ids
from agenttrace.store.read import RecordIndex, lines, read_run_spec, read_traces
from agenttrace.validate import Validation

COLLECTED = Path(__file__).parents[1] / "data" / "records" / "demo.jsonl"
READERS = {
    "read_traces": lambda path: list(read_traces(path)),
    "index": RecordIndex,
    "known_ids": known_ids,
    "run spec": read_run_spec,
    "compacted": Compacted,
    "compact": lambda path: compact(path, path.with_name("b.jsonl.zst")),
    "cassette": Cassette,
    "convert": lambda path: list(read(path)),
    "analysis": lambda path: list(lines(path)),
    "append": AppendOnly,
}


def test_a_small_file_takes_no_memory_for_a_large_one(tmp_path):
    (tmp_path / "a").write_bytes(b"a" * 3_000_000)
    tracemalloc.start()
    assert len(opening.content(tmp_path / "a", most=2**40)) == 3_000_000
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    with pytest.raises(DataError, match="has more than 2999999 bytes"):
        opening.content(tmp_path / "a", most=2_999_999)


@pytest.fixture(params=["pipe", "device"])
def odd(request, tmp_path):
    path = tmp_path / "odd.jsonl"
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_pipe_or_a_device_is_refused_at_once(odd, reader):
    with pytest.raises(UsageError, match=r"odd\.jsonl: it is a pipe or a device"):
        reader(odd)


@pytest.mark.timeout(20)
def test_validation_tells_of_it_and_ends(odd):
    (found,) = Validation(odd)
    assert "it is a pipe or a device" in found.message


def test_validation_of_a_pipe_by_the_name_of_a_compacted_file_ends(tmp_path):
    os.mkfifo(tmp_path / "a.jsonl.zst")
    (found,) = Validation(tmp_path / "a.jsonl.zst")
    assert "it is a pipe or a device" in found.message


def test_a_link_is_followed_to_the_file_that_its_run_spec_lies_beside(tmp_path):
    (tmp_path / "there").mkdir()
    real = shutil.copy(COLLECTED, tmp_path / "there/a.jsonl")
    (tmp_path / "b.jsonl").symlink_to("there/a.jsonl")
    assert opening.the_file(tmp_path / "b.jsonl") == real.resolve()
    assert opening.the_file(real) is real
    with pytest.raises(UsageError, match="No such file"):
        opening.the_file(tmp_path / "c.jsonl")


def test_a_folder_is_called_so(tmp_path):
    with pytest.raises(UsageError, match="it is a folder, and a file is read here"):
        list(read_traces(tmp_path))


@pytest.mark.parametrize("reader", [RecordIndex, known_ids])
def test_a_line_without_an_end_is_not_held_whole(tmp_path, monkeypatch, reader):
    monkeypatch.setattr(opening, "LONGEST_LINE", 1 << 16)
    path = tmp_path / "a.jsonl"
    path.write_bytes(COLLECTED.read_bytes().splitlines(keepends=True)[0] + b" " * (1 << 17))
    with pytest.raises(DataError, match="line 2: has more than 65536 bytes"):
        reader(path)


def test_a_run_spec_beyond_measure_is_not_read(tmp_path):
    path = tmp_path / "a.run.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: no disk is used
    with pytest.raises(DataError, match="has more than 67108864 bytes; not read"):
        read_run_spec(path)


def test_a_file_removed_between_opening_and_locking_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    really = os.fstat

    def late(descriptor):
        path.unlink(missing_ok=True)
        return really(descriptor)

    monkeypatch.setattr("agenttrace.store.append.os.fstat", late)
    with pytest.raises(UsageError, match="was removed or replaced while it was opened"):
        AppendOnly(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("verb", ["show", "validate"])
def test_the_command_line_says_so(tmp_path, verb):
    os.mkfifo(tmp_path / "f.jsonl")
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "agenttrace", verb, "f.jsonl"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode in {1, 2}
    assert "it is a pipe or a device" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
