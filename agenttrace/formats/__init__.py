"""Formats that records are written as and read from; `FORMATS` lists them, one line each.

A module of layout `lines`, `files` or `rows` has `from_trace(trace, spec, source) -> value` (pure; `spec` is the run
spec or `None`, `source` the name of the record file) and, when it can be read, `to_trace(value) -> Trace`. A record
that a format has no place for is a `DataError` that says why. `lines`: one JSON text a line, all records in one file.
`files`: a folder with one file per record; a list is written as JSON Lines, anything else as one JSON text. `rows`: one
Parquet table, a row per record; the module has `schema(name)`, the Arrow schema of the format of that name. A module of
layout `tables` has `write(records, output)` and does the writing itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

    from agenttrace.records import RunSpec, Trace


class Format(NamedTuple):
    """One format.

    Attributes:
        module: what turns records into it; one of this folder is named from here (`.otlp`).
        layout: how its output lies on disk.
        suffix: of a file.
        about: one line for `--help`.
    """

    module: str
    layout: Literal["lines", "files", "rows", "tables"]
    suffix: str
    about: str

    def load(self) -> ModuleType:
        """Return its module, imported when it is needed: some are heavy."""
        return import_module(self.module, __name__)


class Sourced(NamedTuple):
    """A record with where it comes from: its run spec, if there is one, and the name of its file."""

    trace: Trace
    spec: RunSpec | None
    source: str


FORMATS: dict[str, Format] = {
    "agenttrace-1.0": Format(".foreign", "lines", ".jsonl", "records of this version"),
    "agenttrace-0.3": Format(".agenttrace_0_3", "lines", ".jsonl", "rows of AgentTrace 0.3.0"),
    "agenttrace-0.3-parquet": Format(
        ".agenttrace_0_3_view", "rows", ".parquet", "the 14-column view of AgentTrace 0.3.0"
    ),
    "parquet": Format(".tables", "tables", "", "a folder of typed tables: runs, steps, spans"),
    "records-parquet": Format(
        ".record_rows", "rows", ".parquet", "every field of a record, typed and nested, one row each"
    ),
    "atif": Format(".atif", "files", ".json", "ATIF v1.7 trajectories (Harbor), one file each"),
    "session-traces": Format(".session_trace", "files", ".jsonl", "sessions for the Hub's trace viewer, one file each"),
    "otlp": Format(".otlp", "lines", ".jsonl", "OpenTelemetry spans as OTLP/JSON, one request a line"),
    "mini-swe-agent": Format(".mini_swe", "files", ".traj.json", "mini-swe-agent v1 trajectories, one file each"),
    "swe-zero-1k-32k": Format(".swe_zero", "rows", ".parquet", "the columns of SWE-ZERO 1k-32k"),
    "swe-zero-12m": Format(".swe_zero", "rows", ".parquet", "the columns of SWE-ZERO 12M"),
    "inspect": Format(".inspect_eval", "tables", ".eval", "one log for Inspect's viewer"),
    "sharegpt": Format(".sharegpt", "lines", ".jsonl", "ShareGPT conversations, one a line"),
}
"""Name → format, in the order in which `--help` lists them."""
