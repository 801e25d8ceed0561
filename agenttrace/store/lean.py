"""The lean form of a record's line in a compacted file: what the rest of the record says is left out, and put back.

Steps, calls and spans stand in columns there (`step.duration_ms`: one value a step). Of a column only what differs
from what `EXPECTED` makes of others is stored: ids, joins, an end beside a start and a duration, one figure in two
units, a call that stands in the reply, an output that stands in what the model was shown. A column that is as expected
throughout is not there. Where nothing else is expected it is the field's default, so that rows that were written before
a field came into the schema read on. Texts are not decoded: they are cut and compared as JSON.

A line becomes lean only if it comes back byte for byte; any other stays as it is.
"""

from __future__ import annotations

from itertools import chain, islice, repeat
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import NODEFAULT, UNSET, Raw, UnsetType

from agenttrace.errors import DataError
from agenttrace.records import LLMStep, Output, Span, Telemetry, Timings, ToolCall
from agenttrace.store.expected import EXPECTED, INSIDE, NULL, STARTS, SUMS, Columns, added, between, places
from agenttrace.store.opening import LONGEST_LINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.store.expected import Column

NOTICE = b'{"spans":[{"type":"compacted by a newer version of agenttrace"}],'
"""How a lean line begins: a version that knows no lean lines refuses that type, and says it in these words."""
FORM = b'"form":1,'
_NEWER = "compacted by a newer version of agenttrace; update agenttrace to read it"
_SEVERAL = "call"
"""The kind of which a step may hold several; of the others there is one or none."""
_MOST = LONGEST_LINE // 256
"""Steps, calls or spans in a record: one takes about that many bytes."""
_AS_EXPECTED, _ABSENT = b"0", b"1"
"""What stands for a text, which is no number; in other columns these are `None` and `True`, and null is `False`."""


def _variant(kind: type[msgspec.Struct], **types: Any) -> type[msgspec.Struct]:  # noqa: ANN401
    """Return a structure with the same keys in which some fields have another type; to be made by position."""
    fields = [(field, types.get(field.name, field.type)) for field in msgspec.structs.fields(kind)]
    return msgspec.defstruct(
        kind.__name__,
        [(one.name, type_) if one.default is NODEFAULT else (one.name, type_, one.default) for one, type_ in fields],
        gc=False,
    )


_Text = Raw | UnsetType
_CALL, _OUTPUT = _variant(ToolCall, arguments=Raw), _variant(Output, text=Raw)
_KINDS = {
    "step": _variant(
        LLMStep,
        model_output=Raw,
        reasoning_content=Raw,
        answered=_Text,
        tokens=_Text,
        tool_calls=GenericAlias(list, _CALL) | None,
    ),
    "call": _CALL,
    "timings": _variant(Timings),
    "span": _variant(Span, tool_input=Raw, tool_output=Raw, stdout=_OUTPUT | None, stderr=_OUTPUT | None),
    "telemetry": _variant(Telemetry),
    "stdout": _OUTPUT,
    "stderr": _OUTPUT,
}
_DEFAULTS = {
    f"{kind}.{field.name}": None if field.default is NODEFAULT else field.default
    for kind, struct in _KINDS.items()
    for field in msgspec.structs.fields(struct)
    if f"{kind}.{field.name}" not in INSIDE.values()
}
_TEXTS = {
    f"{kind}.{field.name}"
    for kind, struct in _KINDS.items()
    for field in msgspec.structs.fields(struct)
    if field.type in (Raw, _Text)
}
_PLAIN = {
    name: NULL if default is None and name in _TEXTS else default
    for name, default in (_DEFAULTS | {"stdout.at": None, "stderr.at": None}).items()
    if name not in EXPECTED
}
"""The other columns → the default of their field."""
_MARKS = {type(None), bool}
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """A trace of which only steps and spans are looked into; the rest keeps its bytes."""

    trace_id: str
    timestamp_utc: Raw
    prompt: Raw
    model: Raw
    spans: list[Any]
    llm_steps: list[Any]
    total_duration_ms: Raw
    metadata: Raw
    environment: Raw
    outcome: Raw
    prepare_ms: _Text = UNSET
    totals: _Text = UNSET


class _Lean(msgspec.Struct, forbid_unknown_fields=True):
    """A lean line, without its beginning.

    Attributes:
        counts: kind → how many of it each step or span has, for those in `INSIDE`; `None` where the field is null.
        columns: name → what is not as expected.
        texts: the same, of texts.
        record: the trace without steps and spans.
    """

    counts: dict[str, list[_Count | None]]
    columns: Columns
    texts: dict[str, list[Raw]]
    record: _Record


