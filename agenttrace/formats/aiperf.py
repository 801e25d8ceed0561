"""The requests of records as AIPerf's sessions: a turn a line, with what the tools took as `delay`; see `mooncake`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.formats.mooncake import sessions

if TYPE_CHECKING:
    from agenttrace.records import RunSpec, Trace


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> list[dict[str, Any]]:  # noqa: ARG001
    """Return the turns of a record.

    Raises:
        DataError: the tokens of no generation are known.
    """
    return list(sessions(trace, spec))
