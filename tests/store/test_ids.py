"""A set of ids with a number each, in a few bytes an id."""

from __future__ import annotations

import sys
import threading
import tracemalloc
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.store.ids import IdIndex

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=40)


@given(st.lists(st.tuples(ANY_TEXT, st.integers(0, 2**32 - 1)), max_size=600), ANY_TEXT)
def test_it_is_a_dictionary_that_keeps_the_first_number(pairs, other):
    index, known = IdIndex(), {}
    for name, number in pairs:
        assert index.add(name, number) == known.get(name)
        known.setdefault(name, number)
    assert len(index) == len(known)
    assert all(name in index for name in known)
    assert (other in index) == (other in known)
    assert [index.add(name) for name in known] == list(known.values())


def test_it_stays_right_while_its_buckets_divide():
    index = IdIndex()
    names = [str(uuid.UUID(int=number * 2**90 + number)) for number in range(20_000)]
    assert [index.add(name, number) for number, name in enumerate(names)] == [None] * len(names)
    assert [index.add(name, 0) for name in names] == list(range(len(names)))
    assert len(index) == len(names)
    assert not any(name.upper() + "x" in index for name in names)


def test_an_id_costs_at_most_24_bytes_and_no_more_while_it_grows():
    names = [str(uuid.UUID(int=number)) for number in range(60_000)]
    index = IdIndex()
    tracemalloc.start()
    for name in names:
        index.add(name)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held <= 24 * len(names)
    assert peak <= 1.5 * held


@pytest.fixture
def hasty():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def test_what_is_there_is_found_by_other_threads_while_buckets_divide(hasty):
    index, full, missed = IdIndex(), threading.Event(), []
    known = [f"known-{number}" for number in range(1_000)]
    for name in known:
        index.add(name)

    def look():
        while not full.is_set():
            missed.extend(name for name in known if name not in index)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(20_000):
        index.add(f"new-{number}")
    full.set()
    for thread in threads:
        thread.join()
    assert not missed
