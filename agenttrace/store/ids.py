"""A set of record ids in about 20 bytes each: what is kept of the records of a file, however many there are."""

from __future__ import annotations

import hashlib
import threading

_KEY = 12
"""Bytes kept of an id: its BLAKE2b digest, so that any text is an id and none can crowd a bucket."""
_ENTRY = 16
"""Bytes of an entry: the key and a number."""
_CROWDED = 128
"""Ids in a bucket, on average, at which there are twice as many buckets."""


class IdIndex:
    """A set of ids that can only grow; one thread may ask what is in it while another adds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # while buckets divide, an id that was there before is in neither half
        self._buckets = [bytearray()]
        self._count = 0

    def add(self, record_id: str, number: int = 0) -> int | None:
        """Take an id in, with a number of 32 bits; of one that is there already return the number it came with."""
        key = _key(record_id)
        with self._lock:
            bucket = self._buckets[int.from_bytes(key[:4]) % len(self._buckets)]
            if (at := _place(bucket, key)) >= 0:
                return int.from_bytes(bucket[at + _KEY : at + _ENTRY])
            bucket += key + (number % 2**32).to_bytes(_ENTRY - _KEY)
            self._count += 1
            if self._count > _CROWDED * len(self._buckets):
                self._split()
        return None

    def _split(self) -> None:
        """Double the buckets; each divides into itself and its counterpart, so little memory is needed at a time."""
        size = len(self._buckets)
        for number in range(size):
            whole = self._buckets[number]
            entries = [whole[at : at + _ENTRY] for at in range(0, len(whole), _ENTRY)]
            stays, goes = ([one for one in entries if int.from_bytes(one[:4]) // size % 2 == half] for half in (0, 1))
            self._buckets[number] = bytearray(b"".join(stays))
            self._buckets.append(bytearray(b"".join(goes)))

    def __contains__(self, record_id: str) -> bool:
        key = _key(record_id)
        with self._lock:
            return _place(self._buckets[int.from_bytes(key[:4]) % len(self._buckets)], key) >= 0

    def __len__(self) -> int:
        return self._count


def _key(record_id: str) -> bytes:
    return hashlib.blake2b(record_id.encode("utf-8", "surrogatepass"), digest_size=_KEY).digest()


def _place(bucket: bytearray, key: bytes) -> int:
    at = bucket.find(key)
    while at >= 0 and at % _ENTRY:  # across the border of two entries
        at = bucket.find(key, at + 1)
    return at