_Original = _variant(_Record, spans=GenericAlias(list, _KINDS["span"]), llm_steps=GenericAlias(list, _KINDS["step"]))
_original = msgspec.json.Decoder(_Original).decode
_lean = msgspec.json.Decoder(_Lean).decode
_encode = msgspec.json.Encoder().encode
_ERRORS = (msgspec.MsgspecError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


def lean(line: bytes) -> bytes:
    """Return the lean form of a line of a record file, or the line itself where it has none."""
    try:
        made = NOTICE + FORM + _encode(_taken(_original(line)))[1:] + b"\n"
        return made if whole(made) == line else line
    except (*_ERRORS, DataError):
        return line


def whole(line: bytes) -> bytes:
    """Return the line of a record file that a line of a compacted file stands for.

    Raises:
        DataError: it is lean, and damaged or of a later form.
    """
    if not line.startswith(NOTICE):
        return line
    if not line.startswith(FORM, len(NOTICE)):
        raise DataError(_NEWER)
    try:
        return _encode(_given(_lean(b"{" + line[len(NOTICE) + len(FORM) :]))) + b"\n"
    except _ERRORS as error:
        raise DataError(f"its compacted form is damaged: {error}") from error


def _taken(record: Any) -> _Lean:  # noqa: ANN401 - a variant of `_Record`
    items: Columns = {"step": record.llm_steps, "span": record.spans}
    counts: dict[str, list[_Count | None]] = {}
    for kind, holder in INSIDE.items():
        outer, _, field = holder.partition(".")
        held = [getattr(one, field) for one in items[outer]]
        groups = [one if one is None or kind == _SEVERAL else [one] for one in held]
        counts[kind] = [None if group is None else len(group) for group in groups]
        items[kind] = [one for group in groups for one in group or ()]
    record.spans = record.llm_steps = []
    found = _Lean(counts=counts, columns={}, texts={}, record=record)
    known = _known(found)
    for name in _DEFAULTS:
        kind, _, field = name.partition(".")
        column = [getattr(one, field) for one in items[kind]]
        known[name] = [one if one is UNSET else bytes(one) for one in column] if name in _TEXTS else column
    for kind in ("stdout", "stderr"):
        known[f"{kind}.at"] = places(known, kind)
    for name, expected in _expected(known):
        column = between(known[name]) if name == STARTS else known[name]
        stored = [_difference(name, *pair) for pair in zip(column, expected, strict=True)]
        if name in _TEXTS:
            if any(bytes(one) != _AS_EXPECTED for one in stored):
                found.texts[name] = stored
        elif any(one is not None for one in stored):
            found.columns[name] = stored
    return found


def _given(found: _Lean) -> _Record:
    known = _known(found)
    for name, expected in _expected(known):
        if name in found.texts:
            known[name] = _texts(found.texts.pop(name), expected)
        elif name in found.columns:
            known[name] = _values(name, found.columns.pop(name), expected)
        else:
            known[name] = expected
        if name == STARTS:
            known[name] = added(known[name])
    if found.columns or found.texts:
        raise DataError(_NEWER)
    for name in _TEXTS:
        known[name] = [one if one is UNSET else Raw(one) for one in known[name]]
    for kind, holder in INSIDE.items():
        made, counts = iter(_made(kind, known)), found.counts[kind]
        if kind == _SEVERAL:
            known[holder] = [None if count is None else list(islice(made, count)) for count in counts]
        else:
            known[holder] = [next(made) if count else None for count in counts]
    found.record.llm_steps, found.record.spans = _made("step", known), _made("span", known)
    return found.record


def _made(kind: str, known: Columns) -> list[msgspec.Struct]:
    return list(map(_KINDS[kind], *(known[f"{kind}.{field}"] for field in _KINDS[kind].__struct_fields__)))


def _known(found: _Lean) -> Columns:
    """Return the columns that say what belongs where: in which step or span each is (`.in`), and how many are there."""
    known: Columns = {"trace_id": [found.record.trace_id]}
    for kind in INSIDE:
        counts = [count or 0 for count in found.counts[kind]]
        if max(len(counts), sum(counts)) > _MOST or (kind != _SEVERAL and max(counts, default=0) > 1):
            raise ValueError(f"more of {kind} than a record can have")
        known[f"{kind}.counts"] = counts
        known[f"{kind}.in"] = list(chain.from_iterable(map(repeat, range(len(counts)), counts)))
    return known


def _expected(known: Columns) -> Iterator[tuple[str, Column]]:
    """Yield each column's name and what it is expected to be, in the order in which one follows from another."""
    sizes = {kind: len(known[f"{kind}.in"]) for kind in INSIDE}
    sizes |= {"step": len(known["call.counts"]), "span": len(known["telemetry.counts"])}
    for name, default in _PLAIN.items():
        yield name, [default] * sizes[name.partition(".")[0]]
    for name, expect in EXPECTED.items():
        yield name, expect(known)


def _difference(name: str, value: Any, expected: Any) -> Any:  # noqa: ANN401 - a value of any field
    if name in _TEXTS:
        return Raw(_AS_EXPECTED if value == expected else _ABSENT if value is UNSET else value)
    if name in SUMS and type(value) is type(expected) is int:
        return value - expected or None
    if value is expected or (type(value) is type(expected) and value == expected):
        return None
    if value is None:
        return False
    return True if value is UNSET else value


def _values(name: str, stored: Column, expected: Column) -> Column:
    """Return what `_difference` was given."""
    pairs = zip(stored, expected, strict=True)
    if name in SUMS:
        stored = [base + one if type(one) is int and base is not None else one for one, base in pairs]
    elif len(stored) != len(expected):
        raise ValueError(f"{name} has {len(stored)} values instead of {len(expected)}")
    if _MARKS.isdisjoint(map(type, stored)):
        return stored
    return [
        base if one is None else (UNSET if one else None) if isinstance(one, bool) else one
        for one, base in zip(stored, expected, strict=True)
    ]


def _texts(stored: list[Raw], expected: Column) -> Column:
    texts = list(map(bytes, stored))
    if len(texts) == len(expected) and _AS_EXPECTED not in texts and _ABSENT not in texts:
        return texts
    pairs = zip(texts, expected, strict=True)
    return [base if one == _AS_EXPECTED else UNSET if one == _ABSENT else one for one, base in pairs]
