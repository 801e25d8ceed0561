"""What a cassette promises: whole or absent, nothing rewritten, damage found and named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.serving.cassette import Cassette, CassetteLog, Exchange, cassette_path, request_digest
from agenttrace.serving.frames import Damage, Frame, compress, scan
from agenttrace.store.append import AppendOnly
from agenttrace.store.ids import IdIndex

ROOT = Path(__file__).resolve().parents[2]
SPEC = "5" * 64
FIXED = {"model": "m", "tools": [{"type": "function"}], "seed": 1}
SYSTEM = {"role": "system", "content": "be good"}


def turns(text, count=2):
    said = [SYSTEM, {"role": "user", "content": text}]
    made = []
    for number in range(count):
        made.append(Exchange(fixed=FIXED, messages=tuple(said), kind="reply", result={"content": f"{text} {number}"}))
        said = [*said, {"role": "assistant", "content": f"{text} {number}"}]
    return tuple(made)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.cassette.zst"


def recorded(*trace_ids):
    ids = IdIndex()
    for trace_id in trace_ids:
        ids.add(trace_id)
    return ids


def written(path, *texts):
    with CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded()) as log:
        for text in texts:
            log.append(f"id-{text}", turns(text))
    return path.read_bytes()


def frames(path):
    with path.open("rb") as file:
        return list(scan(file))


def test_turns_are_there_after_reopening_and_appending(path):
    written(path, "a", "b")
    with CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded("id-a", "id-b")) as log:
        log.append("id-c", turns("c"))
        assert log.torn_bytes == 0
    there = Cassette(path)
    assert there.trace_ids == ["id-a", "id-b", "id-c"]
    assert [there.turns(f"id-{text}") for text in "abc"] == [turns(text) for text in "abc"]
    assert there.run_spec_sha256 == SPEC
    assert not there.damage


def test_it_lies_beside_the_record_file():
    assert cassette_path(Path("x/demo.jsonl")) == Path("x/demo.cassette.zst")
    assert cassette_path(Path("x/demo.jsonl.zst")) == Path("x/demo.cassette.zst")  # compacted


def test_any_zstandard_tool_reads_it_as_json_lines(path):
    written(path, "a")
    with path.open("rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    lines = [msgspec.json.decode(line) for line in text.splitlines()]
    assert lines[0]["format"] == "agenttrace-cassette-1"
    assert lines[-1]["trace_id"] == "id-a"


def test_what_traces_share_stands_there_once(path):
    written(path, "a", "b", "c")
    assert sum(frame.data.count(b"be good") for frame in frames(path)) == 1
    assert sum(frame.data.count(b'"tools":[') for frame in frames(path)) == 1


def test_of_two_tapes_of_a_trace_the_last_counts(path):
    with CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded()) as log:
        log.append("id", turns("first"))
        log.append("id", turns("second"))
    assert Cassette(path).turns("id") == turns("second")


def test_facts_are_kept_and_not_written_twice(path):
    with CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded()) as log:
        log.note({"fixture": {"a": 1}})
    size = path.stat().st_size
    with CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded()) as log:
        log.note({"fixture": {"a": 1}})
    assert path.stat().st_size == size
    assert Cassette(path).facts == {"fixture": {"a": 1}}


def test_a_tail_torn_at_any_byte_is_cut_off_and_nothing_else(path):
    whole = written(path, "a")
    longer = written(path, "b")
    assert longer.startswith(whole)
    for size in range(len(whole) + 1, len(longer)):
        path.write_bytes(longer[:size])
        with CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded("id-a")) as log:
            assert log.torn_bytes == size - len(whole)
        assert path.read_bytes() == whole


def test_zeros_that_a_power_cut_left_are_cut_off(path):
    whole = written(path, "a")
    path.write_bytes(whole + bytes(4096))
    with CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded("id-a")):
        pass
    assert path.read_bytes() == whole


def test_a_torn_tail_that_holds_a_recorded_trace_is_refused_and_left_as_it_is(path):
    torn = written(path, "a", "b")[:-3]
    path.write_bytes(torn)
    with pytest.raises(DataError, match=r"lacks the replies of 1 recorded traces: "):
        CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded("id-a", "id-b"))
    assert path.read_bytes() == torn


@pytest.mark.slow
def test_every_flipped_byte_is_found_and_never_gives_other_replies(path):
    whole = written(path, "a", "b", "c")
    expected = {f"id-{text}": turns(text) for text in "abc"}
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            there = Cassette(path)
        except DataError:
            continue
        lost = 0
        for trace_id, right in expected.items():
            try:
                assert there.turns(trace_id) == right
            except DataError:
                lost += 1
        assert there.damage or lost, at
        assert path.read_bytes() != whole


def test_damage_between_traces_is_named_and_the_others_are_read(path):
    whole = written(path, "a", "b", "c")
    (second,) = [frame for frame in frames(path) if b'"trace_id":"id-b"' in frame.data]
    at = second.offset + second.size // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    there = Cassette(path)
    assert there.trace_ids == ["id-a", "id-c"]
    (damage,) = there.damage
    assert (damage.offset, damage.size) == (second.offset, second.size)
    with pytest.raises(DataError, match=f"no replies of trace id-b; bytes {second.offset} to .* are damaged"):
        there.turns("id-b")
    with pytest.raises(DataError, match="is damaged"):
        CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded())
    assert len(path.read_bytes()) == len(whole)


def test_a_value_changed_behind_a_right_checksum_is_found(path):
    written(path, "a")
    changed = [frame.data.replace(b"a 1", b"a 7") for frame in frames(path)]
    path.write_bytes(b"".join(compress(data) for data in changed))
    (damage,) = Cassette(path).damage
    assert "of trace id-a has been changed" in damage.reason


def test_a_request_put_together_from_other_values_is_found(path):
    written(path, "a")
    lines = [msgspec.json.decode(frame.data) for frame in frames(path)]
    lines[-1]["turns"][1]["messages"].pop()
    path.write_bytes(b"".join(compress(msgspec.json.encode(line)) for line in lines))
    with pytest.raises(DataError, match=r"request .* has been changed"):
        Cassette(path).turns("id-a")


@pytest.mark.parametrize("content", [b"{}\n", b"not a cassette", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfdxx"])
def test_other_files_are_no_cassettes(path, content):
    path.write_bytes(compress(content))
    with pytest.raises(DataError):
        CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded())
    path.write_bytes(content * 30)
    with pytest.raises(DataError):
        CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded())
    assert path.read_bytes() == content * 30


def test_a_frame_that_unpacks_to_too_much_is_damage(path, monkeypatch):
    monkeypatch.setattr("agenttrace.serving.frames.MAX_LINE_BYTES", 1 << 20)
    path.write_bytes(compress(bytes(5 << 20)))
    (found,) = frames(path)
    assert isinstance(found, Damage)
    assert "more than" in found.reason


def test_the_cassette_of_another_campaign_is_refused(path):
    before = written(path, "a")
    with pytest.raises(UsageError, match="belongs to another campaign"):
        CassetteLog(path, run_spec_sha256="6" * 64, recorded=recorded())
    assert path.read_bytes() == before


def test_a_cassette_that_is_gone_is_not_begun_anew_beside_records(path):
    with pytest.raises(DataError, match="lacks the replies of 2 recorded traces"):
        CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded("id-a", "id-b"))
    assert not path.exists()


def test_only_one_campaign_writes(path):
    with (
        CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded()),
        pytest.raises(UsageError, match="another campaign"),
    ):
        CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded())


def test_a_full_disk_leaves_the_file_as_it_was(path, monkeypatch):
    before = written(path, "a")
    with CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded()) as log:
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageError, match="No space left on device"):
            log.append("id-b", turns("b"))
    assert path.read_bytes() == before


WRITER = """
    import sys
    from pathlib import Path
    sys.path[:0] = [{root!r}, {tests!r}]
    from agenttrace.serving.cassette import CassetteLog
    from test_cassette import SPEC, recorded, turns
    with CassetteLog(Path({path!r}), run_spec_sha256=SPEC, recorded=recorded()) as log:
        for number in range({start}, 100_000):
            log.append(f"id-{{number}}", turns(str(number)))
            print(number, flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_any_time_loses_nothing_that_was_reported(path):
    start = 0
    for _ in range(6):
        code = textwrap.dedent(
            WRITER.format(root=str(ROOT), tests=str(Path(__file__).parent), path=str(path), start=start)
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
            writer.stdout.readline()
            time.sleep(0.05 + 0.013 * start % 0.05)
            writer.send_signal(signal.SIGKILL)
            reported = [int(line) for line in writer.stdout.read().split()]
        last = reported[-1] if reported else start
        there = Cassette(path)
        assert not there.damage
        numbers = [int(trace_id.removeprefix("id-")) for trace_id in there.trace_ids]
        assert numbers[: last + 1] == list(range(last + 1))
        assert len(numbers) <= last + 2
        assert there.turns(f"id-{last}") == turns(str(last))
        start = len(numbers)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "tool"]), "content": JSON})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.lists(MESSAGE, max_size=4), JSON), max_size=3), max_size=4))
