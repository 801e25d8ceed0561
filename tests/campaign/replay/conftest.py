"""Small campaigns of both agents on real runners of this host, with a scripted model, ready to be replayed."""

from __future__ import annotations

import json
import shutil

import pytest

from agenttrace.campaign.options import Options
from agenttrace.testing import says


def script(messages):
    """Look twice, then answer: what a small model does on any task."""
    turn = sum(message["role"] == "assistant" for message in messages)
    commands = [
        "ls -1 | sort; cat notes/*.txt 2>/dev/null | head -5",
        "wc -c $(find . -type f | sort) | tail -1; uname",
    ]
    if turn < len(commands):
        return says(calls=[("bash", json.dumps({"command": commands[turn]}))], reasoning="hm")
    return says(calls=[("final_answer", json.dumps({"answer": "7"}))])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, make_sandbox, record):
    """Three traces with run spec and cassette; returns the record file."""
    folder = tmp_path_factory.mktemp("recorded")
    return record(Options(count=3, output="demo.jsonl"), folder, make_sandbox(), script)


@pytest.fixture
def copy(recorded, tmp_path):
    """The files of the campaign, to be changed."""
    for path in recorded.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / recorded.name
