"""A pinned clock for the tools: libfaketime, preloaded into the tool's processes and into nothing else.

Every process of a call sees the same instant, which does not move: `date` answers the same on any day, and so does
whatever compares a file's age with the time. Left as they are: the monotonic clock (so limits and sleeps work), the
time stamps that the kernel keeps (a file the tool changes gets the real time), and every clock of runner and helper,
whose figures are real.
"""

from __future__ import annotations

import os

from .errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .settings import Settings

_NAME = "faketime/libfaketime.so.1"
_FORM = "0000-00-00T00:00:00Z"


def find_library(settings: Settings) -> str | None:
    """Path of the library that pins the clock; `None` where there is none."""
    try:
        folders = sorted(item.name for item in os.scandir(settings.faketime))
    except OSError:
        return None
    paths = (f"{settings.faketime}/{folder}/{_NAME}" for folder in folders)
    return next((path for path in paths if os.path.exists(path)), None)  # noqa: PTH110 -- pathlib costs memory


def environment(path: str | None, instant: object) -> dict[str, str]:
    """What a tool's environment needs for its clock to stand at `instant` (`2024-05-01T09:00:00Z`); empty for `None`.

    Raises:
        RequestError: the instant has another form, or this worker has no library.
    """
    if instant is None:
        return {}
    if not isinstance(instant, str) or "".join("0" if c.isdecimal() else c for c in instant) != _FORM:
        raise RequestError("bad_request", f"clock is {instant!r}, not an instant such as 2024-05-01T09:00:00Z")
    if path is None:
        raise RequestError("bad_request", "this worker cannot pin the clock: libfaketime is not installed")
    return {
        "LD_PRELOAD": path,
        "FAKETIME": instant[:-1].replace("T", " "),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",  # no shared memory beside the call's own
        "NO_FAKE_STAT": "1",  # a file's time stamps are what they are
    }
