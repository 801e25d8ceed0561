"""The published forms have the schema of the published sets to the letter, and lose nothing that ours holds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from agenttrace.errors import DataError, UsageError
from agenttrace.formats import FORMATS, Sourced
from agenttrace.formats.convert import convert
from agenttrace.formats.folders import files
from agenttrace.formats.reading import traces
from agenttrace.publish.card import card
from agenttrace.publish.contents import Contents
from agenttrace.publish.folder import PublishSettings, publish
from agenttrace.publish.forms import FORMS
from agenttrace.store.compact import compact
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from tests.formats.hostile import OLD
from tests.validate.test_bash_block import SPEC, as_collected

CHAT = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
# As the cards state them: written here by hand, not taken from the code under test.
SCHEMAS = {
    "1k-32k": pa.schema(
        [
            ("instance_id", pa.string()), ("messages", CHAT), ("repo", pa.string()), ("exit_status", pa.string()),
            ("exit_status_detail", pa.string()), ("n_turns", pa.int64()), ("n_messages", pa.int64()),
            ("prompt_tokens", pa.int64()), ("completion_tokens", pa.int64()), ("duration_sec", pa.float64()),
        ]
    ),
    "12m": pa.schema(
        [
            ("instance_id", pa.string()), ("repo", pa.string()), ("messages", CHAT), ("trajectory_format", pa.string()),
            ("exit_status", pa.string()), ("duration_sec", pa.float64()),
        ]
    ),
}  # fmt: skip
OPEN = """
import sys
from datasets import load_dataset
folder, rows = sys.argv[1], int(sys.argv[2])
first = load_dataset(folder, split="train")
assert first.num_rows == rows, first
own = load_dataset(folder, "rollouts", split="train")
assert own.num_rows == rows, own
mini = load_dataset(folder, "mini-swe-agent", split="train")
assert [one["role"] for one in mini[0]["messages"]][:3] == ["system", "user", "assistant"]
assert (mini[0]["messages"][-1]["role"], mini[0]["trajectory_format"]) == ("exit", "mini-swe-agent-1.1")
sessions = load_dataset(folder, "sessions", split="train")
assert [len(row["messages"]) > 2 for row in sessions] == [True] * len(mini)
assert own["trace_id"][0] and own[0]["spans"][0]["tool_input"]
print(sorted(first.features))
"""


@pytest.fixture(params=["1.0.0", "today"])
def run(request, tmp_path):
    """A run of the bash-block agent, in the record of either schema."""
    path = tmp_path / "run.jsonl"
    lines = OLD.read_bytes().splitlines(keepends=True)
    if request.param == "1.0.0":
        shutil.copy(OLD, path)
        shutil.copy(run_spec_path(OLD), run_spec_path(path))
    else:
        path.write_text("".join(json.dumps(as_collected(line)) + "\n" for line in lines), encoding="utf-8")
        run_spec_path(path).write_bytes(msgspec.json.encode(SPEC))
    return path


def tables(folder):
    paths = sorted(folder.glob("*.parquet"))
    return paths, [pq.read_table(path) for path in paths]


def check_row(row, form):
    """The rules of the published sets, row by row."""
    roles = [message["role"] for message in row["messages"]]
    assert all(value is not None for value in row.values())
    assert roles[:2] == ["system", "user"]
    assert roles[2:] == ["assistant", "user"] * ((len(roles) - 2) // 2) + ["assistant"] * (len(roles) % 2)
    assert row["exit_status"] in {"Submitted", "incomplete"}
    turns = roles.count("assistant")
    assert len(roles) == 2 * turns + (1 if row["exit_status"] == "Submitted" else 2)
    assert row["duration_sec"] > 0
    if form == "12m":
        assert row["trajectory_format"] == "mini-swe-agent-1"
    else:
        assert (row["n_turns"], row["n_messages"]) == (turns, len(roles))
        assert row["prompt_tokens"] > 0
        assert row["completion_tokens"] == 20 * turns
        assert 0 < len(row["exit_status_detail"]) <= 200


@pytest.mark.parametrize("form", ["1k-32k", "12m"])
def test_a_strict_reader_accepts_every_row(run, tmp_path, form):
    made = publish([run], tmp_path / "out", PublishSettings(form=form, rows_per_shard=4))
    assert made == {"data": 10, "rollouts": 10, "trajectories": 10, "sessions": 10}
    paths, found = tables(tmp_path / "out" / "data")
    assert [path.name for path in paths] == [f"train-{number:05}-of-00003.parquet" for number in range(3)]
    assert [table.num_rows for table in found] == [4, 4, 2]
    for path, table in zip(paths, found, strict=True):
        assert table.schema.equals(SCHEMAS[form])
        assert {"ZSTD"} == {pq.ParquetFile(path).metadata.row_group(0).column(at).compression for at in range(2)}
        for row in table.to_pylist():
            check_row(row, form)
    rows = [row for table in found for row in table.to_pylist()]
    for row, line in zip(rows, OLD.read_bytes().splitlines(), strict=True):
        rollout = json.loads(line)
        turns = rollout["turns"]
        assert (row["instance_id"], row["repo"]) == (rollout["instance_id"], rollout["repo"])
        assert row["messages"][0]["content"] == read_run_spec(run_spec_path(OLD)).agent.system_template
        assert row["messages"][1]["content"] == rollout["prompt"]
        said = [m["content"] for m in row["messages"][2:]]
        heard = [text for turn in turns for text in (turn["content"], turn["observation"]) if text is not None]
        assert said == (heard[:-1] if rollout["stop"] == "submitted" else heard)
        if form == "1k-32k":
            detail = {"submitted": "submitted"}.get(rollout["stop"], f"{rollout['stop']}: {rollout['detail']}")
            assert row["exit_status_detail"] == detail
            assert row["prompt_tokens"] == sum(turn["input_tokens"] for turn in turns)
            assert row["duration_sec"] == (rollout["prepare_ms"] + rollout["duration_ms"]) / 1000


@pytest.mark.parametrize("form", ["1k-32k", "12m"])
def test_the_published_forms_are_formats_and_give_the_same_rows(run, tmp_path, form):
    publish([run], tmp_path / "out", PublishSettings(form=form))
    assert convert([run], f"swe-zero-{form}", tmp_path / "o.parquet") == {"o.parquet": 10}
    assert pq.read_table(tmp_path / "o.parquet").equals(tables(tmp_path / "out" / "data")[1][0])


def test_every_form_is_made_of_formats_and_takes_these_records(run, tmp_path):
    for name, form in FORMS.items():
        assert {part.format for part in form.parts} <= set(FORMATS)
        assert set(publish([run], tmp_path / name, PublishSettings(form=name)).values()) <= {10, 38, 44}
    assert publish([run], tmp_path / "default") == publish([run], tmp_path / "again", PublishSettings(form="1k-32k"))


@pytest.mark.parametrize("form", sorted(FORMS))
def test_each_record_of_a_published_folder_counts_once(run, tmp_path, form):
    publish([run], tmp_path / "out", PublishSettings(form=form))
    left_out = []
    found = [trace.trace_id for file in files([tmp_path / "out"], left_out.append) for _, trace in traces(file)]
    assert sorted(found) == sorted(trace.trace_id for trace in read_traces(run))
    assert left_out == []


@pytest.mark.parametrize("form", FORMS)
def test_each_record_of_a_part_of_a_published_folder_counts_once_and_the_rest_is_named(run, tmp_path, form):
    publish([run], tmp_path / "out", PublishSettings(form=form))
    for beside in ("records", "schema"):
        shutil.rmtree(tmp_path / "out" / beside, ignore_errors=True)
    again = True
    while again:
        left_out = []
        found = files([tmp_path / "out"], left_out.append)
        assert sum(1 for file in found for _ in traces(file)) == len(list(read_traces(run)))
        again = [line for line in left_out if ": the same traces as in " in line]
        shutil.rmtree(found[0].parent)  # what is left is read in its stead


def test_a_record_that_a_form_has_no_place_for_is_named_with_the_reason(run, tmp_path):
    (tmp_path / "alone.jsonl").write_bytes(run.read_bytes())
    with pytest.raises(DataError, match=r"alone\.jsonl, trace '[0-9a-f-]+' cannot be written: its system prompt"):
        convert([tmp_path / "alone.jsonl"], "swe-zero-12m", tmp_path / "o.parquet")
    with pytest.raises(UsageError, match="a run spec lies beside its records"):
        publish([tmp_path / "alone.jsonl"], tmp_path / "out", PublishSettings(form="12m"))
    demo = OLD.parents[1] / "demo.jsonl"
    with pytest.raises(DataError, match=r"demo\.jsonl, trace '[0-9a-f-]+' cannot be .*: its calls are not bash blocks"):
        convert([demo], "swe-zero-1k-32k", tmp_path / "o.parquet")
    assert not (tmp_path / "o.parquet").exists()


def in_full(value):
    """A record as JSON values, with null where it leaves something out, as a row has it."""
    if isinstance(value, msgspec.Struct):
        fields = {name: in_full(getattr(value, name)) for name in value.__struct_fields__}
        return {name: None if inner is msgspec.UNSET else inner for name, inner in fields.items()}
    return [in_full(one) for one in value] if isinstance(value, tuple) else value


def of_a_row(row):
    """A row with the objects that it has as text."""
    for inner, name in ((row, "metadata"), (row, "environment"), (row["outcome"], "scores")):
        inner[name] = json.loads(inner.pop(f"{name}_json"))
    return row


def test_our_rows_hold_every_field_of_the_records(run, tmp_path):
    publish([run], tmp_path / "out", PublishSettings(form="own", rows_per_shard=4))
    assert not (tmp_path / "out" / "data").exists()
    _, found = tables(tmp_path / "out" / "rollouts")
    there = [of_a_row(row) for table in found for row in table.to_pylist()]
    assert there == [in_full(trace) for trace in read_traces(run)]


def test_our_rows_hold_every_field_of_records_of_the_tool_calling_agent(rows, record_file, tmp_path):
    path = record_file(rows)
    publish([path], tmp_path / "out", PublishSettings(form="own"))
    _, (found,) = tables(tmp_path / "out" / "rollouts")
    assert [of_a_row(row) for row in found.to_pylist()] == [in_full(trace) for trace in read_traces(path)]


@pytest.mark.slow
def test_datasets_opens_every_configuration_offline(run, tmp_path):
    publish([run], tmp_path / "out", PublishSettings(rows_per_shard=4))
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", OPEN, str(tmp_path / "out"), "10"]
    ended = subprocess.run(command, capture_output=True, text=True, env=env)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.strip() == str(sorted(SCHEMAS["1k-32k"].names))


def test_the_card_tells_what_was_executed_and_what_submitted_means(run, tmp_path):
    publish([run], tmp_path / "out", PublishSettings(title="Ours: *all*"))
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---")[1])
    assert (header["pretty_name"], header["license"]) == ("Ours: *all*", "apache-2.0")
    assert header["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in header["configs"]] == [
        "default", "rollouts", "mini-swe-agent", "sessions"
    ]  # fmt: skip
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    flat = " ".join(text.split())
    for said in (
        "**The shell commands were really executed**", "It does not mean that the change is correct",
        "Only the execution of code was impossible", "are no result", "8 turns, 1024 tokens a turn, 32768 in all",
        "temperature 1.0, top_p 1.0", "policy `execution_free`", f"image sandbox | `{'5' * 64}`", "format `swe-zero`",
        "hidden tests | not shown", "| final_answer | 4 (40.0 %) |", "| `n_messages` | `int64` |",
    ):  # fmt: skip
        assert said in flat
    for kind in ("trace", "run-spec"):
        assert msgspec.json.decode((tmp_path / "out" / "schema" / f"{kind}-1.2.0.json").read_bytes())["$defs"]
    assert (tmp_path / "out" / "run.run.json").read_bytes() == run_spec_path(run).read_bytes()
    ended = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=False)
    assert ended.returncode == 0


def test_the_card_claims_weights_only_where_they_were_verified():
    for engine, claimed in (("external", False), ("llama.cpp", True)):
        spec = msgspec.structs.replace(SPEC, serving=msgspec.structs.replace(SPEC.serving, engine=engine))
        contents = Contents("t", "mit")
        contents.counted(Sourced(next(read_traces(OLD)), spec, "run.jsonl"))
        text = card(contents, [], records=False)
        assert (f"SHA-256 `{'1' * 64}`" in text) is claimed
        assert ("was not verified" in text) is not claimed


def test_the_same_rollouts_give_the_same_bytes_compacted_or_not(run, tmp_path):
    compacted = tmp_path / "run.jsonl.zst"
    compact(run, compacted)
    publish([run], tmp_path / "one")
    publish([compacted], tmp_path / "other")
    assert (tmp_path / "one" / "SHA256SUMS").read_bytes() == (tmp_path / "other" / "SHA256SUMS").read_bytes()


def test_trajectory_files_are_those_of_mini_swe_agent(run, tmp_path):
    assert convert([run], "mini-swe-agent", tmp_path / "out") == {"out": 10}
    paths = sorted((tmp_path / "out").glob("*.traj.json"))
    assert len(paths) == 10
    first = msgspec.json.decode((tmp_path / "out" / f"{next(read_traces(run)).trace_id}.traj.json").read_bytes())
    assert first["trajectory_format"] == "mini-swe-agent-1"
    assert first["info"]["exit_status"] == "Submitted"
    assert first["info"]["submission"].startswith("diff --git")
    assert first["info"]["model_stats"]["api_calls"] == sum(m["role"] == "assistant" for m in first["messages"])
    assert [m["role"] for m in first["messages"][:3]] == ["system", "user", "assistant"]
    assert first["info"]["config"]["agent"]["step_limit"] == SPEC.agent.max_turns
    assert first["messages"][3]["extra"]["agenttrace"]["calls"][0]["telemetry"]["method"]
    assert first["info"]["agenttrace"]["outcome"]["ended"] == "final_answer"


def test_nothing_is_written_when_a_record_is_not_fit(run, tmp_path):
    lines = run.read_bytes().splitlines(keepends=True)
    for content, message in (
        ([*lines, lines[0]], "stands in line 1 already"),
        ([*lines, b'{"rollout_id": 1}\n'], "line 11: schema"),
        ([*lines[:9], re.sub(rb'("model": ?")', rb"\1other-", lines[9], count=1)], "line 10: plan: model: is 'other-"),
        ([lines[0].replace(b"THOUGHT: look", b"hf_" + b"aB3dE" * 7)], r"line 1: leak: .*: Hugging Face token"),
    ):
        run.write_bytes(b"".join(content))
        with pytest.raises(DataError, match=message):
            publish([run], tmp_path / "out", PublishSettings(rows_per_shard=10))
        assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
    run.write_bytes(b"")
    with pytest.raises(UsageError, match="no record"):
        publish([run], tmp_path / "out")
    run.write_bytes(b"".join(lines))
    with pytest.raises(UsageError, match="--rows-per-shard 0"):
        publish([run], tmp_path / "out", PublishSettings(rows_per_shard=0))


def test_a_record_that_two_files_have_is_refused(run, tmp_path):
    for path in (run, run_spec_path(run)):
        shutil.copy(path, path.with_name(path.name.replace("run.", "more.", 1)))
    with pytest.raises(DataError, match=r"more\.jsonl: trace .* is there twice"):
        publish([run, tmp_path / "more.jsonl"], tmp_path / "out")


def test_what_looks_private_is_published_only_when_that_is_asked_for(run, tmp_path):
    lines = run.read_bytes().splitlines(keepends=True)
    run.write_bytes(lines[0].replace(b"THOUGHT: look", b"hf_" + b"aB3dE" * 7))
    with pytest.raises(DataError, match="--keep-findings publishes"):
        publish([run], tmp_path / "out")
    assert publish([run], tmp_path / "out", PublishSettings(leaks="keep"))["data"] == 1
    assert "search for host paths" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_attempts_that_the_infrastructure_spoilt_are_not_published(run, tmp_path):
    lines = run.read_bytes().splitlines(keepends=True)
    spoilt = (
        lines[0]
        .replace(b'"stop":"submitted"', b'"stop":"error"')
        .replace(b'"ended": "final_answer"', b'"ended": "sandbox_error"')
    )
    assert spoilt != lines[0]
    run.write_bytes(b"".join([spoilt, *lines[1:]]))
    with pytest.raises(DataError, match=r"line 1: .*failures\.jsonl"):
        publish([run], tmp_path / "out")


def test_records_of_both_agents_come_as_tables_whichever_is_named_first(tmp_path, rows, record_file):
    ours = record_file(rows)
    for number, paths in enumerate(([OLD, ours], [ours, OLD])):
        assert "data/runs" in publish(paths, tmp_path / f"p{number}")
