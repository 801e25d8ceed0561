"""The compacted form: the same records, small, any of them without the others."""

from __future__ import annotations

import codecs
import struct
import uuid
from pathlib import Path

import pytest
import zstandard

from agenttrace.errors import DataError, UsageError
from agenttrace.store.compact import Compacted, compact, is_compacted, join, unpack
from agenttrace.store.read import decode, lines, read_traces

RECORDS = Path(__file__).parents[1] / "data" / "records"
TRACES, ROLLOUTS = RECORDS / "demo.jsonl", RECORDS / "1.0.0" / "every-stop.jsonl"


@pytest.fixture(params=[TRACES, ROLLOUTS], ids=["traces", "rollouts"])
def records(request, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(request.param.read_bytes())
    return path


def place(trace):
    return trace.metadata["task_id"], trace.metadata["rollout_index"]


def test_every_record_comes_back_by_id_and_in_order(records):
    target = records.with_name("run.jsonl.zst")
    before = list(read_traces(records))
    done = compact(records, target)
    assert (done.records, done.frames) == (len(before), len({place(trace)[0] for trace in before}))
    assert done.bytes_after == target.stat().st_size < done.bytes_before == records.stat().st_size
    by_id = {trace.trace_id: trace for trace in before}
    assert {trace.trace_id: trace for trace in read_traces(target)} == by_id
    order = [place(trace) for trace in read_traces(target)]
    first_seen = list(dict.fromkeys(place(trace)[0] for trace in before))
    assert order == sorted(order, key=lambda one: (first_seen.index(one[0]), one[1]))
    with Compacted(target) as opened:
        assert opened.records == len(before)
        opened.check()
        for name, trace in by_id.items():
            assert opened.get(name) == trace
        for name, message in ((str(uuid.UUID(int=7)), "has no trace"), ("x", "is no trace id")):
            with pytest.raises(UsageError, match=message):
                opened.get(name)


def test_rollouts_that_stand_in_any_order_are_put_in_theirs(tmp_path):
    made = ROLLOUTS.read_bytes().splitlines(keepends=True)[:3]
    records, target = tmp_path / "run.jsonl", tmp_path / "run.jsonl.zst"
    records.write_bytes(made[1] + made[2] + made[0])
    compact(records, target)
    assert [trace.metadata["rollout_index"] for trace in read_traces(target)] == [0, 1, 2]


def test_a_file_with_a_byte_order_mark_and_blanks_of_another_system_is_compacted(records):
    target = records.with_name("run.jsonl.zst")
    before = list(read_traces(records))
    records.write_bytes(codecs.BOM_UTF8 + records.read_bytes().replace(b',"', b',\r"').replace(b"\n", b"\r\n"))
    compact(records, target)
    with Compacted(target) as opened:
        assert [opened.get(trace.trace_id) for trace in before] == before


def test_a_compacted_or_compressed_file_can_be_compacted_again(records):
    target, again = records.with_name("run.jsonl.zst"), records.with_name("again.jsonl.zst")
    compact(records, target)
    compact(target, again)
    assert again.read_bytes() == target.read_bytes()


def test_the_lines_can_be_had_back(records):
    target, back = records.with_name("run.jsonl.zst"), records.with_name("back.jsonl")
    compact(records, target)
    unpack(target, back)
    assert sorted(back.read_bytes().splitlines()) == sorted(records.read_bytes().splitlines())
    assert [line for _, line in lines(target)] == back.read_bytes().splitlines(keepends=True)
    with pytest.raises(UsageError, match=r"back\.jsonl is there already"):
        unpack(target, back)


def test_a_last_line_without_its_end_does_not_run_into_the_next_record(tmp_path):
    made = ROLLOUTS.read_bytes().splitlines(keepends=True)[:3]
    records, target = tmp_path / "run.jsonl", tmp_path / "run.jsonl.zst"
    records.write_bytes((made[1] + made[2] + made[0]).removesuffix(b"\n"))
    compact(records, target)
    assert [line for _, line in lines(target)] == made


def test_a_compacted_file_is_told_from_another_compressed_one(records):
    target = records.with_name("run.jsonl.zst")
    compact(records, target)
    assert is_compacted(target)
    assert not is_compacted(records)
    target.write_bytes(zstandard.compress(records.read_bytes()))
    assert not is_compacted(target)
    target.write_bytes(b"")
    assert not is_compacted(target)


def test_a_damaged_file_is_named_and_never_half_read(records):
    target = records.with_name("run.jsonl.zst")
    compact(records, target)
    whole = target.read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        target.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"run\.jsonl\.zst: not a whole compacted file"):
            Compacted(target)
    target.write_bytes(whole[:100] + bytes([whole[100] ^ 0xFF]) + whole[101:])
    with Compacted(target) as opened, pytest.raises(DataError, match="frame 0"):
        opened.check()
    with pytest.raises(DataError, match="Zstandard stream is corrupt"):
        list(read_traces(target))