def test_whatever_is_recorded_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "a.cassette.zst"
    made = {
        f"id-{index}": tuple(
            Exchange(fixed=FIXED, messages=tuple(said), kind="reply", result=result) for said, result in row
        )
        for index, row in enumerate(rows)
    }
    with CassetteLog(path, run_spec_sha256=SPEC, recorded=recorded()) as log:
        for trace_id, row in made.items():
            log.append(trace_id, row)
    there = Cassette(path)
    assert {trace_id: there.turns(trace_id) for trace_id in there.trace_ids} == made


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_damage_without_a_gap(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(data)
    at = 0
    for found in frames(path):
        assert found.offset == at
        assert isinstance(found, Frame | Damage)
        at += found.size
    assert at == len(data)


def test_a_request_digest_depends_on_every_part():
    base = request_digest(FIXED, [SYSTEM])
    assert request_digest(FIXED, [SYSTEM]) == base
    assert request_digest({**FIXED, "seed": 2}, [SYSTEM]) != base
    assert request_digest(FIXED, [SYSTEM, SYSTEM]) != base
    assert request_digest(FIXED, [{**SYSTEM, "content": "be goof"}]) != base


def test_an_append_only_file_cuts_nothing_that_is_not_asked_for(tmp_path):
    file = AppendOnly(tmp_path / "x")
    file.append(b"abc")
    assert file.cut(3) == 0
    assert file.cut(1) == 2
    assert file.read(10, 0) == b"a"
    file.close()


def test_appending_indexes_traces_without_making_objects_of_them_and_reading_still_finds_the_edit(path):
    written(path, "a")
    changed = [frame.data.replace(b"a 1", b"a 7") for frame in frames(path)]
    path.write_bytes(b"".join(compress(data) for data in changed))
    there = Cassette(path, verified=False)
    assert (there.trace_ids, there.damage) == (["id-a"], [])
    with pytest.raises(DataError, match="has been changed"):
        there.turns("id-a")


def test_what_traces_share_is_held_in_bounded_memory(path, monkeypatch):
    written(path, "a")
    monkeypatch.setattr("agenttrace.serving.cassette._MOST_SHARED_BYTES", 10)
    with pytest.raises(DataError, match="what all traces share"):
        Cassette(path)
