"""Sessions in the reader that the Hub itself uses: `datasets` by way of `teich`, offline."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("teich", reason="scripts/nox -s formats-check installs datasets and teich")

from agenttrace.formats.conversation import messages
from agenttrace.formats.convert import convert, read
from tests.formats.hostile import OLD

SAMPLES = Path(__file__).parents[2] / "data" / "foreign"
RELEASE = Path(__file__).parents[3] / "datasets" / "agenttrace-demo"


@pytest.fixture
def load(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    return lambda *names, **more: datasets.load_dataset(
        *map(str, names), split="train", cache_dir=str(tmp_path / "cache"), **more
    )


def plain(message):
    """A message as teich leaves it: texts without blanks around them."""
    return {key: one.strip() if isinstance(one, str) else one for key, one in message.items()}


def test_every_message_call_and_thought_of_the_release_is_there(load, tmp_path):
    records = RELEASE / "records" / "agenttrace-demo.jsonl"
    convert([records], "session-traces", tmp_path / "o")
    rows = load("json", data_files=sorted(map(str, (tmp_path / "o").iterdir())))
    assert len(rows) == 32
    traces = {record.trace.trace_id: record for record in read(records)}
    for row in rows:
        trace = traces[row["session_id"]].trace
        said = messages(*traces[row["session_id"]][:2])
        assert [one["role"] for one in row["messages"]] == [one.role for one in said]
        assert [one["content"] for one in row["messages"]] == [one.content.strip() for one in said]
        thoughts = [one.get("reasoning_content") for one in row["messages"] if one["role"] == "assistant"]
        assert thoughts == [(step.reasoning_content or "").strip() or None for step in trace.llm_steps]
        calls = [call for one in row["messages"] for call in one.get("tool_calls") or ()]
        assert len(calls) == row["num_tool_calls"] == sum(len(step.tool_calls or ()) for step in trace.llm_steps)
        assert (row["prompt"], row["sent_at"]) == (trace.prompt, trace.timestamp_utc)
        assert row["metadata"]["model"] == trace.model
        assert {tool["function"]["name"] for tool in row["tools"]} >= {"bash", "python_interpreter", "final_answer"}


@pytest.mark.parametrize("name", ["pi", "claude-code", "codex"])
def test_rows_that_datasets_makes_of_sessions_of_others_are_read_as_those(name, load, tmp_path):
    rows = load("json", data_files=str(SAMPLES / f"{name}.jsonl"))
    rows.to_json(tmp_path / "a.jsonl")
    rows.to_parquet(tmp_path / "a.parquet")
    (session, *_) = (record.trace for record in read(SAMPLES / f"{name}.jsonl"))
    for path in (tmp_path / "a.jsonl", tmp_path / "a.parquet"):
        ((found, _, _),) = read(path)
        assert (found.prompt, found.model, found.outcome) == (session.prompt, session.model, session.outcome)
        assert [step.tool_calls for step in found.llm_steps] == [step.tool_calls for step in session.llm_steps]
        assert [span.tool_output for span in found.spans] == [span.tool_output for span in session.spans]


def test_hostile_sessions_and_those_of_the_other_agent_load(load, records, tmp_path):
    convert([records, OLD], "session-traces", tmp_path / "o")
    rows = load("json", data_files=sorted(map(str, (tmp_path / "o").iterdir())))
    assert len(rows) == 15
    (odd,) = (row for row in rows if row["session_id"] == "hostile-1")
    assert [one["role"] for one in odd["messages"]].count("tool") == 9


def test_the_released_folder_has_them_as_a_configuration_and_as_files(load):
    rows, files = load(RELEASE, "sessions"), load(RELEASE, data_dir="sessions")
    assert len(rows) == len(files) == 32
    theirs = {row["session_id"]: row for row in files}
    for row in rows:
        other = theirs[row["session_id"]]
        assert [plain(one) for one in row["messages"]] == other["messages"]
        for name in ("prompt", "sent_at", "num_user_messages", "num_tool_calls", "trace"):
            assert row[name] == other[name], name
        assert {tool["function"]["name"] for tool in row["tools"]} == {"bash", "python_interpreter", "final_answer"}
    assert (set(rows.features), rows.features["messages"]) == (set(files.features), files.features["messages"])
