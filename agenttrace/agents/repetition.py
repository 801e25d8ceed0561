"""Finds replies that end in a repetition of their own: what a model does that has lost the thread."""

from __future__ import annotations

_LONGEST_UNIT = 400
_LEAST_TIMES, _LEAST_CHARS = 4, 160
_CLOSING = "\"'}]) \n\t\\`"
"""What a form may put after a text that was cut off."""
_OTHER_CHARS = 40
"""With so many other ones at its end a text still repeats itself: a form brings it to an end somehow."""


def ends_in_repetition(text: str) -> bool:
    """Return whether a text ends in one unit of at most 400 characters, again and again.

    That is at least 4 times and over at least 160 characters; the last one may be cut off, and up to 40 characters of
    something else may follow.
    """
    text = text[-_LONGEST_UNIT * (_LEAST_TIMES + 1) :].rstrip(_CLOSING)
    return _periodic(text) or _periodic(text[:-_OTHER_CHARS])


def _periodic(text: str) -> bool:
    for unit in range(1, min(_LONGEST_UNIT, len(text) // _LEAST_TIMES) + 1):
        same = max(_LEAST_CHARS, unit * _LEAST_TIMES) - unit
        if same + unit <= len(text) and text[-same:] == text[-same - unit : -unit]:
            return True
    return False
