"""`judge` looks at a whole file before it asks for a sandbox."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from agenttrace.campaign import judge as judging
from agenttrace.errors import DataError, UsageError
from agenttrace.records import Outcome, Trace
from agenttrace.store.compact import compact

SOCKETS = Path("/nonexistent")
RECORDS = Path(__file__).parents[1] / "data" / "records"


def judge(file, **more):
    return judging.judge(file, sockets=SOCKETS, **more)


def test_a_damaged_line_is_named_before_anything_starts(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("no sandbox is needed to read a file")

    spec = SimpleNamespace(dataset=judging.task_set("demo").spec(), sandbox=None)
    monkeypatch.setattr(judging, "WorkerPool", never)
    monkeypatch.setattr(judging, "read_run_spec", lambda _: spec)
    good = Trace(
        trace_id="t", timestamp_utc="now", prompt="p", model="m", spans=(), llm_steps=(), total_duration_ms=1.0,
        metadata={"task_id": 0}, environment={}, outcome=Outcome(ended="max_steps"),
    )  # fmt: skip
    file = tmp_path / "x.jsonl"
    file.write_bytes(msgspec.json.encode(good) + b"\n" + b"{}\n")
    before = hashlib.sha256(file.read_bytes()).digest()
    for check in (True, False):
        with pytest.raises(DataError, match=r"x\.jsonl, line 2: not a trace record"):
            judge(file, check=check)
    assert hashlib.sha256(file.read_bytes()).digest() == before


def judged(line):
    return SimpleNamespace(differs=True, before=0, after=1, line=line)


def test_a_link_to_the_file_stays_one(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there/x.jsonl", tmp_path / "x.jsonl"
    real.write_bytes(b'{"trace_id":"t"}\n')
    link.symlink_to("there/x.jsonl")
    new = b'{"trace_id":"t","new":1}\n'
    monkeypatch.setattr(judging, "_judged", lambda *_: [judged(new)])
    assert judge(link.resolve()) == 0  # the host side resolves what it was given
    assert real.read_bytes() == new
    assert link.is_symlink()


def test_a_torn_line_that_is_cut_off_is_said(tmp_path, monkeypatch, capsys):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"trace_id":"t"}\n{"tra')
    monkeypatch.setattr(judging, "_judged", lambda *_: [])
    judge(file)
    assert "cut off a torn last line of 5 bytes" in capsys.readouterr().err


def test_a_compacted_file_is_compared_and_never_written(tmp_path, monkeypatch):
    plain, packed = tmp_path / "x.jsonl", tmp_path / "x.jsonl.zst"
    plain.write_bytes((RECORDS / "demo.jsonl").read_bytes())
    compact(plain, packed)
    before = packed.read_bytes()
    monkeypatch.setattr(judging, "_judged", lambda *_: [judged(b"{}\n")])
    assert judge(packed, check=True) == 1
    with pytest.raises(UsageError, match="unpack it, or use --check"):
        judge(packed)
    assert packed.read_bytes() == before
