"""How different traces are: upstream's own metric, and near-duplicate components that do not depend on order.

What is compared is the text of the commands alone, joined by line feeds: `commands_of`.
"""

from __future__ import annotations

from typing import Any

from agenttrace.formats.commands import command_of

THRESHOLD = 0.5
"""Jaccard similarity from which two traces count as near-duplicates; SWE-ZERO takes it from arXiv 2510.02387."""


def commands_of(trace: Any) -> str:  # noqa: ANN401 - a `Trace` or what has its fields
    """Return the text that is compared: every executed command, in order, joined by line feeds.

    Of a tool that takes no command, it is the arguments as JSON.
    """
    ran = (
        span.tool_input for span in trace.spans if span.status != "not_executed" and span.tool_name != "final_answer"
    )
    return "\n".join(command if (command := command_of(given)) is not None else given for given in ran)
