"""What a check has to say of a line, and the line as a value of which nothing is overlooked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_INT64_CHARS = 20

T = TypeVar("T")


class Finding(NamedTuple):
    """Something in a file that is not as it must be.

    Attributes:
        line: line number from 1; 0 for the file as a whole.
        rule: what was checked: `json`, `schema`, `ids`, `plan`, `order`, `joins`, `counts`, `metadata`, `outcome`,
            `leak`.
        where: path of the field, such as `spans[0].exit_code`; empty for the line as a whole.
        message: what was expected and what is there.
    """

    line: int
    rule: str
    where: str
    message: str


class Violation(NamedTuple):
    """A finding before it has a line."""

    rule: str
    where: str
    message: str


def parsed(data: bytes) -> tuple[Any, list[str]]:
    """Return the value of one line and the keys that stand twice in an object.

    A repeated key is kept under a name of its own, so that whatever looks at all values sees both.

    Raises:
        ValueError: it is not UTF-8 or not JSON; NaN and Infinity are not JSON; an integer needs more than 64
            bits, which no table can hold.
        RecursionError: it is nested too deeply.
    """
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) == len(items):
            return found
        found = {}
        for key, value in items:
            if key in found:
                repeated.append(key)
            found[key if key not in found else f"{key} (given again, {len(repeated)})"] = value
        return found

    value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_int=_int64)
    msgspec.json.decode(data)  # stricter: what it cannot read (NaN, half a surrogate pair), no reader can
    return value, repeated


def _int64(text: str) -> int:
    if len(text) > _INT64_CHARS or not -(2**63) <= (value := int(text)) < 2**63:
        raise ValueError(f"the integer {text[:40]} needs more than 64 bits")
    return value


def typed(raw: Any, kind: type[T], path: str = "") -> T | Violation:  # noqa: ANN401 - parsed JSON
    """Return a parsed value, which stands at `path`, as a `kind`, or why it is none."""
    try:
        return msgspec.convert(raw, kind, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        message, _, where = str(error).partition(" - at `$")
        return Violation("schema", f"{path}{where.strip('`')}".lstrip("."), message)


def unknown_keys(raw: Any, known: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401 - parsed JSON
    """Yield the paths of all keys of `raw` that its typed form does not have."""
    if isinstance(raw, dict) and isinstance(known, dict):
        for key, value in raw.items():
            where = f"{path}.{key}" if path else key
            if key in known:
                yield from unknown_keys(value, known[key], where)
            else:
                yield where
    elif isinstance(raw, list) and isinstance(known, (list, tuple)):
        for index, (item, typed_item) in enumerate(zip(raw, known, strict=False)):
            yield from unknown_keys(item, typed_item, f"{path}[{index}]")
