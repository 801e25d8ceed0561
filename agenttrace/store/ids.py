"""A set of record ids in about 20 bytes each: what a campaign keeps of its records, however many there are."""

from __future__ import annotations

import hashlib

_KEY = 16
"""Bytes kept of an id: its BLAKE2b digest, so that any text is an id and none can crowd a bucket."""
_CROWDED = 128
"""Ids in a bucket, on average, at which there are twice as many buckets."""


class IdIndex:
    """A set of ids that can only grow."""

    def __init__(self) -> None:
        self._buckets = [bytearray()]
        self._count = 0

    def add(self, record_id: str) -> None:
        """Take an id in; one that is there already is not taken again."""
        key = _key(record_id)
        bucket = self._buckets[int.from_bytes(key[:4]) % len(self._buckets)]
        if _has(bucket, key):
            return
        bucket += key
        self._count += 1
        if self._count > _CROWDED * len(self._buckets):
            self._split()

    def _split(self) -> None:
        """Double the buckets; each divides into itself and its counterpart, so little memory is needed at a time."""
        size = len(self._buckets)
        for number in range(size):
            whole = self._buckets[number]
            keys = [whole[at : at + _KEY] for at in range(0, len(whole), _KEY)]
            stays, goes = ([key for key in keys if int.from_bytes(key[:4]) // size % 2 == half] for half in (0, 1))
            self._buckets[number] = bytearray(b"".join(stays))
            self._buckets.append(bytearray(b"".join(goes)))

    def __contains__(self, record_id: str) -> bool:
        key = _key(record_id)
        return _has(self._buckets[int.from_bytes(key[:4]) % len(self._buckets)], key)

    def __len__(self) -> int:
        return self._count


def _key(record_id: str) -> bytes:
    return hashlib.blake2b(record_id.encode("utf-8", "surrogatepass"), digest_size=_KEY).digest()


def _has(bucket: bytearray, key: bytes) -> bool:
    at = bucket.find(key)
    while at >= 0 and at % _KEY:  # across the border of two keys
        at = bucket.find(key, at + 1)
    return at >= 0
