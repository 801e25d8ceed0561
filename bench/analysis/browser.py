"""Looks at pages in a real Chromium, for tests, figures and pictures; needs `playwright`, which the tests install."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MAC = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def missing() -> str | None:
    """Return what is missing to look at a page, in a sentence; `None` when nothing is."""
    from importlib.util import find_spec  # noqa: PLC0415

    if find_spec("playwright") is None:
        return "the Python package playwright is not installed"
    if chromium() is None:
        return "there is no Chromium: run scripts/install-browser.sh, or name one in AGENTTRACE_CHROMIUM"
    return None


def chromium() -> str | None:
    """Return the path of a Chromium: `AGENTTRACE_CHROMIUM`, else the first that is found; `None` without one."""
    named = os.environ.get("AGENTTRACE_CHROMIUM")
    if named:
        return named
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    return found or next((path for path in _MAC if Path(path).exists()), None)


@contextmanager
def started() -> Iterator[Browser]:
    """Start a Chromium without a window; `missing` must have said that there is one."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    # Chromium's own sandbox does not work for root; /dev/shm is small in containers.
    flags = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=flags)
        try:
            yield browser
        finally:
            browser.close()
