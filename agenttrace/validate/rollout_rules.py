"""The rules that a rollout keeps whatever its task: each yields the problems it finds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agenttrace.agents.bash_block import MARKERS, blocks
from agenttrace.records import derived_id
from agenttrace.validate.findings import Problem
from agenttrace.validate.rules import cost, durations, forwards, same, utc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.records.rollout import BashBlockSpec, Execution, Rollout, Turn

_SWE_ZERO = "Observation: "
_TAGGED = re.compile(r"<returncode>(-?\d{1,9})</returncode>\n(?:<output>\n(.*)</output>|<warning>\n.*)", re.DOTALL)


def ids(rollout: Rollout) -> Iterator[Problem]:
    """Yield an id that is not the UUIDv5 of what it stands for, and names that contradict the metadata."""
    known = rollout.metadata
    for name in ("instance_id", "rollout_index"):
        if known.get(name) != getattr(rollout, name):
            yield Problem("ids", name, f"is not that of the metadata ({known.get(name)!r})")
    run, dataset = known.get("run_id"), known.get("dataset_name")
    if not (isinstance(run, str) and isinstance(dataset, str)):
        yield Problem("ids", "metadata", "run_id and dataset_name are a part of the rollout id: one is missing")
        return
    expected = derived_id("rollout", run, dataset, rollout.instance_id, rollout.rollout_index)
    yield from same("rollout_id", rollout.rollout_id, expected)


def order(rollout: Rollout) -> Iterator[Problem]:
    """Yield turns out of order and times that run backwards."""
    for index, turn in enumerate(rollout.turns):
        if turn.turn != index + 1:
            yield Problem("order", f"turns[{index}].turn", f"is {turn.turn}, must be {index + 1}")
    yield from utc(rollout.timestamp_utc)
    yield from forwards(_intervals(rollout))
    parts = [turn.duration_ms for turn in rollout.turns]
    parts += [turn.execution.duration_ms for turn in rollout.turns if turn.execution is not None]
    yield from durations("duration_ms", rollout.duration_ms, parts, of="its turns and commands")
    if rollout.prepare_ms < 0:
        yield Problem("order", "prepare_ms", "is negative")


def _intervals(rollout: Rollout) -> Iterator[tuple[str, int | None, int | None]]:
    before: int | None = None
    for index, turn in enumerate(rollout.turns):
        yield f"turns[{index}].start_ns", before, turn.start_ns
        before = turn.start_ns
        if turn.execution is not None:
            yield f"turns[{index}].execution.start_ns", before, turn.execution.start_ns
            before = turn.execution.start_ns


def joins(rollout: Rollout, agent: BashBlockSpec | None) -> Iterator[Problem]:
    """Yield turns whose command is not the one block of the reply, or whose observation does not answer it."""
    template = rollout.metadata.get("observation_template")
    for index, turn in enumerate(rollout.turns):
        where = f"turns[{index}]"
        found = blocks(turn.content)
        if turn.blocks != len(found):
            yield Problem("joins", f"{where}.blocks", f"is {turn.blocks}, the reply has {len(found)} bash blocks")
        if (turn.execution is not None) != (len(found) == 1):
            message = "is missing" if turn.execution is None else "was run, but the reply has not exactly one block"
            yield Problem("joins", f"{where}.execution", message)
        elif turn.execution is None:
            if agent is not None and turn.observation != agent.format_error_template:
                yield Problem("joins", f"{where}.observation", "is not the run spec's answer to a malformed reply")
        else:
            if turn.execution.command != found[0]:
                yield Problem("joins", f"{where}.execution.command", "is not the block of the reply")
            yield from _observed(where, turn, turn.execution, str(template))


def _observed(where: str, turn: Turn, execution: Execution, template: str) -> Iterator[Problem]:
    if turn.observation is None:
        if execution.status != "lost":
            yield Problem("joins", f"{where}.observation", "is null although the command was carried out")
        return
    if execution.cut_chars > 0 and f"{execution.cut_chars} characters elided" not in turn.observation:
        message = f"does not say that {execution.cut_chars} characters were left out"
        yield Problem("joins", f"{where}.observation", message)
    text = _text(turn, template)
    if text is None:
        yield Problem("joins", f"{where}.observation", f"has not the form {template[:40]!r} of this exit code")
    elif execution.status == "ok" and bool(text) != bool(execution.stdout_bytes + execution.stderr_bytes):
        wrote = execution.stdout_bytes + execution.stderr_bytes
        yield Problem("joins", f"{where}.observation", f"is {'not ' if text else ''}empty; {wrote} bytes were written")


def _text(turn: Turn, template: str) -> str | None:
    """Return the output that an observation shows; `None` where it has not the template's form."""
    observation = turn.observation or ""
    if template == "swe-zero":
        return observation.removeprefix(_SWE_ZERO) if observation.startswith(_SWE_ZERO) else None
    found = _TAGGED.fullmatch(observation) if template == "mini-swe-agent" else None
    if found is None or turn.execution is None or int(found[1]) != turn.execution.exit_code:
        return None
    return observation if found[2] is None else found[2]


