"""Replays rows of AgentTrace 0.3.0: their tool calls are carried out here, and what they gave is compared.

Those rows hold replies but no requests, and no promise of replay: they were made without a sandbox, on another system,
behind a filter that refused commands. So nothing passes or fails; a table says how many calls agree, and
for the others the cause that can be told from command and output.
"""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from agenttrace.agents.tool_calling import agent_spec
from agenttrace.agents.toolbox import tool_text
from agenttrace.errors import DataError
from agenttrace.formats import python_call
from agenttrace.formats.agenttrace_0_3_row import FINAL_ANSWER, decode
from agenttrace.records import Record
from agenttrace.show import printable
from agenttrace.store.opening import LONGEST_LINE, numbered_lines, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from agenttrace.formats.agenttrace_0_3_row import Row, Span
    from agenttrace.sandbox.client import Worker

_FIXTURES = {"nl2bash": "nl2bash", "mbpp": "empty", "demo": "demo"}
_PARAMETERS: dict[str, tuple[Literal["bash", "python"], str]] = {
    "bash": ("bash", "command"),
    "python_interpreter": ("python", "code"),
}
_OBSERVED = re.compile(
    r"\b(date|stat|ps|top|uptime|df|du|free|uname|hostname|whoami|id|who|w|lsof|netstat|ifconfig|env)\b|/proc/|ls\s+-\w*l"
    r"|-[acm](time|min)\b|-newer|\$(RANDOM|\$|USER|HOME|HOSTNAME)"
)
_OTHER_SYSTEM = re.compile(r"illegal option|usage: |invalid option|unrecognized option|command not found|not permitted")
_LABEL = re.compile(r"(exit_code: -?\d+|stdout:|stderr:|Stdout:|Output: None)\s*")

Agreement = Literal["identical", "same output", "differs", "not comparable"]


class Call(Record, frozen=True, kw_only=True):
    """One call carried out again.

    Attributes:
        agreement: `identical` texts; the `same output` in another layout; `differs`; `not comparable`.
        cause: for the last two, what can be said of it.
    """

    trace_id: str
    span: int
    tool: str
    agreement: Agreement
    cause: str | None
    recorded: str
    found: str


def is_foreign(path: Path) -> bool:
    """Return whether a file begins with a row of that version.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with opened(path) as file:
            decode(file.readline(LONGEST_LINE))
    except DataError:
        return False
    return True


def _rows(path: Path) -> Iterator[Row]:
    with opened(path) as file:
        for number, line in numbered_lines(file, path):
            try:
                row = decode(line)
            except DataError as error:
                raise DataError(f"{path}, line {number}: {error}") from error
            if (name := row.metadata.get("dataset_name")) not in _FIXTURES:
                known = ", ".join(_FIXTURES)
                raise DataError(f"{path}, line {number}: no fixture is known for the data set {name!r}; known: {known}")
            yield row


def replay(path: Path, connect: Callable[[], Worker], *, workers: int) -> list[Call]:
    """Carry out every call of every row on a fresh tree of its data set's fixture; return them in file order.

    Raises:
        DataError: a line is not such a row.
        WorkerLostError: no sandbox worker can be had any more.
    """

    def one(row: Row) -> list[Call]:
        with connect() as worker:
            worker.reset(_FIXTURES[row.metadata["dataset_name"]])
            return [_call(row.trace_id, number, span, worker) for number, span in enumerate(row.spans, start=1)]

    with ThreadPoolExecutor(workers) as pool:
        return [call for calls in pool.map(one, _rows(path)) for call in calls]


def _call(trace_id: str, number: int, span: Span, worker: Worker) -> Call:
    agreement, cause, found = _carried_out(span, worker)
    return Call(
        trace_id=trace_id,
        span=number,
        tool=span.tool_name,
        agreement=agreement,
        cause=cause,
        recorded=span.tool_output,
        found=found,
    )


def _carried_out(span: Span, worker: Worker) -> tuple[Agreement, str | None, str]:
    values = python_call.arguments(span.tool_input, span.tool_name)
    if span.tool_name == FINAL_ANSWER:
        answer = "" if values is None else str(values.get("answer", ""))
        return ("identical", None, answer) if answer == span.tool_output else ("differs", "another answer", answer)
    if span.tool_name not in _PARAMETERS:
        return "not comparable", "no such tool", ""
    kind, parameter = _PARAMETERS[span.tool_name]
    code = None if values is None else values.get(parameter)
    if not isinstance(code, str) or set(values or {}) != {parameter}:
        return "not comparable", "the input cannot be read", ""
    spec = agent_spec()
    report = worker.call(kind, code, limit_ms=spec.call_limit_ms, keep_bytes=spec.keep_bytes)
    found = tool_text(report, limit_ms=spec.call_limit_ms)
    if found == span.tool_output:
        return "identical", None, found
    if report.exit_code == span.exit_code and body(found) == body(span.tool_output):
        return "same output", None, found
    return "differs", cause_of(span.tool_name, code, span.tool_output, span.exit_code, report.exit_code), found


def body(text: str) -> str:
    """Return the lines of an output without the labels that each version puts around them."""
    lines = (_LABEL.sub("", line, count=1).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def cause_of(tool: str, code: str, recorded: str, exit_there: int, exit_here: int) -> str:
    """Return why outputs differ, as far as command and output tell; the first that applies."""
    if "Command blocked:" in recorded:
        return "refused there by the command filter"
    if tool == "python_interpreter":
        restricted = exit_there == 1 and exit_here == 0
        return "refused there by the restricted interpreter" if restricted else "another interpreter"
    if _OBSERVED.search(code):
        return "the command observes clock, host or processes"
    if _OTHER_SYSTEM.search(recorded):
        return "another system's commands"
    return "another exit status" if exit_there != exit_here else "another output"


def show(calls: list[Call], out: Console) -> None:
    """Print the table of agreement and causes."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title="calls of AgentTrace 0.3.0 carried out again", title_justify="left")
    for name in ("tool", "agreement", "cause", "calls"):
        table.add_column(name, justify="right" if name == "calls" else "left")
    counts = Counter((call.tool, call.agreement, call.cause or "") for call in calls)
    for (tool, agreement, cause), count in sorted(counts.items()):
        table.add_row(Text(printable(tool)), agreement, cause, str(count))
    out.print(table)
    agree = sum(call.agreement in {"identical", "same output"} for call in calls)
    out.print(f"{agree} of {len(calls)} calls agree")
