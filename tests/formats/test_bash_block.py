"""Records of the bash-block agent in every format: the whole conversation, whatever schema they were written in."""

from __future__ import annotations

import gzip
import json
import zipfile

import msgspec
import pytest

from agenttrace.errors import DataError
from agenttrace.formats import FORMATS, atif, mini_swe, otlp, session_trace, sharegpt
from agenttrace.formats.conversation import messages
from agenttrace.formats.convert import convert, read
from agenttrace.formats.reading import to_trace
from agenttrace.records import Trace
from agenttrace.validate import Validation
from tests.formats.hostile import OLD
from tests.validate.test_bash_block import FORMAT, KEPT, LINES, SPEC, SUBMITTED, as_collected


@pytest.fixture(params=["1.0.0", "today", "gzip", "compacted"])
def run(request, tmp_path):
    """A record file with the run spec beside it."""
    if request.param == "1.0.0":
        return OLD
    if request.param == "compacted":
        return KEPT / "rollouts-compacted.jsonl.zst"
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(as_collected(line)) + "\n" for line in LINES), encoding="utf-8")
    path.with_suffix(".run.json").write_bytes(msgspec.json.encode(SPEC))
    if request.param == "gzip":
        packed = path.with_name("run.jsonl.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        return packed
    return path


def records():
    return list(read(OLD))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_every_record(run, tmp_path, name):
    suffix = "" if FORMATS[name].layout == "files" else FORMATS[name].suffix
    counts = convert([run], name, tmp_path / f"o{suffix}")
    generations = sum(len(record.trace.llm_steps) for record in read(run))
    assert next(iter(counts.values())) in ({generations} if name == "mooncake" else {6, 10})


def test_the_conversation_is_what_the_model_read_and_wrote():
    for record, line in zip(records(), LINES, strict=True):
        rollout = json.loads(line)
        expected = [record.spec.agent.system_template, rollout["prompt"]]
        for turn in rollout["turns"]:
            expected += [text for text in (turn["content"], turn["observation"]) if text is not None]
        assert [message.content for message in messages(record.trace, record.spec)] == expected
    roles = [message.role for message in messages(*records()[FORMAT][:2])]
    assert roles == ["system", "user", "assistant", "tool", *["assistant", "user"] * 3]


@pytest.mark.parametrize("number", range(10))
def test_a_record_comes_back_from_atif_equal(number):
    trace, spec, _ = records()[number]
    assert to_trace(json.loads(json.dumps(atif.from_trace(trace, spec)))) == trace
    assert to_trace(json.loads(json.dumps(atif.from_trace(trace)))) == trace


@pytest.mark.parametrize("number", range(10))
def test_mini_swe_agent_has_the_messages_as_they_were_and_reads_them_back(number):
    trace, spec, _ = records()[number]
    value = json.loads(json.dumps(mini_swe.from_trace(trace, spec)))
    assert [(one["role"].replace("user", "tool"), one["content"]) for one in value["messages"]] == [
        (one.role.replace("user", "tool"), one.content) for one in messages(trace, spec)
    ]
    found = to_trace(value)
    assert [(step.model_output, step.blocks, step.answered) for step in found.llm_steps] == [
        (step.model_output, step.blocks, step.answered) for step in trace.llm_steps
    ]
    assert [(span.tool_input, span.tool_output) for span in found.spans] == [
        (span.tool_input, span.tool_output) for span in trace.spans
    ]
    assert json.loads(json.dumps(mini_swe.from_trace(found))) == value


def texts(record):
    """Everything that a reader of the conversation must find."""
    return [message.content for message in messages(record.trace, record.spec) if message.content]


def test_no_text_is_missing_from_any_format_of_messages(tmp_path):
    for number in (SUBMITTED, FORMAT):
        record = records()[number]
        for module in (otlp, session_trace):
            written = json.dumps(module.from_trace(*record)).replace("\\\\", "\\")
            assert all(json.dumps(text)[1:-1] in written for text in texts(record)), module
    convert([OLD], "inspect", tmp_path / "o.eval")
    with zipfile.ZipFile(tmp_path / "o.eval") as archive:
        sample = json.loads(archive.read(f"samples/{FORMAT + 1}_epoch_1.json"))
    assert [message["content"] for message in sample["messages"]] == texts(records()[FORMAT])
    assert [event["event"] for event in sample["events"]] == ["model", "tool", "model", "model", "model"]


def test_sharegpt_has_blocks_and_observations_as_plain_turns():
    trace, spec, _ = record = records()[FORMAT]
    said = sharegpt.from_trace(trace, spec)["conversations"]
    assert [turn["from"] for turn in said] == ["system", *["human", "gpt"] * 4]
    assert [turn["value"] for turn in said] == texts(record)[:-1]


def test_a_row_of_the_old_schema_is_told_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(LINES[0] + LINES[1].replace(b'"turns":[', b'"turns":[7,'))
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2: .*turns\[0\]"):
        convert([path], "agenttrace-1.0", tmp_path / "o.jsonl")
    (tmp_path / "good.jsonl").write_bytes(b"".join(LINES))
    assert convert([tmp_path / "good.jsonl"], "agenttrace-1.0", tmp_path / "o.jsonl") == {"o.jsonl": 10}
    assert all(isinstance(record.trace, Trace) for record in read(tmp_path / "o.jsonl"))


def test_what_a_rollout_file_becomes_is_a_record_of_this_version_and_validates(tmp_path):
    path = tmp_path / "o.jsonl"
    convert([OLD], "agenttrace-1.0", path)
    validation = Validation(path)
    assert list(validation) == []
    assert any("10 records were read from another format" in note for note in validation.notes)
    again = tmp_path / "again.jsonl"
    convert([path], "agenttrace-1.0", again)
    assert again.read_bytes() == path.read_bytes()
