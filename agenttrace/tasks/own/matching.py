"""Whether a pattern is found in a text, in bounded time: on a text made for it, a search can take for ever."""

from __future__ import annotations

import json
import subprocess
import sys

LIMIT_S = 5.0
_SEARCH = "import json, re, sys; p, t = json.load(sys.stdin); sys.stdout.write(str(re.search(p, t) is not None))"


def problem(pattern: str, text: str, what: str) -> str | None:
    """Return why a text does not hold a pattern, or `None` where it does.

    Searched is in a process of its own, which is ended after `LIMIT_S`.

    Args:
        pattern: regular expression of Python, found anywhere in the text unless it is anchored.
        text: of a model's making.
        what: the text is, for the reason.
    """
    argv = [sys.executable, "-I", "-S", "-c", _SEARCH]
    try:
        found = subprocess.run(  # noqa: S603 - this interpreter and code of ours; both texts are data on its input
            argv, input=json.dumps([pattern, text]), capture_output=True, text=True, timeout=LIMIT_S, check=True
        ).stdout
    except subprocess.TimeoutExpired:
        return f"looking for the pattern in {what} took longer than {LIMIT_S:g} s"
    except subprocess.CalledProcessError:  # it ran out of memory or recursion
        return f"the pattern could not be looked for in {what}"
    return None if found == "True" else f"{what} does not match {pattern!r}"
