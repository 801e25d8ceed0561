"""Sandboxes that a session starts for itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import compose, engine, images
from agenttrace.host.workers import sandbox_project


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """Which projects were swept, with an engine that is not asked for anything."""
    found = []
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    monkeypatch.setattr(engine, "check", lambda: SimpleNamespace(unlimited=()))
    monkeypatch.setattr(images, "build", lambda **_: SimpleNamespace(names={}))
    monkeypatch.setattr(compose, "client", lambda: None)
    monkeypatch.setattr(compose, "ensure_volumes", lambda _: None)
    monkeypatch.setattr(compose, "sweep", lambda _, project, **_options: found.append(project))
    return found


def test_a_second_session_does_not_sweep_away_what_the_first_one_runs(swept):
    with sandbox_project("judge") as (first, _):
        assert swept == [first]
        with pytest.raises(UsageError, match=r"another session with workers \(judge\) runs from this checkout"):
            sandbox_project("judge").__enter__()
        assert swept == [first]
        with sandbox_project("tasks") as (other, _):
            assert other != first
    assert swept == [first, other, other, other, first, first]
