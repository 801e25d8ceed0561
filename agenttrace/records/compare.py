"""Compares two records byte for byte, but for the fields that the schema marks as measured."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

from agenttrace.records.base import MEASURED, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT = "(absent)"
_Members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_Items = msgspec.json.Decoder(list[msgspec.Raw])


class Difference(Record, frozen=True, kw_only=True):
    """One field in which two records differ.

    Attributes:
        field: path of the field, such as `spans[0].stdout.text`.
        recorded: its JSON text on the left, `(absent)` when it is not there.
        found: its JSON text on the right.
    """

    field: str
    recorded: str
    found: str

    def __str__(self) -> str:
        return f"{self.field}: {_short(self.recorded)} / {_short(self.found)}"


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def record_differences(kind: type[msgspec.Struct], recorded: bytes, found: bytes) -> list[Difference]:
    """Return every difference between two encoded records, in the order of the fields on the left.

    What is compared is the text of the values, so another spelling of an equal number is a difference; so is another
    order of keys. Fields that `kind` does not know are compared as well.

    Args:
        kind: the schema, whose marks say what is not compared.
        recorded: one JSON object.
        found: another.

    Raises:
        msgspec.DecodeError: one of them is not JSON.
    """
    left, right = msgspec.json.decode(recorded, type=msgspec.Raw), msgspec.json.decode(found, type=msgspec.Raw)
    return list(_walk("", _shape(kind), bytes(left), bytes(right)))


@functools.cache
def _shape(kind: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(kind)


def _is_measured(shape: inspect.Type) -> bool:
    marks = MEASURED.extra_json_schema or {}
    return isinstance(shape, inspect.Metadata) and (shape.extra_json_schema or {}).items() >= marks.items()


def bare(shape: inspect.Type) -> inspect.Type:
    """Return a type without marks and without `None`."""
    if isinstance(shape, inspect.Metadata):
        return bare(shape.type)
    if isinstance(shape, inspect.UnionType):
        inner = [item for item in shape.types if not isinstance(item, inspect.NoneType)]
        return bare(inner[0]) if len(inner) == 1 else shape
    return shape


def _item(shape: inspect.Type | None) -> inspect.Type | None:
    return bare(shape.item_type) if isinstance(shape, inspect.VarTupleType | inspect.ListType) else None


def _fields(shape: inspect.Type | None) -> dict[str, inspect.Type]:
    return {field.encode_name: field.type for field in shape.fields} if isinstance(shape, inspect.StructType) else {}


def _walk(path: str, shape: inspect.Type | None, left: bytes, right: bytes) -> Iterator[Difference]:
    if left == right:
        return
    if left[:1] == right[:1] == b"{":
        yield from _members(path, shape, _Members.decode(left), _Members.decode(right))
    elif left[:1] == right[:1] == b"[":
        yield from _items(path, _item(shape), _Items.decode(left), _Items.decode(right))
    else:
        yield Difference(field=path, recorded=_text(left), found=_text(right))


def _members(
    path: str, shape: inspect.Type | None, left: dict[str, Any], right: dict[str, Any]
) -> Iterator[Difference]:
    known = _fields(shape)
    names = list(dict.fromkeys([*left, *right]))
    for name in names:
        kind = known.get(name)
        if kind is not None and _is_measured(kind):
            continue  # one side may lack it: an earlier schema, or an agent that does not measure it
        below = f"{path}.{name}" if path else name
        if name in left and name in right:
            yield from _walk(below, kind and bare(kind), bytes(left[name]), bytes(right[name]))
        else:
            yield Difference(field=below, recorded=_text(left.get(name)), found=_text(right.get(name)))
    if [name for name in left if name in right] != [name for name in right if name in left]:
        yield Difference(field=f"{path or 'record'} (order of keys)", recorded=", ".join(left), found=", ".join(right))


def _items(path: str, shape: inspect.Type | None, left: list[Any], right: list[Any]) -> Iterator[Difference]:
    for index in range(max(len(left), len(right))):
        below = f"{path}[{index}]"
        if index < len(left) and index < len(right):
            yield from _walk(below, shape, bytes(left[index]), bytes(right[index]))
        else:
            one, other = (items[index] if index < len(items) else None for items in (left, right))
            yield Difference(field=below, recorded=_text(one), found=_text(other))


def _text(raw: Any) -> str:  # noqa: ANN401 - bytes, msgspec.Raw or None
    return ABSENT if raw is None else bytes(raw).decode("utf-8", "backslashreplace")
