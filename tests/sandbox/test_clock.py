"""The pinned clock: what a tool's environment gets, and who refuses (what tools then see: tests/e2e/test_clock.py)."""

from __future__ import annotations

import pytest

from agenttrace.errors import UsageError
from agenttrace.sandbox.runner import clock, settings
from agenttrace.sandbox.runner.errors import RequestError

INSTANT = "2024-05-05T12:30:00Z"


def test_the_library_is_found_in_any_subfolder(tmp_path):
    options = settings.Settings()
    options.faketime = str(tmp_path)
    assert clock.find_library(options) is None
    folder = tmp_path / "some-arch" / "faketime"
    folder.mkdir(parents=True)
    (tmp_path / "another").mkdir()
    (folder / "libfaketime.so.1").touch()
    assert clock.find_library(options) == str(folder / "libfaketime.so.1")
    options.faketime = str(tmp_path / "nowhere")
    assert clock.find_library(options) is None


def test_no_clock_is_no_variable():
    assert clock.environment("/lib.so", None) == {}
    assert clock.environment(None, None) == {}


def test_the_instant_is_handed_over_as_the_library_reads_it():
    found = clock.environment("/lib.so", INSTANT)
    assert (found["LD_PRELOAD"], found["FAKETIME"]) == ("/lib.so", "2024-05-05 12:30:00")


@pytest.mark.parametrize(
    "instant", ["", "2024-05-05", "2024-05-05 12:30:00", "@2024-05-05T12:30:00Z", "+1d", 5, INSTANT + "\n"]
)
def test_another_form_is_refused(instant):
    with pytest.raises(RequestError, match="not an instant"):
        clock.environment("/lib.so", instant)


def test_a_worker_that_cannot_says_so(worker):
    with pytest.raises(RequestError, match="cannot pin the clock"):
        clock.environment(None, INSTANT)
    if not worker.info.clock:
        with pytest.raises(UsageError, match="cannot pin the clock"):
            worker.reset("base", clock=INSTANT)
        worker.ping()
