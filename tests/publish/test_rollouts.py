"""The published forms have the schema of the published sets to the letter, and lose nothing that ours holds."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from agenttrace.rollouts.compact import compact

from agenttrace.analysis.rollouts.facts import facts
from agenttrace.analysis.rollouts.statistics import tally
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import rollout_rows
from agenttrace.publish.rollouts import Settings, publish
from agenttrace.publish.rollouts.card import Table, card
from agenttrace.rollouts import derived
from bench.synthetic import rollouts as synthetic

CORPUS = synthetic.Corpus(tasks=5, rollouts=5)
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
assert own["rollout_id"][0] and own[0]["turns"][0]["execution"]["command"]
print(sorted(first.features))
"""


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run.jsonl"
    synthetic.write(path, synthetic.spec(CORPUS), synthetic.rollouts(CORPUS))
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
    made = publish(run, tmp_path / "out", Settings(form=form, rows_per_shard=10))
    assert made == {"data": 25, "rollouts": 25}
    paths, found = tables(tmp_path / "out" / "data")
    assert [path.name for path in paths] == [f"train-{number:05}-of-00003.parquet" for number in range(3)]
    assert [table.num_rows for table in found] == [10, 10, 5]
    for path, table in zip(paths, found, strict=True):
        assert table.schema.equals(SCHEMAS[form])
        assert {"ZSTD"} == {pq.ParquetFile(path).metadata.row_group(0).column(at).compression for at in range(2)}
        for row in table.to_pylist():
            check_row(row, form)
    rows = [row for table in found for row in table.to_pylist()]
    for row, rollout in zip(rows, synthetic.rollouts(CORPUS), strict=True):
        assert row["instance_id"] == rollout.instance_id
        assert [m["content"] for m in row["messages"] if m["role"] == "assistant"] == [t.content for t in rollout.turns]


def test_our_rows_give_the_records_back(run, tmp_path):
    publish(run, tmp_path / "out", Settings(form="own", rows_per_shard=10))
    assert not (tmp_path / "out" / "data").exists()
    _, found = tables(tmp_path / "out" / "rollouts")
    back = [rollout_rows.rollout(row) for table in found for row in table.to_pylist()]
    assert back == list(synthetic.rollouts(CORPUS))
    with pytest.raises(DataError, match="not a row of rollouts"):
        rollout_rows.rollout({"metadata_json": "{"})


def test_datasets_opens_both_configurations_offline(run, tmp_path):
    publish(run, tmp_path / "out", Settings(rows_per_shard=10))
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", OPEN, str(tmp_path / "out"), "25"]
    ended = subprocess.run(command, capture_output=True, text=True, env=env)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.strip() == str(sorted(SCHEMAS["1k-32k"].names))


def test_the_card_tells_what_was_executed_and_what_submitted_means(run, tmp_path):
    publish(run, tmp_path / "out", Settings(title="Ours: *all*"))
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---")[1])
    assert (header["pretty_name"], header["license"]) == ("Ours: *all*", "apache-2.0")
    assert header["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in header["configs"]] == ["default", "rollouts"]
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    flat = " ".join(text.split())
    for said in (
        "**The shell commands were really executed**", "It does not mean that the change is correct",
        "Only the execution of code was impossible", "are no result", "30 turns, 1024 tokens a turn, 32768 in all",
        "temperature 1.0, top_p 1.0", "policy `execution_free`", f"image sandbox | `{'5' * 64}`", "format `swe-zero`",
        "hidden tests | not shown", "| submitted | 10 (40.0 %) |", "| `n_messages` | `int64` |",
    ):  # fmt: skip
        assert said in flat
    for kind in ("rollout", "rollout-spec"):
        assert msgspec.json.decode((tmp_path / "out" / "schema" / f"{kind}-1.0.0.json").read_bytes())["$defs"]
    ended = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=False)
    assert ended.returncode == 0


def test_the_card_claims_weights_only_where_they_were_verified():
    part = Table(name="trajectories", folder="trajectories", rows=25, bytes=1, size=1, columns={})
    ours = msgspec.structs.replace(synthetic.spec(CORPUS).serving, engine="llama.cpp")
    for serving, claimed in ((synthetic.spec(CORPUS).serving, False), (ours, True)):
        spec = msgspec.structs.replace(synthetic.spec(CORPUS), serving=serving)
        text = card(spec, "t", "mit", [part], tally(map(facts, synthetic.rollouts(CORPUS))).statistics())
        assert (f"SHA-256 `{'1' * 64}`" in text) is claimed
        assert ("was not verified" in text) is not claimed


