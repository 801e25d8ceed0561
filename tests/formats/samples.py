"""A small file of every readable format, and the verbs that read."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenttrace.cli import main

DATA = Path(__file__).parents[1] / "data"
SAMPLES = DATA / "foreign"
RECORDS = DATA / "records"
SAMPLE = {
    "agenttrace-1.0": RECORDS / "demo.jsonl",
    "rollouts-1.0": RECORDS / "1.0.0" / "rollouts.jsonl",
    "agenttrace-0.3": RECORDS / "agenttrace-0.3-composed.jsonl",
    "swe-zero": SAMPLES / "swe-zero-1k-32k.jsonl",
    "mini-swe-agent": SAMPLES / "mini-swe-agent-2.traj.json",
    "atif": SAMPLES / "atif-1.8.json",
    "swe-agent": SAMPLES / "octo__repo-1.traj",
    "otlp": SAMPLES / "otlp.jsonl",
    "claude-code": SAMPLES / "claude-code.jsonl",
    "codex": SAMPLES / "codex.jsonl",
    "pi": SAMPLES / "pi.jsonl",
    "gemini-cli": SAMPLES / "gemini-cli.json",
    "session-traces-parquet": SAMPLES / "teich-rows.jsonl",
    "inspect": SAMPLES / "inspect-log.json",
    "chat": SAMPLES / "chat-rows.jsonl",
    "openhands": SAMPLES / "openhands.json",
    "openhands-rows": SAMPLES / "openhands-output.jsonl",
    "sharegpt": SAMPLES / "sharegpt.jsonl",
}
"""Format → a small file of it."""
VERBS = {
    "show": ["show", "IN"],
    "analyze": ["analyze", "IN"],
    "tables": ["tables", "IN", "--outdir", "OUT"],
    "stats": ["stats", "IN"],
    "compare": ["compare", "IN", "IN"],
    "validate": ["validate", "IN"],
    "report": ["report", "IN", "-o", "OUT.html"],
    "convert": ["convert", "IN", "--to", "agenttrace-1.0", "-o", "OUT.jsonl"],
}
"""Every verb that reads files of traces → how it is asked."""


def ask(verb, source, tmp_path):
    """The exit status of a verb over a file."""
    words = [word.replace("OUT", str(tmp_path / "out")).replace("IN", str(source)) for word in VERBS[verb]]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return stopped.value.code or 0
