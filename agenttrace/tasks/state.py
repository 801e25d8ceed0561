"""What a run did to its tree: the difference between two listings, and a listing made from such a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.records import StateChange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agenttrace.sandbox.reports import Tree, TreeEntry

MAX_CHANGES = 2000


def changes(before: Iterable[TreeEntry], after: Tree) -> tuple[StateChange, ...] | None:
    """Return the paths whose type, mode, content or target differ, sorted by path; time stamps do not count.

    `None` when the listing was cut short or more than 2,000 paths differ: the record would not hold them.
    """
    if after.truncated:
        return None
    old = {entry.path: _as_change(entry) for entry in before}
    new = {entry.path: _as_change(entry) for entry in after.entries}
    gone = [StateChange(path=path, type="absent") for path in old if path not in new]
    found = [*gone, *(change for path, change in new.items() if old.get(path) != change)]
    return tuple(sorted(found, key=lambda change: change.path)) if len(found) <= MAX_CHANGES else None


def applied(before: Iterable[TreeEntry], made: Iterable[StateChange]) -> dict[str, StateChange]:
    """Return the facts of every path after the changes were made."""
    facts = {entry.path: _as_change(entry) for entry in before}
    for change in made:
        if change.type == "absent":
            facts.pop(change.path, None)
        else:
            facts[change.path] = change
    return facts


def _as_change(entry: TreeEntry) -> StateChange:
    return StateChange(
        path=entry.path,
        type=entry.type,
        mode=None if entry.type == "symlink" else entry.mode,
        size=entry.size,
        sha256=entry.sha256,
        target=entry.target,
    )
