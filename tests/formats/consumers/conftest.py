from __future__ import annotations

import msgspec
import pytest

from tests.formats.hostile import OURS, hostile, spec


@pytest.fixture
def records(tmp_path):
    """A file with four records of ours and a hostile one, and the run spec beside it."""
    path = tmp_path / "in" / "all.jsonl"
    path.parent.mkdir()
    path.write_bytes(OURS.read_bytes() + msgspec.json.encode(hostile()) + b"\n")
    path.with_suffix(".run.json").write_bytes(msgspec.json.encode(spec()))
    return path