def counts(rollout: Rollout, agent: BashBlockSpec | None) -> Iterator[Problem]:
    """Yield numbers of bytes, characters, tokens and turns that contradict each other or the run spec's limits."""
    limit = rollout.metadata.get("max_turns")
    if isinstance(limit, int) and len(rollout.turns) > limit:
        yield Problem("counts", "turns", f"are {len(rollout.turns)}, max_turns is {limit}")
    for index, turn in enumerate(rollout.turns):
        where = f"turns[{index}]"
        if min(turn.input_tokens or 0, turn.output_tokens or 0, turn.counted_tokens or 0) < 0:
            yield Problem("counts", where, "a number of tokens is negative")
        if agent is not None:
            yield from _budget(where, turn, agent)
        if turn.execution is not None:
            yield from _carried_out(f"{where}.execution", turn.execution)


def _budget(where: str, turn: Turn, agent: BashBlockSpec) -> Iterator[Problem]:
    if (turn.output_tokens or 0) > agent.max_output_tokens:
        message = f"is {turn.output_tokens}, max_output_tokens is {agent.max_output_tokens}"
        yield Problem("counts", f"{where}.output_tokens", message)
    whole = (turn.input_tokens or 0) + (turn.output_tokens or 0)
    if whole > agent.max_total_tokens:
        yield Problem(
            "counts", where, f"prompt and reply have {whole} tokens, max_total_tokens is {agent.max_total_tokens}"
        )


def _carried_out(where: str, execution: Execution) -> Iterator[Problem]:
    whole = execution.stdout_bytes + execution.stderr_bytes
    if min(execution.stdout_bytes, execution.stderr_bytes, execution.cut_chars) < 0:
        yield Problem("counts", where, "a size is negative")
    elif not 0 <= execution.lost_bytes <= whole:
        yield Problem("counts", f"{where}.lost_bytes", f"is {execution.lost_bytes} of {whole} bytes")
    if execution.status in {"lost", "not_executed"} and execution.exit_code != -1:
        yield Problem("counts", f"{where}.exit_code", f"is {execution.exit_code} of a call that is {execution.status}")
    yield from cost(f"{where}.telemetry", execution.telemetry)


def outcome(rollout: Rollout, agent: BashBlockSpec | None) -> Iterator[Problem]:
    """Yield a stop rule that did not fire, one that fired before, and results that contradict the stop rule."""
    stop, turns = rollout.stop, rollout.turns
    submitting = [_submits(turn, str(rollout.metadata.get("observation_template"))) for turn in turns]
    for index, submits in enumerate(submitting[:-1]):
        if submits:
            yield Problem("outcome", f"turns[{index}]", "submits, but the rollout goes on")
    if stop == "submitted" and (not turns or submitting[-1] is False):
        yield Problem("outcome", "stop", "is submitted, but the last turn does not submit")
    if stop in {"turns", "tokens", "format"} and turns and submitting[-1]:
        yield Problem("outcome", "stop", f"is {stop}, but the last turn submits")
    yield from _limits(rollout, agent)
    yield from _results(rollout)


def _limits(rollout: Rollout, agent: BashBlockSpec | None) -> Iterator[Problem]:
    limit = rollout.metadata.get("max_turns")
    if rollout.stop == "turns" and len(rollout.turns) != limit:
        yield Problem("outcome", "stop", f"is turns after {len(rollout.turns)} turns, max_turns is {limit}")
    if agent is None:
        return
    malformed = most = 0
    for turn in rollout.turns:
        malformed = malformed + 1 if turn.execution is None else 0
        most = max(most, malformed)
    if rollout.stop == "format" and malformed != agent.max_format_errors:
        message = (
            f"is format after {malformed} malformed replies in a row, max_format_errors is {agent.max_format_errors}"
        )
        yield Problem("outcome", "stop", message)
    if rollout.stop != "format" and most >= agent.max_format_errors:
        yield Problem("outcome", "stop", f"is {rollout.stop}, but {most} malformed replies in a row end a rollout")


def _results(rollout: Rollout) -> Iterator[Problem]:
    if (rollout.submission is not None) != (rollout.stop == "submitted") and rollout.stop != "error":
        message = "is missing" if rollout.submission is None else f"is given although stop is {rollout.stop}"
        yield Problem("outcome", "submission", message)
    if rollout.stop == "error" and rollout.verdicts:
        yield Problem("outcome", "verdicts", "are given although the infrastructure spoilt the rollout")
    if rollout.stop != "error" and rollout.patch is None and not rollout.patch_note:
        yield Problem("outcome", "patch_note", "does not say why there is no patch")
    if not rollout.patch and any(verdict.verdict == "passed" for verdict in rollout.verdicts):
        yield Problem("outcome", "verdicts", "passed without a patch")
    tests = rollout.hidden_tests
    if (tests.applied and not tests.asked) or (tests.asked and not tests.applied) != (tests.reason is not None):
        yield Problem("outcome", "hidden_tests", "asked, applied and reason contradict each other")


def _submits(turn: Turn, template: str) -> bool | None:
    """Return whether a turn submits; `None` where what it printed is not whole or mixed, so that it cannot be said."""
    execution = turn.execution
    if execution is None or execution.exit_code != 0 or execution.status != "ok":
        return False
    if execution.cut_chars or execution.lost_bytes or execution.stderr_bytes:
        return None
    return (_text(turn, template) or "").lstrip().partition("\n")[0].strip() in MARKERS
