"""Validates record files of every form and schema of ours, line by line in bounded memory; a bad line does not stop it.

The rules are those of every trace, then those of the agent that made it and of its task.
"""

from __future__ import annotations

import codecs
from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.errors import AgentTraceError
from agenttrace.records import INFRASTRUCTURE_ENDS, SCHEMA_VERSION, BashBlockSpec, ToolCallingSpec, Trace, rollout_1_0
from agenttrace.records.schema import VERSIONS
from agenttrace.store.compact import Compacted, is_compacted
from agenttrace.store.ids import IdIndex
from agenttrace.store.opening import is_failures
from agenttrace.store.read import TOO_LONG, lines
from agenttrace.validate import bash_block, checkouts, rules
from agenttrace.validate.findings import Finding, Violation, parsed, typed, unknown_keys
from agenttrace.validate.leaks import leaks
from agenttrace.validate.planned import Planned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agenttrace.store.read import Problem
    from agenttrace.validate.leaks import Word

    NumberedLines = Callable[[Path, Callable[[Problem], object]], Iterator[tuple[int, bytes | None]]]

FOREIGN = "imported"
"""Key of `environment` that says which format a record was read from; its ids are that format's."""
MOST_PER_LINE = 50
"""Findings reported of one line; a hostile line could have millions."""


def _own_lines(path: Path, _: Callable[[Problem], object]) -> Iterator[tuple[int, bytes | None]]:
    return lines(path)


