"""The figures that a reader takes: what no column of a table can hold is no figure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer that fits a column."""
Count = Annotated[int, Meta(ge=0, le=2**40)]
"""A number of tokens; the sum over any line fits a column."""
Duration = Annotated[float, Meta(ge=0, le=1e15)]
"""Milliseconds or seconds; the sum over any line is finite."""
