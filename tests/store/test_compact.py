"""The compacted form: the same records, small, any of them without the others."""

import uuid

import pytest
import zstandard
from agenttrace.rollouts.compact import compact
from agenttrace.rollouts.files import Compacted, read

from agenttrace.errors import DataError, UsageError
from bench.synthetic import rollouts as synthetic


@pytest.fixture
def records(source, runners, server, sit):
    source.prepare(rollouts=3)
    runners.start(source.trees)
    assert sit(server.base_url, rollouts=3).returncode == 0
    return source.data / "run.jsonl"


def test_every_record_comes_back_by_id_and_in_order(records):
    target = records.with_name("run.jsonl.zst")
    done = compact(records, target)
    assert (done.rollouts, done.frames) == (6, 2)
    assert done.bytes_after == target.stat().st_size < done.bytes_before
    by_id = {rollout.rollout_id: rollout for rollout in read(records)}
    assert {rollout.rollout_id: rollout for rollout in read(target)} == by_id
    order = [(rollout.instance_id, rollout.rollout_index) for rollout in read(target)]
    assert order == sorted(order)
    with Compacted(target) as opened:
        assert opened.rollouts == 6
        for name, rollout in by_id.items():
            assert opened.get(name) == rollout
        with pytest.raises(UsageError, match="has no rollout"):
            opened.get(str(uuid.UUID(int=7)))


def test_any_decompressor_gives_the_json_lines_back(records):
    target = records.with_name("run.jsonl.zst")
    compact(records, target)
    with target.open("rb") as packed:
        plain = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()
    assert sorted(plain.splitlines()) == sorted(records.read_bytes().splitlines())


def test_a_last_line_without_its_end_does_not_run_into_the_next_record(tmp_path):
    corpus = synthetic.Corpus(tasks=1, rollouts=3)
    records, target = tmp_path / "run.jsonl", tmp_path / "run.jsonl.zst"
    made = list(synthetic.rollouts(corpus))
    synthetic.write(records, synthetic.spec(corpus), [made[1], made[2], made[0]])
    records.write_bytes(records.read_bytes().removesuffix(b"\n"))
    compact(records, target)
    assert list(read(target)) == made


def test_a_damaged_file_is_named_and_never_half_read(records):
    target = records.with_name("run.jsonl.zst")
    compact(records, target)
    whole = target.read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        target.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"run\.jsonl\.zst: not a whole file"):
            list(read(target))
    target.write_bytes(whole[:100] + bytes([whole[100] ^ 0xFF]) + whole[101:])
    with pytest.raises(DataError, match="frame 0"):
        list(read(target))


def test_a_frame_that_says_it_is_huge_is_damaged_and_not_unpacked(tmp_path):
    corpus = synthetic.Corpus(tasks=1, rollouts=1)
    records, target = tmp_path / "run.jsonl", tmp_path / "run.jsonl.zst"
    synthetic.write(records, synthetic.spec(corpus), synthetic.rollouts(corpus))
    compact(records, target)
    whole = target.read_bytes()
    with Compacted(target) as opened:
        frame = opened._starts[1]
    bomb = bytes.fromhex("28b52ffde0") + (2**40).to_bytes(8, "little")
    target.write_bytes(bomb + whole[len(bomb) :])
    assert len(bomb) < frame
    with pytest.raises(DataError, match="frame 0 has 1099511627776 bytes instead of"):
        list(read(target))


def test_what_is_no_rollout_or_there_twice_is_refused(records):
    line = records.read_bytes().splitlines(keepends=True)[0]
    target = records.with_name("x.jsonl.zst")
    records.write_bytes(line + line)
    with pytest.raises(DataError, match=r"line 2: rollout .* is there twice"):
        compact(records, target)
    records.write_bytes(line + b'{"trace_id": "1"}\n')
    with pytest.raises(DataError, match="line 2: not a rollout"):
        compact(records, target)
    records.write_bytes(b"")
    with pytest.raises(UsageError, match="no rollout in it"):
        compact(records, target)
    assert not target.exists()
