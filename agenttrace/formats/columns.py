"""The three flat tables of records, runs, steps and spans: their columns, derived from the record types.

Every field of `Trace`, `LLMStep` and `Span` is a column under its own name. Fields of a structure that stands in one
place only (telemetry, timings, outcome) are columns of their own; of one that stands in several, its place is in the
name (`stdout_bytes_total`). What is nested is JSON text (`..._json`). Beside these stand a few columns that are looked
up in the metadata or computed (`LEADING`, `Known`, `COMPUTED`). `null` is "not measured" or "not recorded"; 0 is zero.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from itertools import chain
from math import fsum
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType, inspect
from msgspec.structs import astuple

from agenttrace.errors import DataError
from agenttrace.formats.commands import KINDS, first_word, kinds_of_turns, patch_size
from agenttrace.formats.entries import Known
from agenttrace.records import END_CLASSES, LLMStep, Span, Trace
from agenttrace.records.compare import bare

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    import pyarrow as pa

    from agenttrace.formats.entries import TableEntry

TIME = "timestamp"
"""Kind of a column that holds an instant: microseconds, UTC."""
TABLES = ("runs", "steps", "spans")
LONG = frozenset(
    {
        "metadata", "environment", "type", "model_output", "reasoning_content", "tool_calls", "answered", "tool_output",
        "text", "encoding", "leftover_names", "detail", "changes", "patch", "patch_note", "blocks", "bytes_kept",
        "counted_tokens", "cut_chars", "failed_tries", "ignored_calls", "sources", "tokens", "counters_reason",
    }
)  # fmt: skip
"""Fields that the frames of an analysis leave out: texts, and what no figure is made of."""
COMPUTED_FROM = frozenset({"patch", "blocks", "bytes_kept"})
"""Of these, what other columns are computed from."""
_LEADING = {
    "runs": {"run": "int64", "file": "string", "line": "int64"},
    "steps": {"run": "int64", "trace_id": "string"},
    "spans": {"run": "int64", "trace_id": "string", "position": "int64"},
}
"""`file` and `line` say where a trace stands, as far as it is known; `run` joins the tables within one reading."""
_DURATION, _INPUT, _OUTPUT = map(attrgetter, ("duration_ms", "input_tokens", "output_tokens"))
_COMPUTED: dict[str, dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "runs": {
        "dataset": ("string", attrgetter("known.dataset_name")),
        "end_class": ("string", lambda one: one.trace.outcome and END_CLASSES.get(one.trace.outcome.ended)),
        "task_id": ("string", lambda one: None if one.known.task_id is None else str(one.known.task_id)),
        "task": ("string", attrgetter("task")),
        "cost_usd": ("double", attrgetter("bill.usd")),
        "cost_source": ("string", attrgetter("bill.source")),
        "imported_from": ("string", attrgetter("machine.source.format")),
        "imported_sha256": ("string", attrgetter("machine.source.sha256")),
        "license": ("string", attrgetter("machine.source.license")),
        "platform": ("string", attrgetter("machine.platform")),
        "cpu": ("string", lambda one: one.machine.hardware and one.machine.hardware.cpu),
        "load_1m": ("double", lambda one: one.machine.load("load_1m")),
        "steal_ms": ("double", lambda one: one.machine.load("steal_ms")),
        "cpu_stalled_ms": ("double", lambda one: one.machine.load("cpu_stalled_ms")),
        "memory_stalled_ms": ("double", lambda one: one.machine.load("memory_stalled_ms")),
        "server_running": ("double", lambda one: one.machine.load("running")),
        "server_waiting": ("double", lambda one: one.machine.load("waiting")),
        "server_kv_used": ("double", lambda one: one.machine.load("kv_used")),
        "sandbox_cpus": ("double", attrgetter("machine.sandbox_cpus")),
        "llm_ms": ("double", lambda one: _of_steps(one, _DURATION)),
        "tool_ms": ("double", lambda one: total(one.trace.spans, _DURATION)),
        "step_count": ("int64", lambda one: len(one.trace.llm_steps)),
        "span_count": ("int64", lambda one: len(one.trace.spans)),
        "input_tokens": ("int64", lambda one: _of_run(one, _INPUT)),
        "output_tokens": ("int64", lambda one: _of_run(one, _OUTPUT)),
        "evaluated_tokens": ("int64", lambda one: _of_steps(one, _evaluated)),
        "conversation_tokens": ("int64", lambda one: _of_steps(one, _both_tokens, last=1)),
    },
    "steps": {"tool_call_count": ("int64", lambda step: len(step.tool_calls or ()))},
    "spans": {
        "command": ("string", lambda span: first_word(span.tool_input) if span.tool_name == "bash" else None),
        "cpu_ms": ("double", lambda span: _cpu_ms(span.telemetry)),
        "output_cut": ("bool", lambda span: span.stdout and (_cut(span.stdout) or _cut(span.stderr))),
    },
}
"""Column → alias of its Arrow type, and how its value follows from a `TableEntry` (`runs`), a step or a span.

