"""The compacted form: the same records, small, any of them without the others."""

import shutil
import uuid
from pathlib import Path

import pytest
import zstandard

from agenttrace.errors import DataError, UsageError
from agenttrace.store.compact import Compacted, compact
from agenttrace.store.read import decode, read_traces

FOLDER = Path(__file__).parents[1] / "data" / "records"
FILES = {"tool calls": "demo.jsonl", "rollouts of schema 1.0.0": "1.0.0/rollouts.jsonl"}


@pytest.fixture(params=FILES.values(), ids=FILES)
def records(request, tmp_path):
    """Records out of order."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(reversed((FOLDER / request.param).read_bytes().splitlines(keepends=True))))
    return path


@pytest.fixture
def one(tmp_path):
    return Path(shutil.copy(FOLDER / "1.0.0/rollouts.jsonl", tmp_path / "run.jsonl"))


def order(trace):
    return trace.metadata["task_id"], trace.metadata["rollout_index"]


def test_every_record_comes_back_by_id_and_in_order(records):
    target = records.with_name("run.jsonl.zst")
    by_id = {trace.trace_id: trace for trace in read_traces(records)}
    tasks = list(dict.fromkeys(trace.metadata["task_id"] for trace in by_id.values()))
    done = compact(records, target)
    assert (done.records, done.frames) == (len(by_id), len(tasks))
    assert done.bytes_after == target.stat().st_size < done.bytes_before
    assert {trace.trace_id: trace for trace in read_traces(target)} == by_id
    assert [order(trace) for trace in read_traces(target)] == sorted(
        map(order, by_id.values()), key=lambda one: (tasks.index(one[0]), one[1])
    )
    with Compacted(target) as opened:
        assert opened.records == len(by_id)
        for name, trace in by_id.items():
            assert opened.get(name) == trace
        with pytest.raises(UsageError, match="has no trace"):
            opened.get(str(uuid.UUID(int=7)))


def test_any_decompressor_gives_the_json_lines_back(records):
    target = records.with_name("run.jsonl.zst")
    compact(records, target)
    with target.open("rb") as packed:
        plain = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()
    assert sorted(plain.splitlines()) == sorted(records.read_bytes().splitlines())


def test_a_last_line_without_its_end_does_not_run_into_the_next_record(one):
    target = one.with_name("run.jsonl.zst")
    lines = one.read_bytes().splitlines(keepends=True)
    made = sorted(map(decode, lines), key=order)
    task = [trace for trace in made if trace.metadata["task_id"] == made[0].metadata["task_id"]]
    assert len(task) > 1
    mixed = [line for line in lines if decode(line) in task]
    one.write_bytes(b"".join([*mixed[1:], mixed[0]]).removesuffix(b"\n"))
    compact(one, target)
    assert list(read_traces(target)) == task


def test_a_damaged_file_is_named_and_never_half_read(records):
    target = records.with_name("run.jsonl.zst")
    compact(records, target)
    whole = target.read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        target.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"run\.jsonl\.zst: "):
            list(read_traces(target))
        with pytest.raises(DataError, match=r"run\.jsonl\.zst: not a whole compacted file"):
            Compacted(target)
    target.write_bytes(whole[:100] + bytes([whole[100] ^ 0xFF]) + whole[101:])
    with pytest.raises(DataError, match=r"run\.jsonl\.zst: the Zstandard stream is corrupt"):
        list(read_traces(target))
    with Compacted(target) as opened, pytest.raises(DataError, match="frame 0"):
        opened.check()


def test_a_frame_that_says_it_is_huge_is_damaged_and_not_unpacked(one):
    target = one.with_name("run.jsonl.zst")
    compact(one, target)
    whole = target.read_bytes()
    with Compacted(target) as opened:
        frame = opened._starts[1]
    bomb = bytes.fromhex("28b52ffde0") + (2**40).to_bytes(8, "little")
    target.write_bytes(bomb + whole[len(bomb) :])
    assert len(bomb) < frame
    with pytest.raises(DataError, match="the Zstandard stream is corrupt"):
        list(read_traces(target))
    with Compacted(target) as opened, pytest.raises(DataError, match="frame 0 has 1099511627776 bytes instead of"):
        opened.check()


def test_what_is_no_record_or_there_twice_is_refused(records):
    line = records.read_bytes().splitlines(keepends=True)[0]
    target = records.with_name("x.jsonl.zst")
    records.write_bytes(line + line)
    with pytest.raises(DataError, match=r"line 2: trace .* is there twice"):
        compact(records, target)
    records.write_bytes(line + b'{"trace_id": "1"}\n')
    with pytest.raises(DataError, match="line 2: not a record"):
        compact(records, target)
    records.write_bytes(b"")
    with pytest.raises(UsageError, match="no record in it"):
        compact(records, target)
    assert not target.exists()
