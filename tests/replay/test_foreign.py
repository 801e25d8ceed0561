"""Rows of AgentTrace 0.3.0: their calls are carried out again and compared."""

from __future__ import annotations

import json

import pytest
from agenttrace.replay import foreign
from rich.console import Console

from agenttrace.errors import DataError


def span(tool, argument, value, output, exit_code=0):
    return {
        "span_id": "s", "type": "TOOL", "tool_name": tool, "tool_input": f"kwargs={({argument: value})!r}",
        "tool_output": output, "exit_code": exit_code, "parent_span_id": None,
    }  # fmt: skip


def row(*spans, dataset="demo", number=1):
    metadata = {"schema_version": "0.3.0", "dataset_name": dataset, "task_id": number}
    return {
        "trace_id": f"t{number}", "timestamp_utc": "t", "prompt": "p", "model": "m", "spans": list(spans),
        "llm_steps": [], "metadata": metadata,
    }  # fmt: skip


def blocked(text):
    return f"exit_code: -1\nstderr:\nCommand blocked: {text}"


CASES = [
    (span("bash", "command", "echo a; echo b", "exit_code: 0\nstdout:\na\nb"), "identical", None),
    (span("bash", "command", "echo a", "exit_code: 0\nstdout: a\n"), "same output", None),
    (span("bash", "command", "cat ../x", blocked("matches"), -1), "differs", "refused there by the command filter"),
    (span("bash", "command", "date", "exit_code: 0\nstdout:\nMon"), "differs",
     "the command observes clock, host or processes"),
    (span("bash", "command", "head -3 x --y", "exit_code: 1\nstderr:\nhead: illegal option -- -", 1), "differs",
     "another system's commands"),
    (span("bash", "command", "echo b", "exit_code: 0\nstdout:\na"), "differs", "another output"),
    (span("bash", "command", "false", "exit_code: 0"), "differs", "another exit status"),
    (span("python_interpreter", "code", "import os", "Error: Import not allowed", 1), "differs",
     "refused there by the restricted interpreter"),
    (span("final_answer", "answer", "7", "7"), "identical", None),
    (span("web_search", "query", "7", "7"), "not comparable", "no such tool"),
    ({**span("bash", "command", "x", ""), "tool_input": "kwargs={'command': __import__('os')}"}, "not comparable",
     "the input cannot be read"),
]  # fmt: skip


def test_every_call_is_compared_and_the_cause_is_named(tmp_path, make_sandbox):
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps(row(*(case[0] for case in CASES))) + "\n")
    assert foreign.is_foreign(path)
    calls = foreign.replay(path, make_sandbox().connect, workers=1)
    assert [(call.agreement, call.cause) for call in calls] == [case[1:] for case in CASES]
    out = Console(record=True, width=120)
    foreign.show(calls, out)
    assert "3 of 11 calls agree" in out.export_text()


def test_each_trace_starts_on_a_fresh_tree(tmp_path, make_sandbox):
    touch = span("bash", "command", "ls new 2>/dev/null; touch new", "exit_code: 0")
    path = tmp_path / "old.jsonl"
    path.write_text("".join(json.dumps(row(touch, number=number)) + "\n" for number in (1, 2)))
    assert [call.agreement for call in foreign.replay(path, make_sandbox().connect, workers=1)] == ["identical"] * 2


def test_records_of_ours_are_not_foreign(recorded):
    assert not foreign.is_foreign(recorded)


@pytest.mark.parametrize("line", ["{}", "[", json.dumps(row(dataset="other")), "\udcff"])
def test_a_line_that_is_no_such_row_is_named(tmp_path, line):
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps(row()) + "\n" + line + "\n", errors="surrogateescape")
    with pytest.raises(DataError, match="line 2"):
        list(foreign._rows(path))


def test_the_name_of_a_tool_cannot_drive_the_terminal():
    evil = "\x1b]0;P\x07[bold]x[/]"
    call = foreign.Call(
        trace_id="t", span=1, tool=evil, agreement="not comparable", cause="no such tool", recorded="", found=""
    )
    out = Console(record=True, width=120)
    foreign.show([call], out)
    shown = out.export_text()
    assert "\x1b" not in shown
    assert r"\x1b]0;P\x07[bold]x[/]" in shown
