"""Collected records of the demo set, put under a run spec of the present schema."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

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
