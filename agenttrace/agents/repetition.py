"""Finds replies that end in a repetition of their own: what a model does that has lost the thread."""

from __future__ import annotations

_LONGEST_UNIT = 400
_LEAST_TIMES, _LEAST_CHARS = 4, 160
_CLOSING = "\"'}]) \n\t\\`"
"""What a form may put after a text that was cut off."""


def ends_in_repetition(text: str) -> bool:
    """Return whether a text ends in one unit of at most 400 characters, again and again.

    That is at least 4 times and over at least 160 characters; the last one may be cut off.
    """
    text = text[-_LONGEST_UNIT * (_LEAST_TIMES + 1) :].rstrip(_CLOSING)
    for unit in range(1, min(_LONGEST_UNIT, len(text) // _LEAST_TIMES) + 1):
        same = max(_LEAST_CHARS, unit * _LEAST_TIMES) - unit
        if same + unit <= len(text) and text[-same:] == text[-same - unit : -unit]:
            return True
    return False
