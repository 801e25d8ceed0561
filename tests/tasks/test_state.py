"""What a run did to its tree."""

from __future__ import annotations

import hashlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.sandbox.reports import Tree, TreeEntry
from agenttrace.tasks import bench as state

PATHS = st.sampled_from(["a", "b", "d", "d/x", "d/e"])


def entry(path, kind, mode, content, mtime_ns):
    digest = hashlib.sha256(content.encode()).hexdigest() if kind == "file" else None
    size = len(content) if kind == "file" else None
    target = content if kind == "symlink" else None
    return TreeEntry(path=path, type=kind, mode=mode, size=size, sha256=digest, target=target, mtime_ns=mtime_ns)


ENTRIES = st.builds(
    entry,
    PATHS,
    st.sampled_from(["file", "dir", "symlink"]),
    st.sampled_from(["0644", "0755"]),
    st.text(max_size=2),
    st.integers(0, 9),
)
TREES = st.lists(ENTRIES, unique_by=lambda item: item.path).map(tuple)


def tree(entries, *, truncated=False):
    return Tree(entries=tuple(entries), truncated=truncated)


@given(TREES, TREES)
def test_the_changes_lead_from_one_tree_to_the_other(before, after):
    found = state.changes(before, tree(after))
    assert state.applied(before, found) == state.applied(after, ())
    assert [change.path for change in found] == sorted(change.path for change in found)


@given(TREES)
def test_an_untouched_tree_has_no_changes_whatever_its_times(entries):
    later = tuple(msgspec.structs.replace(item, mtime_ns=item.mtime_ns + 1) for item in entries)
    assert state.changes(entries, tree(later)) == ()


def test_too_much_to_record_is_not_recorded():
    assert state.changes((), tree((), truncated=True)) is None
    many = [entry(f"f{n}", "file", "0644", "", 0) for n in range(state.MAX_CHANGES + 1)]
    assert state.changes((), tree(many)) is None
    assert len(state.changes((), tree(many[1:]))) == state.MAX_CHANGES
