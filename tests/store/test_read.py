"""The reader: every form and schema of a record file, strict or tolerant."""

from __future__ import annotations

import codecs
import gzip
import json
import time
from pathlib import Path

import pytest
import zstandard

from agenttrace.errors import DataError, UsageError
from agenttrace.store import opening
from agenttrace.store.compact import compact
from agenttrace.store.read import (
    DamagedFileError,
    RecordIndex,
    decode,
    read_run_spec,
    read_traces,
    run_spec_path,
    whole_lines,
)
from agenttrace.validate import Validation

RECORDS = Path(__file__).parents[1] / "data" / "records"
TRACES = RECORDS / "demo.jsonl"
ROLLOUTS = RECORDS / "1.0.0" / "rollouts.jsonl"


@pytest.fixture(params=[TRACES, ROLLOUTS], ids=["traces", "rollouts"])
def source(request):
    return request.param


def _sorted(line):
    return json.dumps(json.loads(line), sort_keys=True).encode() + b"\n"


def written(form, source, folder):
    """Return a file in one of the forms that are read."""
    data = source.read_bytes()
    if form == "compacted":
        target = folder / "a.jsonl.zst"
        compact(source, target)
        return target
    path = folder / f"a.jsonl{ {'gzip': '.gz', 'zstd': '.zst'}.get(form, '') }"
    path.write_bytes(
        {
            "plain": lambda: data,
            "gzip": lambda: gzip.compress(data),
            "two gzip members": lambda: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
            "zstd": lambda: zstandard.compress(data),
            "zstd by another name": lambda: zstandard.compress(data),
            "byte order mark": lambda: b"\xef\xbb\xbf" + data,
            "blank lines": lambda: b"\n \r\n" + data.replace(b"\n", b"\n\n"),
            "no last line end": lambda: data.removesuffix(b"\n"),
            "keys in another order": lambda: b"".join(map(_sorted, data.splitlines())),
        }[form]()
    )
    return path


FORMS = ("plain", "gzip", "two gzip members", "zstd", "zstd by another name", "compacted", "byte order mark",
         "blank lines", "no last line end", "keys in another order")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_records(form, source, tmp_path):
    expected = sorted((decode(line) for line in source.read_bytes().splitlines()), key=lambda trace: trace.trace_id)
    path = written(form, source, tmp_path)
    found = sorted(read_traces(path), key=lambda trace: trace.trace_id)
    assert found == expected != []
    problems = []
    assert len(list(read_traces(path, problems.append))) == len(expected)
    assert problems == []


@pytest.mark.parametrize("form", ["gzip", "zstd", "compacted"])
def test_of_a_compressed_file_that_is_cut_off_what_was_whole_is_read(form, source, tmp_path):
    path = written(form, source, tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match="stream is cut off"):
        list(read_traces(path))
    problems = []
    found = list(read_traces(path, problems.append))
    assert form != "gzip" or found
    assert [(one.line, one.file) for one in problems] == [(None, str(path))]
    assert "cut off" in str(problems[0])


def test_a_corrupt_stream_ends_the_file(tmp_path, source):
    path = written("zstd", source, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:50] + bytes([whole[50] ^ 0xFF]) + whole[51:])
    with pytest.raises(DataError):
        list(read_traces(path))
    problems = []
    list(read_traces(path, problems.append))
    assert problems[-1].line is None or "not a trace record" in problems[-1].message


def test_what_is_no_record_is_named_or_left_out(tmp_path, source):
    good = source.read_bytes().splitlines(keepends=True)
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b"".join([good[0], b"nonsense\n", b'{"trace_id": 1}\n', b"[" * 9999 + b"\n", good[1], good[2][:99]])
    )
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: not a trace record"):
        list(read_traces(path))
    problems = []
    assert len(list(read_traces(path, problems.append))) == 2
    assert [one.line for one in problems] == [2, 3, 4, 6]
    assert "the line is cut off, collecting again repairs the file" in problems[-1].message


