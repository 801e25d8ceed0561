"""Somebody who makes every list of digests fit cannot add a file, or replies that are not those of the records."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from agenttrace.errors import UsageError
from agenttrace.publish.release import release, verify
from agenttrace.serving.cassette import Cassette, CassetteLog, cassette_path
from agenttrace.store.ids import IdIndex
from agenttrace.store.read import run_spec_path
from tests.publish.test_release import (  # noqa: F401 - fixtures
    campaign,
    folder,
    made,
    plan,
    refitted,
    refused,
    rollouts,
    with_cassette,
)  # fmt: skip
from tests.publish.test_signature import Pair
from tests.validate.test_bash_block import LINES, SPEC, as_collected

DEMO = Path(__file__).parents[2] / "datasets" / "agenttrace-demo" / "records" / "agenttrace-demo.jsonl"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("records/evil.py", "belongs to no record file"),
        ("records/demo.jsonl.gz", "belongs to no record file"),
        ("records/more/demo.run.json", "belongs to no record file"),
        ("verdicts/other.jsonl", "belongs to no record file"),
        ("records-of-another.parquet", "is not what the records give"),
        ("verdicts2/other.jsonl", "is not what the records give"),
    ],
)
def test_a_file_that_every_list_has_is_refused_where_the_records_do_not_give_it(folder, name, told):  # noqa: F811
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    refitted(folder)
    assert f"{name}: {told}" in list(verify(folder))


def changed(turn, **result):
    return msgspec.structs.replace(turn, result={**turn.result, **result})


def rerecorded(path, change):
    """Write the cassette of a record file anew, each turn changed; all digests in it fit."""
    tape = Cassette(cassette_path(path))
    turns = {name: [change(turn) for turn in tape.turns(name)] for name in tape.trace_ids}
    cassette_path(path).unlink()
    with CassetteLog(cassette_path(path), run_spec_sha256=tape.run_spec_sha256, recorded=IdIndex()) as log:
        for name, said in turns.items():
            log.append(name, said)


@pytest.fixture
def demo(tmp_path):
    for path in (DEMO, run_spec_path(DEMO), cassette_path(DEMO)):
        shutil.copy(path, tmp_path)
    return tmp_path / DEMO.name


OTHER = [{"name": "bash", "arguments": '{"command": "true"}'}]


@pytest.mark.parametrize(
    "result",
    [
        {"tool_calls": OTHER}, {"tool_calls": []}, {"tool_calls": 7}, {"tool_calls": [7]}, {"tool_calls": [{}]},
        {"finish_reason": "length"}, {"input_tokens": 1}, {"output_tokens": None}, {"content": "more"},
    ],
    ids=str,
)  # fmt: skip
def test_replies_that_propose_or_say_something_else_than_the_record_are_refused(demo, tmp_path, result):
    rerecorded(demo, changed)
    release([demo], tmp_path / "same")
    rerecorded(demo, lambda turn: changed(turn, **result))
    refused(demo, tmp_path, "the replies of trace .* are not those of its record")


def test_a_reply_that_was_unparsable_has_no_text_in_the_record(demo, tmp_path):
    kept = demo.read_text().splitlines(keepends=True)
    row = json.loads(kept[0])
    row["llm_steps"][0]["finish_reason"] = "unparsable"
    demo.write_text("".join([json.dumps(row) + "\n", *kept[1:]]))
    of_the_first = f"the replies of trace {row['trace_id']} are not those of its record"
    refused(demo, tmp_path, of_the_first)
    rerecorded(demo, lambda turn: turn if turn.messages[2:] else unparsable(turn))
    refused(demo, tmp_path, of_the_first)


def unparsable(turn):
    return msgspec.structs.replace(turn, kind="unparsable", result="HTTP 500: Failed to parse")


def test_calls_beside_the_blocks_of_a_bash_block_agent_are_those_that_it_ignored(rollouts, tmp_path):  # noqa: F811
    rows = [as_collected(line) for line in LINES]
    with_cassette(rollouts, rows, SPEC)
    rerecorded(rollouts, lambda turn: changed(turn, tool_calls=[]))
    release([rollouts], tmp_path / "same")
    rerecorded(rollouts, lambda turn: changed(turn, tool_calls=OTHER))
    refused(rollouts, tmp_path, "are not those of its record")


@pytest.mark.parametrize("end", [".jsonl.gz", ".ndjson"])
def test_a_record_file_that_its_release_could_not_be_checked_with_is_refused(demo, tmp_path, end):
    named = demo.with_name(f"packed{end}")
    named.write_bytes(gzip.compress(demo.read_bytes()) if end.endswith(".gz") else demo.read_bytes())
    with pytest.raises(UsageError, match=r"packed\.\S+: a release holds record files as they were collected"):
        release([named], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_compared_is_named_before_it_is_signed_or_packed(folder, tmp_path, agenttrace):  # noqa: F811
    (folder / "README.md").write_text("other")
    refitted(folder, agenttrace_version="0.0.9")
    Pair(tmp_path / "keys", "ed25519")
    told = "README.md: made by agenttrace 0.0.9"
    ended = agenttrace("release", "--sign", folder, "--key", tmp_path / "keys" / "ed25519.pem")
    assert (ended.returncode, told in ended.stdout, "signed by the key" in ended.stdout) == (0, True, True)
    ended = agenttrace("release", "--pack", folder, "-o", tmp_path / "one.zip")
    assert (ended.returncode, told in ended.stdout) == (0, True)
    assert ": not compared" in ended.stdout


def marked(row):
    row["environment"]["imported"] = {"format": "atif", "file": "x.json"}


def of_another_model(row):
    row["environment"]["imported"] = None
    row["metadata"]["model_sha256"] = "0" * 64


@pytest.mark.parametrize("change", [marked, of_another_model])
def test_records_that_say_that_they_are_of_another_format_escape_no_check(demo, tmp_path, change):
    rows = [json.loads(line) for line in demo.read_bytes().splitlines()]
    for row in rows:
        change(row)
    demo.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(demo, tmp_path, "32 records were read from another format: .*publish")


def test_records_of_an_agent_that_is_not_here_are_of_the_run_spec_beside_them(demo, tmp_path):
    beside = run_spec_path(demo)
    spec = json.loads(beside.read_bytes())
    spec["agent"] = {
        "kind": "other", "name": "elsewhere", "version": 1, "settings": {}, "tools": [], "max_steps": 1,
        "call_limit_ms": 1,
    }  # fmt: skip
    beside.write_text(json.dumps(spec))
    refused(demo, tmp_path, "32 records are of another run spec than the one beside them")


def test_what_could_not_be_checked_is_said(rollouts, tmp_path, agenttrace):  # noqa: F811
    with_cassette(rollouts, [as_collected(line) for line in LINES], SPEC)
    release([rollouts], tmp_path / "out")
    notes = []
    assert list(verify(tmp_path / "out", noted=notes.append)) == []
    (note,) = notes
    assert note.startswith("records/run.jsonl: the tasks of ")
    ended = agenttrace("release", "--verify", tmp_path / "out")
    assert (ended.returncode, f"note: {note}" in ended.stdout) == (0, True)
