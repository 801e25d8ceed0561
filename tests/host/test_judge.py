"""`judge` looks at a whole file before it asks for a sandbox."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import msgspec
import pytest

from agenttrace.errors import DataError
from agenttrace.host import judge as judging
from agenttrace.records import Outcome, Trace


def test_a_damaged_line_is_named_before_anything_starts(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("no sandbox is needed to read a file")

    class Spec:
        class dataset:  # noqa: N801 - as the run spec has it
            name = "demo"
            sha256 = judging.task_set("demo").spec().sha256

    monkeypatch.setattr(judging, "sandbox_project", never)
    monkeypatch.setattr(judging, "read_run_spec", lambda _: Spec)
    good = Trace(
        trace_id="t", timestamp_utc="now", prompt="p", model="m", spans=(), llm_steps=(), total_duration_ms=1.0,
        metadata={"task_id": 0}, environment={}, outcome=Outcome(ended="max_steps"),
    )  # fmt: skip
    file = tmp_path / "x.jsonl"
    file.write_bytes(msgspec.json.encode(good) + b"\n" + b"{}\n")
    before = hashlib.sha256(file.read_bytes()).digest()
    for check in (True, False):
        with pytest.raises(DataError, match=r"x\.jsonl, line 2: not a trace record"):
            judging.judge(file, check=check)
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_a_link_to_the_file_stays_one(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there/x.jsonl", tmp_path / "x.jsonl"
    real.write_bytes(b'{"trace_id":"t"}\n')
    link.symlink_to("there/x.jsonl")
    judged = SimpleNamespace(differs=True, line=b'{"trace_id":"t","new":1}\n')
    monkeypatch.setattr(judging, "_judged", lambda file: [judged] if file == real.resolve() else [])
    assert judging.judge(link) == 0
    assert real.read_bytes() == judged.line
    assert link.is_symlink()


def test_a_torn_line_that_is_cut_off_is_told(tmp_path, monkeypatch, capsys):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"trace_id":"t"}\n{"tra')
    monkeypatch.setattr(judging, "_judged", lambda _: [])
    judging.judge(file)
    assert "cut off a torn last line of 5 bytes" in capsys.readouterr().err