def test_a_line_longer_than_any_record_is_passed_over_and_never_held(tmp_path, source, monkeypatch):
    good = source.read_bytes().splitlines(keepends=True)
    path = tmp_path / "a.jsonl"
    path.write_bytes(good[0] + b"x" * 3_000_000 + b"\n" + good[1])
    monkeypatch.setattr(opening, "LONGEST_LINE", 1_000_000)
    with pytest.raises(DataError, match="line 2: the line is longer than any record"):
        list(read_traces(path))
    problems = []
    assert [number for number, _ in whole_lines(path, problems.append)] == [1, 3]
    assert [one.line for one in problems] == [2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"PAR1....PAR1", "a Parquet file"),
        ("a.cassette.zst", b"x", "a cassette; give the record file"),
        ("a.run.json", b"{}", "a run spec; give the record file"),
        ("a.jsonl", b'{"trace_id": "x", "metadata": {"schema_version": "0.3.0"}}\n', "rows of AgentTrace 0.3.0"),
    ],
)
def test_other_kinds_are_refused_by_their_name_strict_or_tolerant(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for on_problem in (None, lambda _: None):
        with pytest.raises(UsageError, match=message):
            list(read_traces(tmp_path / name, on_problem))


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_the_run_spec_lies_beside_a_file_of_any_form(suffix):
    path = run_spec_path(ROLLOUTS.with_name(ROLLOUTS.name + suffix))
    assert path == ROLLOUTS.with_name("rollouts.run.json")
    assert read_run_spec(path).agent.kind == "bash_block"


def test_a_run_spec_may_begin_with_a_byte_order_mark(tmp_path):
    path = run_spec_path(ROLLOUTS)
    marked = tmp_path / path.name
    marked.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read_run_spec(marked) == read_run_spec(path)


def test_a_run_spec_that_is_not_there_or_none_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"a\.run\.json: there is no such file"):
        read_run_spec(tmp_path / "a.run.json")
    for text in ("{}", "[]", '{"sampling": {"instance_ids": []}}'):
        (tmp_path / "a.run.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="not a run spec of this version"):
            read_run_spec(tmp_path / "a.run.json")


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd", "compacted"])
def test_the_index_finds_each_line_in_any_form(form, source, tmp_path):
    path = written(form, source, tmp_path)
    index = RecordIndex(path)
    lines = {decode(line).trace_id: line for line in source.read_bytes().splitlines(keepends=True)}
    assert sorted(index.ids) == sorted(lines)
    assert {trace_id: index.line(trace_id) for trace_id in lines} == lines


def test_the_index_refuses_a_record_that_is_there_twice_or_none(tmp_path, source):
    line = source.read_bytes().splitlines(keepends=True)[0]
    path = tmp_path / "a.jsonl"
    for content, message in (
        (line + line, "line 2: trace .* is there twice"),
        (line + b"{}\n", "line 2: .* no trace_id"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            RecordIndex(path)


@pytest.mark.slow
@pytest.mark.parametrize("line", [b"\n", b"{}\n", b" 1 \n"])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_small_file_of_very_many_lines_keeps_no_reader_busy(tmp_path, line, pack):
    path = tmp_path / "a.jsonl.x"
    path.write_bytes(pack(line * 5_000_000))
    problems = []
    began = time.process_time()
    assert list(read_traces(path, problems.append)) == []
    assert time.process_time() - began < 3
    assert str(problems[-1]).endswith("100001 lines are too short for a record; the rest was not read")
    assert problems[-1].line is None
    with pytest.raises(DataError):
        list(read_traces(path))
    assert "too short for a record" in list(Validation(path))[-1].message


def test_blank_lines_between_records_are_passed_over(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = TRACES.read_bytes().splitlines()
    path.write_bytes((b"\n" * 20_000).join(lines))
    assert len(list(read_traces(path))) == len(lines)
