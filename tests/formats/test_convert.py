"""Files in other formats: whole or not at all, typed, and readable by the tools people use."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import get_args, get_origin

import msgspec
import pyarrow.parquet as pq
import pytest
import zstandard

from agenttrace.analysis.tables import write_parquet
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import FORMATS, Format, columns, tables
from agenttrace.formats.convert import convert, read
from agenttrace.records import LLMStep, Span, Trace, derived_id
from tests.formats.hostile import spec

DATA = Path(__file__).parents[1] / "data" / "records"
OURS = DATA / "demo.jsonl"
FOREIGN = DATA / "agenttrace-0.3-composed.jsonl"


def traces():
    return [msgspec.json.decode(line, type=Trace) for line in OURS.read_bytes().splitlines()]


def test_rows_of_0_3_0_come_back_through_records_and_view_byte_for_byte(tmp_path):
    convert([FOREIGN], "agenttrace-1.0", tmp_path / "ours.jsonl")
    convert([tmp_path / "ours.jsonl"], "agenttrace-0.3-parquet", tmp_path / "view.parquet")
    convert([tmp_path / "view.parquet"], "agenttrace-0.3", tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_bytes() == FOREIGN.read_bytes()


def test_the_view_keeps_the_file_it_names(tmp_path):
    convert([OURS], "agenttrace-0.3-parquet", tmp_path / "a.parquet")
    convert([tmp_path / "a.parquet"], "agenttrace-0.3-parquet", tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert pq.read_table(tmp_path / "b.parquet")["raw_file"].to_pylist() == ["datasets/demo.jsonl"] * 4


def test_tables_are_typed_and_hold_every_figure(tmp_path):
    assert convert([OURS, FOREIGN], "parquet", tmp_path / "t") == {"runs": 5, "steps": 13, "spans": 12}
    spans = pq.read_table(tmp_path / "t" / "spans.parquet")
    kinds = {field.name: str(field.type) for field in spans.schema}
    expected = {
        "start_ns": "int64", "duration_ms": "double", "max_rss_bytes": "int64", "exit_code": "int64",
        "user_time_s": "double", "status": "string", "stdout_bytes_total": "int64",
    }  # fmt: skip
    assert {name: kinds[name] for name in expected} == expected
    found = spans.to_pylist()[0]
    span = traces()[0].spans[0]
    assert found["tool_input"] == span.tool_input
    assert found["wall_ns"] == span.telemetry.wall_ns
    assert found["stdout_text"] == span.stdout.text
    runs = pq.read_table(tmp_path / "t" / "runs.parquet").to_pylist()
    assert json.loads(runs[0]["metadata_json"]) == traces()[0].metadata
    assert runs[0]["timestamp_utc"].isoformat(timespec="microseconds") == traces()[0].timestamp_utc
    assert [run["solved"] for run in runs] == [True, True, True, False, None]


def fields(record):
    """Names of all fields of a record type that hold no structure, and of the structures in it."""
    for field in msgspec.structs.fields(record):
        parts = (field.type, *(get_args(field.type) if get_origin(field.type) is not tuple else ()))
        structure = next((part for part in parts if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)
        if field.name not in {"spans", "llm_steps"}:
            yield from fields(structure) if structure else [field.name]


@pytest.mark.parametrize(("table", "record"), [("runs", Trace), ("steps", LLMStep), ("spans", Span)])
def test_no_field_of_a_record_is_missing_from_the_tables(table, record):
    names = {name.removesuffix("_json") for name in columns.kinds(table)}
    for field in fields(record):
        assert field in names or {f"stdout_{field}", f"stderr_{field}"} <= names, field


def test_tables_of_a_file_and_its_conversion_are_the_same(tmp_path):
    convert([OURS], "parquet", tmp_path / "a")
    write_parquet([OURS], tmp_path / "b")
    for name in columns.TABLES:
        mine, theirs = (pq.read_table(tmp_path / folder / f"{name}.parquet") for folder in "ab")
        assert mine.schema.equals(theirs.schema)
        for column in set(mine.column_names) - {"file", "line"}:
            assert mine[column].to_pylist() == theirs[column].to_pylist(), column


def test_what_a_trace_does_not_have_is_unknown(tmp_path):
    convert([OURS], "parquet", tmp_path / "t")
    assert set(pq.read_table(tmp_path / "t" / "spans.parquet")["cut_chars"].to_pylist()) == {None}


def test_row_groups_are_written_as_rows_come(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "GROUP_ROWS", 2)
    convert([OURS], "agenttrace-0.3-parquet", tmp_path / "a.parquet")
    metadata = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert (metadata.num_row_groups, metadata.row_group(0).column(0).compression) == (2, "ZSTD")


def test_a_format_with_a_file_per_record_joins_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "one-each", Format(".agenttrace_0_3", "files", ".json", ""))
    assert convert([OURS], "one-each", tmp_path / "o") == {"o": 4}
    assert {path.stem for path in (tmp_path / "o").iterdir()} == {trace.trace_id for trace in traces()}


def test_a_bad_line_is_named_and_nothing_is_written(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(OURS.read_bytes() + b'{"trace_id": 1}\n')
    for name, output in (("agenttrace-0.3", "o.jsonl"), ("agenttrace-0.3-parquet", "o.parquet"), ("parquet", "t")):
        with pytest.raises(DataError, match="line 5"):
            convert([bad], name, tmp_path / output)
    assert [path.name for path in tmp_path.rglob("*")] == ["bad.jsonl"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, bytes])
def test_compressed_files_blank_lines_and_a_byte_order_mark_are_read(tmp_path, pack):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(pack(b"\xef\xbb\xbf" + OURS.read_bytes().replace(b"\n", b"\r\n\n")))
    path.with_name("a.run.json").write_bytes(msgspec.json.encode(spec()))
    found = list(read(path))
    assert [one.trace for one in found] == traces()
    assert found[0].spec == spec()


def test_a_compressed_file_that_is_cut_off_is_named_and_nothing_is_written(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(OURS.read_bytes())[:-9])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: the gzip stream is cut off.*nothing was written"):
        convert([path], "agenttrace-1.0", tmp_path / "o.jsonl")
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl.gz"]


def test_a_line_that_no_record_has_is_refused_without_being_held(tmp_path):
    path = tmp_path / "huge.jsonl.zst"
    frame = zstandard.ZstdCompressor(level=1).compressobj()
    path.write_bytes(b"".join(frame.compress(b"a" * (1 << 20)) for _ in range(700)) + frame.flush())
    tracemalloc.start()
    with pytest.raises(DataError, match="line 1: the line is longer than any record"):
        list(read(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 320 << 20


def test_an_output_that_is_there_is_never_overwritten(tmp_path):
    kept = tmp_path / "o.jsonl"
    kept.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is there already"):
        convert([OURS], "agenttrace-0.3", kept)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "x").touch()
    with pytest.raises(UsageError, match="is there already"):
        convert([OURS], "parquet", tmp_path / "t")
    assert kept.read_text(encoding="utf-8") == "mine"


def test_hostile_ids_never_become_paths(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "one-each", Format(".own", "files", ".json", ""))
    row = json.loads(OURS.read_bytes().splitlines()[0])
    (tmp_path / "evil.jsonl").write_text(json.dumps({**row, "trace_id": "../../evil"}) + "\n", encoding="utf-8")
    convert([tmp_path / "evil.jsonl"], "one-each", tmp_path / "o")
    (path,) = (tmp_path / "o").iterdir()
    assert path.name == f"{derived_id('file', '../../evil')}.json"
    assert json.loads(path.read_bytes())["trace_id"] == "../../evil"


def test_a_file_that_is_no_parquet_is_a_message(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match="a Parquet file, but not a whole one"):
        list(read(tmp_path / "a.parquet"))
    convert([OURS], "parquet", tmp_path / "t")
    with pytest.raises(UsageError, match=r"row 1: this is parquet .*written here and not read"):
        list(read(tmp_path / "t" / "spans.parquet"))


def test_a_figure_that_no_column_can_hold_is_a_message(tmp_path):
    row = json.loads(OURS.read_bytes().splitlines()[0])
    row["spans"][0]["exit_code"] = 2**63
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="does not fit its column"):
        convert([tmp_path / "a.jsonl"], "parquet", tmp_path / "t")


def test_the_command(tmp_path):
    command = [
        sys.executable,
        "-m",
        "agenttrace",
        "convert",
        OURS,
        "--to",
        "agenttrace-0.3",
        "-o",
        tmp_path / "o.jsonl",
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "4 rows" in ended.stdout
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "is there already" in ended.stderr
