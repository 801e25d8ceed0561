"""The head-and-tail buffer against the obvious definition."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.sandbox.runner.capture import Capture


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=30), st.integers(0, 200))
def test_it_keeps_the_first_and_the_last_bytes(chunks, keep):
    capture = Capture(keep)
    for chunk in chunks:
        capture.feed(chunk)
    data = b"".join(chunks)
    assert capture.total == len(data)
    if len(data) <= keep:
        assert capture.head + capture.tail == data
    else:
        assert capture.head == data[: keep // 2]
        assert capture.tail == data[len(data) - (keep - keep // 2) :]


def test_memory_stays_bounded():
    capture = Capture(1000)
    for _ in range(1000):
        capture.feed(b"x" * 65536)
    assert len(capture._head) + len(capture._tail) <= 2000
