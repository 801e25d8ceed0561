"""What is no record file is called by its name, by whoever is given it."""

from __future__ import annotations

import gzip

import pytest
import zstandard

from agenttrace.errors import DataError, UsageError
from agenttrace.formats.convert import read
from agenttrace.store.read import lines, read_traces
from agenttrace.validate import Validation

RECORD = b'{"trace_id": "x"}\n'
FILES = {
    "r.jsonl": (
        b'{"trace_id": "x", "metadata": {"schema_version": "0.3.0"}}\n',
        "rows of AgentTrace 0.3.0; convert it",
    ),
    "c.jsonl": (b"PAR1....PAR1", "a Parquet file"),
    "d.jsonl": (b"PK\x03\x04....", "a zip file"),
    "e.cassette.zst": (zstandard.compress(b"{}\n"), r"a cassette; give the record file beside it \(e.jsonl\)"),
    "f.run.json": (b'{\n  "run_id": "x"\n}\n', r"a run spec; give the record file beside it \(f.jsonl\)"),
}


def written(name, tmp_path):
    content, message = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    return path, message


@pytest.fixture(params=sorted(FILES.keys() - {"r.jsonl"}))
def other(request, tmp_path):
    return written(request.param, tmp_path)


def test_rows_of_the_release_are_called_so(tmp_path):
    path, message = written("r.jsonl", tmp_path)
    with pytest.raises(UsageError, match=message):
        list(read_traces(path))


def test_who_reads_records_says_what_it_is_instead(other):
    path, message = other
    with pytest.raises(UsageError, match=message):
        list(read_traces(path))


@pytest.mark.parametrize("record_file", ["f.jsonl", "f.jsonl.zst", "f.jsonl.gz"])
def test_the_record_file_is_named_that_lies_there(record_file, tmp_path):
    path, _ = written("f.run.json", tmp_path)
    (tmp_path / record_file).touch()
    with pytest.raises(UsageError, match=rf"give the record file beside it \({record_file}\)"):
        list(read_traces(path))


def test_validation_says_it_once(other):
    path, message = other
    validation = Validation(path)
    with pytest.raises(UsageError, match=message):
        raise UsageError("; ".join(found.message for found in validation))
    assert validation.records == 0


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_what_is_compressed_is_read_by_its_content_whatever_its_name(tmp_path, compress):
    path = tmp_path / "a.jsonl"
    path.write_bytes(compress(RECORD))
    assert [line for _, line in lines(path)] == [RECORD]
    with pytest.raises(DataError, match="line 1: not a trace record"):
        list(read_traces(path))
    with pytest.raises(DataError, match="line 1: an object of no known format"):
        list(read(path))


@pytest.mark.parametrize("reader", [lines, read])
def test_analysis_and_conversion_read_nothing_else(other, reader):
    path, message = other
    with pytest.raises(UsageError, match=message):
        list(reader(path))
