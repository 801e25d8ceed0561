"""What the tests of models share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Record the waits between tries instead of waiting."""
    waits = []
    monkeypatch.setattr("agenttrace.models.hub.pause", waits.append)
    return waits
