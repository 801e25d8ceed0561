"""The rules that a trace of the bash-block agent keeps, beside those of every trace."""

from __future__ import annotations

import re
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

from msgspec import UNSET

from agenttrace.agents.bash_block import MARKERS, TOOL, blocks
from agenttrace.records import LLMStep, Span, canonical_json
from agenttrace.validate.findings import Violation
from agenttrace.validate.rules import forwards

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.records import BashBlockSpec, Trace

_SWE_ZERO = "Observation: "
_TAGGED = re.compile(r"<returncode>(-?\d{1,9})</returncode>\n(?:<output>\n(.*)</output>|<warning>\n.*)", re.DOTALL)


class CheckedTurn(NamedTuple):
    """A step, the span of its command, and where both stand."""

    where: str
    step: LLMStep
    below: str
    span: Span | None


def check(trace: Trace, agent: BashBlockSpec | None) -> Iterator[Violation]:
    """Yield what is wrong with a trace of this agent; without its spec the limits are not known."""
    spans = {span.call_id: (f"spans[{index}]", span) for index, span in enumerate(trace.spans)}
    turns = []
    for index, step in enumerate(trace.llm_steps):
        below, span = spans.get(step.tool_calls[0].call_id if step.tool_calls else None, ("", None))
        turns.append(CheckedTurn(f"llm_steps[{index}]", step, below, span))
    yield from forwards(
        (f"{after.where}.start_ns", turn.span.start_ns if turn.span else None, after.step.start_ns)
        for turn, after in pairwise(turns)
    )
    template = str(trace.metadata.get("observation_template"))
    for turn in turns:
        yield from chain(_joins(turn, agent, template), _counts(turn, agent))
    yield from chain(_stops(trace, turns, template), _limits(trace, agent))


def _joins(turn: CheckedTurn, agent: BashBlockSpec | None, template: str) -> Iterator[Violation]:
    """Yield that a command is not the one block of the reply, or that the answer does not answer it."""
    where, step, found = turn.where, turn.step, blocks(turn.step.model_output or "")
    calls = step.tool_calls or ()
    for name in ("counted_tokens", "blocks", "answered"):
        if getattr(step, name) is UNSET:
            yield Violation("schema", f"{where}.{name}", "is missing")
    if step.blocks != len(found):
        yield Violation("joins", f"{where}.blocks", f"is {step.blocks}, the reply has {len(found)} bash blocks")
    if len(calls) != (len(found) == 1):
        yield Violation(
            "joins", f"{where}.tool_calls", f"are {len(calls)}; only a reply of exactly one block is a call"
        )
    elif not calls:
        if agent is not None and step.answered != agent.format_error_template:
            yield Violation("joins", f"{where}.answered", "is not the run spec's answer to a malformed reply")
    else:
        if calls[0].name != TOOL or calls[0].arguments != canonical_json({"command": found[0]}).decode():
            yield Violation("joins", f"{where}.tool_calls[0]", "is not `bash` with the block of the reply")
        if step.answered is not None and step.answered is not UNSET:
            yield Violation("joins", f"{where}.answered", "is given although the observation answers the reply")
        if turn.span is not None:
            yield from _observed(turn.below, turn.span, template)


def _observed(where: str, span: Span, template: str) -> Iterator[Violation]:
    if span.status == "lost":
        return
    if (span.cut_chars or 0) > 0 and f"{span.cut_chars} characters elided" not in span.tool_output:
        yield Violation("joins", f"{where}.tool_output", f"does not say that {span.cut_chars} characters were left out")
    text, wrote = _text(span, template), _bytes(span)
    if text is None:
        yield Violation("joins", f"{where}.tool_output", f"has not the form {template[:40]!r} of this exit code")
    elif span.status == "ok" and bool(text) != bool(wrote):
        message = f"is {'not ' if text else ''}empty; {wrote} bytes were written"
        yield Violation("joins", f"{where}.tool_output", message)


