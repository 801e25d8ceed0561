"""What a check has to say of a line."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Something in a file that is not as it must be.

    Attributes:
        line: line number from 1; 0 for the file as a whole.
        rule: what was checked: `json`, `schema`, `ids`, `plan`, `order`, `joins`, `counts`, `metadata`, `outcome`,
            `leak`.
        where: path of the field, such as `spans[0].exit_code`; empty for the line as a whole.
        message: what was expected and what is there.
    """

    line: int
    rule: str
    where: str
    message: str


class Problem(NamedTuple):
    """A finding before it has a line."""

    rule: str
    where: str
    message: str
