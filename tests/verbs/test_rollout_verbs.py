"""`stats`, `compare` and `compact` as commands."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import pytest
import zstandard

from bench.synthetic import rollouts as synthetic

RELEASED = Path(__file__).parents[1] / "data" / "records" / "agenttrace-0.3-composed.jsonl"


@pytest.fixture
def runs(tmp_path):
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for seed, path in enumerate(paths):
        corpus = synthetic.Corpus(tasks=4, rollouts=5, seed=seed, turns=4 + seed)
        synthetic.write(path, synthetic.spec(corpus), synthetic.rollouts(corpus))
    return paths


def test_stats_prints_tables_and_json(agenttrace, runs, tmp_path):
    printed = agenttrace("stats", runs[0])
    assert (printed.returncode, printed.stderr) == (0, "")
    assert re.search(r"^final_answer +8 \(40.0 %\)$", printed.stdout, re.MULTILINE)
    assert re.search(r"^unique at 0.5, upstream's greedy metric  ", printed.stdout, re.MULTILINE)
    marked = agenttrace("stats", runs[0], "--format", "markdown", "--no-diversity").stdout
    assert "| final_answer | 8 (40.0 %) |" in marked
    values = json.loads(agenttrace("stats", runs[0], "--json", "--scratch", tmp_path).stdout)
    assert values["statistics"]["stops"]["final_answer"] == 8
    assert values["diversity"]["rollouts"] == 20
    assert agenttrace("stats", runs[0], "--no-diversity", "--output", tmp_path / "s.md").stdout == ""
    assert "diversity" not in (tmp_path / "s.md").read_text(encoding="utf-8")


def test_stats_and_compare_read_any_records_of_ours(agenttrace, runs):
    traces = RELEASED.with_name("demo.jsonl")
    assert "1 rollouts of 1 tasks," in agenttrace("stats", RELEASED, "--no-diversity").stdout
    assert "4 rollouts of 4 tasks," in agenttrace("stats", traces, "--no-diversity").stdout
    compared = agenttrace("compare", runs[0], traces, "--no-diversity", "--format", "markdown").stdout
    assert "| rollouts | 20 | 4 | -16 |" in compared


def test_compare_prints_the_table_of_two_runs(agenttrace, runs):
    printed = agenttrace("compare", *runs)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout.split("\n")[0].split() == ["a.jsonl", "b.jsonl", "difference", "95", "%", "interval", "by"]
    rows = json.loads(agenttrace("compare", *runs, "--json").stdout)["rows"]
    assert next(row for row in rows if row["name"] == "Submitted")["difference"] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("stats", "none.jsonl"), 2, "cannot read none.jsonl"),
        (("stats", "bad.jsonl"), 2, "bad.jsonl: line 1: an object of no known format"),
        (("stats", "empty.jsonl"), 2, "no rollout in it"),
        (("stats", "table.parquet"), 2, "it is a Parquet file"),
        (("stats", "packed.jsonl.gz"), 2, "packed.jsonl.gz: line 1: an object of no known format"),
        (("stats", "packed.jsonl.zst"), 2, "packed.jsonl.zst: line 1: an object of no known format"),
        (("stats", "nothing"), 2, "no file of traces in this folder"),
        (("stats", "a.jsonl", "--scratch", "nowhere"), 5, "name a folder with --scratch"),
        (("compact", "a.jsonl"), 2, "name the file to write: -o FILE.jsonl.zst"),
        (("compact", "-o", "b.jsonl.zip", "a.jsonl"), 2, "ends in .jsonl.zst"),
        (("compact", "a.jsonl", "b.jsonl.zip"), 2, "ends in .jsonl.zst"),
        (("compact", "fifo", "out"), 2, "ends in .jsonl.zst"),
        (("compact", "fifo", "out.jsonl.zst"), 2, "it is a pipe or a device"),
        (("compact", "none", "out.jsonl.zst"), 2, "No such file"),
    ],
)
def test_a_mistake_is_one_message(agenttrace, runs, tmp_path, arguments, status, message):
    (tmp_path / "bad.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "table.parquet").write_bytes(b"PAR1 x")
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    (tmp_path / "packed.jsonl.zst").write_bytes(zstandard.compress(b"{}"))
    os.mkfifo(tmp_path / "fifo")
    ended = agenttrace(*arguments, cwd=tmp_path)
    assert ended.returncode == status
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
