"""What a campaign that goes wrong from the start is told while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

if TYPE_CHECKING:
    from agenttrace.records import AgentSpec, Trace

FIRST_TASKS = 3
"""So many without a single call are no bad luck."""


class Advice:
    """Looks at the first tasks of a session.

    Args:
        agent: of the run spec.
    """

    def __init__(self, agent: AgentSpec) -> None:
        self._agent = agent
        self._without_call = 0
        self._over = False

    def after(self, trace: Trace) -> str | None:
        """Return what to say after one more finished task, once: where none of the first ones made a call."""
        if self._over:
            return None
        if trace.outcome.ended != "format_error" or trace.spans:
            self._over = True
            return None
        self._without_call += 1
        if self._without_call < FIRST_TASKS:
            return None
        self._over = True
        return f"the first {FIRST_TASKS} tasks all ended as format_error without a single call: {self._why()}"

    def _why(self) -> str:
        tools = self._agent.kind == "tool_calling"
        form = "calls" if tools else "one bash block a reply"
        attribute = "reply_form" if tools else "grammar"
        if getattr(self._agent, attribute, UNSET) is not UNSET:
            return (
                "its replies were cut off, or this server does not hold them to their form. Look at "
                "one (show), and try a larger --max-tokens, or llama-server"
            )
        other = "--agent bash_block" if tools else "--agent tool_calling"
        return (
            f"the model does not write {form} as the agent asks for. Look at one (show), and try --constrained on (the "
            f"server then enforces the form), {other}, or a larger model; Ctrl-C keeps what is done"
        )