class Validation:
    """The check of one file: schema, ids, plan, order, joins, counts, outcome, metadata, leaks; iterate over it once.

    Holds 20 bytes a record for ids that stand twice, 40 bytes a task over a checkout, and nothing else of the lines.

    Args:
        path: a record file.
        words: what is private beside the patterns of the leak check.
        allowed: texts that are no leak.
        read: gives the numbered lines of the file, each a record of ours, and calls with what is none.

    Attributes:
        records: lines that were looked at.
        notes: what was not checked, and why; complete after the last finding.
    """

    _plan: Planned

    def __init__(
        self, path: Path, *, words: Sequence[Word] = (), allowed: Sequence[str] = (), read: NumberedLines = _own_lines
    ) -> None:
        self.path, self._read = path, read
        self.records = 0
        self.notes: list[str] = []
        self._words, self._allowed = words, allowed
        self._failures = is_failures(path)
        self._seen, self._checkouts = IdIndex(), checkouts.Checkouts()
        self._foreign = 0
        self._is_told = False

    def __iter__(self) -> Iterator[Finding]:
        """Yield every finding in file order."""
        try:
            yield from self._every_line()
            if is_compacted(self.path):
                with Compacted(self.path) as compacted:
                    compacted.check()
        except (AgentTraceError, OSError) as error:
            yield Finding(0, "file", "", str(error).removeprefix(f"{self.path}: "))
            return
        if not self.records:
            self.notes += [] if self._is_told else ["the file is empty"]
            return
        yield from (Finding(0, *problem) for problem in self._beside())
        self.notes += self._unchecked()

    def _every_line(self) -> Iterator[Finding]:
        told: deque[Problem] = deque()
        for number, line in self._read(self.path, told.append):
            yield from self._told(told)
            if not self.records:
                self._plan = Planned(self.path)
            self.records += 1
            found = self._line(number, line)
            for problem in islice(found, MOST_PER_LINE):
                yield Finding(number, *problem)
            if next(found, None) is not None:
                yield Finding(number, "more", "", f"more than {MOST_PER_LINE} findings; the rest is not listed")
        yield from self._told(told)

    def _told(self, told: deque[Problem]) -> Iterator[Finding]:
        """Take off what was no record, as findings."""
        while told:
            problem, self._is_told = told.popleft(), True
            text = str(problem).removeprefix(f"{problem.file}, ").removeprefix(f"{problem.file}: ")
            yield Finding(0, "file", "", text)

    def _line(self, number: int, line: bytes | None) -> Iterator[Violation]:
        if line is None:
            yield Violation("json", "", f"{TOO_LONG}: not checked")
            return
        if not line.endswith(b"\n"):
            yield Violation("json", "", "the line is cut off (no line end): collecting again repairs the file")
        if number == 1 and line.startswith(codecs.BOM_UTF8):
            yield Violation("json", "", "begins with a byte order mark, which readers pass over: save it without one")
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            raw, repeated = parsed(line)
        except (ValueError, RecursionError) as error:
            yield Violation("json", "", f"not a JSON object: {error}")
            yield from leaks(line.decode("utf-8", "replace"), self._words, self._allowed)
            return
        yield from (Violation("json", "", f"the key {key[:60]!r} is given twice in one object") for key in repeated)
        yield from self._record(raw, number)

    def _record(self, raw: Any, number: int) -> Iterator[Violation]:  # noqa: ANN401 - parsed JSON
        """Yield what is wrong with one parsed line; a rollout of schema 1.0.0 is checked as the trace it is read as."""
        yield from leaks(raw, self._words, self._allowed)
        rollout = isinstance(raw, dict) and "rollout_id" in raw
        record = typed(raw, rollout_1_0.Rollout) if rollout else typed(raw, Trace)
        if isinstance(record, Violation):
            yield record
            return
        yield from rules.sizes(raw)
        for key in unknown_keys(raw, msgspec.to_builtins(record)):
            yield Violation("schema", key, "no such field in this version of the schema")
        if isinstance(record, Trace):
            yield from self._trace(record, None, number)
        else:
            yield from checkouts.recorded(record)
            yield from self._trace(rollout_1_0.as_trace(record), record.metadata, number)

    def _trace(self, trace: Trace, recorded: dict[str, Any] | None, number: int) -> Iterator[Violation]:
        spec, known = self._plan.spec, trace.metadata
        of_blocks = isinstance(spec.agent, BashBlockSpec) if spec else "observation_template" in known
        foreign = FOREIGN in trace.environment and recorded is None
        yield from self._version(trace, recorded, foreign=foreign)
        if not self._failures and (first := self._seen.add(trace.trace_id, number)) is not None:
            yield Violation("ids", "trace_id", f"stands in line {first} already; keep one of the two lines")
        tool_calling = not foreign and (isinstance(spec.agent, ToolCallingSpec) if spec else not of_blocks)
        yield from chain(rules.order(trace), rules.joins(trace), rules.counts(trace))
        yield from rules.outcome(trace, tool_calling=tool_calling)
        if foreign:
            self._foreign += 1
            return
        yield from rules.ids(trace, "trace" if recorded is None else "rollout")
        if recorded is None:
            yield from rules.texts(trace)
        if of_blocks:
            yield from bash_block.check(trace, spec.agent if spec and isinstance(spec.agent, BashBlockSpec) else None)
        if spec.dataset.sampling if spec else "tree_digest" in known:
            yield from self._checkouts.check(trace, spec, number)
        yield from self._plan.check(trace, recorded)
        if (trace.outcome.ended in INFRASTRUCTURE_ENDS) != self._failures:
            where = "only there" if self._failures else "only in a file named NAME.failures.jsonl"
            yield Violation(
                "outcome", "outcome.ended", f"is {trace.outcome.ended}: infrastructure failures stand {where}"
            )

    def _version(self, trace: Trace, recorded: dict[str, Any] | None, *, foreign: bool) -> Iterator[Violation]:
        version, spec = trace.metadata.get("schema_version"), self._plan.spec
        known = list(VERSIONS[:1] if recorded is not None else VERSIONS)
        if spec is not None and not foreign:
            known = [one for one in known if one == spec.schema_version]
        if version not in known:
            expected = " or ".join(known) or f"{spec and spec.schema_version} as in the run spec"
            yield Violation("schema", "metadata.schema_version", f"is {version!r}, must be {expected}")
        elif recorded is None:
            for where in rules.later_fields(trace, version) if version != SCHEMA_VERSION else ():
                yield Violation("schema", where, f"no such field in schema {version}")
            if version != VERSIONS[0] and not foreign and trace.prepare_ms is UNSET and not self._failures:
                yield Violation("schema", "prepare_ms", "is missing")

    def _beside(self) -> Iterator[Violation]:
        """Yield what is wrong with the run spec beside the file."""
        yield from self._plan.problems
        if self._plan.spec is not None:
            yield from leaks(msgspec.to_builtins(self._plan.spec), self._words, self._allowed)
        if self._plan.own is not None:
            yield from leaks(self._plan.own.texts(), self._words, self._allowed)

    def _unchecked(self) -> list[str]:
        """Return what was not checked, and why."""
        found = list(self._plan.notes)
        if self._foreign:
            found.append(f"{self._foreign} records were read from another format: ids and metadata are that format's")
        if self._plan.spec is not None and not self._failures:
            dataset = self._plan.spec.dataset
            wanted, what = dataset.count * dataset.rollouts, "tasks" if dataset.rollouts == 1 else "rollouts"
            if len(self._seen) < wanted:
                found.append(f"{len(self._seen)} of the {wanted} {what} of the run spec have a record")
        return found
