"""The reader in `docs/`, run as anyone would copy it: it counts what `stats` counts, of every kept file it can read."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys

import pytest

from agenttrace.analysis.runs import figures
from agenttrace.store.compact import compact
from tests.documents.blocks import ROOT

READER = ROOT / "docs" / "read_records.py"
KEPT = ROOT / "tests" / "data" / "records"
RELEASED = ROOT / "datasets" / "agenttrace-demo" / "records" / "agenttrace-demo.jsonl"
PLAIN = sorted(path for path in KEPT.rglob("*.jsonl") if not path.name.startswith("agenttrace-0.3"))
PACKED = sorted(KEPT.rglob("*.jsonl.zst"))
HAS_ZSTD = sys.version_info >= (3, 14)


def run(*paths):
    words = [sys.executable, "-I", READER, *paths]  # -I: neither this checkout nor what is installed for it in its way
    return subprocess.run(words, capture_output=True, text=True, check=False)


def read(path):
    ended = run(path)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def counted(path):
    found = figures(path, diversity=False)[0].statistics()
    return {
        "file": str(path), "rollouts": found.rollouts, "left_out": found.left_out, "tasks": found.tasks,
        "stops": found.stops, "turns": found.turns.total, "commands": found.commands,
        "generated": found.tokens["generated"].total, "passed": found.passed, "failed": found.graded - found.passed,
    }  # fmt: skip


def test_it_has_sixty_lines_and_imports_the_standard_library_alone():
    text = READER.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    names = {line.split()[1] for line in text.splitlines() if line.strip().startswith(("import ", "from "))}
    assert names <= {*sys.stdlib_module_names, "compression"}


@pytest.mark.parametrize("path", [RELEASED, *PLAIN], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_counts_what_stats_counts(path, tmp_path):
    assert read(path) == counted(path)
    packed = tmp_path / f"{path.name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed) == counted(packed) != counted(path)


@pytest.mark.parametrize("path", PACKED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_zstandard_is_read_where_python_has_it_and_else_named(path):
    if HAS_ZSTD:
        assert read(path) == counted(path)
    else:
        ended = run(path)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert f"{path}: the standard library reads Zstandard from Python 3.14 on" in ended.stderr


def test_blanks_between_lines_and_tokens_are_passed_over(tmp_path):
    path, (first, *rest) = tmp_path / "some.jsonl", RELEASED.read_bytes().splitlines(keepends=True)
    first = first.replace(b',"prompt":', b',\r"prompt":', 1).replace(b"\n", b"\r\n")
    path.write_bytes(b"".join([b"\xef\xbb\xbf", first, b"\n \t\r\n", *rest, b"\n"]))
    assert read(path) == counted(path)
    assert read(path)["rollouts"] == 1 + len(rest)


def test_what_failed_for_the_infrastructure_s_reasons_is_left_out(tmp_path):
    rows = [json.loads(line) for line in RELEASED.read_bytes().splitlines()]
    rows[0]["outcome"]["ended"] = "sandbox_error"
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read(path) == counted(path)
    assert read(path)["left_out"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"trace_id":"x"}\n', "line 1: no record of agenttrace 1.0.0 or later"),
        (b"{", "cannot be read"),
        (b"[]\n", "cannot be read"),
        (b'{"outcome":7,"llm_steps":[]}\n', "cannot be read"),
        (b"\x1f\x8b\x08\x00cut", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_it_cannot_read_is_one_line(content, said, tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_bytes(content)
    ended = run(path)
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (1, "", 1)
    assert said in ended.stderr


def test_lean_lines_of_a_compacted_file_are_named_not_misread(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    whole, lean = tmp_path / "some.jsonl.zst", tmp_path / "lean.jsonl"
    shutil.copyfile(RELEASED.with_name("agenttrace-demo.run.json"), tmp_path / "some.run.json")
    compact(RELEASED, whole)
    with whole.open("rb") as file:
        lean.write_bytes(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read())
    ended = run(lean)
    assert ended.returncode == 1
    assert "compacted" in ended.stderr
