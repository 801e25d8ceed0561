"""Collected records of the demo set, put under a run spec of the present schema."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import strategies as st

from agenttrace.records import SCHEMA_VERSION
from agenttrace.store.read import read_run_spec

RELEASED = Path(__file__).parents[2] / "datasets" / "agenttrace-demo" / "records" / "agenttrace-demo.jsonl"


@pytest.fixture
def released():
    """A record file of schema 1.0.0."""
    return RELEASED


@pytest.fixture
def spec():
    return msgspec.structs.replace(read_run_spec(RELEASED.with_suffix(".run.json")), schema_version=SCHEMA_VERSION)


@pytest.fixture
def rows(spec):
    found = [json.loads(line) for line in RELEASED.read_text(encoding="utf-8").splitlines()[:4]]
    for row in found:
        row["metadata"] |= {"schema_version": SCHEMA_VERSION, "run_spec_sha256": spec.digest}
        row["prepare_ms"] = 1.5
    return found


@pytest.fixture
def record_file(spec, tmp_path):
    """Return a function that writes rows as a record file with its run spec."""

    def write(rows, name="demo.jsonl"):
        (tmp_path / "demo.run.json").write_bytes(msgspec.json.encode(spec))
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


HARD = st.sampled_from(
    [None, True, -1, 2**63, 2**70, 1e308, "", "\ud800", "\x00\x1b[31m", "x" * 10_000, [], {}, [[]], {"a": {}}]
)


@pytest.fixture
def hurt():
    """Put hard values at up to three places of a row."""

    def put(data, row):
        for _ in range(data.draw(st.integers(1, 3))):
            inner = row
            while isinstance(inner, (dict, list)) and inner:
                keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
                key = data.draw(st.sampled_from(keys))
                if not isinstance(inner[key], (dict, list)) or not inner[key] or data.draw(st.booleans()):
                    inner[key] = copy.deepcopy(data.draw(HARD))
                    break
                inner = inner[key]
        return row

    return put