def test_the_same_rollouts_give_the_same_bytes_compacted_or_not(run, tmp_path):
    compacted = tmp_path / "run.jsonl.zst"
    compact(run, compacted)
    publish(run, tmp_path / "one", Settings())
    publish(compacted, tmp_path / "other", Settings())
    assert (tmp_path / "one" / "SHA256SUMS").read_bytes() == (tmp_path / "other" / "SHA256SUMS").read_bytes()


def test_trajectory_files_are_those_of_mini_swe_agent(run, tmp_path):
    assert publish(run, tmp_path / "out", Settings(form="mini-swe-agent")) == {"trajectories": 25}
    folder = tmp_path / "out" / "trajectories"
    paths = sorted(folder.rglob("*.traj.json"))
    assert len(paths) == 25
    first = msgspec.json.decode((folder / "octo__repo-0" / "octo__repo-0__0.traj.json").read_bytes())
    assert first["trajectory_format"] == "mini-swe-agent-1"
    assert first["info"]["exit_status"] == "Submitted"
    assert first["info"]["submission"].startswith("diff --git")
    assert first["info"]["model_stats"]["api_calls"] == sum(m["role"] == "assistant" for m in first["messages"])
    assert [m["role"] for m in first["messages"][:3]] == ["system", "user", "assistant"]


def test_hostile_instance_ids_stay_in_the_folder(run, tmp_path):
    made = [
        msgspec.structs.replace(
            one, instance_id=name, rollout_id=derived.rollout_id(synthetic.spec(CORPUS), name, one.rollout_index)
        )
        for one, name in zip(synthetic.rollouts(CORPUS), ("../../up", "/etc/x", "a\0b", "..", "\u202e"), strict=False)
    ]
    synthetic.write(run, synthetic.spec(CORPUS), made)
    publish(run, tmp_path / "out", Settings(form="mini-swe-agent"))
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.traj.json")}
    assert names == {
        f"trajectories/{name}/{name}__{index}.traj.json"
        for index, name in enumerate(["up", "etc-x", "a-b", "task", "task"])
    }
    assert {path.name for path in tmp_path.iterdir()} == {"out", "run.jsonl", "run.run.json"}


def test_nothing_is_written_when_a_record_is_not_fit(run, tmp_path):
    lines = run.read_bytes().splitlines(keepends=True)
    for content, message in (
        ([*lines, lines[0]], "is there twice"),
        ([*lines, b'{"rollout_id": 1}\n'], "line 26: not a rollout"),
        ([*lines[:9], lines[9].replace(b'"model":"', b'"model":"other-')], "is not of the run spec beside the file"),
        ([lines[0].replace(b"THOUGHT: look", b"hf_" + b"aB3dE" * 7)], r"turns\[\d\].content: Hugging Face token"),
    ):
        run.write_bytes(b"".join(content))
        with pytest.raises(DataError, match=message):
            publish(run, tmp_path / "out", Settings(rows_per_shard=10))
        assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
    run.write_bytes(b"")
    with pytest.raises(UsageError, match="no rollout"):
        publish(run, tmp_path / "out", Settings())
    with pytest.raises(UsageError, match="--rows-per-shard 0"):
        publish(run, tmp_path / "out", Settings(rows_per_shard=0))


def test_what_looks_private_is_published_only_when_that_is_asked_for(run, tmp_path):
    lines = run.read_bytes().splitlines(keepends=True)
    run.write_bytes(lines[0].replace(b"THOUGHT: look", b"hf_" + b"aB3dE" * 7))
    assert publish(run, tmp_path / "out", Settings(leaks="keep"))["data"] == 1


def test_rollouts_that_the_infrastructure_spoilt_do_not_count(run, tmp_path):
    made = [msgspec.structs.replace(one, stop="error") for one in synthetic.rollouts(CORPUS)][:3]
    synthetic.write(run, synthetic.spec(CORPUS), [*made, *list(synthetic.rollouts(CORPUS))[3:]])
    assert publish(run, tmp_path / "out", Settings())["data"] == 22