def test_a_frame_that_says_it_is_huge_is_damaged_and_not_unpacked(tmp_path):
    records, target = tmp_path / "run.jsonl", tmp_path / "run.jsonl.zst"
    records.write_bytes(ROLLOUTS.read_bytes().splitlines(keepends=True)[0])
    compact(records, target)
    whole = target.read_bytes()
    with Compacted(target) as opened:
        frame = opened._starts[1]
    bomb = bytes.fromhex("28b52ffde0") + (2**40).to_bytes(8, "little")
    target.write_bytes(bomb + whole[len(bomb) :])
    assert len(bomb) < frame
    with Compacted(target) as opened, pytest.raises(DataError, match="frame 0 has 1099511627776 bytes instead of"):
        opened.frame(0)


def test_what_is_no_record_or_there_twice_is_refused(records):
    line = records.read_bytes().splitlines(keepends=True)[0]
    target = records.with_name("x.jsonl.zst")
    records.write_bytes(line + line)
    with pytest.raises(DataError, match=f"line 2: trace {decode(line).trace_id} is there twice"):
        compact(records, target)
    records.write_bytes(line + b'{"trace_id": "1"}\n')
    with pytest.raises(DataError, match="line 2: not a record of the kit"):
        compact(records, target)
    records.write_bytes(b"")
    with pytest.raises(UsageError, match="no record in it"):
        compact(records, target)
    with pytest.raises(UsageError, match=r"ends in \.jsonl\.zst"):
        compact(records, records.with_name("x.zst"))
    assert not target.exists()


def test_compacted_files_are_joined_as_they_are(records, tmp_path):
    lines_, parts = records.read_bytes().splitlines(keepends=True), []
    for number, some in enumerate((lines_[:1], lines_[1:2], lines_[2:])):
        plain = tmp_path / f"{number}.jsonl"
        plain.write_bytes(b"".join(some))
        parts.append(plain.with_name(f"{number}.jsonl.zst"))
        compact(plain, parts[-1])
    target = tmp_path / "all.jsonl.zst"
    join(iter(parts), target)
    assert list(read_traces(target)) == [trace for part in parts for trace in read_traces(part)]
    with Compacted(target) as opened:
        opened.check()
        assert opened.records == len(lines_)
        for trace in read_traces(records):
            assert opened.get(trace.trace_id) == trace
    join([parts[1]], tmp_path / "one.jsonl.zst")
    assert (tmp_path / "one.jsonl.zst").read_bytes() == parts[1].read_bytes()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda entries: [(id_, 2**32 - 1, place) for id_, _, place in entries], "the index names frame 4294967295 of"),
        (lambda entries: [(id_, len(entries), place) for id_, _, place in entries], "the index names frame"),
        (lambda entries: entries[::-1], "the index is not sorted"),
    ],
)
def test_files_whose_index_is_not_that_of_their_frames_are_not_joined(records, change, what):
    part, target = records.with_name("part.jsonl.zst"), records.with_name("all.jsonl.zst")
    compact(records, part)
    form = struct.Struct("<16sII")
    with Compacted(part) as opened:
        index = opened.parts()[1]
        assert opened.records >= max(2, opened.frames)
    changed = b"".join(form.pack(*entry) for entry in change([*form.iter_unpack(index)]))
    other = records.with_name("other.jsonl.zst")
    other.write_bytes(part.read_bytes().replace(index, changed))
    with pytest.raises(DataError, match=rf"other\.jsonl\.zst: not a whole compacted file: {what}"):
        join([other], target)
    assert not target.exists()


def test_more_records_than_sizes_have_bits_for_are_not_joined(records, monkeypatch):
    part, target = records.with_name("part.jsonl.zst"), records.with_name("all.jsonl.zst")
    compact(records, part)
    monkeypatch.setattr("agenttrace.store.compact._MOST_RECORDS", 1)
    with pytest.raises(DataError, match=r"all\.jsonl\.zst: \d+ records; a compacted file has 1 at most"):
        join([part], target)
    assert not target.exists()


def test_files_with_a_record_twice_or_damaged_are_not_joined(records):
    part, target = records.with_name("part.jsonl.zst"), records.with_name("all.jsonl.zst")
    compact(records, part)
    with pytest.raises(DataError, match=r"all\.jsonl\.zst: trace .* is there twice"):
        join([part, part], target)
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"part\.jsonl\.zst: not a whole compacted file"):
        join([part], target)
    assert not target.exists()