def _text(span: Span, template: str) -> str | None:
    """Return the output that an observation shows; `None` where it has not the template's form."""
    if template == "swe-zero":
        return span.tool_output.removeprefix(_SWE_ZERO) if span.tool_output.startswith(_SWE_ZERO) else None
    found = _TAGGED.fullmatch(span.tool_output) if template == "mini-swe-agent" else None
    if found is None or int(found[1]) != span.exit_code:
        return None
    return span.tool_output if found[2] is None else found[2]


def _bytes(span: Span) -> int:
    return sum(output.bytes_total for output in (span.stdout, span.stderr) if output is not None)


def _counts(turn: CheckedTurn, agent: BashBlockSpec | None) -> Iterator[Violation]:
    """Yield numbers of tokens beyond the run spec's limits, and what a span says of its output."""
    step, span = turn.step, turn.span
    if agent is not None:
        if (step.output_tokens or 0) > agent.max_output_tokens:
            message = f"is {step.output_tokens}, max_output_tokens is {agent.max_output_tokens}"
            yield Violation("counts", f"{turn.where}.output_tokens", message)
        whole = (step.input_tokens or 0) + (step.output_tokens or 0)
        if whole > agent.max_total_tokens:
            message = f"prompt and reply have {whole} tokens, max_total_tokens is {agent.max_total_tokens}"
            yield Violation("counts", turn.where, message)
    if span is None:
        return
    if (span.cut_chars or 0) < 0:
        yield Violation("counts", f"{turn.below}.cut_chars", "is negative")
    if span.cut_chars is UNSET and span.status != "lost":
        yield Violation("schema", f"{turn.below}.cut_chars", "is missing")
    if span.status in {"lost", "not_executed"} and span.exit_code != -1:
        message = f"is {span.exit_code} of a call that is {span.status}"
        yield Violation("counts", f"{turn.below}.exit_code", message)
    if span.status not in {"lost", "not_executed"} and (span.stdout is None or span.stderr is None):
        yield Violation("counts", turn.below, "does not say how much was written")


def _stops(trace: Trace, turns: list[CheckedTurn], template: str) -> Iterator[Violation]:
    """Yield a submission before the end, and an end that is not what the last turn does."""
    ended = trace.outcome.ended
    submitting = [_submits(turn.span, template) for turn in turns]
    for index, submits in enumerate(submitting[:-1]):
        if submits:
            yield Violation("outcome", f"llm_steps[{index}]", "submits, but the run goes on")
    if ended == "final_answer" and (not turns or submitting[-1] is False):
        yield Violation("outcome", "outcome.ended", "is final_answer, but the last turn does not submit")
    if ended in {"max_steps", "token_budget", "format_error"} and turns and submitting[-1]:
        yield Violation("outcome", "outcome.ended", f"is {ended}, but the last turn submits")


def _submits(span: Span | None, template: str) -> bool | None:
    """Return whether a turn submits; `None` where what it printed is not whole or mixed, so that it cannot be said."""
    if span is None or span.exit_code != 0 or span.status != "ok":
        return False
    cut = span.stdout is not None and span.stdout.bytes_kept != span.stdout.bytes_total
    if cut or span.cut_chars or (span.stderr is not None and span.stderr.bytes_total):
        return None
    return (_text(span, template) or "").lstrip().partition("\n")[0].strip() in MARKERS


def _limits(trace: Trace, agent: BashBlockSpec | None) -> Iterator[Violation]:
    """Yield a limit that ended the run without being reached, or was reached and did not end it."""
    ended, limit = trace.outcome.ended, trace.metadata.get("max_steps")
    if ended == "max_steps" and len(trace.llm_steps) != limit:
        message = f"is max_steps after {len(trace.llm_steps)} steps, max_steps is {limit}"
        yield Violation("outcome", "outcome.ended", message)
    if agent is None:
        return
    malformed = most = 0
    for step in trace.llm_steps:
        malformed = 0 if step.tool_calls else malformed + 1
        most = max(most, malformed)
    if ended == "format_error" and malformed != agent.max_format_errors:
        message = f"is {ended} after {malformed} malformed replies in a row, the limit is {agent.max_format_errors}"
        yield Violation("outcome", "outcome.ended", message)
    if ended != "format_error" and most >= agent.max_format_errors:
        yield Violation("outcome", "outcome.ended", f"is {ended}, but {most} malformed replies in a row end a run")
