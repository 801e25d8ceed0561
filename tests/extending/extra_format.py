"""An export format: this module and a line in `FORMATS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agenttrace.records import RunSpec, Trace


def from_trace(trace: Trace, spec: RunSpec | None, source: str) -> dict[str, Any]:
    """Return question and answer."""
    return {"file": source, "question": trace.prompt, "answer": trace.outcome.final_answer, "run": spec and spec.run_id}
