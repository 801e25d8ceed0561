"""A browser to look at pages."""

from __future__ import annotations

import os

import pytest

from bench.analysis import browser


@pytest.fixture(scope="session")
def chromium():
    missing = browser.missing()
    if missing and os.environ.get("AGENTTRACE_REQUIRE_BROWSER"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with browser.started() as started:
        yield started
