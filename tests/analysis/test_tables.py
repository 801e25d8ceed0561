"""The loader: every row and nothing else, what cannot be read named, memory bounded."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.analysis import tables
from agenttrace.analysis.plots.style import FigurePart, NothingToDraw
from agenttrace.analysis.plots.timeline import timeline
from agenttrace.analysis.rows import entry
from agenttrace.analysis.tables import KEPT_PROBLEMS, Source
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import columns
from agenttrace.records import Telemetry
from agenttrace.store.read import read_traces

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "records"


def test_every_row_step_and_span_is_there_with_its_figures(thousand, rows):
    found = tables.load([thousand])
    assert not found.partial
    assert list(found.runs["trace_id"]) == [row["trace_id"] for row in rows]
    assert list(found.runs["line"]) == list(range(1, 1401))
    assert list(found.runs["solved"].astype(object).where(found.runs["solved"].notna(), None)) == [
        row["outcome"]["solved"] for row in rows
    ]
    for frame, key, names in (
        (found.steps, "llm_steps", ["step_id", "start_ns", "duration_ms", "input_tokens", "finish_reason"]),
        (found.spans, "spans", ["span_id", "call_id", "parent_span_id", "end_ns", "exit_code", "status", "tool_input"]),
    ):
        parts = [part for row in rows for part in row[key]]
        assert len(frame) == len(parts)
        for name in names:
            mine = [None if pd.isna(value) else value for value in frame[name]]
            assert mine == [part[name] for part in parts], name
    for name in ("max_rss_bytes", "user_time_s", "write_bytes", "peak_rss_floor_bytes", "method"):
        mine = [None if pd.isna(value) else value for value in found.spans[name]]
        assert mine == [span["telemetry"][name] for row in rows for span in row["spans"]], name


def test_run_joins_the_tables(few):
    found = tables.load([few])
    joined = found.spans.merge(found.runs, on="run", suffixes=("", "_run"))
    assert (joined["trace_id"] == joined["trace_id_run"]).all()
    counts = found.spans.groupby("run").size()
    assert counts.reindex(found.runs["run"], fill_value=0).tolist() == found.runs["span_count"].tolist()


def test_nanoseconds_stay_exact_beside_unknown_values(few, released):
    found = tables.load([few, released])
    assert str(found.spans["start_ns"].dtype) == "Int64"
    assert found.steps["start_ns"].isna().sum() == 1
    first = json.loads(few.read_bytes().splitlines()[0])
    assert found.steps["start_ns"].iloc[0] == first["llm_steps"][0]["start_ns"]


def test_unknown_is_never_zero(released):
    found = tables.load([released])
    run = found.runs.iloc[0]
    assert pd.isna(run["llm_ms"])
    assert pd.isna(run["solved"])
    assert run["ended"] == "final_answer"  # its last call says so, as it does for `convert`
    assert run["input_tokens"] == 1495
    assert run["platform"] == "darwin-arm64"
    assert run["cpu"] == "Apple M3 Pro"
    assert list(found.spans["method"]) == ["foreign"] * 3
    assert found.spans["start_ns"].isna().all()
    assert list(found.spans["command"].astype(object).where(found.spans["command"].notna(), None)) == [
        "cd",
        "find",
        None,
    ]


def test_mixed_versions_and_compressions_in_one_reading(tmp_path, few, released):
    packed, frames = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.zst"
    packed.write_bytes(gzip.compress(few.read_bytes()))
    zst = zstandard.ZstdCompressor()
    parts = few.read_bytes().splitlines(keepends=True)
    frames.write_bytes(zst.compress(b"".join(parts[:7])) + zst.compress(b"".join(parts[7:])))
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_bytes(released.read_bytes() + few.read_bytes())
    found = tables.load([packed, frames, mixed])
    assert [source.rows for source in found.sources] == [20, 20, 21]
    assert not found.partial
    assert set(found.runs["imported_from"].dropna()) == {"agenttrace-0.3"}


def test_the_name_of_a_file_does_not_matter(tmp_path, few):
    odd = tmp_path / "records.jsonl"
    odd.write_bytes(gzip.compress(few.read_bytes()))
    assert len(tables.load([odd]).runs) == 20


def bad(few, *lines):
    good = few.read_bytes().splitlines(keepends=True)
    few.write_bytes(good[0] + b"".join(line + b"\n" for line in lines) + b"".join(good[1:]))
    return few


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"not json", "not a trace record"),
        (b"[1, 2]", "a JSON list is no trace"),
        (b'{"trace_id": 1}', "Expected `str`, got `int` - at `$.trace_id`"),
        (b"\xff\xfe", "not a trace record"),
        (b'{"a":' * 100_000, "not a trace record"),
        (b'{"trace_id": "x"}', "missing required field"),
    ],
)
def test_a_bad_line_is_named_counted_and_the_rest_is_read(few, line, says):
    seen = []
    found = tables.load([bad(few, line)], on_problem=seen.append)
    assert found.partial
    assert len(found.runs) == 20
    assert found.sources[0].bad_lines == 1
    (problem,) = seen
    assert problem.line == 2
    assert str(problem).startswith(f"{few}, line 2: ")
    assert says in problem.message
    assert found.sources[0].problems == seen


@pytest.mark.parametrize(
    "change",
    [
        {"total_duration_ms": -1.0},
        {"total_duration_ms": 1e300},
        {"llm_steps": [{"step_id": "a", "step_number": 2**64}]},
        {"llm_steps": [{"step_id": "a", "step_number": 1, "input_tokens": 2**62}] * 4},
        {"metadata": {"schema_version": "2.0.0"}},
        {"metadata": {"schema_version": "1.9.0"}, "outcome": None},
        {"timestamp_utc": "yesterday"},
    ],
)
def test_figures_that_no_column_can_hold_make_a_bad_line(few, change):
    row = json.loads(few.read_bytes().splitlines()[0]) | change
    found = tables.load([bad(few, json.dumps(row).encode())])
    assert (len(found.runs), found.sources[0].bad_lines) == (20, 1)


def test_all_bad_lines_are_counted_and_only_some_are_kept(few):
    seen = []
    found = tables.load([bad(few, *[b"x"] * 3000)], on_problem=seen.append)
    assert found.sources[0].bad_lines == len(seen) == 3000
    assert len(found.sources[0].problems) == KEPT_PROBLEMS


def test_a_line_that_is_cut_off_is_named_as_such(few):
    few.write_bytes(few.read_bytes()[:-200])
    (problem,) = tables.load([few]).sources[0].problems
    assert problem.line == 20
    assert "cut off" in problem.message


def test_blank_lines_and_a_byte_order_mark_are_no_records(few):
    few.write_bytes(b"\xef\xbb\xbf" + few.read_bytes().replace(b"\n", b"\r\n\n  \n"))
    found = tables.load([few])
    assert len(found.runs) == 20
    assert not found.partial


def test_an_empty_file_gives_empty_tables_with_all_columns(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.touch()
    found = tables.load([path])
    assert [len(found.runs), len(found.steps), len(found.spans)] == [0, 0, 0]
    assert list(found.runs.columns) == list(columns.kinds("runs", texts=False))
    assert found.sources == [Source(file=str(path))]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("damage", ["cut", "corrupt"])
def test_damage_of_a_compressed_file_keeps_what_stands_before(tmp_path, thousand, pack, damage):
    path = tmp_path / "a.jsonl"
    whole = pack(thousand.read_bytes())
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] if damage == "cut" else whole[:middle] + b"\0" * 4000 + whole[middle + 4000 :])
    found = tables.load([path])
    (source,) = found.sources
    assert source.damaged
    assert found.partial
    assert 0 < source.rows < 1400
    assert source.problems[-1].line is None
    assert ("cut off" if damage == "cut" else "corrupt") in source.problems[-1].message


@pytest.mark.parametrize("cut", [3, 6, 9])
def test_a_compressed_file_cut_within_its_head_is_damaged(tmp_path, few, cut):
    for pack in (gzip.compress, zstandard.ZstdCompressor().compress):
        path = tmp_path / "head.jsonl"
        path.write_bytes(pack(few.read_bytes())[:cut])
        (source,) = tables.load([path]).sources
        assert source.partial
        assert source.rows == 0


@pytest.mark.parametrize(("head", "kind"), [(b"PAR1xxxx", "Parquet"), (b"PK\x03\x04xxxx", "zip")])
def test_other_kinds_of_files_are_refused_by_name(tmp_path, head, kind):
    path = tmp_path / "a.jsonl"
    path.write_bytes(head)
    with pytest.raises(UsageError, match=kind):
        tables.load([path])


def test_what_cannot_be_opened_is_a_message(tmp_path, few):
    with pytest.raises(UsageError, match="No such file"):
        tables.load([tmp_path / "none.jsonl"])
    with pytest.raises(UsageError, match="is a folder"):
        tables.load([tmp_path])
    with pytest.raises(UsageError, match="no record file"):
        tables.load([])
    with pytest.raises(UsageError, match="twice"):
        tables.load([few, few.parent / "." / few.name])


def test_parquet_holds_the_same_as_the_frames(tmp_path, few, released):
    sources = tables.write_parquet([few, released], tmp_path / "out")
    assert [source.rows for source in sources] == [20, 1]
    found = tables.load([few, released])
    for name in columns.TABLES:
        table = pq.read_table(tmp_path / "out" / f"{name}.parquet")
        assert table.schema.equals(columns.schema(name))
        assert pq.read_metadata(tmp_path / "out" / f"{name}.parquet").metadata[b"agenttrace.partial"] == b"false"
        frame = getattr(found, name)
        for column in frame.columns:
            mine = [None if pd.isna(value) else value for value in frame[column]]
            assert mine == table[column].to_pylist(), column


def test_every_figure_of_a_call_is_a_column_without_a_word_of_it_here():
    figures = {*Telemetry.__struct_fields__} - {"leftover_names", "tree_rss_series", "counters_reason"}
    figures |= {"tree_rss_series_json"}
    assert figures <= set(columns.kinds("spans", texts=False))
    assert figures | {"leftover_names_json", "counters_reason"} <= set(columns.kinds("spans"))


def test_no_two_columns_have_one_name():
    for table in columns.TABLES:
        names = [column.name for column in columns._columns(table, texts=True)]
        assert len(set(names)) == len(names)
        assert len(columns.schema(table)) >= len(names)


@pytest.mark.parametrize("name", ["rollouts.jsonl", "rollouts-compacted.jsonl.zst"])
def test_kept_rollout_files_are_tables(tmp_path, name):
    path = DATA / "1.0.0" / name
    found = tables.load([path])
    assert ([len(found.runs), len(found.steps), len(found.spans)], found.partial) == ([6, 32, 32], False)
    assert set(found.runs["ended"]) == {"final_answer"}
    assert found.runs["solved"].sum() == 4
    tables.write_parquet([path], tmp_path)
    spans = pq.read_table(tmp_path / "spans.parquet").to_pylist()
    traces = [span for trace in read_traces(path) for span in trace.spans]
    assert [span["tool_output"] for span in spans] == [span.tool_output for span in traces]
    assert [span["span_id"] for span in spans] == found.spans["span_id"].tolist()


def test_parquet_of_a_damaged_file_says_so(tmp_path, few):
    tables.write_parquet([bad(few, b"x")], tmp_path)
    assert pq.read_metadata(tmp_path / "runs.parquet").metadata[b"agenttrace.partial"] == b"true"


def test_a_failed_writing_leaves_nothing(tmp_path, few):
    with pytest.raises(UsageError):
        tables.write_parquet([few, tmp_path / "none"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


PEAK = """
import sys
from pathlib import Path
from agenttrace.analysis.tables import write_parquet
from tests.peak import peak_mib
sources = write_parquet([sys.argv[1]], Path(sys.argv[2]))
print(sources[0].rows, sources[0].bad_lines, peak_mib())
"""


def peak_mib(path, out):
    ended = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(out)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    rows, bad_lines, peak = map(int, ended.stdout.split())
    return rows, bad_lines, peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path, thousand):
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    text = thousand.read_bytes()
    one.write_bytes(text * 2)
    with many.open("wb") as file:
        for _ in range(16):
            file.write(text)
    rows_one, _, peak_one = peak_mib(one, tmp_path / "1")
    rows_many, _, peak_many = peak_mib(many, tmp_path / "2")
    assert (rows_one, rows_many) == (2800, 22_400)
    assert peak_many < peak_one + 100  # the seven times longer file has 100 MB more of text


@pytest.mark.slow
def test_two_gigabytes_in_one_line_are_skipped_in_bounded_memory(tmp_path, few):
    path = tmp_path / "huge.jsonl.zst"
    frame = zstandard.ZstdCompressor(level=1).compressobj()
    with path.open("wb") as file:
        for _ in range(2048):
            file.write(frame.compress(b"a" * (1 << 20)))
        file.write(frame.compress(b"\n" + few.read_bytes()))
        file.write(frame.flush())
    assert path.stat().st_size < 1 << 20
    rows, bad_lines, peak = peak_mib(path, tmp_path / "out")
    assert (rows, bad_lines) == (20, 1)
    assert peak < 700


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["trace_id", "spans", "metadata", "x"]), inner),
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_stands_in_a_line_is_a_row_or_a_data_error(value):
    with pytest.raises(DataError):
        entry(0, "f", 1, json.dumps(value).encode())


def test_records_read_from_another_format_count_although_their_calls_have_no_clock(tmp_path, few):
    lines = [json.loads(line) for line in few.read_bytes().splitlines()]
    for line in lines:
        for span in line["spans"]:
            span["start_ns"] = span["end_ns"] = None
    path = tmp_path / "imported.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = tables.load([path])
    assert (len(found.runs), found.partial) == (len(lines), False)
    assert found.spans["start_ns"].isna().all()
    with pytest.raises(NothingToDraw):
        timeline([FigurePart(0, "all", found.runs, found.steps, found.spans)], None)


def test_a_loop_of_links_is_a_message(tmp_path):
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    with pytest.raises(UsageError, match="cannot read"):
        tables.load([tmp_path / "loop.jsonl"])
