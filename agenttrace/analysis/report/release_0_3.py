"""Views of AgentTrace 0.3.0 rows: those of the record that `convert` makes of a row, with its own clock readings.

Its calls have times of a performance counter and its generations have none, so there is no axis for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agenttrace.analysis.report.view import TraceView, trace_view
from agenttrace.formats.agenttrace_0_3 import record

if TYPE_CHECKING:
    from agenttrace.formats.agenttrace_0_3_row import Row


def release_view(row: Row) -> TraceView:
    """Return the view of a 0.3.0 row; how it ended is not recorded there, so it is not shown."""
    trace = record(row)
    change = msgspec.structs.replace
    pairs = zip(trace.spans, row.spans, strict=True)
    spans = tuple(change(span, start_ns=own.start_ns, end_ns=own.end_ns) for span, own in pairs)
    view = trace_view(change(trace, spans=spans))
    return change(view, format="AgentTrace 0.3.0", axis="tools", ended=None, facts={"metadata": row.metadata})
