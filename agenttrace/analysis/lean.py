"""Structures derived from record types, with fewer fields, so that these are skipped unread, and bounded figures."""

from __future__ import annotations

import builtins
import functools
import operator
import types
import typing
from types import NoneType
from typing import Any, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UnsetType

from agenttrace.formats.entries import Count, Duration, Int

_UNSAID = frozenset({"status", "call_id", "environment", "outcome"})
"""What AgentTrace 0.3.0 has no field for."""
_SIGNED = frozenset({"prompt_logprobs", "output_logprobs", "margins"})
"""Figures that may be below 0."""


def lean(record: type, *, without: frozenset[str], given: dict[str, Any], exact: bool = False) -> Any:  # noqa: ANN401 - a structure
    """Return a structure with the fields of a record type; structures in it become lean likewise.

    Args:
        record: the type.
        without: names of fields that are left out.
        given: types of fields that are not derived; they are never left out.
        exact: what has to be there, and the closed sets of words, stay those of the record type.
    """
    fields: list[Any] = []
    for field in msgspec.structs.fields(record):
        if field.name in given:
            kind = given[field.name]
        elif field.name in without:
            continue
        else:
            kind = _lean(field.name, field.type, without=without, given=given, exact=exact)
        kind = kind | None if field.name in _UNSAID and not exact else kind
        if field.default_factory is not NODEFAULT:
            fields.append((field.name, kind, msgspec.field(default_factory=field.default_factory)))
        elif NoneType in get_args(kind) and not (exact and field.required):
            fields.append((field.name, kind, None))
        else:
            fields.append((field.name, kind) if field.required else (field.name, kind, field.default))
    return msgspec.defstruct(record.__name__, fields, frozen=True, kw_only=True, gc=False)


def _lean(name: str, kind: Any, **options: Any) -> Any:  # noqa: ANN401 - any type
    """Return the type of a field: numbers bounded, structures lean, "absent" as `None`, words open unless `exact`."""
    parts = get_args(kind)
    match get_origin(kind):
        case typing.Annotated:
            return _lean(name, parts[0], **options)
        case typing.Union | types.UnionType:
            inner = [NoneType if part is UnsetType else _lean(name, part, **options) for part in parts]
            return functools.reduce(operator.or_, inner)
        case builtins.tuple:
            return tuple[_lean(name, parts[0], **options), ...]  # type: ignore[misc]
        case typing.Literal:
            return kind if options["exact"] else str
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return lean(kind, **options)
    numbers = {int: Count if name.endswith(("_tokens", "_n")) else Int, float: float if name in _SIGNED else Duration}
    return numbers.get(kind, kind)
