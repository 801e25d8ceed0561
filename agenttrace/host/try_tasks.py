"""Tries a task set of the user's own on this machine, before a model is asked anything."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.campaign.try_tasks import TriedTask
from agenttrace.host import campaign, compose, guard, own

if TYPE_CHECKING:
    from agenttrace.tasks.own.loading import OwnSet


def tried(found: OwnSet) -> list[TriedTask]:
    """Return what came of every task of a set, tried in a sandbox of its own.

    Raises:
        AgentTraceError: there is no engine, or something cannot be started.
    """
    with guard.guarded("tasks") as at, tempfile.TemporaryDirectory(prefix="agenttrace-") as folder:
        services = compose.Services(at.project, campaign.collector_variables(Path(folder), 1, at))
        own.lay_out(services, (found,))
        services.up("sandbox")
        words = ("check-tasks", found.sha256)
        text = services.converse("collector", *words, data=b"", otherwise="the tasks could not be tried")
    return msgspec.json.decode(text.splitlines()[-1], type=list[TriedTask])
