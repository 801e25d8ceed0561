"""Records in the published schemas of SWE-ZERO, exactly: the 1k and 1k-32k columns, and those of the 12M set.

What fits are records of a bash-block agent over a checkout, with their run spec, which has the system prompt. What
these schemas cannot carry: executed commands, return codes, telemetry, stop rules, the final observation of a submitted
rollout, patch, id and index of a rollout, seed, revisions, base commit, language.

Sources: the cards of AlienKevin/SWE-ZERO-1k-trajectories-32k and AlienKevin/SWE-ZERO-12M-trajectories, and the
generator in marin-community/marin, `experiments/swe_zero/rollout_generator.py` at 242c628d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError
from agenttrace.formats import conversation
from agenttrace.records import INFRASTRUCTURE_ENDS

if TYPE_CHECKING:
    import pyarrow as pa

    from agenttrace.records import Ended, RunSpec, Trace

DETAIL_CHARS = 200
_STOP: dict[Ended, str] = {
    "final_answer": "submitted",
    "max_steps": "turns",
    "token_budget": "tokens",
    "format_error": "format",
    "unknown": "unknown",
}


def from_trace(trace: Trace, spec: RunSpec | None = None, source: str = "") -> dict[str, Any]:  # noqa: ARG001
    """Return one row, the columns of both schemas; counts the server did not report are 0, as no column can be empty.

    `prompt_tokens` is what upstream stores: the sum over turns of each request's prompt, so a context is counted again
    in every turn. It is no size of the conversation.

    Raises:
        DataError: the record has another conversation than these schemas hold, or not all that they ask for.
    """
    chat = messages(trace, spec)
    known, outcome = trace.metadata, trace.outcome
    if not isinstance(repo := known.get("repo"), str):
        raise DataError("its metadata names no repository (`repo`)")
    stop = _STOP.get(outcome.ended, "error")
    broken = "errored" if outcome.ended in INFRASTRUCTURE_ENDS else "incomplete"  # upstream does not tell limits apart
    return {
        "instance_id": str(known.get("task_id") or known.get("task_name") or trace.trace_id),
        "repo": repo,
        "messages": chat,
        "trajectory_format": "mini-swe-agent-1",
        "exit_status": "Submitted" if outcome.ended == "final_answer" else broken,
        "exit_status_detail": f"{stop}: {outcome.detail}"[:DETAIL_CHARS] if outcome.detail else stop,
        "n_turns": len(trace.llm_steps),
        "n_messages": len(chat),
        "prompt_tokens": sum(step.input_tokens or 0 for step in trace.llm_steps),
        "completion_tokens": sum(step.output_tokens or 0 for step in trace.llm_steps),
        "duration_sec": ((trace.prepare_ms or 0.0) + trace.total_duration_ms) / 1000,
    }


def messages(trace: Trace, spec: RunSpec | None) -> list[dict[str, str]]:
    """Return the conversation: system, task, then assistant and user in turn; without what answered a submission.

    Raises:
        DataError: calls stand apart from the replies, or the system prompt is not known.
    """
    if not conversation.in_text(trace, spec):
        raise DataError("its calls are not bash blocks in its replies")
    if conversation.system_prompt(trace, spec) is None:
        raise DataError("its system prompt is not known: the run spec (NAME.run.json) must lie beside the record file")
    found = [
        {"role": "user" if message.role == "tool" else message.role, "content": message.content}
        for message in conversation.messages(trace, spec)
    ]
    if trace.outcome.ended == "final_answer" and found[-1]["role"] == "user":
        found.pop()
    return found


def schema(name: str) -> pa.Schema:
    """Return the Arrow schema of a form, `swe-zero-1k-32k` or `swe-zero-12m`, columns in the order of the cards."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    text, number = pa.string(), pa.int64()
    chat = pa.list_(pa.struct([("role", text), ("content", text)]))
    columns: dict[str, list[tuple[str, pa.DataType]]] = {
        "swe-zero-1k-32k": [
            ("instance_id", text), ("messages", chat), ("repo", text), ("exit_status", text),
            ("exit_status_detail", text), ("n_turns", number), ("n_messages", number), ("prompt_tokens", number),
            ("completion_tokens", number), ("duration_sec", pa.float64()),
        ],
        "swe-zero-12m": [
            ("instance_id", text), ("repo", text), ("messages", chat), ("trajectory_format", text),
            ("exit_status", text), ("duration_sec", pa.float64()),
        ],
    }  # fmt: skip
    return pa.schema(columns[name])
