"""How much of a campaign has a record."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec
import pytest

from agenttrace.store.coverage import Coverage, coverage
from agenttrace.store.jsonl import known_ids
from agenttrace.store.read import read_run_spec

DEMO = Path(__file__).parents[2] / "datasets" / "agenttrace-demo" / "records"


@pytest.fixture
def campaign(tmp_path):
    """A whole campaign of ten runs, of which the last three lines are taken out; returns file and lines."""
    for path in DEMO.iterdir():
        shutil.copy(path, tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-3]))
    return file, lines


def failures(file, lines):
    path = file.with_suffix(".failures.jsonl")
    path.write_bytes(b"".join(lines))
    return path


def test_what_failed_and_has_no_record_is_given_up(campaign):
    file, lines = campaign
    planned = read_run_spec(file.with_suffix(".run.json")).dataset.count
    assert len(lines) == planned
    failures(file, [lines[0], lines[-1], lines[-1], lines[-2]])  # the first was made by a later attempt
    found = coverage(file, known_ids(file))
    assert found == Coverage(planned=planned, recorded=planned - 3, given_up=2)
    assert str(found) == f"2 of {planned}, and 1 more have no record"


def test_a_whole_campaign_has_given_up_nothing(campaign):
    file, lines = campaign
    file.write_bytes(b"".join(lines))
    assert str(coverage(file, known_ids(file))) == f"0 of {len(lines)}"


def test_failures_of_another_campaign_are_not_counted(campaign):
    file, lines = campaign
    failures(file, [re.sub(b'"trace_id":"[0-9a-f]{8}', b'"trace_id":"00000000', line) for line in lines])
    assert coverage(file, known_ids(file)) is None


def test_without_its_run_spec_nothing_is_known(campaign):
    file, lines = campaign
    other = failures(file, lines[:1])
    assert coverage(other, known_ids(other)) is None
    file.with_suffix(".run.json").write_bytes(msgspec.json.encode({}))
    assert coverage(file, known_ids(file)) is None
    file.with_suffix(".run.json").unlink()
    assert coverage(file, known_ids(file)) is None


def test_files_of_one_group_add_up():
    one = Coverage(planned=4, recorded=2, given_up=1)
    assert one + one == Coverage(planned=8, recorded=4, given_up=2)
