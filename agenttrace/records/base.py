"""What every record structure shares: immutability, canonical bytes, derived ids."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA_VERSION = "1.2.0"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/agenttrace/")
"""Name space of all UUIDv5 ids of the kit (RFC 9562, section 5.5)."""
_NAMESPACE = NAMESPACE.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
LONGEST_DURATION = 1e15
"""Milliseconds or seconds: what no run takes; the sum over any record is finite."""
MOST_TOKENS = 2**40
"""What no record has; the sum over any record fits 63 bits."""

MEASURED = msgspec.Meta(extra_json_schema={"x-measured": True})
"""Marks a field taken from a clock or a counter: two runs of the same inputs may differ in it, and in nothing else.

The mark is part of the schema: the published JSON Schema carries it, and comparisons read it from the types.
"""


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of every structure of the schema: immutable, keyword-only.

    None is part of a cycle, so Python does not look through them for garbage: reading takes half the time without that.
    """


_sorted = msgspec.json.Encoder(order="sorted").encode


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - any JSON-like value
    """Return the canonical JSON bytes of a value: keys sorted, no blanks, UTF-8."""
    return _sorted(value)


def digest(value: Any) -> str:  # noqa: ANN401 - any JSON-like value
    """Return the SHA-256 (64 hex digits) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def derived_id(*parts: str | int) -> str:
    """Return the UUIDv5 (lower case, hyphens) of the parts: the same parts give the same id anywhere."""
    return _uuid(hashlib.sha1(_NAMESPACE + "\n".join(map(str, parts)).encode(), usedforsecurity=False))


def derived_ids(first: str, rest: Iterable[str]) -> list[str]:
    """Return the `derived_id` of the first part with each of the rest, which may be several parts, a line each."""
    begun, found = hashlib.sha1(_NAMESPACE + f"{first}\n".encode(), usedforsecurity=False), []
    for part in rest:
        name = begun.copy()
        name.update(part.encode())
        found.append(_uuid(name))
    return found


def _uuid(name: hashlib._Hash) -> str:
    # What `uuid.uuid5` gives, in a fifth of its time: older and compacted files take two ids a turn.
    text = name.hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"
