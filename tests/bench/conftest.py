"""An instance of its own for each test that starts containers, so that it never meets a user's campaign."""

import shutil
import subprocess
import uuid

import msgspec
import pytest

from agenttrace.records import Outcome, Trace


@pytest.fixture
def own_instance(monkeypatch):
    """Compose projects and volumes of this test alone; skips where no engine answers."""
    if shutil.which("docker") is None or subprocess.run(["docker", "version"], capture_output=True).returncode != 0:
        pytest.skip("no Docker engine answers: start one (scripts/nox does it on Debian and Ubuntu as root)")
    name = uuid.uuid4().hex[:8]
    volume = f"agenttrace-models-{name}"
    monkeypatch.setenv("AGENTTRACE_INSTANCE", name)
    monkeypatch.setenv("AGENTTRACE_MODELS_VOLUME", volume)
    yield name
    subprocess.run(["docker", "volume", "rm", "--force", volume], capture_output=True)


@pytest.fixture
def trace_line():
    """The line of the smallest record, by trace id."""

    def make(trace_id):
        trace = Trace(
            trace_id=trace_id, timestamp_utc="", prompt="", model="m", spans=(), llm_steps=(), total_duration_ms=0.0,
            metadata={}, environment={}, outcome=Outcome(ended="max_steps"),
        )  # fmt: skip
        return msgspec.json.encode(trace) + b"\n"

    return make
