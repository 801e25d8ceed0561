"""Lines of a record file with bounded memory, and their JSON with nothing overlooked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from agenttrace.rollouts.files import COMPACTED, is_compacted
from agenttrace.rollouts.files import lines as unpacked
from agenttrace.store.opening import LONGEST_LINE, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 20
_INT64_CHARS = 20


class Line(NamedTuple):
    """One line: its number, its bytes without the line end, whether that end was there, how long it really is."""

    number: int
    data: bytes
    whole: bool
    length: int


def lines(path: Path, longest: int = LONGEST_LINE) -> Iterator[Line]:
    """Yield the lines of a file; of one longer than `longest` bytes only the length, its data is empty.

    Compacted rollouts are unpacked, a frame at a time.

    Raises:
        OSError: it cannot be read.
        UsageError: it cannot be opened, or is a folder, a pipe or a device.
        DataError: it ends as compacted rollouts do and is damaged.
    """
    if path.suffix == COMPACTED and is_compacted(path):
        for number, data in enumerate(unpacked(path), start=1):
            yield Line(number, data.removesuffix(b"\n"), data.endswith(b"\n"), len(data))
        return
    with opened(path) as file:
        number = 0
        while data := file.readline(longest + 1):
            number += 1
            if len(data) <= longest:
                whole = data.endswith(b"\n")
                yield Line(number, data[:-1] if whole else data, whole, len(data))
                continue
            length, whole = len(data), data.endswith(b"\n")
            while not whole and (data := file.readline(_CHUNK)):
                length, whole = length + len(data), data.endswith(b"\n")
            yield Line(number, b"", whole, length)


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

    value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=_refuse, parse_int=_int64)
    return value, repeated


def _int64(text: str) -> int:
    if len(text) > _INT64_CHARS or not -(2**63) <= (value := int(text)) < 2**63:
        raise ValueError(f"the integer {text[:40]} needs more than 64 bits")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
