"""The forms that records are published in; `FORMS` lists them, each made of formats of `agenttrace.formats.FORMATS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agenttrace.formats import FORMATS

if TYPE_CHECKING:
    import pyarrow as pa

    from agenttrace.formats import Sourced


class FormPart(NamedTuple):
    """A configuration of a form: its name, its folder, the format of its rows."""

    config: str
    folder: str
    format: str

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of its rows."""
        found: pa.Schema = FORMATS[self.format].load().schema(self.format)
        return found

    def row(self, record: Sourced) -> dict[str, Any]:
        """Return the row of a record.

        Raises:
            DataError: the record does not fit the form; the message names it and says why.
        """
        from agenttrace.formats.convert import value_of  # noqa: PLC0415 - this table is read for `--help`

        row: dict[str, Any] = value_of(FORMATS[self.format].load(), record)
        return {**row, "raw_file": f"records/{record.source}"} if "raw_file" in row else row


class Form(NamedTuple):
    """One form.

    Attributes:
        about: one line for `--help`.
        parts: configurations with a row a record; the first is the one that `datasets` opens.
        flat: our flat tables come after them, one configuration each, the record files lie in `records/` as they were
            collected, each with its run spec, and session files in `SESSIONS`; else the run specs alone lie in the
            folder.
        title: heading of the card where none is given.
    """

    about: str
    parts: tuple[FormPart, ...]
    flat: bool = False
    title: str = "Execution-free coding rollouts"


SESSIONS = "sessions"
"""Folder of session files, one a record; the configuration that has them as rows is called so, too."""
MOST_SESSIONS = 1000
"""How many there are; of more records only the rows of the configuration hold them, as many files slow a hub."""
MINI = "mini-swe-agent"
"""Configuration of trajectories that mini-swe-agent's own tools read."""
_OWN = (
    FormPart("rollouts", "rollouts", "records-parquet"),
    FormPart(MINI, "trajectories", "mini-swe-agent-1.1-parquet"),
    FormPart(SESSIONS, "sessions", "session-traces-parquet"),
)
FORMS: dict[str, Form] = {
    "traces": Form(
        "tables of runs, generations and tool calls, the 0.3.0 view, sessions, trajectories, and the record files",
        (
            FormPart("agenttrace-0.3", "data/agenttrace-0.3", "agenttrace-0.3-parquet"),
            FormPart(SESSIONS, "data/sessions", "session-traces-parquet"),
            FormPart(MINI, "data/trajectories", "mini-swe-agent-1.1-parquet"),
        ),
        flat=True,
        title="Agent traces with OS telemetry",
    ),
    "1k-32k": Form(
        "the schema of SWE-ZERO 1k-32k, ours, and sessions", (FormPart("default", "data", "swe-zero-1k-32k"), *_OWN)
    ),
    "12m": Form("the schema of SWE-ZERO 12M, ours, and sessions", (FormPart("default", "data", "swe-zero-12m"), *_OWN)),
    "own": Form("every field of our records, one row each, and sessions", _OWN),
}
"""Name → form."""
OF_AGENT = {"bash_block": "1k-32k"}
"""Kind of agent → the form of its records where none is named; of any other it is `traces`."""


def about() -> str:
    """Return what `--help` says of all forms."""
    return "; ".join(f"{name}: {form.about}" for name, form in FORMS.items())
