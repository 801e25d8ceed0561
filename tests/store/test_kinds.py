"""What is no record file is called by its name, by whoever is given it."""

from __future__ import annotations

import gzip

import pytest
import zstandard

from agenttrace.errors import DataError, UsageError
from agenttrace.formats.convert import read
from agenttrace.publish.complete import flaws
from agenttrace.store.lines import lines
from agenttrace.store.read import read_run_spec, read_traces
from agenttrace.validate import Validation
from bench.synthetic import rollouts as synthetic

RECORD = b'{"trace_id": "x"}\n'
FILES = {
    "a.jsonl": (gzip.compress(RECORD), r"unpack it first \(gunzip\)"),
    "b.jsonl.zst": (zstandard.compress(RECORD), r"unpack it first \(zstd -d\)"),
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


def test_rollouts_are_called_so_by_who_reads_traces(tmp_path):
    corpus, path = synthetic.Corpus(), tmp_path / "run.jsonl"
    synthetic.write(path, synthetic.spec(corpus), synthetic.rollouts(corpus))
    for read_one in (lambda: list(read_traces(path)), lambda: read_run_spec(tmp_path / "run.run.json")):
        with pytest.raises(UsageError, match=r"cannot read .*: it is of rollouts; what reads them: .*publish-rollouts"):
            read_one()
    assert "run.run.json: it is of rollouts" in next(flaws(path))


def test_who_reads_records_says_what_it_is_instead(other):
    path, message = other
    with pytest.raises(UsageError, match=message):
        list(read_traces(path))


@pytest.mark.parametrize("reader", [read_traces, read])
def test_rollouts_are_called_so(tmp_path, reader):
    path = tmp_path / "rollouts.jsonl"
    path.write_bytes(b'{"rollout_id": "x"}\n')
    with pytest.raises((UsageError, DataError), match="it is of rollouts; what reads them"):
        list(reader(path))


def test_validation_says_it_once(other):
    path, message = other
    validation = Validation(path)
    with pytest.raises(UsageError, match=message):
        raise UsageError("; ".join(found.message for found in validation))
    assert validation.records == 0


def test_analysis_report_and_conversion_read_what_is_compressed_and_nothing_else(other):
    path, message = other
    if "unpack" in message:
        assert [line for _, line in lines(path)] == [RECORD]
        with pytest.raises(DataError, match="line 1: not a row"):
            list(read(path))
        return
    for reader in (lines, read):
        with pytest.raises(UsageError, match=message):
            list(reader(path))