`task_id` is text, whatever it was; `task` is the name by which attempts at one task are known, whoever made them;
`cost_source` says whether the trace's file gives `cost_usd` or a table of prices does (`prices`); `imported_...` and
`license` are of what was read from another format. `load_1m` (before the task), `steal_ms`, `cpu_stalled_ms` and
`memory_stalled_ms` are of the machine while the task ran, all of its tenants together; `server_...` are means of the
model server's requests and of the share of its cache that was taken. `end_class` is the class of `ended`
(`END_CLASSES`). Sums are `null` when one part has none: of the steps `llm_ms`, `input_tokens` (a context counts again
in every step), `output_tokens`, and `evaluated_tokens` (of the input, what was not taken from the server's cache); of
the spans `tool_ms`. `conversation_tokens` is the last prompt and its completion. `..._turns` count turns per kind of
observation, where a turn is a block of commands; `patch_files` and `patch_lines` are of the patch, where the task is
a change of a checkout. `command` is the first word of a bash call; `cpu_ms` is user and system time together;
`output_cut` says that some of what the call printed was not kept. In AgentTrace 0.3.0 `start_ns` and `end_ns` count
from an unknown instant (a monotonic clock): only differences within one trace mean something.
"""
_OF_TURNS = (*(f"{kind}_turns" for kind in KINDS), "patch_files", "patch_lines")
"""More of these, of `runs`: counted together, as turns and patches are long."""
_REPEATED = frozenset(
    {
        "file", "schema_version", "model", "dataset", "task_kind", "run_id", "quantization", "serving_profile", "repo",
        "language", "platform", "cpu", "ended", "end_class", "finish_reason", "tool_name", "command", "status",
        "method", "verdicts_json", "scores_json", "cost_source", "imported_from", "imported_sha256",
        "license", "serving_engine",
    }
)  # fmt: skip
"""Columns of texts that repeat: categories of a frame."""
PLAIN: dict[type[inspect.Type], str] = {
    inspect.IntType: "int64",
    inspect.FloatType: "double",
    inspect.StrType: "string",
    inspect.BoolType: "bool",
    inspect.LiteralType: "string",
}
"""Type of a field → alias of the Arrow type of its column."""


class Column(NamedTuple):
    """One column: name, alias of its Arrow type, the fields that lead to its value, whether that becomes JSON text."""

    name: str
    kind: str
    path: tuple[str, ...]
    as_json: bool


def kinds(table: str, *, texts: bool = True) -> dict[str, str]:
    """Return the columns of a table: name → alias of the Arrow type, or `timestamp`.

    Args:
        table: one of `TABLES`.
        texts: with the columns of `LONG` fields.
    """
    fields = {column.name: column.kind for column in _columns(table, texts=texts)}
    computed = {name: kind for name, (kind, _) in _COMPUTED[table].items()}
    return {**_LEADING[table], **fields, **computed, **(dict.fromkeys(_OF_TURNS, "int64") if table == "runs" else {})}


def schema(table: str, *, texts: bool = True) -> pa.Schema:
    """Return the Arrow schema of a table; without texts, as frames have it, names that repeat are categories."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    def arrow(name: str, kind: str) -> pa.DataType:
        found = pa.timestamp("us", tz="UTC") if kind == TIME else pa.type_for_alias(kind)
        return pa.dictionary(pa.int32(), found) if not texts and name in _REPEATED else found

    return pa.schema([(name, arrow(name, kind)) for name, kind in kinds(table, texts=texts).items()])


def tables(batch: Sequence[TableEntry], *, texts: bool = True) -> dict[str, pa.Table]:
    """Return the three tables of a batch of records, in the order of `TABLES`; arguments as those of `schema`.

    Raises:
        DataError: a value does not fit its column.
    """
    return {name: table(name, batch, texts=texts) for name in TABLES}


def table(name: str, batch: Sequence[TableEntry], *, texts: bool = True) -> pa.Table:
    """Return one of them likewise."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    shape = schema(name, texts=texts)
    try:
        values = _values(name, batch, texts=texts)
        return pa.Table.from_arrays([_array(values[field.name], field.type) for field in shape], schema=shape)
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError) as error:
        raise DataError(f"{name}: a value does not fit its column: {error}") from error


def run_columns(batch: Sequence[TableEntry], wanted: Container[str] | None = None) -> dict[str, Any]:
    """Return the columns of the runs table as lists, without texts and without Arrow: those that are wanted at least.

    Raises:
        DataError: a time is none.
    """
    return _values("runs", batch, texts=False, wanted=wanted)


def _array(values: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401 - a list, or an array
    import pyarrow as pa  # noqa: PLC0415

    if isinstance(values, pa.Array):
        return values
    if len(values) and values[0] is None and values.count(None) == len(values):
        return pa.nulls(len(values), kind)
    if pa.types.is_dictionary(kind):
        return pa.array(values, type=kind.value_type).dictionary_encode()
    return pa.array(values, type=kind)


_PARTS: dict[str, tuple[tuple[tuple[str, ...], type], ...]] = {
    "runs": ((("trace",), Trace), (("known",), Known)),
    "steps": (((), LLMStep),),
    "spans": (((), Span),),
}
"""Where the structures lie whose fields are columns, from a `TableEntry` (`runs`), a step or a span."""


@cache
def _columns(table: str, *, texts: bool) -> tuple[Column, ...]:
    given = {*_LEADING[table], *_COMPUTED[table], "dataset_name", "task_id_json"}
    found = [column for way, kind in _PARTS[table] for column in _flat(inspect.type_info(kind), way, ())]
    return tuple(
        column for column in found if column.name not in given and (texts or not LONG.intersection(column.path))
    )


def _flat(shape: inspect.Type, path: tuple[str, ...], named: tuple[str, ...]) -> Iterator[Column]:
    """Yield the columns of a structure; `spans` and `llm_steps` are tables of their own."""
    if not isinstance(shape, inspect.StructType):
        return
    inner = {field.name: bare(field.type) for field in shape.fields if field.name not in {"spans", "llm_steps"}}
    types = [kind.cls for kind in inner.values() if isinstance(kind, inspect.StructType)]
    for field, kind in inner.items():
        name = "_".join((*named, field))
        if isinstance(kind, inspect.StructType):
            yield from _flat(kind, (*path, field), (*named, field) if types.count(kind.cls) > 1 else named)
        elif name == "timestamp_utc":
            yield Column(name, TIME, (*path, field), as_json=False)
        elif type(kind) in PLAIN:
            yield Column(name, PLAIN[type(kind)], (*path, field), as_json=False)
        else:
            yield Column(f"{name}_json", "string", (*path, field), as_json=True)


_ABSENT = frozenset({NoneType, UnsetType})


class _Parts:
    """Parts of records by columns; structures of one type are taken apart once, whatever of them is wanted."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._values: dict[tuple[str, ...], Sequence[Any]] = {(): parts}

    def values(self, *path: str) -> Sequence[Any]:
        """Return the values of a field, named by the fields that lead to it; unknown below a part that is not there."""
        if path not in self._values:
            owners = self.values(*path[:-1])
            kinds: set[Any] = {*map(type, owners)}
            if kinds <= _ABSENT:
                self._values[path] = [None] * len(owners)
            elif len(kinds) == 1:
                names = kinds.pop().__struct_fields__
                # No row is held, else Python would look through them all for garbage.
                flat = list(chain.from_iterable(map(astuple, owners)))
                self._values |= {(*path[:-1], name): flat[place :: len(names)] for place, name in enumerate(names)}
            else:
                self._values[path] = [None if type(one) in _ABSENT else getattr(one, path[-1]) for one in owners]
        return self._values[path]

    def read(self, columns: Iterable[Column], *, absent: bool = False) -> dict[str, Sequence[Any]]:
        """Return the values of columns that are fields; with `absent`, `UNSET` is unknown as well."""
        found = {}
        for column in columns:
            values = self.values(*column.path)
            if absent:
                values = [None if one is UNSET else one for one in values]
            if column.as_json:
                values = [None if one is None else msgspec.json.encode(one).decode() for one in values]
            elif column.kind == TIME:
                values = list(map(_instant, values))
            found[column.name] = values
        return found


def _instant(given: datetime | str | None) -> datetime | None:
    """Return an instant; a time without an offset is of UTC, never of this machine's time zone."""
    if given is None:
        return None
    try:
        moment = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except ValueError as error:
        raise DataError(f"{str(given)[:60]!r} is no ISO 8601 time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _values(
    table: str, batch: Sequence[TableEntry], *, texts: bool, wanted: Container[str] | None = None
) -> dict[str, Any]:
    field = {"steps": "llm_steps", "spans": "spans"}.get(table)
    parts = [part for one in batch for part in getattr(one.trace, field)] if field else batch
    columns = [column for column in _columns(table, texts=texts) if wanted is None or column.name in wanted]
    computed = {name: figure for name, (_, figure) in _COMPUTED[table].items() if wanted is None or name in wanted}
    return {
        **_Parts(parts).read(columns, absent=texts),
        **{name: list(map(figure, parts)) for name, figure in computed.items()},
        **(_owners(batch, field) if field else _of_runs(batch)),
    }


def _of_runs(batch: Sequence[TableEntry]) -> dict[str, list[Any]]:
    turns = [_turns(one.trace) for one in batch]
    places = {name: list(map(attrgetter(name), batch)) for name in _LEADING["runs"]}
    return {**places, **{name: [of_run[index] for of_run in turns] for index, name in enumerate(_OF_TURNS)}}


def _turns(trace: Any) -> Sequence[int | None]:  # noqa: ANN401 - a `Trace`, or what has its fields
    kinds, patch = kinds_of_turns(trace), trace.outcome and trace.outcome.patch
    sizes = patch_size(patch) if isinstance(patch, str) else (None, None)
    return *([kinds[kind] for kind in KINDS] if kinds else [None] * len(KINDS)), *sizes


_TOO_LARGE = 2**63


def total(parts: Sequence[Any], figure: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - a number or None
    """Return the sum of a figure, or `None` when one of the parts lacks it, or no column could hold it.

    Fractions are summed exactly and rounded once: `sum` rounds otherwise from Python 3.12 on, and a table would depend
    on the Python that wrote it.
    """
    try:
        each = list(map(figure, parts))
        found = sum(each)
        found = fsum(each) if isinstance(found, float) else found
    except (TypeError, AttributeError, ValueError, OverflowError):  # of `None`, of what is not there, beyond any float
        return None
    return found if abs(found) < _TOO_LARGE else None


def _of_steps(one: TableEntry, figure: Callable[[Any], Any], *, last: int = 0) -> Any:  # noqa: ANN401 - as above
    """Return the sum of a figure over the steps, or the last of them; not known of an imported record without any."""
    steps = one.trace.llm_steps
    return total(steps[-last:], figure) if steps or one.machine.imported is None else None


def _of_run(one: TableEntry, figure: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - as above
    """Return the sum of a figure over the steps; else what the format that it was read from says of the whole run."""
    found, whole = _of_steps(one, figure), one.trace.totals
    return figure(whole) if found is None and whole else found


def _evaluated(step: Any) -> Any:  # noqa: ANN401 - an `LLMStep`; a number or None
    said = step.timings
    if said.prompt_n is not None:
        return said.prompt_n
    return None if said.cached_n > step.input_tokens else step.input_tokens - said.cached_n


def _both_tokens(step: Any) -> int:  # noqa: ANN401 - an `LLMStep`
    tokens: int = step.input_tokens + step.output_tokens
    return tokens


def _owners(batch: Sequence[TableEntry], field: str) -> dict[str, Any]:
    """Return, for each part of the records, the number and id of its record and its own place there, from 1."""
    import numpy as np  # noqa: PLC0415 - heavy
    import pyarrow as pa  # noqa: PLC0415

    counts = np.array([len(getattr(one.trace, field)) for one in batch], dtype=np.int64)
    owner = np.repeat(np.arange(len(batch)), counts)
    first = np.cumsum(counts) - counts
    return {
        "run": np.array([one.run for one in batch], dtype=np.int64)[owner],
        "trace_id": pa.array([one.trace.trace_id for one in batch], type=pa.string()).take(pa.array(owner)),
        "position": np.arange(len(owner)) - first[owner] + 1,
    }


def _cpu_ms(cost: Any) -> float | None:  # noqa: ANN401 - a `Telemetry`
    user, system = cost.user_time_s, cost.system_time_s
    return None if user is None or system is None else 1000.0 * (user + system)


def _cut(stream: Any) -> bool:  # noqa: ANN401 - an `Output`, or `None`
    return stream is not None and bool(stream.bytes_kept < stream.bytes_total)
