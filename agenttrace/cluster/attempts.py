"""What attempts at shards come to: small values that go from machine to machine."""

from __future__ import annotations

from typing import Literal

import msgspec

from agenttrace.records import Record

AttemptEnd = Literal["done_before", "committed", "lost_race", "incomplete"]
DONE = frozenset({"done_before", "committed", "lost_race"})
"""Ends after which a shard has a manifest."""


class Attempted(Record, frozen=True, kw_only=True):
    """What one attempt at a shard came to.

    Attributes:
        shard: its number.
        end: whether its manifest was there before, is this attempt's, is another's, or lacks records.
        records: of the shard.
        made: by this attempt.
        abandoned: tasks that were given up; their attempts lie apart.
        endpoints: records by the name of the endpoint that they were made with.
    """

    shard: int
    end: AttemptEnd
    records: int
    made: int = 0
    abandoned: int = 0
    endpoints: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether the shard has a manifest."""
        return self.end in DONE


How = Literal["attempted", "refused", "no_endpoint", "no_store", "no_room", "no_sandbox", "failed", "lost"]
"""What an attempt said of itself: what became of the shard; that it may not run; that every endpoint is gone; that the
store refuses; that there is no room for a tree; that no sandbox worker is there any more; that something else failed;
or nothing, since its process or its machine was gone."""
OF_MACHINE = frozenset({"no_endpoint", "no_store", "no_room", "no_sandbox"})
"""What says something of the machine, and nothing of the shard: another machine may have what it takes."""


class AttemptResult(Record, frozen=True, kw_only=True):
    """How an attempt at a shard ended, as its machine says, or as it is seen from here.

    Attributes:
        shard: its number.
        how: in a word.
        why: in a line, where it was no success.
        attempted: what became of the shard, where it was attempted to the end.
        node: a short name of the machine, where it is known.
        elapsed_s: that it took there.
    """

    shard: int
    how: How
    why: str = ""
    attempted: Attempted | None = None
    node: str = ""
    elapsed_s: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether the shard has a manifest."""
        return self.attempted is not None and self.attempted.is_done
