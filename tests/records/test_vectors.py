"""The test vectors of the specification pages: what the kit makes of each, and what plain Python makes of it."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

import msgspec
import pytest
import zstandard

from agenttrace.campaign.plan import request_seed
from agenttrace.campaign.replay.rows import metadata_digest
from agenttrace.records import canonical_json, derived_id, digest
from agenttrace.serving.cassette import Cassette, CassetteLog, request_digest
from agenttrace.store.ids import IdIndex
from agenttrace.store.read import read_run_spec
from agenttrace.tasks import Task

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "tests" / "data" / "spec"
VECTORS = json.loads((SPEC / "vectors.json").read_bytes())
SAMPLE = SPEC / "sample.cassette.zst"
LINES = [json.loads(line) for line in (SPEC / "sample.cassette.jsonl").read_bytes().splitlines()]
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/agenttrace/")


def plain(value):
    """Canonical JSON of values without numbers that take an exponent, as the page says."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("one", VECTORS["canonical_json"], ids=lambda one: one["sha256"][:8])
def test_canonical_json(one):
    expected = one["canonical"].encode()
    for value in (msgspec.json.decode(one["json"]), json.loads(one["json"])):
        assert (canonical_json(value), digest(value)) == (expected, one["sha256"])
    assert sha256(expected) == one["sha256"]
    if "e" not in expected.decode() and "0.00001" not in expected.decode():
        assert plain(json.loads(one["json"])) == expected


@pytest.mark.parametrize("one", VECTORS["ids"], ids=lambda one: one["id"])
def test_ids(one):
    assert derived_id(*one["parts"]) == one["id"]
    assert str(uuid.uuid5(NAMESPACE, "\n".join(map(str, one["parts"])))) == one["id"]


@pytest.mark.parametrize("one", VECTORS["run_spec"], ids=lambda one: one["file"])
def test_digest_and_campaign_key_of_a_run_spec(one):
    spec, raw = read_run_spec(ROOT / one["file"]), json.loads((ROOT / one["file"]).read_bytes())
    assert (spec.digest, spec.campaign_key) == (one["sha256"], one["campaign_key"])
    assert [sha256(plain(value)) for value in (raw, {**raw, "run_id": ""})] == [one["sha256"], one["campaign_key"]]


@pytest.mark.parametrize("one", VECTORS["seed"], ids=lambda one: str(one["seed"]))
def test_seeds(one):
    spec = read_run_spec(ROOT / one["run_spec"])
    task = Task(task_id=one["task_id"], name="", kind="", prompt="", expect={}, rollout=one["rollout_index"])
    assert request_seed(spec, task) == one["seed"]


@pytest.mark.parametrize("one", VECTORS["metadata"], ids=lambda one: one["file"])
def test_the_digest_over_the_metadata_of_a_file(one):
    rows = [json.loads(line)["metadata"] for line in (ROOT / one["file"]).read_bytes().splitlines()]
    assert metadata_digest(ROOT / one["file"]) == one["sha256"]
    assert sha256(b"".join(plain(row) + b"\n" for row in rows)) == one["sha256"]


@pytest.mark.parametrize("one", VECTORS["requests"], ids=lambda one: one["sha256"][:8])
def test_requests(one):
    limit = {name: one[name] for name in ("max_tokens",) if name in one}
    assert request_digest(one["fixed"], one["messages"], **limit) == one["sha256"]
    assert sha256(plain({**one["fixed"], **limit, "messages": one["messages"]})) == one["sha256"]


def test_the_sample_cassette_is_its_lines_a_frame_each():
    data, lines = SAMPLE.read_bytes(), []
    while data:
        reader = zstandard.ZstdDecompressor().decompressobj()
        lines.append(reader.decompress(data))
        data = reader.unused_data
    assert [json.loads(line) for line in lines] == LINES
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)


def test_what_a_cassette_says_is_what_its_lines_say():
    read, (head, facts, shared, first, last) = Cassette(SAMPLE), LINES
    assert (read.damage, read.end) == ([], SAMPLE.stat().st_size)
    assert read.run_spec_sha256 == head["run_spec_sha256"]
    assert read.facts == {name: facts["values"][value] for name, value in facts["facts"].items()}
    assert read.trace_ids == [first["trace_id"]] == [last["trace_id"]]
    values = {**facts["values"], **shared["values"], **last["values"]}
    assert all(sha256(plain(value)) == name for name, value in values.items())
    turns = read.turns(last["trace_id"])
    for stored, turn in zip(last["turns"], turns, strict=True):
        assert turn.fixed == values[stored["fixed"]]
        assert list(turn.messages) == [values[name] for name in stored["messages"]]
        assert (turn.kind, turn.result) == (stored["kind"], values[stored["result"]])
        limit = {name: stored[name] for name in ("max_tokens",) if name in stored}
        request = {**turn.fixed, **limit, "messages": list(turn.messages)}
        assert turn.request_sha256 == stored["request"] == sha256(plain(request))


def test_the_kit_writes_the_lines_of_the_sample(tmp_path):
    path, read = tmp_path / "some.cassette.zst", Cassette(SAMPLE)
    log = CassetteLog(path, run_spec_sha256=read.run_spec_sha256, recorded=IdIndex())
    log.note(read.facts)
    turns = read.turns(read.trace_ids[0])
    log.append(read.trace_ids[0], turns[:1])
    log.append(read.trace_ids[0], turns)
    log.close()
    with path.open("rb") as file:
        written = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    assert [json.loads(line) for line in written.splitlines()] == LINES
