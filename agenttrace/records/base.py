"""What every record structure shares: immutability, canonical bytes, derived ids."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import msgspec

SCHEMA_VERSION = "1.1.0"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/agenttrace/")
"""Name space of all UUIDv5 ids of the kit (RFC 9562, section 5.5)."""
LONGEST_DURATION = 1e15
"""Milliseconds or seconds: what no run takes; the sum over any record is finite."""
MOST_TOKENS = 2**40
"""What no record has; the sum over any record fits 63 bits."""

MEASURED = msgspec.Meta(extra_json_schema={"x-measured": True})
"""Marks a field taken from a clock or a counter: two runs of the same inputs may differ in it, and in nothing else.

The mark is part of the schema: the published JSON Schema carries it, and comparisons read it from the types.
"""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every structure of the schema: immutable, keyword-only."""


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - any JSON-like value
    """Return the canonical JSON bytes of a value: keys sorted, no blanks, UTF-8."""
    return msgspec.json.encode(value, order="sorted")


def digest(value: Any) -> str:  # noqa: ANN401 - any JSON-like value
    """Return the SHA-256 (64 hex digits) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def derived_id(*parts: str | int) -> str:
    """Return the UUIDv5 (lower case, hyphens) of the parts: the same parts give the same id anywhere."""
    # What `uuid.uuid5` gives, in a third of its time: reading a compacted record derives two ids a turn.
    name = NAMESPACE.bytes + "\n".join(map(str, parts)).encode()
    text = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{'89ab'[int(text[16], 16) % 4]}{text[17:20]}-{text[20:32]}"
