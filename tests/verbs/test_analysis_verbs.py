"""`analyze`, `plots` and `tables` as commands: one message for a mistake, partial results said to be partial."""

from __future__ import annotations

import base64
import gzip
import json
import re

import pytest

from bench.synthetic.traces import Campaign, traces, write


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "r.jsonl"
    write(path, traces(Campaign(tasks=30)))
    return path


@pytest.mark.slow
def test_analyze_prints_and_writes_the_same(agenttrace, records, tmp_path):
    printed = agenttrace("analyze", records)
    assert printed.returncode == 0
    assert printed.stderr == ""
    assert "Model time against tool time, as measured" in printed.stdout
    assert agenttrace("analyze", records, "--output", tmp_path / "a.txt").stdout == ""
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == printed.stdout
    assert json.loads(agenttrace("analyze", records, "--format", "json").stdout)["groups"][0]["traces"] == 30
    assert agenttrace("analyze", records, "--format", "markdown").stdout.startswith("# What was read\n")


def test_bad_lines_are_named_and_the_result_is_called_partial(agenttrace, records):
    records.write_bytes(records.read_bytes() + b"\x1b[2J oops\n" + b'{"trace_id": "cut')
    ended = agenttrace("analyze", records)
    assert ended.returncode == 0
    assert f"{records}, line 31: not a trace record" in ended.stderr
    assert f"{records}, line 32: " in ended.stderr
    assert "PARTIAL: 2 bad lines left out, 30 traces read" in ended.stderr
    assert "PARTIAL: some lines could not be read" in ended.stdout
    assert json.loads(agenttrace("analyze", records, "--format", "json").stdout)["partial"] is True
    assert agenttrace("analyze", records, "--strict").returncode == 1


def test_a_report_of_a_damaged_file_is_partial_and_says_so(agenttrace, records, tmp_path):
    text = records.read_bytes()
    records.write_bytes(text + b"\x1b[2J oops\n" + b'{"trace_id": "cut')
    packed = tmp_path / "p.jsonl.gz"
    packed.write_bytes(gzip.compress(text)[:-2000])
    ended = agenttrace("report", records, packed, "-o", tmp_path / "r.html")
    assert ended.returncode == 0
    assert f"{records}, line 32: not a trace record" in ended.stderr
    assert f"{records}: PARTIAL: 2 bad lines left out, 30 traces read" in ended.stderr
    assert f"{packed}: PARTIAL: 0 bad lines and the rest of the file left out" in ended.stderr
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    index = re.search(r'id="index">([^<]+)<', page)[1]
    files = json.loads(gzip.decompress(base64.b64decode(index)))["files"]
    assert [file["missing"] for file in files] == ["2 lines", "the rest"]
    assert agenttrace("report", records, "-o", tmp_path / "s.html", "--strict").returncode == 1
    records.write_bytes(b"x\n")
    ended = agenttrace("report", records, "-o", tmp_path / "none.html")
    assert ended.returncode != 0
    assert not (tmp_path / "none.html").exists()


def test_thousands_of_bad_lines_are_counted_not_listed(agenttrace, records):
    records.write_bytes(records.read_bytes() + b"x\n" * 5000)
    ended = agenttrace("analyze", records)
    assert "PARTIAL: 5000 bad lines" in ended.stderr
    assert len(ended.stderr.splitlines()) == 21


@pytest.mark.parametrize(
    ("verb", "content", "status", "message"),
    [
        ("analyze", None, 2, "No such file"), ("analyze", b"", 1, "no trace to read"),
        ("analyze", b"x\n", 1, "no trace to read"), ("plots", b"x\n", 1, "no trace to read"),
        ("tables", b"", 1, "no trace to read"),
    ],
)  # fmt: skip
def test_nothing_to_read_is_one_message(agenttrace, tmp_path, verb, content, status, message):
    path = tmp_path / "none.jsonl"
    if content is not None:
        path.write_bytes(content)
    out = [] if verb == "analyze" else ["--outdir", tmp_path / "out"]
    ended = agenttrace(verb, path, *out)
    assert ended.returncode == status
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_plots_say_what_they_drew(agenttrace, records, tmp_path):
    ended = agenttrace("plots", records, "--outdir", tmp_path / "out", "--formats", "svg")
    assert ended.returncode == 0
    assert "success-cost: not drawn: fewer than 40 traces" in ended.stderr
    drawn = {path.stem for path in (tmp_path / "out").iterdir()}
    assert {"requests", "waiting", "timeline"} < drawn
    assert drawn.isdisjoint(line.split(":")[0] for line in ended.stderr.splitlines() if "not drawn" in line)
    assert len(drawn) == 12 - ended.stderr.count("not drawn")


def test_tables_are_three_parquet_files(agenttrace, records, tmp_path):
    ended = agenttrace("tables", records, "--outdir", tmp_path / "out")
    assert ended.returncode == 0
    assert f"{records}: 30 traces" in ended.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "runs.parquet",
        "spans.parquet",
        "steps.parquet",
    ]


def test_what_cannot_be_written_is_one_message(agenttrace, records, tmp_path):
    blocker = tmp_path / "file"
    blocker.touch()
    for ended in (
        agenttrace("plots", records, "--outdir", blocker / "x", "--formats", "svg"),
        agenttrace("tables", records, "--outdir", blocker / "x"),
        agenttrace("analyze", records, "--output", tmp_path / "no" / "a.txt"),
    ):
        assert ended.returncode == 5
        assert "cannot write" in ended.stderr
        assert "Traceback" not in ended.stderr
